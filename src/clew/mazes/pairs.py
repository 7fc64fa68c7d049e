"""Minimal pairs: two prompts of equal length that ask for another step at one fork, and are otherwise the same.

A pair's two sides are token text up to `<TARGET_END>`, then `<PATH_START>` and the common start of their shortest
paths, up to the cell at which these part. Each side has just one right step at every cell so far, the fork included.
Pair i of a stream is the same pair whatever the batch: it depends on the stream's fields and on i alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numba import njit

from clew.errors import InputError
from clew.mazes import kernels, vocab
from clew.mazes.forks import depth_of_branch
from clew.mazes.kernels import DOWN, RIGHT, below, distances_into, neighbours_into, path_into, seeded
from clew.mazes.lattice import Cell, Question
from clew.mazes.questions import MazeStream, write_adjacency
from clew.text import show

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Kind = Literal["target", "passage"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Balance = Literal["lookahead", "distance", "position"]
BALANCES: tuple[Balance, ...] = get_args(Balance)
DRAWS = 100_000  # mazes that are drawn for one pair before it is given up
TRIES, MOVES = 24, 8  # questions asked of each, and passages moved for each question
SAMPLED, LEAST = 4096, 0.01  # pairs by which strata are chosen, and the share of them that makes one
_PICK, _SHUFFLE = DRAWS + 1, DRAWS + 2  # counters beside the draws: one for a maze's size, one for its text
_FACTS = ("index", "rows", "cols", "length", "position", "right", "wrong")
_FACTS += ("lookahead", "distance", "corrupt_lookahead", "corrupt_distance")


@njit(cache=True, inline="always")
def _is_open(passages, a, b):
    low, way = min(a, b), RIGHT if abs(a - b) == 1 else DOWN
    return passages[way, low // passages.shape[2], low % passages.shape[2]]


@njit(cache=True, inline="always")
def _swap(passages, closed, opened):
    for ends, value in ((closed, False), (opened, True)):
        low, way = min(ends[0], ends[1]), RIGHT if abs(ends[0] - ends[1]) == 1 else DOWN
        passages[way, low // passages.shape[2], low % passages.shape[2]] = value


@njit(cache=True)
def _only_step(passages, dist, here, near):
    """The next cell on the shortest paths from `here` if all of them agree, else -1; also at the target."""
    found = -1
    for k in range(neighbours_into(passages, here, near)):
        if dist[near[k]] == dist[here] - 1:
            if found >= 0:
                return -1
            found = near[k]
    return found


@njit(cache=True)
def _part(clean, clean_dist, corrupt, corrupt_dist, origin, walk, near):
    """Walks from `origin` while both sides have one right step, and the same, into `walk`; returns its cells up to the
    fork, and the right step of each side there. No cells unless they part at a fork whose two ways are open to both."""
    here, n = origin, 0
    while True:
        walk[n] = here
        n += 1
        right = _only_step(clean, clean_dist, here, near)
        wrong = _only_step(corrupt, corrupt_dist, here, near)
        if right < 0 or wrong < 0:
            return 0, -1, -1
        if right != wrong:
            if _is_open(clean, here, wrong) and _is_open(corrupt, here, right):
                return n, right, wrong
            return 0, -1, -1
        here = right


@njit(cache=True)
def _move(clean, corrupt, path, n, held_out, near, state, moved):
    """Takes one passage of the path, but not its first, out of `corrupt` and puts a random other one in; both into
    `moved`. False, and nothing done, if what was drawn cannot be, or falls on the wrong side of the held-out split."""
    cells, cols = clean.shape[1] * clean.shape[2], clean.shape[2]
    j = 1 + below(state, n - 2)
    moved[0], moved[1] = path[j], path[j + 1]
    low, way = below(state, cells), below(state, 2)
    high = low + (1 if way == RIGHT else cols)
    if (low % cols == cols - 1 if way == RIGHT else high >= cells) or clean[way, low // cols, low % cols]:
        return False
    if neighbours_into(clean, low, near) == 0 or neighbours_into(clean, high, near) == 0:
        return False
    moved[2], moved[3] = low, high
    if below(state, 2):
        moved[2], moved[3] = high, low
    _swap(corrupt, moved[:2], moved[2:])
    if held_out >= 0 and kernels.is_held_out(corrupt) != (held_out == 1):
        _swap(corrupt, moved[2:], moved[:2])
        return False
    return True


@njit(cache=True)
def _fits(sides, dists, walk, n, steps, balance, wanted, scratch, near, facts):
    """Writes position, lookaheads (as `forks.lookahead` has them, but of the last of n walked cells alone) and
    distances of a fork into `facts`; whether it lies in the wanted stratum."""
    fork, walked = walk[n - 1], np.zeros(dists.shape[1], np.bool_)
    for i in range(n):
        walked[walk[i]] = True
    facts[4] = n - 1
    for side in range(2):
        passages, left, farthest = sides[side], dists[side, fork], 0
        for k in range(neighbours_into(passages, fork, near)):
            if not walked[near[k]] and near[k] != steps[side]:
                farthest = max(farthest, depth_of_branch(passages, near[k], walked, left, scratch[0], scratch[1]))
        facts[7 + 2 * side], facts[8 + 2 * side] = farthest, left
    value = facts[7] if balance == 0 else facts[8] if balance == 1 else facts[4]
    return balance < 0 or value == wanted


@njit(cache=True)
def _ask(sides, passage, held_out, balance, wanted, state, work, near, targets, steps, moved, facts):
    """Draws questions of the maze in sides[0] until two part at a fork of the wanted stratum; sides[1] is that of the
    other. `work` (6, cells) holds the walk first. Returns the walk's cells, 0 if none was found."""
    cells = sides.shape[2] * sides.shape[3]
    walk, path, dists, scratch = work[0], work[1], work[2:4], work[4:6]
    for _ in range(TRIES):
        origin, targets[0] = below(state, cells), below(state, cells)
        reached = distances_into(sides[0], targets[0], dists[0], scratch[0])
        if dists[0, origin] < (2 if passage else 1):
            continue
        targets[1] = targets[0]
        n = path_into(sides[0], dists[0], origin, state, path) if passage else 0
        for _ in range(MOVES if passage else 1):
            if not passage:
                targets[1] = below(state, cells)
            elif not _move(sides[0], sides[1], path, n, held_out, near, state, moved):
                continue
            again = distances_into(sides[1], targets[1], dists[1], scratch[0])
            if again == reached:
                here, steps[0], steps[1] = _part(sides[0], dists[0], sides[1], dists[1], origin, walk, near)
                if here and _fits(sides, dists, walk, here, steps, balance, wanted, scratch, near, facts):
                    return here
            if passage:
                _swap(sides[1], moved[2:], moved[:2])
    return 0


