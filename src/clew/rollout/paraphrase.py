"""What stands between thought and answer: rewriters of thoughts, each a function of their tokens."""

from collections.abc import Callable, Sequence

Paraphraser = Callable[[Sequence[list[int]]], list[list[int]]]
"""Is given the tokens of thoughts, and returns the tokens that the face reads in their place."""


def copy(thoughts: Sequence[list[int]]) -> list[list[int]]:
    """The control: every thought as it is. What it changes is that the face reads a text that nobody wrote: the
    shoggoth's tokens and the face's context become two spans, as under any other paraphraser."""
    return [list(thought) for thought in thoughts]


PARAPHRASERS: dict[str, Paraphraser] = {"copy": copy}
