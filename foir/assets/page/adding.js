// A collection on its way. Value from the server: {title, running, done, total, problem}, or null when there is none. "Stop" is
// sent as a "click" event.
const box = element.querySelector(".adding");
const [line, bar, button] = box.children;
button.addEventListener("click", () => trigger("click"));

function said({ title, running, done, total, problem }) {
  if (problem) return `${title}: ${problem}`;
  if (!running) return `${title}: stopped. Look in it again to go on; of every thousand pictures the last ones are done again.`;
  return total ? `${title}: ${done.toLocaleString()} of ${total.toLocaleString()}` : `${title}: getting ready ...`;
}

function show() {
  const value = props.value, appears = box.hidden && value;
  box.hidden = !value;
  if (!value) return;
  line.textContent = said(value);
  bar.hidden = button.hidden = !value.running;
  if (value.total) {
    bar.max = value.total;
    bar.value = value.done;
  } else bar.removeAttribute("value");
  if (appears) box.scrollIntoView({ block: "nearest" });
}

watch("value", show);
show();
