"use strict";
/* A picture of a tidy table, a row a figure, with a choice for each column that is not drawn.

     { table, title, note, kind: "heat" | "curves" | "dots", value, x, row, label, by, filters, where, first }

   value: the column of figures, whose interval stands in value_low and value_high, or several to choose from. heat: rows
   by `row`, columns by `x`. curves: a curve for each value of `by`, over `x`. dots: a row for each `label`, in series `by`.
   row and label are columns or functions of a row; filters: columns to choose one value of, at first the one in `first`;
   where: which rows count. percent, digits, range, zero, diverging: how it looks. */

(function () {
  const of = (column) => (typeof column === "function" ? column : (row) => row[column]);

  /** The columns of rows for clew.table: what has _low and _high beside it shows them. */
  clew.columnsOf = function (rows) {
    const names = [...new Set(rows.slice(0, 50).flatMap(Object.keys))];
    const ends = new Set(
      names.flatMap((name) => (names.includes(`${name}_low`) ? [`${name}_low`, `${name}_high`] : [])),
    );
    return names
      .filter((name) => !ends.has(name))
      .map((name) => {
        const both = ends.has(`${name}_low`) ? { low: `${name}_low`, high: `${name}_high` } : {};
        const long = rows.some((row) => String(row[name] ?? "").length > 40);
        return { name, title: clew.words(name), class: long ? "long" : null, ...both };
      });
  };

  /** The picture of each run, side by side, under one choice. */
  clew.pictureOf = function (runs, spec, state) {
    const all = runs.flatMap((run) => run.tables[spec.table] || []).filter(spec.where || (() => true));
    const values = [spec.value].flat();
    const value = values.includes(state.get("value")) ? state.get("value") : values[0];
    const chosen = {};
    const choices = (spec.filters || []).map((name) => {
      const options = distinct(all, name);
      const first = options.includes(spec.first?.[name]) ? spec.first[name] : options[0];
      chosen[name] = options.find((one) => String(one) === state.get(name, String(first))) ?? first;
      const pick = (to) => (state.set(name, to), clew.redraw());
      return options.length > 1
        ? clew.select(
            clew.words(name),
            options.map((one) => [one, clew.words(String(one))]),
            chosen[name],
            pick,
          )
        : null;
    });
    if (values.length > 1)
      choices.push(
        clew.select(
          "figure",
          values.map((one) => [one, clew.words(one)]),
          value,
          (to) => (state.set("value", to), clew.redraw()),
        ),
      );
    const fits = (row) =>
      Object.entries(chosen).every(([name, wanted]) => row[name] === wanted) && (!spec.where || spec.where(row));
    const cards = runs.map((run) => {
      const rows = (run.tables[spec.table] || []).filter(fits);
      if (!rows.length) return null;
      const title = runs.length > 1 ? `${spec.title}: ${clew.text(run.name)}` : spec.title;
      return clew.figure(title, drawing(rows, spec, value), {
        note: spec.note,
        rows,
        tools: runs.length > 1 ? [] : choices,
      });
    });
    if (runs.length === 1) return cards;
    return clew.el(
      "div",
      { class: "picture" },
      clew.el("div", { class: "bar" }, choices),
      clew.el("div", { class: "grid wider" }, cards),
    );
  };

  function distinct(rows, column) {
    const values = [...new Set(rows.map(of(column)))];
    return values.every((value) => typeof value === "number") ? values.sort((a, b) => a - b) : values;
  }

  function drawing(rows, spec, value) {
    const figure = (row) => row && { value: row[value], low: row[`${value}_low`], high: row[`${value}_high`] };
    return { heat, curves, dots }[spec.kind](rows, spec, value, figure);
  }

  function heat(rows, spec, value, figure) {
    const [lines, columns] = [distinct(rows, spec.row), distinct(rows, spec.x)];
    const at = new Map(rows.map((row) => [JSON.stringify([of(spec.row)(row), row[spec.x]]), row]));
    const sizes = rows.map((row) => Math.abs(row[value] ?? 0));
    const most = Math.max(1e-9, ...sizes);
    const range = spec.range || (spec.diverging ? [-most, most] : [0, Math.max(1, most)]);
    const corner = `${clew.words(typeof spec.row === "string" ? spec.row : spec.row.name)} \\ ${clew.words(spec.x)}`;
    const how = {
      rows: lines.map(said),
      columns: columns.map(said),
      range,
      digits: spec.digits,
      percent: spec.percent,
      corner,
    };
    return (width) =>
      clew.heat(width, { ...how, at: (r, c) => figure(at.get(JSON.stringify([lines[r], columns[c]]))) });
  }

  const said = (value) => clew.words(value === null || value === undefined ? "–" : String(value));

  function curves(rows, spec, value, figure) {
    const xs = distinct(rows, spec.x).filter((x) => x !== null);
    const names = distinct(rows, spec.by);
    const ordered = names.every((name) => typeof name === "number");
    const series = names
      .map((name, i) => ({
        name: `${spec.bySaid ? `${spec.bySaid} ` : ""}${said(name)}`,
        color: ordered ? clew.ramp(names.length > 1 ? i / (names.length - 1) : 1) : null,
        points: rows
          .filter((row) => row[spec.by] === name && row[spec.x] !== null)
          .map((row) => {
            const { value: y, low, high } = figure(row);
            return { x: xs.indexOf(row[spec.x]), y, low, high };
          })
          .sort((a, b) => a.x - b.x),
      }))
      .map(({ color, ...one }) => (color ? { ...one, color } : one));
    return (width) =>
      clew.curves(width, {
        series,
        x: clew.words(spec.x),
        y: clew.words(value),
        categories: xs.map(said),
        percent: spec.percent,
        range: inside(series, spec.range),
      });
  }

  /** The range, wide enough for all that is drawn. */
  function inside(series, range) {
    if (!range) return undefined;
    const ys = series
      .flatMap((one) => one.points.flatMap((p) => [p.y, p.low, p.high]))
      .filter((y) => typeof y === "number");
    return [Math.min(range[0], ...ys), Math.max(range[1], ...ys)];
  }

  function dots(rows, spec, value, figure) {
    const lines = rows.map((row) => ({
      label: said(of(spec.label)(row)),
      series: spec.by ? said(row[spec.by]) : undefined,
      ...figure(row),
    }));
    const series = spec.by ? distinct(rows, spec.by).map(said) : [];
    return (width) =>
      clew.dots(width, {
        rows: lines,
        series,
        x: clew.words(value),
        zero: spec.zero,
        percent: spec.percent,
        range: spec.range,
      });
  }
})();
