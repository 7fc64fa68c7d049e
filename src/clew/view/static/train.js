"use strict";
/* Trainings: curves over steps, the final evaluation, what each was made with; runs side by side. */

clew.kinds.train = function (root, data, state) {
  const runs = data.runs;
  const curves = clew.trainingCurves(state, runs, clew.imitationCurves(runs));
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
