"""How a token is drawn from logits: by inverting the cumulative distribution, without a sort of the whole vocabulary.

Rows know nothing of each other: whatever else is in the batch, a row's logits and draw give the same token.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 256  # tokens whose weights are added up first: a row's total then is a sum of block sums, in float64
FIRST = 64  # likeliest tokens among which a nucleus is sought first
AHEAD = 64  # draws of a row that are made at once
LOW = 2**32 - 1
COLDEST, HOTTEST = 1e-37, 1e37  # neither they nor what they divide leaves float32, so no logit becomes NaN


class Dice:
    """A stream of uniform draws for each row: row i of copy j draws from the stream (seeds[i], j)."""

    def __init__(self, seeds: Sequence[int], copies: int):
        self.streams = [np.random.default_rng([seed, copy]) for seed in seeds for copy in range(copies)]
        self.ahead_RA = np.empty((len(self.streams), AHEAD))
        self.thrown = 0

    def throw(self, rows: np.ndarray) -> np.ndarray:
        """The next draw of these rows; a row that was left out once is not asked for again."""
        if self.thrown % AHEAD == 0:
            for row in rows:
                self.ahead_RA[row] = self.streams[row].random(AHEAD)
        self.thrown += 1
        return self.ahead_RA[rows, (self.thrown - 1) % AHEAD]


def greedy(logits_RV: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest token of each row (the first of several), and its log-probability."""
    choice_R = logits_RV.argmax(-1)
    return choice_R, _logp(logits_RV.float(), choice_R)


def drawn(logits_RV: Tensor, draws_R: Tensor, temperature: float, top_p: float, top_k: int) -> tuple[Tensor, Tensor]:
    """One token a row, and its log-probability at temperature 1 over the whole vocabulary.

    draws_R: float64 from 0 and below 1. temperature above 0. top_k: of the k likeliest tokens alone (0: of all), and of
    these from the smallest set that holds top_p of their probability; of equally likely tokens the first come first. A
    token of probability 0 is never drawn.
    """
    logits_RV = logits_RV.float()
    weights_RCL, top_R1 = _weights(logits_RV, temperature)
    sums_RC = weights_RCL.sum(-1)
    if top_k or top_p < 1:
        weights_RV = weights_RCL.flatten(1)[:, : logits_RV.shape[1]]
        choice_R = _of_the_likeliest(weights_RV, sums_RC.double().sum(-1), draws_R, top_p, top_k)
    else:
        block_R, left_R = _fall(sums_RC, draws_R)
        inner_R, _ = _fall(weights_RCL[torch.arange(len(block_R), device=block_R.device), block_R], left_R)
        choice_R = block_R * BLOCK + inner_R
    if temperature != 1:
        return choice_R, _logp(logits_RV, choice_R)
    chosen_R1 = logits_RV.gather(1, choice_R[:, None]) - top_R1
    return choice_R, (chosen_R1.double()[:, 0] - sums_RC.double().sum(-1).log()).float()


def _weights(logits_RV: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """exp((logit - largest) / temperature) in blocks (R, C, BLOCK), padded with zeros; and the largest (R, 1)."""
    top_R1 = logits_RV.amax(-1, keepdim=True)
    weights_RV = F.pad(logits_RV, (0, -logits_RV.shape[1] % BLOCK), value=-torch.inf).sub_(top_R1)
    if temperature != 1:
        weights_RV.div_(min(max(temperature, COLDEST), HOTTEST))
    return weights_RV.exp_().view(len(logits_RV), -1, BLOCK), top_R1


def _logp(logits_RV: Tensor, choice_R: Tensor) -> Tensor:
    return logits_RV.log_softmax(-1).gather(1, choice_R[:, None])[:, 0]


def _fall(parts_RC: Tensor, share_R: Tensor) -> tuple[Tensor, Tensor]:
    """The part of each row in which a share (from 0, below 1) of the row's sum falls, and the share of it that is left.

    Never a part of 0.
    """
    parts_RC = parts_RC.double()
    ends_RC = parts_RC.cumsum(-1)
    at_R1 = share_R[:, None] * ends_RC[:, -1:]  # a share below 1 of it, even rounded, is less than all of it
    part_R1 = (ends_RC <= at_R1).sum(-1, keepdim=True)
    size_R1, end_R1 = parts_RC.gather(1, part_R1), ends_RC.gather(1, part_R1)
    left_R1 = 1 - (end_R1 - at_R1) / size_R1
    return part_R1[:, 0], left_R1[:, 0].clamp(min=0)


def _of_the_likeliest(weights_RV: Tensor, total_R: Tensor, draws_R: Tensor, top_p: float, top_k: int) -> Tensor:
    """A token of each row's smallest set of mass top_p among its top_k likeliest.

    The likeliest are sought in sets that grow until they are enough, each row by itself.
    """
    rows, vocabulary = weights_RV.shape
    choice_R, open_R = torch.zeros_like(total_R, dtype=torch.int64), torch.arange(rows, device=weights_RV.device)
    count = min(top_k or FIRST, vocabulary)
    while len(open_R):
        likely_RK, order_RK = _likeliest(weights_RV[open_R], count)
        mass_RK = likely_RK.cumsum(-1)
        whole_R1 = mass_RK[:, -1:] if top_k else total_R[open_R, None]
        kept_RK = likely_RK.masked_fill(mass_RK - likely_RK >= top_p * whole_R1, 0)
        rank_R, _ = _fall(kept_RK, draws_R[open_R])
        choice_R[open_R] = order_RK.gather(1, rank_R[:, None])[:, 0]
        if top_k or count == vocabulary:
            break
        open_R = open_R[mass_RK[:, -1] < top_p * whole_R1[:, 0]]
        count = min(16 * count, vocabulary)
    return choice_R


def _likeliest(weights_RV: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest weights of each row, largest first, equal ones in order, in float64; and their tokens."""
    vocabulary = weights_RV.shape[1]
    best_RK, order_RK = weights_RV.topk(min(count + 1, vocabulary))
    keys_RK = _keys(best_RK, order_RK)
    if count < vocabulary:  # topk takes any of the equal ones: where more are equal to the last, all have to be asked
        last_R = best_RK[:, -1]
        tied_R = ((last_R == best_RK[:, -2]) & (last_R > 0)).nonzero()[:, 0]
        every_RV = _keys(weights_RV[tied_R], torch.arange(vocabulary, device=weights_RV.device))
        keys_RK[tied_R] = every_RV.topk(count + 1).values
    order_RK = keys_RK.sort(-1, descending=True).values[:, :count].bitwise_and(LOW).bitwise_xor(LOW)
    return weights_RV.gather(1, order_RK).double(), order_RK


def _keys(weights: Tensor, tokens: Tensor) -> Tensor:
    """Whole numbers, all different, that order as the weights do, and of equal weights the first token highest.

    No weight is negative, so that their bits order as they do.
    """
    return (weights.contiguous().view(torch.int32).long() << 32) + (tokens ^ LOW)
