// Reloads the page of an unfinished sweep while its box is ticked and the page is looked at.
const reload = document.getElementById("reload");
if (reload) {
  reload.checked = remembered.reload ?? true;
  keepers.push(() => ({ reload: reload.checked }));
  setInterval(() => reload.checked && !document.hidden && location.reload(), 1000 * Number(reload.dataset.seconds));
}