@njit(cache=True)
def _draw_pair(shapes, p, passage, held_out, balance, wanted, seed, stream, index, buffer, work, near, moved, facts):
    """Pair `index`: its mazes (views into `buffer`), its targets, right steps, and the walk's cells, 0 if none."""
    targets, steps = np.zeros(2, np.int64), np.zeros(2, np.int64)
    shape = shapes[below(seeded(seed, stream, index, _PICK), shapes.shape[0])]
    for draw in range(DRAWS):
        state = seeded(seed, stream, index, draw)
        if balance >= 0:
            shape = shapes[below(state, shapes.shape[0])]
        rows, cols = shape[0], shape[1]
        sides = buffer[: 4 * rows * cols].reshape((2, 2, rows, cols))
        kernels.carve_into(sides[0], shape[2], p, state)
        if not sides[0].any() or (held_out >= 0 and kernels.is_held_out(sides[0]) != (held_out == 1)):
            continue
        sides[1] = sides[0]
        room = work[:, : rows * cols]
        n = _ask(sides, passage, held_out, balance, wanted, state, room, near, targets, steps, moved, facts)
        if n:
            facts[1], facts[2] = rows, cols
            return sides, targets, steps, n
    return buffer[:4].reshape((2, 2, 1, 1)), targets, steps, 0


