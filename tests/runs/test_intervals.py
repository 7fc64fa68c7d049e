"""Intervals of rates and of means."""

import math

import numpy as np
import pytest

from clew.runs.intervals import Z95, Tally, figures_in, wilson


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
    half = Z95 * values.std(ddof=1) / math.sqrt(20)
    assert report["score"] == pytest.approx({"value": 0.75, "low": 0.75 - half, "high": 0.75 + half})
    assert report["steps"]["value"] == 9.5


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


def test_nothing_asked() -> None:
    assert Tally().report() == {"questions": 0}


def test_figures_are_told_from_groups_whatever_those_are_called() -> None:
    total = Tally()
    total.add({"right": True, "length": 2})
    report = total.report()
    groups = {"by_height": {"low": report, "value": report}, "not_evaluated": "low", "baseline": report}
    assert list(figures_in(report | groups)) == ["right", "length"]
