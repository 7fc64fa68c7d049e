"""A task that two trainers share: how often a letter is in a string of letters, counted one by one in the thought."""

import json
import random
from pathlib import Path
from typing import Any

CLOSE, ASKED = "</think>", ("prompt", "answer")


def write_rows(folder: Path, questions: int, shown: int) -> tuple[Path, Path]:
    """Writes files of prompts, with their answers, and of demonstrations of other prompts."""
    dice = random.Random(0)
    files = folder / "prompts.jsonl", folder / "demonstrations.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    for file, count, columns in zip(files, (questions, shown), (ASKED, (*ASKED, "thought")), strict=True):
        rows = [_row(dice) for _ in range(count)]
        file.write_text("".join(json.dumps({name: row[name] for name in columns}) + "\n" for row in rows))
    return files


def _row(dice: random.Random) -> dict[str, str]:
    word = "".join(dice.choices("aeinrst", k=dice.randint(5, 9)))
    letter = dice.choice(word)
    counted = [f"{c} {word[: i + 1].count(letter)}" for i, c in enumerate(word)]
    prompt = f'How often is the letter "{letter}" in "{word}"? Count letter by letter, then give the number alone.'
    return {"prompt": prompt, "thought": ", ".join(counted), "answer": str(word.count(letter))}


def right(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
    """Whether each answer is right: all of a completion, or what comes behind its thought."""
    return [float(text.rpartition(CLOSE)[2].strip() == want) for text, want in zip(completions, answer, strict=True)]


def some_score(completions: list[Any], **_: Any) -> list[float]:
    """Something that differs from answer to answer, whatever is written: so that all of them are learned from."""
    return [len(text) % 7 / 6 for text in completions]
