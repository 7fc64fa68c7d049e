"""How soon are held-out 4x4 mazes solved? Clew's trees against loops as they are usually written.

    clew bench learning --out runs/learning     # one and three quarter hours on two cores: two runs at a time

Each loop trains the same Llama from nothing at a constant rate, three seeds, a thread a run, and is looked at again and
again: the running average of its weights writes the paths of held-out 4x4 mazes in greedy rollouts, off the clock. A
run ends when 90% are exact, or when its longest time is over. The minutes to 70 and 90% are read off between two looks,
over the logarithm of the time. The average makes every look a finished model: no schedule favours one length of run.
What OUT holds already is not run again.

`Clew` trains on trees as `clew train` does. The others train on plain padded rows through `model(labels=...)`: two of
them on Clew's stream with the same optimizer and as many questions a step, one a maze; the last with AdamW on a fixed
dataset of maze-dataset's own, whose mazes become strings and tokens as batches are put together, with the loss on the
whole sequence.
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import count
from multiprocessing import get_context
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
from maze_dataset import MazeDataset, MazeDatasetConfig
from maze_dataset.tokenization import MazeTokenizerModular

import plots
from clew.averaging import Average
from clew.config import MazeConfig
from clew.files import write_json
from clew.learner import Learner, learning_rate
from clew.mazes import MazeStream, maze_tokenizer
from clew.mazes.world import MazeWorld
from clew.policy import Policy
from clew.rollout.sampler import SharedPrefixSampler
from clew.train.evaluate import Reasoner, evaluate, held_out
from measure import keep, options

LAYERS, WIDTH, HEADS = 2, 192, 3  # 1.2 million parameters
ROWS, BRANCHES = 64, 4  # questions a step; of a maze, where the maze is read once
MAZES, ASKED = 10_000, 1000  # of the fixed dataset; held-out ones at each look
WARMUP, MUON = 50, 2.0  # steps; times AdamW's rate
FIRST, EVERY = 1.0, 2**0.25  # minutes to the first look; and from one to the next, as a ratio
LEVELS = (0.7, 0.9)
Batch = tuple[torch.Tensor, torch.Tensor]
Looks = dict[float, dict[str, float]]  # by minutes: exact, steps


class Loop(NamedTuple):
    """How a loop is run: the minutes that it may take, and its learning rate, found by hand."""

    minutes: float
    rate: float


CLEW, PATH = "Clew", "plain rows, path-only loss"
FULL, THEIRS = "plain rows, whole-sequence loss", "maze-dataset, whole-sequence loss"
LOOPS = {CLEW: Loop(9.6, 1e-3), PATH: Loop(16.1, 1.4e-3), THEIRS: Loop(27.0, 1e-3), FULL: Loop(8.1, 1e-3)}


def trees(learner: Learner, seed: int) -> Iterator[None]:
    """Steps of Clew's: shared mazes, path-only loss."""
    world, mazes = MazeWorld(MazeConfig(sizes=[4], branches=BRANCHES), seed), ROWS // BRANCHES
    for step in count():
        batch = world.batch(range(mazes * step, mazes * (step + 1)))
        batch.weights_S.div_(batch.weights_S.sum())
        learner.update(batch)
        yield


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


def plain(learner: Learner, rows: Iterator[Batch]) -> Iterator[None]:
    """Steps of the usual loop; of the learner it has the optimizers alone."""
    model = learner.policy.model
    for tokens, labels in rows:
        loss = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), labels=labels).loss
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), learner.clip)
        for optimizer in learner.optimizers:
            optimizer.step()
        yield


def run(name: str, seed: int) -> Looks:
    """One run of a loop: at each look the share of held-out 4x4 mazes that it solves, and its steps."""
    torch.set_num_threads(1)
    loop = LOOPS[name]
    policy = Policy.build(maze_tokenizer(4), LAYERS, WIDTH, HEADS, seed)
    learner = Learner(policy, loop.rate / WARMUP, muon=0.0 if name == THEIRS else MUON)
    average = Average(policy)
    world = MazeWorld(MazeConfig(sizes=[4]))
    questions = list(held_out(world, ASKED))
    reasoner = Reasoner(SharedPrefixSampler(average.policy))
    if name == CLEW:
        steps = trees(learner, seed)
    else:
        steps = plain(learner, maze_dataset_rows(seed) if name == THEIRS else clew_rows(name == PATH, seed))
    next(steps)  # the fixed dataset is made, and kernels are there, before the clock starts
    looks: Looks = {}
    at, start = FIRST, time.monotonic()
    for step in count(1):
        learner.set_rate(learning_rate(loop.rate, step, WARMUP, 0.0, "constant"))
        next(steps)
        average.update()
        if (now := time.monotonic()) - start < 60 * at:
            continue
        exact = evaluate(world, reasoner, iter(questions), [], keep=0)[0]["exact"]["value"]
        looks[round(at, 1)] = {"exact": exact, "steps": step}
        at *= EVERY
        if exact >= LEVELS[-1] or at > loop.minutes:
            return looks
        start += time.monotonic() - now
    raise AssertionError("steps do not end")


