"""How thoughts are written: without a pause, or line by line, each line rewritten before the next one is written.

What is read of a thought never has more than `max_thought` tokens, and neither has what is written, whatever a
paraphraser makes of it: so a question that leaves a thought room in the window leaves it room in any words.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from clew.config import SamplingConfig
from clew.rollout.paraphrase import Paraphrase, Passage, line_stop
from clew.rollout.stops import held
from clew.rollout.types import Completion, Context, Line, Request, Sampler, Thought, as_written
from clew.world import Question, World

WRITTEN, REWRITTEN = 1, 2  # streams of a question's dice, apart from those of whole thoughts and of answers


def seed_of(seed: int, prompt: Sequence[int], *place: int) -> int:
    """A seed of 64 bits for a place in what becomes of a prompt: the same whatever is asked beside it."""
    mark = crc32(np.asarray(prompt, dtype=np.int64).tobytes())  # greedy rollouts of all questions have one seed
    return int(np.random.SeedSequence([seed, mark, *place]).generate_state(1, np.uint64)[0])


def whole(
    world: World,
    shoggoth: Sampler,
    questions: Sequence[Question],
    n: int,
    sampling: SamplingConfig,
    seeds: Sequence[int],
    paraphrase: Paraphrase | None,
) -> list[Thought]:
    """n thoughts of each question, side by side, written without a pause and then, if at all, rewritten."""
    asked = zip(questions, seeds, strict=True)
    begun = [
        Request(Context(one.tokens, "prompt"), "thought", one.max_thought, world.thought_stop, n, 2 * seed)
        for one, seed in asked
    ]
    written = shoggoth.sample(begun, sampling)
    if paraphrase is None:
        return [as_written(one) for one in written]
    places = [(question, seed, i) for question, seed in zip(questions, seeds, strict=True) for i in range(n)]
    passages = [
        Passage(question.tokens, (), one.tokens, seed_of(seed, question.tokens, REWRITTEN, i, 0))
        for one, (question, seed, i) in zip(written, places, strict=True)
    ]
    rooms = [question.max_thought for question, _, _ in places]
    read = paraphrase.rewritten(world, passages, rooms)
    return [
        Thought([Line(one, Context(tokens, "thought", one.context), kept)], one.ended)
        for one, (tokens, kept) in zip(written, read, strict=True)
    ]


@dataclass(eq=False)
class _Under:
    """A thought under way."""

    question: Question
    seed: int
    number: int
    """which of its question's thoughts it is"""
    lines: list[Line] = field(default_factory=list)
    left: int = 0
    """tokens that it may still take"""
    over: bool = False

    def passage(self, line: Completion) -> Passage:
        seed = seed_of(self.seed, self.question.tokens, REWRITTEN, self.number, len(self.lines))
        before = [token for one in self.lines for token in one.read.tokens]
        return Passage(self.question.tokens, before, line.tokens, seed)

    def room(self) -> int:
        """Tokens that the next line may have as it is read."""
        return self.question.max_thought - sum(len(one.read.tokens) for one in self.lines)

    def add(self, line: Completion, read: Sequence[int], kept: bool, over: bool) -> None:
        self.lines.append(Line(line, Context(read, "thought", line.context), kept))
        written = sum(len(one.written.tokens) for one in self.lines)
        self.left, self.over = min(self.room(), self.question.max_thought - written), over


def line_by_line(
    world: World,
    shoggoth: Sampler,
    questions: Sequence[Question],
    n: int,
    sampling: SamplingConfig,
    seeds: Sequence[int],
    paraphrase: Paraphrase | None,
) -> list[Thought]:
    """n thoughts of each question, side by side: behind each line the shoggoth pauses, the line is rewritten, and the
    shoggoth goes on behind what it became. All thoughts write their next line together."""
    assert paraphrase is not None
    stop, over = line_stop(world), world.thought_stop
    thoughts = [_Under(one, seed, i) for one, seed in zip(questions, seeds, strict=True) for i in range(n)]
    asked = [
        Request(Context(one.tokens, "prompt"), "thought", one.max_thought, stop, n, 2 * seed)
        for one, seed in zip(questions, seeds, strict=True)
    ]
    going = thoughts
    while going:
        written = shoggoth.sample(asked, sampling)
        passages = [one.passage(line) for one, line in zip(going, written, strict=True)]
        read = paraphrase.rewritten(world, passages, [one.room() for one in going])
        for one, line, (tokens, kept) in zip(going, written, read, strict=True):
            one.add(line, tokens, kept, line.ended and held(over, world.tokenizer, line.tokens))
        going = [one for one in going if not one.over and one.left > 0]
        asked = [
            Request(
                one.lines[-1].read,
                "thought",
                one.left,
                stop,
                seed=seed_of(one.seed, one.question.tokens, WRITTEN, one.number, len(one.lines)),
            )
            for one in going
        ]
    return [Thought(one.lines, one.over) for one in thoughts]
