"""Answers a second: n thoughts a question, k answers a thought, prefixes read once, against transformers' `generate`.

    clew bench rollout                    # about two minutes on two cores

Both sides write thoughts of 16 and answers of 8 tokens (about what a trained 4x4 policy writes), so neither gains by
stopping early. `generate` gets every row's whole context, as it does in loops that do not share prefixes. First it is
checked that both write the same greedy tokens. Medians of interleaved repeats. Writes OUT/rollout.json and .md.
"""

from dataclasses import replace
from functools import partial

import torch

from clew.config import MazeConfig, SamplingConfig
from clew.mazes.world import MazeWorld
from clew.policy import Policy
from clew.rollout.sampler import SharedPrefixSampler
from clew.rollout.stages import rollouts
from clew.world import Question, Stop, World
from measure import interleaved, keep, options

THOUGHT, ANSWER, QUESTIONS = 16, 8, 4


def generated(policy: Policy, rows: list[list[int]], length: int, greedy: bool) -> list[list[int]]:
    """`length` tokens behind each row by transformers' own batched generation."""
    width = max(map(len, rows))
    tokens = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    how = {"do_sample": not greedy, "top_k": 0, "pad_token_id": 0, "eos_token_id": None}
    out = policy.model.generate(tokens, attention_mask=mask, min_new_tokens=length, max_new_tokens=length, **how)
    return out[:, width:].tolist()


def plain(policy: Policy, prompts: list[list[int]], n: int, k: int, greedy: bool) -> list[list[int]]:
    """The answers to n thoughts a prompt, k a thought, every row on its own."""
    rows = [prompt for prompt in prompts for _ in range(n)]
    contexts = [row + thought for row, thought in zip(rows, generated(policy, rows, THOUGHT, greedy), strict=True)]
    return generated(policy, [context for context in contexts for _ in range(k)], ANSWER, greedy)


def shared(world: World, policy: Policy, asked: list[Question], n: int, k: int, temperature: float) -> list[list[int]]:
    """The same by stages, as a round of `clew split` samples."""
    sampler, sampling = SharedPrefixSampler(policy), SamplingConfig(temperature)
    made = rollouts(world, sampler, sampler, asked, (n, k), sampling=sampling, seeds=range(QUESTIONS))
    return [answer.tokens for one in made for several in one.answers for answer in several]


def main() -> None:
    parser = options(__doc__, repeats=5)
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--k", type=int, default=8)
    args = parser.parse_args()
    n, k = args.n, args.k
    lines = [f"| answers a second, n = {n}, k = {k} | against batched `generate` |", "|---|---|"]
    results = {}
    for size in (4, 6, 8, 10):
        world = MazeWorld(MazeConfig(sizes=[size]))
        world.thought_stop = world.answer_stop = Stop()
        world.thought_end = []
        policy = Policy.build(world.tokenizer)
        policy.model.eval()
        policy.model.generation_config.eos_token_id = None
        asked = [replace(one, max_thought=THOUGHT, max_answer=ANSWER) for one in world.questions(range(QUESTIONS))]
        prompts = [one.tokens for one in asked]

        ours = partial(shared, world, policy, asked, n, k)
        assert ours(0.0) == plain(policy, prompts, n, k, greedy=True)
        theirs = partial(plain, policy, prompts, n, k, greedy=False)
        found = interleaved({"shared": partial(ours, 1.0), "generate": theirs}, args.repeats)
        results[f"{size}x{size}"] = {name: QUESTIONS * n * k / seconds for name, seconds in found.items()}
        lines.append(f"| {size}x{size} | {found['generate'] / found['shared']:.2f} |")
    keep("rollout", args.out, results, lines)


if __name__ == "__main__":
    main()
