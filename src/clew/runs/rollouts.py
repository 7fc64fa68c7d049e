"""rollouts/round-NNNNNN.parquet: what every round sampled, and what it was worth. One file a round, a row a question.

The one schema of all commands (samples.jsonl has it as JSON lines):

    round      the step that metrics.jsonl gives the round
    number     the question's number in its world
    prompt     text that the graders were told was asked
    context    ids of the tokens that the shoggoth read
    columns    named values that the graders were given, where there are any; JSON
    thoughts   of the shoggoth, each
        text       what it wrote, as people read it
        tokens     ids of its tokens, the one that ended it included
        logps      natural log-probability of each token when it was sampled
        ended      whether it ended by itself, and was not cut
        read       text that the face read before it answered
        lines      (of a thought that was rewritten) the whole thought, or each line: what was written, what was read
            text, tokens         as written; all lines' tokens are those of the thought, and each has its weight
            read, read_tokens    what stood in its place for the face and, line by line, for the shoggoth's next lines
            kept       whether it stayed as it was for want of a version that could be read
        weight     its credit
        answers    of the face, each
            text, tokens, logps, ended, weight
            score      what all graders together gave it, as the face hears them
            scores     {grader: what it gave}
            monitors   {monitor: what it saw in the thought and this answer}
            extra      what graders logged of it; JSON

A number that is not finite is null. Text is whatever a model wrote, control characters included; half a surrogate pair,
which no UTF-8 can hold, is replaced by U+FFFD. Rounds that an earlier version kept as JSON lines are read as well.
"""

import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clew.errors import InputError
from clew.files import remove, strict_json, write_atomically
from clew.text import encodable, one_line, show

if TYPE_CHECKING:
    import pyarrow as pa

Record = dict[str, Any]
NUMBER, TEXT = (int, float, type(None)), (str,)
LISTS, NAMED = (list, type(None)), (dict, type(None))
MAY: tuple[dict[str, tuple[type, ...]], ...] = (  # and what else they read, where it is there
    {"context": LISTS, "columns": NAMED},
    {"logps": LISTS, "read": (str, type(None))},
    {"logps": LISTS, "scores": NAMED, "monitors": NAMED, "extra": NAMED},
)
NEEDED: tuple[dict[str, tuple[type, ...]], ...] = (  # of a question, of a thought, of an answer: what readers rely on
    {"prompt": TEXT, "thoughts": (list,)},
    {"text": TEXT, "tokens": (list,), "weight": NUMBER, "answers": (list,)},
    {"text": TEXT, "weight": NUMBER, "score": NUMBER},
)
AS_JSON = ("columns", "extra")
OPTIONAL = (*AS_JSON, "scores", "monitors", "lines")


@cache
def schema() -> "pa.Schema":
    """A round's file, in pyarrow's words (imported here, so that commands which keep no rollouts need not wait)."""
    import pyarrow as pa

    text, number, ids, named = pa.string(), pa.float64(), pa.list_(pa.int32()), pa.map_(pa.string(), pa.float64())
    wrote = [("text", text), ("tokens", ids), ("logps", pa.list_(pa.float32())), ("ended", pa.bool_())]
    worth = [("weight", number), ("score", number), ("scores", named), ("monitors", named), ("extra", text)]
    answers = ("answers", pa.list_(pa.struct([*wrote, *worth])))
    line = [("text", text), ("tokens", ids), ("read", text), ("read_tokens", ids), ("kept", pa.bool_())]
    read = [("read", text), ("lines", pa.list_(pa.struct(line)))]
    thoughts = ("thoughts", pa.list_(pa.struct([*wrote, *read, ("weight", number), answers])))
    asked = [("prompt", text), ("context", ids), ("columns", text), thoughts]
    return pa.schema([("round", pa.int64()), ("number", pa.int64()), *asked])


