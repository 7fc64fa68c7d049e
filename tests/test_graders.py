"""Graders: scores and their routes, blindness to thoughts, and errors that name a sample in one safe line."""

import asyncio
import dataclasses
import inspect
import math
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import clew.calls
import clew.graders
from clew.errors import InputError
from clew.graders import Grader, GraderError, Scores, check_call, grade, length_discount, load_grader
from clew.mazes import Lattice

PROMPTS = ["2 + 2", "3 + 3", "4 + 4"]
COMPLETIONS = ["4", "six", "8!"]
COLUMNS = {"reference": ["4", "6", "8"]}


def right(prompts: list[str], completions: list[str], reference: list[str], **columns: Any) -> list[float]:
    return [float(said == true) for said, true in zip(completions, reference, strict=True)]


def length(prompts: list[str], completions: list[str], **columns: Any) -> list[int]:
    return [len(said) for said in completions]


async def slow_length(completions: list[str], **columns: Any) -> list[int]:
    await asyncio.sleep(0.01)
    return [len(said) for said in completions]


def giving(result: object) -> Grader:
    return Grader(lambda **_: result, name="fixed")


def score(*graders: Grader) -> Scores:
    return grade(graders, PROMPTS, COMPLETIONS, COLUMNS)


def failure(grader: Grader) -> str:
    with pytest.raises(GraderError) as caught:
        score(grader)
    message = str(caught.value)
    assert message.isprintable()
    assert f"grader {grader.name!r}" in message
    return message


def test_routes_and_weights() -> None:
    scores = score(Grader(right, 2.0), Grader(length, -0.5, "answer"))
    assert_array_equal(scores.by_grader["right"], [1, 0, 0])
    assert_array_equal(scores.by_grader["length"], [1, 3, 2])
    assert_array_equal(scores.shoggoth_B, [2, 0, 0])
    assert_array_equal(scores.face_B, [1.5, -1.5, -1])


def test_only_the_answer_is_graded() -> None:
    assert_array_equal(score(Grader(length, route="answer")).shoggoth_B, [0, 0, 0])


def test_async() -> None:
    class Judge:
        async def __call__(self, prompts: list[str], **columns: Any) -> list[int]:
            return await slow_length(prompts)

    scores = score(Grader(slow_length), Grader(Judge()))
    assert_array_equal(scores.by_grader["slow_length"], [1, 3, 2])
    assert_array_equal(scores.by_grader["Judge"], [5, 5, 5])


def test_inside_a_running_event_loop() -> None:
    async def main() -> Scores:
        return score(Grader(slow_length))

    assert_array_equal(asyncio.run(main()).face_B, [1, 3, 2])


def test_a_grader_cannot_disturb_the_next() -> None:
    def vandal(prompts: list[str], completions: list[str], reference: list[str]) -> list[int]:
        for given_list in (prompts, completions, reference):
            given_list[:] = ["", "", ""]
        return [0, 0, 0]

    assert_array_equal(score(Grader(vandal), Grader(right)).face_B, [1, 0, 0])


def test_what_a_grader_changes_reaches_nobody() -> None:
    """Nested values too: messages, lists in a column, a lattice's array."""

    def vandal(prompts: list[Any], completions: list[str], notes: list[Any], lattice: list[Lattice], **_: Any) -> list:
        seen.append(repr((prompts, notes, [one.edges() for one in lattice])))
        prompts[0][0]["content"] = "gone"
        notes[0]["deep"].append("gone")
        assert not lattice[0].passages.flags.writeable
        for one in lattice:
            one.passages.setflags(write=True)
            one.passages[:] = False
        return [0] * len(completions)

    seen: list[str] = []
    maze = Lattice.random(3, 3)
    columns = {"notes": [{"deep": [1]}, {"deep": [2]}], "lattice": [maze, maze], "answer": ["a", "b"]}
    prompts = [[{"role": "user", "content": "hello"}], "plain"]
    before = repr((prompts, columns["notes"], [maze.edges(), maze.edges()]))
    for _ in range(2):
        grade([Grader(vandal), Grader(vandal, name="another")], prompts, ["x", "y"], columns)
    assert seen == [before] * 4
    assert repr((prompts, columns["notes"], [maze.edges(), maze.edges()])) == before
    assert not maze.passages.flags.writeable


