"""Sampling against the obvious way: one prompt at a time through `generate`, and a fresh forward pass."""

import math
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as kinds
from transformers import PreTrainedTokenizerFast

from clew.errors import InputError
from clew.rollout.continuing import continue_prompts
from clew.world import Stop
from models import tiny

PROMPTS = [[5, 6, 7, 8], [9], [10, 11, 12, 13, 14, 15, 16], [5, 6, 7, 8]]
STOP, NEVER = Stop((1,)), Stop()


def one_by_one(model, prompt: list[int], max_new: int) -> list[int]:
    tokens = torch.tensor([prompt])
    asked = {"max_new_tokens": max_new, "do_sample": False, "eos_token_id": 1, "pad_token_id": 0}
    out = model.generate(tokens, attention_mask=torch.ones_like(tokens), **asked)
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2", "neox"])
def test_greedy_equals_generate(kind: str) -> None:
    for seed in range(3):  # some seeds stop early, some never
        model = tiny(kind, vocab=20, seed=seed)
        got = continue_prompts(model, PROMPTS, stop=STOP, max_new=12, pad_token_id=0)
        assert [c.tokens for c in got] == [one_by_one(model, prompt, 12) for prompt in PROMPTS]
        assert [c.stopped for c in got] == [c.tokens[-1] == 1 for c in got]


LIMITS = [{}, {"top_p": 0.9}, {"top_k": 4}, {"top_p": 0.8, "top_k": 6}]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("limits", [*LIMITS, {"temperature": 1.0}, {"temperature": 0.0}])
def test_log_probabilities_equal_a_fresh_pass(kind: str, limits: dict[str, Any]) -> None:
    model = tiny(kind, vocab=20)
    options: dict[str, Any] = {"copies": 3, "temperature": 1.3, "seeds": [0, 1, 2, 3], **limits}
    got = continue_prompts(model, PROMPTS, stop=STOP, max_new=10, pad_token_id=0, **options)
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
    options: dict[str, Any] = {"stop": STOP, "max_new": 20, "pad_token_id": 0, "copies": 3, "temperature": 1.2}
    seeds = list(range(7))
    got = continue_prompts(model, PROMPTS, tails=tails, seeds=seeds, **options)
    rows = [prompt + tail for prompt, ways in zip(PROMPTS, tails, strict=True) for tail in ways]
    both = zip(rows, seeds, strict=True)
    alone = [c for row, seed in both for c in continue_prompts(model, [row], seeds=[seed], **options)]
    assert [c.tokens for c in got] == [c.tokens for c in alone]
    for ours, theirs in zip(got, alone, strict=True):
        assert ours.logps == pytest.approx(theirs.logps, abs=1e-5)
    greedy = continue_prompts(model, PROMPTS, tails=tails, stop=STOP, max_new=20, pad_token_id=0)
    assert [c.tokens for c in greedy] == [one_by_one(model, row, 20) for row in rows]


@pytest.mark.parametrize("limits", LIMITS)
def test_sampling_does_not_depend_on_the_batch(limits: dict[str, Any]) -> None:
    model = tiny("llama", vocab=300)
    options: dict[str, Any] = {
        "stop": STOP,
        "max_new": 10,
        "pad_token_id": 0,
        "copies": 4,
        "temperature": 1.0,
        **limits,
    }
    together = continue_prompts(model, PROMPTS, seeds=[3, 4, 5, 6], **options)
    both = zip(PROMPTS, [3, 4, 5, 6], strict=True)
    apart = [c for prompt, seed in both for c in continue_prompts(model, [prompt], seeds=[seed], **options)]
    assert [c.tokens for c in together] == [c.tokens for c in apart]
    other = continue_prompts(model, PROMPTS, seeds=[7, 8, 9, 10], **options)
    assert [c.tokens for c in together] != [c.tokens for c in other]


def test_stop_at_once_and_never() -> None:
    model = tiny("llama", vocab=20)
    at_once = continue_prompts(model, [[5]], stop=Stop(tuple(range(20))), max_new=5, pad_token_id=0)
    assert len(at_once[0].tokens) == 1 and at_once[0].stopped
    never = continue_prompts(model, [[5]], stop=NEVER, max_new=5, pad_token_id=0)
    assert len(never[0].tokens) == 5 and not never[0].stopped


def letters() -> PreTrainedTokenizerFast:
    """Token i is the i-th letter; 20 of them."""
    words = Tokenizer(kinds.BPE({letter: i for i, letter in enumerate("abcdefghijklmnopqrst")}, []))
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=words)


@pytest.mark.parametrize("attention", ["trees", "rows"])
def test_texts_and_token_ids_end_a_continuation(attention: Any) -> None:
    """As soon as its own text holds one of the texts, cut into tokens however; what stood before it does not count."""
    model, tokenizer = tiny("llama", vocab=20), letters()
    options: dict[str, Any] = {"max_new": 40, "pad_token_id": 0, "copies": 4, "temperature": 1.0, "seeds": [0, 1, 2, 3]}
    options |= {"attention": attention}
    endless = continue_prompts(model, PROMPTS, stop=NEVER, **options)
    pairs = (str(tokenizer.decode(endless[0].tokens[3:5])), str(tokenizer.decode(PROMPTS[0][:2])))
    for stop in (Stop((), pairs), Stop((1, 2), pairs), Stop((1, 2))):
        ended = []
        got = continue_prompts(model, PROMPTS, stop=stop, tokenizer=tokenizer, **options)
        for one, whole in zip(got, endless, strict=True):
            said = str(tokenizer.decode(whole.tokens))
            places = [said.index(pair) + 2 for pair in stop.strings if pair in said]
            places += [whole.tokens.index(token) + 1 for token in stop.token_ids if token in whole.tokens]
            assert one.tokens == whole.tokens[: min(places, default=40)] and one.stopped == bool(places)
            ended.append(bool(places))
        assert any(ended) and (stop.token_ids or not all(ended))


