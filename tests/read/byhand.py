"""A tiny Llama written out in plain PyTorch, for one row, with edits: the obvious reference of patching."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clew.mazes.pairs import PairBatch


def by_hand(
    model: Any,
    tokens_T: np.ndarray,
    edits: Mapping[tuple[str, int], Callable[[Tensor], Tensor]] | None = None,
    read_by_head: Mapping[tuple[int, int, str], Tensor] | None = None,
    seen: dict[tuple[str, int], Tensor] | None = None,
) -> Tensor:
    """The logits behind the last token of one row, by a tiny Llama written out: T tokens, D wide, no batch, no hooks.

    edits: what to do at a site. read_by_head: by layer, head and q, k or v, what that is made from in place of the
    layer's normed stream. seen: takes what there was at each site, after its edit, and as `normed` what heads read.
    """
    config, edits, read_by_head = model.config, edits or {}, read_by_head or {}
    heads, kv, size = config.num_attention_heads, config.num_key_value_heads, model.model.layers[0].self_attn.head_dim
    at = {} if seen is None else seen

    def site(name: str, layer: int, x: Tensor) -> Tensor:
        at[name, layer] = edits.get((name, layer), lambda x: x)(x)
        return at[name, layer]

    def normed(norm: Any, x: Tensor) -> Tensor:
        return norm.weight * x / (x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()

    angles = torch.arange(len(tokens_T))[:, None] * 10000.0 ** (-torch.arange(0, size, 2) / size).double()
    cos, sin = torch.cat([angles, angles], 1).cos(), torch.cat([angles, angles], 1).sin()

    def rotated(x: Tensor) -> Tensor:
        return x * cos + torch.cat([-x[:, size // 2 :], x[:, : size // 2]], 1) * sin

    stream = model.model.embed_tokens.weight[torch.from_numpy(tokens_T)]
    for number, layer in enumerate(model.model.layers):
        stream = site("resid_pre", number, stream)
        part, common = layer.self_attn, normed(layer.input_layernorm, stream)
        at["normed", number] = common
        weights = {"q": part.q_proj.weight, "k": part.k_proj.weight, "v": part.v_proj.weight}
        plain = {name: site(name, number, common @ weight.T) for name, weight in weights.items()}

        def projected(name: str, own: slice, head: int, number=number, weights=weights, plain=plain) -> Tensor:
            read = read_by_head.get((number, head, name))
            return plain[name][:, own] if read is None else read @ weights[name][own].T

        z = []
        for head in range(heads):
            group = head // (heads // kv)
            own, shared = slice(head * size, (head + 1) * size), slice(group * size, (group + 1) * size)
            q = rotated(projected("q", own, head))
            k = rotated(projected("k", shared, head))
            v = projected("v", shared, head)
            scores = (q @ k.T / math.sqrt(size)).masked_fill(torch.ones(len(q), len(q)).triu(1).bool(), -math.inf)
            z.append(scores.softmax(-1) @ v)
        z = site("z", number, torch.cat(z, 1))
        stream = site("resid_mid", number, stream + site("attn_out", number, z @ part.o_proj.weight.T))
        x, mlp = normed(layer.post_attention_layernorm, stream), layer.mlp
        hidden = torch.nn.functional.silu(x @ mlp.gate_proj.weight.T) * (x @ mlp.up_proj.weight.T)
        stream = site("resid_post", number, stream + site("mlp_out", number, hidden @ mlp.down_proj.weight.T))
    return normed(model.model.norm, stream)[-1] @ model.lm_head.weight.T


def rows_of(batch: PairBatch, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Both sides of a pair, without padding."""
    length = int(batch.length_P[number])
    return batch.clean_tokens_PT[number, -length:], batch.corrupt_tokens_PT[number, -length:]


def metric(batch: PairBatch, number: int, logits_V: Tensor) -> float:
    return float(logits_V[batch.right_P[number]] - logits_V[batch.wrong_P[number]])


def put(source: Tensor, where: np.ndarray, part: slice = slice(None)) -> Callable[[Tensor], Tensor]:
    """The edit that puts in what a source has at some positions."""

    def edit(x: Tensor) -> Tensor:
        x = x.clone()
        for position in np.flatnonzero(where):
            x[position, part] = source[position, part]
        return x

    return edit
