// The results. Value from the server: {hits: [{id, url, score, name, size, heat, regions, similar, copies}], note, method, feedback: {liked, disliked},
// rounds}, with {title, plain} for the comparison. A hit to search with is sent as a "select" event with its id, one to explain
// as a "click" event; judgements as a "submit" event, {liked, disliked, fresh} or {undo}. Built with DOM calls only: names come
// from strangers.
const grid = element.querySelector(".grid");
const note = element.querySelector(".note");
const judged = element.querySelector(".judged");
const [refine, undo] = judged.querySelectorAll("button");
const fresh = judged.querySelector("input");
const sides = { liked: new Set(), disliked: new Set() };
let search = ""; // identifies the results of one search
let applied = ""; // the judgements behind these results

const judgements = () => ({ liked: [...sides.liked], disliked: [...sides.disliked] });

function judge(side, id, buttons) {
  const other = side === "liked" ? "disliked" : "liked";
  if (!sides[side].delete(id)) sides[side].add(id);
  sides[other].delete(id);
  for (const [name, button] of Object.entries(buttons)) button.setAttribute("aria-pressed", sides[name].has(id));
  count();
}

function count() {
  const { liked, disliked } = sides;
  judged.querySelector("span").textContent = `${liked.size} relevant, ${disliked.size} irrelevant`;
  undo.hidden = !(props.value && props.value.rounds);
  refine.disabled = JSON.stringify(judgements()) === applied && !fresh.checked;
  judged.hidden = Boolean(props.value && props.value.plain) || (!liked.size && !disliked.size && undo.hidden);
}

refine.addEventListener("click", () => trigger("submit", { ...judgements(), fresh: fresh.checked }));
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
  if (hit.regions && hit.regions.length) frame.append(outline(hit));
  if (!plain) frame.addEventListener("click", () => trigger("click", { id: hit.id }));
  const line = make("figcaption", "line");
  const name = make("span", "name", { title: hit.name });
  name.textContent = hit.name;
  const score = make("span", "score", { title: "Similarity, at most 100" });
  score.textContent = hit.score === null ? "" : (100 * hit.score).toFixed(1);
  const again = make("button", "again", { type: "button", "aria-label": `Find similar images: ${hit.name}` });
  again.textContent = "Similar";
  again.addEventListener("click", () => trigger("select", { id: hit.id }));
  const actions = make("div", "actions");
  const buttons = {};
  for (const [side, text, sign] of [["liked", "Relevant", "\u2713"], ["disliked", "Irrelevant", "\u2717"]]) {
    const button = make("button", side, { type: "button", title: text, "aria-label": `${text}: ${hit.name}` });
    button.textContent = sign;
    button.setAttribute("aria-pressed", sides[side].has(hit.id));
    button.addEventListener("click", () => judge(side, hit.id, buttons));
    buttons[side] = button;
    if (!plain) actions.append(button);
  }
  if (hit.copies && hit.copies.length) {
    name.textContent = `${hit.name} and ${hit.copies.length} near ${hit.copies.length > 1 ? "copies" : "copy"}`;
    name.title = [hit.name, ...hit.copies].join("\n");
  }
  const why = make("button", "why", { type: "button", "aria-label": `Why this result: ${hit.name}` });
  why.textContent = "Why?";
  line.append(name, score);
  if (!plain) frame.append(why);
  actions.append(again);
  node.append(frame, line, actions);
  return node;
}

function show() {
  const value = props.value || { hits: [], note: "" };
  note.dataset.method = value.method || "";
  note.textContent = value.title ? `${value.title}: ${value.note}` : value.note;
  const feedback = value.feedback || { liked: [], disliked: [] };
  const key = JSON.stringify([value.note, value.rounds, value.hits.map((hit) => hit.id)]);
  if (key !== search) {
    // judgements that were not sent yet survive late heat maps, but not another search
    search = key;
    const typing = document.activeElement;
    if (matchMedia("(hover: none)").matches && typing && typing.closest("#text")) typing.blur(); // its keyboard hides half of the page
    for (const side of ["liked", "disliked"]) sides[side] = new Set(feedback[side]);
    applied = JSON.stringify(judgements());
    fresh.checked = false;
  }
  count();
  jump.textContent = `${value.hits.length} results \u2193`;
  const active = document.activeElement, focused = grid.contains(active) && active.closest(".hit").dataset.id;
  grid.replaceChildren(...value.hits.map((hit) => card(hit, Boolean(value.plain))));
  const first = value.hits.findIndex((hit) => hit.similar);
  if (first > 0) {
    const heading = make("h3", "similar");
    heading.textContent = "Similar scenes";
    grid.insertBefore(heading, grid.children[first]);
  }
  showJump();
  if (focused) refocus(focused, active.classList[0]); // late heat maps redraw the cards
}

// Where the results are below the screen, a button scrolls to them.
const jump = element.querySelector(".jump");
jump.addEventListener("click", () => note.scrollIntoView({ block: "start", behavior: "smooth" }));
let below = false;
const showJump = () => { jump.hidden = !below || Boolean(props.value && props.value.plain) || !grid.childElementCount; };
new IntersectionObserver(([entry]) => {
  below = !entry.isIntersecting && entry.boundingClientRect.top > 0;
  showJump();
}, { rootMargin: "0px 0px -30% 0px" }).observe(grid);

function refocus(id, name) {
  const button = grid.querySelector(`.hit[data-id="${id}"] .${name}`);
  if (button) button.focus();
}

watch("value", show);
show();
