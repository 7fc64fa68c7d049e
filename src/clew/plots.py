"""Figures: the only place that imports matplotlib."""

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from clew.evaluate import Attempt
from clew.files import write_atomically
from clew.mazes.grading import valid_start
from clew.mazes.lattice import Question

if TYPE_CHECKING:
    from clew.study.cells import Result
    from clew.study.report import Allocation, Verdict

matplotlib.use("Agg")

INK, GOLD, BLUE, RED, GREY = "#1b2733", "#d9a21b", "#1f6fb4", "#c8372d", "#9aa5b1"
STYLE: Any = {
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": INK, "text.color": INK,
    "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "font.size": 10, "axes.titlesize": 11,
    "axes.grid": True, "grid.color": "#e3e7ec", "figure.dpi": 130, "savefig.bbox": "tight",
}  # fmt: skip


def _figures(metrics: Path, *names: str) -> list[dict[str, Any]]:
    """The lines of figures that have a number under each of these names; what else stands in a file is passed over."""
    found = []
    for line in metrics.read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        if all(isinstance(values.get(name), (int, float)) for name in ("step", *names)):
            found.append(values)
    return found


def training_curves(metrics: Path, out: Path) -> None:
    """Loss, and the share of held-out mazes solved, against steps."""
    rows, probes = _figures(metrics, "loss"), _figures(metrics, "held_out_exact", "held_out_starts_at_once")
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
        _rates(axes[1], report["baseline_by_size"], GREY, "random non-backtracking walk", numeric=False)
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
    figure.tight_layout()
    picture = BytesIO()
    figure.savefig(picture, format="png")
    plt.close(figure)
    write_atomically(out, picture.getvalue())


def split_curves(metrics: Path, out: Path) -> None:
    """Scores, held-out scores and thought lengths against rounds."""
    rounds = [row for row in _figures(metrics, "score", "thought_tokens") if row["step"] > 0]
    looks = _figures(metrics, "held_out_thought_tokens")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
        axes[0].plot(
            [row["step"] for row in rounds], [row["score"] for row in rounds], color=GREY, lw=1, label="sampled"
        )
        for name, color in (("score", BLUE), ("optimal", GOLD)):
            if held := _figures(metrics, f"held_out_{name}"):
                axes[0].plot([row["step"] for row in held], [row[f"held_out_{name}"] for row in held], color=color,
                             marker="o", ms=3, label=f"held-out {name}")  # fmt: skip
        axes[0].set(xlabel="round", title="Score")
        axes[0].legend(frameon=False)
        axes[1].plot([row["step"] for row in rounds], [row["thought_tokens"] for row in rounds], color=GREY, lw=1)
        axes[1].plot([row["step"] for row in looks], [row["held_out_thought_tokens"] for row in looks], color=BLUE,
                     marker="o", ms=3)  # fmt: skip
        axes[1].set(xlabel="round", title="Thought length (tokens)", ylim=(0, None))
        _save(figure, out)


def tree_of_samples(sample: dict[str, Any], out: Path) -> None:
    """One question's tree: its thoughts with their weights, each with its answers, their scores and weights.

    Gold earns weight, red is pushed away, grey says nothing; a bar is as long as the weight.
    """
    thoughts = sample["thoughts"]
    answers = sum(len(thought["answers"]) for thought in thoughts)
    largest = [max([abs(one["weight"]) for one in many] + [1e-9]) for many in
               (thoughts, [a for thought in thoughts for a in thought["answers"]])]  # fmt: skip
    with plt.rc_context({**STYLE, "axes.grid": False, "font.family": "monospace", "font.size": 7}):
        figure, ax = plt.subplots(figsize=(13, 0.6 + 0.19 * (answers + 0.8 * len(thoughts))))
        ax.axis("off")
        y = 0.0
        ax.text(0, y + 1.4, _clip(sample["prompt"], 190), fontsize=7, color=INK)
        middle = 0.0
        for thought in thoughts:
            height = len(thought["answers"])
            middle = y - (height - 1) / 2
            color = _weight_color(thought["weight"])
            ax.plot([0, 1.5], [0, middle], color=color, lw=1.2)
            ax.text(1.7, middle + 0.1, _clip(thought["text"], 78), color=color, va="center")
            ax.text(1.7, middle - 0.75, f"{thought['tokens']} tokens, weight {thought['weight']:+.2f}", color=color,
                    va="center", fontsize=6)  # fmt: skip
            _bar(ax, 1.7, middle - 1.15, thought["weight"] / largest[0], color)
            for answer in thought["answers"]:
                shade = _weight_color(answer["weight"])
                ax.plot([25, 26], [middle, y], color=shade, lw=1)
                ax.text(26.2, y, f"{answer['score']:.2f}  {answer['weight']:+.2f}  {_clip(answer['text'], 86)}",
                        color=shade, va="center")  # fmt: skip
                _bar(ax, 26.2, y - 0.45, answer["weight"] / largest[1], shade)
                y -= 1
            y -= 0.8
        ax.set(xlim=(-0.5, 52), ylim=(y, 2.2))
        _save(figure, out)


def phase_diagram(found: Sequence["Allocation"], out: Path) -> None:
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
        ax.set(xlim=(-0.5, len(noises) - 0.5), ylim=(-0.5, len(costs) - 0.5), xlabel="noise ratio (answers : thoughts)",
               ylabel="price of a thought (answers)", title="Best number of answers to a thought")  # fmt: skip
        ax.set_xticks(range(len(noises)), [f"{v:g}" for v in noises])
        ax.set_yticks(range(len(costs)), [f"{v:g}" for v in costs])
        _save(figure, out)


def study_curves(panels: Sequence[tuple[str, Sequence["Result"]]], what: str, out: Path) -> None:
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
        _save(figure, out)


def effects(verdicts: Sequence["Verdict"], out: Path) -> None:
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
        _save(figure, out)


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
        _save(figure, out)


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
        _save(figure, out)


def _against(ax: Axes, found: dict[int, float], label: str, ideal: int) -> None:
    """One log-log line, and what it would be if it grew by the power `ideal` of the axis."""
    values = list(found)
    ax.loglog(values, list(found.values()), color=BLUE, marker="o", ms=4)
    ax.loglog(values, [found[values[0]] * (v / values[0]) ** ideal for v in values], color=GREY, ls="--", lw=1)
    ax.set_xticks(values, [str(value) for value in values])
    ax.set_xlabel(label)
    ax.minorticks_off()


def _bar(ax: Axes, x: float, y: float, share: float, color: str) -> None:
    ax.plot([x, x + 3 * abs(share)], [y, y], color=color, lw=2, solid_capstyle="butt")


def _weight_color(weight: float) -> str:
    return "#a87808" if weight > 0 else RED if weight < 0 else GREY


def _clip(text: str, most: int) -> str:
    # What a model wrote is shown, never obeyed: no control characters, no mathtext.
    shown = "".join(c if c.isprintable() else "·" for c in text).replace("$", r"\$")
    return shown if len(shown) <= most else shown[: most - 1] + "…"
