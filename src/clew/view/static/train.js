"use strict";
/* Trainings: curves over steps, the final evaluation, what each was made with; runs side by side. */

clew.kinds.train = function (root, data, state) {
  const runs = data.runs;
  const known = new Set(runs.flatMap((run) => run.metrics.flatMap(Object.keys)));
  const rates = ["exact", "optimal", "score", "starts_at_once"]
    .map((name) => `held_out_${name}`)
    .filter((name) => known.has(name));
  const outside = (value) => value < 0 || value > 1;
  const shares = !runs.some((run) => run.metrics.some((row) => rates.some((name) => outside(row[name]))));
  const positive = runs.every((run) => run.metrics.every((row) => !(row.loss <= 0)));
  const first = [
    { title: "Training loss", names: ["loss"], y: "loss per supervised token (nats)", log: positive },
    {
      title: "Held-out questions",
      names: runs.length > 1 ? rates.slice(0, 1) : rates,
      y: shares ? "share of questions" : "mean over questions", // a world's own score may be any number
      percent: shares,
      range: shares ? [0, 1] : undefined,
    },
  ];
  const curves = clew.trainingCurves(state, runs, first);
  const reports = runs
    .filter((run) => Object.keys(run.evaluation).length)
    .map((run) => ({ name: run.name, report: run.evaluation }));
  clew.add(
    root,
    curves,
    reports.length ? clew.evaluations(state.within("evaluation"), reports) : null,
    clew.facts(runs),
  );
  if (!curves && !reports.length) clew.add(root, clew.el("p", { class: "note" }, "no figures are here yet"));
};
