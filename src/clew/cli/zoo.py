"""`clew zoo`: the trained models that come with the package, from their cards alone."""

import json
from typing import TYPE_CHECKING, Any

from clew import zoo
from clew.errors import InputError
from clew.text import show, with_interval

if TYPE_CHECKING:
    from rich.table import Table

HELP = """\
usage: clew zoo [NAME] [--json]

  clew zoo           the trained models that come with Clew
  clew zoo NAME      the card of one: what it is, how it was made, what it can do by size and lookahead
  clew zoo --json    the same for programs

Wherever a model folder is taken, zoo:NAME is one of them, at once and offline:

  clew solve zoo:NAME --seed 3                     one maze of the largest size that it knows, before your eyes
  clew solve zoo:NAME --size 3                     a smaller one
  clew eval zoo:NAME                               its figures, asked anew
  clew eval zoo:NAME --from mazes.txt              mazes of your own
  clew train --model zoo:NAME --out runs/further   a model that begins where it ended
  Policy.load("zoo:NAME")                          from Python: from clew import Policy

The prefix always wins: a folder of yours that is called zoo:… is reached by its absolute path. Weights take two bytes
each in their files and open as float32. The card is also a README.md beside them.
"""


def run(args: list[str]) -> None:
    """The command."""
    if any(arg in ("-h", "--help") for arg in args):
        print(HELP)
        return
    given = [arg for arg in args if arg != "--json"]
    for arg in given:
        if arg.startswith("-"):
            raise InputError(f"{show(arg)}: there is no such option; there is --json (clew zoo --help)")
    if len(given) > 1:
        raise InputError(f"{show(given[1])}: one name at a time was expected; {show(given[0])} is the first")
    cards = {name: zoo.card(name) for name in (one.removeprefix(zoo.PREFIX) for one in given)}
    if len(args) > len(given):
        found = next(iter(cards.values())) if cards else {name: zoo.card(name) for name in zoo.names()}
        print(json.dumps(found, indent=2))
    elif cards:
        _show(*next(iter(cards.items())))
    else:
        _list()


def _list() -> None:
    from rich.console import Console

    console = Console()
    cards = {name: zoo.card(name) for name in zoo.names()}
    console.print(_table(cards))
    if cards:
        name = next(iter(cards))
        told = f"clew zoo {name}: its card. clew solve zoo:{name} --seed 3: one maze, before your eyes."
        console.print(told, markup=False, highlight=False, soft_wrap=True)


def _table(cards: dict[str, dict[str, Any]]) -> "Table":
    """A line a model."""
    from rich import box
    from rich.table import Table

    table = Table(
        title="Trained models; held-out mazes solved by a shortest path, with 95% intervals", box=box.SIMPLE, padding=0
    )
    table.add_column("name", no_wrap=True)
    table.add_column("mazes", overflow="fold")
    for name in ("layers\nx width", "weights"):
        table.add_column(name, justify="right")
    table.add_column("loss", max_width=len("thought "))
    table.add_column("solved", justify="right", no_wrap=True)
    for name, one in cards.items():
        size = (f"{one['layers']} x {one['width']}", f"{one['parameters'] / 1e6:.2f}M")
        table.add_row(name, one["mazes"], *size, one["loss"], _solved(one))
    return table


def _solved(card: dict[str, Any]) -> str:
    return with_interval(card["optimal"], "%")


def _show(name: str, card: dict[str, Any]) -> None:
    """A card: what the model is, how it was made, and its figures by groups of questions."""
    from rich.console import Console

    from clew.cli import terminal

    console, trained = Console(), card["trained"]
    model = f"{card['layers']} layers of width {card['width']}, {card['parameters']:,} parameters"
    lines = [f"zoo:{name}: {model}; mazes: {card['mazes']}; loss: {card['loss']}"]
    lines.append(f"made by {trained['command']} (seed {trained['seed']})")
    lines.append(f"{trained['steps']:,} steps in {trained['minutes']:.1f} minutes on {trained['machine']}")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    terminal.show_report(console, card, "optimal")
    console.print(f"its folder: {zoo.folder(name)}", markup=False, highlight=False, soft_wrap=True)
