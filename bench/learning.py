"""How soon are held-out 4x4 mazes solved? Clew's example against loops as they are usually written.

    clew bench learning --out runs/learning     # an hour and a half on two cores: three seeds, two runs at a time

A loop is given more and more minutes, each time from nothing and with a schedule made for that time, until it writes
the paths of 90% of held-out 4x4 mazes exactly, in greedy rollouts, or has had its longest run. Between two such rungs
the minutes to 70 and 90% are read off the line through them, over the logarithm of the time. One thread a run; what OUT
holds already is not run again.

All models are the same Llama, that of examples/demo.yaml, and all mazes 4x4. `Clew` is `clew train` with this example's
options. The others train on plain padded rows through `model(labels=...)`: two of them on Clew's stream with the same
optimizer and as many questions a step, one a maze; the last with AdamW on a fixed dataset of maze-dataset's own, whose
mazes become strings and tokens as batches are put together, with the loss on the whole sequence.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
from maze_dataset import MazeDataset, MazeDatasetConfig
from maze_dataset.tokenization import MazeTokenizerModular

from clew import evaluate as ev
from clew import plots
from clew.config import MazeConfig, TrainConfig, read_yaml, write_json
from clew.learner import Learner, learning_rate
from clew.mazes import MazeStream, maze_tokenizer
from clew.policy import Policy
from clew.supervised import train
from measure import keep, options

ROWS, MAZES, ASKED = 64, 10_000, 1000  # rows a step; mazes of the fixed dataset; held-out mazes asked at the end
LEVELS = (0.7, 0.9)
Batch = tuple[torch.Tensor, torch.Tensor]
Rungs = dict[float, dict[str, float]]  # by minutes: exact, steps


class Loop(NamedTuple):
    """A loop's shortest run and its longest, in minutes, and its learning rates, found by hand: of its first three
    rungs, and of the longer ones."""

    first: float
    last: float
    rates: tuple[float, float]


CLEW, PATH = "Clew", "plain rows, path-only loss"
FULL, THEIRS = "plain rows, whole-sequence loss", "maze-dataset, whole-sequence loss"
LOOPS = {
    CLEW: Loop(1.0, 5.7, (3e-3, 2e-3)),
    PATH: Loop(2.0, 8.0, (4e-3, 3e-3)),
    FULL: Loop(4.0, 4.0, (4e-3, 3e-3)),
    THEIRS: Loop(8.0, 8.0, (2e-3, 2e-3)),
}


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


def clew_rows(path_only: bool, seed: int) -> Iterator[Batch]:
    """Rows of Clew's stream, one question a maze."""
    stream, step = MazeStream(((4, 4),), branches=1, seed=seed), 0
    while True:
        forest = stream.forest(np.arange(ROWS) + ROWS * step)
        parts = (np.split(flat, forest.starts_M[1:]) for flat in (forest.tokens_T, forest.answers_T))
        tokens, answers = ([part.tolist() for part in split] for split in parts)
        yield padded(tokens, [answer.index(True) for answer in answers] if path_only else None)
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
    learner = Learner(policy, config.lr, config.weight_decay, muon=muon)  # for its optimizers alone
    model, step, given = policy.model, 0, 60 * (config.minutes or 0)
    next(rows)  # the fixed dataset is made before the clock starts
    start = time.monotonic()
    while (progress := (time.monotonic() - start) / given) < 1:
        tokens, labels = next(rows)
        learner.set_rate(learning_rate(config.lr, step, config.warmup, progress))
        loss = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), labels=labels).loss
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        for optimizer in learner.optimizers:
            optimizer.step()
        step += 1
    return policy, step


def run(name: str, minutes: float, rate: float, seed: int) -> dict[str, float]:
    """One loop from nothing for so many minutes; the share of held-out 4x4 mazes that it solves, and its steps."""
    MazeStream().forest(range(1))  # kernels are there before anyone's clock starts
    with tempfile.TemporaryDirectory() as folder:
        config, steps = example(minutes, seed, f"{folder}/run"), []
        config.lr = rate
        if name == CLEW:
            train(config, report=lambda values: steps.append(values["step"]))
            policy, step = Policy.load(f"{folder}/run"), steps[-1]
        else:
            rows = maze_dataset_rows(seed) if name == THEIRS else clew_rows(name == PATH, seed)
            policy, step = plain(rows, config, 0.0 if name == THEIRS else config.muon_scale)
    items = ev.balanced_items(policy, ((4, 4),), ["dfs"], 0.1, ASKED, 0)
    return {"exact": ev.evaluate(policy, items, keep=0)[0]["exact"]["value"], "steps": step}


