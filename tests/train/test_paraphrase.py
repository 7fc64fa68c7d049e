"""Rewritten thoughts, whole and line by line: each policy learns what it wrote behind just what it read."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from clew.config import MazeConfig, RewriterConfig, SamplingConfig, WorldConfig
from clew.losses import token_nll, weighted_nll
from clew.mazes.world import MazeWorld
from clew.policy import Policy
from clew.rollout.records import records_of
from clew.rollout.trees import training_batch
from clew.rollout.types import Completion, Rollout
from clew.runs.rollouts import read_rollouts, write_rollouts
from clew.train import warm
from clew.train.crediting import Weights, figures_of
from clew.train.evaluate import held_out
from clew.train.opening import opened
from clew.train.rounds import split, weighted
from clew.train.team import Member, Team, paraphrase_for, team_of, warm_names
from clew.tree import SpanTree, TreeBatch
from small import metrics, played, rows_of, same_weights, split_config, timeless

WORLD = MazeWorld(MazeConfig(sizes=[3], traces=["bfs"], branches=2))
POLICIES = ("two", "adapters", "one")
SEES = ("prompt+thought", "thought")
REWRITERS = ("copy", "shuffle", "rewriters:longer", "model")
MODES = [(None, None), *itertools.product(REWRITERS, ("whole", "line"))]
every_mode = pytest.mark.parametrize(
    ("policies", "face_sees", "paraphraser", "how"),
    [(who, sees, *mode) for who, sees, mode in itertools.product(POLICIES, SEES, MODES)],
)


@pytest.fixture(scope="module", autouse=True)
def a_model(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A tiny language model that rewrites: it knows the mazes' words, and says any of them."""
    folder = tmp_path_factory.mktemp("models") / "rewriter"
    Policy.build(WORLD.tokenizer, 1, 16, 2, seed=7).save(folder)
    MODEL.append(f"model:{folder}")


MODEL: list[str] = []


def config_of(policies: str, face_sees: str, paraphraser: str | None, how: Any, **changes: Any) -> Any:
    named = MODEL[0] if paraphraser == "model" else paraphraser
    options = {"policies": policies, "face_sees": face_sees, "paraphraser": named, "paraphrase": how}
    numbers = {"thoughts": 4, "answers": 3, "max_thought": 20, "max_answer": 5}
    rewriter = RewriterConfig(template="{text}", versions=3, max_tokens=40, temperature=1.0)
    return split_config(**numbers | options | {"rewriter": rewriter} | changes)


