"""What probes are to decode, computed exactly from mazes: labels that are derived, and walls, which are given.

    next_hop   which way the target lies from a cell: up, down, left, right; none at the target
    on_path    whether a cell lies on a shortest path from origin to target, whichever was walked
    distance   steps from a cell to the target, those from a cap on as one class
    dead_end   whether a cell has one open passage alone; none for a cell that has none
    nearer     which end of an open passage is nearer to the target: no ties, since a grid's cells have two colours
    wall       whether two neighbouring cells are joined: a sanity row, since the tokens say so

**Several right answers.** A label is a set of classes, held as bits; 0 says that there is nothing to decode. Where
several next hops start a shortest path, all of them are right: in training the case counts for each of them in equal
parts, and in testing any of them is a hit. Cells from which no passages lead to the target have no label but dead_end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numba import njit
from transformers import PreTrainedTokenizerBase

from clew.errors import InputError
from clew.mazes.kernels import DOWN, RIGHT, connectivity_hash, distances_into
from clew.mazes.lattice import Question
from clew.read.places import Places, Rows, Words, find_places
from clew.text import nearest, show

LABELS = ("next_hop", "on_path", "distance", "dead_end", "nearer", "wall")
OF_TARGET = ("next_hop", "on_path", "distance", "nearer")  # these change with the question, the others with the maze
OF_EDGES = ("nearer", "wall")
SANITY = ("wall",)
WAYS = ("up", "down", "left", "right")
MOST_CLASSES, AT_ONCE = 16, 1024
_NAMED = {"next_hop": WAYS, "on_path": ("off", "on"), "dead_end": ("no", "yes")}
_NAMED |= {"nearer": ("other", "cell"), "wall": ("wall", "open")}


def classes_of(label: str, cap: int = 8) -> tuple[str, ...]:
    """The names of a label's classes; class k is bit k. InputError for a label that is not in LABELS, or a cap of the
    distance that is not from 1 to 15."""
    if label not in LABELS:
        raise InputError(
            f"labels: {show(label)} is not one of {', '.join(LABELS)}; nearest: {nearest(str(label), LABELS)}"
        )
    if isinstance(cap, bool) or not isinstance(cap, int) or not 1 <= cap < MOST_CLASSES:
        raise InputError(f"cap: {show(cap)} is not a whole number from 1 to {MOST_CLASSES - 1}")
    return _NAMED.get(label) or (*map(str, range(cap)), f"{cap}+")


@njit(cache=True)
def _distances(passages_QARC, cell_Q, out_QU):
    queue = np.empty(out_QU.shape[1], np.int64)
    for q in range(out_QU.shape[0]):
        if cell_Q[q] < 0:
            out_QU[q] = -1
        else:
            distances_into(passages_QARC[q], cell_Q[q], out_QU[q], queue)


@dataclass(frozen=True, eq=False)
class Targets:
    """What Q questions ask, on one grid of R x C cells; smaller mazes lie in its upper left corner.

    A unit U is a cell, row * C + column, or, for labels of edges, way * R * C + cell: way 0 leads down from the cell
    and way 1 to the right, as in a Lattice's passages.
    """

    passages_QARC: np.ndarray
    """bool (Q, 2, R, C)"""
    origin_Q: np.ndarray
    """int64: cells, row * C + column"""
    target_Q: np.ndarray
    sides_QA: np.ndarray
    """int64 (Q, 2): the rows and columns of each maze"""

    def __len__(self) -> int:
        return len(self.origin_Q)

    @property
    def shape(self) -> tuple[int, int]:
        return self.passages_QARC.shape[2:]  # type: ignore[return-value]

    def take(self, which: np.ndarray) -> "Targets":
        """Some of the questions, by numbers or by a mask of Q bools."""
        names = ("passages_QARC", "origin_Q", "target_Q", "sides_QA")
        return Targets(*(getattr(self, name)[which] for name in names))

    def distances_to(self, cell_Q: np.ndarray) -> np.ndarray:
        """int16 (Q, U): steps from every cell to one cell of each question; -1 where no passages lead there, and all
        -1 for a cell of -1."""
        out_QU = np.empty((len(self), self.passages_QARC[0, 0].size if len(self) else 0), np.int16)
        _distances(self.passages_QARC, np.ascontiguousarray(cell_Q, np.int64), out_QU)
        return out_QU

    @cached_property
    def distance_QU(self) -> np.ndarray:
        """int16: steps to the target."""
        return self.distances_to(self.target_Q)

    @cached_property
    def maze_Q(self) -> np.ndarray:
        """uint64: the maze's identity, `kernels.connectivity_hash`; held-out ones are 0 modulo 10."""
        return np.array([connectivity_hash(passages) for passages in self.passages_QARC], np.uint64)

    @cached_property
    def open_QGU(self) -> np.ndarray:
        """bool (Q, 4, U): whether a passage leads up, down, left, right."""
        down_QRC, right_QRC = self.passages_QARC[:, DOWN], self.passages_QARC[:, RIGHT]
        up_QRC, left_QRC = np.zeros_like(down_QRC), np.zeros_like(down_QRC)
        up_QRC[:, 1:], left_QRC[:, :, 1:] = down_QRC[:, :-1], right_QRC[:, :, :-1]
        return np.stack([up_QRC, down_QRC, left_QRC, right_QRC], 1).reshape(len(self), 4, -1)

    def code(self, label: str, cap: int = 8) -> np.ndarray:
        """uint16 (Q, U): the right classes of every unit, class k as bit k; 0 where there is no label. Of an edge the
        cell is its upper or left end, the other its lower or right one. InputError as `classes_of`."""
        classes_of(label, cap)
        if (label, cap) not in self._codes:
            self._codes[label, cap] = self._code(label, cap)
        return self._codes[label, cap]

    @cached_property
    def _codes(self) -> dict[tuple[str, int], np.ndarray]:
        return {}

    def _code(self, label: str, cap: int) -> np.ndarray:
        dist_QU = self.distance_QU
        if label == "distance":
            return np.where(dist_QU >= 0, 1 << np.clip(dist_QU, 0, cap).astype(np.uint16), 0).astype(np.uint16)
        if label == "next_hop":
            return self._next_hops()
        if label == "on_path":
            from_origin_QU = self.distances_to(self.origin_Q)
            whole_Q1 = np.take_along_axis(dist_QU, self.origin_Q[:, None], 1)
            on_QU = from_origin_QU + dist_QU == whole_Q1
            return _binary(on_QU, (dist_QU >= 0) & (whole_Q1 >= 0))
        if label == "dead_end":
            degree_QU = self.open_QGU.sum(1)
            return _binary(degree_QU == 1, degree_QU > 0)
        opened_QU = self.passages_QARC.reshape(len(self), -1)
        if label == "wall":
            return _binary(opened_QU, self._inside())
        cell_QU = np.tile(dist_QU, 2)
        other_QU = _beside(dist_QU.reshape(len(self), *self.shape))[:, 1::2].reshape(len(self), -1)
        return _binary(cell_QU < other_QU, opened_QU & (cell_QU >= 0))

    def _next_hops(self) -> np.ndarray:
        dist_QU = self.distance_QU
        beside_QGU = _beside(dist_QU.reshape(len(self), *self.shape)).reshape(len(self), 4, -1)
        right_QGU = self.open_QGU & (beside_QGU == dist_QU[:, None] - 1) & (dist_QU[:, None] > 0)
        return (right_QGU << np.arange(4)[:, None]).sum(1).astype(np.uint16)

    def _inside(self) -> np.ndarray:
        """bool (Q, 2 * R * C): whether both ends of a possible edge lie in the maze's own grid."""
        rows_Q11, cols_Q11 = (self.sides_QA[:, side, None, None] for side in range(2))
        row_R1, col_1C = np.arange(self.shape[0])[:, None], np.arange(self.shape[1])[None]
        down_QRC = (row_R1 + 1 < rows_Q11) & (col_1C < cols_Q11)
        right_QRC = (row_R1 < rows_Q11) & (col_1C + 1 < cols_Q11)
        return np.stack([down_QRC, right_QRC], 1).reshape(len(self), -1)

    def code_at(
        self, label: str, question_R: np.ndarray, cell_R: np.ndarray, other_R: np.ndarray, cap: int = 8
    ) -> np.ndarray:
        """uint16 (R,): the right classes at single places: of questions by number, the cell that the place stands for
        and the edge's other cell, both -1 for none. nearer is which of the two is, and has no label where there is one
        alone; wall is whether a passage leads from the cell to the right. InputError as `classes_of`."""
        there_R = cell_R >= 0
        if label == "nearer":
            cell_dist_R, other_dist_R = (
                self.distance_QU[question_R, np.maximum(at_R, 0)] for at_R in (cell_R, other_R)
            )
            whole_R = (
                there_R & (other_R >= 0) & (cell_dist_R >= 0) & (other_dist_R >= 0) & (cell_dist_R != other_dist_R)
            )
            return _binary(cell_dist_R < other_dist_R, whole_R)
        unit_R = np.maximum(cell_R, 0) + (self.distance_QU.shape[1] if label == "wall" else 0)
        return np.where(there_R, self.code(label, cap)[question_R, unit_R], 0).astype(np.uint16)

    def shuffled(self, seed: int, group_Q: np.ndarray) -> "Targets":
        """For each question another one, maze and all, of the same group and of a maze of the same size: a random
        circle through them, so that none meets itself unless it is alone. Labels keep what each cell has on average,
        and each map of labels its own counts; what they have to do with the question is gone."""
        rng, partner_Q = np.random.default_rng([seed, 1]), np.arange(len(self))
        kinds_QA = np.column_stack([self.sides_QA, group_Q])
        for kind in np.unique(kinds_QA, axis=0):
            members = rng.permutation(np.flatnonzero((kinds_QA == kind).all(1)))
            partner_Q[members] = np.roll(members, 1)
        return self.take(partner_Q)

    def retargeted(self, seed: int) -> "Targets":
        """The same mazes and origins with another target each: any cell but the origin, evenly drawn, of those from
        which the target can be reached. So are a MazeStream's by dfs or wilson, given maze and origin: whatever can be
        said of the true target by a token that came before it, can as well be said of this one."""
        key_QU = np.random.default_rng([seed, 2]).random(self.distance_QU.shape)
        key_QU[self.distance_QU < 0] = -1
        key_QU[np.arange(len(self)), self.origin_Q] = -1
        drawn_Q = key_QU.argmax(1)
        none_Q = key_QU.max(1) < 0
        return replace(self, target_Q=np.where(none_Q, self.target_Q, drawn_Q))


