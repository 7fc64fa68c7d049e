"""The table of speeds in docs/performance.md, made from the committed results."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SIZES = ("4x4", "6x6", "8x8", "10x10")


def row(what: str, against: str, ratio: Callable[[Any], float], places: Iterable[Any]) -> str:
    """One line; a place is where a size's figures are, or None."""
    shown = ("" if place is None else f"{ratio(place):#.3g}".rstrip(".") for place in places)
    return f"| {what} | {against} | {' | '.join(shown)} |"


def main() -> None:
    texts = {name: (RESULTS / f"{name}.json").read_text() for name in ("lattice", "trees", "rollout", "loss")}
    found = {name: json.loads(text)["results"] for name, text in texts.items()}
    print("| what | against | 4x4 | 6x6 | 8x8 | 10x10 |\n|---|---|---|---|---|---|")
    for workers, ours, theirs in (
        ("1", "one core (`lattice`)", "maze-dataset"),
        ("2", "two workers", "maze-dataset, two workers"),
    ):
        rates = [found["lattice"][size][workers] for size in SIZES]
        print(row(f"tokenized questions a second, {ours}", theirs, lambda rate: rate["ours"] / rate["theirs"], rates))
    for shape, what in (
        ("8 branches", "training on trees, 8 questions of a maze (`trees`)"),
        ("16 branches", "training on trees, 16 questions of a maze"),
        ("n = k = 8", "a face's update, 8 thoughts, 8 answers each"),
    ):
        print(row(what, "plain rows", float, [found["trees"][f"{size}, {shape}"] for size in SIZES]))
    rates = [found["rollout"][size] for size in SIZES]
    what = "answers a second, 8 thoughts, 8 answers each (`rollout`)"
    print(row(what, "batched `generate`", lambda rate: rate["shared"] / rate["generate"], rates))
    steps = [found["loss"].get(f"{size}, 4 layers") for size in SIZES]
    what = "steps a second, path-only loss, same rows (`loss`)"
    print(row(what, "whole-sequence loss", lambda seconds: seconds["full"] / seconds["path"], steps))


if __name__ == "__main__":
    main()
