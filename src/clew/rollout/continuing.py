"""Sampling with prefixes read once: a prompt goes through the model a single time, however often it is continued.

A model that cannot read so is sampled row by row, each read anew for each token: slow, and exact for any causal model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from clew.attention import Attention, as_written, check_tokens, reading, row_logits
from clew.errors import InputError
from clew.prefix import SharedPrefix
from clew.products import by_onednn
from clew.rollout.dice import Dice, drawn, greedy
from clew.rollout.stops import Ending
from clew.selfcheck import reads_rows, reads_trees
from clew.text import show
from clew.tree import check_ids
from clew.world import Stop

Tails = Sequence[Sequence[Sequence[int]]]

LEAVE_AT = 0.8  # rows that have stopped leave the batch when no more than this share of it goes on


@dataclass(frozen=True)
class Continuation:
    """What a model wrote after a prompt."""

    tokens: list[int]
    """sampled tokens, the stop token included where there was one"""
    logps: list[float]
    """natural log-probability of each, at temperature 1 and over the whole vocabulary"""
    stopped: bool
    """whether it ended by itself; otherwise it was cut at `max_new`"""


@torch.inference_mode()
def continue_prompts(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    stop: Stop,
    max_new: int | Sequence[int],
    pad_token_id: int,
    tokenizer: PreTrainedTokenizerBase | None = None,
    tails: Tails | None = None,
    copies: int = 1,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    seeds: Sequence[int] = (),
    attention: Attention = "trees",
) -> list[Continuation]:
    """`copies` continuations of each prompt, those of one prompt side by side.

    tails: for each prompt the ways in which it goes on before the model does (its thoughts, say); each of these gets
    its `copies` then. stop: what ends a continuation; texts among it need the `tokenizer`. max_new: tokens that each
    may take, or one number a prompt (or tail). temperature 0 is greedy; otherwise `seeds` holds one number a prompt (or
    tail), and copy j of it draws from the stream (seeds[i], j), whatever else is in the batch. top_k: draws from the k
    likeliest tokens (0: from all), and top_p from the smallest set of these with this share of their probability. Rows
    that have stopped leave the batch. attention: "trees" reads shared prefixes once; "rows" is for models that do not
    read them exactly.
    InputError, before anything is sampled, for a prompt that is empty, a token that the model does not know or a number
    that is out of range, and for a model that does not read so, or not as far as a row may go.
    """
    if not len(prompts):
        return []
    if attention not in get_args(Attention):
        raise InputError(f"attention: {show(attention)} is not one of {', '.join(get_args(Attention))}")
    longest = _check_rows(model, prompts, tails, pad_token_id)
    rows = len(prompts) if tails is None else sum(map(len, tails))
    limits = [max_new] * rows if isinstance(max_new, int) else list(max_new)
    _check_numbers(limits, copies, temperature, top_p, top_k, seeds, rows)
    ending = Ending(stop, tokenizer, rows * copies)
    reach = longest + max(limits)
    if attention == "trees":
        reads_trees(model, reach)
    else:
        reads_rows(model, reach)
    was_training = model.training
    model.eval()
    try:
        with as_written(), by_onednn(model):
            reader = (_SharedRows if attention == "trees" else _PlainRows)(model, prompts, tails, copies, pad_token_id)
            limits = [limit for limit in limits for _ in range(copies)]
            dice = Dice(seeds, copies) if temperature > 0 else None
            return _continued(reader, ending, limits, dice, temperature, top_p, top_k)
    finally:
        model.train(was_training)


def _check_rows(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], tails: Tails | None, pad_token_id: int
) -> int:
    """The tokens of the longest prompt with its tail. InputError for rows that no model could read."""
    if tails is not None and len(tails) != len(prompts):
        raise InputError(f"tails: {len(tails)} for {len(prompts)} prompts; expected a list of them for each")
    for number, prompt in enumerate(prompts, 1):
        check_ids(prompt, "prompts")
        if not len(prompt):
            raise InputError(f"prompts: number {number} is empty; expected a token at least to go on from")
    given = [*prompts, *(way for ways in tails or () for way in ways)]
    for way in given[len(prompts) :]:
        check_ids(way, "tails")
    check_ids([pad_token_id], "pad_token_id")
    check_tokens(model, max(int(pad_token_id), *(int(max(tokens)) for tokens in given if len(tokens))))
    both = zip(prompts, tails or [()] * len(prompts), strict=True)
    return max(len(prompt) + max(map(len, ways), default=0) for prompt, ways in both)


def _check_numbers(
    limits: Sequence[int],
    copies: int,
    temperature: float,
    top_p: float,
    top_k: int,
    seeds: Sequence[int],
    rows: int,
) -> None:
    if len(limits) != rows:
        raise InputError(f"max_new: {len(limits)} numbers for {rows} prompts (or tails)")
    if min(*limits, copies) < 1:
        raise InputError(f"max_new, copies: {min(limits)}, {copies} are not both at least 1")
    if not 0 <= temperature < math.inf:
        raise InputError(f"temperature: {temperature} is not a number from 0")
    if not 0 < top_p <= 1:
        raise InputError(f"top_p: {top_p} is not a number above 0, and at most 1")
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 0:
        raise InputError(f"top_k: {show(top_k)} is not a whole number from 0")
    if temperature > 0 and (len(seeds) != rows or any(seed < 0 for seed in seeds)):
        raise InputError(f"seeds: {show(seeds)} are not {rows} whole numbers from 0, one a prompt (or tail)")


class _SharedRows:
    """Rows that continue shared prefixes."""

    def __init__(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], tails: Tails | None, copies: int, pad: int
    ):
        self.model, self.device, self.prefix = model, model.device, SharedPrefix()
        logits_CV = self._logits(self.prefix.add(*_padded(prompts, pad, self.device), None))
        if tails is not None:
            flat = [tail for ways in tails for tail in ways]
            parent_C = torch.arange(len(prompts)).repeat_interleave(torch.tensor([len(ways) for ways in tails]))
            logits_CV = self._logits(self.prefix.add(*_padded(flat, pad, self.device), parent_C.to(self.device)))
        cells_R = torch.arange(len(logits_CV), device=self.device).repeat_interleave(copies)
        self.logits_RV = logits_CV[cells_R]
        self.prefix.fork(cells_R)

    def _logits(self, step: dict[str, Any]) -> Tensor:
        return self.model(**step, **reading(self.prefix, self.device), logits_to_keep=1).logits[:, -1]

    def select(self, kept: Tensor) -> None:
        self.prefix.select(kept)

    def step(self, choice_R: Tensor) -> None:
        """Reads one more token of each row."""
        self.logits_RV = self._logits(self.prefix.step(choice_R))
        self.prefix.written += 1


class _PlainRows:
    """The same for rows that are read from their first token on, each time anew."""

    def __init__(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], tails: Tails | None, copies: int, pad: int
    ):
        self.model, self.pad = model, pad
        ways = [[()]] * len(prompts) if tails is None else tails
        begun = [[*prompt, *tail] for prompt, several in zip(prompts, ways, strict=True) for tail in several]
        self.rows = [list(row) for row in begun]
        self._read()
        self.logits_RV = self.logits_RV.repeat_interleave(copies, 0)
        self.rows = [list(row) for row in begun for _ in range(copies)]

    def _read(self) -> None:
        width, device = max(map(len, self.rows)), self.model.device
        tokens = torch.tensor([row + [self.pad] * (width - len(row)) for row in self.rows], device=device)
        ends = torch.tensor([i * width + len(row) - 1 for i, row in enumerate(self.rows)], device=device)
        self.logits_RV = row_logits(self.model, tokens, ends)

    def select(self, kept: Tensor) -> None:
        self.rows = [self.rows[i] for i in kept.tolist()]

    def step(self, choice_R: Tensor) -> None:
        for row, token in zip(self.rows, choice_R.tolist(), strict=True):
            row.append(token)
        self._read()


def _continued(
    reader: _SharedRows | _PlainRows,
    ending: Ending,
    limits: Sequence[int],
    dice: Dice | None,
    temperature: float,
    top_p: float,
    top_k: int,
) -> list[Continuation]:
    """Samples token by token until each row has stopped or has its number of tokens."""
    rows, device = len(reader.logits_RV), reader.logits_RV.device
    limit_R, length_R, stopped_R = np.array(limits), np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=bool)
    batch = np.arange(rows)  # the rows that the model still reads; some of them may be over
    batches: list[np.ndarray] = []
    tokens: list[np.ndarray] = []
    logps: list[Tensor] = []
    while True:
        if dice is None:
            choice_B, logp_B = greedy(reader.logits_RV)
        else:
            draws_B = torch.from_numpy(dice.throw(batch)).to(device)
            choice_B, logp_B = drawn(reader.logits_RV, draws_B, temperature, top_p, top_k)
        batches.append(batch)
        tokens.append(choice_B.cpu().numpy())  # the one time in a step that this waits for a device
        logps.append(logp_B)
        going_B = ~stopped_R[batch] & (length_R[batch] < limit_R[batch])
        length_R[batch] += going_B
        stopped_R[batch] |= going_B & ending.after(batch, tokens[-1])
        alive = (~stopped_R[batch] & (length_R[batch] < limit_R[batch])).nonzero()[0]
        if not len(alive):
            break
        if len(alive) <= LEAVE_AT * len(batch):
            kept = torch.from_numpy(alive).to(device)
            batch, choice_B = batch[alive], choice_B[kept]
            reader.select(kept)
        reader.step(choice_B)
    # Row by row, each in its own order; what a row wrote once it was over stands behind its length.
    row_T = np.concatenate(batches)
    order_T, count_R = row_T.argsort(kind="stable"), np.bincount(row_T)
    token_T, logp_T = np.concatenate(tokens)[order_T], torch.cat(logps).cpu().numpy()[order_T]
    spans = [slice(start, start + length) for start, length in zip(count_R.cumsum() - count_R, length_R, strict=True)]
    both = zip(spans, stopped_R.tolist(), strict=True)
    return [Continuation(token_T[span].tolist(), logp_T[span].tolist(), over) for span, over in both]


def _padded(rows: Sequence[Sequence[int]], pad_token_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows padded on the left to one length, and where they have tokens."""
    width = max(map(len, rows))
    tokens = torch.tensor([[pad_token_id] * (width - len(row)) + list(row) for row in rows])
    starts = torch.tensor([width - len(row) for row in rows])
    return tokens.to(device), (torch.arange(width) >= starts[:, None]).to(device)
