"""Sampling with prefixes read once: a prompt goes through the model a single time, however often it is continued."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from clew.attention import reading, reads_trees
from clew.prefix import SharedPrefix

LEAVE_AT = 0.8  # rows that have stopped leave the batch when no more than this share of it goes on


@dataclass(frozen=True)
class Continuation:
    """What a model wrote after a prompt."""

    tokens: list[int]
    """sampled tokens, the stop token included where there was one"""
    logps: list[float]
    """natural log-probability of each, at temperature 1 and over the whole vocabulary"""
    stopped: bool
    """whether it ended by a stop token; otherwise it was cut at `max_new`"""


@torch.inference_mode()
def continue_prompts(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    stop: Callable[[list[int]], bool],
    max_new: int,
    pad_token_id: int,
    tails: Sequence[Sequence[Sequence[int]]] | None = None,
    copies: int = 1,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seeds: Sequence[int] = (),
) -> list[Continuation]:
    """`copies` continuations of each prompt, those of one prompt side by side.

    tails: for each prompt the ways in which it goes on before the model does (its thoughts, say); each of these gets
    its `copies` then. stop: told a continuation's tokens so far, says whether it is over. temperature 0 is greedy;
    otherwise `seeds` holds one number a prompt (or tail), and copy j of it draws from the stream (seeds[i], j),
    whatever else is in the batch. Rows that have stopped leave the batch.
    """
    reads_trees(model)
    was_training = model.training
    model.eval()
    device, prefix = model.device, SharedPrefix()

    def logits(step: dict[str, Any]) -> Tensor:
        return model(**step, **reading(prefix, device), logits_to_keep=1).logits[:, -1]

    logits_CV = logits(prefix.add(*_padded(prompts, pad_token_id, device), None))
    if tails is not None:
        flat = [tail for ways in tails for tail in ways]
        parent_C = torch.arange(len(prompts)).repeat_interleave(torch.tensor([len(ways) for ways in tails]))
        logits_CV = logits(prefix.add(*_padded(flat, pad_token_id, device), parent_C.to(device)))
    cells_R = torch.arange(len(logits_CV), device=device).repeat_interleave(copies)
    logits_RV = logits_CV[cells_R]
    prefix.fork(cells_R)

    rows = len(cells_R)
    written: list[list[int]] = [[] for _ in range(rows)]
    logps: list[list[float]] = [[] for _ in range(rows)]
    stopped = [False] * rows
    dice = [np.random.default_rng([seed, copy]) for seed in seeds for copy in range(copies)] if temperature > 0 else []
    batch = list(range(rows))  # the rows that the model still reads; some of them may have stopped
    for step in range(max_new):
        logp_RV = logits_RV.float().log_softmax(-1)
        if temperature > 0:
            draws_R = torch.tensor([dice[row].random() for row in batch], dtype=torch.float64, device=device)
            choice_R = _sample(logits_RV.double() / temperature, top_p, draws_R)
        else:
            choice_R = logits_RV.argmax(-1)
        sampled_logps = logp_RV.gather(1, choice_R[:, None])[:, 0].tolist()
        for row, token, logp in zip(batch, choice_R.tolist(), sampled_logps, strict=True):
            if not stopped[row]:
                written[row].append(token)
                logps[row].append(logp)
                stopped[row] = stop(written[row])
        alive = [i for i, row in enumerate(batch) if not stopped[row]]
        if not alive or step + 1 == max_new:
            break
        if len(alive) <= LEAVE_AT * len(batch):
            kept = torch.tensor(alive, device=device)
            batch, choice_R = [batch[i] for i in alive], choice_R[kept]
            prefix.select(kept)
        logits_RV = logits(prefix.step(choice_R))
        prefix.written += 1
    model.train(was_training)
    return [Continuation(*row) for row in zip(written, logps, stopped, strict=True)]


def _padded(rows: Sequence[Sequence[int]], pad_token_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows padded on the left to one length, and where they have tokens."""
    width = max(map(len, rows))
    tokens = torch.tensor([[pad_token_id] * (width - len(row)) + list(row) for row in rows])
    starts = torch.tensor([width - len(row) for row in rows])
    return tokens.to(device), (torch.arange(width) >= starts[:, None]).to(device)


def _sample(logits_BV: Tensor, top_p: float, draws_B: Tensor) -> Tensor:
    """One token a row by inverting the cumulative distribution at `draws_B`, from the smallest set of mass top_p."""
    probs_BV, order_BV = logits_BV.softmax(-1).sort(dim=-1, descending=True, stable=True)
    mass_BV = probs_BV.cumsum(-1)
    kept_BV = probs_BV.masked_fill(mass_BV - probs_BV >= top_p, 0)
    ends_BV = kept_BV.cumsum(-1)
    rank_B = (ends_BV <= draws_B[:, None] * ends_BV[:, -1:]).sum(-1)
    last_B = (kept_BV > 0).sum(-1) - 1
    return order_BV.gather(1, torch.minimum(rank_B, last_B)[:, None])[:, 0]
