"""Lets a stock Hugging Face causal language model read a TreeBatch, exactly.

The attention function is registered with transformers; the tree travels in the model's keyword arguments, so no model
code is touched. Without a tree the function is transformers' own `sdpa`, so that the same model still generates.

Each level of a tree is read as one batch of short rows: a segment's tokens attend to the segments above it and to their
own, and siblings never share a score matrix. In the last layer only the tokens whose output is used get queries and an
MLP: the rest have given their keys and values, which is all that anyone will read of them.
"""

import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from clew.errors import InputError
from clew.layout import TreeLayout, TreeLevel
from clew.prefix import SharedPrefix
from clew.shared import Place, attend, can_share
from clew.tree import TreeBatch

NAME = "clew"
Attention = Literal["trees", "rows"]
"""how a model reads what it learns from and continues: shared prefixes once, or plain rows"""


Part = tuple[Tensor, Tensor, int | Tensor]
"""keys and values of some level's cells; and how many cells of the present one continue each of them or, where these
are not equally many, which of them each cell of the present one continues"""


class _Reading:
    """One pass of a model over a layout: travels in the model's keyword arguments, and holds what its layers share."""

    def __init__(self, layout: TreeLayout, last: nn.Module | None = None):
        self.layout = layout
        self.last = last
        """the layer that reads only what is asked; another model may have it too, as one of its inner layers"""
        self.learns = torch.is_grad_enabled()
        self._masks: list[Tensor | None] | None = None
        self._places: list[list[Place]] | None = None

    def masks(self, dtype: torch.dtype) -> list[Tensor | None]:
        """For each level (C or 1, 1, L, K), added to the scores; None where plain causal attention is exact."""
        if self._masks is None:
            self._masks = _masks(self.layout, dtype)
        return self._masks

    def places(self, dtype: torch.dtype) -> list[list[Place]]:
        """For each level that shares what it reads, where its queries stand while they do; see `shared.attend`."""
        if self._places is None:
            self._places = _places(self.layout, dtype)
        return self._places


class _LastLayer:
    """Passed in a reading's place to the last layer: first to record its keys and values, then to read them."""

    def __init__(self, reading: _Reading):
        self.reading = reading
        self.kv: tuple[Tensor, Tensor] | None = None


class _Recorded(Exception):
    """Leaves the last layer once its keys and values are known."""


def tree_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """query (1, H, T, D), key and value (1, H', T, D) of a packed row -> (1, T, H, D).

    With a SharedPrefix, what its `attend` takes and gives.
    """
    clew_tree: _Reading | _LastLayer | SharedPrefix | None = kwargs.pop("clew_tree", None)
    if clew_tree is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    for name in ("softcap", "s_aux", "position_bias", "cache"):
        if kwargs.get(name) is not None:
            raise InputError(f"model: {type(module).__name__} uses {name}, which attention over trees does not support")
    if isinstance(clew_tree, SharedPrefix):
        _fits(kwargs.get("sliding_window"), clew_tree.reach())
        return clew_tree.attend(module, query, key, value, kwargs.get("scaling")), None
    reading = clew_tree.reading if isinstance(clew_tree, _LastLayer) else clew_tree
    layout = reading.layout
    if reading.learns and not torch.is_grad_enabled():
        raise InputError(
            "model: reentrant gradient checkpointing gives wrong gradients over trees; use "
            "gradient_checkpointing_enable(gradient_checkpointing_kwargs={'use_reentrant': False})"
        )
    if isinstance(clew_tree, _Reading):
        slots, rows = layout.slots_T, None
    else:
        if clew_tree.kv is None:
            clew_tree.kv = (key, value)
            raise _Recorded
        slots = layout.slots_U
        key, value = clew_tree.kv
        # Queries exist for sources_U alone: number them, and let every other place of the grids ask the first one.
        rows = torch.zeros(key.shape[2], dtype=torch.int64, device=key.device)
        rows[layout.sources_U] = torch.arange(len(layout.sources_U), device=key.device)
    _fits(kwargs.pop("sliding_window", None), layout.reach)
    kwargs.pop("is_causal", None)
    query_TD, key_TD, value_TD = (x[0].transpose(0, 1) for x in (query, key, value))
    parts: list[Part] = []
    outputs: list[Tensor] = []
    shares = can_share(query, value, kwargs.get("dropout", 0.0))
    for number, level in enumerate(layout.levels):
        at = level.grid_CL.clamp(min=0)
        parts = [*_below(parts, level), (_take(key_TD, at), _take(value_TD, at), 1)]
        asked = _take(query_TD, at if rows is None else rows[at])
        if shares and level.readers:
            cells = [(_wide(k, asked), _wide(v, asked)) for k, v, _ in parts]
            out = attend(asked, cells[-1], cells[:-1], reading.places(query.dtype)[number], kwargs.get("scaling"))
        else:
            mask = reading.masks(query.dtype)[number]
            out, _ = sdpa_attention_forward(module, asked, *_joined(parts), mask, is_causal=mask is None, **kwargs)
        outputs.append(out.reshape(-1, *out.shape[2:]))
    return torch.cat(outputs).index_select(0, slots)[None], None


