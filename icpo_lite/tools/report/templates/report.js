"use strict";
(() => {
  const root = document.documentElement;
  root.dataset.js = "";

  // Light and dark: the system's choice until the button is used; kept where storage is allowed.
  const button = document.getElementById("theme");
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const name = () => { button.textContent = dark() ? "Light" : "Dark"; button.setAttribute("aria-label", `Switch to ${dark() ? "light" : "dark"} colours`); };
  try { const kept = localStorage.getItem("icpo-lite-theme"); if (kept === "dark" || kept === "light") root.dataset.theme = kept; } catch { /* a file without storage */ }
  button.hidden = false;
  name();
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("icpo-lite-theme", root.dataset.theme); } catch { /* not kept */ }
    name();
  });

  // Conversations: what does not fit the filters is hidden.
  const form = document.getElementById("filters");
  if (form) {
    const entries = [...document.querySelectorAll("#entries > .entry")];
    const fits = (entry, wish) => {
      const data = entry.dataset;
      if (wish.judgement && data.judgement !== wish.judgement) return false;
      if (wish.setting && data.setting !== wish.setting) return false;
      if (wish.type && !data.types.split(" ").includes(wish.type)) return false;
      if (wish.outcome) {
        const own = data.own.split(" "), against = JSON.parse(data.outcomes)[wish.against];
        if (!own.includes(wish.outcome) && against !== wish.outcome) return false;
      }
      return !wish.text || entry.textContent.toLowerCase().includes(wish.text.toLowerCase());
    };
    const apply = () => {
      const wish = Object.fromEntries(new FormData(form));
      let shown = 0;
      for (const entry of entries) { entry.hidden = !fits(entry, wish); shown += !entry.hidden; }
      form.elements.count.value = `${shown} of ${entries.length}`;
    };
    form.addEventListener("input", apply);
    form.addEventListener("reset", () => setTimeout(apply));
    form.addEventListener("submit", (event) => event.preventDefault());
    apply();
  }

  // Curves: the values at the pointer, or at the arrow keys.
  const values = JSON.parse(document.getElementById("values").textContent);
  for (const svg of document.querySelectorAll("svg[data-chart]")) {
    const chart = values[svg.dataset.chart];
    if (!chart) continue;
    const [left, right, top, bottom] = svg.dataset.plot.split(" ").map(Number);
    const steps = [...new Set(chart.series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b);
    const out = svg.parentNode.appendChild(document.createElement("output"));
    const line = svg.appendChild(document.createElementNS(svg.namespaceURI, "path"));
    line.setAttribute("class", "cursor");
    let at = steps.length - 1;
    const show = () => {
      const x = left + (steps[at] - chart.x[0]) / (chart.x[1] - chart.x[0]) * (right - left);
      line.setAttribute("d", `M${x} ${top}V${bottom}`);
      const said = chart.series.map((s) => [s.name, s.points.find((p) => p[0] === steps[at])]).filter((pair) => pair[1]);
      out.value = `step ${steps[at]}: ` + said.map(([n, p]) => (chart.series.length > 1 ? `${n} ` : "") + p[1]).join(", ");
    };
    const hide = () => { line.removeAttribute("d"); out.value = ""; };
    svg.setAttribute("tabindex", "0");
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
      const wanted = chart.x[0] + (x - left) / (right - left) * (chart.x[1] - chart.x[0]);
      at = steps.reduce((best, s, i) => Math.abs(s - wanted) < Math.abs(steps[best] - wanted) ? i : best, 0);
      show();
    });
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!move) return;
      event.preventDefault();
      at = Math.min(Math.max(at + move, 0), steps.length - 1);
      show();
    });
  }
})();
