"""What policies really do when they are asked: greedy answers to held-out questions, with intervals and a baseline."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import TrainerState

from clew import graders
from clew.config import SamplingConfig
from clew.errors import InputError
from clew.rollout.paraphrase import Paraphrase
from clew.rollout.records import lines_of, written
from clew.rollout.stages import GREEDY, FaceSees, direct_answers, limited, rollout_of, rollouts
from clew.rollout.types import Rollout, Sampler
from clew.rollout.window import check_room
from clew.runs.intervals import Tally, figures_in
from clew.train.crediting import grade_texts, told_of_lines
from clew.world import Figures, Look, Question, World

BASELINE = 0xBA5E


@dataclass(frozen=True)
class Reasoner:
    """Who answers: a shoggoth that thinks and a face that answers, or a face alone."""

    face: Sampler
    shoggoth: Sampler | None = None
    """None: answers come with no thought before them"""
    face_sees: FaceSees = "prompt+thought"
    paraphrase: Paraphrase | None = None
    """how thoughts are rewritten before they are read"""
    max_thought: int | None = None
    """tokens of a thought, where not the world's own"""
    max_answer: int | None = None
    window: int | None = None
    """positions that its models have, where they say so"""

    def check_room(self, world: World, questions: Sequence[Question]) -> None:
        """InputError for a question that leaves a thought and an answer no room in the window."""
        asked = limited(questions, self.max_thought, self.max_answer)
        check_room(asked, self.window, len(world.thought_end) if self.shoggoth else None, self.face_sees)

    def rollouts(
        self,
        world: World,
        questions: Sequence[Question],
        shape: tuple[int, int] = (1, 1),
        sampling: SamplingConfig = GREEDY,
        seeds: Sequence[int] = (),
    ) -> list[Rollout]:
        """n thoughts of each question, k answers to each. Without a shoggoth: one answer, greedy, and no thought.
        InputError for a question that leaves them no room."""
        self.check_room(world, questions)
        questions = limited(questions, self.max_thought, self.max_answer)
        if self.shoggoth is None:
            both = zip(questions, direct_answers(world, self.face, questions), strict=True)
            return [rollout_of(world, question, [], [answer.context], [[answer]]) for question, answer in both]
        return rollouts(
            world,
            self.shoggoth,
            self.face,
            questions,
            shape,
            sampling=sampling,
            face_sees=self.face_sees,
            paraphrase=self.paraphrase,
            seeds=seeds,
        )


@dataclass(frozen=True)
class Sample:
    """One question with what was answered, and what that is worth."""

    question: Question
    thought: str | None
    answer: str
    figures: Figures
    record: dict[str, Any]
    """a line of samples.jsonl, in the schema of rollouts"""


def held_out(world: World, count: int, look: Look = "final", seed: int = 0) -> Iterator[Question]:
    """So many held-out questions, or as many as there are."""
    there = world.held_out_count()
    count = count if there is None else min(count, there)
    for first in range(0, count, 64):
        yield from world.held_out(range(first, min(count, first + 64)), look, seed)


def world_grader(world: World) -> list[graders.Grader]:
    """The world's own grader, if it has one."""
    own = world.grader()
    return [graders.Grader(own)] if own else []


def evaluate(
    world: World,
    reasoner: Reasoner,
    questions: Iterator[Question],
    scorers: Sequence[graders.Grader],
    *,
    accelerator: Accelerator | None = None,
    state: TrainerState | None = None,
    batch: int = 256,
    seed: int = 0,
    keep: int = 100,
) -> tuple[dict[str, Any], list[Sample]]:
    """Asks every question greedily and reports figures with 95% intervals: all together and by each of the questions'
    labels, beside the world's baseline. Also returns the first `keep` samples, for looking at. state: for the graders.

    Processes share the questions, `batch` each at a time, and all return the same. InputError if there is no question.
    """
    rank, processes = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    tally, kept, first = _Tallies(), [], 0
    while chunk := list(islice(questions, batch * processes)):
        mine = list(range(rank, len(chunk), processes))
        asked = [chunk[i] for i in mine]
        samples = samples_of(world, reasoner.rollouts(world, asked), scorers, state) if asked else []
        walked = _baselines(world, asked, scorers, state, [[seed, BASELINE, first + i] for i in mine])
        done = list(zip(mine, samples, walked, strict=True))
        if processes > 1:
            done = sorted(gather_object(done), key=lambda one: one[0])
        for _, sample, walk in done:
            tally.add(sample, walk)
            if len(kept) < keep:
                kept.append(sample)
        first += len(chunk)
    if not first:
        raise InputError("questions: there is none to evaluate")
    return tally.report(), kept


