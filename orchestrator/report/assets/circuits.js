// The circuits on the fronts: choices, the slider along a front, filters, the drawing and its list of edges.
const KIND_NAMES = { q: "query", k: "key", v: "value", mlp: "MLP", output: "output" };
const MARKS = { changes: "what changes", known: "the known circuit", nothing: "nothing" };
const ORDERS = { layer: "by layer", score: "by score", seeds: "by stability", changes: "changes first" };
const LISTS = { all: "all edges", added: "that appear", vanished: "that vanish" };
const READABLE_EDGES = 300; // of a large circuit, shown at first
const many = (number, noun) => `${number.toLocaleString("en-US")} ${noun}${number === 1 ? "" : "s"}`;

// An element; names that start with "on" are listeners.
function h(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function decodedCircuit(told, graph) {
  if (told.edges === undefined) return { ...told, summary: true };
  const ids = decodedMembers(told.edges), scores = decodedScores(told, ids.length);
  const known = told.on !== undefined, on = known ? decodedSame(told.on, ids.length) : null;
  const nodes = [...new Set(ids.flatMap((id) => [graph.edges[id].writer, graph.edges[id].node]))].sort((a, b) => a - b);
  const nodesOn = known ? decodedSame(told.nodes, nodes.length) : null;
  const loose = new Set([...decodedMembers(told.loose), ...ids.filter((id) => !graph.edges[id].rises)]);
  return {
    ...told, summary: false, ids, loose, scores, kept: new Set(ids),
    place: new Map(ids.map((id, at) => [id, at])), onSeeds: on,
    onSeedsOfNode: nodesOn && new Map(nodes.map((node, at) => [node, nodesOn[at]])),
  };
}

// What is looked at: a scene, a method, a front, a place on it; and what of it is shown.
function openedCircuits(data) {
  const graphs = data.graphs.map((told) => decodedGraph(told, data.kinds));
  const decoded = new Map();
  const look = { scene: 0, method: 0, view: 0, at: 0, before: null, mark: "changes", fitted: false, order: "layer", listed: "all" };
  const scene = () => data.scenes[look.scene], method = () => scene().methods[look.method];
  const graph = () => graphs[scene().graph], view = () => method().views[look.view];
  const circuit = (at) => {
    const number = view().circuits[at];
    if (!decoded.has(number)) decoded.set(number, decodedCircuit(data.circuits[number], graph()));
    return decoded.get(number);
  };
  const drawn = (number) => data.circuits[number].edges !== undefined;
  const choose = (part, value) => {
    look[part] = value;
    if (part === "scene") look.method = Math.max(0, scene().methods.findIndex((one) => one.views[0].circuits.some(drawn)));
    if (part !== "view") look.view = 0;
    look.at = view().start;
    look.before = look.at > 0 ? look.at - 1 : null;
    if (part === "scene") everything();
  };
  const everything = () => Object.assign(look, {
    low: 0, high: graph().layers.length - 1, limit: 0, kinds: new Set(data.kinds), origins: new Set(data.origins),
  });
  const move = (at) => { if (at !== look.at) { look.before = look.at; look.at = at; } };
  const truth = () => new Set(scene().truth === null ? [] : decodedMembers(scene().truth));
  choose("scene", Math.max(0, data.scenes.findIndex((one) => one.methods.some(({ views }) => views[0].circuits.some(drawn)))));
  return { data, look, scene, method, graph, view, circuit, choose, move, truth, everything };
}

// What is looked at, by names that a longer front leaves as they are; and back to it, as far as it is still there.
function lookedAt(open) {
  const { look, data } = open, circuit = open.circuit(look.at), layers = open.graph().layers;
  return {
    scene: open.scene().title, method: open.method().name, seed: open.view().seed, trial: circuit.trial, point: circuit.point, n: circuit.n,
    moved: look.at !== open.view().start, mark: look.mark, order: look.order, listed: look.listed, fitted: look.fitted, limit: look.limit === Infinity ? -1 : look.limit,
    low: layers[look.low], high: layers[look.high], ...Object.fromEntries(["kinds", "origins"].map((name) => [name, data[name].filter((one) => look[name].has(one))])),
  };
}
function lookAgain(open, was) {
  if (!was) return;
  const known = (name, all) => new Set(Array.isArray(was[name]) ? all.filter((one) => was[name].includes(one)) : all);
  const { look, data } = open, goTo = (part, list, same) => { const at = list.findIndex(same); if (at >= 0) open.choose(part, at); return at >= 0; };
  const there = goTo("scene", data.scenes, ({ title }) => title === was.scene) && goTo("method", open.scene().methods, ({ name }) => name === was.method) &&
    goTo("view", open.method().views, ({ seed }) => seed === was.seed);
  if (there && was.moved) {
    const ways = open.view().circuits.map((number, at) => ({ at, told: data.circuits[number] }));
    const far = ({ told }) => (told.trial === was.trial && told.point === was.point ? -1 : Math.abs(told.n - was.n));
    open.move(ways.sort((one, other) => far(one) - far(other))[0].at);
  }
  const layers = open.graph().layers, place = (name, otherwise) => (layers.includes(name) ? layers.indexOf(name) : otherwise);
  Object.assign(look, { mark: was.mark in MARKS ? was.mark : look.mark, order: was.order in ORDERS ? was.order : look.order, listed: was.listed in LISTS ? was.listed : look.listed, fitted: was.fitted === true,
    limit: was.limit < 0 ? Infinity : LIMITS.includes(was.limit) ? was.limit : 0, low: place(was.low, look.low), high: place(was.high, look.high),
    kinds: known("kinds", data.kinds), origins: known("origins", data.origins) });
}

const originOf = (graph, edge) => {
  const name = graph.nodes[edge.writer].name;
  return /^m\d+$/.test(name) ? "MLPs" : /^a\d+\.h\d+$/.test(name) ? "heads" : "embeddings";
};

// The edges to show: the circuit's, those that vanished, those of the known circuit that are missing; at most
// as many as asked for: those that appear, where they are fewer, and the highest scores.
function shownEdges(open) {
  const { look } = open, graph = open.graph(), circuit = open.circuit(look.at), truth = open.truth();
  const before = look.before === null ? null : open.circuit(look.before);
  const passes = (edge) => look.kinds.has(edge.kind) && look.origins.has(originOf(graph, edge)) &&
    graph.nodes[edge.writer].layer >= look.low && graph.nodes[edge.node].layer <= look.high;
  const compared = before !== null && !before.summary;
  const vanished = compared ? before.ids.filter((id) => !circuit.kept.has(id)) : [];
  const missing = [...truth].filter((id) => !circuit.kept.has(id));
  const entry = (id, ...marks) => {
    const at = circuit.place.get(id);
    const known = truth.size ? [truth.has(id) ? "known" : "other"] : [];
    return { edge: graph.edges[id], marks: [...marks, ...known], loose: at !== undefined && circuit.loose.has(id),
      score: at === undefined || !circuit.scores ? null : circuit.scores[at],
      seeds: at === undefined || !circuit.onSeeds ? null : circuit.onSeeds[at] };
  };
  const added = new Set(compared ? circuit.ids.filter((id) => !before.kept.has(id)) : []);
  const shown = (ids, scored) => {
    const some = ids.filter((id) => passes(graph.edges[id])), most = look.limit || (scored?.n > open.data.drawn ? READABLE_EDGES : Infinity);
    if (some.length <= most || !ranks(scored)) return some;
    const few = look.mark === "changes" && some.filter((id) => added.has(id)).length < most;
    const first = (id) => (few && added.has(id) ? 1 : 0), score = (id) => scored.scores[scored.place.get(id)];
    return some.sort((one, other) => first(other) - first(one) || score(other) - score(one) || one - other).slice(0, most).sort((one, other) => one - other);
  };
  const passed = circuit.ids.filter((id) => passes(graph.edges[id])).length;
  const kept = shown(circuit.ids, circuit).map((id) => entry(id, "kept-edge", ...(added.has(id) ? ["added"] : [])));
  const ghosts = look.mark === "known" ? shown(missing, null).map((id) => entry(id, "missing"))
    : look.mark === "changes" ? shown(vanished, before).map((id) => entry(id, "vanished")) : [];
  const changes = { added: [...added].filter((id) => passes(graph.edges[id])).map((id) => entry(id, "kept-edge", "added")),
    vanished: vanished.filter((id) => passes(graph.edges[id])).map((id) => entry(id, "vanished")) };
  const ofNode = new Map();
  for (const one of kept) for (const node of [one.edge.writer, one.edge.node]) ofNode.set(node, ofNode.get(node) ?? []).get(node).push(one);
  return { kept, ghosts, passed, ofNode, added, vanished, changes, missing, compared, before, circuit, truth };
}

// Whether the scores tell edges apart.
const ranks = (circuit) => Boolean(circuit?.scores && circuit.levels);

// The edges whose places are computed: of a circuit that is drawn in full, all of the front's circuits of its
// kind, so that nodes stay where they are; else those that are shown.
function placingEdges(open, found) {
  const small = (circuit) => !circuit.summary && circuit.n <= open.data.drawn;
  const ids = new Set([...found.kept, ...found.ghosts].map(({ edge }) => edge.id));
  if (small(found.circuit)) for (const id of [...found.circuit.ids, ...found.truth]) ids.add(id);
  if (small(found.circuit) && !open.look.fitted) {
    open.view().circuits.map((_, at) => open.circuit(at)).filter(small).forEach((other) => {
      other.ids.filter((id) => !other.loose.has(id)).forEach((id) => ids.add(id));
    });
  }
  return [...ids].sort((one, other) => one - other).map((id) => open.graph().edges[id])
    .filter((edge) => edge.rises && !(found.circuit.loose.has(edge.id) && !found.truth.has(edge.id)));
}

function edgeWords(open, entry, found) {
  const parts = [];
  if (entry.score !== null) parts.push(`score ${Number(entry.score.toPrecision(2))}`);
  if (entry.seeds !== null) parts.push(`kept on ${entry.seeds} of ${found.circuit.of} seeds`);
  if (entry.marks.includes("added")) parts.push("appears here");
  if (entry.marks.includes("vanished")) parts.push("vanished here");
  if (entry.marks.includes("missing")) parts.push("known, but missing here");
  else if (entry.marks.includes("known")) parts.push("in the known circuit");
  else if (entry.marks.includes("other")) parts.push("not in the known circuit");
  if (entry.loose) parts.push("on no path from an embedding to the output, so not drawn");
  return parts;
}

function nodeWords(open, node, found) {
  const graph = open.graph();
  const own = found.ofNode.get(node) ?? [];
  const into = own.filter(({ edge }) => edge.node === node);
  const kinds = Object.entries(KIND_NAMES).map(([kind, name]) => [into.filter(({ edge }) => edge.kind === kind).length, name]);
  const told = kinds.filter(([number, name]) => number && into.length && ["query", "key", "value"].includes(name))
    .map(([number, name]) => `${number} ${name}`).join(", ");
  const out = own.length - into.length, shared = /^a\d+\.kv\d+$/.test(graph.nodes[node].name);
  const part = found.kept.length < found.circuit.n ? ", of the edges shown" : "";
  const parts = [`${many(into.length, "edge")} in${told ? ` (${told})` : ""}${shared ? "" : `, ${out} out`}${part}`];
  const scores = own.map(({ score }) => score).filter((score) => score !== null);
  if (scores.length) parts.push(`highest score of its edges ${Number(Math.max(...scores).toPrecision(2))}`);
  const on = found.circuit.onSeedsOfNode?.get(node);
  if (on !== undefined) parts.push(`kept on ${on} of ${found.circuit.of} seeds`);
  return parts;
}

function changeWords(found, look) {
  const { before, circuit, added, vanished } = found;
  if (before === null) return "The sparsest circuit of this front that is shown.";
  const which = `the circuit with ${many(before.n, "edge")}`;
  if (!found.compared || circuit.summary) return `Changes are not told where a circuit is only summarised: here or in ${which}.`;
  const mixed = before.seed === circuit.seed ? "" : ` They are of different seeds (${before.seed} and ${circuit.seed}), so part of what changes ` +
    "is how seeds differ: choose the front of one seed to see what a budget changes.";
  if (!added.size && !vanished.length) return `The same edges as ${which}.`;
  return `Against ${which}: ${many(added.size, "edge")} appear${added.size === 1 ? "s" : ""}, ` +
    `${vanished.length.toLocaleString("en-US")} vanish${vanished.length === 1 ? "es" : ""}.${mixed}`;
}

function circuitWords(open) {
  const circuit = open.circuit(open.look.at), total = open.scene().total;
  const parts = [`${many(circuit.n, "edge")} of ${total.toLocaleString("en-US")} (${percent(1 - circuit.n / total)} cut)`];
  for (const split of ["validation", "test"]) if (circuit[split] !== null) parts.push(`${split} ${round(circuit[split])}`);
  return [...parts, circuit.about, `trial ${circuit.trial.slice(0, 8)}`].join(" · ");
}
