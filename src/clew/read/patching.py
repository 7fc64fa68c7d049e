"""Activation patching on minimal pairs: which activations make a model take the right branch at a fork?

The two sides of a minimal pair ask for different steps at one fork and are otherwise the same. Run the model on one
side, put activations in at some place that it had on the other side, and see whether it now takes the other side's
branch: what was put in carries what the step depends on (Vig et al. 2020; Meng et al. 2022, arXiv 2202.05262).

    noising    the clean run with corrupt activations: what breaks, was needed
    denoising  the corrupt run with clean activations: what is repaired, was enough

    pairs = PairStream(sizes=((6, 6),)).batch(range(500), policy.tokenizer)
    patch_residual(policy, pairs).table()           # by layer and place
    patch_heads(policy, pairs).table()              # by head

`patch` does all of it; the functions behind it say what to patch. What heads say to one another: `clew.read.paths`.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from clew.errors import InputError
from clew.mazes.pairs import PairBatch
from clew.policy import Policy
from clew.read.effects import DIRECTIONS, Direction, Effects, check_pairs
from clew.read.hooks import BY_HEAD, Edit, Key, Site, heads_of, keys_of
from clew.read.passes import Pass, asked, go_on, read_rows, start_column
from clew.read.places import PLACES, Words, find_places
from clew.text import nearest, show

Where = str | int | np.ndarray
"""a name of GROUPS; a single position, counted from the first token, or from the fork back if negative (-1: the fork);
or bools (P, T) in the columns of the batch"""
Head = tuple[int, int]
"""layer and number, both counted from 0"""
PARTS: tuple[str, ...] = (*PLACES[: PLACES.index("path")], "walked", "fork")
"""groups that hold each token of a pair once: `walked` is the path before the fork's cell, and `fork` that cell"""
GROUPS: tuple[str, ...] = (*PARTS, "path", "changed", "all")
"""`path` is both of these, `changed` the tokens in which the two sides differ"""


@dataclass(frozen=True, eq=False)
class Patch:
    """What is put in: one site of one layer, at some places; of one head, where heads are told apart."""

    site: Site
    layer: int
    where: Where = "all"
    head: int | None = None

    @property
    def label(self) -> dict[str, Any]:
        return {"site": self.site, "layer": self.layer, "head": self.head, "place": named(self.where)}


class Intervention(Protocol):
    """What is put in at some places, and what it is called in tables."""

    @property
    def where(self) -> Where: ...

    @property
    def label(self) -> dict[str, Any]: ...


_Put = TypeVar("_Put", bound=Intervention)


def patch(
    policy: Policy,
    pairs: PairBatch,
    patches: Sequence[Patch],
    directions: Collection[Direction] = DIRECTIONS,
    batch_size: int = 64,
) -> Effects:
    """Puts each of C patches in on its own, in each direction, and gives the metric of every patched run.

    pairs: in the ids of the policy's tokenizer (`PairStream.batch` takes it). Rows of equal length are read together,
    at most batch_size of them; of a patched run only the layers and columns are read that what was put in can change,
    and nothing at all where both sides have the same there. Labels: site, layer, head, place.
    InputError, before anything is run, for a site, layer, head or place that does not exist, for a model that cannot be
    read or is not for mazes, and for too few pairs.
    """
    for one in patches:
        _check_patch(policy.model, one)
    keys: set[Key] = {(one.site, one.layer) for one in patches}
    return each(policy, pairs, patches, _patched, keys, directions, batch_size)


def patch_residual(
    policy: Policy,
    pairs: PairBatch,
    places: Sequence[Where] = PARTS,
    layers: Collection[int] | None = None,
    site: Site = "resid_pre",
    **how: Any,
) -> Effects:
    """The residual stream, by layer and place: as it comes into each layer. Further arguments as those of `patch`."""
    chosen = keys_of(policy.model, [site], layers)
    return patch(policy, pairs, [Patch(site, layer, place) for _, layer in chosen for place in places], **how)


def patch_attention(policy: Policy, pairs: PairBatch, places: Sequence[Where] = PARTS, **how: Any) -> Effects:
    """What the attention of each layer adds, by place."""
    return patch_residual(policy, pairs, places, site="attn_out", **how)


def patch_mlp(policy: Policy, pairs: PairBatch, places: Sequence[Where] = PARTS, **how: Any) -> Effects:
    """What the MLP of each layer adds, by place."""
    return patch_residual(policy, pairs, places, site="mlp_out", **how)


