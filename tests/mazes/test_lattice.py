"""Carving, solving and hashing, held against networkx and against what is known of spanning trees."""

from collections import Counter
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.errors import InputError
from clew.mazes import Lattice, MazeStream
from clew.mazes.kernels import GENERATORS
from clew.mazes.lattice import MAX_SIZE, as_cell

SIZES = [(2, 2), (2, 7), (5, 3), (6, 6), (20, 20)]


def graph_of(lattice: Lattice) -> nx.Graph:
    graph = nx.Graph()
    graph.add_nodes_from((r, c) for r in range(lattice.rows) for c in range(lattice.cols))
    for way, dr, dc in ((0, 1, 0), (1, 0, 1)):  # straight from the definition, not from Lattice.edges
        for r, c in zip(*np.nonzero(lattice.passages[way]), strict=True):
            graph.add_edge((int(r), int(c)), (int(r) + dr, int(c) + dc))
    return graph


def hop_counts(graph: nx.Graph, target) -> dict:
    return dict(nx.single_source_shortest_path_length(graph, target))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("generator", ["dfs", "wilson"])
def test_tree_generators_carve_spanning_trees(generator, size):
    mazes = [Lattice.random(*size, seed=seed, generator=generator) for seed in range(12)]
    for lattice in mazes:
        graph = graph_of(lattice)
        assert nx.is_tree(graph) and len(graph) == size[0] * size[1]
        assert set(map(frozenset, lattice.edges())) == set(map(frozenset, graph.edges))
    assert len(set(mazes)) > 1


@pytest.mark.parametrize("size", SIZES)
def test_dfs_percolation_adds_cycles_to_a_connected_maze(size):
    graphs = [graph_of(Lattice.random(*size, seed=seed, generator="dfs_percolation", p=0.3)) for seed in range(12)]
    assert all(nx.is_connected(graph) for graph in graphs)
    assert any(not nx.is_tree(graph) for graph in graphs)


def test_percolation_keeps_exactly_one_component():
    for size in SIZES:
        for seed in range(12):
            graph = graph_of(Lattice.random(*size, seed=seed, generator="percolation", p=0.45))
            kept = [part for part in nx.connected_components(graph) if len(part) > 1]
            assert len(kept) == 1


