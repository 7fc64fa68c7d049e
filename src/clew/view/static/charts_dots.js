"use strict";
/* Dots with intervals, a row each, and arms by two figures. */

(function () {
  const { LETTER, clip, known, text, path, legend, scale, bottomAxis, between } = clew.parts;

  /** Figures with their intervals, a row each.
      rows: [{label, value, low, high, series, hollow, said}]; several with one label share its row.
      series: names, or {name, color}, in their order; zero: a value to point out; digits, percent: how figures are
      told; pick: called with a row that is clicked. */
  clew.dots = function (width, { rows, series = [], x = "", zero, range, digits, percent, pick }) {
    const all = series.map((one, i) => ({ color: clew.hue(i), ...(typeof one === "string" ? { name: one } : one) }));
    const [names, above] = legend(all, width);
    const told = (value) => (percent ? clew.percent(value, digits) : clew.number(value, digits));
    const labels = [...new Set(rows.map((row) => row.label))];
    const longest = Math.max(4, ...labels.map((label) => String(label).length));
    const figures = Math.max(
      ...rows.map((row) => (known(row.value) ? told(row.value) + between(row, told) : "").length),
    );
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
      const ground = clew.color(band % 2 === 0 ? "faint" : "card");
      clew.add(svg, clew.svg("rect", { x: 0, y, width, height, fill: ground }));
      const said = clip(clew.text(label), Math.floor((over ? width - 12 : left - 8) / LETTER));
      const place = over ? [8, y + 14] : [left - 10, y + height / 2 + 4];
      const halo = { stroke: ground, "stroke-width": 4, "paint-order": "stroke" }; // lines of the axis end before it
      marks.push(text(...place, said, over ? halo : { "text-anchor": "end" }));
      mine.forEach((row, i) => {
        const at = y + (over ? 18 : 4) + 15 * i + 7;
        const color = all.length
          ? (all.find((one) => one.name === row.series) || all[0]).color
          : row.color || clew.color("blue");
        marks.push(dot(row, at, { cut, color, told, label, pick }));
        if (right > 14)
          marks.push(
            text(left + w + 10, at + 4, known(row.value) ? told(row.value) + between(row, told) : "–", {
              class: "muted minor",
            }),
          );
      });
      y += height;
    });
    const ticks = clew.ticks(across.low, across.high, Math.max(2, Math.floor(w / 70)));
    const short = (value) => (percent ? `${clew.number(100 * value)}%` : clew.number(value));
    for (const value of ticks) {
      clew.add(svg, clew.svg("line", { class: "grid-line", x1: px(value), x2: px(value), y1: above + 6, y2: y }));
      clew.add(svg, text(px(value), y + 15, short(value), { class: "muted minor", "text-anchor": "middle" }));
    }
    if (known(zero))
      clew.add(svg, clew.svg("line", { class: "axis", x1: px(zero), x2: px(zero), y1: above + 6, y2: y }));
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
    const field = clew.svg("rect", {
      x: cut(low) - 8,
      y: y - 7,
      width: cut(high) - cut(low) + 16,
      height: 14,
      fill: "transparent",
    });
    if (pick) field.addEventListener("click", () => pick(row));
    const said = [
      clew.text(label),
      row.series && clew.text(row.series),
      told(row.value) + between(row, told),
      row.condition && clew.text(row.condition),
      row.said && clew.text(row.said),
    ];
    return [...nodes, clew.tip(field, said.filter(Boolean))];
  }

  /** Arms by two figures. points: {name, condition, x, y}, both figures as [value, low, high]. Those that no other
      beats in both are ringed and joined by a line; more is better, of x less where `less` says so. */
  clew.scatter = function (width, { points, x, y, less, height = 320 }) {
    const sides = ["x", "y"].map((axis) => scale(points.flatMap((one) => one[axis].filter(known))));
    const [xs, ys] = sides.map(({ low, high }) => scale([], [low - (high - low) * 0.04, high + (high - low) * 0.04]));
    const marks = clew.ticks(ys.low, ys.high, 5);
    const left = Math.max(...marks.map((value) => clew.number(value).length)) * LETTER + 14;
    const names = [...new Set(points.map((one) => one.name))];
    // Of more than six names the colours come again: the points themselves say which they are.
    const [told, above] = legend(names.length > 6 ? [] : names.map((name, i) => ({ name, color: clew.hue(i) })), width);
    height += above;
    const [top, w, h] = [22 + above, Math.max(40, width - left - 12), height - 60 - above];
    const [px, py] = [xs.to(left, w), ys.to(top + h, -h)];
    const svg = clew.svg("svg", {
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: "img",
      "aria-label": `${y} against ${x}`,
    });
    clew.add(svg, told, text(0, above + 12, y, { class: "muted minor" }), bottomAxis(xs, px, top + h, w, { x, left }));
    for (const value of marks) {
      clew.add(svg, clew.svg("line", { class: "grid-line", x1: left, x2: left + w, y1: py(value), y2: py(value) }));
      clew.add(svg, text(left - 7, py(value) + 4, clew.number(value), { class: "muted minor", "text-anchor": "end" }));
    }
    const worth = (one) => [less ? -one.x[0] : one.x[0], one.y[0]];
    const beats = ([x1, y1], [x2, y2]) => x1 >= x2 && y1 >= y2 && (x1 > x2 || y1 > y2);
    const best = points.filter((one) => !points.some((other) => beats(worth(other), worth(one))));
    const edge = best.sort((a, b) => a.x[0] - b.x[0]).map((one) => [px(one.x[0]), py(one.y[0])]);
    clew.add(
      svg,
      clew.svg("path", {
        d: path(edge),
        fill: "none",
        stroke: clew.color("gold"),
        "stroke-width": 5,
        "stroke-opacity": 0.35,
        "stroke-linejoin": "round",
      }),
    );
    for (const [cx, cy] of edge)
      clew.add(
        svg,
        clew.svg("circle", { cx, cy, r: 9, fill: "none", stroke: clew.color("gold"), "stroke-width": 2.5, class: "best" }),
      );
    const ends = ([value, low, high]) => [known(low) ? low : value, known(high) ? high : value];
    for (const one of points) {
      const stroke = clew.hue(names.indexOf(one.name));
      const [[x1, x2], [y1, y2]] = [ends(one.x).map(px), ends(one.y).map(py)];
      const look = { stroke, "stroke-width": 1, "stroke-opacity": 0.6 };
      clew.add(
        svg,
        clew.svg("line", { ...look, x1, x2, y1: py(one.y[0]), y2: py(one.y[0]) }),
        clew.svg("line", { ...look, x1: px(one.x[0]), x2: px(one.x[0]), y1, y2 }),
      );
      const says = (name, [value, low, high]) => `${name}: ${clew.number(value)}${between({ low, high }, clew.number)}`;
      const dot = clew.svg("circle", {
        cx: px(one.x[0]),
        cy: py(one.y[0]),
        r: 5,
        fill: stroke,
        stroke: clew.color("card"),
        "stroke-width": 1,
      });
      clew.add(
        svg,
        clew.tip(dot, [clew.text(one.name), clew.text(one.condition), says(x, one.x), says(y, one.y)].filter(Boolean)),
      );
    }
    return svg;
  };
})();
