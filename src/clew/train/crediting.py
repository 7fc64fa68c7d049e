"""From a round's rollouts to weights: grades, credit, and the figures of both."""

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import TrainerState

from clew import credit
from clew.calls import load_function
from clew.errors import InputError
from clew.graders import Grader, Scores, Share, check_call, grade, length_discount, load_grader
from clew.rollout.types import Completion, Rollout, Thought
from clew.runs.intervals import Ratio, Tally, figures_in
from clew.text import one_line, printable, show
from clew.train.config import GraderConfig, SplitConfig, grader_entries
from clew.train.plan import variance_components
from clew.world import Figures, Question, World

WORLD_S_OWN = "world"  # as a list of graders names it
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


def graders_of(given: Sequence[Any], world: World, time_limit: float) -> list[Grader]:
    """The graders that a config's list names; the world's own where it names none. InputError if there is none at all,
    and for one that cannot be found or called with the world's columns."""
    entries = grader_entries(given or [WORLD_S_OWN])
    graders = [_grader(entry, world, time_limit) for entry in entries]
    columns = world.questions([0])[0].columns
    for grader in graders:
        check_call(grader, columns)
    return graders


def _grader(entry: GraderConfig, world: World, time_limit: float) -> Grader:
    options: dict[str, Any] = {"weight": float(entry.weight), "route": entry.route, "credit": entry.credit}
    options |= {"on_error": entry.on_error, "time_limit": time_limit}
    if entry.function != WORLD_S_OWN:
        return load_grader(entry.function, **options)
    own = world.grader()
    if own is None:
        raise InputError("grader: this world has none of its own; give --grader \"['package.module:function']\"")
    return Grader(own, **options)


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


def trainer_state(step: int, rounds: int) -> TrainerState:
    """How far a run is, in the words that graders written for other trainers know."""
    return TrainerState(global_step=step, max_steps=rounds, epoch=step / max(rounds, 1))


def grade_rollouts(graders: Sequence[Grader], rollouts: Sequence[Rollout], state: TrainerState | None = None) -> Scores:
    """Grades every answer. A grader is given the question and what the face wrote; no thought is within its reach."""
    questions, answers, texts = every_answer(rollouts)
    return grade_texts(graders, questions, texts, [answer.tokens for answer in answers], state)


def every_answer(rollouts: Sequence[Rollout]) -> tuple[list[Question], list[Completion], list[str]]:
    """All answers with their questions and texts, all thoughts' answers of the first question first."""
    questions = [one.question for one in rollouts for several in one.answers for _ in several]
    answers = [answer for one in rollouts for several in one.answers for answer in several]
    return questions, answers, [text for one in rollouts for several in one.answer_texts for text in several]


def grade_texts(
    graders: Sequence[Grader],
    questions: Sequence[Question],
    texts: Sequence[str],
    tokens: Sequence[Sequence[int]],
    state: TrainerState | None = None,
) -> Scores:
    """Grades answers to questions, a text and its tokens each; prompts in the form in which they were given."""
    prompts, columns = prompts_and_columns(questions)
    return grade(graders, prompts, texts, columns, tokens, state or TrainerState())


def prompts_and_columns(questions: Sequence[Question]) -> tuple[list[Any], dict[str, list[Any]]]:
    """What was asked, as text or as chat messages, and all other named values, a list of one a question each."""
    prompts = [question.prompt if question.messages is None else question.messages for question in questions]
    return prompts, {name: [question.columns[name] for question in questions] for name in questions[0].columns}


def shape_of(rollouts: Sequence[Rollout]) -> tuple[int, int, int]:
    """Q, N, K."""
    return len(rollouts), len(rollouts[0].thoughts), len(rollouts[0].answers[0])


def credited(
    config: SplitConfig, rule: Rule, rollouts: Sequence[Rollout], scores: Scores, gather: Gather = alone
) -> Weights:
    """Weights for both policies: the shoggoth's from what it hears, discounted by length, the face's from all.

    The rule sees the questions of all processes, since its scope may be the batch. It runs once on the sum of all
    graders that are credited together, and once on each of the others; its weights are added up, those of a grader
    credited by itself as often as its own weight says. A negative weight turns them round: a penalty pushes away the
    samples that the rule would have chosen for scoring highest on it, and the sum is not normalised anew.
    """
    shape = shape_of(rollouts)
    lengths_QN = np.array([[len(thought.tokens) for thought in one.thoughts] for one in rollouts], float)
    share_QN1 = length_discount(lengths_QN, config.length_cost)[..., None]

    def discounted(share: Share) -> np.ndarray:
        scores_QNK = share.scores_B.reshape(shape)
        return np.where(share.weight * scores_QNK > 0, scores_QNK * share_QN1, scores_QNK)

    shoggoth, mine = _added(rule, scores.shoggoth, [discounted(share) for share in scores.shoggoth], shape, gather)
    face, _ = _added(rule, scores.face, [share.scores_B.reshape(shape) for share in scores.face], shape, gather)
    return Weights(scores, shoggoth.thought_QN[mine], face.answer_QNK[mine], len(face.answer_QNK))


