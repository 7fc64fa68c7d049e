"""Maze models on a page: the path step by step, with attention on the maze, logit lens, probes, and heads taken away.

opened = open_models(["zoo:5x5", "runs/mine"])          # or one
page_of(sections(opened), "mazes")                      # the same questions, side by side
answer(opened, {"rows": 5, "cols": 5, "edges": [[0, 1], ...], "origin": 3, "target": 22})    # while it is served
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clew.config import Device, Size
from clew.errors import InputError
from clew.mazes.lattice import Question
from clew.mazes.vocab import answer_cells
from clew.read.effects import columns, difference
from clew.read.targets import classes_of
from clew.runs.intervals import merged, ranges_of
from clew.text import show
from clew.train.evaluate import Sample, evaluate, held_out, world_grader
from clew.view import maze_requests
from clew.view.maze_look import LISTED, MARKS, Case
from clew.view.maze_models import Model, Told, maze_options, open_model
from clew.view.maze_records import Edge, Record, asked, walked
from clew.view.page import Section

ASKED, FAILURES = 500, 10
"""held-out questions that accuracy is measured on, and how many of those shown are chosen for a failure"""
GROUPS, MOST = ("size", "path_length", "lookahead"), 10
"""what accuracy is told by, and in how many groups at most: more are drawn as ranges"""


@dataclass(frozen=True)
class Opened:
    """Models that are shown together; all are asked the mazes of the first one's run."""

    models: list[Model]

    def __post_init__(self) -> None:
        if not self.models:
            raise InputError("model: there is none; expected at least one")


def open_models(
    folders: str | Path | Sequence[str | Path],
    *,
    seed: int = 0,
    mazes: int = 800,
    size: Size | None = None,
    device: Device = "auto",
) -> Opened:
    """Models that `clew train` left, or of the zoo, in the world of the first. mazes: held-out ones that probes are
    fitted to and heads read on, none of them shown. size: asks mazes of this size alone.

    InputError for what holds no maze model, and for one that does not know the first one's mazes.
    """
    named = [folders] if isinstance(folders, (str, Path)) else list(folders)
    config = maze_options(named[0], size) if named else None
    models = []
    for folder in named:
        try:
            models.append(open_model(folder, config, seed, device))
        except InputError as error:
            if not models:
                raise
            here, first = show(str(folder)), show(str(named[0]))
            raise InputError(f"path: {here} cannot be asked the mazes of {first}, the first: {error}") from None
        models[-1].mazes = mazes
    return Opened(models)


def sections(
    folder: Opened | str | Path | Sequence[str | Path],
    *,
    questions: int = 50,
    seed: int = 0,
    asked_in_all: int = ASKED,
    told: Told = lambda *_: None,
    **how: Any,
) -> list[Section]:
    """The section of one model's mazes, or of several models' side by side.

    questions: held-out mazes that are shown, with the first of the series that `clew eval` asks under this seed; the
    last of them, ten at most, are such as some model fails at further on. asked_in_all: how many accuracy is measured
    on. told: called with what is done, how much of it is, and of how much. how: as `open_models` takes it. InputError
    as there, and for numbers that are none.
    """
    for name, value in (("questions", questions), ("asked_in_all", asked_in_all)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name}: {show(value)} is not a whole number from 1")
    opened = folder if isinstance(folder, Opened) else open_models(folder, seed=seed, **how)
    reports, samples = _evaluated(opened, max(questions, asked_in_all), seed, told)
    chosen = _chosen(samples, questions)
    first = [samples[0][number].question for number in chosen]
    edges = [_listed(one.tokens, opened.models[0]) for one in first]
    mazes = [one.reference for one in first]
    for model in opened.models:
        model.shown = [maze.lattice for maze in mazes]
    shown = [
        asked(maze, listed) | {"number": number, "length": len(maze.path) - 1, "picked": number >= questions}
        for maze, listed, number in zip(mazes, edges, chosen, strict=True)
    ]
    runs = []
    for done, (model, report) in enumerate(zip(opened.models, reports, strict=True), len(opened.models)):
        told("reading", done, 2 * len(opened.models))
        runs.append(_run(model, report, mazes, edges))
    told("done", 2 * len(opened.models), 2 * len(opened.models))
    data = {"questions": shown, "runs": runs, "compared": _compared(samples), "marks": MARKS, "listed": LISTED}
    return [Section("maze", "Mazes", data | {"distances": classes_of("distance")})]


