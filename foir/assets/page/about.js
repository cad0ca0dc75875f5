// What the collection is, in a line. Value from the server: text, in which names come from strangers.
const show = () => { element.querySelector("p").textContent = props.value || ""; };
watch("value", show);
show();
