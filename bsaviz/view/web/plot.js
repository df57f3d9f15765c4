// A plotly figure whose points can be clicked. plotly comes as text with the widget, and is run once a page, on the first
// view: as part of this module it would take longer to load than anywidget waits before it gives a widget up.

const CONFIG = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

function library(source) {
  window.bsavizPlotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = URL.createObjectURL(new Blob([`(() => { const before = window.Plotly;\n${source}\nwindow.bsavizPlotlyNow = window.Plotly; window.Plotly = before; })();`], { type: "text/javascript" }));
    script.onload = () => resolve(window.bsavizPlotlyNow);
    script.onerror = () => reject(new Error("the plotting library did not load"));
    document.head.append(script);
  });
  return window.bsavizPlotly;
}

function render({ model, el }) {
  const plot = document.createElement("div");
  plot.className = "bsaviz-plot";
  el.append(plot);
  let drawn = 0, gone = false, resized = null;
  const draw = async () => {
    const Plotly = await library(model.get("library"));
    if (gone) return;
    const { data, layout } = JSON.parse(model.get("figure"));
    await Plotly.react(plot, data, layout, CONFIG);
    plot.dataset.drawn = String((drawn += 1));
    if (resized) return;
    plot.on("plotly_click", ({ points }) => {
      const clicked = points.map((point) => point.customdata).find(Boolean);
      if (clicked) model.send({ clicked: clicked[0] });
    });
    resized = new ResizeObserver(() => plot.clientWidth && Plotly.Plots.resize(plot));
    resized.observe(el);
  };
  model.on("change:figure", draw);
  draw().catch((error) => { plot.textContent = error.message; });
  return () => {
    gone = true;
    if (resized) resized.disconnect();
    model.off("change:figure", draw);
    window.bsavizPlotly.then((Plotly) => Plotly.purge(plot));
  };
}

export default { render };