class _Tallies:
    """All sums of a report."""

    def __init__(self) -> None:
        self.all, self.baseline = Tally(), Tally()
        self.groups: dict[str, dict[str, Tally]] = defaultdict(lambda: defaultdict(Tally))
        self.sources: dict[tuple[str, str], set[int]] = defaultdict(set)

    def add(self, sample: Sample, walked: Figures | None) -> None:
        both = [(self.all, "by_", sample.figures)]
        both += [(self.baseline, "baseline_by_", walked)] if walked is not None else []
        for total, prefix, figures in both:
            total.add(figures)
            for label, value in sample.question.labels.items():
                self.groups[prefix + label][value].add(figures)
        if (source := sample.question.source) is not None:
            for group in [("", ""), *((f"by_{label}", value) for label, value in sample.question.labels.items())]:
                self.sources[group].add(source)

    def report(self) -> dict[str, Any]:
        report = self._of(self.all)
        if self.baseline.n:
            report["baseline"] = self.baseline.report()
        for name, tallies in self.groups.items():
            ordered = sorted(tallies, key=lambda key: (len(key), key))
            report[name] = {key: self._of(tallies[key], (name, key)) for key in ordered}
        return report

    def _of(self, tally: Tally, group: tuple[str, str] = ("", "")) -> dict[str, Any]:
        """A tally's report, with how many things its questions are about where that is known."""
        report = tally.report()
        there = {"sources": len(self.sources[group])} if group in self.sources else {}
        return {"questions": report.pop("questions"), **there, **report}


def samples_of(
    world: World, made: Sequence[Rollout], scorers: Sequence[graders.Grader], state: TrainerState | None = None
) -> list[Sample]:
    """Rollouts of one thought (or none) and one answer each, scored and measured."""
    texts = [rollout.answer_texts[0][0] for rollout in made]
    tokens = [rollout.answers[0][0].tokens for rollout in made]
    scores = grade_texts(scorers, [rollout.question for rollout in made], texts, tokens, state) if scorers else None
    samples = []
    for i, rollout in enumerate(made):
        thought = rollout.thought_texts[0] if rollout.thoughts else None
        figures = _score(scores, i) | world.measure(rollout.question, thought, texts[i])
        if rollout.thoughts:
            figures["thought_tokens"] = float(len(rollout.thoughts[0].tokens))
            figures |= told_of_lines(rollout.thoughts)
        figures["answer_tokens"] = float(len(rollout.answers[0][0].tokens))
        extra = {name: values[i] for name, values in scores.extra.items()} if scores else {}
        samples.append(Sample(rollout.question, thought, texts[i], figures, _record(world, rollout, figures, extra)))
    return samples


def _score(scores: graders.Scores | None, i: int) -> Figures:
    """What all graders together give one answer, as the face hears them; nothing where none has anything to say."""
    return {} if scores is None or np.isnan(scores.face_B[i]) else {"score": float(scores.face_B[i])}


def _baselines(
    world: World,
    questions: list[Question],
    scorers: Sequence[graders.Grader],
    state: TrainerState | None,
    seeds: list[list[int]],
) -> list[Figures | None]:
    """The figures of the world's baseline, question by question; None where it has none."""
    answers = [world.baseline(one, np.random.default_rng(seed)) for one, seed in zip(questions, seeds, strict=True)]
    there = [(i, answer) for i, answer in enumerate(answers) if answer is not None]
    scores = None
    if there and scorers:
        texts = [answer for _, answer in there]
        tokens = [world.tokenizer(text, add_special_tokens=False).input_ids for text in texts]
        scores = grade_texts(scorers, [questions[i] for i, _ in there], texts, tokens, state)
    found: list[Figures | None] = [None] * len(questions)
    for place, (i, answer) in enumerate(there):
        found[i] = _score(scores, place) | world.measure(questions[i], None, answer)
    return found


def _record(world: World, one: Rollout, figures: Figures, extra: dict[str, Any]) -> dict[str, Any]:
    """One question in the schema of rollouts (`runs.rollouts`), with its labels and figures."""
    answered = written(one.answers[0][0], one.answer_texts[0][0]) | {"weight": 0.0, "score": figures.get("score")}
    answered |= {"extra": extra} if extra else {}
    thought = {"text": "", "tokens": [], "logps": [], "ended": True}
    if one.thoughts:
        thought = written(one.thoughts[0], one.thought_texts[0]) | lines_of(world, one.thoughts[0])
    thought |= {"read": world.text(one.read[0].ids()), "weight": 0.0, "answers": [answered | {"figures": figures}]}
    told = {"prompt": one.question.prompt, "context": one.question.tokens, "labels": one.question.labels}
    return told | {"held_out": one.question.held_out, "thoughts": [thought]}


def as_metrics(report: dict[str, Any]) -> dict[str, float]:
    """The figures of a report as one line of metrics has them."""
    return {f"held_out_{name}": figure["value"] for name, figure in figures_in(report).items()}
