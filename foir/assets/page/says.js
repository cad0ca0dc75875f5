// What the model says of the picture, and of what is pointed at. Value from the server: {token, pointed} after each search,
// with {whole} too when another picture was opened; the token tells whose they are.
const [whole, pointed] = element.querySelectorAll(".says span");
let kept = {};

function show() {
  const value = props.value || {};
  kept = value.token === kept.token ? { ...kept, ...value } : value;
  whole.textContent = kept.whole ? `In words: ${kept.whole}` : "";
  pointed.textContent = kept.pointed ? `What you point at: ${kept.pointed}` : "";
}

watch("value", show);
show();
