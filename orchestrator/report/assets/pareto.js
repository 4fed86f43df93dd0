// Faithfulness against sparsity: any metric, as measured or normalised to f = (m − m(empty)) / (m(full) − m(empty)).
const BANDS = { quartiles: ["low", "high"], range: ["min", "max"], seeds: ["below", "above"], examples: ["from", "to"] };
const BAND_WORDS = { quartiles: "quartiles", range: "range", seeds: "95 % over seeds", examples: "95 % over examples" };
const BAND_NOTES = {
  quartiles: "Band: lower to upper quartile over seeds.",
  range: "Band: lowest to highest seed.",
  seeds: "Band: 95 % bootstrap interval of the median over seeds, none where fewer than three have a circuit. It says " +
    "nothing about other examples.",
  examples: "Bars: 95 % bootstrap interval over the test examples of a circuit's mean. Band: of the median over seeds, all " +
    "seeds on the same resamples; none for several seeds whose trials stored no values by example. It says nothing about other seeds.",
};

// The polygon of a step curve: the value of a budget holds up to the next budget.
function steps(xs, ys) {
  const x = [], y = [];
  xs.forEach((value, at) => {
    if (at > 0) { x.push(value); y.push(ys[at - 1]); }
    x.push(value); y.push(ys[at]);
  });
  return { x, y };
}

