"""Questions that their world draws, as numbers that a page draws: mazes, read off the prompt that a model was given."""

import re
from typing import Any

from clew.errors import InputError
from clew.mazes.grading import solution, valid_start
from clew.mazes.lattice import Question
from clew.mazes.vocab import SPECIAL_TOKENS, answer_cells, parse_cell, parse_question

_MARKED = re.compile(r"(<[A-Z_]+>) (\(\d+,\d+\)) <--> (\(\d+,\d+\))")


def maze_of(prompt: str) -> tuple[Question, dict[str, Any]] | None:
    """The maze that a prompt asks about, and how a page draws it (lattice.js); None for any other text.

    A world may have words of its own in a prompt: they are read past, and a passage that one stands before is marked.
    """
    if not prompt.startswith("<ADJLIST_START>"):
        return None
    try:
        maze = parse_question(plain(prompt))
    except InputError:
        return None
    grid = maze.lattice
    down, right = ("".join("01"[int(one)] for one in part.ravel()) for part in grid.passages)
    drawn = {"rows": grid.rows, "cols": grid.cols, "down": down, "right": right}
    marked = [[parse_cell(a), parse_cell(b)] for word, a, b in _MARKED.findall(prompt) if word not in SPECIAL_TOKENS]
    ends = {"origin": maze.origin, "target": maze.target, "best": solution(maze)}
    return maze, drawn | ends | ({"marked": marked} if marked else {})


def good_cells(maze: Question, answer: str) -> int:
    """How many cells of an answer are a valid path from the origin, before the first that is not."""
    return valid_start(maze, answer_cells(plain(answer).split())[1])


def plain(text: str) -> str:
    """A maze's text without the words that some world has added to it."""
    words = text.split()
    return " ".join(word for word in words if word in SPECIAL_TOKENS or not re.fullmatch(r"<[A-Z_]+>", word))