@cache
def taught() -> Policy:
    """A small model that writes lines of which some can be rewritten; of a new one nobody could make sense."""
    policy = Policy.build(WORLD.tokenizer, 1, 32, 2, seed=1)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-2)
    for step in range(90):
        batch = TreeBatch.pack(WORLD.demonstrations(range(step * 8, step * 8 + 8)), policy.pad_token_id)
        (weighted_nll(policy.model, batch) / batch.weights_S.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return policy


def team_for(config: Any) -> Team:
    """The team of a config, its policies taught and then shaken a little, so that no two of them agree."""
    team = team_of(config, {name: taught().copy() for name in warm_names(config)}, Accelerator(cpu=True))
    team.paraphrase = paraphrase_for(config, WORLD)
    for seed, member in enumerate(team.members.values()):
        dice = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in member.policy.learnt().values():
                parameter += 0.02 * torch.randn(parameter.shape, generator=dice)
    return team


@cache
def a_round(policies: str, face_sees: str, paraphraser: str | None, how: Any) -> tuple[Team, list[Rollout], Weights]:
    """A team, what it sampled, and a weight other than 0 for each thought and each answer."""
    if policies == "adapters":
        pytest.importorskip("peft")
    config = config_of(policies, face_sees, paraphraser, how)
    team = team_for(config)
    rollouts, dice = played(config, team, world=WORLD), np.random.default_rng(0)
    drawn = (dice.uniform(0.5, 2, shape) * dice.choice([-1, 1], shape) for shape in ((4, 4), (4, 4, 3)))
    return team, rollouts, Weights(None, *drawn, questions=4)  # type: ignore[arg-type]


def learnt_by(member: Member, rollouts: Sequence[Rollout], weights: Weights) -> list[tuple[Completion, float]]:
    return list(weighted(rollouts, weights, member.roles))


def plain_rows(written: Sequence[tuple[Completion, float]]) -> TreeBatch:
    """Each completion as a row of its own, behind all that was read before it: nothing is shared."""
    trees = [
        SpanTree(one.context.ids(), "prompt", 0.0, [SpanTree(one.tokens, one.role, weight)]) for one, weight in written
    ]
    return TreeBatch.pack(trees, 0).flatten()


def gradient(policy: Policy, batch: TreeBatch) -> torch.Tensor:
    policy.activate()
    policy.model.eval()
    policy.model.zero_grad()
    weighted_nll(policy.model, batch).backward()
    learnt = [parameter for parameter in policy.model.parameters() if parameter.grad is not None]
    return torch.cat([parameter.grad.flatten() for parameter in learnt])  # type: ignore[union-attr]


@every_mode
def test_what_was_sampled_is_what_is_learnt(policies: str, face_sees: str, paraphraser: str | None, how: Any) -> None:
    """Log-probabilities are those of sampling, each token stands once behind what was read, and gradients are those of
    plain rows."""
    team, rollouts, weights = a_round(policies, face_sees, paraphraser, how)
    for member in team.members.values():
        written = learnt_by(member, rollouts, weights)
        batch = training_batch(written, member.policy.pad_token_id)
        assert batch is not None and batch.sampled_nll_S is not None
        member.policy.activate()
        with torch.no_grad():
            nll_S = token_nll(member.policy.model, batch)
        assert (nll_S - batch.sampled_nll_S).abs().max() < 1e-4
        places = [(one, i, weight) for one, weight in written for i in range(len(one.tokens))]
        wanted = sorted(([*one.context.ids(), *one.tokens[: i + 1]], weight) for one, i, weight in places)
        found = sorted(rows_of(batch))
        assert [row for row, _ in found] == [row for row, _ in wanted]
        assert [weight for _, weight in found] == pytest.approx([weight for _, weight in wanted], rel=1e-5)
        ours, theirs = gradient(member.policy, batch), gradient(member.policy, plain_rows(written))
        assert (ours - theirs).abs().max() < 1e-4 * max(1.0, float(theirs.abs().max()))


@every_mode
def test_lines_are_written_behind_what_the_earlier_ones_became(
    policies: str, face_sees: str, paraphraser: str | None, how: Any
) -> None:
    _, rollouts, _ = a_round(policies, face_sees, paraphraser, how)
    thoughts = [(one.question, thought) for one in rollouts for thought in one.thoughts]
    assert {thought.ended for _, thought in thoughts} == {True, False}
    for question, thought in thoughts:
        read = list(question.tokens)
        for line in thought.lines:
            assert line.written.context.ids() == read
            read += line.read.tokens
            assert line.read.ids() == read
        assert len(thought.tokens) <= 20 and len(thought.read_tokens) <= 20
        assert thought.paraphrased == (paraphraser is not None)
        assert len(thought.lines) == 1 or how == "line"
    for one in rollouts:
        for thought, context, answers in zip(one.thoughts, one.read, one.answers, strict=True):
            before = one.question.tokens if face_sees == "prompt+thought" else []
            end = [] if thought.ended else WORLD.thought_end
            assert context.ids() == [*before, *thought.read_tokens, *end]
            assert all(answer.context is context for answer in answers)
    lines = [line for _, thought in thoughts for line in thought.lines]
    assert (how == "line") == (len(lines) > len(thoughts))
    changed = [line for line in lines if list(line.read.tokens) != line.written.tokens]
    assert bool(changed) == (paraphraser not in (None, "copy"))
    assert not any(line.kept for line in changed)


@pytest.mark.parametrize("face_sees", SEES)
@pytest.mark.parametrize("how", ["whole", "line"])
def test_copied_thoughts_are_those_of_no_paraphraser(face_sees: str, how: str) -> None:
    texts = []
    for paraphraser in (None, "copy"):
        config = config_of("two", face_sees, paraphraser, how if paraphraser else None, max_thought=29)
        config.sampling = SamplingConfig(temperature=0.0)
        made = played(config, team_for(config), questions=12, world=WORLD)
        texts.append([(one.thought_texts, one.answer_texts, [read.ids() for read in one.read]) for one in made])
        pauses = sum(len(thought.lines) - 1 for one in made for thought in one.thoughts)
        assert (pauses > 0) == (how == "line" and paraphraser == "copy")
    assert texts[0] == texts[1]


@pytest.mark.parametrize(("paraphraser", "how"), MODES[1:])
def test_a_question_s_dice_are_its_own(paraphraser: str, how: Any) -> None:
    """What is written and drawn is the same, bit for bit, whatever is sampled beside it."""
    config = config_of("two", "prompt+thought", paraphraser, how)
    reasoner = team_for(config).reasoner(config)
    questions, seeds = WORLD.questions(range(4)), [11, 12, 13, 14]
    together = reasoner.rollouts(WORLD, questions, (3, 2), config.sampling, seeds)
    for question, seed, among in zip(questions, seeds, together, strict=True):
        (alone,) = reasoner.rollouts(WORLD, [question], (3, 2), config.sampling, [seed])
        assert (alone.thought_texts, alone.answer_texts) == (among.thought_texts, among.answer_texts)
        read = [[thought.read_tokens for thought in one.thoughts] for one in (alone, among)]
        assert read[0] == read[1]


def test_a_thought_that_is_rewritten_in_the_wrong_place_is_seen() -> None:
    """Lines put behind the lines as they were written, and not as they were read: the checks above tell them apart."""
    team, rollouts, weights = a_round("two", "prompt+thought", "rewriters:longer", "line")
    member = next(iter(team.members.values()))
    moved = []
    for one, weight in learnt_by(member, rollouts, weights):
        thought = next(t for r in rollouts for t in r.thoughts if any(line.written is one for line in t.lines))
        before = thought.context
        for line in thought.lines:
            if line.written is one:
                break
            before = replace(line.written, context=before).as_read()
        moved.append((replace(one, context=before), weight))
    batch = training_batch(moved, 0)
    assert batch is not None and batch.sampled_nll_S is not None
    with torch.no_grad():
        assert (token_nll(member.policy.model, batch) - batch.sampled_nll_S).abs().max() > 0.1


def test_records_hold_what_was_written_and_what_was_read(tmp_path: Path) -> None:
    _, rollouts, weights = a_round("two", "thought", "rewriters:longer", "line")
    scores = weights.answer_QNK
    records = records_of(WORLD, rollouts, range(4), weights.thought_QN, scores, scores, {"own": scores})
    write_rollouts(tmp_path, 1, records)
    kept = 0
    for record, rollout in zip(read_rollouts(tmp_path), rollouts, strict=True):
        for told, thought in zip(record["thoughts"], rollout.thoughts, strict=True):
            assert told["tokens"] == thought.tokens == [i for line in told["lines"] for i in line["tokens"]]
            assert [line["read_tokens"] for line in told["lines"]] == [list(line.read.tokens) for line in thought.lines]
            assert [line["kept"] for line in told["lines"]] == [line.kept for line in thought.lines]
            for line in told["lines"]:
                assert line["text"] == WORLD.text(line["tokens"]) and line["read"] == WORLD.text(line["read_tokens"])
            kept += sum(line["kept"] for line in told["lines"])
    assert kept
    _, plain, _ = a_round("two", "thought", None, None)
    write_rollouts(tmp_path, 2, records_of(WORLD, plain, range(4), weights.thought_QN, scores, scores, {"own": scores}))
    assert all("lines" not in one for record in list(read_rollouts(tmp_path))[4:] for one in record["thoughts"])


def test_figures_count_lines_as_they_are_read() -> None:
    scores = type("Scores", (), {"face_B": np.zeros(48), "errors": {}, "metrics": {}})()
    for paraphraser, how in MODES:
        _, rollouts, weights = a_round("two", "prompt+thought", paraphraser, how)
        figures = figures_of(WORLD, rollouts, replace(weights, scores=scores))
        thoughts = [thought for one in rollouts for thought in one.thoughts]
        lines = [line for thought in thoughts for line in thought.lines]
        assert figures["thought_tokens"] == sum(len(line.written.tokens) for line in lines) / 16
        assert ("lines" in figures) == (paraphraser is not None)
        if paraphraser:
            changed = sum(list(line.read.tokens) != line.written.tokens for line in lines)
            assert figures["lines"] == len(lines) / 16 and figures["lines_changed"] == changed / len(lines)
            assert figures["lines_kept"] == sum(line.kept for line in lines) / len(lines)


@pytest.mark.parametrize("face_sees", SEES)
@pytest.mark.parametrize("how", ["whole", "line"])
@pytest.mark.parametrize("policies", ["two", "one"])
def test_a_warm_start_imitates_lines_behind_what_they_became(
    policies: str, how: str, face_sees: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = config_of(policies, face_sees, "shuffle", how, warm_start__per_step=3)
    found: list[TreeBatch] = []
    monkeypatch.setattr(warm, "imitate", lambda learner, batch_of, *_, **__: found.append(batch_of(range(3))))
    names = warm_names(config)
    policies_ = {name: Policy.build(WORLD.tokenizer, 1, 16, 2) for name in names}
    team = team_for(config)
    warm.warm_start(
        config, WORLD, policies_, Accelerator(cpu=True), tmp_path, False, lambda values: None, team.paraphrase
    )
    assert len(found) == len(names)
    answers = thoughts = turned = 0
    ends, path = WORLD.thought_end[0], WORLD.tokenizer.convert_tokens_to_ids("<PATH_START>")
    (separator,) = WORLD.line_end().token_ids  # type: ignore[union-attr]
    for batch in found:
        assert all(weight == 1.0 for _, weight in rows_of(batch))
        for row, _ in rows_of(batch):
            answers += row[-1] == path
            thoughts += row[-1] == ends
            assert (row[-1] != path) or row.count(ends) == 1
            # A row behind a line that was turned: its child comes before its parent, which only a rewriting writes.
            words = WORLD.text(row).split()
            if "<THOUGHT_START>" in words and row[-1] == (path if how == "whole" else separator):
                turned += _turned(words[words.index("<THOUGHT_START>") + 1 :])
    assert answers == thoughts == 3 * WORLD.config.branches and turned > 0


@pytest.mark.parametrize("how", ["whole", "line"])
def test_a_run_goes_on_bit_for_bit_and_is_asked_as_it_was_trained(tmp_path: Path, how: str) -> None:
    options: dict[str, Any] = {"mazes__traces": ["bfs"], "paraphraser": "shuffle", "paraphrase": how}
    options |= {"rule": "advantage", "max_thought": 14, "warm_start__steps": 60, "length_cost": 0.01}

    def stop(values: dict) -> None:
        if values.get("phase") == "rounds" and values["step"] == 2:
            raise KeyboardInterrupt

    straight, broken = tmp_path / "straight", tmp_path / "broken"
    split(split_config(straight, **options))
    with pytest.raises(KeyboardInterrupt):
        split(split_config(broken, **options), report=stop)
    split(split_config(broken, **options), resume=True)
    assert timeless(straight) == timeless(broken)
    assert list(read_rollouts(straight)) == list(read_rollouts(broken))
    for name in ("shoggoth", "face"):
        assert same_weights(straight / name, broken / name)
    last = metrics(straight)[-1]
    assert (last["lines"] > 1) == (how == "line") and 0 <= last["lines_kept"] <= 1
    assert last["read_tokens"] == last["thought_tokens"]  # a shuffle adds nothing
    world, reasoner = opened(straight, WorldConfig(mazes=MazeConfig(sizes=[3], traces=["bfs"])), device="cpu")
    assert reasoner.paraphrase is not None and reasoner.paraphrase.by_line == (how == "line")
    kept = [json.loads(line) for line in (straight / "samples.jsonl").read_text().splitlines()]
    for made, told in zip(reasoner.rollouts(world, list(held_out(world, 6))), kept, strict=True):
        assert (made.thought_texts[0], made.answer_texts[0][0]) == (
            told["thoughts"][0]["text"],
            told["thoughts"][0]["answers"][0]["text"],
        )
        assert [line["read_tokens"] for line in told["thoughts"][0]["lines"]] == [
            list(line.read.tokens) for line in made.thoughts[0].lines
        ]


@pytest.mark.parametrize("at", ["training", "evaluation"])
def test_thoughts_are_rewritten_when_they_are_to_be(tmp_path: Path, at: str) -> None:
    options: dict[str, Any] = {"mazes__traces": ["bfs"], "paraphraser": "copy", "paraphrase": "line"}
    split(split_config(tmp_path, **options, paraphrase_at=at, warm_start__steps=30, rounds=1))
    before, line = metrics(tmp_path)
    assert ("lines" in line) == (at == "training") and ("held_out_lines" in before) == (at == "evaluation")
    (record, *_) = read_rollouts(tmp_path)
    assert ("lines" in record["thoughts"][0]) == (at == "training")
    _, reasoner = opened(tmp_path, WorldConfig(mazes=MazeConfig(sizes=[3], traces=["bfs"])), device="cpu")
    assert (reasoner.paraphrase is not None) == (at == "evaluation")


def _turned(words: list[str]) -> bool:
    been: set[str] = set()
    for a, b, _ in zip(*[iter(words)] * 3, strict=False):
        if been and a not in been:
            return True
        been |= {a, b}
    return False
