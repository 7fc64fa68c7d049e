"""Which algorithm? What each instrument says for and against three accounts of how a model finds its way.

    chaining       hops of the maze are added layer by layer, about as many in each: how far a layer knows is linear in
                   its depth (Brinkmann et al. 2024, arXiv 2402.11917: one backward hop a layer)
    path merging   stretches of path that are known are joined to longer ones: how far a layer knows doubles
                   (Saparov et al. 2024, arXiv 2412.04703)
    heuristic      no looking ahead: at a fork the branch that lies nearer to the target, say

    verdict = which_algorithm(policy, target_pairs, passage_pairs, maps)
    verdict.name, verdict.evidence

An account is accepted if at least two readings speak for it and none against. Where that leaves chaining and merging
both, what is known is that deeper layers look farther; where it leaves neither, the verdict is "none of these"; and
where no reading says anything, there were too few pairs to tell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from clew.mazes.pairs import PairBatch
from clew.policy import Policy
from clew.read.arrival import LEAST, Arrival, Fit, Growing, arrived, distances_of, growth, known_after
from clew.read.effects import Effects, mean, rate, table_of
from clew.read.hops import ENDS, Hops
from clew.read.knockout import Cut, Knockouts
from clew.read.lens import Lens
from clew.read.places import Words, find_places

if TYPE_CHECKING:
    import pyarrow as pa

Account = Literal["chaining", "path merging", "heuristic"]
ACCOUNTS: tuple[Account, ...] = get_args(Account)
Fits = Mapping[Growing, Fit]
SEARCHES: tuple[Account, ...] = ("chaining", "path merging")
BETTER = 2.0
"""by how much one way to grow has to leave over less than another, in squared residuals, to be called the better one"""
SHAPE = 4
"""distances below which growth has no shape: two parameters fit three of them too easily"""


@dataclass(frozen=True)
class Evidence:
    """What one reading says."""

    reading: str
    says: str
    """in words, with figures"""
    supports: tuple[Account, ...] = ()
    against: tuple[Account, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What all of it comes to."""

    name: str
    evidence: tuple[Evidence, ...]

    def table(self) -> "pa.Table":
        """A row a reading and account: verdict, reading, says, account, speaks (for, against, or not)."""
        rows = []
        for one in self.evidence:
            for account in ACCOUNTS:
                speaks = "for" if account in one.supports else "against" if account in one.against else "not"
                about = {"verdict": self.name, "reading": one.reading, "says": one.says}
                rows.append({**about, "account": account, "speaks": speaks})
        return table_of(rows)


def judge(evidence: Sequence[Evidence]) -> Verdict:
    """The verdict that follows: see the head of this module."""
    for_, against = (
        {account: sum(account in getattr(one, side) for one in evidence) for account in ACCOUNTS}
        for side in ("supports", "against")
    )
    left = [account for account in SEARCHES if for_[account] >= 2 and not against[account]]
    if for_["heuristic"] and not against["heuristic"]:
        name = "a heuristic: it does not look ahead"
    elif len(left) == 1:
        name = left[0]
    elif left:
        name = "chaining or path merging: deeper layers look farther, and which of the two it is cannot be told"
    elif any(for_.values()) or any(against.values()):
        name = "none of these"
    else:
        name = "too few pairs to tell"
    return Verdict(name, tuple(evidence))


def which_algorithm(
    policy: Policy,
    targets: PairBatch,
    passages: PairBatch,
    lens: Lens,
    knockouts: Knockouts,
    known: Mapping[str, Hops] | None = None,
) -> tuple[Verdict, list[Arrival]]:
    """The verdict, and the arrivals that it rests on.

    targets, passages: pairs of the two kinds. lens: of the former. knockouts: on them, of `cuts_of`. known: hops that
    probes find, by the place at which they read. InputError as `patching.patch`, and for pairs of another kind.
    """
    effects, moved = known_after(policy, targets), known_after(policy, passages)
    found = [
        arrived(effects, "lookahead", distances_of(policy, targets)["lookahead"]),
        arrived(moved, "farther", distances_of(policy, passages)["farther"]),
    ]
    evidence = [behaviour(policy, targets, effects)]
    evidence += [of_arrival(one) for one in found]
    evidence += [of_lens(lens), of_knockouts(knockouts)]
    evidence += [of_hops(place, hops) for place, hops in (known or {}).items()]
    return judge(evidence), found


