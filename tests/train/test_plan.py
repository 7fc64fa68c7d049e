"""Variance components against planted ones, and the plan against a search over all that a budget buys."""

import json
from pathlib import Path

import numpy as np
import pytest

from clew.errors import InputError
from clew.train.plan import Components, best_allocation, measured_run, variance_components


def planted(q: int, n: int, k: int, sd: tuple[float, float, float], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, sd[0], (q, 1, 1)) + rng.normal(0, sd[1], (q, n, 1)) + rng.normal(0, sd[2], (q, n, k))


def test_planted_components_are_found() -> None:
    parts = variance_components(planted(4000, 4, 3, (0.5, 1.0, 2.0)))
    assert parts.question == pytest.approx(0.25, abs=0.1)
    assert parts.thought == pytest.approx(1.0, abs=0.1)
    assert parts.answer == pytest.approx(4.0, abs=0.1)
    assert parts.reliability(3) == pytest.approx(1 / (1 + 4 / 3), abs=0.05)


def test_unsampled_answers_do_not_bias() -> None:
    scores = planted(6000, 4, 4, (0.5, 1.0, 1.0))
    scores[np.random.default_rng(1).random(scores.shape) < 0.3] = np.nan
    parts = variance_components(scores)
    assert parts.thought == pytest.approx(1.0, abs=0.1) and parts.answer == pytest.approx(1.0, abs=0.05)
    assert parts.question == pytest.approx(0.25, abs=0.08)


def test_degenerate_scores() -> None:
    assert variance_components(np.ones((3, 2, 2))) == Components(0, 0, 0)
    assert variance_components(np.full((2, 2, 2), np.nan)) == Components(0, 0, 0)
    one_answer = variance_components(planted(2000, 5, 1, (0, 1, 1)))
    assert one_answer.answer == 0 and one_answer.thought == pytest.approx(2, abs=0.2)
    assert Components(0, 0, 0).reliability(4) == 0


@pytest.mark.parametrize("costs", [(10, 1), (30, 10), (5, 20)])
@pytest.mark.parametrize("answer_variance", [0.3, 1.0, 9.0])
def test_plan_is_as_good_as_the_best_of_all(costs: tuple[float, float], answer_variance: float) -> None:
    """Two-stage sampling minimises the variance of the overall mean: (thought + answer / k) / n."""
    parts, budget = Components(0.0, 1.0, answer_variance), 4000.0
    n, k = best_allocation(parts, *costs, budget)
    assert n * (costs[0] + k * costs[1]) <= budget

    def variance(n: float, k: int) -> float:
        return (parts.thought + parts.answer / k) / n

    best = min(variance(budget / (costs[0] + k * costs[1]), k) for k in range(1, 65))
    assert variance(n, k) <= 1.05 * best


def test_plan_where_thoughts_do_not_differ_or_answers_do_not() -> None:
    assert best_allocation(Components(0, 0, 1), 10, 1, 100)[0] == 2
    assert best_allocation(Components(0, 1, 0), 10, 1, 110) == (10, 1)
    with pytest.raises(ValueError, match="not all more than 0"):
        best_allocation(Components(0, 1, 1), 0, 1, 10)


def test_a_run_is_measured_by_its_last_rounds(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no rounds of a split to measure .*none has ended yet"):
        measured_run(tmp_path, 2)
    names = ("var_questions", "var_thoughts", "var_answers", "thought_cost", "answer_tokens")
    lines = [json.dumps({"step": step, "n": 4, "k": 2, **dict.fromkeys(names, step)}) for step in range(4)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 4, "var_qu']))  # a kill tore the last one
    parts, costs = measured_run(tmp_path, 2)
    assert parts == Components(2.5, 2.5, 2.5) and costs == (2.5, 2.5, 4 * (2.5 + 2 * 2.5))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}')
    with pytest.raises(InputError, match="holds no rounds of a split to measure"):
        measured_run(tmp_path, 2)
