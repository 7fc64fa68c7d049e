"""More layers for a model that is trained already, which change nothing until they are trained themselves."""

import copy
import math
from typing import Any

import torch
from torch import nn

from clew.attention import inner
from clew.errors import InputError
from clew.policy import Policy

PROJECTIONS = (
    "self_attn.o_proj",
    "mlp.down_proj",
)  # what a layer of Llama's kind adds to the stream goes through these


def deepen(policy: Policy, more: int) -> None:
    """Gives a policy's model so many more layers; it says the same as before, and learns from there.

    A new layer is a copy of the one below it whose two output projections are 0, so that it adds nothing; they are
    spread evenly. InputError for a model whose layers are not of Llama's kind, or that would not say the same.
    Source: block expansion, Wu et al. 2024, "LLaMA Pro" (arXiv 2401.02415), section 3.2.
    """
    if not more:
        return
    model: Any = inner(policy.model)
    stack, config = getattr(getattr(model, "model", None), "layers", None), model.config
    if not isinstance(stack, nn.ModuleList) or any(_projections(layer) is None for layer in stack):
        kind = type(model).__name__
        raise InputError(f"model.add_layers: {kind} has no layers of Llama's kind (self_attn.o_proj, mlp.down_proj)")
    tokens_BT = torch.arange(min(16, config.vocab_size), device=model.device)[None]
    before = _logits(model, tokens_BT)
    count = len(stack)
    below = [math.ceil((new + 1) * count / (more + 1)) - 1 for new in range(more)]
    order = [(old, new) for old in range(count) for new in range(1 + below.count(old))]
    layers = [_silent(stack[old], config) if new else stack[old] for old, new in order]
    for number, layer in enumerate(layers):
        attention: Any = layer.self_attn
        attention.layer_idx = number
    model.model.layers = nn.ModuleList(layers)
    config.num_hidden_layers = len(layers)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[old] for old, _ in order]
    if not torch.allclose(before, _logits(model, tokens_BT), atol=1e-5):
        raise InputError(f"model.add_layers: {type(model).__name__} says something else with silent layers in it")


def _projections(layer: nn.Module) -> list[nn.Linear] | None:
    """A layer's output projections; None where it has none of these names."""
    named = dict(layer.named_modules())
    found = [module for name in PROJECTIONS if isinstance(module := named.get(name), nn.Linear)]
    return found if len(found) == len(PROJECTIONS) else None


def _silent(layer: nn.Module, config: Any) -> nn.Module:
    """A copy that adds nothing; the config stays one object, since attention is chosen in it for all layers."""
    new = copy.deepcopy(layer, {id(config): config})
    with torch.no_grad():
        for projection in _projections(new) or ():
            projection.weight.zero_()
            if projection.bias is not None:
                projection.bias.zero_()
    return new


@torch.no_grad()
def _logits(model: Any, tokens_BT: torch.Tensor) -> torch.Tensor:
    return model(input_ids=tokens_BT, use_cache=False).logits