def test_what_cannot_be_copied_is_named() -> None:
    with pytest.raises(InputError, match="columns: 'lock' holds what cannot be copied"):
        grade([Grader(length)], ["a"], ["b"], {"lock": [threading.Lock()]})


@pytest.mark.parametrize(
    "result", [[True, 0, 0.5], (1, 0, 0.5), np.array([1, 0, 0.5], dtype=np.float32), [np.float32(1), 0, Fraction(1, 2)]]
)
def test_numbers_of_many_kinds(result: object) -> None:
    face_B = score(giving(result)).face_B
    assert_array_equal(face_B, [1, 0, 0.5])
    assert face_B.dtype == np.float64


# What TRL's trainers give to reward functions, and take from them.

MESSAGES = [[{"role": "user", "content": text}] for text in PROMPTS]


def test_answers_come_in_the_form_of_their_prompts() -> None:
    def spy(prompts: list[Any], completions: list[Any]) -> list[int]:
        seen.append((prompts, completions))
        return [0, 0]

    seen: list[Any] = []
    grade([Grader(spy)], ["2 + 2", MESSAGES[1]], ["4", "six"], {})
    assert seen == [(["2 + 2", MESSAGES[1]], ["4", [{"role": "assistant", "content": "six"}]])]


def test_none_is_left_out_of_the_sum() -> None:
    some, other = giving([1, None, None]), Grader(lambda **_: [None, 2, None], -0.5, "answer", name="other")
    scores = score(some, other)
    assert_array_equal(scores.by_grader["fixed"], [1, np.nan, np.nan])
    assert_array_equal(scores.shoggoth_B, [1, np.nan, np.nan])
    assert_array_equal(scores.face_B, [1, -1, np.nan])
    assert scores.errors == {}


def test_functions_get_what_they_take() -> None:
    def plain(prompts: list[str], completions: list[str], reference: list[str]) -> list[int]:
        return [1, 1, 1]

    def by_name(completions: list[str], completion_ids: list[list[int]], trainer_state: Any, **_: Any) -> list[float]:
        completion_ids[0].append(99)
        trainer_state.log_history.append("mine")
        return [trainer_state.global_step + len(ids) for ids in completion_ids]

    state, ids = SimpleNamespace(global_step=7, log_history=[]), [[1], [2, 3], []]
    for _ in range(2):  # each is given copies
        scores = grade([Grader(plain), Grader(by_name)], PROMPTS, COMPLETIONS, COLUMNS, ids, state)
        assert_array_equal(scores.by_grader["by_name"], [9, 9, 7])
    assert ids[0] == [1] and state.log_history == []
    for one in (plain, by_name):
        check_call(Grader(one), COLUMNS)
    with pytest.raises(InputError, match="'completion_ids': 2 values; expected 3"):
        grade([Grader(plain)], PROMPTS, COMPLETIONS, COLUMNS, [[1], [2]])


def test_what_is_logged_is_kept_a_value_a_sample() -> None:
    def first(completions: list[str], log_extra: Any, log_metric: Any, **_: Any) -> list[int]:
        log_extra("parsed", values := [[text] for text in completions])
        values[0].append("changed later")
        log_metric("mean", 1)
        log_metric("mean", 2.0)
        log_metric("odd", math.nan)
        return [0, 0, 0]

    async def second(log_extra: Any, log_metric: Any, **_: Any) -> list[int]:
        log_extra("more", (1, None, 3))
        log_metric("mean", 6)
        return [0, 0, 0]

    scores = score(Grader(first), Grader(second))
    assert scores.extra == {"parsed": [["4"], ["six"], ["8!"]], "more": [1, None, 3]}
    assert scores.metrics == {"mean": 3.0}

    def short(completions: list[str], log_extra: Any, **_: Any) -> list[int]:
        log_extra("x", [1])
        return [0] * len(completions)

    assert "ValueError(\"log_extra: 1 values of 'x' for 3 samples\")" in failure(Grader(short))


def test_async_graders_run_side_by_side() -> None:
    """Each waits for all the others: in turn they would wait for ever."""
    there: list[str] = []

    def meeting(name: str) -> Grader:
        async def meet(completions: list[str], **_: Any) -> list[int]:
            there.append(name)
            while len(there) < 3:
                await asyncio.sleep(0.005)
            return [len(there)] * len(completions)

        return Grader(meet, name=name, time_limit=20)

    scores = score(meeting("a"), Grader(lambda completions, **_: [0] * 3, name="plain"), meeting("b"), meeting("c"))
    assert_array_equal(scores.face_B, [9, 9, 9])


