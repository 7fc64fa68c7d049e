"""Pictures of the benches."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from clew.plots import BLUE, GOLD, GREY, INK, RED, STYLE, rates, save
from clew.runs.intervals import merged, ranges_of

STYLES = ("-", "--")  # of equal steps and of equal time


def scaling(costs: dict[str, dict[int, tuple[float, float]]], workers: dict[int, float], out: Path) -> None:
    """Seconds and KiB a supervised token against each axis, and seconds a question against workers, log-log; dashed,
    the ideal: a cost that does not grow, and one that workers share."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, len(costs) + 1, figsize=(3.1 * len(costs) + 3.1, 5.4), sharey="row")
        for row, what in enumerate(("seconds a supervised token", "KiB a supervised token")):
            for ax, (axis, found) in zip(axes[row], costs.items(), strict=False):
                _against(ax, {value: both[row] for value, both in found.items()}, axis if row else "", ideal=0)
            axes[row][0].set_ylabel(what)
        for ax in axes[:, -1]:
            ax.remove()
        _against(figure.add_subplot(2, len(costs) + 1, len(costs) + 1), workers, "workers", ideal=-1)
        figure.axes[-1].set_ylabel("seconds a tokenized question")
        save(figure, out)


def learning(results: dict[str, dict[int, dict[float, dict[str, float]]]], levels: Sequence[float], out: Path) -> None:
    """Exact held-out paths against minutes of training: by loop, seed and minutes; a line a seed, a colour a loop."""
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(6.4, 3.8))
        for (name, runs), color in zip(results.items(), (BLUE, GOLD, GREY, RED), strict=False):
            for i, looks in enumerate(runs.values()):
                exact = [found["exact"] for found in looks.values()]
                ax.plot(list(looks), exact, color=color, marker="o", ms=3, lw=1.2, label="" if i else name)
        for level in levels:
            ax.axhline(level, color=INK, ls="--", lw=0.8)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set(xlabel="minutes of training", ylabel="held-out 4x4 paths, exact", ylim=(0, 1.02))
        ax.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(1, 0))
        save(figure, out)


