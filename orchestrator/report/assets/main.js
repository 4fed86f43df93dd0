// Draws the charts of the page, now and when a control, a section or the theme changes. Comes last.
const states = new Map();

function draw(figure) {
  const { form, data } = charts[figure.id];
  const state = states.get(figure.id);
  for (const input of figure.querySelectorAll("[data-control]:checked")) state[input.dataset.control] = input.value;
  state.hidden = new Set([...figure.querySelectorAll("[data-method]:not(:checked)")].map((box) => box.dataset.method));
  for (const place of figure.querySelectorAll(".swatch")) place.innerHTML = swatch(Number(place.dataset.slot));
  const { traces, layout: look } = FORMS[form](data, state);
  Plotly.react(figure.querySelector(".plot"), traces, look, CONFIG);
}

// A chart inside a closed section has no size yet; it is drawn when the section opens.
const visible = (figure) => !figure.closest("details:not([open])");
const drawAll = () => document.querySelectorAll("figure.chart").forEach((figure) => visible(figure) && draw(figure));

function setTheme(name) {
  root.dataset.theme = name;
  const other = name === "dark" ? "Light" : "Dark";
  const button = document.getElementById("theme");
  button.textContent = other;
  button.setAttribute("aria-label", `${other} theme`);
  drawAll();
}

for (const figure of document.querySelectorAll("figure.chart")) {
  states.set(figure.id, {});
  figure.addEventListener("change", () => draw(figure));
}
for (const details of document.querySelectorAll("details")) {
  details.addEventListener("toggle", () => details.open && details.querySelectorAll("figure.chart").forEach(draw));
}
document.getElementById("theme").addEventListener("click", () => setTheme(theme() === "dark" ? "light" : "dark"));
byTheme.addEventListener("change", (event) => setTheme(event.matches ? "dark" : "light"));
window.addEventListener("beforeprint", () => setTheme("light"));
setTheme(byTheme.matches ? "dark" : "light");
