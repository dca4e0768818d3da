"use strict";
// Draws each chart when it is about to become visible, in the page's colours; all charts in light colours for printing.
(() => {
  const root = document.documentElement;
  const charts = [...document.querySelectorAll(".chart")];
  const models = [];
  for (const chart of charts) {
    chart.spec = JSON.parse(chart.dataset.chart);
    chart.dataset.kind = chart.spec.kind;
    const names = chart.spec.names || (chart.spec.points || []).map((point) => point.name);
    for (const name of names) if (!models.includes(name)) models.push(name);
    if (chart.spec.kind === "dots") chart.style.height = `${3 + 1.45 * names.length}rem`;
  }

  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const colourOf = (model) => colour(`m${models.indexOf(model) % 8}`);

  const axis = (more) => ({
    gridcolor: colour("line"), zeroline: false, linecolor: colour("line"), color: colour("soft"),
    tickfont: { size: 11 }, automargin: true, fixedrange: true, ...more,
  });

  const layout = (more) => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, dragmode: false,
    margin: { l: 8, r: 14, t: 6, b: 8 }, font: { family: getComputedStyle(document.body).fontFamily, color: colour("soft"), size: 11 },
    hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("line"), font: { color: colour("ink") } }, ...more,
  });

  const draw = {
    curve(spec) {
      const noisy = spec.smooth.length > 0;
      const line = (y, style, name) => ({ x: spec.x, y, type: "scatter", mode: "lines", name, line: style,
        hovertemplate: `step %{x}: %{y:.4g}<extra>${name}</extra>` });
      const traces = [line(spec.y, { color: colour(noisy ? "faint" : "accent"), width: noisy ? 1 : 1.8 }, "")];
      if (noisy) traces.push(line(spec.smooth, { color: colour("accent"), width: 2 }, "mean"));
      return [traces, layout({ xaxis: axis({ nticks: 5, showgrid: false }), yaxis: axis({ nticks: 4 }) })];
    },
    dots(spec) {
      const traces = spec.names.map((name, i) => ({
        x: [spec.means[i]], y: [name], type: "scatter", mode: "markers", marker: { color: colourOf(name), size: 9 },
        error_x: { type: "data", symmetric: false, array: [spec.high[i] - spec.means[i]],
          arrayminus: [spec.means[i] - spec.low[i]], color: colourOf(name), thickness: 2, width: 0 },
        hovertemplate: `${spec.fraction ? "%{x:.1%}" : "%{x:.3f}"}<extra>%{y}</extra>`,
      }));
      const fractions = { range: [-0.03, 1.03], tickvals: [0, 0.25, 0.5, 0.75, 1], tickformat: ".0%" };
      const x = axis(spec.fraction ? fractions : { nticks: 5 });
      const y = axis({ autorange: "reversed", showgrid: false, tickfont: { size: 12 }, type: "category" });
      return [traces, layout({ xaxis: x, yaxis: y })];
    },
    scatter(spec) {
      const error = (span, tint) => ({ type: "data", symmetric: false, array: [span.high - span.mean],
        arrayminus: [span.mean - span.low], color: tint, thickness: 1.5, width: 0 });
      const rank = [...spec.points].sort((a, b) => a.x.mean - b.x.mean);
      const traces = spec.points.map((point) => {
        const tint = colourOf(point.name);
        return { x: [point.x.mean], y: [point.y.mean], type: "scatter", mode: "markers+text", text: [point.name],
          textposition: rank.indexOf(point) % 2 ? "bottom right" : "top left", textfont: { color: tint, size: 12 }, marker: { color: tint, size: 10 },
          error_x: error(point.x, tint), error_y: error(point.y, tint), cliponaxis: false,
          hovertemplate: `proxy %{x:.3f}, gold %{y:.3f}<extra></extra>` };
      });
      return [traces, layout({ margin: { l: 8, r: 16, t: 24, b: 8 },
        xaxis: axis({ title: { text: spec.x, standoff: 8 } }), yaxis: axis({ title: { text: spec.y, standoff: 8 } }) })];
    },
  };

  const show = (chart) => {
    const [traces, look] = draw[chart.spec.kind](chart.spec);
    Plotly.react(chart, traces, look, { displayModeBar: false, responsive: true });
    chart.drawn = true;
  };

  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { watcher.unobserve(entry.target); show(entry.target); }
  }, { rootMargin: "600px" });
  charts.forEach((chart) => watcher.observe(chart));

  const redraw = () => charts.filter((chart) => chart.drawn).forEach(show);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  addEventListener("beforeprint", () => {
    root.dataset.theme = "light";
    document.querySelectorAll("details:not(:has(pre))").forEach((fold) => { fold.open = true; });
    charts.forEach(show);
  });
  addEventListener("afterprint", () => { delete root.dataset.theme; redraw(); });
})();
