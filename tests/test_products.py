"""oneDNN's matrix products against torch's own, and that a model is left as it came."""

from typing import Any

import pytest
import torch
from torch import nn

from clew.products import by_onednn


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(256, 300), nn.Linear(300, 256, bias=False), nn.Linear(256, 20))


def replaced(model: nn.Module) -> list[bool]:
    return ["forward" in vars(layer) for layer in model.modules() if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize("shape", [(1, 256), (7, 1, 256), (2, 3, 5, 256)])
def test_products_are_those_of_torch(shape: tuple[int, ...]) -> None:
    model, x = layers(), torch.randn(shape)
    with torch.inference_mode():
        plain = model(x)
        with by_onednn(model):
            assert replaced(model) == [True, True, False]
            torch.testing.assert_close(model(x), plain, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(model(x.mT.contiguous().mT), plain, atol=1e-5, rtol=1e-5)
        assert replaced(model) == [False] * 3


def test_hooks_run_and_weights_are_read_as_they_are() -> None:
    model, seen = layers(), []
    model[0].register_forward_hook(lambda layer, given, out: seen.append(out.shape))
    with torch.inference_mode(), by_onednn(model):
        model(torch.randn(2, 256))
        for parameter in model[0].parameters():
            parameter.fill_(0)
        assert not model[0](torch.randn(2, 256)).any()
    assert seen == [(2, 300)] * 2


def test_gradients_and_other_precisions_are_left_to_torch() -> None:
    model, x = layers(), torch.randn(3, 256)
    model(x).sum().backward()
    plain = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    with by_onednn(model):
        model(x).sum().backward()
        assert model[0](x.double().float()).requires_grad
    for parameter, gradient in zip(model.parameters(), plain, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=0, rtol=0)
    half = layers().to(torch.bfloat16)
    with torch.inference_mode(), by_onednn(half):
        assert not any(replaced(half)) and half(x.bfloat16()).dtype == torch.bfloat16


def test_a_model_is_given_back_after_an_error_and_other_forwards_are_kept() -> None:
    class Other(nn.Linear):
        def forward(self, input: Any) -> Any:
            return super().forward(input) * 2

    model = nn.Sequential(Other(256, 256), nn.Linear(256, 256), nn.Linear(256, 256))
    mine = model[2].forward
    model[2].forward = mine
    with pytest.raises(ZeroDivisionError), by_onednn(model):
        assert replaced(model) == [False, True, True]
        raise ZeroDivisionError
    assert replaced(model) == [False, False, True] and model[2].forward is mine
