"""rollouts/round-NNNNNN.jsonl: what every round sampled, and what it was worth. One file a round, an object a question.

The one schema of all commands:

    round      the step that metrics.jsonl gives the round
    number     the question's number in its world
    prompt     text that the graders were told was asked
    context    ids of the tokens that the shoggoth read
    columns    named values that the graders were given, where there are any
    thoughts   of the shoggoth, each
        text       what it wrote, as people read it
        tokens     ids of its tokens, the one that ended it included
        logps      natural log-probability of each token when it was sampled
        ended      whether it ended by itself, and was not cut
        read       text that the face read before it answered
        weight     its credit
        answers    of the face, each
            text, tokens, logps, ended, weight
            score      what all graders together gave it, as the face hears them
            scores     {grader: what it gave}

A number that is not finite is null. Text is whatever a model wrote: lone surrogates and control characters included.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from clew.errors import InputError
from clew.files import remove, write_atomically
from clew.text import show

Record = dict[str, Any]
NUMBER, TEXT = (int, float, type(None)), (str,)
NEEDED: tuple[dict[str, tuple[type, ...]], ...] = (  # of a question, of a thought, of an answer: what readers rely on
    {"prompt": TEXT, "thoughts": (list,)},
    {"text": TEXT, "tokens": (list,), "weight": NUMBER, "answers": (list,)},
    {"text": TEXT, "weight": NUMBER, "score": NUMBER},
)


def write_rollouts(out: Path, round: int, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes a round's file into the run folder `out`, whole or not at all, in place of an earlier one.

    records: of the schema, as plain dictionaries; `round` is added to each.
    """
    lines = [as_line({"round": round, **record}) for record in records]
    write_atomically(out / "rollouts" / f"round-{round:06d}.jsonl", "".join(lines))


def read_rollouts(path: Path) -> Iterator[Record]:
    """The questions of one file, or of all rounds of a run folder in their order, one at a time.

    InputError for a folder without rollouts, and, with its line's number, for a line that is torn or of another schema.
    """
    files = [file for _, file in _rounds(path)] if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: holds no rollouts (no rollouts/round-NNNNNN.jsonl)")
    return (record for file in files for record in _records(file))


def last_round(out: Path) -> Iterator[Record]:
    """The questions of a run folder's newest round; none if it has no round."""
    return iter(_records(_rounds(out)[-1][1])) if _rounds(out) else iter(())


def keep_rollouts(out: Path, step: int) -> None:
    """Drops the rounds that a killed run sampled after `step`."""
    for number, file in _rounds(out):
        if number > step:
            remove(file)


def _rounds(out: Path) -> list[tuple[int, Path]]:
    found = ((re.fullmatch(r"round-([0-9]{1,18})\.jsonl", file.name), file) for file in (out / "rollouts").glob("*"))
    return sorted((int(match[1]), file) for match, file in found if match)


def _records(file: Path) -> Iterator[Record]:
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    raise InputError(f"{file}: line {number} is torn: it is no JSON") from None
                _check(record, f"{file}: line {number}")
                yield record
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None


def _check(value: Any, where: str, level: int = 0) -> None:
    """InputError for what is no record of the schema, as far as readers rely on it."""
    if not isinstance(value, dict):
        raise InputError(f"{where}: {show(value)} is no object of a rollout")
    for name, types in NEEDED[level].items():
        if name not in value or not isinstance(value[name], types) or isinstance(value[name], bool):
            raise InputError(f"{where}: {name}: {show(value.get(name))} is no value of it in a rollout")
    inner = ("thoughts", "answers", "")[level]
    for i, one in enumerate(value.get(inner, ())):
        _check(one, f"{where}: {inner[:-1]} {i + 1}", level + 1)


def as_line(record: Mapping[str, Any]) -> str:
    try:
        return json.dumps(record, allow_nan=False) + "\n"
    except (ValueError, TypeError):  # a number that is not finite, or a column of some other library's type
        return json.dumps(_plain(record), allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """The value as JSON has it; what JSON cannot say becomes text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)
