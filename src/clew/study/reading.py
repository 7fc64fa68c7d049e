"""Is a search that the path alone has taught crisper? Families of models, trained alike and read alike.

A run is one cell (`reading_runs`): it trains for as many steps as all others and leaves its models, those along the way
too. A reading of one of them is another cell: of the last (equal steps), and of the one whose accuracy is nearest to
that which all runs reached (equal accuracy). So what was trained can be read again, at another accuracy say, and is not
trained again.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from clew.config import check_positive, check_values
from clew.errors import InputError
from clew.files import write_json
from clew.runs.options import write_config
from clew.study.cells import Engine, Job, Kept, Result, key, run_cells, write_results
from clew.study.reading_runs import KEPT, Along, RunCell, along_of, solved, train_config
from clew.train.config import Loss

NEEDS_FOLDER = True
FORMS = ("steps", "accuracy")
"""when a model is read: after as many steps as every other, or when it solves about as many mazes"""
NUMBERS = ("localisation", "decodability", "steerability", "depth_used")
FRESH = 1000  # held-out mazes by which a report tells a model's accuracy: others than those it was chosen by
VERDICTS = "verdicts.json"


@dataclass
class ReadStudyConfig:
    """The study of crispness: losses and depths, several seeds each."""

    losses: list[Loss] = field(default_factory=lambda: ["path", "full", "graded"])
    """losses that models learn from, the first the one that others are compared with"""
    layers: list[int] = field(default_factory=lambda: [2, 6])
    """depths, the first the one that others are compared with"""
    size: int = 4
    """grid size"""
    seeds: int = 3
    """runs of each family"""
    steps: int = 4000
    """steps of each run"""
    per_step: int = 16
    """mazes a step, of 8 questions each"""
    width: int = 64
    """hidden size"""
    heads: int = 2
    """attention heads"""
    rope_base: float = 100.0
    """base of rotary embeddings; at 10,000 more runs of two layers stick (bench/README.md)"""
    lr: float = 2e-3
    """learning rate, of Muon; it is constant for half of the steps and then falls to 0"""
    accuracy: float | None = None
    """share of held-out mazes at which models of equal accuracy are read; by default the highest that all runs reached
    which came to a fifth at all.
    Another one reads again, and trains nothing again"""
    pairs: int = 60
    """minimal pairs of each kind, to the four numbers"""
    verdict_pairs: int = 500
    """minimal pairs of each kind, to a verdict of the algorithm"""
    mazes: int = 1000
    """mazes of a reading"""
    engine: Engine = "local"
    """local: this machine's cores; ray: a Ray cluster that shares this folder"""
    workers: int | None = None
    """processes of one thread each, by default one a core"""
    out: str = "runs/study-read"
    """folder of the study; it keeps its models and all that was read of them"""


@dataclass(frozen=True)
class ReadCell:
    """One reading: of a run's model at a step. `world` holds what all readings share."""

    world: dict[str, Any]
    run: dict[str, Any]
    step: int
    replicas: int = 1

    def job(self) -> Job:
        return "reading", asdict(self)


def from_json(values: dict[str, Any]) -> ReadCell:
    return ReadCell(**values)


def folder_of(folder: Path, cell: ReadCell) -> Path:
    """Where what was read lies in a study's folder: `load_reading` and `clew view` open it."""
    return folder / "read" / key(cell.job())


def run(cell: ReadCell, folder: Path) -> dict[str, np.ndarray]:
    """Reads once. Figures: the share of mazes solved, and each of NUMBERS with its ends; NaN where there is none. All
    tables that these and the verdict rest on lie in `folder_of`."""
    import torch
    from transformers.utils import logging

    from clew.policy import Policy
    from clew.read.crispness import CrispnessOptions, crispness
    from clew.read.reading import Reading, ReadingOptions, Subject, read_probes, read_search, write_reading

    torch.set_num_threads(1)
    logging.disable_progress_bar()
    of = RunCell(**cell.run)
    model, edge = along_of(folder, of).model(cell.step), of.world["size"]
    asked = CrispnessOptions(**_asked(cell.world, edge))
    options = ReadingOptions((edge, edge), pairs=cell.world["verdict_pairs"], mazes=cell.world["mazes"])
    subject = Subject(Policy.load(model), options)
    maps, cells = subject.probed
    card = crispness(subject.policy, asked, [*maps.values(), cells])
    tables = read_probes(subject) | read_search(subject) | {"crispness": card.table()}
    about = {"model": str(model), "loss": of.loss, "layers": of.layers, "seed": of.seed, "step": cell.step}
    write_reading(Reading(subject, tables), folder_of(folder, cell), about)
    figures = {"exact": solved(model, edge, FRESH, seed=2)}
    for name in NUMBERS:
        for end, value in zip(("", "_low", "_high"), card.figure(name) or (np.nan,) * 3, strict=True):
            figures[f"{name}{end}"] = value
    return {**{name: np.array([value]) for name, value in figures.items()}, "curve": np.zeros((1, 1))}


def _asked(world: dict[str, Any], edge: int) -> dict[str, Any]:
    return {
        "sizes": ((edge, edge),),
        "pairs": world["pairs"],
        "mazes": world["mazes"],
        "removed": min(200, world["mazes"]),
    }


