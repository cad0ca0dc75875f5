// What the model says the picture shows. Value from the server: a sentence, or nothing.
const line = element.querySelector(".says");

function show() {
  line.textContent = props.value ? `In words: ${props.value}` : "";
}

watch("value", show);
show();
