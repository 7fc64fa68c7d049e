"""Minutes to 70% and 90% exact held-out 4x4 paths: Clew's example against loops as they are usually written.

    clew bench learning                   # 4 loops x 6 minutes a seed, one after the other

All models are Llamas of 4 layers and width 128. `clew`: examples/demo.yaml. The others train AdamW on 64 plain padded
rows a step through `model(labels=...)`, at the rate and schedule of Clew's default: `rows, full` and `rows, path` on
Clew's stream of mazes, with the loss on the whole sequence or on the path; `maze-dataset` on a fixed dataset of
maze-dataset's own, joined to strings, tokenized when batches are put together, with the loss on the whole sequence. The
clock stops while held-out mazes are solved. All see the clock: their learning rates fall to 0 at the end of it.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from maze_dataset import MazeDataset, MazeDatasetConfig
from maze_dataset.tokenization import MazeTokenizerModular

from clew import evaluate as ev
from clew import supervised
from clew.config import MazeConfig, TrainConfig, read_yaml
from clew.learner import learning_rate
from clew.mazes import MazeStream, maze_tokenizer
from clew.policy import Policy
from measure import keep, options

ROWS, LR, LOOK_EVERY, LOOK = 64, 2e-3, 30.0, 400
Batch = tuple[torch.Tensor, torch.Tensor]


def exact(policy: Policy) -> float:
    items = ev.balanced_items(policy, ((4, 4),), ["dfs"], 0.1, LOOK, 0)
    return ev.evaluate(policy, items, keep=0)[0]["exact"]["value"]


def padded(rows: list[list[int]], paths: list[int] | None) -> Batch:
    """Tokens and labels, padded on the right; labels from each row's path on, or all of them."""
    width = max(map(len, rows))
    tokens, labels = torch.zeros(len(rows), width, dtype=torch.int64), torch.full((len(rows), width), -100)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.tensor(row)
        first = paths[i] if paths else 0
        labels[i, first : len(row)] = tokens[i, first : len(row)]
    return tokens, labels


def clew_rows(loss: str, seed: int) -> Iterator[Batch]:
    """Rows of Clew's stream, one question a maze."""
    stream, step = MazeStream(((4, 4),), branches=1, seed=seed), 0
    while True:
        forest = stream.forest(np.arange(ROWS) + ROWS * step)
        ends = [*forest.starts_M[1:].tolist(), len(forest.tokens_T)]
        spans = list(zip(forest.starts_M.tolist(), ends, strict=True))
        rows = [forest.tokens_T[start:end].tolist() for start, end in spans]
        paths = [int(np.argmax(forest.answers_T[start:end])) for start, end in spans]
        yield padded(rows, paths if loss == "path" else None)
        step += 1


def maze_dataset_rows(seed: int) -> Iterator[Batch]:
    """A dataset of fixed size, shuffled each epoch, its mazes made into strings and tokenized batch by batch."""
    made = MazeDataset.generate(
        MazeDatasetConfig(name="bench", grid_n=4, n_mazes=10_000, seed=seed), gen_parallel=False
    )
    theirs, ours, dice = MazeTokenizerModular(), maze_tokenizer(4), np.random.default_rng(seed)
    while True:
        order = dice.permutation(len(made))
        for first in range(0, len(made) - ROWS + 1, ROWS):
            texts = [" ".join(made[int(i)].as_tokens(theirs)) for i in order[first : first + ROWS]]
            yield padded([ours(text)["input_ids"] for text in texts], None)  # type: ignore[list-item]


def plain(rows: Iterator[Batch], minutes: float, seed: int) -> list[tuple[float, float]]:
    """The usual loop; (minutes, exact) at each look."""
    policy = Policy.build(maze_tokenizer(4), 4, 128, 4, seed)
    model = policy.model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=(0.9, 0.95), weight_decay=0.01, fused=True)
    spent, looked, step, looks = 0.0, 0.0, 0, []
    while spent < 60 * minutes:
        begun = time.monotonic()
        tokens, labels = next(rows)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(LR, step, 100, spent / (60 * minutes))
        loss = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        spent += time.monotonic() - begun
        if spent - looked >= LOOK_EVERY or spent >= 60 * minutes:
            looked = spent
            looks.append((spent / 60, exact(policy)))
    return looks


def clew_itself(minutes: float, seed: int) -> list[tuple[float, float]]:
    """examples/demo.yaml for as long, looked at in the same way."""
    example = read_yaml(Path(__file__).parents[1] / "examples" / "demo.yaml")
    config = TrainConfig(**{**example, "mazes": MazeConfig(**example["mazes"])})
    looks, paused, looked = [], 0.0, 0.0
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        config.minutes, config.seed, config.out = minutes, seed, f"{folder}/run"
        config.probe_every, config.checkpoint_every, config.eval_mazes = 0, 0, 8
        inner = supervised.Learner.update

        def update(self, *args, **kwargs):
            nonlocal paused, looked
            spent = time.monotonic() - start - paused
            if spent - looked >= LOOK_EVERY:
                looked, begun = spent, time.monotonic()
                looks.append((spent / 60, exact(self.policy)))
                self.policy.model.train()
                paused += time.monotonic() - begun
                config.minutes = minutes + paused / 60
            return inner(self, *args, **kwargs)

        supervised.Learner.update = update  # type: ignore[method-assign]
        try:
            supervised.train(config)
        finally:
            supervised.Learner.update = inner  # type: ignore[method-assign]
        looks.append((minutes, exact(Policy.load(f"{folder}/run"))))
    return looks


def reached(looks: list[tuple[float, float]], rate: float) -> str:
    return next((f"{minutes:.1f}" for minutes, value in looks if value >= rate), f"more than {looks[-1][0]:.0f}")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--minutes", type=float, default=6.0, help="training time of each loop")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    results: dict[str, list[list[tuple[float, float]]]] = {}
    sides: dict[str, Callable[[int], list[tuple[float, float]]]] = {
        "clew": lambda seed: clew_itself(args.minutes, seed),
        "rows, path": lambda seed: plain(clew_rows("path", seed), args.minutes, seed),
        "rows, full": lambda seed: plain(clew_rows("full", seed), args.minutes, seed),
        "maze-dataset": lambda seed: plain(maze_dataset_rows(seed), args.minutes, seed),
    }
    table = ["| loop | seed | minutes to 70% | minutes to 90% | exact at the end |", "|---|---|---|---|---|"]
    for seed in range(args.seeds):
        for name, side in sides.items():
            looks = side(seed)
            results.setdefault(name, []).append(looks)
            line = f"| {name} | {seed} | {reached(looks, 0.7)} | {reached(looks, 0.9)} | {looks[-1][1]:.1%} |"
            table.append(line)
            print(line, flush=True)
    about = f"{args.minutes:g} minutes a loop; {LOOK} held-out 4x4 mazes a look, one each {LOOK_EVERY:g} s."
    keep("learning", args.out, results, table, about)


if __name__ == "__main__":
    main()
