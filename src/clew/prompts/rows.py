"""Rows of a user's own prompts, out of JSON Lines or a datasets folder with a `prompt` column."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from clew.errors import InputError
from clew.text import one_line, printable, show

MAX_DEPTH = 32  # of lists and objects in a row: what reads on (templates, graders, copies) is recursive
RESERVED = ("prompts", "completions", "completion_ids")  # arguments of every grader in TRL's form


class Row(dict[str, Any]):
    """The columns of a row by their names; `place` says where it stands, for messages."""

    def __init__(self, columns: Mapping[str, Any], place: str, option: str = "prompts"):
        """InputError unless there is a prompt, text or chat messages, and graders can be given all other columns."""
        super().__init__(columns)
        self.place = place
        if wrong := fault(columns) or _prompt_fault(self.get("prompt")):
            raise InputError(f"{option}: {place} {wrong}")
        for name in self:
            if "thought" in name.casefold() or name in RESERVED:
                why = "is an argument of every grader" if name in RESERVED else "names a thought, which no grader sees"
                raise InputError(f"prompts: {place} has a column {show(name)}, which {why}; rename it or leave it out")


def read_rows(path: str | Path) -> list[Row]:
    """The rows of a JSON Lines file, or of a folder saved by datasets (that package is then needed).

    Each has a `prompt`, text or chat messages, and every row the same columns. InputError names the file, the line (the
    row of a folder) and the fault.
    """
    rows = [Row(columns, place) for columns, place in read_columns(path)]
    for row in rows:
        if set(row) != set(rows[0]):
            mine, first = (printable(str(sorted(one)), 200) for one in (row, rows[0]))
            raise InputError(f"prompts: {row.place} has columns {mine}, the first row {first}")
    return rows


def read_columns(path: str | Path, option: str = "prompts") -> list[tuple[dict[str, Any], str]]:
    """The objects of a JSON Lines file, or the rows of a datasets folder, each with where it stands. InputError, that
    begins with the option, for what cannot be read, or holds none."""
    source = Path(path)
    rows = _read_datasets_folder(source, option) if source.is_dir() else _read_lines(source, option)
    if not rows:
        raise InputError(f"{option}: {source} holds no rows")
    return rows


def _read_lines(source: Path, option: str) -> list[tuple[dict[str, Any], str]]:
    try:
        text = source.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{option}: {source} line {number} is not UTF-8 text ({error.reason})") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{option}: {source} cannot be read: {error}") from None
    rows = []
    for number, line in enumerate(text.split("\n"), 1):  # other line separators are text, and may stand in a string
        if line.strip(" \t\r"):
            place = f"{source} line {number}"
            rows.append((_parsed(line, f"{option}: {place}"), place))
    return rows


def _parsed(line: str, place: str) -> dict[str, Any]:
    try:
        columns = json.loads(line, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise InputError(f"{place} is not JSON: {error.msg} (column {error.colno})") from None
    except ValueError as error:
        raise InputError(f"{place} is not JSON that can be read: {error}") from None
    except RecursionError:
        raise InputError(f"{place} is nested deeper than {MAX_DEPTH} levels") from None
    if not isinstance(columns, dict):
        raise InputError(f"{place} is no object with a prompt, but {show(columns)}")
    return columns


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it names {show(next(name for name in names if names.count(name) > 1))} twice")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is a number of JavaScript alone; null was expected")


def _read_datasets_folder(folder: Path, option: str) -> list[tuple[dict[str, Any], str]]:
    try:
        from datasets import Dataset, load_from_disk
    except ImportError:
        raise InputError(f"{option}: {folder} is a folder, and reading it needs: pip install datasets") from None
    try:
        data = load_from_disk(str(folder))
        rows = data.to_list() if isinstance(data, Dataset) else None
    except Exception as error:  # datasets raises many kinds for a folder that it did not write
        raise InputError(f"{option}: {folder} is no datasets folder: {said(error)}") from None
    if rows is None:
        raise InputError(
            f"{option}: {folder} holds several splits ({', '.join(map(str, data))}); give the folder of one"
        )
    return [(row, f"{folder} row {number}") for number, row in enumerate(rows, 1)]


def as_messages(prompt: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A prompt as chat messages; text is one user's."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def as_text(prompt: str | list[dict[str, Any]]) -> str:
    """A prompt as people read it: several messages with who says each."""
    if isinstance(prompt, str):
        return prompt
    alone = len(prompt) == 1
    return "\n".join(one["content"] if alone else f"{one['role']}: {one['content']}" for one in prompt)


def fault(value: Any) -> str | None:
    """What of a row's values, at any depth, nothing after this could read; None if all is well."""
    left = [(value, 0)]
    while left:
        value, depth = left.pop()
        if depth > MAX_DEPTH:
            return f"is nested deeper than {MAX_DEPTH} levels"
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError as error:
                return f"holds half a character ({value[error.start]!a}, a lone surrogate)"
        elif isinstance(value, dict):
            left += [(inner, depth + 1) for pair in value.items() for inner in pair]
        elif isinstance(value, list):
            left += [(inner, depth + 1) for inner in value]
    return None


def _prompt_fault(prompt: Any) -> str | None:
    """What keeps a prompt from being text or chat messages, None if it is either."""
    if not isinstance(prompt, str | list) or not prompt:
        return "has no prompt (text, or a list of chat messages)"
    for number, message in enumerate(prompt if isinstance(prompt, list) else [], 1):
        if not isinstance(message, dict):
            return f"has a prompt whose message {number} is {show(message)}, not an object with role and content"
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                said = f"the {key} {show(message[key])}, which is not text" if key in message else f"no {key}"
                return f"has a prompt whose message {number} has {said}"
    return None


def said(error: Exception) -> str:
    """What somebody else's error says, as a short printable line."""
    return printable(one_line(f"{type(error).__name__}: {error}"), 200)
