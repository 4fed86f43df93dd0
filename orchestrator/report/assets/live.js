// Reloads the page of an unfinished sweep while its box is ticked and the page is looked at.
const reload = document.getElementById("reload");
if (reload) {
  const kept = "circuit-sweep-reload";
  try { reload.checked = sessionStorage.getItem(kept) !== "off"; } catch { /* a browser that keeps nothing */ }
  reload.addEventListener("change", () => {
    try { sessionStorage.setItem(kept, reload.checked ? "on" : "off"); } catch { /* see above */ }
  });
  setInterval(() => reload.checked && !document.hidden && location.reload(), 1000 * Number(reload.dataset.seconds));
}
