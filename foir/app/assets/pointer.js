// The query image to point at. Value from the server: {url, token, width, height, name, prompt, heat, outline, summary,
// suggestions, samples}, with {pending} while the model loads: marks wait until the same image comes with a session, and are sent with {late}. Finished marks are sent as a "submit" event, {prompt: {points, boxes, strokes} in pixels of the image,
// token}; a chosen sample as a "select" event with its id. Built with DOM calls only: names come from strangers.
const stage = element.querySelector(".stage");
const photo = stage.querySelector("img.photo");
const heat = stage.querySelector("img.heat");
const outline = stage.querySelector("img.outline");
const canvas = stage.querySelector("canvas");
const pen = canvas.getContext("2d");
const tools = [...element.querySelectorAll("[data-tool]")];

const nothing = () => ({ points: [], boxes: [], strokes: [] });
let tool = "box";
let marks = nothing();
let history = [];
let drawing = null; // the mark under the finger
let cursor = null; // keyboard position, in pixels of the image
let shownToken = null;
let opening = null; // name of the image that is shown while the model loads
let waiting = false; // marks that were finished meanwhile

const size = () => props.value || { width: 1, height: 1 };
const brush = () => Math.max(size().width, size().height) / 24;
const isEmpty = (m) => !m.points.length && !m.boxes.length && !m.strokes.length;

function toImage(event) {
  const area = canvas.getBoundingClientRect();
  const clamp = (value, limit) => Math.min(Math.max(value, 0), limit);
  const { width, height } = size();
  return [
    clamp(((event.clientX - area.left) / area.width) * width, width),
    clamp(((event.clientY - area.top) / area.height) * height, height),
  ];
}

function draw() {
  const area = canvas.getBoundingClientRect();
  if (!area.width) return;
  const density = window.devicePixelRatio || 1;
  canvas.width = Math.round(area.width * density);
  canvas.height = Math.round(area.height * density);
  const scale = canvas.width / size().width;
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  const px = density / scale; // one screen pixel
  const all = drawing ? [marks, drawing] : [marks];
  for (const [colour, width] of [["rgba(0,0,0,.55)", 5], ["#ffb52e", 2.5]]) {
    pen.strokeStyle = pen.fillStyle = colour;
    for (const m of all) {
      pen.lineWidth = width * px;
      for (const [x0, y0, x1, y1] of m.boxes) pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
      for (const [x, y] of m.points) {
        pen.beginPath();
        pen.arc(x, y, (width + 4) * px, 0, 7);
        pen.fill();
      }
    }
  }
  pen.lineCap = pen.lineJoin = "round";
  pen.strokeStyle = "rgba(255,181,46,.55)";
  for (const m of all)
    for (const stroke of m.strokes) {
      pen.lineWidth = stroke.width;
      pen.beginPath();
      stroke.path.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
      if (stroke.path.length === 1) pen.lineTo(stroke.path[0][0] + 0.01, stroke.path[0][1]);
      pen.stroke();
    }
  if (cursor && document.activeElement === canvas) {
    for (const [colour, width] of [["rgba(0,0,0,.6)", 4], ["#fff", 1.5]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = width * px;
      pen.beginPath();
      pen.moveTo(cursor[0] - 12 * px, cursor[1]);
      pen.lineTo(cursor[0] + 12 * px, cursor[1]);
      pen.moveTo(cursor[0], cursor[1] - 12 * px);
      pen.lineTo(cursor[0], cursor[1] + 12 * px);
      pen.stroke();
    }
  }
}

function show() {
  const value = size();
  stage.style.aspectRatio = `${value.width} / ${value.height}`;
  stage.style.setProperty("--ratio", value.width / value.height);
  if (value.token && value.token !== shownToken) {
    if (shownToken && stage.getBoundingClientRect().top < 0) element.scrollIntoView({ block: "start", behavior: "smooth" });
    shownToken = value.token;
    photo.src = value.url;
    photo.alt = value.name || "your image";
    const begun = opening === value.name && (waiting || drawing || history.length);
    opening = value.pending ? value.name : null;
    if (!begun) {
      history = [];
      drawing = cursor = null;
      marks = { ...nothing(), ...(value.prompt || {}) };
    }
    showSuggestions(value.suggestions || []);
    showSamples(value.samples || []);
  }
  heat.hidden = !value.heat;
  if (value.heat) heat.src = value.heat;
  outline.hidden = !value.outline;
  if (value.outline) outline.src = value.outline;
  element.querySelector(".summary").textContent = value.summary || "";
  draw();
  if (waiting && !value.pending) {
    waiting = false;
    trigger("submit", { prompt: marks, token: shownToken, late: true });
  }
}

function showSuggestions(suggestions) {
  const chips = suggestions.map(({ name, box }) => {
    const chip = document.createElement("button");
    chip.type = "button";
    chip.textContent = name;
    chip.addEventListener("click", () => finish({ ...nothing(), boxes: [[...box]] }));
    return chip;
  });
  const row = element.querySelector(".suggestions");
  row.hidden = !chips.length;
  row.querySelector("span").replaceChildren(...chips);
}

function showSamples(samples) {
  const cards = samples.map(({ id, url, name }) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = name;
    button.setAttribute("aria-label", `Use this image: ${name}`);
    const image = document.createElement("img");
    image.alt = "";
    if (url) image.src = url;
    button.append(image);
    button.addEventListener("click", () => {
      waiting = false;
      trigger("select", { id });
    });
    return button;
  });
  element.querySelector(".samples span").replaceChildren(...cards);
}

