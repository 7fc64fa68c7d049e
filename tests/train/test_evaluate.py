"""Evaluation: figures that add up, whatever the batches, of questions that the world gives; and what it holds on to."""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from clew.config import MazeConfig
from clew.errors import InputError
from clew.graders import Grader
from clew.mazes.world import MazeWorld
from clew.policy import Policy
from clew.rollout.sampler import SharedPrefixSampler
from clew.runs.intervals import Ratio, wilson
from clew.train.evaluate import Reasoner, as_metrics, evaluate, held_out, world_grader
from clew.world import Figures, Look, Question, World
from small import WORLD
from toy import Sorting

MIXED = MazeWorld(MazeConfig(sizes=[3, 4]))


def asked(world: World, seed: int = 0, thinking: bool = False, **limits: int) -> Reasoner:
    samplers = [SharedPrefixSampler(Policy.build(world.tokenizer, 1, 16, 2, seed + i)) for i in range(2)]
    return Reasoner(samplers[0], samplers[1] if thinking else None, **limits)  # type: ignore[arg-type]


def report_of(world: World, count: int, scorers: Sequence[Grader] | None = None, **options: Any) -> dict[str, Any]:
    scorers = world_grader(world) if scorers is None else scorers
    return evaluate(world, asked(world), held_out(world, count), scorers, **options)[0]


def test_report_adds_up() -> None:
    grader = world_grader(MIXED)
    report, kept = evaluate(MIXED, asked(MIXED), held_out(MIXED, 40), grader, batch=16, keep=5)
    assert report["questions"] == 40 and len(kept) == 5
    for group in ("by_size", "by_generator", "by_path_length", "by_lookahead", "by_split"):
        for inside in (report[group], report[f"baseline_{group}"]):
            assert sum(part["questions"] for part in inside.values()) == 40
    assert list(report["by_split"]) == ["held_out"] and list(report["by_size"]) == ["3x3", "4x4"]
    whole = report["score"]["value"]
    parts = sum(p["questions"] * p["score"]["value"] for p in report["by_size"].values()) / 40
    assert parts == pytest.approx(whole)
    lengths = list(map(int, report["by_path_length"]))
    assert lengths == sorted(lengths) and len(lengths) > 3
    ahead = list(map(int, report["by_lookahead"]))
    assert ahead == sorted(ahead) and ahead[0] == 0 and len(ahead) > 3
    for name in ("exact", "optimal", "valid", "score", "node_overlap", "forced_steps"):
        assert report[name]["low"] <= report[name]["value"] <= report[name]["high"]


def test_samples_are_the_questions_in_their_order_with_what_was_answered() -> None:
    reasoner = asked(MIXED, thinking=True, max_thought=7, max_answer=5)
    _, kept = evaluate(MIXED, reasoner, held_out(MIXED, 9), world_grader(MIXED), batch=4)
    assert [one.question.prompt for one in kept] == [one.prompt for one in held_out(MIXED, 9)]
    for one in kept:
        (thought,) = one.record["thoughts"]
        (answer,) = thought["answers"]
        assert (thought["text"], answer["text"]) == (one.thought, one.answer) and answer["score"] == one.figures[
            "score"
        ]
        assert one.figures["thought_tokens"] == len(thought["tokens"]) <= 7
        assert one.figures["answer_tokens"] == len(answer["tokens"]) <= 5
        assert thought["read"].startswith(f"{one.question.prompt} {one.thought}")
        assert one.record["labels"] == one.question.labels and one.record["held_out"]
    direct = asked(MIXED)
    _, kept = evaluate(MIXED, direct, held_out(MIXED, 2), world_grader(MIXED))
    assert [one.thought for one in kept] == [None, None] and "thought_tokens" not in kept[0].figures
    assert kept[0].record["thoughts"][0]["tokens"] == [] and "search_steps" not in kept[0].figures


def test_batches_do_not_change_the_figures() -> None:
    small, large = (report_of(MIXED, 40, batch=batch) for batch in (7, 40))
    assert small == large


class Told(Sorting):
    """With figures of both kinds, some of which not every question has, and a baseline for some."""

    def measure(self, question: Question, thought: str | None, answer: str) -> Figures:
        first = float(question.prompt[0])
        even = first % 2 == 0
        return {"even": even, "first": first, "pooled": Ratio(even, first + 1)} | (
            {"after_four": even} if first > 4 else {}
        )

    def baseline(self, question: Question, rng: Any) -> str | None:
        return " ".join(sorted(question.prompt)) if question.prompt[0] < "5" else None


