// Training curves.
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

FORMS.training = trainingFigure;
