// One line about the collection. Value from the server: text; names in it come from strangers.
const show = () => { element.querySelector("p").textContent = props.value || ""; };
watch("value", show);
show();
