// What the circuits view is made of: its controls, its list of edges, its tables for circuits the page has no room for.
const LIMITS = [100, 300, 800, 3000];
const toSee = (circuit) => `circuit-sweep circuit show ${circuit.trial.slice(0, 8)} --point ${circuit.point}`;
const LISTED = 500; // edges in the list
function explorerParts(home, open) {
  const { look, data } = open, parts = { changed: () => {} };
  const after = (change) => (event) => { change(event); parts.changed(); };
  const select = (label, name, change, said = label) => {
    parts[name] = h("select", { "aria-label": said, onchange: after((event) => change(event.target.value)) });
    return h("label", { class: "pick" }, h("span", {}, label), parts[name]);
  };
  const button = (name, text, label, click = null) => {
    parts[name] = h("button", { type: "button", "aria-label": label, title: label, onclick: click && after(click) }, text);
    return parts[name];
  };
  const boxes = (label, name, entries) => {
    parts[name] = entries.map(([value, text]) => h("input", { type: "checkbox", value, checked: true, onchange: after((event) => {
      if (event.target.checked) look[name].add(value); else look[name].delete(value);
    }) }));
    return h("fieldset", { class: "filter" }, h("legend", {}, label), ...entries.map(([value, text], at) => h("label", {}, parts[name][at],
      name === "kinds" ? h("span", { class: `key kind-${value}`, "aria-hidden": "true" }) : "", text)));
  };
  parts.slider = h("input", { type: "range", min: 0, step: 1, "aria-label": "Circuit on the front, from few edges to many",
    oninput: after((event) => open.move(Number(event.target.value))) });
  const step = (by) => () => open.move(Math.max(0, Math.min(open.view().circuits.length - 1, look.at + by)));
  parts.count = h("span", { class: "count" });
  parts.printed = h("p", { class: "quiet printed" });
  parts.words = h("p", { class: "words" });
  parts.changes = h("p", { class: "change", "aria-live": "polite" });
  parts.kept = h("p", { class: "quiet" });
  parts.legend = h("p", { class: "quiet marks" });
  const dense = h("div", { class: "picks" }, select("Scene", "scenes", (value) => open.choose("scene", Number(value))),
    select("Method", "methods", (value) => open.choose("method", Number(value))),
    select("Front", "views", (value) => open.choose("view", Number(value))));
  const along = h("div", { class: "along" }, h("span", { "aria-hidden": "true" }, "fewer edges"), button("previous", "◀", "Sparser circuit", step(-1)), parts.slider,
    button("next", "▶", "Denser circuit", step(1)), h("span", { "aria-hidden": "true" }, "more edges"), parts.count);
  parts.filters = h("details", { open: window.innerWidth > 640 }, h("summary", {}, "Filters and marks"), h("div", { class: "filters" },
    boxes("Edges into", "kinds", data.kinds.map((kind) => [kind, KIND_NAMES[kind]])),
    boxes("Edges from", "origins", data.origins.map((name) => [name, name])),
    h("fieldset", { class: "filter" }, h("legend", {}, "Layers"), select("from", "lows", (value) => { look.low = Number(value); }, "From layer"),
      select("to", "highs", (value) => { look.high = Number(value); }, "To layer")),
    h("fieldset", { class: "filter" }, h("legend", {}, "Scores"),
      select("Edges shown", "limits", (value) => { look.limit = Number(value); }, "Edges shown, the highest scores first")),
    h("fieldset", { class: "filter" }, h("legend", {}, "Drawing"), select("mark", "marks", (value) => { look.mark = value; }, "Mark in the drawing"),
      select("places", "places", (value) => { look.fitted = value === "fitted"; }, "Places of the nodes"))));
  home.append(dense, along, parts.printed, parts.words, parts.changes, parts.filters, ...stageParts(parts, open, after));
  fillSelect(parts.scenes, data.scenes.map((scene) => scene.title));
  parts.scenes.parentNode.hidden = data.scenes.length < 2;
  fillSelect(parts.places, ["the same along the front", "fitted to this circuit"], ["front", "fitted"]);
  return parts;
}

