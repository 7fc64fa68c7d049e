"""Training steps on shared-prefix trees against the plain rows that they stand for.

    clew bench trees                      # about five minutes

Path-only loss on both sides, forward and backward. Two levels: one maze, many questions. Three levels: one question, n
thoughts, k answers to each, as the face learns from a round.
"""

import random

import torch

from clew.config import MazeConfig
from clew.losses import token_nll, weighted_nll
from clew.mazes.world import MazeWorld
from clew.policy import Policy
from clew.tree import SpanTree, TreeBatch
from measure import interleaved, keep, options


def timed(policy: Policy, batch: TreeBatch, repeats: int) -> float:
    """Rows' seconds over trees', the two checked against each other first."""
    rows = batch.flatten()
    torch.testing.assert_close(token_nll(policy.model, batch), token_nll(policy.model, rows), atol=1e-4, rtol=1e-4)

    def step(batch: TreeBatch) -> None:
        weighted_nll(policy.model, batch).backward()
        policy.model.zero_grad()

    seconds = interleaved({"trees": lambda: step(batch), "rows": lambda: step(rows)}, repeats)
    return seconds["rows"] / seconds["trees"]


def questions(size: int, branches: int) -> tuple[Policy, TreeBatch]:
    """64 questions: of one maze, or of as many as there are branches for."""
    world = MazeWorld(MazeConfig(sizes=[size], branches=branches))
    return Policy.build(world.tokenizer), world.batch(range(max(1, 64 // branches)))


def face(size: int, n: int, k: int) -> tuple[Policy, TreeBatch]:
    """What a face reads of two questions: random thoughts of 16 tokens and answers of 8, the answers supervised."""
    world, dice = MazeWorld(MazeConfig(sizes=[size])), random.Random(0)

    def some(count: int) -> list[int]:
        return [dice.randrange(12, len(world.tokenizer)) for _ in range(count)]

    def thought() -> SpanTree:
        return SpanTree(some(16), "thought", 0.0, [SpanTree(some(8), "answer", 1.0) for _ in range(k)])

    asked = world.questions(range(2))
    trees = [SpanTree(question.tokens, "prompt", 0.0, [thought() for _ in range(n)]) for question in asked]
    return Policy.build(world.tokenizer), TreeBatch.pack(trees, 0)


def main() -> None:
    args = options(__doc__, repeats=5).parse_args()
    results: dict[str, float] = {}
    counts, sizes = (1, 2, 4, 8, 16, 32), (4, 6, 8, 10)
    heads = " | ".join(f"{count} branches" for count in counts)
    table = [f"| size | {heads} | n = k = 8 |", "|---" * (len(counts) + 2) + "|"]
    for size in sizes:
        cells = []
        for count in counts:
            cells.append(timed(*questions(size, count), args.repeats))
            results[f"{size}x{size}, {count} branches"] = cells[-1]
        cells.append(timed(*face(size, 8, 8), args.repeats))
        results[f"{size}x{size}, n = k = 8"] = cells[-1]
        table.append(f"| {size}x{size} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    keep("trees", args.out, results, table, "Rows' seconds a step over trees'.")


if __name__ == "__main__":
    main()