def _binary(yes: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Class 1 where yes, class 0 where no, none where there is no label."""
    return np.where(there, np.where(yes, 2, 1), 0).astype(np.uint16)


def _beside(dist_QRC: np.ndarray) -> np.ndarray:
    """(Q, 4, R, C): the value of the cell above, below, left and right; beyond the grid that of no cell."""
    out = np.full((len(dist_QRC), 4, *dist_QRC.shape[1:]), np.iinfo(np.int16).max, np.int16)
    out[:, 0, 1:], out[:, 1, :-1] = dist_QRC[:, :-1], dist_QRC[:, 1:]
    out[:, 2, :, 1:], out[:, 3, :, :-1] = dist_QRC[:, :, :-1], dist_QRC[:, :, 1:]
    return out


def targets_of(questions: Sequence[Question]) -> Targets:
    """What these questions ask. InputError if there is none."""
    if not questions:
        raise InputError("questions: the list is empty; expected at least one")
    sides_QA = np.array([(question.lattice.rows, question.lattice.cols) for question in questions])
    passages_QARC = np.zeros((len(questions), 2, *sides_QA.max(0)), np.bool_)
    for number, question in enumerate(questions):
        rows, cols = sides_QA[number]
        passages_QARC[number, :, :rows, :cols] = question.lattice.passages
    width = int(sides_QA[:, 1].max())
    ends_QA = np.array([[r * width + c for r, c in (question.origin, question.target)] for question in questions])
    return Targets(passages_QARC, ends_QA[:, 0].copy(), ends_QA[:, 1].copy(), sides_QA)


def targets_in(rows: Rows, words: Words | PreTrainedTokenizerBase) -> Targets:
    """What these sequences of token ids ask, as `find_places` reads them; a maze's grid is the smallest that holds all
    its cells. InputError as `find_places`, and if there is none."""
    words = words if isinstance(words, Words) else Words.of(words)
    parts = [_asked(find_places(rows[at : at + AT_ONCE], words)) for at in range(0, len(rows), AT_ONCE)]
    if not parts:
        raise InputError("sequences: the list is empty; expected at least one")
    sides_QA = np.concatenate([sides_QA for _, _, sides_QA in parts])
    passages_QARC = np.zeros((len(sides_QA), 2, *sides_QA.max(0)), np.bool_)
    at, ends = 0, []
    for (way_N, number_N, low_NC), ends_QC, part_QA in parts:
        passages_QARC[at + number_N, way_N, low_NC[:, 0], low_NC[:, 1]] = True
        ends.append(ends_QC)
        at += len(part_QA)
    flat_QA = np.concatenate(ends) @ np.array([int(sides_QA[:, 1].max()), 1])
    return Targets(passages_QARC, flat_QA[:, 0].copy(), flat_QA[:, 1].copy(), sides_QA)


def _asked(places: Places) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray, np.ndarray]:
    """Edges as (way, number of the sequence, upper or left cell); origins and targets (Q, 2, 2); sides of the grids."""
    edge_R = places.named("edge_first")
    number_N, first_NC, second_NC = (part[edge_R] for part in (places.sequence_R, places.cell_RC, places.other_RC))
    step_NC = np.abs(second_NC - first_NC)
    for wrong in np.flatnonzero(step_NC.sum(1) != 1):
        ends = f"({', '.join(map(str, first_NC[wrong]))}) and ({', '.join(map(str, second_NC[wrong]))})"
        raise InputError(f"tokens: sequence {number_N[wrong]} joins {ends}, which are not neighbours")
    ends_QAC = np.stack([places.cell_RC[places.named(name)] for name in ("origin", "target")], 1)
    sides_QA = np.maximum(2, 1 + ends_QAC.max(1))
    for cells_NC in (first_NC, second_NC):
        np.maximum.at(sides_QA, number_N, 1 + cells_NC)
    return (np.argmax(step_NC, 1), number_N, np.minimum(first_NC, second_NC)), ends_QAC, sides_QA
