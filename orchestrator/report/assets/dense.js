// Circuits of more edges than can be told apart as lines of their own: nodes on a grid, edges on a canvas.
const CHUNK = 100; // edges in one stroke: where strokes lie over each other, it gets darker
const WHILE_MOVING = 3000, REST = 140; // edges drawn while the drawing moves, and milliseconds until all are
const HALO = 7; // units of the drawing: the width of the glow of an edge that appears
const GOLDEN = 0.618; // of a node's share of the row: the shift from one row to the next
const REACH = 7; // pixels from an edge at which the pointer still means it

// The same interface as `geometry`: each level a row, all its nodes side by side, the same for every circuit;
// shifted from row to row, so that lines between rows do not lie on each other.
function gridGeometry(graph, edges) {
  const present = [...new Set(edges.flatMap((edge) => [edge.writer, edge.node]))].sort((one, other) => one - other);
  const levels = [...new Set(present.map((node) => graph.nodes[node].level))].sort((one, other) => one - other);
  const rowOf = new Map(present.map((node) => [node, levels.indexOf(graph.nodes[node].level)]));
  const gap = Math.max(54, Math.min(120, 2400 / levels.length)), x = new Map();
  const rows = levels.map((level) => graph.nodes.filter((node) => node.level === level));
  const wide = (Math.max(...rows.map((row) => row.length)) + 1) * UNIT;
  for (const row of rows) row.forEach(({ number, level }, at) => x.set(number, wide * ((at + (level * GOLDEN) % 1) / row.length - 0.5)));
  return { graph, levels, rowOf, heights: levels.map((_, row) => row * gap), at: (node, row) => ({ x: x.get(node), y: -row * gap }),
    left: -wide / 2 - UNIT, right: wide / 2 + UNIT, present, inside: [], dense: true };
}

// Edges with their ends, colours and widths, the highest scores first; marked as in a smaller drawing: what appears has
// a halo, what vanished or is missing is thin and broken, and so, of the known circuit, is what is not in it.
function denseLines(place, shown, circuit, mark) {
  const width = widths(circuit.scores), ranked = [...shown].sort((one, other) => other.score - one.score);
  const colours = Object.fromEntries(Object.keys(KIND_NAMES).map((kind) => [kind, ink(`--kind-${kind}`)]));
  return ranked.map(({ edge, score, marks }) => {
    const [start, end] = edgeEnds(place, edge), ghost = marks.includes("vanished") || marks.includes("missing");
    return { id: edge.id, x0: start.x, y0: start.y, x1: end.x, y1: end.y, ghost, halo: mark === "changes" && marks.includes("added"),
      broken: ghost || (mark === "known" && marks.includes("other")), colour: ghost ? ink("--quiet") : colours[edge.kind],
      wide: ghost ? 1 : Math.round(2 * width(score)) / 2 };
  });
}

// Lines of one look, in pieces, halos below all others.
function denseStrokes(lines) {
  const groups = new Map();
  const halos = lines.filter(({ halo }) => halo).map((line) => ({ ...line, colour: ink("--accent"), wide: HALO, glow: true, broken: false }));
  for (const line of [...halos, ...lines]) {
    const key = `${line.colour} ${line.wide} ${line.broken}`, own = groups.get(key) ?? [];
    if (own.length === 0 || own.at(-1).length >= CHUNK) own.push([]);
    own.at(-1).push(line);
    groups.set(key, own);
  }
  return [...groups.values()].flat().map((chunk) => {
    const path = new Path2D();
    for (const { x0, y0, x1, y1 } of chunk) {
      path.moveTo(x0, y0);
      path.bezierCurveTo(x0, (y0 + y1) / 2, x1, (y0 + y1) / 2, x1, y1);
    }
    const { colour, wide, broken, glow = false } = chunk[0];
    return { colour, wide, broken, glow, path };
  });
}

// Paints `lines` under a camera's view; while that moves, the strongest alone.
function densePainter(canvas) {
  let all = [], few = [], view = { scale: 1, x: 0, y: 0 }, faint = false, frame = 0, rest = 0;
  const paint = (strokes) => {
    const context = canvas.getContext("2d"), dots = window.devicePixelRatio || 1;
    const wide = Math.round(canvas.clientWidth * dots), high = Math.round(canvas.clientHeight * dots);
    if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, wide, high);
    context.setTransform(view.scale * dots, 0, 0, view.scale * dots, view.x * dots, view.y * dots);
    for (const { colour, wide: width, broken, glow, path } of strokes) {
      context.globalAlpha = (glow ? 0.16 : all.length > 30 ? 0.3 : 0.55) * (faint ? 0.35 : 1);
      context.setLineDash(broken ? [6 / view.scale, 5 / view.scale] : []);
      context.strokeStyle = colour;
      context.lineWidth = Math.max(width, 0.6 / view.scale);
      context.stroke(path);
    }
  };
  const later = (strokes) => { cancelAnimationFrame(frame); frame = requestAnimationFrame(() => paint(strokes)); };
  return {
    show: (lines) => {
      all = denseStrokes(lines);
      faint = false;
      few = lines.length > WHILE_MOVING ? denseStrokes(lines.slice(0, WHILE_MOVING)) : all;
      const kept = lines.filter(({ ghost }) => !ghost);
      Object.assign(canvas.dataset, { edges: kept.length, ghosts: lines.length - kept.length, halos: lines.filter(({ halo }) => halo).length });
      later(all);
    },
    move: (now) => {
      view = { ...now };
      if (!all.length) return;
      later(few);
      clearTimeout(rest);
      if (few !== all) rest = setTimeout(() => later(all), REST);
    },
    fade: (on) => { if (on !== faint) { faint = on; later(all); } },
    now: () => paint(all),
  };
}

// How far along a line, from 0 to 1, its height is this share of the way: the inverse of `bend`'s y.
const ALONG = Array.from({ length: 65 }, (_, at) => {
  let low = 0, high = 1;
  for (let step = 0; step < 20; step += 1) {
    const t = (low + high) / 2;
    if (1.5 * t - 1.5 * t * t + t * t * t < at / 64) low = t; else high = t;
  }
  return (low + high) / 2;
});

// The line nearest to a place of the drawing, within reach; null for none.
function nearestLine(lines, x, y, scale) {
  let best = null, least = REACH / scale;
  for (const line of lines) {
    const share = (y - line.y0) / (line.y1 - line.y0);
    if (!(share >= 0 && share <= 1)) continue;
    const t = ALONG[Math.round(64 * share)], wide = line.x1 - line.x0;
    const down = (line.y1 - line.y0) * (1.5 - 3 * t + 3 * t * t), right = wide * 6 * t * (1 - t);
    const away = Math.abs(line.x0 + wide * t * t * (3 - 2 * t) - x) * Math.abs(down) / Math.hypot(down, right);
    if (away < least) { best = line; least = away; }
  }
  return best;
}
