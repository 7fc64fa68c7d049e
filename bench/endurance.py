"""Does memory stay flat? Resident size through an hour of training, and through an evaluation on a million questions.

    clew bench endurance                  # an hour and a half or two; Linux

Training is examples/demo.yaml, for longer. The evaluation asks the model that comes of it 4x4 mazes.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from clew import evaluate as ev
from clew.config import MazeConfig, TrainConfig, read_yaml
from clew.policy import Policy
from clew.supervised import train
from measure import held, keep, options

SETTLED = 0.1  # of the way: caches and allocator pools have filled by then


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="minutes of training")
    parser.add_argument("--questions", type=int, default=1_000_000, help="questions of the evaluation")
    args = parser.parse_args()
    example = read_yaml(Path(__file__).parents[1] / "examples" / "demo.yaml")
    config = TrainConfig(**{**example, "mazes": MazeConfig(**example["mazes"])})
    trained: list[tuple[float, int]] = []
    asked: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        config.minutes, config.out, config.eval_mazes = args.minutes, f"{folder}/run", 100
        train(config, report=lambda values: trained.append((values["step"], held())))
        policy = Policy.load(config.out)
        start = time.monotonic()

        def watched() -> Iterator[ev.Item]:
            for i, item in enumerate(ev.balanced_items(policy, ((4, 4),), ["dfs"], 0.1, args.questions, 0)):
                if i % 1000 == 0:
                    asked.append((i, held()))
                yield item

        report = ev.evaluate(policy, watched(), batch=1024)[0]
        minutes = (time.monotonic() - start) / 60
    table = [
        "| | MiB at a tenth of the way | most after it | at the end | growth |",
        "|---|---|---|---|---|",
    ]
    about = {f"{trained[-1][0]:,} steps of training in {args.minutes:g} minutes": trained,
             f"{report['mazes']:,} questions of evaluation in {minutes:.0f} minutes": asked}  # fmt: skip
    for what, seen in about.items():
        after = [size / 2**20 for _, size in seen[int(SETTLED * len(seen)) :]]
        growth = (after[-1] - after[0]) / after[0]
        table.append(f"| {what} | {after[0]:,.0f} | {max(after):,.0f} | {after[-1]:,.0f} | {growth:+.1%} |")
    kept = {"training": trained[:: max(1, len(trained) // 100)], "evaluation": asked[:: max(1, len(asked) // 100)]}
    keep("endurance", args.out, kept, table)


if __name__ == "__main__":
    main()