def _fits(window: int | None, reach: int) -> None:
    if window is not None and reach > window:
        raise InputError(
            f"model: its sliding window of {window} is shorter than the longest path, up to {reach} tokens"
        )


def _take(x_THD: Tensor, at_CL: Tensor) -> Tensor:
    return x_THD.index_select(0, at_CL.reshape(-1)).view(*at_CL.shape, *x_THD.shape[1:]).transpose(1, 2)


def _wide(x_CHLD: Tensor, query: Tensor) -> Tensor:
    """Keys or values that several of the query's heads share, once for each."""
    heads = query.shape[1] // x_CHLD.shape[1]
    return x_CHLD if heads == 1 else x_CHLD.repeat_interleave(heads, 1)


def _below(parts: list[Part], level: TreeLevel) -> list[Part]:
    """What a level's cells read of the levels above."""
    if level.parent_C is None:
        return []
    return [(k, v, _continued(cells, len(k), level)) for k, v, cells in parts]


def _continued(cells: int | Tensor, count: int, level: TreeLevel) -> int | Tensor:
    """A part's third entry one level further down; count: of the cells that it is about."""
    if isinstance(cells, int) and level.each:
        return cells * level.each
    if isinstance(cells, int):
        assert level.parent_C is not None
        cells = torch.arange(count, device=level.parent_C.device).repeat_interleave(cells)
    return level.below(cells)


def _joined(parts: list[Part]) -> tuple[Tensor, Tensor]:
    """Keys and values (C, H, K, D): the parts side by side.

    Each part is repeated from its own level at once, however far below it is read: adding up its gradients in one go
    takes a third of the time that it takes step by step.
    """

    def spread(x: Tensor, cells: int | Tensor) -> Tensor:
        if isinstance(cells, Tensor):
            return x.index_select(0, cells)
        return x if cells == 1 else x.repeat_interleave(cells, 0)

    if len(parts) == 1:
        return parts[0][:2]
    keys, values = [spread(k, cells) for k, _, cells in parts], [spread(v, cells) for _, v, cells in parts]
    return torch.cat(keys, dim=2), torch.cat(values, dim=2)


def _places(layout: TreeLayout, dtype: torch.dtype) -> list[list[Place]]:
    """For each level, where its queries stand while they read each level above; none where it reads copies."""
    above: list[TreeLevel] = []
    places: list[list[Place]] = []
    for level in layout.levels:
        above = [] if level.parent_C is None else above
        readers = level.readers or ()
        places.append([Place.of(reader, up.grid_CL, dtype) for reader, up in zip(readers, above, strict=bool(readers))])
        above = [*above, level]
    return places


