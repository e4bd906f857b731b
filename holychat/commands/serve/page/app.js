/* Ties it all together: where the reader is, what the keys do, and the start.
 *
 * Owns the listeners. The last script: when it runs, all the others are there. */

const sizes = new ResizeObserver(() => {
  if (stuck) log.scrollTop = log.scrollHeight;
  else $("down").hidden = false;
});

function toEnd() {
  stuck = true;
  log.scrollTop = log.scrollHeight;
  $("down").hidden = true;
}

let top = 0;

log.addEventListener("scroll", () => {  // only who goes up leaves the end: below, text may have come
  const end = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
  if (end || log.scrollTop < top) stuck = end;
  if (stuck) $("down").hidden = true;
  top = log.scrollTop;
}, { passive: true });

log.addEventListener("click", ({ target }) => {
  const pressed = target.closest("button.copy");
  if (pressed) copy(pressed.closest("figure").querySelector("code").textContent + "\n", pressed);
});

function write(text) {
  field.value = text;
  field.dispatchEvent(new Event("input"));
}

let recalled = -1;  // steps back in the prompts; -1 for what was typed

function recall(step) {
  const { prompts } = here, at = recalled + step;
  if (at < -1 || at >= prompts.length) return false;
  write(at < 0 ? "" : prompts[prompts.length - 1 - at]);
  recalled = at;
  return true;
}

field.addEventListener("input", () => {
  recalled = -1;
  keep("draft", field.value);
  field.rows = Math.min(8, field.value.split("\n", 8).length);  // where field-sizing is not known
  busy();
});

field.addEventListener("keydown", (event) => {
  const { key, shiftKey, isComposing, keyCode } = event;
  if (isComposing || keyCode === 229) return;  // an input method's own keys
  const steps = { ArrowUp: 1, ArrowDown: -1 };
  if (key === "Enter" && !shiftKey) {
    event.preventDefault();
    submit();
  } else if (steps[key] && (!field.value || recalled >= 0) && recall(steps[key])) event.preventDefault();
});

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (turn) stop();
  else submit();
  field.focus();
});

document.addEventListener("keydown", (event) => {
  if (event.isComposing || $("door").open) return;
  if (event.key === "Escape") {
    event.preventDefault();
    if ($("list").contains(event.target)) leave();
    else if (turn) stop();
    else {
      if (wanted) say("Not sent; your text is kept.");
      wanted = false;
      leave();
    }
  } else if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.altKey) {
    event.preventDefault();
    search();
  }
});

$("list").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const places = [$("find"), ...$("found").querySelectorAll("button")];
  const at = places.indexOf(document.activeElement);
  if (event.key === "Enter" && at === 0 && places[1]) places[1].click();
  if (!step || at < 0) return;
  event.preventDefault();
  places[Math.max(0, Math.min(places.length - 1, at + step))].focus();
});

let typing = 0;
$("find").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => { limit = STEP; list(); }, 150);
});

for (const id of ["new", "fresh"]) $(id).addEventListener("click", () => { show(fresh()); field.focus(); });
$("menu").addEventListener("click", (event) => { event.stopPropagation(); search(); });
$("down").addEventListener("click", toEnd);
$("model").addEventListener("change", () => keep("model", $("model").value));
document.addEventListener("click", ({ target }) => {
  if (narrow.matches && document.body.classList.contains("listed") && !$("list").contains(target)) fold();
});
narrow.addEventListener("change", () => fold());

$("door").addEventListener("cancel", (event) => event.preventDefault());
$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  keep("token", token = $("token").value.trim().replace(/^.*[#&]token=/, ""));
  $("token").value = "";
  $("door").close();
  begin();
});

addEventListener("hashchange", () => { if (admit()) { socket?.close(); $("door").close(); begin(); } });
addEventListener("online", () => { if (waiting) connect(); });
addEventListener("pagehide", () => {  // with the page goes its socket; what was read stays
  if (turn) keep("part", JSON.stringify({ id: turn.talk.id, prompt: turn.prompt, source: turn.answer.source }));
});

const before = kept("conversation");  // the one that a reload goes back to

async function begin() {
  await connect();
  if (!token || $("door").open || here.id) return;
  const part = JSON.parse(kept("part") || "null");
  keep("part", "");
  // A prompt that nothing came back for is a draft again.
  if (part && !part.source && !field.value) write(part.prompt);
  if (before) await resume(before, part?.id === before ? part : null);
  else if (part?.source) show(talked({ id: "", title: "", messages: [] }, part));
}

if (!admit()) token = kept("token");
show(fresh());
write(kept("draft"));
begin();
