"""Streams of maze questions: maze i of a stream is the same maze whatever the batch, the worker or the restart.

One maze carries several questions ("branches"), so a batch is a forest: each adjacency list once, then its questions
with their paths. The kernel writes it as flat arrays; no Python object is made per maze.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count as count_from
from itertools import product
from typing import NamedTuple

import numpy as np
from numba import njit

from clew.errors import InputError
from clew.mazes import kernels, vocab
from clew.mazes.kernels import ATTEMPTS, below, neighbours_into, seeded
from clew.mazes.lattice import MAX_SIZE, Lattice, Question, check_size, generator_number
from clew.text import show

TRIED, RARE = 16, 480  # mazes that are looked for, and draws that each may take: ATTEMPTS then fail once in 10^9
CHOICES = 5  # a cell has at most four open passages, and at the target the path may also end
_PICK, _SHUFFLE = ATTEMPTS + 1, ATTEMPTS + 2  # counters beside the attempts: one for a maze's size, one for its text
_PLACE, PLACES = ATTEMPTS + 4, 64  # one for its place, and how many are tried; traces have the counter between


@njit(cache=True)
def _draw_maze(shapes, p, held_out, seed, stream, index, buffer):
    """Maze `index`: its passages (a view into `buffer`), whether there is one, and the state that draws its questions.
    `shapes` (n, 3) holds rows, cols and generator, each row equally likely."""
    shape = shapes[below(seeded(seed, stream, index, _PICK), shapes.shape[0])]
    passages = buffer[: 2 * shape[0] * shape[1]].reshape((2, shape[0], shape[1]))
    found, state = kernels.draw_into(passages, shape[2], p, held_out, seed, stream, index)
    return passages, found, state


@njit(cache=True)
def _padded(passages, row, col):
    """The same maze with so many rows and columns of walled cells before it."""
    padded = np.zeros((2, row + passages.shape[1], col + passages.shape[2]), np.bool_)
    padded[:, row:, col:] = passages
    return padded


@njit(cache=True)
def _place(passages, within, held_out, seed, stream, index):
    """Where maze `index` stands in a grid of side `within` (0: in its own): rows and columns before it. As a maze of
    the larger grid, too, it is on the wanted side of the held-out split, as it surely is with none before it."""
    state = seeded(seed, stream, index, _PLACE)
    for _ in range(PLACES if within else 0):
        row, col = below(state, within - passages.shape[1] + 1), below(state, within - passages.shape[2] + 1)
        if held_out < 0 or kernels.is_held_out(_padded(passages, row, col)) == (held_out == 1):
            return row, col
    return 0, 0


@njit(cache=True)
def _draws(passages, generator, p, held_out, seed, stream, mazes, most):
    """Draws, out of `most`, that it takes until so many mazes are found on the wanted side of the held-out split."""
    found = 0
    for draw in range(most):
        if found == mazes:
            return draw
        kernels.carve_into(passages, generator, p, seeded(seed, stream, draw, 0))
        if passages.any() and (held_out < 0 or kernels.is_held_out(passages) == (held_out == 1)):
            found += 1
    return most


@njit(cache=True)
def _draw_path(passages, state, dist, queue, path):
    """Two different connected cells and a shortest path between them into `path`; returns its length."""
    cells = passages.shape[1] * passages.shape[2]
    near = np.empty(4, np.int64)
    target = below(state, cells)
    while neighbours_into(passages, target, near) == 0:
        target = below(state, cells)
    origin = below(state, cells)
    while origin == target or neighbours_into(passages, origin, near) == 0:
        origin = below(state, cells)
    kernels.distances_into(passages, target, dist, queue)
    return kernels.path_into(passages, dist, origin, state, path)


@njit(cache=True)
def write_adjacency(passages, state, ids, edges, tokens, at):
    cols = passages.shape[2]
    n = 0
    for way in range(2):
        for r in range(passages.shape[1]):
            for c in range(cols):
                if passages[way, r, c]:
                    edges[n] = 2 * (r * cols + c) + way
                    n += 1
    tokens[at] = vocab.ADJLIST_START
    at += 1
    for i in range(n):
        pick = i + below(state, n - i)
        edges[i], edges[pick] = edges[pick], edges[i]
        low, way = edges[i] // 2, edges[i] % 2
        high = low + (1 if way == 1 else cols)
        if below(state, 2):
            low, high = high, low
        tokens[at] = ids[low // cols, low % cols]
        tokens[at + 1] = vocab.CONNECTOR
        tokens[at + 2] = ids[high // cols, high % cols]
        tokens[at + 3] = vocab.ENDLINE
        at += 4
    tokens[at] = vocab.ADJLIST_END
    return at + 1


@njit(cache=True)
def _write_choices(passages, dist, cell, ids, choices, optimal):
    """The tokens that may follow `cell`: its open neighbours, and <PATH_END> at the target."""
    cols = passages.shape[2]
    near = np.empty(4, np.int64)
    n = neighbours_into(passages, cell, near)
    for k in range(n):
        choices[k] = ids[near[k] // cols, near[k] % cols]
        optimal[k] = dist[near[k]] < dist[cell]
    if dist[cell] == 0:
        choices[n] = vocab.PATH_END
        optimal[n] = True


@njit(cache=True, nogil=True)
def _fill(drawn_by, within, branches, indices, cell_ids, forest):
    """Writes one tree a maze into the arrays of a Forest; returns how many tokens, or -1 - i if there is no maze i."""
    shapes, p, held_out, seed, stream = drawn_by
    tokens, parents, answers, choices, optimal, starts = forest
    most = cell_ids.shape[0] * cell_ids.shape[0]
    buffer = np.empty(2 * most, np.bool_)
    dist, queue, path = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    edges = np.empty(2 * most, np.int64)
    at = 0
    for i in range(indices.shape[0]):
        passages, found, state = _draw_maze(shapes, p, held_out, seed, stream, indices[i], buffer)
        if not found:
            return -1 - i
        cells, cols = passages.shape[1] * passages.shape[2], passages.shape[2]
        row, col = _place(passages, within, held_out, seed, stream, indices[i])
        ids = cell_ids[row:, col:]
        starts[i] = at
        root = at
        at = write_adjacency(passages, seeded(seed, stream, indices[i], _SHUFFLE), ids, edges, tokens, at)
        fork = at - 1
        for _ in range(branches):
            start = at
            steps = _draw_path(passages, state, dist[:cells], queue, path)
            tokens[at] = vocab.ORIGIN_START
            tokens[at + 1] = ids[path[0] // cols, path[0] % cols]
            tokens[at + 2] = vocab.ORIGIN_END
            tokens[at + 3] = vocab.TARGET_START
            tokens[at + 4] = ids[path[steps - 1] // cols, path[steps - 1] % cols]
            tokens[at + 5] = vocab.TARGET_END
            tokens[at + 6] = vocab.PATH_START
            at += 7
            for k in range(steps):
                tokens[at] = ids[path[k] // cols, path[k] % cols]
                at += 1
                if choices.shape[0]:
                    _write_choices(passages, dist, path[k], ids, choices[at], optimal[at])
            if choices.shape[0]:
                choices[start + 6, 0], optimal[start + 6, 0] = vocab.PATH_START, True
                choices[start + 7, 0], optimal[start + 7, 0] = tokens[start + 1], True
            tokens[at] = vocab.PATH_END
            at += 1
            answers[start + 6 : at] = True
            for t in range(start, at):
                parents[t] = t - 1
            parents[start] = fork
        for t in range(root, fork + 1):
            parents[t] = t - 1
        parents[root] = -1
    return at


class Forest(NamedTuple):
    """Maze trees as flat arrays, in the order of their tokens; M mazes, T tokens, C = CHOICES."""

    tokens_T: np.ndarray
    """int64 token ids."""
    parents_T: np.ndarray
    """int64 index of the token before, on the way from the root; -1 at a root."""
    answers_T: np.ndarray
    """bool: the token belongs to `<PATH_START> … <PATH_END>`."""
    choices_TC: np.ndarray
    """int64: where a path token stands, every token that an open passage allows there; -1 elsewhere. (0, C) if not
    asked for."""
    optimal_TC: np.ndarray
    """bool: which of those lie on a shortest path."""
    starts_M: np.ndarray
    """int64: where each maze's tree begins."""


