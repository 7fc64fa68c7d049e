"""The runs of `clew bench depth`: which there are, what a step of each costs, and how one is trained and read."""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

import measure
from clew.averaging import Average
from clew.cli import terminal
from clew.config import MazeConfig, ModelConfig, OptimizerConfig
from clew.files import write_json
from clew.mazes import maze_tokenizer
from clew.mazes.world import MazeWorld
from clew.policy import Policy
from clew.runs.metrics import read_metrics
from clew.runs.provenance import provenance
from clew.train.config import TrainConfig
from clew.train.supervised import train
from clew.train.team import learner_for
from measure import interleaved

WIDTH, MAZES, RATE = 64, 16, 2e-3
BRANCHES, ROPE_BASE = 4, 100.0  # questions of a maze; at the usual base of 10,000 some runs stick (README.md)
HEAD = 32  # dimensions of an attention head, whatever the width
AS_MANY = 0.1  # how far apart in parameters, of the deepest's, what is said to have as many may be
LOOKS, LOOK = 10, 200  # validations on the way of a run, for the picture alone; their questions
LOOKAHEADS = {"0-2": range(3), "3-4": range(3, 5), "5 and more": range(5, 10_000)}
EQUAL_STEPS, EQUAL_TIME, CONTROL = "equal steps", "equal time", "control"
refuse = partial(measure.refuse, "depth")
Costs = dict[str, dict[str, float]]  # seconds and parameters, by shape
Measured = dict[str, Any]  # of one size: repeats, machine, models (Costs)


@dataclass(frozen=True)
class Arm:
    """What is trained with each of its seeds: a row of the table."""

    kind: str
    seeds: tuple[int, ...]
    steps: int
    layers: int
    width: int = WIDTH
    mazes: int = MAZES
    """a step"""
    rate: float = RATE

    @property
    def name(self) -> str:
        others = [f"width {self.width}"] * (self.width != WIDTH)
        others += [f"{self.mazes} mazes a step"] * (self.mazes != MAZES) + [f"rate {self.rate:g}"] * (self.rate != RATE)
        return ", ".join([f"{self.layers} layer{'s' * (self.layers != 1)}", *others])

    @property
    def shape(self) -> str:
        """What decides how much a step costs."""
        return f"{self.layers} x {self.width}, {self.mazes} mazes"


@dataclass(frozen=True)
class Found:
    """What a finished run's folder says of it, in counts of questions about held-out mazes."""

    exact: float
    """the share of all that were asked"""
    looks: list[tuple[int, float]]
    """steps, and the share of exact paths after them; the last is that of the end"""
    asked: dict[str, int] = field(default_factory=dict)
    """questions, by lookahead"""
    solved: dict[str, int] = field(default_factory=dict)
    walked: dict[str, int] = field(default_factory=dict)
    """solved by a random walk"""


def arms(size: int, layers: Sequence[int], seeds: tuple[int, ...], steps: int, costs: Costs | None = None) -> list[Arm]:
    """All that is trained of one size. The deepest run serves equal steps and equal time; the steps of those of equal
    time follow from the costs, and while these are not known there are none of these runs. A control of the deepest's
    parameters in width is there only where some width has about as many."""
    found = [Arm(EQUAL_STEPS, seeds, steps, depth) for depth in layers]
    least, most = found[0].layers, found[-1]
    for one in found[:-1] if costs else ():
        longer = max(1, round(steps * costs[most.shape]["seconds"] / costs[one.shape]["seconds"]))
        found.append(Arm(EQUAL_TIME, seeds, longer, one.layers))
    found.append(Arm(CONTROL, seeds, steps, least, mazes=2 * MAZES))
    width, share = width_for(size, least, most.layers)
    found += [Arm(CONTROL, seeds, steps, least, width=width)] * (abs(share - 1) <= AS_MANY)
    return [*found, Arm(CONTROL, seeds[:1], steps, most.layers, rate=RATE / 2)]


def width_for(size: int, least: int, most: int) -> tuple[int, float]:
    """The width, of whole heads and wider than others, at which the fewest layers have parameters nearest to those of
    the most; and how many times as many they then have."""
    wanted, widths = _parameters(size, most, WIDTH), [WIDTH + HEAD]
    while _parameters(size, least, widths[-1]) < wanted:
        widths.append(widths[-1] + HEAD)
    shares = {width: _parameters(size, least, width) / wanted for width in widths}
    return min(shares.items(), key=lambda one: abs(one[1] - 1))


