"""Is depth the ceiling? Llamas of more and fewer layers on 4x4 and 5x5 mazes, for equal time and for equal steps.

    clew bench depth                   # some 1.8 hours on two cores: two runs at a time, a thread each
    clew bench depth --minutes 0.2 --layers 2 4 --seeds 0 --sizes 3 --out runs/quick --runs runs/quick     # a look

All models have width 64 and two heads, and train as `clew train` does: path-only loss, 16 mazes of 4 questions a step,
Muon, a constant rate. The model is the running average of the weights, finished at every moment, so that one run gives
the curve over time and over steps: every 100 steps it is asked 200 held-out mazes, and 1,000 others at its end, which
is the last point of its curve and the one that is told by lookahead. The minutes of tables and pictures are those of
training alone; the minutes that a run may take, --minutes, count its looks too, a few percent.

Between two looks the curve is straight. Equal time and equal steps are as far as every run of a size came. A finished
run in --runs is not trained again, and goes on where more minutes are asked; one that was interrupted is resumed.
"""

import json
from argparse import Namespace
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

import plots
from clew.cli import terminal
from clew.config import MazeConfig, ModelConfig, OptimizerConfig
from clew.mazes.world import MazeWorld
from clew.policy import Policy
from clew.runs.intervals import merged, ranges_of
from clew.runs.metrics import read_metrics
from clew.runs.options import read_yaml
from clew.train.config import TrainConfig
from clew.train.supervised import train
from measure import keep, options

WIDTH, HEADS, RATE = 64, 2, 2e-3
MAZES, BRANCHES = 16, 4  # a step; questions of each
EVERY, LOOK, ASKED = 100, 200, 1000  # steps between looks; held-out mazes of a look, and of the end
RANGES = 8  # of lookaheads, in the table
Run = dict[str, Any]  # parameters, exact, looks: [{step, minutes, exact}], by_lookahead, baseline_by_lookahead
Runs = dict[int, dict[int, Run]]  # of one size, by layers and seed


def folder(runs: Path, size: int, layers: int, seed: int) -> Path:
    return runs / f"{size}x{size}-layers-{layers}-seed-{seed}"


def minutes_for(args: Namespace, size: int) -> float:
    """The minutes that a run may take: larger mazes are learned later."""
    return args.minutes or (6.0 if size <= 4 else 10.0)


def trained(out: Path, size: int, layers: int, seed: int, minutes: float) -> None:
    """A finished run in `out`: from earlier, gone on with, or new."""
    torch.set_num_threads(1)
    terminal.quiet()
    begun = read_yaml(out / "config.yaml")["minutes"] if (out / "config.yaml").is_file() else None
    if begun and begun > minutes:
        raise SystemExit(f"{out} was trained for {begun:g} minutes, more than {minutes:g}; choose another --runs")
    if begun == minutes and (out / "eval.json").is_file():
        return
    (out / "eval.json").unlink(missing_ok=True)  # of fewer minutes: it would make an interrupted run look finished
    config = TrainConfig(
        mazes=MazeConfig(sizes=[size], branches=BRANCHES),
        model=ModelConfig(layers=layers, width=WIDTH, heads=HEADS),
        optimizer=OptimizerConfig("muon", lr=RATE, schedule="constant"),
        average=True,
        per_step=MAZES,
        minutes=minutes,
        validate_every=EVERY,
        validation_questions=LOOK,
        final_questions=ASKED,
        seed=seed,
        device="cpu",
        out=str(out),
    )
    MazeWorld(config.mazes).batch([0])  # kernels are there before the clock starts
    train(config, resume=begun is not None)


def read(out: Path) -> Run:
    """What a finished run's folder says of it."""
    looks, step, seconds = [], 0, 0.0
    for line in read_metrics(out / "metrics.jsonl"):
        seconds += MAZES * (line["step"] - step) / line["items_per_second"]  # of training alone
        step = line["step"]
        if "held_out_exact" in line:
            looks.append({"step": step, "minutes": seconds / 60, "exact": line["held_out_exact"]})
    end = json.loads((out / "eval.json").read_text())
    last = {"step": step, "minutes": seconds / 60, "exact": end["exact"]["value"]}
    groups = {name: end[name] for name in ("by_lookahead", "baseline_by_lookahead")}
    found = {name: {at: _few(one) for at, one in some.items()} for name, some in groups.items()}
    parameters = Policy.load(out).model.num_parameters()
    return {"parameters": parameters, "exact": end["exact"], "looks": [*looks, last]} | found


