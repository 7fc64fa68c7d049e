"""Pictures of a reading, one a part."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from clew.plots import BLUE, GOLD, GREY, INK, RED, STYLE, save
from clew.read.effects import SHOWN
from clew.read.probes import furthest
from clew.read.reading import Reading

Rows = list[dict[str, Any]]


def draw(reading: Reading, folder: Path) -> None:
    """Writes residual.png, heads.png, attribution.png, probes.png, … for the parts that were read."""
    rows = {name: table.to_pylist() for name, table in reading.tables.items()}
    with plt.rc_context(STYLE | {"axes.grid": False}):
        for name, (needs, picture) in PICTURES.items():
            if all(one in rows for one in needs):
                save(picture(rows), folder / f"{name}.png")


def _residual(rows: dict[str, Rows]) -> Any:
    """Effects of the stream by layer and place, beside those of heads."""
    mine = rows["residual"]
    shown = [
        place for place in _of(mine, "place") if any(abs(r["effect"]) >= SHOWN for r in mine if r["place"] == place)
    ]
    layers = _of(mine, "layer")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=[max(2, len(shown)), 3])
    values = [[_one(mine, layer=layer, place=place)["effect"] for place in shown] for layer in layers]
    _heat(axes[0], values, shown, layers, "stream into a layer, by place")
    mine = [row for row in rows["heads"] if row["direction"] == "denoising"]
    numbers = _of(mine, "head")
    values = [[_one(mine, layer=layer, head=head)["effect"] for head in numbers] for layer in layers]
    _heat(axes[1], values, numbers, layers, "heads")
    axes[0].set_ylabel("layer")
    figure.suptitle("Denoising effect at forks: 0, as the other target; 1, as this one")
    return figure


def _attention(rows: dict[str, Rows]) -> Any:
    """Attention by head and group, and each head's adjacency score."""
    mine = rows["attention"]
    groups = [group for group in _of(mine, "group") if group != "adjacency"]
    heads = sorted({(row["layer"], row["head"]) for row in mine})
    figure, axes = plt.subplots(1, 2, figsize=(9, 1.6 + 0.26 * len(heads)), sharey=True, width_ratios=[2, 1])
    values = [[_one(mine, layer=at, head=head, group=group)["mass"] for group in groups] for at, head in heads]
    _heat(axes[0], values, groups, [f"{layer}.{head}" for layer, head in heads], "share of a path cell's attention")
    axes[0].set_ylabel("layer.head")
    scores = [_one(mine, layer=layer, head=head, group="adjacency") for layer, head in heads]
    _bars(axes[1], scores, "mass", [BLUE] * len(scores))
    axes[1].set_title("a token of open less of\nwalled neighbours")
    return figure


def _attribution(rows: dict[str, Rows]) -> Any:
    """Direct logit attribution by component and task."""
    mine = [row for row in rows["attribution"] if row["component"] != "all"]
    tasks = _of(mine, "task")
    parts = list(dict.fromkeys((row["component"], row["layer"], row["head"]) for row in mine))
    keyed = {(row["task"], row["component"], row["layer"], row["head"]): row["logit"] for row in mine}
    figure, axes = plt.subplots(figsize=(2 + 0.42 * len(parts), 3.4))
    names = [" ".join(str(part) for part in one if part is not None) for one in parts]
    _heat(axes, [[keyed[task, *part] for part in parts] for task in tasks], names, tasks, "logit of the right token")
    return figure


def _probes(rows: dict[str, Rows]) -> Any:
    """Macro-F1 by layer, of each label where its probe is furthest above its best control."""
    mine = [row for row in rows["probes"] if not row["sanity"]]
    labels = _of(mine, "label")
    figure, axes = plt.subplots(1, len(labels), figsize=(2.4 * len(labels), 2.8), sharey=True, squeeze=False)
    for axis, label in zip(axes[0], labels, strict=True):
        best, _ = furthest([row for row in mine if row["label"] == label])
        at = [row for row in mine if all(row[k] == best[k] for k in ("label", "form", "site", "place"))]
        colors = {"model": BLUE, "embeddings": GOLD, "random": RED, "shuffled": GREY, "retargeted": INK}
        for control, color in colors.items():
            some = sorted((row for row in at if row["control"] == control), key=lambda row: row["layer"])
            if some:
                _line(axis, some, "layer", "macro_f1", color, control, 2 if control == "model" else 1)
        axis.set(title=f"{label}\nat {best['place']}", xlabel="layer", xticks=_of(at, "layer"))
    axes[0][0].set_ylabel("macro-F1")
    axes[0][-1].legend(frameon=False, fontsize=7)
    return figure


