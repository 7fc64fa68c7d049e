"use strict";
/* Tables that are sorted, searched and downloaded.

     clew.table(state, title, columns, rows, { note, most, picked, pick })

   columns: of {name, title, digits, percent, low, high, show, bar}. name: the key of a row; low and high: keys of its
   interval's ends; show: a function of the row that gives a node or a text in place of the value. What is sorted and
   searched is the value itself. pick: called with a row that is clicked. */

(function () {
  const FEW = 60;

  clew.table = function (state, title, columns, rows, { note, most = FEW, pick, picked, sort = "", ...others } = {}) {
    const view = { most, find: state.get("find", ""), sort: state.get("sort", sort) };
    const body = clew.el("tbody", {});
    const heads = columns.map((column) => head(column, () => sortBy(column)));
    const count = clew.el("span", { class: "note count" });
    const more = clew.button("more", () => ((view.most *= 4), fill()), { class: "small" });
    const search = clew.el("input", {
      type: "search",
      value: view.find,
      placeholder: "search",
      "aria-label": `search ${title}`,
      on: { input: find },
    });

    function find() {
      view.find = search.value;
      state.set("find", view.find);
      fill();
    }

    function sortBy(column) {
      const [up, down] = [column.name, `-${column.name}`];
      const numbers = rows.some((row) => typeof row[column.name] === "number");
      const turns = numbers ? [down, up] : [up, down]; // the largest figure is what is looked for first
      view.sort = view.sort === turns[0] ? turns[1] : turns[0];
      state.set("sort", view.sort);
      fill();
    }

    const shown = () =>
      ordered(
        rows.filter((row) => holds(row, columns, view.find)),
        view.sort,
      );

    function fill() {
      const found = shown();
      const lines = found.slice(0, view.most);
      clew.add(
        clew.empty(body),
        lines.map((row) => line(row, columns, pick, picked)),
      );
      heads.forEach((cell, i) => {
        const name = columns[i].name;
        const way = view.sort === name ? "ascending" : view.sort === `-${name}` ? "descending" : "none";
        cell.setAttribute("aria-sort", way);
      });
      count.textContent =
        found.length === rows.length ? clew.many(rows.length, "row") : `${found.length} of ${clew.many(rows.length, "row")}`;
      more.hidden = found.length <= lines.length;
    }

    fill();
    const names = columns.flatMap((column) => [column.name, column.low, column.high].filter(Boolean));
    const csv = clew.button("CSV", () => clew.save(`${title}.csv`, "text/csv", clew.csvText(names, shown())), {
      class: "small",
      title: "download these rows",
    });
    const grid = clew.el("table", {}, clew.el("thead", {}, clew.el("tr", {}, heads)), body);
    const tools = [rows.length > 8 && search, csv];
    const wide = clew.el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": title }, grid);
    return clew.card(title, { note, tools, ...others }, wide, clew.el("footer", {}, count, more), meanings(columns));
  };

  /** What columns mean, which their heads say only to those who can point at them. */
  function meanings(columns) {
    const told = columns.filter((column) => column.about);
    if (!told.length) return null;
    const lines = told.map((column) => [
      clew.el("dt", {}, column.title || column.name),
      clew.el("dd", {}, column.about),
    ]);
    return clew.el(
      "details",
      { class: "meanings" },
      clew.el("summary", {}, "what the columns mean"),
      clew.el("dl", { class: "facts" }, lines),
    );
  }

  function head(column, called) {
    const button = clew.button(column.title || column.name, called, { class: "sort" });
    return clew.el("th", { scope: "col", title: column.about }, button);
  }

  function holds(row, columns, find) {
    if (!find) return true;
    const wanted = find.toLowerCase();
    return columns.some(({ name }) => row[name] !== null && String(row[name]).toLowerCase().includes(wanted));
  }

  /** Rows by a column, "-" before its name for the largest first; what is missing comes last either way. */
  function ordered(rows, sort) {
    if (!sort) return rows;
    const name = sort.replace(/^-/, "");
    const way = sort === name ? 1 : -1;
    const missing = (value) => value === null || value === undefined;
    return rows
      .map((row, i) => [row, i])
      .sort(([a, i], [b, j]) => {
        const [x, y] = [a[name], b[name]];
        if (missing(x) || missing(y)) return missing(x) - missing(y) || i - j;
        const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
        return way * order || i - j;
      })
      .map(([row]) => row);
  }
  clew.ordered = ordered;

  function line(row, columns, pick, picked) {
    const cells = columns.map((column) => {
      const value = row[column.name];
      const number = typeof value === "number";
      const node = column.show ? column.show(row) : figure(row, column);
      return clew.el("td", { class: number ? "number" : column.class }, node);
    });
    const chosen = picked ? picked(row) : false;
    const on = pick ? { click: () => pick(row), keydown: (event) => event.key === "Enter" && pick(row) } : {};
    return clew.el("tr", { class: chosen ? "picked" : null, tabindex: pick ? "0" : null, on }, cells);
  }

  /** A row's figure with its interval, as text. */
  function figure(row, column) {
    const told = (value) =>
      column.percent ? clew.inPercent(value, column.digits) : clew.number(value, column.digits);
    const value = row[column.name];
    if (typeof value !== "number") return value === null || value === undefined ? "–" : clew.text(value);
    const said = told(value) + (column.percent ? "%" : "");
    if (!column.low || typeof row[column.low] !== "number") return said;
    const ends = `[${told(row[column.low])}, ${told(row[column.high])}]`;
    return [said, clew.el("span", { class: "ends" }, ` ${ends}`)];
  }
})();
