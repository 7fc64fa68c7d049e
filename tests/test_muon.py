"""Our Muon against torch's."""

import pytest
import torch

if not hasattr(torch.optim, "Muon"):
    pytest.skip("torch has no Muon before 2.9", allow_module_level=True)

from clew import muon

SHAPES = [(32, 32), (32, 32), (64, 32), (32, 64), (16, 48), (32, 32), (64, 32)]


@pytest.mark.parametrize("together", [1, 3000, 2**24])
def test_weights_and_state_are_those_of_torchs_own_muon(together, monkeypatch):
    monkeypatch.setattr(muon, "TOGETHER", together)
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)  # theirs in float32 too, as ours is on a CPU
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    optimizer = muon.Muon(ours, lr=0.02, weight_decay=0.1)
    for step in range(5):
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            gradient = torch.randn(a.shape)
            a.grad, b.grad = (None, None) if step == 1 and i == 2 else (gradient, gradient.clone())
        optimizer.step()
        reference.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
        torch.testing.assert_close(optimizer.state[a], reference.state[b], rtol=0, atol=0)
    reference.load_state_dict(optimizer.state_dict())


def test_singular_values_come_near_one():
    torch.manual_seed(0)
    x_BMN = torch.randn(4, 24, 40)
    even = muon.orthogonalised(x_BMN, (3.4445, -4.7750, 2.0315), 5, 1e-7).float()
    values = torch.linalg.svdvals(even)
    assert values.min() > 0.3 and values.max() < 1.4
    assert torch.linalg.svdvals(x_BMN).max() > 5
