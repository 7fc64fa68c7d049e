"use strict";
/* Audits of splits: a card a measure, its figures by what was done to the thought; runs side by side. */

clew.kinds.audit = function (root, data, state) {
  const runs = data.runs;
  const rows = runs.flatMap((run) =>
    run.rows.map((row) => ({ ...row, of: run.name, says: run.says[row.measure]?.[row.figure] || "" })),
  );
  const measures = [...new Set(rows.map((row) => row.measure))];
  const series = runs.length > 1 ? runs.map((run) => run.name) : [];
  const cards = measures.flatMap((measure) => {
    const mine = rows.filter((row) => row.measure === measure);
    return [...new Set(mine.map((row) => row.figure))].map((figure) => {
      const some = mine.filter((row) => row.figure === figure);
      const drawn = some.map((row) => ({ ...row, label: clew.words(row.condition || row.figure), series: row.of }));
      const draw = (width) => clew.dots(width, { rows: drawn, series, zero: 0, digits: 2 });
      return clew.figure(`${clew.words(measure)}: ${clew.words(figure)}`, draw, {
        note: clew.text(some[0].says),
        rows: some,
      });
    });
  });
  const columns = [
    ...(runs.length > 1 ? [{ name: "of" }] : []),
    { name: "measure" },
    { name: "condition", class: "long" },
    { name: "figure" },
    { name: "value", low: "low", high: "high" },
    { name: "says", title: "in words", class: "long" },
  ];
  const facts = runs.map((run) => ({
    name: run.name,
    facts: [...run.counts, ...run.notes.map((note) => ["note", note])],
  }));
  clew.add(root, clew.el("div", { class: "grid" }, cards));
  clew.add(
    root,
    clew.table(state, "All figures", columns, rows, { note: "All intervals are 95%, over questions." }),
    clew.facts(facts),
  );
};
