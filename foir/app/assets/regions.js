// Outlines of a picture's regions; comes before the scripts of the components that show pictures. `regions` are boxes
// [x, y, width, height] in percent of the picture, drawn where "object-fit: contain" puts it; `size` is its [width, height].
function outline({ size: [width, height], regions }) {
  const draw = (tag, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const svg = draw("svg", { class: "regions", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  for (const [x, y, w, h] of regions) {
    const box = { x: x * width / 100, y: y * height / 100, width: w * width / 100, height: h * height / 100 };
    svg.append(draw("rect", { ...box, class: "below" }), draw("rect", box));
  }
  return svg;
}
