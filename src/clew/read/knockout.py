"""Attention knock-outs: what is lost where tokens at one path distance do not see those at another?

    pairs = PairStream(sizes=((4, 4),)).batch(range(300), policy.tokenizer)
    cuts = [Cut("behind", "current", distance, layers) for distance in range(6) for layers in windows(policy.model)]
    knock_out(policy, pairs, cuts).table()

Geva et al. 2023 ("Dissecting Recall of Factual Associations in Auto-Regressive Language Models", arXiv 2304.14767) cut
attention edges between groups of tokens in a window of layers, and read how much less likely the answer is. Here the
groups are the tokens of the adjacency list by the path distance of the cells that they name. A search that goes on by a
hop a layer needs the edges between distances d and d + 1 at one layer, and others at the next.

What a list says comes before the target and the path: no token of it can know either, and so the cuts in the list,
`inward`, `outward` and `within`, ask how it is put together, and the others what is read of it for a question.

`Unseen` asks of a token behind the list, `<TARGET_END>` say, which names no cell of the maze: does the model keep
there what it has worked out, as in a register, for later tokens to read?
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args

import numpy as np
import torch
from torch import nn

from clew.errors import InputError
from clew.mazes.pairs import PairBatch
from clew.policy import Policy
from clew.read.effects import LEAST, Figure, check_pairs, columns, difference, rate, ratio, table_of
from clew.read.hooks import keys_of, layers_of
from clew.read.hops import ENDS, From
from clew.read.passes import Pass, asked, go_on, read_rows, start_column, takes_masks, unembed
from clew.read.patching import logit_difference
from clew.read.places import PLACES, Words, find_places
from clew.read.targets import targets_in
from clew.text import show

if TYPE_CHECKING:
    import pyarrow as pa

Way = Literal["inward", "outward", "within", "behind", "beyond", "fork"]
WAYS: tuple[Way, ...] = get_args(Way)
LIST_END = PLACES.index("list_end")
REGISTERS = ("list_end", "origin_start", "origin_end", "target_start", "target_end", "path_start")
"""places behind the list whose tokens are the same in every maze: what they hold has been put there"""
NOWHERE = -9  # the distance of tokens that are none of the list, or of cells that no passages lead to


@dataclass(frozen=True)
class Cut:
    """Who does not see whom."""

    way: Way
    """inward: tokens of cells at distance d + 1 do not see those of cells at d in other edges; outward: those at d not
    those at d + 1; within: those of an edge whose nearer end is at d do not see each other, which is no hop; behind: no
    token behind the edges sees those at d; beyond: nor those farther away; fork: the fork's own token alone does not"""
    end: From
    """where distance counts from: the target, or the path's current cell, the fork"""
    distance: int
    """d, in steps"""
    layers: tuple[int, ...]
    """in which layers, all at once"""

    @property
    def label(self) -> dict[str, Any]:
        layers = " ".join(map(str, self.layers))
        return {"way": self.way, "from": self.end, "distance": self.distance, "layers": layers}


@dataclass(frozen=True)
class Unseen:
    """A token of the question that no later one sees."""

    place: str
    """one of REGISTERS"""
    layers: tuple[int, ...]
    """in which layers, all at once"""

    @property
    def label(self) -> dict[str, Any]:
        return {"place": self.place, "layers": " ".join(map(str, self.layers))}


C = TypeVar("C", Cut, Unseen)


def windows(model: nn.Module, width: int = 1) -> list[tuple[int, ...]]:
    """Every `width` layers that follow one another, first to last. InputError for a width that the model has not."""
    count = len(layers_of(model))
    if isinstance(width, bool) or not isinstance(width, int) or not 1 <= width <= count:
        raise InputError(f"width: {show(width)} is not a number of layers, 1 to {count}")
    return [tuple(range(start, start + width)) for start in range(count - width + 1)]


