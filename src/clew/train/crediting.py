"""From a round's rollouts to weights: grades, credit, and the figures of both."""

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from clew import credit
from clew.errors import InputError
from clew.graders import Grader, Scores, check_call, grade, length_discount, load_function, load_grader
from clew.rollout.types import Rollout
from clew.text import one_line, printable, show
from clew.train.config import SplitConfig
from clew.train.plan import variance_components
from clew.world import World

Rule = Callable[..., credit.Credit]
Gather = Callable[[np.ndarray], tuple[np.ndarray, slice]]
"""From the values of this process's questions to those of all processes', and where among them its own are."""


@dataclass(frozen=True)
class Weights:
    """What a round's scores came to."""

    scores: Scores
    thought_QN: np.ndarray
    answer_QNK: np.ndarray
    questions: int
    """of the round, over all processes"""


def graders_of(config: SplitConfig, world: World) -> list[Grader]:
    """The config's graders, routed; the world's own where it names none. InputError if there is none at all, if one is
    named twice, and for one that cannot be called with the world's columns."""
    named = [*config.grader, *config.answer_grader]
    for path in named:
        if named.count(path) > 1:
            where = "grader, answer_grader" if path in config.grader else "answer_grader"
            where = "grader" if config.grader.count(path) > 1 else where
            raise InputError(f"{where}: {show(path)} is named more than once; expected each grader in one place")
    heard = [load_grader(path, time_limit=config.time_limit) for path in config.grader]
    if not heard:
        own = world.grader()
        if own is None:
            raise InputError("grader: this world has none of its own; give --grader \"['package.module:function']\"")
        heard = [Grader(own, time_limit=config.time_limit)]
    targeted = [load_grader(path, time_limit=config.time_limit, route="answer") for path in config.answer_grader]
    columns = world.questions([0])[0].columns
    for grader in (*heard, *targeted):
        check_call(grader, columns)
    return heard + targeted


def rule_of(config: SplitConfig) -> Rule:
    """The config's credit rule with its options, for scores_QNK alone; all that it gives is checked (`credit.apply`).

    InputError if it cannot be found, does not take the options, or fails on a small example: of its two questions one
    has equal scores, which is where a division by their spread comes to light. RuleError if it fails later.
    """
    own = ":" in config.rule
    rule = load_function(config.rule, "rule") if own else credit.RULES.get(config.rule)
    if rule is None:
        known = ", ".join(credit.RULES)
        raise InputError(f"rule: {show(config.rule)} is not one of {known} or package.module:function")
    options = copy.deepcopy(config.rule_options)
    named = f"rule: {show(config.rule)}" if own else f"rule_options: {options} do not suit {config.rule}: it"
    if own:
        _check_signature(config, rule)

    def applied(scores_QNK: np.ndarray) -> credit.Credit:
        try:
            return credit.apply(rule, scores_QNK, options)
        except credit.RuleError as error:
            raise credit.RuleError(printable(f"{named} {error}")) from error

    for shape in ((2, config.thoughts, config.answers), (2, 3, 4)):
        scores_QNK = (np.arange(np.prod(shape)) * 7 % 12 / 11.0).reshape(shape)
        scores_QNK[0] = 0.5
        try:
            applied(scores_QNK)
        except credit.RuleError as error:
            # A rule may suit this run's numbers alone. Unequal ones show what is transposed, wherever it can be shown.
            if shape == (2, 3, 4) and str(error).startswith(printable(f"{named} raised")):
                continue
            raise InputError(str(error)) from error.__cause__
    return applied


def _check_signature(config: SplitConfig, rule: Rule) -> None:
    """InputError for a function that cannot be called as a rule with the config's options."""
    try:
        signature = inspect.signature(rule)
    except (TypeError, ValueError):  # a compiled function has none to look at
        return
    try:
        signature.bind(np.zeros((2, 3, 4)), **config.rule_options)
    except TypeError as error:
        field = f"rule_options: {show(config.rule_options)} do not suit" if config.rule_options else "rule:"
        form = f"which is called as rule(scores_QNK, **rule_options): {one_line(error)}"
        raise InputError(f"{field} {show(config.rule)}, {form}") from None


def alone(values_Q: np.ndarray) -> tuple[np.ndarray, slice]:
    """A Gather for one process."""
    return values_Q, slice(None)


