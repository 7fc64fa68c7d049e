"use strict";
/* Pictures of figures, each a function of the width that there is:

     clew.figure(title, (width) => clew.curves(width, { series, x, y }))

   A series is {name, points: [{x, y, low, high}], color, dash}; what has low and high shows its 95% interval. */

(function () {
  const NAMES = ["blue", "gold", "red", "green", "violet", "grey"];
  const LETTER = 6.7; // about the width of a character

  /** A colour of the page's theme, by its name, as #rrggbb. */
  clew.color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

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
  clew.ramp = (share) => (share < 0.5
    ? clew.mix(clew.color("gold"), clew.color("green"), share * 2)
    : clew.mix(clew.color("green"), clew.color("blue"), share * 2 - 1));

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
      const mark = { x1: x, x2: x + 16, y1: y - 4, y2: y - 4, stroke: one.color, "stroke-width": 3, "stroke-dasharray": one.dash };
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
    return { low, high, to: (from, length) => (value) => from + ((by(value) - by(low)) / (by(high) - by(low))) * length };
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
    const all = series.map((one, i) => ({ color: clew.hue(i), ...one, points: one.points.filter((p) => known(p.y) && (!log || p.y > 0)) }));
    const [names, above] = legend(all, width);
    const points = all.flatMap((one) => one.points);
    const ys = points.flatMap((p) => [p.y, p.low, p.high].filter((value) => known(value) && (!log || value > 0)));
    const down = scale(ys, range, log);
    const told = (value) => (percent ? clew.percent(value, (down.high - down.low) < 0.05 ? 1 : 0) : clew.number(value));
    const marks = log ? powers(down.low, down.high) : clew.ticks(down.low, down.high, 4);
    const left = Math.max(...marks.map((value) => told(value).length)) * LETTER + 12;
    const [top, bottom, right] = [above + (y ? 22 : 8), 36, 12];
    const [w, h] = [Math.max(40, width - left - right), height - top - bottom];
    const across = scale(categories ? [-0.5, categories.length - 0.5] : points.map((p) => p.x));
    const [px, py] = [across.to(left, w), down.to(top + h, -h)];
    const svg = clew.svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `${y} by ${x}` });
    clew.add(svg, names, text(0, top - 8, y, { class: "muted minor" }));
    for (const value of marks) {
      const at = py(value);
      clew.add(svg, clew.svg("line", { class: "grid-line", x1: left, x2: left + w, y1: at, y2: at }));
      clew.add(svg, text(left - 7, at + 4, told(value), { class: "muted minor", "text-anchor": "end" }));
    }
    clew.add(svg, bottomAxis(across, px, top + h, w, { categories, x, left }));
    if (known(mark)) clew.add(svg, clew.svg("line", { class: "guide", x1: px(mark), x2: px(mark), y1: top, y2: top + h }));
    all.forEach((one, i) => clew.add(svg, curve(one, px, py, categories ? (i - (all.length - 1) / 2) * Math.min(7, w / categories.length / all.length / 2) : 0)));
    return hover(svg, all, { px, top, h, left, w, x, told, categories, pick });
  };

  function bottomAxis(across, px, y, w, { categories, x, left }) {
    const values = categories ? categories.map((_, i) => i) : clew.ticks(across.low, across.high, Math.max(2, Math.floor(w / 80)));
    const longest = Math.max(...values.map((value) => (categories ? String(categories[value]) : clew.number(value)).length));
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
    const look = { fill: "none", stroke: one.color, "stroke-width": 1.8, "stroke-dasharray": one.dash, "stroke-linejoin": "round" };
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

  const whisker = (x, low, high, stroke) => clew.svg("line", { x1: x, x2: x, y1: low, y2: high, stroke, "stroke-width": 1.4, "stroke-opacity": 0.75 });

  /** Says what all series have at the place under the pointer. */
  function hover(svg, series, { px, top, h, left, w, x, told, categories, pick }) {
    const xs = [...new Set(series.flatMap((one) => one.points.map((p) => p.x)))];
    if (!xs.length) return clew.add(svg, text(left + w / 2, top + h / 2, "no figures", { class: "muted", "text-anchor": "middle" }));
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
      const said = series.flatMap((one) => one.points.filter((p) => p.x === here).map((p) => `${clew.text(one.name)}: ${told(p.y)}${between(p, told)}`));
      clew.say(event, [`${x} ${categories ? clew.text(categories[here]) : clew.number(here)}`, ...said]);
    };
    const leaves = () => (line.setAttribute("visibility", "hidden"), clew.hush());
    const on = { pointermove: moves, pointerdown: moves, pointerleave: leaves, click: (event) => pick && pick(nearest(event)) };
    const field = clew.svg("rect", { x: left, y: top, width: w, height: h, fill: "transparent", on, style: pick ? { cursor: "pointer" } : null });
    return clew.add(svg, line, field);
  }

  const between = (p, told) => (known(p.low) && known(p.high) ? ` [${told(p.low)}, ${told(p.high)}]` : "");

  /** Figures with their intervals, a row each.
      rows: [{label, value, low, high, series, hollow, said}]; several with one label share its row.
      series: names, or {name, color}, in their order; zero: a value to point out; digits, percent: how figures are
      told; pick: called with a row that is clicked. */
  clew.dots = function (width, { rows, series = [], x = "", zero, range, digits, percent, pick }) {
    const all = series.map((one, i) => ({ color: clew.hue(i), ...(typeof one === "string" ? { name: one } : one) }));
    const [names, above] = legend(all, width);
    const told = (value) => (percent ? clew.percent(value, digits ?? 1) : clew.number(value, digits));
    const labels = [...new Set(rows.map((row) => row.label))];
    const longest = Math.max(4, ...labels.map((label) => String(label).length));
    const figures = Math.max(...rows.map((row) => (known(row.value) ? told(row.value) + between(row, told) : "").length));
    const [beside, behind] = [longest * LETTER + 16, figures * LETTER * 0.92 + 18];
    const over = beside > width * 0.4 || width - beside - behind < 150; // labels that do not fit stand over their marks
    const right = width - behind < 220 ? 14 : behind;
    const left = over ? 10 : beside;
    const w = Math.max(60, width - left - right);
    const values = rows.flatMap((row) => [row.value, row.low, row.high, zero].filter(known));
    const line = scale(values, range);
    const room = range ? 0 : (line.high - line.low) * 0.03;
    const across = scale([], [line.low - room, line.high + room]);
    const px = across.to(left, w);
    const cut = (value) => Math.min(left + w, Math.max(left, px(value)));
    const svg = clew.svg("svg", { width, role: "img", "aria-label": x });
    clew.add(svg, names);
    let y = above + 6;
    const marks = [];
    labels.forEach((label, band) => {
      const mine = rows.filter((row) => row.label === label);
      const height = (over ? 18 : 6) + 15 * mine.length + 3;
      if (band % 2 === 0) clew.add(svg, clew.svg("rect", { x: 0, y, width, height, fill: clew.color("faint") }));
      const said = clip(clew.text(label), Math.floor((over ? width - 12 : left - 8) / LETTER));
      marks.push(text(over ? 8 : left - 10, over ? y + 14 : y + height / 2 + 4, said, { "text-anchor": over ? null : "end" }));
      mine.forEach((row, i) => {
        const at = y + (over ? 18 : 4) + 15 * i + 7;
        const color = all.length ? (all.find((one) => one.name === row.series) || all[0]).color : row.color || clew.color("blue");
        marks.push(dot(row, at, { cut, color, told, label, pick }));
        if (right > 14) marks.push(text(left + w + 10, at + 4, known(row.value) ? told(row.value) + between(row, told) : "–", { class: "muted minor" }));
      });
      y += height;
    });
    const ticks = clew.ticks(across.low, across.high, Math.max(2, Math.floor(w / 70)));
    const short = (value) => (percent ? `${clew.number(100 * value)}%` : clew.number(value));
    for (const value of ticks) {
      clew.add(svg, clew.svg("line", { class: "grid-line", x1: px(value), x2: px(value), y1: above + 6, y2: y }));
      clew.add(svg, text(px(value), y + 15, short(value), { class: "muted minor", "text-anchor": "middle" }));
    }
    if (known(zero)) clew.add(svg, clew.svg("line", { class: "axis", x1: px(zero), x2: px(zero), y1: above + 6, y2: y }));
    const height = y + (x ? 38 : 22);
    clew.add(svg, marks, x && text(left + w, y + 32, x, { class: "muted minor", "text-anchor": "end" }));
    svg.setAttribute("height", height);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    return svg;
  };

  function dot(row, y, { cut, color, told, label, pick }) {
    if (!known(row.value)) return [];
    const [low, high] = [known(row.low) ? row.low : row.value, known(row.high) ? row.high : row.value];
    const open = row.hollow ? clew.color("card") : color;
    const nodes = [
      clew.svg("line", { x1: cut(low), x2: cut(high), y1: y, y2: y, stroke: color, "stroke-width": 1.8 }),
      clew.svg("circle", { cx: cut(row.value), cy: y, r: 4, fill: open, stroke: color, "stroke-width": 1.6 }),
    ];
    const field = clew.svg("rect", { x: cut(low) - 8, y: y - 7, width: cut(high) - cut(low) + 16, height: 14, fill: "transparent" });
    if (pick) field.addEventListener("click", () => pick(row));
    const said = [clew.text(label), row.series && clew.text(row.series), told(row.value) + between(row, told), row.condition && clew.text(row.condition), row.said && clew.text(row.said)];
    return [...nodes, clew.tip(field, said.filter(Boolean))];
  }

  /** A heat map. rows, columns: names; at(r, c): {value, low, high, label, said} or null; range: of the colours, [-1, 1] goes
      from red through nothing to blue; pick: called with r and c. */
  clew.heat = function (width, { rows, columns, at, range = [0, 1], digits = 2, percent, corner = "", pick, picked }) {
    const longest = (names) => Math.max(...names.map((name) => String(name).length)) * LETTER * 0.92;
    const left = Math.min(width * 0.4, Math.max(longest(rows), longest([corner])) + 12);
    const wanted = Math.max(46, Math.min(110, longest(columns) + 8));
    const w = Math.min(wanted, (width - left - 2) / columns.length);
    const leans = longest(columns) + 6 > w; // names that do not fit stand on their toes
    const top = leans ? Math.min(90, longest(columns) * 0.72 + 14) : 24;
    const h = Math.max(18, Math.min(28, w));
    const height = top + h * rows.length + 4;
    const total = Math.min(width, left + w * columns.length + (leans ? 30 : 2));
    const svg = clew.svg("svg", { width: total, height, viewBox: `0 0 ${total} ${height}`, role: "img", "aria-label": corner });
    const told = (value) => (percent ? clew.percent(value, 0) : clew.number(value, digits));
    clew.add(svg, text(left - 8, top - 10, corner, { class: "muted minor", "text-anchor": "end" }));
    columns.forEach((name, c) => {
      const [x, y] = [left + w * (c + 0.5), top - 10];
      const turned = leans ? { transform: `rotate(-42 ${x} ${y})`, "text-anchor": "start" } : { "text-anchor": "middle" };
      clew.add(svg, text(x, y, clip(clew.text(name), 18), { class: "muted minor", ...turned }));
    });
    rows.forEach((name, r) => {
      const label = clip(clew.text(name), Math.floor((left - 8) / LETTER));
      clew.add(svg, text(left - 8, top + h * (r + 0.5) + 4, label, { "text-anchor": "end", class: "minor" }));
      columns.forEach((column, c) => {
        const cell = at(r, c);
        if (!cell || !known(cell.value)) return;
        const box = { x: left + w * c + 1, y: top + h * r + 1, width: Math.max(1, w - 2), height: h - 2, rx: 3, fill: clew.shade(cell.value, range) };
        if (picked && picked(r, c)) Object.assign(box, { stroke: clew.color("ink"), "stroke-width": 2 });
        const field = clew.svg("rect", pick ? { ...box, on: { click: () => pick(r, c) }, style: { cursor: "pointer" } } : box);
        clew.add(svg, clew.tip(field, [`${clew.text(name)}, ${clew.text(column)}`, cell.label || told(cell.value) + between(cell, told), cell.said && clew.text(cell.said)].filter(Boolean)));
        const deep = Math.abs(cell.value) / Math.max(Math.abs(range[0]), Math.abs(range[1])) > 0.6;
        const look = { "text-anchor": "middle", "pointer-events": "none", class: "minor", style: { fill: clew.color(deep ? "card" : "ink"), opacity: Math.abs(cell.value) < 0.005 ? 0.35 : 1 } };
        if (w > 34) clew.add(svg, text(left + w * (c + 0.5), top + h * (r + 0.5) + 4, cell.label || told(cell.value), look));
      });
    });
    return svg;
  };

  /** Arms by two figures. points: {name, condition, x, y}, both figures as [value, low, high]. A line joins those that
      no other beats in both; more is better, of x less where `less` says so. */
  clew.scatter = function (width, { points, x, y, less, height = 320 }) {
    const sides = ["x", "y"].map((axis) => scale(points.flatMap((one) => one[axis].filter(known))));
    const [xs, ys] = sides.map(({ low, high }) => scale([], [low - (high - low) * 0.04, high + (high - low) * 0.04]));
    const marks = clew.ticks(ys.low, ys.high, 5);
    const left = Math.max(...marks.map((value) => clew.number(value).length)) * LETTER + 14;
    const [top, w, h] = [22, Math.max(40, width - left - 12), height - 60];
    const [px, py] = [xs.to(left, w), ys.to(top + h, -h)];
    const svg = clew.svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `${y} against ${x}` });
    clew.add(svg, text(0, 12, y, { class: "muted minor" }), bottomAxis(xs, px, top + h, w, { x, left }));
    for (const value of marks) {
      clew.add(svg, clew.svg("line", { class: "grid-line", x1: left, x2: left + w, y1: py(value), y2: py(value) }));
      clew.add(svg, text(left - 7, py(value) + 4, clew.number(value), { class: "muted minor", "text-anchor": "end" }));
    }
    const worth = (one) => [less ? -one.x[0] : one.x[0], one.y[0]];
    const beats = ([x1, y1], [x2, y2]) => x1 >= x2 && y1 >= y2 && (x1 > x2 || y1 > y2);
    const best = points.filter((one) => !points.some((other) => beats(worth(other), worth(one))));
    const edge = best.sort((a, b) => a.x[0] - b.x[0]).map((one) => [px(one.x[0]), py(one.y[0])]);
    clew.add(svg, clew.svg("path", { d: path(edge), fill: "none", stroke: clew.color("gold"), "stroke-width": 5, "stroke-opacity": 0.35, "stroke-linejoin": "round" }));
    const names = [...new Set(points.map((one) => one.name))];
    const ends = ([value, low, high]) => [known(low) ? low : value, known(high) ? high : value];
    for (const one of points) {
      const stroke = clew.hue(names.indexOf(one.name));
      const [[x1, x2], [y1, y2]] = [ends(one.x).map(px), ends(one.y).map(py)];
      const look = { stroke, "stroke-width": 1, "stroke-opacity": 0.6 };
      clew.add(svg, clew.svg("line", { ...look, x1, x2, y1: py(one.y[0]), y2: py(one.y[0]) }), clew.svg("line", { ...look, x1: px(one.x[0]), x2: px(one.x[0]), y1, y2 }));
      const told = (name, [value, low, high]) => `${name}: ${clew.number(value)}${between({ low, high }, clew.number)}`;
      const dot = clew.svg("circle", { cx: px(one.x[0]), cy: py(one.y[0]), r: 5, fill: stroke, stroke: clew.color("card"), "stroke-width": 1 });
      clew.add(svg, clew.tip(dot, [clew.text(one.name), clew.text(one.condition), told(x, one.x), told(y, one.y)].filter(Boolean)));
    }
    return svg;
  };

  /** The colour of a value in a range: from nothing to blue, below 0 to red. */
  clew.shade = function (value, [low, high]) {
    const most = low < 0 ? Math.max(-low, high) : high;
    const share = low < 0 ? Math.abs(value) / most : (value - low) / (high - low);
    return clew.mix(clew.color("faint"), clew.color(low < 0 && value < 0 ? "red" : "blue"), share);
  };
})();