function submit() {
  waiting = Boolean(size().pending);
  if (waiting) return;
  trigger("submit", { prompt: marks, token: shownToken });
}

function finish(mark) {
  history.push(marks);
  const adds = mark.strokes.length && marks.strokes.length;
  marks = adds ? { ...marks, strokes: [...marks.strokes, ...mark.strokes] } : mark;
  drawing = null;
  draw();
  submit();
}

function begin([x, y]) {
  if (tool === "box") drawing = { ...nothing(), boxes: [[x, y, x, y]] };
  if (tool === "brush") drawing = { ...nothing(), strokes: [{ path: [[x, y]], width: brush() }] };
  if (tool === "point") drawing = { ...nothing(), points: [[x, y]] };
}

function extend([x, y]) {
  if (!drawing) return;
  if (drawing.points.length) drawing.points[0] = [x, y];
  if (drawing.boxes.length) drawing.boxes[0].splice(2, 2, x, y);
  if (drawing.strokes.length) drawing.strokes[0].path.push([x, y]);
  draw();
}

function end() {
  if (!drawing) return;
  const [box] = drawing.boxes;
  const small = Math.max(size().width, size().height) / 100;
  const sides = box ? [Math.abs(box[2] - box[0]), Math.abs(box[3] - box[1])] : [];
  if (box && Math.max(...sides) < small) {
    finish({ ...nothing(), points: [[box[0], box[1]]] }); // a click with the box tool means a point
  } else if (box && Math.min(...sides) < small) {
    drawing = null; // a finger that meant to scroll
    draw();
  } else finish(drawing);
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  canvas.setPointerCapture(event.pointerId);
  cursor = null;
  begin(toImage(event));
  draw();
});
canvas.addEventListener("pointermove", (event) => extend(toImage(event)));
canvas.addEventListener("pointerup", end);
canvas.addEventListener("pointercancel", () => {
  drawing = null;
  draw();
});

canvas.addEventListener("keydown", (event) => {
  const { width, height } = size();
  const step = Math.max(width, height) / (event.shiftKey ? 100 : 25);
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (event.key in moves) {
    cursor ||= [width / 2, height / 2];
    const [dx, dy] = moves[event.key];
    cursor = [
      Math.min(Math.max(cursor[0] + dx * step, 0), width),
      Math.min(Math.max(cursor[1] + dy * step, 0), height),
    ];
    extend(cursor);
  } else if (event.key === " " || event.key === "Enter") {
    cursor ||= [width / 2, height / 2];
    if (drawing) end();
    else {
      begin(cursor);
      if (tool === "point") end();
    }
  } else if (event.key === "Escape") {
    if (drawing) drawing = null;
    else clear();
  } else return;
  event.preventDefault();
  draw();
});
const keys = element.querySelector(".keys");
canvas.addEventListener("focus", () => {
  keys.hidden = !canvas.matches(":focus-visible");
  if (canvas.matches(":focus-visible")) cursor ||= [size().width / 2, size().height / 2];
  draw();
});
canvas.addEventListener("blur", () => {
  keys.hidden = true;
  draw();
});

function clear() {
  if (isEmpty(marks)) return;
  history.push(marks);
  marks = nothing();
  draw();
  submit();
}

for (const button of tools)
  button.addEventListener("click", () => {
    tool = button.dataset.tool;
    for (const other of tools) other.setAttribute("aria-pressed", String(other === button));
    canvas.classList.toggle("taps", tool === "point"); // a swipe scrolls past
  });
element.querySelector("[data-do=undo]").addEventListener("click", () => {
  if (!history.length) return;
  marks = history.pop();
  draw();
  submit();
});
element.querySelector("[data-do=clear]").addEventListener("click", clear);

new ResizeObserver(draw).observe(stage);
watch("value", show);
show();
