"""Thoughts about mazes with a door: a search as the passages that it took, a line each, whose ends come in any order.

    <THOUGHT_START> (0,0) (0,1) ; (0,1) (0,2) ; <DOOR> (1,1) (0,1) ; (1,1) (1,2) ; <THOUGHT_END>

Each line but the first has one cell that was found before, and one that is new; the last finds the target. `<DOOR>`
stands before the passage that is the door, where the thought mentions that. What says the same in other words is a
matter of proof: the same passages from the same cells, the same one marked, the same end.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from clew.mazes.lattice import Cell, Question
from clew.mazes.steps import walled
from clew.mazes.traces import trace
from clew.mazes.vocab import cell_text, parse_cell

MARK = "<DOOR>"
START, END, LINE_END = "<THOUGHT_START>", "<THOUGHT_END>", ";"
TRIES = 200  # searches that are drawn for one that finds the question's path by itself


class Line(NamedTuple):
    """A passage that a search took."""

    cells: tuple[Cell, Cell]
    marked: bool = False

    def words(self) -> list[str]:
        return [MARK] * self.marked + [*map(cell_text, self.cells), LINE_END]


@dataclass(frozen=True)
class Passages:
    """What a thought, or a part of it, holds: lines, with the thought's ends where they are part of it."""

    lines: tuple[Line, ...]
    starts: bool
    ends: bool

    def words(self) -> list[str]:
        inside = [word for line in self.lines for word in line.words()]
        return [START] * self.starts + inside + [END] * self.ends


def parse(words: Sequence[str]) -> Passages | None:
    """The lines that a text holds, in its order; None for one that is not made of whole lines alone."""
    starts, ends = words[:1] == [START], words[-1:] == [END]
    lines, whole = lines_of(words[starts : len(words) - ends])
    return Passages(tuple(lines), starts, ends) if whole else None


def lines_of(words: Sequence[str]) -> tuple[list[Line], bool]:
    """The lines up to the first thing that is none, and whether there was no such thing."""
    lines, at = [], 0
    while at < len(words):
        marked = words[at] == MARK
        first = at + marked
        cells = [parse_cell(word) for word in words[first : first + 2]]
        if len(cells) < 2 or None in cells or cells[0] == cells[1] or words[first + 2 : first + 3] != [LINE_END]:
            return lines, False
        lines.append(Line((cells[0], cells[1]), marked))  # type: ignore[arg-type]
        at = first + 3
    return lines, True


class Step(NamedTuple):
    """A line as a step of a search: from a cell that it had found to a new one."""

    parent: Cell
    cell: Cell
    marked: bool


def steps_of(lines: Sequence[Line], origin: Cell) -> list[Step] | None:
    """The steps that lines tell, from the origin; None where one of them finds nothing new from anywhere found."""
    found, steps = {origin}, []
    for (a, b), marked in lines:
        if (a in found) == (b in found):
            return None
        parent, cell = (a, b) if a in found else (b, a)
        found.add(cell)
        steps.append(Step(parent, cell, marked))
    return steps


def path_to(steps: Sequence[Step], origin: Cell, target: Cell) -> list[Cell] | None:
    """The way that a search found from its origin to a cell; None if it did not come there."""
    came_from = {step.cell: step.parent for step in steps}
    path = [target]
    while path[-1] != origin:
        if path[-1] not in came_from:
            return None
        path.append(came_from[path[-1]])
    return path[::-1]


def search(maze: Question, door: Sequence[Cell], told: bool, rng: np.random.Generator) -> Passages:
    """A random depth-first search that finds the question's path, with its dead ends and without the ways back.

    At a cycle a search may go the longer way round, so it is drawn anew until it finds this path, at most TRIES times.
    Where there are so many cycles that none did, one is led along the path (see `_along`).
    """
    path = [*maze.path] if maze.path else maze.lattice.shortest_path(maze.origin, maze.target)
    seed = int(rng.integers(2**31))
    drawn = (trace(maze, "dfs", seed + i) for i in range(TRIES))
    found = next((one.steps for one in drawn if one.path == path), None) or _along(maze, path, rng)
    seen, lines = {maze.origin}, []
    for parent, cell in found:
        if cell not in seen:
            seen.add(cell)
            lines.append(Line((parent, cell), told and {parent, cell} == set(door)))
    return Passages(tuple(_swapped(line, rng) for line in lines), True, True)


def _along(maze: Question, path: Sequence[Cell], rng: np.random.Generator) -> list[tuple[Cell, Cell]]:
    """The passages that a random depth-first search takes, from the found cell to the new one, if of all ways it can go
    it chooses none that would find another path.

    From a cell of the path it enters the path's next cell, or a branch from which no cells that are still new lead to
    the target; such a branch is a dead end, and it comes back. So it ends, for any path through open passages.
    """
    onward = dict(pairwise(path))
    seen, way, passages = {maze.origin}, [maze.origin], []
    while way[-1] != maze.target:
        here = way[-1]
        fresh = [cell for cell in maze.lattice.neighbours(here) if cell not in seen]
        if here in onward:
            fresh = [cell for cell in fresh if cell == onward[here] or not _leads(maze, cell, seen)]
        if not fresh:
            way.pop()
            continue
        cell = fresh[int(rng.integers(len(fresh)))]
        passages.append((here, cell))
        seen.add(cell)
        way.append(cell)
    return passages


def _leads(maze: Question, start: Cell, seen: Collection[Cell]) -> bool:
    """Whether a way leads from a cell to the target through no cell that was seen."""
    reached, waiting = {start, *seen}, [start]
    while waiting:
        cell = waiting.pop()
        if cell == maze.target:
            return True
        new = [other for other in maze.lattice.neighbours(cell) if other not in reached]
        reached.update(new)
        waiting += new
    return False


