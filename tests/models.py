"""Tiny models of the four architectures, and of their variants, in float64, without dropout."""

from functools import partial
from typing import Any

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

SPECIAL = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48, **SPECIAL}
SHAPE["max_position_embeddings"] = 256


def _llama(vocab: int, **more: Any) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocab, **{"num_key_value_heads": 2, **SHAPE, **more}))


def _qwen3(vocab: int, **more: Any) -> PreTrainedModel:
    shape = {"num_key_value_heads": 2, "head_dim": 8, **SHAPE, **more}
    return Qwen3ForCausalLM(Qwen3Config(vocab_size=vocab, **shape))


def _gpt2(vocab: int, **more: Any) -> PreTrainedModel:
    size = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256, **SPECIAL, **more}
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocab, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, **size))


def _neox(vocab: int, parallel: bool, **more: Any) -> PreTrainedModel:
    sure = {"attention_dropout": 0.0, "hidden_dropout": 0.0}
    config = GPTNeoXConfig(vocab_size=vocab, use_parallel_residual=parallel, **sure, **SHAPE, **more)
    return GPTNeoXForCausalLM(config)


MAKERS = {
    "llama": _llama,
    "qwen3": _qwen3,
    "gpt2": _gpt2,
    "neox": partial(_neox, parallel=True),
    "neox-serial": partial(_neox, parallel=False),
}
VARIANTS = {
    "llama-biased": partial(_llama, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "llama-own-keys": partial(_llama, num_key_value_heads=4),
    "qwen3-wide": partial(_qwen3, head_dim=16, num_key_value_heads=1, attention_bias=True, tie_word_embeddings=True),
    "gpt2-untied": partial(_gpt2, tie_word_embeddings=False, scale_attn_by_inverse_layer_idx=True),
    "neox-unbiased": partial(_neox, parallel=True, rotary_pct=1.0, attention_bias=False),
}
"""of the same architectures: biases, tied embeddings, keys of each head's own or one for all, heads wider than their
share of the stream"""


def tiny(kind: str, vocab: int = 40, seed: int = 0) -> PreTrainedModel:
    """A tiny model in float64 whose weights `seed` fixes."""
    torch.manual_seed(seed)
    return {**MAKERS, **VARIANTS}[kind](vocab).double().eval()


def shaken(kind: str, vocab: int = 40, seed: int = 0, size: float = 0.2) -> PreTrainedModel:
    """A tiny model in whom no bias is 0 and no norm's weight is 1, as in one that has learnt."""
    model = tiny(kind, vocab, seed)
    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += size * torch.randn(parameter.shape, generator=dice, dtype=parameter.dtype)
    return model


def length(completions: list[str], **_: object) -> list[float]:
    """A grader by import path: longer answers score more."""
    return [float(len(text)) for text in completions]
