"""Rounds a minute of the whole split loop, and where the time goes.

    clew bench rounds                     # about a minute

4x4 mazes, two policies of 4 layers and width 128 fresh from a short imitation, n = 8 thoughts, k = 4 answers.
"""

import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from clew import samples as sm
from clew import split
from clew.config import MazeConfig, SplitConfig
from clew.learner import Learner
from clew.mazes.world import MazeWorld
from measure import keep, options


def main() -> None:
    args = options(__doc__, repeats=10).parse_args()
    spent: dict[str, float] = defaultdict(float)

    def timed(owner: object, name: str, label: str) -> None:
        inner = getattr(owner, name)

        def outer(*args, **kwargs):
            start = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                spent[label] += time.perf_counter() - start

        setattr(owner, name, outer)

    with tempfile.TemporaryDirectory() as folder:
        config = SplitConfig(
            MazeConfig(sizes=[4], branches=4, per_step=8),
            warmup_steps=60,
            rounds=2,
            max_thought=20,
            final_questions=10,
            eval_questions=10,
            out=str(Path(folder) / "start"),
        )
        split.split(config)
        for owner, name, label in (
            (MazeWorld, "ask", "asking"),
            (sm, "sample", "sampling"),
            (sm, "graded", "grading"),
            (sm, "credited", "credit"),
            (sm, "figures_of", "figures"),
            (sm, "batch_for", "packing"),
            (Learner, "update", "updates"),
        ):
            timed(owner, name, label)
        rounds = args.repeats
        config.model, config.warmup_steps, config.rounds = str(Path(folder) / "start" / "warm"), 0, rounds
        config.eval_every = config.checkpoint_every = 0
        config.eval_questions = config.final_questions = 1
        config.out = str(Path(folder) / "run")
        split.split(config)
        lines = [json.loads(line) for line in (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()]
        seconds = lines[-1]["seconds"] - lines[1]["seconds"]
    total = sum(spent.values())
    speed = f"{60 * (rounds - 1) / seconds:.0f} rounds a minute (16 questions, 128 thoughts, 512 answers)."
    table = [speed, "", "| part of a round | share of its time |", "|---|---|"]
    table += [f"| {label} | {value / total:.0%} |" for label, value in sorted(spent.items(), key=lambda item: -item[1])]
    keep("rounds", args.out, {"rounds_per_minute": 60 * (rounds - 1) / seconds, "seconds": dict(spent)}, table)


if __name__ == "__main__":
    main()
