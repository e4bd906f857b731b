/* A conversation as the log shows it: prompts, answers, notes, and the line with the cost.
 *
 * Owns what stands in the log. Must not send anything.
 *
 * A talk stays alive beside the log while an answer still comes to it. */

// As screen/words.py.
const ENDINGS = {
  length: "stopped at the token limit",
  content_filter: "stopped by the provider's content filter",
  tool_calls: "the model asked for a tool, and there are none here",
  overloaded: "the provider gave up in mid-answer",
  cut: "cut off: what came is kept",
  interrupted: "stopped",
  failed: "failed",
};
const number = new Intl.NumberFormat("en").format;

function summary({ usage, cost_text: cost, first, seconds, provider, seams }) {
  const about = usage?.estimated ? "≈" : "", parts = [];
  const of = (count, what) => count ? ` (${number(count)} ${what})` : "";
  if (usage) {
    parts.push(`${about}${number(usage.prompt ?? 0)} in${of(usage.cached, "cached")}`);
    parts.push(`${about}${number(usage.completion ?? 0)} out${of(usage.reasoning, "reasoning")}`);
  }
  if (cost === "?") parts.push("cost ?");
  else if (cost) parts.push((/^[<≈≥]/.test(cost) ? "" : about) + visible(cost));
  if (first != null) parts.push(`first ${first.toFixed(2)} s`);
  if (seconds != null) parts.push(`${seconds.toFixed(1)} s`);
  if (provider) parts.push(`via ${visible(provider)}`);
  if (seams?.length) parts.push(seams.length === 1 ? "1 seam" : `${seams.length} seams`);
  return parts.map((part) => part.replaceAll(" ", "\u00a0")).join(" · ");
}

/* What the relay says of a failure begins small and has no end. */
function sentence(text) {
  const said = String(text ?? "").trim();
  const named = /^[\w.-]+:/.test(said);  // with a provider, whose name stays as it is
  return said && (named ? said : said[0].toUpperCase() + said.slice(1)) + (/[.!?…:]$/.test(said) ? "" : ".");
}

function when(then) {
  const minutes = (Date.now() - then) / 60000;
  if (!(minutes >= 1)) return "just now";
  if (minutes < 60) return `${Math.floor(minutes)} min ago`;
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h ago`;
  if (minutes < 10080) return `${Math.floor(minutes / 1440)} d ago`;
  const date = new Date(then), year = date.getFullYear() === new Date().getFullYear();
  return date.toLocaleDateString("en-GB", { day: "numeric", month: "short", ...(!year && { year: "numeric" }) });
}

let here = null;  // { id, title, element, prompts, seen }; `seen`: when the store changed it last
let stuck = true;  // whether the reader is at the end
const log = $("log"), field = $("prompt");

function fresh() {
  const hint = (key, does) => make("p", "", make("kbd", "", key), " " + does);
  const welcome = make("div", "welcome", make("h2", "", "holychat"), hint("Enter", "sends"),
    hint("Shift Enter", "adds a line"), hint("Esc", "stops the answer"),
    hint(/Mac|iP/.test(navigator.platform) ? "⌘ K" : "Ctrl K", "searches"),
    hint("↑", "brings the last prompt back"));
  return { id: "", title: "", element: make("div", "talk", welcome), prompts: [], seen: 0 };
}

function show(talk) {
  here = talk;
  keep("conversation", talk.id);
  log.replaceChildren(talk.element);
  sizes.disconnect();
  sizes.observe(talk.element);
  sizes.observe(log);
  named();
  toEnd();
  fold();
  mark();
  busy();
}

function named() {
  const title = visible(here.title) || (here.id ? "Untitled" : "New conversation");
  $("title").textContent = title;
  document.title = here.id ? `${title} · holychat` : "holychat";
}

function asked(talk, text) {
  talk.element.querySelector(".welcome")?.remove();
  talk.prompts.push(text);
  talk.element.append(make("article", "user", make("h2", "", "You"), make("div", "", visible(text))));
}

/* An answer with its parts, empty. `stored`: the store has it, with its prompt. */
function answered(talk, prompt, { model = "", stored = false } = {}) {
  const name = make("h2", "", visible(model) || "Answer"), text = make("div", "text");
  const notes = make("div"), cost = make("p");
  const answer = { name, text, notes, cost, source: "", thought: null, stored };
  const copies = button("Copy", "plain whole", () => copy(answer.source, copies));
  const again = button("Regenerate", "plain again", () => send(prompt, answer));
  copies.setAttribute("aria-label", "Copy the answer");
  const tail = make("div", "tail", cost, make("div", "", copies, again));
  answer.element = make("article", "answer", name, text, notes, tail);
  talk.element.append(answer.element);
  return answer;
}

function thought(answer, open) {
  const text = make("div", "text");
  const folded = make("details", "", make("summary", "", "Reasoning"), text);
  folded.open = open;
  answer.text.before(folded);
  return { folded, text };
}

function note(answer, text, wrong = false) {
  const made = make("p", wrong ? "note wrong" : "note", visible(text));
  answer.notes.append(made);
}

/* What was read off before a reload: the store may have less of it, or nothing. */
function mended(messages, { prompt, source }) {
  const last = messages.at(-1);
  if (!source || (last?.role === "assistant" && last.text.startsWith(source))) return messages;
  if (last?.role === "assistant" && source.startsWith(last.text)) messages.pop();
  if (messages.at(-1)?.role !== "user") messages.push({ role: "user", text: prompt });
  return [...messages, { role: "assistant", text: source, finish: "cut" }];
}

async function resume(id, part = null) {
  if (turn?.talk.id === id) return show(turn.talk);
  say("Opening…");
  let found;
  try {
    found = await api("api/conversations/" + encodeURIComponent(id));
  } catch (error) {
    return lost(error);
  }
  say("");
  show(talked(found, part));
}

function talked({ id, title, messages, updated = 0 }, part) {
  const talk = { id, title, element: make("div", "talk"), prompts: [], seen: updated }, texts = [];
  if (part) messages = mended(messages, part);
  for (const each of messages) {
    if (each.role === "user") asked(talk, each.text);
    if (each.role !== "assistant") continue;
    const answer = answered(talk, talk.prompts.at(-1) ?? "", { model: each.model, stored: true });
    answer.source = each.text;
    answer.cost.textContent = summary(each);
    if (each.reasoning?.trim()) texts.unshift([thought(answer, false).text, each.reasoning]);
    if (ENDINGS[each.finish]) note(answer, ENDINGS[each.finish]);
    texts.unshift([answer.text, each.text]);
  }
  for (const [element, text] of texts) written(element, text);  // the last first: it is read first
  return talk;
}
