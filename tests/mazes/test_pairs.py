"""Minimal pairs: read back from their own text, against networkx; the same in any batch; balanced; held-out."""

from functools import cache
from itertools import pairwise, product
from typing import Any

import networkx as nx
import numpy as np
import pytest

from clew.errors import InputError
from clew.mazes import Lattice, Question, maze_tokenizer, parse_question
from clew.mazes.pairs import BALANCES, KINDS, Pair, PairBatch, PairStream
from clew.mazes.vocab import PADDING, SPECIAL_TOKENS, parse_cell

SIZES = ((3, 3), (3, 5), (4, 4), (6, 4), (7, 7))
TREES = dict(sizes=SIZES, generators=("dfs", "wilson"), seed=3)
CYCLES = dict(sizes=SIZES, generators=("dfs_percolation", "percolation"), p=0.45, seed=4)
STREAMS = [PairStream(kind, **mazes) for kind in KINDS for mazes in (TREES, CYCLES)]  # type: ignore[arg-type]
PAIRS = 120


@cache
def words() -> list[str]:
    return list(maze_tokenizer(7).convert_ids_to_tokens(list(range(len(SPECIAL_TOKENS) + 49))))


def read(text: str, size: tuple[int, int]) -> tuple[Question, list[Any], list[tuple[str, str]]]:
    """A side's question, its walk and its adjacency list in the order of the text."""
    prompt, walk = text.split(" <PATH_START> ")
    edges = [entry.split()[-3:] for entry in prompt.split(" ; ")[:-1]]
    return parse_question(prompt, size), [parse_cell(word) for word in walk.split()], [(a, b) for a, _, b in edges]


def graph_of(lattice: Lattice) -> nx.Graph:
    return nx.Graph(lattice.edges())


def right_steps(question: Question, here: Any) -> set[Any]:
    """By all shortest paths there are."""
    return {path[1] for path in nx.all_shortest_paths(graph_of(question.lattice), here, question.target)}


def lookahead_at(question: Question, walk: list[Any]) -> int:
    """Of the last cell of the walk, by the definition in `forks.lookahead`."""
    graph, fork = graph_of(question.lattice), walk[-1]
    left = nx.shortest_path_length(graph, fork, question.target)
    rest, needed = graph.subgraph(set(graph) - set(walk)), [0]
    for turn in set(graph[fork]) - set(walk) - right_steps(question, fork):
        needed.append(min(left, 1 + max(nx.single_source_shortest_path_length(rest, turn).values())))
    return max(needed)


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: f"{stream.kind}-{stream.generators[0]}")
def test_pairs_are_what_they_say_by_networkx(stream: PairStream) -> None:
    seen = set()
    for index in range(PAIRS):
        pair = stream.pair(index)
        size = (pair.clean.lattice.rows, pair.clean.lattice.cols)
        sides = [read(text, size) for text in pair.texts]
        for side, (question, walk, _) in enumerate(sides):
            told = (pair.clean, pair.corrupt)[side]
            assert question == told._replace(path=None) and question.lattice.held_out
            assert tuple(walk) == pair.walk and len(walk) == pair.position + 1 and walk[0] == question.origin
            for here, step in pairwise([*walk, (pair.right, pair.wrong)[side]]):
                assert right_steps(question, here) == {step}
            paths = nx.all_shortest_paths(graph_of(question.lattice), question.origin, question.target)
            assert list(told.path or ()) in list(paths)
            ways = set(question.lattice.neighbours(walk[-1]))
            assert {pair.right, pair.wrong} <= ways
            left = nx.shortest_path_length(graph_of(question.lattice), walk[-1], question.target)
            assert (pair.distance[side], pair.lookahead[side]) == (left, lookahead_at(question, walk))
        check_sameness(stream, pair, sides)
        seen.add((*size, pair.position > 0))
    assert {size[:2] for size in seen} == set(SIZES) and {size[2] for size in seen} == {True, False}


