"""When a continuation is over: after one of some tokens, or as soon as its text holds one of some texts.

A text may be cut into tokens in several ways, so the text is what counts: the plain rule decodes the last tokens of
each row at each step. Where tokens have texts of their own (byte-level BPE), only behind those that can end a text.
"""

import json
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from clew.errors import InputError
from clew.world import Stop

LETTERS = bytes_to_unicode()
"""byte-level BPE's letter of each byte"""
SIGNS = frozenset(LETTERS.values())


class Ending:
    """Tells of rows, step by step, whether they are over with their last token."""

    def __init__(self, stop: Stop, tokenizer: PreTrainedTokenizerBase | None, rows: int):
        if stop.strings and tokenizer is None:
            raise InputError("stop: its strings need the tokenizer that tells where they are")
        self.ids, self.strings = np.array(stop.token_ids, dtype=np.int64), stop.strings
        self.tokenizer = tokenizer if stop.strings else None
        if self.tokenizer is not None:
            self.enders = enders(self.tokenizer, len(self.tokenizer), self.strings)  # type: ignore[arg-type]
            # At most a token a byte, and one before them.
            window = max(16, *(len(text.encode()) + 1 for text in stop.strings))
            self.last_RW, self.count = np.zeros((rows, window), dtype=np.int64), 0

    def after(self, rows: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Which of these rows are over with these tokens. Rows that are left out once are not asked about again."""
        over = np.isin(tokens, self.ids)
        if self.tokenizer is None:
            return over
        window = self.last_RW.shape[1]
        self.count = min(self.count + 1, window)
        self.last_RW[:, :-1] = self.last_RW[:, 1:]
        self.last_RW[rows, -1] = tokens
        asked = ~over if self.enders is None else ~over & np.isin(tokens, self.enders)
        for i in asked.nonzero()[0]:
            text = str(self.tokenizer.decode(self.last_RW[rows[i], window - self.count :].tolist()))
            over[i] = any(string in text for string in self.strings)
        return over


def held(stop: Stop, tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> bool:
    """Whether a completion of these tokens is over by `stop`."""
    if not set(stop.token_ids).isdisjoint(tokens):
        return True
    text = str(tokenizer.decode(list(tokens))) if stop.strings and len(tokens) else ""
    return any(string in text for string in stop.strings)


def cut(stop: Stop, tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> list[list[int]]:
    """Tokens as the completions that a sampler would have made of them, one behind the other."""
    parts: list[list[int]] = [[]]
    ending, row = Ending(stop, tokenizer, 1), np.zeros(1, dtype=np.int64)
    for token in tokens:
        parts[-1].append(token)
        if ending.after(row, np.array([token]))[0]:
            ending = Ending(stop, tokenizer, 1)
            parts.append([])
    return [part for part in parts if part]


@lru_cache(maxsize=8)
def enders(tokenizer: PreTrainedTokenizerBase, size: int, strings: tuple[str, ...]) -> np.ndarray | None:
    """The tokens with which a text can come to hold one of `strings`; None where only the decoded text can tell.

    Told of byte-level BPE alone, where a text's bytes are those of its tokens, whatever their neighbours. size: of the
    vocabulary; a tokenizer that has learned more is asked anew.
    """
    plain = all(string and "\N{REPLACEMENT CHARACTER}" not in string for string in strings)
    if not plain or not _joins_bytes(tokenizer):
        return None
    spelled = [_spelled(string) for string in strings]
    # The last bytes of a string that a token may begin with. Another string's beginning may follow in the same token.
    rests = tuple(word[i:] for word in spelled for i in range(len(word)))
    found: list[int] = []
    for token, number in tokenizer.get_vocab().items():
        own = token if SIGNS.issuperset(token) else _spelled(token)
        if own.startswith(rests) or any(word in own for word in spelled):
            found.append(number)
    return np.array(found, dtype=np.int64)


def _spelled(text: str) -> str:
    return "".join(LETTERS[byte] for byte in text.encode())


def _joins_bytes(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a text is the bytes of its tokens, one after the other: byte-level BPE whose text nobody edits after."""
    known = PreTrainedTokenizerFast
    if not isinstance(tokenizer, known) or tokenizer.backend_tokenizer.decoder is None:
        return False
    if (type(tokenizer).decode, type(tokenizer)._decode) != (known.decode, known._decode):
        return False
    decoder = json.loads(tokenizer.backend_tokenizer.decoder.__getstate__())
    parts = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    if [part["type"] for part in parts] != ["ByteLevel"]:
        return False
    edited = " ?"  # some clean up spaces before punctuation, and some that say so do not
    return not tokenizer.clean_up_tokenization_spaces or edited == tokenizer.decode(
        tokenizer.encode(edited, add_special_tokens=False)
    )
