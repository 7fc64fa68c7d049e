"""Labels to be decoded: against networkx on trees, cycles and pieces; at cells, at edges, and at single places."""

from typing import Any

import networkx as nx
import numpy as np
import pytest

from clew.errors import InputError
from clew.mazes import MazeStream, maze_tokenizer
from clew.mazes.lattice import Cell, Lattice, Question
from clew.read.activations import maze_sequences
from clew.read.targets import LABELS, WAYS, Targets, classes_of, targets_in, targets_of

TOKENIZER = maze_tokenizer(5)
STREAM = MazeStream(((3, 3), (5, 5), (2, 4)), ("dfs", "percolation", "dfs_percolation"), p=0.5, held_out=None, seed=2)
STEPS = dict(zip(WAYS, ((-1, 0), (1, 0), (0, -1), (0, 1)), strict=True))


def questions(count: int = 60) -> list[Question]:
    return [STREAM.questions(number)[0] for number in range(count)]


def graph_of(question: Question) -> "nx.Graph[Cell]":
    lattice = question.lattice
    graph = nx.grid_2d_graph(lattice.rows, lattice.cols)
    graph.remove_edges_from([edge for edge in list(graph.edges) if not lattice.connected(*edge)])
    return graph


def classes(code: int) -> set[int]:
    return {k for k in range(16) if code >> k & 1}


def expected(question: Question, graph: "nx.Graph[Cell]", cell: Cell, cap: int) -> dict[str, set[int]]:
    """The right classes of a cell, by networkx alone."""
    degree = graph.degree(cell)
    found: dict[str, set[int]] = {"dead_end": {int(degree == 1)} if degree else set()}
    if not nx.has_path(graph, cell, question.target):
        return found | {"next_hop": set(), "on_path": set(), "distance": set()}
    hops = {path[1] for path in nx.all_shortest_paths(graph, cell, question.target) if len(path) > 1}
    ways = {(cell[0] + dr, cell[1] + dc): k for k, (dr, dc) in enumerate(STEPS.values())}
    on = {place for path in nx.all_shortest_paths(graph, question.origin, question.target) for place in path}
    steps = int(nx.shortest_path_length(graph, cell, question.target))
    found |= {"next_hop": {ways[hop] for hop in hops}, "on_path": {int(cell in on)}}
    return found | {"distance": {min(steps, cap)}}


@pytest.mark.parametrize("cap", [1, 3, 8])
def test_cells_against_networkx(cap: int) -> None:
    asked = questions()
    targets = targets_of(asked)
    assert targets.shape == (5, 5)
    ties = 0
    for number, question in enumerate(asked):
        graph = graph_of(question)
        for r, c in np.ndindex(question.lattice.rows, question.lattice.cols):
            for label, right in expected(question, graph, (r, c), cap).items():
                assert classes(targets.code(label, cap)[number, r * 5 + c]) == right, (number, r, c, label)
                ties += len(right) > 1
    assert ties > 10


def test_edges_against_networkx() -> None:
    asked = questions()
    targets = targets_of(asked)
    nearer_QU, wall_QU = targets.code("nearer"), targets.code("wall")
    for number, question in enumerate(asked):
        graph = graph_of(question)
        steps = nx.single_source_shortest_path_length(graph, question.target)
        seen = set()
        for a, b in nx.grid_2d_graph(question.lattice.rows, question.lattice.cols).edges:
            unit = (0 if a[1] == b[1] else 25) + a[0] * 5 + a[1]
            seen.add(unit)
            assert classes(wall_QU[number, unit]) == {int(graph.has_edge(a, b))}
            known = graph.has_edge(a, b) and a in steps
            assert classes(nearer_QU[number, unit]) == ({int(steps[a] < steps[b])} if known else set())
        others = [unit for unit in range(50) if unit not in seen]
        assert not wall_QU[number, others].any() and not nearer_QU[number, others].any()


def test_read_back_from_tokens() -> None:
    rows, asked = list(maze_sequences(STREAM, range(60), TOKENIZER)), questions()
    told, given = targets_in(rows, TOKENIZER), targets_of(asked)
    for label in LABELS:
        mine, theirs = told.code(label), given.code(label)
        whole = (told.sides_QA == given.sides_QA).all(1) if label == "wall" else np.ones(60, bool)
        assert np.array_equal(mine[whole], theirs[whole]) and whole.sum() > 40, label
    assert [int(name) % 10 == 0 for name in told.maze_Q] == [question.lattice.held_out for question in asked]


