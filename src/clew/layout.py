"""How attention reads a forest: its segments level by level, or its plain rows where those cost less."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clew.errors import InputError


@dataclass(frozen=True)
class TreeLevel:
    """Runs of tokens at one depth of the trees, all read at once: C cells of L places."""

    grid_CL: Tensor
    """int64: flat token indices; -1 at the end of a run shorter than L"""
    parent_C: Tensor | None
    """int64: the cell of the level above that each cell continues, in their order; None where the cells are whole paths
    from a root, which need nothing above them"""
    each: int | None
    """how many cells continue each cell above, where that is the same for all"""
    padded: bool
    """whether some cell has a -1 among the levels above it"""
    readers: tuple[Tensor, ...] | None = None
    """for each level above, from the highest that it reads: (A, Q) int64, for each cell there the places of this grid,
    laid flat, that read it, -1 where there are fewer than Q; None where a copy of a cell for each reader is cheaper"""

    def below(self, above: Tensor) -> Tensor:
        """What belongs to the cells above, (C', …), for each cell that continues them: (C, …)."""
        return above.repeat_interleave(self.each, 0) if self.each else above[self.parent_C]

    def to(self, device: torch.device | str) -> "TreeLevel":
        parent_C = None if self.parent_C is None else self.parent_C.to(device)
        readers = None if self.readers is None else tuple(reader.to(device) for reader in self.readers)
        return replace(self, grid_CL=self.grid_CL.to(device), parent_C=parent_C, readers=readers)


@dataclass(frozen=True)
class TreeLayout:
    """How attention reads a packed row, level by level.

    On most trees a cell is a segment (a run without a fork) and reads the cells above it and itself. Long segments
    stand in a level of whole paths, whose cells repeat the tokens above them: plain causal attention reads such cells
    without a mask. Where levels would cost more than plain rows do, as in a deep and ragged tree, there is one level
    whose cells are those rows. So a layout costs at most what the rows cost, whatever the tree's shape. (It may take
    levels whose masks would cost more, since branches that share keys need none; where `shared.can_share` says no, as
    under dropout or autocast, they have them.) Trees of unlike lengths are read group by group, each in levels of its
    own, so that small ones are not padded to large.
    """

    levels: tuple[TreeLevel, ...]
    reach: int
    """tokens of the longest way from a root to a leaf"""
    slots_T: Tensor
    """int64: where each token's output stands when the levels' outputs are laid end to end."""
    sources_U: Tensor
    """int64: the tokens whose last hidden state anything depends on, each once, in order."""
    slots_U: Tensor
    """int64: `slots_T` at those tokens."""

    def to(self, device: torch.device | str) -> "TreeLayout":
        moved = [x.to(device) for x in (self.slots_T, self.sources_U, self.slots_U)]
        return TreeLayout(tuple(level.to(device) for level in self.levels), self.reach, *moved)


ROWS_WORTH = 4  # a level's place costs less than a row's, which needs a query too: so much more of them may there be
MASK_WORTH = 1 / 32  # a number of a mask against a place with its key and value
LOPSIDED = 2  # times the keys that segments have above them and in them: what levels may cost unshortened
LONG = 256  # tokens of a segment from which its mask is dearer than reading its path anew, if that is not far longer
PAYS = 0.9  # of the cost before: what one more cut may leave of it
CHOICES = 16  # lengths of a level that are tried as its width
COPY_WORTH = 1.5  # a key that is copied and then read, against one that is read where it stands
SPLITS = 16  # lengths of trees that are tried as the end of a group
PLACE_WORTH = 32  # a query that is moved to where it reads, against one that reads a key
CALL_WORTH = 10_000  # one more call of a kernel, against a query that reads a key
PARTS = 8  # levels above one, from which it reads copies: a kernel's call for each is dearer


class Segments:
    """The runs without a fork of a forest in depth-first order, found from its parents alone.

    cuts: tokens at which a run is cut in two all the same. InputError for a token that stands before its parent.
    """

    def __init__(self, parents_T: np.ndarray, cuts: np.ndarray | tuple[()] = ()):
        index = np.arange(len(parents_T))
        if (parents_T >= index).any():
            raise InputError("parents: a token stands before its parent; trees are laid out depth first")
        fanout = np.bincount(parents_T[parents_T >= 0], minlength=len(parents_T))
        starts = (parents_T < 0) | (parents_T != index - 1) | (fanout[parents_T] > 1)
        starts[list(cuts)] = True
        self.starts, self.parents_T = starts, parents_T
        self.first = np.flatnonzero(starts)
        self.length = np.diff(self.first, append=len(parents_T))
        of_token = np.cumsum(starts) - 1
        self.of_token = of_token
        before = parents_T[self.first]
        self.parent = np.where(before >= 0, of_token[before], -1)
        # Parents come first, so one pass settles all depths.
        level, offset = [0] * len(self.first), [0] * len(self.first)
        for s, (above, length) in enumerate(zip(self.parent.tolist(), self.length.tolist(), strict=True)):
            if above >= 0:
                level[s], offset[s] = level[above] + 1, offset[above]
            offset[s] += length
        self.level, self.end = np.array(level), np.array(offset)
        self.tree = np.cumsum(self.parent < 0) - 1
        self.leaves = np.flatnonzero(np.bincount(self.parent[self.parent >= 0], minlength=len(self.first)) == 0)
        self.positions_T = (self.end - self.length)[of_token] + index - self.first[of_token]

    def by_level(self) -> list[np.ndarray]:
        """The segments of each depth."""
        return np.split(np.argsort(self.level, kind="stable"), np.bincount(self.level).cumsum()[:-1])

    def cost(self) -> float:
        """Keys that the levels' cells read, and the masks that they need, in places of a row."""
        cost, above = 0.0, 0
        for here in self.by_level():
            width = int(self.length[here].max())
            if _whole(width, above):
                above = int(self.end[here].max())
                cost += len(here) * above
            else:
                cost += len(here) * (above + width) * (1 + MASK_WORTH * width * (above > 0))
                above += width
        return cost

    def shorter(self) -> "Segments":
        """The same where a level's longest segments are cut to the length of others, if that pays anywhere: one long
        answer would make as long a cell of every other."""
        most, cuts, above = 0, self.first[:0], 0
        for here in self.by_level():
            lengths = np.sort(self.length[here])
            width = int(lengths[-1])
            for to in np.unique(lengths[:: -(-len(lengths) // CHOICES)]).tolist():
                longer = self.length[here] > to
                saved = len(here) * (width - to) - int(longer.sum()) * (above + width)
                if saved > most:
                    most, cuts = saved, self.first[here][longer] + to
            above += width
        return Segments(self.parents_T, np.flatnonzero(self.starts).tolist() + cuts.tolist()) if most else self

    def levels(self) -> tuple[tuple[TreeLevel, ...], np.ndarray]:
        """One level for each depth of the trees, a cell for each segment; and where each token's output stands."""
        cell_of = np.zeros(len(self.first), np.int64)
        slots_T = np.empty(len(self.positions_T), np.int64)
        full = np.ones(len(self.first), np.bool_)  # no -1 in the segment's cell, nor above it
        by_level = self.by_level()
        levels: list[TreeLevel] = []
        standing: list[TreeLevel] = []  # those that the next one reads
        base, above = 0, 0
        for depth, here in enumerate(by_level):
            cell_of[here] = np.arange(len(here))
            width, parent = int(self.length[here].max()), self.parent[here]
            if whole := _whole(width, above):
                above = int(self.end[here].max())
                grid = self.paths(here, above)
                full[here] = self.end[here] == above
            else:
                above += width
                grid = self._grid(self.first[here], self.length[here], width)
                full[here] = (self.length[here] == width) & (full[parent] if depth else True)
            own = (grid >= 0) & (np.arange(grid.shape[1]) >= (self.end - self.length)[here][:, None] * whole)
            slots_T[grid[own]] = base + np.flatnonzero(own)
            if whole or not depth:
                levels.append(TreeLevel(torch.from_numpy(grid), None, None, False))
                standing = levels[-1:]
            else:
                levels.append(self._level(grid, cell_of[parent], standing, full[parent]))
                standing = [*standing, levels[-1]]
            base += grid.size
        return tuple(levels), slots_T

    @staticmethod
    def _level(grid: np.ndarray, parent_C: np.ndarray, above: list[TreeLevel], full_C: np.ndarray) -> TreeLevel:
        count = np.bincount(parent_C, minlength=len(above[-1].grid_CL))
        each = int(count[0]) if (count == count[0]).all() else None
        readers = _readers(grid, parent_C, above)
        return TreeLevel(torch.from_numpy(grid), torch.from_numpy(parent_C), each, not full_C.all(), readers)

    def rows(self, reach: int) -> tuple[tuple[TreeLevel, ...], np.ndarray]:
        """One level, a cell for each way from a root to a leaf; and where each token's output stands."""
        grid = self.paths(self.leaves, reach)
        slots_T = np.empty(len(self.positions_T), np.int64)
        at = np.flatnonzero(grid >= 0)[::-1]  # of the rows that hold a token the first one's output counts
        slots_T[grid.reshape(-1)[at]] = at
        return (TreeLevel(torch.from_numpy(grid), None, None, False),), slots_T

    def paths(self, ends: np.ndarray, width: int) -> np.ndarray:
        """The tokens from a root to each of these segments' ends, with -1 behind them up to `width`."""
        grid, segment = np.full((len(ends), width), -1, np.int64), ends.copy()
        while (rows := np.flatnonzero(segment >= 0)).size:  # all climb together, until they are past their roots
            here = segment[rows]
            places = self._grid(self.first[here], self.length[here], int(self.length[here].max()))
            row, along = np.nonzero(places >= 0)
            grid[rows[row], (self.end - self.length)[here[row]] + along] = places[row, along]
            segment[rows] = self.parent[here]
        return grid

    @staticmethod
    def _grid(first: np.ndarray, length: np.ndarray, width: int) -> np.ndarray:
        along = np.arange(width)
        return np.where(along < length[:, None], first[:, None] + along, -1)


def _whole(width: int, above: int) -> bool:
    """Whether segments of this width, below so many tokens, are read as whole paths."""
    return above > 0 and width > LONG and (above <= width or width > 4 * LONG)


def _readers(grid_CL: np.ndarray, parent_C: np.ndarray, above: list[TreeLevel]) -> tuple[Tensor, ...] | None:
    """What `TreeLevel.readers` is for a level of this grid under those that it reads."""
    if len(above) > PARTS:
        return None
    cells, width = grid_CL.shape
    place = np.flatnonzero(grid_CL.reshape(-1) >= 0)
    readers: list[Tensor] = []
    cost, copied = 0, 0
    cell = parent_C[place // width]
    for level in reversed(above):
        count = np.bincount(cell, minlength=len(level.grid_CL))
        order = np.argsort(cell, kind="stable")
        reader = np.full((len(count), int(count.max())), -1, np.int64)
        reader[cell[order], np.arange(len(place)) - (count.cumsum() - count)[cell[order]]] = place[order]
        readers.insert(0, torch.from_numpy(reader))
        keys = level.grid_CL.shape[1]
        cost, copied = cost + reader.size * keys, copied + cells * width * keys
        cell = cell if level.parent_C is None else level.parent_C.numpy()[cell]
    return tuple(readers) if cost <= COPY_WORTH * copied else None


def layout_of(segments: Segments, sources_U: np.ndarray, shares: bool = True, as_levels: bool = False) -> TreeLayout:
    """The cheapest way found to read a forest; sources_U: the tokens whose last hidden state is used, in order. shares:
    whether branches read what is above them where it stands (`shared.can_share`); if not, each has a copy and a mask.
    as_levels: a level for each depth of all the trees, whatever that costs.
    """
    groups = _alike(segments) if shares and not as_levels else [np.arange(len(segments.parents_T))]
    levels: list[TreeLevel] = []
    slots_T, base = np.empty(len(segments.parents_T), np.int64), 0
    for tokens in groups:
        some = segments if len(groups) == 1 else Segments(parents_within(segments.parents_T, tokens))
        own, slots = some.levels() if as_levels else _cheapest(some, shares)
        slots_T[tokens] = base + slots
        for level in own:
            grid = np.append(tokens, -1)[level.grid_CL.numpy()]
            levels.append(replace(level, grid_CL=torch.from_numpy(grid)))
            base += grid.size
    slots, sources = torch.from_numpy(slots_T), torch.from_numpy(sources_U)
    return TreeLayout(tuple(levels), int(segments.end.max()), slots, sources, slots[sources])


def parents_within(parents_T: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """The parents of some tokens by their place among these, which hold all that is above them; -1 at roots."""
    parents = parents_T[tokens]
    places = np.searchsorted(tokens, parents)
    if not (tokens[places[parents >= 0]] == parents[parents >= 0]).all():
        raise InputError("parents: a token's parent stands in another branch; trees are laid out depth first")
    return np.where(parents >= 0, places, -1)


def _cheapest(segments: Segments, shares: bool) -> tuple[tuple[TreeLevel, ...], np.ndarray]:
    """Levels or rows, and where each token's output stands."""
    reach, cost = int(segments.end.max()), segments.cost()
    while cost > LOPSIDED * segments.end.sum():
        shorter = segments.shorter()
        if (less := shorter.cost()) > PAYS * cost:
            break
        segments, cost = shorter, less
    rows = len(segments.leaves) * reach
    if not shares:
        return segments.rows(reach) if cost > ROWS_WORTH * rows else segments.levels()
    levels, slots_T = segments.levels()
    below = [level for level in levels if level.parent_C is not None]
    if all(level.readers is not None for level in below):
        by_rows = _pairs_read(levels) > rows * (reach / 2 + PLACE_WORTH)
    else:
        by_rows = cost > ROWS_WORTH * rows
    return segments.rows(reach) if by_rows else (levels, slots_T)


def _pairs_read(levels: Sequence[TreeLevel]) -> float:
    """Queries times keys of levels that share what is above them, and the places of queries in such pairs."""
    pairs, keys = 0.0, list[int]()
    for level in levels:
        cells, width = level.grid_CL.shape
        keys = keys if level.parent_C is not None else []
        pairs += cells * width * (width / 2 + PLACE_WORTH)
        pairs += sum(r.numel() * (k + PLACE_WORTH) for r, k in zip(level.readers or (), keys, strict=bool(keys)))
        keys = [*keys, width]
    return pairs


def _alike(segments: Segments) -> list[np.ndarray]:
    """The tokens of trees of like lengths, group by group, where it pays to read these apart: one large maze among
    small ones would make as long a cell of each of theirs."""
    root = segments.tree
    trees, depths = int(root.max()) + 1, int(segments.level.max()) + 1
    count, width = np.zeros((trees, depths)), np.zeros((trees, depths))
    np.add.at(count, (root, segments.level), 1)
    np.maximum.at(width, (root, segments.level), segments.length)
    leaves, reach = np.bincount(root[segments.leaves], minlength=trees), np.zeros(trees)
    np.maximum.at(reach, root, segments.end)

    def pairs(some: np.ndarray) -> float:
        return float(_pairs(count[some].sum(0), width[some].max(0), leaves[some].sum(), reach[some].max()))

    def apart(some: np.ndarray) -> list[np.ndarray]:
        cuts = np.flatnonzero(np.diff(reach[some])) + 1
        tried = [(pairs(some[:at]) + pairs(some[at:]), at) for at in cuts[:: max(1, -(-len(cuts) // SPLITS))].tolist()]
        cost, at = min(tried, default=(np.inf, 0))
        return [*apart(some[:at]), *apart(some[at:])] if cost < PAYS * pairs(some) else [some]

    every = np.argsort(reach, kind="stable")
    least = _pairs(count, width, leaves, reach, calls=False).sum()  # were each read by itself, and calls free
    groups = apart(every) if least < PAYS * pairs(every) else [every]
    return [np.flatnonzero(np.isin(root, some)[segments.of_token]) for some in groups]


def _pairs(count_D: np.ndarray, width_D: np.ndarray, leaves: Any, reach: Any, calls: bool = True) -> np.ndarray:
    """About what `_pairs_read` will say of levels of so many cells, so wide, or of rows if these cost less; and what
    calls cost. Arguments may have axes before those named."""
    above_D, depth_D = width_D.cumsum(-1) - width_D, np.arange(width_D.shape[-1])
    places_D = count_D * width_D * (width_D / 2 + above_D + PLACE_WORTH * (1 + depth_D))
    levels = (places_D + calls * CALL_WORTH * (1 + depth_D) * (count_D > 0)).sum(-1)
    return np.minimum(levels, leaves * reach * (reach / 2 + PLACE_WORTH) + calls * CALL_WORTH)
