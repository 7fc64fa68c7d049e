"""How crisp is what a model does at forks? Four numbers with 95% intervals on one card.

    card = crispness(Policy.load("zoo:4x4"), CrispnessOptions(sizes=((4, 4),)))
    card.table()                                    # the four, then what each is made of

    localisation    the share of the patching effect at forks that lies in the best 5% of sites
    decodability    by how much probes for what is derived exceed their best control, in macro-F1
    steerability    how much oftener a push makes the model write the other path than random pushes of equal norm
    depth_used      how many layers the removal of which costs right steps at forks, as an effective number

What is chosen for being best, be it sites, places to read or pushes, is chosen on one half of the pairs or mazes and
measured on the other, both ways: so that luck in choosing flatters no model. Beside each number stands what it is where
there is nothing to find (`null`): for decodability that of another random model of the same shape, since no two of
these tell the same, and a lead that is no larger than theirs is none. A model that does not choose at forks has no
effect to localise and no steps to lose: there the value is missing, and the remark says why.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clew.errors import InputError
from clew.mazes.pairs import KINDS, Kind, PairBatch, PairStream
from clew.mazes.questions import MazeStream
from clew.policy import Policy
from clew.read.activations import maze_sequences
from clew.read.cases import ProbeOptions, random_twin
from clew.read.depth import Depth, removals_of, remove
from clew.read.effects import LEAST, Effects, Figure, check_pairs, columns, mean, rate, ratio, table_of
from clew.read.hooks import Key, heads_of, layers_of
from clew.read.linear import rates
from clew.read.patching import PARTS, Patch, groups_of, patch
from clew.read.probes import CONTROLS, Probed, drawn_mazes, probe_all
from clew.read.steerability import Steerability, Success, steerability
from clew.read.targets import LABELS, SANITY
from clew.runs.intervals import Z95
from clew.text import show

if TYPE_CHECKING:
    import pyarrow as pa

NUMBERS = ("localisation", "decodability", "steerability", "depth_used")
SHARE = 0.05
"""the best sites that count for localisation, as a share of all"""
MAP_PLACES = ("target_end", "fork")
CELL_PLACES = ("edge_end", "path")
"""places at which probes read the whole grid, and the place's own cell"""
DERIVED = tuple(label for label in LABELS if label not in SANITY)
Row = dict[str, Any]


@dataclass(frozen=True)
class CrispnessOptions:
    """Which mazes, all held-out, and how many. InputError for what cannot be used."""

    sizes: tuple[tuple[int, int], ...]
    """rows and columns, as the model knows them"""
    generators: tuple[str, ...] = ("dfs",)
    p: float = 0.1
    kinds: tuple[Kind, ...] = KINDS
    """minimal pairs of which patching is measured"""
    pairs: int = 60
    """how many of each; for steering as many of kind target, in any case"""
    mazes: int = 1000
    """mazes that probes are fitted to and tested on, and from which pushes are made"""
    removed: int = 200
    """mazes that are read without each layer; at most `mazes`"""
    draws: int = 1000
    """times that mazes are drawn anew for an interval"""
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        check_pairs(self.pairs)
        if not self.kinds or not set(self.kinds) <= set(KINDS):
            raise InputError(f"kinds: {show(self.kinds)} are not some of {', '.join(KINDS)}")
        if not LEAST <= self.removed <= self.mazes:
            raise InputError(f"removed: {show(self.removed)} is not from {LEAST} to mazes, {show(self.mazes)}")
        self.probing()
        self.mazes_of()

    def probing(self) -> ProbeOptions:
        """Intervals of single probes are not asked for, so that of these there are few draws."""
        return ProbeOptions(test=0.4, draws=40, seed=self.seed, batch_size=self.batch_size)

    def mazes_of(self) -> MazeStream:
        return MazeStream(self.sizes, self.generators, self.p, 1, True, self.seed)

    def pairs_of(self, kind: Kind, policy: Policy) -> PairBatch:
        stream = PairStream(kind, self.sizes, self.generators, self.p, seed=self.seed)
        return stream.batch(range(self.pairs), policy.tokenizer)