def test_each_async_grader_has_its_own_time_limit() -> None:
    slow, quick = Grader(hangs_async, time_limit=0.3, on_error="none"), Grader(slow_length, time_limit=20)
    scores = score(slow, quick)
    assert_array_equal(scores.by_grader["hangs_async"], [0, np.nan, 0])
    assert_array_equal(scores.by_grader["slow_length"], [1, 3, 2])


def test_one_that_keeps_the_loop_is_blamed_alone() -> None:
    greedy, quick = Grader(blocks_the_loop, time_limit=0.4, on_error="none"), Grader(slow_length, time_limit=0.4)
    scores = score(greedy, quick)
    assert_array_equal(scores.by_grader["slow_length"], [1, 3, 2])
    assert np.isnan(scores.by_grader["blocks_the_loop"][1]) and scores.errors["blocks_the_loop"] >= 1


def test_what_async_graders_keep_open_stays_open() -> None:
    """As under a trainer, whose one loop lives as long as the run."""
    loops: list[Any] = []

    async def client(completions: list[str], **_: Any) -> list[int]:
        loops.append(asyncio.get_running_loop())
        return [0] * len(completions)

    for _ in range(2):
        score(Grader(client))
    assert loops[0] is loops[1] and loops[0].is_running()


def picky(completions: list[str], log_extra: Any, **_: Any) -> list[float]:
    scores = [float(text.strip("!")) for text in completions]
    log_extra("number", scores)
    return scores


async def picky_async(**given: Any) -> list[float]:
    return picky(**given)


@pytest.mark.parametrize("function", [picky, picky_async])
def test_a_grader_that_may_fail_fails_at_single_samples(function: Callable[..., Any]) -> None:
    scores = score(Grader(function, on_error="none"), Grader(right))
    assert_array_equal(scores.by_grader[function.__name__], [4, np.nan, 8])
    assert_array_equal(scores.face_B, [5, 0, 8])
    assert scores.errors == {function.__name__: 1}
    assert scores.extra == {"number": [4.0, None, 8.0]}


@pytest.mark.parametrize(
    ("result", "kept", "failed"),
    [
        ([1, "1", None], [1, np.nan, np.nan], 1),
        ([1, np.nan, np.inf], [1, np.nan, np.nan], 2),
        (None, [np.nan] * 3, 3),
        ([1], [1, 1, 1], 0),  # right of each sample alone
        ([1, 1], [np.nan] * 3, 3),
    ],
)
def test_what_a_grader_that_may_fail_returns(result: Any, kept: list[float], failed: int) -> None:
    scores = score(Grader(lambda **_: result, name="odd", on_error="none"))
    assert_array_equal(scores.face_B, kept)
    assert scores.errors == {"odd": failed}


def test_one_that_hangs_at_a_sample_leaves_time_for_the_others() -> None:
    start = time.monotonic()
    scores = score(Grader(hangs, time_limit=0.5, on_error="none"))
    assert_array_equal(scores.by_grader["hangs"], [0, np.nan, 0])
    assert time.monotonic() - start < 5


def test_reward_functions_that_trl_ships() -> None:
    rewards = pytest.importorskip("trl.rewards")
    shown = [[{"role": "user", "content": "?"}]] * 2
    texts = ["<think>\nhm\n</think>\nThe answer is \\boxed{4}", "\\boxed{5} 1 2 1 2 1 2"]
    ids = [[1, 2, 3], [1, 2, 1, 2, 1, 2, 1, 2]]
    functions = [rewards.think_format_reward, rewards.get_soft_overlong_punishment(8, 4)]
    functions += [rewards.get_repetition_penalty_reward(2, -1.0)]
    graders = [Grader(function) for function in functions]
    for grader in graders:
        check_call(grader, {"solution": ["4", "4"]})
    scores = grade(graders, shown, texts, {"solution": ["4", "4"]}, ids)
    assert_array_equal(scores.by_grader["think_format_reward"], [1, 0])
    assert_array_equal(scores.by_grader["soft_overlong_punishment_reward"], [0, -1])
    assert_allclose(scores.by_grader["repetition_penalty_reward"], [0, -5 / 7])


