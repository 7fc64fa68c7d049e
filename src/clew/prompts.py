"""The world of a user's own prompts: JSON Lines or a datasets folder with a `prompt` column.

The other columns reach the grader by name, as in TRL. A tenth of the prompts, picked by a hash, is held out: equal ones
together, and those that the model reads alike.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from transformers import PreTrainedTokenizerBase

from clew.errors import InputError
from clew.text import one_line, printable, show
from clew.tree import SpanTree
from clew.world import Asked

MAX_DEPTH = 32  # of lists and objects in a row: what reads on (templates, graders, copies) is recursive
RESERVED = ("prompts", "completions", "completion_ids")  # arguments of every grader in TRL's form


class Row(dict[str, Any]):
    """The columns of a row by their names; `place` says where it stands, for messages."""

    def __init__(self, columns: Mapping[str, Any], place: str):
        """InputError unless there is a prompt, text or chat messages, and graders can be given all other columns."""
        super().__init__(columns)
        self.place = place
        if fault := _fault(columns) or _prompt_fault(self.get("prompt")):
            raise InputError(f"prompts: {place} {fault}")
        for name in self:
            if "thought" in name.casefold() or name in RESERVED:
                why = "is an argument of every grader" if name in RESERVED else "names a thought, which no grader sees"
                raise InputError(f"prompts: {place} has a column {show(name)}, which {why}; rename it or leave it out")


def read_rows(path: str | Path) -> list[Row]:
    """The rows of a JSON Lines file, or of a folder saved by datasets (that package is then needed).

    Each has a `prompt`, text or chat messages, and every row the same columns. InputError names the file, the line (the
    row of a folder) and the fault.
    """
    source = Path(path)
    rows = _read_datasets_folder(source) if source.is_dir() else _read_lines(source)
    if not rows:
        raise InputError(f"prompts: {source} holds no rows")
    for row in rows:
        if set(row) != set(rows[0]):
            mine, first = (printable(str(sorted(one)), 200) for one in (row, rows[0]))
            raise InputError(f"prompts: {row.place} has columns {mine}, the first row {first}")
    return rows


def _read_lines(source: Path) -> list[Row]:
    try:
        text = source.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"prompts: {source} line {number} is not UTF-8 text ({error.reason})") from None
    except (OSError, ValueError) as error:
        raise InputError(f"prompts: {source} cannot be read: {error}") from None
    rows = []
    for number, line in enumerate(text.split("\n"), 1):  # other line separators are text, and may stand in a string
        if line.strip(" \t\r"):
            rows.append(_parsed(line, f"{source} line {number}"))
    return rows


def _parsed(line: str, place: str) -> Row:
    try:
        columns = json.loads(line, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise InputError(f"prompts: {place} is not JSON: {error.msg} (column {error.colno})") from None
    except ValueError as error:
        raise InputError(f"prompts: {place} is not JSON that can be read: {error}") from None
    except RecursionError:
        raise InputError(f"prompts: {place} is nested deeper than {MAX_DEPTH} levels") from None
    if not isinstance(columns, dict):
        raise InputError(f"prompts: {place} is no object with a prompt, but {show(columns)}")
    return Row(columns, place)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it names {show(next(name for name in names if names.count(name) > 1))} twice")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is a number of JavaScript alone; null was expected")


def _read_datasets_folder(folder: Path) -> list[Row]:
    try:
        from datasets import Dataset, load_from_disk
    except ImportError:
        raise InputError(f"prompts: {folder} is a folder, and reading it needs: pip install datasets") from None
    try:
        data = load_from_disk(str(folder))
        rows = data.to_list() if isinstance(data, Dataset) else None
    except Exception as error:  # datasets raises many kinds for a folder that it did not write
        raise InputError(f"prompts: {folder} is no datasets folder: {_said(error)}") from None
    if rows is None:
        raise InputError(
            f"prompts: {folder} holds several splits ({', '.join(map(str, data))}); give the folder of one"
        )
    return [Row(row, f"{folder} row {number}") for number, row in enumerate(rows, 1)]


def _fault(value: Any) -> str | None:
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


class PromptWorld:
    """Prompts from rows; the thought stands between two delimiters, the answer ends with the end-of-sequence token.

    delimiters: the texts that open and close a thought. The opening one is part of what the shoggoth is asked, unless
    the chat template has already written it. A chat template is applied where the tokenizer has one.
    InputError for delimiters that the tokenizer cannot tell apart or write, for a row that it or its chat template does
    not take, and for fewer than two distinct prompts.
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        tokenizer: PreTrainedTokenizerBase,
        delimiters: tuple[str, str] = ("<think>", "</think>"),
        max_thought: int = 256,
        max_answer: int = 128,
    ):
        self.tokenizer, self.delimiters = tokenizer, delimiters
        self.max_thought, self.max_answer = max_thought, max_answer
        self.close_thought = self._checked_delimiters()[1]
        read = [row if isinstance(row, Row) else Row(row, f"row {number}") for number, row in enumerate(rows, 1)]
        asked = self._asked(read)
        sides = _sides([(tuple(one.tokens), _digest(row["prompt"])) for one, row in zip(asked, read, strict=True)])
        self._asked_on = {side: [one for one, out in zip(asked, sides, strict=True) if out == side]
                          for side in (False, True)}  # fmt: skip

    def _checked_delimiters(self) -> list[list[int]]:
        """The tokens of both delimiters."""
        texts = self.delimiters
        if len(texts) != 2 or not all(isinstance(text, str) and text.strip() for text in texts) or _fault([*texts]):
            raise InputError(f"delimiters: {show(texts)} are not two texts")
        try:
            ids = [self._ids(text) for text in texts]
        except Exception as error:  # tokenizers raise many kinds
            raise InputError(f"delimiters: the tokenizer cannot take {show(texts)}: {_said(error)}") from None
        for text, tokens in zip(texts, ids, strict=True):
            if not tokens:
                raise InputError(f"delimiters: {text!r} is no token at all to this model's tokenizer")
        if ids[0] == ids[1]:
            raise InputError(f"delimiters: {texts[0]!r} and {texts[1]!r} are the same to this model's tokenizer; "
                             "two that differ were expected")  # fmt: skip
        if texts[1] not in (written := self.text(ids[1], special=True)):
            raise InputError(f"delimiters: {texts[1]!r} comes back from this model's tokenizer as {show(written)}, "
                             "so that no thought could end with it")  # fmt: skip
        return ids

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def _asked(self, rows: Sequence[Row]) -> list[Asked]:
        """All rows as questions, so that none can fail later."""
        texts = [self._text_of(row) for row in rows]
        try:
            ids_of = self.tokenizer(texts, add_special_tokens=False).input_ids if texts else []
        except Exception:  # which row it was is found below
            ids_of = [self._row_ids(row, text) for row, text in zip(rows, texts, strict=True)]
        return [
            Asked(
                row["prompt"] if isinstance(row["prompt"], str) else json.dumps(row["prompt"], default=str),
                ids,
                {name: value for name, value in row.items() if name != "prompt"},
            )
            for row, ids in zip(rows, ids_of, strict=True)
        ]

    def _row_ids(self, row: Row, text: str) -> list[int]:
        try:
            return self._ids(text)
        except Exception as error:  # tokenizers raise many kinds
            raise InputError(f"prompts: {row.place}: the tokenizer cannot take it: {_said(error)}") from None

    def _text_of(self, row: Row) -> str:
        """What the shoggoth is asked, up to where its thought begins."""
        prompt = row["prompt"]
        if self.tokenizer.chat_template:
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            try:
                text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            except Exception as error:  # templates are programs: they raise what they like
                raise InputError(f"prompts: {row.place}: the chat template refuses it: {_said(error)}") from None
        else:
            text = prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)
        assert isinstance(text, str)
        return text if text.rstrip().endswith(self.delimiters[0]) else text + self.delimiters[0]

    def ask(self, indices: Sequence[int], held_out: bool = False) -> list[Asked]:
        asked = self._asked_on[held_out]
        return [asked[i % len(asked)] for i in indices]

    def demonstrate(self, indices: Sequence[int]) -> list[SpanTree]:
        return []

    def thought_ends(self, tokens: Sequence[int]) -> bool:
        # The closing delimiter may be cut into tokens in several ways, at most one a byte, so the text is what counts.
        last = tokens[-max(16, len(self.delimiters[1].encode()) + 1) :]
        return tokens[-1] == self.tokenizer.eos_token_id or self.delimiters[1] in self.text(last, special=True)

    def answer_ends(self, tokens: Sequence[int]) -> bool:
        return tokens[-1] == self.tokenizer.eos_token_id

    def text(self, tokens: Sequence[int], special: bool = False) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=not special))

    def default_grader(self) -> Callable[..., list[float]] | None:
        return None

    def measure(
        self, asked: Sequence[Asked], thoughts: Sequence[str], answers: Sequence[str]
    ) -> dict[str, list[float]]:
        return {}


