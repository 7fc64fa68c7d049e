"""Lookahead and steps at forks: by hand, against the definition on networkx, and for any answer at all."""

from itertools import pairwise
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.errors import InputError
from clew.mazes import Lattice, MazeStream, Question, grade_path, lookahead
from clew.mazes.forks import step_shares
from clew.mazes.grading import solution

Cell = tuple[int, int]
SIZES = ((2, 2), (2, 7), (3, 5), (5, 4), (6, 6))
TREES = MazeStream(SIZES, ("dfs", "wilson"), held_out=None, seed=3)
CYCLES = MazeStream(SIZES, ("dfs_percolation", "percolation"), p=0.35, held_out=None, seed=4)
DENSE = MazeStream(SIZES, ("percolation",), p=0.8, held_out=None, seed=5)


def graph_of(question: Question) -> nx.Graph:
    return nx.Graph(question.lattice.edges())


def wrong_turns(graph: nx.Graph, here: Cell, target: Cell, walked: list[Cell]) -> list[Cell]:
    """Where a walk may go from a cell and be on no shortest path to the target any more."""
    best = {path[1] for path in nx.all_shortest_paths(graph, here, target)}
    return [cell for cell in graph[here] if cell not in best and cell not in walked]


def lookahead_by_definition(question: Question) -> int:
    graph, path = graph_of(question), list(solution(question))
    needed = [0]
    for i, here in enumerate(path[:-1]):
        rest = graph.subgraph(set(graph) - set(path[: i + 1]))
        left = int(nx.shortest_path_length(graph, here, question.target))
        for turn in wrong_turns(graph, here, question.target, path[:i]):
            reached = nx.single_source_shortest_path_length(rest, turn)
            around = question.target in reached
            # A branch that comes round to the target never ends before the target is seen on the shortest path.
            assert not around or 1 + reached[question.target] > left
            needed.append(left if around else min(left, 1 + max(reached.values())))
    return max(needed)


def lookahead_of_a_tree(question: Question) -> int:
    """By the longest walks into wrong branches, which nothing but a search through all of them finds."""
    graph, path = graph_of(question), list(solution(question))

    def longest(cell: Cell, came: Cell) -> int:
        return 1 + max([longest(onward, cell) for onward in graph[cell] if onward != came], default=0)

    needed = [0]
    for i, (here, onward) in enumerate(pairwise(path)):
        branches = [cell for cell in graph[here] if cell != onward and cell not in path[max(0, i - 1) : i]]
        if branches:
            needed.append(min(len(path) - 1 - i, max(longest(cell, here) for cell in branches)))
    return max(needed)


@pytest.mark.parametrize("stream", [TREES, CYCLES, DENSE], ids=["trees", "cycles", "dense"])
def test_lookahead_is_what_its_definition_says(stream: MazeStream) -> None:
    questions = [stream.questions(i)[0] for i in range(150)]
    found = [lookahead(question) for question in questions]
    assert found == [lookahead_by_definition(question) for question in questions]
    assert len(set(found)) > 4
    if stream is TREES:
        assert found == [lookahead_of_a_tree(question) for question in questions]


@st.composite
def mazes(draw: Any) -> Question:
    """Any lattice at all, and two connected cells of it."""
    rows, cols = draw(st.integers(2, 5)), draw(st.integers(2, 5))
    opened = draw(st.lists(st.booleans(), min_size=2 * rows * cols, max_size=2 * rows * cols))
    passages = np.array(opened).reshape(2, rows, cols)
    passages[0, -1] = passages[1, :, -1] = False
    passages[1, 0, 0] = True
    lattice = Lattice(passages)
    parts = sorted(map(sorted, nx.connected_components(nx.Graph(lattice.edges()))))
    inside = draw(st.sampled_from(parts))
    return Question(lattice, draw(st.sampled_from(inside)), draw(st.sampled_from(inside)))


@given(mazes())
@settings(max_examples=200, deadline=None)
def test_lookahead_of_any_maze(question: Question) -> None:
    assert lookahead(question) == lookahead_by_definition(question)


# (0,0)-(0,1)-(0,2)-(0,3)-(0,4)     a corridor with a dead end of two below its second cell, and one of one below
#         |           |             its fourth; (1,4) and (2,0), (2,2), (2,4) are cut off
# (1,0)-(1,1)  (1,2)-(1,3)  (1,4)
COMB = Lattice.from_edges(
    3,
    5,
    [*pairwise([(0, c) for c in range(5)]), ((0, 1), (1, 1)), ((1, 0), (1, 1)), ((0, 3), (1, 3)), ((1, 2), (1, 3))],
)


@pytest.mark.parametrize(
    ("origin", "target", "ahead"),
    [
        ((0, 0), (0, 4), 2),  # the first branch ends after two steps, the target is three away
        ((0, 0), (0, 2), 1),  # the target is nearer than the end of the branch
        ((0, 0), (0, 1), 0),  # no fork before the target
        ((0, 1), (0, 4), 2),  # at the origin every passage is a choice: the dead end (0,0), and that of two
        ((1, 0), (0, 0), 1),
        ((0, 2), (0, 4), 2),  # back to (0,0) is three steps, or (1,0); the target is two away
        ((0, 0), (0, 0), 0),
    ],
)
def test_lookahead_by_hand(origin: Cell, target: Cell, ahead: int) -> None:
    assert lookahead(Question(COMB, origin, target)) == ahead


