"use strict";
/* The logit lens: what each layer would write, at one step and all along the path. */

(function (maze) {
  maze.lensPanel = function ({ run, i, context, question, record, choice, step }) {
    const rows = record.lens[step];
    const cell = record.current[step];
    const names = ["↑", "↓", "←", "→", "end"];
    const share = (value) =>
      clew.el(
        "td",
        { class: value >= 0.02 ? "hot" : null, style: { "--share": `${Math.round(70 * value)}%` } },
        value < 0.0005 ? "·" : clew.percent(value, value < 0.0995 ? 1 : 0),
      );
    const lines = rows.map((row, depth) => {
      const pick = () => context.choose(i, { depth });
      const said =
        depth === 0 ? "embedding" : depth === run.layers ? `layer ${depth - 1} (output)` : `layer ${depth - 1}`;
      const on = { click: pick, keydown: (event) => event.key === "Enter" && pick() };
      return clew.el(
        "tr",
        { class: depth === choice.depth ? "picked" : null, tabindex: "0", "data-at": `${i} depth ${depth}`, on },
        clew.el("td", {}, said),
        cell >= 0 && row.slice(0, 5).map(share),
        clew.el("td", { class: "word" }, clew.text(row[5])),
        clew.el("td", {}, clew.percent(row[6], 0)),
      );
    });
    const head = clew.el(
      "tr",
      {},
      clew.el("th", { scope: "col" }, "after"),
      cell >= 0 && names.map((name) => clew.el("th", { scope: "col" }, name)),
      clew.el("th", { scope: "col", colspan: 2 }, "likeliest word"),
    );
    const tips = (kind, number) =>
      kind === "cell"
        ? [`cell ${maze.cell(question, number)}`, toward(question, cell, number, rows[choice.depth])].filter(Boolean)
        : [`passage ${question.edges[number].map((one) => maze.cell(question, one)).join(" – ")}`];
    const table = rows.map((row, depth) => {
      const [up, down, left, right, end, word, likelihood] = row;
      return { step, layers: depth, up, down, left, right, end, word, likelihood };
    });
    return {
      over: { kind: "lens", shares: rows[choice.depth] },
      rows: table,
      tips,
      panel: [
        maze.note(
          "What the model would write here if it stopped after a layer: the stream behind it, given to the output " +
            "head. A row shows its step as arrows on the maze, as strong as they are likely.",
        ),
        clew.el(
          "div",
          { class: "wide" },
          clew.el("table", { class: "grid-table" }, clew.el("thead", {}, head), clew.el("tbody", {}, lines)),
        ),
        maze.note("What is not seen here may be there all the same, in directions that the output head does not read."),
        along(run, i, context, record, choice, step),
      ],
    };
  };

  /** How likely what the model wrote is by layer, all along its path: null where the lens has not kept it. */
  function wrote(question, record, step, row) {
    if (row[5] === record.next[step]) return row[6];
    if (record.current[step] < 0) return null;
    if (record.next[step] === "<PATH_END>") return row[4];
    const way = [0, 1, 2, 3].find(
      (one) => maze.cell(question, maze.beside(question, record.current[step], one)) === record.next[step],
    );
    return way === undefined ? null : row[way];
  }

  function along(run, i, context, record, choice, step) {
    const steps = [...record.next.keys()];
    const cell = (at, depth) => {
      const share = wrote(context.question(), record, at, record.lens[at][depth]);
      const likely = share === null ? "not among those kept" : clew.percent(share);
      const said = `step ${at}, ${record.next[at]}, after ${depth} layers: ${likely}`;
      const go = () => {
        context.choose(i, { depth });
        context.set({ step: at });
      };
      const pressed = String(at === step && depth === choice.depth);
      return clew.el(
        "td",
        {},
        clew.button("", go, {
          title: said,
          "aria-label": said,
          "aria-pressed": pressed,
          style: { "--share": `${Math.round(100 * (share || 0))}%` },
        }),
      );
    };
    const head = clew.el(
      "tr",
      {},
      clew.el("th", {}),
      steps.map((at) =>
        clew.el("th", { scope: "col", title: record.forks[at] ? "a fork" : null }, record.forks[at] ? `${at}◆` : at),
      ),
    );
    const lines = [...Array(run.layers + 1).keys()].reverse().map((depth) =>
      clew.el(
        "tr",
        {},
        clew.el("td", {}, depth === 0 ? "embedding" : `layer ${depth - 1}`),
        steps.map((at) => cell(at, depth)),
      ),
    );
    return clew.card(
      "All along the path",
      { note: "How likely what the model wrote is after each layer; steps from left to right, ◆ at forks." },
      clew.el(
        "div",
        { class: "wide" },
        clew.el("table", { class: "grid-table along" }, clew.el("thead", {}, head), clew.el("tbody", {}, lines)),
      ),
    );
  }

  function toward(question, cell, number, row) {
    for (let way = 0; cell >= 0 && way < 4; way++)
      if (maze.beside(question, cell, way) === number) return `${clew.percent(row[way])} after this layer`;
    return number === cell && cell >= 0 ? `${clew.percent(row[4])} that the path ends` : null;
  }
})((clew.maze ||= {}));
