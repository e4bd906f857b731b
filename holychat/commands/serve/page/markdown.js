/* Markdown that streams: pieces of source in, blocks in the page.
 *
 * Owns an answer's element and the frames in which it is drawn. Must not know where text comes from.
 *
 * Line by line, as core/blocks.py: a stack of open quotes and items, and one open leaf. What a
 * complete line decided is never touched again; only the line that is not complete yet is undone
 * and done again at the next frame, and the paragraph that is open is drawn anew. */

const ITEM = /^( {0,3})([-+*]|(\d{1,9})[.)])( +|$)/;
const FENCE = /^( {0,3})(`{3,}(?=[^`]*$)|~{3,}) *([^\s`]*)/;
const RAW = /^ {0,3}<(?:!--|\/?[a-z][\w-]*(?:[\s/>]|$))/i;
// What an unfinished line may still become anything with: not shown before it is clear.
const UNCLEAR = /^[\s>]*(?:[-+*] +)?(?:[-+*_=#`~|:$\\\s]*|\d{1,9}[.)]?\s*|\[[ xX]?\]?|<\/?\w*)$/;
const CHUNK = 50;  // lines of code that are laid out together

const indent = (line) => line.search(/[^ ]|$/);
const ruled = (line) => indent(line) < 4 && /^(?:\*{3,}|-{3,}|_{3,})$/.test(line.replaceAll(" ", ""));

