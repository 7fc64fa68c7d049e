"""What a path is worth: the definition of a path's score by hand, and its promises for any path at all."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from clew.mazes import Lattice, PathGrade, Question, grade_path
from clew.mazes.grading import BROKEN_AT_MOST, path_metrics, valid_start

# (0,0)-(0,1)-(0,2)
#   |           |      a ring of eight cells about a closed middle, with a dead end (3,0) below its corner
# (1,0) (1,1) (1,2)
#   |           |
# (2,0)-(2,1)-(2,2)
#   |
# (3,0) (3,1) (3,2)
RING = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]
LATTICE = Lattice.from_edges(4, 3, [*zip(RING, RING[1:] + RING[:1], strict=True), ((2, 0), (3, 0))])
TWO_WAYS = Question(LATTICE, (0, 0), (2, 2), (*RING[:5],))
LONG = Question(LATTICE, (0, 0), (3, 0), ((0, 0), (1, 0), (2, 0), (3, 0)))


@pytest.mark.parametrize("way", [RING[:5], [(0, 0), *RING[:3:-1]]])
def test_every_shortest_path_is_worth_one(way):
    assert grade_path(TWO_WAYS, way) == PathGrade(1.0, True, True, True, 4, 4)
    assert {tuple(way) for way in nx.all_shortest_paths(nx.Graph(LATTICE.edges()), (0, 0), (2, 2))} >= {tuple(way)}


def test_a_detour_costs_but_stays_over_a_half():
    there_and_back = [(0, 0), (0, 1), (0, 0), *RING[1:5]]
    assert grade_path(TWO_WAYS, there_and_back) == PathGrade(0.5 + 0.5 * 4 / 6, False, True, True, 6, 4)
    round_the_ring = [*RING[:7], (3, 0)]
    assert grade_path(LONG, round_the_ring) == PathGrade(0.5 + 0.5 * 3 / 7, False, True, True, 7, 3)
    past_the_target = [(0, 0), (1, 0), (2, 0), (3, 0), (2, 0), (3, 0)]
    assert grade_path(LONG, past_the_target).score == 0.5 + 0.5 * 3 / 5


@pytest.mark.parametrize(
    ("walk", "score", "valid", "reaches"),
    [
        ([], 0, False, False),
        ([(0, 0)], 0, True, False),  # no first step yet
        ([(0, 0), (1, 0)], 0.5 * 1 / 3, True, False),
        ([(0, 0), (1, 0), (2, 0)], 0.5 * 2 / 3, True, False),
        ([(0, 0), (1, 0), (2, 0), (2, 1)], 0.5 * 1 / 3, True, False),  # walked away again
        ([(0, 0), (0, 1)], 0, True, False),  # further off than it began
        ([(0, 0), (1, 0), (1, 1), (2, 1)], 0.5 * 1 / 3, False, False),  # through a wall after one good step
        ([(0, 0), (1, 0), (3, 0)], 0.5 * 1 / 3, False, True),  # a jump onto the target
        ([(0, 0), (1, 0), None, (2, 0), (3, 0)], 0.5 * 1 / 3, False, True),
        ([(0, 0), (0, 0), (1, 0)], 0, False, False),  # standing still is no step
        ([(1, 0), (2, 0), (3, 0)], 0, False, True),  # starts elsewhere
        ([None, (0, 0)], 0, False, False),
        ([(0, 0), (1, 0), (2, 0), (3, 0), (4, 0)], BROKEN_AT_MOST, False, False),  # off the grid, past the target
    ],
)
def test_a_broken_path_is_worth_the_distance_it_closed(walk, score, valid, reaches):
    expected = PathGrade(pytest.approx(score), False, valid, reaches, max(0, len(walk) - 1), 3)
    assert grade_path(LONG, walk) == expected


def test_a_path_that_never_ends_is_not_complete():
    grade = grade_path(LONG, [(0, 0), (1, 0), (2, 0), (3, 0)], ended=False)
    assert grade == PathGrade(BROKEN_AT_MOST, False, True, True, 3, 3)
    assert grade_path(LONG, [(0, 0), (1, 0)], ended=False).score == pytest.approx(0.5 / 3)


def test_origin_and_target_may_be_one_cell():
    here = Question(LATTICE, (1, 2), (1, 2))
    assert grade_path(here, [(1, 2)]) == PathGrade(1.0, True, True, True, 0, 0)
    assert grade_path(here, [(1, 2), (0, 2), (1, 2)]).score == 0.5 > grade_path(here, [(1, 2)], ended=False).score
    assert grade_path(here, [(1, 2), (0, 2)]).score == grade_path(here, []).score == 0


def test_an_unreachable_target_is_no_reason_to_fail():
    cut_off = Question(LATTICE, (0, 0), (1, 1))
    assert grade_path(cut_off, [(0, 0), (0, 1), (1, 1)]).score == 0
    assert grade_path(cut_off, [(0, 0)]).score == 0


@st.composite
def mazes(draw):
    rows, cols, seed = draw(st.integers(2, 5)), draw(st.integers(2, 5)), draw(st.integers(0, 10**6))
    lattice = Lattice.random(rows, cols, seed=seed, generator="dfs_percolation", p=0.2)
    cell = st.tuples(st.integers(0, rows - 1), st.integers(0, cols - 1))
    origin, target = draw(cell), draw(cell)
    assume(origin != target)
    return Question(lattice, origin, target)


def wander(draw, question: Question, most: int) -> list[tuple[int, int]]:
    walk = [question.origin]
    for _ in range(draw(st.integers(0, most))):
        walk.append(draw(st.sampled_from(question.lattice.neighbours(walk[-1]))))
    return walk


@given(st.data(), mazes())
@settings(max_examples=150, deadline=None)
def test_every_complete_path_beats_every_broken_one(data, question):
    detour = wander(data.draw, question, 40)
    whole = detour + question.lattice.shortest_path(detour[-1], question.target)[1:]
    complete = grade_path(question, whole)
    shortest = question.lattice.distances(question.target)[question.origin]
    assert complete.valid and complete.reaches_target and complete.shortest_steps == shortest
    assert complete.score == 0.5 + 0.5 * shortest / (len(whole) - 1)
    assert complete.optimal == (complete.score == 1) == (len(whole) - 1 == shortest)

    start = wander(data.draw, question, 12)
    wall = st.sampled_from([None, (-1, 0), (99, 99), "wall", start[-1]])
    broken = [
        [*start, data.draw(wall)],
        [*start, data.draw(wall), *whole],
        whole[1:],
        *([start] if start[-1] != question.target else []),
    ]
    for walk in broken:
        grade = grade_path(question, walk)
        assert 0 <= grade.score < 0.5 and not grade.optimal
        assert np.float32(grade.score) < np.float32(0.5) <= np.float32(complete.score)
    unended = grade_path(question, whole, ended=False)
    assert unended.score < 0.5 and not unended.optimal


@given(st.data(), mazes())
@settings(max_examples=50, deadline=None)
def test_a_longer_detour_is_worth_less_and_getting_nearer_more(data, question):
    shortest = question.lattice.shortest_path(question.origin, question.target)
    nearer = [grade_path(question, shortest[:n]).score for n in range(1, len(shortest) + 1)]
    assert nearer == sorted(set(nearer)) and nearer[0] == 0 and nearer[-1] == 1
    spur = data.draw(st.sampled_from(question.lattice.neighbours(question.origin)))
    longer = [grade_path(question, [question.origin, spur] * n + shortest).score for n in range(4)]
    assert longer == sorted(set(longer), reverse=True)


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.binary(max_size=2))
    | st.sampled_from([np.array(1), np.array([0, 1]), np.zeros((2, 2)), np.int8([0, 0]), object(), {}, (0, 0), (0, 1)]),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=4,
)


@given(st.lists(anything, max_size=8), st.booleans(), mazes())
@settings(max_examples=200, deadline=None)
def test_no_path_breaks_the_grader(cells, ended, question):
    grade = grade_path(question, cells, ended)
    assert 0 <= grade.score <= 1 and grade.steps == max(0, len(cells) - 1)
    assert (grade.score >= 0.5) == (grade.valid and grade.reaches_target and ended)
    metrics = path_metrics(question, cells, [question.origin, question.target])
    assert all(type(value) is float and np.isfinite(value) for value in metrics.values())


def test_cells_may_come_as_arrays_and_lists():
    way = np.array([(0, 0), (1, 0), (2, 0), (3, 0)])
    assert grade_path(LONG, way) == grade_path(LONG, way.tolist()) == PathGrade(1.0, True, True, True, 3, 3)
    assert valid_start(LONG, [(0, 0), (1, 0), (1, 1)]) == 2


def test_path_metrics_by_hand():
    solution = [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert path_metrics(LONG, solution, solution) == {
        "node_overlap": 1.0,
        "num_connections_adjacent_lattice": 3.0,
        "fraction_connections_adjacent_lattice": 3 / 4,  # by nodes, not by connections: so their code defines it
        "num_connections_adjacent": 3.0,
        "fraction_connections_adjacent": 1.0,
        "exact_path_predicted": 1.0,
        "solution_length": 4.0,
        "streak_length_until_incorrect": 4.0,
    }
    # one good step, a wall (the cells are neighbours), a step through an open passage, a jump, a visit twice
    walk = [(0, 0), (1, 0), (1, 1), (2, 1), (2, 0), (0, 0)]
    assert path_metrics(LONG, walk, solution) == {
        "node_overlap": 3 / 4,
        "num_connections_adjacent_lattice": 4.0,
        "fraction_connections_adjacent_lattice": 4 / 6,
        "num_connections_adjacent": 2.0,
        "fraction_connections_adjacent": 2 / 5,
        "exact_path_predicted": 0.0,
        "solution_length": 4.0,
        "streak_length_until_incorrect": 2.0,
    }


@pytest.mark.parametrize(
    ("walk", "overlap", "lattice_fraction", "fraction", "streak"),
    [
        ([], 0, 0, 0, 0),
        ([(0, 0)], 1 / 4, 0, 0, 1),
        ([None, (0, 0), (1, 0)], 2 / 4, 1 / 3, 1 / 2, 0),
        ([(0, 0), (1, 0)], 2 / 4, 1 / 2, 1, 2),
        ([(0, 0), (1, 0), (2, 0), (3, 0), (2, 0)], 1, 4 / 5, 1, 4),  # runs on past the end
        ([(9, 9), (9, 8)], 0, 1 / 2, 0, 0),  # neighbours, though off the grid
    ],
)
def test_path_metrics_of_short_and_strange_paths(walk, overlap, lattice_fraction, fraction, streak):
    metrics = path_metrics(LONG, walk, [(0, 0), (1, 0), (2, 0), (3, 0)])
    assert metrics["node_overlap"] == overlap
    assert metrics["fraction_connections_adjacent_lattice"] == lattice_fraction
    assert metrics["fraction_connections_adjacent"] == fraction
    assert metrics["streak_length_until_incorrect"] == streak
    assert metrics["exact_path_predicted"] == 0


def test_a_solution_without_cells_has_metrics_too():
    assert path_metrics(LONG, [(0, 0)], [])["node_overlap"] == 0
    assert path_metrics(LONG, [], [])["exact_path_predicted"] == 1