def _few(group: dict[str, Any]) -> dict[str, Any]:
    return {name: group[name] for name in ("questions", "exact")}


def exact_at(run: Run, axis: str, point: float) -> float:
    """The share of held-out mazes that a run solved after so many minutes, or at a step."""
    return float(np.interp(point, [look[axis] for look in run["looks"]], [look["exact"] for look in run["looks"]]))


def reached(runs: Runs, axis: str) -> float:
    """How far every run of a size came."""
    return min(run["looks"][-1][axis] for by_seed in runs.values() for run in by_seed.values())


def pair(values: list[float]) -> str:
    """Two cells: shares seed by seed, and their mean."""
    return f"{' / '.join(f'{100 * value:.1f}' for value in values)} | {100 * fmean(values):.1f}"


def summary(results: dict[str, Runs]) -> list[str]:
    """Equal time, equal steps and the end by layers; and the end by lookahead."""
    lines = []
    for size, runs in results.items():
        minutes, steps = reached(runs, "minutes"), reached(runs, "step")
        seeds = " / ".join(map(str, next(iter(runs.values()))))
        heads = [f"after {minutes:.1f} minutes", f"after {steps:,.0f} steps", f"at the end, {ASKED} mazes"]
        lines += ["", f"{size} mazes, exact held-out paths in percent, seeds {seeds}:", ""]
        lines.append(f"| layers | parameters | steps a minute | {' | mean | '.join(heads)} | mean | steps |")
        lines.append("|---" * 10 + "|")
        for layers, by_seed in runs.items():
            found = list(by_seed.values())
            ends = [run["looks"][-1] for run in found]
            speed = fmean(end["step"] / end["minutes"] for end in ends)
            cells = [pair([exact_at(run, "minutes", minutes) for run in found])]
            cells += [pair([exact_at(run, "step", steps) for run in found]), pair([end["exact"] for end in ends])]
            told = f"{found[0]['parameters']:,} | {speed:,.0f} | {' | '.join(cells)}"
            lines.append(f"| {layers} | {told} | {fmean(end['step'] for end in ends):,.0f} |")
        lines += ["", f"{size} mazes, by lookahead at the end, mean over seeds:", "", *by_lookahead(runs)]
    return lines[1:]


def by_lookahead(runs: Runs) -> list[str]:
    """Exact paths by ranges of lookahead: a column a depth, and the random walk on the same mazes."""
    walks = next(iter(next(iter(runs.values())).values()))["baseline_by_lookahead"]
    ranges = ranges_of(walks, RANGES)  # all runs are asked the same mazes
    walked = merged(walks, ranges)
    lines = [f"| lookahead | mazes | {' | '.join(f'{layers} layers' for layers in runs)} | random walk |"]
    lines.append("|---" * (len(runs) + 3) + "|")
    ends = [[merged(run["by_lookahead"], ranges) for run in by_seed.values()] for by_seed in runs.values()]
    for name, walk in walked.items():
        means = [fmean(end[name]["exact"]["value"] for end in of_depth) for of_depth in ends]
        shares = " | ".join(f"{100 * share:.1f}" for share in (*means, walk["exact"]["value"]))
        lines.append(f"| {name} | {walk['questions']} | {shares} |")
    return lines


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[4, 5], help="sides of mazes")
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 4, 6, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, help="of each run; by default 6 up to 4x4 and 10 beyond")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, a thread each")
    parser.add_argument("--runs", type=Path, default=Path("runs/depth"), help="where the runs go")
    args = parser.parse_args()
    torch.set_num_threads(1)
    terminal.quiet()
    asked = [(size, layers, seed) for seed in args.seeds for size in args.sizes for layers in args.layers]
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as alone:
        tasks = {}
        for one in asked:
            out = folder(args.runs, *one)
            tasks[alone.submit(trained, out, *one, minutes_for(args, one[0]))] = out
        for task in as_completed(tasks):
            task.result()
            print(tasks[task], read(tasks[task])["looks"][-1], flush=True)
    results = {
        f"{size}x{size}": {
            layers: {seed: read(folder(args.runs, size, layers, seed)) for seed in args.seeds} for layers in args.layers
        }
        for size in args.sizes
    }
    plots.depth(results, args.out / "depth.png")
    about = f"Width {WIDTH}, {HEADS} heads, {MAZES} mazes of {BRANCHES} questions a step."
    keep("depth", args.out, results, summary(results), about)


if __name__ == "__main__":
    main()
