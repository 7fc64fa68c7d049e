"""What the loops ask of a world: its prompts, its tokens, its grader. They know nothing else of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

from clew.tree import SpanTree


@dataclass(frozen=True)
class Asked:
    """One question as the loops see it."""

    prompt: str
    """what the grader is told was asked"""
    tokens: list[int]
    """what the shoggoth continues"""
    columns: dict[str, Any] = field(default_factory=dict)
    """named values for the grader: a reference, say; never a thought"""


class World(Protocol):
    """A source of questions, with the tokens that thoughts and answers are made of."""

    tokenizer: PreTrainedTokenizerBase
    max_thought: int
    """tokens that a thought may take"""
    max_answer: int
    """tokens that an answer may take"""
    close_thought: list[int]
    """put, unweighted, behind a thought that did not end by itself, so that the face knows where it stands"""

    def ask(self, indices: Sequence[int], held_out: bool = False) -> list[Asked]:
        """The questions with these numbers: the same whoever asks. Held-out ones are never among the others."""
        ...

    def demonstrate(self, indices: Sequence[int]) -> list[SpanTree]:
        """Trees of prompt, thought and answer spans to imitate; empty for a world that has none to show."""
        ...

    def thought_ends(self, tokens: Sequence[int]) -> bool:
        """Whether a thought is over with the last of these, its tokens so far."""
        ...

    def answer_ends(self, tokens: Sequence[int]) -> bool:
        """Whether an answer is over with the last of these, its tokens so far."""
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as the text that graders and people read."""
        ...

    def default_grader(self) -> Callable[..., list[float]] | None:
        """The world's own reward function, None if it has none."""
        ...

    def measure(
        self, asked: Sequence[Asked], thoughts: Sequence[str], answers: Sequence[str]
    ) -> dict[str, list[float]]:
        """Named figures of each sample for the logs (whether an answer is optimal, say); never used as credit."""
        ...
