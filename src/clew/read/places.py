"""Where things stand in a maze sequence: named places, and the cells that each stands for.

    <ADJLIST_START>  (0,1)       <-->       (0,2)        ;         … <ADJLIST_END>
    list_start       edge_first  connector  edge_second  edge_end    list_end
    <ORIGIN_START>   (0,1)       <ORIGIN_END>  <TARGET_START>  (2,3)   <TARGET_END>
    origin_start     origin      origin_end    target_start    target  target_end
    <PATH_START>     (0,1) …     <PATH_END>
    path_start       path        path_end

A thought between target_end and path_start has no places, and neither has padding on either side.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from clew.errors import InputError
from clew.mazes import vocab
from clew.text import nearest, show

PLACES: tuple[str, ...] = ("list_start", "edge_first", "connector", "edge_second", "edge_end", "list_end")
PLACES += ("origin_start", "origin", "origin_end", "target_start", "target", "target_end")
PLACES += ("path_start", "path", "path_end")
Rows = Sequence[Sequence[int] | np.ndarray] | np.ndarray
_CELL, _NOTHING = vocab.FIRST_CELL, -1  # kinds of tokens beside the special ones, which are their own kinds
_AT = {name: number for number, name in enumerate(PLACES)}
_LIST_KINDS = (vocab.ADJLIST_START, _CELL, vocab.CONNECTOR, _CELL, vocab.ENDLINE, vocab.ADJLIST_END)
_ENDS_KINDS = (vocab.ORIGIN_START, _CELL, vocab.ORIGIN_END, vocab.TARGET_START, _CELL, vocab.TARGET_END)
_KINDS = np.array([*_LIST_KINDS, *_ENDS_KINDS, vocab.PATH_START, _CELL, vocab.PATH_END])  # by place


@dataclass(frozen=True)
class Words:
    """What each token id of a tokenizer means in a maze sequence; V ids."""

    kind_V: np.ndarray
    """int64: the place in vocab.SPECIAL_TOKENS, FIRST_CELL for a cell, -1 for anything else."""
    cell_VC: np.ndarray
    """int64 (V, 2): the row and column of a cell, -1 for anything else."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> "Words":
        """InputError for a tokenizer that lacks a token of the maze format, or has no cells."""
        known = tokenizer.get_vocab()
        for word in (*vocab.SPECIAL_TOKENS[: vocab.PADDING], "(0,0)"):
            if word not in known:
                raise InputError(f"model: its tokenizer does not know {word}; expected one for mazes")
        kind_V = np.full(1 + max(known.values()), _NOTHING)
        cell_VC = np.full((len(kind_V), 2), -1)
        for word, number in known.items():
            if word in vocab.SPECIAL_TOKENS:
                kind_V[number] = vocab.SPECIAL_TOKENS.index(word)
            elif cell := vocab.parse_cell(word):
                kind_V[number], cell_VC[number] = _CELL, cell
        return cls(kind_V, cell_VC)

    def kinds(self, tokens: np.ndarray) -> np.ndarray:
        inside = (tokens >= 0) & (tokens < len(self.kind_V))
        return np.where(inside, self.kind_V[np.where(inside, tokens, 0)], _NOTHING)


@dataclass(frozen=True)
class Places:
    """R places of some sequences, in the order of the sequences and of their tokens. All arrays are int64."""

    sequence_R: np.ndarray
    """which sequence"""
    position_R: np.ndarray
    """which of its tokens"""
    place_R: np.ndarray
    """its name, as an index into PLACES"""
    order_R: np.ndarray
    """the number of the edge in its list, or of the step on the path, whose origin is step 0; else 0"""
    cell_RC: np.ndarray
    """(R, 2): the cell that the place stands for. Of an edge's two cells it is the first, but for edge_second, which
    stands for the second. The tokens around origin and target stand for these; path_start for the path's first cell
    and path_end for its last. (-1, -1) for the ends of the list, and for a path_start that nothing follows."""
    other_RC: np.ndarray
    """(R, 2): the edge's other cell; (-1, -1) where no edge is"""

    def __len__(self) -> int:
        return len(self.place_R)

    def take(self, which: np.ndarray) -> "Places":
        """Some of them, by numbers or by a mask of R bools."""
        return Places(**{name: value[which] for name, value in vars(self).items()})

    def named(self, *names: str) -> np.ndarray:
        """bool (R,): which have one of these names. InputError for a name that is not in PLACES."""
        return np.isin(self.place_R, numbers_of(names))


def numbers_of(names: Collection[str]) -> list[int]:
    """Places by their numbers in PLACES. InputError for none, or for a name that is not there."""
    if not names or isinstance(names, str):
        raise InputError(f"places: {show(names)} is no list of places, such as origin, path")
    for name in names:
        if name not in PLACES:
            raise InputError(
                f"places: {show(name)} is not one of {', '.join(PLACES)}; nearest: {nearest(name, PLACES)}"
            )
    return [_AT[name] for name in names]


def find_places(tokens: Rows, words: Words | PreTrainedTokenizerBase) -> Places:
    """All places of sequences of token ids: lists of any lengths, or rows of an array with padding on either side.

    A sequence is a prompt, whole up to `<TARGET_END>`; a path may follow, whole or only begun, behind a thought or not.
    InputError that names the sequence, the token and what was expected there.
    """
    words = words if isinstance(words, Words) else Words.of(words)
    tokens_BT = _rectangle(tokens)
    kinds_BT = words.kinds(tokens_BT)
    place_BT, order_BT = _placed(kinds_BT)
    expected_BT = np.where(place_BT >= 0, _KINDS[place_BT], kinds_BT)
    wrong = np.argwhere(kinds_BT != expected_BT)
    if len(wrong):
        row, at = wrong[0].tolist()
        kind = int(expected_BT[row, at])
        raise _unlike(row, at, "a cell" if kind == _CELL else vocab.SPECIAL_TOKENS[kind])
    sequence_R, position_R = np.nonzero(place_BT >= 0)
    place_R = place_BT[sequence_R, position_R]
    cell_R, other_R = _cells_at(place_BT, sequence_R, position_R, place_R)

    def cells(position_R: np.ndarray) -> np.ndarray:
        found = words.cell_VC[tokens_BT[sequence_R, np.maximum(position_R, 0)]]
        return np.where(position_R[:, None] >= 0, found, -1)

    order_R = order_BT[sequence_R, position_R]
    return Places(sequence_R, position_R, place_R, order_R, cells(cell_R), cells(other_R))


