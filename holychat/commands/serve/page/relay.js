/* The way to `holychat serve`: its token, its two kinds of connection, and coming back to it.
 *
 * Owns every request that the page makes: GET api/models, api/conversations, api/conversations/ID,
 * and one WebSocket, on which one answer at a time comes in. To no other address, ever. */

let token = "", socket = null, tries = 0, waiting = 0, attempt = 0;

const PATIENT = 15000;  // milliseconds for what is read at once

class Denied extends Error {}

async function api(path) {
  let answer;
  try {
    answer = await fetch(path, { headers: { Authorization: "Bearer " + token }, cache: "no-store",
      signal: AbortSignal.timeout(PATIENT) });
  } catch {
    throw new Error("holychat serve does not answer.");
  }
  if (answer.status === 401) throw new Denied("The token is not the one that holychat serve wants.");
  if (!answer.ok) {
    const said = await answer.json().catch(() => null);
    throw new Error(sentence(said?.error?.message ?? `holychat serve says ${answer.status}`));
  }
  return answer.json();
}

function lost(error) {
  if (error instanceof Denied) door(error.message);
  else say(error.message);
}

function admit() {  // the token in the address: read once, and out of sight
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!given) return false;
  history.replaceState(null, "", location.pathname + location.search);
  keep("token", token = given.trim());
  return true;
}

function door(why) {
  if (why) $("door-why").textContent = why;
  if (!$("door").open) $("door").showModal();
}

/* Asks for the models first: that tells a wrong token from a server that is not there. */
async function connect() {
  clearTimeout(waiting);
  waiting = 0;
  if (!token) return door();
  const mine = ++attempt;
  let opening;
  try {
    const found = (await api("api/models")).models;
    if (mine !== attempt) return;  // another way was tried meanwhile
    models(found);
    opening = new WebSocket(new URL("ws", location.href.replace(/^http/, "ws").replace(/#.*/, "")),
      ["holychat", "bearer." + token]);
  } catch (error) {
    if (mine !== attempt) return;
    if (error instanceof Denied || error.name === "SyntaxError") return door(error.message);
    return retry(error.message);
  }
  socket = opening;
  opening.addEventListener("open", () => {
    tries = 0;
    say("");
    joined();
  });
  opening.addEventListener("message", ({ data }) => heard(JSON.parse(data)));
  opening.addEventListener("close", ({ code }) => {
    if (socket !== opening) return;
    socket = null;
    if (turn) finish(code === 1009 ? "the prompt is larger than holychat serve takes"
      : "cut off: the connection to holychat broke; what came is kept");
    retry("The connection to holychat broke.");
  });
}

function hangUp() {  // at once: a server that hangs does not take part in the closing
  const old = socket;
  socket = null;
  if (turn) finish(ENDINGS.cut);
  old?.close();
}

function retry(why) {
  if (waiting) return;
  const delay = Math.min(15, 0.5 * 2 ** tries++) * (0.75 + Math.random() / 2);
  say(`${why} Trying again${delay < 1.5 ? "." : ` in ${Math.round(delay)} s.`} Nothing typed is lost.`);
  waiting = setTimeout(connect, delay * 1000);
}

const connected = () => socket?.readyState === WebSocket.OPEN;

function models(found) {
  const chosen = kept("model") || "auto", groups = new Map();
  for (const { id, default: first } of found) {
    if (id === "auto") continue;
    const at = id.indexOf("/"), provider = at < 0 ? "" : id.slice(0, at);
    if (!groups.has(provider)) groups.set(provider, make("optgroup"));
    groups.get(provider).label = visible(provider);
    const option = make("option", "", visible(id.slice(at + 1)) + (first ? " (default)" : ""));
    option.value = id;
    groups.get(provider).append(option);
  }
  const auto = make("option", "", "auto");
  auto.value = "auto";
  $("model").replaceChildren(auto, ...groups.values());
  $("model").value = chosen;
  if ($("model").selectedIndex < 0) $("model").value = "auto";  // it is no longer offered
}
