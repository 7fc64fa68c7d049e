"""Pictures of a run: its metrics against its steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from clew.plots import BLUE, GOLD, GREY, RED, STYLE, clip, save
from clew.runs.metrics import read_metrics

HELD_OUT = "held_out_"
Rows = list[dict[str, Any]]


def training_curves(metrics: Path, out: Path, shown: Sequence[str] = ()) -> None:
    """The loss, and what validations found, against steps. shown: figures to draw, by default all rates."""
    rows = read_metrics(metrics)
    loss, names = _having(rows, "loss"), _validated(rows, shown)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2 if names else 1, figsize=(9 if names else 4.5, 3.2), squeeze=False)
        _line(axes[0][0], loss, "loss", color=BLUE, lw=1)
        axes[0][0].set(xlabel="step", ylabel="loss per supervised token (nats)", title="Training loss")
        if all(row["loss"] > 0 for row in loss):
            axes[0][0].set_yscale("log")
        if names:
            _held_out(axes[0][1], rows, names)
            axes[0][1].set(xlabel="step", ylim=(0, 1.02), title="Held-out questions")
        save(figure, out)


def split_curves(metrics: Path, out: Path, shown: Sequence[str] = ()) -> None:
    """Scores as sampled and of validations, and thought lengths, against rounds. shown: as for `training_curves`."""
    rows = read_metrics(metrics)
    rounds = [row for row in _having(rows, "score", "thought_tokens") if row["step"] > 0]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
        _line(axes[0], rounds, "score", color=GREY, lw=1, label="sampled")
        _held_out(axes[0], rows, [f"{HELD_OUT}score", *_validated(rows, shown)], "held-out ")
        axes[0].set(xlabel="round", title="Score")
        _line(axes[1], rounds, "thought_tokens", color=GREY, lw=1)
        looked = f"{HELD_OUT}thought_tokens"
        _line(axes[1], _having(rows, looked), looked, color=BLUE, marker="o", ms=3)
        axes[1].set(xlabel="round", title="Thought length (tokens)", ylim=(0, None))
        save(figure, out)


def _having(rows: Rows, *names: str) -> Rows:
    """The lines that have a number under each of these names; what else stands in a file is passed over."""
    return [row for row in rows if all(_is_number(row.get(name)) for name in ("step", *names))]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _validated(rows: Rows, shown: Sequence[str]) -> list[str]:
    """Names of the wanted figures of validations, as far as they never leave 0 to 1."""
    there = dict.fromkeys(name for row in rows for name in row if name.startswith(HELD_OUT))
    names = [name for name in there if not shown or name.removeprefix(HELD_OUT) in shown]
    values = {name: [row[name] for row in _having(rows, name)] for name in names}
    return [name for name in names if values[name] and all(0 <= value <= 1 for value in values[name])]


def _held_out(axes: Axes, rows: Rows, names: list[str], said: str = "") -> None:
    colors = [BLUE, GOLD, RED, GREY, *plt.get_cmap("tab20").colors]  # type: ignore[attr-defined]
    for i, name in enumerate(dict.fromkeys(names)):
        label = clip(said + name.removeprefix(HELD_OUT).replace("_", " "), 40)
        color = colors[i % len(colors)]
        _line(axes, _having(rows, name), name, color=color, marker="o", ms=3, label=label)
    axes.legend(frameon=False, fontsize=8 if len(names) > 4 else None)


def _line(axes: Axes, rows: Rows, name: str, **look: Any) -> None:
    axes.plot([row["step"] for row in rows], [row[name] for row in rows], **look)
