"""One run of the experiment: an arm, a learning rate, a seed. A cell, kept once it is done."""

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from clew.config import ModelConfig, OptimizerConfig
from clew.study.cells import Job
from clew.study.silence import share_then, silent_after
from clew.study.spillover.arms import Arm
from clew.study.spillover.measuring import audited, measured, one_thread
from clew.study.spillover.starts import folder_of, job_of, split_in, world_config
from clew.train.config import SplitConfig, WarmStartConfig

NEEDS_FOLDER = True
PENALTY = "clew.mazes.doors:mention"
SILENT = 0.1  # thoughts are silent where, over a few rounds, fewer than this share mention the door


@dataclass(frozen=True)
class SpilloverCell:
    """One run. `world` holds what all runs of a study share."""

    world: dict[str, Any]
    arm: Arm
    lr: float
    seed: int
    replicas: int = 1

    def job(self) -> Job:
        values = asdict(self)
        del values["arm"]["rate_of"]  # `lr` says it: arms of one rate are one cell
        return "spillover.runs", values


def from_json(values: dict[str, Any]) -> SpilloverCell:
    return SpilloverCell(**{**values, "arm": Arm(**values["arm"])})


def run(cell: SpilloverCell, folder: Path) -> dict[str, np.ndarray]:
    """Trains once, from its seed's start in the study's folder. Figures as `measuring` has them, and the rounds from
    which thoughts, and answers, were silent for the first time (`silence.silent_after`, NaN where they never were),
    with the share of thoughts that still mentioned the door when answers fell silent (`thoughts_then`); the curve is
    the share of thoughts that mention the door, of those whose answer used it, round by round."""
    from clew.runs.metrics import read_metrics
    from clew.train.audit.information import open_reader
    from clew.train.opening import opened
    from clew.train.rounds import split

    one_thread()
    shared = cell.world
    start = folder_of(folder, job_of(shared, cell.seed, cell.arm.start))
    with TemporaryDirectory() as here:
        out, asked = Path(here) / "run", world_config(shared, cell.arm.start)
        split(split_config(cell, start, str(out)), bare=True)
        world, reasoner = opened(out, asked, device="cpu")
        reader = open_reader(start, out, world, asked, reasoner)
        figures = measured(world, reasoner, shared["final_questions"], cell.arm.penalty, reader.face)
        figures |= audited(world, reasoner, shared["audit_questions"], reader)
        rows = [row for row in read_metrics(out / "metrics.jsonl") if row["step"] > 0]
    thoughts, answers = (
        np.array([row.get(name, np.nan) for row in rows]) for name in ("thought_tells", "answer_tells")
    )
    figures |= {"thoughts_silent": silent_after(thoughts, SILENT), "answers_silent": silent_after(answers, SILENT)}
    figures["thoughts_then"] = share_then(thoughts, figures["answers_silent"])
    return {**{name: np.array([value]) for name, value in figures.items()}, "curve": thoughts[None]}


def split_config(cell: SpilloverCell, start: Path, out: str) -> SplitConfig:
    """The run that a cell stands for."""
    world, arm = cell.world, cell.arm
    graders: list[Any] = ["world"]
    if arm.penalty:
        route = "both" if arm.heard == "both" else "answer"
        graders.append({"function": PENALTY, "weight": -arm.penalty, "route": route})
    return split_in(
        world,
        arm.start,
        cell.seed,
        out,
        policies=arm.policies,
        rank=world["rank"],
        model=ModelConfig(str(start)),
        warm_start=WarmStartConfig(steps=0),
        optimizer=OptimizerConfig(lr=cell.lr, weight_decay=0.0, warmup=0, schedule="constant"),
        rounds=world["rounds"],
        questions=world["questions"],
        thoughts=world["thoughts"],
        answers=world["answers"],
        rule=world["rule"],
        grader=graders,
        **({"paraphraser": arm.paraphraser, "paraphrase": arm.paraphrase} if arm.paraphraser else {}),
    )
