"""Where the arms of a seed begin: one model that has imitated thoughts and answers, kept in the study's folder."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from clew.config import MazeConfig, ModelConfig, OptimizerConfig, WorldConfig
from clew.files import folder_written_whole
from clew.study.cells import Job, key
from clew.study.spillover.arms import Start
from clew.study.spillover.measuring import measured, one_thread
from clew.train.config import SplitConfig, WarmStartConfig

NEEDS_FOLDER = True
WORLD = "clew.mazes.doors:DoorWorld"
DEFINING: tuple[str, ...] = ("size", "layers", "width", "heads", "steps", "next_steps", "per_step", "branches")
DEFINING += ("imitation_lr", "max_thought", "max_path", "final_questions")  # of what all runs share
OPTIONS: dict[Start, dict[str, Any]] = {"search": {}, "own style": {"style": "own"}, "path": {"thoughts": "path"}}


@dataclass(frozen=True)
class StartCell:
    """One warm start: a seed's search from a new model, and what is imitated next from that one. `world` holds what
    all runs of a study share."""

    world: dict[str, Any]
    seed: int
    start: Start = "search"
    replicas: int = 1


def from_json(values: dict[str, Any]) -> StartCell:
    return StartCell(**values)


def job_of(world: dict[str, Any], seed: int, start: Start) -> Job:
    """The cell by which a start is known: of what all runs share, what bears on it."""
    own = {name: world[name] for name in DEFINING}
    return "spillover.starts", {"world": own, "seed": seed, "start": start, "replicas": 1}


def folder_of(folder: Path, job: Job) -> Path:
    """Where its model lies, in a study's folder."""
    return folder / "starts" / key(job)


def run(cell: StartCell, folder: Path) -> dict[str, np.ndarray]:
    """Imitates, and leaves the model in the study's folder. Figures as those of arms, of one replica; the curve is the
    loss of the imitation."""
    from clew.runs.metrics import read_metrics
    from clew.train.opening import opened
    from clew.train.rounds import split

    one_thread()
    with TemporaryDirectory() as here:
        out = Path(here) / "run"
        split(split_config(cell, folder, str(out)), bare=True)
        world, reasoner = opened(out, world_config(cell.world, cell.start), device="cpu")
        figures = measured(world, reasoner, cell.world["final_questions"], 0.0)
        losses = [row["loss"] for row in read_metrics(out / "imitation" / "shoggoth" / "metrics.jsonl")]
        job = job_of(cell.world, cell.seed, cell.start)
        with folder_written_whole(folder_of(folder, job)) as part:
            shutil.copytree(out / "warm", part, dirs_exist_ok=True)
    return {**{name: np.array([value]) for name, value in figures.items()}, "curve": np.array([losses])}


def world_config(world: dict[str, Any], start: Start) -> WorldConfig:
    mazes = MazeConfig(sizes=[tuple(world["size"])], branches=world["branches"])
    return WorldConfig(world=WORLD, world_options=OPTIONS[start], mazes=mazes)


def split_config(cell: StartCell, folder: Path, out: str) -> SplitConfig:
    """A split of no rounds: its warm start is what is wanted."""
    world = cell.world
    model = ModelConfig(layers=world["layers"], width=world["width"], heads=world["heads"])
    steps = world["steps"]
    if cell.start != "search":
        model = ModelConfig(str(folder_of(folder, job_of(world, cell.seed, "search"))))
        steps = world["next_steps"]
    optimizer = OptimizerConfig("muon", lr=world["imitation_lr"], warmup=min(100, steps // 5), schedule="wsd")
    warm_start = WarmStartConfig(steps=steps, per_step=world["per_step"], optimizer=optimizer)
    return split_in(world, cell.start, cell.seed, out, policies="one", model=model, warm_start=warm_start, rounds=0)


def split_in(world: dict[str, Any], start: Start, seed: int, out: str, **options: Any) -> SplitConfig:
    """A split among the mazes of a start that looks at nothing on its way: a cell measures what it leaves. options:
    whatever else it is to be."""
    config = world_config(world, start)
    return SplitConfig(
        world=config.world,
        world_options=config.world_options,
        mazes=config.mazes,
        max_thought=limit_of(world, start),
        validate_every=0,
        validation_questions=8,
        final_questions=8,
        checkpoint_every=0,
        seed=seed,
        device="cpu",
        out=out,
        **options,
    )


def limit_of(world: dict[str, Any], start: Start) -> int:
    """Most tokens of a thought."""
    return world["max_path"] if start == "path" else world["max_thought"]
