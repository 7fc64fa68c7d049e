"use strict";
/* What every part of a page has in common: elements, permalinks, keys, downloads, light and dark, and the tabs.

   A kind of section is drawn by one function:

     clew.kinds.NAME = function (root, data, state, clew) { …; return { key(event) { … return true; } }; };

   root is an empty element, data the section's JSON, state its part of the permalink. What it returns is optional; `key`
   gets the keys that are pressed while nothing is being typed, and says true of those that it used. Text goes through
   clew.el alone, which never makes HTML of it. */

const clew = { kinds: {}, served: false, palette: {} };

(function () {
  // Elements

  const XMLNS = "http://www.w3.org/2000/svg";
  const PROPERTIES = new Set(["value", "checked", "selected", "disabled", "open", "hidden", "indeterminate"]);

  /** An HTML element. attrs: attributes, and `on: {event: function}`, `style: {property: value}`; null leaves one out.
      children: nodes, texts, numbers, nested lists; null and false are left out. */
  clew.el = (tag, attrs, ...children) => filled(document.createElement(tag), attrs, children);

  /** The same for SVG. */
  clew.svg = (tag, attrs, ...children) => filled(document.createElementNS(XMLNS, tag), attrs, children);

  function filled(node, attrs, children) {
    for (const [name, value] of Object.entries(attrs || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "on") {
        for (const [event, called] of Object.entries(value)) node.addEventListener(event, called);
      } else if (name === "style") {
        for (const [property, to] of Object.entries(value)) node.style.setProperty(property, to);
      } else if (name.startsWith("on")) {
        throw new Error(`${name}: events go into on: {…}`);
      } else if (PROPERTIES.has(name)) {
        node[name] = value;
      } else {
        node.setAttribute(name, value === true ? "" : String(value));
      }
    }
    return clew.add(node, children);
  }

  /** Appends children as clew.el takes them; returns the node. */
  clew.add = function (node, ...children) {
    for (const child of children.flat(Infinity)) {
      if (child === null || child === undefined || child === false) continue;
      node.append(child instanceof Node ? child : String(child));
    }
    return node;
  };

  clew.empty = (node) => (node.replaceChildren(), node);

  const UNSEEN = /(?![\t\n])[\p{C}\p{Zl}\p{Zp}]/gu;

  /** Somebody else's text with the characters named that have no look of their own, or turn the direction of others. */
  clew.text = (text) =>
    String(text).replace(UNSEEN, (one) => `⟨U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);

  /** A number as people read it: so many digits behind the point, or as many as it needs. */
  clew.number = function (value, digits) {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    if (typeof value !== "number") return clew.text(value);
    if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
    let text = digits !== undefined ? value.toFixed(digits) : short(value);
    if (/^-[0.]+$/.test(text)) text = text.slice(1);
    return text.replace(/^-/, "−");
  };

  function short(value) {
    const size = Math.abs(value);
    if (Number.isInteger(value)) return size < 1e15 ? value.toLocaleString("en-US") : value.toExponential(2);
    if (size >= 1000) return Math.round(value).toLocaleString("en-US");
    if (size < 1e-3) return value.toExponential(1);
    return String(Number(value.toPrecision(3)));
  }

  /** In percent without its sign, by default to one place; to more where that would make all of what is not quite all. */
  clew.inPercent = (value, digits) => {
    const fits = (places) => value >= 1 || Number((100 * value).toFixed(places)) < 100;
    return clew.number(100 * value, digits ?? [1, 2, 3, 4, 5, 6, 7, 8].find(fits) ?? 1);
  };

  clew.percent = (value, digits) => (typeof value === "number" ? `${clew.inPercent(value, digits)}%` : "–");

  /** A rate with its interval, whose lower end is no more all of it than the rate. */
  clew.rate = ({ value, low, high }) => `${clew.percent(value)} [${clew.inPercent(low)}, ${clew.number(100 * high, 1)}]`;

  /** So many of something: 1 step, 2 steps. */
  clew.many = (count, what) => `${clew.number(count)} ${what}${count === 1 ? "" : "s"}`;

  // Permalinks: #tab=split&theme=dark&split.round=3

  const fragment = () => new URLSearchParams(location.hash.slice(1));

  function write(changes) {
    const values = fragment();
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === undefined || value === "") values.delete(name);
      else values.set(name, String(value));
    }
    const link = values.toString();
    if (link === location.hash.slice(1)) return;
    history.replaceState(null, "", `#${link}`);
  }

  /** A section's part of the fragment. */
  function stateOf(key) {
    return {
      key,
      /** The value of a name, of the type of what it is otherwise. */
      get(name, otherwise = null) {
        const found = fragment().get(`${key}.${name}`);
        if (found === null) return otherwise;
        if (typeof otherwise === "number") return Number.isFinite(Number(found)) ? Number(found) : otherwise;
        return typeof otherwise === "boolean" ? found === "true" : found;
      },
      /** Sets one name, or several as an object; null drops it. Nothing is drawn anew by this. */
      set(name, value) {
        const changes = typeof name === "object" ? name : { [name]: value };
        write(Object.fromEntries(Object.entries(changes).map(([one, to]) => [`${key}.${one}`, to])));
      },
      /** A part of this part. */
      within: (name) => stateOf(`${key}.${name}`),
    };
  }

  // Asking the server

  /** What the server of a served page answers to a request; an Error with its words otherwise. */
  clew.ask = async function (request) {
    if (!clew.served) throw new Error("this page was opened from disk, and nobody answers; clew view --serve does");
    const how = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request) };
    const answer = await fetch("/answer", how);
    const said = await answer.json();
    if (!answer.ok) throw new Error(said.error || `the server said ${answer.status}`);
    return said;
  };

  // Downloads

  /** Offers a text as a file. */
  clew.save = function (name, type, text) {
    const link = URL.createObjectURL(new Blob([text], { type }));
    const file = name.replace(/[^\w.-]+/g, "-").replace(/^[-.]+/, "") || "clew";
    const anchor = clew.el("a", { href: link, download: file });
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(link), 10000);
  };

  const LOOKS = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "paint-order"];
  LOOKS.push("opacity", "stroke-linecap", "stroke-linejoin", "font-family", "font-size", "font-weight", "text-anchor");
  LOOKS.push("dominant-baseline", "display", "visibility");

  /** An SVG element as a file that looks the same without this page. */
  clew.svgText = function (svg) {
    const copy = svg.cloneNode(true);
    const ours = [svg, ...svg.querySelectorAll("*")];
    [copy, ...copy.querySelectorAll("*")].forEach((node, i) => {
      const look = getComputedStyle(ours[i]);
      for (const name of LOOKS) node.setAttribute(name, look.getPropertyValue(name));
      node.removeAttribute("class");
    });
    const box = svg.getBoundingClientRect();
    copy.setAttribute("xmlns", XMLNS);
    copy.setAttribute("width", Math.round(box.width));
    copy.setAttribute("height", Math.round(box.height));
    const color = getComputedStyle(document.body).backgroundColor;
    copy.prepend(clew.svg("rect", { x: "-100%", y: "-100%", width: "300%", height: "300%", fill: color }));
    return `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(copy)}\n`;
  };

  /** Rows, objects all, as CSV. A text that a spreadsheet would take for a formula gets an apostrophe before it. */
  clew.csvText = function (names, rows) {
    const cell = (value) => {
      if (value === null || value === undefined) return "";
      if (typeof value === "number") return String(value);
      let text = typeof value === "object" ? JSON.stringify(value) : String(value);
      if (/^[=+\-@\t\r]/.test(text)) text = `'${text}`;
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const lines = [names.map(cell), ...rows.map((row) => names.map((name) => cell(row[name])))];
    return `${lines.map((line) => line.join(",")).join("\r\n")}\r\n`;
  };

  // Pieces

  clew.button = (text, called, attrs) => clew.el("button", { type: "button", on: { click: called }, ...attrs }, text);

  /** A card: a title, a remark, buttons, and what is on it. */
  clew.card = function (title, attrs, ...children) {
    const { note, tools, ...others } = attrs || {};
    const head = clew.el("header", {}, clew.el("h2", {}, title), clew.el("span", { class: "tools" }, tools || []));
    return clew.el(
      "section",
      { class: "card", ...others },
      head,
      note && clew.el("p", { class: "note" }, note),
      children,
    );
  };

  /** A card with a picture that can be downloaded. draw: called with the width there is, gives an SVG element; the
      picture is drawn anew when that changes. rows: what is in it, for CSV. */
  clew.figure = function (title, draw, { note, rows, names, tools = [], ...others } = {}) {
    const picture = clew.plot(draw);
    const svg = () => clew.save(`${title}.svg`, "image/svg+xml", clew.svgText(picture.querySelector("svg")));
    const csv = () => clew.save(`${title}.csv`, "text/csv", clew.csvText(names || Object.keys(rows[0] || {}), rows));
    const both = [clew.button("SVG", svg, { class: "small", title: "download the picture" })];
    if (rows) both.push(clew.button("CSV", csv, { class: "small", title: "download the figures" }));
    return clew.card(title, { note, tools: [tools, both], ...others }, picture);
  };

  /** An element with a picture that follows its width. */
  clew.plot = function (draw) {
    const holder = clew.el("div", { class: "plot" });
    let drawn = 0;
    new ResizeObserver(() => {
      const width = Math.floor(holder.clientWidth);
      if (width > 0 && width !== drawn) clew.empty(holder).append(draw((drawn = width)));
    }).observe(holder);
    return holder;
  };

  /** A labelled choice. options: texts, or [value, text] pairs; chosen is called with the value. */
  clew.select = function (label, options, value, chosen) {
    const pairs = options.map((one) => (Array.isArray(one) ? one : [one, one]));
    const made = pairs.map(([of, text]) =>
      clew.el("option", { value: of, selected: String(of) === String(value) }, text),
    );
    const pick = (event) => chosen(pairs[event.target.selectedIndex][0]);
    return clew.el(
      "label",
      { class: "field" },
      clew.el("span", {}, label),
      clew.el("select", { on: { change: pick } }, made),
    );
  };

  /** A labelled slider over whole numbers, which says its value as `told` has it. `.to(value)` moves it. */
  clew.slider = function (label, [least, most], value, moved, told = String) {
    const said = clew.el("output", {}, told(value));
    const moves = () => ((said.textContent = told(Number(input.value))), moved(Number(input.value)));
    const input = clew.el("input", {
      type: "range",
      min: least,
      max: most,
      step: 1,
      "aria-label": label,
      on: { input: moves },
    });
    input.value = value;
    const field = clew.el("label", { class: "field slider" }, clew.el("span", {}, label), input, said);
    field.to = (to) => ((input.value = to), (said.textContent = told(to)));
    return field;
  };

  const tip = clew.el("div", { class: "tip", role: "tooltip", hidden: true });

  /** Says lines of text beside the pointer of an event; clew.hush ends it. */
  clew.say = function (event, lines) {
    clew.add(
      clew.empty(tip),
      [lines].flat().map((line) => clew.el("div", {}, line)),
    );
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const [x, y] = [event.clientX, event.clientY];
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 4))}px`;
    tip.style.top = `${y + 18 + box.height > innerHeight ? Math.max(4, y - box.height - 10) : y + 18}px`;
  };
  clew.hush = () => (tip.hidden = true);

  /** Says lines of text beside the pointer while it is on a node; gives the node. */
  clew.tip = function (node, lines) {
    const says = (event) => clew.say(event, lines);
    for (const event of ["pointerenter", "pointermove"]) node.addEventListener(event, says);
    node.addEventListener("pointerleave", clew.hush);
    return node;
  };

  // The page

  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const page = { about: null, place: 0, drawn: null };

  function theme(next) {
    if (next) write({ theme: next });
    const chosen = fragment().get("theme");
    const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    clew.palette = {};
    return dark ? "dark" : "light";
  }

  function draw() {
    theme();
    const { sections } = page.about;
    const asked = sections.findIndex((one) => one.key === fragment().get("tab"));
    page.place = Math.max(0, asked);
    const section = sections[page.place];
    clew.hush();
    page.tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === page.place));
      tab.tabIndex = i === page.place ? 0 : -1;
    });
    const root = clew.el("div", { class: `kind ${section.kind}` });
    clew.empty(page.main).append(root);
    page.drawn = null;
    page.data ||= {};
    page.data[page.place] ||= read(`data-${page.place}`);
    const kind = clew.kinds[section.kind];
    if (!kind) return clew.add(root, clew.el("p", { class: "note" }, `nothing here draws ${section.kind}`));
    page.drawn = kind(root, page.data[page.place], stateOf(section.key), clew) || null;
  }

  /** Draws the open section anew, from its state. */
  clew.redraw = draw;

  function choose(place) {
    const { sections } = page.about;
    write({ tab: sections[(place + sections.length) % sections.length].key });
    draw();
  }

  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest?.("input:not([type=checkbox]), select, textarea, [contenteditable]");
    if (typing) return event.key === "Escape" ? event.target.blur() : undefined;
    const tab = event.target.closest?.("[role=tab]");
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    if (tab && event.key in steps) {
      choose(page.place + steps[event.key]);
      page.tabs[page.place].focus();
    } else if (/^[1-9]$/.test(event.key) && page.about.sections[event.key - 1]) choose(event.key - 1);
    else if (event.key === "d") switchTheme();
    else if (!page.drawn?.key?.(event)) return;
    event.preventDefault();
  }

  function switchTheme() {
    theme(theme() === "dark" ? "light" : "dark");
    draw();
  }

  async function watch() {
    if (document.hidden) return;
    try {
      const { stamp } = await clew.ask({ kind: "stamp" });
      page.news.hidden = stamp === page.about.stamp;
    } catch {
      page.news.hidden = true; // the server has ended; the page stays
    }
  }

  function start() {
    page.about = read("page");
    clew.served = page.about.stamp !== null;
    const { sections, title, notes } = page.about;
    page.tabs = sections.map((one, i) =>
      clew.el("button", { type: "button", role: "tab", on: { click: () => choose(i) } }, one.title),
    );
    page.main = clew.el("main", {});
    page.news = clew.button("new figures · load", () => location.reload(), { class: "news", hidden: true });
    const dark = clew.button("◐", switchTheme, {
      class: "plain",
      title: "light or dark (d)",
      "aria-label": "light or dark",
    });
    const name = clew.el(
      "h1",
      {},
      clew.el("span", { class: "mark" }, "clew"),
      clew.el("span", { class: "name" }, clew.text(title)),
    );
    const tabs = clew.el("nav", { role: "tablist", hidden: sections.length < 2 }, page.tabs);
    const head = clew.el("header", { class: "top" }, name, clew.el("span", { class: "tools" }, page.news, dark), tabs);
    const told = notes.map((note) => clew.el("p", { class: "note above" }, clew.text(note)));
    document.body.append(head, ...told, page.main, tip);
    new ResizeObserver(() => document.documentElement.style.setProperty("--top", `${head.offsetHeight}px`)).observe(
      head,
    );
    addEventListener("hashchange", draw);
    addEventListener("keydown", keys);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    draw();
    if (clew.served) setInterval(watch, 3000);
  }

  addEventListener("DOMContentLoaded", start);
})();
