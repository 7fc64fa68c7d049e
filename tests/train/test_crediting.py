"""Rules of one's own: tried before work, checked in every round; and graders that are known to be wrong before work."""

import json
import sys
import types
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clew.cli.main import main
from clew.config import MazeConfig
from clew.credit import Credit, RuleError, advantage, basic, contrastive, denoised, group
from clew.errors import InputError
from clew.graders import Grader, grade
from clew.mazes.world import MazeWorld
from clew.runs.options import read_yaml
from clew.runs.rollouts import read_rollouts
from clew.train.config import SplitConfig
from clew.train.crediting import credited, effective_samples, figures_of, grade_rollouts, graders_of, measured, rule_of
from small import WORLD, fresh_team, metrics, played, split_config

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
        scores = grade_rollouts(graders_of(["models:length"], WORLD, 60.0), rollouts)
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
    answer = {"route": "answer"}
    cases: list[tuple[list[Any], str]] = [
        (["own_rules:lean"], "'own_rules:lean' cannot be called with prompts, completions, lattice, origin"),
        (["own_rules:eager"], "missing a required.* 'answer'"),
        ([{"function": "own_rules:stream"} | answer], "'own_rules:stream' is a generator"),
        (["own_rules:right", "own_rules:right"], "^grader: 'own_rules:right' is named more than once"),
        (["own_rules:right", {"function": "own_rules:right", "weight": 2}], "'own_rules:right' is named more"),
        (["world", {"function": "world"} | answer], "'world' is named more than once"),
        ([{"weight": 2}], "names no function; expected package.module:function"),
        ([{"function": 3}], "names no function"),
        (["own_rules"], "'own_rules' is no import path"),
        (
            [{"function": "own_rules:right", "weigth": 2}],
            "'own_rules:right': 'weigth' is no option of a grader; expected",
        ),
        ([{"function": "own_rules:right", "weight": np.nan}], "weight: nan is not a finite number"),
        ([{"function": "own_rules:right", "weight": "two"}], "weight: 'two' is no number"),
        ([{"function": "own_rules:right", "weight": True}], "weight: True is no number"),
        ([{"function": "own_rules:right", "route": "face"}], "route: 'face' is not one of both, answer"),
        ([{"function": "own_rules:right", "credit": "apart"}], "credit: 'apart' is not one of together, each"),
        ([{"function": "own_rules:right", "on_error": None}], "on_error: None is not one of raise, none"),
    ]
    for given, says in cases:
        with pytest.raises(InputError, match=says) as caught:
            graders_of(given, world, 60.0)
        assert str(caught.value).startswith("grader: ") and str(caught.value).isprintable()
    (made,) = graders_of(["own_rules:right"], world, 7.0)
    assert (made.name, made.weight, made.route, made.time_limit) == ("own_rules:right", 1.0, "both", 7.0)


def test_graders_are_entries_beside_the_world_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    world = MazeWorld(MazeConfig(sizes=[3]))
    assert [grader.function for grader in graders_of([], world, 60.0)] == [world.grader()]
    full = {"function": "models:length", "weight": -0.5, "route": "answer", "credit": "each", "on_error": "none"}
    own, other = graders_of([{"function": "world", "weight": 2}, full], world, 60.0)
    assert own.function is world.grader() and (own.weight, own.credit) == (2.0, "together")
    assert all(getattr(other, name) == value for name, value in full.items() if name != "function")
    monkeypatch.setattr(world, "grader", lambda: None)
    with pytest.raises(InputError, match="this world has none of its own"):
        graders_of(["world"], world, 60.0)


def test_entries_go_to_a_file_and_come_back(tmp_path: Path) -> None:
    entries = "['models:length', {function: 'small:commas', weight: 1e-1, route: answer, credit: each, on_error: none}]"
    run, again = tmp_path / "run", tmp_path / "again"
    assert main(["split", *TINY.split(), "--grader", entries, "--out", str(run)]) == 0
    kept = {"function": "small:commas", "weight": 0.1, "route": "answer", "credit": "each", "on_error": "none"}
    assert read_yaml(run / "config.yaml")["grader"] == ["models:length", kept]
    assert main(["split", "--config", str(run / "config.yaml"), "--rounds", "1", "--out", str(again)]) == 0
    assert read_yaml(again / "config.yaml")["grader"] == ["models:length", kept]
    assert main(["split", "--resume", str(run), "--rounds", "3"]) == 0
    assert "grader_errors_small:commas" in metrics(run)[-1]


