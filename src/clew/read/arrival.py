"""When the fork knows: after how many layers what lies so many steps away has arrived at the token that decides.

    pairs = PairStream("passage", sizes=((4, 4),)).batch(range(2000), policy.tokenizer)
    for found in arrivals(policy, pairs):
        found.arrival_G, found.fits["linear"], found.table()

A causal measure of hops, beside the decodable one of `clew.read.hops`. The two sides of a minimal pair differ in one
thing at a known distance from the fork. Into the corrupt run goes the stream that the fork's token has in the clean
run after l layers: as much as the metric is repaired, so much the fork knows by then. The layer at which half is known,
by distance d, grows with it linearly where each layer adds a hop, or some (chaining: Brinkmann et al. 2024, arXiv
2402.11917); with log2 d where paths are merged, which doubles them (Saparov et al. 2024, arXiv 2412.04703); and not at
all where neither goes on.

Behind the last layer all is known, whatever the model. So an arrival in the last layer says no more than that it was
not before, and distances that all arrive there look flat: `late_G` says which do.

In the other direction, `place="changed"`: after how many layers is nothing to be had any more from the very tokens in
which the sides differ? Then it has moved on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from clew.errors import InputError
from clew.mazes.pairs import PairBatch
from clew.policy import Policy
from clew.read.effects import Effects, Figure, columns, ratio, table_of
from clew.read.hooks import layers_of
from clew.read.patching import Patch, patch
from clew.read.places import Places, Words, find_places
from clew.read.targets import targets_in
from clew.text import show

if TYPE_CHECKING:
    import pyarrow as pa

Growing = Literal["flat", "linear", "log2"]
GROWING: tuple[Growing, ...] = get_args(Growing)
PLACES = ("fork", "changed")
LEAST = 20
"""pairs at a distance, below which it is left out"""
SHAPE, SPAN, BETTER, FITS = 4, 2.0, 2.0, 0.25
"""Growth has a shape where there are as many distances, over as many layers; one shape is the better one if the other
leaves so many times as much over, in squared residuals, and it itself at most this share of what is left by none"""


@dataclass(frozen=True)
class Fit:
    """One way for arrivals to depend on the distance d: a, a + b d or a + b log2 d, by least squares over distances,
    each as heavy as it has pairs."""

    a: float
    slope: Figure
    """b, in layers a step or a doubling, with the interval of the draws; 0 for flat"""
    residual: float
    """the mean squared residual, in layers squared"""


@dataclass(frozen=True)
class Arrival:
    """What is known after 0 .. L layers, at G distances; with none, only of the embeddings."""

    by: str
    """what distance: see `distances_of`"""
    place: str
    distance_G: np.ndarray
    pairs_G: np.ndarray
    effect_GL: list[list[Figure]]
    """the normalised effect of denoising, with Fieller's interval (see `Effects.effect`)"""
    arrival_G: list[Figure]
    """the number of layers after which the effect first exceeds one half (for `changed`, is first below it), in a line
    between the two; its interval is of pairs drawn anew. NaN where the two sides do not differ in the mean, or the half
    is never crossed."""
    fits: dict[Growing, Fit]
    """empty with fewer than three distances that arrive"""
    shuffled: dict[Growing, Fit]
    """the same where distances were given to pairs at random: the slopes are 0 but for chance"""
    drawn_GB: np.ndarray = field(repr=False)
    """what `arrival_G` is of: first of all pairs, then of as many drawn anew"""

    @property
    def late_G(self) -> np.ndarray:
        """bool: which distances arrive in the last layer, behind which everything is known anyway."""
        return np.array([value > len(self.effect_GL[0]) - 2 for value, _, _ in self.arrival_G], np.bool_)

    def table(self) -> "pa.Table":
        """A row a distance and depth (figure `effect`), a distance (`arrival`), and a fit (`linear_slope`,
        `log2_slope`, `flat_residual` and so on, and `shuffled_...`): by, place, distance, depth, pairs, figure, value,
        value_low, value_high. Residuals have no interval."""
        rows: list[dict[str, Any]] = []
        about: dict[str, Any] = {"by": self.by, "place": self.place, "distance": None, "depth": None}

        def add(figure: str, value: Figure, **more: Any) -> None:
            rows.append(
                {**about, "pairs": int(self.pairs_G.sum()), **more, "figure": figure, **columns("value", value)}
            )

        for at, (distance, pairs) in enumerate(zip(self.distance_G.tolist(), self.pairs_G.tolist(), strict=True)):
            for depth, effect in enumerate(self.effect_GL[at]):
                add("effect", effect, distance=distance, depth=depth, pairs=pairs)
            add("arrival", self.arrival_G[at], distance=distance, pairs=pairs)
        for prefix, fits in (("", self.fits), ("shuffled_", self.shuffled)):
            for name, fit in fits.items():
                add(f"{prefix}{name}_slope", fit.slope)
                add(f"{prefix}{name}_residual", (fit.residual, np.nan, np.nan))
        return table_of(rows)


