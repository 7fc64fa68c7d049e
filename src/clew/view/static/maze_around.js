"use strict";
/* Around the boards: the strip of all mazes, accuracy with the mazes in it, the legend, and how to read the page. */

(function (maze) {
  /** All mazes in small. Gives {node, mark, reveal}. */
  maze.strip = function ({ data, view, go }) {
    const { questions, runs } = data;
    const buttons = questions.map((question, place) => {
      const records = runs.map((run) => run.records[place]);
      const good = records.map((one) => (one.solved ? "✓" : "✗")).join("");
      const bad = records.some((one) => !one.solved);
      const said = records.map((one) => maze.verdict(question, one).said).join("; ");
      const number = clew.el(
        "span",
        { class: "number" },
        `${question.number}`,
        clew.el("b", {}, runs.length > 1 || bad ? good : ""),
      );
      const label = `maze ${question.number}: ${said}`;
      return clew.button(number, () => go(place), {
        class: bad ? "bad" : null,
        title: label,
        "aria-label": label,
        "data-at": `maze ${place}`,
        "data-place": place,
      });
    });
    buttons.forEach((button, place) => {
      const worst = runs.map((run) => run.records[place]).find((one) => !one.solved) || runs[0].records[place];
      button.append(maze.thumbnail(questions[place], worst));
    });
    const strip = clew.el("div", { class: "strip", role: "group", "aria-label": "mazes" }, buttons);
    const failed = questions.filter((_, place) => runs.some((run) => !run.records[place].solved)).length;
    const chosen = questions.filter((one) => one.picked).length;
    const who = runs.length > 1 ? "some model" : "the model";
    const note =
      `${clew.many(questions.length, "held-out maze")}` +
      (chosen
        ? `: the first ${questions.length - chosen} of the series, and ${chosen} from further on that ${who} fails at.`
        : ", the first of the series.") +
      (failed ? ` ${failed} ${failed === 1 ? "ends" : "end"} in a failure, framed in red.` : "");
    const node = clew.card("Mazes", { note }, strip);
    const mark = (now) =>
      buttons.forEach((button, place) => button.setAttribute("aria-current", String(place === now)));
    const reveal = () => {
      const [there, box] = [buttons[view.place].getBoundingClientRect(), strip.getBoundingClientRect()];
      if (there.left < box.left || there.right > box.right)
        strip.scrollLeft += there.left - box.left - box.width / 2 + there.width / 2;
    };
    requestAnimationFrame(reveal);
    return { node, mark, reveal };
  };

  const TITLES = { size: "by size", path_length: "by length of the shortest path", lookahead: "by lookahead" };

  /** How well a run does by size, length and lookahead, with the mazes of the page below: each can be pressed. */
  maze.accuracy = function (run, i, context) {
    const rows = Object.keys(TITLES).flatMap((name) => run.accuracy[name].map((one) => ({ by: name, ...one })));
    const asked = clew.number(run.accuracy.all.questions);
    const note =
      `Shortest paths among ${asked} held-out mazes, with 95% intervals. Below, the mazes of this page: squares can be ` +
      "pressed, crossed ones are failures. Lookahead: how far ahead a solver has to see at the hardest fork.";
    const plots = Object.keys(TITLES).map((name) =>
      clew.el("div", {}, clew.el("h3", {}, TITLES[name]), plot(run, name, context)),
    );
    const tools = [
      clew.button(
        "CSV",
        () =>
          clew.save(
            `${run.name}-accuracy.csv`,
            "text/csv",
            clew.csvText(["by", "group", "value", "low", "high", "questions"], rows),
          ),
        { class: "small" },
      ),
    ];
    return clew.card(
      `Accuracy of ${clew.text(run.name)}`,
      { note, tools },
      clew.el("div", { class: "accuracy" }, plots),
    );
  };

  function plot(run, name, { data, go }) {
    const groups = run.accuracy[name];
    const inside = groups.map(({ group }) =>
      data.questions.map((one, place) => [one, place]).filter(([one]) => maze.inside(maze.group(one, name), group)),
    );
    const [left, top, tall, side] = [34, 10, 120, 11];
    const wide = Math.max(40, Math.min(60, 400 / groups.length));
    const across = Math.max(1, Math.floor((wide - 4) / side));
    const deep = Math.max(1, ...inside.map((some) => Math.ceil(some.length / across)));
    const [width, height] = [left + wide * groups.length + 6, top + tall + 24 + deep * side + 4];
    const svg = clew.svg("svg", {
      viewBox: `0 0 ${width} ${height}`,
      role: "group",
      "aria-label": TITLES[name],
      width,
      height,
    });
    const at = (value) => top + tall * (1 - value);
    for (const tick of [0, 0.5, 1]) {
      clew.add(
        svg,
        clew.svg("line", { class: "grid-line", x1: left, x2: width - 6, y1: at(tick), y2: at(tick) }),
        clew.svg(
          "text",
          { class: "muted minor", x: left - 5, y: at(tick) + 4, "text-anchor": "end" },
          `${100 * tick}%`,
        ),
      );
    }
    groups.forEach((one, j) => {
      const cx = left + wide * (j + 0.5);
      const figure = clew.svg(
        "g",
        { role: "img", "aria-label": `${one.group}: ${clew.percent(one.value)} of ${one.questions}` },
        clew.svg("line", { class: "spread", x1: cx, x2: cx, y1: at(one.low), y2: at(one.high) }),
        clew.svg("circle", { class: "dot", cx, cy: at(one.value), r: 3.6 }),
        clew.svg("rect", { fill: "transparent", x: cx - wide / 2, y: top, width: wide, height: tall }),
      );
      clew.tip(figure, [
        `${one.group}: ${clew.rate(one)}`,
        `${one.questions} mazes asked, ${inside[j].length} on this page`,
      ]);
      clew.add(
        svg,
        figure,
        clew.svg("text", { class: "minor muted", x: cx, y: top + tall + 15, "text-anchor": "middle" }, one.group),
      );
      inside[j].forEach(([question, place], k) => {
        const [tx, ty] = [
          cx - (across * side) / 2 + (k % across) * side,
          top + tall + 22 + Math.floor(k / across) * side,
        ];
        clew.add(svg, tile(run.records[place], question, place, tx, ty, side - 2, go));
      });
    });
    return svg;
  }

  function tile(record, question, place, tx, ty, side, go) {
    const bad = !record.solved;
    const said = `maze ${question.number}: ${maze.verdict(question, record).said}`;
    const on = { click: () => go(place), keydown: (event) => event.key === "Enter" && go(place) };
    const attrs = {
      x: tx,
      y: ty,
      width: side,
      height: side,
      rx: 2,
      tabindex: bad ? "0" : null,
      role: "button",
      "aria-label": said,
      "data-maze": place,
      on,
    };
    const box = clew.tip(clew.svg("rect", { class: bad ? "tile bad" : "tile", ...attrs }), said);
    return [
      box,
      bad &&
        clew.svg("path", {
          class: "tile-cross",
          d: `M${tx + 2} ${ty + 2}l${side - 4} ${side - 4}m0 ${4 - side}l${4 - side} ${side - 4}`,
        }),
    ];
  }

  /** Runs against the first one, on all mazes that were asked. */
  maze.compared = function ({ data, state }) {
    if (!data.compared.length) return null;
    const [first] = data.runs;
    const rows = data.compared.map((row) => ({ ...row, name: data.runs[row.run].name }));
    const columns = [
      { name: "name", title: "model" },
      { name: "both", title: "both solve" },
      { name: "first", title: "the first alone" },
      { name: "other", title: "this one alone" },
      { name: "neither", title: "neither" },
      {
        name: "difference",
        title: "difference",
        percent: true,
        digits: 1,
        low: "difference_low",
        high: "difference_high",
      },
    ];
    const note =
      `On the same ${clew.number(first.accuracy.all.questions)} held-out mazes, each against ${clew.text(first.name)}; ` +
      "the difference is this one’s rate less the first one’s, with a 95% interval of paired differences.";
    return clew.table(state.within("compared"), "Compared", columns, rows, { note });
  };

  /** What the lines and colours of a board mean. */
  maze.legend = function (over, record) {
    const sample = (...marks) =>
      clew.svg("svg", { viewBox: "0 0 34 18", class: "board", "aria-hidden": "true" }, marks);
    const stroke = (name, attrs) => clew.svg("polyline", { class: name, points: "4,9 30,9", ...attrs });
    const items = [
      [
        sample(
          clew.svg("circle", { class: "end", cx: 9, cy: 9, r: 6 }),
          clew.svg("rect", { class: "end", x: 20, y: 3.5, width: 11, height: 11 }),
        ),
        "origin, target",
      ],
      [sample(stroke("right")), "a shortest path"],
      [sample(stroke("walk")), "the model’s path"],
      [sample(stroke("walk ahead")), "still to come"],
    ];
    if (record.wrong !== null) items.push([sample(stroke("walk astray")), "after its first wrong step (✗)"]);
    if (over === "attention")
      items.push([
        sample(
          [0.2, 0.5, 1].map((opacity, at) =>
            clew.svg("rect", { class: "heat", x: 2 + 11 * at, y: 3, width: 9, height: 12, rx: 2, opacity }),
          ),
        ),
        "attention, from little to the most on the maze",
      ]);
    if (over === "lens")
      items.push([
        sample(clew.svg("path", { class: "lens", d: "M4 9H28M22 4L28 9L22 14", fill: "none", "stroke-width": 3 })),
        "the step that the layer would take",
      ]);
    if (over === "probes") {
      items.push([
        sample(clew.svg("path", { class: "probe", d: "M4 9H28M22 4L28 9L22 14", fill: "none", "stroke-width": 3 })),
        "decoded step, right",
      ]);
      items.push([
        sample(clew.svg("path", { class: "probe off", d: "M4 9H28M22 4L28 9L22 14", fill: "none", "stroke-width": 3 })),
        "wrong",
      ]);
      items.push([
        sample(clew.svg("rect", { class: "shade", x: 4, y: 1, width: 26, height: 16, opacity: 0.5 })),
        "decoded as near",
      ]);
    }
    if (over === "without") items.push([sample(stroke("walk without")), "the path without the head"]);
    return items.map(([picture, text]) => clew.el("li", {}, picture, text));
  };

  maze.help = function () {
    const keys = [
      ["←", "→"],
      "step",
      ["n", "p"],
      "next, previous maze",
      ["f"],
      "next failure",
      ["a", "l", "o", "x"],
      "attention, logit lens, probes, without a head",
      ["j", "k"],
      "layer back, on",
      ["h"],
      "next head",
      ["d"],
      "light or dark",
    ];
    if (clew.served) keys.push(["e"], "draw walls");
    const shown = keys.map((one) => (Array.isArray(one) ? one.map((key) => clew.el("kbd", {}, key)) : ` ${one}  `));
    return clew.el("p", { class: "keys" }, shown, "— the address of this page keeps what you see.");
  };
})((clew.maze ||= {}));
