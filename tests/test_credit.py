"""Credit rules against hand-worked examples, a brute-force reference over tie-breaking orders, and exact gradients."""

from collections.abc import Callable
from itertools import permutations, product
from math import prod
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from clew.credit import Answers, Credit, RuleError, advantage, apply, basic, contrastive, denoised, group

NAN = np.nan
# One question, three thoughts, four answers each: the example whose weights are known by hand for every rule.
EXAMPLE = [[[1, 0, 0, 0], [0.6, 0.6, 0.6, 0], [0.2, 0.2, 0.2, 0.2]]]
# Means of 0.5 apiece, that floating point tells apart: 0.6 + 0.2 + 0.7 against 0.2 + 0.8 + 0.5.
ROUNDED = [[[0.6, 0.2, 0.7], [0.2, 0.8, 0.5]]]

# No deadline: a busy machine is not a failure.
few = settings(max_examples=40, deadline=None)

Rule = Callable[..., Credit]
RULES: dict[str, Rule] = {
    "basic": basic,
    "basic batch": lambda scores, **options: basic(scores, 0.4, scope="batch", **options),
    "top 3": denoised,
    "top 1, kept": lambda scores, **options: denoised(scores, 1, 0.5, "kept", **options),
    "mean, anywhere": lambda scores, **options: denoised(scores, None, 0.4, "anywhere", **options),
    "top 2, kept, batch": lambda scores, **options: denoised(scores, 2, 0.4, "kept", "batch", **options),
    "contrastive": contrastive,
    "advantage": advantage,
    "group": group,
    "group batch": lambda scores, **options: group(scores, "batch", **options),
}
BATCH = {name for name in RULES if name.endswith("batch")}

levels = st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 1.0, -1.0, 1 / 3])


def scores_of(
    values: st.SearchStrategy[float] = levels, questions: int = 4, thoughts: int = 4, answers: int = 4
) -> st.SearchStrategy[np.ndarray]:
    sizes = st.tuples(*(st.integers(1, most) for most in (questions, thoughts, answers)))
    return sizes.flatmap(
        lambda shape: st.lists(values, min_size=prod(shape), max_size=prod(shape)).map(
            lambda flat: np.array(flat).reshape(shape)
        )
    )


ragged = scores_of(st.one_of(levels, st.just(NAN)))


def check(credit: Credit, thought_QN: Any, answer_QNK: Any) -> None:
    assert_allclose(credit.thought_QN, thought_QN, atol=1e-12)
    assert_allclose(credit.answer_QNK, answer_QNK, atol=1e-12)


def test_basic_example() -> None:
    ninths = [2 / 9, 2 / 9, 2 / 9, 0]
    check(basic(EXAMPLE, keep=1 / 4), [[1 / 3, 2 / 3, 0]], [[[1 / 3, 0, 0, 0], ninths, [0] * 4]])
    raw = [2 / 3, 2 / 3, 2 / 3, 0]
    check(basic(EXAMPLE, keep=1 / 4, normalise=False), [[1, 2, 0]], [[[1, 0, 0, 0], raw, [0] * 4]])


def test_denoised_examples() -> None:
    thirds = [1 / 3, 1 / 3, 1 / 3, 0]
    for answers in ("best", "kept"):
        check(denoised(EXAMPLE, 3, 1 / 3, answers), [[0, 1, 0]], [[[0] * 4, thirds, [0] * 4]])
        check(denoised(EXAMPLE, 1, 1 / 3, answers), [[1, 0, 0]], [[[1, 0, 0, 0], [0] * 4, [0] * 4]])
    check(denoised(EXAMPLE, 3, 1 / 3, "anywhere"), [[0, 1, 0]], [[[1, 0, 0, 0], [0] * 4, [0] * 4]])


def test_denoised_mean_of_all() -> None:
    # Judged by its top 2 the first thought wins, by the mean of all the second.
    scores = [[[1, 1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5, 0.4]]]
    check(denoised(scores, 2), [[1, 0]], [[[0.5, 0.5, 0, 0, 0], [0] * 5]])
    check(denoised(scores, None), [[0, 1]], [[[0] * 5, [0.25, 0.25, 0.25, 0.25, 0]]])


