// How binary the final gates are: edges by E[gate], one line per setting.
function gatesFigure(data) {
  const count = data.settings.length, [from, to] = theme() === "dark" ? [4, 11] : [0, 9];
  const traces = data.settings.map((setting, at) => {
    const colour = RAMP[Math.round(from + (to - from) * (count > 1 ? at / (count - 1) : 0.5))];
    const bins = setting.share.length, ends = (bin) => `${Number((bin / bins).toFixed(3))} – ${Number(((bin + 1) / bins).toFixed(3))}`;
    const x = setting.share.flatMap((_, bin) => [bin / bins, (bin + 1) / bins]);
    const y = setting.share.flatMap((share) => [share, share]).map((share) => Math.max(share, data.floor));
    return { x, y, mode: "lines", line: { color: colour, width: 1.8, dash: DASHES[markOf(at)] }, hovertemplate: "%{text}<extra></extra>",
      text: setting.share.flatMap((share, bin) => Array(2).fill(`<b>${setting.name}</b><br>E[gate] ${ends(bin)}: ${percent(share)} of the edges`)) };
  });
  const low = Math.log10(data.floor);
  return { traces, layout: layout({
    xaxis: axis("E[gate]: 0 cut, 1 kept", { range: [-0.02, 1.02], dtick: 0.25 }),
    yaxis: axis("share of edges (log scale)", { type: "log", range: [low - 0.15, 0.15], ...decades(low, 0, data.floor) }),
  }) };
}

FORMS.gates = gatesFigure;
