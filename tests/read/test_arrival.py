"""Arrivals at the fork: distances are the maze's; what is planted is found, and nothing where there is nothing."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from clew.errors import InputError
from clew.mazes import maze_tokenizer
from clew.mazes.pairs import PairBatch, PairStream
from clew.policy import Policy
from clew.read.arrival import arrivals, arrived, crossing, distances_of, growth, rise
from clew.read.effects import Effects
from clew.read.patching import patch_residual
from models import tiny

TOKENIZER = maze_tokenizer(4)


def policy() -> Policy:
    return Policy(tiny("llama", len(TOKENIZER)), TOKENIZER)


def pairs(count: int = 60, kind: Any = "passage") -> PairBatch:
    return PairStream(kind, sizes=((3, 3), (4, 4))).batch(range(count), TOKENIZER)


def test_distances_by_hand() -> None:
    stream = PairStream("passage", sizes=((3, 3), (4, 4)))
    found = distances_of(policy(), pairs(30))
    for index in range(30):
        pair = stream.pair(index)
        far = []
        for mine, other in ((pair.clean, pair.corrupt), (pair.corrupt, pair.clean)):
            edges, others = ({frozenset(edge) for edge in one.lattice.edges()} for one in (mine, other))
            ((a, b),) = edges - others
            dist: Any = mine.lattice.distances(pair.walk[-1])
            far.append(max(dist[a], dist[b]))
            if mine is pair.clean:
                left: Any = mine.lattice.distances(mine.target)
                assert found["to_target"][index] == max(left[a], left[b])
                assert far[0] + max(left[a], left[b]) == pair.distance[0] + 1
        assert found["from_fork"][index] == far[0] and found["farther"][index] == max(far)
    batch = pairs(30, "target")
    by_target = distances_of(policy(), batch)
    assert (by_target["distance"] == batch.distance_P).all() and (by_target["lookahead"] == batch.lookahead_P).all()


def test_crossings() -> None:
    known_BL = np.array([[0, 0.25, 0.75, 1], [0.6, 0, 0, 0], [0, 0.1, 0.2, 0.3], [0, 0, 0, 1], [0, 1, 0, 1]])
    np.testing.assert_allclose(crossing(known_BL), [1.5, 0, np.nan, 2.5, 0.5])


def planted(arrive: Any, noise: float = 0.1, count: int = 1200, layers: int = 8) -> tuple[Effects, np.ndarray]:
    """Effects of pairs at distances 1 to 6, of which all is known at once, after so many layers."""
    rng = np.random.default_rng(0)
    distance_P = rng.integers(1, 7, count)
    known_LP = np.arange(layers + 1)[:, None] >= arrive(distance_P)
    known_LP[-1] = True
    clean_P, corrupt_P = rng.normal(5, 1, (2, count)) * [[1], [-1]]
    patched_LP = np.where(known_LP, clean_P, corrupt_P) + rng.normal(0, noise, known_LP.shape)
    return Effects([{}] * (layers + 1), clean_P, corrupt_P, {"denoising": patched_LP}), distance_P


def test_chaining_and_merging_are_told_apart() -> None:
    effects, distance_P = planted(lambda d: d)
    found = arrived(effects, "d", distance_P)
    np.testing.assert_allclose([value for value, _, _ in found.arrival_G], np.arange(1, 7) - 0.5, atol=0.05)
    slope, low, high = found.fits["linear"].slope
    assert low <= 1 + 0.02 and high >= 1 - 0.02 and slope == pytest.approx(1, abs=0.02)
    assert found.fits["linear"].residual < 0.01 < 0.1 < found.fits["log2"].residual < found.fits["flat"].residual
    assert not found.late_G.any()
    effects, distance_P = planted(lambda d: 2 * np.round(np.log2(d)) + 1)
    keep = np.isin(distance_P, (1, 2, 4))
    patched_LP = effects.patched["denoising"][:, keep]
    some = Effects(effects.labels, effects.clean_P[keep], effects.corrupt_P[keep], {"denoising": patched_LP})
    merged = arrived(some, "d", distance_P[keep])
    assert merged.fits["log2"].slope[0] == pytest.approx(2, abs=0.05)
    assert merged.fits["log2"].residual < 0.01 < merged.fits["linear"].residual


def test_what_does_not_grow_is_flat_and_shuffled_distances_are() -> None:
    rng, held, luck = np.random.default_rng(1), 0, 0
    for seed in range(30):
        distance_P, depth_P = rng.integers(1, 6, 400), rng.normal(2, 0.7, 400)
        known_LP = np.clip(np.arange(5)[:, None] - depth_P + 0.5, 0, 1)
        effects = Effects([{}] * 5, np.ones(400), -np.ones(400), {"denoising": 2 * known_LP - 1})
        found = arrived(effects, "d", distance_P, draws=200, seed=seed)
        held += found.fits["linear"].slope[1] <= 0 <= found.fits["linear"].slope[2]
        luck += found.shuffled["log2"].slope[1] <= 0 <= found.shuffled["log2"].slope[2]
    assert held >= 25 and luck >= 25


def test_arrivals_are_patching() -> None:
    reader, batch = policy(), pairs(80)
    for place, first, last in (("fork", 0, 1), ("changed", 1, 0)):
        found = arrivals(reader, batch, place, draws=50)
        assert [one.by for one in found] == ["from_fork", "farther", "to_target"]
        same = patch_residual(reader, batch, [place], directions=["denoising"])
        one = found[0]
        of_P = distances_of(reader, batch)["from_fork"] == one.distance_G[0]
        total_P = (same.clean_P - same.corrupt_P)[of_P]
        for depth in range(3):
            wanted = same.shifts_CP("denoising")[depth][of_P].mean() / total_P.mean()
            assert one.effect_GL[0][depth][0] == pytest.approx(wanted, abs=1e-6)
        assert one.effect_GL[0][0][0] == pytest.approx(first) and one.effect_GL[0][3][0] == pytest.approx(last)
        rows = one.table().to_pylist()
        assert {row["figure"] for row in rows} >= {"effect", "arrival"}
    only = arrivals(reader, pairs(40, "target"), by={"half": np.repeat([1, 2], 20)}, draws=50)
    assert len(only) == 1 and only[0].by == "half" and not only[0].fits  # two distances are too few for a fit


def test_nothing_arrives_where_nothing_is_known() -> None:
    rng = np.random.default_rng(0)
    clean_P, corrupt_P = rng.normal(0, 1, (2, 300))
    patched = {"denoising": np.stack([corrupt_P, corrupt_P, clean_P])}
    found = arrived(Effects([{}] * 3, clean_P, corrupt_P, patched), "d", rng.integers(1, 4, 300))  # type: ignore[arg-type]
    assert all(np.isnan(value) and low == -np.inf for value, low, _ in found.arrival_G) and not found.fits
    assert not found.late_G.any()


def test_what_cannot_be_asked() -> None:
    with pytest.raises(InputError, match="place: 'target' is not one of fork, changed"):
        arrivals(policy(), pairs(), "target")
    with pytest.raises(InputError, match="draws: 5 is not a whole number from 40"):
        arrivals(policy(), pairs(), draws=5)
    with pytest.raises(InputError, match="by: 'd' is not one whole number from 1 for each of 60 pairs"):
        arrivals(policy(), pairs(), by={"d": np.zeros(60, np.int64)})
    tokens: dict[str, Any] = {}
    both = [PairStream(kind, sizes=((4, 4),)).batch(range(20), TOKENIZER) for kind in ("passage", "target")]
    width = max(one.clean_tokens_PT.shape[1] for one in both)
    for name in ("clean_tokens_PT", "corrupt_tokens_PT"):
        rows = [
            np.pad(x := getattr(one, name), ((0, 0), (width - x.shape[1], 0)), constant_values=one.pad) for one in both
        ]
        tokens[name] = np.concatenate(rows)
    with pytest.raises(InputError, match="pairs: some differ in a passage and some in the target"):
        distances_of(policy(), replace(both[0], **tokens, index_P=np.arange(40)))


def test_too_few_pairs_at_every_distance_fit_nothing() -> None:
    assert growth(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)) == {}
    assert rise(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 41))) is None


def test_growth_is_weighted_least_squares_of_the_distances_that_a_draw_has() -> None:
    rng, distance_G, pairs_G = np.random.default_rng(0), np.arange(1, 8), np.arange(20, 27)
    drawn_GB = rng.normal(0, 0.1, (7, 60)) + 0.3 * distance_G[:, None]
    drawn_GB[2, 1] = drawn_GB[3, 5] = np.nan
    slopes = []
    for draw_G in drawn_GB.T:
        there_G = ~np.isnan(draw_G)
        slopes.append(np.polyfit(distance_G[there_G], draw_G[there_G], 1, w=np.sqrt(pairs_G[there_G])))
    found = growth(distance_G, pairs_G, drawn_GB)["linear"]
    low, high = np.quantile([one[0] for one in slopes[1:]], (0.025, 0.975))
    assert found.slope == pytest.approx((slopes[0][0], low, high)) and found.a == pytest.approx(slopes[0][1])
    left_G = drawn_GB[:, 0] - np.polyval(slopes[0], distance_G)
    assert found.residual == pytest.approx(float(pairs_G @ left_G**2 / pairs_G.sum()))
    grown = rise(distance_G, pairs_G, drawn_GB)
    assert grown and grown.layers == pytest.approx(tuple(6 * np.array(found.slope))) and grown.steps == 6
    assert grown.shape is None  # 1.8 layers
    drawn_GB[:5, 1:4] = np.nan
    few = rise(distance_G, pairs_G, drawn_GB)
    assert few and few.layers[1:] == (-np.inf, np.inf)  # too many draws cannot tell


@pytest.mark.parametrize(("by", "shape"), [(lambda d: d / 2, "linear"), (lambda d: 2 * np.log2(d), "log2")])
def test_a_shape_is_told_if_it_is_clear_and_far_enough_drawn_out(by: Any, shape: str) -> None:
    rng, distance_G, pairs_G = np.random.default_rng(0), np.arange(1, 9), np.full(8, 30)

    def told(noise: float = 0.05, count: int = 8, times: float = 1.0, late: int = 0) -> str | None:
        d_G = distance_G[:count]
        drawn_GB = times * by(d_G)[:, None] + rng.normal(0, noise, (count, 80))
        found = rise(d_G, pairs_G[:count], drawn_GB, np.arange(count) >= count - late)
        assert found and found.distances == count
        return found.shape

    assert told() == shape
    assert told(noise=2.0) is told(count=3) is told(times=0.2) is told(late=5) is None