def patch_heads(
    policy: Policy,
    pairs: PairBatch,
    places: Sequence[Where] = ("all",),
    layers: Collection[int] | None = None,
    **how: Any,
) -> Effects:
    """Single heads: z of each, by place."""
    chosen = keys_of(policy.model, ["z"], layers)
    heads = range(heads_of(policy.model))
    patches = [Patch("z", layer, place, head) for _, layer in chosen for head in heads for place in places]
    return patch(policy, pairs, patches, **how)


def each(
    policy: Policy,
    pairs: PairBatch,
    interventions: Sequence[_Put],
    run: Callable[[Pass, Pass, _Put, Tensor], Pass],
    keys: Collection[Key],
    directions: Collection[Direction],
    batch_size: int,
) -> Effects:
    """The metric of both sides' runs, and of each intervention in each direction.

    run: makes of the run patched into, the other one, the intervention and its places (B, T) the patched run. keys:
    what is recorded of the two. InputError as `patch`, but for what the interventions are.
    """
    check_pairs(len(pairs))
    wheres = places_of(policy, pairs, [one.where for one in interventions])
    found = _Metrics(pairs, [one.label for one in interventions], directions)
    with asked(policy) as model:
        for rows, tokens in chunks(pairs, batch_size):
            runs = [read_rows(model, tokens_BT, keys) for tokens_BT in tokens]
            found.unpatched(rows, runs)
            for direction in directions:
                base, source = _base_and_source(runs, direction)
                for number, (one, where_PT) in enumerate(zip(interventions, wheres, strict=True)):
                    where_BT = torch.from_numpy(where_PT[rows][:, -tokens.shape[2] :])
                    found.patched(direction, number, rows, run(base, source, one, where_BT))
    return found.effects()


def _patched(base: Pass, source: Pass, one: Patch, where_BT: Tensor) -> Pass:
    key: Key = (one.site, one.layer)
    part = part_of(base.model, source.values[key], one.head, one.site)
    where_BT = where_BT.to(base.end_BTD.device)
    differs_BT = (source.values[key] != base.values[key])[..., part].any(-1) & where_BT
    start = start_column(base, differs_BT)
    if start == where_BT.shape[1]:
        return base
    return go_on(base, {key: put_in(source.values[key][:, start:], where_BT[:, start:], part)}, column=start)


def put_in(source_BTD: Tensor, where_BT: Tensor, part: slice = slice(None)) -> Edit:
    """The edit that puts in what a source has at some places, in some of its D numbers."""
    where_BT1 = where_BT.to(source_BTD.device)[..., None]

    def edit(x_BTD: Tensor) -> Tensor:
        new_BTD = x_BTD.clone()
        new_BTD[..., part] = torch.where(where_BT1, source_BTD[..., part], x_BTD[..., part])
        return new_BTD

    return edit


class _Metrics:
    """The metric, run by run, in the order of the pairs."""

    def __init__(self, pairs: PairBatch, labels: list[dict[str, Any]], directions: Collection[Direction]):
        for direction in directions:
            if direction not in DIRECTIONS:
                raise InputError(f"directions: {show(direction)} is not one of {', '.join(DIRECTIONS)}")
        if not labels:
            raise InputError("patches: there are none; expected at least one")
        self.pairs, self.labels = pairs, labels
        self.sides = np.full((2, len(pairs)), np.nan)
        self.by_direction: dict[Direction, np.ndarray] = {
            name: np.full((len(labels), len(pairs)), np.nan) for name in directions
        }

    def unpatched(self, rows: np.ndarray, runs: Sequence[Pass]) -> None:
        for side, run in enumerate(runs):
            self.sides[side, rows] = self._metric(rows, run)

    def patched(self, direction: Direction, number: int, rows: np.ndarray, run: Pass) -> None:
        self.by_direction[direction][number, rows] = self._metric(rows, run)

    def effects(self) -> Effects:
        clean_P, corrupt_P = self.sides
        return Effects(self.labels, clean_P, corrupt_P, self.by_direction)

    def _metric(self, rows: np.ndarray, run: Pass) -> np.ndarray:
        return logit_difference(run.last_BV, self.pairs, rows)


def logit_difference(logits_BV: Tensor, pairs: PairBatch, rows: np.ndarray) -> np.ndarray:
    """float64 (B,): logit(right) - logit(wrong) of some of the pairs."""
    right_B, wrong_B = (
        torch.from_numpy(ids[rows]).to(logits_BV.device)[:, None] for ids in (pairs.right_P, pairs.wrong_P)
    )
    return (logits_BV.gather(1, right_B) - logits_BV.gather(1, wrong_B))[:, 0].double().cpu().numpy()


