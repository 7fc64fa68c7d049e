"""Per-token losses at the supervised positions, and objectives over them, as data: what each needs, and its formula."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew.errors import InputError
from clew.logits import per_token
from clew.text import show
from clew.tree import TreeBatch


def token_nll(model: nn.Module, batch: TreeBatch) -> Tensor:
    """Negative log-likelihood of each supervised token given what stands before it: nll_S, in nats.

    A model's first batch of trees is preceded by a check that it reads them exactly; InputError if it does not, and for
    a token that the model does not know.
    """
    return per_token(model, batch, lambda logits_SV, part: (_nll(logits_SV, part),))[0]


def weighted_nll(model: nn.Module, batch: TreeBatch) -> Tensor:
    """The loss: every supervised token's negative log-likelihood times its weight, added up. A scalar."""
    return _weighted(token_nll(model, batch), batch)


def graded_nll(model: nn.Module, batch: TreeBatch, detour_cost: float = 0.5, wall_cost: float = 1.0) -> Tensor:
    """The graded loss of each supervised token: -log p(optimal) + costs, graded_S.

    p(optimal) is the mass on all tokens that are as good as the label together, so none of several shortest paths is
    punished. Mass on valid detours costs `detour_cost`, mass on everything else `wall_cost`. With both 0 and one
    optimal token a step this is `token_nll`. InputError if the batch does not hold the choices.
    """
    if batch.choices_SC is None or batch.optimal_SC is None:
        raise InputError("loss: graded needs to know the moves open at each step, and this batch does not hold them")
    options = ObjectiveOptions(detour_cost=detour_cost, wall_cost=wall_cost)
    return per_token(model, batch, lambda logits_SV, part: (_graded(logits_SV, part, options),))[0]


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
    zeros = nll_S.new_zeros(_count(trees_S))
    margin = zeros.index_add(0, trees_S, weights_S.to(nll_S.dtype) * (reference_S - nll_S))
    signs = [zeros.index_add(0, trees_S, (sign * weights_S > 0).to(nll_S.dtype)) > 0 for sign in (1, -1)]
    return (-F.logsigmoid(beta * margin) * (signs[0] & signs[1])).sum()


def kl_to(nll_S: Tensor, reference_S: Tensor) -> Tensor:
    """An estimate of KL(policy || reference) from each sampled token, never negative: kl_S, in nats.

    Source: Schulman, "Approximating KL Divergence" (2020), the estimator called k3.
    """
    log_ratio_S = nll_S - reference_S
    return log_ratio_S.exp() - 1 - log_ratio_S


def importance(nll_S: Tensor, sampled_S: Tensor) -> Tensor:
    """The probability that the policy gives each token now, over the one that sampling reported: ratio_S, no gradient.

    Cut at a cap and multiplied into the weights it corrects for a sampler that computes otherwise than the learner, and
    for samples of an earlier policy, with a bounded variance. Source: Yao et al., "Your Efficient RL Framework Secretly
    Brings You Off-Policy RL Training" (2025), truncated importance sampling.
    """
    return (sampled_S - nll_S.detach()).exp()


@dataclass(frozen=True)
class ObjectiveOptions:
    """The numbers in objectives' formulas, and how many share an update."""

    clip_ratio: float = 0.2
    """clipped: how far from 1 a token's ratio of probabilities still pays"""
    beta: float = 0.1
    """pair: how sharply a margin over the reference counts, per nat"""
    kl: float = 0.0
    """weight of the mean KL divergence to the reference, which is added to any objective"""
    importance_cap: float | None = None
    """nll: the most by which `importance` may raise a token's weight; None leaves weights as they are"""
    detour_cost: float = 0.5
    """graded: what mass on valid detours costs"""
    wall_cost: float = 1.0
    """graded: what mass on impossible tokens costs"""
    questions: int = 1
    """pair: of the round, over all processes; the loss is a mean over them"""
    processes: int = 1
    """whose gradients are added up: each gives its part of the mean KL divergence"""


