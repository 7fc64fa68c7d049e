"""What a policy wrote is trained on in the context that it read: for all policies, whatever the face sees."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from clew.losses import token_nll
from clew.policy import Policy
from clew.rollout.stages import reading
from clew.rollout.trees import training_batch
from clew.rollout.types import Completion, Context, Rollout, as_written
from clew.train import warm
from clew.train.crediting import Weights
from clew.train.rounds import weighted
from clew.train.team import ROLES, Team, warm_names
from clew.train.warm import as_read
from clew.tree import SpanTree, TreeBatch
from small import WORLD, fresh_team, played, rows_of, split_config

COMBINATIONS = list(
    itertools.product(("two", "adapters", "one"), ("prompt+thought", "thought"), (None, "copy")),
)
every_combination = pytest.mark.parametrize(("policies", "face_sees", "paraphraser"), COMBINATIONS)


@cache
def a_round(policies: str, face_sees: str, paraphraser: str | None) -> tuple[Team, list[Rollout], Weights]:
    """A team, what it sampled, and a weight other than 0 for each completion."""
    options = {"policies": policies, "face_sees": face_sees, "paraphraser": paraphraser}
    config = split_config(thoughts=4, answers=3, max_thought=8, max_answer=6, **options)
    team = fresh_team(config)
    rollouts, dice = played(config, team), np.random.default_rng(0)
    drawn = (dice.uniform(0.5, 2, shape) * dice.choice([-1, 1], shape) for shape in ((4, 4), (4, 4, 3)))
    return team, rollouts, Weights(None, *drawn, questions=4)  # type: ignore[arg-type]


def batches(team: Team, rollouts: Sequence[Rollout], weights: Weights) -> list[tuple[Policy, TreeBatch]]:
    """What each member of the team would learn from in that round."""
    made = []
    for member in team.members.values():
        batch = training_batch(weighted(rollouts, weights, member.roles), member.policy.pad_token_id)
        assert batch is not None
        made.append((member.policy, batch))
    return made


def fresh_nll(policy: Policy, batch: TreeBatch) -> torch.Tensor:
    policy.activate()
    with torch.no_grad():
        return token_nll(policy.model, batch)


def off_by(policy: Policy, batch: TreeBatch) -> float:
    """The largest difference between what a batch's tokens cost and what sampling said of them, in nats."""
    assert batch.sampled_nll_S is not None and bool(batch.sampled_nll_S.isfinite().all())
    return (fresh_nll(policy, batch) - batch.sampled_nll_S).abs().max().item()


def wanted_rows(written: Sequence[tuple[Completion, float]]) -> list[tuple[list[int], float, float]]:
    """Each sampled token with all that was read before it, its completion's weight and what sampling said of it."""
    return sorted(
        ([*one.context.ids(), *one.tokens[: i + 1]], weight, -logp)
        for one, weight in written
        for i, logp in enumerate(one.logps)
    )


@every_combination
def test_a_round_s_tokens_are_as_likely_as_when_they_were_sampled(
    policies: str, face_sees: str, paraphraser: str | None
) -> None:
    team, rollouts, weights = a_round(policies, face_sees, paraphraser)
    ended = [thought.ended for rollout in rollouts for thought in rollout.thoughts]
    assert any(ended) and not all(ended)  # both kinds of context
    for policy, batch in batches(team, rollouts, weights):
        assert off_by(policy, batch) < 1e-4


@every_combination
def test_each_completion_s_tokens_stand_in_a_batch_once_behind_what_was_read(
    policies: str, face_sees: str, paraphraser: str | None
) -> None:
    team, rollouts, weights = a_round(policies, face_sees, paraphraser)
    learnt = 0
    for member, (policy, batch) in zip(team.members.values(), batches(team, rollouts, weights), strict=True):
        written = list(weighted(rollouts, weights, member.roles))
        learnt += len(written)
        wanted = wanted_rows(written)
        rows = zip(rows_of(batch), fresh_nll(policy, batch).tolist(), strict=True)
        found = sorted((row, weight, nll) for (row, weight), nll in rows)
        assert [row for row, _, _ in found] == [row for row, _, _ in wanted]
        assert [weight for _, weight, _ in found] == pytest.approx([weight for _, weight, _ in wanted], rel=1e-5)
        assert [nll for _, _, nll in found] == pytest.approx([nll for _, _, nll in wanted], abs=1e-4)
    assert learnt == 4 * 4 * (1 + 3)  # all thoughts and all answers, each by one of the policies