def test_trl_s_accuracy_reward() -> None:
    rewards = pytest.importorskip("trl.rewards")
    pytest.importorskip("math_verify")
    texts, solutions = [r"\boxed{\frac{1}{3}}", r"\boxed{\frac{1}{2}}", r"\boxed{1}"], [r"$\frac{1}{3}$"] * 2 + [""]
    scores = grade([Grader(rewards.accuracy_reward)], MESSAGES, texts, {"solution": solutions})
    assert_array_equal(scores.face_B, [1, 0, np.nan])
    assert scores.extra["gold_parsed"][2] == "[unparseable]"


# Blindness.


def test_no_argument_takes_a_thought() -> None:
    taken = ["graders", "prompts", "completions", "columns", "completion_ids", "trainer_state"]
    assert list(inspect.signature(grade).parameters) == taken
    fields = "function weight route credit on_error name time_limit"
    assert [field.name for field in dataclasses.fields(Grader)] == fields.split()
    for module in (clew.graders, clew.calls):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            for parameter in inspect.signature(function).parameters:
                assert "thought" not in parameter, f"{name}({parameter})"


def test_a_grader_is_passed_nothing_else() -> None:
    seen: dict[str, Any] = {}

    def nosy(*positional: Any, **named: Any) -> list[int]:
        seen.update(named)
        assert not positional
        return [0, 0, 0]

    given = {"prompts": PROMPTS, "completions": COMPLETIONS, **COLUMNS}
    score(Grader(nosy))
    assert set(seen) == {*given, "log_extra", "log_metric"}
    assert {name: seen[name] for name in given} == given
    state = SimpleNamespace(global_step=3)
    grade([Grader(nosy)], PROMPTS, COMPLETIONS, COLUMNS, [[1], [2, 3], []], state)
    assert set(seen) == {*given, "log_extra", "log_metric", "completion_ids", "trainer_state"}
    assert seen["completion_ids"] == [[1], [2, 3], []]
    assert seen["trainer_state"] == state and seen["trainer_state"] is not state
    # Nor can a thought be reached through the methods that log.
    for method in (seen["log_extra"], seen["log_metric"]):
        held = vars(method.__self__)
        assert set(held) == {"count", "extra", "metrics"} and held["count"] == 3


@pytest.mark.parametrize("name", ["thought", "thoughts", "Thought", "THOUGHTS", "model_thought", "thoughts_ids"])
def test_columns_of_thoughts_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="no grader may see"):
        grade([Grader(length)], PROMPTS, COMPLETIONS, {name: ["hm"] * 3})


def test_thoughts_cannot_ride_on_completions() -> None:
    class Text(str):
        thought = "hm"

    for carrier in (Text("4"), ("hm", "4"), {"thought": "hm", "content": "4"}, [{"role": "assistant", "content": "4"}]):
        with pytest.raises(InputError, match=r"completions: .* at sample 1; expected the face's text"):
            grade([Grader(length)], PROMPTS, ["4", carrier, "8"], COLUMNS)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "name", ["prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric"]
)
def test_columns_cannot_replace_arguments(name: str) -> None:
    with pytest.raises(InputError, match="is an argument of every grader"):
        grade([Grader(length)], PROMPTS, COMPLETIONS, {name: ["hm"] * 3})


def test_the_stack_above_a_grader_holds_no_thought() -> None:
    def climber(**named: Any) -> list[int]:
        frame = inspect.currentframe()
        while frame is not None:
            assert "thoughts" not in frame.f_locals
            frame = frame.f_back
        return [0, 0, 0]

    thoughts = ["hm"] * 3
    score(Grader(climber))
    del thoughts


# Failures.


def test_a_grader_that_raises() -> None:
    def picky(completions: list[str], **columns: Any) -> list[float]:
        return [float(said.strip("!")) for said in completions]

    message = failure(Grader(picky))
    assert "raised ValueError(" in message
    assert "sample 1 of 3, prompt '3 + 3', completion 'six'" in message


