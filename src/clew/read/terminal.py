"""A reading in the terminal: of each table what says most."""

from collections.abc import Callable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clew.read.effects import SHOWN
from clew.read.probes import furthest
from clew.read.reading import Reading

Rows = list[dict[str, Any]]
FEW = 3


def show_reading(console: Console, reading: Reading) -> None:
    """A table for each part that was read."""
    o, rows = reading.subject.options, {name: table.to_pylist() for name, table in reading.tables.items()}
    size = f"{o.size[0]}x{o.size[1]} by {', '.join(o.generators)}"
    asked = f"{o.pairs:,} minimal pairs of each kind (fewer for the card) and {o.mazes:,} held-out mazes of {size}"
    console.print(Text(f"{asked}; layers and heads count from 0 (3.1: layer 3, head 1); ± is half a 95% interval"))
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
    if "steering" in rows:
        console.print(_steering(rows["steering"]))
    if "registers" in rows:
        console.print(_registers(rows["registers"]))
    if "crispness" in rows:
        console.print(_crispness(rows["crispness"]))
    if "verdict" in rows:
        console.print(_verdict(rows["verdict"]))


def _residual(rows: Rows) -> Table:
    layers = sorted({row["layer"] for row in rows})
    title = "What carries the target to the fork: effect of the residual stream into a layer"
    said = "The stream of a prompt with one target, put at one place into the run of the prompt with another: 0, the "
    said += "step stays; 1, it is as that of the first prompt (denoising)."
    table = _table(title, "place", *(f"layer {layer}" for layer in layers), said=said)
    for place in dict.fromkeys(row["place"] for row in rows):
        mine = {row["layer"]: row for row in rows if row["place"] == place}
        if max(abs(row["effect"]) for row in mine.values()) >= SHOWN:
            table.add_row(Text(place), *(_strong(mine[layer]["effect"]) for layer in layers))
    return table


def _heads(rows: dict[str, Rows]) -> Table:
    """A row a head, a column each for what was read of it."""
    attention = rows.get("attention", [])
    groups = [row for row in attention if row["group"] != "adjacency"]
    scores = [row for row in attention if row["group"] == "adjacency"]
    patched = [row for row in rows.get("heads", ()) if row["direction"] == "denoising"]
    columns: dict[str, tuple[Rows, Callable[[Rows], str], str]] = {
        "patched": (patched, lambda mine: _figure(mine, "effect"), "effect of its output at all places, as above"),
        "lost without": (
            rows.get("ablation", []),
            lambda mine: _figure(mine, "accuracy_lost"),
            "right steps at forks where it says what it says in another maze",
        ),
        "attends to": (
            groups,
            _attends,
            "the two groups of tokens that get most of it at path cells beyond their share",
        ),
        "open - walled, %": (
            scores,
            lambda mine: _figure([{name: 100 * mine[0][name] for name in ("mass", "mass_low", "mass_high")}], "mass"),
            "adjacency score: what a token of an open neighbour gets more than one of a walled neighbour",
        ),
    }
    columns = {name: of for name, of in columns.items() if of[0]}
    table = _table("Heads", "head", *columns, said=_explained({name: said for name, (_, _, said) in columns.items()}))
    some = next(iter(columns.values()))[0]
    for layer, head in sorted({(row["layer"], row["head"]) for row in some}):
        table.add_row(
            f"{layer}.{head}", *(Text(say(_of_head(figures, layer, head))) for figures, say, _ in columns.values())
        )
    return table


def _attends(groups: Rows) -> str:
    """The two groups of tokens that get most beyond their share."""
    most = sorted(groups, key=lambda row: row["mass"] - row["uniform"], reverse=True)[:2]
    return ", ".join(f"{row['group']} {row['mass']:.2f}" for row in most)


def _of_head(rows: Rows, layer: int, head: int) -> Rows:
    return [row for row in rows if (row["layer"], row["head"]) == (layer, head)]


def _attribution(rows: Rows) -> Table:
    said = "Direct logit attribution: in logits, less the mean over all tokens."
    table = _table("Who pushes the right token's logit", "task", "logit", "most of it from", said=said)
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
    said = {
        "cell": "the token's own cell is read off it",
        "grid": "all cells, or passages, are read off one token",
        "best control": "what is told without this model, or of another question",
    }
    table = _table(title, "label", "read at", "layer", "probe", "best control", "which", said=_explained(said))
    for label in dict.fromkeys(row["label"] for row in rows if not row["sanity"]):
        row, best = furthest([row for row in rows if row["label"] == label])
        where = f"{row['place']}: {'grid' if row['form'] == 'map' else 'cell'}"
        figures = (_figure([one], "macro_f1") for one in (row, best))
        table.add_row(label, where, str(row["layer"]), *figures, best["control"] + (", as good" * (not row["above"])))
    return table


def _depth(rows: Rows) -> Table:
    whole = next(row for row in rows if row["layer"] is None and row["figure"] == "exact")
    title = (
        f"Share of whole paths lost without a part of a layer; {_figure([whole], 'value')} are written with all of them"
    )
    parts = ("layer", "attention", "mlp")
    said = "In brackets: by a random change as large. A part matters by what it costs beyond that."
    table = _table(title, "layer", "all of it", *parts[1:], said=said)
    keyed = {(row["layer"], row["part"], row["figure"]): row["value"] for row in rows if row["mode"] == "skip"}
    for layer in sorted({layer for layer, _, _ in keyed}):
        lost = ((keyed[layer, part, f"{luck}exact_lost"] for luck in ("", "random_")) for part in parts)
        table.add_row(str(layer), *("{:.2f} ({:.2f})".format(*both) for both in lost))
    return table