function stageParts(parts, open, after) {
  parts.canvas = h("canvas", { class: "dense", "aria-hidden": "true" });
  parts.world = svg("g", { class: "camera" });
  parts.picture = svg("svg", { class: "circuit-picture" }, parts.world);
  parts.tip = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
  parts.nothing = h("p", { class: "nothing", hidden: true });
  for (const [name, text, label] of [["zoomIn", "+", "Zoom in"], ["zoomOut", "−", "Zoom out"], ["zoomFit", "Fit", "Show the whole drawing"]]) {
    parts[name] = h("button", { type: "button", "aria-label": label, title: label }, text);
  }
  parts.stage = h("div", { class: "stage", tabindex: 0, role: "group",
    "aria-label": "Drawing of the circuit. Arrow keys move it, plus and minus zoom, 0 shows all; Enter goes to its nodes, arrow keys from node to node. The list holds the same edges." },
    parts.canvas, parts.picture, parts.tip, parts.nothing);
  const zooms = h("div", { class: "zooms" }, parts.zoomIn, parts.zoomOut, parts.zoomFit);
  parts.orders = h("select", { "aria-label": "Order of the edges", onchange: after((event) => { open.look.order = event.target.value; }) });
  fillSelect(parts.orders, Object.values(ORDERS), Object.keys(ORDERS));
  parts.lists = h("select", { "aria-label": "Edges listed", onchange: after((event) => { open.look.listed = event.target.value; }) });
  fillSelect(parts.lists, Object.values(LISTS), Object.keys(LISTS));
  parts.title = h("h3", {});
  parts.list = h("ul", { class: "edge-list", role: "listbox", tabindex: 0, "aria-label": "Edges" });
  parts.large = h("div", { class: "large-tables" });
  const hint = h("p", { class: "quiet hint" }, "Click the drawing to zoom with the wheel (or hold Ctrl); drag to move, pinch to zoom. A click on a node or an edge holds it.");
  parts.body = h("div", { class: "body" }, h("div", { class: "drawing" }, h("div", { class: "frame" }, parts.stage, zooms), parts.legend, hint),
    h("div", { class: "listed" }, h("div", { class: "listed-head" }, parts.title, h("div", {}, parts.lists, " ", parts.orders)), parts.list, parts.kept), parts.large);
  return [parts.body];
}

function fillSelect(select, texts, values = texts.map((_, at) => at), chosen = null) {
  select.replaceChildren(...texts.map((text, at) => h("option", { value: values[at] }, text)));
  if (chosen !== null) select.value = String(chosen);
}

// Sets every control to what is looked at.
function syncParts(parts, open) {
  const { look } = open, view = open.view(), last = view.circuits.length - 1, layers = open.graph().layers;
  parts.scenes.value = look.scene;
  parts.orders.value = look.order;
  parts.lists.value = look.listed;
  fillSelect(parts.methods, open.scene().methods.map((method) => method.name), undefined, look.method);
  fillSelect(parts.views, open.method().views.map(({ seed }) => (seed === null ? "of all seeds" : `of seed ${seed}`)), undefined, look.view);
  fillSelect(parts.lows, layers, undefined, look.low);
  fillSelect(parts.highs, layers, undefined, look.high);
  const circuit = open.circuit(look.at);
  const first = circuit.n > open.data.drawn ? `the highest ${READABLE_EDGES}` : "all";
  fillSelect(parts.limits, [`readable (${first})`, ...LIMITS.map((most) => `the highest ${most.toLocaleString("en-US")}`), "all"],
    [0, ...LIMITS, Infinity], look.limit);
  parts.limits.disabled = !ranks(circuit) || circuit.n <= LIMITS[0];
  const marks = Object.keys(MARKS).filter((mark) => mark !== "known" || open.scene().truth !== null);
  if (!marks.includes(look.mark)) look.mark = "changes";
  fillSelect(parts.marks, marks.map((mark) => MARKS[mark]), marks, look.mark);
  for (const name of ["kinds", "origins"]) for (const box of parts[name]) box.checked = look[name].has(box.value);
  Object.assign(parts.slider, { max: last, value: look.at, disabled: last === 0 });
  parts.slider.setAttribute("aria-valuetext", circuitWords(open));
  parts.previous.disabled = look.at === 0;
  parts.next.disabled = look.at === last;
  const thinned = view.on_front > view.circuits.length ? ` (of ${view.on_front} on the front)` : "";
  parts.count.textContent = `circuit ${look.at + 1} of ${last + 1}${thinned}`;
}

