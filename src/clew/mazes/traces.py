"""Search traces as thoughts: what a depth-first, breadth-first or A* search did, written between the thought's ends.

    dfs     <THOUGHT_START> (0,0) (0,1) (0,0) (1,0) <THOUGHT_END>                       the walk, returns included
    bfs     <THOUGHT_START> (0,0) (0,0) ; (0,0) (0,1) ; (0,0) (1,0) ; <THOUGHT_END>     parent cell ;
    astar   <THOUGHT_START> (0,0) <--> (0,0) (0,0) <--> (1,0) <THOUGHT_END>             parent <--> cell
    flood   <THOUGHT_START> (1,0) (1,0) ; (1,0) (0,0) ; <THOUGHT_END>                   as bfs, from the target

Each cell of a breadth-first or A* trace stands at its expansion, beside the cell that it was found from; the origin is
its own parent. Every trace ends at the target, so its first and last cells are the ends of a path that can be read off
the thought alone. A flood is a breadth-first search the other way, from the target until the origin: what a cell was
found from is the next cell on the way, so its path is read off forwards, where those of the others are followed back
from the target first. Neighbours come in random order: one question has many traces.
"""

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from clew.errors import InputError
from clew.mazes import vocab
from clew.mazes.kernels import ALGORITHMS, ATTEMPTS, seeded, trace_into
from clew.mazes.lattice import Cell, Lattice, Question
from clew.mazes.vocab import cell_text, parse_cell

DRAW = ATTEMPTS + 3  # the counter that gives traces random states of their own: seeded(seed, stream, index, DRAW)

_CELL = "a cell"
_RECORDS = {"dfs": (_CELL,), "bfs": (_CELL, _CELL, ";"), "astar": (_CELL, "<-->", _CELL)}