def test_a_bool_is_a_rate_a_number_a_mean_and_ratios_are_pooled() -> None:
    world = Told()
    questions = list(held_out(world, 60))
    firsts = [int(one.prompt[0]) for one in questions]
    report = report_of(world, 60)
    even = sum(first % 2 == 0 for first in firsts)
    low, high = wilson(even, 60)
    assert report["even"] == {"value": even / 60, "low": low, "high": high} and 0 < even < 60
    assert report["first"]["value"] == pytest.approx(sum(firsts) / 60)
    assert report["pooled"]["value"] == even / (sum(firsts) + 60)
    assert report["first"]["high"] + report["first"]["low"] == pytest.approx(2 * report["first"]["value"])
    late = [first for first in firsts if first > 4]
    rate = sum(first % 2 == 0 for first in late) / len(late)
    assert report["after_four"]["value"] == pytest.approx(rate)  # over those that have it
    groups = {name: part["questions"] for name, part in report["by_first"].items()}
    assert groups == {"low": 60 - len(late), "high": len(late)}
    baseline = report["baseline"]  # of the questions that have one, by the world's grader
    assert baseline["questions"] == 60 - len(late) and baseline["score"]["value"] == 1.0
    assert list(report["baseline_by_first"]) == ["low"]
    assert as_metrics(report)["held_out_even"] == even / 60
    assert not any("baseline" in name or "by_" in name for name in as_metrics(report))


def test_a_world_without_a_grader_or_a_baseline() -> None:
    report = report_of(Sorting(), 5, scorers=[])
    assert "score" not in report and "baseline" not in report and "sorted" in report


class Few(Sorting):
    """Of whose questions five are held out."""

    def held_out_count(self) -> int:
        return 5

    def held_out(self, numbers: Sequence[int], look: Look = "final", seed: int = 0) -> list[Question]:
        assert all(number < 5 for number in numbers)
        return super().held_out(numbers, look, seed)


def test_a_finite_world_is_asked_each_question_once() -> None:
    prompts = [one.prompt for one in held_out(Few(), 1000)]
    assert len(prompts) == len(set(prompts)) == 5
    assert report_of(Few(), 1000, batch=2)["questions"] == 5
    assert len(list(held_out(Few(), 3))) == 3
    assert len(list(held_out(Sorting(), 130))) == 130  # that says nothing of how many it has


def test_a_world_with_nothing_held_out_has_nothing_to_evaluate() -> None:
    world = MazeWorld(MazeConfig(sizes=[2]))
    assert world.held_out_count() == 0 and list(held_out(world, 10)) == []
    with pytest.raises(InputError, match="questions: there is none to evaluate"):
        evaluate(world, asked(world), held_out(world, 10), world_grader(world))


def test_limits_of_tokens_are_the_reasoner_s_or_the_world_s() -> None:
    (question,) = WORLD.held_out([0])
    for limits in ({}, {"max_answer": 3}, {"max_thought": 2}):
        (rollout,) = asked(WORLD, thinking=True, **limits).rollouts(WORLD, [question])
        assert rollout.question == replace(question, **limits)
        assert len(rollout.thoughts[0].tokens) <= limits.get("max_thought", question.max_thought)
        assert len(rollout.answers[0][0].tokens) <= limits.get("max_answer", question.max_answer)


def test_what_has_been_answered_is_let_go() -> None:
    alive = []

    def count() -> int:
        return sum(isinstance(thing, Question) for thing in gc.get_objects())

    def watched() -> Iterator[Question]:
        for i, question in enumerate(held_out(WORLD, 400)):
            if i % 50 == 0:
                alive.append(count())
            yield question

    before = count()
    evaluate(WORLD, asked(WORLD), watched(), world_grader(WORLD), batch=20, keep=5)
    assert len(alive) == 8 and max(alive) - before <= 64 + 2 * 2 * 20 + 2 * 5 + 2 < 400  # 64 are made at once


def test_as_many_questions_as_an_option_can_ask_for() -> None:
    assert next(held_out(WORLD, 2**63 - 1)).held_out
