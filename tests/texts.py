"""A tokenizer of text, small and untrained on anything, as worlds of prompts and tasks need one."""

from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}[assistant] "


def bpe_tokenizer(template: str | None = None, also: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A byte-level BPE learnt from a few sentences, and others: `</think>` is several tokens to it."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    words.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    options: dict[str, Any] = {"special_tokens": ["<pad>", "<eos>"], "show_progress": False}
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options)
    words.train_from_iterator(["what is two plus two", "say it in <think> and </think>", *also] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")
    tokenizer.chat_template = template
    return tokenizer
