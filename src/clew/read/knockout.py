"""Attention knock-outs: what is lost where tokens at one path distance do not see those at another?

    pairs = PairStream(sizes=((4, 4),)).batch(range(300), policy.tokenizer)
    cuts = [Cut("behind", "current", distance, layers) for distance in range(6) for layers in windows(policy.model)]
    knock_out(policy, pairs, cuts).table()

Geva et al. 2023 ("Dissecting Recall of Factual Associations in Auto-Regressive Language Models", arXiv 2304.14767) cut
attention edges between groups of tokens in a window of layers, and read how much less likely the answer is. Here the
groups are the tokens of the adjacency list by the path distance of the cells that they name. A search that goes on by a
hop a layer needs the edges between distances d and d + 1 at one layer, and others at the next.

What a list says comes before the target and the path: no token of it can know either, and so the cuts in the list,
`inward`, `outward` and `within`, ask how it is put together, and `behind` and `fork` what is read of it for a question.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import nn

from clew.errors import InputError
from clew.mazes.pairs import PairBatch
from clew.policy import Policy
from clew.read.effects import Figure, check_pairs, columns, mean, rate, ratio, table_of
from clew.read.hooks import keys_of, layers_of
from clew.read.hops import ENDS, From
from clew.read.passes import Pass, asked, go_on, read_rows, start_column, takes_masks
from clew.read.patching import chunks, logit_difference
from clew.read.places import PLACES, Words, find_places
from clew.read.targets import targets_in
from clew.text import show

if TYPE_CHECKING:
    import pyarrow as pa

Way = Literal["inward", "outward", "within", "behind", "fork"]
WAYS: tuple[Way, ...] = get_args(Way)
LIST_END = PLACES.index("list_end")
NOWHERE = -9  # the distance of tokens that are none of the list, or of cells that no passages lead to


@dataclass(frozen=True)
class Cut:
    """Who does not see whom."""

    way: Way
    """inward: tokens of cells at distance d + 1 do not see those of cells at d in other edges; outward: those at d not
    those at d + 1; within: those of an edge whose nearer end is at d do not see each other, which is no hop; behind: no
    token behind the edges sees those at d; fork: the fork's own token alone does not"""
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


def windows(model: nn.Module, width: int = 1) -> list[tuple[int, ...]]:
    """Every `width` layers that follow one another, first to last. InputError for a width that the model has not."""
    count = len(layers_of(model))
    if isinstance(width, bool) or not isinstance(width, int) or not 1 <= width <= count:
        raise InputError(f"width: {show(width)} is not a number of layers, 1 to {count}")
    return [tuple(range(start, start + width)) for start in range(count - width + 1)]


@dataclass(frozen=True)
class Knockouts:
    """C cuts on the clean sides of P pairs, each beside a random one.

    The metric is logit(right) - logit(wrong) behind the fork. NaN for a pair in which a cut has nothing to cut.
    """

    cuts: list[Cut]
    clean_P: np.ndarray
    """the metric of the clean side, whole"""
    corrupt_P: np.ndarray
    """the metric of the corrupt side, whole"""
    count_CP: np.ndarray
    """int64: pairs of tokens, the later one of which does not see the other"""
    cut_CP: np.ndarray
    """the metric of the clean side with the cut"""
    random_CP: np.ndarray
    """the same where each token that was cut off from some is cut off from as many others of the list, at random"""

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
        if n < 2:
            return {}
        found: dict[str, Figure] = {}
        for name, metric_P in (("", cut_P), ("random_", random_P)):
            found[f"{name}effect"] = ratio(metric_P - clean_P, total_P)
            found[f"{name}accuracy"] = rate(metric_P > 0)
            found[f"{name}accuracy_lost"] = mean(plain_P - 1.0 * (metric_P > 0))
        found["effect_above_random"] = ratio(cut_P - random_P, total_P)
        found["accuracy_lost_above_random"] = mean(1.0 * (random_P > 0) - (cut_P > 0))
        return found

    def table(self) -> "pa.Table":
        """A row a cut and figure: way, from, distance, layers, pairs, tokens (pairs of tokens that are cut, as a mean),
        figure, value, value_low, value_high."""
        rows = []
        for number, cut in enumerate(self.cuts):
            some_P = self.count_CP[number] > 0
            about = {**cut.label, "pairs": int(some_P.sum())}
            for name, figure in self.figures(number).items():
                tokens = float(self.count_CP[number][some_P].mean())
                rows.append({**about, "tokens": tokens, "figure": name, **columns("value", figure)})
        return table_of(rows)


