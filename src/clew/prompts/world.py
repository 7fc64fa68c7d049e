"""The world of a user's own prompts.

Columns beside the prompt reach the grader by name, as in TRL. A tenth of the prompts, picked by a hash, is held out:
equal ones together, and those that the model reads alike.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from clew.config import WorldConfig
from clew.errors import InputError
from clew.prompts.rows import Row, fault, read_rows, said
from clew.text import show
from clew.tree import SpanTree
from clew.world import Figures, Look, Question, Stop, World


class PromptWorld(World):
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
        self.limits = (max_thought, max_answer)
        self.thought_end = self._checked_delimiters()[1]
        eos = tokenizer.eos_token_id
        self.answer_stop = Stop((eos,) if isinstance(eos, int) else ())
        self.thought_stop = Stop(self.answer_stop.token_ids, (delimiters[1],))
        read = [row if isinstance(row, Row) else Row(row, f"row {number}") for number, row in enumerate(rows, 1)]
        made = self._made(read)
        keys = [(tuple(one.tokens), _digest(row["prompt"])) for one, row in zip(made, read, strict=True)]
        self._asked, self._held_out = [], []
        for question, held_out in zip(made, _sides(keys), strict=True):
            (self._held_out if held_out else self._asked).append(replace(question, held_out=held_out))

    @classmethod
    def from_config(
        cls, config: WorldConfig, seed: int, tokenizer: PreTrainedTokenizerBase | None, teach: bool
    ) -> "PromptWorld":
        if not config.prompts.file:
            raise InputError("prompts.file: the world called prompts needs a file of them")
        if tokenizer is None:
            raise InputError("model.folder: prompts need a model folder to start from")
        return cls(read_rows(config.prompts.file), tokenizer, config.prompts.delimiters)

    def _checked_delimiters(self) -> list[list[int]]:
        """The tokens of both delimiters."""
        texts = self.delimiters
        if len(texts) != 2 or not all(isinstance(text, str) and text.strip() for text in texts) or fault([*texts]):
            raise InputError(f"delimiters: {show(texts)} are not two texts")
        try:
            ids = [self._ids(text) for text in texts]
        except Exception as error:  # tokenizers raise many kinds
            raise InputError(f"delimiters: the tokenizer cannot take {show(texts)}: {said(error)}") from None
        for text, tokens in zip(texts, ids, strict=True):
            if not tokens:
                raise InputError(f"delimiters: {text!r} is no token at all to this model's tokenizer")
        if ids[0] == ids[1]:
            same = f"{texts[0]!r} and {texts[1]!r} are the same to this model's tokenizer"
            raise InputError(f"delimiters: {same}; two that differ were expected")
        if texts[1] not in (written := self.text(ids[1], special=True)):
            back = f"{texts[1]!r} comes back from this model's tokenizer as {show(written)}"
            raise InputError(f"delimiters: {back}, so that no thought could end with it")
        return ids

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def _made(self, rows: Sequence[Row]) -> list[Question]:
        """All rows as questions, so that none can fail later."""
        texts = [self._text_of(row) for row in rows]
        try:
            ids_of = self.tokenizer(texts, add_special_tokens=False).input_ids if texts else []
        except Exception:  # which row it was is found below
            ids_of = [self._row_ids(row, text) for row, text in zip(rows, texts, strict=True)]
        return [self._question(row, ids) for row, ids in zip(rows, ids_of, strict=True)]

    def _question(self, row: Row, ids: list[int]) -> Question:
        prompt = row["prompt"]
        text = prompt if isinstance(prompt, str) else json.dumps(prompt, default=str)
        return Question(text, ids, *self.limits, {name: value for name, value in row.items() if name != "prompt"})

    def _row_ids(self, row: Row, text: str) -> list[int]:
        try:
            return self._ids(text)
        except Exception as error:  # tokenizers raise many kinds
            raise InputError(f"prompts: {row.place}: the tokenizer cannot take it: {said(error)}") from None

    def _text_of(self, row: Row) -> str:
        """What the shoggoth is asked, up to where its thought begins."""
        prompt = row["prompt"]
        if self.tokenizer.chat_template:
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            try:
                text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            except Exception as error:  # templates are programs: they raise what they like
                raise InputError(f"prompts: {row.place}: the chat template refuses it: {said(error)}") from None
        else:
            text = prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)
        assert isinstance(text, str)
        return text if text.rstrip().endswith(self.delimiters[0]) else text + self.delimiters[0]

    def questions(self, numbers: Sequence[int]) -> list[Question]:
        return [self._asked[i % len(self._asked)] for i in numbers]

    def held_out(self, numbers: Sequence[int], look: Look = "final", seed: int = 0) -> list[Question]:
        return [self._held_out[i % len(self._held_out)] for i in numbers]

    def held_out_count(self) -> int:
        return len(self._held_out)

    def demonstrations(self, numbers: Sequence[int]) -> list[SpanTree]:
        return []

    def measure(self, question: Question, thought: str | None, answer: str) -> Figures:
        return {}

    def read(self, file: Path) -> Iterator[Question]:
        known = {tuple(question.tokens) for question in self._held_out}
        made = self._made(read_rows(file))
        return (replace(question, held_out=tuple(question.tokens) in known) for question in made)

    def text(self, tokens: Sequence[int], special: bool = False) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=not special))


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
        least = "two prompts that the model reads differently are the least"
        raise InputError(f"prompts: {len(prompts)} rows are too few to hold some out; {least}")
    held_out = {tokens: digest % 10 == 0 for tokens, digest in digests.items()}
    if len(set(held_out.values())) == 1:
        least = min(digests, key=lambda tokens: (digests[tokens], tokens))
        held_out[least] = not held_out[least]
    return [held_out[tokens] for tokens, _ in prompts]