def test_a_grader_that_raises_on_the_whole_batch_only() -> None:
    def lonely(completions: list[str], **columns: Any) -> list[float]:
        if len(completions) > 1 or completions == ["six"]:
            raise (RuntimeError if len(completions) > 1 else KeyError)("no")
        return [0.0]

    assert "raised RuntimeError('no'); sample 0 of 3" in failure(Grader(lonely))


def test_a_grader_that_exits() -> None:
    def quitter(**columns: Any) -> list[float]:
        raise SystemExit(3)

    assert "raised SystemExit(3); sample 0 of 3" in failure(Grader(quitter))


def test_a_grader_with_other_columns() -> None:
    assert "unexpected keyword argument" in failure(Grader(lambda prompts, completions: [0, 0, 0]))


def hangs(completions: list[str], **columns: Any) -> list[float]:
    time.sleep(5 if "six" in completions else 0)
    return [0.0] * len(completions)


async def hangs_async(completions: list[str], **columns: Any) -> list[float]:
    await asyncio.sleep(60 if "six" in completions else 0)
    return [0.0] * len(completions)


async def blocks_the_loop(completions: list[str], **columns: Any) -> list[float]:
    return hangs(completions)


@pytest.mark.parametrize("function", [hangs, hangs_async, blocks_the_loop])
def test_time_limit(function: Callable[..., Any]) -> None:
    start = time.monotonic()
    message = failure(Grader(function, time_limit=0.3))
    assert time.monotonic() - start < 5
    assert "gave no scores within 0.3 s; sample 1 of 3, prompt '3 + 3', completion 'six'" in message


def test_a_hung_grader_does_not_keep_the_program_from_ending() -> None:
    daemons: list[bool] = []

    def aware(**columns: Any) -> list[float]:
        daemons.append(threading.current_thread().daemon)
        return [0, 0, 0]

    score(Grader(aware))
    assert daemons == [True]


def test_a_coroutine_is_cancelled_at_its_time_limit() -> None:
    cancelled = threading.Event()

    async def patient(**columns: Any) -> list[float]:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()
        return []

    failure(Grader(patient, time_limit=0.1))
    assert cancelled.wait(5)


def test_a_grader_s_own_timeout_is_not_its_time_limit() -> None:
    async def impatient(**columns: Any) -> list[float]:
        raise TimeoutError("the judge is away")

    assert "raised TimeoutError('the judge is away')" in failure(Grader(impatient))


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (None, "returned None where a list of 3 numbers belongs; sample 0 of 3"),
        (1.0, "returned 1.0 where a list"),
        ("111", "returned '111' where a list"),
        ({0: 1, 1: 1, 2: 1}, "where a list of 3 numbers belongs"),
        ([], "returned 0 scores for 3 samples; sample 0 of 3"),
        ([1, 1], "returned 2 scores for 3 samples; sample 2 of 3"),
        ([1] * 4, "returned 4 scores for 3 samples; sample 2 of 3"),
        (np.ones((2, 3)), "returned 2 scores"),
        ([1, [None], None], "returned [None] where a finite number or None belongs; sample 1 of 3"),
        ([1, 1, "1"], "returned '1' where a finite number or None belongs; sample 2 of 3"),
        ([1, np.nan, 1], "returned nan where a finite number or None belongs; sample 1 of 3"),
        ([1, 1, -np.inf], "returned -inf where a finite number or None belongs; sample 2 of 3"),
        ([10**400, 1, 1], "where a finite number or None belongs; sample 0 of 3"),
        ([1, 10**5000, 1], "returned <int> where a finite number or None belongs; sample 1 of 3"),
        ([1, 1j, 1], "returned 1j where a finite number or None belongs"),
        (np.ones((3, 2)), "returned [1.0, 1.0] where a finite number or None belongs; sample 0 of 3"),
        ([np.ones(2), 1, 1], "where a finite number or None belongs; sample 0 of 3"),
    ],
)
def test_wrong_scores(result: object, reason: str) -> None:
    assert reason in failure(giving(result))


@settings(max_examples=50, deadline=None)
@given(prompt=st.text(), completion=st.text(), error=st.text())
def test_messages_are_safe_to_print(prompt: str, completion: str, error: str) -> None:
    def fails(**columns: Any) -> list[float]:
        raise ValueError(error)

    for grader in (Grader(fails, name=f"bad\x1b[2J{error}"), giving([error])):
        with pytest.raises(GraderError) as caught:
            grade([grader], [prompt], [completion], {})
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 2000


