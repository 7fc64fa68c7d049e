"""The nouns: what a policy reads, what it writes, and all that was written about one question.

    prompt ─┬─ thought 1 (a completion of the shoggoth) ── read 1 ─┬─ answer 1.1 (a completion of the face)
            │                                                      └─ answer 1.2
            └─ thought 2 …

"Read" is what the face has before it: prompt and thought, the thought alone, or its paraphrase. Whatever it is, it is
kept as the context of the answers, and they are trained on in that context. So it is with the lines of a thought that
is rewritten line by line: each is a completion of its own, in the context of the rewritten ones before it.

    prompt ─┬─ line 1 as written (a completion)
            └─ line 1 as read ─┬─ line 2 as written (a completion)
                               └─ line 2 as read ── answers
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from clew.config import SamplingConfig
from clew.policy import Policy
from clew.tree import Role
from clew.world import Question, Stop


@dataclass(frozen=True, eq=False)
class Context:
    """A span that is read, with all that comes before it: a chain whose links are shared by whoever reads them.

    Example: the prompt is `Context([5, 6, 7], "prompt")`; a thought's context is the prompt, its answers' context is
    `Context([8, 9], "thought", before=prompt)`. Two contexts are one if and only if they are the same object.
    """

    tokens: Sequence[int]
    """this span's tokens: [8, 9]"""
    role: Role
    before: "Context | None" = None
    """what is read before it; None at the beginning of a sequence"""
    written: "Completion | None" = None
    """the completion that this is, where a completion is read as it was written, behind what it was written behind"""

    def chain(self) -> list["Context"]:
        """The spans from the first to this one."""
        links: list[Context] = [self]
        while links[-1].before is not None:
            links.append(links[-1].before)
        return links[::-1]

    def ids(self) -> list[int]:
        """All tokens that are read: [5, 6, 7, 8, 9]."""
        return [token for link in self.chain() for token in link.tokens]


@dataclass(frozen=True, eq=False)
class Request:
    """What a sampler is asked for."""

    context: Context
    """what is to be continued"""
    role: Role
    """what is written: "thought" or "answer" """
    max_tokens: int
    """tokens that a completion may take, the one that ends it included"""
    stop: Stop
    """what ends it sooner"""
    copies: int = 1
    """how many completions are wanted"""
    seed: int = 0
    """of the dice: copy j draws from the stream (seed, j), whatever else is sampled beside it"""


@dataclass(frozen=True, eq=False)
class Completion:
    """What a policy wrote at one place, with the context that it read."""

    context: Context
    """what stood before it"""
    role: Role
    tokens: list[int]
    """what was sampled, the token that ended it included: [8, 9]"""
    logps: list[float]
    """natural log-probability of each, at temperature 1 and over the whole vocabulary: [-0.2, -0.01]"""
    finish: Literal["stop", "length"]
    """stop: it ended by itself; length: it was cut at `max_tokens`"""

    @property
    def ended(self) -> bool:
        return self.finish == "stop"

    def as_read(self) -> Context:
        """Itself as the context of what comes after it."""
        return Context(self.tokens, self.role, self.context, written=self)


@dataclass(frozen=True, eq=False)
class Line:
    """A line of a thought, or all of it: what the shoggoth wrote, and what stands in its place for whoever reads on."""

    written: Completion
    read: Context
    """the line as it is read, behind all that is read before it; its `written` is the completion where nothing rewrote
    it"""
    kept: bool = False
    """whether it was to be rewritten, and stayed as it was for want of a rewriting that can be read"""


@dataclass(frozen=True, eq=False)
class Thought:
    """One thought of the shoggoth's: one line where it wrote without a pause."""

    lines: list[Line]
    ended: bool
    """whether it ended by itself, and was not cut at the question's `max_thought`"""

    @property
    def context(self) -> Context:
        """What stood before it."""
        return self.lines[0].written.context

    @property
    def tokens(self) -> list[int]:
        """All that was written, whatever was then read in its place."""
        return [token for line in self.lines for token in line.written.tokens]

    @property
    def logps(self) -> list[float]:
        """Of each written token, as `Completion` has it."""
        return [logp for line in self.lines for logp in line.written.logps]

    @property
    def read_tokens(self) -> list[int]:
        """All that is read of it."""
        return [token for line in self.lines for token in line.read.tokens]

    @property
    def paraphrased(self) -> bool:
        """Whether it was to be rewritten, and is read as another span than it was written as."""
        return any(line.read.written is None for line in self.lines)


def as_written(completion: Completion) -> Thought:
    """A thought that is read as it was written, without a pause."""
    return Thought([Line(completion, completion.as_read())], completion.ended)


@dataclass(frozen=True, eq=False)
class Rollout:
    """All completions to one question: N thoughts, K answers to each."""

    question: Question
    thoughts: list[Thought]
    """N, by the shoggoth"""
    read: list[Context]
    """N: what the face read of each thought: the context of its answers"""
    answers: list[list[Completion]]
    """N lists of K, by the face"""
    thought_texts: list[str]
    """N, as people read them"""
    answer_texts: list[list[str]]
    """N lists of K, as graders and people read them"""


class Sampler(Protocol):
    """What makes completions of one policy: in this process, or an engine elsewhere."""

    def sync(self, policy: Policy) -> None:
        """Samples from this policy, as its weights stand now, from here on."""
        ...

    def sample(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Completion]:
        """The completions asked for: `copies` of each request, side by side, in the order of the requests."""
        ...
