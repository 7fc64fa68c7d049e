"""TransformerLens's bridge over a tiny model: what other people's instrument sees of it."""

from typing import Any

import pytest

from clew.mazes import maze_tokenizer
from clew.policy import Policy
from models import MAKERS, VARIANTS

NAMES = {"llama": "meta-llama/Llama-2-7b-hf", "qwen3": "Qwen/Qwen3-0.6B", "gpt2": "gpt2"}
NAMES |= {"neox": "EleutherAI/pythia-70m"}
BRIDGED = [kind for kind in (*MAKERS, *VARIANTS) if kind != "neox-unbiased"]  # the bridge knows none without biases


def bridge_over(reader: Policy, kind: str) -> Any:
    """It takes the model's modules over, so that whatever is to be compared is read before."""
    lens = pytest.importorskip("transformer_lens.model_bridge")
    tokenizer = maze_tokenizer(5)  # the bridge adds a token to it
    name = NAMES[kind.split("-")[0]]  # picks the architecture
    return lens.TransformerBridge.boot_transformers(name, hf_model=reader.model, tokenizer=tokenizer, device="cpu")
