"""Does pressure on answers leak into thoughts? Sums with a wrong hint, on a real language model, two seeds.

    make language                                        # once: SmolLM2-135M-Instruct
    clew bench hints --workers 2                         # about five hours of two cores; a killed one goes on
    clew bench hints --pilot                             # the learning rate alone
    clew bench hints --arm one --arm control --seeds 1   # two arms of the first seed, and the table of what there is
    clew bench hints --rounds 4 --warm-steps 4 --questions 20 --lr 1e-4 --runs runs/quick --out runs/quick   # a look

The score is for agreeing with the friend who gave the hint; a penalty of weight 2 falls on answers that name him, each
credited by itself; a monitor sees whether thoughts do (examples/language/hints.py). Each seed has a warm start of its
own, from which all arms take as many rounds of as many thoughts and answers, on the same questions: the four published
remedies and a paraphraser, with a control for each kind of policies. Then each is asked held-out questions, with one
sampled thought and one answer each: what is compared is how many thoughts name him, of those whose answer agrees.

A run is the unit: verdicts come of differences between runs, over seeds (hints_report.py). One takes about 28 minutes
of one thread with one policy, 39 with two, and no run takes more than one thread. What each came to is a cell,
OUT/hints/cells/seed-S-ARM.json; that is all the table needs, and a finished cell is never run again, whatever became of
--runs. Runs go seed by seed in the order of ARMS, so that whatever ends them leaves arms with their controls. The rate
is the first of RATES at which a short pilot, on a seed that no result uses, learns the penalty; if none, the last.
"""

import re
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from clew.errors import InputError
from clew.study.spillover.measuring import one_thread
from hints_cells import Cell, Job, check_job, check_run, made, read_cell, refuse, resolved
from hints_report import ARMS, about, learned, pilot_lines, report
from measure import EXAMPLES, keep, options, run

RATES = (1e-4, 3e-4)
PILOT_SEED, PILOT_ROUNDS, PILOT_ARMS = 1000, 12, ("one", "two")


def start_args(args: Namespace, seed: int) -> tuple[str, ...]:
    """What `clew split` is told for the warm start of a seed."""
    more = ["--model.folder", args.model] if args.model else []
    more += ["--warm-start.steps", str(args.warm_steps)] if args.warm_steps else []
    return ("--config", str(EXAMPLES / "hints-start.yaml"), "--seed", str(seed), *more)


def job_of(args: Namespace, seed: int, arm: str, lr: float, pilot: bool = False) -> Job:
    """One run. A pilot's is shorter, is asked nothing behind it, and has its rate in its name."""
    start = args.runs / f"seed-{seed}" / "start"
    name = f"pilot-{arm}-lr-{lr:g}" if pilot else f"seed-{seed}-{arm}"
    given = [value for file in ("hints", f"hints-{arm}") for value in ("--config", str(EXAMPLES / f"{file}.yaml"))]
    given += ["--model.folder", str(start / "warm"), "--seed", str(seed), "--optimizer.lr", str(lr)]
    rounds = min(args.rounds or PILOT_ROUNDS, PILOT_ROUNDS) if pilot else args.rounds
    given += ["--rounds", str(rounds)] if rounds else []
    out = args.runs / f"seed-{seed}" / (name if pilot else arm)
    return Job(
        name, arm, seed, start, out, tuple(given), resolved(start_args(args, seed)), 0 if pilot else args.questions
    )


def begin(args: Namespace, seeds: Iterable[int]) -> dict[str, str]:
    """Makes the warm starts that are not there yet. Returns what failed, in words."""

    def one(seed: int) -> None:
        run(args.runs / f"seed-{seed}" / "start", "split", *start_args(args, seed), threads=1)

    names = {f"seed-{seed}-start": seed for seed in dict.fromkeys(seeds)}
    for seed in names.values():
        check_run(args.runs / f"seed-{seed}" / "start", resolved(start_args(args, seed)))
    return attempted({name: lambda seed=seed: one(seed) for name, seed in names.items()}, args.workers)


def carry_out(args: Namespace, jobs: Sequence[Job]) -> dict[str, str]:
    """Runs what has no cell yet, `args.workers` of them side by side, in their order. What fails is returned, in words,
    and stops nothing else."""
    for job in jobs:
        check_job(args.cells, job)
    left = [job for job in jobs if read_cell(args.cells, job) is None]
    print(f"{len(jobs) - len(left)} of {len(jobs)} runs are kept in {args.cells}; {len(left)} to go", flush=True)
    failed = begin(args, (job.seed for job in left))
    left = [job for job in left if f"seed-{job.seed}-start" not in failed]
    return failed | attempted({job.name: lambda job=job: made(args.cells, job, run) for job in left}, args.workers)


