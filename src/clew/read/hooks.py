"""The sites of a stock Hugging Face model: where in a layer an activation is, how it is taken and how it is changed, by
plain hooks.

Names are TransformerLens's for hook points, and so are the values (Nanda et al., TransformerLens):

    resid_pre   what comes into the layer: in the first one, the embeddings
    z           per head, its attention-weighted values, before the output projection
    attn_out    what attention adds to the residual stream
    resid_mid   the stream between attention and MLP; not where both read the same stream, as in most of GPT-NeoX
    mlp_out     what the MLP adds
    resid_post  what leaves the layer
    q, k, v     per head, the queries, keys and values as they are projected: before positions turn them, and before
                Qwen3 norms them. Heads may share keys and values (grouped-query attention, Ainslie et al. 2023, arXiv
                2305.13245): then k and v have fewer heads, of which head h of H reads number h // (H // heads of k)
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor, nn
from transformers import PreTrainedModel

from clew.attention import inner
from clew.errors import InputError
from clew.text import nearest, show

Site = Literal["resid_pre", "z", "attn_out", "resid_mid", "mlp_out", "resid_post", "q", "k", "v"]
SITES: tuple[Site, ...] = get_args(Site)
BY_HEAD: tuple[Site, ...] = ("q", "k", "v", "z")
"""sites that have an axis of heads"""
Key = tuple[Site, int]
"""a site and a layer, counted from 0"""
Edit = Callable[[Tensor], Tensor]
"""what is to stand at a site in place of what is there: (B, T, D) -> (B, T, D), and by head (B, T, H * D)"""


@dataclass(frozen=True)
class Names:
    """What an architecture calls its parts; all but `layers` within a layer."""

    layers: str
    attention: str
    inputs: tuple[str, ...]
    """the three that give queries, keys and values, or the one that gives them all"""
    projection: str
    middle: str
    """the norm that reads the stream between attention and MLP"""
    side_by_side: bool = False
    """whether that one gives each head's queries, keys and values together, and not all queries first"""
    mlp: str = "mlp"
    final: str = "norm"
    """the norm between the last layer and the output head"""


