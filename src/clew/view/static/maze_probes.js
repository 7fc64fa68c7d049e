"use strict";
/* Probes: what is decoded of every cell, and how well. */

(function (maze) {
  maze.probesPanel = function ({ run, i, context, question, record, choice }) {
    const { data, view } = context;
    if (!record.probes || !run.probe_rows)
      return {
        over: null,
        tips: null,
        rows: [],
        panel: [
          maze.note(
            "There are no probes for this maze: ",
            clew.text(run.notes[0] || "it is larger than those that they were fitted to"),
            ".",
          ),
        ],
      };
    const [hops, distances] = ["next_hop", "distance"].map((label) => record.probes[label][choice.probe]);
    const steps = maze.distances(question);
    const near = maze.neighbours(question);
    const rows = [...Array(run.layers).keys()].map((layer) => {
      const [hop, distance] = ["next_hop", "distance"].map((label) =>
        run.probe_rows.find((row) => row.layer === layer && row.label === label),
      );
      return { layer, hop, distance };
    });
    const figure = (row) =>
      row &&
      clew.el(
        "span",
        { title: `95% interval over ${row.test_mazes} test mazes` },
        clew.number(row.macro_f1, 2),
        clew.el(
          "span",
          { class: "ends" },
          ` [${clew.number(row.macro_f1_low, 2)}, ${clew.number(row.macro_f1_high, 2)}]`,
        ),
      );
    const best = (row) =>
      row &&
      clew.el(
        "span",
        { title: maze.CONTROLS[row.control] },
        `${clew.number(row.control_f1, 2)} ${row.control}`,
        row.above ? clew.el("b", {}, " ✓ above") : "",
      );
    const lines = rows.map(({ layer, hop, distance }) => {
      const pick = () => context.choose(i, { probe: layer });
      const on = { click: pick, keydown: (event) => event.key === "Enter" && pick() };
      return clew.el(
        "tr",
        { class: layer === choice.probe ? "picked" : null, tabindex: "0", "data-at": `${i} probe ${layer}`, on },
        clew.el("td", {}, `layer ${layer}`),
        [figure(hop), best(hop), figure(distance), best(distance)].map((one) => clew.el("td", {}, one)),
      );
    });
    const cells = steps.map((far, cell) => {
      const way = [0, 1, 2, 3].find(
        (one) =>
          near[cell].includes(maze.beside(question, cell, one)) && steps[maze.beside(question, cell, one)] === far - 1,
      );
      const told = {
        decoded_steps: data.distances[Number(distances[cell])],
        decoded_way: cell === question.target ? null : maze.WAY_NAMES[Number(hops[cell])],
      };
      return {
        cell: maze.cell(question, cell),
        steps: Number.isFinite(far) ? far : null,
        way: maze.WAY_NAMES[way] ?? null,
        ...told,
      };
    });
    const columns = [
      ["cell", "cell"],
      ["steps", "steps to the target"],
      ["decoded_steps", "decoded"],
      ["way", "a right way"],
      ["decoded_way", "decoded"],
    ].map(([name, title]) => ({ name, title }));
    const numbers = maze.unfolding(view, "these cells in numbers", () =>
      clew.table(context.state.within(`${i}.cells`), `Probes after layer ${choice.probe}`, columns, cells, {
        most: 30,
      }),
    );
    const titles = ["after", "next step, F1", "best control", "distance, F1", "best control"];
    const tips = (kind, cell) => {
      if (kind === "passage")
        return [`passage ${question.edges[cell].map((one) => maze.cell(question, one)).join(" – ")}`];
      const way = maze.WAYS.findIndex(
        (_, one) =>
          steps[maze.beside(question, cell, one)] === steps[cell] - 1 &&
          near[cell].includes(maze.beside(question, cell, one)),
      );
      const truth = Number.isFinite(steps[cell])
        ? `truth: ${steps[cell]} steps${way >= 0 ? `, ${maze.WAY_NAMES[way]}` : ", the target"}`
        : "truth: no way to the target";
      return [
        `cell ${maze.cell(question, cell)}`,
        `decoded: ${data.distances[Number(distances[cell])]} steps, ${maze.WAY_NAMES[Number(hops[cell])]}`,
        truth,
      ];
    };
    return {
      over: { kind: "probes", hops, distances, names: data.distances, arrows: true, shades: true },
      rows: cells,
      tips,
      panel: [
        maze.note(
          "What a linear reader decodes at ",
          clew.el("code", {}, "<TARGET_END>"),
          ", before the path begins, of every cell: the next step towards the target as an arrow, " +
            "the distance as shade and number. Dashed, or struck through: wrong. " +
            "The path plays no part, so that all steps show the same.",
        ),
        clew.el(
          "div",
          { class: "wide" },
          clew.el(
            "table",
            { class: "grid-table" },
            clew.el(
              "thead",
              {},
              clew.el(
                "tr",
                {},
                titles.map((one) => clew.el("th", { scope: "col" }, one)),
              ),
            ),
            clew.el("tbody", {}, lines),
          ),
        ),
        maze.note(
          "Macro-F1 on held-out mazes that the readers were not fitted to, none of them shown here. " +
            "Only where a row is above its best control does it tell of the model more than of the maze.",
        ),
        numbers,
      ],
    };
  };
})((clew.maze ||= {}));
