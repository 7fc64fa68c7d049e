"use strict";
/* Studies: verdicts with the effects that they rest on, one figure against another, curves, all results. */

(function () {
  clew.kinds.study = function (root, data, state) {
    for (const run of data.runs) {
      if (data.runs.length > 1) clew.add(root, clew.el("h2", { class: "mono" }, clew.text(run.name)));
      clew.add(
        root,
        clew.el("div", { class: "grid wider" }, verdicts(run), phase(run)),
        clew.el("div", { class: "grid wider" }, pareto(run, state), curves(run, state)),
      );
      clew.add(root, results(run, state));
    }
    clew.add(root, clew.facts(data.runs));
  };

  /** A card a question. Hollow where the interval holds 0. */
  function verdicts(run) {
    return run.verdicts.map((one, i) => {
      const series = seriesOf(one.rows);
      const draw = (width) =>
        clew.dots(width, {
          rows: one.rows,
          series,
          zero: 0,
          percent: run.percent,
          digits: run.percent ? 1 : 2,
          x: "lead, with an interval; hollow where it holds 0",
        });
      const names = ["label", "series", "condition", "a", "b", "value", "low", "high"];
      return clew.figure(`${i + 1}. ${clew.text(one.question)}`, draw, {
        note: clew.text(one.text),
        rows: one.rows,
        names,
      });
    });
  }

  /** Series by their names; those that differ in a number alone are coloured in its order. */
  function seriesOf(rows) {
    const names = [...new Set(rows.map((row) => row.series))].filter(Boolean);
    const ordered = names.length > 1 && new Set(names.map((name) => name.replace(/[\d.]+/g, ""))).size === 1;
    return names.map((name, i) => ({ name, ...(ordered ? { color: clew.ramp(i / (names.length - 1)) } : {}) }));
  }

  /** Which number of answers to a thought wins. */
  function phase(run) {
    if (!run.phase.length) return null;
    const [noises, costs] = ["noise", "cost"].map((name) =>
      [...new Set(run.phase.map((one) => one[name]))].sort((a, b) => a - b),
    );
    const best = [...new Set(run.phase.flatMap((one) => one.grid))].sort((a, b) => a - b);
    const up = [...costs].reverse();
    const at = (r, c) => {
      const one = run.phase.find((cell) => cell.cost === up[r] && cell.noise === noises[c]);
      if (!one) return null;
      const said = `ahead of the next by ${clew.percent(one.lead.value)}; the plan says ${one.planned}`;
      return { value: 1 + best.indexOf(one.best), label: `k = ${one.best}`, said };
    };
    const how = {
      rows: up.map((cost) => `price ${cost}`),
      columns: noises.map((noise) => `noise ${noise}`),
      range: [0, best.length],
      at,
    };
    const rows = run.phase.map(({ lead, grid, ...one }) => ({
      ...one,
      lead: lead.value,
      low: lead.low,
      high: lead.high,
    }));
    const note = "By the noise between answers over that between thoughts, and by the price of a thought in answers.";
    return clew.figure("Best number of answers to a thought", (width) => clew.heat(width, how), { note, rows });
  }

  const figuresOf = (run) => [...new Set(run.results.flatMap((one) => Object.keys(one.figures)))];

  function chosen(run, state, what, label) {
    const options = [...new Set(run.results.map((one) => one[what]))];
    const value = options.includes(state.get(what)) ? state.get(what) : options[0];
    const pick = clew.select(
      label,
      options.map((one) => [one, clew.words(one || "all")]),
      value,
      (to) => (state.set(what, to), clew.redraw()),
    );
    return [value, options.length > 1 ? pick : null];
  }

  /** One figure against another, an arm a point. */
  function pareto(run, whole) {
    const state = whole.within("pareto");
    const names = figuresOf(run);
    const axis = (name, otherwise) =>
      names.includes(state.get(name)) ? state.get(name) : names.includes(otherwise) ? otherwise : names[0];
    const [x, y] = [axis("x", run.axes[0]), axis("y", run.axes[1])];
    const pick = (name, value) =>
      clew.select(
        name,
        names.map((one) => [one, clew.words(one)]),
        value,
        (to) => (state.set(name, to), clew.redraw()),
      );
    const [section, sections] = chosen(run, state, "section", "part");
    const there = run.results.filter((one) => one.section === section);
    const [condition, conditions] = chosen({ results: there }, state, "condition", "condition");
    const points = there
      .filter((one) => one.condition === condition && one.figures[x] && one.figures[y])
      .map((one) => ({
        name: one.name,
        condition: one.condition,
        x: one.figures[x],
        y: one.figures[y],
      }));
    if (!points.length) return null;
    const rows = points.map((one) => ({
      arm: one.name,
      condition: one.condition,
      [x]: one.x[0],
      [`${x} low`]: one.x[1],
      [`${x} high`]: one.x[2],
      [y]: one.y[0],
      [`${y} low`]: one.y[1],
      [`${y} high`]: one.y[2],
    }));
    const less = state.get("less", /cost|tokens|fall|lost/.test(x));
    const turn = () => (state.set("less", !less), clew.redraw());
    const way = clew.button(less ? "less of x is better" : "more of x is better", turn, { class: "small" });
    const draw = (width) => clew.scatter(width, { points, x: clew.words(x), y: clew.words(y), less });
    const note =
      "Means over replicas with 95% intervals, not corrected for their number. Ringed in gold: arms that no other beats in both figures.";
    return clew.figure("One figure against another", draw, {
      note,
      rows,
      tools: [sections, conditions, pick("x", x), pick("y", y), way],
    });
  }

  function curves(run, whole) {
    const state = whole.within("curves");
    const with_ = { ...run, results: run.results.filter((one) => one.curve.length > 1) };
    if (!with_.results.length) return null;
    const [section, sections] = chosen(with_, state, "section", "part");
    const [condition, conditions] = chosen(
      { results: with_.results.filter((one) => one.section === section) },
      state,
      "condition",
      "condition",
    );
    const some = with_.results.filter((one) => one.section === section && one.condition === condition);
    const series = some.map((one) => ({
      name: one.name,
      points: one.curve.map(([x, y, low, high]) => ({ x, y, low, high })),
    }));
    const rows = some.flatMap((one) =>
      one.curve.map(([at, value, low, high]) => ({ arm: one.name, at, value, low, high })),
    );
    const note = "Means over replicas, with Student's 95% intervals; none where there is one replica.";
    return clew.figure(
      "Learning curves",
      (width) => clew.curves(width, { series, x: "part of the cost, or round", y: "mean over replicas", height: 320 }),
      { note, rows, tools: [sections, conditions] },
    );
  }

  function results(run, state) {
    const names = figuresOf(run);
    const rows = run.results.map((one) => {
      const figures = names.flatMap((name) =>
        ["", "_low", "_high"].map((end, i) => [name + end, one.figures[name]?.[i] ?? null]),
      );
      return { part: one.section, condition: one.condition, arm: one.name, ...Object.fromEntries(figures) };
    });
    const columns = [
      { name: "part" },
      { name: "condition" },
      { name: "arm" },
      ...names.map((name) => ({
        name,
        title: clew.words(name),
        about: run.about[name],
        low: `${name}_low`,
        high: `${name}_high`,
      })),
    ];
    return clew.table(state.within("results"), "All results", columns, rows, {
      most: 30,
      note: "Means over replicas; intervals of 95% each.",
    });
  }
})();
