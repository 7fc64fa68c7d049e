"""A picture of a rollout, from its record (the schema stands in `runs.rollouts`)."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from clew.plots import GREY, INK, RED, STYLE, clip, save

ANSWERS, THOUGHTS = 32, 12  # most that are drawn, of a thought and of a question


def tree_of_rollout(record: dict[str, Any], out: Path) -> None:
    """One question's tree: its thoughts with their weights, each with its answers, their scores and weights.

    Gold earns weight, red is pushed away, grey says nothing; a bar is as long as the weight. Only the first 12 thoughts
    and the first 32 answers of each are drawn.
    """
    thoughts = [{**thought, "answers": thought["answers"][:ANSWERS]} for thought in record["thoughts"][:THOUGHTS]]
    answers = [answer for thought in thoughts for answer in thought["answers"]]
    per_thought, per_answer = (max([abs(_weight(one)) for one in many] + [1e-9]) for many in (thoughts, answers))
    with plt.rc_context({**STYLE, "axes.grid": False, "font.family": "monospace", "font.size": 7}):
        figure, ax = plt.subplots(figsize=(13, 0.6 + 0.19 * (len(answers) + 0.8 * len(thoughts))))
        ax.axis("off")
        y = 0.0
        ax.text(0, y + 1.4, clip(record["prompt"], 190), fontsize=7, color=INK)
        for thought in thoughts:
            middle = y - (len(thought["answers"]) - 1) / 2
            _thought(ax, thought, middle, per_thought)
            for answer in thought["answers"]:
                color = _color(answer)
                score = "-" if answer["score"] is None else f"{answer['score']:.2f}"
                ax.plot([25, 26], [middle, y], color=color, lw=1)
                told = f"{score}  {_weight(answer):+.2f}  {clip(answer['text'], 86)}"
                ax.text(26.2, y, told, color=color, va="center")
                _bar(ax, 26.2, y - 0.45, _weight(answer) / per_answer, color)
                y -= 1
            y -= 0.8
        ax.set(xlim=(-0.5, 52), ylim=(y, 2.2))
        save(figure, out)


def _thought(ax: Axes, thought: dict[str, Any], middle: float, largest: float) -> None:
    color = _color(thought)
    ax.plot([0, 1.5], [0, middle], color=color, lw=1.2)
    ax.text(1.7, middle + 0.1, clip(thought["text"], 78), color=color, va="center")
    told = f"{len(thought['tokens'])} tokens, weight {_weight(thought):+.2f}"
    ax.text(1.7, middle - 0.75, told, color=color, va="center", fontsize=6)
    _bar(ax, 1.7, middle - 1.15, _weight(thought) / largest, color)


def _bar(ax: Axes, x: float, y: float, share: float, color: str) -> None:
    ax.plot([x, x + 3 * abs(share)], [y, y], color=color, lw=2, solid_capstyle="butt")


def _weight(one: dict[str, Any]) -> float:
    return one["weight"] or 0.0


def _color(one: dict[str, Any]) -> str:
    weight = _weight(one)
    return "#a87808" if weight > 0 else RED if weight < 0 else GREY