def grade_rollouts(graders: Sequence[Grader], rollouts: Sequence[Rollout]) -> Scores:
    """Grades every answer. A grader is given the question and the face's text; no thought is within its reach."""
    answers = [(one.question, text) for one in rollouts for several in one.answer_texts for text in several]
    columns = {name: [question.columns[name] for question, _ in answers] for name in rollouts[0].question.columns}
    return grade(graders, [question.prompt for question, _ in answers], [text for _, text in answers], columns)


def shape_of(rollouts: Sequence[Rollout]) -> tuple[int, int, int]:
    """Q, N, K."""
    return len(rollouts), len(rollouts[0].thoughts), len(rollouts[0].answers[0])


def credited(
    config: SplitConfig, rule: Rule, rollouts: Sequence[Rollout], scores: Scores, gather: Gather = alone
) -> Weights:
    """Weights for both policies: the shoggoth's from what it hears, discounted by length, the face's from all.

    The rule sees the questions of all processes, since its scope may be the batch.
    """
    shape = shape_of(rollouts)
    lengths_QN = np.array([[len(thought.tokens) for thought in one.thoughts] for one in rollouts], float)
    share_QN = length_discount(lengths_QN, config.length_cost)
    heard_QNK = scores.shoggoth_B.reshape(shape)
    shoggoth_QNK, mine = gather(np.where(heard_QNK > 0, heard_QNK * share_QN[..., None], heard_QNK))
    face_QNK, _ = gather(scores.face_B.reshape(shape))
    return Weights(scores, rule(shoggoth_QNK).thought_QN[mine], rule(face_QNK).answer_QNK[mine], len(face_QNK))


def effective_samples(weights: np.ndarray) -> float:
    """Kish's effective sample size of signed weights: (sum |w|)^2 / sum w^2, 0 if all are 0."""
    square = float((weights**2).sum())
    return float(np.abs(weights).sum() ** 2 / square) if square else 0.0


def figures_of(world: World, rollouts: Sequence[Rollout], weights: Weights) -> dict[str, float]:
    """A round's figures: scores, lengths, entropy, effective sample sizes, variance components, the world's own."""
    _, n, k = shape_of(rollouts)
    face_QNK = weights.scores.face_B.reshape(shape_of(rollouts))
    parts = variance_components(face_QNK)
    thoughts = [thought for one in rollouts for thought in one.thoughts]
    answers = [answer for one in rollouts for several in one.answers for answer in several]
    thought_logps = [logp for thought in thoughts for logp in thought.logps]
    answer_logps = [logp for answer in answers for logp in answer.logps]
    # What all of the face's contexts hold, each shared span once.
    spans = {id(link): len(link.tokens) for one in rollouts for read in one.read for link in read.chain()}
    asked = {id(one.thoughts[0].context): len(one.question.tokens) for one in rollouts}
    read = sum(length for span, length in spans.items() if span not in asked)
    figures = {
        "score": float(face_QNK.mean()),
        "best_score": float(face_QNK.max((1, 2)).mean()),
        "n": n,
        "k": k,
        "thought_tokens": len(thought_logps) / len(thoughts),
        "answer_tokens": len(answer_logps) / len(answers),
        "thoughts_ended": float(np.mean([thought.ended for thought in thoughts])),
        "answers_ended": float(np.mean([answer.ended for answer in answers])),
        "shoggoth_sampled": len(thought_logps),
        "face_sampled": len(answer_logps),
        "face_prompted": sum(spans.values()),
        "thought_cost": (len(thought_logps) + read) / len(thoughts),
        "thought_entropy": -float(np.mean(thought_logps)),
        "answer_entropy": -float(np.mean(answer_logps)),
        "effective_thoughts": effective_samples(weights.thought_QN),
        "effective_answers": effective_samples(weights.answer_QNK),
        "var_questions": parts.question,
        "var_thoughts": parts.thought,
        "var_answers": parts.answer,
        "reliability": parts.reliability(k),
    }
    return figures | measured(world, rollouts)


def measured(world: World, rollouts: Sequence[Rollout]) -> dict[str, float]:
    """The world's own figures, each a mean over the samples that have it."""
    found: dict[str, list[float]] = {}
    for one in rollouts:
        for thought, answers in zip(one.thought_texts, one.answer_texts, strict=True):
            for answer in answers:
                for name, value in world.measure(one.question, thought, answer).items():
                    found.setdefault(name, []).append(float(value))
    return {name: float(np.mean(values)) for name, values in found.items()}