def minutes_to(level: float, looks: Looks) -> float | None:
    """When a loop solves the share `level`, read off between two looks; None if it does not."""
    before = None
    for minutes, found in looks.items():
        if found["exact"] >= level:
            if before is None:
                return minutes
            part = (level - looks[before]["exact"]) / (found["exact"] - looks[before]["exact"])
            return before * (minutes / before) ** part
        before = minutes
    return None


def averaged(runs: dict[int, Looks]) -> Looks:
    """The mean over seeds; one that solved enough and went no further counts with what it reached."""
    looks_of = list(runs.values())
    times = sorted({at for looks in looks_of for at in looks})
    return {at: {"exact": fmean(looks[min(at, max(looks))]["exact"] for looks in looks_of)} for at in times}


def summary(results: dict[str, dict[int, Looks]]) -> list[str]:
    """Minutes to each level by loop, seed by seed and for the seeds' mean; how many times Clew's; every look."""
    seeds = list(results[CLEW])
    by = f"seeds {' / '.join(map(str, seeds))}"
    heads = [f"to {level:.0%}, {by} | their mean" for level in LEVELS]
    table = [f"| minutes | {' | '.join(heads)} | times Clew's to {LEVELS[0]:.0%}, {by} | their mean |"]
    table.append("|---" * (2 * len(LEVELS) + 3) + "|")
    ours = [at or LOOPS[CLEW].minutes for at in reached(LEVELS[0], results[CLEW])]
    for name, runs in results.items():
        longest, cells = max(max(looks) for looks in runs.values()), []
        for level in LEVELS:
            cells += pair([f"over {longest:g}" if at is None else f"{at:.1f}" for at in reached(level, runs)])
        first = zip(reached(LEVELS[0], runs), ours, strict=True)
        cells += pair([f"over {longest / own:.1f}" if at is None else f"{at / own:.1f}" for at, own in first])
        table.append(f"| {name} | {' | '.join(cells)} |")
    table += ["", f"| loop | minutes | steps | {' | '.join(f'exact, seed {seed}' for seed in seeds)} | mean |"]
    table.append("|---" * (len(seeds) + 4) + "|")
    for name, runs in results.items():
        for minutes in sorted({minutes for looks in runs.values() for minutes in looks}):
            there = [looks.get(minutes) for looks in runs.values()]
            exact = " | ".join("" if one is None else f"{one['exact']:.1%}" for one in there)
            steps, mean = (fmean(one[figure] for one in there if one) for figure in ("steps", "exact"))
            table.append(f"| {name} | {minutes:g} | {steps:,.0f} | {exact} | {mean:.1%} |")
    return table


def reached(level: float, runs: dict[int, Looks]) -> list[float | None]:
    """Minutes to a level: each seed's, and last their mean's."""
    return [minutes_to(level, looks) for looks in (*runs.values(), averaged(runs))]


def pair(told: list[str]) -> list[str]:
    """Two cells: the seeds', and their mean's."""
    return [" / ".join(told[:-1]), told[-1]]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, a thread each")
    args = parser.parse_args()
    torch.set_num_threads(1)
    file = args.out / "learning.json"
    kept = json.loads(file.read_text())["results"] if file.is_file() else {}

    def read(looks_of: dict[str, dict]) -> dict[int, Looks]:
        return {int(seed): {float(at): found for at, found in looks.items()} for seed, looks in looks_of.items()}

    results = {name: read(kept.get(name, {})) for name in LOOPS}
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as alone:
        missing = [(name, seed) for name in LOOPS for seed in args.seeds if seed not in results[name]]
        tasks = {alone.submit(run, name, seed): (name, seed) for name, seed in missing}
        for task in as_completed(tasks):
            name, seed = tasks[task]
            results[name][seed] = task.result()
            print(name, seed, results[name][seed], flush=True)
            write_json(file, {"results": results})
    results = {name: dict(sorted(runs.items())) for name, runs in results.items() if runs}
    plots.learning(results, LEVELS, args.out / "learning.png")
    keep("learning", args.out, results, summary(results), f"{ASKED} held-out mazes each.")


if __name__ == "__main__":
    main()
