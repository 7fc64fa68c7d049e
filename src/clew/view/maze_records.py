"""What a page is told of one maze and one model, as plain lists, numbers and text, with arrays as base64.

Cells are numbers, row * columns + column; a token of a path that is no cell is -1. Heads are numbered layer by layer.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from clew.mazes.forks import lookahead
from clew.mazes.grading import grade_path
from clew.mazes.lattice import Cell, Question
from clew.mazes.vocab import parse_cell
from clew.read.steering import Rolled
from clew.text import printable
from clew.view.maze_look import Case, Look

WAYS = ((-1, 0), (1, 0), (0, -1), (0, 1))  # as clew.read.targets.WAYS names them: up, down, left, right
Record = dict[str, Any]
Edge = tuple[Cell, Cell]


@dataclass(frozen=True)
class Tongue:
    """A tokenizer's words, by number, and the numbers of those that matter."""

    words: dict[int, str]
    cells: dict[Cell, int]
    end: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> "Tongue":
        """Of a tokenizer for mazes, as `places.Words.of` has seen it."""
        known = tokenizer.get_vocab()
        cells = {cell: number for word, number in known.items() if (cell := parse_cell(word))}
        return cls({number: printable(word, 40) for word, number in known.items()}, cells, known["<PATH_END>"])

    def word(self, number: int) -> str:
        return self.words.get(number, "?")


def asked(question: Question, edges: Sequence[Edge]) -> Record:
    """A question, with its passages in the order and the direction in which the list has them. `right` is a shortest
    path and `lookahead` how far ahead it asks to see; None where no passages lead to the target."""
    lattice, path = question.lattice, question.path
    if path is None and lattice.distances(question.target)[question.origin] >= 0:
        path = tuple(lattice.shortest_path(question.origin, question.target))
    whole = question._replace(path=path)
    return {
        "rows": lattice.rows,
        "cols": lattice.cols,
        "edges": [[flat(a, question), flat(b, question)] for a, b in edges],
        "origin": flat(question.origin, question),
        "target": flat(question.target, question),
        "right": None if path is None else [flat(cell, question) for cell in path],
        "lookahead": None if path is None else lookahead(whole),
        "held_out": lattice.held_out,
    }


def flat(cell: Cell | None, question: Question) -> int:
    return -1 if cell is None or cell not in question.lattice else cell[0] * question.lattice.cols + cell[1]


def walked(question: Question, rolled: Rolled) -> Record:
    """A path, whether it is a shortest one, and else where and how it first goes wrong."""
    place, how = first_wrong(question, rolled.path, rolled.ended)
    return {
        "path": [flat(cell, question) for cell in rolled.path],
        "ended": rolled.ended,
        "solved": grade_path(question, rolled.path, rolled.ended).optimal,
        "wrong": place,
        "how": how,
    }


def first_wrong(question: Question, cells: Sequence[Cell | None], ended: bool) -> tuple[int | None, str | None]:
    """The first cell of a path, by its number, that no shortest path has there, and what is wrong with it: start (it is
    not the origin), cell (it is none of the maze), wall (no passage leads there) or detour (one does, but not nearer to
    the target). A path without such a cell that stops short of the target is wrong one beyond its last cell: stopped,
    or endless where it was cut off. (None, None) for a shortest path, and where none leads to the target."""
    lattice = question.lattice
    dist = lattice.distances(question.target)
    if dist[question.origin] < 0:
        return None, None
    for number, cell in enumerate(cells):
        if cell is None or cell not in lattice:
            return number, "cell"
        if number == 0:
            if cell != question.origin:
                return 0, "start"
            continue
        before = cells[number - 1]
        assert before is not None
        if not lattice.connected(before, cell):
            return number, "wall"
        if dist[cell] != dist[before] - 1:
            return number, "detour"
    if not cells or cells[-1] != question.target or not ended:
        return len(cells), "stopped" if ended else "endless"
    return None, None


def record(case: Case, seen: Look, tongue: Tongue, without: Sequence[Rolled] | None = None) -> Record:
    """One case. without: what is written without each head, in their order; None where that is not known.

    `next` are the words that were written, one a step, and `current` the cells at which the steps stand. `without` has
    None for a head whose path is the same.
    """
    question, rolled = case.question, case.rolled
    out = walked(question, rolled) | {
        "next": [tongue.word(token) for token in rolled.tokens],
        "current": [flat(cell, question) for cell in seen.cells_S],
        "attention": packed(seen.attention_SLHK),
        "lens": lens(question, seen, tongue),
        "forks": forks(question, seen, tongue),
    }
    if without is not None:
        same = [(one.path, one.ended) == (rolled.path, rolled.ended) for one in without]
        out["without"] = [None if one else walked(question, path) for one, path in zip(same, without, strict=True)]
    return out


