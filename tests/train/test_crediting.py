"""Rules of one's own: tried before work, checked in every round; and graders that are known to be wrong before work."""

import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clew.cli.main import main
from clew.config import MazeConfig
from clew.credit import Credit, RuleError, advantage
from clew.errors import InputError
from clew.mazes.world import MazeWorld
from clew.train.config import SplitConfig
from clew.train.crediting import credited, effective_samples, figures_of, grade_rollouts, graders_of, measured, rule_of
from small import WORLD, fresh_team, played, split_config

TINY = "--model.layers 1 --model.width 16 --model.heads 2 --mazes.sizes [3] --warm-start.per-step 2"
TINY += " --warm-start.steps 1 --rounds 2 --questions 2 --thoughts 2 --answers 2 --validation-questions 2"
TINY += " --final-questions 2 --device cpu"


def fine(scores: np.ndarray, **options: Any) -> Credit:
    return advantage(scores, **options)


def with_weights(**changes: Any) -> Any:
    """A rule of which some weights are changed: functions from the right ones."""

    def rule(scores: np.ndarray) -> Credit:
        right = advantage(scores)
        named = {name: getattr(right, name) for name in ("thought_QN", "answer_QNK")}
        return Credit(**{name: changes.get(name, lambda x: x)(value) for name, value in named.items()})

    return rule


def spread(scores: np.ndarray) -> Credit:  # as one would write it, and 0 / 0 where all scores are equal
    z = (scores - scores.mean((1, 2), keepdims=True)) / scores.std((1, 2), keepdims=True)
    return Credit(z.mean(-1), z)


def changing(scores: np.ndarray) -> Credit:
    scores -= scores.mean()
    return Credit(scores.mean(-1), scores.copy())


def raising(scores: np.ndarray) -> Credit:
    raise KeyError("\x1b[31mnothing\nhere")


async def later(scores: np.ndarray) -> Credit:
    return advantage(scores)


def yielding(scores: np.ndarray) -> Any:
    yield advantage(scores)


def leaving(scores: np.ndarray) -> Credit:
    sys.exit(0)


WRONG = {
    "none": (lambda scores: None, "returned None; expected clew.credit.Credit"),
    "a_pair": (lambda scores: (scores.mean(-1), scores), "returned an object of type tuple"),
    "nan": (with_weights(thought_QN=lambda w: w * np.nan), "returned thought_QN with nan at question 0, thought 0"),
    "infinite": (with_weights(answer_QNK=lambda w: w + np.inf), "answer_QNK with inf at question 0, thought 0, answer"),
    "huge": (with_weights(answer_QNK=lambda w: w + 1e39), "expected finite float32 numbers"),
    "transposed": (with_weights(thought_QN=lambda w: w.T), "returned thought_QN of shape ("),
    "answers_transposed": (with_weights(answer_QNK=lambda w: w.transpose(0, 2, 1)), "answer_QNK of shape (2, "),
    "one_number": (with_weights(thought_QN=lambda w: 1.0), "thought_QN of shape ()"),
    "text": (with_weights(thought_QN=lambda w: w.astype(str)), "returned thought_QN as an object of type ndarray"),
    "ragged": (with_weights(answer_QNK=lambda w: [[1.0], [1.0, 2.0]]), "returned answer_QNK as an object of type list"),
    "missing": (with_weights(thought_QN=lambda w: None), "returned thought_QN as None"),
    "complex": (with_weights(thought_QN=lambda w: w + 1j), "returned thought_QN as"),
    "spread": (spread, "returned thought_QN with nan at question 0"),
    "changing": (changing, "changed the scores that it was given"),
    "raising": (raising, "raised KeyError: '\\x1b[31mnothing\\nhere'"),
    "leaving": (leaving, "raised SystemExit: 0"),
    "later": (later, "is async"),
    "yielding": (yielding, "returned an object of type generator"),
    "no_argument": (lambda: None, "called as rule(scores_QNK, **rule_options): too many positional arguments"),
    "two_arguments": (lambda scores, keep: None, "missing a required argument: 'keep'"),
}


