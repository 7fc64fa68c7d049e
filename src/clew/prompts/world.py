"""The world of a user's own prompts.

Columns beside the prompt reach the grader by name, as in TRL. A tenth of the prompts, picked by a hash, is held out:
equal ones together, and those that the model reads alike.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from clew.config import WorldConfig
from clew.errors import InputError
from clew.prompts.asking import HELD_OUT, TextWorld, digest, hashed_out
from clew.prompts.rows import Row, read_rows
from clew.world import Figures, Look, Question


class PromptWorld(TextWorld):
    """Prompts from rows. InputError, beyond those of TextWorld, for a row that the tokenizer or its chat template does
    not take, and for fewer than two distinct prompts."""

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        tokenizer: PreTrainedTokenizerBase,
        delimiters: tuple[str, str] = ("<think>", "</think>"),
        max_thought: int = 256,
        max_answer: int = 128,
        system: str | None = None,
        demonstrations: str | None = None,
    ):
        super().__init__(tokenizer, delimiters, (max_thought, max_answer), system, demonstrations)
        read = [row if isinstance(row, Row) else Row(row, f"row {number}") for number, row in enumerate(rows, 1)]
        made = self._made(read)
        keys = [(tuple(one.tokens), digest(row["prompt"])) for one, row in zip(made, read, strict=True)]
        self._asked, self._held_out = [], []
        for question, held_out in zip(made, _sides(keys), strict=True):
            (self._held_out if held_out else self._asked).append(replace(question, held_out=held_out))
        self._sides = {tuple(question.tokens): question.held_out for question in (*self._asked, *self._held_out)}

    @classmethod
    def from_config(
        cls, config: WorldConfig, seed: int, tokenizer: PreTrainedTokenizerBase | None, teach: bool
    ) -> "PromptWorld":
        if not config.prompts.file:
            raise InputError("prompts.file: the world called prompts needs a file of them")
        if tokenizer is None:
            raise InputError("model.folder: prompts need a model folder to start from")
        own = config.prompts
        rows = read_rows(config.prompts.file)
        return cls(rows, tokenizer, own.delimiters, system=own.system, demonstrations=own.demonstrations)

    def _to_show(self, number: int) -> Iterable[Question]:
        return (self._asked[(number + i) % len(self._asked)] for i in range(len(self._asked)))

    def _holds_out(self, row: Row, question: Question) -> bool:
        return self._sides.get(tuple(question.tokens), hashed_out(row["prompt"]))

    def to_check(self) -> list[Question]:
        return [*self._asked, *self._held_out]

    def questions(self, numbers: Sequence[int]) -> list[Question]:
        return [self._asked[i % len(self._asked)] for i in numbers]

    def held_out(self, numbers: Sequence[int], look: Look = "final", seed: int = 0) -> list[Question]:
        return [self._held_out[i % len(self._held_out)] for i in numbers]

    def held_out_count(self) -> int:
        return len(self._held_out)

    def measure(self, question: Question, thought: str | None, answer: str) -> Figures:
        return {}

    def read(self, file: Path) -> Iterator[Question]:
        made = self._made(read_rows(file))
        return (replace(question, held_out=self._sides.get(tuple(question.tokens), False)) for question in made)


def _sides(prompts: Sequence[tuple[tuple[int, ...], int]]) -> list[bool]:
    """Whether each prompt, its tokens and its digest, is held out.

    Prompts of the same tokens are one: the smallest of their digests decides for all of them. Where all fall on one
    side, the one of the smallest digest changes it.
    """
    digests: dict[tuple[int, ...], int] = {}
    for tokens, hashed in prompts:
        digests[tokens] = min(hashed, digests.get(tokens, hashed))
    if len(digests) < 2:
        least = "two prompts that the model reads differently are the least"
        raise InputError(f"prompts: {len(prompts)} rows are too few to hold some out; {least}")
    held_out = {tokens: hashed % HELD_OUT == 0 for tokens, hashed in digests.items()}
    if len(set(held_out.values())) == 1:
        least = min(digests, key=lambda tokens: (digests[tokens], tokens))
        held_out[least] = not held_out[least]
    return [held_out[tokens] for tokens, _ in prompts]
