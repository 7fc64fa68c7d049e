"""What each head attends to, and what is lost without it.

attention(policy, maze_sequences(stream, range(300), policy.tokenizer)).table()
resample_heads(policy, PairStream().batch(range(500), policy.tokenizer)).table()
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from clew.attention import inner
from clew.errors import InputError
from clew.mazes.pairs import PairBatch
from clew.policy import Policy
from clew.read.activations import gather
from clew.read.effects import LEAST, columns, difference, mean, table_of
from clew.read.hooks import Key, heads_of, layers_of, names_of
from clew.read.passes import asked, check_rows, go_on, padded, read_rows
from clew.read.patching import Head, Where, check_head, logit_difference, part_of, places_of, put_in
from clew.read.places import PLACES, Places, Words, find_places, numbers_of
from clew.runs.intervals import wilson

if TYPE_CHECKING:
    import pyarrow as pa

ATTENDED: tuple[str, ...] = ("open_edges", "open_cells", "walled_cells", "own_cell", "target", "origin")
ATTENDED += ("own_path", "self", "delimiters")
"""What a place may attend to, of the tokens before it and itself:

    open_edges     the four tokens of each listed edge between the place's cell and a neighbour
    open_cells     the cells of neighbours beyond an open passage, wherever in the list
    walled_cells   the cells of neighbours behind a wall, wherever in the list
    own_cell       the place's cell itself, wherever in the list
    target, origin the two cells
    own_path       the path so far, without the place itself
    self           the place itself
    delimiters     every token that is no cell

These overlap: half of open_edges are cells and half delimiters."""


@contextmanager
def attending(model: nn.Module) -> Iterator[list[Tensor]]:
    """While entered, a pass leaves in the list the attention pattern (B, H, T, T) of each layer: what transformers'
    own eager attention gives as `output_attentions`, since the model reads by it meanwhile."""
    base, names = inner(model), names_of(model)
    patterns: list[Tensor] = []
    before: Any = base.config._attn_implementation
    handles = []
    try:
        base.set_attn_implementation("eager")
        for layer in layers_of(model):
            attention_part = layer.get_submodule(names.attention)
            handles.append(attention_part.register_forward_hook(lambda _, args, out: patterns.append(out[1])))
        yield patterns
    finally:
        base.set_attn_implementation(before)
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Attention:
    """Attention by head, as means over the queries of each of Q sequences; NaN for a sequence without any."""

    mass_QLHG: np.ndarray
    """the share of attention that goes to each group of ATTENDED"""
    uniform_QG: np.ndarray
    """the share that would go there if all tokens that can be seen were attended to alike"""
    open_QLH: np.ndarray
    """attention a token, to the cells of open neighbours: at path distance 1"""
    walled_QLH: np.ndarray
    """attention a token, to the cells of walled neighbours: at Manhattan distance 1 and no passage. These two are over
    the queries that can see cells of both kinds."""

    def adjacency_QLH(self) -> np.ndarray:
        """The adjacency score: attention a token to open neighbours, less that to walled ones.

        A head that knows passages tells the two apart, one that knows the grid alone does not ("adjacency heads",
        Ivanitskiy et al. 2023, arXiv 2312.02566; the walled neighbour as control is added here).
        """
        return self.open_QLH - self.walled_QLH

    def table(self) -> "pa.Table":
        """A row a head and group: layer, head, group, sequences, mass, mass_low, mass_high, uniform; then as group
        `adjacency` each head's score, beside the attention a token of a uniform head."""
        rows, adjacency_QLH = [], self.adjacency_QLH()
        for layer, head in np.ndindex(self.mass_QLHG.shape[1:3]):
            for group, name in enumerate(ATTENDED):
                row = _row(layer, head, name, self.mass_QLHG[:, layer, head, group])
                rows.append({**row, "uniform": float(np.nanmean(self.uniform_QG[:, group]))})
            rows.append({**_row(layer, head, "adjacency", adjacency_QLH[:, layer, head]), "uniform": 0.0})
        return table_of(rows)


def _row(layer: int, head: int, name: str, values_Q: np.ndarray) -> dict[str, Any]:
    known_Q = values_Q[~np.isnan(values_Q)]
    figure = mean(known_Q) if len(known_Q) else (np.nan, np.nan, np.nan)
    return {"layer": layer, "head": head, "group": name, "sequences": len(known_Q), **columns("mass", figure)}


