// On a narrow screen long tables and remarks start short, each with a button for the rest; a wide screen and paper
// show them whole (report.css). What the reader has opened stays open over a reload.
const NARROW = window.matchMedia("(max-width: 640px)");
const FEW = { cards: 3, rows: 10, letters: 220 }; // a row with long cells is a card there

function shortened(part, all) {
  const button = document.createElement("button");
  const tell = (whole) => {
    part.classList.toggle("whole", whole);
    button.setAttribute("aria-expanded", whole);
    button.textContent = whole ? "Show less" : all;
  };
  part.classList.add("short");
  Object.assign(button, { type: "button", className: "more", onclick: () => tell(!part.classList.contains("whole")) });
  part.after(button);
  return tell;
}

const shorts = new Map();
for (const [name, place] of namedParts(".scroll:has(> table)", (scroll) => scroll.querySelector("caption").textContent)) {
  const stacked = place.querySelector(".stacked"), rows = place.querySelectorAll("tbody tr").length;
  if (rows > (stacked ? FEW.cards : FEW.rows) + 1) shorts.set(`table ${name}`, [place, shortened(place, `Show all ${rows} rows`)]);
}
for (const [name, part] of namedParts("main p:not([aria-hidden])", (paragraph) => paragraph.textContent.slice(0, 40))) {
  if (part.textContent.length > FEW.letters) shorts.set(`text ${name}`, [part, shortened(part, "Read on")]);
}
for (const [name, [, tell]] of shorts) tell(remembered.whole?.includes?.(name) ?? false);
keepers.push(() => ({ whole: [...shorts].filter(([, [part]]) => part.classList.contains("whole")).map(([name]) => name) }));

// Folds without a figure start folded there: a phone has no room for tables that nobody asked for.
for (const [name, details] of folds) {
  if (NARROW.matches && remembered.folds?.[name] === undefined && !details.querySelector("figure")) details.open = false;
}
