// The found pictures. Value from the server: {hits: [{id, url, score, name, heat, copies}], note, opinion: {liked, disliked},
// rounds}, with {title, plain} where they stand beside others to be compared. A chosen hit is sent as a "select" event with its
// id, "why" as a "click" event with it, judgements as a "submit" event, {liked, disliked, fresh} or {undo}. Built with DOM calls
// only: names come from strangers.
const grid = element.querySelector(".grid");
const note = element.querySelector(".note");
const judged = element.querySelector(".judged");
const [refine, undo] = judged.querySelectorAll("button");
const fresh = judged.querySelector("input");
const sides = { liked: new Set(), disliked: new Set() };
let search = ""; // tells one search's results from another's
let applied = ""; // the judgements that these results come from

const told = () => ({ liked: [...sides.liked], disliked: [...sides.disliked] });

function judge(side, id, buttons) {
  const other = side === "liked" ? "disliked" : "liked";
  if (!sides[side].delete(id)) sides[side].add(id);
  sides[other].delete(id);
  for (const [name, button] of Object.entries(buttons)) button.setAttribute("aria-pressed", sides[name].has(id));
  count();
}

function count() {
  const { liked, disliked } = sides;
  judged.querySelector("span").textContent = `${liked.size} right, ${disliked.size} wrong`;
  undo.hidden = !(props.value && props.value.rounds);
  refine.disabled = JSON.stringify(told()) === applied && !fresh.checked;
  judged.hidden = Boolean(props.value && props.value.plain) || (!liked.size && !disliked.size && undo.hidden);
}

refine.addEventListener("click", () => trigger("submit", { ...told(), fresh: fresh.checked }));
undo.addEventListener("click", () => trigger("submit", { undo: true }));
fresh.addEventListener("change", count);

function make(tag, className, attributes = {}) {
  const node = document.createElement(tag);
  node.className = className;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function card(hit, plain) {
  const node = make("figure", "hit", { "data-id": hit.id });
  const frame = make("div", "frame");
  frame.append(make("img", "photo", hit.url ? { src: hit.url, alt: hit.name, loading: "lazy" } : { alt: hit.name }));
  if (hit.heat) frame.append(make("img", "heat", { src: hit.heat, alt: "" }));
  if (!plain) frame.addEventListener("click", () => trigger("click", { id: hit.id }));
  const line = make("figcaption", "line");
  const name = make("span", "name", { title: hit.name });
  name.textContent = hit.name;
  const score = make("span", "score", { title: "similarity, 100 at most" });
  score.textContent = hit.score === null ? "" : (100 * hit.score).toFixed(1);
  const again = make("button", "again", { type: "button", "aria-label": `Search with this one: ${hit.name}` });
  again.textContent = "Search it";
  again.addEventListener("click", () => trigger("select", { id: hit.id }));
  const opinions = make("div", "opinions");
  const buttons = {};
  for (const [side, text, sign] of [["liked", "Right", "\u2713"], ["disliked", "Wrong", "\u2717"]]) {
    const button = make("button", side, { type: "button", title: text, "aria-label": `${text}: ${hit.name}` });
    button.textContent = sign;
    button.setAttribute("aria-pressed", sides[side].has(hit.id));
    button.addEventListener("click", () => judge(side, hit.id, buttons));
    buttons[side] = button;
    if (!plain) opinions.append(button);
  }
  if (hit.copies && hit.copies.length) {
    name.textContent = `${hit.name} and ${hit.copies.length} near ${hit.copies.length > 1 ? "copies" : "copy"}`;
    name.title = [hit.name, ...hit.copies].join("\n");
  }
  const why = make("button", "why", { type: "button", "aria-label": `Why this one: ${hit.name}` });
  why.textContent = "Why?";
  line.append(name, score);
  if (!plain) frame.append(why);
  opinions.append(again);
  node.append(frame, line, opinions);
  return node;
}

function show() {
  const value = props.value || { hits: [], note: "" };
  note.dataset.way = value.way || "";
  note.textContent = value.title ? `${value.title}: ${value.note}` : value.note;
  const opinion = value.opinion || { liked: [], disliked: [] };
  const now = JSON.stringify([value.note, value.rounds, value.hits.map((hit) => hit.id)]);
  if (now !== search) {
    // what is judged but not sent yet survives heat maps that arrive late, not another search
    search = now;
    const typing = document.activeElement;
    if (matchMedia("(hover: none)").matches && typing && typing.closest("#words")) typing.blur(); // its keyboard hides half
    for (const side of ["liked", "disliked"]) sides[side] = new Set(opinion[side]);
    applied = JSON.stringify(told());
    fresh.checked = false;
  }
  count();
  jump.textContent = `${value.hits.length} pictures \u2193`;
  const held = document.activeElement, focused = grid.contains(held) && held.closest(".hit").dataset.id;
  grid.replaceChildren(...value.hits.map((hit) => card(hit, Boolean(value.plain))));
  lead();
  if (focused) refocus(focused, held.classList[0]); // heat maps that arrive late redraw the cards
}

// Where the results are further down than the screen, a button leads to them.
const jump = element.querySelector(".jump");
jump.addEventListener("click", () => note.scrollIntoView({ block: "start", behavior: "smooth" }));
let below = false;
const lead = () => { jump.hidden = !below || Boolean(props.value && props.value.plain) || !grid.childElementCount; };
new IntersectionObserver(([seen]) => {
  below = !seen.isIntersecting && seen.boundingClientRect.top > 0;
  lead();
}, { rootMargin: "0px 0px -30% 0px" }).observe(grid);

function refocus(id, name) {
  const button = grid.querySelector(`.hit[data-id="${id}"] .${name}`);
  if (button) button.focus();
}

watch("value", show);
show();
