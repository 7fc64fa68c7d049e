"""How tokens are drawn, held against a plain sort of the whole vocabulary."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clew.rollout.dice import AHEAD, Dice, drawn, greedy

DRAWS = torch.arange(4000, dtype=torch.float64) / 4000
LIMITS = [(1.0, 0), (0.3, 0), (0.9, 0), (1.0, 1), (1.0, 3), (0.6, 7), (1.0, 10_000)]


def plain(logits_V: Tensor, temperature: float, top_p: float, top_k: int) -> Tensor:
    """Each token's probability: softmax, stable sort, the k first, of these the first whose mass before is below p."""
    probs_V = ((logits_V.double() - logits_V.max()) / temperature).nan_to_num(0, neginf=-math.inf).softmax(-1)
    probs_V, order_V = probs_V.sort(descending=True, stable=True)
    probs_V[top_k or len(probs_V) :] = 0
    probs_V = probs_V / probs_V.sum()
    probs_V[probs_V.cumsum(0) - probs_V >= top_p] = 0
    return torch.zeros_like(probs_V).scatter(0, order_V, probs_V / probs_V.sum())


def shares(logits_V: Tensor, *how: Any) -> Tensor:
    """How many of evenly spread draws come to each token."""
    choice_R, _ = drawn(logits_V.expand(len(DRAWS), -1), DRAWS, *how)
    return torch.bincount(choice_R, minlength=len(logits_V)) / len(DRAWS)


CASES = {
    "few": torch.tensor([0.5, 0.3, 0.15, 0.05]).log(),
    "ties": torch.tensor([1.0, 2.0, 1.0, 2.0, 0.0, 2.0, 1.0, 1.0, 2.0]),
    "never": torch.tensor([-math.inf, 0.3, -math.inf, 1.0, 0.3, -math.inf]),
    "one": torch.tensor([-3.0]),
    "blocks": torch.randn(700, generator=torch.Generator().manual_seed(0)) * 3,
    "flat": torch.randn(400, generator=torch.Generator().manual_seed(1)) / 4,
    "all alike": torch.full((301,), -1.5),
}


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("name", CASES)
def test_shares_are_those_of_a_plain_sort(name: str, limits: tuple[float, int]) -> None:
    for temperature in (0.2, 1.0, 3.0):
        want, got = plain(CASES[name], temperature, *limits), shares(CASES[name], temperature, *limits)
        torch.testing.assert_close(got.double(), want, atol=2 / len(DRAWS), rtol=0)
        assert not got[want == 0].any()


@pytest.mark.parametrize("limits", LIMITS)
def test_extreme_temperatures(limits: tuple[float, int]) -> None:
    """The lowest take the likeliest tokens, of which ties share; the highest take any that is possible at all."""
    for temperature in (1e-320, 1e-200, 1e-38):
        for name in ("few", "ties", "never", "one", "blocks"):
            best = CASES[name] == CASES[name].max()
            assert not shares(CASES[name], temperature, *limits)[~best].any()
    possible_V = torch.where(CASES["never"].isfinite(), 0.0, -math.inf)
    for temperature in (1e39, 1e300):
        got = shares(CASES["never"], temperature, *limits)
        torch.testing.assert_close(got.double(), plain(possible_V, 1.0, *limits), atol=2 / len(DRAWS), rtol=0)


@pytest.mark.parametrize("limits", LIMITS)
def test_no_token_of_probability_0_is_drawn(limits: tuple[float, int]) -> None:
    """Not even by the first and the last of all draws, wherever the possible tokens stand."""
    draws_R = torch.tensor([0.0, 5e-324, 0.5, 1 - 2**-53], dtype=torch.float64)
    for at in ([0], [999], [255, 256], [300, 301, 302, 998]):
        logits_V = torch.full((1000,), -math.inf)
        logits_V[at] = torch.tensor([0.0, -80.0, -100.0, -3.0])[: len(at)]
        for temperature in (0.5, 1.0):
            choice_R, logp_R = drawn(logits_V.expand(4, -1), draws_R, temperature, *limits)
            assert set(choice_R.tolist()) <= set(at) and logp_R.isfinite().all()


@pytest.mark.parametrize("limits", LIMITS)
def test_a_row_alone_is_the_same_row_among_others(limits: tuple[float, int]) -> None:
    make = torch.Generator().manual_seed(2)
    logits_RV = torch.randn(24, 5003, generator=make) * torch.linspace(0.3, 4, 24)[:, None]
    logits_RV[5] = logits_RV[5].round()  # ties
    draws_R = torch.rand(24, dtype=torch.float64, generator=make)
    order = torch.randperm(24, generator=make)
    for temperature in (1.0, 0.7):
        together, _ = drawn(logits_RV, draws_R, temperature, *limits)
        alone = [drawn(logits_RV[i : i + 1], draws_R[i : i + 1], temperature, *limits)[0].item() for i in range(24)]
        assert together.tolist() == alone
        assert drawn(logits_RV[order], draws_R[order], temperature, *limits)[0].tolist() == together[order].tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_log_probabilities_are_at_temperature_1_and_over_all_tokens(dtype: torch.dtype) -> None:
    logits_RV = (torch.randn(8, 900, generator=torch.Generator().manual_seed(3)) * 5).to(dtype)
    logits_RV[:, 7] = -math.inf
    logp_RV, draws_R = logits_RV.float().log_softmax(-1), torch.linspace(0, 0.99, 8, dtype=torch.float64)
    before = logits_RV.clone()
    for how in ((1.0, 1.0, 0), (0.6, 1.0, 0), (1.0, 0.5, 0), (2.0, 0.9, 5)):
        choice_R, got_R = drawn(logits_RV, draws_R, *how)
        torch.testing.assert_close(got_R, logp_RV.gather(1, choice_R[:, None])[:, 0], atol=2e-6, rtol=1e-6)
    choice_R, got_R = greedy(logits_RV)
    assert (choice_R == logp_RV.argmax(-1)).all()
    torch.testing.assert_close(got_R, logp_RV.amax(-1))
    assert (logits_RV == before).all()  # the reader's own


def test_each_row_has_a_stream_of_its_own_whoever_else_is_left() -> None:
    """More draws than are made at once; a row that leaves takes nothing from the others."""
    dice, rows = Dice([3, 8], copies=2), np.arange(4)
    thrown: list[list[float]] = [[] for _ in rows]
    for step in range(2 * AHEAD + 3):
        if step == AHEAD + 5:
            rows = np.array([0, 2, 3])
        for row, draw in zip(rows, dice.throw(rows), strict=True):
            thrown[row].append(draw)
    for row, (seed, copy) in enumerate(((3, 0), (3, 1), (8, 0), (8, 1))):
        stream = np.random.default_rng([seed, copy])
        assert thrown[row] == [stream.random() for _ in thrown[row]]
    assert len(thrown[1]) == AHEAD + 5
