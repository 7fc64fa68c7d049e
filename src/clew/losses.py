"""Per-token losses at the supervised positions, and objectives over them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew.attention import check_tokens, tree_logits
from clew.errors import InputError
from clew.selfcheck import reads_trees
from clew.tree import TreeBatch


def token_nll(model: nn.Module, batch: TreeBatch) -> Tensor:
    """Negative log-likelihood of each supervised token given what stands before it: nll_S, in nats.

    A model's first batch of trees is preceded by a check that it reads them exactly; InputError if it does not, and for
    a token that the model does not know.
    """
    return F.cross_entropy(_logits(model, batch), batch.targets_S, reduction="none")


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
    logp_SV = F.log_softmax(_logits(model, batch), dim=-1)
    logp_SC = logp_SV.gather(1, batch.choices_SC.clamp(min=0))
    nothing = torch.full_like(logp_SC, -torch.inf)
    optimal_S = torch.where(batch.optimal_SC, logp_SC, nothing).logsumexp(-1)
    valid_S = torch.where(batch.optimal_SC | (batch.choices_SC < 0), nothing, logp_SC).exp().sum(-1)
    wall_S = 1 - optimal_S.exp() - valid_S
    return -optimal_S + detour_cost * valid_S + wall_cost * wall_S


def clipped(nll_S: Tensor, before_S: Tensor, weights_S: Tensor, clip: float = 0.2) -> Tensor:
    """PPO's clipped objective for several updates on one round of samples. A scalar.

    before_S: the tokens' negative log-likelihoods under the policy that sampled them; weights_S take the place of
    advantages. Source: Schulman et al., "Proximal Policy Optimization Algorithms" (2017), equation 7.
    """
    ratio_S = (before_S - nll_S).exp()
    return -torch.minimum(ratio_S * weights_S, ratio_S.clamp(1 - clip, 1 + clip) * weights_S).sum()


def paired(nll_S: Tensor, reference_S: Tensor, weights_S: Tensor, trees_S: Tensor, beta: float = 0.1) -> Tensor:
    """Logistic loss on the spans pushed towards against those pushed away from, tree by tree. A scalar, in nats.

    reference_S: negative log-likelihoods under a frozen policy. trees_S: which tree each token belongs to; only trees
    with weights of both signs count. With one span of weight 1 and one of -1 this is the direct preference loss.
    Source: Rafailov et al., "Direct Preference Optimization" (2023), equation 7.
    """
    count = int(trees_S.max()) + 1 if len(trees_S) else 0
    zeros = nll_S.new_zeros(count)
    margin = zeros.index_add(0, trees_S, weights_S.to(nll_S.dtype) * (reference_S - nll_S))
    signs = [zeros.index_add(0, trees_S, (sign * weights_S > 0).to(nll_S.dtype)) > 0 for sign in (1, -1)]
    return (-F.logsigmoid(beta * margin) * (signs[0] & signs[1])).sum()


def kl_to(nll_S: Tensor, reference_S: Tensor) -> Tensor:
    """An estimate of KL(policy || reference) from each sampled token, never negative: kl_S, in nats.

    Source: Schulman, "Approximating KL Divergence" (2020), the estimator called k3.
    """
    log_ratio_S = nll_S - reference_S
    return log_ratio_S.exp() - 1 - log_ratio_S


def _logits(model: nn.Module, batch: TreeBatch) -> Tensor:
    check_tokens(model, int(batch.tokens_BT.max()))
    if batch.layout is not None:
        reads_trees(model, batch.layout.reach, batch.tokens_BT.numel())
    logits_SV = tree_logits(model, batch)
    return logits_SV.float() if logits_SV.dtype in (torch.bfloat16, torch.float16) else logits_SV
