"""Intervals of rates and of means."""

import json
import math
import pickle

import numpy as np
import pytest

from clew.runs.intervals import Ratio, Tally, figures_in, is_rate, merged, ranges_of, student, wilson


def test_wilson_against_published_values() -> None:
    low, high = wilson(15, 20)  # 0.531 to 0.888: Newcombe 1998's method 3
    assert low == pytest.approx(0.5313, abs=1e-3) and high == pytest.approx(0.8881, abs=1e-3)
    assert wilson(0, 10)[0] == 0 and wilson(10, 10)[1] == 1
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_truth_is_a_rate_and_a_number_a_mean() -> None:
    tally = Tally()
    for i in range(20):
        tally.add({"exact": i < 15, "optimal": np.bool_(i < 15), "score": float(i < 15), "steps": i})
    report = tally.report()
    assert report["questions"] == 20
    for name in ("exact", "optimal"):
        assert (report[name]["low"], report[name]["high"]) == wilson(15, 20)
    values = np.array([1.0] * 15 + [0.0] * 5)
    half = student(19) * values.std(ddof=1) / math.sqrt(20)
    assert report["score"] == pytest.approx({"value": 0.75, "low": 0.75 - half, "high": 0.75 + half})
    assert report["steps"]["value"] == 9.5


def test_the_interval_of_a_mean_holds_the_truth_as_often_as_it_says() -> None:
    dice = np.random.default_rng(0)
    for n in (2, 10, 60):
        held = 0
        for values in dice.normal(0.3, 1, (2000, n)):
            tally = Tally()
            for value in values:
                tally.add({"score": float(value)})
            found = tally.report()["score"]
            held += found["low"] <= 0.3 <= found["high"]
        assert held / 2000 == pytest.approx(0.95, abs=0.015)  # three deviations


def test_a_figure_that_is_once_a_number_is_a_mean() -> None:
    tally = Tally()
    for value in (True, 0.5, False):
        tally.add({"score": value})
    found = tally.report()["score"]
    assert found["value"] == 0.5 and found["high"] - 0.5 == pytest.approx(0.5 - found["low"])


def test_a_figure_is_reported_over_those_that_have_it() -> None:
    tally = Tally()
    tally.add({"exact": True, "steps": 4})
    tally.add({"exact": True})
    tally.add({"exact": False})
    report = tally.report()
    assert report["questions"] == 3 and report["steps"]["value"] == 4
    assert (report["exact"]["low"], report["exact"]["high"]) == wilson(2, 3)


def test_figures_stand_in_their_order_whichever_question_first_has_one() -> None:
    tally = Tally()
    for names in ("ad", "abd", "bcde", "x", "de"):
        tally.add(dict.fromkeys(names, True))
    assert list(figures_in(tally.report())) == ["x", *"abcde"]


def test_nothing_asked() -> None:
    assert Tally().report() == {"questions": 0}


def test_figures_are_told_from_groups_whatever_those_are_called() -> None:
    total = Tally()
    total.add({"right": True, "length": 2})
    report = total.report()
    groups = {"by_height": {"low": report, "value": report}, "not_evaluated": "low", "baseline": report}
    assert list(figures_in(report | groups)) == ["right", "length"]


def pooled(ratios: list[tuple[int, int]]) -> dict[str, float]:
    tally = Tally()
    for part, of in ratios:
        tally.add({"right": Ratio(part, of)})
    return tally.report()["right"]


def test_a_ratio_is_a_number_that_keeps_what_it_is_of() -> None:
    ratio = Ratio(1, 4)
    assert ratio == 0.25 and json.dumps({"right": ratio}) == '{"right": 0.25}'
    sent = pickle.loads(pickle.dumps(ratio))
    assert type(sent) is Ratio and (sent.part, sent.of) == (1, 4)


def test_things_of_ratios_are_pooled() -> None:
    """With Wilson's interval for as many as are independent: all, or the questions alone."""
    assert pooled([(1, 2), (4, 4), (0, 1)])["value"] == 5 / 7
    one_each, as_one = [(1, 1)] * 15 + [(0, 1)] * 5, [(3, 3)] * 15 + [(0, 3)] * 5
    for ratios in (one_each, as_one):
        found = pooled(ratios)
        assert (found["low"], found["high"]) == pytest.approx(wilson(15, 20)) and found["value"] == 0.75
    assert (pooled([(3, 3)] * 20)["low"], pooled([(0, 3)] * 20)["high"]) == (wilson(20, 20)[0], wilson(0, 20)[1])
    alike = pooled([(1, 2)] * 20)  # no question tells more than another
    assert (alike["low"], alike["high"]) == pytest.approx(wilson(10, 20))
    assert is_rate(pooled(one_each), 20) and not is_rate(pooled([(1, 2), (4, 4), (0, 1)]), 3)
    tally = Tally()
    tally.add({"right": Ratio(1, 2), "exact": True})
    tally.add({"exact": False})
    assert tally.report()["right"] == pooled([(1, 2)])


def walkers(dice: np.random.Generator, alike: float, n: int = 150) -> list[tuple[int, int]]:
    """Right steps of those taken by walkers that stop at their first wrong one; a walker's steps are more or less
    alike."""
    found = []
    for p, most in zip(dice.beta(0.8 * alike, 0.2 * alike, n), dice.integers(1, 6, n).tolist(), strict=True):
        wrong = np.flatnonzero(dice.random(most) >= p).tolist()
        found.append((wrong[0], wrong[0] + 1) if wrong else (most, most))
    return found


@pytest.mark.parametrize("alike", [1, 5, 1000])
def test_the_interval_of_a_ratio_holds_the_truth_as_often_as_it_says(alike: float) -> None:
    dice = np.random.default_rng(0)
    part, of = np.sum(walkers(dice, alike, 100_000), 0).tolist()
    found = [pooled(walkers(dice, alike)) for _ in range(300)]
    held = np.mean([one["low"] <= part / of <= one["high"] for one in found])
    assert 0.91 < held < 0.99  # three deviations


def test_many_numbers_become_ranges_as_wide() -> None:
    names = [str(n) for n in (1, 2, 3, 4, 6, 7)]
    assert ranges_of(names, 6) == {name: name for name in names}
    wide = {"1": "1-3", "2": "1-3", "3": "1-3", "4": "4-6", "6": "4-6", "7": "7"}
    assert ranges_of(names, 3) == wide
    assert ranges_of(names, 2) == {name: "1-4" if name in "1234" else "5-7" for name in names}
    for others in (["a", *names], ["-1", *names], ["1.5", *names], ["9" * 5000, *names], []):
        assert ranges_of(others, 3) == {name: name for name in others}


def test_groups_are_put_together_by_their_counts() -> None:
    groups = {}
    for name, n, good in (("1", 20, 15), ("2", 5, 1), ("3", 7, 7)):
        tally = Tally()
        for i in range(n):
            tally.add({"exact": i < good, "length": 2.0 + i} | ({"late": True} if i else {}))
        groups[name] = tally.report()
    found = merged(groups, {"1": "1-2", "2": "1-2", "3": "3"})
    low, high = wilson(16, 25)
    assert found == {"1-2": {"questions": 25, "exact": {"value": 0.64, "low": low, "high": high}}, "3": groups["3"]}
    assert merged({"2": groups["2"]}, {"1": "1-2", "2": "1-2"}) == {"1-2": groups["2"]}


def test_student_against_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for degrees in (*range(1, 40), 100, 10_000):
        assert student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=3e-4)