def _masks(layout: TreeLayout, dtype: torch.dtype) -> list[Tensor | None]:
    """What the cells of each level may read: all real tokens of the cells above, and their own up to themselves.

    A cell's own tokens need no check for padding: it stands to their right, where causality hides it.
    """
    masks: list[Tensor | None] = []
    valid_CK = layout.levels[0].grid_CL >= 0
    for level in layout.levels:
        if level.parent_C is None:
            valid_CK = level.grid_CL >= 0
            masks.append(None)
            continue
        above_CK = level.below(valid_CK)
        valid_CK = torch.cat([above_CK, level.grid_CL >= 0], dim=1)
        if not level.padded:
            above_CK = above_CK[:1]
        cells, width = len(above_CK), level.grid_CL.shape[1]
        causal_LL = torch.ones(width, width, dtype=torch.bool, device=above_CK.device).tril()
        parts = (above_CK[:, None].expand(-1, width, -1), causal_LL.expand(cells, -1, -1))
        visible_CLK = torch.cat(parts, dim=2)
        mask = torch.zeros(visible_CLK.shape, dtype=dtype, device=above_CK.device)
        masks.append(mask.masked_fill_(~visible_CLK, -torch.inf)[:, None])
    return masks


def _is_row(value: object, length: int) -> bool:
    return isinstance(value, Tensor) and value.ndim >= 2 and value.shape[0] == 1 and value.shape[1] == length