def _swapped(line: Line, rng: np.random.Generator) -> Line:
    return line._replace(cells=line.cells[:: 1 if rng.random() < 0.5 else -1])  # type: ignore[arg-type]


def reworded(words: Sequence[str], origin: Cell | None, rng: np.random.Generator) -> list[str] | None:
    """The same in other words: each line's ends in random order, and, where a whole thought is told (its origin is
    given), the branches that leave a cell in random order, the one with the thought's end last as it was.

    None for what is not made of such lines, or is a whole thought that is no search from the origin. What is made is
    parsed again: nothing is returned that does not say the same.
    """
    read = parse(words)
    if read is None:
        return None
    if not read.lines:
        return list(words) if origin is None and read.ends else None  # a thought's end is a line by itself
    lines: Sequence[Line] = read.lines
    if origin is not None:
        steps = steps_of(lines, origin)
        if steps is None:
            return None
        lines = [Line((step.parent, step.cell), step.marked) for step in _reordered(steps, origin, rng)]
    made = Passages(tuple(_swapped(line, rng) for line in lines), read.starts, read.ends).words()
    return made if same_meaning(words, made, origin) else None


def _reordered(steps: Sequence[Step], origin: Cell, rng: np.random.Generator) -> list[Step]:
    """A search in which siblings come in another order, each with all that it led to; its last step stays last."""
    below: dict[Cell, list[Step]] = {}
    for step in steps:
        below.setdefault(step.parent, []).append(step)
    last = path_to(steps, origin, steps[-1].cell) or []
    ordered, waiting = [], [origin]
    while waiting:
        cell = waiting.pop()
        siblings = below.get(cell, [])
        drawn = [siblings[i] for i in rng.permutation(len(siblings))]
        drawn.sort(key=lambda step: step.cell in last)  # stable: the others stay as they were drawn
        ordered.append(cell)
        waiting += [step.cell for step in reversed(drawn)]
    arrived = {step.cell: step for step in steps}
    return [arrived[cell] for cell in ordered if cell != origin]


def same_meaning(words: Sequence[str], others: Sequence[str], origin: Cell | None) -> bool:
    """Whether two thoughts are searches that took the same passages the same way, mark the same and end alike.

    origin: None for parts of thoughts, which say the same if they hold the same lines in the same order, whichever end
    of a passage comes first.
    """
    a, b = parse(words), parse(others)
    if a is None or b is None or (a.starts, a.ends) != (b.starts, b.ends):
        return False
    if origin is None:
        unordered = [[(frozenset(line.cells), line.marked) for line in one.lines] for one in (a, b)]
        return unordered[0] == unordered[1]
    mine, theirs = steps_of(a.lines, origin), steps_of(b.lines, origin)
    if not mine or not theirs:
        return False
    return set(mine) == set(theirs) and mine[-1] == theirs[-1]


def inside(words: Sequence[str]) -> Sequence[str]:
    """A thought without its ends, where they are there."""
    inside = words[1:] if words[:1] == [START] else words
    return inside[:-1] if inside[-1:] == [END] else inside


def true_steps(maze: Question, door: Sequence[Cell], words: Sequence[str]) -> list[bool]:
    """Whether each line of a thought is true: an open passage from a cell found before to another, marked only if it
    is the door. What is no line counts as one that is false, and nothing behind it is read; a thought without its end
    that stops in the midst of a line was cut there, and is read up to there."""
    body = inside(words)
    lines, whole = lines_of(body)
    rest = body[sum(len(line.words()) for line in lines) :]
    cut = words[-1:] != [END] and _begins_line(rest)
    return [true for true, _ in _told(maze, door, lines)] + [False] * (not whole and not cut)


def _begins_line(words: Sequence[str]) -> bool:
    """Whether a line could begin with these words and go on."""
    cells = [parse_cell(word) for word in words[words[:1] == [MARK] :]]
    return len(cells) <= 2 and None not in cells and len(set(cells)) == len(cells)


def _told(maze: Question, door: Sequence[Cell], lines: Sequence[Line]) -> list[tuple[bool, Cell]]:
    """Of each line whether it is true, and the end that was found before it; its second where neither was."""
    found, told = {maze.origin}, []
    for (a, b), marked in lines:
        known = a in found or b in found
        true = known and maze.lattice.connected(a, b) and (not marked or {a, b} == set(door))
        told.append((true, a if a in found else b))
        found |= {a, b}
    return told


def found_path(maze: Question, words: Sequence[str]) -> list[Cell] | None:
    """The path from the question's origin to its target that a thought found; None if it holds none."""
    steps = steps_of(lines_of(inside(words))[0], maze.origin)
    return path_to(steps, maze.origin, maze.target) if steps else None


def with_false_line(
    maze: Question, door: Sequence[Cell], words: Sequence[str], rng: np.random.Generator
) -> tuple[list[str], int] | None:
    """The thought with one of its true lines, drawn at random, led from the same cell through a wall; and the number of
    words up to its end. None where there is no true line, or no wall beside one."""
    starts = words[:1] == [START]
    lines, _ = lines_of(inside(words))
    told = enumerate(_told(maze, door, lines))
    choices = [(i, parent) for i, (true, parent) in told if true and len(walled(maze, parent))]
    if not choices:
        return None
    i, parent = choices[int(rng.integers(len(choices)))]
    walls = walled(maze, parent)
    other = walls[int(rng.integers(len(walls)))]
    before = [word for line in lines[:i] for word in line.words()]
    cells = tuple(parent if one == parent else other for one in lines[i].cells)
    made = Line(cells, lines[i].marked).words()  # type: ignore[arg-type]
    head = [START] * starts + before + made
    return head + list(words[len(head) :]), len(head)
