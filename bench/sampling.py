"""Tokens a second from a real language model in this process, one thread, against transformers' batched `generate`.

    make language                         # once: SmolLM2-135M-Instruct
    make vllm                             # if vLLM is to be beside them
    clew bench sampling                   # about five minutes
    clew bench sampling --model FOLDER    # another causal language model with its tokenizer

48 tokens behind chat prompts of about 140, at temperature 1 over the whole vocabulary; nothing ends sooner. `generate`
gets every row's whole context, as it does in loops that do not share prefixes, and the prompts are read within the time
of either side. First it is checked that both write the same greedy tokens. One thread, its CPU time; the sides take
turns, medians count. vLLM, where `make vllm` put it, is asked for the first row in the same run, as `vllm_sampling.py`
says. Writes OUT/sampling.json and .md.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from clew.policy import Policy
from clew.rollout.continuing import continue_prompts
from clew.world import Stop
from measure import interleaved, keep, options
from vllm_sampling import vllm_tokens_per_second

TEXT = "the quick brown fox jumps over a lazy dog while seventeen zebras watch from beneath tall trees"
ASKED = (
    'How many times does the letter "{}" appear in the text "{}"? Think step by step, letter by letter, and write down '
    "what you count as you go along. Then give the number alone on the last line. Do not explain anything else: the "
    "answer is checked by a program that reads only the last line of what you write, so be careful with it. Capital "
    "letters count as small ones; spaces, commas and full stops do not count at all; if the letter does not appear, "
    "the number is 0."
)
Rows = list[list[int]]
Tails = list[list[list[int]]] | None


def chats(tokenizer: PreTrainedTokenizerBase, count: int) -> Rows:
    """Prompts of different lengths, by the model's chat template where it has one."""
    words = TEXT.split()
    texts = [ASKED.format("aeiourst"[i % 8], " ".join(words[i % 5 : i % 5 + 6 + i % 7])) for i in range(count)]
    if not tokenizer.chat_template:
        return [list(tokenizer.encode(text)) for text in texts]
    asked = [[{"role": "user", "content": text}] for text in texts]
    made = [tokenizer.apply_chat_template(one, add_generation_prompt=True, return_dict=False) for one in asked]
    return [[int(token) for token in one] for one in made]  # type: ignore[union-attr]


def shared(policy: Policy, prompts: Rows, tails: Tails, copies: int, tokens: int, temperature: float) -> Rows:
    """What this project writes: each prompt is read once, and each tail once behind it."""
    rows = len(prompts) if tails is None else sum(map(len, tails))
    how = {"temperature": temperature, "seeds": range(rows), "pad_token_id": policy.pad_token_id}
    made = continue_prompts(policy.model, prompts, tails=tails, copies=copies, stop=Stop(), max_new=tokens, **how)
    return [one.tokens for one in made]


def generated(model: Any, prompts: Rows, tails: Tails, copies: int, tokens: int, temperature: float) -> Rows:
    """What `generate` writes behind the same contexts, each a row of its own."""
    ways = [[[]]] * len(prompts) if tails is None else tails
    begun = [prompt + tail for prompt, several in zip(prompts, ways, strict=True) for tail in several]
    rows = [row for row in begun for _ in range(copies)]
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    how = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    how |= {"min_new_tokens": tokens, "max_new_tokens": tokens, "pad_token_id": 0, "eos_token_id": None}
    return model.generate(ids, attention_mask=mask, **{"do_sample": False, **how})[:, width:].tolist()


def by_vllm(folder: Path, prompts: Rows, tails: Tails, copies: int, tokens: int) -> float | None:
    """Tokens a second from vLLM behind the same contexts; None where it is not installed."""
    rows = [
        prompt + tail
        for prompt, several in zip(prompts, tails or [[[]]] * len(prompts), strict=True)
        for tail in several
    ]
    return vllm_tokens_per_second(folder, rows, copies, tokens)


def main() -> None:
    parser = options(__doc__, repeats=1)
    parser.add_argument("--model", type=Path, default=Path("models/smollm2-135m"), help="a Hugging Face folder")
    parser.add_argument("--tokens", type=int, default=48, help="tokens that each row writes")
    args = parser.parse_args()
    if not args.model.is_dir():
        parser.error(f"--model: {args.model} is not there; `make language` fetches SmolLM2-135M-Instruct")
    torch.set_num_threads(1)
    policy = Policy.load(args.model)
    policy.model.eval()
    plain, eight = Policy.load(args.model).model.eval(), chats(policy.tokenizer, 8)
    plain.generation_config.eos_token_id = None
    thoughts = [shared(policy, eight[:1], None, 8, args.tokens, 1.0)]
    cases: dict[str, tuple[Rows, Tails, int]] = {
        "8 thoughts of a prompt, 8 answers to each": (eight[:1], thoughts, 8),
        "64 rows of one prompt": (eight[:1], None, 64),
        "8 prompts, 4 rows of each": (eight, None, 4),
        "one row alone": (eight[:1], None, 1),
    }
    heads = ["tokens a second, one thread", "clew", "`generate`", "times", "vLLM", "of vLLM's"]
    results, lines = {}, [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, (prompts, tails, copies) in cases.items():
        how = (args.tokens, 0.0)
        assert shared(policy, prompts, tails, 1, *how) == generated(plain, prompts, tails, 1, *how), name
        ours = partial(shared, policy, prompts, tails, copies, args.tokens, 1.0)
        theirs = partial(generated, plain, prompts, tails, copies, args.tokens, 1.0)
        count = args.tokens * len(ours())
        turns = args.repeats * (1 if count > 2000 else 3)
        found = interleaved({"clew": ours, "generate": theirs}, turns, warm=0, clock=time.process_time)
        speed = {side: count / seconds for side, seconds in found.items()}
        results[name] = {**speed, "ratio": speed["clew"] / speed["generate"]}
        cells = [name, f"{speed['clew']:.0f}", f"{speed['generate']:.0f}", f"{results[name]['ratio']:.2f}", "", ""]
        if tails is not None and (vllm := by_vllm(args.model, prompts, tails, copies, args.tokens)):
            results[name]["vllm"] = vllm
            cells[4:] = [f"{vllm:.0f}", f"{speed['clew'] / vllm:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    keep("sampling", args.out, results, lines)


if __name__ == "__main__":
    main()