@dataclass(frozen=True)
class Crispness:
    """The card."""

    rows: list[Row]
    """number (one of NUMBERS), part ("all" for the number itself), value, value_low, value_high, all three None where
    there is nothing to measure; null, the value where there is nothing to find; count, of `counted`; remark"""

    def figure(self, number: str) -> Figure | None:
        """One of the four, None where it cannot be given. InputError for another."""
        for row in self.rows:
            if (row["number"], row["part"]) == (number, "all"):
                return None if row["value"] is None else (row["value"], row["value_low"], row["value_high"])
        raise InputError(f"number: {show(number)} is not one of {', '.join(NUMBERS)}")

    def table(self) -> "pa.Table":
        return table_of(self.rows)


def crispness(policy: Policy, options: CrispnessOptions, read: Sequence[Probed] | None = None) -> Crispness:
    """The four numbers of a model. read: what probes tell at MAP_PLACES and of cells at CELL_PLACES, if that is known:
    of the very mazes and `probing` of the options; labels and places that are not asked for are left out. InputError
    for a model that cannot be read or is not for mazes, a size that its tokenizer does not know, and mazes of which
    there are too few."""
    sequences = list(maze_sequences(options.mazes_of(), range(options.mazes), policy.tokenizer))
    told = decoded(read or _readings(policy, sequences, options), options.draws, options.seed)
    twin = random_twin(policy, options.seed + 1)  # another one than that which is a control
    nulls = {row["part"]: row["value"] for row in decoded(_readings(twin, sequences, options), 40)}
    rows = localised(fork_effects(policy, options)) + [{**row, "null": nulls.get(row["part"])} for row in told]
    pairs, count = options.pairs_of("target", policy), len(layers_of(policy.model))
    if count > 1:
        pushes: dict[str, Any] = {"seed": options.seed, "batch_size": options.batch_size}
        rows += steered(steerability(policy, pairs, sequences, **pushes))
    else:
        said = "pushes are behind layers before the last, and there is one alone"
        rows.append(row_of("steerability", "all", None, 0.0, len(pairs), "pairs", said))
    removals = removals_of(policy.model, parts=["layer"], modes=["mean"])
    depth = remove(policy, sequences[: options.removed], removals, options.seed, options.batch_size)
    return Crispness(rows + depth_used(depth, options.draws, options.seed))


def row_of(
    number: str, part: str, figure: Figure | None, null: float | None, count: int, counted: str, remark: str = ""
) -> Row:
    """A row of the card."""
    found: Row = dict.fromkeys(columns("value", (0, 0, 0))) if figure is None else dict(columns("value", figure))
    return {"number": number, "part": part, **found, "null": null, "count": count, "counted": counted, "remark": remark}


# Localisation


def fork_effects(policy: Policy, options: CrispnessOptions) -> Effects:
    """Denoising, by site, of pairs of all kinds together: single heads and the outputs of MLPs, by layer and place.

    Left out is what no model could have an effect at: places before the first token in which the sides of any pair
    differ, and in the last layer all but the fork.
    """
    batches = [options.pairs_of(kind, policy) for kind in options.kinds]
    found = [patch(policy, pairs, _sites(policy, pairs), ["denoising"], options.batch_size) for pairs in batches]
    labels = list({tuple(label.items()): label for effects in found for label in effects.labels}.values())
    clean_P, corrupt_P = (np.concatenate([getattr(one, name) for one in found]) for name in ("clean_P", "corrupt_P"))
    parts = []
    for effects in found:
        patched_CP = np.tile(effects.corrupt_P, (len(labels), 1))
        patched_CP[[labels.index(label) for label in effects.labels]] = effects.patched["denoising"]
        parts.append(patched_CP)
    return Effects(labels, clean_P, corrupt_P, {"denoising": np.concatenate(parts, 1)})