def _lens(rows: dict[str, Rows]) -> Any:
    """The logit lens by depth and lookahead, and when the fork knows, by distance."""
    mine = [row for row in rows["lens"] if row["figure"] == "branch"]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    groups = [ahead for ahead in _of(mine, "lookahead") if ahead is not None]
    for number, ahead in enumerate(groups):
        some = [row for row in mine if row["lookahead"] == ahead]
        color = plt.get_cmap("viridis")(number / max(1, len(groups)))
        _line(axes[0], some, "depth", "value", color, f"lookahead {ahead}")
    axes[0].axhline(0.5, color=GREY, lw=0.8)
    axes[0].set(
        xlabel="layers read", ylabel="share right", title="Right branch by the logit lens", xticks=_of(mine, "depth")
    )
    if groups:
        axes[0].legend(frameon=False, fontsize=7, loc="upper left", ncol=2)
    depths = [row["depth"] for row in mine]
    names = {"lookahead": "target's branch, by lookahead", "farther": "moved passage, by steps from the fork"}
    for (by, label), color in zip(names.items(), (BLUE, GOLD), strict=True):
        some = [row for row in rows["arrival"] if (row["by"], row["figure"]) == (by, "arrival")]
        _line(axes[1], [row for row in some if np.isfinite(row["value"])], "distance", "value", color, label)
    axes[1].axhline(max(depths), color=GREY, lw=0.8)
    axes[1].set(xlabel="steps", ylabel="layers", title="Half is known at the fork after", ylim=(0, None))
    if axes[1].get_legend_handles_labels()[0]:
        axes[1].legend(frameon=False, fontsize=7)
    return figure


def _knockouts(rows: dict[str, Rows]) -> Any:
    """What is lost where edges at some distance are not read in one layer, above random cuts."""
    mine = [row for row in rows["knockouts"] if (row["way"], row["figure"]) == ("behind", "effect_above_random")]
    layers = sorted({int(row["layers"]) for row in mine})
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    for axis, (end, said) in zip(axes, (("target", "target"), ("current", "fork")), strict=True):
        some = [row for row in mine if row["from"] == end]
        distances = _of(some, "distance")
        keyed = {(row["distance"], int(row["layers"])): row["value"] for row in some}
        _heat(
            axis,
            [[keyed.get((d, at), np.nan) for d in distances] for at in layers],
            distances,
            layers,
            f"steps from the {said}",
        )
    axes[0].set_ylabel("layer")
    figure.suptitle("Effect at forks where passages at some distance are not read, less that of random cuts")
    return figure


def _depth(rows: dict[str, Rows]) -> Any:
    """What is lost without a layer, its attention or its MLP."""
    mine = [row for row in rows["depth"] if row["mode"] == "skip"]
    layers = sorted({row["layer"] for row in mine})
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True)
    for axis, part in zip(axes, ("layer", "attention", "mlp"), strict=True):
        for name, color, label in (
            ("exact_lost", BLUE, "removed"),
            ("random_exact_lost", GREY, "random change as large"),
        ):
            _line(
                axis,
                [row for row in mine if (row["part"], row["figure"]) == (part, name)],
                "layer",
                "value",
                color,
                label,
            )
        axis.set(title=part, xlabel="layer", xticks=layers, ylim=(-0.05, 1.05))
    axes[0].set_ylabel("whole paths lost")
    axes[0].legend(frameon=False, fontsize=7)
    return figure