def depth(sizes: Sequence[dict[str, Any]], out: Path) -> None:
    """Exact held-out paths, a row a size and a colour a depth: against CPU minutes, a line a run, those of equal steps
    solid and those of equal time dashed; and by lookahead in either set, a mean over seeds in a band from the lowest
    to the highest, beside random walks."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(len(sizes), 3, figsize=(11, 3.3 * len(sizes)), sharey=True, squeeze=False)
        for one, (over_time, *over_lookahead) in zip(sizes, axes, strict=True):
            names = list(next(iter(one["sets"].values())))
            colors = dict(zip(names, plt.get_cmap("viridis")(np.linspace(0, 0.8, max(2, len(names)))), strict=False))
            for ax, (kind, models), style in zip(over_lookahead, one["sets"].items(), STYLES, strict=True):
                for name, runs in models.items():
                    for run in runs:
                        over_time.plot(*zip(*run["curve"], strict=True), color=colors[name], lw=1, ls=style)
                        over_time.plot(*run["curve"][-1], color=colors[name], marker="o", ms=4)
                    _by_lookahead(ax, runs, "solved", color=colors[name], label=name)
                _by_lookahead(ax, [run for runs in models.values() for run in runs], "walked", color=GREY, ls=":")
                ax.set(xlabel="lookahead", title=f"{one['name']}, {kind}")
            over_time.set(
                xlabel="CPU minutes", ylabel="held-out paths, exact", ylim=(0, 1.02), title=f"{one['name']}, on the way"
            )
            lines = [Line2D([], [], color=color, label=name) for name, color in colors.items()]
            lines += [
                Line2D([], [], color=INK, ls=ls, label=kind) for kind, ls in zip(one["sets"], STYLES, strict=True)
            ]
            lines.append(Line2D([], [], color=GREY, ls=":", label="random walk"))
            over_lookahead[-1].legend(handles=lines, frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(1, 0))
        save(figure, out)


def _by_lookahead(ax: Axes, runs: Sequence[dict[str, Any]], what: str, **look: Any) -> None:
    """The share in each group of lookaheads that has mazes, mean and range over runs."""
    if not runs:
        return
    groups = [name for name, asked in runs[0]["asked"].items() if asked]
    share_RG = np.array([[run[what][name] / run["asked"][name] for name in groups] for run in runs])
    ax.plot(groups, share_RG.mean(0), marker="o", ms=3, **look)
    ax.fill_between(groups, share_RG.min(0), share_RG.max(0), color=look["color"], alpha=0.15, lw=0)


def scores(results: dict[str, list[dict[str, float]]], out: Path) -> None:
    """Scores of rounds, a mean over five, against seconds since the first began."""
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(5.6, 3.4))
        for (name, rounds), color in zip(results.items(), (GREY, BLUE, GOLD), strict=False):
            seconds = np.cumsum([one["seconds"] for one in rounds])
            score = [one["score"] for one in rounds]
            ax.plot(seconds, score, ".", color=color, alpha=0.4)
            smooth = [np.mean(score[max(0, i - 4) : i + 1]) for i in range(len(score))]
            ax.plot(seconds, smooth, color=color, lw=1.6, label=name)
        ax.set(xlabel="seconds of one thread", ylabel="score of a round", ylim=(0, 1.02))
        ax.legend(frameon=False, fontsize=8)
        save(figure, out)


def zoo(cards: dict[str, dict[str, Any]], out: Path, points: int = 24, fewest: int = 20) -> None:
    """Held-out mazes solved by a shortest path against lookahead, with 95% intervals, beside random walks (dashed), a
    panel for the models of each largest size; where fewer than `fewest` mazes need a lookahead, nothing is shown."""
    panels: dict[int, list[str]] = {}
    for name, card in cards.items():
        panels.setdefault(max(size if isinstance(size, int) else max(size) for size in card["sizes"]), []).append(name)
    with plt.rc_context(STYLE):
        rows = -(-len(panels) // 2)
        figure, axes = plt.subplots(rows, 2, figsize=(12, 3.8 * rows), sharey=True, squeeze=False)
        for ax, (size, names) in zip(axes.flat, sorted(panels.items()), strict=False):
            colors = plt.get_cmap("turbo")(np.linspace(0.05, 0.95, max(2, len(names))))
            for name, color in zip(names, colors, strict=False):
                _zoo_model(ax, name, cards[name], color, points, fewest)
            ax.plot([], [], color=GREY, lw=0.8, ls="--", label="random walk on the same mazes")
            ax.set(title=f"up to {size}x{size}", ylim=(0, 1.02))
            ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
            ax.locator_params(axis="x", integer=True)
        for ax in axes.flat[len(panels) :]:
            ax.set_visible(False)
        for ax in axes[-1]:
            ax.set_xlabel("lookahead: farthest that must be seen (steps)")
        for ax in axes[:, 0]:
            ax.set_ylabel("held-out mazes solved\nby a shortest path")
        save(figure, out)


def _zoo_model(ax: Axes, name: str, card: dict[str, Any], color: Any, points: int, fewest: int) -> None:
    """One model's line, and that of a random walk on its mazes."""
    for prefix, label, lw in (("", f"{name} ({card['mazes']})", 1.2), ("baseline_", "", 0.8)):
        groups = card.get(f"{prefix}by_lookahead", {})
        groups = merged(groups, ranges_of(groups, points))
        groups = {one: figures for one, figures in groups.items() if figures["questions"] >= fewest}
        at = [np.mean([int(end) for end in one.split("-")]) for one in groups]
        solved = [one["optimal"] for one in groups.values()]
        if prefix:
            ax.plot(at, [one["value"] for one in solved], color=color, lw=lw, ls="--", alpha=0.6)
        else:
            rates(ax, at, solved, color, label, lw)


def zoo_curves(cards: dict[str, dict[str, Any]], out: Path) -> None:
    """What each model solved of held-out mazes of all its sizes, as it was trained, against minutes on its machine."""
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(6, 4.4))
        colors = plt.get_cmap("turbo")(np.linspace(0.05, 0.95, max(2, len(cards))))
        for (name, card), color in zip(cards.items(), colors, strict=False):
            made = card["trained"]
            _, minutes, solved = zip(*made["curve"], strict=True)
            label = f"{name} ({card['mazes']}), {made['machine']}"
            label += f", from {made['begun_from']}" if made["begun_from"] else ""
            ax.plot(minutes, solved, color=color, marker="o", ms=3, lw=1.2, label=label)
        ax.set(xlabel="minutes", ylabel="held-out mazes solved (validations)", ylim=(0, 1.02))
        ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.18))
        save(figure, out)


def _against(ax: Axes, found: dict[int, float], label: str, ideal: int) -> None:
    """One log-log line, and what it would be if it grew by the power `ideal` of the axis."""
    values = list(found)
    ax.loglog(values, list(found.values()), color=BLUE, marker="o", ms=4)
    ax.loglog(values, [found[values[0]] * (v / values[0]) ** ideal for v in values], color=GREY, ls="--", lw=1)
    ax.set_xticks(values, [str(value) for value in values])
    ax.set_xlabel(label)
    ax.minorticks_off()