def distances_of(policy: Policy, pairs: PairBatch) -> dict[str, np.ndarray]:
    """int64 (P,), in steps, from 1, by name: how far away what the two sides differ in is. By kind, of the passage

        from_fork    from the fork over the clean side's passage to its far end
        farther      the larger of this and the same on the corrupt side, which has its own: a fork that knows one of
                     them knows something
        to_target    from before the clean side's passage to the target

    and of the target

        distance     from the fork to the clean side's target
        lookahead    of the fork: see `forks.lookahead`

    InputError for pairs of both kinds.
    """
    words, sides = Words.of(policy.tokenizer), (pairs.clean_tokens_PT, pairs.corrupt_tokens_PT)
    found = [find_places(side_PT, words) for side_PT in sides]
    changed_PT = sides[0] != sides[1]
    at = found[0].sequence_R, found[0].position_R
    listed = changed_PT[at] & found[0].named("edge_first", "edge_second")
    with_passage = np.unique(at[0][listed])
    if not len(with_passage):
        return {"distance": pairs.distance_P, "lookahead": pairs.lookahead_P}
    if len(with_passage) < len(pairs):
        raise InputError("pairs: some differ in a passage and some in the target; expected those of one kind")
    first = np.flatnonzero(listed)[np.unique(at[0][listed], return_index=True)[1]]
    (clean_P, to_target_P), (corrupt_P, _) = (
        _far_ends(side_PT, places.take(first), words) for side_PT, places in zip(sides, found, strict=True)
    )
    return {"from_fork": clean_P, "farther": np.maximum(clean_P, corrupt_P), "to_target": to_target_P}


def _far_ends(tokens_PT: np.ndarray, passages: Places, words: Words) -> tuple[np.ndarray, np.ndarray]:
    """Of one passage a row: steps from the fork to its end that is farther away, and the same from the target."""
    true = targets_in(tokens_PT, words)
    width, row_P = np.array([true.shape[1], 1]), np.arange(len(tokens_PT))
    ends = passages.cell_RC @ width, passages.other_RC @ width
    far = []
    for dist_PU in (true.distances_to(words.cell_VC[tokens_PT[:, -1]] @ width), true.distance_QU):
        far.append(np.maximum(*(dist_PU[row_P, end_P].astype(np.int64) for end_P in ends)))
    return far[0], far[1]


def arrivals(
    policy: Policy,
    pairs: PairBatch,
    place: str = "fork",
    by: Mapping[str, np.ndarray] | None = None,
    draws: int = 1000,
    seed: int = 0,
    batch_size: int = 256,
) -> list[Arrival]:
    """By each distance, when what the sides of P pairs differ in has arrived at the fork, or has left where it stood.

    by: distances by name, int (P,) from 1, None for all of `distances_of`. place: fork, or changed. draws: of pairs,
    for intervals, and seed: of these and of the shuffled distances. The two sides of a random twin differ in the mean
    at few distances, and little, by which cells are named where: what arrives there does not grow with distance.
    InputError as `patching.patch`, and for a place, distances or draws that cannot be used.
    """
    if place not in PLACES:
        raise InputError(f"place: {show(place)} is not one of {', '.join(PLACES)}")
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < 40:
        raise InputError(f"draws: {show(draws)} is not a whole number from 40, so that 2.5% of them is one")
    chosen = distances_of(policy, pairs) if by is None else dict(by)
    for name, distance_P in chosen.items():
        if distance_P.shape != (len(pairs),) or distance_P.dtype.kind not in "iu" or (distance_P < 1).any():
            raise InputError(f"by: {show(name)} is not one whole number from 1 for each of {len(pairs)} pairs")
    effects = known_after(policy, pairs, place, batch_size)
    return [arrived(effects, name, distance_P, place, draws, seed) for name, distance_P in chosen.items()]


