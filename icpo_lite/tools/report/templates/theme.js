  const root = document.documentElement;
  root.dataset.js = "";

  // Light and dark: the system's choice until the button is used; kept where storage is allowed.
  {
    const button = document.getElementById("theme");
    const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    const name = () => { button.textContent = dark() ? "Light" : "Dark"; button.setAttribute("aria-label", `Switch to ${dark() ? "light" : "dark"} colours`); };
    try { const kept = localStorage.getItem("icpo-lite-theme"); if (kept === "dark" || kept === "light") root.dataset.theme = kept; } catch { /* a file without storage */ }
    button.hidden = false;
    name();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      try { localStorage.setItem("icpo-lite-theme", root.dataset.theme); } catch { /* not kept */ }
      name();
    });
  }
