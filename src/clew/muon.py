"""Muon for many small matrices: torch's own optimizer, with all matrices of a shape orthogonalised at once.

torch's works in bfloat16 everywhere. Here a CPU works in float32: one without bfloat16 instructions would spend more
time on Muon than on the rest of the step.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

TOGETHER = 2**24  # elements at a time: small matrices go together, and large ones need no more room than by themselves


class Muon(torch.optim.Muon):
    """torch.optim.Muon, its steps scaled to AdamW's size, in fewer and larger operations; the same weights, but for
    rounding.

    Sources: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); the scale is from Liu et
    al., "Muon is Scalable for LLM Training" (2025).
    """

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float):
        super().__init__(list(params), lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Updates every matrix that has a gradient."""
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[tuple(sorted(weight.shape))].append(weight)
            for (rows, cols), weights in alike.items():
                some = max(1, TOGETHER // (rows * cols))
                for first in range(0, len(weights), some):
                    self._update(weights[first : first + some], group)

    def _update(self, weights: list[Tensor], group: dict) -> None:
        """Matrices of one shape or its transpose; tall ones are worked on lying down."""
        ahead = []
        for weight in weights:
            state, grad = self.state[weight], weight.grad
            assert grad is not None
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(grad)
            momentum = state["momentum_buffer"].lerp_(grad, 1 - group["momentum"])
            ahead.append(_lying(grad.lerp(momentum, group["momentum"])))
        even = orthogonalised(torch.stack(ahead), group["ns_coefficients"], group["ns_steps"], group["eps"])
        for weight, update in zip(weights, even, strict=True):
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            _lying(weight).add_(update, alpha=-group["lr"] * 0.2 * max(weight.shape) ** 0.5)


def orthogonalised(x_BMN: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """B matrices, M <= N, with their singular values pushed towards 1 by Newton-Schulz iteration."""
    a, b, c = coefficients
    x_BMN = x_BMN.float() if x_BMN.device.type == "cpu" else x_BMN.bfloat16()
    x_BMN = x_BMN / x_BMN.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram_BMM = x_BMN @ x_BMN.mT
        x_BMN = torch.baddbmm(x_BMN, torch.baddbmm(gram_BMM, gram_BMM, gram_BMM, beta=b, alpha=c), x_BMN, beta=a)
    return x_BMN


def _lying(x: Tensor) -> Tensor:
    return x.mT if x.shape[0] > x.shape[1] else x
