"""The grid: warm starts first, then a learning rate for each kind of policies, then every arm with every seed."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from clew.config import check_positive, check_values
from clew.errors import InputError
from clew.runs.options import write_config
from clew.study.cells import Engine, Job, Kept, Result, joined, path_of, read, run_cells, write_results
from clew.study.spillover import starts
from clew.study.spillover.arms import MAIN, PARTS, POLICIES, Arm, Policies, Start, arms
from clew.study.spillover.runs import SpilloverCell, split_config

Part = Literal["remedies", "paraphrasers", "style", "length", "rates"]
Missing = Literal["run", "leave"]
AUDITED = 10  # questions of an audit at the least
TUNING = 1000  # seeds from here on choose learning rates, and no result uses them


@dataclass
class SpilloverConfig:
    """The experiment on mazes with a secret door: does pressure on answers leak into thoughts?"""

    parts: list[Part] = field(default_factory=lambda: list(PARTS))  # type: ignore[arg-type]
    """remedies: the published grid; paraphrasers, style, length, rates: what is asked beyond it"""
    penalties: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])
    """lambda: what an answer that mentions the door loses, beside the controls without"""
    size: tuple[int, int] = (3, 4)
    """rows and columns of a maze"""
    layers: int = 3
    """layers of the model"""
    width: int = 96
    """hidden size"""
    heads: int = 4
    """attention heads"""
    rank: int = 8
    """LoRA rank, for the arms of two adapters"""
    steps: int = 1500
    """steps of imitation before all rounds"""
    next_steps: int = 200
    """more steps, for answers in a style of their own and for thoughts that are a path"""
    per_step: int = 8
    """mazes a step"""
    branches: int = 8
    """questions of each maze"""
    imitation_lr: float = 2e-3
    """learning rate of the imitation, of Muon"""
    rounds: int = 50
    """rounds of a run"""
    questions: int = 32
    """questions a round"""
    thoughts: int = 8
    """thoughts a question (n)"""
    answers: int = 1
    """answers a thought (k)"""
    rule: str = "group"
    """credit rule; group is what GRPO-like trainers do"""
    max_thought: int = 40
    """most tokens of a thought that is a search"""
    max_path: int = 12
    """most tokens of a thought that is a path"""
    lrs: list[float] = field(default_factory=lambda: [3e-5, 1e-4, 3e-4])
    """learning rates that each kind of policies may choose from"""
    seeds: int = 5
    """runs of a result"""
    tune_seeds: int = 1
    """runs, with seeds of their own, of a choice"""
    final_questions: int = 500
    """held-out questions at the end of a run"""
    audit_questions: int = 40
    """held-out questions of an audit of each run, as of clew audit; 0 for none"""
    missing: Missing = "run"
    """run: runs the cells that are not there yet; leave: runs nothing, and reports of the arms and seeds that are"""
    engine: Engine = "local"
    """local: this machine's cores; ray: a Ray cluster that shares this folder"""
    workers: int | None = None
    """processes of one thread each, by default one a core"""
    out: str = "runs/spillover"
    """folder of the study"""


# Options that define a cell; the others say which cells there are, and who runs them.
SHARED = (*starts.DEFINING, "rank", "rounds", "questions", "thoughts", "answers", "rule", "audit_questions")
Report = Callable[[str, int, int], None]


def world_of_runs(config: SpilloverConfig) -> dict[str, Any]:
    """What all runs share, as plain values."""
    return {name: getattr(config, name) for name in SHARED} | {"size": list(config.size)}