@dataclass(frozen=True)
class MazeStream:
    """An endless, seeded sequence of mazes. Sizes and generators are drawn evenly, maze by maze.

    sizes: (rows, cols) pairs. held_out: True, only held-out mazes; False, never one; None, any.
    `stream` tells apart streams of one seed. within: the side of a grid in which each maze stands at a random place,
    as a maze of that grid whose other cells are walled off; None: in a grid of its own size.
    InputError names a field that cannot be used.
    """

    sizes: tuple[tuple[int, int], ...] = ((4, 4),)
    generators: tuple[str, ...] = ("dfs",)
    p: float = 0.1
    branches: int = 1
    held_out: bool | None = False
    seed: int = 0
    stream: int = 0
    within: int | None = None

    def __post_init__(self) -> None:
        if not self.sizes or not self.generators:
            raise InputError(f"{'generators' if self.sizes else 'sizes'}: the list is empty")
        if self.branches < 1:
            raise InputError(f"branches: {self.branches} is not at least 1")
        for name, value in (("seed", self.seed), ("stream", self.stream)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value < 2**63:
                raise InputError(f"{name}: {show(value)} is not a whole number between 0 and 2^63 - 1")
        for size in self.sizes:
            check_size(size, "sizes")
        if self.within is not None and not self.max_size <= self.within <= MAX_SIZE:
            sides = f"between {self.max_size}, the largest side in sizes, and {MAX_SIZE}"
            raise InputError(f"within: {show(self.within)} is not {sides}")
        self._shapes()

    def _shapes(self) -> np.ndarray:
        numbers = [generator_number(name, self.p) for name in self.generators]
        return np.array([(rows, cols, number) for rows, cols in self.sizes for number in numbers])

    @property
    def max_size(self) -> int:
        return max(max(size) for size in self.sizes)

    @property
    def side(self) -> int:
        """Rows and columns of the largest grid that a maze may stand in."""
        return self.within or self.max_size

    def drawn_by(self) -> tuple[np.ndarray, float, int, int, int]:
        """What the kernels draw a maze by, but for its index."""
        return self._shapes(), self.p, self._wanted, self.seed, self.stream

    @property
    def _wanted(self) -> int:
        return -1 if self.held_out is None else int(self.held_out)

    def _no_maze(self) -> InputError:
        of = f"{'/'.join(self.generators)} at {', '.join(f'{rows}x{cols}' for rows, cols in self.sizes)}"
        few = "there are too few mazes of that size to split"
        return InputError(f"sizes: no {self._side()} maze in {ATTEMPTS} draws of {of}; {few}")

    def _side(self) -> str:
        return "held-out" if self.held_out else "training"

    def missing(self) -> list[tuple[tuple[int, int], str]]:
        """The sizes and generators of which no maze is on the wanted side of the held-out split, or one so seldom that
        drawing it could fail. There are four mazes of 2x2, for one, and the hash put none aside."""

        def draws(size: tuple[int, int], name: str) -> int:
            passages, generator = np.empty((2, *size), np.bool_), generator_number(name, self.p)
            return _draws(passages, generator, self.p, self._wanted, self.seed, self.stream, TRIED, TRIED * RARE)

        kinds = dict.fromkeys(product(self.sizes, self.generators))
        return [(size, name) for size, name in kinds if draws(size, name) == TRIED * RARE]

    def require(self) -> "MazeStream":
        """Itself; InputError if there is no maze of one of its sizes and generators on the wanted side of the split."""
        kinds = [f"{rows}x{cols} by {name}" for (rows, cols), name in self.missing()]
        if kinds:
            of = ", ".join(f"{kind} with p {self.p:g}" if kind.endswith("percolation") else kind for kind in kinds)
            few = "(too few differ to be split); 3 by dfs, and any larger size, has some"
            raise InputError(f"sizes: there is no {self._side()} maze of {of} {few}")
        return self

    def forest(self, indices: Sequence[int] | np.ndarray, choices: bool = False) -> Forest:
        """The trees of the mazes with these indices, as flat arrays; with the moves open at each step on request."""
        cells = max(rows * cols for rows, cols in self.sizes)
        room = len(indices) * (2 + 8 * cells + self.branches * (cells + 8)) + 1
        graded = room if choices else 0
        whole = Forest(
            tokens_T=np.empty(room, np.int64),
            parents_T=np.empty(room, np.int64),
            answers_T=np.zeros(room, np.bool_),
            choices_TC=np.full((graded, CHOICES), -1, np.int64),
            optimal_TC=np.zeros((graded, CHOICES), np.bool_),
            starts_M=np.empty(len(indices), np.int64),
        )
        which, ids = np.asarray(indices, np.int64), vocab.cell_ids(self.side)
        n = _fill(self.drawn_by(), self.within or 0, self.branches, which, ids, whole)
        if n < 0:
            raise self._no_maze()
        return Forest._make(array[:n] for array in whole)  # a maze has many tokens: no start is cut off

    def size_of(self, index: int) -> tuple[int, int]:
        """Rows and columns of maze `index`, wherever it stands."""
        shapes = self._shapes()
        rows, cols, _ = shapes[below(seeded(self.seed, self.stream, index, _PICK), len(shapes))]
        return int(rows), int(cols)

    def questions(self, index: int) -> list[Question]:
        """The questions of maze `index`, one a branch; the same that `forest` writes."""
        cells = self.max_size**2
        passages, found, state = _draw_maze(*self.drawn_by(), index, np.empty(2 * cells, np.bool_))
        if not found:
            raise self._no_maze()
        row, col = _place(passages, self.within or 0, self._wanted, self.seed, self.stream, index)
        lattice, cols = Lattice(_padded(passages, row, col)), passages.shape[2]
        dist, queue, path = np.empty((3, cells), np.int64)
        out = []
        for _ in range(self.branches):
            n = _draw_path(passages, state, dist[: passages[0].size], queue, path)
            walk = tuple((row + int(flat) // cols, col + int(flat) % cols) for flat in path[:n])
            out.append(Question(lattice, walk[0], walk[-1], walk))
        return out


def maze_questions(stream: MazeStream, start: int = 0) -> Iterator[Question]:
    """The stream's questions one by one, from maze `start` on, without end."""
    return (question for index in count_from(start) for question in stream.questions(index))