def test_what_graders_log_is_with_the_figures_and_the_rollouts(rules: types.ModuleType, tmp_path: Path) -> None:
    def logs(
        completions: list[str], completion_ids: Any, trainer_state: Any, log_extra: Any, log_metric: Any, **_: Any
    ):
        steps.append((trainer_state.global_step, trainer_state.max_steps, len(completions)))
        log_extra("tokens", [len(ids) for ids in completion_ids])
        log_metric("share", trainer_state.global_step + 0.5)
        return [1.0] * len(completions)

    def fails(completions: list[str], **_: Any) -> list[float]:
        raise ValueError("always")

    steps: list[tuple[int, int, int]] = []
    rules.logs, rules.fails = logs, fails  # type: ignore[attr-defined]
    graders = "['own_rules:logs', {function: 'own_rules:fails', on_error: none}]"
    assert main(["split", *TINY.split(), "--grader", graders, "--out", str(tmp_path / "run")]) == 0
    rounds = [step for step in steps if step[2] == 8]
    assert rounds == [(0, 2, 8), (1, 2, 8)] and steps[0][0] == 0 and steps[-1][0] == 2  # evaluations before and after
    first, second = metrics(tmp_path / "run")[1:]
    assert (first["logged_share"], second["logged_share"]) == (0.5, 1.5)
    assert first["grader_errors_own_rules:fails"] == 8 and first["score"] == 1.0
    found = [answer for one in read_rollouts(tmp_path / "run") for t in one["thoughts"] for answer in t["answers"]]
    assert len(found) == 16
    for answer in found:
        assert answer["extra"] == {"tokens": len(answer["tokens"])}
        assert answer["scores"] == {"own_rules:logs": 1.0, "own_rules:fails": None}
    samples = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    assert "tokens" in samples[0]["thoughts"][0]["answers"][0]["extra"]


def test_where_targeted_graders_are_now_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = "grader: [world, {function: package.module:function, route: answer}]"
    assert main(["split", "--answer-grader", "['small:commas']", "--out", str(tmp_path / "never")]) == 2
    assert f"answer_grader: is now called {now}" in capsys.readouterr().err
    (tmp_path / "old.yaml").write_text("answer_grader: ['small:commas']\n")
    assert main(["split", "--config", str(tmp_path / "old.yaml"), "--out", str(tmp_path / "never")]) == 2
    assert f"answer_grader is now {now}" in capsys.readouterr().err
    assert not (tmp_path / "never").exists()


# Several graders: one score, or credit by each.

Q, N, K = 2, 3, 2


def some_rollouts() -> list[Any]:
    """Rollouts as far as credit looks at them: thoughts of 1, 2 and 3 tokens."""
    thoughts = [types.SimpleNamespace(tokens=[0] * (i + 1)) for i in range(N)]
    return [types.SimpleNamespace(thoughts=thoughts, answers=[[None] * K] * N)] * Q


