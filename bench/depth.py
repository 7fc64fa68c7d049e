"""What limits a model of mazes: depth, data or time? Llamas of 2, 4, 6 and 8 layers on 4x4 and 5x5.

    clew bench depth                   # some 5.5 hours of CPU, on a slow machine; a run on each of two cores
    clew bench depth --sizes 3 --layers 1 2 --seeds 0 1 --steps 30 --questions 100 --out runs/quick --runs runs/quick

Each depth is trained twice: all for equal steps (--steps, 1,100), and for equal time, that is for as many steps as fit
into the CPU time that the deepest needs for those. What a step costs is measured once, before all runs, with one thread
and taking turns, and kept in RUNS/costs.json; a depth that is asked for later is measured beside the deepest, and put
down in proportion to what the file has of it. So a run is defined by its steps alone, whatever else the machine does
meanwhile, and its rate falls over its own second half. All are asked the same questions about held-out mazes.

Controls for the same steps. "data": the fewest layers with twice the mazes a step; that is twice the batch, so twice
the compute and less noise in the gradients as much as twice the data, and which of them helps it cannot tell.
"parameters": the fewest layers in such a width that they have about the parameters of the deepest, within 10%; left
out where no width of whole heads has. The deepest at half the rate, with the first seed alone: it enters no comparison,
but where it does clearly better, verdicts against the deepest say that it may be the rate.

Of finished runs bench/results/depth has what is reported, without the models, and the costs: so what one machine has
begun another ends.

The verdicts are about questions that need a lookahead of 3 and more. A finished run in --runs is not trained again, and
one that was interrupted goes on; one of other options is refused. A run that fails is told of at the end; the others
count.
"""

import sys
from argparse import Namespace
from concurrent.futures import as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import depth_report
import plots
from clew.cli import terminal
from clew.errors import InputError
from clew.mazes.lattice import MAX_SIZE
from clew.study.cells import process_pool, without_interrupts
from clew.text import one_line
from clew.train.config import TrainConfig, check_train
from depth_report import SizeResults
from depth_runs import (
    EQUAL_STEPS,
    EQUAL_TIME,
    Arm,
    Measured,
    arms,
    config_of,
    finished,
    folder,
    known,
    measured,
    read,
    refuse,
    trained,
)
from measure import keep, options, other_options

LAYERS = [2, 4, 6, 8]
SEEDS, STEPS, QUESTIONS = [0, 1, 2], 1100, 2000


def check(args: Namespace) -> None:
    """Ends with one line for options that cannot be used."""
    for name, least in (("steps", 1), ("questions", 1), ("workers", 1), ("repeats", 1)):
        refuse(getattr(args, name) < least, f"--{name}: {getattr(args, name)} is not at least {least}")
    for name, least in (("sizes", 3), ("seeds", 0), ("layers", 1)):
        values = getattr(args, name)
        refuse(len(set(values)) < len(values), f"--{name}: {' '.join(map(str, values))} names one of them twice")
        refuse(min(values) < least, f"--{name}: {min(values)} is not at least {least}")
    refuse(len(args.layers) < 2, f"--layers: {args.layers} is one depth; two at least are compared")
    refuse(max(args.sizes) > MAX_SIZE, f"--sizes: {max(args.sizes)} is not at most {MAX_SIZE}")
    for name in ("runs", "out"):
        given: Path = getattr(args, name)
        there = next(path for path in (given, *given.parents) if path.exists())
        refuse(not there.is_dir(), f"--{name}: {there} is no folder")


def planned(args: Namespace) -> list[SizeResults]:
    """What is to be trained, by size; costs are measured where they are not known, once all that is there already, of
    every size, can be used."""
    plan, file = [], args.runs / "costs.json"
    for size in args.sizes:
        costs = known(file, size, wanted(args, size))
        plan.append(SizeResults(size, wanted(args, size, costs), costs or {}, {}))
    configs(args, plan)
    for number, of in enumerate(plan):
        if not of.measured:
            costs = measured(file, of.size, of.arms, args.repeats)
            plan[number] = SizeResults(of.size, wanted(args, of.size, costs), costs, {})
    return plan


def wanted(args: Namespace, size: int, costs: Measured | None = None) -> list[Arm]:
    return arms(size, sorted(args.layers), tuple(args.seeds), args.steps, costs["models"] if costs else None)


def configs(args: Namespace, plan: list[SizeResults]) -> list[TrainConfig]:
    """All runs, seed by seed, so that whatever ends the bench leaves whole seeds. Ends with one line for a run that is
    there and was made, or begun, with other options."""
    found = []
    for seed in args.seeds:
        for of in plan:
            for arm in of.arms:
                out = folder(args.runs, of.size, arm, seed)
                if seed in arm.seeds:
                    found.append(config_of(out, of.size, arm, seed, args.questions))
    for config in found:
        check_train(config)
        out = Path(str(config.out))
        asked = {name: value for name, value in asdict(config).items() if name != "out"}
        if (out / "config.yaml").is_file() and (others := other_options(asked, out)):
            made = ", ".join(f"{name} {value}" for name, value in others.items())
            refuse(True, f"{out} was made with {made}, which is not asked for now; choose another --runs, or delete it")
    return found


