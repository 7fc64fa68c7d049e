"""Is a search that the path alone has taught crisper? Families of models, trained alike and read alike.

Every run is one cell: it trains for as many steps as all others, keeps the models along the way, and is read twice: at
its end (equal steps), and where it first solved as many mazes as was asked (equal accuracy), if it ever did.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from clew.config import MazeConfig, ModelConfig, OptimizerConfig, check_positive, check_values
from clew.errors import InputError
from clew.runs.options import write_config
from clew.study.cells import Engine, Job, Result, joined, run_cells, write_results
from clew.train.config import Loss, TrainConfig

FORMS = ("steps", "accuracy")
"""when a model is read: after as many steps as every other, or as soon as it solves as many mazes"""
NUMBERS = ("localisation", "decodability", "steerability", "depth_used")
ASKED = 500  # held-out mazes by which accuracy along the way is told


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
    lr: float = 2e-3
    """learning rate, of Muon; it is constant for half of the steps and then falls to 0"""
    accuracy: float = 0.9
    """share of held-out mazes at which models of equal accuracy are read"""
    pairs: int = 60
    """minimal pairs of each kind, to a reading"""
    mazes: int = 1000
    """mazes of a reading"""
    engine: Engine = "local"
    """local: this machine's cores; ray: a Ray cluster that shares this folder"""
    workers: int | None = None
    """processes of one thread each, by default one a core"""
    out: str = "runs/study-read"
    """folder of the study"""


@dataclass(frozen=True)
class ReadCell:
    """One run. `world` holds what all runs of a study share."""

    world: dict[str, Any]
    loss: Loss
    layers: int
    seed: int
    replicas: int = 1


def from_json(values: dict[str, Any]) -> ReadCell:
    return ReadCell(**values)


def run(cell: ReadCell) -> dict[str, np.ndarray]:
    """Trains once and reads twice. Figures of each form: exact, and each of NUMBERS with its ends; NaN where there is
    none. The curve is the share of held-out mazes that the validations found solved."""
    import torch
    from transformers.utils import logging

    from clew.runs.metrics import read_metrics
    from clew.runs.snapshots import snapshots_of
    from clew.train.supervised import train

    torch.set_num_threads(1)
    logging.disable_progress_bar()
    with TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        train(train_config(cell, str(out)))
        curve = [row["held_out_exact"] for row in read_metrics(out / "metrics.jsonl") if "held_out_exact" in row]
        figures = _figures("steps", cell, out / "model")
        along, share = snapshots_of(out).values(), cell.world["accuracy"]
        soonest = next((one for one in along if solved(one / "model", cell.world["size"]) >= share), None)
        figures |= _figures("accuracy", cell, soonest / "model" if soonest else None)
    return {**{name: np.array([value]) for name, value in figures.items()}, "curve": np.array([curve])}


def train_config(cell: ReadCell, out: str) -> TrainConfig:
    """The run that a cell stands for."""
    world = cell.world
    return TrainConfig(
        mazes=MazeConfig(sizes=[world["size"]], branches=8),
        model=ModelConfig(layers=cell.layers, width=world["width"], heads=world["heads"]),
        optimizer=OptimizerConfig("muon", lr=world["lr"], schedule="wsd"),
        average=True,
        loss=cell.loss,
        per_step=world["per_step"],
        steps=world["steps"],
        validate_every=max(1, world["steps"] // 10),
        validation_questions=200,
        final_questions=100,
        checkpoint_every=0,
        snapshots=1.15,
        seed=cell.seed,
        device="cpu",
        out=out,
    )


def solved(folder: Path, size: int) -> float:
    """The share of held-out mazes whose reference path the model writes, greedily."""
    from clew.mazes.questions import MazeStream
    from clew.policy import Policy
    from clew.read.activations import maze_sequences
    from clew.read.steering import roll_out

    policy = Policy.load(folder)
    rows = list(
        maze_sequences(MazeStream(((size, size),), branches=1, held_out=True, seed=1), range(ASKED), policy.tokenizer)
    )
    start = policy.tokenizer.convert_tokens_to_ids("<PATH_START>")
    prompts = [row[: row.tolist().index(start)] for row in rows]
    written = zip(roll_out(policy, prompts), rows, prompts, strict=True)
    return float(np.mean([[*one.tokens] == row[len(prompt) :].tolist() for one, row, prompt in written]))


def _figures(form: str, cell: ReadCell, folder: Path | None) -> dict[str, float]:
    from clew.policy import Policy
    from clew.read.crispness import CrispnessOptions, crispness

    found = {
        f"{form}_exact": np.nan,
        **{f"{form}_{name}{end}": np.nan for name in NUMBERS for end in ("", "_low", "_high")},
    }
    if folder is None:
        return found
    world = cell.world
    found[f"{form}_exact"] = solved(folder, world["size"])
    size = (world["size"], world["size"])
    options = CrispnessOptions((size,), pairs=world["pairs"], mazes=world["mazes"], removed=min(200, world["mazes"]))
    card = crispness(Policy.load(folder), options)
    for name in NUMBERS:
        for end, value in zip(("", "_low", "_high"), card.figure(name) or (np.nan,) * 3, strict=True):
            found[f"{form}_{name}{end}"] = value
    return found


def study(
    config: ReadStudyConfig, report: Callable[[str, int, int], None] = lambda phase, done, count: None
) -> list[Result]:
    """Runs what is not yet in `config.out`; a Result a family, its seeds as replicas."""
    check(config)
    folder = Path(config.out)
    names = ("size", "steps", "per_step", "width", "heads", "lr", "accuracy", "pairs", "mazes")
    world = {name: getattr(config, name) for name in names}
    families = list(product(config.losses, config.layers))
    cells = [ReadCell(world, loss, layers, seed) for loss, layers in families for seed in range(config.seeds)]
    jobs: list[Job] = [("reading", asdict(cell)) for cell in cells]
    done = iter(run_cells(jobs, folder, config.engine, config.workers, lambda *at: report("models", *at)))
    results = []
    for loss, layers in families:
        kept = [next(done) for _ in range(config.seeds)]
        results.append(Result("reading", {"layers": layers}, loss, joined(kept)))
    write_config(folder / "reading.yaml", config)
    write_results(folder / "reading.parquet", asdict(config), results)
    return results


def check(config: ReadStudyConfig) -> None:
    """InputError for a study that cannot be run."""
    check_values(config)
    counts = "seeds steps per_step width heads lr accuracy pairs mazes workers size"
    check_positive(config, *counts.split())
    for name in ("losses", "layers"):
        if not getattr(config, name):
            raise InputError(f"{name}: the list is empty")
    if not config.accuracy <= 1:
        raise InputError(f"accuracy: {config.accuracy} is not a share, more than 0 and at most 1")
    from clew.mazes import maze_tokenizer
    from clew.policy import Policy
    from clew.read.crispness import CrispnessOptions
    from clew.train.config import check_train

    CrispnessOptions(
        ((config.size, config.size),), pairs=config.pairs, mazes=config.mazes, removed=min(200, config.mazes)
    )
    for layers in config.layers:
        check_train(train_config(ReadCell(asdict(config), config.losses[0], layers, 0), config.out))
    Policy.build(maze_tokenizer(config.size), 1, config.width, config.heads)  # refuses widths that heads cannot share
