// Map of the collection. Value from the server: {points: [[x, y, group, id]], groups: [{name, size, id}]}. A chosen point, or
// the central image of a chosen group, is sent as a "select" event with its id.
const canvas = element.querySelector("canvas");
const list = element.querySelector(".groups");
const pen = canvas.getContext("2d");
const EDGE = 8;
const colour = (group, count) => `hsl(${(360 * group) / count} 55% 45%)`;

function place([x, y]) {
  return [EDGE + x * (canvas.clientWidth - 2 * EDGE), EDGE + y * (canvas.clientHeight - 2 * EDGE)];
}

function draw() {
  const { points = [], groups = [] } = props.value || {};
  const density = window.devicePixelRatio || 1;
  if (!canvas.clientWidth) return;
  canvas.width = Math.round(canvas.clientWidth * density);
  canvas.height = Math.round(canvas.clientHeight * density);
  pen.setTransform(density, 0, 0, density, 0, 0);
  for (const point of points) {
    const [x, y] = place(point);
    pen.fillStyle = colour(point[2], groups.length);
    pen.beginPath();
    pen.arc(x, y, 3.5, 0, 7);
    pen.fill();
  }
}

function nearest(event) {
  const area = canvas.getBoundingClientRect();
  const [x, y] = [event.clientX - area.left, event.clientY - area.top];
  const distance = (point) => Math.hypot(place(point)[0] - x, place(point)[1] - y);
  const { points = [] } = props.value || {};
  return points.reduce((best, point) => (distance(point) < distance(best) ? point : best), points[0]);
}

canvas.addEventListener("click", (event) => {
  const point = nearest(event);
  if (point) trigger("select", { id: point[3] });
});

function show() {
  const { groups = [] } = props.value || {};
  list.replaceChildren(
    ...groups.map((group, number) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `${group.name} (${group.size})`;
      button.style.setProperty("--dot", colour(number, groups.length));
      button.addEventListener("click", () => trigger("select", { id: group.id }));
      return button;
    }),
  );
  requestAnimationFrame(draw);
}

new ResizeObserver(draw).observe(canvas);
watch("value", show);
show();
