"""What prompts' policies imitate: rows of a file with `prompt`, `thought` and `answer`, or what a function writes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clew.calls import load_function
from clew.errors import InputError
from clew.prompts.rows import Row, fault, read_columns, said
from clew.text import show
from clew.world import Question

OPTION = "prompts.demonstrations"
FORM = "expected a file of rows with prompt, thought and answer, or package.module:function"


@dataclass(frozen=True)
class Shown:
    """A row of a file of demonstrations."""

    row: Row
    """its prompt, and where it stands"""
    thought: str
    answer: str


@dataclass(frozen=True)
class Writer:
    """A function that writes demonstrations: `f(prompt, **columns) -> (thought, answer)`, or None for no demonstration.

    prompt: text, or chat messages where it came as such. columns: the question's, by name.
    """

    name: str
    function: Callable[..., Any]

    def write(self, question: Question) -> tuple[str, str] | None:
        """A question's thought and answer. InputError, naming the question, for a function that raises or returns
        anything else."""
        prompt = question.prompt if question.messages is None else question.messages
        try:
            written = self.function(prompt, **question.columns)
        except Exception as error:
            raise InputError(f"{OPTION}: {show(self.name)} raised {said(error)} at {question.place}") from error
        if written is None:
            return None
        whole = isinstance(written, tuple | list) and len(written) == 2 and all(type(one) is str for one in written)
        if not whole or fault([*written]):
            wrong = f"returned {show(written)} at {question.place}; expected (thought, answer), two texts, or None"
            raise InputError(f"{OPTION}: {show(self.name)} {wrong}")
        return written[0], written[1]


def source_of(source: str) -> list[Shown] | Writer:
    """The rows of a file, or the function at an import path. InputError for what is neither."""
    if Path(source).exists() or ":" not in source:
        if not Path(source).exists():
            raise InputError(f"{OPTION}: {show(source)} is not there; {FORM}")
        return [_shown(columns, place) for columns, place in read_columns(source, OPTION)]
    return Writer(source, load_function(source, OPTION))


def _shown(columns: dict[str, Any], place: str) -> Shown:
    for name in ("prompt", "thought", "answer"):
        if name not in columns:
            raise InputError(f"{OPTION}: {place} has no {name}; {FORM}")
    for name in ("thought", "answer"):
        if not isinstance(columns[name], str) or fault(columns[name]):
            raise InputError(f"{OPTION}: {place} has the {name} {show(columns[name])}, which is not text")
    return Shown(Row({"prompt": columns["prompt"]}, place, OPTION), columns["thought"], columns["answer"])
