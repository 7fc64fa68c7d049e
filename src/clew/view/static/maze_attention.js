"use strict";
/* Attention: layers and heads to choose from, where it goes, and the table of heads. */

(function (maze) {
  /** Buttons for all heads, each layer's mean, and the mean of all. */
  function heads({ run, i, choice, context }) {
    const pick = (layer, head, text, title) =>
      clew.button(text, () => context.choose(i, { layer, head }), {
        "aria-pressed": String(choice.layer === layer && (choice.head === head || layer < 0)),
        title,
        "aria-label": title,
        "data-at": `${i} head ${layer} ${head}`,
      });
    const columns = [...Array(run.heads).keys()];
    const rows = [...Array(run.layers).keys()].map((layer) => [
      clew.el("span", { class: "said" }, `layer ${layer}`),
      pick(layer, -1, "mean", `mean of layer ${layer}`),
      columns.map((head) => pick(layer, head, `${layer}.${head}`, `head ${layer}.${head}`)),
    ]);
    const top = [
      clew.el("span", { class: "said" }, "all layers"),
      pick(-1, -1, "mean", "mean of all heads"),
      columns.map(() => clew.el("span", {})),
    ];
    return clew.el(
      "div",
      {
        class: "heads",
        role: "group",
        "aria-label": "layer and head",
        style: { "grid-template-columns": `max-content repeat(${run.heads + 1}, max-content)` },
      },
      top,
      rows,
    );
  }

  function badges(shared) {
    return clew.el(
      "div",
      { class: "badges" },
      maze.GROUPS.map(([name, title, about]) => {
        const value = Math.max(0, shared.groups[name]);
        const width = `${Math.min(100, 100 * value).toFixed(1)}%`;
        return [
          clew.el("span", { title: about }, title),
          clew.el("span", { class: "track", "aria-hidden": "true" }, clew.el("i", { style: { width } })),
          clew.el("span", { class: "value" }, maze.share(value)),
        ];
      }),
    );
  }

  /** The table of heads, which stays as it is from step to step. */
  function headTable(here) {
    const { i, choice, context } = here;
    const name = `${choice.layer} ${choice.head}`;
    context.tables ||= [];
    if (context.tables[i]?.name !== name) context.tables[i] = { name, node: newHeadTable(here) };
    return context.tables[i].node;
  }

  function newHeadTable({ run, i, choice, context }) {
    const rows = run.head_rows.map((row) => ({ ...row, name: `${row.layer}.${row.head}` }));
    const share = (name, title, about) => ({ name, title, about, percent: true, digits: 1 });
    const columns = [
      { name: "name", title: "head", about: "layer and number, from 0" },
      share(
        "open_edges",
        "own passages",
        "attention to the tokens of the passages of the cell at which the path stands",
      ),
      {
        name: "adjacency",
        title: "adjacency",
        digits: 4,
        about: "attention a token to open neighbours, less that to walled ones",
      },
      share("target", "target", "attention to the target’s cell"),
      share("own_path", "own path", "attention to the path so far"),
      share("delimiters", "no cells", "attention to tokens that name no cell"),
    ];
    if (rows.some((row) => "lost" in row))
      columns.push({
        ...share(
          "lost",
          "lost at forks",
          "points of accuracy at forks that are lost when the head is given what it says of the same maze with another target",
        ),
        low: "lost_low",
        high: "lost_high",
      });
    const pick = (row) => context.choose(i, { layer: row.layer, head: row.head });
    const picked = (row) => row.layer === choice.layer && (choice.head < 0 || row.head === choice.head);
    const said =
      "Means over the paths of other held-out mazes; press a row to lay that head over the maze." +
      (rows.some((row) => "lost" in row)
        ? " Lost at forks has 95% intervals."
        : "");
    return clew.table(context.state.within(`${i}.heads`), "Heads", columns, rows, {
      pick,
      picked,
      note: said,
      most: 200,
    });
  }

  maze.attentionPanel = function (here) {
    const { run, i, context, question, choice } = here;
    const { data, view } = context;
    const shared = maze.sharedOf(run, i, context);
    const name =
      choice.layer < 0
        ? "all heads, mean"
        : choice.head < 0
          ? `layer ${choice.layer}, mean of its heads`
          : `head ${choice.layer}.${choice.head}`;
    const most = Math.max(...shared.passages, ...shared.cells);
    const tips = (kind, number) => {
      if (kind === "passage") {
        const [a, b] = question.edges[number];
        return [
          `passage ${maze.cell(question, a)} – ${maze.cell(question, b)}, entry ${number + 1} of the list`,
          `${maze.share(shared.passages[number])} of the attention (${name})`,
        ];
      }
      const what = [number === question.origin && "origin", number === question.target && "target"].filter(Boolean);
      return [
        `cell ${maze.cell(question, number)}${what.length ? `, the ${what.join(" and ")}` : ""}`,
        `${maze.share(shared.cells[number])} to its own tokens outside of the list (${name})`,
      ];
    };
    const columns = [
      { name: "kind", title: "kind" },
      { name: "where", title: "where" },
      { name: "share", title: "attention", percent: true, digits: 2 },
    ];
    const rows = maze.rows(data, question, shared);
    const numbers = maze.unfolding(view, "this step in numbers", () =>
      clew.table(context.state.within(`${i}.numbers`), `Attention, ${name}, step ${view.step}`, columns, rows, {
        sort: "-share",
        most: 30,
      }),
    );
    return {
      over: { kind: "attention", ...shared },
      rows,
      tips,
      panel: [
        maze.note(
          "Where the model looks from the token at which it stands, by ",
          clew.el("b", {}, name),
          `. All of it adds up to 100%; the strongest on the maze is ${maze.share(most)}.`,
        ),
        heads(here),
        badges(shared),
        numbers,
        headTable(here),
      ],
    };
  };
})((clew.maze ||= {}));