def climb(name: str, seed: int, rungs: Rungs) -> Rungs:
    """Longer and longer runs of one loop, each half as long again and a little less, until one solves enough; those
    in `rungs` are not run again."""
    torch.set_num_threads(1)
    loop = LOOPS[name]
    for rung in count():
        minutes = round(loop.first * 2 ** (rung / 2), 1)
        if minutes > loop.last:
            break
        if minutes not in rungs:
            rungs[minutes] = run(name, minutes, loop.rates[rung >= 3], seed)
        if rungs[minutes]["exact"] >= LEVELS[-1]:
            break
    return rungs


def minutes_to(level: float, rungs: Rungs) -> float | None:
    """When a loop solves the share `level`, read off between two rungs; None if its longest run does not."""
    before = None
    for minutes, found in rungs.items():
        if found["exact"] >= level:
            if before is None:
                return minutes
            part = (level - rungs[before]["exact"]) / (found["exact"] - rungs[before]["exact"])
            return before * (minutes / before) ** part
        before = minutes
    return None


def averaged(runs: dict[int, Rungs]) -> Rungs:
    """The mean over seeds; one that solved enough and went no further counts with what it reached."""
    rungs_of = list(runs.values())
    return {at: {"exact": fmean(rungs[min(at, max(rungs))]["exact"] for rungs in rungs_of)}
            for at in sorted({at for rungs in rungs_of for at in rungs})}  # fmt: skip


def summary(results: dict[str, dict[int, Rungs]]) -> list[str]:
    """Minutes to each level by loop, seed by seed and for the seeds' mean, and how many times Clew's; every rung."""
    seeds = list(results[CLEW])
    heads = [f"to {level:.0%}, seeds {' / '.join(map(str, seeds))} | their mean" for level in LEVELS]
    table = [f"| minutes | {' | '.join(heads)} | times Clew's to {LEVELS[0]:.0%}, by seed | their mean |"]
    table.append("|---" * (2 * len(LEVELS) + 3) + "|")
    ours: list[float] = []
    times: list[str] = []
    for name, runs in results.items():
        longest, cells = max(max(rungs) for rungs in runs.values()), []
        for level in LEVELS:
            found = [minutes_to(level, rungs) for rungs in (*runs.values(), averaged(runs))]
            told = [f"over {longest:g}" if at is None else f"{at:.1f}" for at in found]
            cells += [" / ".join(told[:-1]), told[-1]]
            if level == LEVELS[0]:
                ours = ours or [at or longest for at in found]
                times = ["over " * (at is None) + f"{(at or longest) / own:.1f}"
                         for at, own in zip(found, ours, strict=True)]  # fmt: skip
        table.append(f"| {name} | {' | '.join(cells)} | {' / '.join(times[:-1])} | {times[-1]} |")
    table += ["", f"| loop | minutes | steps | {' | '.join(f'exact, seed {seed}' for seed in seeds)} | mean |"]
    table.append("|---" * (len(seeds) + 4) + "|")
    for name, runs in results.items():
        for minutes in sorted({minutes for rungs in runs.values() for minutes in rungs}):
            there = [rungs.get(minutes) for rungs in runs.values()]
            exact = " | ".join("" if one is None else f"{one['exact']:.1%}" for one in there)
            steps, mean = (fmean(one[figure] for one in there if one) for figure in ("steps", "exact"))
            table.append(f"| {name} | {minutes:g} | {steps:,.0f} | {exact} | {mean:.1%} |")
    return table


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, a thread each")
    args = parser.parse_args()
    torch.set_num_threads(1)
    file = args.out / "learning.json"
    kept = json.loads(file.read_text())["results"] if file.is_file() else {}
    results = {name: {int(seed): {float(minutes): found for minutes, found in rungs.items()}
                      for seed, rungs in kept.get(name, {}).items()} for name in LOOPS}  # fmt: skip
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as alone:
        tasks = {alone.submit(climb, name, seed, results[name].get(seed, {})): (name, seed)
                 for seed in args.seeds for name in LOOPS}  # fmt: skip
        for task in as_completed(tasks):
            name, seed = tasks[task]
            results[name][seed] = task.result()
            print(name, seed, results[name][seed], flush=True)
            write_json(file, {"results": results})
    results = {name: dict(sorted(runs.items())) for name, runs in results.items()}
    plots.learning(results, LEVELS, args.out / "learning.png")
    keep("learning", args.out, results, summary(results), f"{ASKED} held-out mazes each.")


if __name__ == "__main__":
    main()
