"""A reading in the terminal: of each table what says most."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from clew.read.reading import Reading

Rows = list[dict[str, Any]]
LEAST = 0.05  # effects below which a place is left out
FEW = 3


def show_reading(console: Console, reading: Reading) -> None:
    """A table for each part that was read."""
    o, rows = reading.subject.options, {name: table.to_pylist() for name, table in reading.tables.items()}
    size = f"{o.size[0]}x{o.size[1]} by {', '.join(o.generators)}"
    console.print(Text(f"{o.pairs:,} minimal pairs and {o.mazes:,} held-out mazes of {size}; all intervals are 95%"))
    if "residual" in rows:
        console.print(_residual(rows["residual"]))
    if "heads" in rows or "ablation" in rows:
        console.print(_heads(rows))
    if "attribution" in rows:
        console.print(_attribution(rows["attribution"]))
    if "probes" in rows:
        console.print(_probes(rows["probes"]))
    if "depth" in rows:
        console.print(_depth(rows["depth"]))
    if "edges" in rows:
        console.print(_edges(rows["edges"]))
    if "crispness" in rows:
        console.print(_crispness(rows["crispness"]))
    if "verdict" in rows:
        _verdict(console, rows["verdict"])


def _residual(rows: Rows) -> Table:
    layers = sorted({row["layer"] for row in rows})
    title = "What carries the target to the fork: effect of the residual stream into a layer, denoising"
    table = _table(title, "place", *(f"layer {layer}" for layer in layers))
    for place in dict.fromkeys(row["place"] for row in rows):
        mine = {row["layer"]: row for row in rows if row["place"] == place}
        if max(abs(row["effect"]) for row in mine.values()) >= LEAST:
            table.add_row(Text(place), *(_strong(mine[layer]["effect"]) for layer in layers))
    return table


def _heads(rows: dict[str, Rows]) -> Table:
    table = _table("Heads", "head", "patched", "ablated: accuracy lost", "attends to", "open less walled neighbour")
    attention = rows.get("attention", [])
    score = [row for row in attention if row["group"] == "adjacency"]
    for layer, head in sorted({(row["layer"], row["head"]) for row in rows.get("heads") or rows["ablation"]}):
        groups = _of_head([row for row in attention if row["group"] != "adjacency"], layer, head)
        groups = sorted(groups, key=lambda row: row["mass"] - row["uniform"], reverse=True)[:2]
        patched = [row for row in rows.get("heads", ()) if row["direction"] == "denoising"]
        table.add_row(
            f"{layer}.{head}",
            _figure(_of_head(patched, layer, head), "effect"),
            _figure(_of_head(rows.get("ablation", []), layer, head), "accuracy_lost"),
            Text(", ".join(f"{row['group']} {row['mass']:.2f}" for row in groups)),
            _figure(_of_head(score, layer, head), "mass", 4),
        )
    return table


def _of_head(rows: Rows, layer: int, head: int) -> Rows:
    return [row for row in rows if (row["layer"], row["head"]) == (layer, head)]


def _attribution(rows: Rows) -> Table:
    table = _table("Who pushes the right token's logit, directly", "task", "logit", "most of it from")
    for task in dict.fromkeys(row["task"] for row in rows):
        mine = [row for row in rows if row["task"] == task]
        parts = sorted((row for row in mine if row["component"] != "all"), key=lambda row: -row["logit"])[:FEW]
        table.add_row(
            task, f"{mine[0]['logit']:.1f}", Text(", ".join(f"{_part(row)} {row['logit']:.1f}" for row in parts))
        )
    return table


def _part(row: dict[str, Any]) -> str:
    numbers = ".".join(str(row[name]) for name in ("layer", "head") if row[name] is not None)
    return f"{row['component']} {numbers}".strip()


def _probes(rows: Rows) -> Table:
    title = "What can be decoded: each label where its probe is furthest above its best control (macro-F1)"
    table = _table(title, "label", "read", "layer", "probe", "best control", "")
    for label in dict.fromkeys(row["label"] for row in rows if not row["sanity"]):
        row, best = furthest([row for row in rows if row["label"] == label])
        where = f"{row['place']}, {'whole grid' if row['form'] == 'map' else 'its own cell'}"
        said = "above" if row["above"] else "not above"
        figures = (_figure([one], "macro_f1") for one in (row, best))
        table.add_row(label, where, str(row["layer"]), *figures, f"{said} {best['control']}")
    return table


def furthest(rows: Rows) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the probes of one label, that which is furthest above its best control, with this control; of tokens that can
    know the target, where there are such."""
    found, knowing = [], any(row["after_target"] for row in rows)
    for row in rows:
        if row["control"] == "model" and row["after_target"] >= knowing:
            same = ("form", "site", "layer", "place")
            others = [one for one in rows if one["control"] != "model" and all(one[k] == row[k] for k in same)]
            found.append((row, max(others, key=lambda one: one["macro_f1"])))
    return max(found, key=lambda pair: pair[0]["macro_f1"] - pair[1]["macro_f1"])