def _sites(policy: Policy, pairs: PairBatch) -> list[Patch]:
    groups, last = groups_of(policy, pairs), len(layers_of(policy.model)) - 1
    behind_PT = np.logical_or.accumulate(groups["changed"], axis=1)
    places = [name for name in PARTS if (groups[name] & behind_PT).any()]
    where = [(layer, place) for layer in range(last + 1) for place in places if layer < last or place == "fork"]
    heads = [Patch("z", *at, head) for at in where for head in range(heads_of(policy.model))]
    return [*heads, *(Patch("mlp_out", *at) for at in where)]


def localised(effects: Effects, share: float = SHARE) -> list[Row]:
    """The share of the denoising effect of all C sites that lies in the best of them, and these by themselves.

    A site's effect is its mean shift, and one that is negative counts as 0. Pairs with an even number say which sites
    are best and which are negative, their intervals below 0; the effects that are added up are those of the pairs
    with an odd number; and the other way round. So both sums are means over pairs of sites that are given, without the
    lean of a maximum, and the interval of their ratio is Fieller's (`effects.ratio`). Of share * C sites that are no
    whole number the last counts in part; one counts at least. There is no number where the two sides of a pair are
    told apart no better than by a coin, or the effects' sum is not above 0 by its interval.
    """
    shifts_CP, (sites, pairs) = effects.shifts_CP("denoising"), (len(effects), len(effects.clean_P))
    weight_C = np.clip(max(1.0, share * sites) - np.arange(sites), 0, 1)
    null = float(weight_C.sum()) / sites
    heard = rate(effects.clean_P > effects.corrupt_P)
    said = f"the clean side is more for the right branch in {heard[0]:.1%} of the pairs"
    odd_P = np.arange(pairs) % 2 == 1
    part_CP, of_P = np.zeros(shifts_CP.shape), np.zeros(pairs)
    for measured_P in (odd_P, ~odd_P):
        ends_CA = np.array([mean(shift_P) for shift_P in shifts_CP[:, ~measured_P]])
        order_C, more_C = np.argsort(-ends_CA[:, 0], kind="stable"), ends_CA[:, 2] >= 0
        counts_C = np.zeros(sites)
        counts_C[order_C] = weight_C
        part_CP[:, measured_P] = (counts_C * more_C)[:, None] * shifts_CP[:, measured_P]
        of_P[measured_P] = more_C @ shifts_CP[:, measured_P]
    figure = ratio(part_CP.sum(0), of_P)
    if heard[1] <= 0.5 or of_P.mean() <= 0 or not math.isfinite(figure[1]):
        return [row_of("localisation", "all", None, null, pairs, "pairs", f"no effect to localise: {said}")]
    told = f"of the effect lies in the best {share:.0%} of {sites} sites; {said}"
    rows = [row_of("localisation", "all", figure, null, pairs, "pairs", told)]
    best = [number for number in range(sites) if all(part_CP[number, half].any() for half in (odd_P, ~odd_P))]
    for number in sorted(best, key=lambda number: -part_CP[number].mean()):
        figure = ratio(shifts_CP[number], of_P)
        rows.append(row_of("localisation", _named(effects.labels[number]), figure, 1 / sites, pairs, "pairs"))
    return rows


def _named(label: Row) -> str:
    head = "" if label["head"] is None else f".{label['head']}"
    return f"{label['site']} {label['layer']}{head} {label['place']}"


# Decodability


def _readings(policy: Policy, sequences: Sequence[np.ndarray], options: CrispnessOptions) -> list[Probed]:
    maps, cells = probe_all(policy, sequences, MAP_PLACES, CELL_PLACES, DERIVED, options=options.probing())
    return [*maps.values(), cells]


