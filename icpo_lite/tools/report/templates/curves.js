  // Curves: smoothed as is wished, and their values at the pointer or at the arrow keys.
  const curves = (() => {
    const form = document.getElementById("smoothing"), attached = new WeakSet();
    let values = {};
    const wished = (chart) => Number(form?.elements.window.value) || chart.window;
    // Steps that one held point stands for: long runs are held as means of stretches.
    const stretch = (points) => points.length > 1 ? (points.at(-1)[0] - points[0][0]) / (points.length - 1) : 1;
    function smooth(points, steps) {
      const half = Math.floor(Math.max(Math.round(steps / Math.max(stretch(points), 1)), 1) / 2);
      return points.map(([x], i) => {
        const near = points.slice(Math.max(i - half, 0), i + half + 1);
        return [x, near.reduce((sum, p) => sum + p[1], 0) / near.length];
      });
    }
    const smoothed = (chart) => chart.series.map((s) => ({ name: s.name, points: smooth(s.points, wished(chart)) }));
    const plot = (svg) => svg.dataset.plot.split(" ").map(Number);

    // The page comes with its own smoothing drawn; another one is drawn here.
    function draw(svg) {
      const chart = values[svg.dataset.chart];
      if (!chart) return;
      const [left, right, top, bottom] = plot(svg);
      const x = (v) => left + (v - chart.x[0]) / (chart.x[1] - chart.x[0]) * (right - left);
      const y = (v) => bottom - (v - chart.y[0]) / (chart.y[1] - chart.y[0]) * (bottom - top);
      for (const { name, points } of smoothed(chart)) {
        const line = [...svg.querySelectorAll("path[data-series]")].find((path) => path.dataset.series === name);
        line?.setAttribute("d", "M" + points.map((p) => `${x(p[0]).toFixed(1)} ${y(p[1]).toFixed(1)}`).join("L"));
      }
    }
    const short = (v) => Number(v.toPrecision(4));
    function attach(svg) {
      if (attached.has(svg)) return;
      attached.add(svg);
      const out = document.createElement("output"), line = document.createElementNS(svg.namespaceURI, "path");
      out.dataset.mine = line.dataset.mine = "";
      svg.parentNode.append(out);
      svg.append(line);
      line.setAttribute("class", "cursor");
      let step = null;
      const steps = () => [...new Set(values[svg.dataset.chart].series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b);
      const show = () => {
        const chart = values[svg.dataset.chart], [left, right, top, bottom] = plot(svg);
        const at = left + (step - chart.x[0]) / (chart.x[1] - chart.x[0]) * (right - left);
        line.setAttribute("d", `M${at} ${top}V${bottom}`);
        const said = smoothed(chart).map((s) => [s.name, s.points.find((p) => p[0] === step)]).filter((pair) => pair[1]);
        out.value = `step ${short(step)}: ` + said.map(([n, p]) => (chart.series.length > 1 ? `${n} ` : "") + short(p[1])).join(", ");
      };
      const hide = () => { line.removeAttribute("d"); out.value = ""; };
      svg.setAttribute("tabindex", "0");
      svg.addEventListener("pointermove", (event) => {
        const chart = values[svg.dataset.chart], [left, right] = plot(svg), area = svg.getBoundingClientRect();
        const place = (event.clientX - area.left) / area.width * svg.viewBox.baseVal.width;
        const wanted = chart.x[0] + (place - left) / (right - left) * (chart.x[1] - chart.x[0]);
        step = steps().reduce((best, s) => Math.abs(s - wanted) < Math.abs(best - wanted) ? s : best);
        show();
      });
      svg.addEventListener("pointerleave", hide);
      svg.addEventListener("blur", hide);
      svg.addEventListener("keydown", (event) => {
        const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (!move) return;
        event.preventDefault();
        const all = steps(), at = step === null ? all.length - 1 : all.indexOf(step);
        step = all[Math.min(Math.max(at + move, 0), all.length - 1)];
        show();
      });
    }
    function load(page) {
      values = JSON.parse(page.getElementById("values").textContent);
      for (const svg of document.querySelectorAll("svg[data-chart]")) {
        if (!values[svg.dataset.chart]) continue;
        attach(svg);
        if (form?.elements.window.value) draw(svg);
      }
    }
    function table() {
      const drawn = [...document.querySelectorAll("svg[data-chart^='curve-']")];
      const charts = drawn.map((svg) => values[svg.dataset.chart]).filter(Boolean);
      const rows = new Map(), names = charts.map((chart) => chart.title);
      charts.forEach((chart, column) => {
        for (const s of chart.series) for (const [step, value] of s.points) {
          const key = JSON.stringify([s.name, step]);
          if (!rows.has(key)) rows.set(key, [s.name, step, ...names.map(() => "")]);
          rows.get(key)[column + 2] = value;
        }
      });
      const collator = new Intl.Collator();
      return [["run", "step", ...names], ...[...rows.values()].sort((a, b) => collator.compare(a[0], b[0]) || a[1] - b[1])];
    }
    form?.addEventListener("input", () => document.querySelectorAll("svg[data-chart]").forEach(draw));
    form?.addEventListener("submit", (event) => event.preventDefault());
    form?.elements.csv.addEventListener("click", () => save("curves.csv", table()));
    return { load };
  })();
