"""eval.json and samples.jsonl: what a final evaluation found, and a few of the questions that it asked."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clew.files import write_atomically, write_json
from clew.runs.rollouts import as_line


def write_evaluation(out: Path, result: Mapping[str, Any], records: Iterable[Mapping[str, Any]] = ()) -> None:
    """Writes a result, and records in the schema of rollouts where there are any."""
    write_json(out / "eval.json", result)
    if lines := [as_line(record) for record in records]:
        write_atomically(out / "samples.jsonl", "".join(lines))
