/* The list beside the conversation: the store's conversations, found, opened, folded away. */

const STEP = 50;
let limit = STEP, latest = 0;
const narrow = matchMedia("(max-width: 52rem)");

async function list() {
  const mine = ++latest, query = $("find").value.trim();
  let found;
  try {
    found = (await api(`api/conversations?q=${encodeURIComponent(query)}&limit=${limit}`)).conversations;
  } catch (error) {
    return say(error.message);
  }
  if (mine !== latest) return;  // a later question was asked meanwhile
  const items = found.map((each) => {
    const facts = [when(each.updated), visible(each.model)].filter(Boolean).join(" · ");
    const made = button("", "", () => { field.focus(); resume(each.id); });
    made.dataset.id = each.id;
    made.append(make("span", "name", visible(each.title) || "Untitled"), make("span", "", facts));
    if (query && each.snippet) made.append(make("span", "snippet", visible(each.snippet)));
    return make("li", "", made);
  });
  if (!found.length) items.push(make("li", "", make("p", "", query ? "Nothing found." : "None yet.")));
  if (found.length >= limit)
    items.push(make("li", "", button("More", "plain", () => { limit += STEP; list(); })));
  $("found").replaceChildren(...items);
  if (query) say(found.length === 1 ? "1 conversation found." : `${found.length} conversations found.`);
  mark();
}

function mark() {
  for (const each of $("found").querySelectorAll("button")) {
    if (each.dataset.id && each.dataset.id === here.id) each.setAttribute("aria-current", "true");
    else each.removeAttribute("aria-current");
  }
}

function fold(open = false) {
  document.body.classList.toggle("listed", open);
  $("menu").setAttribute("aria-expanded", String(open));
  document.querySelector("main").inert = open && narrow.matches;
}

function search() {
  fold(true);
  $("find").focus();
  $("find").select();
}

function leave() {  // from the list to the prompt
  fold();
  field.focus();
}
