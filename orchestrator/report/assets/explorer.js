// Puts the circuits view together: builds its controls, draws what is asked for, follows mouse and keyboard.
function circuitsExplorer(home, data) {
  const open = openedCircuits(data), { look } = open;
  const was = remembered.circuits?.[home.id];
  lookAgain(open, was);
  keepers.push(() => ({ circuits: { ...remembered.circuits, [home.id]: { ...lookedAt(open), camera: seen.standing() } } }));
  const parts = explorerParts(home, open);
  const painter = densePainter(parts.canvas);
  let found = null, place = null, pinned = null, drawn = new Map(), lines = [];

  const target = (key) => parts.picture.querySelector(key);
  const light = (ids, ...nodes) => {
    const lit = parts.world.querySelector(".lit");
    if (!lit) return;
    lit.replaceChildren();
    for (const box of parts.world.querySelectorAll(".node.on")) box.classList.remove("on");
    for (const edge of ids.map((id) => drawn.get(id)?.edge).filter(Boolean)) {
      lit.append(svg("path", { class: `line kind-${edge.kind}`, "data-edge": edge.id, d: wholePath(place, edge) }));
      nodes.push(edge.writer, edge.node);
    }
    for (const node of new Set(nodes)) target(`.node[data-node="${node}"]`)?.classList.add("on");
    parts.picture.classList.toggle("focusing", ids.length > 0);
    painter.fade(ids.length > 0);
  };
  const tell = (what, x, y) => {
    const words = what.edge !== undefined ? [open.graph().edges[what.edge].label, ...edgeWords(open, drawn.get(what.edge), found)]
      : [open.graph().nodes[what.node].name, ...nodeWords(open, what.node, found)];
    light(what.edge !== undefined ? [what.edge]
      : (found.ofNode.get(what.node) ?? []).map(({ edge }) => edge.id), ...(what.node === undefined ? [] : [what.node]));
    showTip(parts, words, x, y);
  };
  const hush = () => {
    parts.tip.hidden = true;
    if (pinned) tell(pinned.what, pinned.x, pinned.y);
    else light([]);
  };
  const what = (event) => {
    const edge = event.target.closest?.("[data-edge]"), node = event.target.closest?.("[data-node]");
    if (edge || node || !place?.dense || event.clientX === undefined) return edge ? { edge: Number(edge.dataset.edge) } : node ? { node: Number(node.dataset.node) } : null;
    const line = nearestLine(lines, ...seen.inside(...spot(event)));
    return line && { edge: line.id };
  };
  const spot = (event) => {
    const from = parts.stage.getBoundingClientRect(), own = event.target.getBoundingClientRect();
    return event.clientX === undefined ? [own.left + own.width / 2 - from.left, own.bottom - from.top]
      : [event.clientX - from.left, event.clientY - from.top];
  };
  const hear = (event) => { const one = what(event); if (one) tell(one, ...spot(event)); else hush(); };
  parts.picture.addEventListener("pointermove", hear);
  parts.picture.addEventListener("pointerleave", hush);
  parts.picture.addEventListener("focusin", (event) => { seen.reveal(event.target); hear(event); });
  parts.picture.addEventListener("focusout", hush);
  parts.picture.addEventListener("click", (event) => {
    const one = what(event);
    const same = one && pinned && one.edge === pinned.what.edge && one.node === pinned.what.node;
    pinned = one && !same ? { what: one, x: spot(event)[0], y: spot(event)[1] } : null;
    hear(event);
  });
  parts.stage.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { pinned = null; hush(); parts.stage.focus(); }
    if (event.key === "Enter" && event.target === parts.stage) parts.world.querySelector(".node")?.focus();
    else if (event.target.matches?.(".node") && event.key.startsWith("Arrow")) { event.preventDefault(); walk(event, place); }
    else if (event.target.matches?.(".node") && ["Enter", " "].includes(event.key)) {
      event.preventDefault();
      event.target.dispatchEvent(new Event("click", { bubbles: true }));
    }
  });
  const seen = camera(parts.stage, () => boundsOf(place), painter.move);
  followList(parts.list, (id, keyed) => {
    if (id === null) { hush(); return; }
    light([id]);
    const line = target(`.lit .line[data-edge="${id}"]`);
    if (keyed && line) seen.reveal(line);
  });
  parts.zoomIn.addEventListener("click", () => seen.zoom(ZOOM.step));
  parts.zoomOut.addEventListener("click", () => seen.zoom(1 / ZOOM.step));
  parts.zoomFit.addEventListener("click", () => seen.fit());

  let drawnFor = "";
  const redraw = () => {
    pinned = null;
    parts.tip.hidden = true;
    syncParts(parts, open);
    const circuit = open.circuit(look.at);
    parts.body.classList.toggle("large", circuit.summary);
    parts.large.replaceChildren();
    parts.filters.hidden = circuit.summary;
    parts.words.textContent = circuitWords(open);
    found = circuit.summary ? null : shownEdges(open);
    parts.changes.textContent = changeWords(found ?? summaryFound(open), look);
    if (circuit.summary) {
      parts.large.append(...summaryTables(open, circuit));
      parts.list.replaceChildren();
      return;
    }
    const drawable = (entry) => !entry.loose && entry.edge.rises;
    const kept = found.kept.filter(drawable), ghosts = found.ghosts.filter(drawable);
    const dense = kept.length > data.drawn;
    const edges = dense ? [...kept, ...ghosts].map(({ edge }) => edge) : placingEdges(open, found);
    place = edges.length ? (dense ? gridGeometry : geometry)(open.graph(), edges) : null;
    drawn = new Map([...ghosts, ...kept].map((entry) => [entry.edge.id, entry]));
    const marks = look.mark === "known" ? "marks-known" : look.mark === "changes" ? "marks-changes" : "";
    parts.picture.setAttribute("class", `circuit-picture ${marks}`);
    parts.world.replaceChildren(...(place ? circuitPicture(place, kept, ghosts, circuit) : []));
    lines = dense ? denseLines(place, [...drawn.values()], circuit, look.mark) : [];
    painter.show(lines);
    parts.nothing.hidden = kept.length > 0;
    parts.nothing.textContent = circuit.n === 0 ? "This circuit keeps no edge." : found.kept.length ? "No kept edge lies on a path from an embedding to the output." : "The filters hide every edge.";
    for (const node of parts.world.querySelectorAll(".node")) {
      const number = Number(node.dataset.node);
      node.setAttribute("aria-label", `${open.graph().nodes[number].name}: ${nodeWords(open, number, found).join(", ")}`);
    }
    fillList(parts, open, found, dense);
    const key = [look.scene, look.method, look.view, dense || circuit.n > data.drawn, (look.fitted || circuit.n > data.drawn) && !dense && look.at].join();
    if (place) { if (key === drawnFor) seen.settle(); else seen.start(); }
    drawnFor = key;
  };
  parts.changed = redraw;
  redraw();
  // Another circuit than the one that was looked at is drawn elsewhere.
  const now = lookedAt(open);
  if (place && was && ["scene", "method", "seed", "trial", "point"].every((name) => was[name] === now[name])) seen.stand(was.camera);
  const recolour = () => {
    if (lines.length === 0) return;
    lines = denseLines(place, [...drawn.values()], found.circuit, look.mark);
    painter.show(lines);
  };
  const print = (on) => {
    if (!place || found === null) return;
    seen.paper(on);
    recolour();
    if (on && lines.length) painter.now();
  };
  window.addEventListener("beforeprint", () => print(true));
  window.addEventListener("afterprint", () => print(false));
  new MutationObserver(recolour).observe(root, { attributeFilter: ["data-theme"] });
}

