"""One round of two policies: n thoughts a question, k answers a thought, their grades, their credit, their trees."""

import copy
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from clew import credit
from clew.config import SplitConfig
from clew.errors import InputError
from clew.graders import Grader, Scores, check_call, grade, length_discount, load_function, load_grader
from clew.plan import variance_components
from clew.policy import Policy
from clew.rollout import Continuation, continue_prompts
from clew.text import one_line, printable, show
from clew.tree import SpanTree, TreeBatch, only, pruned, spans_of
from clew.world import Asked, World

Rule = Callable[..., credit.Credit]
ROWS_AT_ONCE = 1024


@dataclass
class Samples:
    """One round: Q questions, N thoughts each, K answers to each of those, in that order."""

    asked: list[Asked]
    thoughts: list[Continuation]
    """Q * N"""
    read: list[list[int]]
    """Q * N: the thoughts as the face read them, each closed"""
    answers: list[Continuation]
    """Q * N * K"""
    shape: tuple[int, int, int]
    face_sees: str

    def contexts(self) -> list[list[int]]:
        """Q * N: what the face answers to, in full."""
        prompts = [one.tokens if self.face_sees == "prompt+thought" else [] for one in self.asked]
        return [[*prompts[i // self.shape[1]], *tokens] for i, tokens in enumerate(self.read)]

    def lengths_QN(self) -> np.ndarray:
        return np.array([len(thought.tokens) for thought in self.thoughts], float).reshape(self.shape[:2])


def sample(
    world: World, shoggoth: Policy, face: Policy, asked: list[Asked], shape: tuple[int, int], *, face_sees: str,
    temperature: float, top_p: float = 1.0, seeds: Sequence[int] = (),
) -> Samples:  # fmt: skip
    """n thoughts of the shoggoth for each question and k answers of the face to each thought; shape is (n, k).

    Each prompt is read once for its n thoughts, each context once for its k answers. temperature 0 is greedy.
    """
    n, k = shape
    prompts = [one.tokens for one in asked]
    shoggoth.activate()
    thoughts = _sampled(shoggoth, prompts, None, n, world.thought_ends, world.max_thought, temperature, top_p,
                        [2 * seed for seed in seeds])  # fmt: skip
    read = [[*thought.tokens, *([] if thought.stopped else world.close_thought)] for thought in thoughts]
    face.activate()
    # A thought's own number keeps the answers of two thoughts of one question apart.
    answer_seeds = [(2 * seed + 1) * 4096 + i for seed in seeds for i in range(n)]
    if face_sees == "thought":
        prompts, tails = read, None
    else:
        tails = [read[i : i + n] for i in range(0, len(read), n)]
    answers = _sampled(face, prompts, tails, k, world.answer_ends, world.max_answer, temperature, top_p, answer_seeds)
    return Samples(asked, thoughts, read, answers, (len(asked), n, k), face_sees)


def _sampled(
    policy: Policy, prompts: list[list[int]], tails: list[list[list[int]]] | None, copies: int,
    stop: Callable[[list[int]], bool], max_new: int, temperature: float, top_p: float, seeds: Sequence[int],
) -> list[Continuation]:  # fmt: skip
    """All continuations, ROWS_AT_ONCE or fewer at a time where a prompt alone has no more."""
    each = len(tails[0]) if tails else 1
    step = max(1, ROWS_AT_ONCE // (copies * each))
    return [
        continuation
        for i in range(0, len(prompts), step)
        for continuation in continue_prompts(
            policy.model, prompts[i : i + step], tails=tails[i : i + step] if tails else None, stop=stop,
            max_new=max_new, pad_token_id=policy.pad_token_id, copies=copies, temperature=temperature, top_p=top_p,
            seeds=seeds[each * i : each * (i + step)], attention=policy.attention,
        )
    ]  # fmt: skip


def graded(world: World, graders: Sequence[Grader], samples: Samples) -> Scores:
    """Grades every answer. A grader is given the question and the face's text; no thought is within its reach."""
    _, n, k = samples.shape
    each = [one for one in samples.asked for _ in range(n * k)]
    columns = {name: [one.columns[name] for one in each] for name in samples.asked[0].columns}
    texts = [world.text(answer.tokens) for answer in samples.answers]
    return grade(graders, [one.prompt for one in each], texts, columns)


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
        own = world.default_grader()
        if own is None:
            raise InputError("grader: this world has none of its own; give --grader \"['package.module:function']\"")
        heard = [Grader(own, time_limit=config.time_limit)]
    targeted = [load_grader(path, time_limit=config.time_limit, route="answer") for path in config.answer_grader]
    columns = world.ask([0])[0].columns
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
        raise InputError(f"rule: {show(config.rule)} is not one of {', '.join(credit.RULES)} or "
                         "package.module:function")  # fmt: skip
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
        raise InputError(f"{field} {show(config.rule)}, which is called as rule(scores_QNK, **rule_options): "
                         f"{one_line(error)}") from None  # fmt: skip


@dataclass
class Weights:
    """What a round's scores came to."""

    scores: Scores
    thought_QN: np.ndarray
    answer_QNK: np.ndarray
    questions: int
    """of the round, over all processes"""


Gather = Callable[[np.ndarray], tuple[np.ndarray, slice]]
"""From the values of this process's questions to those of all processes', and where among them its own are."""


def alone(values_Q: np.ndarray) -> tuple[np.ndarray, slice]:
    """A Gather for one process."""
    return values_Q, slice(None)


def credited(config: SplitConfig, rule: Rule, samples: Samples, scores: Scores, gather: Gather = alone) -> Weights:
    """Weights for both policies: the shoggoth's from what it hears, discounted by length, the face's from all.

    The rule sees the questions of all processes, since its scope may be the batch.
    """
    share_QN = length_discount(samples.lengths_QN(), config.length_cost)
    heard_QNK = scores.shoggoth_B.reshape(samples.shape)
    shoggoth_QNK, mine = gather(np.where(heard_QNK > 0, heard_QNK * share_QN[..., None], heard_QNK))
    face_QNK, _ = gather(scores.face_B.reshape(samples.shape))
    return Weights(scores, rule(shoggoth_QNK).thought_QN[mine], rule(face_QNK).answer_QNK[mine], len(face_QNK))


def trees_of(world: World, samples: Samples, weights: Weights) -> list[SpanTree]:
    """One tree a question: its prompt, its thoughts, their answers, each with its share of the round's credit."""
    questions, (_, n, k) = weights.questions, samples.shape
    trees = []
    for q, asked in enumerate(samples.asked):
        thoughts = []
        for i in range(n):
            thought = samples.thoughts[q * n + i]
            first = (q * n + i) * k
            answers = [
                SpanTree(samples.answers[first + j].tokens, "answer", float(weights.answer_QNK[q, i, j]) / questions)
                for j in range(k)
            ]
            below = answers if thought.stopped else [SpanTree(world.close_thought, "prompt", 0.0, answers)]
            thoughts.append(SpanTree(thought.tokens, "thought", float(weights.thought_QN[q, i]) / questions, below))
        trees.append(SpanTree(asked.tokens, "prompt", 0.0, thoughts))
    return trees


def batch_for(
    trees: Sequence[SpanTree], roles: Sequence[str], face_sees: str, pad_token_id: int
) -> TreeBatch | None:  # fmt: skip
    """What a policy that plays these roles learns from; None if that is nothing. Branches without weight are left out.

    A face that sees thoughts alone reads trees that begin with them.
    """
    mine = [only(tree, *roles) for tree in trees]  # type: ignore[arg-type]
    if face_sees == "thought" and list(roles) == ["answer"]:
        mine = [span for tree in mine for span in spans_of(tree, "thought")]
    kept = [left for tree in mine if (left := pruned(tree))]
    batch = TreeBatch.pack(kept, pad_token_id) if kept else None
    return batch if batch is not None and len(batch.targets_S) else None


def effective_samples(weights: np.ndarray) -> float:
    """Kish's effective sample size of signed weights: (sum |w|)^2 / sum w^2, 0 if all are 0."""
    square = float((weights**2).sum())
    return float(np.abs(weights).sum() ** 2 / square) if square else 0.0


def figures_of(world: World, samples: Samples, weights: Weights) -> dict[str, float]:
    """A round's figures: scores, lengths, entropy, effective sample sizes, variance components, the world's own."""
    _, n, k = samples.shape
    face_QNK = weights.scores.face_B.reshape(samples.shape)
    parts = variance_components(face_QNK)
    thought_logps = [logp for thought in samples.thoughts for logp in thought.logps]
    answer_logps = [logp for answer in samples.answers for logp in answer.logps]
    figures = {
        "score": float(face_QNK.mean()), "best_score": float(face_QNK.max((1, 2)).mean()), "n": n, "k": k,
        "thought_tokens": len(thought_logps) / len(samples.thoughts),
        "answer_tokens": len(answer_logps) / len(samples.answers),
        "thoughts_ended": float(np.mean([thought.stopped for thought in samples.thoughts])),
        "answers_ended": float(np.mean([answer.stopped for answer in samples.answers])),
        "shoggoth_sampled": len(thought_logps), "face_sampled": len(answer_logps),
        "face_prompted": sum(map(len, samples.read)) + (samples.face_sees == "prompt+thought") * sum(
            len(one.tokens) for one in samples.asked
        ),
        "thought_cost": (len(thought_logps) + sum(map(len, samples.read))) / len(samples.thoughts),
        "thought_entropy": -float(np.mean(thought_logps)), "answer_entropy": -float(np.mean(answer_logps)),
        "effective_thoughts": effective_samples(weights.thought_QN),
        "effective_answers": effective_samples(weights.answer_QNK),
        "var_questions": parts.question, "var_thoughts": parts.thought, "var_answers": parts.answer,
        "reliability": parts.reliability(k),
    }  # fmt: skip
    for name, values in measured(world, samples).items():
        figures[name] = float(np.mean(values))
    return figures


def measured(world: World, samples: Samples) -> dict[str, list[float]]:
    """The world's own figures, one a sample."""
    _, n, k = samples.shape
    return world.measure(
        [one for one in samples.asked for _ in range(n * k)],
        [text for thought in samples.thoughts for text in [world.text(thought.tokens)] * k],
        [world.text(answer.tokens) for answer in samples.answers],
    )


def sample_lines(world: World, samples: Samples, weights: Weights, most: int = 20) -> list[str]:
    """Whole trees as JSON lines: texts, scores and weights, for looking at."""
    _, n, k = samples.shape
    face_QNK = weights.scores.face_B.reshape(samples.shape)
    lines = []
    for q, asked in enumerate(samples.asked[:most]):
        thoughts = []
        for i in range(n):
            thought = samples.thoughts[q * n + i]
            answers = samples.answers[(q * n + i) * k : (q * n + i + 1) * k]
            thoughts.append({
                "text": world.text(thought.tokens), "tokens": len(thought.tokens), "ended": thought.stopped,
                "weight": float(weights.thought_QN[q, i]),
                "answers": [
                    {"text": world.text(answer.tokens), "score": float(face_QNK[q, i, j]),
                     "weight": float(weights.answer_QNK[q, i, j])}
                    for j, answer in enumerate(answers)
                ],
            })  # fmt: skip
        lines.append(json.dumps({"prompt": asked.prompt, "thoughts": thoughts}) + "\n")
    return lines
