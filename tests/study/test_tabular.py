"""The tabular world against brute force, and its learning against plain loops."""

from dataclasses import replace

import numpy as np
import pytest

from clew import credit
from clew.errors import InputError
from clew.study import tabular
from clew.study.tabular import Cell, World

SMALL = World(questions=2, thoughts=5, answers=4)


def test_expected_scores_equal_enumeration_and_monte_carlo() -> None:
    rng = np.random.default_rng(0)
    scores, shoggoth, face = tabular.tables(SMALL, 3, rng)
    exact = tabular.expected_scores(scores, shoggoth, face)
    by_hand = np.zeros_like(exact)
    for r, q, m, a in np.ndindex(scores.shape):
        thought = np.exp(shoggoth[r, q, m]) / np.exp(shoggoth[r, q]).sum()
        answer = np.exp(face[r, q, m, a]) / np.exp(face[r, q, m]).sum()
        by_hand[r, q] += thought * answer * scores[r, q, m, a]
    np.testing.assert_allclose(exact, by_hand, rtol=1e-12)
    thoughts = tabular.draw(tabular.softmax(shoggoth), 40_000, rng)
    r, q = np.arange(3)[:, None, None], np.arange(2)[None, :, None]
    answers = tabular.draw(tabular.softmax(face)[r, q, thoughts], 1, rng)[..., 0]
    sampled = scores[r, q, thoughts, answers]
    assert np.all(np.abs(sampled.mean(-1) - exact) < 5 * sampled.std(-1) / 200)


def test_components_equal_those_of_many_samples() -> None:
    from clew.train.plan import variance_components

    rng = np.random.default_rng(0)
    world = replace(SMALL, questions=4)
    scores, shoggoth, face = tabular.tables(world, 200, rng)
    thoughts = tabular.draw(tabular.softmax(shoggoth), 30, rng)
    r, q = np.arange(200)[:, None, None], np.arange(4)[None, :, None]
    answers = tabular.draw(tabular.softmax(face)[r, q, thoughts], 20, rng)
    seen = scores[r[..., None], q[..., None], thoughts[..., None], answers]
    seen = seen + world.grader_noise * rng.standard_normal(seen.shape)
    sampled = variance_components(seen.reshape(-1, 30, 20))
    exact = tabular.components(world)
    assert sampled.thought == pytest.approx(exact.thought, rel=0.05)
    assert sampled.answer == pytest.approx(exact.answer, rel=0.05)


@pytest.mark.parametrize("rule", [("basic", {"keep": 0.25}), ("denoised", {"answers": "kept"}), ("advantage", {})])
def test_a_round_equals_plain_loops(rule: tuple[str, dict]) -> None:
    """The same dice, then one sample at a time: the gradient of sum(weight * log p) for two softmaxes."""
    cell = Cell(SMALL, rule[0], rule[1], answers=3, thought_cost=1.0, round_cost=16.0, lr=0.7)
    scores, shoggoth, face = tabular.tables(SMALL, 2, np.random.default_rng(1))
    moved = shoggoth.copy(), face.copy()
    tabular.learn_round(cell, scores, *moved, np.random.default_rng(2))

    dice, n = np.random.default_rng(2), cell.thoughts()
    thoughts = tabular.draw(tabular.softmax(shoggoth).reshape(4, -1), n, dice)
    flat = tabular.softmax(face).reshape(4, 5, 4)
    answers = tabular.draw(flat[np.arange(4)[:, None], thoughts], 3, dice)
    noise = dice.standard_normal(answers.shape)
    for g in range(4):
        own = scores.reshape(4, 5, 4)[g]
        drawn = [[own[thoughts[g, i], answers[g, i, j]] for j in range(3)] for i in range(n)]
        seen = np.array(drawn) + 0.1 * noise[g]
        given = tabular.RULES[cell.rule](seen[None], **cell.options)
        r, q = divmod(g, 2)
        for i in range(n):
            m = thoughts[g, i]
            gradient = -tabular.softmax(shoggoth[r, q])
            gradient[m] += 1
            moved[0][r, q] -= 0.7 * given.thought_QN[0, i] * gradient
            for j in range(3):
                gradient = -tabular.softmax(face[r, q, m])
                gradient[answers[g, i, j]] += 1
                moved[1][r, q, m] -= 0.7 * given.answer_QNK[0, i, j] * gradient
    np.testing.assert_allclose(moved[0], shoggoth, atol=1e-12)
    np.testing.assert_allclose(moved[1], face, atol=1e-12)


def test_batch_scope_is_the_rule_s_own_for_each_replica() -> None:
    seen = np.random.default_rng(0).random((6, 4, 3))  # two replicas of three questions
    cell = Cell(SMALL, "basic", {"keep": 0.25, "scope": "batch"})
    thought, answer = tabular.weights(cell, seen, 3)
    for r in range(2):
        own = credit.basic(seen[3 * r : 3 * r + 3], keep=0.25, scope="batch")
        np.testing.assert_allclose(thought[3 * r : 3 * r + 3], 3 * own.thought_QN)
        np.testing.assert_allclose(answer[3 * r : 3 * r + 3], 3 * own.answer_QNK)


def test_training_gains_and_repeats() -> None:
    cell = Cell(SMALL, "denoised", {"answers": "kept"}, replicas=30, lr=2.0, total_cost=640.0)
    first, again = tabular.run(cell), tabular.run(cell)
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    assert first["gained"].mean() > 0.5 and first["curve"].shape == (30, tabular.POINTS)
    assert np.all(first["curve"][:, 0] == 0) and np.all(first["gained"] <= 1)
    assert np.all(first["fall"] >= 0) and np.all(first["cost_90"] <= 1)


def test_what_a_price_buys() -> None:
    for k, cost in ((1, 4.0), (8, 4.0), (4, 16.0)):
        cell = Cell(answers=k, thought_cost=cost, round_cost=96.0, total_cost=960.0)
        spent = cell.rounds() * cell.thoughts() * (cost + k)
        assert 0.8 * 960 <= spent <= 960


def test_cells_as_json() -> None:
    cell = Cell(SMALL, "basic", {"keep": 0.5}, seed=3)
    assert tabular.from_json(tabular.as_json(cell)) == cell
    with pytest.raises(InputError, match="rule: 'best' is not one of basic"):
        tabular.run(replace(cell, rule="best"))