const boundsOf = (place) => (place === null ? { x: 0, y: 0, width: 1, height: 1 } : {
  x: place.left - LABELS - 6, y: -place.heights.at(-1) - BOX - 8, width: place.right - place.left + LABELS + 18,
  height: place.heights.at(-1) + 2 * BOX + 16,
});

const summaryFound = (open) => {
  const before = open.look.before === null ? null : open.circuit(open.look.before);
  return { before, circuit: open.circuit(open.look.at), compared: false, added: new Set(), vanished: [] };
};

function showTip(parts, words, x, y) {
  parts.tip.replaceChildren(h("strong", {}, words[0]), ...words.slice(1).map((text) => h("span", {}, text)));
  parts.tip.hidden = false;
  const wide = parts.stage.clientWidth, own = parts.tip.offsetWidth, high = parts.tip.offsetHeight;
  parts.tip.style.left = `${Math.max(4, Math.min(x + 14, wide - own - 4))}px`;
  parts.tip.style.top = `${y + 18 + high > parts.stage.clientHeight ? Math.max(4, y - high - 10) : y + 18}px`;
}

// Arrow keys go from a node to its neighbour in the row, or to the nearest one in the next row.
function walk(event, place) {
  const boxes = [...event.target.parentNode.querySelectorAll(".node")];
  const spots = boxes.map((box) => {
    const node = Number(box.dataset.node), row = place.rowOf.get(node);
    return { box, row, x: place.at(node, row).x };
  });
  const own = spots.find(({ box }) => box === event.target);
  const across = { ArrowLeft: -1, ArrowRight: 1 }[event.key], up = { ArrowUp: 1, ArrowDown: -1 }[event.key];
  const others = spots.filter((one) => across ? one.row === own.row && (one.x - own.x) * across > 0 : (one.row - own.row) * up > 0);
  const far = (one) => (across ? Math.abs(one.x - own.x) : Math.abs(one.row - own.row) * 1e6 + Math.abs(one.x - own.x));
  others.sort((one, other) => far(one) - far(other))[0]?.box.focus();
}