@dataclass(frozen=True)
class Knockouts(Generic[C]):
    """C cuts on the clean sides of P pairs, each beside a random one.

    The metric is logit(right) - logit(wrong) behind the fork. NaN for a pair in which a cut has nothing to cut.
    """

    cuts: list[C]
    clean_P: np.ndarray
    """the metric of the clean side, whole"""
    corrupt_P: np.ndarray
    """the metric of the corrupt side, whole"""
    count_CP: np.ndarray
    """int64: pairs of tokens, the later one of which does not see the other"""
    cut_CP: np.ndarray
    """the metric of the clean side with the cut"""
    random_CP: np.ndarray
    """the same where each token that was cut off from some is cut off from as many others at random, of the list"""

    def figures(self, number: int) -> dict[str, Figure]:
        """Of one cut, over the pairs in which it cuts something; none where these are too few.

        effect: (cut - clean) / (corrupt - clean), of means, by Fieller's theorem (see `Effects.effect`): 1 is the other
        branch, as surely as it was this one, and 1/2 is neither. accuracy: the share of right > wrong, Wilson's, and
        accuracy_lost against the whole model on the same pairs. Each also as random_..., and ..._above_random as the
        paired difference.
        """
        some_P = self.count_CP[number] > 0
        clean_P, corrupt_P = self.clean_P[some_P], self.corrupt_P[some_P]
        cut_P, random_P = self.cut_CP[number][some_P], self.random_CP[number][some_P]
        n, total_P, plain_P = len(clean_P), corrupt_P - clean_P, clean_P > 0
        if n < LEAST:
            return {}
        found: dict[str, Figure] = {}
        for name, metric_P in (("", cut_P), ("random_", random_P)):
            found[f"{name}effect"] = ratio(metric_P - clean_P, total_P)
            found[f"{name}accuracy"] = rate(metric_P > 0)
            found[f"{name}accuracy_lost"] = difference(plain_P, metric_P > 0)
        found["effect_above_random"] = ratio(cut_P - random_P, total_P)
        found["accuracy_lost_above_random"] = difference(random_P > 0, cut_P > 0)
        return found

    def table(self) -> "pa.Table":
        """A row a cut and figure: way, from, distance (or place), layers, pairs, tokens (pairs of tokens that are cut,
        as a mean), figure, value, value_low, value_high."""
        rows = []
        for number, cut in enumerate(self.cuts):
            some_P = self.count_CP[number] > 0
            about = {**cut.label, "pairs": int(some_P.sum())}
            for name, figure in self.figures(number).items():
                tokens = float(self.count_CP[number][some_P].mean())
                rows.append({**about, "tokens": tokens, "figure": name, **columns("value", figure)})
        return table_of(rows)


def knock_out(
    policy: Policy, pairs: PairBatch, cuts: Sequence[C], draws: int = 1, seed: int = 0, batch_size: int = 64
) -> Knockouts[C]:
    """The metric at the fork of each pair's clean side with each of C cuts on its own.

    A cell's tokens are those of the list that name it, `edge_first` and `edge_second`; `connector` and `edge_end` are
    of their edge's end that is nearer to where distance counts from. draws: random cuts that are averaged; they hide
    tokens of other edges.
    InputError, before anything is run, for a way, end, distance, place or layer that does not exist, a model that
    cannot be read, is not for mazes or whose attention takes no masks, and too few pairs.
    """
    _check(policy.model, cuts)
    check_pairs(len(pairs))
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < 1:
        raise InputError(f"draws: {show(draws)} is not a whole number from 1")
    sides, count_CP = np.full((2, len(pairs)), np.nan), np.zeros((len(cuts), len(pairs)), np.int64)
    cut_CP, random_CP = np.full((2, len(cuts), len(pairs)), np.nan)
    with asked(policy) as model:
        for rows in _batches(pairs, batch_size):
            some = pairs.take(rows)
            tokens = _Tokens.of(policy, some)
            clean, corrupt = (read_rows(model, _to_the_left(some, side_PT)) for side_PT in _sides(some))
            sides[:, rows] = [_metric(run, some) for run in (clean, corrupt)]
            for number, cut in enumerate(cuts):
                hidden_PTT = tokens.hidden(cut)
                count_CP[number, rows] = hidden_PTT.sum((1, 2))
                if not hidden_PTT.any():
                    continue
                cut_CP[number, rows] = _metric_without(clean, cut, hidden_PTT, some)
                random_CP[number, rows] = 0
                for draw in range(draws):
                    dice = (np.random.default_rng([seed, draw, number, index]) for index in some.index_P)
                    others_PTT = tokens.at_random(hidden_PTT, dice)
                    random_CP[number, rows] += _metric_without(clean, cut, others_PTT, some) / draws
    cut_CP[count_CP == 0] = random_CP[count_CP == 0] = np.nan
    return Knockouts(list(cuts), sides[0], sides[1], count_CP, cut_CP, random_CP)


