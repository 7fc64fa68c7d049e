"""What a sampler owes, whoever it is: functions that take a sampler, synced with a policy, and the policy.

The judge is a plain pass of the policy over context and completion. Run as a program, in an environment that holds
vLLM, it puts the engine in this process to the same test; with the argument `train` it trains with it.
"""

import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clew.config import MazeConfig, SamplingConfig
from clew.mazes.world import MazeWorld
from clew.policy import Policy
from clew.rollout.lines import line_by_line, whole
from clew.rollout.paraphrase import Paraphrase, copy
from clew.rollout.types import Completion, Context, Request, Sampler
from clew.world import Question, Stop
from small import WORLD

GREEDY, HOT = SamplingConfig(temperature=0.0), SamplingConfig(temperature=1.0)
SIZE = len(WORLD.tokenizer)
PROMPT = Context([3, 4, 5], "prompt")
THOUGHT = Context([6, 7], "thought", PROMPT)


def base_policy(seed: int = 3) -> Policy:
    """A small model whose probabilities are far from even; vLLM asks for heads of at least 32."""
    policy = Policy.build(WORLD.tokenizer, 2, 64, 2, seed=seed)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.ndim > 1:
                parameter *= 4
    return policy


def shake(policy: Policy, seed: int = 0) -> None:
    """Changes what of a policy can learn."""
    dice = torch.Generator().manual_seed(seed)
    policy.activate()
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn(parameter.shape, generator=dice)


@torch.no_grad()
def fresh(policy: Policy, one: Completion) -> Tensor:
    """What the policy says at each token of a completion, of all tokens: logp_TV."""
    policy.activate()
    policy.model.eval()
    row = [*one.context.ids(), *one.tokens]
    logp_TV = policy.model(torch.tensor([row])).logits[0].log_softmax(-1)
    return logp_TV[len(row) - len(one.tokens) - 1 : -1]


def check_logps(policy: Policy, done: list[Completion]) -> None:
    for one in done:
        own = fresh(policy, one)[range(len(one.tokens)), one.tokens]
        np.testing.assert_allclose(one.logps, own.numpy(), atol=1e-3)


def greedy_is_the_likeliest_token(sampler: Sampler, policy: Policy) -> None:
    asked = [Request(context, "answer", 7, Stop(), 2) for context in (PROMPT, THOUGHT, Context([9], "prompt"))]
    done = sampler.sample(asked, GREEDY)
    assert [one.context for one in done] == [request.context for request in asked for _ in range(2)]
    for one in done:
        assert one.role == "answer" and one.finish == "length" and len(one.tokens) == 7
        logp_TV = fresh(policy, one)
        best = logp_TV.max(-1).values
        np.testing.assert_allclose(logp_TV[range(7), one.tokens].numpy(), best.numpy(), atol=1e-3)
    check_logps(policy, done)
    assert done[0].tokens == done[1].tokens and done[0] is not done[1]


def log_probabilities_are_at_temperature_1_over_all_tokens(sampler: Sampler, policy: Policy) -> None:
    for sampling in (HOT, SamplingConfig(0.5), SamplingConfig(1.5, 0.8), SamplingConfig(1.0, 1.0, 3)):
        check_logps(policy, sampler.sample([Request(THOUGHT, "answer", 9, Stop(), 4, seed=5)], sampling))


def dice_are_a_request_s_own(sampler: Sampler, policy: Policy) -> None:
    asked = [Request(PROMPT, "thought", 8, Stop(), 4, seed=seed) for seed in (0, 1, 2**40)]
    first = [one.tokens for one in sampler.sample(asked, HOT)]
    assert [one.tokens for one in sampler.sample(asked, HOT)] == first
    assert [one.tokens for one in sampler.sample(asked[::-1], HOT)] == first[8:] + first[4:8] + first[:4]
    assert len({tuple(tokens) for tokens in first}) == 12  # nor are those of seed 1 those of seed 0, one further on


