// Before the first paint: what the person chose here earlier; otherwise the system's own colours hold.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("stoker-theme");
  } catch {
    // A browser that keeps nothing shows the system's colours.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
