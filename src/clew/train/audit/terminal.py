"""An audit in the terminal: what changes to the thought do, and all else, with what it means."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from clew.text import printable
from clew.train.audit.audit import OF_CHANGES, label

PERCENT = ("changed", "true_steps", "finds", "follows")


def show_audit(console: Console, report: Mapping[str, Any]) -> None:
    """Tables of all figures with their intervals, what each means, and what a person should know."""
    measures = report["measures"]
    of = report["questions"]
    title = f"{of} held-out questions, {report['thoughts']} thoughts each; 95% intervals"
    effects = _table(f"In place of the thought. {title}", "", *OF_CHANGES)
    others = _table("", "measure", "figure", "value")
    for name, found in measures.items():
        for condition, own in found.items():
            if "changed" in own:
                effects.add_row(
                    _plain(label(name, condition)), *(interval(own, one, of, 2, True) for one in OF_CHANGES)
                )
            else:
                named = name if condition in own else f"{name} {condition}".strip()
                _add(others, named, own, report["says"][name], of)
    if effects.row_count:
        console.print(effects)
        _explain(console, OF_CHANGES)
    if others.row_count:
        console.print(others)
    _explain(console, {"(n)": "on n of the questions alone, where it can be had"})
    for name, says in report["says"].items():
        _explain(
            console, {f"{name}, {figure}": said for figure, said in says.items() if OF_CHANGES.get(figure) != said}
        )
    for note in report["notes"]:
        console.print(Text(printable(f"note: {note}")), soft_wrap=True)


def _add(table: Table, name: str, own: Mapping[str, Any], says: Mapping[str, str], of: int) -> None:
    for figure in says:
        if figure in own:
            table.add_row(_plain(name), _plain(figure), interval(own, figure, of))


def _explain(console: Console, says: Mapping[str, str]) -> None:
    for figure, meaning in says.items():
        console.print(Text(f"  {figure.replace('_', ' ')}: {meaning}", "dim"), soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title or None, title_justify="left")
    for column in columns:
        table.add_column(_plain(column), justify="left" if column in ("", "measure", "figure") else "right")
    return table


def _plain(name: str) -> Text:
    return Text(printable(name.replace("_", " ")))


def interval(own: Mapping[str, Any], figure: str, of: int, places: int = 3, below: bool = False) -> str:
    """A figure as people read it, a share as a percentage, on how many questions where these
    are not all (`of`), its interval behind or below it; "" where there is none."""
    if figure not in own:
        return ""
    scale, places, sign = (100, 0 if below else 1, "%") if figure in PERCENT else (1, places, "")
    value, low, high = (f"{scale * own[figure][part]:.{places}f}" for part in ("value", "low", "high"))
    between = "\n" if below else " "
    n = own[figure].get("questions", own["questions"])
    few = f" ({n})" if n < of else ""
    return f"{value}{sign}{few}{between}[{low}, {high}]"