def tokens_are_drawn_as_often_as_they_are_likely(sampler: Sampler, policy: Policy) -> None:
    count = 300
    done = sampler.sample([Request(PROMPT, "thought", 1, Stop(), count, seed=7)], HOT)
    share_V = np.bincount([one.tokens[0] for one in done], minlength=SIZE) / count
    p_V = fresh(policy, done[0])[0].exp().numpy()
    assert (np.abs(share_V - p_V) < 5 * np.sqrt(p_V * (1 - p_V) / count) + 1e-3).all()
    three = sampler.sample([Request(PROMPT, "thought", 1, Stop(), 40, seed=7)], SamplingConfig(1.0, 1.0, 3))
    assert {one.tokens[0] for one in three} == set(np.argsort(p_V)[-3:].tolist())


def stop_tokens_end_a_completion_and_belong_to_it(sampler: Sampler, policy: Policy) -> None:
    ends = tuple(range(0, SIZE, 3))
    done = sampler.sample([Request(PROMPT, "thought", 12, Stop(ends), 16, seed=1)], HOT)
    assert {one.finish for one in done} == {"stop"}
    for one in done:
        assert one.tokens[-1] in ends and not set(one.tokens[:-1]) & set(ends)
    every = sampler.sample([Request(PROMPT, "thought", 12, Stop(tuple(range(SIZE))), 3, seed=1)], HOT)
    assert [len(one.tokens) for one in every] == [1, 1, 1] and all(one.ended for one in every)
    check_logps(policy, done)


def only_what_is_asked_for_ends_a_completion(sampler: Sampler, policy: Policy) -> None:
    """Not the model's own end of text, which it may well write."""
    end = policy.tokenizer.eos_token_id
    done = sampler.sample([Request(PROMPT, "thought", 24, Stop(), 24, seed=1)], HOT)
    assert {one.finish for one in done} == {"length"} and {len(one.tokens) for one in done} == {24}
    assert any(end in one.tokens[:-1] for one in done)


def stop_texts_end_a_completion(sampler: Sampler, policy: Policy) -> None:
    for text in ("<PATH_END>", "(1,1)", "1) <"):  # a special token, an ordinary one, one that spans two
        done = sampler.sample([Request(PROMPT, "thought", 30, Stop(strings=(text, "no such")), 8, seed=2)], HOT)
        assert any(one.ended for one in done)
        for one in done:
            assert (text in policy.tokenizer.decode(one.tokens)) == one.ended
            assert text not in policy.tokenizer.decode(one.tokens[:-1])
            assert one.ended or len(one.tokens) == 30


def limits_are_each_request_s_own(sampler: Sampler, policy: Policy) -> None:
    asked = [Request(PROMPT, "thought", most, Stop((1,)), 3, seed=most) for most in (1, 5, 2)]
    for one, most in zip(sampler.sample(asked, HOT), (1, 1, 1, 5, 5, 5, 2, 2, 2), strict=True):
        assert len(one.tokens) == most if one.finish == "length" else one.tokens[-1] == 1
    assert sampler.sample([], HOT) == []


def a_policy_that_moved_is_sampled_as_it_stands(sampler: Sampler, policy: Policy) -> None:
    """Though the same prompt was read before: nothing of that is kept."""
    long = Context([i % SIZE for i in range(40)], "prompt")
    asked = [Request(long, "thought", 8, Stop(), 2, seed=3)]
    for seed in range(2):
        before = sampler.sample(asked, HOT)
        check_logps(policy, before)
        shake(policy, seed)
        sampler.sync(policy)
        after = sampler.sample(asked, HOT)
        check_logps(policy, after)
        assert np.abs(fresh(policy, before[0])[range(8), before[0].tokens].numpy() - before[0].logps).max() > 0.05


def many_long_prompts_are_no_matter(sampler: Sampler, policy: Policy) -> None:
    """More tokens than an engine reads at once, each request with dice of its own."""
    contexts = [Context([(i * j) % SIZE for j in range(100)], "prompt") for i in range(64)]
    done = sampler.sample([Request(context, "thought", 2, Stop(), 2, seed=5) for context in contexts], HOT)
    assert [one.context for one in done] == [context for context in contexts for _ in range(2)]
    check_logps(policy, done[::16])


