"""The maze tokens, their ids, their Hugging Face tokenizer, and token text to questions and back.

Strings and order are those of maze-dataset's default tokenizer; ids follow its legacy `AOTP_UT_uniform` order (the
special tokens, then cells shell by shell), with Clew's own tokens between the two. A tokenizer for larger mazes thus
only adds ids at the end.
"""

import copy
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from clew.errors import InputError
from clew.mazes.lattice import MAX_SIZE, Cell, Lattice, Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

SPECIAL_TOKENS = ("<ADJLIST_START>", "<ADJLIST_END>", "<TARGET_START>", "<TARGET_END>")
SPECIAL_TOKENS += ("<ORIGIN_START>", "<ORIGIN_END>", "<PATH_START>", "<PATH_END>", "<-->", ";", "<PADDING>")
SPECIAL_TOKENS += ("<UNK>", "<THOUGHT_START>", "<THOUGHT_END>")
ADJLIST_START, ADJLIST_END, TARGET_START, TARGET_END, ORIGIN_START, ORIGIN_END, PATH_START, PATH_END = range(8)
CONNECTOR, ENDLINE, PADDING, UNKNOWN, THOUGHT_START, THOUGHT_END = range(8, 14)
FIRST_CELL = len(SPECIAL_TOKENS)

_CELL = re.compile(r"\((0|[1-9][0-9]{0,3}),(0|[1-9][0-9]{0,3})\)")  # as the tokenizer spells them: no (01,2), no (٣,1)


@lru_cache
def cell_ids(size: int = MAX_SIZE) -> np.ndarray:
    """int64 (size, size): the token id of each cell, in maze-dataset's order: by the larger of the cell's two numbers,
    then cells of even rows by (row, column) among cells of odd rows by (column, row)."""
    cells = sorted(np.ndindex(size, size), key=lambda cell: (max(cell), cell if cell[0] % 2 == 0 else cell[::-1]))
    ids = np.empty((size, size), np.int64)
    ids[tuple(np.transpose(cells))] = FIRST_CELL + np.arange(size * size)
    return ids


def cell_id(row: int, col: int) -> int:
    """The token id of a cell, the same for every size of tokenizer."""
    return int(cell_ids()[row, col])


def cell_text(cell: Cell) -> str:
    return f"({cell[0]},{cell[1]})"


def parse_cell(token: str) -> Cell | None:
    """The cell that a token names, None if it names none."""
    match = _CELL.fullmatch(token)
    return (int(match[1]), int(match[2])) if match else None


def maze_tokenizer(max_size: int) -> "PreTrainedTokenizerFast":
    """A word-level tokenizer for mazes up to max_size x max_size, the caller's own: it may be taught more words.

    InputError unless 2 <= max_size <= MAX_SIZE.
    """
    if not 2 <= max_size <= MAX_SIZE:
        raise InputError(f"max_size: {max_size} is not between 2 and {MAX_SIZE}")
    return copy.deepcopy(_tokenizer(max_size))