def _depth(rows: Rows) -> Table:
    whole = next(row for row in rows if row["layer"] is None and row["figure"] == "exact")
    title = (
        f"Whole paths lost without a part of a layer, of {_figure([whole], 'value')}; beside a random change as large"
    )
    parts = ("layer", "attention", "mlp")
    table = _table(title, "layer", *(f"{part}{beside}" for part in parts for beside in ("", ", random")))
    keyed = {(row["layer"], row["part"], row["figure"]): row for row in rows if row["mode"] == "skip"}
    for layer in sorted({layer for layer, _, _ in keyed}):
        cells = [keyed[layer, part, f"{luck}exact_lost"] for part in parts for luck in ("", "random_")]
        table.add_row(str(layer), *(f"{row['value']:.2f}" for row in cells))
    return table


def _edges(rows: Rows) -> Table:
    """By kind the figure that it is best judged by, layer by layer."""
    title = (
        "Passages changed in the stream into a layer: paths that follow the edited maze, less with random directions"
    )
    layers = sorted({row["layer"] for row in rows})
    table = _table(title, "passage", "prompt edited", *(f"layer {layer}" for layer in layers))
    for kind, figure in (("move", "optimal"), ("remove", "heeded"), ("add", "optimal")):
        mine = [row for row in rows if (row["kind"], row["figure"]) == (kind, figure)]
        if mine:
            above = {row["layer"]: row for row in mine if row["run"] == "above_random"}
            ceiling = [row for row in mine if row["run"] == "tokens"]
            figures = (_figure([above[layer]], "value") if layer in above else "" for layer in layers)
            table.add_row(f"{kind}: {figure}", _figure(ceiling, "value"), *figures)
    return table


def _crispness(rows: Rows) -> Table:
    table = _table("Crispness", "", "value", "where nothing is")
    table.add_column("what it is", justify="left")
    for row in rows:
        if row["part"] == "all":
            null = "" if row["null"] is None else f"{row['null']:.2f}"
            figure = "" if row["value"] is None else _figure([row], "value")
            table.add_row(row["number"].replace("_", " "), figure, null, Text(row["remark"]))
    return table


def _verdict(console: Console, rows: Rows) -> None:
    console.print(Text(f"Which algorithm? {rows[0]['verdict']}", "bold"), soft_wrap=True)
    for says in dict.fromkeys((row["reading"], row["says"]) for row in rows):
        mine = [row for row in rows if (row["reading"], row["says"]) == says]
        sides = [
            f"{side} {', '.join(of)}"
            for side in ("for", "against")
            if (of := [r["account"] for r in mine if r["speaks"] == side])
        ]
        console.print(Text(f"  {says[0]}: {says[1]}. {'; '.join(sides) or 'decides nothing'}"), soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _strong(value: float) -> Text:
    return Text(f"{value:.2f}", "bold" if value >= 0.3 else "" if value >= LEAST else "dim")


def _figure(rows: Sequence[dict[str, Any]] | None, name: str, places: int = 2) -> str:
    if not rows:
        return ""
    value, low, high = (f"{rows[0][name + end]:.{places}f}" for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]"
