// The found pictures. Value from the server: {hits: [{id, url, score, name, heat}], note}. A chosen hit is sent as a
// "select" event with its id. Built with DOM calls only: names come from strangers.
const grid = element.querySelector(".grid");
const note = element.querySelector(".note");

function make(tag, className, attributes = {}) {
  const node = document.createElement(tag);
  node.className = className;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function card(hit) {
  const node = make("figure", "hit");
  const frame = make("div", "frame");
  frame.append(make("img", "photo", hit.url ? { src: hit.url, alt: hit.name, loading: "lazy" } : { alt: hit.name }));
  if (hit.heat) frame.append(make("img", "heat", { src: hit.heat, alt: "" }));
  const line = make("figcaption", "line");
  const name = make("span", "name", { title: hit.name });
  name.textContent = hit.name;
  const score = make("span", "score", { title: "similarity, 100 at most" });
  score.textContent = hit.score === null ? "" : (100 * hit.score).toFixed(1);
  const again = make("button", "again", { type: "button", "aria-label": `Search with this one: ${hit.name}` });
  again.textContent = "Search with this one";
  again.addEventListener("click", () => trigger("select", { id: hit.id }));
  line.append(name, score);
  node.append(frame, line, again);
  return node;
}

function show() {
  const value = props.value || { hits: [], note: "" };
  note.textContent = value.note;
  grid.replaceChildren(...value.hits.map(card));
}

watch("value", show);
show();
