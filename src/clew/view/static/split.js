"use strict";
/* A split's rollouts: rounds on a slider, the questions of a round, one question's tree, curves; runs side by side. */

(function () {
  const SORTS = [
    ["", "as asked"],
    ["-score", "highest score"],
    ["score", "lowest score"],
    ["-spread", "most unlike answers"],
    ["-thought", "heaviest thought"],
    ["-answer", "heaviest answer"],
  ];

  clew.kinds.split = function (root, data, state) {
    const runs = data.runs;
    const numbers = [...new Set(runs.flatMap((run) => run.rounds.map((round) => round.round)))].sort((a, b) => a - b);
    const shared = numbers.filter((number) => runs.every((run) => run.rounds.some((round) => round.round === number)));
    const asked = state.get("round", shared[shared.length - 1] ?? numbers[numbers.length - 1] ?? 0);
    const round = numbers.includes(asked) ? asked : nearest(numbers, asked);
    const view = { round, find: state.get("find", ""), sort: state.get("sort", "") };
    const tree = clew.el("div", { class: "trees" });
    const list = clew.el("div", { class: "questions" });
    let shown = [];
    let place = 0;
    const turns = runs.some((run) => run.rounds.some((one) => !one.held_out));

    function question(next) {
      place = Math.min(shown.length - 1, Math.max(0, next));
      const one = shown[place];
      if (one) state.set("question", one.key);
      drawList();
      drawTree();
    }

    /** The list anew, as far scrolled as it was, or so far that the chosen question is seen. */
    function drawList() {
      const largest = Math.max(1, ...shown.flatMap((one) => one.means)); // of the mean scores in the list
      const [scrolled, focused] = [list.scrollTop, list.contains(document.activeElement)];
      clew.add(
        clew.empty(list),
        shown.map((one, i) => entry(one, runs, largest, i === place, () => question(i))),
      );
      if (!shown.length)
        return clew.add(
          list,
          clew.el("p", { class: "note" }, view.find ? "nothing holds that" : "no rounds are here yet"),
        );
      const chosen = list.children[place];
      if (focused) chosen.focus({ preventScroll: true });
      const [top, bottom] = [chosen.offsetTop, chosen.offsetTop + chosen.offsetHeight];
      list.scrollTop = Math.max(Math.min(scrolled, top - 2), bottom + 2 - list.clientHeight);
    }

    function drawTree() {
      const one = shown[place];
      clew.empty(tree).style.setProperty("--runs", runs.length);
      if (one)
        clew.add(
          tree,
          runs.map((run, i) => clew.splitTree(run, one.found[i], { state, find: view.find, alone: runs.length === 1 })),
        );
    }

    function refill(keep) {
      shown = questionsOf(runs, view).filter((one) => !view.find || one.text.includes(view.find.toLowerCase()));
      shown = clew.ordered(shown, view.sort);
      const wanted = keep ?? state.get("question", "");
      place = Math.max(
        0,
        shown.findIndex((one) => one.key === wanted),
      );
      drawList();
      drawTree();
    }

    function turn(next) {
      const at = numbers.indexOf(view.round) + next;
      if (numbers[at] === undefined) return;
      view.round = numbers[at];
      state.set("round", view.round);
      slider.to(at);
      refill();
      curves();
    }

    const held = (number) => runs.some((run) => run.rounds.some((one) => one.round === number && one.held_out));
    const told = (number) => (held(number) ? "evaluation" : `${number} of ${numbers[numbers.length - 1]}`);
    const said = (at) => (numbers.length ? told(numbers[at]) : "none");
    const slider = clew.slider(
      "round",
      [0, Math.max(0, numbers.length - 1)],
      numbers.indexOf(view.round),
      (at) => turn(at - numbers.indexOf(view.round)),
      said,
    );
    const search = clew.el("input", {
      type: "search",
      placeholder: "search all texts",
      value: view.find,
      "aria-label": "search all texts",
      on: { input: () => ((view.find = search.value), state.set("find", view.find), refill(shown[place]?.key)) },
    });
    const sort = clew.select(
      "questions",
      SORTS,
      view.sort,
      (to) => ((view.sort = to), state.set("sort", to), refill(shown[place]?.key)),
    );
    const order = clew.select(
      "branches",
      clew.splitOrders,
      state.get("order", ""),
      (to) => (state.set("order", to), drawTree()),
    );
    const folded = clew.button("unfold all", () => unfold(), {
      class: "small",
      title: "f",
      "aria-pressed": state.get("open", false),
    });

    function unfold() {
      state.set("open", state.get("open", false) ? null : true);
      folded.setAttribute("aria-pressed", String(state.get("open", false)));
      drawTree();
    }

    const drawn = clew.el("div", {});
    const curves = () =>
      clew.add(
        clew.empty(drawn),
        turns
          ? trained(state, runs, view.round, (step) =>
              turn(numbers.indexOf(nearest(numbers, step)) - numbers.indexOf(view.round)),
            )
          : clew.trainingCurves(state, runs, clew.imitationCurves(runs)),
      );
    const from = turns ? `round-${view.round}` : "evaluation";
    const csv = clew.button(
      "CSV",
      () => clew.save(`${from}.csv`, "text/csv", clew.splitSamples(runs, view.round)),
      { class: "small", title: "download all that was sampled here, an answer a row" },
    );
    clew.add(root, clew.el("div", { class: "bar" }, turns ? slider : null, sort, order, search, folded, csv), notes(runs));
    if (numbers.length) clew.add(root, legend(runs, turns));
    clew.add(root, clew.el("div", { class: "rollouts" }, list, tree), drawn);
    clew.add(root, evaluated(state, runs), clew.facts(runs), keysTold(turns));
    refill();
    curves();
    const moves = {
      ArrowDown: () => question(place + 1),
      ArrowUp: () => question(place - 1),
      ArrowRight: () => turn(1),
      ArrowLeft: () => turn(-1),
      f: unfold,
    };
    return { key: (event) => (moves[event.key] ? (moves[event.key](), true) : false) };
  };

  const nearest = (numbers, to) =>
    numbers.reduce((best, one) => (Math.abs(one - to) < Math.abs(best - to) ? one : best), numbers[0] ?? 0);

  /** The questions of a round, by their prompts: what each run has of one, and its figures for sorting. */
  function questionsOf(runs, { round }) {
    const found = new Map();
    runs.forEach((run, i) => {
      const here = run.rounds.find((one) => one.round === round);
      for (const question of here?.questions || []) {
        const prompt = here.texts[question.prompt];
        if (!found.has(prompt))
          found.set(prompt, { number: question.number, prompt, found: runs.map(() => null), texts: [] });
        found.get(prompt).found[i] = { ...question, texts: here.texts };
        found.get(prompt).texts.push(textOf(question, here.texts));
      }
    });
    const lacking = (one) => one.found.filter((other) => !other).length; // those that all were asked come first
    const all = [...found.values()].sort((a, b) => lacking(a) - lacking(b));
    const times = {};
    return all.map((one) => {
      const number = String(one.number ?? "none");
      times[number] = 1 + (times[number] || 0); // runs of other worlds have other questions under the same numbers
      const key = times[number] > 1 ? `${number}.${times[number]}` : number;
      return { ...one, key, ...figures(one.found), text: one.texts.join("\n").toLowerCase() };
    });
  }

  function textOf(question, texts) {
    const inside = question.thoughts.flatMap((thought) => [
      texts[thought.text],
      ...thought.answers.map((answer) => texts[answer.text]),
    ]);
    return [texts[question.prompt], ...inside].join("\n");
  }

  function figures(found) {
    const thoughts = found.flatMap((one) => (one ? one.thoughts : []));
    const answers = thoughts.flatMap((thought) => thought.answers);
    const scores = answers.map((answer) => answer.score).filter((score) => typeof score === "number");
    const heaviest = (many) => Math.max(0, ...many.map((one) => Math.abs(one.weight || 0)));
    const means = found.map((one) =>
      mean(one ? one.thoughts.flatMap((thought) => thought.answers.map((answer) => answer.score)) : []),
    );
    const spread = scores.length ? Math.max(...scores) - Math.min(...scores) : null;
    return { means, score: mean(scores), spread, thought: heaviest(thoughts), answer: heaviest(answers) };
  }

  function mean(values) {
    const known = values.filter((value) => typeof value === "number");
    return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
  }

  /** A line of the list of questions. */
  function entry(one, runs, largest, chosen, pick) {
    const maze = one.found.find(Boolean)?.maze;
    const picture = maze ? clew.lattice(maze, { size: 34 }) : null;
    const told = one.means.map((value, i) =>
      clew.el(
        "span",
        {
          class: "bar-of",
          title: `mean score${runs.length > 1 ? `: ${clew.text(runs[i].name)}` : ""}`,
          style: { "--share": Math.max(0, (value ?? 0) / largest) },
        },
        clew.number(value, 2),
      ),
    );
    const name = one.number === null || one.number === undefined ? "" : `№ ${one.number}`;
    const words = clew.el(
      "span",
      { class: "asked" },
      maze ? name : [clew.el("b", {}, name), " ", clew.text(one.prompt.slice(0, 90))],
    );
    return clew.el(
      "button",
      { type: "button", class: "entry", "aria-pressed": String(chosen), on: { click: pick } },
      picture,
      words,
      told,
    );
  }

  function notes(runs) {
    const lines = runs.flatMap((run) => {
      const said = [];
      if (run.rounds.some((round) => round.held_out))
        said.push("its answers to held-out questions, from the final evaluation, stand in place of rounds");
      if (run.rounds.length < run.of) said.push(`${run.rounds.length} of ${run.of} rounds are on this page (--rounds)`);
      const cut = run.rounds.filter((round) => round.questions.length < round.of);
      if (cut.length) said.push(`of ${cut.length} of them not all questions, so that the page stays small`);
      return said.length ? [`${runs.length > 1 ? `${clew.text(run.name)}: ` : ""}${said.join("; ")}.`] : [];
    });
    return lines.length ? clew.el("p", { class: "note" }, lines.join(" ")) : null;
  }

  /** What colours and bars mean. */
  function legend(runs, turns) {
    const mazes = runs.some((run) => run.rounds.some((round) => round.questions.some((one) => one.maze)));
    const weights =
      "A thought has a weight for the shoggoth; an answer has a score, in blue, and a weight for the face. Gold is pulled " +
      "towards, red is pushed away, grey teaches nothing; a bar is the weight as a share of the question’s largest. ";
    const said =
      `${turns ? weights : "An answer has a score, in blue; nothing here has a weight, since nothing learned from it. "}` +
      "Under an answer stands what each grader gave it and, in dashed frames, what monitors said.";
    const drawn =
      " In a maze gold is a shortest path; the answer is blue as far as it can be walked, and red behind its first wrong " +
      "step. Cells that a thought came to are violet, the first of them darkest.";
    return clew.el("p", { class: "note meaning" }, said, mazes && drawn);
  }

  function trained(state, runs, mark, pick) {
    const first = [
      { title: "Score", names: ["score", "held_out_score"] },
      { title: "Thought length", names: ["thought_tokens", "held_out_thought_tokens"] },
    ];
    return clew.trainingCurves(state, runs, first, { unit: "round", mark, pick });
  }

  function evaluated(state, runs) {
    const stages = { before: "warm start", after: "after", alone: "model" };
    const reports = runs.flatMap((run) =>
      Object.entries(run.evaluation).map(([stage, report]) => ({
        name: runs.length > 1 ? `${run.name}: ${stages[stage]}` : stages[stage],
        report: stage === "alone" ? report : { ...report, baseline: null },
      })),
    );
    return reports.length ? clew.evaluations(state.within("evaluation"), reports) : null;
  }

  const keysTold = (turns) =>
    clew.el(
      "p",
      { class: "keys" },
      clew.el("kbd", {}, "↑"),
      " ",
      clew.el("kbd", {}, "↓"),
      " question  ",
      turns ? [clew.el("kbd", {}, "←"), " ", clew.el("kbd", {}, "→"), " round  "] : null,
      clew.el("kbd", {}, "f"),
      " fold  ",
      clew.el("kbd", {}, "d"),
      " light or dark",
    );
})();
