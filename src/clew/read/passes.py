"""Passes of a stock model over rows of equal length, which can be gone on with from any layer and column, with edits.

    run = read_rows(policy.model, tokens_BT, [("z", 1)])
    go_on(run, {("z", 1): edit}).last_BV                    # the layers before 1 are not computed again
    go_on(run, {("z", 1): edit}, column=90).last_BV         # nor the columns before 90, which the edit must not touch
    go_on(run, {}, hidden={1: hidden_BTT}).last_BV          # some tokens do not see some others in layer 1

Each layer is called with the very arguments that it had in the first pass. Gone on with from column 0 and changed by
nothing, it is the first pass bit for bit; from a later column it is the same up to rounding, since keys and values of
earlier columns are those of the first pass, which causality lets nothing change.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Cache

from clew.attention import NAME, check_tokens, inner, read_by
from clew.errors import InputError
from clew.policy import Policy
from clew.read.hooks import Edit, Key, editing, final_norm_of, layers_of, recording

Call = dict[str, Any]
"""what a layer was called with, by name; `hidden_states` is the residual stream"""


@dataclass(frozen=True)
class Pass:
    """What a model made of B rows of T tokens."""

    model: nn.Module
    last_BV: Tensor
    """logits behind the last token of each row"""
    values: dict[Key, Tensor]
    """what was recorded: (B, T, D), and for z (B, T, H * D)"""
    calls: list[Call]
    """what each layer was called with"""
    end_BTD: Tensor
    """the stream behind the last layer"""
    cache: Cache | None = None
    """keys and values of all layers and columns, where these are all kept"""


@contextmanager
def asked(policy: Policy) -> Iterator[nn.Module]:
    """The model, while entered, as this policy, without dropout and without gradients. InputError for weights that are
    no numbers, of which every reading would be one of nothing."""
    model, learning = policy.model, policy.model.training
    for name, weight in inner(model).named_parameters():
        if not torch.isfinite(weight).all():
            raise InputError(f"model: its weights {name} are not all finite numbers")
    model.eval()
    policy.activate()
    try:
        with torch.no_grad():
            yield model
    finally:
        model.train(learning)


def padded(rows: Sequence[Sequence[int] | np.ndarray], pad: int) -> np.ndarray:
    """int64 (B, T): rows of token ids, filled up on the right, where a causal model never looks."""
    tokens_BT = np.full((len(rows), max(map(len, rows))), pad)
    for row, values in enumerate(rows):
        tokens_BT[row, : len(values)] = values
    return tokens_BT


def check_rows(model: nn.Module, tokens_BT: np.ndarray, more: int = 0) -> None:
    """InputError for an id that the model does not know, and for rows that have more tokens than it has positions.

    more: tokens that will be written behind them.
    """
    check_tokens(model, int(tokens_BT.max(initial=0)))
    check_length(model, tokens_BT.shape[1], more)


def check_length(model: nn.Module, tokens: int, more: int = 0) -> None:
    """InputError for a row of so many tokens, and as many more, where the model has fewer positions."""
    window = positions_of(model)
    if window and window < tokens + more:
        written = f" and {more:,} that may be written" if more else ""
        raise InputError(f"tokens: {tokens:,} of a row{written} are more than the model's window of {window:,}")


def positions_of(model: nn.Module) -> int | None:
    """How many positions a model has; None where its config does not say."""
    window = getattr(inner(model).config, "max_position_embeddings", None)  # GPT-2 calls it n_positions
    return window if isinstance(window, int) and window > 0 else None


def read_rows(model: nn.Module, tokens_BT: np.ndarray, keys: Collection[Key] = ()) -> Pass:
    """One pass over rows of token ids without padding. InputError as `check_rows`."""
    check_rows(model, tokens_BT)
    last: Key = ("resid_post", len(layers_of(model)) - 1)
    with recording(model, {*keys, last}) as values, _calls(model) as calls:
        tokens = torch.from_numpy(np.ascontiguousarray(tokens_BT)).to(inner(model).device)
        inner(model).base_model(input_ids=tokens, use_cache=True)
    caches = [value for value in calls[0].values() if isinstance(value, Cache)]
    whole = caches and all(layer.keys.shape[2] == tokens.shape[1] for layer in caches[0].layers)  # type: ignore[union-attr]
    cache = caches[0] if whole and takes_masks(model) else None
    return Pass(model, unembed(model, values[last][:, -1]), values, calls, values[last], cache)


def takes_masks(model: nn.Module) -> bool:
    """Whether the model's attention adds to its scores what it is given as mask."""
    return read_by(inner(model)) <= {"sdpa", "eager", NAME}


