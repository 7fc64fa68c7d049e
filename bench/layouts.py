"""Training steps on trees read as CPUs read them, against layouts for devices where no kernel shares keys.

    clew bench layouts                    # about six minutes

For CPUs trees of like lengths are read together and unlike ones apart, and branches read what they share where it
stands; elsewhere all trees stand in the same levels, or in plain rows where the masks of levels would cost more. Path-
only loss, and imitation of depth-first thoughts before the path; Llamas of four layers and width 64, one thread, CPU
seconds of a step of `clew train`, and both read to the same loss first.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator

from clew.config import MazeConfig, OptimizerConfig
from clew.losses import token_nll
from clew.mazes import maze_tokenizer
from clew.mazes.world import MazeWorld
from clew.policy import Policy
from clew.train.team import learner_for
from clew.tree import TreeBatch
from measure import interleaved, keep, options

BATCHES = 3
MIXED: list[Any] = [*range(3, 7), *([a, b] for a in range(3, 7) for b in range(3, 7) if a != b)]
CASES: dict[str, tuple[list[Any], int, int, bool]] = {
    "4x4, 16 mazes of 8 questions": ([4], 16, 8, False),
    "3x3 to 6x6 and rectangles, 16 of 8": (MIXED, 16, 8, False),
    "7x7 to 10x10, 16 of 8": ([7, 8, 9, 10], 16, 8, False),
    "10x10 with thoughts, 4 of 4": ([10], 4, 4, True),
    "4x4, 6x6, 8x8, 10x10 with thoughts, 8 of 4": ([4, 6, 8, 10], 8, 4, True),
}


def batches(sizes: list[Any], mazes: int, branches: int, thoughts: bool) -> list[TreeBatch]:
    world = MazeWorld(MazeConfig(sizes=sizes, branches=branches, max_size=10))
    found = []
    for first in range(0, BATCHES * mazes, mazes):
        numbers = range(first, first + mazes)
        batch = TreeBatch.pack(world.demonstrations(numbers), 0) if thoughts else world.batch(numbers)
        found.append(replace(batch, weights_S=batch.weights_S / batch.weights_S.sum()))
    return found


def seconds(made: Sequence[TreeBatch], repeats: int) -> dict[str, float]:
    policy = Policy.build(maze_tokenizer(10), 4, 64, 2)
    other = [batch.laid_out(shares=False) for batch in made]  # as another device would read them
    for mine, theirs in zip(made, other, strict=True):
        nll, reference = token_nll(policy.model, mine), token_nll(policy.model, theirs)
        torch.testing.assert_close(nll, reference, atol=1e-4, rtol=1e-4)
    learner = learner_for(policy, OptimizerConfig("muon", lr=2e-3, schedule="constant"), Accelerator(cpu=True))

    def steps(side: Sequence[TreeBatch]) -> None:
        for batch in side:
            learner.update(batch)

    sides: dict[str, Callable[[], object]] = {"other devices'": partial(steps, other), "CPUs'": partial(steps, made)}
    return {side: one / BATCHES for side, one in interleaved(sides, repeats, clock=time.process_time).items()}


def main() -> None:
    args = options(__doc__, repeats=15).parse_args()
    torch.set_num_threads(1)
    results, table = {}, ["| mazes a step | other devices' layout, s | CPUs' layout, s | times |", "|---" * 4 + "|"]
    for name, case in CASES.items():
        results[name] = seconds(batches(*case), args.repeats)
        before, after = results[name].values()
        table.append(f"| {name} | {before:.3f} | {after:.3f} | {before / after:.2f} |")
    keep("layouts", args.out, results, table, "CPU seconds of a training step.")


if __name__ == "__main__":
    main()
