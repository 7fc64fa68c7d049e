"use strict";
/* Readings: what each instrument found, a part at a time; several models side by side. */

(function () {
  const head = (row) => `${row.layer}.${row.head}`;
  const layers = { x: "layer", digits: 2 };

  /** The parts, each of pictures; see reading_tables.js for what describes one. */
  const PARTS = {
    patching: {
      title: "What carries it",
      pictures: [
        {
          table: "residual",
          kind: "heat",
          row: "place",
          ...layers,
          value: "effect",
          filters: ["direction"],
          title: "Residual stream into a layer",
          note: "Effect of putting the clean activation at one place and layer into the corrupt run, where 1 is all of the difference between the two targets.",
        },
        {
          table: "heads",
          kind: "dots",
          label: head,
          value: "effect",
          filters: ["direction"],
          first: { direction: "denoising" },
          zero: 0,
          title: "Heads",
          note: "The same for the output of one head, at all places.",
        },
        {
          table: "mlps",
          kind: "dots",
          label: (row) => `layer ${row.layer}`,
          value: "effect",
          filters: ["direction"],
          first: { direction: "denoising" },
          zero: 0,
          title: "MLPs",
          note: "The same for what one MLP adds.",
        },
        {
          table: "paths",
          kind: "dots",
          label: (row) => `${row.senders} to ${row.receivers}`,
          value: "effect",
          zero: 0,
          title: "Paths to the logits",
          note: "A head's effect along its direct way to the logits alone.",
        },
      ],
    },
    heads: {
      title: "Heads",
      pictures: [
        {
          table: "attention",
          kind: "heat",
          row: head,
          x: "group",
          value: "mass",
          range: [0, 1],
          title: "What heads attend to",
          note: "Mean attention from the current cell onto groups of tokens. “adjacency” is the attention to open neighbours less that to walled ones.",
        },
        {
          table: "ablation",
          kind: "dots",
          label: head,
          value: "accuracy_lost",
          percent: true,
          zero: 0,
          title: "Accuracy lost without a head",
          note: "Its output is taken from another maze; right steps at forks.",
        },
      ],
    },
    attribution: {
      title: "Logits",
      pictures: [
        {
          table: "attribution",
          kind: "heat",
          row: component,
          x: "task",
          value: "logit",
          diverging: true,
          digits: 1,
          title: "Who pushes the right token's logit",
          note: "Each component's direct part of the logit of the right token, over the mean of all tokens. Tasks of one token each.",
        },
      ],
    },
    probes: {
      title: "Probes",
      pictures: [
        {
          table: "probes",
          kind: "curves",
          by: "control",
          ...layers,
          value: ["macro_f1", "accuracy"],
          filters: ["label", "place"],
          range: [0, 1],
          title: "What can be decoded",
          note: "A probe on the model's activations beside those on controls, which know no more than the tokens say.",
        },
        {
          table: "hops",
          kind: "curves",
          by: "layer",
          x: "distance",
          value: "accuracy",
          filters: ["place", "from", "control"],
          range: [0, 1],
          percent: true,
          bySaid: "layer",
          title: "How far each layer knows",
          note: "Whether the next hop is decoded, by steps from the target or from the current cell.",
        },
      ],
    },
    layers: {
      title: "Layers",
      pictures: [
        {
          table: "depth",
          kind: "dots",
          label: (row) => `layer ${row.layer}`,
          value: "value",
          by: "part",
          filters: ["figure", "mode"],
          where: (row) => row.layer !== null,
          first: { figure: "forks_lost" },
          percent: true,
          zero: 0,
          title: "What is lost without a layer",
          note: "Its output is skipped, or replaced by its mean over mazes; “random” is a change of equal size in a random direction.",
        },
        {
          table: "lens",
          kind: "curves",
          by: "lookahead",
          x: "depth",
          value: "value",
          filters: ["figure"],
          bySaid: "lookahead",
          where: (row) => row.lookahead !== null,
          title: "Logit lens",
          note: "What the stream after so many layers says of the fork, by how far ahead it must look.",
        },
      ],
    },
    edges: {
      title: "Passages",
      pictures: [
        {
          table: "edges",
          kind: "curves",
          by: "run",
          ...layers,
          value: "value",
          filters: ["kind", "figure"],
          first: { figure: "heeded" },
          range: [0, 1],
          percent: true,
          title: "Passages changed within the stream",
          note: "A passage is moved, taken out or put in at one layer, and the path is rolled out: is it that of the changed maze? “edited”: so changed; “plain”: not changed; “tokens”: changed in the prompt; “random”, “other”: pushed as far in a random direction, or by another passage; “exact”: by the difference that the changed prompt makes; “above”: “edited” less these.",
        },
      ],
    },
    search: {
      title: "Search",
      pictures: [
        {
          table: "knockouts",
          kind: "heat",
          row: "distance",
          x: "layers",
          value: "value",
          filters: ["way", "from", "figure"],
          first: { way: "behind", figure: "effect_above_random" },
          diverging: true,
          title: "Knock-outs of attention",
          note: "What is lost when a layer may not read passages that lie so many steps away: by steps from the target, or from the current cell.",
        },
        {
          table: "registers",
          kind: "heat",
          row: "place",
          x: "layers",
          value: "value",
          filters: ["figure"],
          first: { figure: "accuracy_lost" },
          diverging: true,
          title: "Registers",
          note: "What is lost when no later token may see one that is the same in every maze: what it holds was put there to be read. In all layers at once, and layer by layer; “random”: a token of the list is hidden instead.",
        },
        {
          table: "arrival",
          kind: "curves",
          by: "distance",
          x: "depth",
          value: "value",
          filters: ["by", "place"],
          bySaid: "steps",
          where: (row) => row.figure === "effect" && row.depth !== null,
          range: [0, 1],
          title: "When what lies how far away is known",
          note: "The share of the patching effect that is there after so many layers.",
        },
      ],
    },
  };

  function component(row) {
    return [row.component, [row.layer, row.head].filter((one) => one !== null).join(".")].filter(Boolean).join(" ");
  }

  clew.kinds.reading = function (root, data, state) {
    const runs = data.runs.map((run) => ({
      ...run,
      tables: Object.fromEntries(Object.entries(run.tables).map(([name, table]) => [name, rowsOf(table)])),
    }));
    const has = (name) => runs.some((run) => run.tables[name]);
    const parts = Object.keys(PARTS).filter((part) => PARTS[part].pictures.some((one) => has(one.table)));
    const names = ["summary", ...parts, "tables"];
    const part = names.includes(state.get("part")) ? state.get("part") : names[0];
    const choose = (next) => (state.set("part", next), clew.redraw());
    const title = (name) => PARTS[name]?.title || { summary: "In sum", tables: "All tables" }[name];
    const buttons = names.map((name) =>
      clew.button(title(name), () => choose(name), { "aria-pressed": String(name === part) }),
    );
    clew.add(root, clew.el("div", { class: "bar parts" }, buttons));
    if (part === "summary") clew.add(root, clew.readingSummary(runs, state), clew.facts(runs));
    else if (part === "tables") clew.add(root, allTables(runs, state));
    else {
      const pictures = PARTS[part].pictures.filter((one) => has(one.table));
      clew.add(
        root,
        clew.el(
          "div",
          { class: runs.length > 1 ? "kind" : "grid wider" },
          pictures.map((one) => clew.pictureOf(runs, one, state.within(one.table))),
        ),
        part === "heads" ? headTable(runs, state) : null,
      );
    }
    const moves = { ArrowLeft: -1, ArrowRight: 1 };
    const step = (by) => choose(names[(names.indexOf(part) + by + names.length) % names.length]);
    return { key: (event) => (event.key in moves ? (step(moves[event.key]), true) : false) };
  };

  /** A row a head: what all parts say of it, to sort by. */
  function headTable(runs, state) {
    const rows = runs.flatMap((run) => {
      const found = new Map();
      const of = (row) => {
        if (!found.has(head(row))) found.set(head(row), { ...(runs.length > 1 ? { of: run.name } : {}), head: head(row) });
        return found.get(head(row));
      };
      const take = (row, name, column) => {
        for (const end of ["", "_low", "_high"]) of(row)[name + end] = row[column + end];
      };
      for (const row of run.tables.heads || []) if (row.direction === "denoising") take(row, "patched", "effect");
      for (const row of run.tables.ablation || []) take(row, "accuracy_lost", "accuracy_lost");
      for (const row of run.tables.attention || []) of(row)[row.group] = row.mass;
      return [...found.values()];
    });
    const note = "What patching it in brings back, the accuracy lost without it, and the mean attention to each group.";
    return rows.length ? clew.table(state.within("heads"), "Heads in sum", clew.columnsOf(rows), rows, { note }) : null;
  }

  function rowsOf(table) {
    const names = Object.keys(table);
    return (table[names[0]] || []).map((_, i) => Object.fromEntries(names.map((name) => [name, table[name][i]])));
  }

  /** Any table, whole. */
  function allTables(runs, state) {
    const names = [...new Set(runs.flatMap((run) => Object.keys(run.tables)))];
    const name = names.includes(state.get("table")) ? state.get("table") : names[0];
    const choose = clew.select("table", names, name, (to) => (state.set("table", to), clew.redraw()));
    const rows = runs.flatMap((run) =>
      (run.tables[name] || []).map((row) => (runs.length > 1 ? { of: run.name, ...row } : row)),
    );
    return [
      clew.el("div", { class: "bar" }, choose),
      clew.table(state.within(`rows.${name}`), name, clew.columnsOf(rows), rows),
    ];
  }
})();