def test_messages_show_what_a_model_wrote_escaped_and_short() -> None:
    with pytest.raises(GraderError) as caught:
        grade([giving(["1"])], [[{"role": "user", "content": "\x1b[31m" + "long " * 1000}]], ["\u202eevil\n\r\x00"], {})
    message = str(caught.value)
    assert r"completion '\u202eevil\n\r\x00'" in message
    assert r"\x1b[31mlong" in message
    assert len(message) < 300


# Arguments.


@pytest.mark.parametrize(
    ("graders", "prompts", "completions", "columns", "message"),
    [
        ([], ["a"], ["b"], {}, "at least one grader"),
        ([Grader(length), Grader(length)], ["a"], ["b"], {}, "a name of its own"),
        ([Grader(length)], [], [], {}, "completions: there are none"),
        ([Grader(length)], ["a", "b"], ["b"], {}, "'prompts': 2 values; expected 1"),
        ([Grader(length)], ["a"], ["b"], {"reference": []}, "'reference': 0 values; expected 1"),
    ],
)
def test_arguments_that_do_not_fit(
    graders: list[Grader], prompts: list[str], completions: list[str], columns: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        grade(graders, prompts, completions, columns)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"function": "module:function"}, "function: 'module:function' cannot be called; see load_grader"),
        ({"weight": np.inf}, "weight: inf is not finite"),
        ({"route": "shoggoth"}, "route: 'shoggoth' is unknown; expected one of both, answer"),
        ({"credit": "alone"}, "credit: 'alone' is unknown; expected one of together, each"),
        ({"on_error": "skip"}, "on_error: 'skip' is unknown; expected one of raise, none"),
        ({"time_limit": 0}, "time_limit: 0 is out of range"),
        ({"time_limit": np.nan}, "time_limit: nan is out of range"),
        ({"time_limit": np.inf}, "time_limit: inf is out of range"),
    ],
)
def test_bad_grader(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Grader(**{"function": length, **options})


def test_load_grader(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_graders.py").write_text(
        "BAR = 3\ndef brief(completions, **columns):\n    return [-len(said) for said in completions]\n"
    )
    (tmp_path / "broken_grader.py").write_text("raise OSError('no key\\nat all')\n")
    monkeypatch.syspath_prepend(tmp_path)
    grader = load_grader("my_graders:brief", weight=0.5, route="answer")
    assert (grader.name, grader.weight, grader.route) == ("my_graders:brief", 0.5, "answer")
    assert load_grader("my_graders:brief", name="brief").name == "brief"
    assert_array_equal(score(grader).face_B, [-0.5, -1.5, -1])
    for path in ("my_graders:missing", "my_graders:BAR", "broken_grader:f", "no_such_module:f"):
        with pytest.raises(InputError) as caught:
            load_grader(path)
        assert str(caught.value).startswith(f"grader: '{path}'")
        assert "expected package.module:function" in str(caught.value)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "path", ["", "module", "module.function", "module:", ":function", "a b:c", "m:f:g", "./m.py:f"]
)
def test_paths_of_another_form(path: str) -> None:
    with pytest.raises(InputError, match=r"is no import path; expected package\.module:function"):
        load_grader(path)


# The cost of length.


def test_length_discount() -> None:
    factors = length_discount([[0, 3, 10], [4, np.nan, 5]], cost=0.1, free=4)
    assert_allclose(factors, [[1, 1, 0.4], [1, np.nan, 0.9]])
    assert_array_equal(length_discount([[3]], cost=0), [[1]])
    assert_array_equal(length_discount([[3]], cost=2), [[0]])
    assert list(inspect.signature(length_discount).parameters) == ["lengths_QN", "cost", "free"]


@pytest.mark.parametrize(
    ("lengths", "cost", "free", "message"),
    [
        ([[1, -2]], 1, 0, "lengths: -2.0 is out of range"),
        ([[np.inf]], 1, 0, "lengths: inf is out of range"),
        ([[1]], -1, 0, "cost: -1 is out of range"),
        ([[1]], np.nan, 0, "cost: nan is out of range"),
        ([[1]], 1, -1, "free: -1 is out of range"),
    ],
)
def test_bad_length_discount(lengths: list[list[float]], cost: float, free: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        length_discount(lengths, cost, free)
