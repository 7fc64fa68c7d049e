"""Pictures of mazes, and of how well they are solved."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from clew.mazes.grading import grade_path, solution, valid_start
from clew.mazes.lattice import Cell, Question
from clew.mazes.vocab import answer_cells, parse_cell
from clew.plots import BLUE, GOLD, GREY, INK, RED, STYLE, rates, save
from clew.runs.intervals import merged, ranges_of

POINTS = 16  # of a curve over numbers; more are drawn as ranges


class Attempt(NamedTuple):
    """A maze with what somebody answered."""

    question: Question
    answer: str
    """any text: `<PATH_START> (0,0) … <PATH_END>`, say"""
    thought: str = ""
    """any text: `<THOUGHT_START> (0,0) … <THOUGHT_END>`, say"""


def maze_sheet(attempts: Sequence[Attempt], out: Path, columns: int = 6, most: int = 24, side: float = 1.7) -> None:
    """A sheet of mazes, each `side` inches wide: a shortest path in gold, the model's in blue, its first wrong step and
    what follows in red; a thought's moves from dark to light."""
    shown = attempts[:most]
    if not shown:
        return
    rows = -(-len(shown) // columns)
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = plt.subplots(rows, columns, figsize=(side * columns, (side + 0.25) * rows), squeeze=False)
        for ax in axes.flat:
            ax.axis("off")
        for ax, attempt in zip(axes.flat, shown, strict=False):
            draw_attempt(ax, attempt)
        save(figure, out)


def draw_attempt(ax: Axes, attempt: Attempt) -> None:
    """One maze with the shortest path and the attempt's, and its verdict."""
    question = attempt.question
    _, cells, ended = answer_cells(attempt.answer.split())
    grade, best = grade_path(question, cells, ended), solution(question)
    _draw_walls(ax, question)
    _trail(ax, best, GOLD, 6.5, 0.55)
    good = valid_start(question, cells)
    on_grid = [cell for cell in cells if cell is not None]
    _trail(ax, on_grid[:good], BLUE, 2.2, 1)
    _trail(ax, on_grid[max(0, good - 1) :] if good < len(cells) else [], RED, 2.2, 1)
    thought = [cell for token in attempt.thought.split() if (cell := parse_cell(token)) and cell in question.lattice]
    _draw_search(ax, thought)
    (r0, c0), (r1, c1) = question.origin, question.target
    ax.plot(c0, r0, "o", color=INK, ms=5)
    ax.plot(c1, r1, "s", color=INK, ms=5)
    exact = ended and cells == list(best)
    verdict = "exact" if exact else "optimal" if grade.optimal else f"score {grade.score:.2f}"
    ax.set_title(verdict, fontsize=8, color=INK if grade.optimal else RED, pad=3)


def _draw_walls(ax: Axes, question: Question) -> None:
    rows, cols, passages = question.lattice.rows, question.lattice.cols, question.lattice.passages
    walls = [((-0.5, cols - 0.5), (-0.5, -0.5)), ((-0.5, -0.5), (-0.5, rows - 0.5))]
    for r in range(rows):
        for c in range(cols):
            if not passages[0, r, c]:
                walls.append(((c - 0.5, c + 0.5), (r + 0.5, r + 0.5)))
            if not passages[1, r, c]:
                walls.append(((c + 0.5, c + 0.5), (r - 0.5, r + 0.5)))
    for x, y in walls:
        ax.plot(x, y, color=INK, lw=1.3, solid_capstyle="round")
    ax.set(xlim=(-0.7, cols - 0.3), ylim=(rows - 0.3, -0.7), aspect="equal")


def _trail(ax: Axes, cells: Sequence[Cell], color: str, width: float, alpha: float) -> None:
    ends: Any = {"solid_capstyle": "round", "solid_joinstyle": "round"}
    ax.plot([c for _, c in cells], [r for r, _ in cells], color=color, lw=width, alpha=alpha, **ends)


def _draw_search(ax: Axes, cells: Sequence[Cell]) -> None:
    """A thought's steps between neighbours, from dark to light as it goes on; they drift a little, so that a way back
    lies beside the way there."""
    shade = plt.get_cmap("viridis")
    for i, ((r0, c0), (r1, c1)) in enumerate(pairwise(cells)):
        if abs(r0 - r1) + abs(c0 - c1) == 1:
            done, drift = i / len(cells), 0.36 * (i / len(cells) - 0.5)
            ax.plot([c0 + drift, c1 + drift], [r0 + drift, r1 + drift], color=shade(done), lw=1.1)


def accuracy(report: dict[str, Any], out: Path) -> None:
    """Exact paths by path length, lookahead and maze size, with 95% intervals, beside the random walk."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), width_ratios=[5, 4, 2.5], sharey=True)
        for prefix, color, label in (("", BLUE, "model"), ("baseline_", GREY, "random non-backtracking walk")):
            for ax, kind in zip(axes, ("path_length", "lookahead", "size"), strict=True):
                groups = report.get(f"{prefix}by_{kind}", {})
                groups = merged(groups, ranges_of(groups, POINTS))
                at, lw = (list(groups), 0) if kind == "size" else ([_middle(one) for one in groups], 1.2)
                rates(ax, at, (one["exact"] for one in groups.values()), color, label, lw)
        axes[0].set(xlabel="shortest path (steps)", ylabel="exact paths", ylim=(0, 1.02), title="By path length")
        axes[1].set(xlabel="farthest that must be seen (steps)", title="By lookahead")
        axes[2].set(xlabel="maze size", title="By size")
        axes[2].margins(x=0.3)
        axes[0].legend(frameon=False)
        save(figure, out)


def _middle(numbers: str) -> float:
    """Of a number, or of a range of them."""
    ends = [int(number) for number in numbers.split("-")]
    return (ends[0] + ends[-1]) / 2