def _rectangle(tokens: Rows) -> np.ndarray:
    """Rows of equal length, filled up with -1 on the right."""
    try:
        rows = [np.asarray(row) for row in tokens]
        whole = all(row.ndim == 1 and (row.dtype.kind in "iu" or not row.size) for row in rows)
    except (TypeError, ValueError):
        rows, whole = [], False
    if not whole:
        raise InputError(f"tokens: {show(tokens)} is no list of rows of token ids (whole numbers from 0)")
    tokens_BT = np.full((len(rows), max(map(len, rows), default=0)), -1)
    for row, values in enumerate(rows):
        tokens_BT[row, : len(values)] = values
    return tokens_BT


def _placed(kinds_BT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What place each token has by the marks of its row alone, -1 for none, and its order."""
    at_BT = np.broadcast_to(np.arange(kinds_BT.shape[1]), kinds_BT.shape)
    start_B1, end_B1 = (_first(kinds_BT == mark)[:, None] for mark in (vocab.ADJLIST_START, vocab.ADJLIST_END))
    for mark, found_B1 in ((vocab.ADJLIST_START, start_B1), (vocab.ADJLIST_END, end_B1)):
        for row in np.flatnonzero(found_B1 < 0):
            raise InputError(f"tokens: sequence {row} is no maze question: it has no {vocab.SPECIAL_TOKENS[mark]}")
    torn_B1 = ((end_B1 - start_B1) % 4 != 1) | (end_B1 < start_B1)
    for row in np.flatnonzero(torn_B1 | (end_B1 + 6 >= kinds_BT.shape[1])):
        cut = "has a torn adjacency list" if torn_B1[row] else "is cut off before its target"
        raise InputError(f"tokens: sequence {row} is no maze question: it {cut}; expected a prompt to <TARGET_END>")
    place_BT, order_BT = np.full(kinds_BT.shape, -1), np.zeros(kinds_BT.shape, np.int64)
    place_BT[at_BT == start_B1] = _AT["list_start"]
    edge_BT = (at_BT > start_B1) & (at_BT < end_B1)
    step_BT = at_BT - start_B1 - 1
    place_BT[edge_BT] = _AT["edge_first"] + step_BT[edge_BT] % 4
    order_BT[edge_BT] = step_BT[edge_BT] // 4
    ends_BT = (at_BT >= end_B1) & (at_BT <= end_B1 + 6)
    place_BT[ends_BT] = (_AT["list_end"] + at_BT - end_B1)[ends_BT]
    after_BT = at_BT > end_B1 + 6
    path_B1 = _first(after_BT & (kinds_BT == vocab.PATH_START))[:, None]
    beyond_BT = (path_B1 >= 0) & (at_BT > path_B1)
    over_B1 = _first(beyond_BT & (kinds_BT != _CELL))[:, None]
    walk_BT = beyond_BT & ((over_B1 < 0) | (at_BT < over_B1))
    place_BT[walk_BT] = _AT["path"]
    order_BT[walk_BT] = (at_BT - path_B1 - 1)[walk_BT]
    place_BT[(path_B1 >= 0) & (at_BT == path_B1)] = _AT["path_start"]
    place_BT[beyond_BT & (at_BT == over_B1) & (kinds_BT == vocab.PATH_END)] = _AT["path_end"]
    return place_BT, order_BT


def _first(found_BT: np.ndarray) -> np.ndarray:
    """Where each row is first true, -1 if nowhere."""
    return np.where(found_BT.any(1), found_BT.argmax(1), -1) if found_BT.shape[1] else np.full(len(found_BT), -1)


def _cells_at(
    place_BT: np.ndarray, sequence_R: np.ndarray, position_R: np.ndarray, place_R: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The positions of the cell, and of the edge's other cell, that each place stands for; -1 for none."""
    cell_by_place = {"edge_first": 0, "connector": -1, "edge_second": 0, "edge_end": -3, "origin_start": 1, "origin": 0}
    cell_by_place |= {"origin_end": -1, "target_start": 1, "target": 0, "target_end": -1}
    cell_by_place |= {"path_start": 1, "path": 0, "path_end": -1}
    other_by_place = {"edge_first": 2, "connector": 1, "edge_second": -2, "edge_end": -1}
    found = []
    for offsets in (cell_by_place, other_by_place):
        offset_R = np.array([offsets.get(name, 0) for name in PLACES])[place_R]
        has_R = np.array([name in offsets for name in PLACES])[place_R]
        found.append(np.where(has_R, position_R + offset_R, -1))
    at_end = place_R >= _AT["path_start"]
    told_R = place_BT[sequence_R, np.clip(found[0], 0, place_BT.shape[1] - 1)] == _AT["path"]
    cell_R = np.where(at_end & ~(told_R & (found[0] < place_BT.shape[1])), -1, found[0])
    return cell_R, found[1]


def _unlike(row: int, at: int, wanted: str) -> InputError:
    return InputError(f"tokens: sequence {row} is no maze question: token {at + 1} is not {wanted}")