@njit(cache=True, nogil=True)
def _fill(shapes, p, passage, held_out, balance, strata, seed, stream, indices, ids, tokens, facts):
    """Writes pairs into `tokens` (2, P, T), to the right, and `facts` (P, F); returns how many, or -1 - i if there is
    no pair i."""
    most, width = ids.shape[0] * ids.shape[0], tokens.shape[2]
    buffer, work = np.empty(4 * most, np.bool_), np.empty((6, most), np.int64)
    near, moved = np.empty(4, np.int64), np.zeros(4, np.int64)
    edges, row = np.empty(2 * most, np.int64), np.empty(width, np.int64)
    for i in range(indices.shape[0]):
        index = indices[i]
        wanted = strata[index % strata.shape[0]] if balance >= 0 else 0
        sides, targets, steps, n = _draw_pair(
            shapes, p, passage, held_out, balance, wanted, seed, stream, index, buffer, work, near, moved, facts[i]
        )
        if n == 0:
            return -1 - i
        cols = sides.shape[3]
        at = write_adjacency(sides[0], seeded(seed, stream, index, _SHUFFLE), ids, edges, row, 0)
        end = at + 7 + n
        row[at], row[at + 2] = vocab.ORIGIN_START, vocab.ORIGIN_END
        row[at + 3], row[at + 5], row[at + 6] = vocab.TARGET_START, vocab.TARGET_END, vocab.PATH_START
        for k in range(n):
            row[at + 7 + k] = ids[work[0, k] // cols, work[0, k] % cols]
        row[at + 1] = row[at + 7]
        for side in range(2):
            row[at + 4] = ids[targets[side] // cols, targets[side] % cols]
            tokens[side, i, width - end :] = row[:end]
            facts[i, 5 + side] = ids[steps[side] // cols, steps[side] % cols]
        if passage:
            _replace(tokens[1, i, width - end :], moved, ids, cols)
        facts[i, 0], facts[i, 3] = index, end
    return indices.shape[0]


@njit(cache=True)
def _replace(row, moved, ids, cols):
    """Puts the passage that was moved, moved[2:], in the list where the one stands that it was moved from."""
    a, b = ids[moved[0] // cols, moved[0] % cols], ids[moved[1] // cols, moved[1] % cols]
    at = 1
    while not ((row[at] == a and row[at + 2] == b) or (row[at] == b and row[at + 2] == a)):
        at += 4
    row[at], row[at + 2] = ids[moved[2] // cols, moved[2] % cols], ids[moved[3] // cols, moved[3] % cols]


@dataclass(frozen=True)
class Pair:
    """One minimal pair. Of what has two, the first is of the clean side, the second of the corrupt one."""

    kind: Kind
    clean: Question
    corrupt: Question
    """each with its shortest path from origin to target; after the fork there may be others as short"""
    texts: tuple[str, str]
    """the token texts: the prompt, `<PATH_START>` and the walk"""
    walk: tuple[Cell, ...]
    """the common start of both paths; its last cell is the fork"""
    right: Cell
    """the right step of the clean side at the fork: the wrong one of the corrupt side"""
    wrong: Cell
    position: int
    """steps from the origin to the fork"""
    lookahead: tuple[int, int]
    """of this fork alone: see `forks.lookahead`"""
    distance: tuple[int, int]
    """steps from the fork to the target"""


@dataclass(frozen=True)
class PairBatch:
    """P pairs as arrays. Rows are padded on the left with `pad`, so that the fork is the last token of each, and what
    is to be predicted there comes after the last column. `groups` gives them without any padding."""

    clean_tokens_PT: np.ndarray
    """int64: the prompt, `<PATH_START>` and the walk, to the right."""
    corrupt_tokens_PT: np.ndarray
    """int64: the other side; equal in length row by row."""
    index_P: np.ndarray
    """int64: the pair's number in its stream. All that follow are int64 too."""
    rows_P: np.ndarray
    cols_P: np.ndarray
    length_P: np.ndarray
    """tokens of either side, without the padding."""
    position_P: np.ndarray
    """steps from the origin to the fork."""
    right_P: np.ndarray
    """the token of the clean side's right step at the fork: the corrupt side's wrong one."""
    wrong_P: np.ndarray
    """the token of the corrupt side's right step."""
    lookahead_P: np.ndarray
    """of this fork alone, on the clean side: see `forks.lookahead`."""
    distance_P: np.ndarray
    """steps from the fork to the clean side's target."""
    corrupt_lookahead_P: np.ndarray
    corrupt_distance_P: np.ndarray
    pad: int = vocab.PADDING

    def __len__(self) -> int:
        return len(self.index_P)

    @property
    def mask_PT(self) -> np.ndarray:
        """bool: where a row has tokens."""
        width = self.clean_tokens_PT.shape[1]
        return np.arange(width) >= width - self.length_P[:, None]

    def take(self, which: np.ndarray) -> "PairBatch":
        """Some of the pairs, by places or by a mask of P bools, cut to the longest of them."""
        arrays = {name: value[which] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        longest = int(arrays["length_P"].max(initial=0))
        for name in ("clean_tokens_PT", "corrupt_tokens_PT"):
            arrays[name] = arrays[name][:, arrays[name].shape[1] - longest :]
        return replace(self, **arrays)

    def groups(self) -> Iterator["PairBatch"]:
        """The pairs of each length together, shortest first and otherwise in their order: no row has padding."""
        return (self.take(self.length_P == length) for length in np.unique(self.length_P))


@dataclass(frozen=True)
class PairStream:
    """An endless, seeded sequence of minimal pairs.

    kind: `target`, another target in the same maze: one token differs; or `passage`, one passage moved, which stands at
    the same place of the list: two tokens differ, or one. The clean maze is as the generator draws it; the other has
    as many passages and connects as many cells, so a tree stays one. Neither way at the fork is ever what was moved.
    sizes, generators, p, seed, stream: as those of a MazeStream. held_out: True, both mazes are held-out; False,
    neither is; None, either may be.
    balance: every value of the clean side's lookahead, distance or position as often: pair i has that of stratum
    i modulo their number (`strata`). Then sizes and generators come as often as they give such pairs; otherwise each
    comes as often as any other. InputError names a field that cannot be used.
    """

    kind: Kind = "target"
    sizes: tuple[tuple[int, int], ...] = ((6, 6),)
    generators: tuple[str, ...] = ("dfs",)
    p: float = 0.1
    held_out: bool | None = True
    balance: Balance | None = None
    seed: int = 0
    stream: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"kind: {show(self.kind)} is not one of {', '.join(KINDS)}")
        if self.balance is not None and self.balance not in BALANCES:
            raise InputError(f"balance: {show(self.balance)} is not one of {', '.join(BALANCES)}, or None")
        if self.held_out not in (True, False, None):
            raise InputError(f"held_out: {show(self.held_out)} is not True, False or None (either)")
        self._mazes()

    def _mazes(self) -> MazeStream:
        return MazeStream(self.sizes, self.generators, self.p, 1, self.held_out, self.seed, self.stream)

    @cached_property
    def strata(self) -> np.ndarray:
        """int64: the values that are balanced, smallest first: those that at least a hundredth of the pairs have when
        nothing is balanced, by the first 4096. InputError if nothing is."""
        if self.balance is None:
            raise InputError(f"balance: None has no strata; choose one of {', '.join(BALANCES)}")
        sample = replace(self, balance=None).batch(range(SAMPLED))
        values, counts = np.unique(getattr(sample, f"{self.balance}_P"), return_counts=True)
        return values[counts >= LEAST * SAMPLED]

    def batch(
        self, indices: Sequence[int] | np.ndarray, tokenizer: "PreTrainedTokenizerBase | None" = None
    ) -> PairBatch:
        """The pairs with these indices, in their order, in the ids of a tokenizer, or else of `maze_tokenizer`.

        InputError if an index is no whole number from 0, if there is no such pair of one of the sizes and generators,
        or if the tokenizer lacks a maze token.
        """
        which = _checked(indices)
        mazes, cells = self._mazes(), max(rows * cols for rows, cols in self.sizes)
        passages = cells - 1 if set(self.generators) <= {"dfs", "wilson"} else 2 * cells
        tokens = np.full((2, len(which), 9 + 4 * passages + cells), vocab.PADDING, np.int64)
        facts = np.zeros((len(which), len(_FACTS)), np.int64)
        strata = self.strata if self.balance else np.zeros(1, np.int64)
        shapes, p, wanted, seed, stream = mazes.drawn_by()
        asked = self.kind == "passage", wanted, BALANCES.index(self.balance) if self.balance else -1, strata
        n = _fill(shapes, p, *asked, seed, stream, which, vocab.cell_ids(mazes.max_size), tokens, facts)
        if n < 0:
            raise self._no_pair()
        columns = {f"{name}_P": np.ascontiguousarray(facts[:, k]) for k, name in enumerate(_FACTS)}
        batch = PairBatch(tokens[0], tokens[1], **columns).take(which >= 0)  # type: ignore[arg-type]
        return batch if tokenizer is None else _numbered(batch, vocab.token_map(tokenizer, mazes.max_size))

    def pair(self, index: int) -> Pair:
        """Pair `index`: the same that `batch` gives."""
        batch = self.batch([index])
        size = int(batch.rows_P[0]), int(batch.cols_P[0])
        words = vocab.maze_tokenizer(max(map(max, self.sizes))).convert_ids_to_tokens
        rows = [words(tokens_PT[0].tolist()) for tokens_PT in (batch.clean_tokens_PT, batch.corrupt_tokens_PT)]
        start = rows[0].index("<PATH_START>")
        cells = map(vocab.parse_cell, [*rows[0][start + 1 :], *words([int(batch.right_P[0]), int(batch.wrong_P[0])])])
        *walk, right, wrong = (cell for cell in cells if cell)
        questions: list[Question] = []
        for row, step in zip(rows, (right, wrong), strict=True):
            asked = vocab.parse_question(" ".join(row[:start]), size)
            rest = asked.lattice.shortest_path(step, asked.target, index)
            questions.append(asked._replace(path=(*walk, *rest)))
        facts = {name: int(getattr(batch, f"{name}_P")[0]) for name in _FACTS}
        ahead, left = ((facts[name], facts[f"corrupt_{name}"]) for name in ("lookahead", "distance"))
        clean, corrupt = questions
        texts = " ".join(rows[0]), " ".join(rows[1])
        return Pair(self.kind, clean, corrupt, texts, tuple(walk), right, wrong, facts["position"], ahead, left)

    def _no_pair(self) -> InputError:
        of = f"{'/'.join(self.generators)} at {', '.join(f'{rows}x{cols}' for rows, cols in self.sizes)}"
        kind = f"pair of kind {self.kind} with held_out {self.held_out}"
        return InputError(f"sizes: no {kind} in {DRAWS} draws of {of}; larger mazes, such as 4x4 by dfs, have some")


def _checked(indices: Sequence[int] | np.ndarray) -> np.ndarray:
    which = np.asarray(indices)
    if which.ndim != 1 or (which.size and which.dtype.kind not in "iu") or (which.astype(np.int64) < 0).any():
        raise InputError(f"indices: {show(indices)} is no row of whole numbers from 0, below 2^63")
    return which.astype(np.int64)


def _numbered(batch: PairBatch, ids: np.ndarray) -> PairBatch:
    """The batch in the ids of another tokenizer: at each id of the maze tokenizer, that token's in it."""
    tokens = ("clean_tokens_PT", "corrupt_tokens_PT", "right_P", "wrong_P")
    return replace(batch, pad=int(ids[batch.pad]), **{name: ids[getattr(batch, name)] for name in tokens})