@pytest.mark.parametrize("policies", ["two", "adapters", "one"])
def test_the_face_s_contexts_are_what_it_was_said_to_see(policies: str) -> None:
    for face_sees in ("prompt+thought", "thought"):
        _, rollouts, _ = a_round(policies, face_sees, None)
        for rollout in rollouts:
            for thought, read, answers in zip(rollout.thoughts, rollout.read, rollout.answers, strict=True):
                before = rollout.question.tokens if face_sees == "prompt+thought" else []
                assert read.ids() == [*before, *thought.tokens, *([] if thought.ended else WORLD.thought_end)]
                assert all(answer.context is read for answer in answers)


@pytest.mark.parametrize("policies", ["two", "adapters", "one"])
def test_a_prompt_that_nobody_read_is_seen(policies: str) -> None:
    """Answers sampled from the thought alone, and put behind prompt and thought: the checks above tell them apart."""
    team, rollouts, weights = a_round(policies, "thought", None)
    moved = []
    for one in rollouts:
        read = [reading(WORLD, thought, "prompt+thought") for thought in one.thoughts]
        both = zip(one.answers, read, strict=True)
        answers = [[replace(answer, context=before) for answer in several] for several, before in both]
        moved.append(replace(one, read=read, answers=answers))
    policy, batch = batches(team, moved, weights)[-1]
    assert off_by(policy, batch) > 0.1


def imitated(config: Any, monkeypatch: pytest.MonkeyPatch, out: Path) -> list[tuple[str, TreeBatch]]:
    """What each policy of a config learns in the first step of its warm start."""
    found: list[tuple[str, TreeBatch]] = []

    def spied(learner: Any, batch_of: Callable[[Sequence[int]], TreeBatch], *_: Any, **options: Any) -> None:
        found.append((names[len(found)], batch_of(range(options["per_step"]))))

    names = warm_names(config)
    policies = {name: Policy.build(WORLD.tokenizer, 1, 16, 2) for name in names}
    monkeypatch.setattr(warm, "imitate", spied)
    warm.warm_start(config, WORLD, policies, Accelerator(cpu=True), out, False, lambda values: None)
    assert len(found) == len(names)
    return found


def completions_of(tree: SpanTree, before: Context | None = None) -> list[tuple[Completion, SpanTree]]:
    """The thoughts of a demonstration as if they had been sampled, each with what continues it."""
    read = Context(tree.tokens, "prompt", before)
    found = []
    for child in tree.children:
        if child.role == "thought":
            finish = "stop" if child.tokens[-1] in WORLD.thought_stop.token_ids else "length"
            thought = Completion(read, "thought", list(child.tokens), [0.0] * len(child.tokens), finish)
            found += [(thought, answer) for answer in child.children]
        else:
            found += completions_of(child, read)
    return found


Rows = Counter[tuple[int, ...]]


def warm_rows(config: Any, found: list[tuple[str, TreeBatch]]) -> Iterator[tuple[Rows, Rows]]:
    """The supervised tokens of a warm start's batches, each with all before it; and what they should be."""
    numbers = range(config.warm_start.per_step)
    shown = [pair for tree in WORLD.demonstrations(numbers) for pair in completions_of(tree)]
    assert len(shown) == len(numbers) * WORLD.config.branches
    for name, batch in found:
        roles = ROLES[name] if config.policies == "two" else ROLES["shoggoth"] + ROLES["face"]
        wanted: Rows = Counter()
        for thought, answer in shown:
            asked, read = thought.context.ids(), reading(WORLD, as_written(thought), config.face_sees).ids()
            if "thought" in roles:
                wanted.update((*asked, *thought.tokens[: i + 1]) for i in range(len(thought.tokens)))
            if "answer" in roles:
                wanted.update((*read, *answer.tokens[: i + 1]) for i in range(len(answer.tokens)))
        yield Counter(tuple(row) for row, _ in rows_of(batch)), wanted


@every_combination
def test_a_warm_start_imitates_in_the_contexts_that_will_be_read(
    policies: str, face_sees: str, paraphraser: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = split_config(policies=policies, face_sees=face_sees, paraphraser=paraphraser, warm_start__per_step=2)
    batches = imitated(config, monkeypatch, tmp_path)
    for found, wanted in warm_rows(config, batches):
        assert found == wanted
    assert all(weight == 1.0 for _, batch in batches for _, weight in rows_of(batch))


@pytest.mark.parametrize("policies", ["two", "adapters", "one"])
def test_a_demonstration_behind_a_prompt_that_nobody_will_read_is_seen(
    policies: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = split_config(policies=policies, face_sees="thought", warm_start__per_step=2)
    monkeypatch.setattr(warm, "as_read", lambda tree, roles, face_sees: as_read(tree, roles, "prompt+thought"))
    found, wanted = list(warm_rows(config, imitated(config, monkeypatch, tmp_path)))[-1]
    assert found != wanted and found.total() == wanted.total()
