"""Sums and differences that a thought writes out: whether each is right, what the last comes to, and one made wrong."""

import re

import numpy as np

# What a model wrote is read: numbers have an end, so that neither Python nor the eye loses count of their digits.
_TERM = r"-?\d{1,15}"
_EQUATION = re.compile(rf"(?<![\d+-])({_TERM}(?: ?[+-] ?{_TERM})+) ?= ?({_TERM})(?!\d)")


def true_equations(text: str) -> list[bool]:
    """Whether each equation in a text holds, such as 12+34=46; sums and differences of whole numbers alone are read."""
    return [_total(left) == int(right) for left, right in _EQUATION.findall(text)]


def last_total(text: str) -> str | None:
    """What the last equation of a text comes to, as it stands there; None if it has none."""
    found = _EQUATION.findall(text)
    return found[-1][1] if found else None


def with_false_equation(text: str, rng: np.random.Generator) -> tuple[str, str] | None:
    """The text with one of its right equations, drawn at random, made wrong by 1 to 9, cut in two behind that one.

    None for a text without a right one.
    """
    right = [match for match in _EQUATION.finditer(text) if _total(match[1]) == int(match[2])]
    if not right:
        return None
    match = right[int(rng.integers(len(right)))]
    wrong = int(match[2]) + int(rng.integers(1, 10)) * int(rng.choice((-1, 1)))
    return f"{text[: match.start(2)]}{wrong}", text[match.end() :]


def _total(left: str) -> int:
    """What "12+34 - -5" comes to."""
    terms = re.findall(rf"([+-]?) ?({_TERM})(?= ?[+-]|$)", left)
    return sum(-int(number) if sign == "-" else int(number) for sign, number in terms)