def test_single_places_are_the_units_that_they_name() -> None:
    targets = targets_of(questions())
    rng = np.random.default_rng(0)
    question_R, cell_R = rng.integers(0, 60, 500), rng.integers(-1, 25, 500)
    none_R = np.full(500, -1)
    for label in ("next_hop", "on_path", "distance", "dead_end"):
        found = targets.code_at(label, question_R, cell_R, none_R)
        assert np.array_equal(found, np.where(cell_R < 0, 0, targets.code(label)[question_R, cell_R]))
    assert not targets.code_at("nearer", question_R, cell_R, none_R).any()
    number_N, unit_N = np.nonzero(targets.code("nearer"))
    low_N = unit_N % 25
    high_N = low_N + np.where(unit_N < 25, 5, 1)
    found, back = (targets.code_at("nearer", number_N, *ends) for ends in ((low_N, high_N), (high_N, low_N)))
    assert np.array_equal(found, targets.code("nearer")[number_N, unit_N]) and np.array_equal(
        found + back, found * 0 + 3
    )
    wall = targets.code_at("wall", question_R, cell_R, none_R)
    assert np.array_equal(wall, np.where(cell_R < 0, 0, targets.code("wall")[question_R, 25 + cell_R]))


def test_shuffled_labels_are_another_maze_s_of_the_same_size_and_group() -> None:
    targets = targets_of(questions(200))
    group_Q = np.arange(200) % 2
    numbered = Targets(targets.passages_QARC, np.arange(200), targets.target_Q, targets.sides_QA)
    partner_Q = numbered.shuffled(7, group_Q).origin_Q
    assert sorted(partner_Q) == list(range(200)) and (partner_Q != np.arange(200)).all()
    assert np.array_equal(group_Q[partner_Q], group_Q)
    assert np.array_equal(targets.sides_QA[partner_Q], targets.sides_QA)
    shuffled = targets.shuffled(7, group_Q)
    for label in LABELS:
        assert np.array_equal(shuffled.code(label), targets.code(label)[partner_Q])


def test_other_targets_are_drawn_as_a_stream_draws_them() -> None:
    lattice = Lattice.from_edges(2, 3, [((0, 0), (0, 1)), ((0, 1), (1, 1)), ((1, 1), (1, 0))])  # (0,2), (1,2) cut off
    drawn = targets_of([Question(lattice, (0, 0), (1, 0))] * 6000).retargeted(0)
    counts = np.bincount(drawn.target_Q, minlength=6)
    assert (drawn.origin_Q == 0).all() and not counts[[0, 2, 5]].any()
    assert (np.abs(counts[[1, 3, 4]] - 2000) < 5 * np.sqrt(2000)).all()
    stream = targets_of([MazeStream(((4, 4),), held_out=None).questions(number)[0] for number in range(4000)])
    other = stream.retargeted(1)
    assert np.array_equal(other.origin_Q, stream.origin_Q) and (other.target_Q != other.origin_Q).all()
    difference = np.bincount(other.target_Q) - np.bincount(stream.target_Q)
    assert (np.abs(difference) < 6 * np.sqrt(2 * 250)).all()
    alone = targets_of([Question(lattice, (0, 0), (0, 2))])
    assert alone.retargeted(0).target_Q == alone.target_Q and not alone.code("next_hop").any()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("next_hops",), r"labels: 'next_hops' is not one of .*; nearest: next_hop"),
        ((3,), "labels: 3 is not one of"),
        (("distance", 0), "cap: 0 is not a whole number from 1 to 15"),
        (("distance", 16), "cap: 16 is not a whole number"),
        (("distance", True), "cap: True is not a whole number"),
    ],
)
def test_labels_that_do_not_exist(asked: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        classes_of(*asked)


def test_names_of_classes() -> None:
    assert classes_of("distance", 2) == ("0", "1", "2+") and classes_of("next_hop") == WAYS
    for empty, ask in ((targets_of, []), (lambda rows: targets_in(rows, TOKENIZER), [])):
        with pytest.raises(InputError, match="the list is empty"):
            empty(ask)
    text = "<ADJLIST_START> (0,0) <--> (2,0) ; <ADJLIST_END> <ORIGIN_START> (0,0) <ORIGIN_END> <TARGET_START> (2,0)"
    row: Any = TOKENIZER.convert_tokens_to_ids([*text.split(" "), "<TARGET_END>"])
    with pytest.raises(InputError, match=r"tokens: sequence 0 joins \(0, 0\) and \(2, 0\), which are not neighbours"):
        targets_in([row], TOKENIZER)
