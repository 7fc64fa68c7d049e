"""Traces: what each algorithm may write and nothing else, read back exactly, and no text that breaks the reader."""

from collections import Counter
from itertools import pairwise, product

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.errors import InputError
from clew.mazes import Lattice, MazeStream, Question
from clew.mazes.kernels import seeded
from clew.mazes.traces import (
    ALGORITHMS,
    DRAW,
    as_searched,
    parse_trace,
    path_from_trace,
    search_steps,
    trace,
    trace_tokens,
    write_trace,
)
from clew.mazes.vocab import SPECIAL_TOKENS, cell_ids, cell_text

SIZES = ((2, 2), (3, 5), (6, 4), (6, 6))
TREES = MazeStream(SIZES, ("dfs", "wilson"), held_out=None, seed=1)
CYCLES = MazeStream(SIZES, ("dfs_percolation", "percolation"), p=0.5, held_out=None, seed=2)
QUESTIONS = [stream.questions(i)[0] for stream in (TREES, CYCLES) for i in range(60)]
NAMES = {i: token for i, token in enumerate(SPECIAL_TOKENS)}
NAMES |= {int(cell_ids()[cell]): cell_text(cell) for cell in product(range(8), range(8))}


def open_grid(rows, cols):
    passages = np.ones((2, rows, cols), np.bool_)
    passages[0, -1] = passages[1, :, -1] = False
    return Lattice(passages)


# (0,0) - (0,1) - (0,2)
#   |               |
# (1,0) - (1,1)   (1,2)
SMALL = Question(
    Lattice.from_edges(
        2, 3, [((0, 0), (0, 1)), ((0, 1), (0, 2)), ((0, 0), (1, 0)), ((1, 0), (1, 1)), ((0, 2), (1, 2))]
    ),
    (0, 0),
    (1, 2),
)
BLOCK = Question(open_grid(2, 3), (0, 0), (1, 2))


def graph_of(question):
    return nx.Graph(question.lattice.edges())


def is_path(question, path):
    return path[0] == question.origin and path[-1] == question.target and nx.is_simple_path(graph_of(question), path)


@pytest.mark.parametrize("question", QUESTIONS)
def test_dfs_is_a_walk_that_only_returns_from_dead_ends(question):
    graph = graph_of(question)
    for seed in range(5):
        steps = trace(question, "dfs", seed).steps
        walk = [step.cell for step in steps]
        assert [step.parent for step in steps] == [question.origin, *walk[:-1]]
        assert walk[0] == question.origin and walk.index(question.target) == len(walk) - 1
        stack, seen = [walk[0]], {walk[0]}
        for here, there in pairwise(walk):
            assert graph.has_edge(here, there)
            if there in seen:
                stack.pop()
                assert there == stack[-1] and set(graph[here]) <= seen
            else:
                stack.append(there)
                seen.add(there)
        assert trace(question, "dfs", seed).path == stack and is_path(question, stack)


