/* Small tools: nodes by name, text made harmless, what the tab remembers, words to the reader.
 *
 * Owns where elements are made, all of them, and which control characters are let through.
 * Must not know what the page shows. All scripts share one scope, in the order of index.html. */

const $ = (id) => document.getElementById(id);

function make(tag, name = "", ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children);
  return made;
}

function button(name, kind, click) {
  const made = make("button", kind, name);
  made.type = "button";
  if (click) made.addEventListener("click", click);
  return made;
}

// As core/sanitize.py: every control but newline and tab becomes visible, also what turns the
// reading around (CVE-2021-42574). A filter by character: safe at any split of the text.
const UNSAFE = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;
const visible = (text) => String(text ?? "").replace(UNSAFE, (sign) => {
  const code = sign.charCodeAt(0);
  if (code === 13) return "";
  if (code < 32) return String.fromCharCode(0x2400 + code);
  if (code < 256) return code === 127 ? "\u2421" : "\ufffd";
  return "\\u" + code.toString(16);
});

// What the tab remembers over a reload. A browser may forbid it: then until the reload.
const memory = new Map();
function keep(name, value) {
  memory.set(name, value);
  try { sessionStorage.setItem("holychat." + name, value); } catch { /* full, or forbidden */ }
}
function kept(name) {
  try { return memory.get(name) ?? sessionStorage.getItem("holychat." + name) ?? ""; }
  catch { return memory.get(name) ?? ""; }
}

/* The line below the prompt, which is read out too; what only passes is gone after some `seconds`. */
let passing = 0;
function say(text, seconds = 0) {
  clearTimeout(passing);
  $("status").textContent = visible(text);
  if (seconds) passing = setTimeout(() => say(""), 1000 * seconds);
}

async function copy(text, pressed) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // not on https or loopback, or not allowed
    const field = make("textarea", "unseen");
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    pressed.focus();
    if (!done) return say("The browser did not let it be copied.");
  }
  pressed.textContent = "Copied";
  say("Copied.", 3);
  setTimeout(() => { pressed.textContent = "Copy"; }, 1500);
}