def _added(
    rule: Rule, shares: Sequence[Share], scores_QNK: Sequence[np.ndarray], shape: tuple[int, int, int], gather: Gather
) -> tuple[credit.Credit, slice]:
    """The rule's weights for the questions of all processes, added over shares of the score, and where this one's are.
    Nothing where nothing is heard."""
    given, mine = gather(np.stack([*scores_QNK], axis=1) if shares else np.zeros((shape[0], 0, *shape[1:])))
    thought_QN, answer_QNK = np.zeros((len(given), shape[1])), np.zeros((len(given), *shape[1:]))
    for i, share in enumerate(shares):
        made = rule(given[:, i])
        thought_QN += share.weight * made.thought_QN
        answer_QNK += share.weight * made.answer_QNK
    return credit.Credit(thought_QN, answer_QNK), mine


def effective_samples(weights: np.ndarray) -> float:
    """Kish's effective sample size of signed weights: (sum |w|)^2 / sum w^2, 0 if all are 0."""
    square = float((weights**2).sum())
    return float(np.abs(weights).sum() ** 2 / square) if square else 0.0


def figures_of(world: World, rollouts: Sequence[Rollout], weights: Weights) -> dict[str, float]:
    """A round's figures: scores, lengths, entropy, effective sample sizes, variance components, the world's own."""
    _, n, k = shape_of(rollouts)
    face_QNK = weights.scores.face_B.reshape(shape_of(rollouts))
    graded_Q = ~np.isnan(face_QNK).all((1, 2))
    parts = variance_components(face_QNK)
    thoughts = [thought for one in rollouts for thought in one.thoughts]
    answers = [answer for one in rollouts for several in one.answers for answer in several]
    thought_logps = [logp for thought in thoughts for logp in thought.logps]
    answer_logps = [logp for answer in answers for logp in answer.logps]
    # What all of the face's contexts hold, each shared span once.
    spans = {id(link): len(link.tokens) for one in rollouts for read in one.read for link in read.chain()}
    asked = {id(one.thoughts[0].context): len(one.question.tokens) for one in rollouts}
    read = sum(length for span, length in spans.items() if span not in asked)
    figures: dict[str, float] = {
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
    if graded_Q.any():
        best = float(np.nanmax(face_QNK[graded_Q], (1, 2)).mean())
        figures = {"score": float(np.nanmean(face_QNK)), "best_score": best} | figures
    return figures | told_of_lines(thoughts) | told_by(weights.scores) | measured(world, rollouts)


def told_of_lines(thoughts: Sequence[Thought]) -> Figures:
    """Of thoughts that were rewritten: lines a thought, tokens as they are read, the share of lines that read otherwise
    than they were written, and of those that stayed as they were for want of a version that could be read."""
    lines = [line for thought in thoughts if thought.paraphrased for line in thought.lines]
    if not lines:
        return {}
    changed = sum(list(line.read.tokens) != list(line.written.tokens) for line in lines)
    return {
        "lines": len(lines) / len(thoughts),
        "read_tokens": sum(len(line.read.tokens) for line in lines) / len(thoughts),
        "lines_changed": Ratio(changed, len(lines)),
        "lines_kept": Ratio(sum(line.kept for line in lines), len(lines)),
    }


def told_by(scores: Scores) -> dict[str, float]:
    """What graders logged, at how many samples each that may fail failed, and the share of samples without a score."""
    figures = {f"grader_errors_{name}": float(count) for name, count in scores.errors.items()}
    figures |= {f"logged_{name}": value for name, value in scores.metrics.items()}
    ungraded = float(np.isnan(scores.face_B).mean())
    return figures | ({"ungraded": ungraded} if ungraded else {})


def measured(world: World, rollouts: Sequence[Rollout]) -> dict[str, float]:
    """The world's own figures, each over the samples that have it."""
    tally = Tally()
    for one in rollouts:
        for thought, answers in zip(one.thought_texts, one.answer_texts, strict=True):
            for answer in answers:
                tally.add(world.measure(one.question, thought, answer))
    return {name: figure["value"] for name, figure in figures_in(tally.report()).items()}
