"""Pictures of a study."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from clew.plots import INK, STYLE, save
from clew.runs import intervals
from clew.study.cells import Result
from clew.study.effects import Allocation, Row, Verdict


def phase_diagram(found: Sequence[Allocation], out: Path) -> None:
    """Which number of answers to a thought wins, by noise ratio and price of a thought; faint where it hardly does."""
    noises, costs = ([*dict.fromkeys(one.condition[name] for one in found)] for name in ("noise", "cost"))
    ks = sorted({k for one in found for k in one.grid})
    shades = plt.get_cmap("viridis")([0.4 + 0.6 * i / max(1, len(ks) - 1) for i in range(len(ks))])
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, ax = plt.subplots(figsize=(1.2 + 1.25 * len(noises), 1.2 + 0.95 * len(costs)))
        for one in found:
            x, y = noises.index(one.condition["noise"]), costs.index(one.condition["cost"])
            # The better the lead is known and the more it is worth, the fuller the colour.
            alpha = 0.25 if one.certainty.sign <= 0 else min(1.0, 0.4 + 20 * one.certainty.mean)
            ax.add_patch(Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, color=shades[ks.index(one.best)], alpha=alpha))
            ax.text(x, y + 0.13, f"k = {one.best}", ha="center", va="center", weight="bold")
            ax.text(
                x,
                y - 0.2,
                f"+{100 * one.certainty.mean:.1f}%, plan {one.planned}",
                ha="center",
                va="center",
                fontsize=7,
            )
        ax.set(
            xlim=(-0.5, len(noises) - 0.5),
            ylim=(-0.5, len(costs) - 0.5),
            xlabel="noise ratio (answers : thoughts)",
            ylabel="price of a thought (answers)",
            title="Best number of answers to a thought",
        )
        ax.set_xticks(range(len(noises)), [f"{v:g}" for v in noises])
        ax.set_yticks(range(len(costs)), [f"{v:g}" for v in costs])
        save(figure, out)


def study_curves(panels: Sequence[tuple[str, Sequence[Result]]], what: str, out: Path) -> None:
    """Learning curves of what is measured against the share of the cost spent, with 95% bands; a panel a condition."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(panels), figsize=(3.3 * len(panels) + 1.5, 3.4), sharey=True, squeeze=False)
        shades = plt.get_cmap("tab10")
        for ax, (title, results) in zip(axes[0], panels, strict=True):
            for i, result in enumerate(results):
                curve, error = result.kept.curve, result.kept.curve_error
                spent = [j / (len(curve) - 1) for j in range(len(curve))]
                ax.plot(spent, curve, color=shades(i), lw=1.3, label=result.name)
                band(ax, spent, curve, error, result.kept.runs, shades(i))
            ax.set(title=title, xlabel="share of the cost")
        axes[0][0].set_ylabel(what)
        axes[0][-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        save(figure, out)


def band(ax: Axes, at: Sequence[float], curve: Sequence[float], error: Sequence[float], runs: int, color: Any) -> None:
    """The 95% band of a mean curve, Student's over its runs: none for one run, which does not tell how runs scatter."""
    if runs > 1:
        ax.fill_between(at, *intervals.band(curve, error, runs), color=color, alpha=0.15, lw=0)


def effects(verdicts: Sequence[Verdict], first: int, unit: str, out: Path) -> None:
    """All effects with their intervals: a panel a question, a row a comparison, a mark a condition. One scale for all
    where all are leads; where a positive effect means something else in each question, a scale of its own for each.

    first: the number of the first question. A mark is hollow where its interval holds 0.
    """
    columns = 1 if len(verdicts) < 3 else 2
    lines = -(-len(verdicts) // columns)
    panels = [verdicts[i : i + columns] for i in range(0, len(verdicts), columns)]
    heights = [max(sum(_height(row) for row in one.rows) for one in line) + 0.75 for line in panels]
    kinds = [*dict.fromkeys(mark for one in verdicts for row in one.rows for mark in row.marks)]
    shades = plt.get_cmap("viridis")([0.85 * i / max(1, len(kinds) - 1) for i in range(len(kinds))])
    with plt.rc_context({**STYLE, "axes.grid.axis": "x", "font.size": 8.5, "axes.titlesize": 9.5}):
        size = (6.2 * columns, 0.45 * sum(heights) + 0.9)
        ratios = {"height_ratios": heights}
        leads = not all(one.positive for one in verdicts)
        figure, axes = plt.subplots(lines, columns, figsize=size, sharex=leads, squeeze=False, gridspec_kw=ratios)
        places = axes.flatten()
        for number, (ax, verdict) in enumerate(zip(places, verdicts, strict=False), first):
            asked = fill(f"{number}. {verdict.question.replace('`', '')}", 46)
            ax.set_title(asked, loc="left", weight="bold")
            _panel(ax, verdict, dict(zip(kinds, shades, strict=True)))
        for ax in places[len(verdicts) :]:
            ax.axis("off")
        handles = [
            Line2D([], [], color=shade, marker="o", ms=4, label=kind) for kind, shade in zip(kinds, shades, strict=True)
        ]
        handles += [Line2D([], [], color=INK, marker="o", ms=4, mfc=fc, lw=0, label=said) for fc, said in MARKS]
        figure.legend(
            handles=handles, ncols=len(handles), frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0.01)
        )
        if leads:
            unit = f"the second is ahead  ←   0   →  the first is ahead\n{unit}"
        figure.supxlabel(unit, fontsize=9)
        save(figure, out)


MARKS = ((INK, "the interval excludes 0"), ("white", "it holds 0"))


BAND = "#f3f5f8"


def _height(row: Row) -> float:
    return max(0.8, 0.3 * len(row.effects))


def _panel(ax: Axes, verdict: Verdict, shades: Mapping[str, Any]) -> None:
    top, middles = 0.0, []
    for band, row in enumerate(verdict.rows):
        height = _height(row)
        if band % 2 == 0:
            ax.axhspan(-(top + height), -top, color=BAND, lw=0, zorder=0)
        middles.append(-(top + height / 2))
        step = height / (len(row.effects) + 1)
        for i, effect in enumerate(row.effects, 1):
            y, color = -(top + i * step), shades[row.marks[i - 1]] if row.marks else INK
            ax.plot([100 * effect.low, 100 * effect.high], [y, y], color=color, lw=1.4)
            ax.plot(100 * effect.mean, y, "o", color=color, ms=4, mfc=color if effect.sign else "white")
        top += height
    ax.axvline(0, color=INK, lw=0.9)
    if verdict.positive:
        ax.set_xlabel(f"{verdict.positive} →", loc="right", fontsize=8)
    ax.set_yticks(middles, [row.label for row in verdict.rows])
    ax.tick_params(axis="y", length=0)
    ax.tick_params(labelbottom=True)
    ax.spines["left"].set_visible(False)
    ax.set_ylim(-top, 0)
