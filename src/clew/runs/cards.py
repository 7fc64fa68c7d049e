"""Model cards."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clew.files import write_atomically
from clew.runs.intervals import figures_in, merged, ranges_of
from clew.text import one_line, printable

Figures = Mapping[str, Any]
ROWS = 12  # of a table by numbers; more are shown as ranges


def write_card(
    folder: Path,
    name: str,
    what: str,
    figures: Figures,
    origin: Mapping[str, Any],
    baseline: Figures | None = None,
    *,
    headline: str | None = None,
    opens: str | None = None,
) -> None:
    """A model card, README.md of `folder`: what the model is, its held-out figures, and the command that made it.

    figures: of {value, low, high} each by its name; what else a report holds is passed over, so a whole one may be
    given. origin: of `provenance`. baseline: figures of somebody who only knows the rules, shown beside the model's.
    headline: a rate that is also shown by each of the report's groups. opens: what `Policy.load` takes; by default the
    folder.
    """
    shown = figures_in(figures)
    rows = [["held-out", "value", "95% interval"], ["---"] * 3]
    for key, figure in shown.items():
        value, low, high = (_number(figure[part]) for part in ("value", "low", "high"))
        rows.append([key.replace("_", " "), value, f"{low} to {high}"])
    if baseline:
        others = (baseline.get(key) for key in shown)
        column = ["baseline", "---", *(_number(other["value"]) if other else "" for other in others)]
        rows = [[*row, cell] for row, cell in zip(rows, column, strict=True)]
    versions = ", ".join(f"{library} {version}" for library, version in origin["versions"].items())
    made = f"Made by `{_line(origin['command'])}` with {versions}."
    code = f"policy = Policy.load({json.dumps(opens or str(folder))})"
    lines = ["---", "library_name: transformers", "tags: [clew]", "---", ""]
    lines += [f"# {_line(name)}", "", what, "", *_table(rows), ""]
    for kind in (key for key in figures if headline and key.startswith("by_") and len(figures[key]) > 1):
        lines += [*_by_group(kind.removeprefix("by_"), figures[kind], str(headline)), ""]
    lines += [made, ""]
    lines += ["```python", "from clew import Policy", "", code, "```", ""]
    write_atomically(folder / "README.md", "\n".join(lines))


def _number(value: float) -> str:
    """To three places; to up to six where these would make 1 or 0 of what lies between."""
    told = [f"{value:.{places}f}" for places in (range(3, 7) if 0 < value < 1 else (3,))]
    return next((one for one in told if float(one) not in (0, 1)), told[0])


def _by_group(kind: str, groups: Mapping[str, Figures], headline: str) -> list[str]:
    """A table of one rate, group by group; many numbers in ranges."""
    rows = [[kind.replace("_", " "), "questions", headline, "95% interval"], ["---"] * 4]
    for key, group in merged(groups, ranges_of(groups, ROWS)).items():
        value, low, high = (_number(group[headline][part]) for part in ("value", "low", "high"))
        rows.append([_line(key), f"{group['questions']:,}", value, f"{low} to {high}"])
    return _table(rows)


def _table(rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in rows]


def _line(text: str) -> str:
    return printable(one_line(text))