def study(config: SpilloverConfig, report: Report = lambda phase, done, count: None) -> list[Result]:
    """Runs what is not yet in `config.out`; a Result an arm, its seeds as replicas, and one for each kind of start.

    With `missing="leave"` nothing is run: a seed that an arm lacks is NaN, and an arm without seeds is left out.
    """
    check(config)
    folder, declared = Path(config.out), arms(config.parts, config.penalties)
    shared = world_of_runs(config)

    def runs(phase: str, jobs: list[Job]) -> Sequence[Kept | None]:
        if config.missing == "leave":
            return [read(path) if (path := path_of(folder, job)).is_file() else None for job in jobs]
        return run_cells(jobs, folder, config.engine, config.workers, lambda *at: report(phase, *at))

    def begun(
        kinds: Sequence[Start], seeds: Sequence[int], cells: list[SpilloverCell], at: str = ""
    ) -> list[Kept | None]:
        """The warm starts of these seeds, on which cells build; all of a kind together."""
        for job in _lost(folder, shared, kinds, seeds, cells) if config.missing == "run" else ():
            path_of(folder, job).unlink(missing_ok=True)  # so it is run again
        of_kinds = ((kind, [starts.job_of(shared, seed, kind) for seed in seeds]) for kind in kinds)
        return [one for kind, jobs in of_kinds for one in runs(f"{at}warm starts ({kind})", jobs)]

    tried = _tried(config, shared)
    begun(["search"], _tuning(config), tried)
    rates = _rates(config, runs("choosing learning rates", [cell.job() for cell in tried]))
    kinds: list[Start] = ["search", *sorted({arm.start for arm in declared} - {"search"})]  # type: ignore[list-item]
    by_seed: list[list[Kept | None]] = []
    for seeds in _side_by_side(config):
        cells = {
            seed: [SpilloverCell(shared, arm, rates[arm.rate_of or arm.policies], seed) for arm in declared]
            for seed in seeds
        }
        first = begun(kinds, seeds, [cell for some in cells.values() for cell in some], f"{_said(seeds)}: ")
        for place, seed in enumerate(seeds):  # one after another: whatever ends the grid, the seeds before are whole
            made = runs(f"seed {seed}: results", [cell.job() for cell in cells[seed]])
            by_seed.append([*first[place :: len(seeds)], *made])
    named: list[tuple[str, dict[str, Any], str]] = [("start", {"start": kind}, f"warm start, {kind}") for kind in kinds]
    named += [("arm", asdict(arm), arm.named()) for arm in declared]
    results = _results(named, list(zip(*by_seed, strict=True)))
    write_config(folder / "spillover.yaml", replace(config, missing="run"))  # that of the whole grid
    write_results(folder / "spillover.parquet", asdict(config), results)
    return results


def _side_by_side(config: SpilloverConfig) -> list[range]:
    """The seeds in groups of as many as there are workers: a seed has one warm start to begin with, and while one
    worker makes it the others can make those of other seeds."""
    count = config.workers or os.cpu_count() or 1
    return [range(first, min(first + count, config.seeds)) for first in range(0, config.seeds, count)]


