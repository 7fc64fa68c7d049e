"""Tiny models of the four architectures, in float64, without dropout."""

from functools import partial

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


def _llama(vocab: int) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocab, num_key_value_heads=2, **SHAPE))


def _qwen3(vocab: int) -> PreTrainedModel:
    return Qwen3ForCausalLM(Qwen3Config(vocab_size=vocab, num_key_value_heads=2, head_dim=8, **SHAPE))


def _gpt2(vocab: int) -> PreTrainedModel:
    size = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocab, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, **size, **SPECIAL))


def _neox(vocab: int, parallel: bool) -> PreTrainedModel:
    sure = {"attention_dropout": 0.0, "hidden_dropout": 0.0}
    config = GPTNeoXConfig(vocab_size=vocab, use_parallel_residual=parallel, **sure, **SHAPE)
    return GPTNeoXForCausalLM(config)


MAKERS = {
    "llama": _llama,
    "qwen3": _qwen3,
    "gpt2": _gpt2,
    "neox": partial(_neox, parallel=True),
    "neox-serial": partial(_neox, parallel=False),
}


def tiny(kind: str, vocab: int = 40, seed: int = 0) -> PreTrainedModel:
    """A tiny model in float64 whose weights `seed` fixes."""
    torch.manual_seed(seed)
    return MAKERS[kind](vocab).double().eval()


def length(completions: list[str], **_: object) -> list[float]:
    """A grader by import path: longer answers score more."""
    return [float(len(text)) for text in completions]