def packed(values_SLHK: np.ndarray) -> Record:
    """Numbers from 0 as one byte each, in parts of 255 of the largest of their step, layer and head: `bytes` holds them
    in their order, `most` those largest as float32, little-endian; both base64."""
    most_SLH1 = values_SLHK.max(-1, keepdims=True, initial=0)
    parts_SLHK = np.rint(255 * values_SLHK / np.where(most_SLH1 > 0, most_SLH1, 1))
    return {
        "slots": values_SLHK.shape[-1],
        "bytes": base64.b64encode(parts_SLHK.astype(np.uint8).tobytes()).decode(),
        "most": base64.b64encode(most_SLH1.astype("<f4").tobytes()).decode(),
    }


def unpacked(parts: Record, layers: int, heads: int) -> np.ndarray:
    """float32 (S, L, H, K): what `packed` packed, up to half a part of 255."""
    bytes_N = np.frombuffer(base64.b64decode(parts["bytes"]), np.uint8)
    most_N = np.frombuffer(base64.b64decode(parts["most"]), "<f4")
    return bytes_N.reshape(-1, layers, heads, parts["slots"]) / 255 * most_N.reshape(-1, layers, heads, 1)


def lens(question: Question, seen: Look, tongue: Tongue) -> list[list[list[Any]]]:
    """By step and depth, from 0 layers to all: the probabilities of the cells above, below, left and right and of the
    path's end, 0 for what does not exist; then the likeliest word, and its probability."""
    shifted_SNV = np.exp(seen.logits_SNV - seen.logits_SNV.max(-1, keepdims=True))
    share_SNV = shifted_SNV / shifted_SNV.sum(-1, keepdims=True)
    found = []
    for share_NV, cell in zip(share_SNV, seen.cells_S, strict=True):
        tokens = moves(question, cell, tongue)
        top_N = share_NV.argmax(-1).tolist()
        shares = [[0 if token < 0 else _short(share_V[token]) for token in tokens] for share_V in share_NV]
        tops = [[tongue.word(top), _short(share_V[top])] for share_V, top in zip(share_NV, top_N, strict=True)]
        found.append([share + top for share, top in zip(shares, tops, strict=True)])
    return found


def moves(question: Question, cell: Cell | None, tongue: Tongue) -> list[int]:
    """The tokens of the cells above, below, left and right of a cell, and of the path's end; -1 for none."""
    near = [cell and (cell[0] + row, cell[1] + col) for row, col in WAYS]
    cells = [tongue.cells[to] if to in question.lattice and to in tongue.cells else -1 for to in near]
    return [*cells, -1 if cell is None else tongue.end]


def forks(question: Question, seen: Look, tongue: Tongue) -> list[Record | None]:
    """Of each step that is taken at a fork, a cell from which a passage, but the one just come through, leads on along
    no shortest path: the ways that do, the logit difference (the largest of theirs less the largest of the wrong
    passages') and, where it was read, the same without each head. None for other steps."""
    dist, found = question.lattice.distances(question.target), []
    for step, cell in enumerate(seen.cells_S):
        found.append(None)
        if cell is None or cell not in question.lattice or dist[cell] <= 0:
            continue
        came = seen.cells_S[step - 1] if step else None
        open_to = question.lattice.neighbours(cell)
        right = [to for to in open_to if dist[to] == dist[cell] - 1]
        wrong = [to for to in open_to if to not in right and to != came]
        if wrong:
            ids = [[tongue.cells[to] for to in some] for some in (right, wrong)]
            ways = [WAYS.index((to[0] - cell[0], to[1] - cell[1])) for to in right]
            found[-1] = {"right": ways, "difference": _short(_difference(seen.logits_SNV[step, -1:], ids)[0])}
            if seen.ablated_SNV is not None:
                found[-1]["without"] = [_short(one) for one in _difference(seen.ablated_SNV[step], ids)]
    return found


def _difference(logits_NV: np.ndarray, ids: list[list[int]]) -> np.ndarray:
    """(N,): the largest logit of some tokens less the largest of some others."""
    right_N, wrong_N = (logits_NV[:, some].max(-1) for some in ids)
    return right_N - wrong_N


def _short(value: Any) -> float:
    return round(float(value), 4)
