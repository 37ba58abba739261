// Light or dark: as the system says, until the button says otherwise. Runs before the first paint, so nothing flashes.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

  // Storage may be forbidden; the choice then lasts as long as the page.
  const remember = (theme) => {
    try {
      if (theme) localStorage.setItem("ncf-theme", theme);
      else localStorage.removeItem("ncf-theme");
    } catch {}
  };
  const remembered = () => {
    try {
      return localStorage.getItem("ncf-theme");
    } catch {
      return null;
    }
  };

  const choose = (theme) => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
  };

  choose(remembered());
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const tell = () => button.setAttribute("aria-pressed", isDark());
    button.addEventListener("click", () => {
      const dark = !isDark();
      const theme = dark === system.matches ? null : dark ? "dark" : "light";
      choose(theme);
      remember(theme);
      tell();
    });
    system.addEventListener("change", tell);
    tell();
  });
})();