def _said(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"


def _results(named: Sequence[tuple[str, dict[str, Any], str]], by_arm: Sequence[Sequence[Kept | None]]) -> list[Result]:
    """A Result for each name of which some seed is there. All have the same figures, NaN where a cell has none (an
    audit may find nothing to measure) or is not there."""
    there = [one for kept in by_arm for one in kept if one is not None]
    names = list(dict.fromkeys(name for one in there for name in one.figures))
    nothing = np.array([np.nan])

    def filled(one: Kept | None, like: Kept) -> Kept:
        known = one.figures if one else {}
        curve = one.curve if one else [float("nan")] * len(like.curve)
        return replace(like, figures={name: known.get(name, nothing) for name in names}, curve=curve)

    results = []
    for name, kept in zip(named, by_arm, strict=True):
        like = next((one for one in kept if one is not None), None)
        if like is not None:
            results.append(Result(*name, joined([filled(one, like) for one in kept])))
    if not any(one.section == "arm" for one in results):
        raise InputError("missing: leave: no run of any arm is there yet; expected some (missing: run makes them)")
    return results


def _lost(
    folder: Path, shared: dict[str, Any], kinds: Sequence[Start], seeds: Sequence[int], cells: list[SpilloverCell]
) -> list[Job]:
    """The warm starts whose model is wanted, by a run that is yet to be made or by a start that is, and is not there.
    Where all runs of a seed are kept, its models may be gone."""

    def job(seed: int, kind: Start) -> Job:
        return starts.job_of(shared, seed, kind)

    wanted = [job(cell.seed, cell.arm.start) for cell in cells if not path_of(folder, cell.job()).is_file()]
    known = [job(seed, kind) for seed in seeds for kind in kinds]
    made = [one for one in [*wanted, *known] if not starts.folder_of(folder, one).is_dir()]
    made = [one for one in made if one in wanted or not path_of(folder, one).is_file()]
    first = [job(values["seed"], "search") for _, values in made]  # where the others begin
    return made + [one for one in first if not starts.folder_of(folder, one).is_dir()]


def _tuning(config: SpilloverConfig) -> range:
    return range(TUNING, TUNING + config.tune_seeds)


def _tried(config: SpilloverConfig, shared: dict[str, Any]) -> list[SpilloverCell]:
    """The runs by which learning rates are chosen: both hear of the penalty, on seeds that no result uses."""
    every = product(POLICIES, config.lrs, _tuning(config))
    return [SpilloverCell(shared, Arm(policies, penalty=MAIN), lr, seed) for policies, lr, seed in every]


def _rates(config: SpilloverConfig, kept: Sequence[Kept | None]) -> dict[Policies, float]:
    """The learning rate of each kind of policies: the one with the highest reward, as training hears it, in the runs of
    `_tried`. All arms of that kind use it, controls too. InputError where one of these runs is not there."""
    tried = [one for one in kept if one is not None]
    if len(tried) < len(kept):
        raise InputError(
            f"missing: leave: {config.out} has {len(tried)} of the {len(kept)} runs that choose learning rates; "
            "expected all of them (missing: run makes the others)"
        )
    done = iter(tried)
    rates: dict[Policies, float] = {}
    for policies in POLICIES:
        rewards = [np.mean([next(done).figures["reward"] for _ in _tuning(config)]) for _ in config.lrs]
        rates[policies] = config.lrs[int(np.argmax(rewards))]
    return rates


def check(config: SpilloverConfig) -> None:
    """InputError for a study that cannot be run."""
    check_values(config)
    counts = [name for name in SHARED if name not in ("size", "rule", "audit_questions")]
    check_positive(config, *counts, "seeds", "tune_seeds", "workers")
    for name in ("lrs", "penalties"):
        values = getattr(config, name)
        if not values or min(values) <= 0:
            raise InputError(f"{name}: {values} is not a list of numbers above 0")
    if MAIN not in config.penalties:
        raise InputError(f"penalties: {config.penalties} lack {MAIN:g}, at which remedies are compared")
    if config.seeds < 2:
        raise InputError(f"seeds: {config.seeds} have no interval; expected 2 or more")
    if not config.parts:
        raise InputError(f"parts: the list is empty; expected some of {', '.join(PARTS)}")
    if config.audit_questions and config.audit_questions < AUDITED:
        raise InputError(f"audit_questions: {config.audit_questions} are too few; expected {AUDITED} or more, or 0")
    _check_runs(config)


def _check_runs(config: SpilloverConfig) -> None:
    """InputError for runs that cannot be: a rule, a model or mazes that are not there."""
    from clew.policy import Policy
    from clew.train.checks import check_splitting
    from clew.train.config import check_split
    from clew.train.crediting import rule_of
    from clew.world import world_of

    shared = world_of_runs(config)
    begin = starts.split_config(starts.StartCell(shared, 0), Path(config.out), config.out)
    rounds = split_config(SpilloverCell(shared, Arm(), config.lrs[0], 0), Path(config.out), config.out)
    for one in (begin, rounds):
        check_split(one)
    rule_of(rounds)
    world = world_of(begin, 0)
    if missing := world.not_evaluated():
        raise InputError(f"size: {missing}")
    world.held_out(range(4))
    Policy.build(world.tokenizer, 1, config.width, config.heads)  # refuses widths that heads cannot share
    check_splitting(begin, world)
