"""An audit of a split on a page: what its thoughts are worth, measure by measure, with intervals."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clew.view.page import Section
from clew.view.runs import json_of, rounded

FILE = "audit.json"
Json = dict[str, Any]


def sections(folder: Path, name: str) -> list[Section]:
    """The section of a folder's audit.json; none where there is no such file. InputError for one that is no JSON."""
    report = json_of(folder / FILE)
    rows = list(figures(report.get("measures", report)))
    if not rows:
        return []
    says = report.get("says") if isinstance(report.get("says"), dict) else {}
    counts = [[what, report[what]] for what in ("questions", "thoughts", "held_out", "command") if what in report]
    told = report.get("notes")
    notes = [str(note) for note in told] if isinstance(told, list) else []
    run = {"name": name, "rows": rows, "says": says, "counts": counts, "notes": notes}
    return [Section("audit", "Audit", {"runs": [run]})]


def figures(value: Any, inside: tuple[str, ...] = ()) -> Iterator[Json]:
    """Every {value, low, high} of a report, wherever it stands: its measure, its condition, its name, and the three."""
    if not isinstance(value, dict):
        return
    if {"value", "low", "high"} <= value.keys():
        measure, *condition, figure = (*[""] * (2 - len(inside)), *inside)
        ends = {one: rounded(value[one]) for one in ("value", "low", "high")}
        yield {"measure": measure, "condition": " · ".join(condition), "figure": figure, **ends}
        return
    for name, item in value.items():
        yield from figures(item, (*inside, str(name)))