// A list with one active option, as a listbox: arrow keys, Home, End; the pointer makes active, too.
function followList(list, activate) {
  const set = (option, keyed = false) => {
    list.querySelector(".active")?.classList.remove("active");
    for (const one of list.querySelectorAll('[aria-selected="true"]')) one.setAttribute("aria-selected", "false");
    if (!option) { list.removeAttribute("aria-activedescendant"); activate(null); return; }
    option.classList.add("active");
    option.setAttribute("aria-selected", "true");
    list.setAttribute("aria-activedescendant", option.id);
    activate(Number(option.dataset.edge), keyed);
  };
  list.addEventListener("keydown", (event) => {
    const options = [...list.children], at = options.findIndex((one) => one.classList.contains("active"));
    const to = { ArrowDown: at + 1, ArrowUp: at < 0 ? options.length - 1 : at - 1, Home: 0, End: options.length - 1,
      PageDown: at + 10, PageUp: at - 10, Escape: -1 }[event.key];
    if (to === undefined || !options.length) return;
    event.preventDefault();
    const option = event.key === "Escape" ? null : options[Math.max(0, Math.min(options.length - 1, to))];
    set(option, true);
    option?.scrollIntoView({ block: "nearest" });
  });
  list.addEventListener("pointermove", (event) => {
    const option = event.target.closest("li");
    if (option && !option.classList.contains("active")) set(option);
  });
  list.addEventListener("click", (event) => { const option = event.target.closest("li"); if (option) set(option, true); });
  list.addEventListener("pointerleave", () => set(null));
  list.addEventListener("blur", () => set(null));
}

for (const home of document.querySelectorAll(".circuits")) {
  const start = () => circuitsExplorer(home, JSON.parse(document.getElementById(`${home.id}-data`).textContent));
  if (remembered.circuits?.[home.id]) { start(); continue; }
  const near = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) { near.disconnect(); start(); }
  }, { rootMargin: "600px" });
  near.observe(home);
  window.addEventListener("beforeprint", () => { if (!home.firstChild) { near.disconnect(); start(); } });
}
