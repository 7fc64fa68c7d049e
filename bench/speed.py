"""Seconds a training step: path-only against whole-sequence loss, trees against plain rows; and mazes a second.

    python bench/speed.py                 # about two minutes on two cores

Ratios within one run, the two sides interleaved, medians of the repeats. Before it is timed, each fast path is checked
against the slow one on the same batch. Writes OUT/speed.json and OUT/speed.md.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from clew.config import write_atomically, write_json
from clew.evaluate import provenance
from clew.losses import token_nll, weighted_nll
from clew.mazes import MazeStream, maze_tokenizer
from clew.policy import Policy
from clew.supervised import maze_batch
from clew.tree import TreeBatch


def interleaved(sides: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each side, all sides taking turns; two turns of warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 2):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            if turn >= 2:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def step(policy: Policy, batch: TreeBatch) -> None:
    """Forward and backward, without the optimizer, which costs all sides the same."""
    weighted_nll(policy.model, batch).backward()
    policy.model.zero_grad()


def losses(size: int, repeats: int) -> dict[str, float]:
    """The same plain sequences (one question a maze) under path-only and whole-sequence loss."""
    policy = Policy.build(maze_tokenizer(size))
    forest = MazeStream(((size, size),), branches=1).forest(range(32))
    batches = {loss: maze_batch(forest, loss) for loss in ("path", "full")}
    return interleaved({name: lambda b=batch: step(policy, b) for name, batch in batches.items()}, repeats)


def trees(size: int, branches: int, repeats: int) -> dict[str, float]:
    """The same questions as shared-prefix trees and as the plain rows that they stand for, path-only loss on both."""
    policy = Policy.build(maze_tokenizer(size))
    batch = maze_batch(MazeStream(((size, size),), branches=branches).forest(range(4)), "path")
    rows = batch.flatten()
    torch.testing.assert_close(token_nll(policy.model, batch), token_nll(policy.model, rows), atol=1e-4, rtol=1e-4)
    return interleaved({"trees": lambda: step(policy, batch), "rows": lambda: step(policy, rows)}, repeats)


def mazes_per_second(size: int, repeats: int) -> float:
    """Tokenized questions a second on one core, a hundred at a time."""
    stream = MazeStream(((size, size),))
    turns = iter(range(10**9))
    seconds = interleaved({"forest": lambda: stream.forest(np.arange(100) + 100 * next(turns))}, 20 * repeats)
    return 100 / seconds["forest"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    args = parser.parse_args()
    lines = ["| what | ratio |", "|---|---|"]
    results: dict[str, dict[str, float]] = {}
    for size in (4, 6):
        results[f"loss {size}x{size}"] = found = losses(size, args.repeats)
        ratio = found["full"] / found["path"]
        lines.append(f"| steps a second, path-only against whole-sequence loss, {size}x{size} | {ratio:.2f} |")
    for size, branches in ((4, 8), (4, 16), (6, 8), (6, 16)):
        results[f"trees {size}x{size} {branches}"] = found = trees(size, branches, args.repeats)
        ratio = found["rows"] / found["trees"]
        lines.append(f"| steps a second, trees against plain rows, {size}x{size}, {branches} branches | {ratio:.2f} |")
    for size in (4, 6, 10):
        results[f"mazes {size}x{size}"] = {"per second": mazes_per_second(size, args.repeats)}
        rate = results[f"mazes {size}x{size}"]["per second"]
        lines.append(f"| tokenized {size}x{size} questions a second, one core (a rate, not a ratio) | {rate:,.0f} |")
    command = f"python bench/speed.py --repeats {args.repeats}"
    write_json(args.out / "speed.json", {"seconds": results, **provenance(), "command": command})
    text = f"Made by `{command}`: a Llama of 4 layers and width 128, float32, {torch.get_num_threads()} threads."
    write_atomically(args.out / "speed.md", "\n".join([text, "", *lines]) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