@pytest.mark.parametrize("algorithm", ["bfs", "flood"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_bfs_expands_a_queue(question, algorithm):
    asked, question = question, as_searched(question, algorithm)
    graph, far = graph_of(question), nx.single_source_shortest_path_length(graph_of(question), question.origin)
    for seed in range(5):
        steps = trace(asked, algorithm, seed).steps
        order = {step.cell: i for i, step in enumerate(steps)}
        assert len(order) == len(steps) and steps[-1].cell == question.target
        assert steps[0] == (question.origin, question.origin)
        for parent, cell in steps[1:]:
            assert parent == min(graph[cell], key=lambda near: order.get(near, len(order)))
        assert all(order[a.parent] <= order[b.parent] for a, b in pairwise(steps))
        assert all(far[a.cell] <= far[b.cell] for a, b in pairwise(steps))
        assert {cell for cell in far if far[cell] < far[question.target]} <= set(order)
        path = trace(asked, algorithm, seed).path
        assert is_path(asked, path) and len(path) == far[question.target] + 1


@pytest.mark.parametrize("question", QUESTIONS)
def test_astar_expands_the_most_promising(question):
    graph, far = graph_of(question), nx.single_source_shortest_path_length(graph_of(question), question.origin)
    (row, col), best = question.target, far[question.target]
    guess = {cell: far[cell] + abs(cell[0] - row) + abs(cell[1] - col) for cell in far}
    for seed in range(5):
        steps = trace(question, "astar", seed).steps
        order = [step.cell for step in steps]
        assert len(set(order)) == len(order) and order[-1] == question.target
        assert steps[0] == (question.origin, question.origin)
        for i, (parent, cell) in enumerate(steps[1:], 1):
            assert graph.has_edge(parent, cell) and parent in order[:i]
            assert far[parent] == far[cell] - 1  # a consistent guess never finds a cell the long way round first
        assert all(guess[a] <= guess[b] for a, b in pairwise(order))
        assert {cell for cell in guess if guess[cell] < best} <= set(order)
        path = trace(question, "astar", seed).path
        assert is_path(question, path) and len(path) == best + 1


def every_trace(question, algorithm):
    """All traces that the algorithm can write, by trying every order of neighbours and every way to break a tie."""
    graph, (origin, target) = graph_of(question), as_searched(question, algorithm)[1:3]
    lines, done = algorithm in ("bfs", "flood"), set()

    def dfs(walk, stack):
        if walk[-1] == target:
            done.add(" ".join(["<THOUGHT_START>", *map(cell_text, walk), "<THOUGHT_END>"]))
            return
        fresh = set(graph[walk[-1]]) - set(walk)
        for cell in fresh:
            dfs([*walk, cell], [*stack, cell])
        if not fresh:
            dfs([*walk, stack[-2]], stack[:-1])

    def fringe(steps):
        expanded = [cell for _, cell in steps]
        if not steps:
            return [(origin, origin)]
        open_steps = [(a, b) for a in expanded for b in graph[a] if b not in expanded]
        if lines:
            first = {b: min((a for a in graph[b] if a in expanded), key=expanded.index) for _, b in open_steps}
            return [(a, b) for a, b in open_steps if first[b] == a == min(first.values(), key=expanded.index)]
        far = {origin: 0}
        for a, b in steps[1:]:
            far[b] = far[a] + 1
        value = {(a, b): far[a] + 1 + abs(b[0] - target[0]) + abs(b[1] - target[1]) for a, b in open_steps}
        return [step for step in open_steps if value[step] == min(value.values())]

    def expand(steps):
        if steps and steps[-1][1] == target:
            record = "{} {} ;" if lines else "{} <--> {}"
            body = [record.format(cell_text(a), cell_text(b)) for a, b in steps]
            done.add(" ".join(["<THOUGHT_START>", *body, "<THOUGHT_END>"]))
            return
        for step in fringe(steps):
            expand([*steps, step])

    if algorithm == "dfs":
        dfs([origin], [origin])
    else:
        expand([])
    return done


@pytest.mark.parametrize("question", [SMALL, BLOCK, Question(open_grid(2, 3), (0, 1), (1, 1))])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_kernel_writes_and_the_parser_accepts_every_possible_trace_and_no_other(question, algorithm):
    possible = every_trace(question, algorithm)
    written = {" ".join(trace_tokens(trace(question, algorithm, seed))) for seed in range(1000)}
    if algorithm == "astar":  # which of two equally good parents a cell keeps is the kernel's choice, not the form's
        assert written <= possible and len(written) >= 0.4 * len(possible)
    else:
        assert written == possible
    alphabet = ["<THOUGHT_END>", ";", "<-->", "(9,9)", *map(cell_text, product(range(2), range(3)))]
    tried = set(possible)
    for text in sorted(possible)[:6]:
        tokens = text.split()
        for at in range(len(tokens)):
            tried.add(" ".join([*tokens[:at], *tokens[at + 1 :]]))
            tried.update(" ".join([*tokens[:at], new, *tokens[at + 1 :]]) for new in alphabet)
            tried.update(" ".join([*tokens[:at], new, *tokens[at:]]) for new in alphabet)
            for other in range(at):
                swapped = list(tokens)
                swapped[at], swapped[other] = tokens[other], tokens[at]
                tried.add(" ".join(swapped))
    for text in tried:
        whole = text[: text.find("<THOUGHT_END>") + len("<THOUGHT_END>")] if "<THOUGHT_END>" in text else text
        assert (parse_trace(text, question).algorithm == algorithm) == (whole in possible), text


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_kernel_tokens_are_the_python_traces_tokens_and_read_back(algorithm):
    for seed, question in enumerate(QUESTIONS):
        lattice, origin, target = question[:3]
        made = trace(question, algorithm, seed)
        tokens, searched = trace_tokens(made), made.path[::-1] if algorithm == "flood" else made.path
        out = np.full(3 * lattice.rows * lattice.cols + 6, -1, np.int64)
        end = write_trace(
            lattice.passages,
            ALGORITHMS.index(algorithm),
            origin[0] * lattice.cols + origin[1],
            target[0] * lattice.cols + target[1],
            seeded(seed, 0, 0, DRAW),
            cell_ids(7),
            out,
            2,
        )
        assert [NAMES[i] for i in out[2:end].tolist()] == tokens
        assert end - 2 == len(tokens) <= 3 * lattice.rows * lattice.cols + 2
        assert (out[:2] == -1).all() and (out[end:] == -1).all()
        assert made == trace(question, algorithm, seed)
        for written in (tokens, " ".join(tokens)):
            parsed = parse_trace(written, question)
            assert (parsed.algorithm, parsed.error) == (algorithm, None)
            assert parsed.well_formed and parsed.valid and parsed.reaches_target
            assert parsed.search_steps == search_steps(written) == made.search_steps
            assert path_from_trace(written) == searched
        assert path_from_trace(tokens[1:]) == path_from_trace(tokens[:-1]) == searched
    moves = [made.cell for made in trace(SMALL, "dfs", 0).steps]
    assert trace(SMALL, "dfs", 0).search_steps == len(moves) - 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_question_has_many_traces(algorithm):
    question = as_searched(Question(open_grid(4, 4), (0, 0), (2, 2)), algorithm)
    assert len({len(trace_tokens(trace(question, algorithm, seed))) for seed in range(200)}) >= (
        2 if algorithm in ("bfs", "flood") else 3
    )
    # From a corner of an open grid to the middle, both first moves are equally good.
    corner = as_searched(Question(open_grid(5, 5), (0, 0), (2, 2)), algorithm)
    first = Counter(trace(corner, algorithm, seed).steps[1].cell for seed in range(2000))
    assert set(first) == {(0, 1), (1, 0)} and abs(first[0, 1] - 1000) < 150  # 6.7 standard deviations


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_origin_that_is_its_own_target(algorithm):
    question = Question(SMALL.lattice, (0, 1), (0, 1))
    made = trace(question, algorithm)
    tokens = trace_tokens(made)
    assert made.search_steps == search_steps(tokens) == (0 if algorithm == "dfs" else 1)
    assert parse_trace(tokens, question).algorithm == ("bfs" if algorithm == "flood" else algorithm)  # the same text
    assert path_from_trace(tokens) == made.path == [(0, 1)]


def test_a_question_that_cannot_be_searched_is_refused():
    cut = Question(Lattice.from_edges(2, 3, [((0, 0), (0, 1)), ((1, 1), (1, 2))]), (0, 0), (1, 2))
    for algorithm in ALGORITHMS:
        with pytest.raises(InputError, match=r"origin \(0, 0\) and target \(1, 2\) are not connected"):
            trace(cut, algorithm)
        for text in ("(0,0) (0,1) (0,0) (0,0)", "(0,0) (0,0) ; (0,0) (0,1) ; (0,1) (0,0) ;", "(0,0) <--> (0,0)"):
            assert parse_trace(f"<THOUGHT_START> {text} <THOUGHT_END>", cut).error
    with pytest.raises(InputError, match="algorithm: 'dijkstra' is not one of dfs, bfs, astar"):
        trace(SMALL, "dijkstra")
    with pytest.raises(InputError, match="outside the 2x3 grid"):
        trace(SMALL._replace(target=(2, 2)), "bfs")


DFS, BFS, ASTAR, FLOOD = (
    "(0,0) (1,0) (1,1) (1,0) (0,0) (0,1) (0,2) (1,2)",
    "(0,0) (0,0) ; (0,0) (0,1) ; (0,0) (1,0) ; (0,1) (0,2) ; (1,0) (1,1) ; (0,2) (1,2) ;",
    "(0,0) <--> (0,0) (0,0) <--> (0,1) (0,1) <--> (0,2) (0,2) <--> (1,2)",
    "(1,2) (1,2) ; (1,2) (0,2) ; (0,2) (0,1) ; (0,1) (0,0) ;",
)


@pytest.mark.parametrize(
    ("body", "error", "well_formed", "valid", "reaches"),
    [
        (DFS, None, True, True, True),
        (BFS, None, True, True, True),
        (ASTAR, None, True, True, True),
        (FLOOD, None, True, True, True),
        (FLOOD + " (0,0) (1,0) ;", "token 14: the search goes on after the origin (0,0)", True, True, False),
        (FLOOD[:-14], "token 11: the search ends at (0,1), not at the origin (0,0)", True, True, False),
        (FLOOD.replace("(0,2) (0,1)", "(0,2) (1,1)"), "token 9: (1,1) is not a neighbour of (0,2)", True, False, True),
        (FLOOD.replace(" ;", ""), "token 2: the search starts at (1,2), not at the origin (0,0)", True, False, False),
        ("", "token 2: '<THOUGHT_END>', expected a cell", False, False, False),
        ("(0,1) (0,2) (1,2)", "token 2: the search starts at (0,1), not at the origin (0,0)", True, False, True),
        ("(0,0) (1,0) (1,1) (1,2)", "token 5: no passage leads from (1,1) to (1,2)", True, False, True),
        ("(0,0) (1,0) (2,0)", "token 4: no passage leads from (1,0) to (2,0)", True, False, False),
        ("(0,0) (1,2)", "token 3: (1,2) is not a neighbour of (0,0)", True, False, True),
        ("(0,0) (0,0)", "token 3: (0,0) is not a neighbour of (0,0)", True, False, False),
        (
            "(0,0) (1,0) (0,0) (0,1) (0,2) (1,2)",
            "token 4: (0,0) from (1,0) comes where dfs takes (1,1) from (1,0)",
            True,
            True,
            True,
        ),
        (DFS + " (0,2)", "token 10: the search goes on after the target (1,2)", True, True, False),
        ("(0,0) (0,1) (0,2)", "token 5: the search ends at (0,2), not at the target (1,2)", True, True, False),
        ("(0,0) (0,1) (0,2) (1,2) ; (1,2)", "token 6: ';', expected a cell or <THOUGHT_END>", False, True, True),
        (
            BFS.replace("(1,0) (1,1) ; ", ""),
            "token 15: (1,2) from (0,2) comes where bfs takes (1,1) from (1,0)",
            True,
            True,
            True,
        ),
        (BFS.replace("(0,1) (0,2)", "(1,1) (0,2)"), "token 11: (1,1) has not been expanded before", True, False, True),
        (BFS.replace("(0,1) (0,2)", "(0,1) (1,2)"), "token 12: (1,2) is not a neighbour of (0,1)", True, False, True),
        (BFS.replace("(0,1) (0,2) ;", "(0,1) (0,2)"), "token 13: '(1,0)', expected ;", False, True, False),
        (
            BFS.replace("(0,0) (0,0) ;", "(0,1) (0,0) ;"),
            "token 2: (0,1) has not been expanded before",
            True,
            False,
            True,
        ),
        (BFS + " (0,2) (0,2) ;", "token 21: (0,2) is not a neighbour of (0,2)", True, False, False),
        (BFS + " (1,2) (0,2) ;", "token 20: the search goes on after the target (1,2)", True, True, False),
        (
            ASTAR.replace("(0,1) <--> (0,2)", "(0,0) <--> (1,0)"),
            "token 11: (0,2) has not been expanded before",
            True,
            False,
            True,
        ),
        (
            ASTAR.replace("(0,2) <--> (1,2)", "(1,0) <--> (1,1)"),
            "token 11: (1,0) has not been expanded before",
            True,
            False,
            False,
        ),
        (
            "(0,0) <--> (0,0) (0,0) <--> (1,0) (0,0) <--> (0,1) (1,0) <--> (1,1) (1,1) <--> (1,0)",
            "token 16: (1,0) from (1,1) comes where astar takes (0,2) from (0,1)",
            True,
            True,
            False,
        ),
        (ASTAR + " ;", "token 14: ';', expected a cell or <THOUGHT_END>", False, True, True),
        ("(0,0) <--> (0,0) (0,0) <--> <UNK>", "token 7: '<UNK>', expected a cell", False, True, False),
    ],
)
def test_what_is_wrong_is_said_and_where(body, error, well_formed, valid, reaches):
    parsed = parse_trace(f"<THOUGHT_START> {body} <THOUGHT_END> <PATH_START> (0,0)", SMALL)
    assert (parsed.error, parsed.well_formed, parsed.valid) == (error, well_formed, valid)
    assert parsed.reaches_target == reaches and (parsed.algorithm is None) == (error is not None)


def test_astar_must_take_the_nearest_way_to_a_cell():
    lattice = Lattice.from_edges(
        2, 3, [((0, 0), (0, 1)), ((0, 1), (1, 1)), ((0, 0), (1, 0)), ((1, 0), (1, 1)), ((1, 1), (1, 2))]
    )
    question = Question(lattice, (0, 0), (1, 2))
    start = "<THOUGHT_START> (0,0) <--> (0,0) (0,0) <--> (0,1) (0,0) <--> (1,0)"
    for parent in ("(0,1)", "(1,0)"):
        assert parse_trace(f"{start} {parent} <--> (1,1) (1,1) <--> (1,2) <THOUGHT_END>", question).algorithm == "astar"


def test_a_thought_without_its_ends():
    for body in (DFS, BFS, ASTAR):
        length = len(body.split())
        assert parse_trace(body, SMALL).error == "token 1: '(0,0)', expected <THOUGHT_START>"
        cut = parse_trace(f"<THOUGHT_START> {body}", SMALL)
        assert cut.error == f"token {length + 2}: the end of the text, expected a cell or <THOUGHT_END>"
        assert cut.valid and cut.reaches_target and not cut.well_formed
        steps = search_steps(f"<THOUGHT_START> {body} <THOUGHT_END>")
        assert search_steps(body) == search_steps(f"{body} <PATH_START> (0,0) (0,1) <PATH_END>") == steps
        prompt = "<ADJLIST_START> (0,0) <--> (0,1) ; <ADJLIST_END>"
        assert search_steps(f"{prompt} <THOUGHT_START> {body} <THOUGHT_END> <PATH_START> (0,0)") == steps
        assert path_from_trace(body) == [(0, 0), (0, 1), (0, 2), (1, 2)]
    assert parse_trace("", SMALL).error == "token 1: the end of the text, expected <THOUGHT_START>"
    assert path_from_trace("") is None and search_steps("") == 0


def test_steps_of_malformed_text():
    assert search_steps("(0,0) (0,1) <UNK> (7,7) nonsense (0,1)") == 3
    assert (
        search_steps("(0,0) (0,0) ; (0,0) (0,1) (0,0) (1,0) ; (0,1)") == 3
    )  # a lost separator, half a step at the end
    assert search_steps("(0,0) <--> (0,0) (0,0) <--> (0,1) ; (0,1) (0,2)") == 3
    assert search_steps("; ; <-->") == 0


def test_a_path_is_read_off_records_whose_ends_are_turned():
    path = [(0, 0), (0, 1), (0, 2), (1, 2)]
    assert path_from_trace("(0,0) (0,0) ; (0,1) (0,0) ; (0,0) (1,0) ; (0,2) (0,1) ; (1,2) (0,2) ;") == path
    assert path_from_trace("(0,0) <--> (0,0) (0,1) <--> (0,0) (0,1) <--> (0,2) (1,2) <--> (0,2)") == path
    turned = "<THOUGHT_START> (0,0) <--> (0,0) (0,1) <--> (0,0) (0,2) <--> (0,1) (1,2) <--> (0,2) <THOUGHT_END>"
    assert parse_trace(turned, SMALL).error == "token 5: (0,1) has not been expanded before"  # held to the letter
    for neither in ("(0,0) (0,0) ; (0,2) (0,1) ; (0,1) (0,0) ;", "(0,0) <--> (0,0) (0,2) <--> (0,1)"):
        assert path_from_trace(neither) is None


def test_no_path_is_read_off_what_has_none():
    for body in (
        "(0,0) (0,2)",
        "(0,0) (0,1) ;",
        "(0,0) (0,1) ; (0,1) (0,2) ;",
        "(0,0) <--> (0,0) (0,1) <--> (0,2)",
        "(0,0) (0,0) ; (0,0) (1,1) ;",
        "(0,0) x (0,1)",
        "(0,0) <--> (0,0) (0,0) <-->",
    ):
        assert path_from_trace(body) is None, body
    loop = "(0,0) (0,1) (1,1) (1,0) (0,0) (0,1) (0,2)"  # no search, but its first ways to each cell make a path
    assert path_from_trace(loop) == [(0, 0), (0, 1), (0, 2)]


token = st.one_of(
    st.sampled_from([*SPECIAL_TOKENS, *map(cell_text, product(range(3), range(4)))]),
    st.sampled_from(["(0,0)", "(0,1)", "(9999,0)", "(01,2)", "(٣,1)", "(-1,0)", "a cell", "", "\n", "(0,\n1)"]),
    st.text(max_size=5),
)


def reads_without_raising(written, question):
    parsed, path, steps = parse_trace(written, question), path_from_trace(written), search_steps(written)
    if path and path[0] == question.target and ";" in written:
        question = as_searched(question, "flood")
    assert (parsed.algorithm is None) == (parsed.error is not None) and parsed.search_steps == steps >= 0
    if parsed.algorithm:
        assert parsed.well_formed and parsed.valid and parsed.reaches_target
        assert path is not None and is_path(question, path)
        if parsed.algorithm != "dfs":
            assert len(path) == nx.shortest_path_length(graph_of(question), *question[1:3]) + 1
    else:
        assert "\n" not in parsed.error and parsed.error.startswith("token ")
    if parsed.well_formed and parsed.valid and parsed.reaches_target:
        assert path is not None and is_path(question, path)
    if path is not None:
        assert len(set(path)) == len(path)
        assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a, b in pairwise(path))


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(token, max_size=40)), st.sampled_from([SMALL, BLOCK]))
def test_token_soup(written, question):
    reads_without_raising(written, question)
    if not isinstance(written, str):
        reads_without_raising(["<THOUGHT_START>", *written, "<THOUGHT_END>"], question)


@settings(max_examples=400, deadline=None)
@given(st.data(), st.sampled_from(QUESTIONS[::7]), st.sampled_from(ALGORITHMS), st.integers(0, 99))
def test_mutated_traces(data, question, algorithm, seed):
    tokens = trace_tokens(trace(question, algorithm, seed))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(tokens)))
        cut = data.draw(st.integers(0, 3))
        new = data.draw(st.lists(st.one_of(token, st.sampled_from(tokens or [";"])), max_size=3))
        tokens[at : at + cut] = new
    reads_without_raising(tokens, question)