@pytest.mark.parametrize("attention", ["trees", "rows"])
def test_each_prompt_has_a_limit_of_its_own(attention: Any) -> None:
    model, limits = tiny("llama", vocab=20), [3, 9, 1, 6]
    options: dict[str, Any] = {"stop": STOP, "pad_token_id": 0, "copies": 3, "temperature": 1.0, "seeds": [0, 1, 2, 3]}
    options |= {"attention": attention}
    got = continue_prompts(model, PROMPTS, max_new=limits, **options)
    longest = continue_prompts(model, PROMPTS, max_new=9, **options)
    for i, (one, other) in enumerate(zip(got, longest, strict=True)):
        limit = limits[i // 3]
        assert one.tokens == other.tokens[:limit] and one.logps == pytest.approx(other.logps[:limit], abs=1e-5)
        assert one.stopped == (one.tokens[-1] == 1)
    assert {len(one.tokens) for one in got} >= {3, 1, 6}


def test_a_model_in_bfloat16_is_sampled_within_its_precision() -> None:
    """Rows apart and together differ by rounding alone, and the log-probabilities are those of a fresh pass."""
    model = tiny("llama", vocab=20).to(torch.bfloat16)
    options: dict[str, Any] = {"copies": 3, "temperature": 1.0, "top_p": 0.9, "seeds": [0, 1, 2, 3]}
    got = continue_prompts(model, PROMPTS, stop=STOP, max_new=6, pad_token_id=0, **options)
    for i, one in enumerate(got):
        row = PROMPTS[i // 3] + one.tokens
        logp_TV = model(torch.tensor([row])).logits[0].float().log_softmax(-1)
        fresh = logp_TV[torch.arange(len(PROMPTS[i // 3]) - 1, len(row) - 1), torch.tensor(one.tokens)]
        torch.testing.assert_close(torch.tensor(one.logps), fresh, atol=0.05, rtol=0)


def test_training_mode_is_given_back() -> None:
    model = tiny("llama").train()
    continue_prompts(model, [[5]], stop=NEVER, max_new=2, pad_token_id=0)
    assert model.training


@pytest.mark.parametrize("temperature", [1e-320, 1e-200, 1e-30])
@pytest.mark.parametrize("limits", LIMITS)
def test_the_lowest_temperatures_are_greedy(temperature: float, limits: dict[str, Any]) -> None:
    model, prompts = tiny("llama"), [[3, 4, 5], [6, 7]]
    asked: dict[str, Any] = {"stop": NEVER, "max_new": 6, "pad_token_id": 0}
    greedy = continue_prompts(model, prompts, **asked)
    low = continue_prompts(model, prompts, **asked, temperature=temperature, seeds=[1, 2], copies=2, **limits)
    assert [one.tokens for one in low] == [one.tokens for one in greedy for _ in range(2)]
    assert all(math.isfinite(logp) for one in low for logp in one.logps)


def test_tokens_that_the_model_does_not_know_are_named() -> None:
    options: dict[str, Any] = {"stop": STOP, "max_new": 2, "pad_token_id": 0}
    for attention in ("trees", "rows"):
        for prompts, tails in (([[2, 20]], None), ([[2]], [[[3], [20]]])):
            with pytest.raises(InputError, match="tokens: 20 is not one of the 20 tokens of this model"):
                continue_prompts(tiny("llama", vocab=20), prompts, tails=tails, attention=attention, **options)


@pytest.mark.parametrize("attention", ["trees", "rows"])
def test_what_cannot_be_continued_is_named(attention: str) -> None:
    model = tiny("llama", vocab=20)
    options: dict[str, Any] = {
        "stop": STOP,
        "max_new": 2,
        "pad_token_id": 0,
        "attention": attention,
        "seeds": [1],
        "temperature": 1.0,
    }
    assert continue_prompts(model, [], **options) == []
    for wrong, said in (
        ({"prompts": [[2], []]}, "prompts: number 2 is empty"),
        ({"prompts": [[2.5]]}, "prompts: 2.5 is not a token id"),
        ({"prompts": [[-1]]}, "prompts: -1 is not a token id"),
        ({"tails": [[[3]], [[3]]]}, "tails: 2 for 1 prompts"),
        ({"tails": [[["3"]]]}, "tails: '3' is not a token id"),
        ({"pad_token_id": 20}, "tokens: 20 is not one of the 20"),
        ({"max_new": 0}, "max_new, copies: 0, 1"),
        ({"max_new": [2, 2]}, "max_new: 2 numbers for 1 prompts"),
        ({"max_new": [0]}, "max_new, copies: 0, 1"),
        ({"stop": Stop((), ("a",))}, "stop: its strings need the tokenizer"),
        ({"copies": 0}, "max_new, copies: 2, 0"),
        ({"temperature": -1.0}, "temperature: -1.0"),
        ({"temperature": math.nan}, "temperature: nan"),
        ({"top_p": 0.0}, "top_p: 0.0"),
        ({"top_p": math.nan}, "top_p: nan"),
        ({"top_k": -1}, "top_k: -1 is not a whole number from 0"),
        ({"top_k": 2.0}, "top_k: 2.0 is not a whole number from 0"),
        ({"seeds": []}, r"seeds: \[\] are not 1 whole numbers"),
        ({"seeds": [-1]}, r"seeds: \[-1\]"),
        ({"attention": "both"}, "attention: 'both' is not one of trees, rows"),
    ):
        with pytest.raises(InputError, match=said):
            continue_prompts(model, **{"prompts": [[2]], **options, **wrong})