def lines_go_on_behind_what_the_earlier_ones_became(sampler: Sampler, policy: Policy) -> None:
    """A thought is written line by line; lines that end by a token, and lines that end by what they hold."""
    asked = [Question("", [*PROMPT.tokens, 8 + i], 24, 4) for i in range(4)]
    for world in (MazeWorld(MazeConfig(sizes=[3], traces=[name])) for name in ("bfs", "astar")):  # type: ignore[list-item]
        turned = Paraphrase(lambda passages: [[[*one.tokens[:-1][::-1], one.tokens[-1]]] for one in passages], True)
        thoughts = line_by_line(world, sampler, asked, 4, HOT, range(4), turned)
        lines = [line for thought in thoughts for line in thought.lines]
        assert len(lines) > len(thoughts) and any(line.read.tokens != line.written.tokens for line in lines)
        check_logps(policy, [line.written for line in lines])
        for thought in thoughts:
            for one, after in pairwise(thought.lines):
                assert after.written.context is one.read and one.written.ended
        again = line_by_line(world, sampler, asked[:2], 4, HOT, range(2), turned)
        assert [one.tokens for one in again] == [one.tokens for one in thoughts[:8]]
        copied = line_by_line(world, sampler, asked, 1, GREEDY, [0] * 4, Paraphrase(copy, True))
        plain = whole(world, sampler, asked, 1, GREEDY, [0] * 4, None)
        assert [(one.tokens, one.ended) for one in copied] == [(one.tokens, one.ended) for one in plain]


CONTRACT: list[Callable[[Sampler, Policy], None]] = [
    greedy_is_the_likeliest_token,
    log_probabilities_are_at_temperature_1_over_all_tokens,
    dice_are_a_request_s_own,
    tokens_are_drawn_as_often_as_they_are_likely,
    stop_tokens_end_a_completion_and_belong_to_it,
    only_what_is_asked_for_ends_a_completion,
    stop_texts_end_a_completion,
    limits_are_each_request_s_own,
    lines_go_on_behind_what_the_earlier_ones_became,
    many_long_prompts_are_no_matter,
    a_policy_that_moved_is_sampled_as_it_stands,
]


def engine_keeps_the_contract() -> None:
    """Two policies take turns in one engine, one of them an adapter."""
    from clew.config import SamplerConfig
    from clew.policy import with_adapters
    from clew.rollout.vllm import VllmEngine, engine_for

    whole, adapter = base_policy(3), with_adapters(base_policy(4), ("face",), 4)[0]
    shake(adapter)
    engine = engine_for(whole, SamplerConfig("vllm", cache=0.25, window=512), torch.float32)
    samplers = [(VllmEngine(engine, policy), policy) for policy in (whole, adapter)]
    for keeps in CONTRACT:
        for sampler, policy in samplers:
            keeps(sampler, policy)
            print(f"{keeps.__name__}: kept", flush=True)


def engine_trains(out: Path) -> None:
    """A split of two whole models, sampled by one engine: what sampling reported is what the learner says."""
    from clew.train.rounds import split
    from small import metrics, split_config

    config = split_config(out / "run", sampler__name="vllm", sampler__cache=0.25, sampler__window=512, rounds=2)
    config.model.width, config.model.heads, config.grader = 64, 2, ["models:length"]
    split(config)
    gaps = [line[f"{name}_sampler_gap"] for line in metrics(out / "run")[1:] for name in ("shoggoth", "face")]
    assert len(gaps) == 4 and max(gaps) < 1e-3, gaps


if __name__ == "__main__":
    if sys.argv[1:] == ["train"]:
        with tempfile.TemporaryDirectory() as folder:
            engine_trains(Path(folder))
    else:
        engine_keeps_the_contract()
