"""The world of a user's own prompts: JSON Lines or a datasets folder with a `prompt` column.

The other columns reach the grader by name, as in TRL. A tenth of the rows, picked by a hash of the prompt, is held out.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from clew.errors import InputError
from clew.tree import SpanTree
from clew.world import Asked

Row = dict[str, Any]


def read_rows(path: str | Path) -> list[Row]:
    """The rows of a JSON Lines file, or of a folder saved by datasets (that package is then needed).

    Each has a `prompt`, text or chat messages, and every row the same columns. InputError names file, line and fault.
    """
    source = Path(path)
    if source.is_dir():
        rows = _read_datasets_folder(source)
    else:
        try:
            lines = source.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"prompts: {source} cannot be read: {error}") from None
        rows = []
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except ValueError as error:
                    raise InputError(f"prompts: {source} line {number} is not JSON: {error}") from None
    if not rows:
        raise InputError(f"prompts: {source} holds no rows")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("prompt"), (str, list)) or not row["prompt"]:
            raise InputError(f"prompts: {source} row {number} has no prompt (text, or a list of chat messages)")
        if set(row) != set(rows[0]):
            raise InputError(f"prompts: {source} row {number} has columns {sorted(row)}, row 1 {sorted(rows[0])}")
    return rows


def _read_datasets_folder(folder: Path) -> list[Row]:
    try:
        from datasets import Dataset, load_from_disk
    except ImportError:
        raise InputError(f"prompts: {folder} is a folder, and reading it needs: pip install datasets") from None
    try:
        data = load_from_disk(str(folder))
    except Exception as error:  # datasets raises many kinds for a folder that it did not write
        raise InputError(f"prompts: {folder} is no datasets folder: {error}") from None
    if not isinstance(data, Dataset):
        raise InputError(
            f"prompts: {folder} holds several splits ({', '.join(map(str, data))}); give the folder of one"
        )
    return data.to_list()


class PromptWorld:
    """Prompts from rows; the thought stands between two delimiters, the answer ends with the end-of-sequence token.

    delimiters: the texts that open and close a thought. The opening one is part of what the shoggoth is asked, unless
    the chat template has already written it. A chat template is applied where the tokenizer has one.
    """

    def __init__(
        self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase,
        delimiters: tuple[str, str] = ("<think>", "</think>"),
        max_thought: int = 256, max_answer: int = 128,
    ):  # fmt: skip
        if not all(delimiters):
            raise InputError(f"delimiters: {delimiters} are not two texts")
        self.tokenizer, self.delimiters = tokenizer, delimiters
        self.max_thought, self.max_answer = max_thought, max_answer
        self.close_thought = self._ids(delimiters[1])
        held_out = [self._digest(row) % 10 == 0 for row in rows]
        if len(rows) > 1 and len(set(held_out)) == 1:  # too few rows for the hash to fall on both sides
            held_out[min(range(len(rows)), key=lambda i: self._digest(rows[i]))] = not held_out[0]
        self._rows = {
            side: [row for row, out in zip(rows, held_out, strict=True) if out == side] for side in (False, True)
        }
        if not self._rows[False] or not self._rows[True]:
            raise InputError(f"prompts: {len(rows)} rows are too few to hold some out; two are the least")

    @staticmethod
    def _digest(row: Row) -> int:
        return int.from_bytes(hashlib.sha256(json.dumps(row["prompt"], sort_keys=True).encode()).digest()[:8], "big")

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def ask(self, indices: Sequence[int], held_out: bool = False) -> list[Asked]:
        rows = self._rows[held_out]
        return [self._asked(rows[i % len(rows)]) for i in indices]

    def _asked(self, row: Row) -> Asked:
        prompt = row["prompt"]
        if self.tokenizer.chat_template:
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        else:
            text = prompt if isinstance(prompt, str) else "\n".join(str(message["content"]) for message in prompt)
        assert isinstance(text, str)
        if not text.rstrip().endswith(self.delimiters[0]):
            text += self.delimiters[0]
        columns = {name: value for name, value in row.items() if name != "prompt"}
        return Asked(prompt if isinstance(prompt, str) else json.dumps(prompt), self._ids(text), columns)

    def demonstrate(self, indices: Sequence[int]) -> list[SpanTree]:
        return []

    def thought_ends(self, tokens: Sequence[int]) -> bool:
        # The closing delimiter may be cut into tokens in several ways, so the text is what counts.
        return tokens[-1] == self.tokenizer.eos_token_id or self.delimiters[1] in self.text(tokens[-16:], special=True)

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
