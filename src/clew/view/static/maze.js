"use strict";
/* Mazes and the models that solve them: a strip of all mazes, then each model's board with its panel, then accuracy.

   data: {questions, runs, marks, listed, distances, seed}; a run has a record of each question, in their order
   (view/maze_records.py). What the link keeps: maze (its number), step, over (what is laid over the maze), and of each
   run, by its number, layer and head, depth of the lens, layer of the probes, and the head that is taken away. */

clew.kinds.maze = function (root, data, state) {
  const maze = clew.maze;
  const view = { place: 0, step: 2, over: "attention", drawn: null, numbers: false, editing: false };
  const { questions, runs } = data;
  const choices = runs.map((run, i) => chosenOf(run, state.within(String(i))));

  const hardest = questions.reduce((a, b) => (!b.picked && b.lookahead > a.lookahead ? b : a)); // most to see there
  const wanted = questions.findIndex((one) => one.number === state.get("maze", hardest.number));
  view.place = wanted < 0 ? questions.indexOf(hardest) : wanted;
  view.step = Math.max(0, Math.floor(state.get("step", 2)));
  view.over = maze.OVERS.some(([name]) => name === state.get("over", "")) ? state.get("over") : "attention";

  /** The question that is shown, and what a run makes of it. */
  const question = () => view.drawn?.question || questions[view.place];
  const record = (i) => (view.drawn ? view.drawn.runs[i] : runs[i].records[view.place]);
  const last = () => Math.max(...runs.map((_, i) => record(i).next.length - 1));

  const context = { data, view, question, record, set, go, choose, choices, replace, state, last };
  let marked = null;
  const strip = maze.strip(context);
  const models = runs.map((run, i) => maze.model(run, i, context));
  clew.add(
    root,
    strip.node,
    clew.el(
      "div",
      { class: runs.length > 1 ? "models many" : "models" },
      models.map((one) => one.node),
    ),
    maze.compared(context),
    runs.map((run, i) => maze.accuracy(run, i, context)),
    maze.help(),
  );
  draw();

  /** Changes what is seen, and the link with it. */
  function set(changes) {
    Object.assign(view, changes);
    view.step = Math.max(0, Math.min(view.step, last()));
    if (!view.drawn) state.set({ maze: questions[view.place].number, step: view.step, over: view.over });
    draw();
  }

  /** Another maze of the strip. It is entered where its path begins. */
  function go(place) {
    const there = (place + questions.length) % questions.length;
    set({ place: there, step: 2, drawn: null });
    strip.reveal();
  }

  /** What a run shows: layer, head, depth, probe, without. */
  function choose(i, changes) {
    Object.assign(choices[i], changes);
    state.within(String(i)).set(changes);
    draw();
  }

  /** A maze that was drawn by hand in place of the one of the page; null ends that. */
  function replace(drawn) {
    set({ drawn, step: Math.min(view.step, 2) });
  }

  function draw() {
    clew.hush();
    const focused = document.activeElement?.dataset?.at;
    const seen = view.drawn ? -1 : view.place;
    if (seen !== marked) mark((marked = seen));
    for (const one of models) one.draw();
    if (focused)
      [...root.querySelectorAll("[data-at]")].find((one) => one.dataset.at === focused)?.focus({ preventScroll: true });
  }

  /** Marks one maze in the strip and among the squares of accuracy; -1 for none. */
  function mark(place) {
    strip.mark(place);
    for (const one of root.querySelectorAll("[data-maze]"))
      one.classList.toggle("now-tile", Number(one.dataset.maze) === place);
  }

  function key(event) {
    const run = runs[0];
    const now = choices[0];
    const keys = {
      ArrowRight: () => set({ step: view.step + 1 }),
      ArrowLeft: () => set({ step: view.step - 1 }),
      Home: () => set({ step: 0 }),
      End: () => set({ step: last() }),
      n: () => go(view.place + 1),
      p: () => go(view.place - 1),
      f: () => nextFailure(),
      j: () => move(-1),
      k: () => move(1),
      h: () =>
        choose(0, now.layer < 0 ? { layer: 0, head: 0 } : { head: now.head + 1 < run.heads ? now.head + 1 : -1 }),
    };
    for (const [name, , letter] of maze.OVERS) keys[letter] = () => set({ over: name });
    if (clew.served) keys.e = () => set({ editing: !view.editing });
    if (!keys[event.key]) return false;
    keys[event.key]();
    return true;
  }

  /** One layer on, or back, of what is laid over the maze. */
  function move(by) {
    const within = (value, least, most) => Math.max(least, Math.min(value, most));
    const now = choices[0];
    const layers = runs[0].layers;
    if (view.over === "lens") choose(0, { depth: within(now.depth + by, 0, layers) });
    else if (view.over === "probes") choose(0, { probe: within(now.probe + by, 0, layers - 1) });
    else choose(0, { layer: within(now.layer + by, -1, layers - 1) });
  }

  function nextFailure() {
    const failed = (place) => runs.some((run) => !run.records[place].solved);
    for (let i = 1; i <= questions.length; i++) {
      const place = (view.place + i) % questions.length;
      if (failed(place)) return go(place);
    }
  }

  /** What a link asks of a run; by default the mean of all heads, all layers, and the layer that probes read best. */
  function chosenOf(run, part) {
    const within = (value, least, most) => (Number.isInteger(value) ? Math.max(least, Math.min(value, most)) : least);
    const hops = (run.probe_rows || []).filter((row) => row.label === "next_hop");
    const best = hops.length ? hops.reduce((a, b) => (b.macro_f1 > a.macro_f1 ? b : a)).layer : 0;
    return {
      layer: within(part.get("layer", -1), -1, run.layers - 1),
      head: within(part.get("head", -1), -1, run.heads - 1),
      depth: within(part.get("depth", run.layers), 0, run.layers),
      probe: within(part.get("probe", best), 0, run.layers - 1),
      without: within(part.get("without", -1), -1, run.layers * run.heads - 1),
    };
  }

  return { key };
};
