"use strict";
/* Paths and forks without a head. */

(function (maze) {
  maze.withoutPanel = function ({ run, i, context, question, record, choice, step }) {
    const fork = record.forks[step];
    const rows = [...Array(run.layers * run.heads).keys()].map((number) => {
      const walk = record.without ? record.without[number] : undefined;
      const outcome =
        walk === undefined ? "not asked yet" : walk === null ? "the same path" : maze.verdict(question, walk).said;
      const there = fork?.without?.[number];
      return {
        number,
        name: maze.head(run, number),
        outcome,
        bad: Boolean(walk) && !walk.solved,
        difference: there ?? null,
        lost: there === undefined ? null : fork.difference - there,
      };
    });
    const columns = [
      { name: "name", title: "without" },
      {
        name: "outcome",
        title: "the path becomes",
        show: (row) =>
          clew.el("span", { class: row.bad ? "bad-word" : null }, row.bad ? `✗ ${row.outcome}` : row.outcome),
      },
    ];
    if (fork?.without) {
      columns.push({
        name: "difference",
        title: "logit difference here",
        digits: 2,
        about: "the best right step’s logit less that of the best wrong one, at this fork",
      });
      columns.push({ name: "lost", title: "lost", digits: 2, about: "against all heads" });
    }
    const pick = (row) => maze.takeAway(i, choice.without === row.number ? -1 : row.number, context);
    const walk = choice.without >= 0 ? record.without?.[choice.without] : null;
    const became = walk ? maze.verdict(question, walk).said : walk === null ? "the same path" : "…";
    const said =
      choice.without < 0
        ? "Click a head to take it away: at every token " +
          "it then says what it says there in the mean over other held-out mazes, and so nothing about this one."
        : `Without head ${maze.head(run, choice.without)}, dashed: ${became}. Click it again to put it back.`;
    const next = record.forks.findIndex((one, at) => one && at > step);
    const first = record.forks.findIndex(Boolean);
    const to = next >= 0 ? next : first;
    const at = fork
      ? `At this fork all heads together have a logit difference of ${clew.number(fork.difference, 2)}.`
      : "No step can go wrong here but by a jump: this is no fork.";
    return {
      over: null,
      without: walk || null,
      rows: rows.map(({ name, outcome, difference }) => ({ head: name, outcome, difference })),
      tips: (kind, number) =>
        kind === "cell"
          ? [`cell ${maze.cell(question, number)}`]
          : [`passage ${question.edges[number].map((one) => maze.cell(question, one)).join(" – ")}`],
      panel: [
        maze.note(said),
        clew.el(
          "div",
          { class: "bar" },
          clew.el("span", { class: "now" }, at),
          to >= 0 &&
            clew.button("next fork", () => context.set({ step: to }), { class: "small", "data-at": `${i} next fork` }),
        ),
        clew.table(context.state.within(`${i}.without`), "Without one head", columns, rows, {
          pick,
          picked: (row) => row.number === choice.without,
          most: 200,
        }),
      ],
    };
  };

  /** Takes a head away; of a maze that was drawn by hand the server has to say what becomes of the path. */
  maze.takeAway = async function (i, number, context) {
    const { view, choices } = context;
    const drawn = view.drawn;
    context.choose(i, { without: number });
    if (number < 0 || !drawn || drawn.runs[i].without?.[number] !== undefined) return;
    const said = await maze.asked(drawn.question, number).catch((error) => ({ error }));
    if (said.error) return context.complain?.[i](said.error);
    const [record, walk] = [drawn.runs[i], said.runs[i]];
    record.without ||= Array(context.data.runs[i].layers * context.data.runs[i].heads).fill(undefined);
    const same = walk.ended === record.ended && walk.path.join() === record.path.join();
    record.without[number] = same ? null : walk;
    if (view.drawn === drawn) context.choose(i, { without: choices[i].without });
  };
})((clew.maze ||= {}));
