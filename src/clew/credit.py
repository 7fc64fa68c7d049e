"""Credit rules: pure functions from the scores of answers to weights for thoughts and answers.

Every rule reads `scores_QNK` (Q questions, N thoughts a question, K answers a thought), where NaN marks an answer that
was not sampled, and returns a `Credit`. These hold for all of them:

- What was not sampled weighs 0. A thought with no sampled answer counts as not sampled.
- Ties share a weight equally, as the average over random tie-breaking would. Values closer than 1e-12 of the question's
  largest magnitude are tied: two means of the same scores may differ by rounding, and rounding earns no credit.
- A question whose scores are all equal says nothing and weighs 0 everywhere.
- With `normalise`, each policy's positive weights over a question add to 1 and its negative weights to -1; where a
  policy has none of a sign they add to 0. `normalise=False` gives the raw weights that the rule's docstring states.
- With `scope="batch"` the whole batch is one large question of Q*N thoughts: selection, "all equal" and normalisation
  run over it. A question whose own scores are all equal may then earn credit, by comparison with other questions.
- ValueError, naming the field, the value and what would be right, for an option that is out of range, for scores that
  have not three axes, and for the first infinite score, by question, thought and answer.
"""

import copy
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[np.float64]
Scope = Literal["question", "batch"]
Answers = Literal["best", "kept", "anywhere"]

TIE = 1e-12


@dataclass(frozen=True, eq=False)
class Credit:
    """The weights that a rule gives to the spans of each policy.

    thought_QN: for the shoggoth, one weight a thought.
    answer_QNK: for the face, one weight an answer.
    """

    thought_QN: Array
    answer_QNK: Array


def basic(scores_QNK: ArrayLike, keep: float = 0.25, scope: Scope = "question", normalise: bool = True) -> Credit:
    """Keep the best fraction of all samples, a sample being a thought with one of its answers.

    keep: fraction of the sampled answers; `max(1, round(keep * count))` of them are kept.
    Raw weights: an answer has the share of it that is kept, in [0, 1]; a thought the sum over its answers.
    Source: basic training, in the discussion under "Why Don't We Just... Shoggoth+Face+Paraphraser?" (LessWrong, 2024).
    """
    scores_GMK, _ = _grouped(scores_QNK, scope)
    pairs_GP = _pairs(scores_GMK)
    answer_GMK = _best(pairs_GP, _count(pairs_GP, keep)).reshape(scores_GMK.shape)
    return _credit(scores_QNK, scores_GMK, answer_GMK.sum(-1), answer_GMK, normalise)


def denoised(
    scores_QNK: ArrayLike,
    top: int | None = 3,
    keep: float = 0.25,
    answers: Answers = "best",
    scope: Scope = "question",
    normalise: bool = True,
) -> Credit:
    """Keep the best fraction of thoughts by the mean of their `top` best answers, so that one lucky answer counts less.

    top: how many answers a thought is judged by (all that it has, where it has fewer); None for all of them.
    keep: fraction of the sampled thoughts; `max(1, round(keep * count))` of them are kept.
    answers: which answers the face learns. "best": the best answer of the best thought; "kept": the best `keep`
        fraction of each kept thought's answers; "anywhere": the best answer of all thoughts, the control for "best".
        "best" and "anywhere" name one answer a question, hence with `scope="batch"` one answer in the whole batch,
        ties apart: "kept" is the choice that suits that scope.
    Raw weights: the share of a thought that is kept, in [0, 1]; the share of an answer that is kept, for "best" and
        "kept" times the share of its thought.
    Source: thoughts judged by their top 3 and by the mean of all, in the discussion under "Why Don't We Just...
    Shoggoth+Face+Paraphraser?" (LessWrong, 2024).
    """
    _one_of("answers", answers, Answers)
    scores_GMK, _ = _grouped(scores_QNK, scope)
    worth_GM = _top_mean(scores_GMK, top)
    thought_GM = _best(worth_GM, _count(worth_GM, keep))
    if answers == "kept":
        answer_GMK = thought_GM[..., None] * _best(scores_GMK, _count(scores_GMK, keep))
    elif answers == "best":
        answer_GMK = _best(worth_GM)[..., None] * _best(scores_GMK)
    else:
        answer_GMK = _best(_pairs(scores_GMK)).reshape(scores_GMK.shape)
    return _credit(scores_QNK, scores_GMK, thought_GM, answer_GMK, normalise)


