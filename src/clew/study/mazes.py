"""Credit rules on mazes: the loop of `clew split` from one warm start, at one price a round in true tokens."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from clew.config import (
    Attention,
    MazeConfig,
    ModelConfig,
    OptimizerConfig,
    SamplingConfig,
    WorldConfig,
    check_positive,
    check_values,
)
from clew.errors import InputError
from clew.runs.options import write_config
from clew.study.cells import Engine, Job, Kept, Result, joined, run_cells, write_results
from clew.train.config import SplitConfig, WarmStartConfig

if TYPE_CHECKING:
    from clew.world import World


@dataclass
class MazeStudyConfig:
    """The study on mazes: rules from one warm start, several seeds each."""

    start: str
    """a split's run folder: all arms begin with the policies of its warm start"""
    start_one: str | None = None
    """the same of a split with --policies one, for the arm that plays both roles; without it there is no such arm"""
    sizes: list[int] = field(default_factory=lambda: [4])
    """grid sizes"""
    max_thought: int | None = 26
    """most tokens of a thought"""
    length_cost: float = 0.01
    """share of a positive score that the shoggoth loses for each token of a thought"""
    rounds: int = 12
    """rounds of a run"""
    questions: int = 32
    """questions a round"""
    price: float = 512.0
    """tokens that a round may cost a question: thoughts written and read, answers written; n follows from k"""
    lrs: list[float] = field(default_factory=lambda: [3e-5, 1e-4, 3e-4])
    """learning rates that each rule may choose from"""
    seeds: int = 4
    """runs of a result"""
    tune_seeds: int = 2
    """runs, with seeds of their own, of a choice"""
    final_questions: int = 500
    """held-out questions at the end of a run"""
    attention: Attention = "trees"
    """rows: plain rows, for models that do not read trees exactly"""
    engine: Engine = "local"
    """local: this machine's cores; ray: a Ray cluster that shares this folder"""
    workers: int | None = None
    """processes of one thread each, by default one a core"""
    out: str = "runs/study"
    """folder of the study"""


SHARED = ("sizes", "max_thought", "length_cost", "rounds", "questions", "final_questions")  # options that are split's
ARMS: dict[str, dict[str, Any]] = {
    "basic": {"rule": "basic", "options": {"keep": 0.25}, "answers": 4},
    "basic, k=1": {"rule": "basic", "options": {"keep": 0.25}, "answers": 1},
    "top 3": {"rule": "denoised", "options": {"top": 3, "keep": 0.25, "answers": "best"}, "answers": 4},
    "best against worst": {"rule": "contrastive", "options": {"top": 3}, "answers": 4},
    "advantage": {"rule": "advantage", "options": {}, "answers": 4},
    "basic, one policy": {"rule": "basic", "options": {"keep": 0.25}, "answers": 4, "policies": "one"},
}


@dataclass(frozen=True)
class MazeCell:
    """One run: a rule, a learning rate, a seed. `world` holds what all runs of a study share."""

    world: dict[str, Any]
    rule: str
    options: dict[str, Any]
    answers: int
    thoughts: int
    lr: float
    seed: int
    policies: Literal["two", "one"] = "two"
    replicas: int = 1


def from_json(values: dict[str, Any]) -> MazeCell:
    return MazeCell(**values)


def run(cell: MazeCell) -> dict[str, np.ndarray]:
    """Trains once; figures as in the tabular world, of greedy answers to held-out questions, for one replica."""
    import torch
    from transformers.utils import logging

    from clew.train.rounds import split

    torch.set_num_threads(1)
    logging.disable_progress_bar()  # a worker's bars would cut through the study's own
    with TemporaryDirectory() as folder:
        result = split(split_config(cell, f"{folder}/run"))
        scores = _sampled_scores(Path(folder) / "run" / "metrics.jsonl")
    before, after = result["before"], result["after"]
    gained = (after["score"]["value"] - before["score"]["value"]) / (1 - before["score"]["value"])
    figures = {
        "gained": gained,
        "optimal": after["optimal"]["value"],
        "before": before["optimal"]["value"],
        "thought_tokens": after["thought_tokens"]["value"],
    }
    return {**{name: np.array([value]) for name, value in figures.items()}, "curve": scores[None]}


def split_config(cell: MazeCell, out: str) -> SplitConfig:
    """The run that a cell stands for."""
    world = cell.world
    return SplitConfig(
        mazes=MazeConfig(sizes=world["sizes"]),
        model=ModelConfig(world["start"], attention=world.get("attention", "trees")),
        warm_start=WarmStartConfig(steps=0),
        optimizer=OptimizerConfig(lr=cell.lr, weight_decay=0.0),
        thoughts=cell.thoughts,
        answers=cell.answers,
        rule=cell.rule,
        rule_options=cell.options,
        policies=cell.policies,
        seed=cell.seed,
        validate_every=0,
        validation_questions=8,
        checkpoint_every=0,
        out=out,
        **{name: world[name] for name in SHARED if name != "sizes"},
    )


