"""Matrix products on a CPU by oneDNN, where torch leaves them to MKL.

MKL runs kernels for AVX2 on a processor that it does not take for Intel's, at half of what AVX-512 gives there: 105
GFLOP/s a core against 200, at 64 rows of a model of width 576 on a Zen 5. The numbers are float32's either way.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALL = 1 << 16  # weights of a matrix below which a call costs more than it saves


@contextmanager
def by_onednn(model: nn.Module) -> Iterator[None]:
    """While entered, and where no gradients are wanted, the large float32 layers of a model on a CPU are oneDNN's."""
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    usable = there and not torch.is_autocast_enabled("cpu")
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and usable and _is_large(layer)]
    for layer in layers:
        layer.forward = partial(_product, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _is_large(layer: nn.Linear) -> bool:
    """A plain layer, with a plain forward: what spreads, quantises or adapts layers has its own."""
    if type(layer) is not nn.Linear or "forward" in vars(layer) or type(layer.weight) is not nn.Parameter:
        return False
    return layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32 and layer.weight.numel() >= SMALL


def _product(layer: nn.Linear, input: Tensor) -> Tensor:
    if input.dtype != torch.float32 or torch.is_grad_enabled():
        return F.linear(input, layer.weight, layer.bias)
    return torch.ops.mkldnn._linear_pointwise(input, layer.weight, layer.bias, "none", [], "")
