"use strict";
/* One question's tree: the prompt, its thoughts with their weights, each with its answers, scores and weights.
   Gold is pulled towards, red is pushed away, grey says nothing; a bar is as long as the weight. */

(function () {
  clew.splitOrders = [
    ["", "as sampled"],
    ["-score", "highest score"],
    ["-weight", "highest weight"],
    ["weight", "lowest weight"],
  ];
  const LONG = 260;

  /** run: of the section's runs; question: of one of its rounds, with that round's texts, or null. */
  clew.splitTree = function (run, question, { state, find, alone }) {
    const name = alone ? null : clew.el("h2", { class: "mono" }, clew.text(run.name));
    if (!question)
      return clew.el(
        "article",
        { class: "tree" },
        name,
        clew.el("p", { class: "note" }, "did not ask this in this round"),
      );
    const thoughts = question.thoughts.map((one, i) => ({
      ...one,
      number: i + 1,
      score: mean(one.answers.map((answer) => answer.score)),
    }));
    const answers = thoughts.flatMap((one) => one.answers);
    const show = {
      find,
      texts: question.texts,
      prompt: question.prompt,
      maze: question.maze,
      open: state.get("open", false),
      order: state.get("order", ""),
      heaviest: [thoughts, answers].map((many) => Math.max(1e-9, ...many.map((one) => Math.abs(one.weight || 0)))),
      scores: span(answers.map((one) => one.score)),
    };
    const branches = clew.ordered(thoughts, show.order).map((one) => branch(one, show));
    return clew.el("article", { class: "tree" }, name, asked(question, show), branches);
  };

  function mean(values) {
    const known = values.filter((value) => typeof value === "number");
    return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
  }

  function span(values) {
    const known = values.filter((value) => typeof value === "number");
    return known.length ? [Math.min(0, ...known), Math.max(1e-9, ...known)] : [0, 1];
  }

  const color = (weight) => (weight > 0 ? "gold" : weight < 0 ? "red" : "grey");
  const signed = (weight) => (typeof weight === "number" ? `${weight > 0 ? "+" : ""}${clew.number(weight, 3)}` : "–");

  function asked(question, show) {
    const picture = question.maze ? clew.attempt(question.maze, null, 150) : null;
    const prompt = show.texts[question.prompt];
    const text = question.maze
      ? folded("the prompt as text", () => said(prompt, { ...show, open: true }))
      : said(prompt, show);
    const columns = Object.entries(question.columns || {}).map(([name, value]) => [
      clew.el("dt", {}, clew.text(name)),
      clew.el("dd", { class: "mono" }, marked(value, show.find)),
    ]);
    const told = [
      question.number !== null && `question ${question.number}`,
      question.read && `the shoggoth read ${question.read} tokens`,
    ]
      .filter(Boolean)
      .join(" · ");
    const body = clew.el(
      "div",
      {},
      clew.el("p", { class: "note" }, told),
      text,
      columns.length ? folded("what graders were given", () => clew.el("dl", { class: "facts" }, columns)) : null,
    );
    return clew.el("div", { class: "asked card" }, picture, body);
  }

  function branch(thought, show) {
    const tokens = `${thought.tokens} token${thought.tokens === 1 ? "" : "s"}`;
    const cut = thought.ended === false ? clew.el("span", { class: "pill" }, "cut off") : null;
    const head = clew.el(
      "header",
      {},
      clew.el("b", {}, `thought ${thought.number}`),
      weighed(thought.weight, show.heaviest[0]),
      clew.el(
        "span",
        { class: "note" },
        `${tokens}${typeof thought.logp === "number" ? ` · log p ${clew.number(thought.logp, 1)}` : ""}`,
      ),
      cut,
      clew.el("span", { class: "note" }, `mean score ${clew.number(thought.score, 2)}`),
    );
    const answers = clew.ordered(alike(thought.answers), show.order);
    const own = clew.el(
      "div",
      { class: "thought" },
      head,
      show.maze ? clew.searched(show.maze, show.texts[thought.text], 110) : null,
      said(show.texts[thought.text], show),
      rewritten(thought, show),
      whatWasRead(thought, show),
    );
    const below = clew.el(
      "div",
      { class: "answers" },
      answers.map((one) => leaf(one, show)),
    );
    return clew.el("section", { class: "branch", style: { "--of": `var(--${color(thought.weight)})` } }, own, below);
  }

  /** Answers, those that are alike in all as one with how many they are. */
  function alike(answers) {
    const found = new Map();
    for (const one of answers) {
      const { logp, ...same } = one;
      const key = JSON.stringify(same);
      found.set(key, { ...one, count: 1 + (found.get(key)?.count || 0) });
    }
    return [...found.values()];
  }

  function leaf(answer, show) {
    const text = show.texts[answer.text];
    const share = (answer.score - show.scores[0]) / (show.scores[1] - show.scores[0]);
    const score = clew.el(
      "span",
      { class: "score", title: "score", style: { "--share": Number.isFinite(share) ? share : 0 } },
      clew.number(answer.score, 2),
    );
    const named = (many) => (many || []).map(([place, value]) => [show.texts[place], value]);
    const kinds = [
      ["grader", named(answer.scores)],
      ["monitor", named(answer.monitors)],
      ["logged", Object.entries(answer.extra || {})],
    ];
    const parts = kinds.flatMap(([what, many]) => many.map(([name, value]) => part(what, name, value)));
    const picture = show.maze ? clew.attempt(show.maze, { text, good: answer.good }, 62) : null;
    const one = answer.scores?.length === 1 && !answer.monitors && !answer.extra; // the score says it already
    const cut = answer.ended === false ? clew.el("span", { class: "pill" }, "cut off") : null;
    const times =
      answer.count > 1
        ? clew.el("span", { class: "times", title: "as many answers, alike in all" }, `× ${answer.count}`)
        : null;
    const body = clew.el(
      "div",
      { class: "body" },
      said(text, show),
      clew.el("div", { class: "parts" }, one ? null : parts, cut),
    );
    return clew.el(
      "div",
      { class: "leaf", style: { "--of": `var(--${color(answer.weight)})` } },
      clew.el("div", { class: "worth" }, score, weighed(answer.weight, show.heaviest[1]), times),
      picture,
      body,
    );
  }

  function part(what, name, value) {
    const said = typeof value === "number" ? clew.number(value, 2) : clew.text(value);
    return clew.el(
      "span",
      { class: `pill ${what}`, title: `${what} ${clew.text(name)}` },
      `${clew.text(name)} ${said}`,
    );
  }

  /** A weight as a number on a bar from the middle. */
  function weighed(weight, heaviest) {
    const share = Math.abs(weight || 0) / heaviest;
    return clew.el(
      "span",
      { class: `weight ${color(weight)}`, title: "weight", style: { "--share": share } },
      signed(weight),
    );
  }

  /** Somebody's text in full, folded where it is long. */
  function said(text, show) {
    const long = text.length > LONG || (text.match(/\n/g) || []).length > 5;
    const body = clew.el(
      "div",
      { class: long && !show.open ? "mono clamp" : "mono" },
      text.length ? marked(text, show.find) : clew.el("i", {}, "nothing"),
    );
    if (!long || show.open) return body;
    const button = clew.button(
      "all of it",
      () => {
        const open = body.classList.toggle("clamp");
        button.textContent = open ? "all of it" : "less";
      },
      { class: "small" },
    );
    return [body, button];
  }

  /** Text with what was searched for set apart. */
  function marked(text, find) {
    if (!find) return clew.text(text);
    const [nodes, low, wanted] = [[], text.toLowerCase(), find.toLowerCase()];
    let at = 0;
    for (let next = low.indexOf(wanted); next >= 0 && nodes.length < 400; next = low.indexOf(wanted, at)) {
      nodes.push(
        clew.text(text.slice(at, next)),
        clew.el("mark", {}, clew.text(text.slice(next, next + wanted.length))),
      );
      at = next + wanted.length;
    }
    return [...nodes, clew.text(text.slice(at))];
  }

  function folded(title, inside, open = false) {
    const made = clew.el("details", { open }, clew.el("summary", {}, title));
    const fill = () => made.open && made.childElementCount === 1 && clew.add(made, inside());
    made.addEventListener("toggle", fill);
    fill();
    return made;
  }

  /** The lines of a thought that a paraphraser rewrote: as written, and as read. */
  function rewritten(thought, show) {
    if (!thought.lines) return null;
    const changed = thought.lines.filter((line) => line.text !== line.read).length;
    const rows = () =>
      clew.el(
        "div",
        { class: "lines" },
        thought.lines.map((line) => {
          const same = line.text === line.read;
          const remark = line.kept ? "stayed for want of a version that can be read" : same ? "stayed as it was" : null;
          return [
            clew.el("div", { class: "mono" }, marked(show.texts[line.text], show.find)),
            clew.el(
              "div",
              { class: same ? "mono same" : "mono" },
              marked(show.texts[line.read], show.find),
              remark && clew.el("span", { class: "note" }, ` ${remark}`),
            ),
          ];
        }),
      );
    return folded(`paraphrased: ${changed} of ${thought.lines.length} lines read otherwise`, rows, show.open);
  }

  function whatWasRead(thought, show) {
    if (!thought.read) return null;
    const inside = () =>
      clew.el(
        "div",
        { class: "mono read" },
        thought.read.map((part) => {
          if (part === "prompt")
            return clew.el(
              "span",
              { class: "part prompt" },
              show.maze ? "‹the prompt›" : marked(show.texts[show.prompt], show.find),
            );
          if (part === "thought")
            return clew.el("span", { class: "part own" }, marked(show.texts[thought.text], show.find));
          return clew.el("span", { class: "part" }, marked(show.texts[part], show.find));
        }),
      );
    return folded("what the face read", inside, show.open);
  }
})();
