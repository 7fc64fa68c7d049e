"""Paraphrasers by import path: what somebody might write, well and badly."""

import time
from collections.abc import Sequence

import numpy as np


def longer(texts: Sequence[str]) -> list[str | None]:
    """One cell more; of every third text nothing."""
    return [None if len(text) % 3 == 0 else f"{text} (0,0)" for text in texts]


def backwards(tokens: Sequence[Sequence[int]]) -> list[list[int]]:
    """All but what ends a passage, the other way round."""
    return [[*ids[-2::-1], *ids[-1:]] for ids in tokens]


def backwards_of_numpy(tokens: Sequence[Sequence[int]]) -> list[list[np.int64]]:
    return [[np.int64(token) for token in ids] for ids in backwards(tokens)]


def truths(tokens: Sequence[Sequence[int]]) -> list[list[object]]:
    return [[True, np.True_] for _ in tokens]


async def seeded(texts: Sequence[str], seeds: Sequence[int], prompts: Sequence[str]) -> list[str]:
    return [f"{text} ({seed % 3},{len(prompt) % 3})" for text, seed, prompt in zip(texts, seeds, prompts, strict=True)]


def upper(texts: Sequence[str]) -> list[str]:
    return [text.upper() for text in texts]


def ends_itself(texts: Sequence[str]) -> list[str]:
    return [f"{text} </think> and more" for text in texts]


def two_lines(texts: Sequence[str]) -> list[str]:
    return [f"{text}\nand more" for text in texts]


def silent(texts: Sequence[str]) -> list[str]:
    return [" "] * len(texts)


def raises(texts: Sequence[str]) -> list[str]:
    raise ValueError("no words\nfor it")


def hangs(texts: Sequence[str]) -> list[str]:
    time.sleep(5)
    return list(texts)


def short(texts: Sequence[str]) -> list[str]:
    return list(texts)[1:]


def numbers(texts: Sequence[str]) -> list[float]:
    return [1.5] * len(texts)


def beyond(texts: Sequence[str]) -> list[list[int]]:
    return [[10**6]] * len(texts)


def greedy_for_more(thoughts: Sequence[str]) -> Sequence[str]:
    return thoughts


def needs_more(texts: Sequence[str], key: str) -> Sequence[str]:
    return texts


def neither(seeds: Sequence[int]) -> Sequence[int]:
    return seeds
