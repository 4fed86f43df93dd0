// Faithfulness against sparsity.
// The polygon of a step curve: the value of a budget holds up to the next budget.
function steps(xs, ys) {
  const x = [], y = [];
  xs.forEach((value, at) => {
    if (at > 0) { x.push(value); y.push(ys[at - 1]); }
    x.push(value); y.push(ys[at]);
  });
  return { x, y };
}

function medianLines(band, most) {
  const whole = { x: [], y: [] }, partial = { x: [], y: [] };
  for (let at = 0; at + 1 < band.x.length; at += 1) {
    const line = band.seeds[at] >= most ? whole : partial;
    line.x.push(band.x[at], band.x[at + 1], band.x[at + 1], null);
    line.y.push(band.y[at], band.y[at], band.y[at + 1], null);
  }
  return [whole, partial];
}

function methodTraces(method, place, lift) {
  const colour = colourOf(method.slot), dash = DASHES[method.slot % 8], symbol = MARKERS[method.slot % 8];
  const xs = method.band.edges.map(place);
  const low = steps(xs, method.band.low.map(lift)), high = steps(xs, method.band.high.map(lift));
  const quiet = { mode: "lines", line: { width: 0, color: colour }, hoverinfo: "skip" };
  const traces = [];
  if (method.seeds > 1) {
    traces.push({ ...low, ...quiet }, { ...high, ...quiet, fill: "tonexty", fillcolor: faded(colour, 0.18) });
  }
  const median = method.band.median.map(lift);
  const [whole, partial] = medianLines({ x: xs, y: median, seeds: method.band.seeds }, method.seeds);
  traces.push(
    { ...whole, mode: "lines", line: { width: 2, color: colour, dash }, hoverinfo: "skip" },
    { ...partial, mode: "lines", line: { width: 1, color: faded(colour, 0.65), dash }, hoverinfo: "skip" },
    {
      x: xs, y: median, mode: "markers", marker: { size: 9, color: "rgba(0,0,0,0)" }, hovertemplate: "%{text}<extra></extra>",
      text: method.band.edges.map((edges, at) => `<b>${method.name}</b>, at most ${edges.toLocaleString("en-US")} edges<br>` +
        `median ${round(method.band.median[at])} (quartiles ${round(method.band.low[at])} – ` +
        `${round(method.band.high[at])})<br>${method.band.seeds[at]} of ${method.seeds} seeds`),
    },
  );
  const onFront = new Set(method.points.front);
  const groups = [[false, { size: 5, opacity: 0.45 }], [true, { size: 10, line: { width: 1.2, color: ink("--card") } }]];
  for (const [front, marker] of groups) {
    const at = method.points.edges.map((_, index) => index).filter((index) => onFront.has(index) === front);
    traces.push({
      x: at.map((index) => place(method.points.edges[index])), y: at.map((index) => lift(method.points.test[index])),
      mode: "markers", marker: { ...marker, color: colour, symbol }, hovertemplate: "%{text}<extra></extra>",
      text: at.map((index) => pointText(method, index, front)),
    });
  }
  return traces;
}

function pointText(method, at, front) {
  const points = method.points;
  return `<b>${method.name}</b>${front ? ", on the front" : ""}<br>${points.edges[at].toLocaleString("en-US")} edges<br>` +
    `test ${round(points.test[at])}, validation ${round(points.validation[at])}<br>${points.text[at]}`;
}

function paretoFigure(data, state) {
  const bySparsity = state.x === "sparsity", logX = state.xscale === "log", logY = state.yscale === "log";
  const place = (edges) => {
    const kept = Math.max(edges, logX ? 1 : 0);
    if (!bySparsity) return kept;
    return logX ? kept / data.total : 1 - kept / data.total;
  };
  const lift = (value) => (value === null ? null : logY ? Math.max(value, data.floor) : value);
  const shown = data.methods.filter((method) => !state.hidden.has(String(method.slot)));
  const edges = data.methods.flatMap((method) => method.points.edges);
  const floored = logY && data.ends[0] <= data.floor;
  const lines = marks(data, state, place, lift);
  const [xaxis, yaxis] = paretoAxes(data, { bySparsity, logX, logY, floored, lift }, edges);
  return {
    traces: shown.flatMap((method) => methodTraces(method, place, lift)),
    layout: layout({ xaxis, yaxis, ...lines }),
  };
}

function paretoAxes(data, view, edges) {
  const total = data.total.toLocaleString("en-US");
  let xaxis;
  const narrow = window.innerWidth < 640;
  const low = Math.log10(Math.max(Math.min(...edges), 1) / 1.35), high = Math.log10(Math.max(...edges, 2) * 1.35);
  if (view.logX && view.bySparsity) {
    const shift = Math.log10(data.total);
    xaxis = axis("sparsity (log scale of the kept share)", {
      type: "log", range: [high - shift, low - shift], ...sparsityTicks(low - shift, Math.min(0, high - shift)),
    });
  } else if (view.bySparsity) {
    xaxis = axis("sparsity", { tickformat: ".4~p" });
  } else if (view.logX) {
    const ticks = high - low < 2.6 ? fineTicks(low, high) : decades(low, high);
    xaxis = axis(`edges kept, of ${total}`, { type: "log", range: [low, high], ...ticks });
  } else {
    xaxis = axis(`edges kept, of ${total}`, { rangemode: "tozero", tickformat: ",d" });
  }
  const name = `test ${data.divergence}`;
  if (!view.logY) return [xaxis, axis(name, { rangemode: "tozero", exponentformat: "power" })];
  const values = data.ends.map(view.lift);
  const bottom = Math.log10(Math.min(...values)) - 0.18, top = Math.log10(Math.max(...values)) + 0.22;
  const note = `values ≤ 10<sup>${Math.round(Math.log10(data.floor))}</sup> drawn there`;
  const title = view.floored ? `${name} (${narrow ? "" : "log scale; "}${note})` : `${name} (log scale)`;
  const ticks = top - bottom < 2.6 ? fineTicks(bottom, top) : decades(bottom, top, data.floor);
  return [xaxis, axis(title, { type: "log", range: [bottom, top], ...ticks })];
}

// Reference lines: the empty circuit, epsilon, the known circuit.
function marks(data, state, place, lift) {
  const shapes = [], annotations = [];
  const logX = state.xscale === "log", logY = state.yscale === "log";
  const font = { size: 11, color: ink("--quiet") };
  const across = (value, text, dash, side) => {
    shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: lift(value), y1: lift(value), layer: "below",
      line: { color: ink("--quiet"), width: 1, dash } });
    annotations.push({ xref: "paper", x: side === "right" ? 1 : 0, xanchor: side, yanchor: "bottom", showarrow: false, text, font,
      y: logY ? Math.log10(lift(value)) : value });
  };
  if (data.empty !== null) across(data.empty, "empty circuit", "dash", "right");
  if (logY && data.ends[0] <= data.epsilon) {
    across(data.epsilon, `ε = ${data.epsilon}`, "dot", "left");
  }
  if (data.known !== null) {
    const x = place(data.known);
    shapes.push({ type: "line", yref: "paper", y0: 0, y1: 1, x0: x, x1: x, layer: "below",
      line: { color: ink("--quiet"), width: 1, dash: "dot" } });
    annotations.push({ yref: "paper", y: 0.02, yanchor: "bottom", xanchor: "right", textangle: -90, showarrow: false,
      text: `known circuit: ${data.known}`, font, x: logX ? Math.log10(x) : x });
  }
  return { shapes, annotations };
}

FORMS.pareto = paretoFigure;
