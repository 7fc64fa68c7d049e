"""Tiny runs: configs of a fraction of a second, and one round's rollouts with their policies."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from clew.config import MazeConfig, ModelConfig, OptimizerConfig
from clew.mazes.world import MazeWorld
from clew.policy import Policy
from clew.rollout.types import Rollout
from clew.train.config import SplitConfig, TrainConfig, WarmStartConfig
from clew.train.team import Team, paraphrase_for, team_of, warm_names
from clew.world import World

WORLD = MazeWorld(MazeConfig(sizes=[3]))


def changed(config: Any, changes: dict[str, Any]) -> Any:
    """The config with other values for options by their dotted names, `__` for each dot."""
    for name, value in changes.items():
        *groups, last = name.split("__")
        inner = config
        for group in groups:
            inner = getattr(inner, group)
        assert hasattr(inner, last), name
        setattr(inner, last, value)
    return config


def needs_muon() -> None:
    """Skips where torch has none."""
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("torch has no Muon before 2.9")


def model(**changes: Any) -> ModelConfig:
    return changed(ModelConfig(layers=1, width=16, heads=2), changes)


def train_config(out: Path, **changes: Any) -> TrainConfig:
    if changes.get("optimizer__name") == "muon":
        needs_muon()
    config = TrainConfig(
        mazes=MazeConfig(sizes=[3], branches=2),
        model=model(),
        optimizer=OptimizerConfig(warmup=2),
        per_step=2,
        steps=6,
        log_every=1,
        validate_every=3,
        validation_questions=4,
        final_questions=8,
        checkpoint_every=2,
        out=str(out),
    )
    return changed(config, changes)


def split_config(out: Path | None = None, **changes: Any) -> SplitConfig:
    config = SplitConfig(
        mazes=MazeConfig(sizes=[3], branches=2),
        model=model(),
        warm_start=WarmStartConfig(steps=30, per_step=4, optimizer=OptimizerConfig(lr=1e-2)),
        rounds=3,
        questions=3,
        thoughts=3,
        answers=2,
        max_thought=12,
        validation_questions=6,
        final_questions=6,
        validate_every=2,
        checkpoint_every=1,
        out=str(out) if out else None,
    )
    return changed(config, changes)


def fresh_team(config: SplitConfig, world: World = WORLD) -> Team:
    """The team of a config, with new policies; adapters and heads are shaken so that no two policies agree."""
    names = warm_names(config)
    policies = {name: Policy.build(world.tokenizer, 1, 16, 2, seed=seed) for seed, name in enumerate(names)}
    team = team_of(config, policies, Accelerator(cpu=True))
    team.paraphrase = paraphrase_for(config, world)
    for seed, member in enumerate(team.members.values()):
        member.policy.activate()
        dice = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in member.policy.model.parameters():
                if parameter.requires_grad:
                    parameter += 0.1 * torch.randn(parameter.shape, generator=dice)
    return team


def played(config: SplitConfig, team: Team, questions: int = 4, world: World = WORLD) -> list[Rollout]:
    """Rollouts of a team: as a round of `clew split` makes them."""
    asked, shape = world.questions(range(questions)), (config.thoughts, config.answers)
    return team.reasoner(config).rollouts(world, asked, shape, config.sampling, range(1, questions + 1))


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def timeless(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what the clock says."""
    return [{k: v for k, v in line.items() if k not in ("seconds", "items_per_second")} for line in metrics(run)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same_weights(a: Path, b: Path) -> bool:
    """Whether two model folders hold the same weights, bit for bit."""
    ours, theirs = weights(a), weights(b)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def rows_of(batch: Any) -> Iterator[tuple[list[int], float]]:
    """Each supervised token of a batch as it stands in its plain row: all tokens up to it, and its weight."""
    tokens, parents = batch.tokens_BT.reshape(-1).tolist(), batch.parents_BT.reshape(-1).tolist()
    for place, weight in zip(batch.supervised_S.tolist(), batch.weights_S.tolist(), strict=True):
        way = []
        while place >= 0:
            way.append(tokens[place])
            place = parents[place]
        yield way[::-1], weight


def commas(completions: list[str], **_: Any) -> list[float]:
    """A grader by import path: each comma costs a point."""
    return [-float(text.count(",")) for text in completions]
