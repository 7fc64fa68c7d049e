"""The declared grid: which rules meet in which worlds at which price, and what each may tune before it is compared.

Every arm of the study is tuned on tables that no result uses: its best step size and, where the rule has one, its best
share of kept samples. Then it runs once more, on tables that all arms share.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from clew.config import check_positive, check_values
from clew.errors import InputError
from clew.memory import check_memory
from clew.runs.options import write_config
from clew.study import tabular
from clew.study.cells import Engine, Job, Kept, Result, run_cells, write_results
from clew.study.tabular import Cell


@dataclass
class TabularConfig:
    """The tabular study: a grid of worlds and prices, and what each rule may choose from."""

    world: tabular.World = field(default_factory=tabular.World)
    """questions, thoughts and answers of a table, and its spreads"""
    noise_ratios: list[float] = field(default_factory=lambda: [0.25, 1.0, 4.0, 16.0])
    """variance between the answers of a thought over the variance between thoughts, in logits"""
    cost_ratios: list[float] = field(default_factory=lambda: [1.0, 4.0, 16.0])
    """what a thought costs, in answers"""
    answers: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16])
    """k: answers to a thought, in the grid of denoising against more thoughts"""
    round_cost: float = 96.0
    """what a round may cost a question where a thought costs 4 answers; other prices buy as much of both"""
    rounds: int = 20
    """rounds at that price; the whole cost of training follows"""
    lrs: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
    """step sizes that each rule may choose from"""
    keeps: list[float] = field(default_factory=lambda: [0.03125, 0.0625, 0.125, 0.25, 0.5])
    """shares of kept samples that each rule which keeps any may choose from"""
    replicas: int = 2000
    """independent tables of a result"""
    tune_replicas: int = 150
    """independent tables, others, of a choice"""
    seed: int = 0
    """of tables and dice"""
    engine: Engine = "local"
    """local: this machine's cores; ray: a Ray cluster, that of RAY_ADDRESS or one on this machine"""
    workers: int | None = None
    """processes, by default one a core"""
    out: str = "runs/study"
    """folder of the study"""


@dataclass(frozen=True)
class Contender:
    """A rule as it enters the comparison."""

    rule: str
    options: dict[str, Any]
    k: int = 8
    keeps: bool = True
    """whether it has a share of kept samples to choose"""


DENOISED = Contender("denoised", {"top": 3, "answers": "kept"})
CONTENDERS = {
    "basic, k=1": Contender("basic", {}, k=1),
    "basic": Contender("basic", {}),
    "top 1": Contender("denoised", {"top": 1, "answers": "best"}),
    "top 3": Contender("denoised", {"top": 3, "answers": "best"}),
    "mean": Contender("denoised", {"top": None, "answers": "best"}),
    "top 3, face from anywhere": Contender("denoised", {"top": 3, "answers": "anywhere"}),
    "top 3, face from all kept": DENOISED,
    "best alone": Contender("denoised", {"top": 3, "answers": "best", "keep": 0.01}, keeps=False),
    "best against worst": Contender("contrastive", {"top": 3}, keeps=False),
    "advantage": Contender("advantage", {}, keeps=False),
}
EARLY = ("basic", "top 1", "top 3", "mean")  # are compared early in training too, at what is best for them there
PRESSURE = 0.25  # the share kept where selection pressure is matched


@dataclass(frozen=True)
class Arm:
    """One contender under one condition: a cell but for what is tuned."""

    section: str
    condition: dict[str, Any]
    name: str
    cell: Cell
    keeps: tuple[float | None, ...]
    figure: str = "gained"
    """what its choices are judged by"""

    def tuned(self, config: TabularConfig) -> list[Cell]:
        """All that it may choose from, on tables of their own."""
        return [
            replace(with_keep(self.cell, keep), lr=lr, replicas=config.tune_replicas, seed=config.seed + 1)
            for lr, keep in product(config.lrs, self.keeps)
        ]


def with_keep(cell: Cell, keep: float | None) -> Cell:
    return cell if keep is None else replace(cell, options={**cell.options, "keep": keep})


