"""Rounds a minute of the whole split loop, and where the time goes.

    clew bench rounds                     # about a minute

4x4 mazes, two policies of 4 layers and width 128 fresh from a short imitation, n = 8 thoughts, k = 4 answers.
"""

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from clew.config import MazeConfig
from clew.learner import Learner
from clew.mazes.world import MazeWorld
from clew.train import crediting, rounds
from clew.train.config import SplitConfig, WarmStartConfig
from clew.train.evaluate import Reasoner
from measure import keep, options, timed


def main() -> None:
    args = options(__doc__, repeats=10).parse_args()
    spent: dict[str, float] = defaultdict(float)
    measured: dict[str, float] = {}

    def told(values: dict[str, Any]) -> None:
        if values.get("step") == 0:  # evaluations before and after the rounds have the same parts
            spent.clear()
        else:
            measured.update(spent)

    with tempfile.TemporaryDirectory() as folder:
        config = SplitConfig(
            mazes=MazeConfig(sizes=[4], branches=4),
            warm_start=WarmStartConfig(steps=60, per_step=8),
            rounds=2,
            max_thought=20,
            final_questions=10,
            validation_questions=10,
            out=str(Path(folder) / "start"),
        )
        rounds.split(config)
        for owner, name, label in (
            (MazeWorld, "questions", "asking"),
            (Reasoner, "rollouts", "sampling"),
            (crediting, "grade_rollouts", "grading"),
            (crediting, "credited", "credit"),
            (crediting, "figures_of", "figures"),
            (rounds, "training_batch", "packing"),
            (Learner, "update", "updates"),
            (rounds, "write_rollouts", "writing rollouts"),
            (rounds, "play_round", "round"),
        ):
            timed(owner, name, label, spent)
        config.model.folder, config.warm_start.steps = str(Path(folder) / "start" / "warm"), 0
        config.rounds = args.repeats
        config.validate_every = config.checkpoint_every = 0
        config.validation_questions = config.final_questions = 1
        config.out = str(Path(folder) / "run")
        rounds.split(config, report=told)
        lines = [json.loads(line) for line in (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()]
        seconds = lines[-1]["seconds"] - lines[1]["seconds"]
    whole, speed = measured.pop("round"), 60 * (args.repeats - 1) / seconds
    measured["the rest"] = whole - sum(measured.values())
    keep("rounds", args.out, {"rounds_per_minute": speed, "seconds": measured}, table_of(speed, measured, whole))


def table_of(speed: float, measured: dict[str, float], whole: float) -> list[str]:
    """The parts of a round, the largest first."""
    about = f"{speed:.0f} rounds a minute (16 questions, 128 thoughts, 512 answers)."
    parts = sorted(measured.items(), key=lambda item: -item[1])
    rows = [f"| {label} | {value / whole:.0%} |" for label, value in parts]
    return [about, "", "| part of a round | share of its time |", "|---|---|", *rows]


if __name__ == "__main__":
    main()
