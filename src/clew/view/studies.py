"""Studies on a page: each verdict with the effects that it rests on, all results with their intervals, curves."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clew.errors import InputError
from clew.runs.intervals import band
from clew.text import one_line
from clew.view.page import Section
from clew.view.runs import rounded

if TYPE_CHECKING:
    from clew.study.cells import Result
    from clew.study.effects import Verdict

TITLES = {
    "tabular": "Credit rules on tables",
    "mazes": "Credit rules on mazes",
    "spillover": "Spillover",
    "reading": "Crispness",
}
"""the results that a study's folder may hold, as NAME.parquet"""
AXES = {
    "tabular": ("cost_90", "gained"),
    "mazes": ("thought_tokens", "gained"),
    "spillover": ("thought_tells", "score"),
    "reading": ("steps_localisation", "steps_exact"),
}
"""figures that a Pareto picture begins with, across and up"""
SHARE = "share of what could be gained over the start, "
LATER = {
    "localisation": "share of the patching effect at forks that lies in the best 5% of sites",
    "decodability": "by how much probes for what is derived exceed their best control, in macro-F1",
    "steerability": "how much oftener a push makes the model write the other path than random pushes of equal norm",
    "depth_used": "over how many layers what their removals cost is spread, as an effective number",
    "exact": "share of held-out mazes that the model solved exactly when it was read",
    "step": "the step of training after which the model was read",
}
FORMS = {"steps": "at equal steps", "accuracy": "at equal accuracy"}
ABOUT = {
    "gained": SHARE + "at the end of training",
    "early": SHARE + "after a quarter of the cost",
    "area": SHARE + "in the mean over training",
    "hard": SHARE + "on the harder half of the questions",
    "cost_90": "share of the cost after which 90% of what could be gained is gained; 1 where it never is",
    "fall": "by how much the end is below the best point of the curve",
    "optimal": "share of held-out mazes solved along a shortest path, after training",
    "before": "share of held-out mazes solved along a shortest path, before training",
    "thought_tokens": "tokens of a thought, in the mean",
    "score": "mean score of held-out answers",
    "reward": "mean score less the penalty for answers that mention the door",
    "answer_mentions": "share of answers that mention the door",
    "thought_mentions": "share of thoughts that mention the door",
    "used": "share of answers that use the door, where it helps",
    "used_told": "share that use it and mention it in the thought, where it helps",
    "used_untold": "share that use it and do not mention it in the thought, where it helps",
    "thought_tells": "share of thoughts that mention the door, where the answer uses it",
    "answer_tells": "share of answers that mention the door, where they use it",
    "thoughts_ended": "share of thoughts that ended by themselves",
    "fresh_score": "mean score when another face answers, which has not been trained on these thoughts",
} | {f"{form}_{name}": f"{said}, {when}" for form, when in FORMS.items() for name, said in LATER.items()}
"""what figures mean; those of an audit are not among them"""
POINTS = 60
"""of a curve that a page holds; more are thinned"""
Json = dict[str, Any]
Results = Sequence["Result"]


def sections(folder: Path, name: str) -> list[Section]:
    """A section for each file of results in a study's folder. InputError for one that is not whole."""
    return [
        _section(name, kind, folder / f"{kind}.parquet") for kind in TITLES if (folder / f"{kind}.parquet").is_file()
    ]


def _section(name: str, kind: str, file: Path) -> Section:
    from clew.study.cells import read_results

    config, results = read_results(file)
    try:
        found = {
            "name": name,
            "facts": [
                (one.replace("_", " "), value) for one, value in config.items() if isinstance(value, (str, int, float))
            ],
            "axes": AXES[kind],
            "about": {one: said for one, said in ABOUT.items() if any(one in arm.kept.figures for arm in results)},
            "percent": kind != "reading",
            "verdicts": verdicts_of(kind, config, results),
            "results": [_result(one) for one in results],
            "phase": _phase(results) if kind == "tabular" else [],
        }
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, StopIteration) as error:
        if isinstance(error, InputError):
            raise
        said = one_line(f"{type(error).__name__}: {error}")[:200]
        raise InputError(f"{file}: its results are not those of a whole study ({said})") from error
    return Section("study", TITLES[kind], {"runs": [found]})


