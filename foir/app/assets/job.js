// Progress of the job that adds a collection. Value from the server: {title, running, done, total, error}, or null without a
// job. "Stop" is sent as a "click" event.
const box = element.querySelector(".job");
const [line, bar, button] = box.children;
button.addEventListener("click", () => trigger("click"));

function message({ title, running, done, total, error }) {
  if (error) return `${title}: ${error}`;
  if (!running) return `${title}: stopped. Add it again to resume; at most the last thousand images are encoded again.`;
  return total ? `${title}: ${done.toLocaleString()} of ${total.toLocaleString()}` : `${title}: starting ...`;
}

function show() {
  const value = props.value, appears = box.hidden && value;
  box.hidden = !value;
  if (!value) return;
  line.textContent = message(value);
  bar.hidden = button.hidden = !value.running;
  if (value.total) {
    bar.max = value.total;
    bar.value = value.done;
  } else bar.removeAttribute("value");
  if (appears) box.scrollIntoView({ block: "nearest" });
}

watch("value", show);
show();
