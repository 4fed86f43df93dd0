// Pan and zoom of a drawing: wheel (once the drawing has the focus, or with Ctrl), drag, pinch, keys.
const ZOOM = { least: 0.05, most: 4, step: 1.3 };
const BUTTONS = 34; // pixels at the top that stay free for the buttons
const PAPER = { wide: 690, high: 860 }; // pixels of a page between its margins
const READABLE = 0.7; // the least scale at which a drawing starts
// Pixels of a node's name: of the drawing, so much that the screen shows `seen`, as far as its box has room; below
// `hidden` on the screen it is left out.
const LETTERS = { least: 11, most: 13.5, seen: 9.5, hidden: 7 };

// `stage` holds an <svg> with one <g class="camera">. `bounds()` gives the drawing's {x, y, width, height};
// `moved` hears of every new {scale, x, y}.
function camera(stage, bounds, moved) {
  const world = stage.querySelector(".camera"), picture = stage.querySelector("svg");
  const view = { scale: 1, x: 0, y: 0, fitted: null };
  const apply = () => {
    world.setAttribute("transform", `translate(${view.x.toFixed(2)} ${view.y.toFixed(2)}) scale(${view.scale.toFixed(4)})`);
    picture.style.setProperty("--letters", `${Math.min(LETTERS.most, Math.max(LETTERS.least, LETTERS.seen / view.scale)).toFixed(2)}px`);
    picture.classList.toggle("far", view.scale * LETTERS.most < LETTERS.hidden);
    stage.classList.toggle("moved", view.fitted === null);
    pinRows((6 - view.x) / view.scale);
    moved(view);
  };
  // The names of rows that would be cut at the left stand at the edge, over what is drawn there.
  const pinRows = (edge) => {
    for (const row of world.querySelectorAll(".row")) {
      const own = Number(row.dataset.x), cut = own - LABELS < edge;
      row.setAttribute("x", cut ? edge : own);
      row.setAttribute("text-anchor", cut ? "start" : "end");
    }
  };
  const fit = () => {
    const { x, y, width, height } = bounds(), wide = stage.clientWidth, high = stage.clientHeight - BUTTONS;
    view.scale = Math.min(wide / width, high / height, 1.5);
    view.x = wide / 2 - view.scale * (x + width / 2);
    view.y = BUTTONS + high / 2 - view.scale * (y + height / 2);
    view.fitted = fit;
    apply();
  };
  // All of it, or, where that would be too small to read, its upper end: the output and what leads to it.
  const start = () => {
    fit();
    const { x, y, width } = bounds(), wide = stage.clientWidth;
    if (view.scale < READABLE) {
      view.scale = Math.min(1, Math.max(READABLE, wide / width));
      view.x = wide / 2 - view.scale * (x + width / 2);
      view.y = BUTTONS - view.scale * y;
      apply();
      stage.classList.add("moved");
    }
    view.fitted = start;
  };
  // Moves the drawing as far as an element of it needs to be seen.
  const reveal = (element) => {
    const from = stage.getBoundingClientRect(), own = element.getBoundingClientRect();
    const off = (low, high, least, most) => (low >= least && high <= most ? 0 : (least + most) / 2 - (low + high) / 2);
    const right = off(own.left, own.right, from.left, from.right), down = off(own.top, own.bottom, from.top, from.bottom);
    if (right || down) pan(right, down);
  };
  const pan = (right, down) => { view.x += right; view.y += down; view.fitted = null; apply(); };
  const zoom = (factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) => {
    const scale = Math.min(ZOOM.most, Math.max(ZOOM.least, view.scale * factor));
    view.x = x - (x - view.x) * scale / view.scale;
    view.y = y - (y - view.y) * scale / view.scale;
    view.scale = scale;
    view.fitted = null;
    apply();
  };
  followPointers(stage, pan, zoom);
  stage.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !stage.contains(document.activeElement)) return;
    event.preventDefault();
    const from = stage.getBoundingClientRect();
    const lines = event.deltaMode === 1 ? 20 : 1;
    zoom(Math.exp(-event.deltaY * lines / 400), event.clientX - from.left, event.clientY - from.top);
  }, { passive: false });
  stage.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "+" || event.key === "=") zoom(ZOOM.step);
    else if (event.key === "-") zoom(1 / ZOOM.step);
    else if (event.key === "0") fit();
    else if (event.target === stage && event.key.startsWith("Arrow")) pan(...{
      ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key]);
    else return;
    event.preventDefault();
  });
  new ResizeObserver(() => view.fitted?.()).observe(stage);
  // Paper cannot be moved: all of the drawing, as tall as a page lets it be.
  let before = null;
  const paper = (on) => {
    if (on === (before !== null)) return;
    if (on) {
      const { width, height } = bounds();
      before = { ...view };
      stage.style.height = `${Math.round(Math.min(PAPER.high, height * PAPER.wide / width) + BUTTONS)}px`;
      stage.style.width = `${PAPER.wide}px`;
      fit();
    } else {
      Object.assign(view, before);
      before = null;
      stage.style.height = stage.style.width = "";
      apply();
    }
  };
  // A place of the stage, in the drawing's own units.
  const inside = (x, y) => [(x - view.x) / view.scale, (y - view.y) / view.scale, view.scale];
  // What is in the middle and how large, once the reader has moved it, or that all of it is shown; and back to that.
  const standing = () => {
    const { scale, x, y, fitted } = before ?? view;
    if (fitted) return fitted === fit ? "all" : null;
    return { scale, x: (stage.clientWidth / 2 - x) / scale, y: (stage.clientHeight / 2 - y) / scale };
  };
  const stand = (was) => {
    if (was === "all") fit();
    else if (was && [was.scale, was.x, was.y].every(Number.isFinite)) {
      const scale = Math.min(ZOOM.most, Math.max(ZOOM.least, was.scale));
      Object.assign(view, { scale, x: stage.clientWidth / 2 - scale * was.x, y: stage.clientHeight / 2 - scale * was.y, fitted: null });
      apply();
    }
  };
  return { inside, paper, fit, start, standing, stand, zoom, reveal, settle: () => (view.fitted ?? apply)() };
}

// One pointer drags, two pinch. A press that hardly moves stays a click.
function followPointers(stage, pan, zoom) {
  const pointers = new Map();
  let moved = 0;
  const span = () => {
    const [one, other] = [...pointers.values()];
    return { length: Math.hypot(one.x - other.x, one.y - other.y), x: (one.x + other.x) / 2, y: (one.y + other.y) / 2 };
  };
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    moved = pointers.size ? moved : 0;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  stage.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return;
    if (!event.buttons) { pointers.delete(event.pointerId); return; }
    const before = pointers.size === 2 ? span() : null;
    const right = event.clientX - last.x, down = event.clientY - last.y;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    moved += Math.abs(right) + Math.abs(down);
    if (moved < 4) return;
    if (!stage.hasPointerCapture(event.pointerId)) stage.setPointerCapture(event.pointerId);
    if (before) {
      const after = span(), from = stage.getBoundingClientRect();
      pan(after.x - before.x, after.y - before.y);
      zoom(after.length / Math.max(1, before.length), after.x - from.left, after.y - from.top);
    } else if (pointers.size === 1) {
      pan(right, down);
    }
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, (event) => pointers.delete(event.pointerId));
  stage.addEventListener("click", (event) => { if (moved >= 4) event.stopPropagation(); }, { capture: true });
}