@njit(cache=True)
def write_trace(passages, algorithm, origin, target, state, ids, tokens, at):
    """Writes a random trace's token ids from tokens[at] on, `<THOUGHT_START>` and `<THOUGHT_END>` included; returns
    where the next token goes. It takes at most 3 * rows * cols + 2 tokens. `ids` is vocab.cell_ids(...)."""
    cols = passages.shape[2]
    cells, parents = np.empty((2, 2 * passages.shape[1] * cols), np.int64)
    n = trace_into(passages, algorithm, origin, target, state, cells, parents)
    tokens[at] = vocab.THOUGHT_START
    at += 1
    for i in range(n):
        if algorithm:
            tokens[at] = ids[parents[i] // cols, parents[i] % cols]
            at += 1
        if algorithm == 2:
            tokens[at] = vocab.CONNECTOR
            at += 1
        tokens[at] = ids[cells[i] // cols, cells[i] % cols]
        at += 1
        if algorithm == 1 or algorithm == 3:
            tokens[at] = vocab.ENDLINE
            at += 1
    tokens[at] = vocab.THOUGHT_END
    return at + 1


class Step(NamedTuple):
    """A cell that is visited (dfs) or expanded (all others), and the cell that the search came to it from."""

    parent: Cell
    cell: Cell


@dataclass(frozen=True)
class Trace:
    """What a search did: its steps from the origin, whose parent is itself, to the target; a flood's the other way."""

    algorithm: str
    steps: tuple[Step, ...]

    @property
    def path(self) -> list[Cell]:
        """The path that the search found, from origin to target."""
        path = _path(self.steps) or []
        return path[::-1] if self.algorithm == "flood" else path

    @property
    def search_steps(self) -> int:
        """Moves of a depth-first walk, returns included; expansions of the others, origin and target included."""
        return len(self.steps) - (self.algorithm == "dfs")


@dataclass(frozen=True)
class ParsedTrace:
    """What a text is worth as a trace. `valid` and `reaches_target` speak of its steps as far as it is well-formed."""

    algorithm: str | None
    """the one that could have written exactly this for the question; None if none could"""
    search_steps: int
    """as `search_steps` counts them"""
    well_formed: bool
    """both ends are there, and nothing but steps of one form between them"""
    valid: bool
    """starts at the origin, a flood at the target, and every step takes an open passage from a cell that the search has
    been to"""
    reaches_target: bool
    """its last step is to the target, a flood's to the origin, however it got there"""
    error: str | None
    """the first thing that is wrong, and at which token (counted from 1); None if and only if `algorithm` is given"""


def trace(question: Question, algorithm: str, seed: int = 0) -> Trace:
    """A random trace of `algorithm` on a question, the same for the same seed.

    InputError for an unknown algorithm, a cell off the grid, or an origin cut off from its target.
    """
    if algorithm not in ALGORITHMS:
        raise InputError(f"algorithm: {algorithm!r} is not one of {', '.join(ALGORITHMS)}")
    lattice, origin, target = question[:3]
    cells, parents = np.empty((2, 2 * lattice.passages[0].size), np.int64)
    number, ends = ALGORITHMS.index(algorithm), (lattice._flat(origin), lattice._flat(target))
    n = trace_into(lattice.passages, number, *ends, seeded(seed, 0, 0, DRAW), cells, parents)
    pairs = zip(parents[:n], cells[:n], strict=True)
    steps = tuple(Step(lattice._cell(parent), lattice._cell(cell)) for parent, cell in pairs)
    if steps[-1].cell != as_searched(question, algorithm).target:
        raise InputError(f"origin {origin} and target {target} are not connected")
    return Trace(algorithm, steps)


def as_searched(question: Question, algorithm: str) -> Question:
    """The question from where an algorithm begins: a flood's is the other way round."""
    if algorithm != "flood":
        return question
    return question._replace(origin=question.target, target=question.origin, path=None)


def trace_tokens(trace: Trace) -> list[str]:
    """The trace as tokens, `<THOUGHT_START>` and `<THOUGHT_END>` included."""
    records = "{0} {1} ;"
    fill = {"dfs": "{1}", "bfs": records, "astar": "{0} <--> {1}", "flood": records}[trace.algorithm]
    steps = (fill.format(cell_text(step.parent), cell_text(step.cell)) for step in trace.steps)
    return " ".join(["<THOUGHT_START>", *steps, "<THOUGHT_END>"]).split()


def _tokens(tokens_or_text: Sequence[str] | str) -> list[str]:
    return tokens_or_text.split() if isinstance(tokens_or_text, str) else [str(token) for token in tokens_or_text]


def _body(tokens: list[str]) -> list[str]:
    """What stands between the thought's ends; a missing end is taken to be where the text ends or a path starts."""
    body = tokens[tokens.index("<THOUGHT_START>") + 1 :] if "<THOUGHT_START>" in tokens else tokens
    stop = next((i for i, token in enumerate(body) if token in ("<THOUGHT_END>", "<PATH_START>")), len(body))
    return body[:stop]


def _form(body: list[str]) -> str:
    """Whose form a thought has, by its separators: a lost or a stray one does not change it. A flood has bfs's."""
    cells, lines, joins = sum(parse_cell(token) is not None for token in body), body.count(";"), body.count("<-->")
    if 4 * max(lines, joins) < max(cells, 1):
        return "dfs"
    return "bfs" if lines > joins else "astar"


def search_steps(tokens_or_text: Sequence[str] | str) -> int:
    """How many search steps any text holds, to compare with `Trace.search_steps`.

    Read is what follows the first `<THOUGHT_START>` (all, if there is none) up to `<THOUGHT_END>` or `<PATH_START>`.
    With fewer than one `;` or one `<-->` to every four cells it is a walk: cells - 1 moves. Otherwise every two cells
    are an expansion, and half a one at the end does not count. What is no cell never counts; whether a step is possible
    does not matter. The measure is that of Lehnert et al. 2024, "Beyond A*", who compare a model's search with A*'s.
    """
    body = _body(_tokens(tokens_or_text))
    cells = sum(parse_cell(token) is not None for token in body)
    return max(cells - 1, 0) if _form(body) == "dfs" else cells // 2


def _misfit(tokens: list[str], at: int, wanted: str) -> str:
    return f"token {at + 1}: {repr(tokens[at][:40]) if at < len(tokens) else 'the end of the text'}, expected {wanted}"


def _read(tokens: list[str], form: str) -> tuple[list[Step], str | None]:
    """The steps up to the first token that does not fit the form, and what is wrong with that one."""
    record, cells, steps = _RECORDS[form], [], []
    if tokens[:1] != ["<THOUGHT_START>"]:
        return steps, _misfit(tokens, 0, "<THOUGHT_START>")
    for at in range(1, len(tokens) + 1):
        token, place = tokens[at] if at < len(tokens) else "", (at - 1) % len(record)
        if token == "<THOUGHT_END>" and place == 0 and steps:
            return steps, None
        cell, wanted = parse_cell(token), record[place]
        if cell is None if wanted == _CELL else token != wanted:
            return steps, _misfit(tokens, at, f"{wanted} or <THOUGHT_END>" if place == 0 and steps else wanted)
        if wanted == _CELL:
            cells.append(cell)
        if place == len(record) - 1:
            steps.append(Step(cells[-2:][0], cells[-1]))  # a walk's first cell is its own parent, as in the other forms
    raise AssertionError("the loop ends at a misfit: there is no token after the last")


def _near(a: Cell, b: Cell) -> bool:
    return abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1


def _oriented(steps: Sequence[Step], form: str) -> list[Step]:
    """Steps with the end first that was found before. The records of a search that is told in other words (see
    `rewrite`) name their ends either way round; where both were found before, or neither, a record stays as it stands.
    """
    if form == "dfs":  # a walk's steps share their cells, so there is no other way to say one
        return [*steps]
    found: set[Cell] = set()
    oriented = []
    for a, b in steps:
        step = Step(b, a) if b in found and a not in found else Step(a, b)
        found.add(step.cell)
        oriented.append(step)
    return oriented


def _path(steps: Sequence[Step]) -> list[Cell] | None:
    """Back from the last cell to the first, each time to where the search first came from."""
    came_from: dict[Cell, Cell] = {}
    for parent, cell in steps:
        if not (parent in came_from and _near(parent, cell) if came_from else parent == cell):
            return None
        came_from.setdefault(cell, parent)
    path = [steps[-1].cell]
    while came_from[path[-1]] != path[-1]:
        path.append(came_from[path[-1]])
    return path[::-1]


def path_from_trace(tokens_or_text: Sequence[str] | str) -> list[Cell] | None:
    """The path from where a search begins to the last cell that it finds, read off the thought alone; a missing end of
    it does no harm. The ends of a breadth-first or A* record come in any order, as `rewrite` may turn them.

    None where the text has no trace's form, or a step jumps or starts from a cell that the search has not been to.
    Whether the last cell is the target, and each step an open passage, a thought alone cannot tell.
    """
    body = _body(_tokens(tokens_or_text))
    form = _form(body)
    steps, misfit = _read(["<THOUGHT_START>", *body, "<THOUGHT_END>"], form)
    return None if misfit else _path(_oriented(steps, form))


def told_by(question: Question, form: str, begin: Sequence[Cell]) -> str:
    """Whose a search of this form is that comes to these cells first: a flood begins at the question's target."""
    return "flood" if form == "bfs" and [*begin[:1]] == [question.target] != [question.origin] else form


# A rule book yields the steps that its algorithm could take next and is sent the one taken.
Rules = Generator[list[Step], Step, None]


def _dfs_rules(lattice: Lattice, origin: Cell, _: Cell) -> Rules:
    options, back = [Step(origin, origin)], {}
    while True:
        step = yield options
        back.setdefault(step.cell, step.parent)
        fresh = [Step(step.cell, cell) for cell in lattice.neighbours(step.cell) if cell not in back]
        options = fresh or [Step(step.cell, back[step.cell])]


def _bfs_rules(lattice: Lattice, origin: Cell, _: Cell) -> Rules:
    families, found = deque([[Step(origin, origin)]]), {origin}  # children of one parent come in any order
    while True:
        step = yield families[0] if families else []
        families[0].remove(step)
        families.append([Step(step.cell, cell) for cell in lattice.neighbours(step.cell) if cell not in found])
        found.update(child.cell for child in families[-1])
        while families and not families[0]:
            families.popleft()


def _astar_rules(lattice: Lattice, origin: Cell, target: Cell) -> Rules:
    cost, found_from, frontier, expanded = {origin: 0}, {origin: [origin]}, {origin}, set()

    def guess(cell: Cell) -> int:
        return cost[cell] + abs(cell[0] - target[0]) + abs(cell[1] - target[1])

    while True:
        least = min(map(guess, frontier), default=0)
        step = yield [Step(parent, cell) for cell in frontier if guess(cell) == least for parent in found_from[cell]]
        frontier.remove(step.cell)
        expanded.add(step.cell)
        for cell in set(lattice.neighbours(step.cell)) - expanded:
            frontier.add(cell)
            if cost[step.cell] + 1 < cost.get(cell, cost[step.cell] + 2):
                cost[cell], found_from[cell] = cost[step.cell] + 1, []
            if cost[step.cell] + 1 == cost[cell]:
                found_from[cell].append(step.cell)


RULES = {"dfs": _dfs_rules, "bfs": _bfs_rules, "astar": _astar_rules, "flood": _bfs_rules}
GOALS = {"dfs": "target", "bfs": "target", "astar": "target", "flood": "origin"}


def _first_impossible(question: Question, steps: list[Step]) -> tuple[int, bool, str] | None:
    """The first step that the maze does not allow: its number, whether that lies in its cell or in its parent, why."""
    been = {question.origin}
    for i, (parent, cell) in enumerate(steps):
        here, there = cell_text(parent), cell_text(cell)
        if i == 0 and cell != question.origin:
            return i, True, f"the search starts at {there}, not at the origin {cell_text(question.origin)}"
        if parent not in been:
            return i, False, f"{here} has not been expanded before"
        if i and not _near(parent, cell):
            return i, True, f"{there} is not a neighbour of {here}"
        if i and not question.lattice.connected(parent, cell):
            return i, True, f"no passage leads from {here} to {there}"
        been.add(cell)
    return None


def _first_stray(question: Question, algorithm: str, steps: list[Step]) -> tuple[int, bool, str] | None:
    """The first possible step that the algorithm would not take, told in the same way."""
    rules = RULES[algorithm](*question[:3])
    options = next(rules)
    for i, step in enumerate(steps):
        if i and steps[i - 1].cell == question.target:
            return i, False, f"the search goes on after the {GOALS[algorithm]} {cell_text(question.target)}"
        if step not in options:
            wanted = f"{cell_text(options[0].cell)} from {cell_text(options[0].parent)}" if options else "nothing more"
            taken = f"{cell_text(step.cell)} from {cell_text(step.parent)}"
            return i, True, f"{taken} comes where {algorithm} takes {wanted}"
        options = rules.send(step)
    return None


def parse_trace(tokens_or_text: Sequence[str] | str, question: Question) -> ParsedTrace:
    """Reads a thought against its question; raises on nothing that a model may have written.

    The thought starts with the first token. What follows its `<THOUGHT_END>` is not read. It is held to the letter: a
    record whose ends `rewrite` has turned means the same, but no algorithm writes it so.
    """
    tokens = _tokens(tokens_or_text)
    form = _form(_body(tokens))
    steps, misfit = _read(tokens, form)
    algorithm = told_by(question, form, [step.cell for step in steps])
    question = as_searched(question, algorithm)
    impossible = _first_impossible(question, steps)
    fault = _first_stray(question, algorithm, steps[: impossible[0]] if impossible else steps) or impossible
    reaches = bool(steps) and steps[-1].cell == question.target
    error = misfit
    width, back = len(_RECORDS[form]), {"dfs": 0, "bfs": 1, "astar": 2}[form]
    if fault:
        error = f"token {2 + width * fault[0] + back * fault[1]}: {fault[2]}"
    elif not misfit and not reaches:
        end, target = cell_text(steps[-1].cell), cell_text(question.target)
        error = f"token {2 + width * len(steps)}: the search ends at {end}, not at the {GOALS[algorithm]} {target}"
    return ParsedTrace(
        None if error else algorithm, search_steps(tokens), not misfit, bool(steps) and not impossible, reaches, error
    )
