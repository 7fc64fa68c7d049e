"""Per-token losses at the supervised positions, and objectives over them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew.attention import tree_logits
from clew.errors import InputError
from clew.tree import TreeBatch


def token_nll(model: nn.Module, batch: TreeBatch) -> Tensor:
    """Negative log-likelihood of each supervised token given what stands before it: nll_S, in nats."""
    return F.cross_entropy(_upcast(tree_logits(model, batch)), batch.targets_S, reduction="none")


def weighted_nll(model: nn.Module, batch: TreeBatch) -> Tensor:
    """The loss: every supervised token's negative log-likelihood times its weight, added up. A scalar."""
    nll_S = token_nll(model, batch)
    return (nll_S * batch.weights_S.to(nll_S.dtype)).sum()


def graded_nll(model: nn.Module, batch: TreeBatch, detour_cost: float = 0.5, wall_cost: float = 1.0) -> Tensor:
    """The graded loss of each supervised token (design, section 7): -log p(optimal) + costs, graded_S.

    p(optimal) is the mass on all tokens that are as good as the label together, so none of several shortest paths is
    punished. Mass on valid detours costs `detour_cost`, mass on everything else `wall_cost`. With both 0 and one
    optimal token a step this is `token_nll`. InputError if the batch does not hold the choices.
    """
    if batch.choices_SC is None or batch.optimal_SC is None:
        raise InputError("loss: graded needs to know the moves open at each step, and this batch does not hold them")
    logp_SV = F.log_softmax(_upcast(tree_logits(model, batch)), dim=-1)
    logp_SC = logp_SV.gather(1, batch.choices_SC.clamp(min=0))
    nothing = torch.full_like(logp_SC, -torch.inf)
    optimal_S = torch.where(batch.optimal_SC, logp_SC, nothing).logsumexp(-1)
    valid_S = torch.where(batch.optimal_SC | (batch.choices_SC < 0), nothing, logp_SC).exp().sum(-1)
    wall_S = 1 - optimal_S.exp() - valid_S
    return -optimal_S + detour_cost * valid_S + wall_cost * wall_S


def _upcast(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