def _sampled_scores(metrics: Path) -> np.ndarray:
    """The mean score of each round's samples."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    return np.array([line["score"] for line in lines if "score" in line])


def study(
    config: MazeStudyConfig, report: Callable[[str, int, int], None] = lambda phase, done, count: None
) -> list[Result]:
    """Runs what is not yet in `config.out`: every arm's learning rate is chosen with seeds that no result uses."""
    check(config)
    folder = Path(config.out)
    bases = _bases(config)

    def runs(phase: str, cells: list[MazeCell]) -> Iterator[Kept]:
        jobs: list[Job] = [("mazes", asdict(cell)) for cell in cells]
        return iter(run_cells(jobs, folder, config.engine, config.workers, lambda *at: report(phase, *at)))

    seeds = range(1000, 1000 + config.tune_seeds)
    choices = [replace(base, lr=lr, seed=seed) for base in bases.values() for lr in config.lrs for seed in seeds]
    tuned = runs("choosing learning rates", choices)
    best = []
    for base in bases.values():
        gained = [np.mean([next(tuned).figures["gained"] for _ in seeds]) for _ in config.lrs]
        lr = config.lrs[int(np.argmax(gained))]
        best += [replace(base, lr=lr, seed=seed) for seed in range(config.seeds)]
    done = runs("results", best)
    results = []
    for name in bases:
        kept = [next(done) for _ in range(config.seeds)]
        results.append(Result("mazes", {}, name, joined(kept)))
    write_config(folder / "mazes.yaml", config)
    write_results(folder / "mazes.parquet", asdict(config), results)
    return results


def _bases(config: MazeStudyConfig) -> dict[str, MazeCell]:
    """Each arm's cell, but for its learning rate and seed. InputError if a round would not fit into memory."""
    from clew.train.checks import check_splitting

    start = _start(Path(config.start))
    starts = {"two": start, "one": _start(Path(config.start_one)) if config.start_one else None}
    shared = {name: getattr(config, name) for name in SHARED}
    if config.attention == "rows":  # trees are left out, so that finished cells are known by the names that they had
        shared["attention"] = "rows"
    worlds = {
        policies: {"start": str(path), "hash": _hash(path), **shared} for policies, path in starts.items() if path
    }
    costs = prices(config, start)
    bases = {}
    for name, arm in ARMS.items():
        if world := worlds.get(arm.get("policies", "two")):
            n = _thoughts(config, arm["answers"], *costs)
            bases[name] = MazeCell(world=world, thoughts=n, lr=0.0, seed=0, **arm)
    widest = split_config(max(bases.values(), key=lambda cell: cell.answers), "")
    check_splitting(widest, _world(config))
    return bases


def _thoughts(config: MazeStudyConfig, k: int, thought_cost: float, answer_cost: float) -> int:
    """n: the thoughts that the price of a round buys with k answers each, at least 2."""
    return max(2, round(config.price / (thought_cost + k * answer_cost)))


def check(config: MazeStudyConfig) -> None:
    """InputError for a study that cannot be run."""
    check_values(config)
    counts = "rounds questions price seeds tune_seeds final_questions max_thought workers"
    check_positive(config, *counts.split())
    check_positive(config, "length_cost", zero=True)
    if not config.lrs or min(config.lrs) <= 0:
        raise InputError(f"lrs: {config.lrs} is not a list of numbers above 0")
    world = _world(config)
    world.step_tokens(WorldConfig())  # which sees to it that there are mazes to train on
    if missing := world.not_evaluated():
        raise InputError(f"sizes: {missing}")


def _world(config: MazeStudyConfig) -> "World":
    from clew.world import world_of

    return world_of(WorldConfig(mazes=MazeConfig(sizes=[*config.sizes])), 0)


def _start(folder: Path) -> Path:
    for start in (folder / "warm", folder):
        if (start / "shoggoth").is_dir():
            return start
    raise InputError(f"start: {folder} holds no warm start (no warm/shoggoth in it); make one with clew split")


def _hash(start: Path) -> str:
    files = sorted(start.rglob("*.safetensors"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def prices(config: MazeStudyConfig, start: Path) -> tuple[float, float]:
    """Tokens that a thought (written, then read) and an answer cost, as the warm start samples them."""
    from clew.policy import Policy
    from clew.rollout.sampler import SharedPrefixSampler
    from clew.train.evaluate import Reasoner
    from clew.train.team import role_folder

    world = _world(config)
    policies = [Policy.load(role_folder(str(start), name)) for name in ("shoggoth", "face")]
    for policy in policies:
        policy.attention = config.attention
        policy.check()
    shoggoth, face = map(SharedPrefixSampler, policies)
    reasoner = Reasoner(face, shoggoth, max_thought=config.max_thought)
    made = reasoner.rollouts(world, world.questions(range(64)), (2, 1), SamplingConfig(), range(64))
    written = [len(thought.tokens) for one in made for thought in one.thoughts]
    read = [sum(len(span.tokens) for span in context.chain()[1:]) for one in made for context in one.read]
    answers = [len(answer.tokens) for one in made for several in one.answers for answer in several]
    return float(np.mean(written) + np.mean(read)), float(np.mean(answers))
