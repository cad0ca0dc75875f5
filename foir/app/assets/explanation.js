// Why a result was found. Value from the server: {id, name, url, size, heat, regions, lines, link, nonce}; the dialog opens when it
// arrives. A search with the result is sent as a "select" event with its id. Built with DOM calls only: names come from strangers.
const dialog = element.querySelector("dialog");
const [photo, heat] = dialog.querySelectorAll("img");

function show() {
  const value = props.value || {};
  if (!value.nonce) return;
  photo.src = value.url;
  photo.alt = value.name;
  heat.hidden = !value.heat;
  if (value.heat) heat.src = value.heat;
  dialog.querySelector(".regions")?.remove();
  heat.after(outline(value));
  dialog.querySelector(".name").textContent = value.name;
  dialog.querySelector(".lines").replaceChildren(
    ...value.lines.map((line) => {
      const node = document.createElement("p");
      node.textContent = line;
      return node;
    }),
  );
  const link = dialog.querySelector(".link");
  link.hidden = !value.link;
  if (value.link) {
    link.href = value.link.url;
    link.textContent = value.link.text;
  }
  if (!dialog.open) dialog.showModal();
}

dialog.querySelector("[data-do=close]").addEventListener("click", () => dialog.close());
dialog.querySelector("[data-do=search]").addEventListener("click", () => {
  trigger("select", { id: props.value.id });
  dialog.close();
});
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // outside of it
dialog.addEventListener("close", () => {
  const opener = document.querySelector(`#results .hit[data-id="${props.value.id}"] .why`); // the cards may have changed
  if (opener) opener.focus();
});
watch("value", show);
show();