def _base_and_source(runs: Sequence[Pass], direction: Direction) -> tuple[Pass, Pass]:
    clean, corrupt = runs
    return (clean, corrupt) if direction == "noising" else (corrupt, clean)


def chunks(pairs: PairBatch, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of equal length, at most so many: their numbers, and both sides' tokens (2, B, T) without padding."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size: {show(batch_size)} is not a whole number from 1")
    for length in np.unique(pairs.length_P):
        alike = np.flatnonzero(pairs.length_P == length)
        for rows in np.split(alike, range(batch_size, len(alike), batch_size)):
            sides = (pairs.clean_tokens_PT, pairs.corrupt_tokens_PT)
            yield rows, np.stack([tokens_PT[rows][:, -length:] for tokens_PT in sides])


def groups_of(policy: Policy, pairs: PairBatch) -> dict[str, np.ndarray]:
    """The tokens of each of GROUPS, as bools (P, T). InputError for rows that are no maze questions, or begin with
    padding that the model would read."""
    words = Words.of(policy.tokenizer)
    found = find_places(pairs.clean_tokens_PT, words)
    shape = pairs.clean_tokens_PT.shape
    groups = {}
    for name in PLACES:
        groups[name] = np.zeros(shape, np.bool_)
        chosen = found.named(name)
        groups[name][found.sequence_R[chosen], found.position_R[chosen]] = True
    groups["fork"] = np.zeros(shape, np.bool_)
    groups["fork"][:, -1] = True
    groups["walked"] = groups["path"] & ~groups["fork"]
    groups["changed"] = pairs.clean_tokens_PT != pairs.corrupt_tokens_PT
    groups["all"] = pairs.mask_PT
    return {name: groups[name] for name in GROUPS}


def places_of(policy: Policy, pairs: PairBatch, wheres: Sequence[Where]) -> list[np.ndarray]:
    """Each as bools (P, T). InputError for what does not exist."""
    groups = groups_of(policy, pairs)
    return [_where(groups, pairs, where) for where in wheres]


def _where(groups: dict[str, np.ndarray], pairs: PairBatch, where: Where) -> np.ndarray:
    shape = pairs.clean_tokens_PT.shape
    if isinstance(where, np.ndarray):
        if where.shape != shape or where.dtype != np.bool_:
            raise InputError(f"places: {where.dtype} of shape {where.shape} are not bools of shape {shape}")
        return where
    if isinstance(where, str):
        if where not in groups:
            near = nearest(where, GROUPS)
            raise InputError(f"places: {show(where)} is not one of {', '.join(GROUPS)}; nearest: {near}")
        return groups[where]
    if isinstance(where, bool) or not isinstance(where, int):
        raise InputError(f"places: {show(where)} is not a name, a position or an array of bools")
    shortest = int(pairs.length_P.min(initial=shape[1]))
    if not -shortest <= where < shortest:
        raise InputError(f"places: {where} is not a position in all rows, {-shortest} to {shortest - 1}")
    found_PT = np.zeros(shape, np.bool_)
    columns_P = np.full(len(pairs), shape[1] + where) if where < 0 else shape[1] - pairs.length_P + where
    found_PT[np.arange(len(pairs)), columns_P] = True
    return found_PT


def named(where: Where) -> str:
    """What a table calls it."""
    return "mask" if isinstance(where, np.ndarray) else str(where)


def part_of(model: nn.Module, value_BTD: Tensor, head: int | None, site: Site = "z") -> slice:
    """Which of the last numbers at a site are a head's; all for None."""
    size = value_BTD.shape[-1] // heads_of(model, site)
    return slice(None) if head is None else slice(head * size, (head + 1) * size)


def _check_patch(model: nn.Module, one: Patch) -> None:
    keys_of(model, [one.site], [one.layer])
    if one.head is not None:
        if one.site not in BY_HEAD:
            of = f"{show(one.head)} of {one.site}, which is not by head"
            raise InputError(f"head: {of}; expected one of the sites {', '.join(BY_HEAD)}")
        check_head(model, (one.layer, one.head), one.site)


def check_head(model: nn.Module, head: Head, site: Site = "z") -> None:
    """InputError for a (layer, number) that the model does not have."""
    if not isinstance(head, tuple) or len(head) != 2:
        raise InputError(f"head: {show(head)} is not a layer and a number, such as (0, 1)")
    keys_of(model, [site], [head[0]])
    count = heads_of(model, site)
    if isinstance(head[1], bool) or not isinstance(head[1], int) or not 0 <= head[1] < count:
        of = f"{count} heads of {site}" if count != heads_of(model) else f"{count} heads"
        raise InputError(f"head: {show(head[1])} is not one of the {of} of a layer, 0 to {count - 1}")
