// Attention map of each head. Value from the server: {heads: [{heat, on, forced}], url, ratio, token, fixed, note}. A pressed
// head is sent as a "select" event, {head, token of the image}: it is switched, or left to the method again.
const row = element.querySelector(".heads");

function show() {
  const { heads = [], url, ratio, token, fixed, note = "" } = props.value || {};
  element.querySelector(".about").textContent = note;
  if (ratio) row.style.setProperty("--ratio", ratio);
  const focused = [...row.children].indexOf(document.activeElement);
  row.replaceChildren(
    ...heads.map(({ heat, on, forced }, head) => {
      const button = document.createElement("button");
      button.type = "button";
      button.disabled = Boolean(fixed);
      button.setAttribute("aria-pressed", String(on));
      button.setAttribute("aria-label", `Head ${head + 1}${forced ? ", switched by hand" : ""}`);
      button.classList.toggle("forced", forced);
      for (const [name, src] of [["photo", url], ["heat", heat]]) {
        const image = document.createElement("img");
        image.className = name;
        image.src = src;
        image.alt = "";
        button.append(image);
      }
      const number = document.createElement("span");
      number.textContent = `${head + 1}${forced ? "*" : ""}`;
      button.append(number);
      button.addEventListener("click", () => trigger("select", { head, token }));
      return button;
    }),
  );
  if (focused >= 0 && row.children[focused]) row.children[focused].focus();
}

watch("value", show);
show();