def contrastive(scores_QNK: ArrayLike, top: int | None = 3, normalise: bool = True) -> Credit:
    """Push towards the best thought and away from the worst; within the best thought, likewise for its answers.

    top: how many of its best answers a thought is judged by; None for all of them.
    Raw weights: the share of a thought (or answer) that is best less the share that is worst, in [-1, 1]. Where best
    and worst are tied the two cancel; answers count times the share of their thought that is best.
    Source: contrastive pairs, in the discussion under "Why Don't We Just... Shoggoth+Face+Paraphraser?" (LessWrong,
    2024).
    """
    scores_GMK, _ = _grouped(scores_QNK)
    worth_GM = _top_mean(scores_GMK, top)
    best_GM = _best(worth_GM)
    answer_GMK = best_GM[..., None] * (_best(scores_GMK) - _best(-scores_GMK))
    return _credit(scores_QNK, scores_GMK, best_GM - _best(-worth_GM), answer_GMK, normalise)


def advantage(scores_QNK: ArrayLike, normalise: bool = True) -> Credit:
    """Weigh each sample by how far it exceeds its siblings: the policy gradient with a leave-one-out baseline.

    Raw weights, for n sampled thoughts in a question and k sampled answers to a thought:
        thought: (mean of its answers - mean of the other thoughts' means) / n
        answer: (score - mean of the thought's other answers) / (n * k)
    A sample's baseline does not depend on that sample, so the gradient of `sum(weight * log-probability)` has as its
    expectation the exact gradient of the question's expected score, for each policy with the other held fixed. Over a
    batch these gradients add up over questions. Normalised weights differ by a factor a question.

    A sample with no sibling has no baseline and weighs 0: n=1 teaches the shoggoth nothing, k=1 the face nothing. For
    answers, n counts only the thoughts with two answers or more.
    Source: Kool, van Hoof and Welling, "Buy 4 REINFORCE Samples, Get a Baseline for Free!" (2019); Ahmadian et al.,
    "Back to Basics" (RLOO, 2024).
    """
    scores_QNK, scale_Q = _grouped(scores_QNK)
    compared_Q = (np.isfinite(scores_QNK).sum(-1) > 1).sum(-1)
    thought_QN = _lead(_mean(scores_QNK)) * scale_Q[:, None]
    answer_QNK = _lead(scores_QNK) * (scale_Q / np.maximum(compared_Q, 1))[:, None, None]
    return _credit(scores_QNK, scores_QNK, thought_QN, answer_QNK, normalise)


def group(scores_QNK: ArrayLike, scope: Scope = "question", normalise: bool = True) -> Credit:
    """Weigh each sample by how far it exceeds the question's others: one baseline for both roles.

    Raw weights, for n sampled thoughts and m sampled answers to a question, all thoughts' answers together:
        thought: (mean over its answers of (score - mean of the answers to other thoughts)) / n
        answer: (score - mean of the question's other answers, whatever their thought) / m
    So k=1 teaches the face too, where `advantage` has nothing to compare an answer with. No baseline depends on the
    sample that it is taken from, hence the expected gradient is exact, as that of `advantage` is; but the face's is
    noisier where thoughts differ, since what a thought is worth counts as if it were the answer's.

    A sample with no other weighs 0: n=1 teaches the shoggoth nothing, n=k=1 nobody anything.
    Source: what trainers of one policy do, which compare all samples of a prompt: Shao et al., "DeepSeekMath" (GRPO,
    2024), here with each sample left out of its own baseline as in Ahmadian et al., "Back to Basics" (RLOO, 2024).
    """
    scores_GMK, scale_G = _grouped(scores_QNK, scope)
    count_GM, total_GM = np.isfinite(scores_GMK).sum(-1), np.nansum(scores_GMK, axis=-1)
    others_GM = count_GM.sum(-1, keepdims=True) - count_GM
    baseline_GM = (total_GM.sum(-1, keepdims=True) - total_GM) / np.maximum(others_GM, 1)
    ahead_GM = np.where(others_GM > 0, _mean(scores_GMK) - baseline_GM, np.nan)
    thoughts_G1 = np.maximum((count_GM > 0).sum(-1, keepdims=True), 1)
    thought_GM = np.where(np.abs(ahead_GM) > TIE, ahead_GM, 0.0) / thoughts_G1
    answer_GMK = _lead(_pairs(scores_GMK)).reshape(scores_GMK.shape)
    scale_G1 = scale_G[:, None]
    return _credit(scores_QNK, scores_GMK, thought_GM * scale_G1, answer_GMK * scale_G1[..., None], normalise)