def test_a_ring_leaves_nothing_to_see_where_both_ways_are_as_long() -> None:
    ring = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]
    lattice = Lattice.from_edges(3, 3, pairwise([*ring, ring[0]]))
    assert lookahead(Question(lattice, (0, 0), (2, 2))) == 0
    assert lookahead(Question(lattice, (0, 0), (1, 2))) == 3  # the longer way never ends before the target is seen


def test_a_reference_that_is_no_shortest_path_is_not_followed() -> None:
    for path in ([(0, 0), (0, 4)], [(9, 9)], [], [(0, 0), (0, 1), (1, 1), (0, 1), (0, 2), (0, 3), (0, 4)]):
        assert lookahead(Question(COMB, (0, 0), (0, 4), tuple(path))) == 2
    with pytest.raises(InputError, match="not connected"):
        lookahead(Question(COMB, (0, 0), (2, 4)))


def shares(walk: list[Any], ended: bool = True, question: Question | None = None) -> dict[str, tuple[float, float]]:
    found = step_shares(question or Question(COMB, (0, 0), (0, 4)), walk, ended)
    assert all(share == share.part / share.of for share in found.values())
    return {name: (share.part, share.of) for name, share in found.items()}


ROW = [(0, c) for c in range(5)]


@pytest.mark.parametrize(
    ("walk", "ended", "at_forks", "elsewhere"),
    [
        (ROW, True, (2, 2), (4, 4)),  # forks at (0,1) and (0,3); the origin, two steps in corridors, and the end
        (ROW, False, (2, 2), (3, 4)),
        ([*ROW, (0, 3)], True, (2, 2), (3, 4)),  # on past the target
        ([*ROW[:2], (1, 1), (1, 0)], True, (0, 1), (2, 2)),  # nothing after the first wrong step counts
        ([*ROW[:2], (0, 0)], True, (0, 1), (2, 2)),  # back
        ([*ROW[:4], (1, 4)], True, (1, 2), (3, 3)),  # through a wall at a fork
        ([*ROW[:3], (1, 2)], True, (1, 1), (2, 3)),  # through a wall in a corridor
        (ROW[:2], True, (0, 1), (2, 2)),  # an end too early
        (ROW[:3], False, (1, 1), (2, 3)),  # cut off
        ([*ROW[:3], None, (0, 3)], True, (1, 1), (2, 3)),
        (ROW[1:], True, None, (0, 1)),  # starts elsewhere
        ([(9, 9)], True, None, (0, 1)),
        ([], True, None, (0, 1)),
        ([], False, None, (0, 1)),
    ],
)
def test_steps_by_hand(walk: list[Any], ended: bool, at_forks: Any, elsewhere: Any) -> None:
    assert shares(walk, ended) == ({"fork_steps": at_forks} if at_forks else {}) | {"forced_steps": elsewhere}


def test_where_every_way_on_is_shortest_a_step_is_forced() -> None:
    block = Lattice.from_edges(2, 2, [((0, 0), (0, 1)), ((0, 0), (1, 0)), ((0, 1), (1, 1)), ((1, 0), (1, 1))])
    question = Question(block, (0, 0), (1, 1))
    for way in ((0, 1), (1, 0)):
        assert shares([(0, 0), way, (1, 1)], question=question) == {"forced_steps": (4, 4)}
    one = Question(block, (0, 0), (0, 1))
    assert shares([(0, 0), (0, 1)], question=one) == {"fork_steps": (1, 1), "forced_steps": (2, 2)}
    assert shares([(0, 0)], question=Question(block, (0, 0), (0, 0))) == {"forced_steps": (2, 2)}


def steps_by_definition(question: Question, walk: list[Any], ended: bool) -> dict[str, tuple[float, float]]:
    graph = graph_of(question)
    found = {"fork_steps": [0, 0], "forced_steps": [0, 0]}
    for i, move in enumerate([*walk, "end" if ended else "cut"]):
        here, kind = [None, *walk][i], "forced_steps"
        if i == 0:
            right = move == question.origin
        elif here == question.target:
            right = move == "end"
        else:
            right = any(path[1] == move for path in nx.all_shortest_paths(graph, here, question.target))
            kind = "fork_steps" if wrong_turns(graph, here, question.target, walk[: i - 1]) else kind
        found[kind][0] += right
        found[kind][1] += 1
        if not right:
            break
    return {name: (part, of) for name, (part, of) in found.items() if of}


@given(st.data(), mazes(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_steps_of_any_answer(data: st.DataObject, question: Question, ended: bool) -> None:
    shortest = question.lattice.shortest_path(question.origin, question.target, seed=data.draw(st.integers(0, 9)))
    walk: list[Any] = shortest[: data.draw(st.integers(0, len(shortest)))]
    for _ in range(data.draw(st.integers(0, 3))):
        near = question.lattice.neighbours(walk[-1]) if walk and walk[-1] else []
        anything = [None, (0, 0), (7, 0), (-1, 1), (0, 10**30), question.origin, question.target, *near, *near]
        walk.append(data.draw(st.sampled_from(anything)))
        if walk[-1] not in question.lattice:
            break
    found = step_shares(question, walk, ended)
    assert shares(walk, ended, question) == steps_by_definition(question, walk, ended)
    assert grade_path(question, walk, ended).optimal == all(share == 1 for share in found.values())
    assert sum(share.of - share.part for share in found.values()) <= 1
    assert step_shares(question, [list(cell) if cell else "x" for cell in walk], ended) == found
