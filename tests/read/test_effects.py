"""Intervals of differences of rates: they have a width where all is alike, and hold as often as they say."""

import numpy as np
import pytest

from clew.read.effects import difference


def test_what_is_all_alike_has_an_interval_all_the_same() -> None:
    for n in (10, 40, 400):
        for all_of in (np.zeros(n), np.ones(n)):
            value, low, high = difference(all_of, all_of)
            assert value == 0 and low == pytest.approx(-high) and 1 / n < high < 4 / n
    value, low, high = difference(np.ones(20), np.zeros(20))
    assert value == 1 and 0.7 < low < 1 and high == 1


def test_pairs_that_go_together_tell_more() -> None:
    rng = np.random.default_rng(0)
    first_P = rng.random(200) < 0.6
    other_P = first_P ^ (rng.random(200) < 0.05)
    (value, low, high), (same, wider, widest) = difference(first_P, other_P), difference(first_P, other_P, paired=False)
    assert value == same and wider < low < value < high < widest
    swapped = difference(other_P, first_P)
    assert swapped == pytest.approx((-value, -high, -low))


@pytest.mark.parametrize("together", [0.0, 0.8])
def test_it_holds_as_often_as_it_says(together: float) -> None:
    """Two rates of 0.9 and 0.8 in 60 pairs, apart and going together."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(1000):
        drawn_2P = rng.random((2, 60))
        drawn_2P[1] = np.where(rng.random(60) < together, drawn_2P[0], drawn_2P[1])
        _, low, high = difference(drawn_2P[0] < 0.9, drawn_2P[1] < 0.8)
        held += low <= 0.1 <= high
    assert 0.93 < held / 1000 < 0.985


def test_a_share_of_draws_may_stand_for_one_of_both() -> None:
    rng = np.random.default_rng(2)
    hits_P, shares_P = rng.random(50) < 0.7, rng.integers(0, 4, 50) / 3
    value, low, high = difference(hits_P, shares_P)
    assert value == pytest.approx(hits_P.mean() - shares_P.mean()) and low < value < high