def test_denoised_kept_raw_shares_multiply() -> None:
    # Two thoughts tie for one place; of their two answers, one is kept each.
    scores = [[[1, 0], [0, 1], [0, 0]]]
    credit = denoised(scores, None, 1 / 3, "kept", normalise=False)
    check(credit, [[0.5, 0.5, 0]], [[[0.5, 0], [0, 0.5], [0, 0]]])


def test_contrastive_example() -> None:
    check(contrastive(EXAMPLE), [[0, 1, -1]], [[[0] * 4, [1 / 3, 1 / 3, 1 / 3, -1], [0] * 4]])


def test_contrastive_judges_the_worst_by_its_best_answers_too() -> None:
    check(contrastive([[[1, -1], [0.6, 0.6], [0.5, 0.5]]], top=1), [[1, 0, -1]], [[[1, -1], [0, 0], [0, 0]]])


def test_contrastive_ties_cancel() -> None:
    # All thoughts are equally good, so that the shoggoth hears nothing, but their answers differ.
    check(contrastive([[[1, 0], [0, 1]]]), [[0, 0]], [[[0.5, -0.5], [-0.5, 0.5]]])
    check(contrastive([[[1, 1], [0, 0]]]), [[1, -1]], [[[0, 0], [0, 0]]])


def test_advantage_example() -> None:
    lucky, steady = [0.625, -0.625 / 3, -0.625 / 3, -0.625 / 3], [0.125, 0.125, 0.125, -0.375]
    check(advantage(EXAMPLE), [[-1 / 3, 1, -2 / 3]], [[lucky, steady, [0] * 4]])


def test_advantage_raw() -> None:
    # Means 0.5 and 2: each thought is 1.5 off the other, over n=2; the answers are 1 and 2 apart, over n*k=4.
    check(advantage([[[0, 1], [1, 3]]], normalise=False), [[-0.75, 0.75]], [[[-0.25, 0.25], [-0.5, 0.5]]])


def test_advantage_without_siblings() -> None:
    check(advantage([[[1], [0]]]), [[1, -1]], [[[0], [0]]])
    check(advantage([[[1, 0]]]), [[0]], [[[1, -1]]])
    # The second thought has one answer: it is compared as a thought, and n=1 for the answers.
    check(advantage([[[0, 1], [1.5, NAN]]], normalise=False), [[-0.5, 0.5]], [[[-0.5, 0.5], [0, 0]]])


def test_group_example() -> None:
    lucky, steady = [0.4375, -0.1875, -0.1875, -0.1875], [0.1875, 0.1875, 0.1875, -0.1875]
    check(group(EXAMPLE), [[-1 / 3, 1, -2 / 3]], [[lucky, steady, [-0.0625] * 4]])


def test_group_teaches_the_face_with_one_answer_a_thought() -> None:
    check(group([[[1], [0], [0.5]]]), [[1, -1, 0]], [[[1], [-1], [0]]])
    check(group([[[1, 0]]]), [[0]], [[[1, -1]]])
    check(group([[[1]], [[0]]]), [[0], [0]], [[[0]], [[0]]])
    # Over the batch the two questions are compared, and each has one sample.
    check(group([[[1]], [[0]]], "batch"), [[1], [-1]], [[[1]], [[-1]]])


def test_group_counts_what_was_sampled() -> None:
    # Others of the first thought are 3, 1 and 1, of the second 0, 0, 1 and 1, of the third 0, 0 and 3.
    credit = group([[[0, 0], [3, NAN], [1, 1]]], normalise=False)
    check(credit, [[-5 / 9, 2.5 / 3, 0]], [[[-0.25, -0.25], [0.5, 0], [0, 0]]])