function cells(line) {
  const found = line.trim().replace(/^\|/, "").split(/(?<!\\)\|/);
  if (found.length > 1 && !found.at(-1).trim()) found.pop();
  return found.map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function alignment(line) {  // of a table's second line; null for another line
  if (line.length > LONGEST || !/^[\s|:-]*$/.test(line) || !/[|:]/.test(line)) return null;
  const found = cells(line);
  if (!found.every((cell) => /^:?-+:?$/.test(cell))) return null;
  return found.map((cell) => cell.endsWith(":") ? (cell[0] === ":" ? "center" : "right") : "");
}

class Markdown {
  #root;
  #rest = "";      // what is not taken yet; no more than one unfinished line between two frames
  #ended = false;
  #stack = [];     // { element, quote } or { element, list, mark, indent }
  #leaf = null;    // { kind, element, ... }
  #glued = false;  // the line goes on that was too long to wait for its end
  #saved = null;   // the state before the unfinished line, and the nodes that it made
  #made = null;

  constructor(root) { this.#root = root; }

  feed(text) { this.#rest += visible(text); }

  end() { this.#ended = true; }

  /* Draws what came, until the clock says `until`; whether there is more to draw. */
  draw(until) {
    this.#undo();
    let at = 0, end = 0;
    while ((end = this.#rest.indexOf("\n", at)) >= 0) {
      this.#take(this.#rest.slice(at, end));
      this.#glued = false;
      if (this.#leaf?.text?.length > 2 * LONGEST) this.#settle(this.#leaf);
      at = end + 1;
      if (performance.now() > until) break;
    }
    this.#rest = this.#rest.slice(at);
    const more = end >= 0;
    while (!more && this.#rest.length > LONGEST && this.#leaf?.kind !== "table") this.#slice();
    if (!more && this.#ended) {
      if (this.#rest) this.#take(this.#rest);
      this.#rest = "";
      this.#close();
    } else {
      if (!more) this.#preview();
      if (this.#leaf?.kind === "p") this.#paint(this.#leaf, true);
    }
    return more;
  }

  #slice() {
    let cut = this.#rest.lastIndexOf(" ", LONGEST) + 1 || LONGEST;
    if (/[\udc00-\udfff]/.test(this.#rest[cut])) cut--;  // not between the halves of a character
    this.#take(this.#rest.slice(0, cut));
    this.#glued = true;
    this.#rest = this.#rest.slice(cut);
  }

  #preview() {
    const line = this.#rest;
    if (!line || line.length > LONGEST || (!this.#glued && UNCLEAR.test(line.trimStart()))) return;
    if (this.#leaf?.kind === "p") this.#settle(this.#leaf);
    const leaf = this.#leaf && { ...this.#leaf, dirty: true };
    this.#saved = { stack: [...this.#stack], leaf, glued: this.#glued };
    this.#made = [];
    this.#take(line);
  }

  #undo() {
    if (!this.#saved) return;
    for (const node of this.#made) node.remove();
    this.#stack = this.#saved.stack;
    this.#leaf = this.#saved.leaf;
    this.#glued = this.#saved.glued;
    this.#saved = this.#made = null;
  }

  #put(parent, node) {
    // A top block finds its own direction; what is in it follows, but for lines that turn.
    if (parent === this.#root && node.tagName !== "FIGURE") node.dir = "auto";
    parent.append(node);
    this.#made?.push(node);
    return node;
  }

  get #parent() { return this.#stack.at(-1)?.element ?? this.#root; }

  // --- Lines

  #take(line) {
    if (!this.#glued) this.#line(line.replace(/^[ \t]+/, (blank) => blank.replaceAll("\t", "    ")));
    else if (this.#leaf?.chunk) this.#put(this.#leaf.chunk, document.createTextNode(line));
    else if (this.#leaf?.kind === "p") this.#more(line);
    else this.#begin(line);
  }

  #line(line) {
    let depth = 0;
    for (const { quote, indent: inside } of this.#stack) {
      if (quote) {
        const hit = /^ {0,3}> ?/.exec(line);
        if (!hit) break;
        line = line.slice(hit[0].length);
      } else if (indent(line) >= inside) line = line.slice(inside);
      else if (line.trim()) break;
      depth++;
    }
    const inside = depth === this.#stack.length;
    const blank = !line.trim();
    if (inside && this.#verbatim(line, blank)) return;
    const text = this.#leaf?.kind === "p";
    if (text && !inside && !blank && !this.#starts(line)) return this.#more("\n" + line.trimStart());
    const left = this.#stack[depth];
    if (!inside) {
      this.#close();
      this.#stack.length = depth;
    }
    line = this.#enter(line, left);
    if (!line.trim()) {
      if (this.#leaf?.kind !== "indented") this.#close();
    } else this.#block(line);
  }

  #starts(line) {
    return indent(line) < 4 && (/^ *(?:>|#{1,6}(?: |$))/.test(line) || FENCE.test(line)
      || ruled(line) || ITEM.test(line));
  }

  /* Opens the quotes and items that the line begins with; gives the rest of it. */
  #enter(line, left) {
    while (this.#stack.length < DEEPEST) {
      const text = this.#leaf?.kind === "p";
      const quote = /^ {0,3}> ?/.exec(line);
      const item = !quote && !ruled(line) && ITEM.exec(line);
      if (quote) {
        this.#close();
        this.#stack.push({ element: this.#put(this.#parent, make("blockquote")), quote: true });
        line = line.slice(quote[0].length);
      } else if (item && !(text && (item[0].length === line.length || (item[3] && +item[3] !== 1)))) {
        this.#close();
        const [, before, marker, number, gap] = item, mark = marker.at(-1);
        let list = left?.mark === mark ? left.list : null;
        if (!list) {
          list = this.#put(this.#parent, make(number ? "ol" : "ul"));
          if (number && +number !== 1) list.start = +number;
        }
        const width = before.length + marker.length + (gap.length > 4 ? 1 : gap.length || 1);
        this.#stack.push({ element: this.#put(list, make("li")), list, mark, indent: width });
        line = line.slice(width);
      } else break;
      left = null;
    }
    return line;
  }

  #block(line) {
    const leaf = this.#leaf, text = leaf?.kind === "p";
    if (!text && indent(line) >= 4) return this.#code("indented", "", line.slice(4));
    const fence = indent(line) < 4 && FENCE.exec(line);
    const heading = /^ {0,3}(#{1,6})(?: |$)/.exec(line);
    if (fence) {
      this.#close();
      this.#code("fence", fence[3], null, { mark: fence[2], indent: fence[1].length });
    } else if (heading) {
      this.#close();
      this.#heading(heading[1].length, line.slice(heading[0].length).trim().replace(/(?:^| )#+$/, ""));
    } else if (text && !leaf.settled && /^ {0,3}(?:=+|-+) *$/.test(line)) {
      leaf.element.remove();
      this.#leaf = null;
      this.#heading(line.includes("=") ? 1 : 2, leaf.text);
    } else if (ruled(line)) {
      this.#close();
      this.#put(this.#parent, make("hr"));
    } else if (text && !leaf.settled && this.#table(line)) return;
    else if (leaf?.kind === "table") this.#row(leaf, "td", cells(line));
    else if (text) this.#more("\n" + line.trimStart());
    else if (RAW.test(line)) this.#raw(line, "");
    else if (/^ {0,3}(?:\$\$|\\\[)/.test(line)) this.#raw(line, line.includes("$") ? "$$" : "\\]");
    else this.#begin(line.trimStart());
  }

  /* Lines of code, math and HTML; whether this was one. */
  #verbatim(line, blank) {
    const leaf = this.#leaf;
    if (leaf?.kind === "fence") {
      const end = line.trim();
      if (indent(line) < 4 && end.length >= leaf.mark.length && end === leaf.mark[0].repeat(end.length))
        this.#close();
      else this.#add(leaf, line.slice(Math.min(leaf.indent, indent(line))));
      return true;
    }
    if (leaf?.kind === "indented" && !blank && indent(line) >= 4) {
      for (; leaf.blanks; leaf.blanks--) this.#add(leaf, "");
      this.#add(leaf, line.slice(4));
      return true;
    }
    if (leaf?.kind === "indented" && blank) leaf.blanks++;
    else if (leaf?.kind === "indented") this.#close();
    if (leaf?.kind !== "raw" || blank) return false;
    this.#add(leaf, line);
    if (leaf.end && line.trimEnd().endsWith(leaf.end)) this.#close();
    return true;
  }

  // --- Leaves

  #begin(text) {
    this.#close();
    const parent = this.#parent;
    const task = parent.tagName === "LI" && !parent.firstChild && /^\[([ xX])\] /.exec(text);
    if (task) {
      parent.className = "task";
      text = (task[1] === " " ? "☐ " : "☑ ") + text.slice(4);
    }
    this.#leaf = { kind: "p", element: this.#put(parent, make("p")), text, last: null, settled: 0,
      dirty: true };
  }

  #more(text) {
    this.#leaf.text += text;
    this.#leaf.dirty = true;
  }

  #paint(leaf, open) {
    if (!leaf.dirty && open) return;
    leaf.dirty = false;
    while (leaf.element.lastChild !== leaf.last) leaf.element.lastChild.remove();
    // The first line of a table looks like text until the second one comes.
    if (open && !leaf.settled && /^\|[^\n]*$/.test(leaf.text)) return;
    if (!open) this.#settle(leaf);
    leaf.element.append(inline(open ? leaf.text : leaf.text.trimEnd(), { open }).root);
  }

  /* Draws what is too long to be read anew, for good. */
  #settle(leaf) {
    while (leaf.text.length > LONGEST) {
      const window = leaf.text.slice(0, LONGEST);
      const cut = inline(window, { limit: LONGEST - 200 }).cut || window.lastIndexOf(" ") + 1 || LONGEST;
      while (leaf.element.lastChild !== leaf.last) leaf.element.lastChild.remove();
      leaf.element.append(inline(leaf.text.slice(0, cut)).root);
      leaf.last = leaf.element.lastChild;
      leaf.text = leaf.text.slice(cut);
      // Lines are laid out anew with their whole paragraph: an endless one becomes several.
      if (++leaf.settled % 5 === 0) {
        leaf.element = this.#put(this.#parent, make("p", "on"));
        leaf.last = null;
      }
    }
  }

  #heading(level, text) {
    const made = this.#put(this.#parent, make("h" + Math.min(6, level + 2)));  // below the page's own
    made.append(inline(text).root);
  }

  #code(kind, language, line, more = {}) {
    const code = make("code");
    const copy = button("Copy", "plain copy");
    copy.setAttribute("aria-label", language ? `Copy the ${language} code` : "Copy the code");
    const caption = make("figcaption", "", make("span", "", language), copy);
    this.#put(this.#parent, make("figure", "code", caption, make("pre", "", code)));
    this.#leaf = { kind, element: code, chunk: null, count: 0, blanks: 0, ...more };
    if (line !== null) this.#add(this.#leaf, line);
  }

  #raw(line, end) {
    this.#close();
    const made = this.#put(this.#parent, make("div", end ? "math" : "raw"));
    this.#leaf = { kind: "raw", element: made, chunk: null, count: 0, end };
    this.#add(this.#leaf, line);
    if (end && line.trim().length > 2 && line.trimEnd().endsWith(end)) this.#close();
  }

  #add(leaf, line) {
    const chunk = leaf.chunk;
    if (leaf.count % CHUNK === 0) {
      if (chunk) this.#put(chunk, document.createTextNode("\n"));
      leaf.chunk = this.#put(leaf.element, make("span", "lines", line));
    } else this.#put(chunk, document.createTextNode("\n" + line));
    leaf.count++;
  }

  #table(line) {  // whether the line makes a table of the paragraph's last one
    const leaf = this.#leaf, align = alignment(line);
    const at = leaf.text.lastIndexOf("\n") + 1;
    const head = align && leaf.text.includes("|", at) ? cells(leaf.text.slice(at)) : [];
    if (!head.length || head.length !== align.length) return false;
    leaf.text = leaf.text.slice(0, at);
    if (!leaf.text) leaf.element.remove();
    this.#close();
    const top = make("thead"), body = make("tbody");
    this.#put(this.#parent, make("div", "table", make("table", "", top, body)));
    this.#leaf = { kind: "table", element: top, align };
    this.#row(this.#leaf, "th", head);
    this.#leaf.element = body;
    return true;
  }

  #row(leaf, tag, found) {
    const made = leaf.align.map((align, at) => {
      const cell = make(tag, align, inline(found[at] ?? "", { cell: true }).root);
      if (tag === "th") cell.scope = "col";
      return cell;
    });
    this.#put(leaf.element, make("tr", "", ...made));
  }

  #close() {
    if (this.#leaf?.kind === "p") this.#paint(this.#leaf, false);
    this.#leaf = null;
  }
}

// Everything is drawn here, a few milliseconds a frame, whatever has come in between.
const writers = new Set();
let framed = false;

function drawn(writer) {
  writers.add(writer);
  if (framed) return;
  framed = true;
  requestAnimationFrame(function frame() {
    const until = performance.now() + 6;
    for (const each of writers) {
      if (!each.draw(until)) writers.delete(each);
      if (performance.now() > until) break;
    }
    framed = writers.size > 0;
    if (framed) requestAnimationFrame(frame);
  });
}

function written(element, text) {
  const writer = new Markdown(element);
  writer.feed(text);
  writer.end();
  drawn(writer);
}