def check_sameness(stream: PairStream, pair: Pair, sides: list[Any]) -> None:
    """What the two sides have in common, and in how many tokens they differ."""
    (clean, _, edges), (corrupt, _, others) = sides
    rows = [text.split() for text in pair.texts]
    differing = sum(a != b for a, b in zip(*rows, strict=True))
    assert clean.origin == corrupt.origin and pair.kind == stream.kind
    graphs = [graph_of(side[0].lattice) for side in sides]
    assert all(nx.is_connected(graph) for graph in graphs)
    assert len({(len(graph), graph.number_of_edges()) for graph in graphs}) == 1
    if stream.generators[0] == "dfs":
        assert all(map(nx.is_tree, graphs)) and len(graphs[0]) == clean.lattice.rows * clean.lattice.cols
    if stream.kind == "target":
        assert clean.lattice == corrupt.lattice and clean.target != corrupt.target and differing == 1
    else:
        assert clean.target == corrupt.target and differing in (1, 2)
        assert sum(set(a) != set(b) for a, b in zip(edges, others, strict=True)) == 1


def columns(batch: PairBatch) -> dict[str, np.ndarray]:
    return {name: value for name, value in vars(batch).items() if isinstance(value, np.ndarray)}


def rows_of(batch: PairBatch) -> list[dict[str, Any]]:
    """Each pair's arrays without the padding."""
    rows = []
    for i in range(len(batch)):
        row = {name: value[i].tolist() for name, value in columns(batch).items()}
        rows.append({k: v[-row["length_P"] :] if k.endswith("_PT") else v for k, v in row.items()})
    return rows


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: f"{stream.kind}-{stream.generators[0]}")
def test_a_batch_holds_the_streams_pairs(stream: PairStream) -> None:
    batch = stream.batch(range(40))
    for index, row in enumerate(rows_of(batch)):
        pair = stream.pair(index)
        texts = [" ".join(words()[token] for token in row[f"{side}_tokens_PT"]) for side in ("clean", "corrupt")]
        assert tuple(texts) == pair.texts
        steps = [parse_cell(words()[row[side]]) for side in ("right_P", "wrong_P")]
        assert steps == [pair.right, pair.wrong]
        facts = [row[f"{name}_P"] for name in ("index", "rows", "cols", "position", "lookahead", "distance")]
        size = [pair.clean.lattice.rows, pair.clean.lattice.cols]
        assert facts == [index, *size, pair.position, pair.lookahead[0], pair.distance[0]]
        assert [row["corrupt_lookahead_P"], row["corrupt_distance_P"]] == [pair.lookahead[1], pair.distance[1]]


@pytest.mark.parametrize(("kind", "balance"), list(product(KINDS, (None, "lookahead"))))
def test_pair_i_is_the_same_in_any_batch(kind: Any, balance: Any) -> None:
    stream = PairStream(kind, ((3, 3), (4, 4)), balance=balance, seed=7)
    order = [30, 2, 2, 17, 1_000_000_007]
    apart = [rows_of(PairStream(kind, ((3, 3), (4, 4)), balance=balance, seed=7).batch([i]))[0] for i in order]
    assert rows_of(stream.batch(order)) == apart
    assert rows_of(stream.batch(np.array(order))) == apart and apart[1] == apart[2]
    assert rows_of(PairStream(kind, ((3, 3), (4, 4)), balance=balance, seed=8).batch(order)) != apart
    assert rows_of(PairStream(kind, ((3, 3), (4, 4)), balance=balance, seed=7, stream=1).batch(order)) != apart


def test_padding_is_on_the_left_and_groups_have_none() -> None:
    batch = PairStream(sizes=((3, 3), (5, 5))).batch(range(200))
    for tokens_PT in (batch.clean_tokens_PT, batch.corrupt_tokens_PT):
        assert np.array_equal(tokens_PT != PADDING, batch.mask_PT)
    assert batch.mask_PT[:, -1].all() and batch.mask_PT[:, 0].any() and not batch.mask_PT[:, 0].all()
    groups = list(batch.groups())
    assert all(group.mask_PT.all() for group in groups) and len(groups) > 4
    pairs = [row for group in groups for row in rows_of(group)]
    assert sorted(pairs, key=lambda row: row["index_P"]) == rows_of(batch)
    assert len(batch.take(batch.rows_P == 3)) == (batch.rows_P == 3).sum() < 150
    none = PairStream().batch([])
    assert len(none) == 0 and none.clean_tokens_PT.shape == (0, 0) and list(none.groups()) == []


