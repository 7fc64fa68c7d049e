"""Rollouts against the obvious way: one prompt at a time through `generate`, and a fresh forward pass."""

import math
import os
import sys

import pytest
import torch

sys.path.insert(0, os.path.dirname(__file__))
from clew.errors import InputError
from clew.rollout import _sample, continue_prompts
from models import tiny

PROMPTS = [[5, 6, 7, 8], [9], [10, 11, 12, 13, 14, 15, 16], [5, 6, 7, 8]]
STOP = 1


def stops(tokens: list[int]) -> bool:
    return tokens[-1] == STOP


def one_by_one(model, prompt: list[int], max_new: int) -> list[int]:
    tokens = torch.tensor([prompt])
    out = model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=max_new, do_sample=False,
                         eos_token_id=STOP, pad_token_id=0)  # fmt: skip
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2", "neox"])
def test_greedy_equals_generate(kind: str) -> None:
    for seed in range(3):  # some seeds stop early, some never
        model = tiny(kind, vocab=20, seed=seed)
        got = continue_prompts(model, PROMPTS, stop=stops, max_new=12, pad_token_id=0)
        assert [c.tokens for c in got] == [one_by_one(model, prompt, 12) for prompt in PROMPTS]
        assert [c.stopped for c in got] == [c.tokens[-1] == STOP for c in got]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_log_probabilities_equal_a_fresh_pass(kind: str) -> None:
    model = tiny(kind, vocab=20)
    got = continue_prompts(model, PROMPTS, stop=stops, max_new=10, pad_token_id=0, copies=3, temperature=1.3,
                           top_p=0.9, seeds=[0, 1, 2, 3])  # fmt: skip
    for i, continuation in enumerate(got):
        tokens = PROMPTS[i // 3] + continuation.tokens
        logp_TV = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
        at = torch.arange(len(PROMPTS[i // 3]) - 1, len(tokens) - 1)
        fresh = logp_TV[at, torch.tensor(continuation.tokens)]
        torch.testing.assert_close(torch.tensor(continuation.logps).double(), fresh, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2", "neox"])
def test_shared_prompts_equal_separate_ones(kind: str) -> None:
    """Tails of different lengths and numbers behind prompts that are read once: tokens and log-probabilities."""
    model = tiny(kind, vocab=20)
    tails = [[[3], [4, 5, 6], [7, 8]], [[2, 3]], [[11], [12, 13]], [[9, 9, 9, 9]]]
    options = {"stop": stops, "max_new": 20, "pad_token_id": 0, "copies": 3, "temperature": 1.2}
    seeds = list(range(7))
    got = continue_prompts(model, PROMPTS, tails=tails, seeds=seeds, **options)
    rows = [prompt + tail for prompt, ways in zip(PROMPTS, tails, strict=True) for tail in ways]
    alone = [c for row, seed in zip(rows, seeds, strict=True)
             for c in continue_prompts(model, [row], seeds=[seed], **options)]  # fmt: skip
    assert [c.tokens for c in got] == [c.tokens for c in alone]
    for ours, theirs in zip(got, alone, strict=True):
        assert ours.logps == pytest.approx(theirs.logps, abs=1e-5)
    greedy = continue_prompts(model, PROMPTS, tails=tails, stop=stops, max_new=20, pad_token_id=0)
    assert [c.tokens for c in greedy] == [one_by_one(model, row, 20) for row in rows]


def test_sampling_does_not_depend_on_the_batch() -> None:
    model = tiny("llama", vocab=20)
    options = {"stop": stops, "max_new": 10, "pad_token_id": 0, "copies": 4, "temperature": 1.0}
    together = continue_prompts(model, PROMPTS, seeds=[3, 4, 5, 6], **options)
    apart = [c for prompt, seed in zip(PROMPTS, [3, 4, 5, 6], strict=True)
             for c in continue_prompts(model, [prompt], seeds=[seed], **options)]  # fmt: skip
    assert [c.tokens for c in together] == [c.tokens for c in apart]
    other = continue_prompts(model, PROMPTS, seeds=[7, 8, 9, 10], **options)
    assert [c.tokens for c in together] != [c.tokens for c in other]


def test_stop_at_once_and_never() -> None:
    model = tiny("llama", vocab=20)
    at_once = continue_prompts(model, [[5]], stop=lambda tokens: True, max_new=5, pad_token_id=0)
    assert len(at_once[0].tokens) == 1 and at_once[0].stopped
    never = continue_prompts(model, [[5]], stop=lambda tokens: False, max_new=5, pad_token_id=0)
    assert len(never[0].tokens) == 5 and not never[0].stopped


def test_sampled_frequencies_and_nucleus() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().double().expand(20_000, 4)
    draws = torch.linspace(0, 1, 20_001, dtype=torch.float64)[:-1]
    shares = torch.bincount(_sample(logits, 1.0, draws), minlength=4) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=1e-3, rtol=0)
    shares = torch.bincount(_sample(logits, 0.7, draws), minlength=4) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.625, 0.375, 0, 0]), atol=1e-3, rtol=0)


def test_training_mode_is_given_back() -> None:
    model = tiny("llama").train()
    continue_prompts(model, [[5]], stop=lambda tokens: False, max_new=2, pad_token_id=0)
    assert model.training


@pytest.mark.parametrize("temperature", [1e-320, 1e-200, 1e-30])
@pytest.mark.parametrize("top_p", [1.0, 0.5])
def test_the_lowest_temperatures_are_greedy(temperature: float, top_p: float) -> None:
    model, prompts = tiny("llama"), [[3, 4, 5], [6, 7]]
    asked = {"stop": lambda tokens: False, "max_new": 6, "pad_token_id": 0}
    greedy = continue_prompts(model, prompts, **asked)
    low = continue_prompts(model, prompts, **asked, temperature=temperature, top_p=top_p, seeds=[1, 2], copies=2)
    assert [one.tokens for one in low] == [one.tokens for one in greedy for _ in range(2)]
    assert all(math.isfinite(logp) for one in low for logp in one.logps)


def test_tokens_that_the_model_does_not_know_are_named() -> None:
    options = {"stop": stops, "max_new": 2, "pad_token_id": 0}
    for attention in ("trees", "rows"):
        for prompts, tails in (([[2, 20]], None), ([[2]], [[[3], [20]]])):
            with pytest.raises(InputError, match="tokens: 20 is not one of the 20 tokens of this model"):
                continue_prompts(tiny("llama", vocab=20), prompts, tails=tails, attention=attention, **options)


@pytest.mark.parametrize("attention", ["trees", "rows"])
def test_what_cannot_be_continued_is_named(attention: str) -> None:
    model = tiny("llama", vocab=20)
    options = {"stop": stops, "max_new": 2, "pad_token_id": 0, "attention": attention, "seeds": [1], "temperature": 1.0}
    assert continue_prompts(model, [], **options) == []
    for wrong, said in (
        ({"prompts": [[2], []]}, "prompts: number 2 is empty"),
        ({"prompts": [[2.5]]}, "prompts: 2.5 is not a token id"),
        ({"prompts": [[-1]]}, "prompts: -1 is not a token id"),
        ({"tails": [[[3]], [[3]]]}, "tails: 2 for 1 prompts"),
        ({"tails": [[["3"]]]}, "tails: '3' is not a token id"),
        ({"pad_token_id": 20}, "tokens: 20 is not one of the 20"),
        ({"max_new": 0}, "max_new, copies: 0, 1"),
        ({"copies": 0}, "max_new, copies: 2, 0"),
        ({"temperature": -1.0}, "temperature: -1.0"),
        ({"temperature": math.nan}, "temperature: nan"),
        ({"top_p": 0.0}, "top_p: 0.0"),
        ({"top_p": math.nan}, "top_p: nan"),
        ({"seeds": []}, r"seeds: \[\] are not 1 whole numbers"),
        ({"seeds": [-1]}, r"seeds: \[-1\]"),
        ({"attention": "both"}, "attention: 'both' is not one of trees, rows"),
    ):
        with pytest.raises(InputError, match=said):
            continue_prompts(model, **{"prompts": [[2]], **options, **wrong})