def attempted(tasks: dict[str, Callable[[], Any]], workers: int) -> dict[str, str]:
    """Does all tasks, and returns why some failed."""

    def one(task: Callable[[], Any]) -> str | None:
        try:
            task()
        except CalledProcessError as error:
            return f"clew split ended with {error.returncode}, and has said why"
        except (InputError, OSError, SystemExit) as error:
            return str(error)
        except Exception as error:  # a bug: told in full here, and in a line at the end
            traceback.print_exc()
            return f"{type(error).__name__}: {error}"
        return None

    with ThreadPoolExecutor(workers) as pool:
        done = dict(zip(tasks, pool.map(one, tasks.values()), strict=True))
    return {name: why for name, why in done.items() if why is not None}


def piloted(args: Namespace) -> tuple[float, dict[float, list[Cell]]]:
    """The learning rate: the smallest at which both arms of the pilot learn the penalty, else the largest. Larger ones
    than that are not tried. With the pilot's cells by rate."""
    tried: dict[float, list[Cell]] = {}
    for lr in RATES:
        jobs = [job_of(args, PILOT_SEED, arm, lr, pilot=True) for arm in PILOT_ARMS]
        failed = carry_out(args, jobs)
        refuse(failed, f"the pilot failed, and without it there is no learning rate: {told(failed)}", code=1)
        tried[lr] = [made(args.cells, job, run) for job in jobs]
        if all(map(learned, tried[lr])):
            break
    return lr, tried


def told(failed: dict[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in failed.items())


def cells_of(args: Namespace, lr: float) -> list[Cell]:
    """All finished cells of the asked-for seeds, and of others that are there, in the order of seeds and arms."""
    there = {int(found[1]) for file in args.cells.glob("seed-*.json") if (found := re.match(r"seed-(\d+)-", file.name))}
    jobs = [job_of(args, seed, arm, lr) for seed in sorted(there | set(range(args.seeds))) for arm in ARMS]
    return [cell for job in jobs if (cell := read_cell(args.cells, job)) is not None]


def parsed() -> Namespace:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, help="rounds an arm, other than hints.yaml's")
    parser.add_argument("--warm-steps", type=int, help="steps of imitation, other than hints-start.yaml's")
    parser.add_argument("--questions", type=int, default=300, help="held-out questions that each run is asked")
    parser.add_argument("--seeds", type=int, default=2, help="seeds, each with a warm start of its own")
    parser.add_argument("--workers", type=int, default=1, help="runs side by side, one thread each")
    parser.add_argument("--arm", choices=ARMS, action="append", help="run this one alone; may be repeated")
    parser.add_argument("--lr", type=float, help="learning rate of all arms, in place of the pilot's choice")
    parser.add_argument("--pilot", action="store_true", help="only the pilot that chooses the learning rate")
    parser.add_argument("--model", help="a model folder, other than SmolLM2's")
    parser.add_argument("--runs", type=Path, default=Path("runs/hints"), help="where the runs go")
    args = parser.parse_args()
    for name in ("rounds", "warm_steps", "questions", "seeds", "workers", "lr"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            parser.error(f"--{name.replace('_', '-')}: {value} is not more than 0")
    if args.pilot and (args.lr or args.arm):
        parser.error("--pilot: chooses the learning rate by its own arms; leave out --lr and --arm")
    args.cells = args.out / "hints" / "cells"
    return args


def main() -> None:
    args = parsed()
    # Before this folder, where a bench has the name of the world that it asks.
    sys.path.insert(0, str(EXAMPLES.resolve()))
    one_thread()
    try:
        bench(args)
    except InputError as error:
        refuse(True, str(error))


def bench(args: Namespace) -> None:
    """The pilot, the arms and the table."""
    lr, tried = (args.lr, {}) if args.lr else piloted(args)
    chosen = pilot_lines(lr, tried)
    if args.pilot:
        print("\n".join(chosen))
        return
    cells_of(args, lr)  # what other options made is refused before any work
    arms = [arm for arm in ARMS if not args.arm or arm in args.arm]
    failed = carry_out(args, [job_of(args, seed, arm, lr) for seed in range(args.seeds) for arm in arms])
    if cells := cells_of(args, lr):
        found, lines = report(cells)
        pilot = {f"{rate:g}": [one["curves"] for one in some] for rate, some in tried.items()}
        results = {"lr": lr, "pilot": pilot, "contrasts": found, "cells": cells}
        keep("hints", args.out, results, chosen + lines, about(cells))
    refuse(failed, f"failed, and can be tried again by the same command: {told(failed)}", code=1)


if __name__ == "__main__":
    main()