TokenLoss = Callable[[Tensor, TreeBatch, ObjectiveOptions], Tensor]
"""From logits_SV to the loss of each supervised token."""


def _nll(logits_SV: Tensor, batch: TreeBatch, options: ObjectiveOptions | None = None) -> Tensor:
    return F.cross_entropy(logits_SV, batch.targets_S, reduction="none")


def _graded(logits_SV: Tensor, batch: TreeBatch, options: ObjectiveOptions) -> Tensor:
    assert batch.choices_SC is not None and batch.optimal_SC is not None
    logp_SV = F.log_softmax(logits_SV, dim=-1)
    logp_SC = logp_SV.gather(1, batch.choices_SC.clamp(min=0))
    nothing = torch.full_like(logp_SC, -torch.inf)
    optimal_S = torch.where(batch.optimal_SC, logp_SC, nothing).logsumexp(-1)
    valid_S = torch.where(batch.optimal_SC | (batch.choices_SC < 0), nothing, logp_SC).exp().sum(-1)
    wall_S = 1 - optimal_S.exp() - valid_S
    return -optimal_S + options.detour_cost * valid_S + options.wall_cost * wall_S


def _weighted(loss_S: Tensor, batch: TreeBatch, options: ObjectiveOptions | None = None) -> Tensor:
    return (loss_S * batch.weights_S.to(loss_S.dtype)).sum()


def _clipped(nll_S: Tensor, batch: TreeBatch, options: ObjectiveOptions) -> Tensor:
    assert batch.sampled_nll_S is not None
    return clipped(nll_S, batch.sampled_nll_S.to(nll_S.dtype), batch.weights_S.to(nll_S.dtype), options.clip_ratio)


def _pair(nll_S: Tensor, batch: TreeBatch, options: ObjectiveOptions) -> Tensor:
    assert batch.reference_nll_S is not None
    weights_S, trees_S = batch.weights_S.to(nll_S.dtype), batch.roots_S
    # Weights are shares of the round; a pair wants each of its two sides whole.
    largest = nll_S.new_zeros(_count(trees_S)).index_reduce(0, trees_S, weights_S.abs(), "amax")
    sides_S = weights_S / largest.clamp(min=torch.finfo(largest.dtype).tiny)[trees_S]
    return paired(nll_S, batch.reference_nll_S.to(nll_S.dtype), sides_S, trees_S, options.beta) / options.questions


def _count(trees_S: Tensor) -> int:
    return int(trees_S.max()) + 1 if len(trees_S) else 0


@dataclass(frozen=True)
class Objective:
    """What an update goes down: a pure function of the supervised tokens' losses, and what it needs to know."""

    loss: Callable[[Tensor, TreeBatch, ObjectiveOptions], Tensor]
    """(loss_S, batch, options) -> a scalar, which adds up over the pieces that a batch is cut into"""
    needs: tuple[str, ...] = ()
    """the fields of the batch that may not be None, nor NaN at any supervised token"""
    token_loss: TokenLoss = _nll
    """(logits_SV, batch, options) -> loss_S"""
    whole_trees: bool = False
    """whether the loss adds up over pieces only where no tree is cut"""


OBJECTIVES: dict[str, Objective] = {
    "nll": Objective(_weighted),
    "graded": Objective(_weighted, ("choices_SC", "optimal_SC"), _graded),
    "clipped": Objective(_clipped, ("sampled_nll_S",)),
    "pair": Objective(_pair, ("reference_nll_S",), whole_trees=True),
}
"""nll: weighted log-likelihood; graded: `graded_nll`, weighted; clipped: `clipped`, against what sampling reported;
pair: `paired`, tree by tree, each tree's weights as parts of its largest."""


