"""When a continuation is over, held against the plain rule: decode the last tokens, at every step."""

import random
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from clew.errors import InputError
from clew.rollout.stops import Ending, enders
from clew.world import Stop

SMOL = Path(__file__).parents[2] / "models" / "smollm2-135m"
TEXT = [
    "Wie viele Bäume stehen im Wald? 42, don't you know? </think>\n\nAnswer: yes .",
    "日本語のテキスト、そして 🙂🙃 emoji. a b aa bb aab ab?! x ; y\n</think> <answer>7</answer>",
    "the quick brown fox, the lazy dog; isn't it? \n\n\n  Answer:\t12 </answer></answer>",
]
STRINGS = [
    ("\n\n",),
    ("</think>", "Answer:"),
    ("🙂",),
    ("語の", "ä"),
    (" a", "n't", ", "),
    ("er>7</", "k"),
    ("�",),
    ("d of it", "zz< end of it >"),
    ("aab", " ?", "it? \n\n\n  Answer:\t12 </answer>"),
]


def byte_level(**options: object) -> PreTrainedTokenizerFast:
    words = Tokenizer(models.BPE())
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False))  # type: ignore[call-arg]
    words.add_tokens([AddedToken("< end of it >"), AddedToken("</think>\n"), AddedToken("<|im_end|>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=words, **options)


def sentence_pieces() -> PreTrainedTokenizerFast:
    """As Llama 2 has it: spaces are signs, unknown characters bytes, the first space of a text is dropped."""
    words = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    words.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])  # type: ignore[assignment]
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    words.decoder = decoders.Sequence(parts)  # type: ignore[assignment]
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, limit_alphabet=60, show_progress=False)  # type: ignore[call-arg]
    words.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")


def metaspace() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.Unigram())
    words.pre_tokenizer, words.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()  # type: ignore[assignment]
    words.train_from_iterator(TEXT, trainers.UnigramTrainer(vocab_size=150, unk_token="<unk>", show_progress=False))  # type: ignore[call-arg]
    return PreTrainedTokenizerFast(tokenizer_object=words)


def word_pieces() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    words.pre_tokenizer, words.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()  # type: ignore[assignment]
    special = {"special_tokens": ["[UNK]", "[SEP]"], "show_progress": False}
    words.train_from_iterator(TEXT, trainers.WordPieceTrainer(vocab_size=200, **special))  # type: ignore[call-arg]
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", clean_up_tokenization_spaces=True)


TOKENIZERS = {
    "byte level": byte_level,
    "byte level that says it cleans up": lambda: byte_level(clean_up_tokenization_spaces=True),
    "sentence pieces": sentence_pieces,
    "metaspace": metaspace,
    "word pieces": word_pieces,
    "SmolLM2": lambda: AutoTokenizer.from_pretrained(SMOL),
}


def streams(tokenizer: PreTrainedTokenizerBase, strings: tuple[str, ...], count: int) -> list[list[int]]:
    """Random tokens with pieces of the texts and of the strings among them, cut into tokens in ways of their own."""
    dice = random.Random(0)
    known, made = list(tokenizer.get_vocab().values()), []
    for _ in range(count):
        tokens: list[int] = []
        while len(tokens) < 60:
            text = dice.choice([*TEXT, *strings])
            start = dice.randrange(len(text))
            piece = text[start : start + dice.randrange(1, 30)]
            cut = dice.randrange(len(piece) + 1)
            for part in (piece[:cut], piece[cut:]):
                tokens += tokenizer.encode(part, add_special_tokens=False)
            tokens += dice.sample(known, dice.randrange(3))
        made.append(tokens[:60])
    return made


@pytest.mark.parametrize("name", TOKENIZERS)
def test_texts_end_rows_where_the_plain_rule_does(name: str) -> None:
    if name == "SmolLM2" and not SMOL.exists():
        pytest.skip("needs the model of `make language`")
    tokenizer = TOKENIZERS[name]()
    ended = 0
    for strings in STRINGS:
        rows = streams(tokenizer, strings, 25)
        ending = Ending(Stop((5,), strings), tokenizer, len(rows))
        window = max(16, *(len(text.encode()) + 1 for text in strings))
        left = np.arange(len(rows))
        for step in range(60):
            said = ending.after(left, np.array([rows[row][step] for row in left]))
            for row, over in zip(left, said, strict=True):
                text = tokenizer.decode(rows[row][: step + 1][-window:])
                assert over == (rows[row][step] == 5 or any(string in text for string in strings)), (strings, text)
            ended += int(said.sum())
            left = left[~said]
    assert ended > 50


def test_few_tokens_are_asked_about_where_tokens_have_texts_of_their_own() -> None:
    tokenizer = byte_level()
    texts = {number: str(tokenizer.decode([number])) for number in tokenizer.get_vocab().values()}
    few = enders(tokenizer, len(tokenizer), ("</think>",))
    assert few is not None
    asked = {texts[int(number)] for number in few}
    assert asked >= {">", "</think>\n"} and all(text[0] in "</think>" for text in asked) and len(few) < len(texts) / 10
    for unknown in (sentence_pieces(), metaspace(), word_pieces()):
        assert enders(unknown, len(unknown), ("</think>",)) is None
    assert enders(tokenizer, len(tokenizer), ("",)) is None


def test_a_tokenizer_that_learns_a_token_is_asked_anew() -> None:
    tokenizer = byte_level()
    first = enders(tokenizer, len(tokenizer), ("stop!",))
    tokenizer.add_tokens(["well, stop!"])
    again = enders(tokenizer, len(tokenizer), ("stop!",))
    assert first is not None and again is not None
    assert {*again.tolist()} - {*first.tolist()} == {len(tokenizer) - 1}


def test_texts_without_a_tokenizer_are_refused() -> None:
    with pytest.raises(InputError, match="stop: its strings need the tokenizer"):
        Ending(Stop((), ("a",)), None, 1)
    assert Ending(Stop((2, 3)), None, 2).after(np.arange(2), np.array([3, 4])).tolist() == [True, False]
