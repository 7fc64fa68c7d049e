"""What train and split runs have in common on a page: facts, training curves, the final evaluation."""

import json
import math
from pathlib import Path
from typing import Any

from clew.errors import InputError
from clew.runs.metrics import read_metrics
from clew.runs.options import read_yaml
from clew.text import one_line

LINES = 800
"""lines of metrics that a page holds; of more, so many evenly spread, and every validation"""
HELD_OUT = "held_out_"
FACTS = ("command", "seed", "machine", "versions", "held_out")
Facts = list[tuple[str, str]]


def config_of(folder: Path) -> dict[str, Any]:
    """The options of a run; {} of a folder without."""
    file = folder / "config.yaml"
    return read_yaml(file) if file.is_file() else {}


def json_of(file: Path) -> dict[str, Any]:
    """A JSON object, {} where there is no file. InputError for what is none."""
    try:
        value = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: is no JSON: {one_line(error)[:120]}") from None
    if not isinstance(value, dict):
        raise InputError(f"{file}: holds no JSON object")
    return value


def is_mazes(config: dict[str, Any]) -> bool:
    """Whether a run's world is that of mazes, or one of a user's own that may ask about them."""
    prompts, gym = (config.get(name) or {} for name in ("prompts", "gym"))
    return not (prompts.get("file") or gym.get("tasks")) and config.get("world") not in ("prompts", "reasoning_gym")


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """The figures of metrics.jsonl, thinned to about LINES lines; only numbers are figures."""
    rows = [
        {name: value for name, value in row.items() if _is_number(value)}
        for row in read_metrics(folder / "metrics.jsonl")
    ]
    rows = [row for row in rows if "step" in row]
    every = max(1, len(rows) // LINES)
    looked = (any(name.startswith(HELD_OUT) for name in row) for row in rows)
    return [row for i, (row, kept) in enumerate(zip(rows, looked, strict=True)) if kept or i % every == 0]


def facts_of(config: dict[str, Any], report: dict[str, Any], names: tuple[str, ...]) -> Facts:
    """What a run was made with, as people read it: some of its options, by dotted names, and of its evaluation's
    provenance what there is."""
    found = [(name, value) for name in names if (value := _at(config, name)) not in (None, [], {}, "")]
    trained = report.get("trained") if isinstance(report.get("trained"), dict) else {}
    about = {**report, **{name: value for name, value in (trained or {}).items() if name != "weights"}}
    found += [(name, about[name]) for name in (*FACTS, "steps", "minutes") if about.get(name) is not None]
    return [(name.replace("_", " ").replace(".", " "), _said(value)) for name, value in found]


def rounded(value: Any, digits: int = 5) -> Any:
    """A number to so many digits that count, None for one that is not finite; any other value as it is."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _at(config: dict[str, Any], name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_said(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_said, value))
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