def answer(opened: Opened, request: dict[str, Any]) -> dict[str, Any]:
    """What the models make of a maze that somebody drew: {"question": …, "runs": [a record each]}, as the page has
    them, without what becomes of paths without a head; or, for a request with a head, {"runs": [each model's path
    without that one of its heads, None where it has no such head]}. InputError for a malformed request
    (`maze_requests.parsed`), for a maze larger than those of the page, and one too long for a model."""
    one = maze_requests.parsed(request, opened.models[0].stream.side, max(len(model.heads) for model in opened.models))
    asked_of = [(model, model.ask([one.question], [one.edges])) for model in opened.models]
    if one.head is None:
        records = [model.records(cases, ablate=False)[0] for model, cases in asked_of]
        return {"question": asked(one.question, one.edges), "runs": records}
    there = [(model, cases) if one.head < len(model.heads) else None for model, cases in asked_of]
    return {"runs": [pair and walked(one.question, pair[0].without(pair[1], one.head)[0]) for pair in there]}


def _evaluated(opened: Opened, count: int, seed: int, told: Told) -> tuple[list[Record], list[list[Sample]]]:
    """Of each model its report and all of its samples, on the same questions."""
    reports, samples = [], []
    for done, model in enumerate(opened.models):
        told("asking", done, 2 * len(opened.models))
        questions = held_out(model.world, count, seed=seed)
        report, made = evaluate(
            model.world, model.reasoner, questions, world_grader(model.world), seed=seed, keep=count
        )
        reports.append(report)
        samples.append(made)
    return reports, samples


def _chosen(samples: Sequence[Sequence[Sample]], count: int) -> list[int]:
    """The first questions, in whose place the last few come from further on: such as some model fails at."""
    failed = [number for number, some in enumerate(zip(*samples, strict=True)) if not all(map(_solved, some))]
    further = [number for number in failed if number >= count][: min(FAILURES, count // 2)]
    return [*range(min(count, len(samples[0])) - len(further)), *further]


def _solved(sample: Sample) -> bool:
    return bool(sample.figures["optimal"])


def _compared(samples: Sequence[Sequence[Sample]]) -> list[Record]:
    """Each run against the first, on all questions that were asked: how many both solve, one alone, and neither, and
    the difference of their rates, with the 95% interval of a difference of paired rates."""
    solved_RQ = np.array([[_solved(sample) for sample in some] for some in samples], np.int64)
    rows = []
    for number, other_Q in enumerate(solved_RQ[1:], 1):
        first_Q = solved_RQ[0]
        counts = {"both": first_Q * other_Q, "first": first_Q * (1 - other_Q)}
        counts |= {"other": (1 - first_Q) * other_Q, "neither": (1 - first_Q) * (1 - other_Q)}
        row: Record = {name: int(which_Q.sum()) for name, which_Q in counts.items()}
        rows.append({"run": number} | row | columns("difference", difference(other_Q, first_Q)))
    return rows


def _listed(tokens: Sequence[int], model: Model) -> list[Edge]:
    """The edges of a prompt, in the order and direction in which it lists them."""
    _, cells, _ = answer_cells(["<PATH_START>", *map(model.tongue.word, tokens)])
    known = [cell for cell in cells if cell is not None][:-2]  # without origin and target
    return list(zip(known[::2], known[1::2], strict=True))


def _run(model: Model, report: Record, mazes: Sequence[Question], edges: Sequence[Sequence[Edge]]) -> Record:
    """One model: what it is, how well it does, its heads, and its record of each question."""
    cases: list[Case] = model.ask(mazes, edges)
    records = model.records(cases)
    rows, why = model.head_rows()
    probes = model.probes
    layers = 1 + model.heads[-1][0]
    return {
        "name": model.name,
        "layers": layers,
        "heads": len(model.heads) // layers,
        "accuracy": {"all": _rate(report)} | {name: _rates(report, name) for name in GROUPS},
        "head_rows": rows,
        "probe_rows": None if isinstance(probes, str) else probes.figures(),
        "notes": [
            f"{what} could not be read: {said}"
            for what, said in (("probes", probes), ("what is lost without a head", why))
            if isinstance(said, str)
        ],
        "records": records,
    }


def _rate(report: Record) -> Record:
    return report["optimal"] | {"questions": report["questions"]}


def _rates(report: Record, name: str) -> list[Record]:
    """By the groups of a label, or ranges of them: the share of shortest paths, with its interval."""
    groups = report.get(f"by_{name}", {})
    return [{"group": group} | _rate(one) for group, one in merged(groups, ranges_of(groups, MOST)).items()]
