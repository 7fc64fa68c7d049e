"""What all figures share: style, colours, error bars, text that is shown and never obeyed, pictures written whole."""

from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from clew.files import write_atomically

matplotlib.use("Agg")

INK, GOLD, BLUE, RED, GREY = "#1b2733", "#d9a21b", "#1f6fb4", "#c8372d", "#9aa5b1"
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.grid": True,
    "grid.color": "#e3e7ec",
    "figure.dpi": 130,
    "savefig.bbox": "tight",
}


def save(figure: Any, out: Path, tight: bool = True) -> None:
    """Writes a figure as PNG, whole or not at all, and closes it. tight: room is made for what stands around its axes;
    False for one that has made its own."""
    if tight:
        figure.tight_layout()
    picture = BytesIO()
    figure.savefig(picture, format="png")
    plt.close(figure)
    write_atomically(out, picture.getvalue())


def rates(
    axes: Axes, at: Iterable[Any], figures: Iterable[Mapping[str, float]], color: str, label: str, lw: float
) -> None:
    """Figures, of {value, low, high} each, with their intervals against what they belong to."""
    figures = list(figures)
    values = [one["value"] for one in figures]
    spread = [[one["value"] - one["low"] for one in figures], [one["high"] - one["value"] for one in figures]]
    marks: Any = {"marker": "o", "ms": 4, "elinewidth": 1, "capsize": 2}
    axes.errorbar(list(at), values, yerr=spread, color=color, lw=lw, label=label, **marks)


def clip(text: str, most: int) -> str:
    """At most so many characters of a text, without control characters and without mathtext."""
    shown = "".join(c if c.isprintable() else "·" for c in text[: most + 1])
    shown = shown if len(shown) <= most else shown[: most - 1] + "…"
    return shown.replace("$", r"\$")