def behaviour(policy: Policy, pairs: PairBatch, effects: Effects) -> Evidence:
    """Does it look ahead? Both sides of a pair ask at the same fork, so what does not see the target's branch gets one
    of them wrong. Beside it the branch that lies nearer to the target as the crow flies, by steps without walls."""
    far_P = np.minimum(pairs.lookahead_P, pairs.corrupt_lookahead_P) >= 2
    if far_P.sum() < LEAST:
        return Evidence(
            "behaviour", f"{far_P.sum()} pairs ask for more than one step of looking ahead: too few to tell"
        )
    both_P = (effects.clean_P > 0) & (effects.corrupt_P < 0)
    crow_P = as_the_crow_flies(policy, pairs)
    (right, low, high), (crow, _, most) = rate(both_P[far_P]), mean(crow_P[far_P])
    says = f"at forks that need two steps of looking ahead or more, right for both targets {_share(right, low, high)}"
    says += f"; the branch nearer as the crow flies {crow:.0%}"
    if low > most:
        return Evidence("behaviour", says, against=("heuristic",))
    return Evidence("behaviour", says, supports=("heuristic",), against=SEARCHES)


def as_the_crow_flies(policy: Policy, pairs: PairBatch) -> np.ndarray:
    """(P,): whether both sides would be right that step to the branch which is fewer steps from the target were there
    no walls; where both branches are as near it is right by half."""
    words, rows = Words.of(policy.tokenizer), np.arange(len(pairs))
    right_P = np.ones(len(pairs))
    steps = (pairs.right_P, pairs.wrong_P)
    for side_PT, ids in ((pairs.clean_tokens_PT, steps), (pairs.corrupt_tokens_PT, steps[::-1])):
        places = find_places(side_PT, words)
        which = places.named("target")
        target_PC = places.cell_RC[which][np.argsort(places.sequence_R[which])][rows]
        near, far = (np.abs(words.cell_VC[one_P] - target_PC).sum(1) for one_P in ids)
        right_P *= np.where(near < far, 1.0, np.where(near == far, 0.5, 0.0))
    return right_P


def of_arrival(found: Arrival) -> Evidence:
    """When the fork knows, by distance."""
    of = {"lookahead": "the target's branch, by lookahead", "farther": "a moved passage, by steps from the fork"}
    values_G = [value for value, _, _ in found.arrival_G]
    shown = _listed(found.distance_G, values_G)
    says = f"half of it is known at the fork after so many layers, by steps: {shown}"
    kept_G = ~found.late_G & ~np.isnan(values_G)
    shape_GB = np.repeat(np.array(values_G)[kept_G, None], 2, 1)  # the residuals alone are asked for: one draw does
    shape = growth(found.distance_G[kept_G], found.pairs_G[kept_G], shape_GB)
    return _growing(
        f"arrival of {of.get(found.by, found.by)}",
        says,
        found.fits,
        found.shuffled,
        shape if kept_G.sum() >= SHAPE else {},
        found.by == "lookahead" and not found.late_G.all(),
    )


def of_lens(lens: Lens) -> Evidence:
    """After how many layers the logit lens has half of what it tells in the end, by lookahead."""
    told_LP = np.sign(lens.metric_LP)
    effects = Effects([{}] * len(told_LP), told_LP[-1], np.zeros(told_LP.shape[1]), {"denoising": told_LP})
    found = of_arrival(arrived(effects, "lookahead", lens.lookahead_P))
    return replace(found, reading="logit lens", says=found.says.replace("half of it is known", "half of it is told"))


def cuts_of(layers: int, most: int = 8) -> list[Cut]:
    """The knock-outs that a verdict rests on: what is behind the list does not see edges at d steps from the target,
    or from the fork, in one layer."""
    return [Cut("behind", end, d, (layer,)) for end in ENDS for d in range(most) for layer in range(layers)]


def of_knockouts(found: Knockouts, draws: int = 200, seed: int = 0) -> Evidence:
    """In which layer edges at some distance are read: the mean layer, each as heavy as the effect of its knock-out."""
    said, fits = [], []
    for end in ENDS:
        for cut_CP in (found.cut_CP, found.random_CP):
            distance_G, pairs_G, drawn_GB = _centres(found, end, cut_CP, draws, np.random.default_rng(seed))
            fits.append(growth(distance_G, pairs_G, drawn_GB))
            if cut_CP is found.cut_CP:
                said.append(
                    f"by steps from the {end if end == 'target' else 'fork'} {_listed(distance_G, drawn_GB[:, 0])}"
                )
    grown = [_rises(fits[0], fits[1]), _rises(fits[2], fits[3])]
    says = f"edges are read in layer, in the mean, {'; '.join(said)}"
    return Evidence("knock-outs", says + _SAID[any(grown)], SEARCHES if any(grown) else ())


