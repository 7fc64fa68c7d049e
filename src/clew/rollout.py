"""Sampling with prefixes read once: a prompt goes through the model a single time, however often it is continued."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel


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
    copies: int = 1,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seeds: Sequence[int] = (),
) -> list[Continuation]:
    """`copies` continuations of each prompt, those of one prompt side by side.

    stop: told a continuation's tokens so far, says whether it is over. temperature 0 is greedy; otherwise `seeds` holds
    one number a prompt, and copy j of prompt i draws from the stream (seeds[i], j), whatever else is in the batch. Rows
    that have stopped leave the batch.
    """
    was_training = model.training
    model.eval()
    device = model.device
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    width = int(lengths.max())
    tokens_BT = torch.full((len(prompts), width), pad_token_id)
    for b, prompt in enumerate(prompts):
        tokens_BT[b, width - len(prompt) :] = torch.tensor(prompt)
    mask_BT = (torch.arange(width) >= width - lengths[:, None]).long().to(device)
    padded = bool((lengths < width).any())
    positions_BT = (mask_BT.cumsum(1) - 1).clamp(min=0)
    out = model(
        input_ids=tokens_BT.to(device), attention_mask=mask_BT if padded else None, position_ids=positions_BT,
        use_cache=True, logits_to_keep=1,
    )  # fmt: skip
    cache = out.past_key_values
    if copies > 1:
        cache.batch_repeat_interleave(copies)
    logits_BV = out.logits[:, -1].repeat_interleave(copies, 0)
    mask_BT = mask_BT.repeat_interleave(copies, 0)
    next_B = lengths.repeat_interleave(copies).to(device)

    rows = len(prompts) * copies
    written: list[list[int]] = [[] for _ in range(rows)]
    logps: list[list[float]] = [[] for _ in range(rows)]
    stopped = [False] * rows
    dice = [np.random.default_rng([seed, copy]) for seed in seeds for copy in range(copies)] if temperature > 0 else []
    alive = list(range(rows))
    for step in range(max_new):
        logp_BV = logits_BV.float().log_softmax(-1)
        if temperature > 0:
            draws_B = torch.tensor([dice[row].random() for row in alive], dtype=torch.float64, device=device)
            choice_B = _sample(logits_BV.double() / temperature, top_p, draws_B)
        else:
            choice_B = logits_BV.argmax(-1)
        picked = choice_B.tolist()
        for row, token, logp in zip(alive, picked, logp_BV.gather(1, choice_B[:, None])[:, 0].tolist(), strict=True):
            written[row].append(token)
            logps[row].append(logp)
            stopped[row] = stop(written[row])
        keep = [i for i, row in enumerate(alive) if not stopped[row]]
        if not keep or step + 1 == max_new:
            break
        if len(keep) < len(alive):
            at = torch.tensor(keep, device=device)
            cache.batch_select_indices(at)
            alive, choice_B, next_B, mask_BT = [alive[i] for i in keep], choice_B[at], next_B[at], mask_BT[at]
        if padded:
            mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(alive), 1)], 1)
        logits_BV = model(
            input_ids=choice_B[:, None], attention_mask=mask_BT if padded else None, position_ids=next_B[:, None],
            past_key_values=cache, use_cache=True,
        ).logits[:, -1]  # fmt: skip
        next_B = next_B + 1
    model.train(was_training)
    return [Continuation(*row) for row in zip(written, logps, stopped, strict=True)]


def _sample(logits_BV: Tensor, top_p: float, draws_B: Tensor) -> Tensor:
    """One token a row by inverting the cumulative distribution at `draws_B`, from the smallest set of mass top_p."""
    probs_BV, order_BV = logits_BV.softmax(-1).sort(dim=-1, descending=True, stable=True)
    mass_BV = probs_BV.cumsum(-1)
    kept_BV = probs_BV.masked_fill(mass_BV - probs_BV >= top_p, 0)
    ends_BV = kept_BV.cumsum(-1)
    rank_B = (ends_BV <= draws_B[:, None] * ends_BV[:, -1:]).sum(-1)
    last_B = (kept_BV > 0).sum(-1) - 1
    return order_BV.gather(1, torch.minimum(rank_B, last_B)[:, None])[:, 0]
