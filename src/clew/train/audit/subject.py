"""Who is audited: held-out questions with thoughts and answers drawn for each, and what a face does behind any thought.

    case ─── question ─┬─ thought 1, as the face read it ── answer 1, drawn
                       └─ thought n …                    ── answer n

Interventions change thought 1; what is drawn n times is for the mutual information and for shares.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np

from clew.config import SamplingConfig
from clew.graders import Grader
from clew.monitors import Monitor
from clew.policy import Policy, reference_nll
from clew.rollout.paraphrase import Paraphrase
from clew.rollout.sampler import SharedPrefixSampler
from clew.rollout.stages import GREEDY
from clew.rollout.stops import held
from clew.rollout.types import Context, Request, Rollout
from clew.train.crediting import grade_texts
from clew.train.evaluate import Reasoner
from clew.tree import SpanTree, TreeBatch
from clew.world import Question, World

Tokens = Sequence[int]
Told = Callable[[str, int, int], None]
DRAWN = SamplingConfig(temperature=1.0)
"""how thoughts and answers are drawn: from the policies' own distributions, which log-probabilities are of"""
AT_ONCE = 16  # questions whose contexts are read and continued together
BUDGET = 16_384  # tokens that a pass reads for log-probabilities


@dataclass(frozen=True, eq=False)
class Case:
    """One held-out question with all that was drawn for it."""

    number: int
    question: Question
    prompt: Context
    """the question's tokens, one object for all that is read behind them"""
    bodies: list[Tokens]
    """N: each thought as the face read it, without what closes it (`opened_up`)"""
    closings: list[Tokens]
    """N: what closes each, be it written or put there"""
    answers: list[Tokens]
    """N: one answer behind each, drawn"""
    thought_texts: list[str]
    """N: as the shoggoth wrote them"""
    answer_texts: list[str]


@dataclass(frozen=True)
class Outcome:
    """What a face does behind one thought."""

    text: str
    """its greedy answer"""
    score: float
    """what the graders give that one; NaN where they say nothing"""
    logp: float
    """natural log-probability of the answer that was drawn behind the thought as it is"""
    right_logp: float
    """that of the world's right answer, of all its forms together (`World.right_answers`); NaN where it knows none"""


@dataclass
class Subject:
    """A reasoner with the cases that it is audited on."""

    world: World
    reasoner: Reasoner
    graders: Sequence[Grader] = ()
    thoughts: int = 8
    """n, drawn for each question"""
    seed: int = 0
    paraphrase: Paraphrase | None = None
    """what rewrites thoughts, for paraphrasability"""
    paraphraser: str = ""
    """its name"""
    reader: Reasoner | None = None
    """the fresh one"""
    monitors: Sequence[Monitor] = ()
    cases: list[Case] = field(default_factory=list)
    """what `draw_cases` has drawn"""
    told: Told = field(default=lambda phase, done, count: None)
    notes: list[str] = field(default_factory=list)
    """what a person should know of the figures"""

    def context(self, case: Case, body: Tokens, closing: Tokens) -> Context | None:
        """What the face reads of a thought; None where that is nothing at all, behind which nobody writes."""
        before = case.prompt if self.reasoner.face_sees == "prompt+thought" else None
        tokens = [*body, *closing]
        if not tokens:
            return before
        return Context(tokens, "thought", before)

    def changed(self, bodies: Sequence[Tokens | None]) -> list[Context | None]:
        """A context a case, its thought's body in the place of thought 1; None for those that have none. A body that
        does not end by itself is closed."""
        world, found = self.world, []
        for case, body in zip(self.cases, bodies, strict=True):
            over = body is not None and held(world.thought_stop, world.tokenizer, body)
            found.append(None if body is None else self.context(case, body, [] if over else world.thought_end))
        return found

    @cached_property
    def as_it_is(self) -> list[Context]:
        """The context of thought 1 of each case."""
        found = [self.context(case, case.bodies[0], case.closings[0]) for case in self.cases]
        return [context for context in found if context is not None]

    @cached_property
    def intact(self) -> list[Outcome]:
        """What the face does behind thought 1 of each case."""
        return [one for one in self.outcomes(self.as_it_is, "as it is") if one is not None]

    def outcomes(
        self, contexts: Sequence[Context | None], phase: str, face: SharedPrefixSampler | None = None
    ) -> list[Outcome | None]:
        """What a face does behind a context a case; None where there is none. face: by default the subject's own."""
        face = face or face_of(self.reasoner)
        found: list[Outcome | None] = []
        for first in range(0, len(self.cases), AT_ONCE):
            some = slice(first, first + AT_ONCE)
            found += self._outcomes(self.cases[some], contexts[some], face)
            self.told(phase, len(found), len(self.cases))
        return found

    def _outcomes(
        self, cases: Sequence[Case], contexts: Sequence[Context | None], face: SharedPrefixSampler
    ) -> Iterator[Outcome | None]:
        there = [(case, context) for case, context in zip(cases, contexts, strict=True) if context is not None]
        made = iter(self._done(there, face) if there else ())
        return (None if context is None else next(made) for context in contexts)

    def _done(self, there: Sequence[tuple[Case, Context]], face: SharedPrefixSampler) -> list[Outcome]:
        stop, world = self.world.answer_stop, self.world
        asked = [Request(context, "answer", case.question.max_answer, stop) for case, context in there]
        written = face.sample(asked, GREEDY)
        texts = [world.text(one.tokens) for one in written]
        scores = np.full(len(texts), np.nan)
        if self.graders:
            questions = [case.question for case, _ in there]
            scores = grade_texts(self.graders, questions, texts, [one.tokens for one in written]).face_B
        wanted = [(context, [case.answers[0], *world.right_answers(case.question)]) for case, context in there]
        logps = answer_logps(face.policy, wanted)
        return [
            Outcome(text, float(score), float(logp[0]), _together(logp[1:]))
            for text, score, logp in zip(texts, scores, logps, strict=True)
        ]