def _digest(prompt: str | list[dict[str, Any]]) -> int:
    """64 bits of a prompt, whatever the model; a text and the same as one user's message have the same."""
    plain: Any = prompt
    if isinstance(prompt, list):
        plain = [{key: value for key, value in message.items() if value is not None} for message in prompt]
        if len(plain) == 1 and set(plain[0]) == {"role", "content"} and plain[0]["role"] == "user":
            plain = plain[0]["content"]
    text = json.dumps(plain, sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _sides(prompts: Sequence[tuple[tuple[int, ...], int]]) -> list[bool]:
    """Whether each prompt, its tokens and its digest, is held out.

    Prompts of the same tokens are one: the smallest of their digests decides for all of them. Where all fall on one
    side, the one of the smallest digest changes it.
    """
    digests: dict[tuple[int, ...], int] = {}
    for tokens, digest in prompts:
        digests[tokens] = min(digest, digests.get(tokens, digest))
    if len(digests) < 2:
        raise InputError(f"prompts: {len(prompts)} rows are too few to hold some out; two prompts that the model reads "
                         "differently are the least")  # fmt: skip
    held_out = {tokens: digest % 10 == 0 for tokens, digest in digests.items()}
    if len(set(held_out.values())) == 1:
        least = min(digests, key=lambda tokens: (digests[tokens], tokens))
        held_out[least] = not held_out[least]
    return [held_out[tokens] for tokens, _ in prompts]


def _said(error: Exception) -> str:
    return printable(one_line(f"{type(error).__name__}: {error}"), 200)