def knock_out(
    policy: Policy, pairs: PairBatch, cuts: Sequence[Cut], draws: int = 1, seed: int = 0, batch_size: int = 64
) -> Knockouts:
    """The metric at the fork of each pair's clean side with each of C cuts on its own.

    A cell's tokens are those of the list that name it, `edge_first` and `edge_second`; `connector` and `edge_end` are
    of their edge's end that is nearer to where distance counts from. draws: random cuts that are averaged; they hide
    tokens of other edges.
    InputError, before anything is run, for a way, end, distance or layer that does not exist, a model that cannot be
    read, is not for mazes or whose attention takes no masks, and too few pairs.
    """
    _check(policy.model, cuts)
    check_pairs(len(pairs))
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < 1:
        raise InputError(f"draws: {show(draws)} is not a whole number from 1")
    tokens = _Tokens.of(policy, pairs)
    sides, count_CP = np.full((2, len(pairs)), np.nan), np.zeros((len(cuts), len(pairs)), np.int64)
    cut_CP, random_CP = np.full((2, len(cuts), len(pairs)), np.nan)
    with asked(policy) as model:
        for rows, tokens_BT in chunks(pairs, batch_size):
            clean, corrupt = (read_rows(model, side_BT) for side_BT in tokens_BT)
            sides[:, rows] = [logit_difference(run.last_BV, pairs, rows) for run in (clean, corrupt)]
            for number, cut in enumerate(cuts):
                hidden_BTT = tokens.hidden(cut, rows, tokens_BT.shape[2])
                count_CP[number, rows] = hidden_BTT.sum((1, 2))
                if not hidden_BTT.any():
                    continue
                cut_CP[number, rows] = logit_difference(_without(clean, cut, hidden_BTT).last_BV, pairs, rows)
                random_CP[number, rows] = 0
                for draw in range(draws):
                    dice = (np.random.default_rng([seed, draw, number, index]) for index in pairs.index_P[rows])
                    others_BTT = tokens.at_random(hidden_BTT, rows, dice)
                    run = _without(clean, cut, others_BTT)
                    random_CP[number, rows] += logit_difference(run.last_BV, pairs, rows) / draws
    cut_CP[count_CP == 0] = random_CP[count_CP == 0] = np.nan
    return Knockouts(list(cuts), sides[0], sides[1], count_CP, cut_CP, random_CP)


def _without(run: Pass, cut: Cut, hidden_BTT: np.ndarray) -> Pass:
    hidden = torch.from_numpy(hidden_BTT)
    return go_on(run, {}, column=start_column(run, hidden.any(-1)), hidden=dict.fromkeys(cut.layers, hidden))


@dataclass(frozen=True)
class _Tokens:
    """What cuts ask of the tokens of P pairs, in the columns of the batch."""

    distance: dict[From, np.ndarray]
    """int64 (P, T), by end; NOWHERE for tokens that are none of the list's edges"""
    nearer: dict[From, np.ndarray]
    """the same of the nearer end of each token's edge"""
    edge_PT: np.ndarray
    """int64: of which edge of the list they are, -1 for the other tokens"""
    behind_PT: np.ndarray
    """bool: the tokens behind them"""

    @classmethod
    def of(cls, policy: Policy, pairs: PairBatch) -> "_Tokens":
        words, shape = Words.of(policy.tokenizer), pairs.clean_tokens_PT.shape
        found = find_places(pairs.clean_tokens_PT, words)
        true = targets_in(pairs.clean_tokens_PT, words)
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
        edge_PT, behind_PT = np.full(shape, -1), np.zeros(shape, np.bool_)
        edge_PT[at], behind_PT[at] = np.where(edges, found.order_R, -1), found.place_R >= LIST_END
        return cls(distance, nearer, edge_PT, behind_PT)

    def hidden(self, cut: Cut, rows: np.ndarray, length: int) -> np.ndarray:
        """bool (B, T, T), queries first: what a cut hides of what is there to be seen."""
        distance_BT, behind_BT = self.distance[cut.end][rows][:, -length:], self.behind_PT[rows][:, -length:]
        near_BT = distance_BT == cut.distance
        if cut.way == "within":
            edge_BT = self.edge_PT[rows][:, -length:]
            queries_BT = self.nearer[cut.end][rows][:, -length:] == cut.distance
            same_BTT = edge_BT[:, :, None] == edge_BT[:, None]
            return queries_BT[:, :, None] & same_BTT & np.tri(length, k=-1, dtype=np.bool_)
        if cut.way in ("inward", "outward"):
            far_BT = distance_BT == cut.distance + 1
            queries_BT, keys_BT = (far_BT, near_BT) if cut.way == "inward" else (near_BT, far_BT)
        else:
            queries_BT, keys_BT = behind_BT.copy(), near_BT
            queries_BT[:, :-1] &= cut.way == "behind"
        return queries_BT[:, :, None] & keys_BT[:, None] & self._there(rows, length)

    def _there(self, rows: np.ndarray, length: int) -> np.ndarray:
        """bool (B, T, T): the list's tokens that a query sees, but for those of its own edge."""
        edge_BT = self.edge_PT[rows][:, -length:]
        others_BTT = edge_BT[:, :, None] != edge_BT[:, None]
        return others_BTT & (edge_BT >= 0)[:, None] & np.tri(length, k=-1, dtype=np.bool_)

    def at_random(self, hidden_BTT: np.ndarray, rows: np.ndarray, dice: Iterator[np.random.Generator]) -> np.ndarray:
        """As many of the list's tokens hidden from each query, whichever of other edges."""
        length = hidden_BTT.shape[1]
        there_BTT = self._there(rows, length)
        luck_BTT = np.stack([one.random((length, length)) for one in dice])
        luck_BTT[~there_BTT] = 2
        nth_BT = hidden_BTT.sum(-1)
        most_BT = np.take_along_axis(np.sort(luck_BTT, -1), np.maximum(nth_BT - 1, 0)[..., None], -1)[..., 0]
        return (luck_BTT <= most_BT[..., None]) & there_BTT & (nth_BT > 0)[..., None]


def _check(model: nn.Module, cuts: Sequence[Cut]) -> None:
    if not cuts:
        raise InputError("cuts: there are none; expected at least one")
    for cut in cuts:
        for name, value, right, said in (
            ("way", cut.way, cut.way in WAYS, f"one of {', '.join(WAYS)}"),
            ("end", cut.end, cut.end in ENDS, f"one of {', '.join(ENDS)}"),
            ("distance", cut.distance, type(cut.distance) is int and cut.distance >= 0, "a whole number from 0"),
        ):
            if not right:
                raise InputError(f"{name}: {show(value)} is not {said}")
        keys_of(model, ["z"], cut.layers)
    if not takes_masks(model):
        raise InputError("model: its attention takes no masks; load it with attn_implementation sdpa or eager")
