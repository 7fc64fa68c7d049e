"use strict";
/* What was sampled in a round, as CSV: an answer a row, with its thought, scores, monitors and both weights. */

(function () {
  clew.splitSamples = function (runs, number) {
    const rows = runs.flatMap((run) => {
      const round = run.rounds.find((one) => one.round === number);
      return (round?.questions || []).flatMap((question) => samples(run.name, number, question, round.texts));
    });
    return clew.csvText([...new Set(rows.flatMap(Object.keys))], rows);
  };

  function samples(run, round, question, texts) {
    const asked = { run, round, question: question.number, prompt: texts[question.prompt] };
    return question.thoughts.flatMap((thought, n) =>
      thought.answers.map((answer, k) => ({
        ...asked,
        ...written("thought", n, thought, texts),
        ...written("answer", k, answer, texts),
        score: answer.score,
        ...named("grader", answer.scores, texts),
        ...named("monitor", answer.monitors, texts),
        ...Object.fromEntries(Object.entries(answer.extra || {}).map(([name, value]) => [`logged ${name}`, value])),
      })),
    );
  }

  function written(what, place, one, texts) {
    return {
      [what]: place + 1,
      [`${what}_weight`]: one.weight,
      [`${what}_tokens`]: one.tokens,
      [`${what}_text`]: texts[one.text],
    };
  }

  const named = (what, many, texts) =>
    Object.fromEntries((many || []).map(([place, value]) => [`${what} ${texts[place]}`, value]));
})();