def known_after(policy: Policy, pairs: PairBatch, place: str = "fork", batch_size: int = 256) -> Effects:
    """Denoising of a place's stream after 0 .. L layers, one intervention each. InputError as `patching.patch`."""
    patches = [Patch("resid_pre", 0, place)]
    patches += [Patch("resid_post", layer, place) for layer in range(len(layers_of(policy.model)))]
    return patch(policy, pairs, patches, ["denoising"], batch_size)


def arrived(
    effects: Effects, by: str, distance_P: np.ndarray, place: str = "fork", draws: int = 1000, seed: int = 0
) -> Arrival:
    """What `arrivals` gives, of effects that are known: one intervention a depth, denoising."""
    values, counts = np.unique(distance_P, return_counts=True)
    kept_G = counts >= LEAST
    distance_G, pairs_G = values[kept_G], counts[kept_G]
    total_P, shift_LP = effects.clean_P - effects.corrupt_P, effects.shifts_CP("denoising")
    effect_GL, arrival_G, drawn, shuffled = [], [], [], []
    luck_P = np.random.default_rng([seed, 1]).permutation(distance_P)
    for distance in distance_G.tolist():
        of_P, other_P = distance_P == distance, luck_P == distance
        effect_GL.append([ratio(shift_P[of_P], total_P[of_P]) for shift_P in shift_LP])
        dice = np.random.default_rng([seed, 2, distance])
        drawn.append(_crossings(shift_LP[:, of_P], total_P[of_P], place, draws, dice))
        shuffled.append(_crossings(shift_LP[:, other_P], total_P[other_P], place, draws, dice))
        arrival_G.append(_figure(drawn[-1]))
    fits, luck = (growth(distance_G, pairs_G, np.array(some)) for some in (drawn, shuffled))
    drawn_GB = np.array(drawn).reshape(len(drawn), 1 + draws)
    return Arrival(by, place, distance_G, pairs_G, effect_GL, arrival_G, fits, luck, drawn_GB)


def _figure(drawn_B: np.ndarray) -> Figure:
    """The first, with the interval of the others, as far as they are known; it has no ends where too few are."""
    value, others_B = float(drawn_B[0]), drawn_B[1:]
    if np.isnan(value) or np.isnan(others_B).mean() > 0.025:
        return value, -np.inf, np.inf
    low, high = np.nanquantile(others_B, (0.025, 0.975)).tolist()
    return value, min(value, low), max(value, high)


def _crossings(
    shift_LP: np.ndarray, total_P: np.ndarray, place: str, draws: int, dice: np.random.Generator
) -> np.ndarray:
    """(1 + draws,): the depth at which half is crossed, of all pairs and of as many drawn anew; NaN where the sides
    do not differ in the mean beyond chance."""
    n = len(total_P)
    if not np.isfinite(ratio(total_P, total_P)[1]):
        return np.full(1 + draws, np.nan)
    weight_BP = np.concatenate([np.ones((1, n)), dice.multinomial(n, np.full(n, 1 / n), draws)])
    total_B1 = (weight_BP @ total_P)[:, None]
    known_BL = (weight_BP @ shift_LP.T) / np.where(total_B1 == 0, np.nan, total_B1)
    return crossing(known_BL if place == "fork" else 1 - known_BL)


def crossing(known_BL: np.ndarray) -> np.ndarray:
    """(B,): where each row first exceeds one half, in a line between two columns; NaN where it never does."""
    above_BL = known_BL > 0.5
    first_B = above_BL.argmax(1)
    row_B, before_B = np.arange(len(known_BL)), np.maximum(first_B - 1, 0)
    high_B, low_B = known_BL[row_B, first_B], known_BL[row_B, before_B]
    part_B = np.divide(0.5 - low_B, high_B - low_B, out=np.ones(len(row_B)), where=first_B > 0)
    return np.where(above_BL.any(1), before_B + np.where(first_B > 0, part_B, 0.0), np.nan)


