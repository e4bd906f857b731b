/* The list beside the conversation: the store's conversations, found, opened, folded away.
 *
 * Owns what stands in the list, and where the focus is in it. One of its rows is a stop of the Tab
 * key, the arrows go through the others: two hundred stops would be a wall. */

const STEP = 50;
let limit = STEP, latest = 0;
const narrow = matchMedia("(max-width: 52rem)"), touch = matchMedia("(pointer: coarse)");
const rows = () => [...$("found").querySelectorAll("button")];

async function list() {
  const mine = ++latest, query = $("find").value.trim();
  let found;
  try {
    found = (await api(`api/conversations?q=${encodeURIComponent(query)}&limit=${limit}`)).conversations;
  } catch (error) {
    return lost(error);
  }
  if (mine !== latest) return;  // a later question was asked meanwhile
  const items = found.map((each) => row(each, query));
  if (!found.length) items.push(make("li", "", make("p", "", query ? "Nothing found." : "None yet.")));
  const full = found.length >= limit;
  if (full) items.push(make("li", "", button("More", "plain", () => { limit += STEP; list(); })));
  const before = rows(), at = before.indexOf(document.activeElement), id = before[at]?.dataset.id;
  $("found").replaceChildren(...items);
  const after = rows();
  // Who stood on a row stands there still, and after "More" on the first one that it brought.
  if (at >= 0) (id ? after.find((each) => each.dataset.id === id) : after[at])?.focus();
  mark();
  if (query) say(`${full ? "The first " : ""}${found.length} conversation${found.length === 1 ? "" : "s"} found.`, 5);
  renew(found);
}

function row({ id, title, updated, model, snippet }, query) {
  const facts = [when(updated), visible(model)].filter(Boolean).join(" · ");
  const made = button("", "", () => { toPrompt(); resume(id); });
  made.dataset.id = id;
  made.append(make("span", "name", visible(title) || "Untitled"), make("span", "", facts));
  if (query && snippet) made.append(make("span", "snippet", visible(snippet)));
  return make("li", "", made);
}

function mark() {
  let current = null;
  for (const each of rows()) {
    const mine = Boolean(here.id) && each.dataset.id === here.id;
    if (mine) (current = each).setAttribute("aria-current", "true");
    else each.removeAttribute("aria-current");
  }
  rove(rows().find((each) => each === document.activeElement) ?? current ?? rows()[0]);
}

function rove(to) { for (const each of rows()) each.tabIndex = each === to ? 0 : -1; }

/* What is read here may have grown elsewhere: in another tab, in a terminal. */
function renew(found) {
  const same = found.find(({ id }) => here.id && id === here.id);
  if (!same || turn) return;
  const grown = here.seen && same.updated > here.seen;
  here.seen = same.updated;
  if (grown) resume(here.id);
}

async function openFirst() {
  clearTimeout(typing);  // what was typed just now counts
  await list();
  rows()[0]?.click();
}

function fold(open = false) {
  document.body.classList.toggle("listed", open);
  $("menu").setAttribute("aria-expanded", String(open));
  document.querySelector("main").inert = open && narrow.matches;
}

function search() {
  fold(true);
  // On a phone the keyboard would cover what is looked for.
  if (touch.matches) return $("shut").focus();
  $("find").focus();
  $("find").select();
}

function leave() {  // from the list to the prompt
  fold();
  if (touch.matches && narrow.matches) $("menu").focus();
  else toPrompt();
}

function toPrompt() { if (!touch.matches) field.focus(); }  // a finger asks for the keyboard itself

let typing = 0;
$("find").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => { limit = STEP; list().then(() => { $("found").scrollTop = 0; }); }, 150);
});
$("found").addEventListener("focusin", ({ target }) => rove(target));
$("list").addEventListener("keydown", (event) => {
  const places = [$("find"), ...rows()], at = places.indexOf(document.activeElement);
  const steps = { ArrowDown: at + 1, ArrowUp: at - 1 };
  if (at > 0) Object.assign(steps, { Home: 1, End: places.length - 1 });  // the field has its own
  if (event.key === "Enter" && at === 0) openFirst();
  const to = places[steps[event.key]];
  if (at < 0 || !to) return;
  event.preventDefault();
  to.focus();
});
$("menu").addEventListener("click", (event) => { event.stopPropagation(); search(); });
$("shut").addEventListener("click", leave);
document.addEventListener("click", ({ target }) => {
  if (narrow.matches && document.body.classList.contains("listed") && !$("list").contains(target)) fold();
});
narrow.addEventListener("change", () => fold());
