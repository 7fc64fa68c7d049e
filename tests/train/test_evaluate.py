"""Grading of rollouts, intervals, the baseline, and that evaluation only ever sees held-out mazes."""

import gc

import pytest

from clew import evaluate as ev
from clew.errors import InputError
from clew.mazes import MazeStream, Question, grade_path, maze_tokenizer
from clew.mazes.lattice import Lattice
from clew.policy import Policy

CORRIDOR = Lattice.from_edges(2, 3, [((0, 0), (0, 1)), ((0, 1), (0, 2)), ((0, 2), (1, 2)), ((0, 0), (1, 0))])
QUESTION = Question(CORRIDOR, (0, 0), (1, 2), ((0, 0), (0, 1), (0, 2), (1, 2)))


POLICY = Policy.build(maze_tokenizer(5), layers=1, width=16, heads=2)


def attempt(text: str) -> ev.Attempt:
    return ev.read_attempt(ev.Item(QUESTION, [], "dfs"), text.split())


def test_wilson_against_published_values() -> None:
    low, high = ev.wilson(15, 20)  # 0.531 to 0.888: Newcombe 1998's method 3
    assert low == pytest.approx(0.5313, abs=1e-3) and high == pytest.approx(0.8881, abs=1e-3)
    assert ev.wilson(0, 10)[0] == 0 and ev.wilson(10, 10)[1] == 1
    assert ev.wilson(0, 0) == (0.0, 1.0)


def test_reading_what_a_model_wrote() -> None:
    solved = attempt("<PATH_START> (0,0) (0,1) (0,2) (1,2) <PATH_END> ; junk")
    assert solved.exact and solved.starts_at_once and solved.grade.score == 1
    invents = attempt("; (0,0) <PATH_START> (0,0) (0,1) (0,2) (1,2) <PATH_END>")
    assert not invents.starts_at_once and invents.exact
    unended = attempt("<PATH_START> (0,0) (0,1) (0,2) (1,2)")
    assert not unended.exact and not unended.grade.optimal and unended.grade.score < 0.5
    for nonsense in ("", "<PATH_END>", "<PATH_START>", "<PATH_START> ; ; <UNK> <PATH_END>", "(0,0)"):
        assert attempt(nonsense).grade.score == 0
        assert attempt(nonsense).values()["exact"] == 0


def test_items_are_held_out_and_match_their_prompts() -> None:
    tokenizer = maze_tokenizer(5)
    items = list(ev.balanced_items(POLICY, ((4, 4), (3, 5)), ("dfs", "wilson"), 0.1, 100, seed=1))
    assert len(items) == 100
    assert {(i.question.lattice.rows, i.generator) for i in items} == {
        (4, "dfs"),
        (4, "wilson"),
        (3, "dfs"),
        (3, "wilson"),
    }
    for item in items:
        assert item.question.lattice.held_out
        words = tokenizer.convert_ids_to_tokens(item.prompt)
        assert words[-1] == "<TARGET_END>"
        assert words[-2] == "({},{})".format(*item.question.target)


def test_no_training_maze_is_ever_evaluated() -> None:
    trained = {question.lattice for i in range(300) for question in MazeStream(((3, 3),), seed=4).questions(i)}
    asked = {item.question.lattice for item in ev.balanced_items(POLICY, ((3, 3),), ("dfs",), 0.1, 100, seed=4)}
    assert len(trained) > 50 and len(asked) > 5 and not trained & asked


def test_baseline_walks_are_valid_and_do_not_turn_back() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    for item in ev.balanced_items(POLICY, ((4, 4),), ("dfs_percolation",), 0.2, 200, seed=0):
        walk = ev.random_walk(item.question, rng)
        assert grade_path(item.question, walk).valid
        assert all(a != c for a, c in zip(walk, walk[2:], strict=False))


def test_report_adds_up() -> None:
    policy = Policy.build(maze_tokenizer(4), layers=1, width=16, heads=2)
    items = ev.balanced_items(POLICY, ((3, 3), (4, 4)), ("dfs",), 0.1, 40, seed=0)
    report, kept = ev.evaluate(policy, items, batch=16, keep=5)
    assert report["mazes"] == 40 and len(kept) == 5
    for group in ("by_size", "by_generator", "by_path_length", "by_split"):
        assert sum(part["mazes"] for part in report[group].values()) == 40
    assert list(report["by_split"]) == ["held_out"]
    whole = report["mean_score"]["value"]
    parts = sum(p["mazes"] * p["mean_score"]["value"] for p in report["by_size"].values()) / 40
    assert parts == pytest.approx(whole)
    lengths = list(map(int, report["by_path_length"]))
    assert lengths == sorted(lengths)
    for name in ("exact", "optimal", "valid", "mean_score", "node_overlap"):
        assert report[name]["low"] <= report[name]["value"] <= report[name]["high"]


def test_batches_do_not_change_the_figures() -> None:
    policy = Policy.build(maze_tokenizer(4), layers=1, width=16, heads=2, seed=3)
    small, large = (
        ev.evaluate(policy, ev.balanced_items(policy, ((3, 3), (4, 4)), ("dfs",), 0.1, 40, seed=0), batch=batch)[0]
        for batch in (7, 40)
    )
    assert small == large


def test_what_has_been_answered_is_let_go() -> None:
    alive = []

    def watched():
        for i, item in enumerate(ev.balanced_items(POLICY, ((3, 3),), ("dfs",), 0.1, 400, seed=0)):
            if i % 50 == 0:
                alive.append(sum(isinstance(thing, ev.Item) for thing in gc.get_objects()))
            yield item

    before = sum(isinstance(thing, ev.Item) for thing in gc.get_objects())
    ev.evaluate(POLICY, watched(), batch=20, keep=5)
    assert max(alive) - before <= 2 * 20 + 5 + 2 < 400


def test_sizes_without_a_held_out_maze_are_left_out() -> None:
    sizes = {i.question.lattice.rows for i in ev.balanced_items(POLICY, ((2, 2), (3, 3)), ("dfs",), 0.1, 10, seed=0)}
    assert sizes == {3}
    with pytest.raises(InputError, match="no held-out maze of 2x2"):
        next(ev.balanced_items(POLICY, ((2, 2),), ("dfs",), 0.1, 10, seed=0))


def test_sizes_without_held_out_mazes_are_left_out_and_named_at_once() -> None:
    policy = Policy.build(maze_tokenizer(3), 1, 16, 2)
    streams, missing = ev.held_out_streams(((2, 2), (3, 3)), ("dfs",), 0.1, 0)
    assert [stream.sizes for stream in streams] == [((3, 3),)]
    assert missing.startswith("there is no held-out maze of 2x2 by dfs")
    assert ev.held_out_streams(((3, 3),), ("dfs",), 0.1, 0)[1] == ""
    items = list(ev.balanced_items(policy, ((2, 2), (3, 3)), ("dfs",), 0.1, 4, 0))
    assert len(items) == 4 and all(item.question.lattice.rows == 3 for item in items)
    with pytest.raises(InputError, match="no held-out maze of 2x2"):
        ev.balanced_items(policy, ((2, 2),), ("dfs",), 0.1, 4, 0)


def test_as_many_mazes_as_an_option_can_ask_for() -> None:
    policy = Policy.build(maze_tokenizer(3), 1, 16, 2)
    items = ev.balanced_items(policy, ((3, 3),), ["dfs"], 0.1, 2**63 - 1, 0)
    assert next(items).question.lattice.rows == 3
