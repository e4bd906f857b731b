/* Markup in a line: the source of a paragraph in, nodes out.
 *
 * Owns links, and so what an address may be. A pure function of its text: it keeps nothing and puts
 * nothing into the page. Text becomes text nodes; nothing is ever read as HTML.
 *
 * One pass with a stack of open marks. A mark that finds no end becomes the text that it was; while
 * the text still grows (`open`) it holds already, so that nothing jumps when its end comes. */

const LONGEST = 2000;  // characters of a paragraph that are read anew as it grows; older ones stay
const DEEPEST = 16;
const SAFE = /^(?:https?:\/\/[^/]|mailto:[^?])/i;
const MARK = /\\[\s\S]|`+|\*+|_+|~~+|!?\[|\]|https?:\/\/[^\s<>`"[\]|。，、；：？！）」』】》]+|<[^\s<>]*>|&#?\w{1,31};|\$\$| *\n/g;
const TARGET = /\(\s*(<[^<>\n]*>|[^\s()<][^\s()]*(?:\([^\s()]*\)[^\s()]*)*)(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/y;
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };
const ENDS = { "\\(": "\\)", "\\[": "\\]", "$$": "$$" };

function entity(text) {
  const name = text.slice(1, -1);
  if (name[0] !== "#") return Object.hasOwn(ENTITIES, name) ? ENTITIES[name] : text;
  const code = /^#x/i.test(name) ? parseInt(name.slice(2), 16) : parseInt(name.slice(1), 10);
  return code > 0 && code < 0x110000 ? visible(String.fromCodePoint(code)) : text;
}

/* A link, with the host it leads to wherever its text does not begin with just that. */
function anchor(address, ...children) {
  const made = make("a", "", ...children), host = hostOf(address);
  const said = made.textContent.replace(/^(?:https?:\/\/|mailto:)/i, "").toLowerCase();
  if (!said.startsWith(host) || /[^/?#]/.test(said[host.length] ?? "/")) {
    made.append(make("span", "host", (said && "\u00a0") + host));
  }
  made.href = address;
  made.rel = "noopener noreferrer";
  made.target = "_blank";
  made.title = address;
  return made;
}

function hostOf(address) {  // as the browser reads it: without a name before @, in ASCII
  try {
    const { host, pathname } = new URL(address);
    return host || pathname.toLowerCase();
  } catch {
    return address;
  }
}

// What a bare address in a text ends with is mostly the sentence's.
function trimmed(address) {
  let cut = address.replace(/[.,:;!?'*_~]+$/, "");
  if (cut.endsWith(")") && !cut.includes("(")) cut = cut.replace(/[).,:;!?'*_~]+$/, "");
  return cut;
}

/* The nodes of `source`, and in `cut` the last place before `limit` where no mark is open. */
function inline(source, { open = false, cell = false, limit = 0 } = {}) {
  const root = document.createDocumentFragment();
  const stack = [];  // { mark, element }
  let top = root, text = "", at = 0, cut = 0;
  if (source.length > 2 * LONGEST) return { root: (root.append(source), root), cut };

  const say = (more) => { text += more; };
  const add = (...nodes) => {
    top.append(text, ...nodes);
    text = "";
  };
  const push = (mark, tag) => {
    const element = make(tag);
    add(element);
    stack.push({ mark, element });
    top = element;
  };
  const drop = (depth) => {  // those above `depth` found no end
    if (text) add();
    while (stack.length > depth) {
      const { mark, element } = stack.pop();
      element.replaceWith(mark, ...element.childNodes);
    }
    top = stack.at(-1)?.element ?? root;
  };
  const pop = () => {
    if (text) add();
    const last = stack.pop();
    top = stack.at(-1)?.element ?? root;
    return last;
  };

  function emphasis(run) {
    const sign = run[0], before = source[at - 1] ?? " ", after = source[at + run.length] ?? " ";
    const word = (it) => /[\p{L}\p{N}]/u.test(it);
    const closes = !/\s/.test(before) && !(sign === "_" && word(after));
    const opens = !/\s/.test(after) && !(sign === "_" && word(before));
    const last = (size) => stack.findLastIndex(({ mark }) => mark === sign.repeat(size));
    let left = run.length;
    while (closes && left) {
      let from = left < 3 ? last(left) : Math.max(last(1), last(2));
      if (from < 0 && left === 2) from = last(1);
      if (from < 0) break;
      drop(from + 1);
      left -= pop().mark.length;
    }
    const rest = sign.repeat(left);
    if (!left || (open && at + run.length === source.length)) return;
    if (!opens || left > 3 || (sign === "~" && left !== 2) || stack.length >= DEEPEST) say(rest);
    else if (sign === "~") push(rest, "s");
    else {
      if (left !== 2) push(sign, "em");
      if (left > 1) push(sign + sign, "strong");
    }
  }

  function code(run) {  // returns where it ends
    let end = at + run.length, size = 0;
    while ((end = source.indexOf(run, end)) >= 0) {
      for (size = run.length; source[end + size] === "`";) size++;
      if (size === run.length) break;
      end += size;
    }
    if (end < 0 && !open) return say(run), at + run.length;
    const stop = end < 0 ? source.length : end;
    let inside = source.slice(at + run.length, stop).replaceAll("\n", " ");
    if (/^ .*[^ ].* $/.test(inside)) inside = inside.slice(1, -1);
    if (inside) add(make("code", "", inside));
    return end < 0 ? stop : stop + run.length;
  }

  function bracket() {  // at a closing one; returns where it ends
    const from = stack.findLastIndex(({ mark }) => mark.endsWith("["));
    if (from < 0) return say("]"), at + 1;
    TARGET.lastIndex = at + 1;
    const hit = TARGET.exec(source);
    const address = hit && hit[1].replace(/^<(.*)>$/, "$1").replace(/\\([!-/:-@[-`{-~])/g, "$1")
      .replace(/&#?\w{1,31};/g, entity);
    if (address && SAFE.test(address)) {
      drop(from + 1);
      const { mark, element } = pop();
      for (const host of element.querySelectorAll(".host")) host.remove();
      for (const inner of element.querySelectorAll("a")) inner.replaceWith(...inner.childNodes);
      // An image is never fetched: it would tell its server that the answer is being read.
      const image = ["Image", element.textContent].filter(Boolean).join(": ");
      element.replaceWith(anchor(address, ...(mark === "[" ? element.childNodes : [image])));
      return TARGET.lastIndex;
    }
    if (open && /^\]\([^\s)]*$/.test(source.slice(at, at + LONGEST))) {  // the address is coming
      drop(from + 1);
      const { element } = pop();
      element.replaceWith(...element.childNodes);
      return source.length;
    }
    drop(from);
    return say("]"), at + 1;
  }

  while (at < source.length) {
    MARK.lastIndex = at;
    const hit = MARK.exec(source), stop = hit ? hit.index : source.length;
    if (stop > at) say(source.slice(at, stop));
    if (!stack.length && at <= limit) {
      const blank = source.slice(at, Math.min(stop, limit)).search(/\s\S*$/);
      if (blank >= 0) cut = at + blank + 1;
    }
    at = stop;
    if (!hit) break;
    const mark = hit[0];
    let next = at + mark.length;
    const end = ENDS[mark] ? source.indexOf(ENDS[mark], next) : -1;
    if (end >= 0 || (ENDS[mark] && open)) {  // math stays readable: as it was written
      next = end < 0 ? source.length : end + 2;
      add(make("span", "math", source.slice(at, next)));
    } else if (mark[0] === "\\") {
      if (mark[1] === "\n") add(make("br"));
      else say(/[!-/:-@[-`{-~]/.test(mark[1]) ? mark[1] : mark);
    } else if (mark[0] === "`") next = code(mark);
    else if (/^[*_~]/.test(mark)) emphasis(mark);
    else if (mark === "]") next = bracket();
    else if (mark.endsWith("[")) {
      if (stack.length < DEEPEST) push(mark, "span");
      else say(mark);
    } else if (mark[0] === "h") {
      const address = trimmed(mark);
      if (SAFE.test(address)) add(anchor(address, address));
      else say(address);
      next = at + address.length;
    } else if (mark[0] === "<") {
      const inside = mark.slice(1, -1);
      if (SAFE.test(inside)) add(anchor(inside, inside));
      else if (cell && /^br\/?$/i.test(inside)) add(make("br"));
      else say(mark);
    } else if (mark[0] === "&") say(entity(mark));
    else if (mark.endsWith("\n")) {
      if (mark.length > 2) add(make("br"));
      else say("\n");
      if (!stack.length && next <= limit) cut = next;
    } else say(mark);
    at = next;
  }
  while (stack.length) {
    if (open && !stack.at(-1).mark.endsWith("[")) pop();
    else drop(stack.length - 1);
  }
  add();
  return { root, cut };
}
