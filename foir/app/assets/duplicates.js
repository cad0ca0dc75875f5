// Groups of duplicates. Value from the server: {key, count, groups: [{kind, items: [{id, name, file, url, size}]}], can_discard}; the first
// of a group is the best. "Keep the best" is sent as a "submit" event with the ids of the others and the collection's key. Built with DOM
// calls only: names come from strangers.
const list = element.querySelector(".duplicate-groups");
const note = element.querySelector(".about");
const TITLES = { exact: "The same file", near: "Nearly the same image", burst: "Taken within seconds" };

function made(kind, properties, ...children) {
  const node = Object.assign(document.createElement(kind), properties);
  node.append(...children);
  return node;
}

function card({ id, name, file, url, size }, place) {
  const label = place ? `${size[0]} × ${size[1]}` : `best, ${size[0]} × ${size[1]}`;
  const image = made("img", { src: url, alt: name, loading: "lazy" });
  const button = made("button", { type: "button", title: file }, image, made("span", {}, label));
  button.addEventListener("click", () => trigger("select", { id }));
  return button;
}

function group({ kind, items }, { key, can_discard }) {
  const row = made("div", { className: "duplicate-group", role: "group", ariaLabel: `${TITLES[kind]}: ${items[0].name}` });
  row.append(made("p", {}, TITLES[kind]), ...items.map(card));
  if (!can_discard) return row;
  const others = items.slice(1);
  const keep = made("button", { type: "button", className: "keep", ariaLabel: `Keep the best: ${items[0].file}` }, "Keep the best");
  keep.addEventListener("click", () => {
    const files = others.map(({ file }) => file).join("\n");
    if (!confirm(`Move to the trash?\n${files}`)) return;
    for (const each of list.querySelectorAll(".keep")) each.disabled = true; // until the collection is up to date
    trigger("submit", { key, ids: others.map(({ id }) => id) });
  });
  row.append(keep);
  return row;
}

function summary({ count, groups }) {
  if (!count) return "There are no duplicates.";
  const shown = groups.length < count ? `The first ${groups.length} of ${count} groups` : count === 1 ? "One group" : `${count} groups`;
  return `${shown}. Press an image to search with it.`;
}

function show() {
  const value = props.value;
  note.textContent = value ? summary(value) : "Looking for duplicates ...";
  list.replaceChildren(...(value ? value.groups.map((each) => group(each, value)) : []));
}

watch("value", show);
show();