def _edges(rows: Rows) -> Table:
    """By kind the figure that it is best judged by, layer by layer."""
    title = "Passages moved, taken out or put in within the stream into a layer: share of paths that follow the change"
    said = {
        "prompt edited": "the change made in the prompt itself, which is the most that can be had",
        "layer": "more than with random directions as long; the stream into layer 0 is the prompt's embeddings",
        "optimal": "a shortest path of the changed maze",
        "heeded": "no longer through what was taken out",
    }
    layers = sorted({row["layer"] for row in rows})
    table = _table(title, "passage", "prompt edited", *(f"layer {layer}" for layer in layers), said=_explained(said))
    for kind, figure in (("move", "optimal"), ("remove", "heeded"), ("add", "optimal")):
        mine = [row for row in rows if (row["kind"], row["figure"]) == (kind, figure)]
        if mine:
            above = {row["layer"]: row for row in mine if row["run"] == "above_random"}
            ceiling = [row for row in mine if row["run"] == "tokens"]
            figures = (_figure([above[layer]], "value") if layer in above else "" for layer in layers)
            table.add_row(f"{kind}: {figure}", _figure(ceiling, "value"), *figures)
    return table


def _steering(rows: Rows) -> Table:
    """A row a kind of directions and success, layer by layer, and the best."""
    said = "Along the difference of what the model has in the mean before one next token and before another, or of the "
    said += "weights of a linear probe that tells these apart, as long; by how much more than by random pushes."
    layers = sorted({row["layer"] for row in rows if row["layer"] is not None})
    names = ("whole paths turned", "steps at the fork turned")
    table = _table("Pushes at the cells of a path", "along", *(f"behind layer {one}" for one in layers), said=said)
    for way in dict.fromkeys(row["directions"] for row in rows):
        for name, success in zip(names, ("path", "step"), strict=True):
            mine = {row["layer"]: row for row in rows if (row["directions"], row["success"]) == (way, success)}
            table.add_row(f"{way}: {name}", *(_figure([mine[layer]], "value") for layer in layers))
    return table


def _registers(rows: Rows) -> Table:
    """A row a token, all layers at once and then layer by layer."""
    layers = list(dict.fromkeys(row["layers"] for row in rows))
    said = "Tokens that are the same in every maze: what they hold was put there for later tokens. At random: where a "
    said += "token of the list is hidden instead, in all layers."
    title = "Registers: right steps at forks lost where no later token sees this one"
    names = ("all layers", *(f"layer {one}" for one in layers[1:]), "at random")
    table = _table(title, "token", *names, said=said)
    keyed = {(row["place"], row["layers"], row["figure"]): row["value"] for row in rows}
    for place in dict.fromkeys(row["place"] for row in rows):
        lost = [keyed.get((place, one, "accuracy_lost")) for one in layers]
        lost.append(keyed.get((place, layers[0], "random_accuracy_lost")))
        table.add_row(place, *("" if one is None else f"{one:.2f}" for one in lost))
    return table


def _crispness(rows: Rows) -> Table:
    table = _table(
        "Crispness: how locally, plainly, steerably and by how much of its depth a step is chosen",
        "",
        "value",
        "if nothing were there",
    )
    table.add_column("what it is", justify="left")
    for row in rows:
        if row["part"] == "all":
            null = "" if row["null"] is None else f"{row['null']:.2f}"
            figure = "" if row["value"] is None else _figure([row], "value")
            table.add_row(row["number"].replace("_", " "), figure, null, Text(row["remark"]))
    return table


def _verdict(rows: Rows) -> Table:
    """The verdict, why, and what each reading says."""
    said = {
        "chaining": "each layer knows as many hops more",
        "path merging": "each layer joins known stretches, and knows twice as far",
        "heuristic": "no looking ahead",
        "*": "causal: something inside was changed",
    }
    title = f"Which algorithm? {rows[0]['verdict']}\n{rows[0]['why']}"
    table = _table(title, said=_explained(said))
    for column, width in (("evidence", 17), ("what it says", None), ("speaks", 12)):
        table.add_column(column, justify="left", max_width=width)
    for reading in dict.fromkeys(row["reading"] for row in rows):
        mine = [row for row in rows if row["reading"] == reading]
        sides = []
        for side in ("for", "against"):
            accounts = [row["account"] for row in mine if row["speaks"] == side]
            sides += [f"{side} {'all' if len(accounts) == len(mine) else ', '.join(accounts)}"] * bool(accounts)
        name = f"{mine[0]['kind']}{'*' * mine[0]['causal']}: {reading}"
        table.add_row(*map(Text, (name, mine[0]["says"], "; ".join(sides) or "decides nothing")))
    return table


def _explained(words: dict[str, str]) -> str:
    return "; ".join(f"{word}: {said}" for word, said in words.items()) + "."


def _table(title: str, *columns: str, said: str = "") -> Table:
    """said: what a reader has to know, below the table."""
    look: dict[str, Any] = {"box": SIMPLE_HEAD, "padding": (0, 1), "show_edge": False}
    look |= {"title_justify": "left", "caption_justify": "left", "caption": Text(said, "dim") if said else None}
    table = Table(title=Text(f"\n{title}", "bold"), **look)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _strong(value: float) -> Text:
    return Text(f"{value:.2f}", "bold" if value >= 0.3 else "" if value >= SHOWN else "dim")


def _figure(rows: Sequence[dict[str, Any]] | None, name: str, places: int = 2) -> str:
    """A figure and half the width of its interval."""
    if not rows:
        return ""
    value, low, high = (rows[0][name + end] for end in ("", "_low", "_high"))
    return f"{value:.{places}f}±{(high - low) / 2:.{places}f}"
