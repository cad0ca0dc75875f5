// Why a result is one. Value from the server: {id, name, url, heat, lines, asked}; it opens when it comes. To
// search with it is sent as a "select" event with its id. Made with DOM calls
// only: names come from strangers.
const dialog = element.querySelector("dialog");
const [photo, heat] = dialog.querySelectorAll("img");

function show() {
  const value = props.value || {};
  if (!value.asked) return;
  photo.src = value.url;
  photo.alt = value.name;
  heat.hidden = !value.heat;
  if (value.heat) heat.src = value.heat;
  dialog.querySelector(".name").textContent = value.name;
  dialog.querySelector(".lines").replaceChildren(
    ...value.lines.map((line) => {
      const node = document.createElement("p");
      node.textContent = line;
      return node;
    }),
  );
  if (!dialog.open) dialog.showModal();
}

dialog.querySelector("[data-do=close]").addEventListener("click", () => dialog.close());
dialog.querySelector("[data-do=search]").addEventListener("click", () => {
  trigger("select", { id: props.value.id });
  dialog.close();
});
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside it
dialog.addEventListener("close", () => {
  const opener = document.querySelector(`#results .hit[data-id="${props.value.id}"] .why`); // the cards may be others by now
  if (opener) opener.focus();
});
watch("value", show);
show();