def weighed(graders: list[Grader], rule: Any = advantage, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    scores = grade(graders, ["?"] * Q * N * K, [str(i) for i in range(Q * N * K)], {})
    weights = credited(split_config(**options), rule, some_rollouts(), scores)
    return weights.thought_QN, weights.answer_QNK


def giving(seed: int, **options: Any) -> Grader:
    """A grader whose scores a seed fixes: from 0.1 to 1.2, none twice in a question."""
    made = np.random.default_rng(seed).permutation(12)
    scores = [0.1 + 0.1 * float(rank) for rank in made]
    return Grader(lambda completions, **_: [scores[int(text)] for text in completions], name=str(seed), **options)


@pytest.mark.parametrize("rule", [basic, denoised, contrastive, advantage, group])
def test_one_grader_by_itself_is_the_same_times_its_weight(rule: Any) -> None:
    together = weighed([giving(0)], rule)
    for weight in (2.0, 0.25, -1.0):
        for own, given in zip(together, weighed([giving(0, weight=weight, credit="each")], rule), strict=True):
            np.testing.assert_allclose(given, weight * own)


def test_credit_by_each_grader_adds_up() -> None:
    """Each part is what the rule makes of those scores alone."""
    graders = [
        giving(0),
        giving(1, weight=3.0),
        giving(2, weight=0.5, credit="each"),
        giving(3, weight=-2.0, credit="each"),
    ]
    sums = np.array([one.function(completions=map(str, range(12))) for one in graders]).reshape(4, Q, N, K)
    parts = [advantage(scores) for scores in (sums[0] + 3 * sums[1], sums[2], sums[3])]
    thought_QN, answer_QNK = weighed(graders)
    np.testing.assert_allclose(thought_QN, sum(w * c.thought_QN for w, c in zip((1, 0.5, -2), parts, strict=True)))
    np.testing.assert_allclose(answer_QNK, sum(w * c.answer_QNK for w, c in zip((1, 0.5, -2), parts, strict=True)))


def test_credit_by_each_by_hand() -> None:
    """A coarse grader and a fine one: added up, the coarse one decides alone; each by itself, both are heard."""
    large = Grader(lambda completions, **_: [10.0, 0.0, 0.0, 0.0, 0.0, 0.0] * Q, name="large", credit="each")
    small = Grader(lambda completions, **_: [0.0, 0.0, 0.0, 0.0, 1.0, 0.0] * Q, name="small", credit="each")
    rule = partial(basic, keep=1 / 6)
    thought_QN, answer_QNK = weighed([large, small], rule)
    assert np.array_equal(thought_QN[0], [1, 0, 1]) and np.array_equal(answer_QNK[0], [[1, 0], [0, 0], [1, 0]])
    thought_QN, _ = weighed([replace(large, credit="together"), replace(small, credit="together")], rule)
    assert np.array_equal(thought_QN[0], [1, 0, 0])
    _, answer_QNK = weighed([large, replace(small, weight=-0.5)], rule)  # a penalty pushes away what it is highest for
    assert np.array_equal(answer_QNK[0], [[1, 0], [0, 0], [-0.5, 0]])


def test_routes_hold_for_credit_by_each() -> None:
    heard = weighed([giving(0, credit="each")])
    both = weighed([giving(0, credit="each"), giving(1, credit="each", route="answer"), giving(2, route="answer")])
    np.testing.assert_array_equal(both[0], heard[0])
    assert np.abs(both[1] - heard[1]).max() > 0.1
    nothing, something = weighed([giving(1, credit="each", route="answer")])
    assert not nothing.any() and something.any()


def test_length_is_charged_on_each_positive_score() -> None:
    """Equal scores: what is left to tell thoughts apart is their length, whoever gave the scores."""

    def flat(value: float, **options: Any) -> Grader:
        return Grader(lambda completions, **_: [value] * len(completions), name=str(value), **options)

    shorter = np.array([[1.0, 0.0, -1.0]] * Q)
    for graders in ([flat(1.0)], [flat(1.0, credit="each")], [flat(-1.0, weight=-1.0)]):
        np.testing.assert_allclose(weighed(graders, length_cost=0.1)[0], shorter)
    np.testing.assert_allclose(
        weighed([flat(1.0, credit="each"), flat(2.0, credit="each")], length_cost=0.1)[0], 2 * shorter
    )
    # A penalty grows no smaller by a longer thought, whichever way its sign is written.
    for graders in ([flat(-1.0)], [flat(1.0, weight=-1.0)], [flat(1.0, weight=-1.0, credit="each")]):
        assert not weighed(graders, length_cost=0.1)[0].any()


def test_what_no_grader_scores_is_not_sampled() -> None:
    some = Grader(lambda completions, **_: [None, 1.0, 0.5] * (Q * 2), name="some")
    thought_QN, answer_QNK = weighed([some, Grader(lambda completions, **_: [None] * 12, name="none")])
    np.testing.assert_allclose(answer_QNK[0], advantage([[[np.nan, 1], [0.5, np.nan], [1, 0.5]]]).answer_QNK[0])
    assert thought_QN.any()
    for credit in ("together", "each"):
        nothing = weighed([Grader(lambda completions, **_: [None] * 12, name="none", credit=credit)])
        assert not nothing[0].any() and not nothing[1].any()


def test_a_round_without_any_score_has_figures_all_the_same() -> None:
    config = split_config(max_thought=8, max_answer=6)
    rollouts = played(config, fresh_team(config))
    for graded in (0, 5):
        scores = [1.0] * graded + [None] * (24 - graded)
        some = Grader(lambda scores=scores, **_: scores, name="some", on_error="none")
        weights = credited(config, advantage, rollouts, grade_rollouts([some], rollouts))
        figures = figures_of(WORLD, rollouts, weights)
        assert figures["ungraded"] == pytest.approx(1 - graded / 24) and figures["grader_errors_some"] == 0
        assert figures.get("score") == (1.0 if graded else None) == figures.get("best_score")
        assert all(np.isfinite(value) for value in figures.values())