@pytest.fixture(autouse=True)
def rules(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("own_rules")
    for name, (rule, _) in WRONG.items():
        setattr(module, name, rule)
    module.fine = fine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_rules", module)
    return module


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("shape", [(4, 4), (4, 3), (2, 2)])
def test_a_wrong_rule_is_named_before_work(name: str, shape: tuple[int, int]) -> None:
    config = SplitConfig(rule=f"own_rules:{name}", thoughts=shape[0], answers=shape[1])
    with pytest.raises(InputError) as caught:
        rule_of(config)
    line = str(caught.value)
    assert line.isprintable() and f"'own_rules:{name}'" in line
    assert WRONG[name][1] in line, line


def test_a_rule_that_suits_this_run_s_numbers_alone_is_let_be() -> None:
    def reshaping(scores: np.ndarray) -> Credit:
        return advantage(scores.reshape(-1, 4, 4))

    sys.modules["own_rules"].reshaping = reshaping  # type: ignore[attr-defined]
    rule = rule_of(SplitConfig(rule="own_rules:reshaping", thoughts=4, answers=4))
    assert rule(np.random.rand(3, 4, 4)).thought_QN.shape == (3, 4)


def test_rules_get_copies_and_their_weights_are_copied() -> None:
    kept: list[Any] = []

    def keeping(scores: np.ndarray, names: list[str]) -> Credit:
        kept.extend([scores, made := advantage(scores)])
        names.append("mine now")
        return made

    sys.modules["own_rules"].keeping = keeping  # type: ignore[attr-defined]
    config = SplitConfig(rule="own_rules:keeping", rule_options={"names": []})
    rule = rule_of(config)
    scores = np.random.rand(2, 8, 4)
    before, given = scores.copy(), rule(scores)
    weights = given.answer_QNK.copy()
    kept[-2][:] = 7.0
    kept[-1].answer_QNK[:] = 7.0
    assert np.array_equal(scores, before) and np.array_equal(given.answer_QNK, weights)
    assert config.rule_options == {"names": []}


def test_options_that_do_not_suit() -> None:
    cases: list[tuple[str, dict[Any, Any], str]] = [
        ("basic", {"keep": 2}, "rule_options: {'keep': 2} do not suit basic: it raised ValueError: keep: 2 is no"),
        ("basic", {"peak": 2}, "rule_options"),
        ("own_rules:fine", {"peak": 2}, "peak"),
        ("own_rules:fine", {1: 2}, "rule_options"),
        ("luck", {}, "rule: 'luck' is not one of"),
    ]
    for rule, options, says in cases:
        with pytest.raises(InputError, match=says.replace("{", r"\{")):
            rule_of(SplitConfig(rule=rule, rule_options=options))


def test_a_rule_that_fails_in_a_round_is_exit_1_and_one_line(
    rules: types.ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def failing(scores: np.ndarray) -> Credit:
        calls.append(0)
        return advantage(scores) if len(calls) < 3 else Credit(np.full(scores.shape[:2], np.nan), scores)

    rules.failing = failing  # type: ignore[attr-defined]
    assert main(["split", *TINY.split(), "--rule", "own_rules:failing", "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    said = "rule: 'own_rules:failing' returned thought_QN with nan at question 0, thought 0; expected finite float32"
    assert error == f"clew split: {said} numbers"
    rule = rule_of(SplitConfig(rule="own_rules:fine"))
    rules.fine = None  # type: ignore[attr-defined]
    with pytest.raises(RuleError, match="own_rules:fine' raised ValueError: scores"):
        rule(np.zeros((2, 8)))


def test_a_round_s_figures_count_every_token_once() -> None:
    for face_sees in ("prompt+thought", "thought"):
        config = split_config(face_sees=face_sees, max_thought=8, max_answer=6)
        rollouts = played(config, fresh_team(config))
        scores = grade_rollouts(graders_of(replace(config, grader=["models:length"]), WORLD), rollouts)
        weights = credited(config, advantage, rollouts, scores)
        figures = figures_of(WORLD, rollouts, weights)
        thoughts = [thought for one in rollouts for thought in one.thoughts]
        answers = [answer for one in rollouts for several in one.answers for answer in several]
        read = sum(len(thought.tokens) + (not thought.ended) for thought in thoughts)
        asked = sum(len(one.question.tokens) for one in rollouts)
        written = [sum(len(one.tokens) for one in some) for some in (thoughts, answers)]
        assert (figures["shoggoth_sampled"], figures["face_sampled"]) == (written[0], written[1])
        assert figures["face_prompted"] == read + (asked if face_sees == "prompt+thought" else 0)
        assert figures["thought_cost"] == pytest.approx((written[0] + read) / 12)
        assert figures["answer_tokens"] == pytest.approx(written[1] / 24)
        logps = [logp for one in answers for logp in one.logps]
        assert figures["answer_entropy"] == pytest.approx(-sum(logps) / len(logps))
        assert figures["score"] == pytest.approx(np.mean([len(WORLD.text(one.tokens)) for one in answers]))
        assert figures["valid"] == measured(WORLD, rollouts)["valid"]
        assert figures["effective_thoughts"] == pytest.approx(effective_samples(weights.thought_QN)) != 0


def test_effective_samples() -> None:
    assert effective_samples(np.array([1.0, -1.0, 1.0, 0.0])) == pytest.approx(3)
    assert effective_samples(np.array([3.0, 1.0])) == pytest.approx(1.6) and effective_samples(np.zeros(3)) == 0


def test_graders_that_cannot_be_called_or_are_named_twice() -> None:
    module = sys.modules["own_rules"]
    module.lean = lambda completions: [0.0] * len(completions)  # type: ignore[attr-defined]
    module.eager = lambda completions, answer, **rest: [0.0] * len(completions)  # type: ignore[attr-defined]
    module.right = lambda completions, **rest: [0.0] * len(completions)  # type: ignore[attr-defined]

    def stream(completions: list[str], **rest: Any) -> Any:
        yield 0.0

    module.stream = stream  # type: ignore[attr-defined]
    mazes = MazeConfig(sizes=[3])
    world = MazeWorld(mazes)
    cases: list[tuple[dict[str, Any], str]] = [
        (
            {"grader": ["own_rules:lean"]},
            "'own_rules:lean' cannot be called with prompts, completions, lattice, origin",
        ),
        ({"grader": ["own_rules:eager"]}, "missing a required.* 'answer'"),
        ({"answer_grader": ["own_rules:stream"]}, "'own_rules:stream' is a generator"),
        ({"answer_grader": ["own_rules:right", "own_rules:right"]}, "answer_grader: 'own_rules:right' is named more"),
        ({"grader": ["own_rules:right", "own_rules:right"]}, "^grader: 'own_rules:right' is named more than once"),
        ({"grader": ["own_rules:right"], "answer_grader": ["own_rules:right"]}, "^grader, answer_grader: 'own_rules:r"),
    ]
    for options, says in cases:
        with pytest.raises(InputError, match=says):
            graders_of(SplitConfig(mazes=mazes, **options), world)
    assert len(graders_of(SplitConfig(mazes=mazes, grader=["own_rules:right"]), world)) == 1
