"""What stands between a thought and whoever reads it: rewriters of thoughts, whole or line by line.

A paraphraser is asked for versions of passages and knows nothing of policies, rewards or credit. Which version is read
is decided here, in one place: one of those that can stand where the passage stood, at random, with dice of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from clew.rollout.stops import cut, held
from clew.world import Stop, World

Tokens = Sequence[int]
_DRAWN = 2**32 - 1  # of a passage's streams the one that draws a version; no copy of a completion is numbered so


@dataclass(frozen=True, eq=False)
class Passage:
    """What is to be rewritten: a whole thought, or one line of it."""

    prompt: Tokens
    """what the shoggoth was asked"""
    before: Tokens
    """what is read of the thought before it: nothing before a first line, or a whole thought"""
    tokens: Tokens
    """itself, the token that ended it included"""
    seed: int = 0
    """of its dice: stream i is (seed, i), whatever else is rewritten beside it"""


Paraphraser = Callable[[Sequence[Passage]], list[list[Tokens]]]
"""Gives the versions of each passage, as tokens, the end included; none where it has nothing to say."""


@dataclass(frozen=True)
class Paraphrase:
    """How thoughts are rewritten."""

    versions: Paraphraser
    by_line: bool = False
    """line: the shoggoth pauses behind each of its lines, and goes on behind what the line became; otherwise a thought
    is rewritten once it is written, for the face alone"""
    in_warm_start: bool = False
    """whether demonstrations are rewritten too: where that changes them, and is quick"""
    takes_long: bool = False
    """whether a model rewrites"""

    def rewritten(self, world: World, passages: Sequence[Passage], rooms: Sequence[int]) -> list[tuple[Tokens, bool]]:
        """What is read in the place of each passage, and whether that is itself for want of a version that can be.

        A version can stand in a passage's place if it has at most `rooms` tokens and ends where, and as, the passage
        does: so no thought is cut short or goes on because of a paraphraser. Of several one is drawn.
        """
        done: list[tuple[Tokens, bool]] = []
        for passage, versions, room in zip(passages, self.versions(passages), rooms, strict=True):
            good = [
                version for version in versions if len(version) <= room and self._can_stand(world, passage, version)
            ]
            draw = int(np.random.default_rng([passage.seed, _DRAWN]).integers(max(1, len(good))))
            done.append((list(good[draw]), False) if good else (passage.tokens, True))
        return done

    def _can_stand(self, world: World, passage: Passage, version: Tokens) -> bool:
        if list(version) == list(passage.tokens):
            return True
        stop = line_stop(world) if self.by_line else world.thought_stop
        tokenizer = world.tokenizer
        if not len(version) or len(cut(stop, tokenizer, version)) > 1:
            return False
        return all(
            held(one, tokenizer, version) == held(one, tokenizer, passage.tokens) for one in (stop, world.thought_stop)
        )


def line_stop(world: World) -> Stop:
    """What ends a line of a world's thoughts, or the thought."""
    over, line = world.thought_stop, world.line_end() or Stop()
    return Stop((*over.token_ids, *line.token_ids), (*over.strings, *line.strings))


def copy(passages: Sequence[Passage]) -> list[list[Tokens]]:
    """The control: every passage as it is. What it changes is that others read a text that nobody wrote: what was
    written and what is read become two spans, as under any other paraphraser, and lines are pauses."""
    return [[passage.tokens] for passage in passages]


def shuffle(world: World) -> Paraphraser:
    """The world says the same in another way: see `World.rewritten`."""

    def shuffled(passages: Sequence[Passage]) -> list[list[Tokens]]:
        said = [
            world.rewritten(one.prompt, one.before, one.tokens, np.random.default_rng([one.seed, 0]))
            for one in passages
        ]
        return [[] if tokens is None else [tokens] for tokens in said]

    return shuffled
