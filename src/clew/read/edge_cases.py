"""Mazes of which one passage is to be moved, taken out or put in, so that the shortest path changes: see `edges.py`."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
from transformers import PreTrainedTokenizerBase

from clew.errors import InputError
from clew.mazes.lattice import Cell, Lattice, Question
from clew.mazes.pairs import PairBatch
from clew.mazes.questions import MazeStream
from clew.read.activations import maze_sequences, questions_of
from clew.read.places import Words, find_places
from clew.text import show

Kind = Literal["move", "remove", "add"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Edge = tuple[Cell, Cell]
"""a passage as a list has it: its first and its second cell"""
TRIED = 1000  # mazes that are looked at for one case before it is given up


@dataclass(frozen=True, eq=False)
class Case:
    """A prompt, and what is to be changed in its maze."""

    kind: Kind
    tokens_T: np.ndarray
    """int64: the prompt up to `<TARGET_END>`"""
    slot: int
    """the position of the first of the four tokens at which something is added or taken off"""
    off: Edge | None
    """the passage that is taken off: the one that is listed there"""
    on: Edge | None
    """the passage that is put in"""
    edited_T: np.ndarray
    """int64: the prompt as it is where the list itself is changed: with other tokens at the slot, without its four, or
    with four more behind it"""
    question: Question
    """what the edited prompt asks"""
    listed: frozenset[Edge]
    """the passages of the maze before the edit, the smaller cell first"""

    def mazes(self) -> tuple[frozenset[Edge], frozenset[Edge]]:
        """The passages before the edit and after it."""
        return self.listed, frozenset(self.question.lattice.edges())


def move_cases(pairs: PairBatch, tokenizer: PreTrainedTokenizerBase) -> list[Case]:
    """The clean sides of pairs of kind "passage": the passage that is to be where the corrupt side has it.

    pairs: in the ids of this tokenizer. InputError for pairs that differ in anything but one passage.
    """
    words, cases = Words.of(tokenizer), []
    for number, length in enumerate(pairs.length_P.tolist()):
        sides = [tokens_PT[number, -length:] for tokens_PT in (pairs.clean_tokens_PT, pairs.corrupt_tokens_PT)]
        found = find_places(sides, words)
        end = int(found.position_R[found.named("target_end")][0]) + 1
        differs = np.flatnonzero(sides[0] != sides[1])
        slot = 1 + (int(differs[0]) - 1) // 4 * 4 if len(differs) else 0
        if not len(differs) or differs[-1] > slot + 2 or slot >= end - 7:
            raise InputError(f"pairs: the sides of pair {number} differ in more or less than one passage of the list")
        before, after = (tokens_T[:end].copy() for tokens_T in sides)
        off, on = (_edge_at(row_T, slot, words) for row_T in (before, after))
        cases.append(_case("move", before, slot, off, on, after, words))
    return cases


def remove_cases(
    stream: MazeStream, tokenizer: PreTrainedTokenizerBase, count: int, detour: bool = True, start: int = 0
) -> list[Case]:
    """The first questions of a stream's mazes, from maze `start` on, of each a passage on all its shortest paths.

    detour: without the passage another way leads to the target, which no tree has; False, none need. Mazes without such
    a passage are passed over. InputError if hardly any maze has one.
    """
    return _drawn(stream, tokenizer, count, start, partial(_removal, detour=detour))


def add_cases(stream: MazeStream, tokenizer: PreTrainedTokenizerBase, count: int, start: int = 0) -> list[Case]:
    """The first questions of a stream's mazes, from maze `start` on, of each a passage that would shorten the path.

    It is added at the four tokens of a passage that the model need not use: on no shortest path, with it or without.
    Mazes without such passages are passed over. InputError if hardly any maze has them.
    """
    return _drawn(stream, tokenizer, count, start, _addition)


_Maker = Callable[[np.ndarray, Question, Words, np.random.Generator], Case | None]


def _drawn(stream: MazeStream, tokenizer: PreTrainedTokenizerBase, count: int, start: int, make: _Maker) -> list[Case]:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError(f"count: {show(count)} is not a whole number from 1")
    words, cases, last = Words.of(tokenizer), [], start
    for index, row_T in enumerate(maze_sequences(stream, range(start, start + count * TRIED), tokenizer), start):
        places = find_places([row_T], words)
        tokens_T = row_T[: int(places.position_R[places.named("target_end")][0]) + 1]
        rng = np.random.default_rng([stream.seed, stream.stream, index])
        if made := make(tokens_T, questions_of(places, 1)[0], words, rng):
            cases.append(made)
            last = index
        if len(cases) == count:
            return cases
        if index - last >= TRIED:
            break
    raise InputError(f"stream: {TRIED} of its mazes in a row have no such passage; trees have none with a detour")


def _removal(row_T: np.ndarray, asked: Question, words: Words, rng: np.random.Generator, detour: bool) -> Case | None:
    slots, edges, steps = [], asked.lattice.edges(), steps_of(asked)
    for slot in _slots(row_T):
        left = steps_of(_with_edges(asked, set(edges) - {ordered(_edge_at(row_T, slot, words))}))
        if left > steps or (left < 0 and not detour):
            slots.append(slot)
    if not slots:
        return None
    slot = int(rng.choice(slots))
    edited_T = np.delete(row_T, np.arange(slot, slot + 4))
    return _case("remove", row_T, slot, _edge_at(row_T, slot, words), None, edited_T, words)


def _addition(row_T: np.ndarray, asked: Question, words: Words, rng: np.random.Generator) -> Case | None:
    lattice, edges = asked.lattice, asked.lattice.edges()
    cells = [(int(r), int(c)) for r, c in np.ndindex(lattice.rows, lattice.cols)]
    ends = [((r, c), (r + down, c + right)) for r, c in cells for down, right in ((0, 1), (1, 0))]
    new = [edge for edge in ends if edge[1] in lattice and edge not in edges]
    shorter = [edge for edge in new if 0 <= steps_of(_with_edges(asked, {*edges, edge})) < steps_of(asked)]
    if not shorter:
        return None
    on = shorter[rng.integers(len(shorter))]
    both = asked, _with_edges(asked, {*edges, on})
    idle = [slot for slot in _slots(row_T) if not any(_on_shortest(one, _edge_at(row_T, slot, words)) for one in both)]
    if not idle:
        return None
    slot, on = int(rng.choice(idle)), on if rng.integers(2) else (on[1], on[0])
    first, second = (int(np.flatnonzero((words.cell_VC == cell).all(1))[0]) for cell in on)
    edited_T = np.insert(row_T, slot + 4, [first, row_T[slot + 1], second, row_T[slot + 3]])
    return _case("add", row_T, slot, None, on, edited_T, words)


def _case(
    kind: Kind, row_T: np.ndarray, slot: int, off: Edge | None, on: Edge | None, edited_T: np.ndarray, words: Words
) -> Case:
    before, after = (questions_of(find_places([tokens_T], words), 1)[0] for tokens_T in (row_T, edited_T))
    return Case(kind, row_T, slot, off, on, edited_T, after, frozenset(before.lattice.edges()))


def _slots(row_T: np.ndarray) -> range:
    """Where each passage of a prompt without padding begins: seven tokens follow the list."""
    return range(1, len(row_T) - 7, 4)


def _edge_at(row_T: np.ndarray, slot: int, words: Words) -> Edge:
    first, second = (tuple(words.cell_VC[row_T[slot + offset]].tolist()) for offset in (0, 2))
    return first, second  # type: ignore[return-value]


def ordered(edge: Edge) -> Edge:
    """The smaller cell first, as `Lattice.edges` has it."""
    return min(edge), max(edge)


def _with_edges(asked: Question, edges: Collection[Edge]) -> Question:
    return asked._replace(lattice=Lattice.from_edges(asked.lattice.rows, asked.lattice.cols, edges))


def steps_of(asked: Question) -> int:
    """Of a shortest path; -1 where there is none."""
    return int(asked.lattice.distances(asked.target)[asked.origin])


def _on_shortest(asked: Question, edge: Edge) -> bool:
    near, far = (asked.lattice.distances(end) for end in (asked.origin, asked.target))
    return any(near[a] + 1 + far[b] == steps_of(asked) for a, b in (edge, edge[::-1]))
