"""Thoughts for three tasks of reasoning-gym, written by procedure: what a small model imitates before its first round.

    PYTHONPATH=examples/language clew split --world reasoning_gym --gym "[letter_counting]" \
        --model models/smollm2-135m --prompts.demonstrations thoughts:write

Each does in steps what the answer alone would need at once, and fits into 48 of SmolLM2's tokens: texts of up to five
words for letter_counting, up to four terms of two digits for chain_sum, words of up to ten letters for spell_backward.
`thoughts:mixed` writes thoughts of two kinds, one of which helps: what rounds are to find out.
"""

import random
import re
from typing import Any


def write(prompt: str, task: str, metadata: dict[str, Any], answer: str, **_: Any) -> tuple[str, str] | None:
    """A thought and the answer to a question of reasoning-gym; None for a task that nobody wrote thoughts for."""
    if task == "letter_counting":
        return counted(metadata["span"], metadata["target_letter"]), answer
    if task in ("chain_sum", "basic_arithmetic"):
        thought = summed(metadata["expression"])
        return None if thought is None else (thought, answer)
    if task == "spell_backward":
        return spelt(metadata["word"]), answer
    return None


def mixed(prompt: str, task: str, metadata: dict[str, Any], answer: str, **_: Any) -> tuple[str, str] | None:
    """For chain_sum: the running totals behind half of the prompts, by their text, and behind the others the total at
    once, "4+3-2+5-1=9", which a small model can only guess. None for every other task."""
    if task != "chain_sum":
        return None
    expression = metadata["expression"]
    at_once = f"{expression.replace(' ', '')}={answer}"
    thought = summed(expression) if random.Random(prompt).random() < 0.5 else at_once
    return None if thought is None else (thought, answer)


def counted(words: list[str], letter: str) -> str:
    """The letters of all words, one after the other, and the count so far behind each that is the one asked for:
    "t h e, b a1 n a2 n a3"."""
    count, spelled = 0, []
    for word in words:
        letters = []
        for one in word.lower():
            count += one == letter
            letters.append(f"{one}{count}" if one == letter else one)
        spelled.append(" ".join(letters))
    return ", ".join(spelled)


def summed(expression: str) -> str | None:
    """Running totals, one operation each: "12+34=46, 46-5=41". None for anything but sums and differences."""
    if not re.fullmatch(r"-?\d+( [+-] -?\d+)*", expression):
        return None
    first, *rest = expression.split()
    total, steps = int(first), []
    for sign, term in zip(rest[::2], rest[1::2], strict=True):
        after = total + int(term) if sign == "+" else total - int(term)
        steps.append(f"{total}{sign}{term}={after}")
        total = after
    return ", ".join(steps) or first


def spelt(word: str) -> str:
    """A word letter by letter, then its letters from the last to the first: "s t r a w, w a r t s"."""
    return f"{' '.join(word)}, {' '.join(reversed(word))}"
