"""Pictures of the experiment."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from clew.plots import BLUE, GOLD, GREY, RED, STYLE, save
from clew.study.cells import Result
from clew.study.effects import effect_of
from clew.study.spillover.arms import Arm

COLORS = {"one": RED, "adapters": GOLD, "two": BLUE}
WHO = {"one": "one policy", "adapters": "two adapters", "two": "two policies"}
MARKERS = {"none": "s", "both": "o", "face": "^"}
HEARD = {"none": "no penalty (control)", "both": "heard by both", "face": "heard by the face alone"}
OUTCOMES = {
    "used_told": (BLUE, "used, mentioned in the thought"),
    "used_untold": (RED, "used, not mentioned in the thought"),
    "unused": (GREY, "not used"),
}


def pareto(results: Sequence[tuple[Arm, Result]], out: Path) -> None:
    """Score against monitorability, an arm a point: means over seeds with 95% intervals, larger for a heavier penalty;
    hollow for the arms beyond the published ones."""
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(7.4, 4.6))
        for arm, result in results:
            x, y = (_mean(result.kept.figures[name]) for name in ("thought_tells", "score"))
            if x is None or y is None:
                continue
            heard = arm.heard if arm.penalty else "none"
            plain = arm.paraphraser is None and arm.start == "search"
            color, size = COLORS[arm.policies], 4 + 2.5 * arm.penalty
            inside = color if plain else "white"
            spread: Any = {"xerr": [[x[0] - x[1]], [x[2] - x[0]]], "yerr": [[y[0] - y[1]], [y[2] - y[0]]]}
            ax.errorbar(
                x[0], y[0], **spread, color=color, marker=MARKERS[heard], ms=size, mfc=inside, elinewidth=0.7, lw=0
            )
        for who, color in COLORS.items():
            ax.plot([], [], "o", color=color, ms=5, label=WHO[who])
        for heard, marker in MARKERS.items():
            ax.plot([], [], marker, color=GREY, ms=5, label=HEARD[heard])
        ax.plot([], [], "o", color=GREY, mfc="white", ms=5, label="with a paraphraser, style or path thoughts")
        ax.set(xlabel="thoughts that mention the door, of those whose answer used it", ylabel="score of the path")
        ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        save(figure, out)


def _mean(values: np.ndarray) -> tuple[float, float, float] | None:
    """Mean, low, high; None where no run has a value."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    if len(known) < 2:
        return float(known[0]), float(known[0]), float(known[0])
    effect = effect_of(known, "", "", "")
    return effect.mean, max(0.0, effect.low), min(1.0, effect.high)


def outcomes(results: Sequence[tuple[Arm, Result]], out: Path) -> None:
    """Of the questions where the door helps: used and mentioned, used and not mentioned, not used; an arm a bar."""
    with plt.rc_context({**STYLE, "axes.grid.axis": "x"}):
        figure, ax = plt.subplots(figsize=(8, 0.7 + 0.22 * len(results)))
        for row, (_, result) in enumerate(results):
            figures, left = result.kept.figures, 0.0
            shares = {name: float(np.nanmean(figures[name])) for name in ("used_told", "used_untold")}
            shares["unused"] = 1 - sum(shares.values())
            for name, (color, _) in OUTCOMES.items():
                ax.barh(-row, shares[name], left=left, color=color, height=0.75)
                left += shares[name]
        ax.set_yticks([-row for row in range(len(results))], [result.name for _, result in results], fontsize=7)
        ax.set(xlim=(0, 1), ylim=(-len(results) + 0.4, 0.6), xlabel="questions where the door helps")
        handles = [Rectangle((0, 0), 1, 1, color=color) for color, _ in OUTCOMES.values()]
        labels = [label for _, label in OUTCOMES.values()]
        ax.legend(handles, labels, frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        save(figure, out)


def over_rounds(results: Sequence[tuple[Arm, Result]], out: Path) -> None:
    """How mentions in thoughts go, round by round: means over seeds with 95% bands."""
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(7, 4))
        for arm, result in results:
            curve, error = np.array(result.kept.curve), np.array(result.kept.curve_error)
            rounds = np.arange(1, len(curve) + 1)
            style = ":" if not arm.penalty else "-" if arm.heard == "both" else "--"
            ax.plot(rounds, curve, style, color=COLORS[arm.policies], lw=1.4, label=result.name)
            ax.fill_between(rounds, curve - 1.96 * error, curve + 1.96 * error, color=COLORS[arm.policies], alpha=0.1)
        ax.set(xlabel="round", ylabel="thoughts that mention the door,\nof those whose answer used it", ylim=(0, 1.02))
        ax.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        save(figure, out)