_THREE = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_LLAMA = Names("layers", "self_attn", _THREE, "self_attn.o_proj", "post_attention_layernorm")
_NEOX = Names(
    "layers",
    "attention",
    ("attention.query_key_value",),
    "attention.dense",
    "post_attention_layernorm",
    side_by_side=True,
    final="final_layer_norm",
)
ARCHITECTURES = {
    "llama": _LLAMA,
    "qwen3": _LLAMA,
    "gpt_neox": _NEOX,
    "gpt2": Names("h", "attn", ("attn.c_attn",), "attn.c_proj", "ln_2", final="ln_f"),
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


def final_norm_of(model: nn.Module) -> nn.Module:
    """The norm between the last layer and the output head. InputError as `names_of`."""
    base: PreTrainedModel = inner(model)
    return getattr(base.base_model, names_of(base).final)


def heads_of(model: nn.Module, site: Site = "z") -> int:
    """How many heads a layer has; of k and v as many as there are keys, which heads may share."""
    config = inner(model).config
    shared = getattr(config, "num_key_value_heads", None) if site in ("k", "v") else None
    return shared or config.num_attention_heads


def width_of(model: nn.Module, key: Key) -> int:
    """How many numbers a token has at a site of a layer."""
    if key[0] not in BY_HEAD:
        return inner(model).config.hidden_size
    projection: Any = layers_of(model)[key[1]].get_submodule(names_of(model).projection)
    whole = int(getattr(projection, "in_features", projection.weight.shape[0]))  # GPT-2's parts are turned round
    return whole // heads_of(model) * heads_of(model, key[0])


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
    return f"blocks.{layer}.attn.hook_{site}" if site in BY_HEAD else f"blocks.{layer}.hook_{site}"


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

    keep: what is kept of (B, T, D), by default all of it; what is by head comes as (B, T, H * D). The
    model computes what it computes without: nothing is changed, and the hooks are gone afterwards.
    """
    taken: dict[Key, Tensor] = {}
    handles = []
    names, layers = names_of(model), layers_of(model)
    try:
        for site, layer in keys:
            module, before = _module(layers[layer], names, site)
            part = _part(model, site)
            take = _taker(taken, (site, layer), lambda x_BTD, part=part: keep(part.of(x_BTD)))
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
    places |= {site: (names.inputs[number % len(names.inputs)], False) for number, site in enumerate("qkv")}
    path, before = places[site]
    return layer.get_submodule(path), before


@dataclass(frozen=True)
class _Part:
    """Which of the numbers that a module gives are a site's: all, or one of three in each of some groups."""

    groups: int = 1
    number: int | None = None

    def of(self, x_BTD: Tensor) -> Tensor:
        if self.number is None:
            return x_BTD
        return x_BTD.unflatten(-1, (self.groups, 3, -1))[..., self.number, :].flatten(-2)

    def put(self, x_BTD: Tensor, new_BTD: Tensor) -> Tensor:
        if self.number is None:
            return new_BTD
        whole_BTD = x_BTD.contiguous().clone()
        whole_BTD.unflatten(-1, (self.groups, 3, -1))[..., self.number, :] = new_BTD.unflatten(-1, (self.groups, -1))
        return whole_BTD


def _part(model: nn.Module, site: Site) -> _Part:
    names = names_of(model)
    if site not in ("q", "k", "v") or len(names.inputs) > 1:
        return _Part()
    return _Part(heads_of(model) if names.side_by_side else 1, "qkv".index(site))


def _taker(taken: dict[Key, Tensor], key: Key, keep: Callable[[Tensor], Tensor]) -> Callable[..., None]:
    def take(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        value = args[0] if args else kwargs["hidden_states"]
        taken[key] = keep(value[0] if isinstance(value, tuple) else value)

    return take


@contextmanager
def editing(model: nn.Module, edits: Mapping[Key, Edit]) -> Iterator[None]:
    """While entered, each pass of the model goes on from what the edits make of its sites: the writing counterpart of
    `recording`. An edit must leave the tensor that it is given as it is.

    What is recorded inside of `editing` is what was written; a recording around it has what came. resid_mid is written
    by way of what attention adds, since what stands there is read by the MLP's norm and by the stream both: it becomes
    what it was told up to rounding, and stays as it was, bit for bit, where it is told so.
    """
    handles = []
    names, layers = names_of(model), layers_of(model)
    try:
        for site, layer in sorted(edits, key=lambda key: (key[1], SITES.index(key[0]))):
            edit = edits[site, layer]
            if site == "resid_mid":
                came: dict[Key, Tensor] = {}
                take = _taker(came, (site, layer), lambda x_BTD: x_BTD)
                handles.append(layers[layer].register_forward_pre_hook(take, with_kwargs=True))
                module, before = _module(layers[layer], names, "attn_out")
                edit = _by_what_is_added(came, (site, layer), edit)
            else:
                module, before = _module(layers[layer], names, site)
                edit = _in_part(_part(model, site), edit)
            if before:
                handles.append(module.register_forward_pre_hook(_before(edit), with_kwargs=True))
            else:
                handles.append(module.register_forward_hook(_after(edit)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _by_what_is_added(came: dict[Key, Tensor], key: Key, edit: Edit) -> Edit:
    def edit_added(added_BTD: Tensor) -> Tensor:
        middle_BTD = came[key] + added_BTD
        return added_BTD + (edit(middle_BTD) - middle_BTD)

    return edit_added


def _in_part(part: _Part, edit: Edit) -> Edit:
    return lambda x_BTD: part.put(x_BTD, edit(part.of(x_BTD)))


def _before(edit: Edit) -> Callable[..., Any]:
    def change(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (edit(args[0]).contiguous(), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": edit(kwargs["hidden_states"]).contiguous()}

    return change


def _after(edit: Edit) -> Callable[..., Any]:
    def change(_: nn.Module, args: tuple[Any, ...], out: Any) -> Any:
        return (edit(out[0]), *out[1:]) if isinstance(out, tuple) else edit(out)

    return change
