// Draws the charts of a page with uPlot, from the data beside their SVG: values under the pointer, and a stretch that is
// marked becomes part of the address. Times are the reader's, as bitville.js writes them. Without it the SVG stays.
"use strict";

(() => {
  const COLOURS = { tasks: "--bar", blocked: "--hot", load1: "--text", cores: "--quiet", flight: "--accent", db: "--sql", mean: "--accent", p95: "--hot" };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const figures = [...document.querySelectorAll("figure.chart[data-chart]")];
  const three = (value) => (value == null ? "–" : value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2));

  let leaving = false; // both charts of a figure tell of one stretch

  function go(figure, from, to) {
    if (leaving) return;
    leaving = true;
    const link = figure.querySelector("a.go");
    const address = new URL(link ? link.href : window.location.href);
    const iso = (at) => new Date(at * 1000).toISOString().replace(/\.\d+Z$/, "Z");
    for (const name of ["last", "after"]) address.searchParams.delete(name);
    address.searchParams.set("from", iso(Math.floor(from)));
    address.searchParams.set("to", iso(Math.max(Math.ceil(to), Math.floor(from) + 10)));
    window.location.assign(address);
  }

  // The time of day, and the day where it begins.
  function named(u, splits, axis, space, step) {
    return splits.map((split) => {
      const at = new Date(split * 1000);
      const [hours, minutes, seconds] = [at.getHours(), at.getMinutes(), at.getSeconds()];
      if (!hours && !minutes && !seconds) return `${two(at.getMonth() + 1)}-${two(at.getDate())}`;
      return `${two(hours)}:${two(minutes)}${step < 60 ? `:${two(seconds)}` : ""}`;
    });
  }

  function series([kind, label, area, values]) {
    const line = colour(COLOURS[kind] || "--bar");
    const made = { label, stroke: line, width: area ? 1 : 1.5, points: { show: false }, spanGaps: false };
    if (area) made.fill = line + (kind === "blocked" ? "" : "99");
    if (kind === "load1") Object.assign(made, { width: 1, dash: [4, 3] });
    if (kind === "cores") Object.assign(made, { width: 1, dash: [1, 3] });
    return made;
  }

  function plot(figure, data, number, marks) {
    const own = data.plots[number];
    const svg = figure.querySelectorAll("svg.plot")[number];
    const legend = figure.querySelectorAll("ul.legend")[number];
    const place = document.createElement("div");
    place.className = "drawing";
    svg.after(place);
    const said = [...legend.querySelectorAll("li:not(.when)")].map((item) => item.querySelector("b") || item.appendChild(document.createElement("b")));
    const when = legend.querySelector(".when") || Object.assign(legend.appendChild(document.createElement("li")), { className: "when" });
    const count = own.lines[0][3].length;
    const at = Array.from({ length: count }, (_, i) => data.start + (i + 0.5) * data.step);
    const last = number === data.plots.length - 1;
    const text = colour("--quiet"), grid = { stroke: colour("--hair"), width: 1 };
    const font = "11px system-ui, sans-serif";
    const shade = (u) => {
      for (const mark of marks) {
        const left = Math.max(u.bbox.left, u.valToPos(mark.from, "x", true));
        const right = Math.min(u.bbox.left + u.bbox.width, Math.max(u.valToPos(mark.to, "x", true), left + 3));
        if (right <= left) continue;
        u.ctx.fillStyle = colour("--mark");
        u.ctx.fillRect(left, u.bbox.top, right - left, u.bbox.height);
      }
    };
    const options = {
      width: place.clientWidth || figure.clientWidth,
      height: own.height,
      padding: [6, 20, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: "time" }, y: false, points: { size: 5 }, drag: { x: true, y: false, setScale: false } },
      scales: { x: { time: true, range: [data.start, data.start + count * data.step] }, y: { range: (u, low, high) => [0, Math.max(data.least, (high || 0) * 1.08) || 1] } },
      axes: [
        { stroke: text, font, grid: { show: false }, ticks: { show: false }, size: last ? 22 : 4, gap: 4, space: 70, values: last ? named : () => [] },
        { stroke: text, font, grid, ticks: { show: false }, size: 40, gap: 6, space: 34, values: (u, splits) => splits.map((value) => value.toLocaleString("en")) },
      ],
      series: [{}, ...own.lines.map(series)],
      hooks: {
        drawClear: [shade],
        setCursor: [(u) => {
          const step = u.cursor.idx;
          said.forEach((element, i) => { element.textContent = step == null ? "" : ` ${three(own.lines[i][3][step])}`; });
          if (number) return; // one of the charts of a figure tells when it was
          const begin = step == null ? null : new Date((data.start + step * data.step) * 1000);
          when.textContent = begin ? `${day(begin)} ${clock(begin)}` : "";
        }],
        setSelect: [(u) => { if (u.select.width > 4) go(figure, u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")); }],
      },
    };
    const made = new uPlot(options, [at, ...own.lines.map((line) => line[3])], place);
    made.over.addEventListener("click", () => {
      if (made.select.width > 4) return;
      const when = made.posToVal(made.cursor.left, "x");
      const hit = marks.find((mark) => mark.href && mark.from - 2 * data.step <= when && when <= mark.to + 2 * data.step);
      if (hit) window.location.assign(hit.href);
    });
    return made;
  }

  function draw(figure) {
    const data = JSON.parse(figure.dataset.chart);
    const marks = [...figure.querySelector("svg.plot").querySelectorAll("[data-from]")].map((element) => ({
      from: Number(element.dataset.from),
      to: Number(element.dataset.to),
      href: element.parentNode.href ? element.parentNode.href.baseVal : null,
    }));
    figure.classList.add("drawn");
    const plots = data.plots.map((_, number) => plot(figure, data, number, marks));
    const sized = new ResizeObserver(() => {
      for (const one of plots) {
        const width = one.root.parentNode.clientWidth;
        if (width && width !== one.width) one.setSize({ width, height: one.height });
      }
    });
    sized.observe(figure);
    return () => {
      sized.disconnect();
      for (const one of plots) { const place = one.root.parentNode; one.destroy(); place.remove(); }
    };
  }

  window.addEventListener("pageshow", () => { leaving = false; });
  let undo = figures.map(draw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const one of undo) one();
    undo = figures.map(draw);
  });
})();
