/* Ties it all together: where the reader is, what the keys do, and the start.
 *
 * Owns the log's scrolling, the prompt's keys, and what comes back after a reload. The last script:
 * when it runs, all the others are there. */

// --- Where the reader is: at the end, which grows, or further up, where nothing may move --------

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
$("down").addEventListener("click", () => { toEnd(); toPrompt(); });

// --- The prompt ----------------------------------------------------------------------------------

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
  if (key === "Enter" && !shiftKey && !touch.matches) {  // a finger has no Shift, but a button
    event.preventDefault();
    submit();
  } else if (steps[key] && (!field.value || recalled >= 0) && recall(steps[key])) event.preventDefault();
});

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (turn) stop();
  else submit();
  toPrompt();
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

for (const id of ["new", "fresh"]) $(id).addEventListener("click", () => { show(fresh()); toPrompt(); });
$("model").addEventListener("change", () => keep("model", $("model").value));

// --- Coming in, and coming back ------------------------------------------------------------------

$("door").addEventListener("cancel", (event) => event.preventDefault());
$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = $("token").value.trim().replace(/^.*[#&]token=/, "");
  if (!/^[\w.~+/=-]+$/.test(given)) return door("That is neither a link nor a token of holychat serve.");
  keep("token", token = given);
  $("token").value = "";
  $("door").close();
  field.focus();
  connect();
});
addEventListener("hashchange", () => {
  if (!admit()) return;
  hangUp();
  $("door").close();
  connect();
});
addEventListener("online", () => { if (waiting) connect(); });
addEventListener("focus", () => {  // another tab may have gone on meanwhile
  if (waiting) connect();
  else if (connected()) list();
});
addEventListener("pagehide", () => {  // with the page goes its socket; what was read stays
  if (turn) keep("part", JSON.stringify({ id: turn.talk.id, prompt: turn.prompt, source: turn.answer.source }));
});

// What a reload interrupted; taken up once the relay is there, even if that takes its time.
let before = kept("conversation"), part = JSON.parse(kept("part") || "null");

async function joined() {
  const id = before, cut = part;
  before = "";
  part = null;
  if (cut) keep("part", "");
  if (id || cut) await restore(id, cut);
  list();
  if (wanted) submit();
}

async function restore(id, cut) {
  if (turn || here.id || here.prompts.length) return;
  if (id) await resume(id, cut?.id === id ? cut : null);
  else if (cut?.source) show(talked({ id: "", title: "", messages: [] }, cut));
  // A prompt that nothing came back for is a draft again.
  if (cut && !cut.source && !field.value && here.prompts.at(-1) !== cut.prompt) write(cut.prompt);
}

if (!admit()) token = kept("token");
show(fresh());
keep("conversation", before);
write(kept("draft"));
connect();
