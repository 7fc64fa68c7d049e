"""Pictures of a study."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

from clew.plots import BLUE, GOLD, GREY, INK, STYLE, save
from clew.study.cells import Result
from clew.study.effects import Allocation, Verdict


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
            alpha = 0.25 if one.certainty.low <= 0 else min(1.0, 0.4 + 20 * one.certainty.mean)
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
                low, high = ([c + sign * 1.96 * e for c, e in zip(curve, error, strict=True)] for sign in (-1, 1))
                ax.fill_between(spent, low, high, color=shades(i), alpha=0.2, lw=0)
            ax.set(title=title, xlabel="share of the cost")
        axes[0][0].set_ylabel(what)
        axes[0][-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        save(figure, out)


def effects(verdicts: Sequence[Verdict], out: Path) -> None:
    """All effects with their 95% intervals, question by question; grey where the interval holds 0."""
    rows = [(number, effect) for number, verdict in enumerate(verdicts, 1) for effect in verdict.effects]
    with plt.rc_context({**STYLE, "axes.grid": False, "font.size": 7}):
        figure, ax = plt.subplots(figsize=(7, 0.6 + 0.16 * len(rows)))
        ax.axvline(0, color=INK, lw=0.8)
        for y, (_, effect) in enumerate(rows):
            color = (GREY, GOLD, BLUE)[effect.sign]
            ax.plot([100 * effect.low, 100 * effect.high], [-y, -y], color=color, lw=1.5)
            ax.plot(100 * effect.mean, -y, "o", color=color, ms=3)
        labels = [f"{number}. {effect.a} vs. {effect.b} ({effect.condition})" for number, effect in rows]
        ax.set_yticks([-y for y in range(len(rows))], labels)
        ax.set(xlabel="lead, in percent of the attainable gain", ylim=(-len(rows), 1))
        save(figure, out)
