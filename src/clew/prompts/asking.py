"""How text is asked: chat template, delimiters of the thought, demonstrations. Worlds of text differ in where their
questions come from."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from clew.errors import InputError
from clew.prompts.demonstrations import OPTION, Writer, source_of
from clew.prompts.rows import Row, as_messages, as_text, fault, said
from clew.text import show
from clew.tree import SpanTree
from clew.world import Question, Stop, World

BREAK = "\n"
SPELT = (BREAK, "\u010a", "<0x0A>")  # a line break within tokens: as itself, as byte-level BPE has it, as a byte
HELD_OUT = 10  # one prompt in so many is never trained on


class TextWorld(World):
    """Questions in text: a thought stands between two delimiters, an answer ends with the end-of-sequence token.

    delimiters: the texts that open and close a thought. The opening one is part of what the shoggoth is asked, unless
    the chat template has already written it. A chat template is applied where the tokenizer has one; system: a system
    message put before each prompt that has none. demonstrations: a file of them, or `package.module:function` that
    writes them.
    InputError for delimiters that the tokenizer cannot tell apart or write, and for a system message, or a prompt of
    chat messages, without a chat template.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        delimiters: tuple[str, str],
        limits: tuple[int, int],
        system: str | None = None,
        demonstrations: str | None = None,
    ):
        self.tokenizer, self.delimiters, self.limits, self.system = tokenizer, delimiters, limits, system
        self.thought_end = self._checked_delimiters()[1]
        eos = tokenizer.eos_token_id
        self.answer_stop = Stop((eos,) if isinstance(eos, int) else ())
        self.thought_stop = Stop(self.answer_stop.token_ids, (delimiters[1],))
        if system and not tokenizer.chat_template:
            raise InputError("prompts.system: this model's tokenizer has no chat template, so nowhere to put it")
        self._source = demonstrations

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
        messages = None if isinstance(prompt, str) else prompt
        columns = {name: value for name, value in row.items() if name != "prompt"}
        return Question(as_text(prompt), ids, *self.limits, columns, messages=messages, place=row.place)

    def _row_ids(self, row: Row, text: str) -> list[int]:
        try:
            return self._ids(text)
        except Exception as error:  # tokenizers raise many kinds
            raise InputError(f"prompts: {row.place}: the tokenizer cannot take it: {said(error)}") from None

    def _text_of(self, row: Row) -> str:
        """What the shoggoth is asked, up to where its thought begins."""
        text = row["prompt"]
        if self.tokenizer.chat_template:
            messages = as_messages(text)
            if self.system and messages[0]["role"] != "system":
                messages = [{"role": "system", "content": self.system}, *messages]
            try:
                text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            except Exception as error:  # templates are programs: they raise what they like
                raise InputError(f"prompts: {row.place}: the chat template refuses it: {said(error)}") from None
        elif not isinstance(text, str):
            lacks = "chat messages, and this model's tokenizer has no chat template; expected text, or a chat model"
            raise InputError(f"prompts: {row.place} is {lacks}")
        assert isinstance(text, str)
        return text if text.rstrip().endswith(self.delimiters[0]) else text + self.delimiters[0]

    @cached_property
    def _shown(self) -> Writer | list[SpanTree]:
        """What is imitated, taken up when it is first asked for: an evaluation needs none. Held-out prompts are left
        out."""
        found = source_of(self._source) if self._source else []
        if isinstance(found, Writer):
            return found
        both = zip(self._made([one.row for one in found]), found, strict=True)
        mine = [(question, one) for question, one in both if not self._holds_out(one.row, question)]
        if found and not mine:
            raise InputError(
                f"{OPTION}: {show(self._source)} shows held-out prompts alone; nothing is trained on those"
            )
        return [self._tree(question, one.thought, one.answer) for question, one in mine]

    def _holds_out(self, row: Row, question: Question) -> bool:
        """Whether a row's prompt is never trained on."""
        raise NotImplementedError

    def _to_show(self, number: int) -> Iterable[Question]:
        """Training questions: demonstration `number` shows the first of them that one is written for."""
        raise NotImplementedError

    def demonstrations(self, numbers: Sequence[int]) -> list[SpanTree]:
        shown = self._shown
        if isinstance(shown, Writer):
            return [self._written(shown, number) for number in numbers]
        return [shown[number % len(shown)] for number in numbers] if shown else []

    def _written(self, writer: Writer, number: int) -> SpanTree:
        for question in self._to_show(number):
            if (written := writer.write(question)) is not None:
                return self._tree(question, *written)
        raise InputError(f"{OPTION}: {show(writer.name)} wrote none for any of the questions that it was shown")

    def _tree(self, question: Question, thought: str, answer: str) -> SpanTree:
        """A demonstration's prompt, its thought with the delimiter that ends it, and its answer with its end."""
        if self.delimiters[1] in thought:
            raise InputError(f"{OPTION}: the thought at {question.place} holds {self.delimiters[1]!r}, which ends it")
        shown = SpanTree([*self._ids(answer), *self.answer_stop.token_ids], "answer", 1.0)
        thinks = SpanTree(self._ids(thought + self.delimiters[1]), "thought", 1.0, [shown])
        return SpanTree(question.tokens, "prompt", 0.0, [thinks])

    def line_end(self) -> Stop:
        """A line break. InputError for a delimiter that a pause could cut in two, so that it would not be seen."""
        return self._line_end

    @cached_property
    def _line_end(self) -> Stop:
        end = self.delimiters[1]
        if BREAK in end:
            raise InputError(f"paraphrase: line needs a thought's end that holds no line break, unlike {show(end)}")
        breaks = [i for word, i in self.tokenizer.get_vocab().items() if any(spelt in word for spelt in SPELT)]
        for text in map(str, self.tokenizer.batch_decode([[i] for i in breaks])):
            behind = text.rpartition(BREAK)[2] if BREAK in text else ""
            if any(end.startswith(behind[i:]) for i in range(len(behind))):
                raise InputError(f"paraphrase: line cannot tell {show(end)} where the token {show(text)} begins it")
        return Stop((), (BREAK,))

    def text(self, tokens: Sequence[int], special: bool = False) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=not special))


def digest(prompt: str | list[dict[str, Any]]) -> int:
    """64 bits of a prompt, whatever the model; a text and the same as one user's message have the same."""
    plain: Any = prompt
    if isinstance(prompt, list):
        plain = [{key: value for key, value in message.items() if value is not None} for message in prompt]
        if len(plain) == 1 and set(plain[0]) == {"role", "content"} and plain[0]["role"] == "user":
            plain = plain[0]["content"]
    text = json.dumps(plain, sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def hashed_out(prompt: str | list[dict[str, Any]]) -> bool:
    """Whether a prompt's hash puts it into the held-out tenth."""
    return digest(prompt) % HELD_OUT == 0
