"""The verdict: tables of each account and near misses of them, and models whose algorithm is known."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from clew.mazes import maze_tokenizer
from clew.mazes.pairs import PairBatch, PairStream
from clew.policy import Policy
from clew.read.algorithm import EITHER, FEW, HEURISTIC, NONE, judge, which_algorithm
from clew.read.arrival import arrived
from clew.read.cases import random_twin
from clew.read.effects import Effects
from clew.read.evidence import (
    ACCOUNTS,
    SEARCHES,
    Evidence,
    as_the_crow_flies,
    behaviour,
    cuts_of,
    moved,
    of_arrival,
    of_hops,
    of_knockouts,
    of_lens,
    of_sight,
    of_steps,
)
from clew.read.hops import Hops, growth
from clew.read.knockout import Knockouts, knock_out
from clew.read.lens import Lens, look
from read.controls import TOKENIZER, compass, corridor, walker

DISTANCES = np.repeat(np.arange(1, 9), 60)
LAYERS, PAIRS = 12, 40
AHEAD = Evidence("behaviour", "two targets", "", against=("heuristic",))
BLIND = Evidence("behaviour", "two targets", "", ("heuristic",), SEARCHES)
By = Callable[[Any], Any]


def linear(distance: Any) -> Any:
    return 1.2 * distance


def logarithm(distance: Any) -> Any:
    return 1 + 3 * np.log2(distance)


def level(distance: Any) -> Any:
    return 2.5 + 0 * distance


def arrival(by: By, layers: int = LAYERS, distance: str = "lookahead") -> Evidence:
    """All is known of each pair from some depth on, and nothing before."""
    dice = np.random.default_rng(0)
    clean_P = dice.normal(3, 0.3, len(DISTANCES))
    known_LP = np.arange(layers + 1)[:, None] >= by(DISTANCES) + dice.normal(0, 0.3, len(DISTANCES))
    patched_LP = np.where(known_LP, clean_P, -clean_P)
    effects = Effects([{}] * (layers + 1), clean_P, -clean_P, {"denoising": patched_LP})
    return of_arrival(arrived(effects, distance, DISTANCES, draws=100))


def lens(by: By) -> Evidence:
    luck_P = np.tile([-1.0, 1.0], len(DISTANCES) // 2)
    metric_LP = np.where(np.arange(LAYERS + 1)[:, None] >= by(DISTANCES), 1.0, luck_P)
    return of_lens(Lens(metric_LP, metric_LP > 0, metric_LP, metric_LP > 0, DISTANCES))


def knockouts(by: By, layers: int = LAYERS, sight: bool = True) -> Knockouts:
    """Passages whose far end is so many steps away, from either end, are read in one layer and no other."""
    cuts, dice = cuts_of(layers), np.random.default_rng(1)
    clean_P = dice.normal(4, 0.2, PAIRS)
    at_C = np.array([round(float(by(cut.distance + 1))) for cut in cuts])
    hit_C = np.array([at in cut.layers and sight for at, cut in zip(at_C, cuts, strict=True)])
    cut_CP = np.where(hit_C[:, None], dice.normal(0, 1, (len(cuts), PAIRS)), clean_P)
    random_CP = clean_P + dice.normal(0, 0.5, cut_CP.shape)
    return Knockouts(cuts, clean_P, -clean_P, np.ones(cut_CP.shape, np.int64), cut_CP, random_CP)


def probed(hops_L: list[int], most: int = 99) -> Evidence:
    layers = tuple(range(len(hops_L)))
    fits: Any = {end: growth(hops_L, layers, most) for end in ("target", "current")}
    hops, none = np.array(hops_L), np.zeros(len(hops_L), np.int64)
    return of_hops(
        "fork", Hops("next_hop", "resid_post", layers, hops, none, {"target": most, "current": most}, {}, fits)
    )


def all_of(by: By, hops_L: list[int]) -> list[Evidence]:
    """What every instrument would have of one account."""
    cut = knockouts(by)
    return [AHEAD, arrival(by), of_sight(cut), of_knockouts(cut), lens(by), probed(hops_L)]


CHAIN, DOUBLE = [1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize(
    ("by", "hops_L", "name", "other"), [(linear, CHAIN, *SEARCHES), (logarithm, DOUBLE, *SEARCHES[::-1])]
)
def test_a_search_is_told_by_its_tables_and_only_by_enough_of_them(by: By, hops_L: Any, name: str, other: str) -> None:
    ahead, patched, sight, cut, told, hops = found = all_of(by, hops_L)
    for one in (patched, cut, told, hops):
        assert one.supports == (name,) and other in one.against and not set(one.supports) & set(one.against), one
    verdict = judge(found)
    assert verdict.name == name and "patching, knock-outs, logit lens and probes agree" in verdict.why
    assert judge([ahead, patched, told]).name == judge([ahead, cut, hops]).name == name
    for some, lacking in (
        ([ahead, hops, told], "logit lens and probes alone speak"),  # nothing causal
        ([ahead, patched, sight], "patching alone speaks"),  # one kind
        ([ahead, patched, replace(patched, reading="again")], "patching alone speaks"),  # one voice, heard twice
        ([ahead, sight], "nothing speaks"),
    ):
        assert judge(some).name == NONE and lacking in judge(some).why, judge(some).why
    flat = of_knockouts(knockouts(level))
    assert flat.against == SEARCHES
    assert judge([*found, flat]).name == NONE and "read in the same layers (knock-outs)" in judge([*found, flat]).why
    assert judge([BLIND, *found[1:]]).name == NONE
    assert judge(found[1:]).name == FEW


def test_of_two_shapes_neither_is_chosen() -> None:
    chain, double = all_of(linear, CHAIN), all_of(logarithm, DOUBLE)
    mixed = judge([AHEAD, *chain[1:3], *double[3:]])
    assert mixed.name == EITHER and "for chaining patching alone speaks" in mixed.why
    vague = [replace(one, supports=SEARCHES, against=()) for one in chain[1:] if one.supports]
    assert judge([AHEAD, *vague]).name == EITHER and "nothing says in what shape" in judge([AHEAD, *vague]).why
    assert judge([AHEAD, *vague, chain[-1]]).name == EITHER  # a shape that one kind alone has seen
    assert judge([AHEAD, arrival(linear), arrival(logarithm, distance="farther"), *chain[3:]]).name == EITHER


def test_a_heuristic_is_told_by_its_tables_and_only_by_enough_of_them() -> None:
    unread = of_sight(knockouts(level, sight=False))
    assert unread.supports == ("heuristic",) and of_sight(knockouts(level)).against == ("heuristic",)
    none = [of_knockouts(knockouts(level, sight=False)), probed([0, 0, 0, 0])]
    verdict = judge([BLIND, unread, *none])
    assert verdict.name == HEURISTIC and "behaviour and knock-outs agree" in verdict.why
    assert judge([BLIND, *none]).name == NONE and "behaviour alone speaks" in judge([BLIND, *none]).why
    assert judge([BLIND, of_sight(knockouts(level)), *none]).name == NONE
    assert judge([BLIND, unread, probed([3, 3, 3, 3])]).name == NONE  # something knows of hops
    assert judge([BLIND, replace(AHEAD, reading="a moved passage"), unread]).name == NONE
    assert judge([Evidence("behaviour", "steps", "", against=ACCOUNTS), BLIND, unread]).why.startswith(
        "It was not seen"
    )


def test_one_rise_at_one_place_is_no_search() -> None:
    """What zoo:6x6 showed: hops 0, 0, 0, 2, most arrivals in the last of four layers, and passages read early."""
    rise = probed([0, 0, 0, 2])
    assert rise.supports == rise.against == ()
    found = [
        AHEAD,
        rise,
        arrival(lambda d: np.minimum(3.2 + 0.05 * d, 3.8), layers=4),
        of_knockouts(knockouts(level, 4)),
    ]
    assert judge(found).name == NONE
    assert judge(found[:3]).name == NONE
    assert judge([*found[:3], lens(lambda d: 11.5 + 0 * d)]).name == NONE


@pytest.mark.parametrize(
    ("hops_L", "supports", "against"),
    [
        (CHAIN, ("chaining",), ("path merging",)),
        (DOUBLE, ("path merging",), ("chaining",)),
        ([1, 4, 7, 10], ("chaining",), ("path merging",)),
        ([1, 3, 5, 7], SEARCHES, ()),  # a line, but doubling is as near as whole numbers can be
        ([1, 2, 4, 8], SEARCHES, ()),
        ([0, 0, 2, 6], (), ()),
        ([1, 1, 0, 1], (), ()),
        ([1, 3, 2, 6, 4, 9], (), ()),
        ([3, 3, 3, 3, 3], (), ACCOUNTS),
    ],
)
def test_hops_of_probes(hops_L: list[int], supports: Any, against: Any) -> None:
    found = probed(hops_L)
    assert (found.supports, found.against) == (supports, against)


def test_hops_that_could_not_have_been_more_say_nothing_of_growth() -> None:
    assert probed([1, 2, 4, 8, 16, 16, 16], 16).supports == ("path merging",)
    assert probed([1, 2, 4, 4, 4, 4], 4).supports == ()


def test_arrivals() -> None:
    assert (arrival(level).supports, arrival(level).against) == ((), SEARCHES)
    assert arrival(level, distance="farther").against == ()
    last = arrival(lambda distance: 11.5 + 0 * distance)
    assert last.against == last.supports == () and "known anyway" in last.says
    most = arrival(lambda distance: np.minimum(1.2 * distance, 3.8), layers=4)
    assert most.supports == SEARCHES and most.against == ()  # no shape in what comes as late as anything can
    slow = arrival(lambda distance: 2 + 0.1 * distance)
    assert slow.supports == ()  # later, but by less than a layer


def test_few_far_passages_or_pairs_say_nothing() -> None:
    cut = knockouts(linear)
    few = replace(cut, count_CP=np.where(np.arange(PAIRS) < 10, cut.count_CP, 0))
    assert of_sight(few).supports == of_sight(few).against == ()
    nothing = np.zeros((0, 30))
    none = Knockouts([], np.zeros(30), np.zeros(30), nothing.astype(np.int64), nothing, nothing)
    for one in (of_sight(none), of_knockouts(none)):
        assert one.supports == one.against == ()


def test_the_table() -> None:
    rows = judge(all_of(linear, CHAIN)).table().to_pylist()
    assert len(rows) == 3 * 6 and {row["verdict"] for row in rows} == {"chaining"}
    assert [row["speaks"] for row in rows[3:6]] == ["for", "against", "not"]
    assert {row["kind"] for row in rows if row["causal"]} == {"patching", "knock-outs"}


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


# Models whose algorithm is known


@cache
def pairs(kind: Any) -> PairBatch:
    return PairStream(kind, sizes=((4, 4),)).batch(range(200), TOKENIZER)


def read(policy: Policy) -> Any:
    cut = knock_out(policy, pairs("target"), cuts_of(policy.model.config.num_hidden_layers, most=3))
    return which_algorithm(policy, pairs("target"), pairs("passage"), look(policy, pairs("target")), cut)[0]


@pytest.mark.parametrize("known", [lambda: walker().policy, corridor])
def test_models_that_do_not_look_ahead(known: Callable[[], Policy]) -> None:
    verdict = read(known())
    assert verdict.name == HEURISTIC, [verdict.why, *verdict.evidence]
    assert "behaviour and knock-outs agree" in verdict.why


@pytest.mark.parametrize("known", [lambda: random_twin(corridor(), 3), lambda: compass({(0, 0): (1, 1)})])
def test_a_model_that_does_not_walk_has_no_algorithm(known: Callable[[], Policy]) -> None:
    """One that has learnt nothing, and one that points to where the target lies, whatever is open."""
    verdict = read(known())
    assert verdict.name == NONE and verdict.why.startswith("It was not seen to walk"), verdict.evidence


def test_behaviour_by_hand() -> None:
    """Effects of a model that is right on both sides, on one, or on neither."""
    batch = pairs("target")
    policy: Any = type("Named", (), {"tokenizer": TOKENIZER})
    ones = np.ones(200)
    sides = {"both": (ones, -ones), "clean": (ones, ones), "neither": (-ones, ones)}
    for name, (clean_P, corrupt_P) in sides.items():
        effects = Effects([], clean_P, corrupt_P, {})
        for found in (behaviour(policy, batch, effects), moved(pairs("passage"), effects)):
            assert (found.supports == ("heuristic",)) == (name != "both")
            assert ("heuristic" in found.against) == (name == "both")
    near = batch.take(batch.lookahead_P < 2)
    some = Effects([], ones[: len(near)], ones[: len(near)], {})
    assert behaviour(policy, near, some).supports == moved(near, some).supports == ()
    top_LP = np.zeros((2, 40), np.bool_)
    assert of_steps(Lens(top_LP * 1.0, top_LP, top_LP * 1.0, top_LP, ones)).against == ACCOUNTS
    assert of_steps(Lens(top_LP * 1.0, ~top_LP, top_LP * 1.0, top_LP, ones)).against == ()
