// What the model says of the picture, and of what is pointed at. Value from the server: {whole, pointed}.
const [whole, pointed] = element.querySelectorAll(".says span");

function show() {
  const value = props.value || {};
  element.querySelector(".about").hidden = !value.whole;
  whole.textContent = value.whole ? `The picture: ${value.whole}` : "";
  pointed.textContent = value.pointed ? `What you point at: ${value.pointed}` : "";
}

watch("value", show);
show();
