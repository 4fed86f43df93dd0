// Draws a circuit as SVG: layers as rows, each writer one trunk, a branch for each edge (as `circuit draw`).
const UNIT = 62, BOX = 26, LABELS = 104; // pixels: a node's width with its gap, its height, the rows' names
const PORTS = { q: -0.3, k: 0, v: 0.3 };
const SHORT = { tok_embeds: "tok", pos_embeds: "pos" };

function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function decodedGraph(told, kinds) {
  const nodes = told.nodes.map(([name, layer, level], number) => ({ number, name, layer, level }));
  const readers = told.readers.map(([name, node, kind, inside]) => ({ name, node, kind: kinds[kind], inside }));
  const edges = decodedMembers(told.pairs).map((pair, id) => {
    const number = pair % readers.length, writer = (pair - number) / readers.length, reader = readers[number];
    const rises = nodes[writer].level < nodes[reader.node].level;
    return { id, writer, node: reader.node, kind: reader.kind, inside: reader.inside, rises,
      from: nodes[writer].name, to: reader.name, label: `${nodes[writer].name} → ${reader.name}` };
  });
  return { layers: told.layers, rows: told.rows, nodes, edges };
}

// Where everything lies for these edges, in pixels, y downwards.
function geometry(graph, edges) {
  const writers = new Set(edges.map((edge) => edge.writer));
  const links = edges.map((edge) => [edge.writer, edge.node]);
  for (const edge of edges) for (const head of edge.inside) if (writers.has(head)) links.push([edge.node, head]);
  const present = [...new Set(links.flat())].sort((one, other) => one - other);
  const levels = [...new Set(present.map((node) => graph.nodes[node].level))].sort((one, other) => one - other);
  const rowOf = new Map(present.map((node) => [node, levels.indexOf(graph.nodes[node].level)]));
  const { rows, x, above, item } = layered(rowOf, links);
  const heights = [0];
  rows.slice(0, -1).forEach((row) => {
    const spread = row.reduce((sum, low) => sum + (above.get(low) ?? []).reduce(
      (inner, high) => inner + Math.min(Math.abs(x.get(low) - x.get(high)), 4), 0), 0);
    heights.push(heights.at(-1) + 52 + Math.min(80, 0.8 * spread));
  });
  const at = (node, row) => ({ x: x.get(item(node, row)) * UNIT, y: -heights[row] });
  const xs = [...x.values()].map((value) => value * UNIT);
  const left = Math.min(...xs) - UNIT * 0.75, right = Math.max(...xs) + UNIT * 0.75;
  return { graph, levels, rowOf, heights, at, left, right, present, inside: links.slice(edges.length) };
}

const bend = (start, end) => {
  const middle = (start.y + end.y) / 2;
  return `M${start.x.toFixed(1)} ${start.y.toFixed(1)}C${start.x.toFixed(1)} ${middle.toFixed(1)} ` +
    `${end.x.toFixed(1)} ${middle.toFixed(1)} ${end.x.toFixed(1)} ${end.y.toFixed(1)}`;
};

// The trunk of a node up to, not into, a row.
function trunk(place, node, row) {
  let path = "";
  for (let step = place.rowOf.get(node); step < row - 1; step += 1) {
    const start = place.at(node, step);
    if (step === place.rowOf.get(node)) start.y -= BOX / 2;
    path += bend(start, place.at(node, step + 1));
  }
  return path;
}

function branch(place, edge) {
  const [start, end] = edgeEnds(place, edge);
  return bend(start, end);
}

// Where the last piece of an edge's line starts and ends; on a grid it is the whole line.
function edgeEnds(place, edge) {
  const row = place.rowOf.get(edge.node), own = place.rowOf.get(edge.writer), from = place.dense ? own : row - 1;
  const start = place.at(edge.writer, from), end = place.at(edge.node, row);
  if (own === from) start.y -= BOX / 2;
  end.y += BOX / 2;
  const port = edge.inside.length > 0 ? { k: -0.2, v: 0.2 }[edge.kind] : PORTS[edge.kind] ?? 0;
  end.x = edge.kind === "output" ? start.x : end.x + port * UNIT * 0.86;
  return [start, end];
}

const wholePath = (place, edge) => (place.dense ? "" : trunk(place, edge.writer, place.rowOf.get(edge.node))) + branch(place, edge);

