// What all charts share: colours, axes, ticks. The files of SCRIPTS (page.py) are joined into one scope.
// The order of colours, markers and dashes is that of orchestrator/report/figures.py.
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
// Which marker and dash a method has: codes.py says.
const MARK_OF = JSON.parse(document.getElementById("marks").textContent);
const markOf = (slot) => MARK_OF[slot % MARK_OF.length];
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
// As many decimals as the tables have (orchestrator/wording.py).
function percent(share) {
  const rest = 100 * Math.min(Math.abs(1 - share), Math.abs(share) || 1);
  return `${(100 * share).toFixed(rest === 0 || rest >= 1 ? 1 : Math.min(5, 1 + Math.floor(-Math.log10(rest))))} %`;
}

function swatch(slot, hollow = false) {
  const colour = colourOf(slot);
  if (hollow) {
    return `<svg width="18" height="16" viewBox="11 0 18 16"><path d="${GLYPHS[MARKERS[markOf(slot)]]}" fill="none" ` +
      `stroke="${colour}" stroke-width="1.8"/></svg>`;
  }
  return `<svg width="40" height="16" viewBox="0 0 40 16"><path d="M1 8h38" stroke="${colour}" ` +
    `stroke-width="2" stroke-dasharray="${STROKES[markOf(slot)]}"/><path d="${GLYPHS[MARKERS[markOf(slot)]]}" ` +
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

// form -> (data, state) => {traces, layout}; the chart forms below add themselves.
const FORMS = {};