def _narrow(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Before the last layer: record its keys and values at all tokens, then let it run on the sources alone."""
    reading = kwargs.get("clew_tree")
    if not isinstance(reading, _Reading) or reading.last is not layer:
        return args, kwargs
    last, layout = _LastLayer(reading), reading.layout
    with suppress(_Recorded):
        layer.forward(*args, **{**kwargs, "clew_tree": last})
    length = len(layout.slots_T)

    def pick(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(pick, value))
        return value.index_select(1, layout.sources_U) if _is_row(value, length) else value

    return tuple(map(pick, args)), {**{name: pick(value) for name, value in kwargs.items()}, "clew_tree": last}


def _widen(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """After the last layer: put its outputs back in their places; nobody reads the zeros between them."""
    last = kwargs.get("clew_tree")
    if not isinstance(last, _LastLayer):
        return output
    hidden = output[0] if isinstance(output, tuple) else output
    layout = last.reading.layout
    wide = hidden.new_zeros(1, len(layout.slots_T), hidden.shape[-1]).index_copy(1, layout.sources_U, hidden)
    return (wide, *output[1:]) if isinstance(output, tuple) else wide


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """A model's layers. InputError if it has no list of them."""
    depth = model.config.get_text_config().num_hidden_layers
    layers = next((m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == depth), None)
    if not layers:
        raise InputError(f"model: {type(model).__name__} has no list of its {depth} layers")
    return layers


def _last_layer(model: PreTrainedModel) -> nn.Module:
    return layers_of(model)[-1]


def inner(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside of what compiles, spreads or adapts it. InputError if there is none."""
    base = _unwrapped(model)
    if not isinstance(base, PreTrainedModel):
        raise InputError(f"model: {type(base).__name__} is not a transformers model")
    return base


def _unwrapped(model: nn.Module) -> nn.Module:
    base: Any = uncompiled(getattr(uncompiled(model), "module", uncompiled(model)))  # of a data-parallel wrapper
    adapters = getattr(base, "peft_config", {})
    if any(getattr(adapter, "is_prompt_learning", False) for adapter in adapters.values()):
        raise InputError(
            "model: its adapter puts tokens of its own before a sequence (prompt tuning), so that no token keeps its "
            "place; adapters that change layers, such as LoRA, are supported"
        )
    return base.get_base_model() if hasattr(base, "get_base_model") else base


def uncompiled(model: nn.Module) -> nn.Module:
    """What `torch.compile` wraps: a tree's shape changes from batch to batch, and each would be compiled anew."""
    return getattr(model, "_orig_mod", model)


def as_written() -> AbstractContextManager[Any]:
    """While entered, nothing that is compiled runs as such: neither a part of a model nor one compiled in place."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def check_tokens(model: nn.Module, largest: int) -> None:
    """InputError for a token that the model does not know: torch says "index out of range", and CUDA loses the process.

    Asked is the model's own config; one without any is let through.
    """
    config = getattr(_unwrapped(model), "config", None)
    known = getattr(config.get_text_config(), "vocab_size", None) if isinstance(config, PreTrainedConfig) else None
    if isinstance(known, int) and largest >= known:
        raise InputError(f"tokens: {largest} is not one of the {known} tokens of this model, 0 to {known - 1}")


def set_up(base: PreTrainedModel) -> None:
    """Lets a model read trees: once, in place, and without a change to what it does otherwise.

    Whether it reads them exactly is for `selfcheck.reads_trees` to say.
    """
    if read_by(base) != {NAME}:
        base.set_attn_implementation(NAME)
    last = _last_layer(base)
    if _narrow not in last._forward_pre_hooks.values():
        last.register_forward_pre_hook(_narrow, with_kwargs=True)
        last.register_forward_hook(_widen, with_kwargs=True)


def read_by(base: PreTrainedModel) -> set[str | None]:
    """The attention functions that a model, and its text part, are set to: one name, unless somebody mixed them."""
    return {config._attn_implementation for config in (base.config, base.config.get_text_config())}


def undo(base: PreTrainedModel) -> None:
    """Takes the hooks of `set_up` away again."""
    for module in base.modules():
        before = module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs
        for hooks, keyed in (before, (module._forward_hooks, module._forward_hooks_with_kwargs)):
            for number in [number for number, hook in hooks.items() if hook in (_narrow, _widen)]:
                del hooks[number]
                keyed.pop(number, None)


def tree_logits(model: nn.Module, batch: TreeBatch) -> Tensor:
    """Logits for the supervised tokens alone: (S, V). Hidden states are gathered before the output head.

    The model has to be set up. A batch of plain rows is read by any model as it stands: the reference.
    """
    model = uncompiled(model)
    with as_written():
        if len(batch.targets_S) == 0:  # nothing to learn from: a loss of 0, which every parameter is part of
            return model(input_ids=batch.tokens_BT[:1, :1], use_cache=False).logits[0, :0]
        if batch.layout is None:
            return row_logits(model, batch.tokens_BT, batch.sources_S)
        carried = reading(batch.layout, batch.tokens_BT.device, _last_layer(inner(model)))
        places = {"position_ids": batch.positions_BT, "logits_to_keep": batch.sources_S}
        return model(input_ids=batch.tokens_BT, **places, **carried).logits[0]


def row_logits(model: nn.Module, tokens_BT: Tensor, at_S: Tensor) -> Tensor:
    """Logits at some places, by flat index, of plain rows that are padded on the right: (S, V).

    No mask is passed, since no token of a causal model reads the padding behind it.
    """
    row_S, column_S = at_S // tokens_BT.shape[1], at_S % tokens_BT.shape[1]
    kept: dict[str, Tensor] = {}
    if "logits_to_keep" in signature(_unwrapped(model).forward).parameters:  # the output head at these columns alone
        kept["logits_to_keep"], column_S = column_S.unique(return_inverse=True)
    return model(input_ids=tokens_BT, use_cache=False, **kept).logits[row_S, column_S]


def reading(tree: TreeLayout | SharedPrefix, device: torch.device, last: nn.Module | None = None) -> dict[str, Any]:
    """The model's arguments that make it read by `tree`; `last`: its last layer, to be read where asked alone."""
    # A ready 4-d mask keeps transformers from building a dense one; tree_attention has its own.
    clew_tree = _Reading(tree, last) if isinstance(tree, TreeLayout) else tree
    return {"attention_mask": torch.zeros(1, 1, 1, 1, device=device), "use_cache": False, "clew_tree": clew_tree}


AttentionInterface.register(NAME, tree_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