def _edges(rows: dict[str, Rows]) -> Any:
    """Paths that follow the edited maze, by layer and run."""
    shown = (("move", "optimal"), ("remove", "heeded"), ("add", "optimal"))
    looks = {"tokens": INK, "edited": BLUE, "other": GOLD, "random": GREY}
    labels = {
        "tokens": "prompt edited",
        "edited": "stream edited",
        "other": "another passage",
        "random": "random directions",
    }
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True)
    for axis, (kind, name) in zip(axes, shown, strict=True):
        mine = [row for row in rows["edges"] if (row["kind"], row["figure"]) == (kind, name)]
        for run, color in looks.items():
            _line(axis, [row for row in mine if row["run"] == run], "layer", "value", color, labels[run])
        axis.set(
            title=f"{kind} a passage: {name}", xlabel="stream into layer", xticks=_of(mine, "layer"), ylim=(-0.05, 1.05)
        )
    axes[0].set_ylabel("share of paths")
    axes[-1].legend(frameon=False, fontsize=7)
    return figure


def _line(axes: Axes, rows: Rows, across: str, name: str, color: Any, label: str, lw: float = 1.5) -> None:
    """Figures with their intervals against something."""
    values = np.array([row[name] for row in rows], float)
    ends = np.array([[row[f"{name}_low"], row[f"{name}_high"]] for row in rows], float).reshape(-1, 2)
    spread = np.nan_to_num(np.abs(ends - values[:, None]), nan=0.0, posinf=0.0)
    look: Any = {"color": color, "label": label, "lw": lw, "marker": "o", "ms": 3, "elinewidth": 1}
    at, endless = np.array([row[across] for row in rows]), np.isinf(ends).any(1)
    axes.errorbar(at, values, yerr=spread.T, **look)
    axes.plot(at[endless], values[endless], "o", ms=3, color="white", mec=color, zorder=3)  # hollow: no ends at all


def _heat(
    axes: Axes, values: Sequence[Sequence[float]], across: Sequence[Any], down: Sequence[Any], title: str
) -> None:
    """A map of numbers around 0, with the larger ones written in."""
    grid = np.array(values, float)
    most = float(np.nanmax(np.abs(grid), initial=1e-9))
    axes.imshow(grid, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    for (row, column), value in np.ndenumerate(grid):
        if abs(value) >= SHOWN * max(1.0, most):
            color = "white" if abs(value) > 0.6 * most else INK
            axes.text(
                column, row, f"{value:.2f}"[: 5 if value < 0 else 4], ha="center", va="center", color=color, fontsize=7
            )
    axes.set_xticks(
        range(len(across)), [str(one).replace("_", " ") for one in across], rotation=45, ha="right", fontsize=8
    )
    axes.set_yticks(range(len(down)), [str(one).replace("_", " ") for one in down], fontsize=8)
    axes.set_title(title)


def _bars(axes: Axes, rows: Rows, name: str, colors: Sequence[str]) -> None:
    values = [row[name] for row in rows]
    spread = np.abs([[row[name] - row[f"{name}_low"], row[f"{name}_high"] - row[name]] for row in rows]).T
    axes.barh(range(len(rows)), values, xerr=spread, color=colors, height=0.7, error_kw={"elinewidth": 1})
    axes.axvline(0, color=INK, lw=0.8)


def _of(rows: Rows, name: str) -> list[Any]:
    """The values of a column, each once, in their order."""
    return list(dict.fromkeys(row[name] for row in rows))


def _one(rows: Rows, **wanted: Any) -> dict[str, Any]:
    """The row that has these values."""
    return next(row for row in rows if all(row[name] == value for name, value in wanted.items()))


PICTURES: dict[str, tuple[tuple[str, ...], Any]] = {
    "residual": (("residual", "heads"), _residual),
    "attention": (("attention",), _attention),
    "attribution": (("attribution",), _attribution),
    "probes": (("probes",), _probes),
    "layers": (("depth",), _depth),
    "edges": (("edges",), _edges),
    "search": (("lens", "arrival"), _lens),
    "knockouts": (("knockouts",), _knockouts),
}
"""by the picture's name: the tables that it needs, and what draws it"""