def growth(distance_G: np.ndarray, pairs_G: Sequence[int] | np.ndarray, drawn_GB: np.ndarray) -> dict[Growing, Fit]:
    """Fits of flat, linear and logarithmic growth to arrivals (G, B): the first column, and the slopes' intervals by
    the others. Distances of which the first is NaN are left out; nothing is fitted to fewer than three."""
    found: dict[Growing, Fit] = {}
    for name, (fitted_KB, left_B) in _fitted(distance_G, pairs_G, drawn_GB).items():
        slope = (0.0, 0.0, 0.0) if name == "flat" else _figure(fitted_KB[1])
        found[name] = Fit(float(fitted_KB[0, 0]), slope, float(left_B[0]))
    return found


def _fitted(
    distance_G: np.ndarray, pairs_G: Sequence[int] | np.ndarray, drawn_GB: np.ndarray
) -> dict[Growing, tuple[np.ndarray, np.ndarray]]:
    """By way to grow: a and b (2, B) of each draw, and the mean squared residual that it leaves, from the distances
    that it has; NaN for draws that have fewer than three."""
    there_G = ~np.isnan(drawn_GB[:, 0]) if len(drawn_GB) else np.zeros(0, np.bool_)
    if there_G.sum() < 3:
        return {}
    d_G1, y_GB = np.asarray(distance_G, np.float64)[there_G, None], drawn_GB[there_G]
    weight_GB = np.asarray(pairs_G, np.float64)[there_G, None] * ~np.isnan(y_GB)
    weight_GB[:, (weight_GB > 0).sum(0) < 3] = np.nan
    weight_GB, y_GB = weight_GB / weight_GB.sum(0), np.nan_to_num(y_GB)
    found: dict[Growing, tuple[np.ndarray, np.ndarray]] = {}
    for name, x_G1 in (("flat", 0 * d_G1), ("linear", d_G1), ("log2", np.log2(d_G1))):
        x_GB, rest_GB = (one - (weight_GB * one).sum(0) for one in (x_G1, y_GB))
        slope_B = (weight_GB * x_GB * rest_GB).sum(0) / np.maximum(1e-12, (weight_GB * x_GB**2).sum(0))
        left_B = (weight_GB * (rest_GB - slope_B * x_GB) ** 2).sum(0)
        start_B = (weight_GB * (y_GB - slope_B * x_G1)).sum(0)
        found[name] = np.stack([start_B, slope_B]), left_B  # type: ignore[index]
    return found


@dataclass(frozen=True)
class Rise:
    """By how much later what is farther away comes."""

    distances: int
    """of which it is known"""
    steps: int
    """from the nearest of these to the farthest"""
    layers: Figure
    """from the nearest to the farthest, by the straight line through all"""
    shape: Growing | None
    """linear or log2, where the one is better than the other in 97.5% of the draws and by a factor BETTER; else None"""


def rise(
    distance_G: np.ndarray, pairs_G: np.ndarray, drawn_GB: np.ndarray, late_G: np.ndarray | None = None
) -> Rise | None:
    """How layers, of all pairs and of those drawn anew (G, 1 + draws), rise with distance; None for fewer than three.

    late_G: distances that say of the shape nothing, since they come as late as anything can. Of what rises by less
    than SPAN layers there is no shape, either: what lies between two layers is drawn by a ruler and not measured.
    """
    fitted = _fitted(distance_G, pairs_G, drawn_GB)
    if not fitted:
        return None
    there_G = ~np.isnan(drawn_GB[:, 0])
    d_G = distance_G[there_G]
    steps = int(d_G.max() - d_G.min())
    whole = Rise(len(d_G), steps, _figure(fitted["linear"][0][1] * steps), None)
    kept_G = there_G if late_G is None else there_G & ~late_G
    first_G = drawn_GB[kept_G, 0]
    if len(first_G) < SHAPE or first_G.max() - first_G.min() < SPAN:
        return whole
    left = {
        name: left_B for name, (_, left_B) in _fitted(distance_G[kept_G], pairs_G[kept_G], drawn_GB[kept_G]).items()
    }
    for name, other in (("linear", "log2"), ("log2", "linear")):
        clear = left[name][0] * BETTER < left[other][0] and left[name][0] <= FITS * left["flat"][0]
        if clear and (left[name] < left[other])[1:].mean() >= 0.975:
            return replace(whole, shape=name)
    return whole
