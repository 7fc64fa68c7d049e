"""Does memory stay flat? Resident size through an hour of training, and through an evaluation on a million questions.

    clew bench endurance                  # an hour and a half or two; Linux

Training is what `clew train` does by default. The evaluation asks a small model, trained for a minute, held-out 4x4
mazes.
"""

import tempfile
import time
from collections.abc import Iterator
from typing import Any

from clew.config import ModelConfig
from clew.mazes.world import MazeWorld
from clew.policy import Policy
from clew.rollout.sampler import SharedPrefixSampler
from clew.train.config import TrainConfig
from clew.train.evaluate import Reasoner, evaluate, held_out, world_grader
from clew.train.supervised import train
from clew.world import Question
from measure import held, keep, options

SETTLED = 0.1  # of the way: caches and allocator pools have filled by then


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="minutes of training")
    parser.add_argument("--questions", type=int, default=1_000_000, help="questions of the evaluation")
    args = parser.parse_args()
    trained: list[tuple[float, int]] = []
    asked: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        train(TrainConfig(minutes=1, model=ModelConfig(layers=2, width=32, heads=2), out=f"{folder}/small"))
        world, reasoner = MazeWorld(), Reasoner(SharedPrefixSampler(Policy.load(f"{folder}/small")))
        start = time.monotonic()

        def watched() -> Iterator[Question]:
            for i, question in enumerate(held_out(world, args.questions)):
                if i % 1000 == 0:
                    asked.append((i, held()))
                yield question

        def watch(values: dict[str, Any]) -> None:
            if "loss" in values:
                trained.append((values["step"], held()))

        report = evaluate(world, reasoner, watched(), world_grader(world))[0]
        minutes = (time.monotonic() - start) / 60
        train(TrainConfig(minutes=args.minutes, out=f"{folder}/long"), report=watch)
    table = [
        "| | MiB at a tenth of the way | most after it | at the end | growth |",
        "|---|---|---|---|---|",
    ]
    about = {f"{trained[-1][0]:,} steps of training in {args.minutes:g} minutes": trained}
    about[f"{report['questions']:,} questions of evaluation in {minutes:.0f} minutes"] = asked
    for what, seen in about.items():
        after = [size / 2**20 for _, size in seen[int(SETTLED * len(seen)) :]]
        growth = (after[-1] - after[0]) / after[0]
        table.append(f"| {what} | {after[0]:,.0f} | {max(after):,.0f} | {after[-1]:,.0f} | {growth:+.1%} |")
    kept = {"training": trained[:: max(1, len(trained) // 100)], "evaluation": asked[:: max(1, len(asked) // 100)]}
    keep("endurance", args.out, kept, table)


if __name__ == "__main__":
    main()