def decoded(readings: Sequence[Probed], draws: int = 1000, seed: int = 0) -> list[Row]:
    """By how much probes exceed their best control in macro-F1, as a mean over labels, and by label.

    For each label one half of the test mazes says where it is read best, of all sites, layers and places, and which
    control is best there; on the other half the difference is measured; and the other way round. Intervals are normal,
    with the spread over resampled test mazes (Efron 1979), of which each draw chooses for itself; what probes were
    fitted to is not drawn anew. Readings are of the same mazes.
    """
    counts = {
        (form, *name): found
        for form, one in enumerate(readings)
        for name, found in one.counts.items()
        if name[-1] in DERIVED and name[-2] in (*MAP_PLACES, *CELL_PLACES)
    }
    labels = list(dict.fromkeys(name[-1] for name in counts))
    mazes = len(next(iter(counts.values())))
    drawn_BM = drawn_mazes(mazes, ProbeOptions(draws=draws, seed=seed))
    drawn_BM = np.concatenate([np.ones((1, mazes), np.float32), drawn_BM])
    gains: dict[str, np.ndarray] = {}
    rows = []
    for label in labels:
        mine = {name[:-1]: found for name, found in counts.items() if name[-1] == label}
        gains[label], said = _gains(mine, drawn_BM)
        rows.append(row_of("decodability", label, _normal(gains[label]), 0.0, mazes, "test mazes", said))
    said = f"macro-F1 above the best control, the mean over {', '.join(labels)}"
    figure = _normal(np.mean(list(gains.values()), 0))
    return [row_of("decodability", "all", figure, 0.0, mazes, "test mazes", said), *rows]


def _gains(counts: dict[tuple[int, str, Key, str], np.ndarray], drawn_BM: np.ndarray) -> tuple[np.ndarray, str]:
    """What the best probe of one label gains in each draw (B,), chosen on the other half of the mazes; and where the
    first draw reads it. counts: by reading, control, site and layer, and place."""
    sites = sorted({(form, key, place) for form, control, key, place in counts if control == "model"})
    odd_M, shape = np.arange(drawn_BM.shape[1]) % 2 == 1, (len(sites), 1 + len(CONTROLS), len(drawn_BM))
    halves = []
    for half_M in (odd_M, ~odd_M):
        f1_NKB = np.full(shape, -math.inf)  # a control that is nowhere is never the best
        for number, (form, key, place) in enumerate(sites):
            for which, control in enumerate(("model", *CONTROLS)):
                if (counts_M3C := counts.get((form, control, key, place))) is not None:
                    sums_BN = drawn_BM[:, half_M] @ counts_M3C[half_M].reshape(half_M.sum(), -1)
                    f1_NKB[number, which] = rates(sums_BN.reshape(-1, *counts_M3C.shape[1:]).astype(np.float64))[1]
        halves.append(np.nan_to_num(f1_NKB, nan=0.0, neginf=-math.inf))
    gains, said, draw_B = np.zeros(len(drawn_BM)), [], np.arange(len(drawn_BM))
    for measured_NKB, chosen_NKB in (halves, halves[::-1]):
        rival_NB = chosen_NKB[:, 1:].argmax(1)
        best_B = (chosen_NKB[:, 0] - chosen_NKB[:, 1:].max(1)).argmax(0)
        rival_B = rival_NB[best_B, draw_B]
        gains += (measured_NKB[best_B, 0, draw_B] - measured_NKB[best_B, 1 + rival_B, draw_B]) / 2
        _, (site, layer), place = sites[best_B[0]]
        said.append(f"{site} {layer} {place} against {CONTROLS[rival_B[0]]}")
    return gains, "; ".join(dict.fromkeys(said))


def _normal(values: np.ndarray) -> Figure:
    """A value, the first, with its normal interval by the spread of its draws, all others."""
    value, half = float(values[0]), Z95 * float(values[1:].std(ddof=1))
    return value, value - half, value + half


def _drawn(values: np.ndarray) -> Figure:
    """A value, the first, with the interval of its draws, all others."""
    low, high = np.nanquantile(values[1:], (0.025, 0.975))
    return float(values[0]), min(float(low), float(values[0])), max(float(high), float(values[0]))


# Steerability


