"""Steps of traces: true of the maze or not, and made false one at a time."""

import numpy as np
import pytest

from clew.config import MazeConfig
from clew.mazes import Lattice
from clew.mazes.kernels import ALGORITHMS
from clew.mazes.lattice import Question
from clew.mazes.steps import found_path, true_steps, with_false_step
from clew.mazes.traces import parse_trace, path_from_trace, trace, trace_tokens
from clew.mazes.vocab import parse_cell
from clew.mazes.world import MazeWorld

WORLD = MazeWorld(MazeConfig(sizes=[3]))
WIDTH = {"dfs": 1, "bfs": 3, "astar": 3, "flood": 3}
MAZES = [Question(Lattice.random(4, 4, seed), (0, 0), (3, 1)) for seed in range(30)]
CORRIDOR = Question(Lattice.from_edges(2, 2, [((0, 0), (0, 1)), ((0, 1), (1, 1))]), (0, 0), (1, 1))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_step_of_a_trace_is_true_and_its_path_is_found(algorithm: str) -> None:
    for maze in MAZES:
        searched = trace(maze, algorithm, seed=1)
        words = trace_tokens(searched)
        for written in (words, words[:-1]):  # with its end, and without
            assert true_steps(maze, written) == [True] * len(searched.steps)
            assert found_path(maze, written) == searched.path


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_step_is_made_false_and_its_end_is_told(algorithm: str) -> None:
    rng, where, width = np.random.default_rng(0), set(), WIDTH[algorithm]
    for maze in MAZES:
        words = trace_tokens(trace(maze, algorithm, seed=1))
        made = with_false_step(maze, words, rng)
        assert made is not None
        wrong, end = made
        changed = [i for i, (a, b) in enumerate(zip(words, wrong, strict=True)) if a != b]
        assert len(changed) == 1 and end - width <= changed[0] < end
        number = (end - 1) // width - 1
        steps = true_steps(maze, wrong)
        assert not steps[number] and all(steps[:number]) and number > 0
        assert parse_trace(wrong, maze).algorithm is None
        if algorithm != "dfs":  # in a walk the step behind it is false too
            assert sum(steps) == len(steps) - 1
        where.add(number)
    assert len(where) > 3


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_thought_in_other_words_is_read_and_made_false_as_it_was(algorithm: str) -> None:
    """What `shuffle` makes of a trace comes to the same answer, and is led through a wall from a cell found before."""
    world, rng = MazeWorld(MazeConfig(sizes=[4], traces=list(ALGORITHMS))), np.random.default_rng(0)
    reworded = 0
    for number, question in enumerate(world.held_out(range(30))):
        maze = question.reference
        tokens = world._numbered(trace_tokens(trace(maze, algorithm, number)))
        again = world.rewritten(question.tokens, [], tokens, rng)
        assert again is not None
        reworded += again != tokens
        assert world.thought_answer(question, again) == world.thought_answer(question, tokens) is not None
        assert all(world.thought_steps(question, again))
        made = world.corrupted(question, again, rng)
        assert made is not None
        wrong, end = made
        (at,) = [i for i, (a, b) in enumerate(zip(again, wrong, strict=True)) if a != b]
        words = world.text(wrong).split()
        found = {cell for word in words[: end - WIDTH[algorithm]] if (cell := parse_cell(word))}
        behind = range(end - WIDTH[algorithm], end) if algorithm != "dfs" else range(end - 2, end)
        (kept,) = [cell for i in behind if i != at and (cell := parse_cell(words[i]))]
        there = parse_cell(words[at])
        assert there and kept in found and not maze.lattice.connected(kept, there)
    assert reworded > (25 if algorithm != "dfs" else 0)


def test_steps_that_are_false_of_the_maze() -> None:
    def steps(text: str) -> list[bool]:
        return true_steps(CORRIDOR, f"<THOUGHT_START> {text}")

    assert steps("(0,0) (0,1) (1,1) <THOUGHT_END>") == [True, True, True]
    assert steps("(0,0) (1,0) (1,1)") == [True, False, False]  # through a wall, and back through another
    assert steps("(0,1) (1,1)") == [False, True]  # does not start at the origin
    assert steps("(0,0) (9,9) (0,1)") == [True, False, False]
    assert steps("(0,0) (0,0) ; (0,0) (0,1) ; (0,1) (1,0) ; <THOUGHT_END>") == [True, True, False]
    assert steps("(0,0) (0,0) ; (0,0)") == [True]  # cut in the midst of a step
    assert steps("(0,0) (0,1) <PATH_END> (1,1)") == [True, True, False]  # no step, and nothing behind it is read
    assert steps("(0,0) <PATH_START> (1,1)") == [True, False]
    assert steps("(1,1) (1,1) ; (1,1) (0,1) ; (0,1) (0,0) ; <THOUGHT_END>") == [True] * 3  # from the target: a flood
    assert steps("(1,1) (0,1) (0,0)") == [False, True, True]  # a walk has no such way
    assert steps("(0,1) (0,1) ; (0,1) (0,0) ;") == [False, True]
    assert steps("") == [] and steps("<UNK> <UNK>") == [False]
    assert true_steps(CORRIDOR, "") == []


def test_paths_that_are_not_found() -> None:
    assert found_path(CORRIDOR, "<THOUGHT_START> (0,0) (0,1) (1,1)") == [(0, 0), (0, 1), (1, 1)]
    assert found_path(CORRIDOR, "<THOUGHT_START> (0,0) (0,1)") is None  # short of the target
    assert found_path(CORRIDOR, "<THOUGHT_START> (0,1) (1,1)") is None  # not from the origin
    assert path_from_trace("<THOUGHT_START> (0,1) (1,1)") is not None
    flood = "<THOUGHT_START> (1,1) (1,1) ; (0,1) (1,1) ; (0,1) (0,0) ;"
    assert found_path(CORRIDOR, flood) == [(0, 0), (0, 1), (1, 1)] == path_from_trace(flood)[::-1]
    assert found_path(CORRIDOR, flood[:-14]) is None  # short of the origin
    assert found_path(CORRIDOR, "<THOUGHT_START> (1,1) (0,1) (0,0)") is None  # a walk from the target is no search
    for text in ("", "<UNK>", "<THOUGHT_START> ;"):
        assert found_path(CORRIDOR, text) is None
        assert with_false_step(CORRIDOR, text, np.random.default_rng(0)) is None
    assert with_false_step(CORRIDOR, "<THOUGHT_START> (0,0)", np.random.default_rng(0)) is None


def test_the_world_answers_in_tokens() -> None:
    for question in WORLD.held_out(range(5)):
        maze = question.reference
        tokens = WORLD._numbered(trace_tokens(trace(maze, "dfs")))
        right = WORLD.right_answer(question)
        assert WORLD.measure(question, None, WORLD.text(right))["exact"]
        assert WORLD.thought_answer(question, tokens) == WORLD.text(right)
        assert WORLD.thought_steps(question, tokens) == [True] * (len(tokens) - 2)
        made = WORLD.corrupted(question, tokens, np.random.default_rng(0))
        assert made is not None and not all(WORLD.thought_steps(question, made[0]))
        assert WORLD.text(WORLD.filler(3)) == "<THOUGHT_START> ; ;" and WORLD.filler(0) == []
