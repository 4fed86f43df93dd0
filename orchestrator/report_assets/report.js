"use strict";
(() => {
  // The order of colours, markers and dashes is that of orchestrator/figures.py.
  const COLOURS = {
    light: ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B4C9A", "#4D4D4D"],
    dark: ["#5BB4F0", "#FF8A4C", "#2FCB9C", "#E7A1C8", "#F3C04B", "#A6DCFF", "#B9A0EA", "#C9CED6"],
  };
  const MARKERS = ["circle", "square", "triangle-up", "diamond", "x", "triangle-down", "star", "pentagon"];
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "5px,3px", "longdashdot", "solid"];
  const STROKES = ["", "6 3", "1.5 3", "6 3 1.5 3", "9 3", "5 3", "9 3 1.5 3", ""];
  const GLYPHS = {
    "circle": "M20 4a4 4 0 1 0 .01 0z",
    "square": "M16.4 4.4h7.2v7.2h-7.2z",
    "triangle-up": "M20 3.4l4.6 8h-9.2z",
    "diamond": "M20 3l5 5-5 5-5-5z",
    "x": "M17 3.6l3 3 3-3 1.4 1.4-3 3 3 3-1.4 1.4-3-3-3 3-1.4-1.4 3-3-3-3z",
    "triangle-down": "M20 12.6l4.6-8h-9.2z",
    "star": "M20 2.6l1.5 3.6 3.9.3-3 2.5 1 3.8-3.4-2.1-3.4 2.1 1-3.8-3-2.5 3.9-.3z",
    "pentagon": "M20 3.2l4.9 3.6-1.9 5.7h-6l-1.9-5.7z",
  };
  // Twelve steps of viridis: order in a set of curves without a name each.
  const RAMP = ["#440154", "#482173", "#433e85", "#38588c", "#2d708e", "#25858e",
    "#1e9b8a", "#2ab07f", "#52c569", "#86d549", "#c2df23", "#fde725"];

  const root = document.documentElement;
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const byTheme = window.matchMedia("(prefers-color-scheme: dark)");
  const coarse = window.matchMedia("(pointer: coarse)").matches;
  const CONFIG = {
    displaylogo: false, responsive: true,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    toImageButtonOptions: { format: "svg", filename: "circuit-sweep" },
  };

  const theme = () => root.dataset.theme;
  const ink = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const colourOf = (slot) => COLOURS[theme()][slot % 8];
  const faded = (hex, alpha) => {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    return `rgba(${r},${g},${b},${alpha})`;
  };
  const round = (value) => (value === null ? "not finite" : Number(value.toPrecision(3)).toString());
  const percent = (share) => `${Number((100 * share).toPrecision(5))} %`;

  function swatch(slot) {
    const colour = colourOf(slot);
    return `<svg width="40" height="16" viewBox="0 0 40 16"><path d="M1 8h38" stroke="${colour}" ` +
      `stroke-width="2" stroke-dasharray="${STROKES[slot % 8]}"/><path d="${GLYPHS[MARKERS[slot % 8]]}" ` +
      `fill="${colour}" stroke="${ink("--card")}" stroke-width="1"/></svg>`;
  }

  function axis(title, extra) {
    return {
      title: { text: title, standoff: 8, font: { size: 12 } }, gridcolor: ink("--faint"), linecolor: ink("--line"),
      zerolinecolor: ink("--line"), tickfont: { size: 11 }, ticks: "outside", tickcolor: ink("--line"),
      showline: true, automargin: true, fixedrange: coarse, ...extra,
    };
  }

  function layout(extra) {
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
      font: { family: ink("--sans"), color: ink("--quiet"), size: 12 }, margin: { l: 56, r: 14, t: 30, b: 48 },
      hoverlabel: { bgcolor: ink("--card"), bordercolor: ink("--line"), font: { color: ink("--text"), size: 12 }, align: "left" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: ink("--quiet"), activecolor: ink("--accent") },
      dragmode: coarse ? false : "zoom", ...extra,
    };
  }

  // A tick's value without the error of binary fractions, as short as it stays readable: 20,000, 0.002, 2·10⁻⁷.
  function tickText(value) {
    if (value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e6)) {
      return value.toLocaleString("en-US", { maximumSignificantDigits: 6 });
    }
    const [digits, power] = value.toExponential(5).split("e");
    const mantissa = Number(digits);
    return `${mantissa === 1 ? "" : `${mantissa}·`}10<sup>${Number(power)}</sup>`.replace("-", "−");
  }

  // Ticks at powers of ten; the lowest one may stand for everything below it.
  function decades(low, high, floor) {
    const values = [], texts = [];
    const first = Math.ceil(low - 1e-9), last = Math.floor(high + 1e-9);
    const stride = Math.max(1, Math.ceil((last - first) / 7));
    for (let power = first; power <= last; power += stride) {
      const value = 10 ** power;
      values.push(value);
      texts.push(floor && value <= floor * 1.001 ? `≤ ${tickText(value)}` : tickText(value));
    }
    return { tickmode: "array", tickvals: values, ticktext: texts };
  }

  // A log-scaled axis of less than two decades needs ticks between the powers of ten.
  function fineTicks(low, high) {
    const values = [];
    for (let power = Math.floor(low); power <= high; power += 1) {
      for (const digit of high - low < 1 ? [1, 2, 3, 5, 7] : window.innerWidth < 640 ? [1, 3] : [1, 2, 5]) values.push(digit * 10 ** power);
    }
    return { tickmode: "array", tickvals: values, ticktext: values.map(tickText) };
  }

  function sparsityTicks(low, high) {
    const cut = [0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999];
    let shown = cut.filter((value) => Math.log10(1 - value) >= low && Math.log10(1 - value) <= high);
    while (shown.length > (window.innerWidth < 640 ? 4 : 7)) shown = shown.filter((_, at) => at % 2 === 0);
    return {
      tickmode: "array", tickvals: shown.map((value) => 1 - value),
      ticktext: shown.map((value) => `${Number((100 * value).toFixed(3))} %`),
    };
  }

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

  function targetsFigure(data, state) {
    const shown = data.groups.filter((group) => !state.hidden.has(String(group.slot)));
    const all = data.groups.flatMap((group) => group.target.concat(group.sparsity));
    const low = Math.min(...all), high = Math.min(1, Math.max(...all));
    const traces = shown.map((group) => ({
      x: group.target, y: group.sparsity, mode: "markers", hovertemplate: "%{text}<extra></extra>",
      marker: { size: 9, opacity: 0.7, color: colourOf(group.slot), symbol: MARKERS[group.slot % 8],
        line: { width: 1, color: ink("--card") } },
      text: group.text.map((text, at) => `<b>${group.method}</b><br>target ${group.target[at]}, achieved ` +
        `${percent(group.sparsity[at])}<br>${text}`),
    }));
    const shapes = [{ type: "line", x0: low, y0: low, x1: high, y1: high, layer: "below",
      line: { color: ink("--quiet"), width: 1, dash: "dash" } }];
    return { traces, layout: layout({
      shapes, xaxis: axis("target sparsity", { tickformat: ".4~p" }), yaxis: axis("achieved sparsity", { tickformat: ".4~p" }),
    }) };
  }

  function trainingFigure(data) {
    const count = data.curves.length, [from, to] = theme() === "dark" ? [4, 11] : [0, 9];
    const traces = data.curves.flatMap((curve, at) => {
      const colour = RAMP[Math.round(from + (to - from) * (count > 1 ? at / (count - 1) : 0.5))];
      const lift = (value) => (value === null ? null : Math.max(value, data.floor));
      const line = (y, yaxis, what, dash, width) => ({
        x: curve.step, y, yaxis, mode: "lines", line: { color: colour, width, dash },
        hovertemplate: `${what} %{y:.4~g} at step %{x}<br>${curve.name}<extra></extra>`,
      });
      return [
        line(curve.divergence.map(lift), "y2", data.divergence, "solid", 1.5),
        line(curve.sparsity, "y", "sparsity", "solid", 1.5), line(curve.target, "y", "target", "dot", 1),
      ];
    });
    const seen = data.curves.flatMap((curve) => curve.divergence).filter((value) => value !== null)
      .map((value) => Math.log10(Math.max(value, data.floor)));
    const [low, high] = seen.length ? [Math.min(...seen) - 0.15, Math.max(...seen) + 0.15] : [-6, 0];
    const ticks = high - low < 2.6 ? fineTicks(low, high) : decades(low, high, data.floor);
    return { traces, layout: layout({
      xaxis: axis("step", { tickformat: ",d", anchor: "y" }),
      yaxis: axis("sparsity (dotted: target)", { domain: [0, 0.46], tickformat: ".3~p" }),
      yaxis2: axis(`${data.divergence}, training (log)`, { domain: [0.54, 1], type: "log", range: [low, high], ...ticks }),
    }) };
  }

  const FORMS = { pareto: paretoFigure, targets: targetsFigure, training: trainingFigure };
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
})();