@pytest.mark.parametrize(("kind", "held_out"), list(product(KINDS, (True, False, None))))
def test_both_sides_stand_on_the_side_of_the_split_that_is_asked_for(kind: Any, held_out: bool | None) -> None:
    pairs = [PairStream(kind, ((5, 5),), held_out=held_out).pair(i) for i in range(60)]
    sides = [(pair.clean.lattice.held_out, pair.corrupt.lattice.held_out) for pair in pairs]
    if held_out is None:
        assert len(set(sides)) > 1
    else:
        assert set(sides) == {(held_out, held_out)}


@pytest.mark.parametrize(("kind", "balance"), list(product(KINDS, BALANCES)))
def test_strata_are_evenly_filled(kind: Any, balance: Any) -> None:
    stream = PairStream(kind, ((4, 4), (5, 5)), balance=balance)
    strata = stream.strata
    assert len(strata) > 3 and (np.diff(strata) > 0).all()
    batch = stream.batch(range(20 * len(strata)))
    values, counts = np.unique(getattr(batch, f"{balance}_P"), return_counts=True)
    assert np.array_equal(values, strata) and set(counts.tolist()) == {20}
    plain = getattr(PairStream(kind, ((4, 4), (5, 5))).batch(range(len(batch))), f"{balance}_P")
    assert len(set(np.unique(plain, return_counts=True)[1].tolist())) > 1  # else this would show nothing
    assert {4, 5} == set(batch.rows_P.tolist())


def test_sizes_and_generators_come_evenly() -> None:
    batch = PairStream(sizes=((3, 3), (6, 6)), generators=("dfs", "percolation"), p=0.6).batch(range(1000))
    assert 440 < (batch.rows_P == 3).sum() < 560


def test_targets_are_exchangeable_between_the_sides() -> None:
    batch = PairStream(sizes=((5, 5),)).batch(range(4000))
    gap = batch.distance_P - batch.corrupt_distance_P
    assert abs(gap.mean()) < 4 * gap.std() / len(gap) ** 0.5


def test_in_the_ids_of_another_tokenizer() -> None:
    stream = PairStream(sizes=((3, 3), (4, 4)))
    other = maze_tokenizer(4)
    known = {token: 5 * i + 2 for i, token in enumerate(reversed(other.get_vocab()))}
    other.get_vocab = lambda: known  # type: ignore[method-assign]
    plain, batch = stream.batch(range(30)), stream.batch(range(30), other)
    names = {id_: token for token, id_ in known.items()}
    assert batch.pad == known["<PADDING>"]
    for name in ("clean_tokens_PT", "corrupt_tokens_PT", "right_P", "wrong_P"):
        ours, theirs = getattr(plain, name).reshape(-1), getattr(batch, name).reshape(-1)
        assert [words()[i] for i in ours] == [names[i] for i in theirs]
    with pytest.raises(InputError, match=r"does not know the maze token \(0,3\)"):
        stream.batch([0], maze_tokenizer(3))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (dict(kind="edge"), "kind: 'edge' is not one of target, passage"),
        (dict(balance="size"), "balance: 'size' is not one of lookahead, distance, position, or None"),
        (dict(held_out="yes"), "held_out: 'yes' is not True, False or None"),
        (dict(sizes=()), "sizes: the list is empty"),
        (dict(sizes=((1, 4),)), "sizes: 1x4 is not a grid of 2 to 64"),
        (dict(generators=("kruskal",)), "'kruskal' is not one of"),
        (dict(p=2.0), "p: 2.0 is not a probability"),
        (dict(seed=-1), "seed: -1 is not a whole number"),
    ],
)
def test_fields_that_cannot_be_used_are_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        PairStream(**fields)


@pytest.mark.parametrize("indices", [[-1], [0.5], [[0]], ["0"], 3, [2**63], [None], [True]])
def test_indices_that_cannot_be(indices: Any) -> None:
    with pytest.raises(InputError, match=r"indices: .* is no row of whole numbers from 0"):
        PairStream().batch(indices)


def test_pairs_that_there_are_none_of() -> None:
    with pytest.raises(
        InputError, match="sizes: no pair of kind target with held_out True in 100000 draws of dfs at 2x2"
    ):
        PairStream(sizes=((2, 2),)).batch([0])
    full = PairStream("passage", ((3, 3),), ("percolation",), 1.0, held_out=None)
    with pytest.raises(InputError, match=r"no pair of kind passage with held_out None .* larger mazes, such as 4x4"):
        full.pair(0)
    with pytest.raises(InputError, match="balance: None has no strata"):
        _ = PairStream().strata