def go_on(
    run: Pass,
    edits: Mapping[Key, Edit],
    keys: Collection[Key] = (),
    column: int = 0,
    hidden: Mapping[int, Tensor] | None = None,
) -> Pass:
    """The same pass with edits, from the first layer that has one.

    column: edits are given, and give, the columns from this one on alone, and leave those before it as they are;
    `start_column` says whether the model lets it be other than 0. What is recorded is what stood there before the edit
    of that same place, from that column on. There are no records of layers before.
    hidden: by layer, bools (B, T, T), queries first: what they do not see of what they saw, in any head. Each must be
    left something to see, and `takes_masks` be true of the model.
    """
    layers, hidden = layers_of(run.model), hidden or {}
    start = min([*map(_layer_of, edits), *hidden], default=len(layers))
    stream_BTD = (run.end_BTD if start == len(layers) else run.calls[start]["hidden_states"])[:, column:].contiguous()
    first: Key = ("resid_post", start - 1)
    if first in edits:  # nothing of that layer need be computed again
        stream_BTD = edits[first](stream_BTD)
        edits = {key: edit for key, edit in edits.items() if key != first}
    with recording(run.model, keys) as values, editing(run.model, edits):
        for number, (layer, call) in enumerate(zip(layers[start:], run.calls[start:], strict=True), start):
            out = layer(**{**_cut(run, call, column, hidden.get(number)), "hidden_states": stream_BTD})
            stream_BTD = out[0] if isinstance(out, tuple) else out
    return Pass(run.model, unembed(run.model, stream_BTD[:, -1]), values, run.calls, stream_BTD)


def start_column(run: Pass, changed_BT: Tensor) -> int:
    """The first column that `go_on` has to read where just these places change; the number of columns if none does."""
    columns_T = changed_BT.any(0)
    if not columns_T.any():
        return len(columns_T)
    return 0 if run.cache is None else int(columns_T.int().argmax())


def unembed(model: nn.Module, stream_BD: Tensor) -> Tensor:
    """Logits (B, V) of what stands in the stream behind the last layer."""
    return inner(model).get_output_embeddings()(final_norm_of(model)(stream_BD))  # type: ignore[operator, misc]


def _layer_of(key: Key) -> int:
    """The first layer that has to be computed for an edit."""
    return key[1] + (key[0] == "resid_post")


class _Before(Cache):
    """Keys and values of a pass's columns before some one, as a layer reads them; what it gives to keep is not kept."""

    def __init__(self, cache: Cache, column: int):
        super().__init__(layers=[])
        self.cache, self.column = cache, column

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
        layer: Any = self.cache.layers[layer_idx]
        pairs = ((layer.keys, key_states), (layer.values, value_states))
        return tuple(torch.cat([old[:, :, : self.column], new], 2) for old, new in pairs)


def _cut(run: Pass, call: Call, column: int, hidden_BTT: Tensor | None) -> Call:
    """A layer's arguments for the columns from one on, which do not see what is hidden."""
    masked = {} if hidden_BTT is None and not column else {"attention_mask": _mask(run, call, column, hidden_BTT)}
    if not column:
        return {name: None if isinstance(value, Cache) else value for name, value in call.items()} | masked
    assert run.cache is not None
    before = _Before(run.cache, column)

    def cut(name: str, value: Any) -> Any:
        if isinstance(value, Cache):
            return before
        if name == "position_ids" and value is not None:
            return value[:, column:]
        return tuple(part[:, column:] for part in value) if name == "position_embeddings" and value else value

    return {name: cut(name, value) for name, value in call.items()} | masked


def _mask(run: Pass, call: Call, column: int, hidden_BTT: Tensor | None) -> Tensor:
    """What is added to the scores of the columns from one on: (B or 1, 1, S, T)."""
    columns, device = run.end_BTD.shape[1], run.end_BTD.device
    own = call.get("attention_mask")
    if column or not isinstance(own, Tensor):  # where columns are left out, none of them is out of a window's reach
        hidden = torch.ones(columns, columns, dtype=torch.bool, device=device).triu(1)[None, None]
    else:
        hidden = ~own if own.dtype == torch.bool else own < 0
    if hidden_BTT is not None:
        hidden = hidden | hidden_BTT.to(device)[:, None]
    hidden = hidden[:, :, column:]
    mask = torch.zeros(hidden.shape, dtype=run.end_BTD.dtype, device=device)
    return mask.masked_fill_(hidden, torch.finfo(mask.dtype).min)


@contextmanager
def _calls(model: nn.Module) -> Iterator[list[Call]]:
    """While entered, a pass leaves in the list what each layer was called with."""
    calls: list[Call] = []

    def keep(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        parameters = signature(layer.forward).parameters.values()
        names = [one.name for one in parameters if one.kind is not Parameter.VAR_KEYWORD]
        calls.append({**dict(zip(names, args, strict=False)), **kwargs})

    handles = [layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in layers_of(model)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
