// Captions of the image and of the marked object. Value from the server: {whole, marked}.
const [whole, marked] = element.querySelectorAll(".captions span");

function show() {
  const value = props.value || {};
  element.querySelector(".about").hidden = !value.whole;
  whole.textContent = value.whole ? `Image: ${value.whole}` : "";
  marked.textContent = value.marked ? `Marked object: ${value.marked}` : "";
}

watch("value", show);
show();
