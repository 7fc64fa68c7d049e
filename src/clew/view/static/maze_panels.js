"use strict";
/* What can be laid over a maze, and its figures: attention, and the heads; logit lens; probes; paths without a head.

   Each panel is a function of what is shown, and gives {over, without, tips, panel} for maze.board and the page. */

(function (maze) {
  const note = (...parts) => clew.el("p", { class: "note" }, parts);

  /** Buttons for all heads, each layer's mean, and the mean of all. */
  function heads({ run, i, choice, context }) {
    const pick = (layer, head, text, title) =>
      clew.button(text, () => context.choose(i, { layer, head }), {
        "aria-pressed": String(choice.layer === layer && (choice.head === head || layer < 0)), title, "aria-label": title, "data-at": `${i} head ${layer} ${head}`,
      });
    const columns = [...Array(run.heads).keys()];
    const rows = [...Array(run.layers).keys()].map((layer) => [
      clew.el("span", { class: "said" }, `layer ${layer}`),
      pick(layer, -1, "mean", `mean of layer ${layer}`),
      columns.map((head) => pick(layer, head, `${layer}.${head}`, `head ${layer}.${head}`)),
    ]);
    const top = [clew.el("span", { class: "said" }, "all layers"), pick(-1, -1, "mean", "mean of all heads"), columns.map(() => clew.el("span", {}))];
    return clew.el("div", { class: "heads", role: "group", "aria-label": "layer and head", style: { "grid-template-columns": `max-content repeat(${run.heads + 1}, max-content)` } }, top, rows);
  }

  function badges(shared) {
    return clew.el("div", { class: "badges" }, maze.GROUPS.map(([name, title, about]) => {
      const value = Math.max(0, shared.groups[name]);
      const width = `${Math.min(100, 100 * value).toFixed(1)}%`;
      return [
        clew.el("span", { title: about }, title),
        clew.el("span", { class: "track", "aria-hidden": "true" }, clew.el("i", { style: { width } })),
        clew.el("span", { class: "value" }, maze.share(value)),
      ];
    }));
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
      share("open_edges", "own passages", "attention to the tokens of the passages of the cell at which the path stands"),
      { name: "adjacency", title: "adjacency", digits: 4, about: "attention a token to open neighbours, less that to walled ones" },
      share("target", "target", "attention to the target’s cell"),
      share("own_path", "own path", "attention to the path so far"),
      share("delimiters", "no cells", "attention to tokens that name no cell"),
    ];
    if (rows.some((row) => "lost" in row)) columns.push({ ...share("lost", "lost at forks", "points of accuracy at forks lost where the head speaks of another maze (resampled)"), low: "lost_low", high: "lost_high" });
    const pick = (row) => context.choose(i, { layer: row.layer, head: row.head });
    const picked = (row) => row.layer === choice.layer && (choice.head < 0 || row.head === choice.head);
    const said = "Means over the paths of other held-out mazes; a row shows that head on the maze. Lost at forks: of minimal pairs, with 95% intervals.";
    return clew.table(context.state.within(`${i}.heads`), "Heads", columns, rows, { pick, picked, note: said, most: 200 });
  }

  maze.attentionPanel = function (here) {
    const { run, i, context, question, choice } = here;
    const { data, view } = context;
    const shared = maze.sharedOf(run, i, context);
    const name = choice.layer < 0 ? "all heads, mean" : choice.head < 0 ? `layer ${choice.layer}, mean of its heads` : `head ${choice.layer}.${choice.head}`;
    const most = Math.max(...shared.passages, ...shared.cells);
    const tips = (kind, number) => {
      if (kind === "passage") {
        const [a, b] = question.edges[number];
        return [`passage ${maze.cell(question, a)} – ${maze.cell(question, b)}, entry ${number + 1} of the list`, `${maze.share(shared.passages[number])} of the attention (${name})`];
      }
      const what = [number === question.origin && "origin", number === question.target && "target"].filter(Boolean);
      return [`cell ${maze.cell(question, number)}${what.length ? `, the ${what.join(" and ")}` : ""}`, `${maze.share(shared.cells[number])} to its own tokens outside of the list (${name})`];
    };
    const numbers = clew.el("details", { open: view.numbers, on: { toggle: (event) => fill(event.target) } }, clew.el("summary", {}, "this step in numbers"));
    function fill(details) {
      view.numbers = details.open;
      if (!details.open || details.children.length > 1) return;
      const columns = [{ name: "kind", title: "kind" }, { name: "where", title: "where" }, { name: "share", title: "attention", percent: true, digits: 2 }];
      details.append(clew.table(context.state.within(`${i}.numbers`), `Attention, ${name}, step ${view.step}`, columns, maze.rows(data, question, shared), { sort: "-share", most: 30 }));
    }
    return {
      over: { kind: "attention", ...shared },
      tips,
      panel: [
        note("Where the model looks from the token at which it stands, by ", clew.el("b", {}, name), `. All of it adds up to 100%; the strongest on the maze is ${maze.share(most)}.`),
        heads(here),
        badges(shared),
        numbers,
        headTable(here),
      ],
    };
  };

  maze.lensPanel = function ({ run, i, context, question, record, choice, step }) {
    const rows = record.lens[step];
    const cell = record.current[step];
    const names = ["↑", "↓", "←", "→", "end"];
    const share = (value) => clew.el("td", { class: value >= 0.02 ? "hot" : null, style: { "--share": `${Math.round(70 * value)}%` } }, value < 0.0005 ? "·" : clew.percent(value, value < 0.0995 ? 1 : 0));
    const lines = rows.map((row, depth) => {
      const pick = () => context.choose(i, { depth });
      const said = depth === 0 ? "embedding" : depth === run.layers ? `layer ${depth - 1} (output)` : `layer ${depth - 1}`;
      const on = { click: pick, keydown: (event) => event.key === "Enter" && pick() };
      return clew.el("tr", { class: depth === choice.depth ? "picked" : null, tabindex: "0", "data-at": `${i} depth ${depth}`, on },
        clew.el("td", {}, said), cell >= 0 && row.slice(0, 5).map(share), clew.el("td", { class: "word" }, clew.text(row[5])), clew.el("td", {}, clew.percent(row[6], 0)));
    });
    const head = clew.el("tr", {}, clew.el("th", { scope: "col" }, "after"), cell >= 0 && names.map((name) => clew.el("th", { scope: "col" }, name)), clew.el("th", { scope: "col", colspan: 2 }, "likeliest word"));
    const tips = (kind, number) => (kind === "cell" ? [`cell ${maze.cell(question, number)}`, toward(question, cell, number, rows[choice.depth])].filter(Boolean) : [`passage ${question.edges[number].map((one) => maze.cell(question, one)).join(" – ")}`]);
    return {
      over: { kind: "lens", shares: rows[choice.depth] },
      tips,
      panel: [
        note("What the model would write here if it stopped after a layer: the stream behind it, given to the output head. A row shows its step as arrows on the maze, as strong as they are likely."),
        clew.el("div", { class: "wide" }, clew.el("table", { class: "grid-table" }, clew.el("thead", {}, head), clew.el("tbody", {}, lines))),
        note("What is not seen here may be there all the same, in directions that the output head does not read."),
        along(run, i, context, record, choice, step),
      ],
    };
  };

  /** How likely what the model wrote is by layer, all along its path: null where the lens has not kept it. */
  function wrote(question, record, step, row) {
    if (row[5] === record.next[step]) return row[6];
    if (record.current[step] < 0) return null;
    if (record.next[step] === "<PATH_END>") return row[4];
    const way = [0, 1, 2, 3].find((one) => maze.cell(question, maze.beside(question, record.current[step], one)) === record.next[step]);
    return way === undefined ? null : row[way];
  }

  function along(run, i, context, record, choice, step) {
    const steps = [...record.next.keys()];
    const cell = (at, depth) => {
      const share = wrote(context.question(), record, at, record.lens[at][depth]);
      const said = `step ${at}, ${record.next[at]}, after ${depth} layers: ${share === null ? "not among those kept" : clew.percent(share)}`;
      const go = () => {
        context.choose(i, { depth });
        context.set({ step: at });
      };
      const pressed = String(at === step && depth === choice.depth);
      return clew.el("td", {}, clew.button("", go, { title: said, "aria-label": said, "aria-pressed": pressed, style: { "--share": `${Math.round(100 * (share || 0))}%` } }));
    };
    const head = clew.el("tr", {}, clew.el("th", {}), steps.map((at) => clew.el("th", { scope: "col", title: record.forks[at] ? "a fork" : null }, record.forks[at] ? `${at}◆` : at)));
    const lines = [...Array(run.layers + 1).keys()].reverse().map((depth) =>
      clew.el("tr", {}, clew.el("td", {}, depth === 0 ? "embedding" : `layer ${depth - 1}`), steps.map((at) => cell(at, depth))));
    return clew.card("All along the path", { note: "How likely what the model wrote is after each layer; steps from left to right, ◆ at forks." },
      clew.el("div", { class: "wide" }, clew.el("table", { class: "grid-table along" }, clew.el("thead", {}, head), clew.el("tbody", {}, lines))));
  }

  function toward(question, cell, number, row) {
    for (let way = 0; cell >= 0 && way < 4; way++) if (maze.beside(question, cell, way) === number) return `${clew.percent(row[way])} after this layer`;
    return number === cell && cell >= 0 ? `${clew.percent(row[4])} that the path ends` : null;
  }

  maze.probesPanel = function ({ run, i, context, question, record, choice }) {
    const { data, view } = context;
    if (!record.probes || !run.probe_rows) return { over: null, tips: null, panel: [note("There are no probes for this maze: ", clew.text(run.notes[0] || "it is larger than those that they were fitted to"), ".")] };
    const [hops, distances] = ["next_hop", "distance"].map((label) => record.probes[label][choice.probe]);
    const steps = maze.distances(question);
    const near = maze.neighbours(question);
    const rows = [...Array(run.layers).keys()].map((layer) => {
      const [hop, distance] = ["next_hop", "distance"].map((label) => run.probe_rows.find((row) => row.layer === layer && row.label === label));
      return { layer, hop, distance };
    });
    const figure = (row) => row && clew.el("span", { title: `95% interval over ${row.test_mazes} test mazes` }, clew.number(row.macro_f1, 2), clew.el("span", { class: "ends" }, ` [${clew.number(row.macro_f1_low, 2)}, ${clew.number(row.macro_f1_high, 2)}]`));
    const best = (row) => row && clew.el("span", { title: maze.CONTROLS[row.control] }, `${clew.number(row.control_f1, 2)} ${row.control}`, row.above ? clew.el("b", {}, " ✓ above") : "");
    const lines = rows.map(({ layer, hop, distance }) => {
      const pick = () => context.choose(i, { probe: layer });
      const on = { click: pick, keydown: (event) => event.key === "Enter" && pick() };
      return clew.el("tr", { class: layer === choice.probe ? "picked" : null, tabindex: "0", "data-at": `${i} probe ${layer}`, on },
        clew.el("td", {}, `layer ${layer}`), [figure(hop), best(hop), figure(distance), best(distance)].map((one) => clew.el("td", {}, one)));
    });
    const titles = ["after", "next step, F1", "best control", "distance, F1", "best control"];
    const tips = (kind, cell) => {
      if (kind === "passage") return [`passage ${question.edges[cell].map((one) => maze.cell(question, one)).join(" – ")}`];
      const way = maze.WAYS.findIndex((_, one) => steps[maze.beside(question, cell, one)] === steps[cell] - 1 && near[cell].includes(maze.beside(question, cell, one)));
      const truth = Number.isFinite(steps[cell]) ? `truth: ${steps[cell]} steps${way >= 0 ? `, ${maze.WAY_NAMES[way]}` : ", the target"}` : "truth: no way to the target";
      return [`cell ${maze.cell(question, cell)}`, `decoded: ${data.distances[Number(distances[cell])]} steps, ${maze.WAY_NAMES[Number(hops[cell])]}`, truth];
    };
    return {
      over: { kind: "probes", hops, distances, names: data.distances, arrows: true, shades: true },
      tips,
      panel: [
        note("What a linear reader decodes at ", clew.el("code", {}, "<TARGET_END>"), ", before the path begins, of every cell: the next step towards the target as an arrow, the distance as shade and number. Dashed, or struck through: wrong. The path plays no part, so that all steps show the same."),
        clew.el("div", { class: "wide" }, clew.el("table", { class: "grid-table" }, clew.el("thead", {}, clew.el("tr", {}, titles.map((one) => clew.el("th", { scope: "col" }, one)))), clew.el("tbody", {}, lines))),
        note("Macro-F1 on held-out mazes that the readers were not fitted to, none of them shown here. Only where a row is above its best control does it tell of the model more than of the maze."),
      ],
    };
  };

  maze.withoutPanel = function ({ run, i, context, question, record, choice, step }) {
    const fork = record.forks[step];
    const rows = [...Array(run.layers * run.heads).keys()].map((number) => {
      const walk = record.without ? record.without[number] : undefined;
      const outcome = walk === undefined ? "not asked yet" : walk === null ? "the same path" : maze.verdict(question, walk).said;
      const there = fork?.without?.[number];
      return { number, name: maze.head(run, number), outcome, bad: Boolean(walk) && !walk.solved, difference: there ?? null, lost: there === undefined ? null : fork.difference - there };
    });
    const columns = [
      { name: "name", title: "without" },
      { name: "outcome", title: "the path becomes", show: (row) => clew.el("span", { class: row.bad ? "bad-word" : null }, row.bad ? `✗ ${row.outcome}` : row.outcome) },
    ];
    if (fork?.without) {
      columns.push({ name: "difference", title: "logit difference here", digits: 2, about: "the best right step’s logit less that of the best wrong one, at this fork" });
      columns.push({ name: "lost", title: "lost", digits: 2, about: "against all heads" });
    }
    const pick = (row) => maze.takeAway(i, choice.without === row.number ? -1 : row.number, context);
    const walk = choice.without >= 0 ? record.without?.[choice.without] : null;
    const said = choice.without < 0 ? "Click a head to take it away: at every token it then says what it says there in the mean over other held-out mazes, and so nothing about this one." : `Without head ${maze.head(run, choice.without)}, dashed: ${walk ? maze.verdict(question, walk).said : walk === null ? "the same path" : "…"}. Click it again to put it back.`;
    const next = record.forks.findIndex((one, at) => one && at > step);
    const first = record.forks.findIndex(Boolean);
    const to = next >= 0 ? next : first;
    const at = fork ? `At this fork all heads together have a logit difference of ${clew.number(fork.difference, 2)}.` : "No step can go wrong here but by a jump: this is no fork.";
    return {
      over: null,
      without: walk || null,
      tips: (kind, number) => (kind === "cell" ? [`cell ${maze.cell(question, number)}`] : [`passage ${question.edges[number].map((one) => maze.cell(question, one)).join(" – ")}`]),
      panel: [
        note(said),
        clew.el("div", { class: "bar" }, clew.el("span", { class: "now" }, at), to >= 0 && clew.button("next fork", () => context.set({ step: to }), { class: "small", "data-at": `${i} next fork` })),
        clew.table(context.state.within(`${i}.without`), "Without one head", columns, rows, { pick, picked: (row) => row.number === choice.without, most: 200 }),
      ],
    };
  };

  /** Takes a head away; of a maze that was drawn by hand the server has to say what becomes of the path. */
  maze.takeAway = async function (i, number, context) {
    const { view, choices } = context;
    const drawn = view.drawn;
    context.choose(i, { without: number });
    if (number < 0 || !drawn || drawn.runs[i].without?.[number] !== undefined) return;
    const said = await maze.asked(drawn.question, number).catch((error) => ({ error }));
    if (said.error) return context.complain?.(said.error);
    drawn.runs.forEach((record, run) => {
      const walk = said.runs[run];
      record.without ||= Array(context.data.runs[run].layers * context.data.runs[run].heads).fill(undefined);
      record.without[number] = JSON.stringify(walk?.path) === JSON.stringify(record.path) && walk.ended === record.ended ? null : walk;
    });
    if (view.drawn === drawn) context.choose(i, { without: choices[i].without });
  };
})((clew.maze ||= {}));
