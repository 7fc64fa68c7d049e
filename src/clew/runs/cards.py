"""Model cards."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clew.files import write_atomically
from clew.runs.intervals import figures_in
from clew.text import one_line, printable

Figures = Mapping[str, Any]


def write_card(
    folder: Path, name: str, what: str, figures: Figures, origin: Mapping[str, Any], baseline: Figures | None = None
) -> None:
    """A model card, README.md of `folder`: what the model is, its held-out figures, and the command that made it.

    figures: of {value, low, high} each by its name; what else a report holds is passed over, so a whole one may be
    given. origin: of `provenance`. baseline: figures of somebody who only knows the rules, shown beside the model's.
    """
    shown = figures_in(figures)
    rows = [["held-out", "value", "95% interval"], ["---"] * 3]
    for key, figure in shown.items():
        value, low, high = (f"{figure[part]:.3f}" for part in ("value", "low", "high"))
        rows.append([key.replace("_", " "), value, f"{low} to {high}"])
    if baseline:
        others = (baseline.get(key) for key in shown)
        column = ["baseline", "---", *(f"{other['value']:.3f}" if other else "" for other in others)]
        rows = [[*row, cell] for row, cell in zip(rows, column, strict=True)]
    versions = ", ".join(f"{library} {version}" for library, version in origin["versions"].items())
    made = f"Made by `{_line(origin['command'])}` with {versions}."
    code = f"policy = Policy.load({json.dumps(str(folder))})"
    lines = ["---", "library_name: transformers", "tags: [clew]", "---", ""]
    lines += [f"# {_line(name)}", "", what, "", *(f"| {' | '.join(row)} |" for row in rows), "", made, ""]
    lines += ["```python", "from clew import Policy", "", code, "```", ""]
    write_atomically(folder / "README.md", "\n".join(lines))


def _line(text: str) -> str:
    return printable(one_line(text))
