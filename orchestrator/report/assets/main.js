// Draws the charts of the page, now and when a control, a section or the theme changes. Comes last.
const states = new Map();
const figures = [...document.querySelectorAll("figure.chart")];

function draw(figure) {
  const { form, data } = charts[figure.id];
  const state = states.get(figure.id);
  for (const input of figure.querySelectorAll("select[data-control], [data-control]:checked")) state[input.dataset.control] = input.value;
  for (const box of figure.querySelectorAll("[data-switch]")) state[box.dataset.switch] = box.checked;
  state.hidden = new Set([...figure.querySelectorAll("[data-method]:not(:checked)")].map((box) => box.dataset.method));
  for (const place of figure.querySelectorAll(".swatch")) place.innerHTML = swatch(Number(place.dataset.slot), "hollow" in place.dataset);
  const { traces, layout: look, note = "", disabled = {}, absent = [] } = FORMS[form](data, state);
  for (const [name, off] of Object.entries(disabled)) {
    for (const input of figure.querySelectorAll(`[data-control="${name}"]`)) input.disabled = off;
  }
  for (const box of figure.querySelectorAll("[data-method]")) box.closest("label").hidden = absent.includes(box.dataset.method);
  const told = figure.querySelector(".note");
  if (told && told.textContent !== note) told.textContent = note;
  figure.dataset.drawn = "";
  const plot = figure.querySelector(".plot");
  // Plotly looks at its place's size when a window changes; paper changes none.
  if (root.classList.contains("printing")) Object.assign(look, { width: plot.clientWidth, height: plot.clientHeight });
  Plotly.react(plot, traces, look, CONFIG);
  // The figure has a name and a table; its loose ticks say nothing to a screen reader.
  for (const part of plot.querySelectorAll(".main-svg")) part.setAttribute("aria-hidden", "true");
  plot.querySelector(".modebar")?.setAttribute("aria-label", "Tools of the figure");
}

// A chart inside a closed section has no size yet; it is drawn when the section opens.
const visible = (figure) => !figure.closest("details:not([open])");
const drawAll = () => figures.filter(visible).forEach(draw);

// One chart at a time, so that the page can be read and used meanwhile.
function drawNext() {
  const next = figures.find((figure) => visible(figure) && !("drawn" in figure.dataset));
  if (!next) return;
  draw(next);
  setTimeout(drawNext, 0);
}

function setTheme(name) {
  root.dataset.theme = name;
  const other = name === "dark" ? "Light" : "Dark";
  const button = document.getElementById("theme");
  button.textContent = other;
  button.setAttribute("aria-label", `${other} theme`);
  figures.filter((figure) => "drawn" in figure.dataset && visible(figure)).forEach(draw);
}

// Paper is light, narrow, and shows what is folded.
const printing = { theme: "", opened: [] };
function startPrint() {
  if (root.classList.contains("printing")) return;
  printing.theme = theme();
  printing.opened = [...document.querySelectorAll("details:not([open])")];
  for (const details of printing.opened) details.open = true;
  root.classList.add("printing");
  root.dataset.theme = "light";
  drawAll();
}
function endPrint() {
  root.classList.remove("printing");
  for (const details of printing.opened) details.open = false;
  setTheme(printing.theme);
  for (const figure of figures) {
    if ("drawn" in figure.dataset && visible(figure)) Plotly.relayout(figure.querySelector(".plot"), { autosize: true });
  }
}

// The section that is read is marked in the navigation, which follows it sideways.
function follow() {
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const watch = new IntersectionObserver((entries) => {
    const seen = entries.filter((entry) => entry.isIntersecting)[0];
    const link = seen && links.get(seen.target.id);
    if (!link) return;
    for (const other of links.values()) other.removeAttribute("aria-current");
    link.setAttribute("aria-current", "location"); // an empty one is as none to a screen reader
    const bar = link.parentElement;
    bar.scrollLeft += link.getBoundingClientRect().left - bar.getBoundingClientRect().left - 24;
  }, { rootMargin: "-20% 0px -75% 0px" });
  for (const section of document.querySelectorAll("main > section")) watch.observe(section);
}

// A table wider than its place says so, and can be reached to be moved.
const cutTables = new ResizeObserver((entries) => entries.forEach(({ target }) => {
  const cut = target.scrollWidth > target.clientWidth + 1;
  target.classList.toggle("cut", cut);
  target.tabIndex = cut ? 0 : -1;
}));
for (const place of document.querySelectorAll(".scroll")) cutTables.observe(place);
for (const figure of figures) {
  states.set(figure.id, {});
  figure.addEventListener("change", () => draw(figure));
}
for (const details of document.querySelectorAll("details")) {
  details.addEventListener("toggle", () => details.open && !root.classList.contains("printing") &&
    details.querySelectorAll("figure.chart").forEach((figure) => visible(figure) && draw(figure)));
}
let chosenTheme = ["dark", "light"].includes(remembered.theme) ? remembered.theme : null;
keepers.push(() => ({ theme: chosenTheme }));
document.getElementById("theme").addEventListener("click", () => setTheme(chosenTheme = theme() === "dark" ? "light" : "dark"));
byTheme.addEventListener("change", (event) => { chosenTheme = null; setTheme(event.matches ? "dark" : "light"); });
window.addEventListener("beforeprint", startPrint);
window.addEventListener("afterprint", endPrint);
setTheme(chosenTheme ?? (byTheme.matches ? "dark" : "light"));
scrollBack();
requestAnimationFrame(drawNext);
follow();
