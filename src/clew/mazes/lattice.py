"""Lattices, grids of cells with open passages held as maze-dataset holds its `connection_list`, and their questions."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from clew.errors import InputError
from clew.mazes import kernels
from clew.mazes.kernels import DOWN, GENERATORS, RIGHT

Cell = tuple[int, int]

MAX_SIZE = 64  # the kernels' scratch space and the token ids have been tested to here


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
        if passages[DOWN, -1].any() or passages[RIGHT, :, -1].any():
            raise InputError("passages: one leads out of the grid, down from the last row or right of the last column")
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
            passages[DOWN if step == (1, 0) else RIGHT, low[0], low[1]] = True
        return cls(passages)

    @classmethod
    def random(cls, rows: int, cols: int, seed: int = 0, generator: str = "dfs", p: float = 0.1) -> "Lattice":
        """A random maze; `generator` is one of GENERATORS, `p` the chance of each extra passage where it percolates."""
        check_size((rows, cols))
        passages = np.zeros((2, rows, cols), np.bool_)
        kernels.draw_into(passages, generator_number(generator, p), p, -1, seed, 0, 0)
        return cls(passages)

    def __contains__(self, cell: object) -> bool:
        return as_cell(cell) is not None and 0 <= cell[0] < self.rows and 0 <= cell[1] < self.cols  # type: ignore[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lattice) and np.array_equal(self.passages, other.passages)

    def __hash__(self) -> int:
        return int(kernels.connectivity_hash(self.passages))

    @property
    def held_out(self) -> bool:
        """Whether this maze belongs to the tenth that is never trained on."""
        return bool(kernels.is_held_out(self.passages))

    def edges(self) -> list[tuple[Cell, Cell]]:
        """The open passages, each once, as (smaller cell, larger cell)."""
        return [
            ((r, c), (r + 1, c) if way == DOWN else (r, c + 1)) for way, r, c in np.argwhere(self.passages).tolist()
        ]

    def neighbours(self, cell: Cell) -> list[Cell]:
        """The cells that an open passage leads to from `cell`."""
        out = np.empty(4, np.int64)
        n = kernels.neighbours_into(self.passages, self._flat(cell), out)
        return [self._cell(i) for i in out[:n]]

    def connected(self, a: Cell, b: Cell) -> bool:
        """Whether an open passage joins two neighbouring cells."""
        if a not in self or b not in self:
            return False
        (r, c), high = (a, b) if a < b else (b, a)
        return bool(
            (high == (r + 1, c) and self.passages[DOWN, r, c]) or (high == (r, c + 1) and self.passages[RIGHT, r, c])
        )

    def distances(self, target: Cell) -> np.ndarray:
        """Steps from each cell to `target`: int64 (rows, cols), -1 where none leads there."""
        dist = np.empty(self.rows * self.cols, np.int64)
        kernels.distances_into(self.passages, self._flat(target), dist, np.empty_like(dist))
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
        n = kernels.path_into(self.passages, dist.reshape(-1), self._flat(origin), kernels.seeded(seed, 0, 0, 0), path)
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
