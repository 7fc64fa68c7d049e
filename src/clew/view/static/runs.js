"use strict";
/* What pages of trainings and of splits have in common: facts, curves over steps, evaluations with intervals. */

(function () {
  const HELD_OUT = "held_out_";
  const MEANS = { step: "step", seconds: "seconds" };

  const words = (name) =>
    clew
      .text(name)
      .replace(/^held_out_/, "held-out ")
      .replaceAll("_", " ");
  clew.words = words;

  /** A card a run: its facts, [name, value] pairs. */
  clew.facts = (runs) =>
    clew.el(
      "div",
      { class: "grid" },
      runs.map((run) => {
        const lines = run.facts.map(([name, value]) => [
          clew.el("dt", {}, clew.text(name)),
          clew.el("dd", {}, clew.text(value)),
        ]);
        return clew.card(clew.text(run.name), {}, clew.el("dl", { class: "facts" }, lines));
      }),
    );

  /** The figures that some run's metrics have, those of validations first. */
  function figuresOf(runs) {
    const names = new Set(runs.flatMap((run) => run.metrics.flatMap(Object.keys)));
    for (const name of Object.keys(MEANS)) names.delete(name);
    const held = (name) => (name.startsWith(HELD_OUT) ? 0 : 1);
    return [...names].sort((a, b) => held(a) - held(b));
  }

  const pointsOf = (run, name) =>
    run.metrics.filter((row) => typeof row[name] === "number").map((row) => ({ x: row.step, y: row[name] }));

  /** Cards with curves over steps: those of `first` that there are, and one whose figure is chosen.
      mark: a step to point out; pick: called with a step that is clicked. */
  clew.trainingCurves = function (state, runs, first, { unit = "step", mark, pick } = {}) {
    const known = figuresOf(runs);
    if (!known.length) return null;
    const draw =
      (names, how = {}) =>
      (width) =>
        clew.curves(width, { series: seriesOf(runs, names), x: unit, mark, pick, ...how });
    const rows = runs.flatMap((run) => run.metrics.map((row) => (runs.length > 1 ? { run: run.name, ...row } : row)));
    const columns = [...(runs.length > 1 ? ["run"] : []), "step", ...known];
    const both = { rows, names: columns };
    const cards = first
      .map(({ title, names, ...how }) => [title, names.filter((name) => known.includes(name)), how])
      .filter(([, names]) => names.length)
      .map(([title, names, how]) => clew.figure(title, draw(names, { y: "", ...how }), both));
    const chosen = state.get("figure", known[0]);
    const choose = clew.select(
      "figure",
      known.map((name) => [name, words(name)]),
      chosen,
      (name) => (state.set("figure", name), clew.redraw()),
    );
    cards.push(clew.figure("Any figure", draw([chosen], { y: words(chosen) }), { ...both, tools: [choose] }));
    return clew.el("div", { class: "grid" }, cards);
  };

  /** What is drawn first of runs that imitate: the loss, and what validations found. */
  clew.imitationCurves = function (runs) {
    const known = new Set(runs.flatMap((run) => run.metrics.flatMap(Object.keys)));
    const rates = ["exact", "optimal", "score", "starts_at_once"]
      .map((name) => `held_out_${name}`)
      .filter((name) => known.has(name));
    const outside = (value) => value < 0 || value > 1;
    const shares = !runs.some((run) => run.metrics.some((row) => rates.some((name) => outside(row[name]))));
    const positive = runs.every((run) => run.metrics.every((row) => !(row.loss <= 0)));
    return [
      { title: "Training loss", names: ["loss"], y: "loss per supervised token (nats)", log: positive },
      {
        title: "Held-out questions",
        names: runs.length > 1 ? rates.slice(0, 1) : rates,
        y: shares ? "share of questions" : "mean over questions", // a world's own score may be any number
        percent: shares,
        range: shares ? [0, 1] : undefined,
      },
    ];
  };

  function seriesOf(runs, names) {
    const dashes = [null, "5 4", "2 3", "8 3 2 3"];
    return runs.flatMap((run, r) =>
      names.map((name, n) => {
        const said = [runs.length > 1 && run.name, names.length > 1 && words(name)].filter(Boolean).join(": ");
        const [hue, dash] = runs.length > 1 && names.length > 1 ? [r, dashes[n % dashes.length]] : [r + n, null];
        return { name: said || words(name), points: pointsOf(run, name), color: clew.hue(hue), dash };
      }),
    );
  }

  const isFigure = (value) => value && typeof value === "object" && typeof value.value === "number" && "low" in value;

  /** The names of a report's figures. */
  clew.figureNames = (reports) => [
    ...new Set(reports.flatMap((report) => Object.keys(report).filter((name) => isFigure(report[name])))),
  ];

  /** Cards of evaluations. reports: [{name, report}], side by side; report.baseline, where there is one, is beside them. */
  clew.evaluations = function (state, reports) {
    const names = clew.figureNames(reports.map((one) => one.report));
    if (!names.length) return null;
    const all = [...reports];
    for (const one of reports) {
      if (!one.report.baseline) continue;
      const groups = Object.entries(one.report)
        .filter(([name]) => name.startsWith("baseline_by_"))
        .map(([name, value]) => [name.slice(9), value]);
      const name = reports.length > 1 ? `random walk (${one.name})` : "random walk";
      if (!all.some((other) => other.name.startsWith("random walk")))
        all.push({ name, report: { ...one.report.baseline, ...Object.fromEntries(groups) }, base: true });
    }
    const figure = names.includes(state.get("of"))
      ? state.get("of")
      : names.find((name) => ["optimal", "exact"].includes(name)) || names[0];
    const choose = clew.select(
      "figure",
      names.map((name) => [name, words(name)]),
      figure,
      (name) => (state.set("of", name), clew.redraw()),
    );
    const counts = reports.map((one) => one.report.questions).filter(Boolean);
    const note = `Held-out questions, answered greedily${counts.length ? `: ${[...new Set(counts)].map((n) => n.toLocaleString("en-US")).join(", ")}` : ""}. All intervals are 95%.`;
    const groups = [...new Set(reports.flatMap((one) => Object.keys(one.report)))].filter((name) =>
      name.startsWith("by_"),
    );
    const told = groups.map((name) => byGroup(all, name, figure)).filter(Boolean);
    return [
      allFigures(state, all, names, note),
      told.length > 0 && clew.el("div", { class: "bar" }, choose),
      told.length > 0 && clew.el("div", { class: "grid" }, told),
    ];
  };

  const isRate = ({ low, high }) => low >= -1e-9 && high <= 1 + 1e-9;

  function allFigures(state, all, names, note) {
    const figures = names.map((name) => {
      const of = all.map((one) => (isFigure(one.report[name]) ? one.report[name] : {}));
      const parts = of.flatMap((one, i) =>
        ["value", "low", "high"].map((part) => [`${all[i].name} ${part}`, one[part] ?? null]),
      );
      return { figure: words(name), of, ...Object.fromEntries(parts) };
    });
    const rates = figures.filter(({ of }) => of.every((one) => !("low" in one) || isRate(one)));
    const rows = rates.flatMap(({ figure, of }) =>
      of.map((one, i) => ({ ...one, label: figure, series: all[i].name })),
    );
    const series = all.map((one, i) => ({ name: one.name, color: one.base ? clew.color("grey") : clew.hue(i) }));
    const draw = (width) => clew.dots(width, { rows, series, range: [0, 1], percent: true });
    const figure = (name) => ({
      name: `${name} value`,
      title: clew.text(name),
      low: `${name} low`,
      high: `${name} high`,
      digits: 3,
    });
    const columns = [{ name: "figure" }, ...all.map((one) => figure(one.name))];
    const known = rows.filter((row) => "value" in row);
    return clew.el("div", { class: "grid" }, [
      known.length > 0 &&
        clew.figure("Evaluation", draw, { note, rows: known, names: ["label", "series", "value", "low", "high"] }),
      clew.table(state.within("figures"), "All figures", columns, figures, { most: 30 }),
    ]);
  }

  function byGroup(all, name, figure) {
    const groups = [...new Set(all.flatMap((one) => Object.keys(one.report[name] || {})))];
    if (groups.length < 2) return null;
    if (groups.every((one) => /^\d+$/.test(one))) groups.sort((a, b) => a - b);
    const numbers = groups.every((one) => /^\d+$/.test(one));
    const points = (one) =>
      groups.flatMap((group, x) => {
        const value = one.report[name]?.[group]?.[figure];
        return isFigure(value)
          ? [{ x, y: value.value, low: value.low, high: value.high, questions: one.report[name][group].questions }]
          : [];
      });
    const series = all.map((one, i) => ({
      name: one.name,
      points: points(one),
      color: one.base ? clew.color("grey") : clew.hue(i),
      dash: one.base ? "4 4" : null,
      lines: numbers,
    }));
    if (series.every((one) => !one.points.length)) return null;
    const ys = series.flatMap((one) => one.points.flatMap((p) => [p.low, p.high]));
    const rates = ys.every((y) => y >= -1e-9 && y <= 1 + 1e-9);
    const how = {
      series,
      x: words(name.slice(3)),
      y: words(figure),
      categories: groups,
      percent: rates,
      range: rates ? [0, 1] : undefined,
    };
    const rows = series.flatMap((one) =>
      one.points.map((p) => ({
        of: one.name,
        [name.slice(3)]: groups[p.x],
        value: p.y,
        low: p.low,
        high: p.high,
        questions: p.questions,
      })),
    );
    return clew.figure(`By ${words(name.slice(3))}`, (width) => clew.curves(width, how), { rows });
  }
})();
