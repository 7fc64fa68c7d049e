"""Monitors by import path: one that is as it should be, and others that do what they can to be noticed."""

import os
import random
import sys
import time
from typing import Any

import numpy as np

CALLS: list[int] = []


def thought_length(prompts: list[str], completions: list[str], thoughts: list[str], **columns: Any) -> list[int]:
    assert len(prompts) == len(completions) == len(thoughts)
    return [len(thought.split()) for thought in thoughts]


def names_a_seven(thoughts: list[str], **_: Any) -> list[bool]:
    return ["7" in thought for thought in thoughts]


def chance(completions: list[str], **_: Any) -> list[float | None]:
    return [None if random.random() < 0.5 else random.gauss(0, 1e6) for _ in completions]


async def judge(completions: list[str], **_: Any) -> list[float]:
    return [float(len(text)) for text in completions]


def raises(**_: Any) -> list[float]:
    raise KeyError("no\x1b[2J\nnever")


def leaves(**_: Any) -> list[float]:
    sys.exit(0)


def mutates(**samples: Any) -> list[float]:
    for values in samples.values():
        values[:] = [{"gone": values}] * 999
    return [1.0]


def seeds(completions: list[str], **_: Any) -> list[float]:
    random.seed(7)
    np.random.seed(7)
    if torch := sys.modules.get("torch"):  # where it is there: in the process of the run
        torch.manual_seed(7)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
    os.environ["OMP_NUM_THREADS"] = "3"
    os.chdir("/")
    return [1.0] * len(completions)


def dies(**_: Any) -> list[float]:
    os._exit(3)


def dies_at_first(completions: list[str], **_: Any) -> list[float]:
    mark = os.environ["WATCHERS_MARK"]
    if not os.path.exists(mark):
        open(mark, "w").close()
        os._exit(3)
    return [2.0] * len(completions)


def hangs(**_: Any) -> list[float]:
    if not os.fork():  # with a child that holds on to all that is open
        time.sleep(600)
    time.sleep(600)
    return []


def prints(completions: list[str], **_: Any) -> list[float]:
    print("garbage")
    print('{"values": [9, 9, 9]}', file=sys.__stdout__, flush=True)
    os.write(1, b'{"values": []}\n')
    os.write(2, b"\x1b[2J")
    sys.stdin.read()
    return [1.0] * len(completions)


def forges(completions: list[str], **_: Any) -> list[float]:
    for number in range(3, 20):  # whatever is open
        try:
            os.write(number, b'{"values": ["\\u001b[2J", {}, 1e999, ' + b"9" * 5000 + b"]}\n")
        except OSError:
            continue
    return [1.0] * len(completions)


def odd(completions: list[str], **_: Any) -> list[Any]:
    return [float("nan"), float("inf"), None, True, 10**200, *[0] * len(completions)][: len(completions)]


def text(completions: list[str], **_: Any) -> list[str]:
    return ["much"] * len(completions)


def short(**_: Any) -> list[float]:
    return [1.0]
