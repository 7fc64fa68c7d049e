"use strict";
/* A maze as SVG: walls, the right path, the model's, where it stands, and one reading laid over it. */

(function (maze) {
  const UNIT = 48;
  const EDGE = 9;

  const x = (question, cell) => EDGE + UNIT * ((cell % question.cols) + 0.5);
  const y = (question, cell) => EDGE + UNIT * (Math.floor(cell / question.cols) + 0.5);

  /** The path's line through the centres of cells. */
  function line(question, cells, attrs) {
    const there = cells.filter((cell) => cell >= 0);
    if (there.length < 2) return null;
    const points = there.map((cell) => `${x(question, cell)},${y(question, cell)}`).join(" ");
    return clew.svg("polyline", {
      points,
      fill: "none",
      "stroke-linejoin": "round",
      "stroke-linecap": "round",
      ...attrs,
    });
  }

  /** All walls as one line, the border apart. */
  function walls(question) {
    const { rows, cols } = question;
    const open = new Set(question.edges.map(([a, b]) => `${Math.min(a, b)} ${Math.max(a, b)}`));
    let way = "";
    for (let cell = 0; cell < rows * cols; cell++) {
      const [row, col] = [Math.floor(cell / cols), cell % cols];
      const [right, down] = [EDGE + UNIT * (col + 1), EDGE + UNIT * (row + 1)];
      if (col + 1 < cols && !open.has(`${cell} ${cell + 1}`)) way += `M${right} ${down - UNIT}V${down}`;
      if (row + 1 < rows && !open.has(`${cell} ${cell + cols}`)) way += `M${right - UNIT} ${down}H${right}`;
    }
    return way;
  }

  function frame(question, attrs) {
    const [width, height] = [2 * EDGE + UNIT * question.cols, 2 * EDGE + UNIT * question.rows];
    const svg = clew.svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "board", role: "img", ...attrs });
    const box = { x: EDGE, y: EDGE, width: width - 2 * EDGE, height: height - 2 * EDGE, rx: 5 };
    return clew.add(svg, clew.svg("rect", { class: "floor", ...box }));
  }

  function border(question) {
    const box = { x: EDGE, y: EDGE, width: UNIT * question.cols, height: UNIT * question.rows, rx: 5 };
    return [
      clew.svg("path", { class: "wall", d: walls(question) || "M0 0" }),
      clew.svg("rect", { class: "wall", fill: "none", ...box }),
    ];
  }

  /** Origin, a disc, and target, a square. */
  function ends(question) {
    const [a, b] = [question.origin, question.target];
    return [
      clew.svg("circle", { class: "end", cx: x(question, a), cy: y(question, a), r: 7 }),
      clew.svg("rect", {
        class: "end",
        x: x(question, b) - 6.5,
        y: y(question, b) - 6.5,
        width: 13,
        height: 13,
        rx: 1.5,
      }),
    ];
  }

  /** A small picture of a maze and a path through it. */
  maze.thumbnail = function (question, walk) {
    const svg = frame(question, { class: "board thumb", "aria-hidden": "true" });
    const good = walk.wrong === null ? walk.path : walk.path.slice(0, walk.wrong);
    return clew.add(
      svg,
      line(question, question.right || [], { class: "right" }),
      line(question, good, { class: "walk" }),
      walk.wrong !== null && line(question, walk.path.slice(Math.max(0, walk.wrong - 1)), { class: "walk astray" }),
      border(question),
      ends(question),
    );
  };

  /** An arrow from the centre of a cell, up, down, left or right. */
  function arrow(question, cell, way, { length, width, ...attrs }) {
    const [down, right] = maze.WAYS[way];
    const [cx, cy] = [x(question, cell), y(question, cell)];
    const at = (along, beside) => `${cx + right * along + down * beside} ${cy + down * along + right * beside}`;
    const head = 3 + width;
    const [shaft, back, aside] = [length - head * 0.8, length - head, head * 0.8];
    const d = `M${at(length * 0.25, 0)}L${at(shaft, 0)}M${at(back, -aside)}L${at(length, 0)}L${at(back, aside)}`;
    return clew.svg("path", {
      d,
      "stroke-width": width,
      fill: "none",
      "stroke-linecap": "round",
      "stroke-linejoin": "round",
      ...attrs,
    });
  }

  /** Attention: passages as bars, cells as squares, as strong as their share of the largest. */
  function attended(question, { passages, cells }) {
    const most = Math.max(...passages, ...cells, 1e-9);
    const square = (value, cx, cy, across, along) =>
      value / most > 0.01 &&
      clew.svg("rect", {
        class: "heat",
        x: cx - across / 2,
        y: cy - along / 2,
        width: across,
        height: along,
        rx: 4,
        opacity: value / most,
      });
    const tile = (value, cell) => square(value, x(question, cell), y(question, cell), 25, 25);
    const bar = (value, i) => {
      const [a, b] = question.edges[i];
      const [cx, cy] = [(x(question, a) + x(question, b)) / 2, (y(question, a) + y(question, b)) / 2];
      return Math.abs(a - b) === 1 ? square(value, cx, cy, 21, 15) : square(value, cx, cy, 15, 21);
    };
    return [[...cells].map(tile), [...passages].map(bar)];
  }

  /** The steps that a layer would take from a cell, as strong as they are likely. */
  function lensed(question, cell, shares) {
    if (cell < 0) return null;
    const arrows = shares
      .slice(0, 4)
      .map(
        (share, way) =>
          share >= 0.02 &&
          arrow(question, cell, way, { length: 36, width: 2 + 5 * share, opacity: 0.25 + 0.75 * share, class: "lens" }),
      );
    const end =
      shares[4] >= 0.02 &&
      clew.svg("circle", {
        class: "lens",
        cx: x(question, cell),
        cy: y(question, cell),
        r: 20,
        fill: "none",
        "stroke-width": 2 + 3 * shares[4],
        opacity: 0.25 + 0.75 * shares[4],
      });
    return [arrows, end];
  }

  /** Probes: the decoded distance as shade and number, the decoded next step as an arrow. */
  function decoded(question, { hops, distances, names, arrows, shades }) {
    const steps = maze.distances(question);
    const near = maze.neighbours(question);
    const most = names.length - 1;
    const tiles = [],
      marks = [];
    for (let cell = 0; cell < steps.length; cell++) {
      const [cx, cy] = [x(question, cell), y(question, cell)];
      const told = Number(distances[cell]);
      const right = Math.min(steps[cell], most) === told;
      if (shades) {
        const box = { x: cx - UNIT / 2, y: cy - UNIT / 2, width: UNIT, height: UNIT };
        tiles.push(clew.svg("rect", { class: "shade", ...box, opacity: (0.62 * (most - told)) / most }));
        marks.push(clew.svg("text", { class: right ? "told" : "told off", x: cx + 19, y: cy + 19 }, names[told]));
      }
      if (arrows && cell !== question.target) {
        const way = Number(hops[cell]);
        const to = maze.beside(question, cell, way);
        const good = near[cell].includes(to) && steps[to] === steps[cell] - 1;
        marks.push(arrow(question, cell, way, { length: 15, width: 2.6, class: good ? "probe" : "probe off" }));
      }
    }
    return [tiles, marks];
  }

  /** The whole board. view: question, record, step, over (attention, lens or probes, or null), without (another walk),
      tips (a function of ["cell", number] or ["passage", number] to lines of text). */
  maze.board = function (view) {
    const { question, record, step, over, without } = view;
    const said = maze.verdict(question, record).said;
    const svg = frame(question, {
      "aria-label": `maze of ${question.rows} by ${question.cols}; the model’s path: ${said}`,
      tabindex: -1,
    });
    const cell = record.current[step] ?? -1;
    const here = (maze.order(record, step) ?? -1) + 1;
    const good = record.wrong === null ? record.path.length : record.wrong;
    const probes = over?.kind === "probes" ? decoded(question, over) : null;
    clew.add(
      svg,
      probes && probes[0],
      over?.kind === "attention" && attended(question, over),
      line(question, question.right || [], { class: over?.kind === "attention" ? "right thin" : "right" }),
      line(question, record.path.slice(0, good), { class: "walk ahead" }),
      line(question, record.path.slice(0, Math.min(here, good)), { class: "walk" }),
      record.wrong !== null && line(question, record.path.slice(Math.max(0, good - 1)), { class: "walk astray ahead" }),
      record.wrong !== null && line(question, record.path.slice(Math.max(0, good - 1), here), { class: "walk astray" }),
      without && line(question, without.path, { class: "walk without", transform: "translate(4 4)" }),
      border(question),
      ends(question),
      record.wrong !== null && cross(question, record.path[record.wrong] ?? -1, record.path[record.wrong - 1] ?? -1),
      cell >= 0 &&
        clew.svg("rect", {
          class: "here",
          x: x(question, cell) - 20,
          y: y(question, cell) - 20,
          width: 40,
          height: 40,
          rx: 9,
        }),
      probes && probes[1],
      over?.kind === "lens" && lensed(question, cell, over.shares),
      view.tips && touched(svg, question, view.tips),
    );
    return svg;
  };

  /** The mark of the first wrong step. */
  function cross(question, cell, before) {
    const at = cell >= 0 ? cell : before;
    if (at < 0) return null;
    const [cx, cy] = [x(question, at), y(question, at)];
    return clew.svg("path", {
      class: "cross",
      d: `M${cx - 8} ${cy - 8}L${cx + 8} ${cy + 8}M${cx + 8} ${cy - 8}L${cx - 8} ${cy + 8}`,
    });
  }

  /** Places that can be pointed at; what is told of each is up to `tips`. */
  function touched(svg, question, tips) {
    const box = (cx, cy, side, attrs) =>
      clew.svg("rect", { class: "touch", x: cx - side / 2, y: cy - side / 2, width: side, height: side, ...attrs });
    const cells = Array.from({ length: question.rows * question.cols }, (_, cell) =>
      box(x(question, cell), y(question, cell), 36, { "data-cell": cell }),
    );
    const passages = question.edges.map(([a, b], i) =>
      box((x(question, a) + x(question, b)) / 2, (y(question, a) + y(question, b)) / 2, 22, { "data-passage": i }),
    );
    svg.addEventListener("pointermove", (event) => {
      const { cell, passage } = event.target.dataset;
      if (cell === undefined && passage === undefined) return clew.hush();
      clew.say(event, passage === undefined ? tips("cell", Number(cell)) : tips("passage", Number(passage)));
    });
    svg.addEventListener("pointerleave", clew.hush);
    return [cells, passages];
  }

  /** A place to press between any two neighbouring cells; called with both. */
  maze.gaps = function (question, called) {
    const open = new Set(question.edges.map(([a, b]) => `${Math.min(a, b)} ${Math.max(a, b)}`));
    const made = [];
    for (let cell = 0; cell < question.rows * question.cols; cell++) {
      for (const way of [1, 3]) {
        const to = maze.beside(question, cell, way);
        if (to < 0) continue;
        const is = open.has(`${cell} ${to}`) ? "passage" : "wall";
        const [cx, cy] = [(x(question, cell) + x(question, to)) / 2, (y(question, cell) + y(question, to)) / 2];
        const [width, height] = way === 1 ? [34, 14] : [14, 34];
        const what = is === "wall" ? "open it" : "close it";
        const name = `${is} between ${maze.cell(question, cell)} and ${maze.cell(question, to)}: ${what}`;
        const on = { click: () => called(cell, to), keydown: (event) => event.key === "Enter" && called(cell, to) };
        made.push(
          clew.svg("rect", {
            class: "gap",
            x: cx - width / 2,
            y: cy - height / 2,
            width,
            height,
            rx: 4,
            tabindex: "0",
            role: "button",
            "aria-label": name,
            "data-gap": `${cell} ${to}`,
            "data-at": `gap ${cell} ${to}`,
            on,
          }),
        );
      }
    }
    return made;
  };

  /** A handle by which the origin or the target is dragged; dropped is called with its name and a cell. */
  maze.handle = function (svg, question, name, dropped) {
    const [cx, cy] = [x(question, question[name]), y(question, question[name])];
    const node = clew.svg("circle", { class: "handle", cx, cy, r: 16, "data-handle": name });
    let from = null;
    const at = (event) => {
      const box = svg.getBoundingClientRect();
      const scale = svg.viewBox.baseVal.width / box.width;
      return { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
    };
    node.addEventListener("pointerdown", (event) => {
      from = at(event);
      node.setPointerCapture(event.pointerId);
      node.classList.add("held");
    });
    node.addEventListener("pointermove", (event) => {
      if (!from) return;
      const to = at(event);
      node.setAttribute("transform", `translate(${to.x - from.x} ${to.y - from.y})`);
    });
    node.addEventListener("pointerup", (event) => {
      if (!from) return;
      const to = at(event);
      from = null;
      node.classList.remove("held");
      node.removeAttribute("transform");
      const [row, col] = [to.y, to.x].map((value) => Math.floor((value - EDGE) / UNIT));
      if (row >= 0 && col >= 0 && row < question.rows && col < question.cols) dropped(name, row * question.cols + col);
    });
    return node;
  };
})((clew.maze ||= {}));