@lru_cache
def _tokenizer(max_size: int) -> "PreTrainedTokenizerFast":
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {token: i for i, token in enumerate(SPECIAL_TOKENS)}
    vocab |= {cell_text((r, c)): cell_id(r, c) for r in range(max_size) for c in range(max_size)}
    words = Tokenizer(models.WordLevel(vocab, unk_token="<UNK>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    named = {"pad_token": "<PADDING>", "unk_token": "<UNK>", "eos_token": "<PATH_END>", "padding_side": "left"}
    return PreTrainedTokenizerFast(tokenizer_object=words, clean_up_tokenization_spaces=False, **named)


def shuffled_edges(lattice: Lattice, seed: int = 0) -> list[tuple[Cell, Cell]]:
    """The open passages in random order, each in random direction, as training sees them."""
    rng = np.random.default_rng([seed, hash(lattice) & (2**63 - 1)])
    edges = lattice.edges()
    return [edges[i][:: rng.choice((1, -1))] for i in rng.permutation(len(edges))]  # type: ignore[misc]


def token_map(tokenizer: "PreTrainedTokenizerBase", size: int) -> np.ndarray:
    """int64: at each id of `maze_tokenizer(size)`, that token's id in another one. InputError if one is missing."""
    words = _tokenizer(size).convert_ids_to_tokens(list(range(FIRST_CELL + size * size)))
    known = tokenizer.get_vocab()
    for word in words:
        if word not in known:
            raise InputError(f"model: its tokenizer does not know the maze token {word}")
    return np.array([known[word] for word in words])


def prompt_text(question: Question, edges: Iterable[tuple[Cell, Cell]] | None = None) -> str:
    """The question as token text up to `<TARGET_END>`; `edges` fixes the adjacency list, else it is shuffled."""
    pairs = shuffled_edges(question.lattice) if edges is None else edges
    adjacency = [f"{cell_text(a)} <--> {cell_text(b)} ;" for a, b in pairs]
    origin, target = cell_text(question.origin), cell_text(question.target)
    ends = f"<ORIGIN_START> {origin} <ORIGIN_END> <TARGET_START> {target} <TARGET_END>"
    return " ".join(["<ADJLIST_START>", *adjacency, "<ADJLIST_END>", ends])


def question_text(question: Question, edges: Iterable[tuple[Cell, Cell]] | None = None) -> str:
    """The question as token text, with its path where it has one."""
    path = [] if question.path is None else ["<PATH_START>", *map(cell_text, question.path), "<PATH_END>"]
    return " ".join([prompt_text(question, edges), *path])


class _Reader:
    """Walks a token list and says where, and over what, it stumbled."""

    def __init__(self, text: str):
        self.tokens, self.at = text.split(), 0

    def peek(self) -> str | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def fail(self, wanted: str) -> InputError:
        found = "the end of the text" if self.peek() is None else repr(self.tokens[self.at][:40])
        return InputError(f"maze text: token {self.at + 1} is {found}, expected {wanted}")

    def take(self, token: str) -> None:
        if self.peek() != token:
            raise self.fail(token)
        self.at += 1

    def cell(self, wanted: str = "a cell such as (0,1)") -> Cell:
        cell = parse_cell(self.peek() or "")
        if cell is None:
            raise self.fail(wanted)
        if max(cell) >= MAX_SIZE:
            raise InputError(f"maze text: token {self.at + 1}, cell {cell_text(cell)}, is beyond {MAX_SIZE}x{MAX_SIZE}")
        self.at += 1
        return cell


def parse_question(text: str, size: tuple[int, int] | None = None) -> Question:
    """Token text -> Question; a thought between `<TARGET_END>` and `<PATH_START>` is passed over.

    The text may stop after `<TARGET_END>` (path None). `size` is (rows, cols); without it the grid is the smallest
    that holds every cell named before the path.
    Raises InputError that names the first wrong token, cells off the grid, or an origin cut off from its target.
    The path itself is read as it stands: whether it is valid is for `grade_path` to say.
    """
    read = _Reader(text)
    edges: list[tuple[Cell, Cell]] = []
    read.take("<ADJLIST_START>")
    while read.peek() != "<ADJLIST_END>":
        a = read.cell("a cell such as (0,1) or <ADJLIST_END>")
        read.take("<-->")
        edges.append((a, read.cell()))
        read.take(";")
    read.take("<ADJLIST_END>")
    read.take("<ORIGIN_START>")
    origin = read.cell()
    read.take("<ORIGIN_END>")
    read.take("<TARGET_START>")
    target = read.cell()
    read.take("<TARGET_END>")
    if read.peek() == "<THOUGHT_START>":
        while read.peek() not in ("<THOUGHT_END>", None):
            read.at += 1
        read.take("<THOUGHT_END>")
    path = None
    if read.peek() is not None:
        read.take("<PATH_START>")
        cells: list[Cell] = []
        while read.peek() != "<PATH_END>":
            cells.append(read.cell("a cell such as (0,1) or <PATH_END>"))
        read.take("<PATH_END>")
        path = tuple(cells)
        if read.peek() is not None:
            raise read.fail("the end of the text")
    named = [cell for edge in edges for cell in edge] + [origin, target]
    rows, cols = size or (max(2, 1 + max(r for r, _ in named)), max(2, 1 + max(c for _, c in named)))
    lattice = Lattice.from_edges(rows, cols, edges)
    for name, cell in (("origin", origin), ("target", target)):
        if cell not in lattice:
            raise InputError(f"maze text: {name} {cell_text(cell)} is outside the {rows}x{cols} grid")
    if lattice.distances(target)[origin] < 0:
        raise InputError(f"maze text: origin {cell_text(origin)} and target {cell_text(target)} are not connected")
    return Question(lattice, origin, target, path)


def answer_cells(tokens: Sequence[str]) -> tuple[bool, list[Cell | None], bool]:
    """What a model wrote after its prompt -> (did it start a path at once, the path's cells, did it end the path).

    A token that is no cell comes back as None, where it stood; what follows `<PATH_END>` is not read.
    """
    starts = bool(tokens) and tokens[0] == "<PATH_START>"
    body = list(tokens[tokens.index("<PATH_START>") + 1 :]) if "<PATH_START>" in tokens else []
    ends = "<PATH_END>" in body
    return starts, [parse_cell(token) for token in (body[: body.index("<PATH_END>")] if ends else body)], ends
