// What the reader has chosen outlives a reload of this page in this tab: theme, controls, folds, scroll, the circuit
// looked at. Kept by names, as the numbers change while a sweep runs; a browser that keeps nothing forgets it quietly.
const READER = `circuit-sweep ${location.pathname}`;
const remembered = (() => {
  try {
    const found = JSON.parse(sessionStorage.getItem(READER));
    return found !== null && typeof found === "object" ? found : {};
  } catch { return {}; }
})();
const keepers = []; // each gives what to keep, as {name: value}
window.addEventListener("pagehide", () => {
  if (document.documentElement.classList.contains("printing")) return;
  try { sessionStorage.setItem(READER, JSON.stringify(Object.assign({}, ...keepers.map((keep) => keep())))); } catch { /* see above */ }
});

// Elements by a name that a longer sweep leaves as it is: the section, the heading above, its words without numbers and plurals.
function namedParts(selector, words) {
  const found = new Map(), seen = new Map();
  let heading = "";
  for (const part of document.querySelectorAll(`main > section, main h3, ${selector}`)) {
    if (part.matches("section")) heading = part.id;
    else if (part.matches("h3")) heading = `${part.closest("section").id} ${part.textContent}`;
    else {
      const name = `${heading} ${words(part).replace(/\d[\d,.]*|s\b/g, "")}`, nth = seen.get(name) ?? 0;
      seen.set(name, nth + 1);
      found.set(`${name} ${nth}`, part);
    }
  }
  return found;
}
const folds = namedParts("main details", (details) => details.querySelector("summary").textContent);
const charted = namedParts("figure.chart", (figure) => figure.closest("details")?.querySelector("summary").textContent ?? "");
const wordsOf = (input) => input.closest("label").querySelector("span:not(.swatch)").firstChild.textContent;

// A control of a figure and its state, by name: the text of the chosen option, or whether a box is ticked.
const controlsOf = (figure) => [...figure.querySelectorAll("select[data-control], input")].map((input) => {
  const told = input.matches("select") ? `select ${input.dataset.control}` : `${input.dataset.control ?? ""} ${wordsOf(input)}`;
  return [told, input];
});
keepers.push(() => ({
  folds: Object.fromEntries([...folds].map(([name, details]) => [name, details.open])),
  controls: Object.fromEntries([...charted].map(([name, figure]) => [name, Object.fromEntries(controlsOf(figure).map(
    ([told, input]) => [told, input.matches("select") ? input.selectedOptions[0]?.textContent : input.checked]))])),
}));

for (const [name, details] of folds) details.open = remembered.folds?.[name] ?? details.open;
for (const [name, figure] of charted) {
  for (const [told, input] of controlsOf(figure)) {
    const was = remembered.controls?.[name]?.[told];
    if (typeof was === "boolean") input.checked = was;
    else for (const option of input.options ?? []) if (option.textContent === was) input.value = option.value;
  }
}

// Where the page stands: in which section, how far below its top.
const sections = [...document.querySelectorAll("main > section")];
keepers.push(() => {
  const at = sections.findLast((section) => section.getBoundingClientRect().top <= 1);
  return { scroll: { section: at?.id ?? "", below: at ? -at.getBoundingClientRect().top : window.scrollY } };
});
function scrollBack() {
  const [visit] = performance.getEntriesByType("navigation"), was = remembered.scroll;
  if (!Number.isFinite(was?.below) || (visit && visit.type === "navigate" && location.hash)) return;
  const section = document.getElementById(was.section);
  const go = () => window.scrollTo({ top: (section ? section.getBoundingClientRect().top + window.scrollY : 0) + was.below, behavior: "instant" });
  // What is drawn late above it moves the page, until the reader does.
  const settling = new ResizeObserver(go), ended = new AbortController();
  const end = () => { settling.disconnect(); ended.abort(); };
  settling.observe(document.getElementById("main"));
  for (const moved of ["wheel", "pointerdown", "keydown", "touchstart"]) window.addEventListener(moved, end, { signal: ended.signal, passive: true });
  setTimeout(end, 3000);
  go();
}
if (remembered.scroll) history.scrollRestoration = "manual";