// What is asked of a figure: the metric, and where a number of edges and a value of the metric are drawn.
function paretoView(data, state) {
  const normalised = state.metric.startsWith("f"), at = Number(state.metric.slice(normalised ? 1 : 0));
  const metric = data.metrics[at], bySparsity = state.x === "sparsity", logX = state.xscale === "log";
  const logY = state.yscale === "log" && metric.log && !normalised;
  const value = (raw) => (raw === null || !normalised ? raw : (raw - metric.empty) / (metric.full - metric.empty));
  const placed = (share, total) => (!bySparsity ? share * total : logX ? share : 1 - share);
  return {
    at, metric, normalised, bySparsity, logX, logY, value, placed,
    place: (edges) => placed(Math.max(edges, logX ? 1 : 0) / data.total, data.total),
    lift: (raw) => (raw === null || value(raw) === null ? null : logY ? Math.max(value(raw), data.floor) : value(raw)),
    band: state.band, staircase: state.front, floor: data.floor,
  };
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

function bandTraces(method, view) {
  const values = method.band.values[view.at];
  if (!values) return [];
  const colour = colourOf(method.slot), dash = DASHES[markOf(method.slot)], xs = method.band.edges.map(view.place);
  const [low, high] = BANDS[view.band] ?? [], traces = [];
  const quiet = { mode: "lines", line: { width: 0, color: colour }, hoverinfo: "skip" };
  if (values[low]) {
    traces.push({ ...steps(xs, values[low].map(view.lift)), ...quiet },
      { ...steps(xs, values[high].map(view.lift)), ...quiet, fill: "tonexty", fillcolor: faded(colour, 0.18) });
  }
  const median = values.median.map(view.lift);
  const [whole, partial] = medianLines({ x: xs, y: median, seeds: method.band.seeds }, method.seeds);
  const ends = (at) => (values[low] ? ` (${BAND_WORDS[view.band]} ` +
    [values[low][at], values[high][at]].map(view.value).sort((a, b) => a - b).map(round).join(" – ") + ")" : "");
  return [...traces,
    { ...whole, mode: "lines", line: { width: 2, color: colour, dash }, hoverinfo: "skip" },
    { ...partial, mode: "lines", line: { width: 1, color: faded(colour, 0.65), dash }, hoverinfo: "skip" },
    {
      x: xs, y: median, mode: "markers", marker: { size: 9, color: "rgba(0,0,0,0)" }, hovertemplate: "%{text}<extra></extra>",
      text: method.band.edges.map((edges, at) => `<b>${method.name}</b>, at most ${edges.toLocaleString("en-US")} edges<br>` +
        `${method.seeds > 1 ? "median " : ""}${round(view.value(values.median[at]))}${ends(at)}<br>` +
        `${method.band.seeds[at]} of ${method.seeds} seed${method.seeds === 1 ? "" : "s"}`),
    },
  ];
}

function pointTraces(method, view) {
  const points = method.points, values = points.values[view.at];
  if (!values) return [];
  const colour = colourOf(method.slot), symbol = MARKERS[markOf(method.slot)];
  const x = (at) => view.place(points.edges[at]), y = (at) => view.lift(values[at]);
  const best = [...points.front].sort((a, b) => points.edges[a] - points.edges[b]), onFront = new Set(best);
  const others = values.map((_, at) => at).filter((at) => !onFront.has(at));
  const cloud = (chosen, marker, front) => ({
    x: chosen.map(x), y: chosen.map(y), mode: "markers", marker: { ...marker, color: colour, symbol },
    hovertemplate: "%{text}<extra></extra>", text: chosen.map((at) => pointText(method, view, at, front)),
  });
  const crowded = best.length > 40;
  const traces = [cloud(others, { size: crowded ? 4 : 5, opacity: 0.45 }, false)];
  if (view.staircase) {
    traces.push({ ...steps(best.map(x), best.map(y)), mode: "lines", line: { width: 1.5, color: colour }, hoverinfo: "skip" });
  }
  const front = cloud(best, { size: crowded ? 6 : 10, line: { width: crowded ? 0.6 : 1.2, color: ink("--card") } }, true);
  const ends = points.ends[view.at];
  if (view.band === "examples" && ends) front.error_y = errorBars(points, ends, best, view, y, colour);
  return [...traces, front];
}

// The ends of the intervals come in the order of `points.front`.
function errorBars(points, ends, best, view, y, colour) {
  const row = new Map(points.front.map((at, number) => [at, number]));
  const reach = (at) => ends.map((values) => view.lift(values[row.get(at)])).sort((a, b) => a - b);
  return {
    type: "data", symmetric: false, thickness: 1.2, width: 3, color: colour,
    array: best.map((at) => (reach(at).includes(null) ? null : reach(at)[1] - y(at))),
    arrayminus: best.map((at) => (reach(at).includes(null) ? null : y(at) - reach(at)[0])),
  };
}

function pointText(method, view, at, front) {
  const points = method.points, value = round(view.value(points.values[view.at][at]));
  const told = view.normalised ? `f ${value}` : `test ${view.metric.short} ${value}`;
  return `<b>${method.name}</b>${front ? ", on the front" : ""}<br>${points.edges[at].toLocaleString("en-US")} edges<br>` +
    `${told}, validation divergence ${round(points.validation[at])}<br>${method.trials[points.trial[at]]}`;
}

// Whether a published group has a point in this view.
const isPlaced = (group, view) => !view.normalised && (group.of !== null || view.bySparsity) &&
  Boolean(group.values[view.at]?.some((value) => value !== null));

// Published points are placed by their own source's number of edges; without one they have no number of edges.
function publishedTraces(data, state, view) {
  if (view.normalised) return [];
  return data.published.filter((group) => group.values[view.at] && !state.hidden.has(group.key)).map((group) => {
    const of = group.of === null ? "edges" : `${group.of.toLocaleString("en-US")} edges`;
    return {
      x: group.sparsity.map((sparsity) => (group.of === null && !view.bySparsity ? null : view.placed(1 - sparsity, group.of))),
      y: group.values[view.at].map(view.lift), mode: "markers",
      marker: { size: 9, color: colourOf(group.slot), symbol: `${MARKERS[markOf(group.slot)]}-open`, line: { width: 1.8 } },
      hovertemplate: "%{text}<extra></extra>",
      text: group.values[view.at].map((value, at) => `<b>${group.name}</b><br>${percent(group.sparsity[at])} of ${of} cut<br>` +
        `test ${view.metric.short} ${value === null ? "" : round(value)}<br>source ${group.source[at]}`),
    };
  });
}

function paretoFigure(data, state) {
  const view = paretoView(data, state);
  const shown = data.methods.filter((method) => !state.hidden.has(String(method.slot)));
  const published = publishedTraces(data, state, view);
  const drawn = published.flatMap((trace) => trace.x.map((x, at) => [x, trace.y[at]])).filter(([x, y]) => x !== null && y !== null);
  const [xaxis, yaxis] = [paretoX(data, view, drawn.map(([x]) => x)), paretoY(view, drawn.map(([, y]) => y))];
  const linear = state.yscale === "log" && !view.logY ? "The y axis is linear: this metric may be 0 or negative." : "";
  const note = [BAND_NOTES[view.band], linear].filter(Boolean).join(" ");
  return {
    traces: [...shown.flatMap((method) => [...bandTraces(method, view), ...pointTraces(method, view)]), ...published],
    layout: layout({ xaxis, yaxis, ...marks(data, view) }), note, disabled: { yscale: !view.metric.log || view.normalised },
    absent: data.published.filter((group) => !isPlaced(group, view)).map((group) => group.key),
  };
}

function paretoX(data, view, published) {
  const total = data.total.toLocaleString("en-US"), shift = Math.log10(data.total);
  if (!view.logX) {
    return view.bySparsity ? axis("sparsity", { tickformat: ".4~p" })
      : axis(`edges kept, of ${total}`, { rangemode: "tozero", tickformat: ",d" });
  }
  const logs = data.methods.flatMap((method) => method.points.edges).map((edges) => Math.log10(Math.max(edges, 1)));
  logs.push(...published.map((x) => Math.log10(x) + (view.bySparsity ? shift : 0)));
  const low = Math.max(Math.min(...logs), 0) - 0.13, high = Math.max(...logs, 0.3) + 0.13;
  if (view.bySparsity) {
    return axis("sparsity (log scale of the kept share)", {
      type: "log", range: [high - shift, low - shift], ...sparsityTicks(low - shift, Math.min(0, high - shift)),
    });
  }
  const ticks = high - low < 2.6 ? fineTicks(low, high) : decades(low, high);
  return axis(`edges kept, of ${total}`, { type: "log", range: [low, high], ...ticks });
}

function paretoY(view, published) {
  const { metric, floor } = view, narrow = window.innerWidth < 640;
  const direction = metric.better === "lower" ? "lower is more faithful" : metric.better === "higher" ? "higher is better" : "";
  const values = metric.ends.map(view.lift).concat(published);
  if (view.normalised) {
    const low = Math.min(0, ...values), high = Math.max(1.1, ...values), room = 0.05 * (high - low);
    return axis(`f of test ${metric.short}${narrow ? "" : " (0 empty circuit, 1 full model)"}`, { range: [low - room, high + room] });
  }
  const name = `test ${metric.name}`;
  if (!view.logY) {
    const title = direction && !narrow ? `${name}, ${direction}` : name;
    const low = Math.min(...values), high = Math.max(...values), room = 0.06 * (high - low) || 0.05 * Math.abs(high) || 1;
    if (metric.better === "lower") return axis(title, { range: [0, high + room], exponentformat: "power" });
    return axis(title, { range: [low - room, high + room], exponentformat: "power" });
  }
  const bottom = Math.log10(Math.min(...values)) - 0.18, top = Math.log10(Math.max(...values)) + 0.22;
  const floored = metric.ends[0] <= floor ? `values ≤ 10<sup>${Math.round(Math.log10(floor))}</sup> drawn there` : "";
  const remarks = [narrow && floored ? "" : "log scale", floored || (narrow ? "" : direction)].filter(Boolean).join("; ");
  const ticks = top - bottom < 2.6 ? fineTicks(bottom, top) : decades(bottom, top, floor);
  return axis(`${name} (${remarks})`, { type: "log", range: [bottom, top], ...ticks });
}

// Reference lines: the empty circuit, the full model, epsilon, |1 − f| ≤ 0.1, the known circuit.
function marks(data, view) {
  const { metric } = view, shapes = [], annotations = [], font = { size: 11, color: ink("--quiet") };
  const line = { color: ink("--quiet"), width: 1 };
  const across = (raw, text, dash, side) => {
    const y = view.lift(raw);
    if (y === null) return;
    shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, layer: "below", line: { ...line, dash } });
    annotations.push({ xref: "paper", x: side === "right" ? 1 : 0, xanchor: side, yanchor: "bottom", showarrow: false, text, font,
      y: view.logY ? Math.log10(y) : y });
  };
  across(metric.empty, "empty circuit", "dash", "right");
  if (!metric.log || view.normalised) across(metric.full, "full model", "solid", "left");
  if (view.logY && view.at === 0 && metric.ends[0] <= data.epsilon) across(data.epsilon, `ε = ${data.epsilon}`, "dot", "left");
  if (view.normalised) {
    shapes.push({ type: "rect", xref: "paper", x0: 0, x1: 1, y0: 0.9, y1: 1.1, layer: "below", line: { width: 0 },
      fillcolor: faded(theme() === "dark" ? "#9ba8b9" : "#5a6678", 0.14) });
    annotations.push({ xref: "paper", x: 0, xanchor: "left", y: 1.1, yanchor: "bottom", showarrow: false, font, text: "|1 − f| ≤ 0.1" });
  }
  if (data.known !== null) {
    const x = view.place(data.known);
    shapes.push({ type: "line", yref: "paper", y0: 0, y1: 1, x0: x, x1: x, layer: "below", line: { ...line, dash: "dot" } });
    annotations.push({ yref: "paper", y: 0.5, yanchor: "middle", xanchor: "right", textangle: -90, showarrow: false,
      text: `known circuit: ${data.known}`, font, x: view.logX ? Math.log10(x) : x });
  }
  return { shapes, annotations };
}

FORMS.pareto = paretoFigure;
