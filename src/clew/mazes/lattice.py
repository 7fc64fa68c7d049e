"""Lattices: compiled kernels that carve, solve and hash mazes, and the `Lattice` that wraps them.

A lattice is a grid of cells with open passages, held as maze-dataset holds its `connection_list`:
`passages[0, r, c]` opens (r, c) to (r + 1, c) and `passages[1, r, c]` opens (r, c) to (r, c + 1).
Inside the kernels a cell is the flat number r * cols + c.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from clew.errors import InputError

Cell = tuple[int, int]

GENERATORS = ("dfs", "wilson", "dfs_percolation", "percolation")
MAX_SIZE = 64  # the kernels' scratch space and the token ids have been tested to here
ATTEMPTS = 10_000

_DOWN, _RIGHT = 0, 1


@njit(cache=True, inline="always")
def _mix(x):
    # splitmix64's finaliser (Steele, Lea, Flood 2014): every input bit reaches every output bit.
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True)
def seeded(seed, stream, index, attempt):
    """A random state that depends on its four counters alone: this is what makes maze i the same maze anywhere."""
    state = np.zeros(1, np.uint64)
    for part in (seed, stream, index, attempt):
        state[0] = _mix(state[0] + np.uint64(0x9E3779B97F4A7C15) + np.uint64(part))
    return state


@njit(cache=True, inline="always")
def below(state, n):
    """A random integer in [0, n); advances `state` (splitmix64)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    return np.int64(((_mix(state[0]) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@njit(cache=True, inline="always")
def _chance(state, p):
    return below(state, 1 << 30) < p * (1 << 30)


@njit(cache=True)
def neighbours_into(passages, cell, out):
    """Writes the cells that open passages lead to from `cell` into `out` (4,); returns how many."""
    rows, cols = passages.shape[1], passages.shape[2]
    r, c = cell // cols, cell % cols
    n = 0
    if r > 0 and passages[_DOWN, r - 1, c]:
        out[n] = cell - cols
        n += 1
    if r + 1 < rows and passages[_DOWN, r, c]:
        out[n] = cell + cols
        n += 1
    if c > 0 and passages[_RIGHT, r, c - 1]:
        out[n] = cell - 1
        n += 1
    if c + 1 < cols and passages[_RIGHT, r, c]:
        out[n] = cell + 1
        n += 1
    return n


@njit(cache=True, inline="always")
def _random_neighbour(rows, cols, cell, state):
    r, c = cell // cols, cell % cols
    while True:
        way = below(state, 4)
        if way == 0 and r > 0:
            return cell - cols
        if way == 1 and r + 1 < rows:
            return cell + cols
        if way == 2 and c > 0:
            return cell - 1
        if way == 3 and c + 1 < cols:
            return cell + 1


@njit(cache=True, inline="always")
def _open(passages, a, b):
    cols = passages.shape[2]
    low = min(a, b)
    passages[_RIGHT if abs(a - b) == 1 else _DOWN, low // cols, low % cols] = True


@njit(cache=True)
def _carve_dfs(passages, state):
    rows, cols = passages.shape[1], passages.shape[2]
    seen = np.zeros(rows * cols, np.bool_)
    stack = np.empty(rows * cols, np.int64)
    fresh = np.empty(4, np.int64)
    stack[0] = below(state, rows * cols)
    seen[stack[0]] = True
    top = 1
    while top:
        cell = stack[top - 1]
        r, c = cell // cols, cell % cols
        n = 0
        if r > 0 and not seen[cell - cols]:
            fresh[n] = cell - cols
            n += 1
        if r + 1 < rows and not seen[cell + cols]:
            fresh[n] = cell + cols
            n += 1
        if c > 0 and not seen[cell - 1]:
            fresh[n] = cell - 1
            n += 1
        if c + 1 < cols and not seen[cell + 1]:
            fresh[n] = cell + 1
            n += 1
        if n == 0:
            top -= 1
            continue
        step = fresh[below(state, n)]
        seen[step] = True
        _open(passages, cell, step)
        stack[top] = step
        top += 1


@njit(cache=True)
def _carve_wilson(passages, state):
    # Loop-erased random walks (Wilson 1996): every spanning tree is equally likely.
    rows, cols = passages.shape[1], passages.shape[2]
    inside = np.zeros(rows * cols, np.bool_)
    onward = np.zeros(rows * cols, np.int64)
    inside[below(state, rows * cols)] = True
    for start in range(rows * cols):
        cell = start
        while not inside[cell]:
            onward[cell] = _random_neighbour(rows, cols, cell, state)
            cell = onward[cell]
        cell = start
        while not inside[cell]:
            inside[cell] = True
            _open(passages, cell, onward[cell])
            cell = onward[cell]


@njit(cache=True)
def _percolate(passages, p, state):
    rows, cols = passages.shape[1], passages.shape[2]
    for r in range(rows):
        for c in range(cols):
            if r + 1 < rows and _chance(state, p):
                passages[_DOWN, r, c] = True
            if c + 1 < cols and _chance(state, p):
                passages[_RIGHT, r, c] = True


@njit(cache=True)
def distances_into(passages, target, dist, queue):
    """Breadth-first steps from every cell to `target` into `dist` (cells,), -1 = cut off; returns how many reach it."""
    dist[:] = -1
    near = np.empty(4, np.int64)
    dist[target] = 0
    queue[0] = target
    head, tail = 0, 1
    while head < tail:
        cell = queue[head]
        head += 1
        for k in range(neighbours_into(passages, cell, near)):
            if dist[near[k]] < 0:
                dist[near[k]] = dist[cell] + 1
                queue[tail] = near[k]
                tail += 1
    return tail


@njit(cache=True)
def path_into(passages, dist, origin, state, path):
    """One shortest path from `origin` down `dist` into `path`, each step drawn evenly from the optimal ones."""
    near = np.empty(4, np.int64)
    path[0] = origin
    n = 1
    while dist[path[n - 1]] > 0:
        here = path[n - 1]
        options = 0
        for k in range(neighbours_into(passages, here, near)):
            if dist[near[k]] == dist[here] - 1:
                near[options] = near[k]
                options += 1
        path[n] = near[below(state, options)] if options > 1 else near[0]
        n += 1
    return n


@njit(cache=True)
def connectivity_hash(passages):
    """64 bits of the open passages: the maze's identity, whatever was asked of it.

    Empty rows and columns at the end do not count: token text does not tell them, so a maze read back from its text
    must not change sides of the held-out split.
    """
    rows, cols = 2, 2
    for r in range(passages.shape[1]):
        for c in range(passages.shape[2]):
            if passages[_DOWN, r, c]:
                rows, cols = max(rows, r + 2), max(cols, c + 1)
            if passages[_RIGHT, r, c]:
                rows, cols = max(rows, r + 1), max(cols, c + 2)
    h = _mix(np.uint64(rows) * np.uint64(1 << 32) + np.uint64(cols))
    word, filled = np.uint64(1), 0
    for way in range(2):
        for r in range(rows):
            for c in range(cols):
                word = (word << np.uint64(1)) | np.uint64(passages[way, r, c])
                filled += 1
                if filled == 63:
                    h = _mix(h ^ _mix(word))
                    word, filled = np.uint64(1), 0
    return _mix(h ^ _mix(word))


@njit(cache=True, inline="always")
def is_held_out(passages):
    return connectivity_hash(passages) % np.uint64(10) == 0


@njit(cache=True)
def carve_into(passages, generator, p, state):
    """Carves a random maze; plain percolation keeps one random cell's component. `generator` indexes GENERATORS."""
    rows, cols = passages.shape[1], passages.shape[2]
    passages[:] = False
    if generator == 1:
        _carve_wilson(passages, state)
    elif generator != 3:
        _carve_dfs(passages, state)
    if generator >= 2:
        _percolate(passages, p, state)
    if generator == 3:
        dist = np.empty(rows * cols, np.int64)
        queue = np.empty(rows * cols, np.int64)
        distances_into(passages, below(state, rows * cols), dist, queue)
        for cell in range(rows * cols):
            if dist[cell] < 0:
                passages[:, cell // cols, cell % cols] = False


@njit(cache=True)
def draw_into(passages, generator, p, held_out, seed, stream, index):
    """Maze `index` of a stream: redraws until it falls on the wanted side of the held-out split (0, 1; -1 = any) and
    has a passage. Returns (whether one was found, the random state after it)."""
    for attempt in range(ATTEMPTS):
        state = seeded(seed, stream, index, attempt)
        carve_into(passages, generator, p, state)
        if passages.any() and (held_out < 0 or is_held_out(passages) == (held_out == 1)):
            return True, state
    return False, seeded(seed, stream, index, 0)


@dataclass(frozen=True, eq=False)
class Lattice:
    """A maze's grid with its open passages.

    passages: bool (2, rows, cols); [0, r, c] opens (r, c)-(r + 1, c), [1, r, c] opens (r, c)-(r, c + 1).
    Raises InputError on another shape, a grid under 2 or over MAX_SIZE cells a side, or a passage out of the grid.
    """

    passages: np.ndarray

    def __post_init__(self) -> None:
        passages = np.array(self.passages, dtype=np.bool_)  # a copy: nobody may change a lattice behind its hash
        if passages.ndim != 3 or passages.shape[0] != 2:
            raise InputError(f"passages: shape {passages.shape} is not (2, rows, cols)")
        check_size(passages.shape[1:])
        if passages[_DOWN, -1].any() or passages[_RIGHT, :, -1].any():
            raise InputError("passages: one leads out of the grid; the last row must not open downwards, "
                             "nor the last column to the right")  # fmt: skip
        passages.setflags(write=False)
        object.__setattr__(self, "passages", passages)

    def __deepcopy__(self, memo: dict[int, object]) -> "Lattice":
        return Lattice(self.passages)  # numpy's own copy could be written to

    @property
    def rows(self) -> int:
        return self.passages.shape[1]

    @property
    def cols(self) -> int:
        return self.passages.shape[2]

    @classmethod
    def from_edges(cls, rows: int, cols: int, edges: Iterable[tuple[Cell, Cell]]) -> "Lattice":
        """The lattice whose open passages are `edges`, pairs of neighbouring cells in any order."""
        check_size((rows, cols))
        passages = np.zeros((2, rows, cols), np.bool_)
        for a, b in edges:
            low, high = min(a, b), max(a, b)
            step = (high[0] - low[0], high[1] - low[1])
            if step not in ((1, 0), (0, 1)):
                raise InputError(f"edge {a} <--> {b}: the two cells are not neighbours")
            if low[0] < 0 or low[1] < 0 or high[0] >= rows or high[1] >= cols:
                raise InputError(f"edge {a} <--> {b}: outside the {rows}x{cols} grid")
            passages[_DOWN if step == (1, 0) else _RIGHT, low[0], low[1]] = True
        return cls(passages)

    @classmethod
    def random(cls, rows: int, cols: int, seed: int = 0, generator: str = "dfs", p: float = 0.1) -> "Lattice":
        """A random maze; `generator` is one of GENERATORS, `p` the chance of each extra passage where it percolates."""
        check_size((rows, cols))
        passages = np.zeros((2, rows, cols), np.bool_)
        draw_into(passages, generator_number(generator, p), p, -1, seed, 0, 0)
        return cls(passages)

    def __contains__(self, cell: object) -> bool:
        return as_cell(cell) is not None and 0 <= cell[0] < self.rows and 0 <= cell[1] < self.cols  # type: ignore[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lattice) and np.array_equal(self.passages, other.passages)

    def __hash__(self) -> int:
        return int(connectivity_hash(self.passages))

    @property
    def held_out(self) -> bool:
        """Whether this maze belongs to the tenth that is never trained on."""
        return bool(is_held_out(self.passages))

    def edges(self) -> list[tuple[Cell, Cell]]:
        """The open passages, each once, as (smaller cell, larger cell)."""
        return [
            ((r, c), (r + 1, c) if way == _DOWN else (r, c + 1)) for way, r, c in np.argwhere(self.passages).tolist()
        ]

    def neighbours(self, cell: Cell) -> list[Cell]:
        """The cells that an open passage leads to from `cell`."""
        out = np.empty(4, np.int64)
        n = neighbours_into(self.passages, self._flat(cell), out)
        return [self._cell(i) for i in out[:n]]

    def connected(self, a: Cell, b: Cell) -> bool:
        """Whether an open passage joins two neighbouring cells."""
        return a in self and b in self and b in self.neighbours(a)

    def distances(self, target: Cell) -> np.ndarray:
        """Steps from each cell to `target`: int64 (rows, cols), -1 where none leads there."""
        dist = np.empty(self.rows * self.cols, np.int64)
        distances_into(self.passages, self._flat(target), dist, np.empty_like(dist))
        return dist.reshape(self.rows, self.cols)

    def optimal_steps(self, cell: Cell, target: Cell) -> list[Cell]:
        """Every next cell that lies on some shortest path from `cell` to `target`."""
        dist = self.distances(target)
        return [to for to in self.neighbours(cell) if dist[to] == dist[cell] - 1]

    def shortest_path(self, origin: Cell, target: Cell, seed: int = 0) -> list[Cell]:
        """A shortest path, both ends included; where there are several, `seed` picks. InputError if there is none."""
        dist = self.distances(target)
        if dist[origin] < 0:
            raise InputError(f"origin {origin} and target {target} are not connected")
        path = np.empty(self.rows * self.cols, np.int64)
        n = path_into(self.passages, dist.reshape(-1), self._flat(origin), seeded(seed, 0, 0, 0), path)
        return [self._cell(i) for i in path[:n]]

    def _flat(self, cell: Cell) -> int:
        if cell not in self:
            raise InputError(f"cell {cell} is outside the {self.rows}x{self.cols} grid")
        return cell[0] * self.cols + cell[1]

    def _cell(self, flat: int) -> Cell:
        return int(flat) // self.cols, int(flat) % self.cols


class Question(NamedTuple):
    """What is asked of a maze, and its reference: one shortest path, or what the source gave; None if it gave none."""

    lattice: Lattice
    origin: Cell
    target: Cell
    path: tuple[Cell, ...] | None = None


def as_cell(value: object) -> Cell | None:
    """`value` as a (row, column) pair of whole numbers, None if it is anything else."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        return None
    row, col = value
    if not all(isinstance(x, (int, np.integer)) and not isinstance(x, bool) for x in (row, col)):
        return None
    return int(row), int(col)


def check_size(size: tuple[int, ...], field: str = "size") -> None:
    """InputError unless (rows, cols) is a grid that the kernels take."""
    if not all(2 <= side <= MAX_SIZE for side in size):
        raise InputError(f"{field}: {size[0]}x{size[1]} is not a grid of 2 to {MAX_SIZE} cells a side")


def generator_number(name: str, p: float) -> int:
    """The kernels' number for a generator's name; InputError for an unknown name or a `p` that it cannot use."""
    if name not in GENERATORS:
        raise InputError(f"generator: {name!r} is not one of {', '.join(GENERATORS)}")
    if name == "percolation" and not 0.05 <= p <= 1:
        raise InputError(f"p: {p} is not between 0.05 and 1; with fewer passages percolation leaves no maze")
    if not 0 <= p <= 1:
        raise InputError(f"p: {p} is not a probability")
    return GENERATORS.index(name)