def study(
    config: ReadStudyConfig, report: Callable[[str, int, int], None] = lambda phase, done, count: None
) -> list[Result]:
    """Runs what is not yet in `config.out`; a Result a family, its seeds as replicas."""
    check(config)
    folder, world = Path(config.out), asdict(config)
    families = list(product(config.losses, config.layers))
    runs = [RunCell(world, loss, layers, seed) for loss, layers in families for seed in range(config.seeds)]

    def cells(phase: str, jobs: Sequence[Job]) -> list[Kept]:
        return run_cells(jobs, folder, config.engine, config.workers, lambda *at: report(phase, *at))

    trained = cells("models", [one.job() for one in runs])
    along = [along_of(folder, one) for one in runs]
    # A run that never learned has no model of an accuracy that others had: it would leave nothing to compare.
    learned = [one.best for one in along if one.best >= KEPT]
    level = min(learned, default=0.0) if config.accuracy is None else config.accuracy
    asked = {name: world[name] for name in ("pairs", "verdict_pairs", "mazes")}
    readings = {
        (number, form): ReadCell(asked, one.job()[1], step)
        for number, (one, left) in enumerate(zip(runs, along, strict=True))
        for form, step in (("steps", config.steps), ("accuracy", left.nearest(level)))
        if step is not None
    }
    kept = dict(zip(readings, cells("readings", [one.job() for one in readings.values()]), strict=True))
    results = []
    for first, (loss, layers) in enumerate(families):
        own = range(first * config.seeds, (first + 1) * config.seeds)
        results.append(
            _result(loss, layers, [trained[one] for one in own], [_figures(one, readings, kept) for one in own])
        )
    write_config(folder / "reading.yaml", config)
    write_json(folder / VERDICTS, {"level": level, "runs": _verdicts(folder, runs, along, readings)})
    write_results(folder / "reading.parquet", {**world, "level": level}, results)
    return results


def _figures(
    number: int, readings: dict[tuple[int, str], ReadCell], kept: dict[tuple[int, str], Kept]
) -> dict[str, float]:
    """All figures of one run, NaN where it was not read."""
    found = {}
    for form in FORMS:
        one = kept.get((number, form))
        found[f"{form}_step"] = float(readings[number, form].step) if one else np.nan
        for name in ("exact", *(f"{name}{end}" for name in NUMBERS for end in ("", "_low", "_high"))):
            found[f"{form}_{name}"] = float(one.figures[name][0]) if one else np.nan
    return found


def _result(loss: str, layers: int, trained: Sequence[Kept], figures: Sequence[dict[str, float]]) -> Result:
    from clew.study.cells import joined

    whole = joined(trained)
    both = {name: np.array([one[name] for one in figures]) for name in figures[0]}
    return Result("reading", {"layers": layers}, loss, Kept(whole.values, both, whole.curve, whole.curve_error))


def _verdicts(
    folder: Path, runs: Sequence[RunCell], along: Sequence[Along], readings: dict[tuple[int, str], ReadCell]
) -> list[dict[str, Any]]:
    """By run and form, the verdict with its evidence, as plain values."""
    from clew.read.reading import load_reading

    found = []
    for (number, form), cell in readings.items():
        rows = load_reading(folder_of(folder, cell))[1]["verdict"].to_pylist()
        evidence: dict[str, dict[str, Any]] = {}
        for row in rows:
            one = evidence.setdefault(
                row["reading"], {"kind": row["kind"], "says": row["says"], "for": [], "against": []}
            )
            if row["speaks"] in ("for", "against"):
                one[row["speaks"]].append(row["account"])
        of, share = runs[number], along[number].share[cell.step]
        about = {
            "loss": of.loss,
            "layers": of.layers,
            "seed": of.seed,
            "form": form,
            "step": cell.step,
            "solved": share,
        }
        about |= {"verdict": rows[0]["verdict"], "why": rows[0]["why"]}
        found.append(about | {"evidence": [{"reading": name, **one} for name, one in evidence.items()]})
    return found


def check(config: ReadStudyConfig) -> None:
    """InputError for a study that cannot be run."""
    check_values(config)
    counts = "seeds steps per_step width heads lr accuracy pairs verdict_pairs mazes workers size"
    check_positive(config, *counts.split())
    for name in ("losses", "layers"):
        if not (values := getattr(config, name)):
            raise InputError(f"{name}: the list is empty")
        if len(set(values)) < len(values):
            raise InputError(f"{name}: {values} names one twice")
    if config.accuracy is not None and not config.accuracy <= 1:
        raise InputError(f"accuracy: {config.accuracy} is not a share, more than 0 and at most 1")
    from clew.mazes import maze_tokenizer
    from clew.policy import Policy
    from clew.read.activations import maze_sequences
    from clew.read.crispness import CrispnessOptions
    from clew.read.reading import ReadingOptions, check_probed
    from clew.train.config import check_train

    card = CrispnessOptions(**_asked(asdict(config), config.size))
    ReadingOptions((config.size, config.size), pairs=config.verdict_pairs, mazes=config.mazes)
    for layers in config.layers:
        check_train(train_config(RunCell(asdict(config), config.losses[0], layers, 0), config.out))
    words = maze_tokenizer(config.size)
    Policy.build(words, 1, config.width, config.heads)  # refuses widths that heads cannot share
    check_probed(list(maze_sequences(card.mazes_of(), range(config.mazes), words)), words, card.probing())
