"""From questions to rollouts: who is asked for what, in which contexts, and what the face reads."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from clew.config import SamplingConfig
from clew.policy import Policy
from clew.rollout.paraphrase import Paraphrase, Passage, copy
from clew.rollout.sampler import SharedPrefixSampler
from clew.rollout.stages import direct_answers, limited, reading, rollouts
from clew.rollout.types import Completion, Context, Line, Request, Thought, as_written
from small import WORLD

PROMPT = Context([5, 6, 7], "prompt")
ENDED = Completion(PROMPT, "thought", [8, 9], [-0.1, -0.2], "stop")
CUT = replace(ENDED, finish="length")
END = WORLD.thought_end


class Scripted:
    """A sampler elsewhere: it knows requests alone, and writes what it is told to."""

    def __init__(self, *said: tuple[list[int], str]):
        self.said, self.requests, self.sampling = list(said), [], []

    def sync(self, policy: Policy) -> None:
        raise AssertionError("a stage does not sync")

    def sample(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Completion]:
        self.requests += requests
        self.sampling.append(sampling)
        wanted = [request for request in requests for _ in range(request.copies)]
        made = []
        for i, request in enumerate(wanted):
            tokens, finish = self.said[i % len(self.said)]
            made.append(Completion(request.context, request.role, tokens, [-1.0] * len(tokens), finish))  # type: ignore[arg-type]
        return made


def told(completion: Completion, *tokens: int) -> Thought:
    """A thought that is read as other tokens."""
    return Thought([Line(completion, Context(tokens, "thought", completion.context))], completion.ended)


def test_what_the_face_reads() -> None:
    for face_sees, before in (("prompt+thought", [5, 6, 7]), ("thought", [])):
        assert reading(WORLD, as_written(ENDED), face_sees).ids() == [*before, 8, 9]  # type: ignore[arg-type]
        assert reading(WORLD, as_written(CUT), face_sees).ids() == [*before, 8, 9, *END]  # type: ignore[arg-type]
        read = reading(WORLD, told(ENDED, 1, 8, 9), face_sees)  # type: ignore[arg-type]
        assert read.ids() == [*before, 1, 8, 9] and read.written is None and read.role == "thought"
        assert reading(WORLD, told(CUT, 8), face_sees).ids() == [*before, 8, *END]  # type: ignore[arg-type]


def test_only_a_thought_read_behind_its_prompt_as_it_is_counts_as_what_was_written() -> None:
    assert reading(WORLD, as_written(ENDED), "prompt+thought").written is ENDED
    assert reading(WORLD, as_written(ENDED), "thought").written is None
    assert reading(WORLD, told(ENDED, 8, 9), "prompt+thought").written is None
    closed = reading(WORLD, as_written(CUT), "prompt+thought")
    assert closed.written is None and closed.before is not None and closed.before.written is CUT


def test_copies_are_copies() -> None:
    assert copy([Passage([5], [], [1, 2]), Passage([5], [1, 2], [3])]) == [[[1, 2]], [[3]]]


def _named(value: object) -> str:
    """The same name in every process that collects tests; a function's own has its address."""
    return "copy" if isinstance(value, Paraphrase) else str(value)


@pytest.mark.parametrize(
    ("face_sees", "rewrite"), product(("prompt+thought", "thought"), (None, Paraphrase(copy))), ids=_named
)
def test_samplers_are_asked_for_thoughts_and_then_for_answers(face_sees: Any, rewrite: Any) -> None:
    shoggoth = Scripted(([8, 9], "stop"), ([4], "length"))
    face, sampling = Scripted(([3], "stop")), SamplingConfig(temperature=0.7)
    questions = limited(WORLD.questions(range(3)), None, 5)
    options: dict[str, Any] = {"sampling": sampling, "face_sees": face_sees, "paraphrase": rewrite}
    made = rollouts(WORLD, shoggoth, face, questions, (2, 4), **options, seeds=[7, 8, 9])
    assert [(one.copies, one.max_tokens, one.stop) for one in shoggoth.requests] == [
        (2, question.max_thought, WORLD.thought_stop) for question in questions
    ]
    assert [one.context.ids() for one in shoggoth.requests] == [question.tokens for question in questions]
    assert {one.role for one in shoggoth.requests} == {"thought"} and {one.role for one in face.requests} == {"answer"}
    assert [(one.copies, one.max_tokens, one.stop) for one in face.requests] == [(4, 5, WORLD.answer_stop)] * 6
    assert shoggoth.sampling == face.sampling == [sampling]
    seeds = [one.seed for one in (*shoggoth.requests, *face.requests)]
    assert len(set(seeds)) == len(seeds) == 9
    for question, rollout in zip(questions, made, strict=True):
        assert rollout.question is question and (len(rollout.thoughts), len(rollout.answers)) == (2, 2)
        for i, (thought, read, answers) in enumerate(zip(rollout.thoughts, rollout.read, rollout.answers, strict=True)):
            before = question.tokens if face_sees == "prompt+thought" else []
            assert read.ids() == [*before, *(([8, 9]), [4, *END])[i]]
            assert len(answers) == 4 and all(answer.context is read for answer in answers)
            assert thought.context.ids() == question.tokens
            assert rollout.thought_texts[i] == WORLD.text(thought.tokens)
            assert rollout.answer_texts[i] == [WORLD.text(answer.tokens) for answer in answers]
        assert rollout.thoughts[0].context is rollout.thoughts[1].context


def test_the_dice_of_a_question_are_its_own() -> None:
    """What is sampled of it is the same whatever is sampled beside it, and no two of its streams are one."""
    shoggoth, face = (SharedPrefixSampler(Policy.build(WORLD.tokenizer, 1, 16, 2, seed)) for seed in range(2))
    sampling, seeds = SamplingConfig(), [11, 12, 13]
    questions = limited(WORLD.questions(range(3)), 9, 7)
    together = rollouts(WORLD, shoggoth, face, questions, (3, 2), sampling=sampling, seeds=seeds)
    for question, seed, among in zip(questions, seeds, together, strict=True):
        (alone,) = rollouts(WORLD, shoggoth, face, [question], (3, 2), sampling=sampling, seeds=[seed])
        assert (alone.thought_texts, alone.answer_texts) == (among.thought_texts, among.answer_texts)
    same = rollouts(WORLD, shoggoth, face, [questions[0]] * 2, (3, 2), sampling=sampling, seeds=[11, 12])
    assert same[0].thought_texts != same[1].thought_texts
    assert len({text for one in together for text in one.thought_texts}) > 6


def test_greedy_needs_no_seeds_and_direct_answers_no_thought() -> None:
    sampler = SharedPrefixSampler(Policy.build(WORLD.tokenizer, 1, 16, 2))
    questions = limited(WORLD.questions(range(2)), 4, 6)
    first, second = (rollouts(WORLD, sampler, sampler, questions, (1, 1)) for _ in range(2))
    assert [one.answer_texts for one in first] == [one.answer_texts for one in second]
    direct = direct_answers(WORLD, sampler, questions)
    assert [one.context.ids() for one in direct] == [question.tokens for question in questions]
    assert all(1 <= len(one.tokens) <= 6 and one.role == "answer" for one in direct)


def test_limits_are_changed_only_where_there_are_others() -> None:
    (question,) = WORLD.questions([0])
    assert limited([question], None, None) == [question]
    assert limited([question], 3, None) == [replace(question, max_thought=3)]
    assert limited([question], None, 4) == [replace(question, max_answer=4)]