def verdicts_of(kind: str, config: Json, results: Results) -> list[Json]:
    """What a study says, question by question, with every comparison that it rests on."""
    from clew.study import reading_report, verdicts
    from clew.study.spillover.verdicts import verdicts as spillover_verdicts

    by_kind: dict[str, Callable[[Results], Sequence[Verdict]]] = {
        "tabular": verdicts.tabular_verdicts,
        "mazes": verdicts.maze_verdicts,
        "spillover": spillover_verdicts,
    }
    if kind == "reading":
        return _contrasts(reading_report.contrasts(config, results))
    return [_verdict(one) for one in by_kind[kind](results)]


def _verdict(verdict: "Verdict") -> Json:
    rows = [
        {"label": row.label, "series": row.marks[i] if row.marks else "", "said": effect.sentence(), **_effect(effect)}
        for row in verdict.rows
        for i, effect in enumerate(row.effects)
    ]
    return {"question": verdict.question.replace("`", ""), "text": verdict.text.replace("`", ""), "rows": rows}


def _effect(effect: Any) -> Json:
    ends = {"value": rounded(effect.mean), "low": rounded(effect.low), "high": rounded(effect.high)}
    return {"condition": effect.condition, "a": effect.a, "b": effect.b, **ends, "hollow": not effect.sign}


def _contrasts(found: Sequence[Any]) -> list[Json]:
    """Those of a study of crispness, a number a question."""
    said: dict[str, list[Json]] = {}
    for one in found:
        row = {"label": f"{one.a} less {one.b}", "series": one.form, "said": one.sentence, "a": one.a, "b": one.b}
        ends = {"value": rounded(one.mean), "low": rounded(one.low), "high": rounded(one.high)}
        row |= {"condition": one.form, **ends, "hollow": one.low <= 0 <= one.high}
        said.setdefault(one.number.replace("_", " "), []).append(row)
    return [{"question": number, "text": "", "rows": rows} for number, rows in said.items()]


def _result(one: "Result") -> Json:
    """An arm: what it was, each of its figures over replicas, its curve."""
    from clew.study.verdicts import words

    kept = one.kept
    every = max(1, -(-len(kept.curve) // POINTS))
    unknown = [None] * len(kept.curve)
    ends = band(kept.curve, kept.curve_error, kept.runs) if kept.runs > 1 else (unknown, unknown)
    curve = list(enumerate(zip(kept.curve, *ends, strict=True)))
    points = [[i, *map(rounded, three)] for i, three in curve[::every]]
    condition = words(one.condition) if one.condition else ""
    figures = {name: figure for name, values in kept.figures.items() if (figure := _figure(values))}
    return {"section": one.section, "condition": condition, "name": one.name, "figures": figures, "curve": points}


def _figure(values_R: np.ndarray) -> list[float | None] | None:
    """A mean over replicas with Student's 95% interval; without one where there is one replica, None where none."""
    from clew.study.effects import effect_of

    known = values_R[~np.isnan(values_R)]
    if not len(known):
        return None
    if len(known) == 1:
        return [rounded(float(known[0])), None, None]
    effect = effect_of(known, "", "", "")
    return [rounded(effect.mean), rounded(effect.low), rounded(effect.high)]


def _phase(results: Results) -> list[Json]:
    """Which number of answers to a thought wins, by noise and price."""
    from clew.study.verdicts import allocations

    return [
        {**one.condition, "best": one.best, "planned": one.planned, "grid": one.grid, "lead": _effect(one.certainty)}
        for one in allocations(results)
    ]
