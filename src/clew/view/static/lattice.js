"use strict";
/* A maze with paths through it, as SVG.

     clew.lattice(maze, { size, shades: [{cell, color, opacity}], trails: [{cells, color, width, opacity}], label })

   maze: {rows, cols, down, right, origin, target, best, marked}. down and right are texts of 0 and 1, a character a cell,
   row by row: whether a passage is open to the cell below, or to the right. Cells are [row, column]; marked, of
   [cell, cell], are passages that the prompt points out. */

(function () {
  clew.lattice = function (maze, { size = 120, shades = [], trails = [], label = "maze" } = {}) {
    const { rows, cols } = maze;
    const unit = Math.min(32, size / Math.max(rows, cols));
    const thick = Math.max(1.2, unit / 14);
    const [w, h] = [unit * cols + thick * 2, unit * rows + thick * 2];
    const view = {
      viewBox: `${-thick} ${-thick} ${w} ${h}`,
      width: w,
      height: h,
      class: "maze",
      role: "img",
      "aria-label": label,
    };
    const svg = clew.svg("svg", view);
    const center = ([r, c]) => [(c + 0.5) * unit, (r + 0.5) * unit];
    for (const { cell, color, opacity } of shades) {
      const [x, y] = [cell[1] * unit, cell[0] * unit];
      clew.add(svg, clew.svg("rect", { x, y, width: unit, height: unit, fill: color, "fill-opacity": opacity }));
    }
    for (const [a, b] of maze.marked || []) {
      clew.add(svg, trail([a, b].map(center), { color: clew.color("violet"), width: unit * 0.62, opacity: 0.35 }));
    }
    for (const one of trails)
      clew.add(svg, trail(one.cells.map(center), { ...one, width: (one.width || 0.12) * unit }));
    clew.add(
      svg,
      clew.svg("path", {
        d: walls(maze, unit),
        stroke: clew.color("wall"),
        "stroke-width": thick,
        fill: "none",
        "stroke-linecap": "round",
      }),
    );
    const [[x0, y0], [x1, y1]] = [center(maze.origin), center(maze.target)];
    const ink = clew.color("ink");
    const side = unit * 0.36;
    clew.add(svg, clew.svg("circle", { cx: x0, cy: y0, r: unit * 0.19, fill: ink }));
    clew.add(svg, clew.svg("rect", { x: x1 - side / 2, y: y1 - side / 2, width: side, height: side, fill: ink }));
    return svg;
  };

  function walls({ rows, cols, down, right }, unit) {
    let path = `M0,0H${cols * unit}M0,0V${rows * unit}`;
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < cols; c++) {
        const [x, y, at] = [c * unit, r * unit, r * cols + c];
        if (down[at] !== "1") path += `M${x},${y + unit}h${unit}`;
        if (right[at] !== "1") path += `M${x + unit},${y}v${unit}`;
      }
    }
    return path;
  }

  function trail(points, { color, width, opacity = 1 }) {
    if (!points.length) return null;
    const look = { fill: "none", stroke: color, "stroke-width": width, "stroke-opacity": opacity };
    if (points.length === 1) points = [points[0], points[0]];
    const d = points.map(([x, y], i) => `${i ? "L" : "M"}${x},${y}`).join("");
    return clew.svg("path", { d, ...look, "stroke-linecap": "round", "stroke-linejoin": "round" });
  }

  /** The cells of a maze that a model wrote between two words: <PATH_START> and <PATH_END>, say. */
  function cellsIn(maze, text, start, end) {
    const [, body = ""] = text.split(start);
    const cells = [...body.split(end)[0].matchAll(/\((\d+),(\d+)\)/g)].map(([, r, c]) => [Number(r), Number(c)]);
    return cells.filter(([r, c]) => r < maze.rows && c < maze.cols);
  }

  /** A maze and where a thought searched it, cells that it came to first darkest; null where it names no cell. */
  clew.searched = function (maze, thought, size) {
    const named = cellsIn(maze, thought, "<THOUGHT_START>", "<THOUGHT_END>");
    const cells = [...new Map(named.map((cell) => [String(cell), cell])).values()]; // in the order of first visits
    if (!cells.length) return null;
    const faded = (i) => 0.8 - 0.65 * (i / Math.max(1, cells.length - 1));
    const shades = cells.map((cell, i) => ({ cell, color: clew.color("violet"), opacity: faded(i) }));
    return clew.lattice(maze, { size, shades, label: "a maze and the cells that the thought came to, the first darkest" });
  };

  /** A maze with a shortest path in gold, and an answer: its valid start in blue, what follows it in red. */
  clew.attempt = function (maze, answer, size) {
    const trails = [{ cells: maze.best, color: clew.color("gold"), width: 0.42, opacity: 0.55 }];
    if (answer) {
      const cells = cellsIn(maze, answer.text, "<PATH_START>", "<PATH_END>");
      const wrong = answer.good < cells.length ? cells.slice(Math.max(0, answer.good - 1)) : [];
      trails.push({ cells: cells.slice(0, answer.good), color: clew.color("blue"), width: 0.15 });
      trails.push({ cells: wrong, color: clew.color("red"), width: 0.15 });
    }
    return clew.lattice(maze, { size, trails, label: "a maze, a shortest path in gold, the answer in blue and red" });
  };
})();
