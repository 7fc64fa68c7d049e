"use strict";
/* Heat maps. */

(function () {
  const { LETTER, clip, known, text, between } = clew.parts;

  /** A heat map. rows, columns: names; at(r, c): {value, low, high, label, said} or null; range: of the colours, [-1, 1] goes
      from red through nothing to blue; pick: called with r and c. */
  clew.heat = function (width, { rows, columns, at, range = [0, 1], digits = 2, percent, corner = "", pick, picked }) {
    const longest = (names) => Math.max(...names.map((name) => String(name).length)) * LETTER * 0.92;
    const left = Math.min(width * 0.4, Math.max(longest(rows), longest([corner])) + 12);
    const wanted = Math.max(46, Math.min(110, longest(columns) + 8));
    const even = Math.min(wanted, (width - left - 2) / columns.length);
    const leans = longest(columns) + 6 > even; // names that do not fit stand on their toes, and need room on their right
    const reach = columns.map((name) => (leans ? Math.min(18, String(name).length) * LETTER * 0.92 * 0.75 : 0));
    const w = Math.max(8, Math.min(even, ...reach.map((needs, c) => (width - left - 2 - needs) / (c + 0.5))));
    const top = leans ? Math.min(90, longest(columns) * 0.72 + 14) : 24;
    const h = Math.max(18, Math.min(28, w));
    const height = top + h * rows.length + 4;
    const total = Math.min(
      width,
      2 + Math.max(left + w * columns.length, ...reach.map((needs, c) => left + w * (c + 0.5) + needs)),
    );
    const svg = clew.svg("svg", {
      width: total,
      height,
      viewBox: `0 0 ${total} ${height}`,
      role: "img",
      "aria-label": corner,
    });
    const told = (value) => (percent ? clew.percent(value, 0) : clew.number(value, digits));
    clew.add(svg, text(left - 8, top - 10, corner, { class: "muted minor", "text-anchor": "end" }));
    columns.forEach((name, c) => {
      const [x, y] = [left + w * (c + 0.5), top - 10];
      const turned = leans
        ? { transform: `rotate(-42 ${x} ${y})`, "text-anchor": "start" }
        : { "text-anchor": "middle" };
      clew.add(svg, text(x, y, clip(clew.text(name), 18), { class: "muted minor", ...turned }));
    });
    rows.forEach((name, r) => {
      const label = clip(clew.text(name), Math.floor((left - 8) / (LETTER * 0.92)));
      clew.add(svg, text(left - 8, top + h * (r + 0.5) + 4, label, { "text-anchor": "end", class: "minor" }));
      columns.forEach((column, c) => {
        const cell = at(r, c);
        if (!cell || !known(cell.value)) return;
        const box = {
          x: left + w * c + 1,
          y: top + h * r + 1,
          width: Math.max(1, w - 2),
          height: h - 2,
          rx: 3,
          fill: clew.shade(cell.value, range),
        };
        if (picked && picked(r, c)) Object.assign(box, { stroke: clew.color("ink"), "stroke-width": 2 });
        const field = clew.svg(
          "rect",
          pick ? { ...box, on: { click: () => pick(r, c) }, style: { cursor: "pointer" } } : box,
        );
        clew.add(
          svg,
          clew.tip(
            field,
            [
              `${clew.text(name)}, ${clew.text(column)}`,
              cell.label || told(cell.value) + between(cell, told),
              cell.said && clew.text(cell.said),
            ].filter(Boolean),
          ),
        );
        const deep = Math.abs(cell.value) / Math.max(Math.abs(range[0]), Math.abs(range[1])) > 0.6;
        const look = {
          "text-anchor": "middle",
          "pointer-events": "none",
          class: "minor",
          style: { fill: clew.color(deep ? "card" : "ink"), opacity: Math.abs(cell.value) < 0.005 ? 0.35 : 1 },
        };
        if (w > 34)
          clew.add(svg, text(left + w * (c + 0.5), top + h * (r + 0.5) + 4, cell.label || told(cell.value), look));
      });
    });
    return svg;
  };

  /** The colour of a value in a range: from nothing to blue, below 0 to red. */
  clew.shade = function (value, [low, high]) {
    const most = low < 0 ? Math.max(-low, high) : high;
    const share = low < 0 ? Math.abs(value) / most : (value - low) / (high - low);
    return clew.mix(clew.color("faint"), clew.color(low < 0 && value < 0 ? "red" : "blue"), share);
  };
})();