def _batches(pairs: PairBatch, batch_size: int) -> Iterator[np.ndarray]:
    """Pairs of about the same length, by their numbers."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size: {show(batch_size)} is not a whole number from 1")
    order_P = np.argsort(pairs.length_P, kind="stable")
    yield from np.split(order_P, range(batch_size, len(order_P), batch_size))


def _sides(pairs: PairBatch) -> tuple[np.ndarray, np.ndarray]:
    return pairs.clean_tokens_PT, pairs.corrupt_tokens_PT


def _to_the_left(pairs: PairBatch, values_PT: np.ndarray) -> np.ndarray:
    """Rows with their padding on the right, where a causal model never looks."""
    width = values_PT.shape[1]
    return np.take_along_axis(values_PT, (np.arange(width) - pairs.length_P[:, None]) % width, 1)


def _metric(run: Pass, pairs: PairBatch, column: int = 0) -> np.ndarray:
    """The metric at each row's fork; of a pass that begins with some column."""
    fork_PD = run.end_BTD[torch.arange(len(pairs)), torch.from_numpy(pairs.length_P - 1 - column)]
    return logit_difference(unembed(run.model, fork_PD), pairs, np.arange(len(pairs)))


def _metric_without(run: Pass, cut: Cut | Unseen, hidden_PTT: np.ndarray, pairs: PairBatch) -> np.ndarray:
    hidden = torch.from_numpy(hidden_PTT)
    column = start_column(run, hidden.any(-1))
    return _metric(go_on(run, {}, column=column, hidden=dict.fromkeys(cut.layers, hidden)), pairs, column)


