"""prompt -> thought -> [paraphrase] -> answer: how a question becomes a rollout."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from clew.config import SamplingConfig
from clew.rollout.lines import line_by_line, whole
from clew.rollout.paraphrase import Paraphrase
from clew.rollout.types import Completion, Context, Request, Rollout, Sampler, Thought
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
    paraphrase: Paraphrase | None = None,
    seeds: Sequence[int] = (),
) -> list[Rollout]:
    """n thoughts of the shoggoth for each question and k answers of the face to each thought; shape is (n, k).

    paraphrase: how thoughts are rewritten before they are read; None leaves them as they are. seeds: one a question,
    from which all its dice follow; none are needed where sampling is greedy.
    """
    n, k = shape
    seeds = seeds or [0] * len(questions)
    think = line_by_line if paraphrase and paraphrase.by_line else whole
    thoughts = think(world, shoggoth, questions, n, sampling, seeds, paraphrase)
    grouped = [thoughts[i : i + n] for i in range(0, len(thoughts), n)]
    read = [reading(world, thought, face_sees) for thought in thoughts]
    asked = [
        Request(read[q * n + i], "answer", question.max_answer, world.answer_stop, k, answer_seed(seeds[q], i))
        for q, question in enumerate(questions)
        for i in range(n)
    ]
    answers = face.sample(asked, sampling)
    several = [answers[i : i + k] for i in range(0, len(answers), k)]
    return [
        rollout_of(world, question, grouped[q], read[q * n : (q + 1) * n], several[q * n : (q + 1) * n])
        for q, question in enumerate(questions)
    ]


def answer_seed(seed: int, thought: int) -> int:
    """The seed of the dice of the answers to one of a question's thoughts; seed: the question's."""
    return (2 * seed + 1) * SEEDS + thought


def rollout_of(
    world: World, question: Question, thoughts: list[Thought], read: list[Context], answers: list[list[Completion]]
) -> Rollout:
    """All completions to a question, with their texts."""
    thought_texts = [world.text(thought.tokens) for thought in thoughts]
    answer_texts = [[world.text(answer.tokens) for answer in some] for some in answers]
    return Rollout(question, thoughts, read, answers, thought_texts, answer_texts)


def direct_answers(world: World, sampler: Sampler, questions: Sequence[Question]) -> list[Completion]:
    """One greedy answer to each question, with no thought before it."""
    contexts = [Context(question.tokens, "prompt") for question in questions]
    both = zip(contexts, questions, strict=True)
    asked = [Request(context, "answer", question.max_answer, world.answer_stop) for context, question in both]
    return sampler.sample(asked, GREEDY)


def reading(world: World, thought: Thought, face_sees: FaceSees) -> Context:
    """What the face reads of a thought, closed where the thought did not end by itself."""
    behind_prompt = face_sees == "prompt+thought"
    read = thought.lines[-1].read if behind_prompt else Context(thought.read_tokens, "thought")
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
