"use strict";
/* What the parts of the maze view share: attention out of its bytes, distances, and words for what is seen.

   Cells are numbers, row * columns + column. A step is a token that the model wrote; what is read there is what stood
   before it. The slots of attention are the passages in the order of the list, the cells of the path in their order,
   then the marks, and behind these the list's tokens once more, by what they are. */

(function (maze) {
  const WAYS = [
    [-1, 0],
    [1, 0],
    [0, -1],
    [0, 1],
  ];
  maze.WAYS = WAYS;
  maze.WAY_NAMES = ["up", "down", "left", "right"];
  maze.CONTROLS = {
    embeddings: "the input embeddings of the tokens named there, which need no model",
    random: "a model of the same shape with random weights",
    shuffled: "labels of another maze",
    retargeted: "labels of another target in the same maze",
    majority: "the most frequent answer at each cell",
  };
  maze.GROUPS = [
    ["passages", "passages", "the four tokens of each listed passage, its “;” among them"],
    ["path", "path so far", "the cells of the path, without the token at which the model stands"],
    ["self", "this token", "the token at which the model stands"],
    ["origin", "origin", "the origin’s cell in the question"],
    ["target", "target", "the target’s cell in the question"],
    ["marks", "marks", "tokens that name no cell: the ends of the list, and those around origin, target and path"],
  ];

  const decoded = new WeakMap();

  /** Attention of a record, decoded once. */
  function attention(record) {
    if (!decoded.has(record)) {
      const [bytes, most] = [record.attention.bytes, record.attention.most].map((text) =>
        Uint8Array.from(atob(text), (one) => one.charCodeAt(0)),
      );
      const numbers = new DataView(most.buffer);
      const largest = Float32Array.from({ length: most.length / 4 }, (_, i) => numbers.getFloat32(4 * i, true));
      decoded.set(record, { slots: record.attention.slots, bytes, largest });
    }
    return decoded.get(record);
  }

  /** What is attended to from a step, by slot: of one head, or the mean over those of a layer, or over all; -1 is all. */
  maze.seen = function (run, record, step, layer, head) {
    const { slots, bytes, largest } = attention(record);
    const out = new Float32Array(slots);
    const layers = layer < 0 ? [...Array(run.layers).keys()] : [layer];
    const heads = head < 0 || layer < 0 ? [...Array(run.heads).keys()] : [head];
    for (const l of layers) {
      for (const h of heads) {
        const row = (step * run.layers + l) * run.heads + h;
        const part = largest[row] / (255 * layers.length * heads.length);
        for (let i = 0; i < slots; i++) out[i] += part * bytes[row * slots + i];
      }
    }
    return out;
  };

  /** The number of the path's cell at which a step stands, -1 at `<PATH_START>`; null where no path has begun. */
  maze.order = function (record, step) {
    const begun = record.next.indexOf("<PATH_START>");
    return begun < 0 || step <= begun ? null : step - begun - 2;
  };

  /** The same shared out: by passage, by cell, by group of GROUPS, and of the list's tokens by kind. */
  maze.shared = function (data, question, record, step, values) {
    const passages = question.edges.length;
    const walked = values.length - passages - data.marks.length - data.listed.length;
    const at = (name) => passages + walked + data.marks.indexOf(name);
    const order = maze.order(record, step);
    const mark = step === 0 ? "target_end" : order === -1 ? "path_start" : "other";
    const own = order >= 0 && order < walked ? passages + order : at(mark);
    const sum = (from, to) => values.slice(from, to).reduce((a, b) => a + b, 0);
    const cells = new Float32Array(question.rows * question.cols);
    for (let i = 0; i < walked; i++) if (record.path[i] >= 0) cells[record.path[i]] += values[passages + i];
    cells[question.origin] += values[at("origin")];
    cells[question.target] += values[at("target")];
    const groups = { passages: sum(0, passages), path: sum(passages, passages + walked), self: values[own] };
    if (own < passages + walked) groups.path -= values[own];
    groups.origin = values[at("origin")];
    groups.target = values[at("target")];
    groups.marks = sum(passages + walked, passages + walked + data.marks.length) - groups.origin - groups.target;
    if (own >= passages + walked) groups.marks -= values[own];
    const listed = Object.fromEntries(
      data.listed.map((name, i) => [name, values[values.length - data.listed.length + i]]),
    );
    const marks = Object.fromEntries(data.marks.map((name) => [name, values[at(name)]]));
    return { passages: values.slice(0, passages), cells, groups, listed, marks };
  };

  /** Which cells a passage joins each cell to. */
  maze.neighbours = function (question) {
    const near = Array.from({ length: question.rows * question.cols }, () => []);
    for (const [a, b] of question.edges) {
      near[a].push(b);
      near[b].push(a);
    }
    return near;
  };

  const known = new WeakMap();

  /** Steps from each cell to the target; Infinity where none leads there. */
  maze.distances = function (question) {
    if (known.has(question)) return known.get(question);
    const near = maze.neighbours(question);
    const steps = Array(near.length).fill(Infinity);
    steps[question.target] = 0;
    const queue = [question.target];
    for (const here of queue) {
      for (const to of near[here]) {
        if (steps[to] === Infinity) {
          steps[to] = steps[here] + 1;
          queue.push(to);
        }
      }
    }
    known.set(question, steps);
    return steps;
  };

  /** The cell beside another, up, down, left or right of it by the number of the way; -1 beyond the grid. */
  maze.beside = function (question, cell, way) {
    const [row, col] = [Math.floor(cell / question.cols) + WAYS[way][0], (cell % question.cols) + WAYS[way][1]];
    return row < 0 || col < 0 || row >= question.rows || col >= question.cols ? -1 : row * question.cols + col;
  };

  maze.cell = (question, cell) =>
    cell < 0 ? "no cell" : `(${Math.floor(cell / question.cols)},${cell % question.cols})`;

  const HOW = {
    start: () => "it does not start at the origin",
    cell: (at) => `step ${at} is no cell of this maze`,
    wall: (at) => `step ${at} goes where no passage leads`,
    detour: (at) => `step ${at} leads away from the target`,
    stopped: (at) => `it stops after ${clew.many(at - 1, "step")}, short of the target`,
    endless: () => "it goes on without end",
  };

  /** What became of a path, in words; `bad` if it is no shortest one. */
  maze.verdict = function (question, walk) {
    if (!question.right)
      return { bad: true, said: "no way leads from the origin to the target: there is no right answer" };
    if (walk.solved) return { bad: false, said: `a shortest path, ${clew.many(walk.path.length - 1, "step")}` };
    return { bad: true, said: HOW[walk.how] ? HOW[walk.how](walk.wrong) : "no shortest path" };
  };

  /** Where a question stands: `size`, `length`, `lookahead`. */
  maze.group = (question, name) =>
    ({ size: `${question.rows}x${question.cols}`, path_length: question.length, lookahead: question.lookahead })[name];

  /** Whether a value lies in a group called "4x4", "7" or "7-9". */
  maze.inside = function (value, group) {
    if (String(value) === group) return true;
    const ends = group.split("-").map(Number);
    return typeof value === "number" && ends.length === 2 && ends[0] <= value && value <= ends[1];
  };

  maze.head = (run, number) => `${Math.floor(number / run.heads)}.${number % run.heads}`;
  maze.share = (value) => clew.percent(value, value < 0.0995 ? 1 : 0);
})((clew.maze ||= {}));
