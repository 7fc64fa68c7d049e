"""The picture of an audit."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from clew.plots import BLUE, GOLD, GREY, INK, RED, STYLE, clip, save
from clew.train.audit.audit import label

Report = Mapping[str, Any]
Row = tuple[str, Report]
"""a name, and a figure {value, low, high}"""
TITLES = {
    "nats": "its answer is less likely\nby (nats)",
    "right_nats": "a right answer is less\nlikely by (nats)",
    "changed": "greedy answers\nthat change",
    "score": "score of the greedy\nanswer falls by",
}
COLORS = {"nats": BLUE, "right_nats": GOLD, "changed": INK, "score": RED}


def draw(report: Report, out: Path) -> None:
    """Every figure with its interval: above, what changes to the thought do, on one scale a column; below, the rest."""
    measures = report["measures"]
    effects = [
        (clip(label(name, condition), 34), figures)
        for name, found in measures.items()
        for condition, figures in found.items()
        if "changed" in figures and (condition != "0%" or "necessity" not in measures)  # which is the same
    ]
    below = [panel for name, panel in PANELS.items() if name in measures]
    heights = [0.5 + 0.34 * len(effects)] * bool(effects) + [2.6] * bool(below)
    if not heights:
        return
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(12, sum(heights) + 1.4))
        grid = figure.add_gridspec(len(heights), 1, height_ratios=heights, hspace=0.45)
        if effects:
            _effects(figure, grid[0], effects)
        if below:
            places = grid[-1].subgridspec(1, len(below), wspace=1.05)
            for column, panel in enumerate(below):
                panel(figure.add_subplot(places[column]), report)
        counts = f"{report['questions']} held-out questions, {report['thoughts']} thoughts each; 95% intervals"
        figure.suptitle(f"What the thoughts do: {counts}", fontsize=11)
        save(figure, out, tight=False)  # each row has as many columns as it needs


def _effects(figure: Any, place: Any, effects: Sequence[Row]) -> None:
    """A row a change, a column a figure."""
    names = [name for name in TITLES if any(name in figures for _, figures in effects)]
    places, first = place.subgridspec(1, len(names), wspace=0.12), None
    for column, name in enumerate(names):
        axes = figure.add_subplot(places[column], sharey=first)
        first = first or axes
        _dots(axes, [(said, figures.get(name)) for said, figures in effects], COLORS[name])
        axes.set_title(TITLES[name], fontsize=9)
        if name == "changed":
            _in_percent(axes)
        axes.tick_params(labelleft=column == 0)


def _dots(axes: Axes, rows: Sequence[tuple[str, Report | None]], color: str) -> None:
    """Figures with their intervals beside their names, the first on top; 0 is marked."""
    for at, (_, one) in enumerate(rows):
        if one is not None:
            spread = [[one["value"] - one["low"]], [one["high"] - one["value"]]]
            axes.errorbar([one["value"]], [at], xerr=spread, color=color, marker="o", ms=4, elinewidth=1.2, capsize=2)
    axes.axvline(0, color=GREY, lw=0.9)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


def _in_percent(axes: Axes) -> None:
    axes.set_xlim(-0.03, 1.03)
    axes.set_xticks(np.linspace(0, 1, 3), ["0%", "50%", "100%"])


def _information(axes: Axes, report: Report) -> None:
    own = report["measures"]["mutual_information"][""]
    _dots(axes, [("at least", own.get("at_least")), ("at most", own.get("at_most"))], BLUE)
    axes.axvline(float(np.log(report["thoughts"])), color=GOLD, lw=1, ls="--", label="log n")
    axes.legend(frameon=False, fontsize=8)
    axes.set_title("mutual information of thought\nand answer (nats)", fontsize=9)


def _reader(axes: Axes, report: Report) -> None:
    own = report["measures"]["fresh_reader"][""]
    names = {"gap": "on these\nthoughts", "own_gap": "on thoughts of its\nown shoggoth", "excess": "difference"}
    _dots(axes, [(said, own[name]) for name, said in names.items() if name in own], RED)
    axes.set_title("the trained face's score less\na stranger's", fontsize=9)


def _legality(axes: Axes, report: Report) -> None:
    own = report["measures"]["legality"][""]
    names = {
        "true_steps": "steps that\nare true",
        "finds": "thoughts that\nfind an answer",
        "follows": "answers that\nare theirs",
    }
    _dots(axes, [(said, own.get(name)) for name, said in names.items()], INK)
    _in_percent(axes)
    axes.set_title("truth of the thoughts", fontsize=9)


def _leakage(axes: Axes, report: Report) -> None:
    found = report["measures"]["leakage"]
    rows = [
        (f"{clip(name.split(':')[-1], 18)}\nin {side}", one.get(side)) for name, one in found.items() for side in SIDES
    ]
    _dots(axes, rows, GOLD)
    axes.set_title("what monitors see", fontsize=9)


SIDES = ("thoughts", "answers")
PANELS: dict[str, Callable[[Axes, Report], None]] = {
    "mutual_information": _information,
    "fresh_reader": _reader,
    "legality": _legality,
    "leakage": _leakage,
}
