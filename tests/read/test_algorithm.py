"""The verdict: what follows from evidence, growth of a known shape, and models whose algorithm is known."""

from typing import Any

import numpy as np
import pytest

from clew.mazes import maze_tokenizer
from clew.mazes.pairs import PairBatch, PairStream
from clew.read.algorithm import (
    Evidence,
    as_the_crow_flies,
    cuts_of,
    judge,
    of_arrival,
    of_hops,
    of_knockouts,
    of_lens,
    which_algorithm,
)
from clew.read.arrival import arrived
from clew.read.effects import Effects
from clew.read.hops import Hops, growth
from clew.read.knockout import Knockouts
from clew.read.lens import Lens
from read.controls import walker

DISTANCES = np.repeat(np.arange(1, 9), 60)
BOTH = ("chaining", "path merging")


def effects(depth_P: np.ndarray, layers: int = 12) -> Effects:
    """All is known of each pair from some depth on, and nothing before."""
    dice = np.random.default_rng(0)
    clean_P = dice.normal(3, 0.3, len(depth_P))
    known_LP = np.arange(layers + 1)[:, None] >= depth_P + dice.normal(0, 0.3, len(depth_P))
    patched_LP = np.where(known_LP, clean_P, -clean_P)
    return Effects([{}] * (layers + 1), clean_P, -clean_P, {"denoising": patched_LP})


def evidence(depth_P: np.ndarray, layers: int = 12, by: str = "lookahead") -> Evidence:
    return of_arrival(arrived(effects(depth_P, layers), by, DISTANCES, draws=100))


def test_growth_of_a_known_shape_is_told() -> None:
    linear, doubling = evidence(1.2 * DISTANCES), evidence(1 + 3 * np.log2(DISTANCES))
    assert linear.supports == ("chaining",) and linear.against == ("path merging",)
    assert doubling.supports == ("path merging",) and doubling.against == ("chaining",)


def test_what_does_not_grow_speaks_against_both_and_what_is_known_in_the_end_alone_against_none() -> None:
    flat = np.full(len(DISTANCES), 2.5)
    assert (evidence(flat).supports, evidence(flat).against) == ((), BOTH)
    assert evidence(flat, by="farther").against == ()
    assert evidence(np.full(len(DISTANCES), 11.5)).against == ()


def test_what_mostly_arrives_in_the_last_layer_has_no_shape() -> None:
    found = evidence(np.minimum(1.2 * DISTANCES, 3.8), layers=4)
    assert found.supports == BOTH and found.against == ()


def test_the_lens_is_read_as_arrivals_are() -> None:
    metric_LP = np.where(np.arange(13)[:, None] >= 1.2 * DISTANCES, 1.0, np.tile([-1.0, 1.0], len(DISTANCES) // 2))
    found = of_lens(Lens(metric_LP, metric_LP > 0, metric_LP, metric_LP > 0, DISTANCES))
    assert found.reading == "logit lens" and "chaining" in found.supports


@pytest.mark.parametrize("moves", [True, False])
def test_knock_outs_that_move_on_with_distance(moves: bool) -> None:
    layers, pairs = 8, 40
    cuts, dice = cuts_of(layers), np.random.default_rng(1)
    clean_P = dice.normal(4, 0.2, pairs)
    hit_C = np.array([cut.layers[0] == (cut.distance if moves else 3) for cut in cuts])
    cut_CP = np.where(hit_C[:, None], 0.0, clean_P) + dice.normal(0, 0.05, (len(cuts), pairs))
    random_CP = clean_P + dice.normal(0, 0.5, cut_CP.shape)
    found = Knockouts(cuts, clean_P, -clean_P, np.ones(cut_CP.shape, np.int64), cut_CP, random_CP)
    assert of_knockouts(found).supports == (BOTH if moves else ())


def known(hops_L: list[int], most: int) -> Hops:
    layers = tuple(range(len(hops_L)))
    fits: Any = {end: growth(hops_L, layers, most) for end in ("target", "current")}
    hops = np.array(hops_L)
    return Hops("next_hop", "resid_post", layers, hops, hops, {"target": most, "current": most}, {}, fits)


def test_hops_of_probes() -> None:
    assert of_hops("fork", known([1, 2, 3, 4, 5, 6], 12)).supports == ("chaining",)
    assert of_hops("fork", known([1, 2, 4, 8, 16], 40)).supports == ("path merging",)
    assert of_hops("fork", known([1, 1, 0, 1], 12)).supports == ()
    assert of_hops("fork", known([3, 3, 3, 3, 3], 12)).supports == ()


def test_verdicts() -> None:
    ahead = Evidence("behaviour", "", against=("heuristic",))
    either, one = Evidence("a", "", supports=BOTH), Evidence("b", "", ("chaining",), ("path merging",))
    assert judge([Evidence("behaviour", "", ("heuristic",), BOTH), either, either]).name.startswith("a heuristic")
    assert judge([ahead, either, one]).name == "chaining"
    assert judge([ahead, either, either]).name.startswith("chaining or path merging")
    for some in ([ahead], [ahead, either], [ahead, either, either, Evidence("c", "", against=BOTH)]):
        assert judge(some).name == "none of these"
    assert judge([Evidence("behaviour", "too few"), Evidence("lens", "")]).name == "too few pairs to tell"
    rows = judge([ahead, one]).table().to_pylist()
    assert len(rows) == 6 and [row["speaks"] for row in rows[3:]] == ["for", "against", "not"]


def test_the_branch_nearer_as_the_crow_flies_by_hand() -> None:
    tokenizer = maze_tokenizer(4)
    pairs = PairStream(sizes=((4, 4),)).batch(range(40), tokenizer)
    policy: Any = type("Named", (), {"tokenizer": tokenizer})
    for number, found in enumerate(as_the_crow_flies(policy, pairs)):
        pair, chance = PairStream(sizes=((4, 4),)).pair(number), 1.0
        for target, right, wrong in (
            (pair.clean.target, pair.right, pair.wrong),
            (pair.corrupt.target, pair.wrong, pair.right),
        ):
            near, far = (sum(abs(a - b) for a, b in zip(cell, target, strict=True)) for cell in (right, wrong))
            chance *= 1.0 if near < far else 0.5 if near == far else 0.0
        assert found == chance


def test_a_model_that_looks_up_the_next_passage_does_not_look_ahead() -> None:
    policy = walker().policy
    pairs: list[PairBatch] = [
        PairStream(kind, sizes=((4, 4),)).batch(range(150), policy.tokenizer) for kind in ("target", "passage")
    ]
    some = np.zeros((4, 150))
    lens = Lens(some, some > 0, some, some > 0, pairs[0].lookahead_P)
    none = Knockouts([], some[0], some[0], np.zeros((0, 150), np.int64), some[:0], some[:0])
    verdict, found = which_algorithm(policy, pairs[0], pairs[1], lens, none)
    assert verdict.name == "a heuristic: it does not look ahead" and len(found) == 2
    assert "heuristic" in verdict.evidence[0].supports and "right for both targets 0%" in verdict.evidence[0].says