def test_batch_is_one_large_question() -> None:
    scores = np.array([[[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.5], [0.0, 0.0]]])
    credit = basic(scores, keep=0.5, scope="batch")
    # Compared with the second question, the first is good throughout: within its own scope it says nothing.
    check(credit, [[0.5, 0.5], [0, 0]], [[[0.25, 0.25], [0.25, 0.25]], [[0, 0], [0, 0]]])
    assert not basic(scores, keep=0.5).thought_QN[0].any()
    check(denoised(scores, 1, 0.75, "best", "batch"), [[1 / 3, 1 / 3], [1 / 3, 0]], [[[0.25] * 2] * 2, [[0, 0]] * 2])
    assert not basic(np.ones((2, 2, 2)), scope="batch").answer_QNK.any()


def test_keep_counts_sampled_only() -> None:
    # Three answers are sampled: round(0.5 * 3) = 2 are kept, as Python rounds halves to even.
    credit = basic([[[3, NAN], [2, 1]]], keep=0.5)
    check(credit, [[0.5, 0.5]], [[[0.5, 0], [0.5, 0]]])
    # A thought with no answer is not there; the other is the best and the worst.
    check(contrastive([[[NAN, NAN], [1, 0]]]), [[0, 0]], [[[0, 0], [1, -1]]])


def test_rounding_earns_nothing() -> None:
    for rule in (contrastive, advantage):
        assert not rule(ROUNDED).thought_QN.any()
    check(denoised(ROUNDED, keep=1 / 2), [[0.5, 0.5]], [[[0, 0, 0.5], [0, 0.5, 0]]])
    scores = np.full((1, 2, 7), 0.7)
    scores[0, 1, 0] = 1
    assert not advantage(scores).answer_QNK[0, 0].any()


@pytest.mark.parametrize("shape", [(0, 2, 2), (2, 0, 2), (2, 3, 0)])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_empty(rule: Rule, shape: tuple[int, ...]) -> None:
    credit = rule(np.zeros(shape))
    assert credit.thought_QN.shape == shape[:2]
    assert credit.answer_QNK.shape == shape
    assert not credit.thought_QN.any()


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_infinite_scores_are_located(rule: Rule) -> None:
    scores = np.zeros((2, 3, 4))
    scores[1, 2, 3] = -np.inf
    with pytest.raises(ValueError, match="-inf at question 1, thought 2, answer 3"):
        rule(scores)


@pytest.mark.parametrize("scores", [[1.0], [[1.0, 2.0]], np.zeros((1, 1, 1, 1)), [["a"]], [[[1], [1, 2]]], None])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_other_scores_are_refused(rule: Rule, scores: Any) -> None:
    with pytest.raises(ValueError, match=r"scores: .*question, thought, answer"):
        rule(scores)


@pytest.mark.parametrize("keep", [0, -0.1, 1.01, NAN, "half", None])
def test_bad_keep(keep: Any) -> None:
    for rule in (basic, denoised):
        with pytest.raises(ValueError, match=r"keep: .*above 0 and at most 1"):
            rule(EXAMPLE, keep=keep)


@pytest.mark.parametrize("top", [0, -1, 1.5, "three"])
def test_bad_top(top: Any) -> None:
    for rule in (denoised, contrastive):
        with pytest.raises(ValueError, match=r"top: .*1 or more"):
            rule(EXAMPLE, top=top)


def test_bad_choices() -> None:
    with pytest.raises(ValueError, match="scope: 'world' is unknown; expected one of question, batch"):
        basic(EXAMPLE, scope="world")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="answers: 'all' is unknown; expected one of best, kept, anywhere"):
        denoised(EXAMPLE, answers="all")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", RULES)
