"""Sections of maze models: what they hold, what they cost, what is refused, and what a served page is answered."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clew import zoo
from clew.errors import InputError
from clew.mazes.lattice import Lattice
from clew.mazes.vocab import parse_cell
from clew.read.heads import resample_heads
from clew.train.evaluate import held_out
from clew.view import maze, maze_requests
from clew.view.maze import answer, open_models, sections
from clew.view.maze_records import unpacked

FULL, OTHER = "zoo:4x4-full-2-layers", "zoo:4x4"


@cache
def opened() -> maze.Opened:
    return open_models([FULL, OTHER], mazes=160)


@cache
def data() -> dict[str, Any]:
    (section,) = sections(opened(), questions=8, asked_in_all=30)
    assert section.kind == "maze"
    return json.loads(json.dumps(section.data, allow_nan=False))


def asked(question: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {name: question[name] for name in ("rows", "cols", "edges", "origin", "target")} | changes


def test_both_models_are_asked_the_same_held_out_mazes() -> None:
    found = data()
    series = list(held_out(opened().models[0].world, 30))
    for question in found["questions"]:
        wanted = series[question["number"]]
        cells = [(cell // 4, cell % 4) for cell in question["right"]]
        lattice = Lattice.from_edges(4, 4, [((a // 4, a % 4), (b // 4, b % 4)) for a, b in question["edges"]])
        assert lattice == wanted.reference.lattice and lattice.held_out and tuple(cells) == wanted.reference.path
        words = wanted.prompt.split()
        listed = [words[1 + 4 * i : 5 + 4 * i] for i in range(len(question["edges"]))]
        assert [[f"({a // 4},{a % 4})", "<-->", f"({b // 4},{b % 4})", ";"] for a, b in question["edges"]] == listed
    assert [run["name"] for run in found["runs"]] == [FULL, OTHER]
    assert all(len(run["records"]) == len(found["questions"]) == 8 for run in found["runs"])


def test_failures_from_further_on_are_said_to_be_chosen() -> None:
    questions, runs = data()["questions"], data()["runs"]
    numbers = [question["number"] for question in questions]
    picked = [place for place, question in enumerate(questions) if question["picked"]]
    assert numbers == sorted(set(numbers)) and numbers[: 8 - len(picked)] == list(range(8 - len(picked)))
    assert 1 <= len(picked) <= 4 and all(numbers[place] >= 8 for place in picked)
    assert all(not all(run["records"][place]["solved"] for run in runs) for place in picked)


def test_a_path_is_what_the_model_answers_and_accuracy_is_that_of_clew_eval() -> None:
    for model, run in zip(opened().models, data()["runs"], strict=True):
        questions = list(held_out(model.world, 30))
        rollouts = model.reasoner.rollouts(model.world, questions)
        answers = [one.answer_texts[0][0] for one in rollouts]
        solved = [bool(model.world.measure(q, None, a)["optimal"]) for q, a in zip(questions, answers, strict=True)]
        for question, one in zip(data()["questions"], run["records"], strict=True):
            assert " ".join(one["next"]) == answers[question["number"]]
            assert one["solved"] == solved[question["number"]] == (one["wrong"] is None)
            assert [cell for cell in one["current"] if cell >= 0] == one["path"][: len(one["next"]) - 2]
        total = run["accuracy"]["all"]
        assert total["questions"] == 30 and total["value"] == pytest.approx(np.mean(solved))
        for name in maze.GROUPS:
            rows = run["accuracy"][name]
            assert len(rows) <= maze.MOST and sum(row["questions"] for row in rows) == 30
            assert sum(row["questions"] * row["value"] for row in rows) == pytest.approx(sum(solved))


def test_models_are_compared_question_by_question() -> None:
    first, second = opened().models
    questions = list(held_out(first.world, 30))
    both = []
    for model in (first, second):
        answers = [
            one.answer_texts[0][0] for one in model.reasoner.rollouts(model.world, list(held_out(model.world, 30)))
        ]
        both.append([bool(model.world.measure(q, None, a)["optimal"]) for q, a in zip(questions, answers, strict=True)])
    (row,) = data()["compared"]
    pairs = list(zip(*both, strict=True))
    wanted = {"both": (True, True), "first": (True, False), "other": (False, True), "neither": (False, False)}
    assert {name: row[name] for name in wanted} == {name: pairs.count(pair) for name, pair in wanted.items()}
    assert row["difference"] == pytest.approx((row["other"] - row["first"]) / 30)
    assert row["difference_low"] < row["difference"] < row["difference_high"] and row["run"] == 1


def test_heads_are_told_as_clew_read_tells_them() -> None:
    from clew.mazes.pairs import PairStream
    from clew.view.maze_models import PAIRS

    model, run = opened().models[0], data()["runs"][0]
    pairs = PairStream(sizes=((4, 4),)).batch(range(PAIRS), model.policy.tokenizer)
    lost = resample_heads(model.policy, pairs).table().to_pylist()
    assert [row["lost"] for row in run["head_rows"]] == [row["accuracy_lost"] for row in lost]
    assert [(row["layer"], row["head"]) for row in run["head_rows"]] == model.heads and not run["notes"]


def test_what_is_asked_again_is_answered_the_same() -> None:
    for place, question in enumerate(data()["questions"][:3]):
        said = answer(opened(), asked(question))
        assert said["question"] == {name: question[name] for name in said["question"]}
        for again, run in zip(said["runs"], data()["runs"], strict=True):
            before = run["records"][place]
            assert "without" not in again and set(again) | {"without"} == set(before)
            assert again["path"] == before["path"] and again["probes"] == before["probes"]
            layers, heads = run["layers"], run["heads"]
            mine, theirs = (unpacked(one["attention"], layers, heads) for one in (again, before))
            assert np.abs(mine - theirs).max() < 1 / 200
            first, second = (np.array([row[:5] for step in one["lens"] for row in step]) for one in (again, before))
            assert np.allclose(first, second, atol=2e-4)


def test_a_head_is_taken_away_live_as_on_the_page() -> None:
    for number in range(4):
        question, runs = data()["questions"][0], data()["runs"]
        said = answer(opened(), asked(question, head=number))
        assert set(said) == {"runs"}
        for walk, run in zip(said["runs"], runs, strict=True):
            before = run["records"][0]["without"][number] or {name: run["records"][0][name] for name in walk}
            assert walk == before


def test_a_head_that_only_one_model_has_is_taken_from_that_one() -> None:
    said = answer(opened(), asked(data()["questions"][0], head=7))
    assert said["runs"][0] is None and said["runs"][1]["path"]
    with pytest.raises(InputError, match="head: 8 is not a whole number from 0 to 7"):
        answer(opened(), asked(data()["questions"][0], head=8))


def test_a_list_that_is_too_long_for_a_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    question = data()["questions"][0]
    monkeypatch.setattr(opened().models[1].policy.model.config, "max_position_embeddings", 87)
    with pytest.raises(InputError, match=f"^edges: .* {OTHER} has 87 positions"):
        answer(opened(), asked(question))
    monkeypatch.setattr(opened().models[1].policy.model.config, "max_position_embeddings", 88)
    answer(opened(), asked(question))


def test_a_maze_without_a_way_has_no_right_answer() -> None:
    question = data()["questions"][0]
    target = question["target"]
    apart = [edge for edge in question["edges"] if target not in edge]
    said = answer(opened(), asked(question, edges=apart))
    assert said["question"]["right"] is None and said["question"]["lookahead"] is None
    assert all(not one["solved"] and one["wrong"] is None for one in said["runs"])
    json.dumps(said, allow_nan=False)


def test_mazes_anywhere_are_read_where_they_stand_and_may_be_drawn_there() -> None:
    some = open_models("zoo:6x6-anywhere", mazes=12)
    (model,) = some.models
    cells = [parse_cell(word) for row in model.reference for word in model.policy.tokenizer.convert_ids_to_tokens(row)]
    assert max(max(cell) for cell in cells if cell) >= 6
    drawn = {"rows": 10, "cols": 10, "edges": [[98, 99]], "origin": 98, "target": 99}
    assert answer(some, drawn)["question"]["rows"] == 10


def test_another_target_is_walked_to() -> None:
    question = data()["questions"][0]
    ends = []
    for target in range(16):
        if target != question["origin"]:
            path = answer(opened(), asked(question, target=target))["runs"][1]["path"]
            ends.append(path[-1] == target)
    assert sum(ends) >= 13  # zoo:4x4 solves nearly all


GOOD: dict[str, Any] = {"rows": 2, "cols": 2, "edges": [[0, 1], [3, 1]], "origin": 0, "target": 3, "head": None}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rows": 1}, "rows: 1 is not a whole number from 2 to 4"),
        ({"rows": 5}, "rows: 5"),
        ({"rows": True}, "rows: True"),
        ({"cols": "2"}, "cols: '2'"),
        ({"cols": None}, "cols: None"),
        ({"origin": -1}, "origin: -1 is not a whole number from 0 to 3"),
        ({"target": 4}, "target: 4"),
        ({"target": 0}, "target: 0 is the origin, too"),
        ({"target": 1.0}, "target: 1.0"),
        ({"edges": []}, "edges: [] is no list of 1 to 4 passages of a 2x2 grid"),
        ({"edges": "0 1"}, "edges: '0 1'"),
        ({"edges": [[0, 1]] * 5}, "edges: "),
        ({"edges": [[0, 1], [1, 0]]}, "edges: a passage is listed twice"),
        ({"edges": [[0, 3]]}, "edges: [0, 3] is no pair of neighbouring cells"),
        ({"edges": [[0, 1, 2]]}, "edges: [0, 1, ...] is no pair"),
        ({"edges": [[0, 4]]}, "edges: 4 is not a whole number from 0 to 3"),
        ({"edges": [{"0": 1}]}, "edges: {'0': 1} is no pair"),
        ({"head": -1}, "head: -1 is not a whole number from 0 to 7"),
        ({"head": "<script>\n"}, "head: '<script>\\n'"),
    ],
)
def test_a_malformed_request_is_one_line(changes: dict[str, Any], told: str) -> None:
    maze_requests.parsed(GOOD, 4, 4)
    with pytest.raises(InputError) as error:
        answer(opened(), GOOD | changes)
    assert str(error.value).startswith(told) and "\n" not in str(error.value)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 20) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(list(GOOD)), ANYTHING))
def test_any_request_is_read_or_refused(changes: dict[str, Any]) -> None:
    try:
        one = maze_requests.parsed(GOOD | changes, 4, 4)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert one.question.origin != one.question.target and one.question.lattice.rows in (2, 3, 4)


@pytest.mark.parametrize("changes", [{"questions": 0}, {"questions": True}, {"asked_in_all": "9"}])
def test_numbers_that_are_none_are_refused_before_any_model_is_opened(changes: dict[str, Any]) -> None:
    (name,) = changes
    with pytest.raises(InputError, match=f"^{name}: "):
        sections("there is no such folder", **changes)


def test_what_holds_no_model_of_mazes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none; expected at least one"):
        open_models([])
    with pytest.raises(InputError, match="is no run folder; say which mazes"):
        open_models(zoo.folder("4x4") / "model")
    assert open_models(zoo.folder("4x4") / "model", size=4).models[0].world.sizes == ((4, 4),)
    with pytest.raises(
        InputError, match=f"path: '{OTHER}' cannot be asked the mazes of 'zoo:5x5', .*more than this model"
    ):
        open_models(["zoo:5x5", OTHER])
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("world: prompts\nprompts:\n  file: a.jsonl\n")
    with pytest.raises(InputError, match="another world"):
        open_models(run)


def test_too_few_mazes_leave_probes_out_and_say_so() -> None:
    few = open_models(FULL, mazes=30)
    (section,) = sections(few, questions=2, asked_in_all=2)
    (run,) = section.data["runs"]
    assert run["probe_rows"] is None and run["records"][0]["probes"] is None
    assert run["notes"] == [f"probes could not be read: {few.models[0].probes}"]