RULES = {"basic": basic, "denoised": denoised, "contrastive": contrastive, "advantage": advantage, "group": group}
"""The rules by the names that configurations call them."""


LARGEST = float(np.finfo(np.float32).max)  # weights become float32


class RuleError(RuntimeError):
    """A credit rule of somebody's own failed, or gave what is no credit; the message says what is wrong with it."""


def apply(rule: Callable[..., Credit], scores_QNK: Array, options: Mapping[str, Any]) -> Credit:
    """What any rule gives for scores_QNK: checked, and in arrays of its own. The rule gets copies.

    Raises RuleError where it raises, changes what it was given, or returns anything but a Credit of finite weights in
    the shapes of the scores. KeyboardInterrupt goes through.
    """
    given_QNK = scores_QNK.copy()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # of NaN and the like, which is said below in one line
            made = rule(given_QNK, **copy.deepcopy(dict(options)))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a rule does not end a run without a word
        raise RuleError(f"raised {type(error).__name__}: {_said(error)}") from error
    if inspect.iscoroutine(made):
        made.close()
        raise RuleError("is async; expected a plain function that returns a Credit")
    if not isinstance(made, Credit):
        raise RuleError(f"returned {_kind(made)}; expected clew.credit.Credit(thought_QN, answer_QNK)")
    if not np.array_equal(given_QNK, scores_QNK, equal_nan=True):
        raise RuleError("changed the scores that it was given; expected them left alone")
    shape = scores_QNK.shape
    return Credit(_weights("thought_QN", made.thought_QN, shape[:2]), _weights("answer_QNK", made.answer_QNK, shape))


def _weights(name: str, given: object, shape: tuple[int, ...]) -> Array:
    """A rule's weights as an array of their own; RuleError for what is none of the shape, or not finite."""
    try:
        weights = np.asarray(given)
    except Exception:  # a ragged list, a tensor that no array can be made of
        weights = np.array(None)
    if weights.dtype.kind not in "fiub":
        raise RuleError(f"returned {name} as {_kind(given)}; expected an array of numbers of shape {shape}")
    if weights.shape != shape:
        axes = "(questions, thoughts, answers)"
        raise RuleError(f"returned {name} of shape {weights.shape}; expected {shape} for scores of shape {axes}")
    weights = weights.astype(np.float64)
    for place in np.argwhere(~(np.abs(weights) <= LARGEST))[:1]:
        where = ", ".join(f"{axis} {i}" for axis, i in zip(("question", "thought", "answer"), place, strict=False))
        raise RuleError(f"returned {name} with {weights[tuple(place)]} at {where}; expected finite float32 numbers")
    return weights


def _said(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())[:200]
    except Exception:  # somebody's own kind, which fails to say anything
        return "it cannot be shown"


def _kind(value: object) -> str:
    return "None" if value is None else f"an object of type {type(value).__name__}"


def _grouped(scores_QNK: ArrayLike, scope: Scope = "question") -> tuple[Array, Array]:
    """Checked scores, one group a question or one for the batch, divided by the largest magnitude in the group."""
    _one_of("scope", scope, Scope)
    try:
        scores = np.asarray(scores_QNK, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"scores: expected numbers in three axes (question, thought, answer): {error}") from error
    if scores.ndim != 3:
        raise ValueError(f"scores: shape {scores.shape} has {scores.ndim} axes; expected (question, thought, answer)")
    for q, n, k in np.argwhere(np.isinf(scores))[:1]:
        raise ValueError(
            f"scores: {scores[q, n, k]} at question {q}, thought {n}, answer {k}; expected a finite number, or NaN "
            "where nothing was sampled"
        )
    if scope == "batch":
        scores = scores.reshape(1, scores.shape[0] * scores.shape[1], scores.shape[2])
    scale_G = np.fmax.reduce(np.abs(scores), axis=(1, 2), initial=0.0)
    return scores / np.where(scale_G > 0, scale_G, 1.0)[:, None, None], scale_G


