// Groups of duplicates. Value from the server: {groups: [{kind, items: [{id, name, url, size}]}], can_discard}; the first of a group is the
// best. "Keep the best" is sent as a "submit" event with the ids of the others. Built with DOM calls only: names come from strangers.
const list = element.querySelector(".duplicate-groups");
const note = element.querySelector(".about");
const TITLES = { exact: "The same file", near: "Nearly the same image", burst: "Taken within seconds" };

function made(kind, properties, ...children) {
  const node = Object.assign(document.createElement(kind), properties);
  node.append(...children);
  return node;
}

function card({ id, name, url, size }, place) {
  const label = place ? `${size[0]} × ${size[1]}` : `best, ${size[0]} × ${size[1]}`;
  const button = made("button", { type: "button", title: name }, made("img", { src: url, alt: name, loading: "lazy" }), made("span", {}, label));
  button.addEventListener("click", () => trigger("select", { id }));
  return button;
}

function group({ kind, items }, canDiscard) {
  const row = made("div", { className: "duplicate-group" }, made("p", {}, TITLES[kind]), ...items.map(card));
  if (!canDiscard) return row;
  const others = items.slice(1);
  const keep = made("button", { type: "button", className: "keep" }, "Keep the best");
  keep.addEventListener("click", () => {
    const files = others.length === 1 ? "the other file" : `the ${others.length} other files`;
    if (confirm(`Move ${files} to the trash?`)) trigger("submit", { ids: others.map(({ id }) => id) });
  });
  row.append(keep);
  return row;
}

function show() {
  const value = props.value;
  note.textContent = !value ? "" : value.groups.length ? `${value.groups.length} groups. Press an image to search with it.` : "There are no duplicates.";
  list.replaceChildren(...(value ? value.groups.map((each) => group(each, value.can_discard)) : []));
}

watch("value", show);
show();
