"""How soon are held-out 4x4 mazes solved? Clew's example against loops as they are usually written.

    clew bench learning                   # an hour on two cores: three seeds of five runs

Every run is given so many minutes of training, its schedule is made for them, and what counts is the share of held-out
4x4 mazes whose path it writes exactly at their end, in greedy rollouts. So a loop that was given five times as long and
knows less is more than five times slower.

All models are the same Llama of 4 layers and width 128, all runs have one thread, two run at a time. `clew` is
examples/demo.yaml through `clew train`. The others train on plain padded rows through `model(labels=...)`: `rows, path`
and `rows, full` on Clew's stream of 4x4 mazes with Clew's optimizer, one question a maze; `maze-dataset` with AdamW on
a fixed dataset of maze-dataset's own, whose mazes become strings and tokens as batches are put together.
"""

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from maze_dataset import MazeDataset, MazeDatasetConfig
from maze_dataset.tokenization import MazeTokenizerModular

from clew import evaluate as ev
from clew.config import MazeConfig, TrainConfig, read_yaml
from clew.learner import Learner, learning_rate
from clew.mazes import MazeStream, maze_tokenizer
from clew.policy import Policy
from clew.supervised import train
from measure import keep, options

ROWS, MAZES, ASKED = 64, 10_000, 1000  # rows a step; mazes of the fixed dataset; held-out mazes asked at the end
Batch = tuple[torch.Tensor, torch.Tensor]
Figure = dict[str, float]


def example(minutes: float, seed: int, out: str) -> TrainConfig:
    """examples/demo.yaml for so long, without looks on the way."""
    given = read_yaml(Path(__file__).parents[1] / "examples" / "demo.yaml")
    more = {"mazes": MazeConfig(**given["mazes"]), "minutes": minutes, "seed": seed, "out": out, "eval_mazes": 8,
            "probe_every": 0, "checkpoint_every": 0}  # fmt: skip
    return TrainConfig(**{**given, **more})


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
        parts = (np.split(flat, forest.starts_M[1:]) for flat in (forest.tokens_T, forest.answers_T))
        tokens, answers = ([part.tolist() for part in split] for split in parts)
        yield padded(tokens, [answer.index(True) for answer in answers] if loss == "path" else None)
        step += 1


def maze_dataset_rows(seed: int) -> Iterator[Batch]:
    """A dataset of fixed size, shuffled each epoch, its mazes made into strings and tokenized batch by batch."""
    made = MazeDataset.generate(MazeDatasetConfig(name="bench", grid_n=4, n_mazes=MAZES, seed=seed))
    theirs, ours, dice = MazeTokenizerModular(), maze_tokenizer(4), np.random.default_rng(seed)
    while True:
        order = dice.permutation(len(made))
        for first in range(0, len(made) - ROWS + 1, ROWS):
            texts = [" ".join(made[int(i)].as_tokens(theirs)) for i in order[first : first + ROWS]]
            yield padded([ours(text)["input_ids"] for text in texts], None)  # type: ignore[list-item]


def plain(rows: Iterator[Batch], config: TrainConfig, muon: float) -> tuple[Policy, int]:
    """The usual loop at the config's rate and schedule; the policy, and how many steps it took."""
    policy = Policy.build(maze_tokenizer(4), config.layers, config.width, config.heads, config.seed)
    optimizers = Learner(policy, config.lr, config.weight_decay, muon=muon).optimizers
    model, step, given = policy.model, 0, 60 * (config.minutes or 0)
    next(rows)  # the fixed dataset is made before the clock starts
    start = time.monotonic()
    while (progress := (time.monotonic() - start) / given) < 1:
        tokens, labels = next(rows)
        for optimizer, scale in zip(optimizers, (1.0, muon), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = scale * learning_rate(config.lr, step, config.warmup, progress)
        loss = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), labels=labels).loss
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        for optimizer in optimizers:
            optimizer.step()
        step += 1
    return policy, step


def run(loop: str, minutes: float, seed: int) -> Figure:
    """One loop from nothing for so many minutes; the share of held-out 4x4 mazes that it solves, and its steps."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        config, steps = example(minutes, seed, f"{folder}/run"), []
        if loop == "clew":
            train(config, report=lambda values: steps.append(values["step"]))
            policy, step = Policy.load(f"{folder}/run"), steps[-1]
        else:
            rows = maze_dataset_rows(seed) if loop == "maze-dataset" else clew_rows(loop.split()[-1], seed)
            policy, step = plain(rows, config, 0.0 if loop == "maze-dataset" else config.muon_scale)
    items = ev.balanced_items(policy, ((4, 4),), ["dfs"], 0.1, ASKED, 0)
    return {"exact": ev.evaluate(policy, items, keep=0)[0]["exact"]["value"], "steps": step}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--minutes", type=float, default=4.0, help="what Clew is given; the others get multiples of it")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, of one thread each")
    args = parser.parse_args()
    given = [("maze-dataset", 5), ("clew", 1), ("rows, path", 2), ("rows, full", 2), ("clew", 2.5)]
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as workers:
        asked = {(loop, times, seed): workers.submit(run, loop, times * args.minutes, seed)
                 for seed in range(args.seeds) for loop, times in given}  # fmt: skip
        found = {place: future.result() for place, future in asked.items()}
    heads = " | ".join(f"exact, seed {seed}" for seed in range(args.seeds))
    table = [f"| loop | minutes | steps | {heads} |", "|---|---|---|" + "---|" * args.seeds]
    results = []
    for loop, times in sorted(given, key=lambda one: (one[0], one[1])):
        runs = [found[loop, times, seed] for seed in range(args.seeds)]
        results.append({"loop": loop, "minutes": times * args.minutes, "runs": runs})
        steps = sum(one["steps"] for one in runs) / len(runs)
        table.append(f"| {loop} | {times * args.minutes:g} | {steps:,.0f} | "
                     + " | ".join(f"{one['exact']:.1%}" for one in runs) + " |")  # fmt: skip
    keep("learning", args.out, results, table, f"{ASKED} held-out mazes each.")


if __name__ == "__main__":
    main()
