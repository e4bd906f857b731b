/* One turn: a prompt goes out, an answer comes in, event by event, to its end, however that is.
 *
 * Owns `turn`, the one that runs. The events are those of commands/serve/socket.py. */

let turn = null;  // { talk, answer, prompt, old, writer, ... }, as `send` makes it
let wanted = false;  // what is typed goes out once the relay is there

function submit() {
  wanted = false;
  const text = field.value;
  if (!text.trim()) return;
  if (!connected() && !turn) {
    wanted = true;
    say("Not connected. Your text is kept, and sent as soon as holychat answers.");
    return;
  }
  if (send(text)) write("");
}

/* Asks; `old` is the answer to replace. What the store has of it goes there, and here, only for one
 * that has text; what failed without any is not in the store, and is asked as if for the first time. */
function send(text, old = null) {
  if (turn) {
    const where = turn.talk === here ? "" : ` in “${visible(turn.talk.title) || "Untitled"}”`;
    return say(`An answer is still coming${where}: Esc stops it.`), false;
  }
  if (!connected()) return say("Not connected."), false;
  if (!old) asked(here, text);
  const answer = answered(here, text);
  turn = { talk: here, answer, prompt: text, old, since: performance.now(), heard: "waiting" };
  turn.writer = new Markdown(answer.text);
  turn.clock = setInterval(tick, 200);
  const picked = $("model").value;  // where none is, a conversation goes on with its own
  socket.send(JSON.stringify({ type: "prompt", text, conversation: here.id,
    model: picked === "auto" && here.id ? "" : picked, regenerate: Boolean(old?.stored) }));
  answer.element.setAttribute("aria-busy", "true");
  tick();
  toEnd();
  busy();
  say("Waiting for the answer.");
  return true;
}

function tick() {
  turn.answer.cost.textContent = `${turn.heard} ${((performance.now() - turn.since) / 1000).toFixed(1)} s`;
}

const HEARD = {
  begin({ conversation, model }) {
    const { talk, answer, old } = turn;
    old?.element.remove();
    turn.begun = true;
    if (model) answer.name.textContent = visible(model);
    if (conversation && !talk.id) {
      talk.id = conversation;
      talk.title = turn.prompt.trim().split("\n")[0].slice(0, 80);
      if (talk === here) named();
      list();
    }
    if (talk === here) keep("conversation", talk.id);
    keep("part", "");
  },
  delta({ text }) {
    const { answer, writer } = turn;
    if (!answer.source) {
      if (answer.thought && !answer.thought.touched) answer.thought.folded.open = false;
      say("Answering.");
    }
    turn.heard = "answering";
    answer.source += text;
    writer.feed(text);
    drawn(writer);
  },
  reasoning({ text }) {
    const { answer } = turn;
    if (!answer.thought) {
      answer.thought = thought(answer, true);
      answer.thought.writer = new Markdown(answer.thought.text);
      answer.thought.folded.firstChild.addEventListener("click", () => { answer.thought.touched = true; });
      say("Reasoning.");
    }
    turn.heard = "reasoning";
    answer.thought.writer.feed(text);
    drawn(answer.thought.writer);
  },
  notice({ text }) {
    note(turn.answer, text);
    say(sentence(text));
  },
  done(whole) {
    if (!turn.begun && !turn.stopping) return;  // of a turn before, which ended with an error
    if (whole.model) turn.answer.name.textContent = visible(whole.model);
    if (whole.title) turn.talk.title = whole.title;
    if (turn.talk === here) named();
    finish(ENDINGS[whole.finish] ?? "", summary(whole));
  },
  error({ message, hint }) {
    const said = [message, hint].filter(Boolean).map(sentence).join(" ");
    note(turn.answer, said, true);
    finish("", "", sentence(message));
  },
};

function heard(event) {
  if (turn && Object.hasOwn(HEARD, event.type)) HEARD[event.type](event);
  else if (event.type === "error" || event.type === "notice") say(sentence(event.message ?? event.text));
}

/* `why` it is not whole, `cost`, and what to say where that is not it. */
function finish(why, cost = "", told = "") {
  const { answer, writer, talk, prompt, old } = turn;
  clearInterval(turn.clock);
  clearTimeout(turn.stopping);
  turn = null;
  for (const each of [writer, answer.thought?.writer]) {
    each?.end();
    if (each) drawn(each);
  }
  answer.element.removeAttribute("aria-busy");
  answer.cost.textContent = cost;
  if (why) note(answer, why);
  answer.stored = Boolean(answer.source);
  if (!answer.stored && old?.stored) {
    answer.element.replaceWith(old.element);
    old.notes.append(...answer.notes.childNodes);
  } else if (!answer.stored) {
    old?.element.remove();
    answer.element.querySelector(".again").textContent = "Try again";
    // What the store does not have becomes a draft after a reload.
    keep("part", JSON.stringify({ id: talk.id, prompt, source: "" }));
  }
  if (told) say(told, 10);
  else say(why ? `The answer ended: ${why}.` : "The answer is complete.", 5);
  busy();
  talk.seen = 0;
  if (connected()) list();
  if (talk !== here && !talk.id) show(talk);  // only this page knows it
}

function stop() {
  if (!turn || turn.stopping) return;
  say("Stopping…");
  if (connected()) socket.send(JSON.stringify({ type: "cancel" }));
  // A relay that does not react is left: what it would still send must not run into the next answer.
  turn.stopping = setTimeout(() => { hangUp(); connect(); }, 5000);
}

function busy() {
  $("send").textContent = turn ? "Stop" : "Send";
  $("send").disabled = !turn && !field.value.trim();
}