def evaluate_objective(
    objective: str | Objective,
    model: nn.Module,
    batch: TreeBatch,
    options: ObjectiveOptions = ObjectiveOptions(),
    figures: dict[str, float] | None = None,
) -> Tensor:
    """An objective of a batch, a name of `OBJECTIVES` or one's own, as a scalar; with the KL term if options.kl > 0.

    figures: where means over the batch's supervised tokens are added up for the log, piece by piece: `kl`, in nats, if
    it has a reference; if it has what sampling reported, `sampler_gap`, the size of the difference to what the policy
    says now, in nats; with options.importance_cap `importance`, the ratio before it is cut, and `importance_cut`, the
    share of tokens at which it is. InputError for an unknown name and, before the model reads anything, for a batch
    that lacks what the objective needs.
    """
    chosen, name = _named(objective)
    _check_needs(chosen, name, batch, options)
    compared = batch.sampled_nll_S is not None or batch.reference_nll_S is not None
    wanted = [chosen.token_loss] + [_nll] * (compared and chosen.token_loss is not _nll)
    told = per_token(model, batch, lambda logits_SV, part: tuple(loss(logits_SV, part, options) for loss in wanted))
    loss_S, nll_S = told[0], told[-1] if options.kl > 0 else told[-1].detach()
    if not len(loss_S) or not compared:
        return chosen.loss(loss_S, batch, options)
    means = {}
    if batch.sampled_nll_S is not None:
        batch, means = _corrected(nll_S.detach(), batch, batch.sampled_nll_S.to(nll_S.dtype), options.importance_cap)
    loss = chosen.loss(loss_S, batch, options)
    if batch.reference_nll_S is not None:
        means["kl"] = kl_to(nll_S, batch.reference_nll_S.to(nll_S.dtype)).mean()
        if options.kl > 0:
            loss = loss + options.kl * means["kl"] * batch.share / options.processes
    if figures is not None:
        for key, mean in means.items():
            figures[key] = figures.get(key, 0.0) + mean.item() * batch.share
    return loss


def _corrected(
    nll_S: Tensor, batch: TreeBatch, sampled_S: Tensor, cap: float | None
) -> tuple[TreeBatch, dict[str, Tensor]]:
    """The batch with its weights corrected by `importance`, if there is a cap, and means for the log."""
    means = {"sampler_gap": (nll_S - sampled_S).abs().nanmean()}
    if cap is None:
        return batch, means
    ratio_S = importance(nll_S, sampled_S)
    means |= {"importance": ratio_S.mean(), "importance_cut": (ratio_S > cap).to(nll_S.dtype).mean()}
    return replace(batch, weights_S=batch.weights_S * ratio_S.clamp(max=cap).to(batch.weights_S.dtype)), means


def _named(objective: str | Objective) -> tuple[Objective, str]:
    """An objective and what to call it."""
    if isinstance(objective, Objective):
        names = [name for name, one in OBJECTIVES.items() if one is objective]
        return objective, names[0] if names else objective.loss.__name__
    if objective not in OBJECTIVES:
        raise InputError(f"objective: {show(objective)} is not one of {', '.join(OBJECTIVES)}")
    return OBJECTIVES[objective], objective


def _check_needs(objective: Objective, name: str, batch: TreeBatch, options: ObjectiveOptions) -> None:
    """InputError for the first field that the objective, or the KL term, needs and the batch lacks."""
    needs = [(field, name) for field in objective.needs]
    if options.kl > 0:
        needs.append(("reference_nll_S", f"{name} with kl {options.kl:g}"))
    if options.importance_cap is not None:
        needs.append(("sampled_nll_S", f"{name} with importance_cap {options.importance_cap:g}"))
    for field, what in needs:
        value = getattr(batch, field)
        if value is None:
            raise InputError(f"objective: {what} needs {field}, and this batch has none")
        if value.is_floating_point() and bool(value.isnan().any()):
            lacking = int(value.isnan().sum())
            raise InputError(f"objective: {what} needs {field} at every supervised token, and it is NaN at {lacking}")
