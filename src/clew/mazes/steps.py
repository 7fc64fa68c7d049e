"""Steps of traces, one by one: which of them are true of the maze, and traces with one step made false."""

from collections.abc import Sequence

import numpy as np

from clew.mazes.lattice import Cell, Question
from clew.mazes.traces import (
    _RECORDS,
    Step,
    _body,
    _form,
    _oriented,
    _read,
    _tokens,
    as_searched,
    path_from_trace,
    told_by,
)
from clew.mazes.vocab import cell_text

START, END = "<THOUGHT_START>", "<THOUGHT_END>"


def true_steps(question: Question, tokens_or_text: Sequence[str] | str) -> list[bool]:
    """Whether each step of a thought is true of its maze: it takes an open passage, and the first is to the origin, a
    flood's to the target.

    What fits no step's form counts as one that is false, and nothing behind it is read; a thought that was cut in the
    midst of a step is read up to there. In a walk the step behind a false one goes from where that one claims to be.
    """
    steps, whole, form, _ = _steps(_tokens(tokens_or_text))
    begin = as_searched(question, told_by(question, form, [step.cell for step in steps])).origin
    found = [set(step) == {begin} for step in steps[:1]] + [question.lattice.connected(*step) for step in steps[1:]]
    return found + [False] * (not whole)


def with_false_step(
    question: Question, tokens_or_text: Sequence[str] | str, rng: np.random.Generator
) -> tuple[list[str], int] | None:
    """The thought with one of its true steps, drawn at random, led through a wall: to a neighbouring cell where there
    is one behind a wall, else to any that no passage leads to. And the number of tokens up to the end of that step.
    The cell that the step starts from stays: in a record the one found before, whichever is named first.

    None for a thought without a true step behind its first.
    """
    tokens = _tokens(tokens_or_text)
    steps, _, form, first = _steps(tokens)
    width = len(_RECORDS[form])
    known = [i for i, step in enumerate(steps) if i and question.lattice.connected(*step)]
    if not known:
        return None
    i = known[int(rng.integers(len(known)))]
    choices = walled(question, steps[i].parent)
    if not choices:
        return None
    end = first + width * (i + 1)
    cell = max(at for at in range(first + width * i, end) if tokens[at] == cell_text(steps[i].cell))
    wrong = cell_text(choices[int(rng.integers(len(choices)))])
    return [*tokens[:cell], wrong, *tokens[cell + 1 :]], end


def found_path(question: Question, tokens_or_text: Sequence[str] | str) -> list[Cell] | None:
    """The path from the question's origin to its target that can be read off a thought; None if it holds none."""
    tokens = _tokens(tokens_or_text)
    path = path_from_trace(tokens) or []
    if told_by(question, _form(_body(tokens)), path) == "flood":
        path = path[::-1]
    return path if path and (path[0], path[-1]) == (question.origin, question.target) else None


def _steps(tokens: list[str]) -> tuple[list[Step], bool, str, int]:
    """A thought's steps, each from the end that was found before; whether they are all that it holds; their form; and
    where the first one stands."""
    body, first = _body(tokens), tokens.index(START) + 1 if START in tokens else 0
    form = _form(body)
    width = len(_RECORDS[form])
    after = tokens[first + len(body) :][:1]
    if not after:  # it may have been cut
        body = body[: len(body) // width * width]
    steps, misfit = _read([START, *body, END], form) if body else ([], None)
    return _oriented(steps, form), misfit is None and after in ([], [END]), form, first


def walled(question: Question, cell: Cell) -> list[Cell]:
    """The cells beside one that a wall parts from it; where there are none, all that no passage leads to."""
    grid = question.lattice
    cells = [(row, col) for row in range(grid.rows) for col in range(grid.cols)]
    apart = [other for other in cells if other != cell and not grid.connected(cell, other)]
    near = [other for other in apart if abs(cell[0] - other[0]) + abs(cell[1] - other[1]) == 1]
    return near or apart
