// Target against achieved sparsity.
function targetsFigure(data, state) {
  const shown = data.groups.filter((group) => !state.hidden.has(String(group.slot)));
  const all = data.groups.flatMap((group) => group.target.concat(group.sparsity));
  const low = Math.min(...all), high = Math.min(1, Math.max(...all));
  const traces = shown.map((group) => ({
    x: group.target, y: group.sparsity, mode: "markers", hovertemplate: "%{text}<extra></extra>",
    marker: { size: 9, opacity: 0.7, color: colourOf(group.slot), symbol: MARKERS[markOf(group.slot)],
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

FORMS.targets = targetsFigure;
