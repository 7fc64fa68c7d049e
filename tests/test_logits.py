"""Logits in parts against all at once: losses, gradients, and models that do more to logits than their head does."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from transformers import CohereConfig, CohereForCausalLM

from clew import logits
from clew.config import MazeConfig
from clew.losses import ObjectiveOptions, evaluate_objective, token_nll
from clew.mazes.vocab import maze_tokenizer
from clew.mazes.world import MazeWorld
from clew.policy import Policy, with_adapters
from clew.tree import TreeBatch
from models import SHAPE, tiny

torch.set_num_threads(1)
WORLD = MazeWorld(MazeConfig([3], branches=4))


@pytest.fixture
def heads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens an output head is given at once, from here on some sixteen at most."""
    sizes: list[int] = []
    real = nn.Linear.forward

    def counted(self: nn.Linear, x: Tensor) -> Tensor:
        sizes.extend([x.shape[-2]] * (self.out_features >= 64))
        return real(self, x)

    monkeypatch.setattr(nn.Linear, "forward", counted)
    monkeypatch.setattr(logits, "WHOLE", 0)
    monkeypatch.setattr(logits, "PART", 64 * 16)
    return sizes


def read(model: nn.Module, batch: TreeBatch, objective: str = "nll", kl: float = 0.0) -> tuple[Tensor, list[Tensor]]:
    reads = [p for p in model.parameters() if p.requires_grad]
    loss = evaluate_objective(objective, model, batch, ObjectiveOptions(kl=kl), {})
    return loss.detach(), list(torch.autograd.grad(loss, reads, allow_unused=True))


def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logits, "WHOLE", 2**40)


def batch_of(objective: str) -> TreeBatch:
    batch = WORLD.batch(range(2), choices=objective == "graded")
    reference = torch.linspace(1, 4, len(batch.targets_S))
    return replace(batch, sampled_nll_S=reference + 0.1, reference_nll_S=reference)


@pytest.mark.parametrize(("objective", "kl"), [("nll", 0.3), ("graded", 0.0), ("graded", 0.3), ("clipped", 0.0)])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_parts_are_the_whole(
    monkeypatch: pytest.MonkeyPatch, heads: list[int], architecture: str, objective: str, kl: float
) -> None:
    model, batch = tiny(architecture, 64), batch_of(objective)
    read(model, batch)  # the check that comes before the first reading
    heads.clear()
    got = read(model, batch, objective, kl)
    assert max(heads) <= 16 and len(heads) > 4
    whole(monkeypatch)
    heads.clear()
    wanted = read(model, batch, objective, kl)
    assert heads == [len(batch.targets_S)]
    torch.testing.assert_close(got, wanted, atol=1e-8, rtol=1e-8)


def test_a_model_that_scales_its_logits_is_given_all_of_them(monkeypatch: pytest.MonkeyPatch, heads: list[int]) -> None:
    torch.manual_seed(0)
    model = CohereForCausalLM(CohereConfig(vocab_size=64, logit_scale=0.3, num_key_value_heads=2, **SHAPE)).eval()
    batch = batch_of("nll")
    got = read(model, batch)
    heads.clear()
    read(model, batch)  # asked once, it is known
    assert heads == [len(batch.targets_S)] and "forward" not in vars(model.get_output_embeddings())
    whole(monkeypatch)
    torch.testing.assert_close(got, read(model, batch), atol=0, rtol=0)


def test_without_gradients_under_adapters_and_in_half_precision(
    monkeypatch: pytest.MonkeyPatch, heads: list[int]
) -> None:
    policy = with_adapters(Policy(tiny("llama", 64).float(), maze_tokenizer(3)), ("one",), 2)[0]
    batch = batch_of("nll")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        token_nll(policy.model, batch)
        heads.clear()
        got = token_nll(policy.model, batch)
        assert max(heads) <= 16 and got.dtype == torch.float32
        whole(monkeypatch)
        torch.testing.assert_close(got, token_nll(policy.model, batch), atol=1e-6, rtol=1e-6)