// Wider for higher scores: with the square root of how high a score lies.
function widths(scores) {
  const high = (scores ?? []).reduce((most, score) => Math.max(most, score), -Infinity);
  const low = (scores ?? []).reduce((least, score) => Math.min(least, score), 0);
  return (score) => (!scores || scores.every((one) => one === scores[0]) ? 1.5 : 0.9 + 2.6 * Math.sqrt((score - low) / (high - low)));
}

// `shown`: [{edge, score, marks: class names}]; `ghosts`: the same for edges that are not kept.
function circuitPicture(place, shown, ghosts, circuit) {
  const width = widths(circuit.scores);
  const tops = new Map();
  for (const { edge } of place.dense ? [] : shown) tops.set(edge.writer, Math.max(tops.get(edge.writer) ?? 0, place.rowOf.get(edge.node)));
  const trunks = [...tops].map(([node, row]) => {
    const path = trunk(place, node, row);
    return path && svg("g", { "data-node": node }, svg("path", { class: "trunk", d: path }), svg("path", { class: "hit", d: path }));
  }).filter(Boolean);
  const alive = new Set(shown.flatMap(({ edge }) => [edge.writer, edge.node]));
  const dim = new Set(ghosts.flatMap(({ edge }) => [edge.writer, edge.node]).filter((node) => !alive.has(node)));
  const inside = place.inside.filter(([low, high]) => alive.has(low) && alive.has(high)).map(([low, high]) => {
    const start = place.at(low, place.rowOf.get(low)), end = place.at(high, place.rowOf.get(high));
    return svg("path", { class: "inside", d: bend({ x: start.x, y: start.y - BOX / 2 }, { x: end.x, y: end.y + BOX / 2 }) });
  });
  const lines = (entries, kept) => entries.map(({ edge, score, marks }) => {
    const path = kept ? branch(place, edge) : wholePath(place, edge);
    const parts = [svg("path", { class: "line", d: path, "stroke-width": kept ? width(score).toFixed(2) : null }), svg("path", { class: "hit", d: path })];
    if (marks.includes("added")) parts.unshift(svg("path", { class: "halo", d: path }));
    return svg("g", { class: ["edge", `kind-${edge.kind}`, ...marks].join(" "), "data-edge": edge.id, "data-name": edge.label }, ...parts);
  });
  return [
    ...bands(place),
    svg("g", { class: "ghosts" }, ...lines(place.dense ? [] : ghosts, false)),
    svg("g", { class: "insides" }, ...inside),
    svg("g", { class: "trunks" }, ...trunks),
    svg("g", { class: "kept" }, ...lines(place.dense ? [] : [...shown].sort((one, other) => width(other.score) - width(one.score)), true)),
    svg("g", { class: "lit" }),
    svg("g", { class: "nodes" }, ...place.present.filter((node) => alive.has(node) || dim.has(node)).map((node) => box(place, node, dim.has(node)))),
  ];
}

function bands(place) {
  const layers = new Map();
  const names = place.levels.map((level, row) => {
    const node = place.present.find((one) => place.rowOf.get(one) === row);
    const layer = place.graph.nodes[node].layer;
    layers.set(layer, [...(layers.get(layer) ?? []), place.heights[row]]);
    return svg("text", { class: "row", x: place.left - 10, "data-x": place.left - 10, y: -place.heights[row] + 4, "text-anchor": "end" }, place.graph.rows[level]);
  });
  const tints = [...layers].filter(([layer]) => layer % 2 === 1 && !place.dense).map(([, heights]) => svg("rect", {
    class: "band", x: place.left - LABELS, y: -Math.max(...heights) - BOX, width: place.right - place.left + LABELS,
    height: Math.max(...heights) - Math.min(...heights) + 2 * BOX,
  }));
  return [...tints, svg("g", { class: "rows", "aria-hidden": "true" }, ...names)];
}

function box(place, node, dim) {
  const { name, level } = place.graph.nodes[node], own = place.at(node, place.rowOf.get(node));
  const output = name === "resid_post";
  const width = output ? place.right - place.left : UNIT * 0.92, x = output ? (place.left + place.right) / 2 : own.x;
  const label = SHORT[name] ?? (name.length > 10 ? `${name.slice(0, 8)}…` : name);
  const kind = /^m\d+$/.test(name) ? "mlp" : /^a\d/.test(name) ? "head" : level === 0 ? "embedding" : "output";
  return svg("g", { class: `node ${kind}${dim ? " absent" : ""}`, "data-node": node, tabindex: -1, role: "button" },
    svg("rect", { x: x - width / 2, y: own.y - BOX / 2, width, height: BOX, rx: 5 }),
    svg("text", { x, y: own.y + 4, "text-anchor": "middle" }, label));
}
