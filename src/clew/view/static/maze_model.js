"use strict";
/* One model: its maze with the path, the steps, and beside them what is laid over the maze. */

(function (maze) {
  maze.OVERS = [
    ["attention", "Attention", "a"],
    ["lens", "Logit lens", "l"],
    ["probes", "Probes", "o"],
    ["without", "Without a head", "x"],
  ];

  /** context: what maze.js holds. Gives {node, draw}. */
  maze.model = function (run, i, context) {
    const { view, set, choices } = context;
    const made = {
      verdict: clew.el("p", { class: "verdict" }),
      holder: clew.el("div", { class: "whole" }),
      now: clew.el("p", { class: "now", "aria-live": "polite" }),
      steps: clew.el("div", { class: "steps", role: "group", "aria-label": "what the model wrote, step by step" }),
      panel: clew.el("div", { class: "panel" }),
      legend: clew.el("ul", { class: "legend" }),
      range: clew.el("input", {
        type: "range",
        min: 0,
        step: 1,
        "aria-label": "step",
        on: { input: () => set({ step: Number(made.range.value) }) },
      }),
      rows: [],
    };
    const editor = clew.served ? maze.editor(i, context, made) : null;
    const button = (text, by, title) =>
      clew.button(text, () => set({ step: view.step + by }), {
        title,
        "aria-label": title,
        "data-at": `${i} ${title}`,
      });
    const stepper = clew.el(
      "div",
      { class: "stepper" },
      button("◀", -1, "step back"),
      made.range,
      button("▶", 1, "step on"),
    );
    const overs = clew.el("div", { class: "choice", role: "group", "aria-label": "what is laid over the maze" });
    const side = clew.el(
      "div",
      { class: "board-side" },
      made.verdict,
      made.holder,
      stepper,
      made.now,
      made.steps,
      made.legend,
      editor?.node,
    );
    const all = run.accuracy.all;
    const note =
      `${run.layers} layers of ${run.heads} heads. ${clew.rate(all)} of ${clew.number(all.questions)} held-out mazes ` +
      "along a shortest path.";
    const tools = [
      clew.button("SVG", () => clew.save(`${named()}.svg`, "image/svg+xml", clew.svgText(made.holder.firstChild)), {
        class: "small",
        title: "download the maze as it is seen",
      }),
      clew.button("CSV", () => save(), { class: "small", title: "download the figures that are laid over it" }),
    ];
    const body = clew.el("div", { class: "model" }, side, clew.el("div", { class: "panel" }, overs, made.panel));
    const node = clew.card(
      clew.text(run.name),
      { note, tools, "data-run": i },
      body,
      run.notes.map((one) => clew.el("p", { class: "warn" }, clew.text(one))),
    );

    function named() {
      return `${run.name}-maze-${context.question().number ?? "drawn"}-step-${view.step}`;
    }

    function save() {
      clew.save(`${named()}-${view.over}.csv`, "text/csv", clew.csvText(Object.keys(made.rows[0] || {}), made.rows));
    }

    function draw() {
      const start = performance.now();
      const [question, record, choice] = [context.question(), context.record(i), choices[i]];
      const step = Math.min(view.step, record.next.length - 1);
      const here = { run, i, context, question, record, choice, step };
      const shown = PANELS[view.over](here);
      const board = maze.board({ question, record, step, over: shown.over, without: shown.without, tips: shown.tips });
      made.rows = shown.rows;
      clew.empty(made.holder).append(board);
      editor?.attach(board);
      clew.add(clew.empty(made.verdict), verdict(question, record));
      clew.add(clew.empty(made.now), ...now(question, record, step));
      clew.add(clew.empty(made.steps), steps(record, step, i, set));
      clew.add(clew.empty(made.legend), maze.legend(view.over, record));
      clew.add(clew.empty(made.panel), shown.panel);
      made.range.max = context.last();
      made.range.value = view.step;
      clew.add(
        clew.empty(overs),
        maze.OVERS.map(([name, title, letter]) =>
          clew.button(title, () => set({ over: name }), {
            "aria-pressed": String(view.over === name),
            title: `${title} (${letter})`,
            "data-at": `${i} ${name}`,
          }),
        ),
      );
      node.dataset.drawn = (performance.now() - start).toFixed(1);
    }

    return { node, draw };
  };

  function verdict(question, record) {
    const { bad, said } = maze.verdict(question, record);
    const asked = [`${question.rows}×${question.cols}`];
    if (question.right) asked.push(clew.many(question.right.length - 1, "step"), `lookahead ${question.lookahead}`);
    const name = question.number === undefined ? "maze as drawn" : `maze ${question.number}`;
    return [
      clew.el("b", {}, name),
      asked.join(" · "),
      clew.el("span", { class: bad ? "bad-word" : "good-word" }, bad ? `✗ ${said}` : `✓ ${said}`),
      question.picked &&
        clew.el(
          "span",
          {
            class: "pill",
            title:
              "the first mazes of the series are shown as they come; this one is shown because a model fails at it",
          },
          "chosen: a failure",
        ),
      question.held_out === false && clew.el("span", { class: "pill" }, "not held out: may have been trained on"),
    ];
  }

  function now(question, record, step) {
    const before = step === 0 ? "<TARGET_END>" : record.next[step - 1];
    const code = (text) => clew.el("code", {}, clew.text(text));
    return [
      "At ",
      code(before),
      " the model writes ",
      code(record.next[step]),
      record.forks[step] ? " — a fork." : ".",
    ];
  }

  function steps(record, step, i, set) {
    return record.next.map((word, at) => {
      const walked = (maze.order(record, at) ?? -2) + 1;
      const astray = record.wrong !== null && walked >= record.wrong && walked < record.path.length;
      const name = [at < step && "past", astray && "astray"].filter(Boolean).join(" ") || null;
      const short = word.replace(/[<>]/g, "").replace("PATH_", "").toLowerCase();
      // a word is pressed to stand where it was chosen
      return clew.button(clew.text(short), () => set({ step: at }), {
        class: name,
        "aria-current": at === step ? "step" : null,
        "data-at": `${i} step ${at}`,
        title: `step ${at}: ${word}`,
      });
    });
  }

  /** What is attended to at the step that is shown. */
  maze.sharedOf = function (run, i, { data, view, question, record, choices }) {
    const one = record(i);
    const step = Math.min(view.step, one.next.length - 1);
    const values = maze.seen(run, one, step, choices[i].layer, choices[i].head);
    return maze.shared(data, question(), one, step, values);
  };

  /** The same as rows of a table. */
  maze.rows = function (data, question, shared) {
    const rows = question.edges.map(([a, b], i) => ({
      kind: "passage",
      where: `${maze.cell(question, a)} ${maze.cell(question, b)}`,
      share: shared.passages[i],
    }));
    shared.cells.forEach(
      (share, cell) => share > 0 && rows.push({ kind: "cell", where: maze.cell(question, cell), share }),
    );
    for (const name of data.marks)
      rows.push({ kind: "mark", where: name.replaceAll("_", " "), share: shared.marks[name] });
    for (const name of data.listed)
      rows.push({
        kind: "of the list",
        where: { cells: "its cells", connectors: "its <-->", ends: "its ;" }[name],
        share: shared.listed[name],
      });
    return rows;
  };

  const PANELS = {
    attention: (here) => maze.attentionPanel(here),
    lens: (here) => maze.lensPanel(here),
    probes: (here) => maze.probesPanel(here),
    without: (here) => maze.withoutPanel(here),
  };
})((clew.maze ||= {}));