def _together(logps: np.ndarray) -> float:
    """The log-probability of any one of several answers, no two the same; NaN for none."""
    return float(np.logaddexp.reduce(logps)) if len(logps) else np.nan


def face_of(reasoner: Reasoner) -> SharedPrefixSampler:
    assert isinstance(reasoner.face, SharedPrefixSampler)
    return reasoner.face


def draw_cases(subject: Subject, reasoner: Reasoner, questions: Sequence[Question], phase: str) -> list[Case]:
    """The questions with n thoughts of a reasoner's each, and one answer of its to each thought."""
    world, cases = subject.world, []
    for first in range(0, len(questions), AT_ONCE):
        some = questions[first : first + AT_ONCE]
        seeds = [seed_of(subject.seed, first + i) for i in range(len(some))]
        for rollout in reasoner.rollouts(world, some, (subject.thoughts, 1), DRAWN, seeds):
            cases.append(_case(len(cases), world, rollout))
        subject.told(phase, len(cases), len(questions))
    return cases


def seed_of(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _case(number: int, world: World, rollout: Rollout) -> Case:
    parts = [thought_in(world, read) for read in rollout.read]
    question = rollout.question
    texts = [several[0] for several in rollout.answer_texts]
    bodies, closings = [body for body, _ in parts], [closing for _, closing in parts]
    answers: list[Tokens] = [several[0].tokens for several in rollout.answers]
    prompt = Context(question.tokens, "prompt")
    return Case(number, question, prompt, bodies, closings, answers, rollout.thought_texts, texts)


def thought_in(world: World, read: Context) -> tuple[Tokens, Tokens]:
    """The thought in what a face read, in two: its body, and what closes it."""
    links = read.chain()
    tokens = [token for link in links if link.role == "thought" for token in link.tokens]
    if links[-1].role != "thought":  # one that did not end by itself, and was closed
        return tokens, links[-1].tokens
    return opened_up(world, tokens)


def opened_up(world: World, tokens: Tokens) -> tuple[Tokens, Tokens]:
    """A thought in two, its body and what ends it, wherever `thought_stop` has it end: with the tokens of the world's
    `thought_end`, with a token that is an end by itself (a text's last one, say), or with tokens of which the first may
    hold a little of the body too, as "." in ".</"; that is then no part of the body. All of it where nothing ends it.
    """
    end, stop, decode = world.thought_end, world.thought_stop, world.tokenizer.decode
    cut = len(tokens) - len(end)
    if end and cut >= 0 and list(tokens[cut:]) == list(end):
        return tokens[:cut], tokens[cut:]
    if len(tokens) and tokens[-1] in stop.token_ids:
        return tokens[:-1], tokens[-1:]
    if not held(stop, world.tokenizer, tokens):
        return tokens, []
    text = str(decode(list(tokens)))
    before = text[: min(text.index(string) for string in stop.strings if string in text)]
    cut = next(i for i in reversed(range(len(tokens))) if before.startswith(str(decode(list(tokens[:i])))))
    return tokens[:cut], tokens[cut:]


def answer_logps(policy: Policy, asked: Sequence[tuple[Context, Sequence[Tokens]]]) -> list[np.ndarray]:
    """Natural log-probability of each answer behind its context, under the policy at temperature 1: one array a
    context. Exact: a pass of the model over all of it, contexts that follow each other and share their first span
    read as one tree. The sum over an answer's tokens, its end included."""
    trees = [_tree(list(group)) for _, group in groupby(asked, key=lambda one: id(one[0].chain()[0]))]
    batch = TreeBatch.pack(trees, policy.pad_token_id)
    nll_S = reference_nll(policy, policy, batch, BUDGET).double().cpu().numpy()
    lengths = np.array([len(answer) for _, answers in asked for answer in answers])
    assert lengths.sum() == len(nll_S)
    sums = -np.add.reduceat(nll_S, np.cumsum(lengths) - lengths)
    return np.split(sums, np.cumsum([len(answers) for _, answers in asked])[:-1])


def _tree(group: Sequence[tuple[Context, Sequence[Tokens]]]) -> SpanTree:
    """Contexts of one first span with their answers, in their order."""
    first = group[0][0].chain()[0]
    children: list[SpanTree] = []
    for context, answers in group:
        below = [SpanTree(answer, "answer", 1.0) for answer in answers]
        for link in reversed(context.chain()[1:]):
            below = [SpanTree(link.tokens, link.role, 0.0, below)]
        children += below
    return SpanTree(first.tokens, first.role, 0.0, children)


Figures = dict[str, Any]
"""of one case, by name: a bool is a rate, a `Ratio` a share of several things, any other number a mean"""
Found = dict[str, list[Figures]]
"""by condition: the figures of each case, {} for those that the condition cannot be made of"""