@dataclass(frozen=True)
class _Tokens:
    """What cuts ask of the tokens of P pairs, whose padding is on the right."""

    distance: dict[From, np.ndarray]
    """int64 (P, T), by end; NOWHERE for tokens that are none of the list's edges"""
    nearer: dict[From, np.ndarray]
    """the same of the nearer end of each token's edge"""
    behind_PT: np.ndarray
    """bool: the tokens behind the list"""
    fork_PT: np.ndarray
    """bool: the fork's"""
    same_PTT: np.ndarray
    """bool, queries first: tokens of a query's own edge before it"""
    there_PTT: np.ndarray
    """bool: the list's tokens that a query sees, but for those of its own edge"""
    place_PT: np.ndarray
    """int64: the name of each token's place, as an index into PLACES; -1 for none"""

    @classmethod
    def of(cls, policy: Policy, pairs: PairBatch) -> "_Tokens":
        words, tokens_PT = Words.of(policy.tokenizer), _to_the_left(pairs, pairs.clean_tokens_PT)
        found, true, shape = find_places(tokens_PT, words), targets_in(tokens_PT, words), tokens_PT.shape
        width = np.array([true.shape[1], 1])
        current_P = words.cell_VC[pairs.clean_tokens_PT[:, -1]] @ width
        at = found.sequence_R, found.position_R
        edges = np.isin(found.place_R, range(PLACES.index("edge_first"), LIST_END))
        own = found.named("edge_first", "edge_second")[edges]
        first, second = found.cell_RC[edges] @ width, found.other_RC[edges] @ width
        steps: dict[From, np.ndarray] = {"target": true.distance_QU, "current": true.distances_to(current_P)}
        distance: dict[From, np.ndarray] = {end: np.full(shape, NOWHERE) for end in ENDS}
        nearer: dict[From, np.ndarray] = {end: np.full(shape, NOWHERE) for end in ENDS}
        for end, dist_PU in steps.items():
            here, there = (dist_PU[at[0][edges], cell].astype(np.int64) for cell in (first, second))
            near = np.minimum(here, there)
            for found_PT, value in ((distance[end], np.where(own, here, near)), (nearer[end], near)):
                found_PT[at[0][edges], at[1][edges]] = np.where(value < 0, NOWHERE, value)
        edge_PT, place_PT = np.full(shape, -1), np.full(shape, -1)
        edge_PT[at], place_PT[at] = np.where(edges, found.order_R, -1), found.place_R
        before_TT = np.tri(shape[1], k=-1, dtype=np.bool_)
        same_PTT = edge_PT[:, :, None] == edge_PT[:, None]
        there_PTT = ~same_PTT & (edge_PT >= 0)[:, None] & before_TT
        fork_PT = np.arange(shape[1]) == pairs.length_P[:, None] - 1
        return cls(distance, nearer, place_PT >= LIST_END, fork_PT, same_PTT & before_TT, there_PTT, place_PT)

    def hidden(self, cut: Cut | Unseen) -> np.ndarray:
        """bool (P, T, T), queries first: what a cut hides of what is there to be seen."""
        if isinstance(cut, Unseen):
            key_PT = self.place_PT == PLACES.index(cut.place)
            return (np.cumsum(key_PT, 1) > key_PT)[:, :, None] & (self.place_PT >= 0)[:, :, None] & key_PT[:, None]
        near_PT = self.distance[cut.end] == cut.distance
        if cut.way == "within":
            return (self.nearer[cut.end] == cut.distance)[:, :, None] & self.same_PTT
        if cut.way in ("inward", "outward"):
            far_PT = self.distance[cut.end] == cut.distance + 1
            queries_PT, keys_PT = (far_PT, near_PT) if cut.way == "inward" else (near_PT, far_PT)
        else:
            queries_PT = self.fork_PT if cut.way == "fork" else self.behind_PT
            keys_PT = self.distance[cut.end] >= cut.distance if cut.way == "beyond" else near_PT
        return queries_PT[:, :, None] & keys_PT[:, None] & self.there_PTT

    def at_random(self, hidden_PTT: np.ndarray, dice: Iterator[np.random.Generator]) -> np.ndarray:
        """As many of the list's tokens hidden from each query, whichever of other edges."""
        others_PTT = np.zeros_like(hidden_PTT)
        for hidden_TT, there_TT, others_TT, one in zip(hidden_PTT, self.there_PTT, others_PTT, dice, strict=True):
            nth_T = hidden_TT.sum(-1)
            query_N = np.flatnonzero(nth_T)
            end = int(query_N.max(initial=0))  # no draw depends on the padding, or on other rows
            luck_NT = np.where(there_TT[query_N, :end], one.random((len(query_N), end)), 2)
            most_N1 = np.take_along_axis(np.sort(luck_NT, -1), nth_T[query_N, None] - 1, -1)
            others_TT[query_N, :end] = (luck_NT <= most_N1) & (luck_NT < 2)
        return others_PTT


def _named(cut: Cut | Unseen) -> list[tuple[str, Any, bool, str]]:
    """What a cut names, by field: the value, whether there is one such, and what would be right."""
    if isinstance(cut, Unseen):
        return [("place", cut.place, cut.place in REGISTERS, f"one of {', '.join(REGISTERS)}")]
    return [
        ("way", cut.way, cut.way in WAYS, f"one of {', '.join(WAYS)}"),
        ("end", cut.end, cut.end in ENDS, f"one of {', '.join(ENDS)}"),
        ("distance", cut.distance, type(cut.distance) is int and cut.distance >= 0, "a whole number from 0"),
    ]


def _check(model: nn.Module, cuts: Sequence[Cut | Unseen]) -> None:
    if not cuts:
        raise InputError("cuts: there are none; expected at least one")
    for cut in cuts:
        for name, value, right, said in _named(cut):
            if not right:
                raise InputError(f"{name}: {show(value)} is not {said}")
        keys_of(model, ["z"], cut.layers)
    if not takes_masks(model):
        raise InputError("model: its attention takes no masks; load it with attn_implementation sdpa or eager")
