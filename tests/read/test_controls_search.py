"""Readings of how a model searches, on models whose answer is known: see `controls.py`."""

from functools import cache

import numpy as np
import pytest

from clew.mazes import MazeStream
from clew.mazes.pairs import PairBatch, PairStream
from clew.read.activations import maze_sequences
from clew.read.arrival import arrivals
from clew.read.depth import removals_of, remove
from clew.read.knockout import Cut, knock_out
from clew.read.lens import look
from clew.read.patching import Head
from read.controls import GAIN, LAYERS, TOKENIZER, Walker, adjacent_pairs, walker

FOUR = ((4, 4),)
near = cache(adjacent_pairs)
walking = cache(walker)


@cache
def far(kind: str, count: int = 40) -> PairBatch:
    return PairStream(kind, FOUR).batch(range(count), TOKENIZER)  # type: ignore[arg-type]


@pytest.mark.parametrize("planted", [(1, 0), (2, 1)])
def test_the_lens_and_arrival_find_the_layer_that_looks_up(planted: Head) -> None:
    reader, batch = walking(planted).policy, near(40)
    found = look(reader, batch)
    assert np.abs(found.metric_LP[: planted[0] + 1]).max() < 0.01
    assert (found.metric_LP[planted[0] + 1 :] > GAIN / 4 - 0.01).all() and found.metric_LP.shape[0] == 1 + LAYERS
    (fork,) = arrivals(reader, batch, by={"one": np.ones(40, np.int64)}, draws=40)
    assert fork.arrival_G[0] == pytest.approx((planted[0] + 0.5,) * 3, abs=0.01)
    assert [round(value, 2) for value, _, _ in fork.effect_GL[0]] == [depth > planted[0] for depth in range(1 + LAYERS)]


def test_the_lens_sees_nothing_of_what_is_far_away() -> None:
    for kind in ("passage", "target"):
        assert np.abs(look(walking().policy, far(kind)).metric_LP).max() < 0.002


def test_cuts_cost_where_the_passages_of_the_fork_are_read_and_nowhere_else() -> None:
    """At its edges' two cells, steps 0 and 1 from it: layer 0 joins these, within an edge, and layer 1 reads them."""
    ways = [(way, distance) for way in ("inward", "outward", "within", "behind", "fork") for distance in (0, 1, 2)]
    cuts = [Cut(way, "current", distance, (layer,)) for way, distance in ways for layer in range(LAYERS)]  # type: ignore[arg-type]
    batch = near(24)
    found = knock_out(walking().policy, batch, cuts)
    moved = {}
    for number, cut in enumerate(cuts):
        some_P = found.count_CP[number] > 0
        moved[cut.way, cut.distance, cut.layers[0]] = np.abs(found.cut_CP[number] - found.clean_P)[some_P].mean()
    expected = {("within", 0, 0)} | {(way, distance, 1) for way in ("behind", "fork") for distance in (0, 1)}
    assert {cut for cut, shift in moved.items() if shift > 0.3} == expected
    assert max(shift for cut, shift in moved.items() if cut not in expected) < 0.01


def test_layers_that_do_nothing_cost_nothing() -> None:
    rows = list(maze_sequences(MazeStream(FOUR, held_out=True), range(40), TOKENIZER))
    by_hand: Walker = walking()
    assert all(layer < 2 for layer, _ in by_hand.heads.values())
    removals = removals_of(by_hand.policy.model)
    found = remove(by_hand.policy, rows, removals)
    assert 0.2 < found.exact_Q.mean() < 0.8 and 0.3 < found.right_Q.sum() / found.forks_Q.sum() < 0.7
    for number, one in enumerate(removals):
        if one.part == "mlp" or one.layer == 2:
            assert (found.right_CQ[number] == found.right_Q).all() and (found.exact_CQ[number] == found.exact_Q).all()
            lost, low, high = found.figures(number)["exact_lost"]
            assert lost == 0 and low < 0 < high
        else:
            assert found.exact_CQ[number].mean() < 0.05, one