function fillList(parts, open, found, dense) {
  const { look } = open, sort = {
    layer: (one, other) => one.edge.id - other.edge.id,
    score: (one, other) => other.score - one.score || one.edge.id - other.edge.id,
    seeds: (one, other) => other.seeds - one.seeds || one.edge.id - other.edge.id,
    changes: (one, other) => changed(other) - changed(one) || one.edge.id - other.edge.id,
  }[look.order];
  const changed = ({ marks }) => (marks.includes("added") ? 2 : marks.includes("vanished") ? 1 : 0);
  const chosen = look.order === "changes" ? [...found.kept, ...found.ghosts].sort(sort) : [...[...found.kept].sort(sort), ...found.ghosts];
  const listed = look.listed === "all" ? chosen : found.changes[look.listed].sort(sort), entries = listed.slice(0, LISTED), whole = listed.length;
  const sign = ({ marks }) => (marks.includes("vanished") ? "−" : marks.includes("missing") ? "✗" : look.mark === "changes" && marks.includes("added") ? "+"
    : look.mark === "known" && marks.includes("known") ? "✓" : "");
  parts.list.replaceChildren(...entries.map((entry, at) => h("li", {
    role: "option", id: `${parts.list.closest(".circuits").id}-edge-${at}`, "aria-selected": "false", "data-edge": entry.edge.id,
    class: [...entry.marks, ...(entry.loose ? ["loose"] : [])].join(" "),
    "aria-label": [`${entry.edge.from} to ${entry.edge.to}`, ...edgeWords(open, entry, found)].join(", "),
  }, h("span", { class: "sign" }, sign(entry)), h("span", { class: `name kind-${entry.edge.kind}` }, entry.edge.label),
  h("span", { class: "score" }, entry.score === null ? "" : String(Number(entry.score.toPrecision(2)))),
  h("span", { class: "seeds" }, entry.seeds === null ? "" : `${entry.seeds}/${found.circuit.of}`))));
  parts.list.removeAttribute("aria-activedescendant");
  const hidden = found.circuit.n - found.kept.length, filtered = found.circuit.n - found.passed, cut = hidden - filtered;
  parts.title.textContent = hidden ? `${found.kept.length.toLocaleString("en-US")} of ${many(found.circuit.n, "edge")}` : many(found.circuit.n, "edge");
  parts.printed.textContent = [open.scene().title, open.method().name, `the front ${parts.views.selectedOptions[0].textContent}`,
    parts.count.textContent, `${parts.title.textContent} shown`].join(" · ");
  const loose = found.kept.filter((entry) => entry.loose).length;
  parts.kept.textContent = [
    filtered ? `${many(filtered, "edge")} hidden by the filters.` : "",
    cut ? `The strongest ${found.kept.length.toLocaleString("en-US")} shown, ${look.mark === "changes" ? "those that appear first where they are fewer " : ""}` +
      "(choose more under Edges shown)." : "",
    look.listed !== "all" && !whole ? "No such edge." : "",
    found.circuit.of === undefined ? `The page has no room for its scores and stability: ${toSee(found.circuit)} lists them.` : "",
    whole > LISTED ? `The first ${LISTED} in this order are listed.` : "",
    loose ? `${many(loose, "kept edge")} on no path from an embedding to the output, not drawn.` : "",
    found.circuit.n && found.circuit.scores ? "Columns: score" + (found.circuit.onSeeds ? ", seeds that keep it." : ".") : "",
  ].join(" ").trim();
  parts.legend.textContent = {
    changes: "Haloed (+): appears here. Dashed grey (−): vanished.",
    known: `Solid (✓): in the known circuit. Dashed: not in it. ${dense ? "Dashed grey" : "Dotted"} (✗): in it, missing here.`,
    nothing: "",
  }[look.mark] + (dense ? " Point at a line or a node." : "") + (ranks(found.circuit) ? " Wide: high score." : "");
}

// A circuit the page has no room for: how many edges lead from layer to layer, and from kind to kind.
function summaryTables(open, circuit) {
  const { data } = open, layers = open.graph().layers;
  const text = (value) => (value === 0 ? "" : value < 1000 ? String(value) : `${(value / 1000).toPrecision(2)}k`);
  const table = (caption, corner, columns, rows) => {
    const most = Math.max(1, ...rows.flatMap(([, values]) => values));
    const head = h("tr", {}, h("th", { scope: "col" }, corner), ...columns.map((name) => h("th", { scope: "col" }, name)));
    const lines = rows.map(([name, values]) => h("tr", {}, h("th", { scope: "row" }, name),
      ...values.map((value, at) => h("td", { style: `--shade:${Math.round(100 * Math.sqrt(value / most))}%`,
        title: `${name} → ${columns[at]}: ${many(value, "edge")}` }, text(value)))));
    return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": caption },
      h("table", { class: columns.length > 12 ? "matrix dense" : "matrix" }, h("caption", {}, caption), h("thead", {}, head), h("tbody", {}, ...lines)));
  };
  const told = [h("p", { class: "quiet" }, `The page has no room for this circuit's ${many(circuit.n, "edge")}: ${toSee(circuit)} lists them. How many lead from where to where:`)];
  if (circuit.grid) {
    const values = decodedNumbers(circuit.grid), wide = layers.length;
    const filled = layers.map((name, at) => [name, values.slice(at * wide, (at + 1) * wide)]);
    const into = layers.map((_, at) => at).filter((at) => layers[at] !== "embeddings");
    told.push(table("Edges from layer (rows) to layer (columns)", "from ↓ to →", into.map((at) => layers[at]),
      filled.filter(([name]) => name !== "output").map(([name, row]) => [name, into.map((at) => row[at])])));
  }
  const kinds = data.kinds.length;
  told.unshift(table("Edges from kind (rows) to kind (columns)", "from ↓ to →", data.kinds.map((kind) => KIND_NAMES[kind]),
    data.origins.map((name, at) => [name, circuit.kinds.slice(at * kinds, (at + 1) * kinds)])));
  told.unshift(told.splice(1, 1)[0]);
  return told;
}