def write_rollouts(out: Path, round: int, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes a round's file into the run folder `out`, whole or not at all, in place of an earlier one.

    records: of the schema, as plain dictionaries, `columns` and `extra` as they are; `round` is added to each.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([_row({"round": round, **record}) for record in records], schema=schema())
    pq.write_table(table, whole := io.BytesIO(), compression="zstd")
    write_atomically(out / "rollouts" / f"round-{round:06d}.parquet", whole.getvalue())


def read_rollouts(path: Path) -> Iterator[Record]:
    """The questions of one file, or of all rounds of a run folder in their order, one at a time.

    InputError for a folder without rollouts, and, with its row's number, for what is torn or of another schema.
    """
    files = [path]
    if path.is_dir():
        files = list(rounds_in(path).values())
        if not files:
            raise InputError(f"{path}: holds no rollouts (no rollouts/round-NNNNNN.parquet)")
    return (record for file in files for record in _records(file))


def last_round(out: Path) -> Iterator[Record]:
    """The questions of a run folder's newest round; none if it has no round."""
    files = list(rounds_in(out).values())
    return _records(files[-1]) if files else iter(())


def keep_rollouts(out: Path, step: int) -> None:
    """Drops the rounds that a killed run sampled after `step`."""
    for number, file in rounds_in(out).items():
        if number > step:
            remove(file)


def rounds_in(out: Path) -> dict[int, Path]:
    """The files of a run folder's rounds by their numbers, in their order."""
    name = r"round-([0-9]{1,18})\.(?:parquet|jsonl)"
    found = ((re.fullmatch(name, file.name), file) for file in (out / "rollouts").glob("*"))
    return dict(sorted((int(match[1]), file) for match, file in found if match))


def _records(file: Path) -> Iterator[Record]:
    lines = file.suffix == ".jsonl"
    for number, record in enumerate(_lines(file) if lines else _rows(file), 1):
        _check(record, f"{file}: {'line' if lines else 'row'} {number}")
        yield record


def _rows(file: Path) -> Iterator[Record]:
    """The rows of a Parquet file, with what it holds as JSON read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.ParquetFile(io.BytesIO(file.read_bytes())).read().to_pylist(maps_as_pydicts="lossy")
        for row in rows:
            _read_json(row)
    except (pa.ArrowException, ValueError, TypeError, OSError, RecursionError) as error:
        cause = getattr(error, "strerror", None)
        said = f"cannot be read: {cause}" if cause else f"is torn, or no Parquet file: {one_line(error)[:120]}"
        raise InputError(f"{file}: {said}") from None
    yield from rows


def _read_json(row: Any) -> None:
    """Reads, in their places, the values that the row, its thoughts and answers hold as JSON; what is null goes."""
    if not isinstance(row, dict):
        return
    for name in (name for name in OPTIONAL if name in row):
        if (value := row.pop(name)) is not None:
            row[name] = json.loads(value) if name in AS_JSON else value
    for inner in ("thoughts", "answers"):
        for one in row.get(inner) or ():
            _read_json(one)


def _lines(file: Path) -> Iterator[Record]:
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):
                    raise InputError(f"{file}: line {number} is torn: it is no JSON") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None


def _check(value: Any, where: str, level: int = 0) -> None:
    """InputError for what is no record of the schema, as far as readers rely on it."""
    if not isinstance(value, dict):
        raise InputError(f"{where}: {show(value)} is no object of a rollout")
    there = {name: types for name, types in MAY[level].items() if name in value}
    for name, types in (NEEDED[level] | there).items():
        if name not in value or not isinstance(value[name], types) or isinstance(value[name], bool):
            raise InputError(f"{where}: {name}: {show(value.get(name))} is no value of it in a rollout")
    lines = value.get("lines") or () if level == 1 else ()
    for line in lines if isinstance(lines, list | tuple) else [lines]:
        if not (isinstance(line, dict) and all(isinstance(line.get(name), str) for name in ("text", "read"))):
            raise InputError(f"{where}: lines: {show(line)} is no line of a thought in a rollout")
    inner = ("thoughts", "answers", "")[level]
    for i, one in enumerate(value.get(inner, ())):
        _check(one, f"{where}: {inner[:-1]} {i + 1}", level + 1)


def _row(value: Any, name: str = "") -> Any:
    """A record as Arrow can hold it: text in UTF-8, no number that is not finite, JSON where the schema has no type."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, Mapping):
        if name in AS_JSON:
            return as_line(value).rstrip("\n")
        return {_row(key): _row(item, key) for key, item in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if name == "logps":
        return value if math.isfinite(sum(value)) else [_row(one) for one in value]
    return [_row(one) for one in value] if name in ("thoughts", "answers", "lines") else value


def as_line(record: Any) -> str:
    """Anything as a line of JSON."""
    return strict_json(record) + "\n"