def train_all(todo: list[TrainConfig], workers: int) -> dict[str, str]:
    """Trains side by side, and tells of each run as it ends. Returns why runs failed, by folder."""
    failed = {}
    if not todo:
        return failed
    with process_pool(min(workers, len(todo))) as pool:
        with without_interrupts():
            tasks = {pool.submit(trained, config): str(config.out) for config in todo}
        for number, task in enumerate(as_completed(tasks), 1):
            out = tasks[task]
            try:
                task.result()
                told = f"{100 * read(Path(out)).exact:.1f}% exact"
            except Exception as error:  # the others go on, and are reported
                told = failed[out] = f"{type(error).__name__}: {one_line(error)}"
            print(f"{number} of {len(todo)}: {out}: {told}", flush=True)
    return failed


def gathered(args: Namespace, plan: list[SizeResults]) -> list[SizeResults]:
    """The finished runs of each size; sizes without one are left out."""
    for of in plan:
        for arm in of.arms:
            outs = {seed: folder(args.runs, of.size, arm, seed) for seed in arm.seeds}
            of.found[arm] = {seed: read(out) for seed, out in outs.items() if finished(out)}
    return [of for of in plan if any(of.found.values())]


def report(args: Namespace, results: list[SizeResults], failed: dict[str, str]) -> None:
    """Verdicts, tables and a picture."""
    compared = depth_report.comparisons(results)
    lines = [*depth_report.verdicts(results, compared), "", *depth_report.about(args.questions)]
    for of in results:
        lines += ["", *depth_report.table(of)]
    lines += ["", "Differences:", "", *depth_report.differences(compared)]
    lines += ["", *(f"Failed: {Path(out).name}: {why}" for out, why in failed.items())] if failed else []
    plots.depth([panels(of) for of in results], args.out / "depth.png")
    kept: dict[str, Any] = {"failed": {Path(out).name: why for out, why in failed.items()}}
    for of in results:
        runs = [
            {"name": arm.name, **asdict(arm), "runs": {seed: asdict(one) for seed, one in by_seed.items()}}
            for arm, by_seed in of.found.items()
        ]
        kept[of.name] = {"measured": of.measured, "trained": runs}
    keep("depth", args.out, kept, lines)


def panels(of: SizeResults) -> dict[str, Any]:
    """What the picture shows of one size: by set and model the runs, with minutes of CPU for steps."""
    sets: dict[str, Any] = {}
    for kind in (EQUAL_STEPS, EQUAL_TIME):
        sets[kind] = {}
        for arm in of.of(kind):
            minutes = of.seconds(arm) / 60
            sets[kind][arm.name] = [
                {"curve": [(minutes * step, exact) for step, exact in one.looks], "asked": one.asked}
                | {"solved": one.solved, "walked": one.walked}
                for one in of.found[arm].values()
            ]
    return {"name": of.name, "sets": sets}


def main() -> None:
    parser = options(__doc__, repeats=15)
    parser.add_argument("--sizes", type=int, nargs="+", default=[4, 5], help="sides of mazes")
    parser.add_argument("--layers", type=int, nargs="+", default=LAYERS, help="depths to compare")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--steps", type=int, default=STEPS, help="equal steps; of the deepest, for equal time too")
    parser.add_argument("--questions", type=int, default=QUESTIONS, help="about held-out mazes, at a run's end")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, a thread each")
    parser.add_argument("--runs", type=Path, default=Path("bench/results/depth"), help="where the runs go")
    args = parser.parse_args()
    check(args)
    torch.set_num_threads(1)
    terminal.quiet()
    try:
        plan = planned(args)
        runs = configs(args, plan)
    except InputError as error:
        refuse(True, str(error))
        raise  # never: for readers of types
    todo = [config for config in runs if not finished(Path(str(config.out)))]
    hours = sum(len(arm.seeds) * arm.steps * of.seconds(arm) for of in plan for arm in of.arms) / 3600
    print(f"{len(runs)} runs, {hours:.1f} hours of CPU to train all; {len(runs) - len(todo)} are there", flush=True)
    failed = train_all(todo, args.workers)
    results = gathered(args, plan)
    if results:
        report(args, results, failed)
    for out, why in failed.items():
        print(f"failed: {out}: {why}", file=sys.stderr)
    refuse(failed, f"{len(failed)} of {len(runs)} runs failed; the same command tries them again", code=1)


if __name__ == "__main__":
    main()
