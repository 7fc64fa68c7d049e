"""What a predicted path is worth, one number in [0, 1], and the path metrics that maze-transformer names."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from clew.errors import InputError
from clew.mazes.lattice import Cell, Question, as_cell
from clew.mazes.vocab import cell_text

BROKEN_AT_MOST = 0.5 - 1e-6  # still under every complete path after a trip through float32


@dataclass(frozen=True)
class PathGrade:
    """A path's grade. `score` is in [0, 1]: a half or more if and only if the path is complete, 1 if shortest."""

    score: float
    optimal: bool
    """complete, and no path is shorter"""
    valid: bool
    """starts at the origin and only ever walks through open passages"""
    reaches_target: bool
    """its last cell is the target, however it got there"""
    steps: int
    shortest_steps: int


def grade_path(question: Question, cells: Sequence[object], ended: bool = True) -> PathGrade:
    """Grades a path: `cells` are (row, column) pairs, anything else counts as a step that no passage allows.

    ended: whether the path said that it was over. A path that never does is not complete.
    Complete (valid, at the target, ended): 0.5 + 0.5 * shortest / steps. Otherwise 0.5 * the share of the distance to
    the target that the longest valid start of the path has closed, and under 0.5 always.
    """
    lattice = question.lattice
    dist = lattice.distances(question.target)
    shortest = int(dist[question.origin])
    walk = [as_cell(cell) for cell in cells]
    good = valid_start(question, walk)
    valid = bool(walk) and good == len(walk)
    reaches = bool(walk) and walk[-1] == question.target
    steps = max(0, len(walk) - 1)
    if valid and reaches and ended:
        score = 0.5 + 0.5 * (shortest / steps if steps else 1.0)
    else:
        here = walk[good - 1] if good else None
        closed = 0.0 if here is None or shortest <= 0 else (shortest - int(dist[here])) / shortest
        score = min(0.5 * max(0.0, closed), BROKEN_AT_MOST)
    complete = valid and reaches and ended
    return PathGrade(score, complete and steps == shortest, valid, reaches, steps, shortest)


def valid_start(question: Question, walk: Sequence[Cell | None]) -> int:
    """How many leading cells of `walk` are a valid path from the origin."""
    if not walk or walk[0] != question.origin:
        return 0
    n = 1
    while n < len(walk) and walk[n] is not None and question.lattice.connected(walk[n - 1], walk[n]):  # type: ignore[arg-type]
        n += 1
    return n


def whole_path(question: Question) -> tuple[Cell, ...]:
    """The question's path; InputError unless it leads from its origin to its target through open passages."""
    path, good = question.path, valid_start(question, question.path or ())
    if not path or not good:
        raise InputError(f"path: it does not start at the origin {cell_text(question.origin)}")
    if good < len(path):
        raise InputError(f"path: no open passage leads from {cell_text(path[good - 1])} to {cell_text(path[good])}")
    if path[-1] != question.target:
        raise InputError(f"path: it ends at {cell_text(path[-1])}, not at the target {cell_text(question.target)}")
    return path


def solution(question: Question) -> tuple[Cell, ...]:
    """The reference path: the question's own, or else a shortest one."""
    return question.path or tuple(question.lattice.shortest_path(question.origin, question.target))


def path_metrics(question: Question, cells: Sequence[object], solution: Sequence[Cell]) -> dict[str, float]:
    """The metrics of maze-transformer's `path_evals.py`, under its names, against the reference path `solution`.

    An empty `solution` has no nodes to overlap: 0.
    """
    walk = [as_cell(cell) for cell in cells]
    steps = [(a, b) for a, b in pairwise(walk) if a is not None and b is not None]
    near = [(a, b) for a, b in steps if abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1]
    adjacent, joined = len(near), sum(question.lattice.connected(a, b) for a, b in near)
    streak = 0
    while streak < min(len(walk), len(solution)) and walk[streak] == solution[streak]:
        streak += 1
    return {
        "node_overlap": len(set(walk) & set(solution)) / max(len(set(solution)), 1),
        "num_connections_adjacent_lattice": float(adjacent),
        "fraction_connections_adjacent_lattice": adjacent / len(walk) if walk else 0.0,
        "num_connections_adjacent": float(joined),
        "fraction_connections_adjacent": joined / max(len(walk) - 1, 1),
        "exact_path_predicted": float(walk == list(solution)),
        "solution_length": float(len(solution)),
        "streak_length_until_incorrect": float(streak),
    }
