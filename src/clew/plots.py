"""Figures: the only place that imports matplotlib."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from clew.evaluate import Attempt
from clew.mazes.grading import valid_start
from clew.mazes.lattice import Question

matplotlib.use("Agg")

INK, GOLD, BLUE, RED, GREY = "#1b2733", "#d9a21b", "#1f6fb4", "#c8372d", "#9aa5b1"
STYLE: Any = {
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": INK, "text.color": INK,
    "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "font.size": 10, "axes.titlesize": 11,
    "axes.grid": True, "grid.color": "#e3e7ec", "figure.dpi": 130, "savefig.bbox": "tight",
}  # fmt: skip


def training_curves(metrics: Path, out: Path) -> None:
    """Loss, and the share of held-out mazes solved, against steps."""
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    probes = [row for row in rows if "held_out_exact" in row]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2 if probes else 1, figsize=(9 if probes else 4.5, 3.2), squeeze=False)
        loss = axes[0][0]
        loss.plot([row["step"] for row in rows], [row["loss"] for row in rows], color=BLUE, lw=1)
        loss.set(xlabel="step", ylabel="loss per supervised token (nats)", title="Training loss")
        if all(row["loss"] > 0 for row in rows):
            loss.set_yscale("log")
        if probes:
            solved = axes[0][1]
            steps = [row["step"] for row in probes]
            solved.plot(steps, [row["held_out_exact"] for row in probes], color=BLUE, marker="o", ms=3, label="exact")
            solved.plot(steps, [row["held_out_starts_at_once"] for row in probes], color=GREY, lw=1, ls="--",
                        label="starts its path at once")  # fmt: skip
            solved.set(xlabel="step", ylim=(0, 1.02), title="Held-out mazes")
            solved.legend(frameon=False, loc="lower right")
        _save(figure, out)


def accuracy(report: dict[str, Any], out: Path) -> None:
    """Exact paths by path length and by maze size, with 95% intervals, beside the random walk."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), width_ratios=[2, 1])
        lengths = report["by_path_length"]
        _rates(axes[0], lengths, BLUE, "model")
        _rates(axes[0], report["baseline_by_path_length"], GREY, "random non-backtracking walk")
        axes[0].set(xlabel="shortest path (steps)", ylabel="exact paths", ylim=(0, 1.02), title="By path length")
        axes[0].legend(frameon=False)
        _rates(axes[1], report["by_size"], BLUE, "model", numeric=False)
        axes[1].set(xlabel="maze size", ylim=(0, 1.02), title="By size")
        axes[1].margins(x=0.3)
        _save(figure, out)


def _rates(axes: Axes, groups: dict[str, Any], color: str, label: str, numeric: bool = True) -> None:
    at = [int(key) if numeric else key for key in groups]
    rates = [group["exact"] for group in groups.values()]
    spread = [[r["value"] - r["low"] for r in rates], [r["high"] - r["value"] for r in rates]]
    axes.errorbar(at, [r["value"] for r in rates], yerr=spread, color=color, marker="o", ms=4, lw=1.2 if numeric else 0,
                  elinewidth=1, capsize=2, label=label)  # fmt: skip


def maze_sheet(attempts: Sequence[Attempt], out: Path, columns: int = 6, most: int = 24) -> None:
    """A sheet of mazes: a shortest path in gold, the model's in blue, its first wrong step and what follows in red."""
    shown = attempts[:most]
    if not shown:
        return
    rows = -(-len(shown) // columns)
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = plt.subplots(rows, columns, figsize=(1.7 * columns, 1.95 * rows), squeeze=False)
        for ax in axes.flat:
            ax.axis("off")
        for ax, attempt in zip(axes.flat, shown, strict=False):
            draw_attempt(ax, attempt)
        _save(figure, out)


def draw_attempt(ax: Axes, attempt: Attempt) -> None:
    """One maze with the shortest path and the attempt's."""
    question = attempt.item.question
    _draw_walls(ax, question)
    _trail(ax, attempt.solution, GOLD, 6.5, 0.55)
    good = valid_start(question, attempt.cells)
    on_grid = [cell for cell in attempt.cells if cell is not None]
    _trail(ax, on_grid[:good], BLUE, 2.2, 1)
    _trail(ax, on_grid[max(0, good - 1) :] if good < len(attempt.cells) else [], RED, 2.2, 1)
    (r0, c0), (r1, c1) = question.origin, question.target
    ax.plot(c0, r0, "o", color=INK, ms=5)
    ax.plot(c1, r1, "s", color=INK, ms=5)
    verdict = "exact" if attempt.exact else "optimal" if attempt.grade.optimal else f"score {attempt.grade.score:.2f}"
    ax.set_title(verdict, fontsize=8, color=INK if attempt.grade.optimal else RED, pad=3)


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


def _trail(ax: Axes, cells: Sequence[tuple[int, int]], color: str, width: float, alpha: float) -> None:
    ax.plot([c for _, c in cells], [r for r, _ in cells], color=color, lw=width, alpha=alpha,
            solid_capstyle="round", solid_joinstyle="round")  # fmt: skip


def _save(figure: Any, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f".{out.name}.part")
    figure.tight_layout()
    figure.savefig(beside, format="png")
    plt.close(figure)
    beside.replace(out)