def test_percolation_opens_the_share_of_passages_that_was_asked_for():
    extra = [Lattice.random(20, 20, seed=seed, generator="percolation", p=0.9).passages.sum() for seed in range(20)]
    assert 0.88 < np.mean(extra) / (2 * 20 * 19) < 0.92
    assert Lattice.random(5, 5, generator="percolation", p=1).passages.sum() == 2 * 5 * 4


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("size", SIZES)
def test_distances_paths_and_optimal_steps_agree_with_networkx(generator, size):
    for seed in range(4):
        lattice = Lattice.random(*size, seed=seed, generator=generator, p=0.4)
        graph = graph_of(lattice)
        cells = sorted(cell for cell in graph if graph.degree[cell])
        target, origin = cells[seed % len(cells)], cells[-1 - seed % len(cells)]
        hops = hop_counts(graph, target)
        assert np.array_equal(
            lattice.distances(target), [[hops.get((r, c), -1) for c in range(size[1])] for r in range(size[0])]
        )
        for cell in list(graph)[:: max(1, len(graph) // 30)]:
            assert sorted(lattice.neighbours(cell)) == sorted(graph.adj[cell])
            best = {nxt for nxt in graph.adj[cell] if cell in hops and hops[nxt] == hops[cell] - 1}
            assert set(lattice.optimal_steps(cell, target)) == best
        path = lattice.shortest_path(origin, target, seed=seed)
        assert path[0] == origin and path[-1] == target and len(path) == hops[origin] + 1
        assert all(graph.has_edge(a, b) and lattice.connected(a, b) for a, b in pairwise(path))


def test_every_shortest_path_is_drawn_and_no_other():
    lattice = Lattice.random(4, 4, generator="percolation", p=1)  # all passages open: 6 choose 3 shortest paths
    drawn = Counter(tuple(lattice.shortest_path((0, 0), (3, 3), seed=seed)) for seed in range(2000))
    assert set(drawn) == set(map(tuple, nx.all_shortest_paths(graph_of(lattice), (0, 0), (3, 3))))
    first_steps = Counter(path[1] for path in drawn.elements())
    assert abs(first_steps[(0, 1)] - 1000) < 150  # a fair coin leaves this once in 10^11


def test_cells_cut_off_are_said_to_be():
    lattice = Lattice.from_edges(3, 3, [((0, 0), (0, 1))])
    assert lattice.distances((0, 0))[2, 2] == -1
    assert lattice.optimal_steps((2, 2), (0, 0)) == []
    assert not lattice.connected((0, 1), (0, 2)) and not lattice.connected((0, 0), (5, 5))
    with pytest.raises(InputError, match="not connected"):
        lattice.shortest_path((2, 2), (0, 0))
    with pytest.raises(InputError, match=r"cell \(3, 0\) is outside the 3x3 grid"):
        lattice.distances((3, 0))


def spanning_tree_counts(generator: str, draws: int) -> Counter:
    stream = MazeStream(sizes=((3, 3),), generators=(generator,), held_out=None, seed=11)
    return Counter(stream.questions(index)[0].lattice for index in range(draws))


def chi_square(counts: Counter, kinds: int) -> float:
    expected = counts.total() / kinds
    return sum((counts[kind] - expected) ** 2 for kind in counts) / expected + (kinds - len(counts)) * expected


def test_wilson_is_uniform_over_the_192_spanning_trees_of_3x3():
    counts = spanning_tree_counts("wilson", 20_000)
    assert len(counts) == 192
    # 191 degrees of freedom: mean 191, deviation 19.5.
    assert chi_square(counts, 192) < 191 + 6 * 19.5
    # The yardstick tells the difference: depth-first search likes long corridors.
    assert chi_square(spanning_tree_counts("dfs", 20_000), 192) > 191 + 60 * 19.5


def test_held_out_part_is_a_tenth_of_all_mazes():
    hashed = [Lattice.random(6, 6, seed=seed).held_out for seed in range(10_000)]
    assert abs(np.mean(hashed) - 0.1) < 0.015  # five deviations
    trees = list(spanning_tree_counts("wilson", 5_000))
    assert 0.03 < np.mean([tree.held_out for tree in trees]) < 0.2


def test_identity_is_the_passages_alone():
    edges = [((0, 0), (0, 1)), ((0, 1), (1, 1)), ((1, 1), (1, 2))]
    small, padded = Lattice.from_edges(2, 3, edges), Lattice.from_edges(5, 4, edges)
    assert hash(small) == hash(padded) and small.held_out == padded.held_out
    assert small != padded
    assert small == Lattice.from_edges(2, 3, [(b, a) for a, b in reversed(edges)])
    turned = Lattice.from_edges(3, 2, [((a[1], a[0]), (b[1], b[0])) for a, b in edges])
    assert hash(small) != hash(turned)
    others = {hash(Lattice.from_edges(2, 3, edges[:n])) for n in range(4)}
    assert len(others) == 4


def test_hash_reads_every_passage_of_a_large_maze():
    lattice = Lattice.random(20, 20, seed=1)
    hashes = {hash(lattice)}
    for way, r, c in [(0, r, c) for r in range(19) for c in range(20)] + [
        (1, c, r) for r in range(19) for c in range(20)
    ]:
        changed = lattice.passages.copy()
        changed[way, r, c] ^= True
        hashes.add(hash(Lattice(changed)))
    assert len(hashes) == 1 + 2 * 19 * 20


def test_a_lattice_cannot_be_changed_behind_its_hash():
    passages = Lattice.random(3, 3).passages.copy()
    lattice = Lattice(passages)
    before = hash(lattice)
    passages[:] = False
    assert hash(lattice) == before
    with pytest.raises(ValueError, match="read-only"):
        lattice.passages[0, 0, 0] = True


def test_edges_are_plain_numbers_and_build_the_lattice_again():
    lattice = Lattice.random(5, 7, seed=3, generator="dfs_percolation", p=0.3)
    assert all(type(x) is int for edge in lattice.edges() for cell in edge for x in cell)
    assert all(a < b for a, b in lattice.edges())
    assert Lattice.from_edges(5, 7, lattice.edges()) == lattice
    assert "np." not in repr([lattice.edges(), lattice.neighbours((0, 0)), lattice.shortest_path((0, 0), (4, 6))])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Lattice(np.zeros((2, 1, 3), bool)), "1x3 is not a grid of 2 to 64 cells a side"),
        (lambda: Lattice(np.zeros((2, 0, 0), bool)), "0x0"),
        (lambda: Lattice(np.zeros((2, MAX_SIZE + 1, 3), bool)), "65x3"),
        (lambda: Lattice(np.zeros((3, 3), bool)), r"shape \(3, 3\) is not \(2, rows, cols\)"),
        (lambda: Lattice(np.ones((2, 3, 3), bool)), "leads out of the grid"),
        (lambda: Lattice.from_edges(3, 3, [((0, 0), (1, 1))]), "not neighbours"),
        (lambda: Lattice.from_edges(3, 3, [((0, 0), (0, 0))]), "not neighbours"),
        (lambda: Lattice.from_edges(3, 3, [((2, 2), (3, 2))]), "outside the 3x3 grid"),
        (lambda: Lattice.from_edges(3, 3, [((-1, 0), (0, 0))]), "outside the 3x3 grid"),
        (lambda: Lattice.random(1, 4), "1x4"),
        (lambda: Lattice.random(4, 4, generator="prim"), "'prim' is not one of dfs, wilson"),
        (lambda: Lattice.random(4, 4, generator="percolation", p=0.01), "0.01 is not between 0.05 and 1"),
        (lambda: Lattice.random(4, 4, generator="dfs_percolation", p=1.5), "1.5 is not a probability"),
    ],
)
def test_bad_lattices_are_named_in_one_line(make, said):
    with pytest.raises(InputError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_the_largest_grid_works():
    lattice = Lattice.random(MAX_SIZE, MAX_SIZE, generator="wilson")
    assert nx.is_tree(graph_of(lattice))
    assert lattice.distances((0, 0)).min() == 0


ODDITIES = [np.array(3), np.array([1, 2]), np.zeros((2, 2)), np.array([1.0, 2.0]), (1.0, 2), b"ab"]


@given(
    st.none()
    | st.text()
    | st.floats()
    | st.lists(st.integers())
    | st.tuples(st.booleans(), st.integers())
    | st.sampled_from(ODDITIES)
)
@settings(max_examples=100, deadline=None)
def test_as_cell_takes_pairs_of_whole_numbers_and_nothing_else(value):
    cell = as_cell(value)
    if cell is not None:
        assert len(cell) == 2 and all(type(x) is int for x in cell) and list(value) == list(cell)


def test_as_cell_by_example():
    assert (
        as_cell((1, 2)) == as_cell([1, 2]) == as_cell(np.array([1, 2], np.int8)) == as_cell(np.int64([1, 2])) == (1, 2)
    )
    assert (
        as_cell((True, 2)) is as_cell((1, 2, 3)) is as_cell("12") is as_cell(np.array(1)) is as_cell((1.0, 2)) is None
    )
