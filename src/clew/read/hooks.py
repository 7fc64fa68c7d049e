"""The sites of a stock Hugging Face model: where in a layer an activation is, and how it is taken, by plain hooks.

Names are TransformerLens's for hook points, and so are the values (Nanda et al., TransformerLens):

    resid_pre   what comes into the layer: in the first one, the embeddings
    z           per head, its attention-weighted values, before the output projection
    attn_out    what attention adds to the residual stream
    resid_mid   the stream between attention and MLP; not where both read the same stream, as in most of GPT-NeoX
    mlp_out     what the MLP adds
    resid_post  what leaves the layer
"""

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor, nn
from transformers import PreTrainedModel

from clew.attention import inner
from clew.errors import InputError
from clew.text import nearest, show

Site = Literal["resid_pre", "z", "attn_out", "resid_mid", "mlp_out", "resid_post"]
SITES: tuple[Site, ...] = get_args(Site)
Key = tuple[Site, int]
"""a site and a layer, counted from 0"""


@dataclass(frozen=True)
class Names:
    """What an architecture calls its parts; all but `layers` within a layer."""

    layers: str
    attention: str
    projection: str
    middle: str
    """the norm that reads the stream between attention and MLP"""
    mlp: str = "mlp"


_LLAMA = Names("layers", "self_attn", "self_attn.o_proj", "post_attention_layernorm")
ARCHITECTURES = {
    "llama": _LLAMA,
    "qwen3": _LLAMA,
    "gpt_neox": Names("layers", "attention", "attention.dense", "post_attention_layernorm"),
    "gpt2": Names("h", "attn", "attn.c_proj", "ln_2"),
}


def names_of(model: nn.Module) -> Names:
    """InputError for a model of an architecture that is not in ARCHITECTURES."""
    kind = inner(model).config.model_type
    if kind not in ARCHITECTURES:
        raise InputError(f"model: activations of {show(kind)} cannot be read; supported: {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[kind]


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The model's layers, first to last. InputError as `names_of`."""
    base: PreTrainedModel = inner(model)
    return getattr(base.base_model, names_of(base).layers)


def heads_of(model: nn.Module) -> int:
    """How many heads write into the stream in each layer."""
    return inner(model).config.num_attention_heads


def sites_of(model: nn.Module) -> tuple[Site, ...]:
    """The sites that the model has: all but resid_mid where attention and MLP read the same stream."""
    parallel = getattr(inner(model).config, "use_parallel_residual", False)
    return tuple(site for site in SITES if not (parallel and site == "resid_mid"))


def keys_of(model: nn.Module, sites: Collection[str], layers: Collection[int] | None = None) -> list[Key]:
    """Sites of layers, layer by layer; all layers for None. InputError for one that the model does not have."""
    there = sites_of(model)
    if not sites or isinstance(sites, str):
        raise InputError(f"sites: {show(sites)} is no list of sites, such as resid_post, z")
    for site in sites:
        if site not in SITES:
            raise InputError(f"sites: {show(site)} is not one of {', '.join(SITES)}; nearest: {nearest(site, SITES)}")
        if site not in there:
            raise InputError(f"sites: {site} is nowhere in this model, whose attention and MLP read the same stream")
    count = len(layers_of(model))
    chosen = range(count) if layers is None else layers
    for layer in chosen:
        if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < count:
            raise InputError(f"layers: {show(layer)} is not one of the {count} layers of this model, 0 to {count - 1}")
    if not chosen:
        raise InputError("layers: the list is empty")
    return [(site, layer) for layer in sorted(set(chosen)) for site in there if site in sites]


def hook_name(key: Key) -> str:
    """TransformerLens's name: blocks.0.hook_resid_post, blocks.0.attn.hook_z."""
    site, layer = key
    return f"blocks.{layer}.attn.hook_z" if site == "z" else f"blocks.{layer}.hook_{site}"


def key_of(name: str) -> Key:
    """The way back from a hook's name. InputError for one that `hook_name` never gives."""
    match = re.match(r"blocks\.([0-9]{1,6})\.", name)
    keys: list[Key] = [(site, int(match[1])) for site in SITES] if match else []
    for key in keys:
        if name == hook_name(key):
            return key
    raise InputError(f"activations: {show(name)} is not the name of a hook point, such as blocks.0.hook_resid_post")


@contextmanager
def recording(
    model: nn.Module, keys: Collection[Key], keep: Callable[[Tensor], Tensor] = lambda x_BTD: x_BTD
) -> Iterator[dict[Key, Tensor]]:
    """While entered, each pass of the model leaves what it has at each site of each layer in the dictionary.

    keep: what is kept of (B, T, D), by default all of it; z comes as (B, T, H * D) and is given to `keep` so. The
    model computes what it computes without: nothing is changed, and the hooks are gone afterwards.
    """
    taken: dict[Key, Tensor] = {}
    handles = []
    names, layers = names_of(model), layers_of(model)
    try:
        for site, layer in keys:
            module, before = _module(layers[layer], names, site)
            take = _taker(taken, (site, layer), keep)
            if before:
                handles.append(module.register_forward_pre_hook(take, with_kwargs=True))
            else:
                handles.append(module.register_forward_hook(lambda _, args, out, take=take: take(_, (out,), {})))
        yield taken
    finally:
        for handle in handles:
            handle.remove()


def _module(layer: nn.Module, names: Names, site: Site) -> tuple[nn.Module, bool]:
    """The module at which a site is, and whether it is what comes in there, and not what comes out."""
    places = {"z": (names.projection, True), "attn_out": (names.attention, False), "mlp_out": (names.mlp, False)}
    places |= {"resid_mid": (names.middle, True), "resid_pre": ("", True), "resid_post": ("", False)}
    path, before = places[site]
    return layer.get_submodule(path), before


def _taker(taken: dict[Key, Tensor], key: Key, keep: Callable[[Tensor], Tensor]) -> Callable[..., None]:
    def take(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        value = args[0] if args else kwargs["hidden_states"]
        taken[key] = keep(value[0] if isinstance(value, tuple) else value)

    return take