def arms(config: TabularConfig) -> list[Arm]:
    """The whole study: one arm for each contender under each condition."""
    made: list[Arm] = []

    def arm(
        section: str, condition: dict, name: str, contender: Contender, noise: float, cost=4.0, scale=1.0, **world: Any
    ) -> None:
        spread = config.world.thought_spread * noise**0.5
        # Where thoughts cost more a round buys as many thoughts and answers: as much as eight answers to each.
        price = config.round_cost * (cost + 8) / 12
        tables = replace(config.world, answer_spread=spread, **world)
        cell = Cell(tables, contender.rule, contender.options, contender.k, cost, price * scale, price * config.rounds)
        cell = replace(cell, replicas=config.replicas, seed=config.seed)
        # Shares that round to the same numbers of thoughts and answers are one choice.
        n, k = cell.thoughts(), cell.answers
        of = (n * k,) if cell.rule == "basic" else (n, k)
        keeps = [PRESSURE] if section == "pressure" else config.keeps
        counts = {tuple(max(1, round(keep * one)) for one in of): keep for keep in keeps}
        figure = "early" if section == "early" else "gained"
        made.append(Arm(section, condition, name, cell, tuple(counts.values()) if contender.keeps else (None,), figure))

    for noise, cost, k in product(config.noise_ratios, config.cost_ratios, config.answers):
        arm("allocation", {"noise": noise, "cost": cost}, f"k={k}", replace(DENOISED, k=k), noise, cost)
    middle = sorted(config.noise_ratios)[len(config.noise_ratios) // 2]
    for noise in config.noise_ratios:
        for name, contender in CONTENDERS.items():
            arm("rules", {"noise": noise}, name, contender, noise)
            if name in EARLY:
                arm("early", {"noise": noise}, name, contender, noise)
            if contender.keeps:
                arm("pressure", {"noise": noise}, name, contender, noise)
    for scale in (0.25, 1.0, 2.0):
        for name in ("basic", "top 3, face from all kept", "advantage"):
            contender = replace(CONTENDERS[name], k=4)
            arm("steps", {"round": scale}, name, contender, middle, scale=scale)
    for scope in ("question", "batch"):
        for name in ("basic", "top 3, face from all kept"):
            scoped = replace(CONTENDERS[name], options={**CONTENDERS[name].options, "scope": scope})
            arm("scope", {"scope": scope}, name, scoped, middle, difficulty=2.0)
    return made


def study(config: TabularConfig, report: Callable[[str, int, int], None] = lambda *_: None) -> list[Result]:
    """Runs what is not yet in `config.out`: first the tuning of every arm, then every arm at its best."""
    check(config)
    folder, declared = Path(config.out), arms(config)

    def run(phase: str, cells: list[Cell]) -> Iterator[Kept]:
        jobs: list[Job] = [("tabular", tabular.as_json(cell)) for cell in cells]
        return iter(run_cells(jobs, folder, config.engine, config.workers, lambda *at: report(phase, *at)))

    choices = [arm.tuned(config) for arm in declared]
    tuned = run("tuning", [cell for cells in choices for cell in cells])
    best = []
    for arm, cells in zip(declared, choices, strict=True):
        worth = [next(tuned).figures[arm.figure].mean() for _ in cells]
        chosen = cells[worth.index(max(worth))]
        best.append(replace(chosen, replicas=arm.cell.replicas, seed=arm.cell.seed))
    finished = zip(declared, run("results", best), strict=True)
    results = [Result(arm.section, arm.condition, arm.name, kept) for arm, kept in finished]
    write_config(folder / "tabular.yaml", config)
    write_results(folder / "tabular.parquet", asdict(config), results)
    return results


def check(config: TabularConfig) -> None:
    """InputError for a grid that cannot be run."""
    check_values(config)
    check_positive(config, "round_cost", "rounds", "workers")
    for name, least in (("noise_ratios", 0.0), ("cost_ratios", 0.0), ("answers", 0), ("lrs", 0.0), ("keeps", 0.0)):
        values = getattr(config, name)
        wrong = [value for value in values if not value > least]
        if wrong or not values:
            raise InputError(f"{name}: {wrong[0] if wrong else 'empty'} is not a list of numbers above 0")
    if max(config.keeps) > 1:
        raise InputError(f"keeps: {max(config.keeps)} is no fraction")
    for name in ("replicas", "tune_replicas"):
        if getattr(config, name) < 2:
            raise InputError(f"{name}: {getattr(config, name)} have no interval; expected 2 or more")
    for name in ("questions", "thoughts", "answers"):
        if getattr(config.world, name) < 2:
            raise InputError(f"world.{name}: {getattr(config.world, name)} leave nothing to choose; expected 2 or more")
    usual = {"world.questions": 4, "world.thoughts": 32, "world.answers": 16}
    usual = {"replicas": 2000, "tune_replicas": 150, "workers": 2, "round_cost": 96, **usual}
    check_memory(replace(config, workers=config.workers or os.cpu_count() or 1), usual, needed)


def needed(config: TabularConfig) -> int:
    """Bytes that the workers of a study take together: an estimate."""
    world, price = config.world, config.round_cost / 12
    tables = world.questions * world.thoughts * world.answers
    prices = product(config.cost_ratios, (*config.answers, 8))
    draws = max(max(2, round(price * (cost + 8) / (cost + k))) * k for cost, k in prices)
    at_once = min(tabular.CHUNK, max(config.replicas, config.tune_replicas))
    worker = at_once * (48 * tables + world.questions * draws * (24 + world.answers)) + 150 * 2**20
    figures = 8 * (tabular.POINTS + 8) * max(config.replicas, config.tune_replicas)
    return (config.workers or 1) * (worker + figures)
