"use strict";
/* A reading in sum: the four numbers of crispness with their intervals, and the verdict with its evidence. */

(function () {
  const ABOUT = {
    localisation: "The share of the patching effect at forks that lies in the best 5% of sites.",
    decodability: "By how much probes for what is derived exceed their best control, in macro-F1.",
    steerability: "How much oftener a push makes the model write the other path than random pushes of equal norm.",
    depth_used: "Over how many layers what their removals cost is spread, as an effective number.",
  };

  clew.readingSummary = function (runs, state) {
    return [crispness(runs, state), runs.map((run) => verdict(run, runs.length > 1))];
  };

  function crispness(runs, state) {
    const found = runs.flatMap((run) => (run.tables.crispness || []).map((row) => ({ ...row, of: run.name })));
    if (!found.length) return null;
    const numbers = [...new Set(found.map((row) => row.number))];
    const cards = numbers.map((number) => {
      const whole = found.filter((row) => row.number === number && row.part === "all");
      return clew.card(
        clew.words(number),
        { note: ABOUT[number] },
        whole.map((row) => figure(row, runs.length > 1)),
        clew.plot((width) => drawn(width, whole, number, runs)),
      );
    });
    const parts = found.filter((row) => row.part !== "all");
    const columns = clew.columnsOf(parts.map(({ of: run, ...row }) => (runs.length > 1 ? { of: run, ...row } : row)));
    return [
      clew.el("div", { class: "grid cards" }, cards),
      clew.table(state.within("crispness"), "What each number is made of", columns, parts, {
        most: 30,
        note: "“null” is what there would be where there is nothing to find.",
      }),
    ];
  }

  function figure(row, named) {
    const said = typeof row.value === "number" ? clew.number(row.value, 2) : "–";
    const ends =
      typeof row.value_low === "number" ? `[${clew.number(row.value_low, 2)}, ${clew.number(row.value_high, 2)}]` : "";
    return clew.el(
      "div",
      { class: "figure" },
      named && clew.el("div", { class: "mono" }, clew.text(row.of)),
      clew.el("span", { class: "big" }, said),
      " ",
      clew.el("span", { class: "ends" }, ends),
      clew.el("p", { class: "note" }, clew.text(row.remark || "")),
    );
  }

  function drawn(width, whole, number, runs) {
    const rows = whole.map((row) => ({
      label: runs.length > 1 ? row.of : "",
      value: row.value,
      low: row.value_low,
      high: row.value_high,
    }));
    const nulls = whole.filter((row) => typeof row.null === "number").map((row) => row.null);
    const values = rows.flatMap((row) => [row.low, row.high, row.value]).filter((value) => typeof value === "number");
    const [low, high] =
      number === "depth_used" ? [0, Math.max(1, ...values)] : [Math.min(0, ...values), Math.max(1, ...values)];
    const scale = (value) => 6 + ((value - low) / (high - low || 1)) * (width - 12);
    const height = 16 + 16 * rows.length;
    const svg = clew.svg("svg", {
      width,
      height,
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": `${number} with its interval`,
    });
    clew.add(svg, clew.svg("line", { class: "axis", x1: 6, x2: width - 6, y1: height - 8, y2: height - 8 }));
    for (const value of nulls.slice(0, 1)) {
      const mark = clew.svg("line", {
        x1: scale(value),
        x2: scale(value),
        y1: 0,
        y2: height - 2,
        stroke: clew.color("red"),
        "stroke-width": 1.5,
        "stroke-dasharray": "3 3",
      });
      clew.add(svg, clew.tip(mark, `where there is nothing to find: ${clew.number(value, 2)}`));
    }
    rows.forEach((row, i) => {
      if (typeof row.value !== "number") return;
      const [y, stroke] = [8 + 16 * i, clew.hue(i)];
      clew.add(
        svg,
        clew.svg("line", { x1: scale(row.low), x2: scale(row.high), y1: y, y2: y, stroke, "stroke-width": 2 }),
      );
      clew.add(
        svg,
        clew.tip(clew.svg("circle", { cx: scale(row.value), cy: y, r: 4.5, fill: stroke }), [
          clew.text(row.label || number),
          clew.number(row.value, 3),
        ]),
      );
    });
    return svg;
  }

  const ACCOUNTS =
    "Chaining: each layer looks some steps farther than the one before. Path merging: stretches that are known are " +
    "joined, so that each layer sees twice as far. A heuristic: nothing looks ahead. + where the evidence is as an " +
    "account predicts, − where it is not, · where it does not decide.";
  const SPEAKS = { for: "speaks for it", against: "speaks against it", not: "says nothing of it" };

  function verdict(run, named) {
    const rows = run.tables.verdict || [];
    if (!rows.length) return null;
    const accounts = [...new Set(rows.map((row) => row.account))];
    const readings = [...new Set(rows.map((row) => row.reading))];
    const head = clew.el(
      "tr",
      {},
      clew.el("th", {}, "evidence"),
      accounts.map((one) => clew.el("th", {}, clew.text(one))),
    );
    const lines = readings.map((reading) => {
      const mine = rows.filter((row) => row.reading === reading);
      const marks = accounts.map((account) => {
        const speaks = mine.find((row) => row.account === account)?.speaks;
        return clew.el(
          "td",
          { class: `speaks ${speaks}`, title: SPEAKS[speaks] },
          { for: "+ for", against: "− against", not: "·" }[speaks] || clew.text(speaks ?? ""),
        );
      });
      return clew.el(
        "tr",
        {},
        clew.el(
          "td",
          { class: "long" },
          clew.el("b", {}, clew.text(reading)),
          clew.el("div", {}, clew.text(mine[0].says)),
        ),
        marks,
      );
    });
    const table = clew.el(
      "div",
      { class: "wide" },
      clew.el("table", {}, clew.el("thead", {}, head), clew.el("tbody", {}, lines)),
    );
    return clew.card(
      named ? `Which algorithm? ${clew.text(run.name)}` : "Which algorithm?",
      { note: ACCOUNTS },
      clew.el("p", { class: "verdict" }, clew.text(rows[0].verdict)),
      rows[0].why && clew.el("p", {}, clew.text(rows[0].why)),
      table,
    );
  }
})();
