"""prompt -> thought -> [paraphrase] -> answer: how a question becomes a rollout."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from clew.config import SamplingConfig
from clew.rollout.paraphrase import Paraphraser
from clew.rollout.types import Completion, Context, Request, Rollout, Sampler
from clew.world import Question, World

FaceSees = Literal["prompt+thought", "thought"]
GREEDY = SamplingConfig(temperature=0.0)
SEEDS = 4096  # apart, so that the answers of two thoughts of a question have dice of their own


def rollouts(
    world: World,
    shoggoth: Sampler,
    face: Sampler,
    questions: Sequence[Question],
    shape: tuple[int, int],
    *,
    sampling: SamplingConfig = GREEDY,
    face_sees: FaceSees = "prompt+thought",
    paraphraser: Paraphraser | None = None,
    seeds: Sequence[int] = (),
) -> list[Rollout]:
    """n thoughts of the shoggoth for each question and k answers of the face to each thought; shape is (n, k).

    seeds: one a question, from which all its dice follow; none are needed where sampling is greedy.
    """
    n, k = shape
    seeds = seeds or [0] * len(questions)
    begun = [_thoughts(world, question, n, 2 * seed) for question, seed in zip(questions, seeds, strict=True)]
    thoughts = shoggoth.sample(begun, sampling)
    grouped = [thoughts[i : i + n] for i in range(0, len(thoughts), n)]
    read = [reading(world, thought, face_sees, paraphraser) for thought in thoughts]
    asked = [
        Request(read[q * n + i], "answer", question.max_answer, world.answer_stop, k, (2 * seeds[q] + 1) * SEEDS + i)
        for q, question in enumerate(questions)
        for i in range(n)
    ]
    answers = face.sample(asked, sampling)
    several = [answers[i : i + k] for i in range(0, len(answers), k)]
    return [
        rollout_of(world, question, grouped[q], read[q * n : (q + 1) * n], several[q * n : (q + 1) * n])
        for q, question in enumerate(questions)
    ]


def rollout_of(
    world: World, question: Question, thoughts: list[Completion], read: list[Context], answers: list[list[Completion]]
) -> Rollout:
    """All completions to a question, with their texts."""
    thought_texts = [world.text(thought.tokens) for thought in thoughts]
    answer_texts = [[world.text(answer.tokens) for answer in some] for some in answers]
    return Rollout(question, thoughts, read, answers, thought_texts, answer_texts)


def _thoughts(world: World, question: Question, n: int, seed: int) -> Request:
    return Request(Context(question.tokens, "prompt"), "thought", question.max_thought, world.thought_stop, n, seed)


def direct_answers(world: World, sampler: Sampler, questions: Sequence[Question]) -> list[Completion]:
    """One greedy answer to each question, with no thought before it."""
    contexts = [Context(question.tokens, "prompt") for question in questions]
    both = zip(contexts, questions, strict=True)
    asked = [Request(context, "answer", question.max_answer, world.answer_stop) for context, question in both]
    return sampler.sample(asked, GREEDY)


def reading(world: World, thought: Completion, face_sees: FaceSees, paraphraser: Paraphraser | None) -> Context:
    """What the face reads of a thought, closed where the thought did not end by itself."""
    before = thought.context if face_sees == "prompt+thought" else None
    if paraphraser is not None:
        read = Context(paraphraser([thought.tokens])[0], "thought", before)
    elif before is not None:
        read = thought.as_read()
    else:
        read = Context(thought.tokens, "thought")
    return read if thought.ended else Context(world.thought_end, "prompt", before=read)


def limited(questions: Sequence[Question], max_thought: int | None, max_answer: int | None) -> list[Question]:
    """The questions with other limits of tokens, where there are others."""
    return [
        replace(
            question,
            max_thought=max_thought or question.max_thought,
            max_answer=max_answer or question.max_answer,
        )
        for question in questions
    ]
