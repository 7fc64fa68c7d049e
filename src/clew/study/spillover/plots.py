"""Pictures of the experiment."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from clew.plots import BLUE, GOLD, GREY, RED, STYLE, save
from clew.study.cells import Result
from clew.study.effects import effect_of
from clew.study.plots import band
from clew.study.spillover.arms import WHO, Arm

COLORS = {"one": RED, "adapters": GOLD, "two": BLUE}
MARKERS = {"none": "s", "both": "o", "face": "^"}
HEARD = {"none": "no penalty (control)", "both": "heard by both", "face": "heard by the face alone"}
OUTCOMES = {
    "used_told": (BLUE, "used, mentioned in the thought"),
    "used_untold": (RED, "used, not mentioned in the thought"),
    "unused": (GREY, "not used"),
}


def pareto(results: Sequence[tuple[Arm, Result]], starts: Mapping[str, Result], out: Path) -> None:
    """Score against monitorability, an arm a point: means over seeds with 95% intervals, larger for a heavier penalty;
    the published remedies and adapters on the left, what is asked beyond them, if anything, on the right.

    starts: the warm starts by name. An arm's score is less that of the model that it began with, seed by seed: seeds
    differ in that one by more than arms do in what became of it. Arms whose start is not there are left out."""
    drawn = [(arm, result, _beyond(arm)) for arm, result in results if arm.start in starts]
    panels = [False, True] if any(beyond for _, _, beyond in drawn) else [False]
    with plt.rc_context(STYLE):
        size = (2 + 4.5 * len(panels), 4.6)
        figure, axes = plt.subplots(1, len(panels), figsize=size, sharex=True, sharey=True, squeeze=False)
        for ax, asked in zip(axes[0], panels, strict=True):
            ax.axhline(0, color=GREY, lw=0.9)
            for arm, result, beyond in drawn:
                if bool(beyond) == asked:
                    _point(ax, arm, result, starts[arm.start], beyond if arm.penalty else "")
        axes[0][0].set(ylabel="score of the path, less that of the warm start", title="remedies")
        if len(panels) > 1:
            axes[0][1].set(title="with a paraphraser, another style,\npath thoughts, others' rates")
        figure.supxlabel("thoughts that mention the door, of those whose answer used it", fontsize=10)
        for who, color in COLORS.items():
            axes[0][-1].plot([], [], "o", color=color, ms=5, label=WHO[who])
        for heard, marker in MARKERS.items():
            axes[0][-1].plot([], [], marker, color=GREY, ms=5, label=HEARD[heard])
        axes[0][-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        save(figure, out)


def _beyond(arm: Arm) -> str:
    """What an arm has beyond the remedies, in a word or two."""
    style = {"search": "", "own style": "own style", "path": "path"}[arm.start] or ("rate" if arm.rate_of else "")
    return f"{arm.paraphraser} {arm.paraphrase}" if arm.paraphraser else style


def _point(ax: Axes, arm: Arm, result: Result, start: Result, said: str) -> None:
    """An arm: its means with their intervals, and a word beside it. Nothing where no run has a value."""
    figures = result.kept.figures
    x, y = _mean(figures["thought_tells"], 0.0), _mean(figures["score"] - start.kept.figures["score"], -1.0)
    if x is None or y is None:
        return
    color, marker = COLORS[arm.policies], MARKERS[arm.heard if arm.penalty else "none"]
    spread: Any = {"xerr": [[x[0] - x[1]], [x[2] - x[0]]], "yerr": [[y[0] - y[1]], [y[2] - y[0]]]}
    ax.errorbar(x[0], y[0], **spread, color=color, alpha=0.35, elinewidth=0.8, lw=0)
    ax.plot(x[0], y[0], marker, color=color, ms=4 + 2.5 * arm.penalty, mec="white", mew=0.5)
    ax.annotate(said, (x[0], y[0]), (4, 4), textcoords="offset points", fontsize=6.5, color=color)


def _mean(values: np.ndarray, least: float) -> tuple[float, float, float] | None:
    """Mean, low, high, cut at the least value that there can be and at 1; None where no run has a value."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    if len(known) < 2:
        return float(known[0]), float(known[0]), float(known[0])
    effect = effect_of(known, "", "", "")
    return effect.mean, max(least, effect.low), min(1.0, effect.high)


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
    """How mentions in thoughts go, round by round: means over seeds with 95% bands, none where there is one seed."""
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(7, 4))
        for arm, result in results:
            curve, rounds = result.kept.curve, range(1, len(result.kept.curve) + 1)
            style = ":" if not arm.penalty else "-" if arm.heard == "both" else "--"
            ax.plot(rounds, curve, style, color=COLORS[arm.policies], lw=1.4, label=result.name)
            band(ax, rounds, curve, result.kept.curve_error, result.kept.runs, COLORS[arm.policies])
        ax.set(xlabel="round", ylabel="thoughts that mention the door,\nof those whose answer used it", ylim=(0, 1.02))
        ax.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        save(figure, out)