def _credit(scores_QNK: ArrayLike, scores_GMK: Array, thought_GM: Array, answer_GMK: Array, normalise: bool) -> Credit:
    """Silence groups that say nothing, normalise over groups and give the arrays their own shape back."""
    highest_G = np.fmax.reduce(scores_GMK, axis=(1, 2), initial=-np.inf)
    lowest_G = np.fmin.reduce(scores_GMK, axis=(1, 2), initial=np.inf)
    says_G = highest_G - lowest_G > TIE
    thought_GM = thought_GM * says_G[:, None]
    answer_GMK = answer_GMK * says_G[:, None, None]
    if normalise:
        thought_GM, answer_GMK = _unit(thought_GM), _unit(answer_GMK)
    shape = np.shape(scores_QNK)
    return Credit(thought_GM.reshape(shape[:2]), answer_GMK.reshape(shape))


def _pairs(scores_GMK: Array) -> Array:
    groups, thoughts, answers = scores_GMK.shape
    return scores_GMK.reshape(groups, thoughts * answers)


def _unit(weights: Array) -> Array:
    """Weights whose positive part adds to 1 in each group and whose negative part to -1, or to 0 where it is empty."""
    parts = np.stack([np.maximum(weights, 0.0), np.maximum(-weights, 0.0)])
    totals = parts.sum(axis=tuple(range(2, parts.ndim)), keepdims=True)
    parts = parts / np.where(totals > 0, totals, 1.0)
    return parts[0] - parts[1]


def _best(values: Array, count: Array | float = 1.0) -> Array:
    """The share of each value that is among the `count` best on the last axis; NaN has none."""
    order = np.argsort(-values, axis=-1)
    place = np.arange(values.shape[-1])
    # NaN sorts last and compares false: it ties with nothing and takes no place from a number.
    tied = np.zeros(values.shape, dtype=bool)
    tied[..., 1:] = np.diff(np.take_along_axis(-values, order, axis=-1)) <= TIE
    start = np.maximum.accumulate(np.where(tied, 0, place), axis=-1)
    stop = np.where(np.roll(tied, -1, axis=-1), len(place), place + 1)
    stop = np.minimum.accumulate(stop[..., ::-1], axis=-1)[..., ::-1]
    share = np.empty_like(values)
    np.put_along_axis(share, order, np.clip((count - start) / (stop - start), 0.0, 1.0), axis=-1)
    return np.where(np.isnan(values), 0.0, share)


def _count(values: Array, keep: float) -> Array:
    """How many of the sampled values on the last axis are kept."""
    if not isinstance(keep, Real) or not 0 < keep <= 1:
        raise ValueError(f"keep: {keep!r} is no fraction; expected a number above 0 and at most 1")
    return np.maximum(1.0, np.rint(keep * np.isfinite(values).sum(-1, keepdims=True)))


def _top_mean(scores: Array, top: int | None) -> Array:
    """The mean of the `top` best sampled scores on the last axis; NaN where there are none."""
    if top is not None and (not isinstance(top, Integral) or top < 1):
        raise ValueError(f"top: {top!r} answers cannot judge a thought; expected 1 or more, or None for all")
    return _mean(-np.sort(-scores, axis=-1)[..., :top])


def _mean(values: Array) -> Array:
    """The mean of the sampled values on the last axis; NaN where there are none."""
    count = np.isfinite(values).sum(-1)
    return np.where(count > 0, np.nansum(values, axis=-1), np.nan) / np.maximum(count, 1)


def _lead(values: Array) -> Array:
    """Each value less the mean of the others, over the number of values, on the last axis; 0 where it has no others."""
    # (v - mean of the others) / n equals (v - mean of all) / (n - 1).
    others = np.isfinite(values).sum(-1, keepdims=True) - 1
    ahead = values - _mean(values)[..., None]
    return np.where(np.abs(ahead) > TIE, ahead, 0.0) / np.maximum(others, 1)


def _one_of(field: str, value: object, options: object) -> None:
    if value not in get_args(options):
        raise ValueError(f"{field}: {value!r} is unknown; expected one of {', '.join(get_args(options))}")
