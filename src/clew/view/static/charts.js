"use strict";
/* Pictures of figures, each a function of the width that there is:

     clew.figure(title, (width) => clew.curves(width, { series, x, y }))

   A series is {name, points: [{x, y, low, high}], color, dash}; what has low and high shows its 95% interval. */

(function () {
  const NAMES = ["blue", "gold", "red", "green", "violet", "grey"];
  const LETTER = 6.7; // about the width of a character

  /** A colour of the page's theme, by its name, as #rrggbb. Kept: to ask for one makes the browser lay out all. */
  clew.color = (name) =>
    (clew.palette[name] ||= getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());

  /** The colour of series i of several. */
  clew.hue = (i) => clew.color(NAMES[i % NAMES.length]);

  const channels = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));

  /** So much of colour b in colour a, both #rrggbb. */
  clew.mix = function (a, b, share) {
    const [from, to] = [channels(a), channels(b)];
    const part = Math.min(1, Math.max(0, share || 0));
    return `rgb(${from.map((one, i) => Math.round(one + (to[i] - one) * part)).join(",")})`;
  };

  /** A colour for an ordered series: gold, then green, then blue. */
  clew.ramp = (share) =>
    share < 0.5
      ? clew.mix(clew.color("gold"), clew.color("green"), share * 2)
      : clew.mix(clew.color("green"), clew.color("blue"), share * 2 - 1);

  /** Round numbers across a range. */
  clew.ticks = function (low, high, count) {
    if (!(high > low)) return [low];
    const rough = (high - low) / Math.max(1, count);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * ([1, 2, 5, 10].find((one) => one * power >= rough * 0.999) || 10);
    const first = Math.ceil(low / step - 1e-9);
    const last = Math.floor(high / step + 1e-9);
    return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
  };

  const clip = (text, most) => (text.length > most ? `${text.slice(0, Math.max(1, most - 1))}…` : text);
  const known = (value) => typeof value === "number" && Number.isFinite(value);
  const text = (x, y, said, attrs) => clew.svg("text", { x, y, ...attrs }, said);
  const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");

  /** A row of names with their colours; gives the nodes and how high they stand. */
  function legend(series, width) {
    let [x, y] = [0, 11];
    const nodes = [];
    for (const one of series.length > 1 ? series : []) {
      const name = clip(clew.text(one.name), Math.floor(width / LETTER) - 4);
      const needs = name.length * LETTER + 34;
      if (x && x + needs > width) [x, y] = [0, y + 18];
      const mark = {
        x1: x,
        x2: x + 16,
        y1: y - 4,
        y2: y - 4,
        stroke: one.color,
        "stroke-width": 3,
        "stroke-dasharray": one.dash,
      };
      nodes.push(clew.svg("line", mark), text(x + 21, y, name, { class: "muted" }));
      x += needs;
    }
    return [nodes, nodes.length ? y + 10 : 0];
  }

  function scale(values, range, log) {
    let [low, high] = range || [Math.min(...values), Math.max(...values)];
    if (!known(low) || !known(high)) [low, high] = [0, 1];
    if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - 0.5, high + 0.5];
    const by = log ? Math.log10 : (value) => value;
    return {
      low,
      high,
      to: (from, length) => (value) => from + ((by(value) - by(low)) / (by(high) - by(low))) * length,
    };
  }

  function powers(low, high) {
    const all = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const digit of [1, 2, 5]) all.push(Number((digit * 10 ** power).toPrecision(3)));
    }
    const inside = all.filter((value) => value >= low * 0.999 && value <= high * 1.001);
    return inside.length > 6 ? inside.filter((value) => /^1|0*1$/.test(String(value).replace(/[.0]/g, ""))) : inside;
  }

  /** Curves, with dots where there are few points.
      x, y: what the axes are called; range: of y; log: of y; percent: y in %; categories: names of x = 0, 1, …;
      mark: an x to point out; pick: called with the x that is clicked. */
  clew.curves = function (width, { series, x, y, height = 250, range, log, percent, categories, mark, pick }) {
    const all = series.map((one, i) => ({
      color: clew.hue(i),
      dash: !one.color && i >= NAMES.length ? "6 3" : null, // where the colours come again
      ...one,
      points: one.points.filter((p) => known(p.y) && (!log || p.y > 0)),
    }));
    const [names, above] = legend(all, width);
    const points = all.flatMap((one) => one.points);
    const ys = points.flatMap((p) => [p.y, p.low, p.high].filter((value) => known(value) && (!log || value > 0)));
    const down = scale(ys, range, log);
    const told = (value) => (percent ? clew.percent(value, down.high - down.low < 0.05 ? 1 : 0) : clew.number(value));
    const marks = log ? powers(down.low, down.high) : clew.ticks(down.low, down.high, 4);
    const left = Math.max(...marks.map((value) => told(value).length)) * LETTER + 12;
    const [top, bottom, right] = [above + (y ? 22 : 8), 36, 12];
    const [w, h] = [Math.max(40, width - left - right), height - top - bottom];
    const across = scale(categories ? [-0.5, categories.length - 0.5] : points.map((p) => p.x));
    const [px, py] = [across.to(left, w), down.to(top + h, -h)];
    const svg = clew.svg("svg", {
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: "img",
      "aria-label": `${y} by ${x}`,
    });
    clew.add(svg, names, text(0, top - 8, y, { class: "muted minor" }));
    for (const value of marks) {
      const at = py(value);
      clew.add(svg, clew.svg("line", { class: "grid-line", x1: left, x2: left + w, y1: at, y2: at }));
      clew.add(svg, text(left - 7, at + 4, told(value), { class: "muted minor", "text-anchor": "end" }));
    }
    clew.add(svg, bottomAxis(across, px, top + h, w, { categories, x, left }));
    if (known(mark))
      clew.add(svg, clew.svg("line", { class: "guide", x1: px(mark), x2: px(mark), y1: top, y2: top + h }));
    all.forEach((one, i) =>
      clew.add(
        svg,
        curve(
          one,
          px,
          py,
          categories ? (i - (all.length - 1) / 2) * Math.min(7, w / categories.length / all.length / 2) : 0,
        ),
      ),
    );
    return hover(svg, all, { px, top, h, left, w, x, told, categories, pick });
  };

  function bottomAxis(across, px, y, w, { categories, x, left }) {
    const values = categories
      ? categories.map((_, i) => i)
      : clew.ticks(across.low, across.high, Math.max(2, Math.floor(w / 80)));
    const longest = Math.max(
      ...values.map((value) => (categories ? String(categories[value]) : clew.number(value)).length),
    );
    const every = categories ? Math.ceil((longest * LETTER + 8) / (w / values.length)) : 1;
    const nodes = [clew.svg("line", { class: "axis", x1: left, x2: left + w, y1: y, y2: y })];
    for (const value of values.filter((_, i) => i % every === 0)) {
      const said = categories ? clew.text(categories[value]) : clew.number(value);
      nodes.push(text(px(value), y + 15, said, { class: "muted minor", "text-anchor": "middle" }));
    }
    nodes.push(text(left + w, y + 31, x, { class: "muted minor", "text-anchor": "end" }));
    return nodes;
  }

  function curve(one, px, py, shift) {
    const at = one.points.map((p) => [px(p.x) + shift, py(p.y)]);
    const banded = one.points.filter((p) => known(p.low) && known(p.high));
    const look = {
      fill: "none",
      stroke: one.color,
      "stroke-width": 1.8,
      "stroke-dasharray": one.dash,
      "stroke-linejoin": "round",
    };
    const nodes = [];
    if (banded.length > 24) {
      const edge = [...banded.map((p) => [px(p.x), py(p.high)]), ...banded.map((p) => [px(p.x), py(p.low)]).reverse()];
      nodes.push(clew.svg("path", { d: `${path(edge)}Z`, fill: one.color, "fill-opacity": 0.16 }));
    } else {
      nodes.push(banded.map((p) => whisker(px(p.x) + shift, py(p.low), py(p.high), one.color)));
    }
    if (one.lines !== false) nodes.push(clew.svg("path", { d: path(at), ...look }));
    if (at.length <= 40) nodes.push(at.map(([cx, cy]) => clew.svg("circle", { cx, cy, r: 3, fill: one.color })));
    return nodes;
  }

  const whisker = (x, low, high, stroke) =>
    clew.svg("line", { x1: x, x2: x, y1: low, y2: high, stroke, "stroke-width": 1.4, "stroke-opacity": 0.75 });

  /** Says what all series have at the place under the pointer. */
  function hover(svg, series, { px, top, h, left, w, x, told, categories, pick }) {
    const xs = [...new Set(series.flatMap((one) => one.points.map((p) => p.x)))];
    if (!xs.length)
      return clew.add(svg, text(left + w / 2, top + h / 2, "no figures", { class: "muted", "text-anchor": "middle" }));
    const line = clew.svg("line", { class: "guide", y1: top, y2: top + h, visibility: "hidden" });
    const nearest = (event) => {
      const box = svg.getBoundingClientRect();
      const at = event.clientX - box.left;
      return xs.reduce((best, one) => (Math.abs(px(one) - at) < Math.abs(px(best) - at) ? one : best));
    };
    const moves = (event) => {
      const here = nearest(event);
      for (const end of ["x1", "x2"]) line.setAttribute(end, px(here));
      line.setAttribute("visibility", "visible");
      const said = series.flatMap((one) =>
        one.points.filter((p) => p.x === here).map((p) => `${clew.text(one.name)}: ${told(p.y)}${between(p, told)}`),
      );
      clew.say(event, [`${x} ${categories ? clew.text(categories[here]) : clew.number(here)}`, ...said]);
    };
    const leaves = () => (line.setAttribute("visibility", "hidden"), clew.hush());
    const on = {
      pointermove: moves,
      pointerdown: moves,
      pointerleave: leaves,
      click: (event) => pick && pick(nearest(event)),
    };
    const field = clew.svg("rect", {
      x: left,
      y: top,
      width: w,
      height: h,
      fill: "transparent",
      on,
      style: pick ? { cursor: "pointer" } : null,
    });
    return clew.add(svg, line, field);
  }

  const between = (p, told) => (known(p.low) && known(p.high) ? ` [${told(p.low)}, ${told(p.high)}]` : "");

  clew.parts = { LETTER, clip, known, text, path, legend, scale, bottomAxis, between };
})();
