// Draws the figures that the page carries as JSON, in the colours of the light or the dark theme.
"use strict";

const figures = JSON.parse(document.getElementById("figures").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const drawn = [];

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return { text: of("--text"), grid: of("--grid"), card: of("--card"), quiet: of("--quiet") };
}

// Numbers in the cells of a heatmap must be readable on a pale cell, which shows the card behind it.
function legible(data) {
  const { text } = colours();
  return data.map((trace) => (trace.texttemplate ? { ...trace, textfont: { color: text } } : trace));
}

function themed(layout) {
  const { text, grid, card, quiet } = colours();
  const axis = (given) => ({
    gridcolor: grid, linecolor: grid, zerolinecolor: grid, tickfont: { color: quiet }, automargin: true, ...given,
  });
  const found = {
    margin: { l: 48, r: 12, t: 30, b: 40 },
    paper_bgcolor: card,
    plot_bgcolor: card,
    font: { family: "system-ui, sans-serif", size: 12, color: text },
    hoverlabel: { bgcolor: card, bordercolor: grid, font: { color: text } },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11 } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: quiet, activecolor: text },
    ...layout,
  };
  for (const name of Object.keys(layout)) {
    if (/^[xy]axis\d*$/.test(name)) found[name] = axis(layout[name]);
  }
  return found;
}

const settings = {
  responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "",
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
};

for (const [id, figure] of Object.entries(figures)) {
  const place = document.getElementById(id);
  Plotly.newPlot(place, legible(figure.data), themed(figure.layout), settings);
  drawn.push([place, figure]);
}

for (const button of document.querySelectorAll("button[data-log]")) {
  button.addEventListener("click", () => {
    const pressed = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(pressed));
    const place = document.getElementById(button.dataset.log);
    const kind = pressed ? "log" : "linear";
    figures[button.dataset.log].layout.yaxis.type = kind;
    Plotly.relayout(place, { "yaxis.type": kind, "yaxis.autorange": true });
  });
}

dark.addEventListener("change", () => {
  for (const [place, figure] of drawn) Plotly.react(place, legible(figure.data), themed(figure.layout), settings);
});
document.documentElement.dataset.drawn = String(drawn.length);