def attention(
    policy: Policy,
    sequences: Iterable[Sequence[int] | np.ndarray],
    queries: Collection[str] = ("path",),
    batch_size: int = 32,
) -> Attention:
    """What each head attends to from some places, by default from the path's cells.

    sequences: as `activations.gather` takes them. queries: places that stand for a cell. InputError for a model that
    cannot be read or is not for mazes, a place that does not exist, and for no sequences.
    """
    words, wanted, parts = Words.of(policy.tokenizer), numbers_of(queries), []
    rest = iter(sequences)
    with asked(policy) as model:
        while rows := [np.asarray(row, np.int64) for row in islice(rest, batch_size)]:
            found = find_places(rows, words)
            tokens_BT = padded(rows, policy.pad_token_id)
            check_rows(model, tokens_BT)
            with attending(model) as patterns:
                inner(model).base_model(input_ids=torch.from_numpy(tokens_BT).to(inner(model).device), use_cache=False)
            seen = attended(found, tokens_BT.shape, wanted)
            parts.append(measured(patterns, *seen))
    if not parts:
        raise InputError("sequences: there are none; expected at least one")
    return Attention(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def attended(places: Places, shape: tuple[int, int], queries: Collection[int]) -> tuple[np.ndarray, np.ndarray]:
    """Which tokens each query may attend to, by group: bools (G, B, T, T), queries first; and the queries (B, T).

    places: all that there are in B rows of T tokens. A query is a place of that number that stands for a cell.
    """
    place_BT, order_BT = np.full(shape, -1), np.zeros(shape, np.int64)
    cell_BTC, other_BTC = np.full((*shape, 2), -9), np.full((*shape, 2), -9)
    at = places.sequence_R, places.position_R
    place_BT[at], order_BT[at] = places.place_R, places.order_R
    cell_BTC[at], other_BTC[at] = places.cell_RC, places.other_RC
    asks_BT = np.isin(place_BT, list(queries)) & (cell_BTC[..., 0] >= 0)

    def named(*names: str) -> np.ndarray:
        return np.isin(place_BT, numbers_of(names))[:, None]

    listed_B1T = named("edge_first", "edge_second")
    here_BT1C, there_B1TC, other_B1TC = cell_BTC[:, :, None], cell_BTC[:, None], other_BTC[:, None]
    same_BTT = (here_BT1C == there_B1TC).all(-1)
    beside_BTT = np.abs(here_BT1C - there_B1TC).sum(-1) == 1
    open_BTT = beside_BTT & _joined(places, here_BT1C, there_B1TC, shape[0])
    ends_BTT = same_BTT | (here_BT1C == other_B1TC).all(-1)
    visible_BTT = np.tri(shape[1], dtype=np.bool_) & asks_BT[..., None]
    itself_TT = np.eye(shape[1], dtype=np.bool_)
    cells_B1T = named("edge_first", "edge_second", "origin", "target", "path")
    groups = {
        "open_edges": ends_BTT & named("edge_first", "connector", "edge_second", "edge_end"),
        "open_cells": open_BTT & listed_B1T,
        "walled_cells": beside_BTT & ~open_BTT & listed_B1T,
        "own_cell": same_BTT & listed_B1T,
        "target": named("target"),
        "origin": named("origin"),
        "own_path": named("path") & ~itself_TT,
        "self": itself_TT,
        "delimiters": (place_BT >= 0)[:, None] & ~cells_B1T,
    }
    return np.stack([groups[name] & visible_BTT for name in ATTENDED]), asks_BT


def _joined(places: Places, here_BT1C: np.ndarray, there_B1TC: np.ndarray, rows: int) -> np.ndarray:
    """Whether a listed passage joins two neighbouring cells: bools (B, T, T), of no meaning for cells that are none."""
    edges = places.take(places.named("edge_first"))
    side = 1 + max(int(places.cell_RC.max(initial=0)), int(places.other_RC.max(initial=0)))
    passages = np.zeros((rows, 2, side, side), np.bool_)
    low_RC, high_RC = np.minimum(edges.cell_RC, edges.other_RC), np.maximum(edges.cell_RC, edges.other_RC)
    passages[edges.sequence_R, (low_RC[:, 0] == high_RC[:, 0]).astype(int), low_RC[:, 0], low_RC[:, 1]] = True
    low = np.clip(np.minimum(here_BT1C, there_B1TC), 0, side - 1)
    way_BTT = (here_BT1C[..., 0] == there_B1TC[..., 0]).astype(int)
    return passages[np.arange(rows)[:, None, None], way_BTT, low[..., 0], low[..., 1]]


def measured(patterns: Sequence[Tensor], groups_GBTT: np.ndarray, asks_BT: np.ndarray) -> tuple[np.ndarray, ...]:
    """The four arrays of `Attention`, of L patterns (B, H, T, T)."""
    device = patterns[0].device
    groups = torch.from_numpy(groups_GBTT).to(device)
    asks = torch.from_numpy(asks_BT).to(device)
    count_GBT, visible_T = groups.sum(-1), torch.arange(1, asks.shape[1] + 1, device=device)
    uniform_BG = _over(asks, (count_GBT / visible_T).permute(1, 2, 0))
    kinds = [ATTENDED.index("open_cells"), ATTENDED.index("walled_cells")]
    both = asks & (count_GBT[kinds] > 0).all(0)
    mass, each = [], []
    for pattern_BHTT in patterns:
        mass_BTHG = torch.einsum("bhqk,gbqk->bqhg", pattern_BHTT, groups.to(pattern_BHTT.dtype))
        mass.append(_over(asks, mass_BTHG))
        token_BTHG = mass_BTHG[..., kinds] / count_GBT[kinds].clamp(min=1).permute(1, 2, 0)[:, :, None]
        each.append(_over(both, token_BTHG))
    each_BLHG = np.stack(each, 1)
    return np.stack(mass, 1), uniform_BG, each_BLHG[..., 0], each_BLHG[..., 1]


def _over(asks_BT: Tensor, values_BT: Tensor) -> np.ndarray:
    """Means of (B, T, ...) over a row's queries; NaN where it has none."""
    asks = asks_BT.reshape(*asks_BT.shape, *[1] * (values_BT.ndim - 2))
    total = torch.where(asks, values_BT.double(), 0.0).sum(1)
    return (total / asks.sum(1).double()).cpu().numpy()


def usual_z(policy: Policy, sequences: Iterable[Sequence[int] | np.ndarray], batch_size: int = 64) -> np.ndarray:
    """float64 (L, H, places, D / H): what each head says at tokens of each place, in the mean over some mazes; zeros
    at places that these do not have. In mean ablation a head says that, and so nothing about the maze at hand (Wang et
    al. 2022, arXiv 2211.00593). InputError as `activations.gather`, and for no sequences."""
    sums_GLHD, counts_G = np.zeros(0), np.zeros(len(PLACES))
    for batch in gather(policy, sequences, ["z"], batch_size=batch_size):
        z_RLHD = np.stack([batch.values["z", layer].double().numpy() for layer in range(len(batch.values))], 1)
        if not len(sums_GLHD):
            sums_GLHD = np.zeros((len(PLACES), *z_RLHD.shape[1:]))
        np.add.at(sums_GLHD, batch.places.place_R, z_RLHD)
        counts_G += np.bincount(batch.places.place_R, minlength=len(PLACES))
    if not len(sums_GLHD):
        raise InputError("sequences: there are none; expected at least one")
    return (sums_GLHD / np.maximum(1, counts_G)[:, None, None, None]).transpose(1, 2, 0, 3)


@dataclass(frozen=True)
class Ablations:
    """A heads, each without what it had to say, at P forks."""

    heads: list[Head]
    index_P: np.ndarray
    """which of the pairs were read: those for which there was another question to take from"""
    clean_P: np.ndarray
    """logit(right) - logit(wrong) at the fork, the model as it is"""
    hit_P: np.ndarray
    """whether the right step is the likeliest token"""
    ablated_AP: np.ndarray
    """the logit difference with each head resampled, as a mean over draws"""
    hits_AP: np.ndarray
    """the share of draws in which the right step is still the likeliest token"""

    def table(self) -> "pa.Table":
        """A row a head: layer, head, pairs, shift, shift_low, shift_high (of the logit difference), accuracy and its
        Wilson interval with all heads, and accuracy_lost, accuracy_lost_low, accuracy_lost_high without this one."""
        n, rows = len(self.index_P), []
        rate = (float(self.hit_P.mean()), *wilson(float(self.hit_P.sum()), n))
        for (layer, head), ablated_P, hits_P in zip(self.heads, self.ablated_AP, self.hits_AP, strict=True):
            row = {"layer": layer, "head": head, "pairs": n} | columns("shift", mean(ablated_P - self.clean_P))
            rows.append(row | columns("accuracy", rate) | columns("accuracy_lost", difference(self.hit_P, hits_P)))
        return table_of(rows)


def resample_heads(
    policy: Policy,
    pairs: PairBatch,
    heads: Sequence[Head] | None = None,
    where: Where = "all",
    draws: int = 1,
    seed: int = 0,
    batch_size: int = 64,
) -> Ablations:
    """Resample ablation at forks: the z of a head is replaced by that which it has on another question, place by place
    (Chan et al. 2022, "Causal Scrubbing"). What the head says is then as usual, but not about this maze.

    The clean sides are read. The other question is one of the same batch with as many tokens and as long a list, so
    that each place stands where it stood; `draws` of them for each, all different. heads: None for all. where: as in
    `patching.Patch`. InputError as `patching.patch`, and where too few pairs have another one to take from.
    """
    layers = range(len(layers_of(policy.model)))
    chosen = [(layer, head) for layer in layers for head in range(heads_of(policy.model))] if heads is None else heads
    for head in chosen:
        check_head(policy.model, head)
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < 1:
        raise InputError(f"draws: {draws!r} is not a whole number from 1")
    where_PT, donors_KP = places_of(policy, pairs, [where])[0], _donors(policy, pairs, draws, seed)
    index_P = np.flatnonzero(donors_KP[0] >= 0)
    _check_donors(len(index_P), len(pairs))
    keys: list[Key] = [("z", layer) for layer in sorted({layer for layer, _ in chosen})]
    differences, hits = np.zeros((2, 1 + len(chosen), len(pairs)))
    with asked(policy) as model:
        for rows in _alike(pairs, index_P, batch_size):
            tokens_PT, length = pairs.clean_tokens_PT, int(pairs.length_P[rows[0]])
            base = read_rows(model, tokens_PT[rows][:, -length:], keys)
            _count(pairs, rows, base.last_BV, differences[0], hits[0], 1)
            where_BT = torch.from_numpy(where_PT[rows][:, -length:])
            for donors_P in donors_KP:
                source = read_rows(model, tokens_PT[donors_P[rows]][:, -length:], keys)
                for number, (layer, head) in enumerate(chosen, 1):
                    put = put_in(source.values["z", layer], where_BT, part_of(model, source.values["z", layer], head))
                    run = go_on(base, {("z", layer): put})
                    _count(pairs, rows, run.last_BV, differences[number], hits[number], draws)
    ablated_AP, hits_AP = differences[:, index_P], hits[:, index_P]
    return Ablations(list(chosen), index_P, ablated_AP[0], hits_AP[0] > 0, ablated_AP[1:], hits_AP[1:])


def _count(
    pairs: PairBatch, rows: np.ndarray, logits_BV: Tensor, difference_P: np.ndarray, hits_P: np.ndarray, draws: int
) -> None:
    difference_P[rows] += logit_difference(logits_BV, pairs, rows) / draws
    hits_P[rows] += (logits_BV.argmax(-1).cpu().numpy() == pairs.right_P[rows]) / draws


def _alike(pairs: PairBatch, index_P: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    for length in np.unique(pairs.length_P[index_P]):
        rows = index_P[pairs.length_P[index_P] == length]
        yield from np.split(rows, range(batch_size, len(rows), batch_size))


def check_donors(policy: Policy, pairs: PairBatch, draws: int = 1, seed: int = 0) -> None:
    """InputError where `resample_heads` would have too few pairs with another one to take from."""
    _check_donors(int((_donors(policy, pairs, draws, seed)[0] >= 0).sum()), len(pairs))


def _check_donors(count: int, of: int) -> None:
    if count < LEAST:
        said = f"of {of} there are {count} with another of as many tokens, whose heads could say something else"
        raise InputError(f"pairs: {said}; expected at least {LEAST}")


def _donors(policy: Policy, pairs: PairBatch, draws: int, seed: int) -> np.ndarray:
    """Whose z each pair gets, in each draw (K, P): another's of the same shape; -1 where there are not so many."""
    found = find_places(pairs.clean_tokens_PT, Words.of(policy.tokenizer))
    ends = found.position_R[found.named("list_end")]
    donors_KP, rng = np.full((draws, len(pairs)), -1), np.random.default_rng(seed)
    for shape in np.unique(np.stack([pairs.length_P, ends], 1), axis=0):
        rows = rng.permutation(np.flatnonzero((pairs.length_P == shape[0]) & (ends == shape[1])))
        if len(rows) > draws:
            for draw in range(draws):
                donors_KP[draw, rows] = np.roll(rows, draw + 1)
    return donors_KP
