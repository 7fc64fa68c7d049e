"""How soon are held-out 4x4 mazes solved? Clew's example against loops as they are usually written.

    clew bench learning                   # half an hour: three seeds of four runs, one thread; finished seeds stay

Every run is given so many minutes of training, its schedule is made for them, and what counts is the share of held-out
4x4 mazes whose path it writes exactly at their end, in greedy rollouts: a loop that was given five times as long as
Clew and solves fewer is more than five times slower.

All models are the same Llama, that of examples/demo.yaml, and all mazes 4x4. `clew` is `clew train` with this example's
options. The others train on plain padded rows through `model(labels=...)`: `rows, path` and `rows, full` on Clew's
stream with the same optimizer and as many questions a step, one a maze; `maze-dataset` with AdamW
on a fixed dataset of maze-dataset's own, whose mazes become strings and tokens as batches are put together, with the
loss on the whole sequence.
"""

import json
import tempfile
import time
from collections.abc import Iterator
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
GIVEN = {"clew": 0.8, "rows, path": 1.6, "rows, full": 0.8, "maze-dataset": 4.0}  # minutes
RATES = {"clew": 3e-3, "rows, path": 4e-3, "rows, full": 4e-3, "maze-dataset": 2e-3}  # found by hand


def example(minutes: float, seed: int, out: str) -> TrainConfig:
    """examples/demo.yaml on 4x4 mazes alone, for so long and without looks on the way."""
    given = read_yaml(Path(__file__).parents[1] / "examples" / "demo.yaml")
    mazes = MazeConfig(**{**given["mazes"], "sizes": [4]})
    more = {"mazes": mazes, "minutes": minutes, "seed": seed, "out": out, "eval_mazes": 8, "probe_every": 0,
            "checkpoint_every": 0}  # fmt: skip
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
    with tempfile.TemporaryDirectory() as folder:
        config, steps = example(minutes, seed, f"{folder}/run"), []
        config.lr = RATES[loop]
        if loop == "clew":
            train(config, report=lambda values: steps.append(values["step"]))
            policy, step = Policy.load(f"{folder}/run"), steps[-1]
        else:
            theirs = loop == "maze-dataset"
            rows = maze_dataset_rows(seed) if theirs else clew_rows(loop.split()[-1], seed)
            policy, step = plain(rows, config, 0.0 if theirs else config.muon_scale)
    items = ev.balanced_items(policy, ((4, 4),), ["dfs"], 0.1, ASKED, 0)
    return {"exact": ev.evaluate(policy, items, keep=0)[0]["exact"]["value"], "steps": step}


def main() -> None:
    torch.set_num_threads(1)
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="those already in OUT are kept")
    args = parser.parse_args()
    fresh: dict[str, dict[str, Figure]] = {loop: {} for loop in GIVEN}
    for seed in args.seeds:
        for loop, minutes in GIVEN.items():
            fresh[loop][str(seed)] = run(loop, minutes, seed)
            print(loop, seed, fresh[loop][str(seed)], flush=True)
    file = args.out / "learning.json"
    before = json.loads(file.read_text())["results"] if file.is_file() else {}
    results = {loop: dict(sorted({**before.get(loop, {}), **runs}.items())) for loop, runs in fresh.items()}
    heads = " | ".join(f"exact, seed {seed}" for seed in results["clew"])
    table = [f"| loop | minutes | steps | {heads} |", "|---|---|---|" + "---|" * len(results["clew"])]
    for loop, runs in results.items():
        steps = sum(one["steps"] for one in runs.values()) / len(runs)
        exact = " | ".join(f"{one['exact']:.1%}" for one in runs.values())
        table.append(f"| {loop} | {GIVEN[loop]:g} | {steps:,.0f} | {exact} |")
    keep("learning", args.out, results, table, f"{ASKED} held-out mazes each.")


if __name__ == "__main__":
    main()
