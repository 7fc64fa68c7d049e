"""Streams: the same maze anywhere, on the right side of the held-out split, with labels that are shortest paths."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest

from clew.errors import InputError
from clew.mazes import GENERATORS, Lattice, MazeStream, maze_questions, maze_tokenizer, parse_question
from clew.mazes.questions import CHOICES, Forest
from clew.mazes.vocab import ORIGIN_START, PADDING, PATH_END, PATH_START, TARGET_END, parse_cell

MIXED = ((2, 2), (3, 3), (2, 6), (7, 3), (5, 5))


def trees_of(forest: Forest) -> list[Forest]:
    """One forest a maze, its parents counted from its own root."""
    bounds = [*forest.starts_M, len(forest.tokens_T)]
    return [
        Forest(
            forest.tokens_T[a:b],
            np.where(forest.parents_T[a:b] < 0, -1, forest.parents_T[a:b] - a),
            forest.answers_T[a:b],
            forest.choices_TC[a:b],
            forest.optimal_TC[a:b],
            np.zeros(1, np.int64),
        )
        for a, b in pairwise(bounds)
    ]


def same(a: Forest, b: Forest) -> bool:
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True))


def rows_of(tree: Forest) -> list[list[int]]:
    """The token indices of each root-to-leaf way, leaves in order, read off the parents alone."""
    leaves = sorted(set(range(len(tree.tokens_T))) - set(tree.parents_T.tolist()))
    rows = []
    for leaf in leaves:
        row = [leaf]
        while tree.parents_T[row[-1]] >= 0:
            row.append(int(tree.parents_T[row[-1]]))
        rows.append(row[::-1])
    return rows


@pytest.mark.parametrize("generator", GENERATORS)
def test_forest_holds_the_streams_questions(generator):
    stream = MazeStream(MIXED, (generator,), p=0.4, branches=3, held_out=None, seed=5)
    tokenizer = maze_tokenizer(stream.max_size)
    trees = trees_of(stream.forest(range(40)))
    shapes = set()
    for index, tree in enumerate(trees):
        questions, rows = stream.questions(index), rows_of(tree)
        assert len(questions) == len(rows) == 3
        for question, row in zip(questions, rows, strict=True):
            size = (question.lattice.rows, question.lattice.cols)
            text = tokenizer.decode(tree.tokens_T[row])
            assert parse_question(text, size) == question
            if generator != "percolation":  # whose mazes need not reach the grid's edge
                assert parse_question(text) == question
            shapes.add(size)
    assert shapes == set(MIXED)


@pytest.mark.parametrize("held_out", [None, False, True])
@pytest.mark.parametrize("generator", GENERATORS)
def test_mazes_anywhere_in_a_grid_are_mazes_of_it(generator, held_out):
    """The same mazes, moved; their text reads back as what is asked; on their side of the split wherever they stand."""
    plain = MazeStream(MIXED[1:], (generator,), p=0.4, branches=3, held_out=held_out, seed=5)
    stream, tokenizer, places = replace(plain, within=9), maze_tokenizer(9), []
    for index, tree in enumerate(trees_of(stream.forest(range(60)))):
        for question, own, row in zip(stream.questions(index), plain.questions(index), rows_of(tree), strict=True):
            grid, small = question.lattice, own.lattice
            down, right = grid.rows - small.rows, grid.cols - small.cols
            assert parse_question(tokenizer.decode(tree.tokens_T[row]), (grid.rows, grid.cols)) == question
            assert question.path == tuple((r + down, c + right) for r, c in own.path)
            assert grid.passages.sum() == small.passages.sum() and max(grid.rows, grid.cols) <= 9
            assert held_out is None or grid.held_out == small.held_out == held_out
            assert stream.size_of(index) == (small.rows, small.cols)
            places.append((down, right))
    # of the held-out ones a tenth of places are, and the corner always is
    assert len(set(places)) > 20 and places.count((0, 0)) < (0.5 if held_out else 0.15) * len(places)


def test_a_grid_that_mazes_fill_moves_none():
    stream = MazeStream(((4, 4),), branches=2, seed=3)
    assert same(replace(stream, within=4).forest(range(20)), stream.forest(range(20)))
    assert replace(stream, within=4).questions(7) == stream.questions(7)


def test_the_parts_of_a_tree_are_where_the_token_format_puts_them():
    stream = MazeStream(((4, 4),), branches=4)
    for tree in trees_of(stream.forest(range(10))):
        rows = rows_of(tree)
        shared = sum(len(set(column)) == 1 for column in zip(*rows, strict=False))
        assert tree.tokens_T[rows[0][shared]] == ORIGIN_START and shared == 2 + 4 * 15
        for row in rows:
            tokens = tree.tokens_T[row].tolist()
            answer = tree.answers_T[row].tolist()
            start = tokens.index(PATH_START)
            assert tokens[start - 1] == TARGET_END and tokens[-1] == PATH_END and PADDING not in tokens
            assert answer == [False] * start + [True] * (len(tokens) - start)
            assert row[:shared] == list(range(shared)) and row[shared:] == list(range(row[shared], row[-1] + 1))


@pytest.mark.parametrize("choices", [False, True])
def test_any_batch_in_any_order_gives_the_same_mazes(choices):
    stream = MazeStream(MIXED, GENERATORS, p=0.4, branches=2, seed=3, stream=1, held_out=None)
    indices = [7, 0, 123_456_789, 3, 3, 12]
    together = trees_of(stream.forest(indices, choices))
    for index, tree in zip(indices, together, strict=True):
        assert same(tree, stream.forest([index], choices))
    assert same(stream.forest(np.array(indices, np.int32), choices), stream.forest(indices, choices))
    assert same(MazeStream(**vars(stream)).forest(indices, choices), stream.forest(indices, choices))
    empty = stream.forest([], choices)
    assert len(empty.tokens_T) == len(empty.starts_M) == len(empty.choices_TC) == 0


def test_threads_draw_the_same_mazes_side_by_side():
    stream = MazeStream(MIXED, GENERATORS, p=0.4, branches=2, held_out=None)
    shares = [np.arange(start, start + 50) for start in range(0, 400, 50)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(stream.forest, shares))
    assert all(same(forest, stream.forest(share)) for forest, share in zip(together, shares, strict=True))


def test_seeds_streams_and_indices_tell_mazes_apart():
    def lattices(**changes):
        stream = MazeStream(((6, 6),), held_out=None, **changes)
        return [stream.questions(index)[0].lattice for index in range(50)]

    drawn = [*lattices(), *lattices(seed=1), *lattices(stream=1), *lattices(seed=1, stream=1)]
    assert len(set(drawn)) == 200


def test_branch_count_does_not_change_the_maze():
    few, many = (MazeStream(((5, 5),), branches=branches, seed=9) for branches in (1, 5))
    for index in range(10):
        assert many.questions(index)[:1] == few.questions(index)


def test_maze_questions_counts_on_from_where_it_is_told():
    stream = MazeStream(((4, 4),), branches=2)
    straight = list(islice(maze_questions(stream), 12))
    assert straight == [question for index in range(6) for question in stream.questions(index)]
    assert list(islice(maze_questions(stream, start=4), 4)) == straight[8:]


@pytest.mark.parametrize("size", [(2, 2), (2, 9), (8, 3), (20, 20), (31, 30)])
@pytest.mark.parametrize("generator", GENERATORS)
def test_labels_are_shortest_paths_between_two_different_cells(generator, size):
    stream = MazeStream((size,), (generator,), p=0.45, branches=6, held_out=None)
    for question in islice(maze_questions(stream), 30):
        lattice, path = question.lattice, question.path
        assert (lattice.rows, lattice.cols) == size and question.origin != question.target
        assert path is not None and path[0] == question.origin and path[-1] == question.target
        assert len(path) == lattice.distances(question.target)[question.origin] + 1
        assert all(lattice.connected(a, b) for a, b in pairwise(path))


def test_origins_and_targets_are_drawn_evenly():
    stream = MazeStream(((3, 3),), branches=9, held_out=None)
    pairs = [(q.origin, q.target) for q in islice(maze_questions(stream), 9 * 800)]
    counts = np.unique(pairs, axis=0, return_counts=True)[1]
    assert len(counts) == 72  # every ordered pair of two different cells
    assert ((counts - 100) ** 2 / 100).sum() < 71 + 6 * 12  # chi-square, 71 degrees of freedom


@pytest.mark.parametrize("within", [None, 7])
@pytest.mark.parametrize("generator", GENERATORS)
def test_choices_are_the_open_passages_and_the_best_of_them(generator, within):
    stream = MazeStream(((2, 4), (5, 5)), (generator,), p=0.5, branches=3, held_out=None, seed=2, within=within)
    tokenizer = maze_tokenizer(7)
    forks = 0
    for index, tree in enumerate(trees_of(stream.forest(range(25), choices=True))):
        assert tree.choices_TC.shape == tree.optimal_TC.shape == (len(tree.tokens_T), CHOICES)
        assert (tree.choices_TC[~tree.answers_T] == -1).all()
        assert not tree.optimal_TC[tree.choices_TC < 0].any()
        for question, row in zip(stream.questions(index), rows_of(tree), strict=True):
            answer = [t for t in row if tree.answers_T[t]]
            path = question.path
            assert path is not None and len(answer) == len(path) + 2
            expected = [({"<PATH_START>"}, {"<PATH_START>"}), (texts([path[0]]), texts([path[0]]))]
            for cell in path:
                open_ways = texts(question.lattice.neighbours(cell))
                best = texts(question.lattice.optimal_steps(cell, question.target))
                done = {"<PATH_END>"} if cell == question.target else set()
                expected.append((open_ways | done, best | done))
                forks += len(best) > 1
            for t, (open_ways, best) in zip(answer, expected, strict=True):
                given = tree.choices_TC[t] >= 0
                assert given.sum() == len(open_ways)
                assert set(tokenizer.convert_ids_to_tokens(tree.choices_TC[t][given])) == open_ways
                assert set(tokenizer.convert_ids_to_tokens(tree.choices_TC[t][tree.optimal_TC[t]])) == best
                assert tree.tokens_T[t] in tree.choices_TC[t][tree.optimal_TC[t]]
    assert forks > 0 if "percolation" in generator else forks == 0


def texts(cells) -> set[str]:
    return {f"({r},{c})" for r, c in cells}


def test_choices_are_left_out_unless_asked_for():
    stream = MazeStream(((4, 4),))
    plain, asked = stream.forest(range(5)), stream.forest(range(5), choices=True)
    assert plain.choices_TC.shape == plain.optimal_TC.shape == (0, CHOICES)
    assert np.array_equal(plain.tokens_T, asked.tokens_T) and np.array_equal(plain.parents_T, asked.parents_T)


@pytest.mark.parametrize("generator", GENERATORS)
def test_training_never_sees_a_held_out_maze_and_evaluation_nothing_else(generator):
    kind = dict(sizes=((3, 3), (3, 4)), generators=(generator,), p=0.4)
    training = {q.lattice for q in islice(maze_questions(MazeStream(**kind, held_out=False)), 1500)}
    held_out = {q.lattice for q in islice(maze_questions(MazeStream(**kind, held_out=True)), 300)}
    assert not training & held_out
    assert not any(lattice.held_out for lattice in training) and all(lattice.held_out for lattice in held_out)


def test_the_two_sides_of_the_split_are_all_spanning_trees_of_3x3():
    def drawn(held_out, draws):
        stream = MazeStream(((3, 3),), ("wilson",), held_out=held_out)
        return {stream.questions(index)[0].lattice for index in range(draws)}

    training, held_out = drawn(False, 6000), drawn(True, 1000)
    assert len(training) + len(held_out) == 192 and not training & held_out
    assert drawn(None, 6000) == training | held_out


def test_about_a_tenth_is_held_out():
    stream = MazeStream(((5, 5),), held_out=None)
    assert abs(np.mean([stream.questions(index)[0].lattice.held_out for index in range(5000)]) - 0.1) < 0.02


def test_mazes_read_back_from_text_stay_on_their_side_of_the_split():
    stream = MazeStream(((5, 5),), ("percolation",), p=0.3)
    tokenizer = maze_tokenizer(5)
    smaller = 0
    for tree in trees_of(stream.forest(range(200))):
        lattice = parse_question(tokenizer.decode(tree.tokens_T)).lattice
        assert not lattice.held_out
        smaller += lattice.passages.shape != (2, 5, 5)
    assert smaller > 0  # else this would show nothing


def test_adjacency_lists_are_shuffled_and_turned_either_way():
    stream = MazeStream(((4, 4),), held_out=None)
    tokenizer = maze_tokenizer(4)
    first, turned = [], []
    for index, tree in enumerate(trees_of(stream.forest(range(1500)))):
        words = tokenizer.convert_ids_to_tokens(tree.tokens_T[1 : 1 + 4 * 15])
        written = [(parse_cell(a), parse_cell(b)) for a, b in zip(words[::4], words[2::4], strict=True)]
        edges = stream.questions(index)[0].lattice.edges()
        assert set(words[1::4]) == {"<-->"} and set(words[3::4]) == {";"}
        ordered = [(min(a, b), max(a, b)) for a, b in written]
        assert sorted(ordered) == sorted(edges)
        first.append(edges.index(ordered[0]))
        turned += [a > b for a, b in written]
    assert abs(np.mean(turned) - 0.5) < 0.02
    assert (
        (np.bincount(first, minlength=15) - 100) ** 2 / 100
    ).sum() < 14 + 6 * 5.3  # chi-square, 14 degrees of freedom


def test_sizes_and_generators_are_drawn_evenly():
    stream = MazeStream(((2, 2), (3, 3), (4, 5)), ("dfs", "percolation"), p=0.6, held_out=None)
    mazes = [stream.questions(index)[0].lattice for index in range(1200)]
    for size in stream.sizes:
        assert 330 < sum((maze.rows, maze.cols) == size for maze in mazes) < 470
    trees = sum(len(maze.edges()) == 19 for maze in mazes if maze.rows == 4)
    assert 0.4 < trees / sum(maze.rows == 4 for maze in mazes) < 0.7


def test_grids_too_small_to_split_are_refused_clearly():
    assert not any(Lattice.random(2, 2, seed=seed).held_out for seed in range(50))
    stream = MazeStream(((2, 2),), held_out=True)
    said = "sizes: no held-out maze in 10000 draws of dfs at 2x2; there are too few mazes of that size to split"
    for draw in (lambda: stream.questions(0), lambda: stream.forest([0, 1]), lambda: next(maze_questions(stream))):
        with pytest.raises(InputError, match=said):
            draw()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (dict(sizes=()), "sizes: the list is empty"),
        (dict(generators=()), "generators: the list is empty"),
        (dict(sizes=((0, 0),)), "sizes: 0x0 is not a grid of 2 to 64 cells a side"),
        (dict(sizes=((4, 4), (1, 4))), "sizes: 1x4"),
        (dict(sizes=((65, 65),)), "sizes: 65x65"),
        (dict(within=3), "within: 3 is not between 4, the largest side in sizes, and 64"),
        (dict(within=65), "within: 65 is not between"),
        (dict(branches=0), "branches: 0 is not at least 1"),
        (dict(generators=("dfs", "kruskal")), "'kruskal' is not one of dfs, wilson, dfs_percolation, percolation"),
        (dict(generators=("percolation",), p=0.0), "p: 0.0 is not between 0.05 and 1"),
        (dict(p=-1.0), "p: -1.0 is not a probability"),
        (dict(p=float("nan")), "p: nan is not a probability"),
    ],
)
def test_fields_that_cannot_be_used_are_named(fields, said):
    with pytest.raises(InputError, match=said):
        MazeStream(**fields)


@pytest.mark.parametrize(
    ("size", "generator", "p", "sides"),
    [
        ((2, 2), "dfs", 0.1, {False}),
        ((2, 2), "percolation", 0.5, {False}),
        ((3, 3), "dfs", 0.1, {False, True}),
        ((2, 3), "wilson", 0.1, {False, True}),
        ((4, 4), "percolation", 1.0, {False}),
        ((64, 64), "percolation", 1.0, {True}),
        ((4, 4), "dfs_percolation", 1.0, {False}),
        ((64, 64), "dfs", 0.1, {False, True}),
    ],
)
def test_sides_of_the_split_without_a_maze(size: tuple[int, int], generator: str, p: float, sides: set[bool]) -> None:
    for held_out in (False, True):
        stream = MazeStream((size,), (generator,), p, held_out=held_out)
        assert (stream.missing() == []) == (held_out in sides)
        if held_out in sides:
            assert stream.require() is stream
            assert stream.questions(0)[0].lattice.held_out == held_out
        else:
            side = "held-out" if held_out else "training"
            with pytest.raises(InputError, match=f"no {side} maze of {size[0]}x{size[1]} by {generator}"):
                stream.require()


def test_a_maze_that_is_drawn_too_seldom_counts_as_none() -> None:
    """At p 0.9999 one draw in 20,000 gives another maze than the full one, and that is seldom a held-out one."""
    assert MazeStream(((3, 3),), ("percolation",), 0.9999, held_out=True).missing()
    assert not MazeStream(((3, 3),), ("percolation",), 0.9, held_out=True).missing()


@pytest.mark.parametrize("value", [-1, 2**63, 10**30, 1.5, True, "0", None])
def test_seeds_that_cannot_be(value: object) -> None:
    for field in ("seed", "stream"):
        with pytest.raises(InputError, match=f"{field}: "):
            MazeStream(**{field: value})  # type: ignore[arg-type]
    assert MazeStream(seed=2**63 - 1).questions(0) != MazeStream(seed=0).questions(0)
