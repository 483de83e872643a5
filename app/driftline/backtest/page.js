"use strict";
// Plots in the colours of the reader's theme: those of the light one, as the report was written, or those that stand for them.
function inTheme(shades) {
  const dark = matchMedia("(prefers-color-scheme: dark)"), plots = [];
  const shaded = part => typeof part === "string" ? shades[part] ?? part
    : Array.isArray(part) ? part.map(shaded)
    : part?.constructor === Object ? Object.fromEntries(Object.entries(part).map(([name, value]) => [name, shaded(value)]))
    : part;
  const newPlot = Plotly.newPlot;
  const draw = (how, isDark, [holder, data, layout, config]) => isDark ? how(holder, shaded(data), shaded(layout), config) : how(holder, structuredClone(data), structuredClone(layout), config);
  Plotly.newPlot = (...plot) => { plots.push(plot); return draw(newPlot, dark.matches, plot); };
  const again = isDark => plots.forEach(plot => draw(Plotly.react, isDark, plot));
  dark.addEventListener("change", () => again(dark.matches));
  addEventListener("DOMContentLoaded", () => {  // which card is the last of its row is only known now
    for (const [name] of plots) {
      const holder = document.getElementById(name);
      if (holder.querySelector(".main-svg").clientWidth !== holder.clientWidth) Plotly.Plots.resize(holder);
    }
  });
  addEventListener("beforeprint", () => again(false));  // on paper
  addEventListener("afterprint", () => again(dark.matches));
}
