"""The sampler in this process: requests of all kinds, in their order, whatever they share."""

from typing import Any

import numpy as np
import pytest
import torch

from clew.config import SamplingConfig
from clew.policy import Policy
from clew.rollout import sampler as module
from clew.rollout.sampler import SharedPrefixSampler
from clew.rollout.types import Completion, Context, Request
from clew.world import Stop
from small import WORLD

POLICY = Policy.build(WORLD.tokenizer, 1, 16, 2)
HOT = SamplingConfig(temperature=1.0)


def requests(seed: int = 0) -> list[Request]:
    """Of four prompts: alone, with tails that share them, with tails of several links; and of a thought alone."""
    dice = np.random.default_rng(seed)

    def tokens(count: int) -> list[int]:
        return dice.integers(0, len(WORLD.tokenizer), count).tolist()

    asked: list[Request] = []
    for number in range(4):
        prompt = Context(tokens(3 + number), "prompt")
        tails = [Context(tokens(length), "thought", prompt) for length in range(1, 4)]
        tails += [Context([7], "prompt", tails[0]), Context(tokens(2), "thought")]
        kinds = [prompt] if number % 2 else [*tails]
        for context in kinds:
            limit = int(dice.integers(1, 8))
            asked.append(Request(context, "answer", limit, Stop((1, 2)), 3, seed=len(asked)))
    return asked


def one_by_one(asked: list[Request], sampling: SamplingConfig) -> list[Completion]:
    sampler = SharedPrefixSampler(POLICY)
    return [done for request in asked for done in sampler.sample([request], sampling)]


def same(some: list[Completion], others: list[Completion]) -> None:
    assert [one.tokens for one in some] == [one.tokens for one in others]
    assert [one.finish for one in some] == [one.finish for one in others]
    for one, other in zip(some, others, strict=True):
        assert one.context is other.context and one.role == other.role
        assert one.logps == pytest.approx(other.logps, abs=1e-5)


@pytest.mark.parametrize("rows", [1, 5, 1024])
@pytest.mark.parametrize("sampling", [HOT, SamplingConfig(temperature=0.0), SamplingConfig(1.5, 0.8, 5)])
def test_requests_together_are_requests_one_by_one(
    rows: int, sampling: SamplingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many rows are read at once; in the order of the requests, the copies of each side by side."""
    asked = requests()
    apart = one_by_one(asked, sampling)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", rows)
    same(SharedPrefixSampler(POLICY).sample(asked, sampling), apart)
    assert len({one.finish for one in apart}) == 2
    assert [one.context for one in apart] == [request.context for request in asked for _ in range(3)]


def test_the_likeliest_token_alone_is_the_greedy_one() -> None:
    greedy = SharedPrefixSampler(POLICY).sample(requests(), SamplingConfig(temperature=0.0))
    for sampling in (SamplingConfig(1.5, top_k=1), SamplingConfig(1.5, top_p=1e-9)):
        same_tokens = [one.tokens for one in SharedPrefixSampler(POLICY).sample(requests(), sampling)]
        assert same_tokens == [one.tokens for one in greedy]


def test_requests_that_differ_in_copies_or_stops_are_told_apart() -> None:
    prompt = Context([3, 4, 5], "prompt")
    asked = [
        Request(prompt, "thought", 6, Stop((1,)), copies=2, seed=1),
        Request(prompt, "thought", 6, Stop((1,)), copies=3, seed=1),
        Request(prompt, "thought", 6, Stop(tuple(range(len(WORLD.tokenizer)))), copies=2, seed=1),
        Request(Context([6], "thought", prompt), "answer", 6, Stop((1,)), copies=2, seed=2),
    ]
    got = SharedPrefixSampler(POLICY).sample(asked, HOT)
    assert [one.context for one in got] == [asked[0].context] * 7 + [asked[3].context] * 2
    same(got, one_by_one(asked, HOT))
    assert [one.tokens for one in got[:2]] == [one.tokens for one in got[2:4]]  # the same streams of dice
    assert all(len(one.tokens) == 1 and one.ended for one in got[5:7])


def test_log_probabilities_are_those_of_a_fresh_pass_over_the_context() -> None:
    for one in SharedPrefixSampler(POLICY).sample(requests(), HOT):
        row = [*one.context.ids(), *one.tokens]
        with torch.no_grad():
            logp_TV = POLICY.model(torch.tensor([row])).logits[0].log_softmax(-1)
        first = len(row) - len(one.tokens)
        fresh = [logp_TV[first + i - 1, token].item() for i, token in enumerate(one.tokens)]
        assert one.logps == pytest.approx(fresh, abs=1e-5)


def test_what_is_shared_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    inner = module.continue_prompts

    def spied(model: Any, prompts: Any, **options: Any) -> Any:
        calls.append({"prompts": [list(one) for one in prompts], "tails": options["tails"]})
        return inner(model, prompts, **options)

    monkeypatch.setattr(module, "continue_prompts", spied)
    prompts = [Context([3, 4, 5], "prompt"), Context([3, 4, 5], "prompt")]  # alike, and not the same
    contexts = [Context([6 + i], "thought", prompt) for prompt in prompts for i in range(2)]
    asked = [Request(context, "answer", 2, Stop(), 2, seed=i) for i, context in enumerate(contexts)]
    SharedPrefixSampler(POLICY).sample(asked, HOT)
    assert calls == [{"prompts": [[3, 4, 5]] * 2, "tails": [[[6], [7]], [[6], [7]]]}]
    SharedPrefixSampler(POLICY).sample([Request(prompt, "thought", 2, Stop(), 2) for prompt in prompts], HOT)
    assert calls[1] == {"prompts": [[3, 4, 5]] * 2, "tails": None}


def test_sync_changes_the_policy_and_nothing_is_asked_of_nobody() -> None:
    other = Policy.build(WORLD.tokenizer, 1, 16, 2, seed=5)
    sampler, asked = SharedPrefixSampler(POLICY), requests()
    first = sampler.sample(asked, HOT)
    sampler.sync(other)
    assert [one.tokens for one in sampler.sample(asked, HOT)] != [one.tokens for one in first]
    assert sampler.sample([], HOT) == []