@cache
def _parameters(size: int, layers: int, width: int) -> int:
    """Counted of a model as it is trained, but without its weights."""
    with torch.device("meta"):
        return _policy(size, ModelConfig(layers=layers, width=width, heads=width // HEAD)).model.num_parameters()


def _policy(size: int, model: ModelConfig) -> Policy:
    return Policy.build(maze_tokenizer(size), model.layers, model.width, model.heads, 0, model.rope_base)


def known(file: Path, size: int, wanted: Sequence[Arm]) -> Measured | None:
    """What a step of each takes as the file has it, None where it lacks one. Refuses a file that holds something else,
    or has that size without the deepest, beside which others are measured."""
    name = f"{size}x{size}"
    there, usable = None, False
    try:
        there = _kept(file).get(name)
        costs = {} if there is None else there["models"]
        whole = there is None or there.keys() >= {"repeats", "machine"}
        usable = whole and all(0 < cost["seconds"] < math.inf and cost["parameters"] > 0 for cost in costs.values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    refuse(not usable, f"{file} holds no costs of steps; delete it, or choose another --runs")
    deepest = most_of(wanted).shape
    lacks = there is not None and deepest not in there["models"]
    refuse(lacks, f"{file} has no {name} model of {deepest}, beside which others are measured; choose another --runs")
    return there if there and all(arm.shape in there["models"] for arm in wanted) else None


def most_of(wanted: Sequence[Arm]) -> Arm:
    """The deepest, whose time for the equal steps is the equal time."""
    return max(wanted, key=lambda arm: arm.layers)


def _kept(file: Path) -> dict[str, Measured]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def measured(file: Path, size: int, wanted: Sequence[Arm], repeats: int) -> Measured:
    """CPU seconds that a step of each takes, measured now and kept in the file: runs that go on later have as many
    steps. What the file has stays; the others are measured beside the deepest, and put down in proportion to what it
    has of that one."""
    name = f"{size}x{size}"
    there = _kept(file).get(name, {"repeats": repeats, "machine": provenance()["machine"], "models": {}})
    deepest = most_of(wanted).shape
    new = {arm.shape: arm for arm in wanted if arm.shape == deepest or arm.shape not in there["models"]}
    print(f"{name}: measuring what a step costs", flush=True)
    built = {shape: _stepping(size, arm) for shape, arm in new.items()}
    seconds = interleaved({shape: step for shape, (step, _) in built.items()}, repeats, clock=time.process_time)
    scale = there["models"].get(deepest, {"seconds": seconds[deepest]})["seconds"] / seconds[deepest]
    models = {shape: {"seconds": scale * seconds[shape], "parameters": count} for shape, (_, count) in built.items()}
    found = there | {"models": models | there["models"]}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, _kept(file) | {name: found})
    return found


def _stepping(size: int, arm: Arm) -> tuple[Callable[[], None], int]:
    """A step of training as `clew train` takes it, from the first mazes on; and the model's parameters."""
    config = config_of(Path(), size, arm, seed=0, questions=1)
    policy = _policy(size, config.model)
    learner, average = learner_for(policy, config.optimizer, Accelerator(cpu=True)), Average(policy)
    world, number = MazeWorld(config.mazes), 0

    def step() -> None:
        nonlocal number
        batch = world.batch(range(number, number + arm.mazes))
        batch.weights_S.div_(batch.weights_S.sum())
        learner.update(batch)
        average.update()
        number += arm.mazes

    return step, policy.model.num_parameters()


def folder(runs: Path, size: int, arm: Arm, seed: int) -> Path:
    words = f"{size}x{size} {arm.kind} {arm.name} seed {seed}"
    return runs / words.replace(",", "").replace(" ", "-")


def config_of(out: Path, size: int, arm: Arm, seed: int, questions: int) -> TrainConfig:
    """A run, whole: nothing of it depends on how long anything takes."""
    between = max(1, arm.steps // LOOKS)
    return TrainConfig(
        mazes=MazeConfig(sizes=[size], branches=BRANCHES),
        model=ModelConfig(layers=arm.layers, width=arm.width, heads=arm.width // HEAD, rope_base=ROPE_BASE),
        optimizer=OptimizerConfig("muon", lr=arm.rate, schedule="wsd"),
        average=True,
        per_step=arm.mazes,
        steps=arm.steps,
        log_every=min(10, between),
        validate_every=between,
        validation_questions=min(LOOK, questions),
        final_questions=questions,
        seed=seed,
        device="cpu",
        out=str(out),
    )


def trained(config: TrainConfig) -> None:
    """A run to its end, from where an earlier one of these options was stopped: what a worker does."""
    torch.set_num_threads(1)
    terminal.quiet()
    train(config, resume=(Path(str(config.out)) / "config.yaml").is_file())


def finished(out: Path) -> bool:
    """Whether a run came to its end, and was asked something there."""
    try:
        end = json.loads((out / "eval.json").read_text(encoding="utf-8"))
        return (out / "config.yaml").is_file() and "exact" in end
    except (FileNotFoundError, ValueError):
        return False


def read(out: Path) -> Found:
    """What a finished run's folder says of it."""
    logged, end = read_metrics(out / "metrics.jsonl"), json.loads((out / "eval.json").read_text(encoding="utf-8"))
    looks = [(line["step"], line["held_out_exact"]) for line in logged if "held_out_exact" in line]
    exact = end["exact"]["value"]
    found = Found(exact, [*looks, (logged[-1]["step"], exact)])
    for name, inside in LOOKAHEADS.items():
        groups, walks = ([*_within(end[f"{side}by_lookahead"], inside)] for side in ("", "baseline_"))
        found.asked[name] = sum(one["questions"] for one in groups)
        found.solved[name], found.walked[name] = _solved(groups), _solved(walks)
    return found


def _within(groups: dict[str, Any], inside: range) -> list[dict[str, Any]]:
    return [one for lookahead, one in groups.items() if int(lookahead) in inside]


def _solved(groups: list[dict[str, Any]]) -> int:
    return sum(round(one["exact"]["value"] * one["questions"]) for one in groups)