def _centres(
    found: Knockouts, end: str, cut_CP: np.ndarray, draws: int, dice: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances G, to the far ends of edges, pairs of each, and the mean layer (G, 1 + draws): of all pairs, and of as
    many drawn anew. NaN where no layer's knock-out has an effect of a twentieth."""
    distances, counts, rows = [], [], []
    for distance in sorted({cut.distance for cut in found.cuts}):
        mine = [n for n, cut in enumerate(found.cuts) if (cut.end, cut.distance) == (end, distance)]
        some_P = (found.count_CP[mine] > 0).all(0)
        if (n := int(some_P.sum())) < LEAST:
            continue
        weight_BP = np.concatenate([np.ones((1, n)), dice.multinomial(n, np.full(n, 1 / n), draws)])
        lost_CP = found.clean_P[some_P] - cut_CP[mine][:, some_P]
        total_B1 = weight_BP @ (found.clean_P - found.corrupt_P)[some_P][:, None]
        effect_BC = np.maximum(0, weight_BP @ lost_CP.T / np.where(total_B1 == 0, np.nan, total_B1))
        layer_C = np.array([found.cuts[one].layers[0] for one in mine])
        sum_B = effect_BC.sum(1)
        distances.append(distance + 1)
        counts.append(n)
        rows.append(np.where(sum_B > 0.05, effect_BC @ layer_C / np.maximum(sum_B, 1e-12), np.nan))
    return np.array(distances), np.array(counts), np.array(rows).reshape(len(rows), 1 + draws)


def of_hops(place: str, found: Hops) -> Evidence:
    """How many hops from the target probes find after each layer."""
    hops_L, most = found.from_target_L, found.most["target"]
    says = f"next hops decoded above every control up to so many steps from the target, by layer: {hops_L.tolist()}"
    reading = f"probes at {place}"
    if hops_L.max() < 2:
        return Evidence(reading, says + "; less than two say nothing of how they grow")
    fits = found.fits["target"]
    flat, linear, doubling = (fits[name].residual for name in ("flat", "linear", "doubling"))
    if fits["linear"].layers < SHAPE or fits["linear"].b <= 0 or flat < BETTER * min(linear, doubling):
        return Evidence(reading, says + f" (of {most}); too few layers, or no growth")
    better = _better(linear, doubling)
    return Evidence(reading, says, better or SEARCHES, tuple(one for one in SEARCHES if better and one not in better))


_SAID = {True: "; later the farther it is", False: "; no later the farther it is"}


def _growing(reading: str, says: str, fits: Fits, luck: Fits, shape: Fits, counts: bool) -> Evidence:
    """Evidence of values that may rise with distance. shape: fits to those of which the shape says something; counts:
    whether no rise speaks against growth."""
    if not fits:
        return Evidence(reading, f"{says}; too few distances to tell")
    grown = _rises(fits, luck)
    says += _SAID[grown]
    if not grown:
        return Evidence(reading, says, (), SEARCHES if counts else ())
    better = _better(shape["linear"].residual, shape["log2"].residual) if shape else ()
    says += f", and {better[0]} fits better" if better else ", in a shape that decides nothing"
    return Evidence(reading, says, better or SEARCHES, tuple(one for one in SEARCHES if better and one not in better))


def _rises(fits: Fits, luck: Fits) -> bool:
    """Whether values rise with distance, beyond what they do where distances were given to pairs at random."""
    if not fits:
        return False
    return fits["linear"].slope[1] > max(0.0, luck["linear"].slope[0] if luck else 0.0)


def _better(chaining: float, merging: float) -> tuple[Account, ...]:
    """Which of two ways to grow leaves clearly less over; none if neither does."""
    if chaining * BETTER < merging:
        return ("chaining",)
    return ("path merging",) if merging * BETTER < chaining else ()


def _listed(distance_G: np.ndarray, values_G: Sequence[float] | np.ndarray) -> str:
    pairs = zip(distance_G.tolist(), values_G, strict=True)
    return ", ".join(f"{distance}: {value:.1f}" for distance, value in pairs if not np.isnan(value)) or "none"


def _share(value: float, low: float, high: float) -> str:
    return f"{value:.0%} [{low:.0%}, {high:.0%}]"