@few
@given(scores=ragged)
def test_normalised(name: str, scores: np.ndarray) -> None:
    credit = RULES[name](scores)
    groups = 1 if name in BATCH else len(scores)
    for weights in (credit.thought_QN, credit.answer_QNK):
        weights = weights.reshape(groups, -1)
        for sign in (1, -1):
            total = np.maximum(sign * weights, 0).sum(1)
            assert_allclose(total, np.where(total > 0, 1, 0), atol=1e-12)
    if name in ("contrastive", "advantage", "group", "group batch"):
        for weights in (credit.thought_QN, credit.answer_QNK):
            assert_allclose(weights.reshape(groups, -1).sum(1), 0, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
@few
@given(scores=ragged)
def test_not_sampled_weighs_nothing(name: str, scores: np.ndarray) -> None:
    credit = RULES[name](scores)
    assert not credit.answer_QNK[np.isnan(scores)].any()
    assert not credit.thought_QN[np.isnan(scores).all(-1)].any()
    assert np.isfinite(credit.thought_QN).all()
    assert np.isfinite(credit.answer_QNK).all()


@pytest.mark.parametrize("name", RULES)
@few
@given(scores=ragged)
def test_padding_with_nan_changes_nothing(name: str, scores: np.ndarray) -> None:
    padded = np.pad(scores, ((0, 0), (0, 2), (0, 1)), constant_values=NAN)
    for normalise in (True, False):
        credit, wide = (RULES[name](s, normalise=normalise) for s in (scores, padded))
        _, thoughts, answers = scores.shape
        check(credit, wide.thought_QN[:, :thoughts], wide.answer_QNK[:, :thoughts, :answers])


@pytest.mark.parametrize("name", RULES)
@few
@given(scores=ragged, data=st.data())
def test_equal_scores_say_nothing(name: str, scores: np.ndarray, data: st.DataObject) -> None:
    level = data.draw(levels)
    dull = 0 if name not in BATCH else slice(None)
    scores[dull] = np.where(np.isnan(scores[dull]), NAN, level)
    for normalise in (True, False):
        credit = RULES[name](scores, normalise=normalise)
        assert not credit.thought_QN[dull].any()
        assert not credit.answer_QNK[dull].any()


@pytest.mark.parametrize("name", RULES)
@few
@given(scores=ragged, data=st.data())
def test_permutation(name: str, scores: np.ndarray, data: st.DataObject) -> None:
    questions, thoughts, answers = (np.array(data.draw(st.permutations(range(size)))) for size in scores.shape)
    place = np.ix_(questions, thoughts, answers)
    for normalise in (True, False):
        credit = RULES[name](scores, normalise=normalise)
        moved = RULES[name](scores[place], normalise=normalise)
        check(moved, credit.thought_QN[place[0][..., 0], place[1][..., 0]], credit.answer_QNK[place])


@pytest.mark.parametrize("name", RULES)
@few
@given(scores=ragged, shift=st.integers(-4, 4), scale=st.sampled_from([1e-30, 0.5, 3.0, 1e300]))
def test_only_relative_scores_matter(name: str, scores: np.ndarray, shift: int, scale: float) -> None:
    credit = RULES[name](scores)
    check(RULES[name]((scores + shift) * scale), credit.thought_QN, credit.answer_QNK)


@few
@given(scores=ragged)
def test_questions_do_not_mix(scores: np.ndarray) -> None:
    for name in RULES.keys() - BATCH:
        whole = RULES[name](scores)
        alone = [RULES[name](scores[q : q + 1]) for q in range(len(scores))]
        thought_QN = np.concatenate([credit.thought_QN for credit in alone])
        check(whole, thought_QN, np.concatenate([credit.answer_QNK for credit in alone]))


@few
@given(scores=scores_of(st.one_of(levels, st.just(NAN)), thoughts=6, answers=1), keep=st.floats(0.01, 1))
def test_basic_is_denoised_where_a_thought_has_one_answer(scores: np.ndarray, keep: float) -> None:
    for scope in ("question", "batch"):
        for normalise in (True, False):
            plain = basic(scores, keep, scope, normalise)
            check(denoised(scores, 1, keep, "kept", scope, normalise), plain.thought_QN, plain.answer_QNK)


def share_best(values: np.ndarray, count: float, orders: list[tuple[int, ...]]) -> np.ndarray:
    """How often each value is among the best when ties fall in one of these orders, tried one by one."""
    share = np.zeros(len(values))
    for order in orders:
        ranked = sorted((i for i in order if not np.isnan(values[i])), key=lambda i: -values[i])
        share[ranked[: int(count)]] += 1 / len(orders)
    return share


def kept(values: np.ndarray, keep: float) -> int:
    return max(1, round(keep * int(np.isfinite(values).sum())))


# Whole numbers, so that the reference may compare means exactly; one question of at most three by two.
small = scores_of(st.one_of(st.sampled_from([0.0, 2.0, 4.0]), st.just(NAN)), questions=1, thoughts=3, answers=2)


@few
@given(scores=small, keep=st.floats(0.01, 1))
def test_ties_share_as_random_tie_breaking_would(scores: np.ndarray, keep: float) -> None:
    (scores_NK,) = scores
    if np.isnan(scores_NK).all() or np.nanmin(scores_NK) == np.nanmax(scores_NK):
        return
    thoughts, answers = (list(permutations(range(size))) for size in scores_NK.shape)
    pairs = scores_NK.reshape(-1)
    every = list(permutations(range(len(pairs))))

    raw = share_best(pairs, kept(pairs, keep), every).reshape(scores_NK.shape)
    check(basic(scores, keep, normalise=False), [raw.sum(1)], [raw])

    mean = np.array([np.mean(row[~np.isnan(row)]) if not np.isnan(row).all() else NAN for row in scores_NK])
    thought = share_best(mean, kept(mean, keep), thoughts)
    best, worst = share_best(mean, 1, thoughts), share_best(-mean, 1, thoughts)
    first, last = (np.array([share_best(sign * row, 1, answers) for row in scores_NK]) for sign in (1, -1))
    some = np.array([share_best(row, kept(row, keep), answers) for row in scores_NK])
    anywhere = share_best(pairs, 1, every).reshape(scores_NK.shape)
    expected = {"best": best[:, None] * first, "kept": thought[:, None] * some, "anywhere": anywhere}
    for choice in get_args(Answers):
        check(denoised(scores, None, keep, choice, normalise=False), [thought], [expected[choice]])
    check(contrastive(scores, None, normalise=False), [best - worst], [best[:, None] * (first - last)])


@few
@given(scores=scores_of(st.floats(-1e6, 1e6), questions=2))
def test_advantage_against_the_plain_formula(scores: np.ndarray) -> None:
    thought, answer = np.zeros(scores.shape[:2]), np.zeros(scores.shape)
    _, thoughts, answers = scores.shape
    means = scores.mean(-1)
    for q, n in np.ndindex(*scores.shape[:2]):
        if thoughts > 1:
            thought[q, n] = (means[q, n] - np.delete(means[q], n).mean()) / thoughts
        for k in range(answers if answers > 1 else 0):
            others = np.delete(scores[q, n], k).mean()
            answer[q, n, k] = (scores[q, n, k] - others) / (thoughts * answers)
    credit = advantage(scores, normalise=False)
    scale = np.abs(scores).max()
    assert_allclose(credit.thought_QN, thought, atol=1e-11 * scale)
    assert_allclose(credit.answer_QNK, answer, atol=1e-11 * scale)


@few
@given(scores=scores_of(st.floats(-1e6, 1e6), questions=2))
def test_group_against_the_plain_formula(scores: np.ndarray) -> None:
    thought, answer = np.zeros(scores.shape[:2]), np.zeros(scores.shape)
    _, thoughts, answers = scores.shape
    for q, n, k in np.ndindex(*scores.shape):
        if thoughts > 1:
            ahead = scores[q, n, k] - np.delete(scores[q], n, axis=0).mean()
            thought[q, n] += ahead / (thoughts * answers)
        if thoughts * answers > 1:
            others = np.delete(scores[q].ravel(), n * answers + k).mean()
            answer[q, n, k] = (scores[q, n, k] - others) / (thoughts * answers)
    credit, scale = group(scores, normalise=False), np.abs(scores).max()
    assert_allclose(credit.thought_QN, thought, atol=1e-11 * scale)
    assert_allclose(credit.answer_QNK, answer, atol=1e-11 * scale)


@pytest.mark.parametrize("rule", [advantage, group])
@pytest.mark.parametrize(("n", "k"), [(2, 2), (3, 2), (2, 3), (2, 1), (1, 2)])
def test_advantage_and_group_are_the_policy_gradient(n: int, k: int, rule: Rule) -> None:
    """Every outcome of n thoughts with k answers each, weighed by its probability: nothing is left to chance."""
    thoughts, answers = 3, 2
    rng = np.random.default_rng(0)
    reward_MA = rng.normal(size=(thoughts, answers))
    shoggoth_M = softmax(rng.normal(size=thoughts))
    face_MA = softmax(rng.normal(size=(thoughts, answers)))

    # A branch is a thought with its k answers; an outcome is n branches, and stands as a question of its own.
    branches = [(m, *a) for m in range(thoughts) for a in product(range(answers), repeat=k)]
    outcomes = np.array(list(product(branches, repeat=n)))
    thought_QN, answer_QNK = outcomes[..., 0], outcomes[..., 1:]
    chance_Q = shoggoth_M[thought_QN].prod(1) * face_MA[thought_QN[..., None], answer_QNK].prod((1, 2))
    assert_allclose(chance_Q.sum(), 1)

    credit = rule(reward_MA[thought_QN[..., None], answer_QNK], normalise=False)
    # The gradient of log softmax in the logits is the sampled one less the probabilities.
    score_QNM = np.eye(thoughts)[thought_QN] - shoggoth_M
    estimate_M = np.einsum("q,qn,qnm->m", chance_Q, credit.thought_QN, score_QNM)
    score_QNKA = np.eye(answers)[answer_QNK] - face_MA[thought_QN][:, :, None]
    per_sample_QNA = np.einsum("q,qnk,qnka->qna", chance_Q, credit.answer_QNK, score_QNKA)
    estimate_MA = np.zeros((thoughts, answers))
    np.add.at(estimate_MA, thought_QN, per_sample_QNA)

    value_M = (face_MA * reward_MA).sum(1)
    exact_M = shoggoth_M * (value_M - shoggoth_M @ value_M)
    exact_MA = shoggoth_M[:, None] * face_MA * (reward_MA - value_M[:, None])
    assert_allclose(estimate_M, exact_M if n > 1 else 0, atol=1e-12)
    assert_allclose(estimate_MA, exact_MA if k > 1 or rule is group else 0, atol=1e-12)


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def test_scores_are_left_alone() -> None:
    scores = np.array(EXAMPLE, dtype=np.float32)
    before = scores.copy()
    for rule in RULES.values():
        credit = rule(scores)
        assert credit.thought_QN.dtype == credit.answer_QNK.dtype == np.float64
    assert_array_equal(scores, before)


# Rules of one's own: see also test_samples.py.


def test_apply_is_the_rule_itself_for_a_right_one() -> None:
    scores = np.random.default_rng(0).random((2, 3, 4))
    given, plain = apply(denoised, scores, {"top": 2}), denoised(scores, top=2)
    assert np.array_equal(given.thought_QN, plain.thought_QN) and np.array_equal(given.answer_QNK, plain.answer_QNK)
    as_lists = Credit(plain.thought_QN.tolist(), plain.answer_QNK.astype(np.float32))  # type: ignore[arg-type]
    given = apply(lambda scores: as_lists, scores, {})
    assert given.thought_QN.dtype == given.answer_QNK.dtype == np.float64


def test_apply_lets_an_interrupt_through() -> None:
    def interrupted(scores: np.ndarray) -> Credit:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply(interrupted, np.zeros((1, 2, 2)), {})


def test_apply_names_what_a_built_in_rule_refuses() -> None:
    with pytest.raises(RuleError, match="raised ValueError: keep: 2 is no fraction"):
        apply(basic, np.zeros((1, 2, 2)), {"keep": 2})


def test_a_rule_that_raises_what_cannot_even_be_shown() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    def rule(scores_QNK: np.ndarray) -> Credit:
        raise Mute

    with pytest.raises(RuleError, match="raised Mute: it cannot be shown"):
        apply(rule, np.ones((1, 2, 2)), {})
