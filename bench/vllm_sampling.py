"""Tokens a second from vLLM on the same thread, for `clew bench sampling`: run in the environment of `make vllm`.

    make vllm
    .venv/bin/python bench/vllm_sampling.py        # of the table one row: 8 thoughts of a prompt, 8 answers to each

vLLM samples in a process of its own, on one thread, in float32, with its compiled graphs and without seeds. Its prefix
cache is emptied before each turn, so that all reading is within the time, as on the other sides.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHON = Path(os.environ.get("CLEW_VLLM", ROOT / ".venv-vllm")) / "bin" / "python"
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


def vllm_tokens_per_second(
    model: Path,
    rows: Sequence[Sequence[int]],
    copies: int,
    tokens: int,
    turns: int = 3,
    eager: bool = False,
    seeds: bool = False,
) -> float | None:
    """What vLLM samples from a model folder on one thread, by its CPU time, the median of some turns: `copies` times
    `tokens` tokens behind each row at temperature 1. None where vLLM is not installed."""
    if not PYTHON.is_file():
        return None
    asked = {"model": str(model), "rows": [list(row) for row in rows], "copies": copies, "tokens": tokens}
    asked |= {"turns": turns, "eager": eager, "seeds": seeds}
    done = subprocess.run(
        [str(PYTHON), __file__, "asked"],
        input=json.dumps(asked),
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"vLLM failed: {done.stderr[-2000:]}")
    return float(done.stdout.splitlines()[-1])


def measured(
    model: str, rows: list[list[int]], copies: int, tokens: int, turns: int, eager: bool, seeds: bool
) -> float:
    """The same, within vLLM's environment."""
    from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]

    window = max(map(len, rows)) + tokens
    llm = LLM(model, dtype="float32", max_model_len=window, kv_cache_memory_bytes=2**30, enforce_eager=eager, seed=0)
    how = {"max_tokens": tokens, "temperature": 1.0, "ignore_eos": True, "logprobs": 0, "detokenize": False}
    params = [SamplingParams(n=copies, **how, **({"seed": 1000 * i} if seeds else {})) for i in range(len(rows))]
    prompts = [{"prompt_token_ids": row} for row in rows]
    spent = []
    for _ in range(turns + 1):
        llm.reset_prefix_cache()
        begun = time.process_time()
        done = llm.generate(prompts, params, use_tqdm=False)
        spent.append(time.process_time() - begun)
        count = sum(len(one.token_ids) for row in done for one in row.outputs)
        assert count == len(rows) * copies * tokens
    return count / sorted(spent[1:])[turns // 2]


def main() -> None:
    if sys.argv[1:] == ["asked"]:
        print(measured(**json.load(sys.stdin)), flush=True)
        return
    import torch

    from clew.policy import Policy
    from sampling import chats, shared

    torch.set_num_threads(1)
    folder = ROOT / "models" / "smollm2-135m"
    policy = Policy.load(folder)
    prompt = chats(policy.tokenizer, 1)
    rows = [prompt[0] + thought for thought in shared(policy, prompt, None, 8, 48, 1.0)]
    for name, how in {"vLLM": {}, "with seeds": {"seeds": True}, "eager": {"eager": True}}.items():
        print(f"{name}: {vllm_tokens_per_second(folder, rows, 8, 48, **how):.0f} tokens a second")


if __name__ == "__main__":
    main()
