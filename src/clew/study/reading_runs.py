"""One run of the study of crispness: it trains, and leaves its models in the study's folder, to be read as often as one
likes."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from clew.config import MazeConfig, ModelConfig, OptimizerConfig
from clew.errors import InputError
from clew.files import folder_written_whole, write_json
from clew.study.cells import Job, key
from clew.train.config import Loss, TrainConfig

NEEDS_FOLDER = True
DEFINING = ("size", "steps", "per_step", "width", "heads", "rope_base", "lr")  # of what all runs share
ALONG = "along.json"
ASKED = 500
"""held-out mazes by which accuracy along the way is told; what a report says of a model is of others"""
KEPT = 0.2
"""A model along the way is kept if it solves this share at least, and more than each before it"""
NEAR = 0.05
"""how far off a model's accuracy may be, for it to count as one of that accuracy"""


@dataclass(frozen=True)
class RunCell:
    """One run. `world` holds what all runs of a study share."""

    world: dict[str, Any]
    loss: Loss
    layers: int
    seed: int
    replicas: int = 1

    def job(self) -> Job:
        own = {name: self.world[name] for name in DEFINING}
        return "reading_runs", asdict(RunCell(own, self.loss, self.layers, self.seed))


def from_json(values: dict[str, Any]) -> RunCell:
    return RunCell(**values)


@dataclass(frozen=True)
class Along:
    """What a run left: the share of held-out mazes that each of its models solved, and which of these were kept."""

    folder: Path
    share: dict[int, float]
    """by step, the last one that of the finished model"""
    kept: tuple[int, ...]

    @property
    def best(self) -> float:
        return max(self.share[step] for step in self.kept)

    def nearest(self, accuracy: float) -> int | None:
        """The step of the kept model whose accuracy is nearest to this one; None if none is as near as NEAR."""
        step = min(self.kept, key=lambda step: (abs(self.share[step] - accuracy), step))
        return step if abs(self.share[step] - accuracy) <= NEAR + 1e-9 else None

    def model(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}"


def along_of(folder: Path, cell: RunCell) -> Along:
    """What a run left in a study's folder. InputError if it is not there."""
    own = folder / "models" / key(cell.job())
    try:
        found = json.loads((own / ALONG).read_text(encoding="utf-8"))
        return Along(own, {int(step): share for step, share in found["share"].items()}, tuple(found["kept"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{own / ALONG}: holds no models of a study's run: {error!r}") from None


def run(cell: RunCell, folder: Path) -> dict[str, np.ndarray]:
    """Trains once, and leaves models: the last one, and each along the way that was better than all before it. The
    curve is the share of held-out mazes that they solved."""
    import torch
    from transformers.utils import logging

    from clew.runs.snapshots import snapshots_of
    from clew.train.supervised import train

    torch.set_num_threads(1)
    logging.disable_progress_bar()
    with TemporaryDirectory() as here:
        out = Path(here) / "run"
        train(train_config(cell, str(out)))
        found = {step: one / "model" for step, one in snapshots_of(out).items()}
        found |= {cell.world["steps"]: out / "model"}
        share = {step: solved(model, cell.world["size"]) for step, model in found.items()}
        kept = records(share)
        with folder_written_whole(folder / "models" / key(cell.job())) as part:
            for step in kept:
                shutil.copytree(found[step], part / f"step-{step:06d}")
            about = {"loss": cell.loss, "layers": cell.layers, "seed": cell.seed}
            write_json(part / ALONG, {**about, "asked": ASKED, "share": share, "kept": kept})
    last = share[cell.world["steps"]]
    return {"solved": np.array([last]), "curve": np.array([list(share.values())])}


def records(share: dict[int, float]) -> list[int]:
    """The steps of models that are kept: those better than all before them, from KEPT on, and the last one."""
    found, best = [], 0.0
    for step, value in share.items():
        if value > best and value >= KEPT:
            found.append(step)
        best = max(best, value)
    return sorted({*found, max(share)})


def train_config(cell: RunCell, out: str) -> TrainConfig:
    """The run that a cell stands for."""
    world = cell.world
    return TrainConfig(
        mazes=MazeConfig(sizes=[world["size"]], branches=8),
        model=ModelConfig(None, cell.layers, world["width"], world["heads"], world["rope_base"]),
        optimizer=OptimizerConfig("muon", lr=world["lr"], schedule="wsd"),
        average=True,
        loss=cell.loss,
        per_step=world["per_step"],
        steps=world["steps"],
        validate_every=0,
        validation_questions=8,
        final_questions=100,
        checkpoint_every=0,
        snapshots=1.1,
        seed=cell.seed,
        device="cpu",
        out=out,
    )


def solved(folder: Path, size: int, mazes: int = ASKED, seed: int = 1) -> float:
    """The share of held-out mazes whose reference path the model writes, greedily."""
    from clew.mazes.questions import MazeStream
    from clew.policy import Policy
    from clew.read.activations import maze_sequences
    from clew.read.steering import roll_out

    policy = Policy.load(folder)
    stream = MazeStream(((size, size),), branches=1, held_out=True, seed=seed)
    rows = list(maze_sequences(stream, range(mazes), policy.tokenizer))
    start = policy.tokenizer.convert_tokens_to_ids("<PATH_START>")
    prompts = [row[: row.tolist().index(start)] for row in rows]
    written = zip(roll_out(policy, prompts), rows, prompts, strict=True)
    return float(np.mean([[*one.tokens] == row[len(prompt) :].tolist() for one, row, prompt in written]))