def steered(found: Steerability) -> list[Row]:
    """How much oftener a push makes the model write all of the other side's path than random pushes of equal norm, the
    setting chosen on other pairs; `step` is the first step at the fork alone, `layer k` the path pushed behind it."""
    layers, rows = sorted({layer for (_, layer), _ in found.settings}), []
    parts: list[tuple[str, Success, int | None]] = [("all", "path", None), ("step", "step", None)]
    for layer in layers:
        parts.append((f"layer {layer}", "path", layer))
    for part, success, layer in parts:
        hit_Q, random_Q, used = found.chosen(success, layer)
        turned = "whole paths turned" if success == "path" else "steps at the fork turned"
        said = ", ".join(f"{strength:g} times behind layer {where}" for (_, where), strength in used)
        said = f"{turned}: {hit_Q.mean():.1%}, by random pushes {random_Q.mean():.1%}; pushed {said}"
        rows.append(row_of("steerability", part, found.gain(success, layer), 0.0, len(hit_Q), "pairs", said))
    return rows


# Depth used


def depth_used(depth: Depth, draws: int = 1000, seed: int = 0) -> list[Row]:
    """Over how many layers what their removals cost is spread, how many cost anything, and what each costs.

    The number is exp(entropy) of the layers' shares in all that is lost at forks, what is gained counting as 0: the
    effective number of layers (Hill 1973, "Diversity and evenness", of order 1): L where all cost the same, 1 where one
    layer does it all; intervals of resampled mazes. `layers` counts the removals that cost right steps after Holm's
    correction (Holm 1979), by the normal approximation over mazes: with 95% confidence there are no fewer, so the
    interval ends at all; `above_random` those that cost more than a random change as large, corrected likewise.
    """
    lost_LQ = depth.right_Q - depth.right_CQ
    layers, mazes = lost_LQ.shape
    used_L, above_L = holm(lost_LQ), holm(depth.random_right_CQ - depth.right_CQ)
    right = float(depth.right_Q.sum() / depth.forks_Q.sum())
    said = f"of {layers} layers, an effective number; {used_L.sum()} of {layers} removals cost right steps at forks; "
    said += f"without any, {right:.1%} are right"
    drawn_BQ = np.random.default_rng([seed, 6]).multinomial(mazes, np.full(mazes, 1 / mazes), draws)
    sums_BL = np.concatenate([lost_LQ.sum(1)[None], drawn_BQ @ lost_LQ.T])
    figure = _drawn(effective(sums_BL)) if used_L.any() else None
    rows = [row_of("depth_used", "all", figure, None, mazes, "mazes", said)]
    for part, found_L in (("layers", used_L), ("above_random", above_L)):
        count = float(found_L.sum())
        rows.append(row_of("depth_used", part, (count, count, float(layers)), 0.0, mazes, "mazes", f"of {layers}"))
    for removal, lost_Q in zip(depth.removals, lost_LQ, strict=True):
        rows.append(row_of("depth_used", f"layer {removal.layer}", ratio(lost_Q, depth.forks_Q), 0.0, mazes, "mazes"))
    return rows


def effective(sums_BL: np.ndarray) -> np.ndarray:
    """exp(entropy) of the shares of each row, negative ones counting as 0; NaN for a row without any."""
    more_BL = np.maximum(sums_BL, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share_BL = more_BL / more_BL.sum(1, keepdims=True)
        return np.exp(-np.where(share_BL > 0, share_BL * np.log(share_BL), 0 * share_BL).sum(1))


def holm(values_LQ: np.ndarray, level: float = 0.05) -> np.ndarray:
    """bool (L,): which means over Q are above 0, at a level for all together (Holm 1979); two-sided, normal."""
    centre_L = values_LQ.mean(1)
    error_L = values_LQ.std(1, ddof=1) / math.sqrt(values_LQ.shape[1])
    p_L = np.array(
        [
            math.erfc(abs(centre) / error / math.sqrt(2)) if error else float(centre == 0)
            for centre, error in zip(centre_L, error_L, strict=True)
        ]
    )
    order_L = np.argsort(p_L, kind="stable")
    passed_L = np.logical_and.accumulate(p_L[order_L] * np.arange(len(p_L), 0, -1) < level)
    found_L = np.zeros(len(p_L), np.bool_)
    found_L[order_L] = passed_L
    return found_L & (centre_L > 0)
