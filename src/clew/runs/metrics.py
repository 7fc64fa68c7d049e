"""metrics.jsonl: one object of figures a logged step."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clew.errors import InputError
from clew.files import naming, write_atomically
from clew.runs.checkpoints import is_count


def append_metrics(path: Path, values: dict[str, Any]) -> None:
    """Adds a line of figures, whole or not at all; numbers that are not finite become null."""
    clean = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}
    before = path.stat().st_size if path.exists() else 0
    try:
        with naming(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(clean) + "\n")
    except OSError:
        os.truncate(path, before)
        raise


def keep_metrics(path: Path, step: int) -> None:
    """Drops the lines that a killed run wrote after `step`, and all that is no line of figures, a torn one included."""
    if path.is_dir():
        raise InputError(f"resume: {path} is a folder; a file of figures was expected")
    kept = [line + b"\n" for line, values in _objects(path) if is_count(values.get("step")) and values["step"] <= step]
    write_atomically(path, b"".join(kept))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines that are objects, in their order; none where there is no file. InputError if it cannot be read."""
    return [values for _, values in _objects(path)]


def metrics_file(out: Path, rounds: int) -> Path:
    """Where a split has its figures: with no rounds, those of the shoggoth's imitation, if it imitated anything."""
    imitation = out / "imitation" / "shoggoth" / "metrics.jsonl"
    return imitation if not rounds and imitation.is_file() else out / "metrics.jsonl"


def _objects(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    for line in lines:
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(values, dict):
            yield line, values
