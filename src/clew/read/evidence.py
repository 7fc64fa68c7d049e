"""What each instrument says for and against the accounts of `clew.read.algorithm`, whose head says what they predict.

Each function reads one instrument, whatever others say, and none decides: `algorithm.judge` does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from clew.mazes.pairs import PairBatch
from clew.policy import Policy
from clew.read.arrival import LEAST, SHAPE, Arrival, Fit, Growing, Rise, arrived, growth, rise
from clew.read.effects import Effects, Figure, difference, mean, rate
from clew.read.hops import ENDS, From, Hops, shape
from clew.read.knockout import Cut, Knockouts
from clew.read.lens import Lens
from clew.read.places import Words, find_places

Account = Literal["chaining", "path merging", "heuristic"]
ACCOUNTS: tuple[Account, ...] = get_args(Account)
SEARCHES: tuple[Account, ...] = ("chaining", "path merging")
Kind = Literal["behaviour", "patching", "knock-outs", "logit lens", "probes"]
KINDS: tuple[Kind, ...] = get_args(Kind)
CAUSAL: tuple[Kind, ...] = ("patching", "knock-outs")
"""kinds of evidence that change what is inside and see what becomes of the step; the other kinds look on"""
LAYER = 1.0
"""What is farther away is known later if the farthest comes a whole layer after the nearest, and not if it surely comes
less than that later"""
COIN = 0.25
"""the share of pairs both sides of which a coin gets right"""
FAR = 2
"""steps from which on a step is to be found out, and not to be seen"""
MATTERS = 0.15
"""What was hidden is read if surely more of the right steps are lost than this share, and is not if surely fewer"""


@dataclass(frozen=True)
class Evidence:
    """What one reading says."""

    kind: Kind
    reading: str
    says: str
    """in words, with figures"""
    supports: tuple[Account, ...] = ()
    against: tuple[Account, ...] = ()


def behaviour(policy: Policy, targets: PairBatch, effects: Effects) -> Evidence:
    """Does it look ahead? Both sides of a pair ask at the same fork, so what does not see the target's branch gets one
    of them wrong. Beside it the branch that lies nearer to the target as the crow flies, by steps without walls.

    targets: pairs of kind target. effects: of them, whatever was patched; the unpatched runs alone are asked for.
    """
    reading, far_P = "one of two targets", _far(targets)
    if far_P.sum() < LEAST:
        return Evidence("behaviour", reading, _too_few(far_P))
    found = rate(_both(effects)[far_P])
    crow, _, most = mean(as_the_crow_flies(policy, targets)[far_P])
    most = max(most, COIN)
    says = (
        f"at {far_P.sum()} forks that need two steps of looking ahead or more, the step is right for both targets of a "
    )
    says += f"pair in {_share(found)}; were it to the branch nearer as the crow flies, in {crow:.0%}"
    says += f", a coin's in {COIN:.0%}"
    return _looks_ahead(reading, says, found[1] > most)


def moved(passages: PairBatch, effects: Effects) -> Evidence:
    """Does it heed passages that lie beyond the fork's own? Where one of these leads is all that tells the sides of a
    pair apart. passages: pairs of kind passage; effects as for `behaviour`."""
    reading, far_P = "a moved passage", _far(passages)
    if far_P.sum() < LEAST:
        return Evidence("behaviour", reading, _too_few(far_P))
    found = rate(_both(effects)[far_P])
    says = f"at {far_P.sum()} such forks, the step is right both before and after a passage elsewhere was moved in "
    says += f"{_share(found)}; a coin's would be in {COIN:.0%}, that of what does not see the passage in none"
    return _looks_ahead(reading, says, found[1] > COIN)


def _far(pairs: PairBatch) -> np.ndarray:
    return np.minimum(pairs.lookahead_P, pairs.corrupt_lookahead_P) >= FAR


def _both(effects: Effects) -> np.ndarray:
    return (effects.clean_P > 0) & (effects.corrupt_P < 0)


def _too_few(far_P: np.ndarray) -> str:
    return f"{far_P.sum()} of the pairs need more than one step of looking ahead: too few to tell"


def _looks_ahead(reading: str, says: str, ahead: bool) -> Evidence:
    if ahead:
        return Evidence("behaviour", reading, f"{says}: it looks ahead", against=("heuristic",))
    return Evidence("behaviour", reading, f"{says}: no more than that", ("heuristic",), SEARCHES)


def of_steps(lens: Lens) -> Evidence:
    """Does it take steps at all? What writes nothing right at forks has no way of finding its way."""
    own, twin = (rate(top_LP[-1]) for top_LP in (lens.top_LP, lens.random_top_LP))
    says = f"at forks the likeliest token is the right step in {_share(own)}, with random weights in {_share(twin)}"
    if own[1] > twin[2]:
        return Evidence("behaviour", "steps at forks", says)
    return Evidence("behaviour", "steps at forks", f"{says}: it was not seen to walk", against=ACCOUNTS)


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
    """When the fork knows, by distance. Where the near arrives as late as the far, that speaks against a search if
    distance is the fork's lookahead: a passage may be near the fork and yet the last to be reached, from the target."""
    what = {"lookahead": "the target's branch", "farther": "a moved passage"}.get(found.by, found.by)
    steps = {"lookahead": "steps to look ahead", "farther": "steps from the fork"}.get(found.by, "steps")
    says = f"{what} is half known at the fork after so many layers, by {steps}: "
    says += _listed(found.distance_G, [value for value, _, _ in found.arrival_G])
    grown = rise(found.distance_G, found.pairs_G, found.drawn_GB, found.late_G)
    counts = found.by == "lookahead" and not found.late_G.any()
    said, supports, against = _growing(grown, found.shuffled, counts)
    if found.late_G.any():
        how_many = "all" if found.late_G.all() else f"{found.late_G.sum()} of these {len(found.late_G)}"
        said += f"; {how_many} in the last layer, behind which everything is known anyway"
    return Evidence("patching", f"arrival of {what}", says + said, supports, against)


def of_lens(lens: Lens) -> Evidence:
    """After how many layers the logit lens has half of what it tells in the end, by lookahead."""
    told_LP = np.sign(lens.metric_LP)
    effects = Effects([{}] * len(told_LP), told_LP[-1], np.zeros(told_LP.shape[1]), {"denoising": told_LP})
    found = of_arrival(arrived(effects, "lookahead", lens.lookahead_P))
    says = found.says.replace("the target's branch is half known", "half of the branch is told")
    return replace(found, kind="logit lens", reading="the branch by depth", says=says)


def cuts_of(layers: int, most: int = 8) -> list[Cut]:
    """The knock-outs that a verdict rests on: what is behind the list does not see edges at d steps from the target,
    or from the fork, in one layer; and those FAR steps from the fork and more in no layer."""
    one = [Cut("behind", end, d, (layer,)) for end in ENDS for d in range(most) for layer in range(layers)]
    return [*one, Cut("beyond", "current", FAR, tuple(range(layers)))]


def of_sight(found: Knockouts[Cut]) -> Evidence:
    """Whether passages beyond the next cell are read at all: how many right steps are lost where no layer sees them."""
    mine = [number for number, cut in enumerate(found.cuts) if cut.way == "beyond"]
    some_P = (found.count_CP[mine] > 0).any(0)
    reading = "far passages hidden"
    if some_P.sum() < LEAST:
        return Evidence("knock-outs", reading, f"{some_P.sum()} mazes have passages to hide: too few to tell")
    right_P, cut_P = found.clean_P[some_P] > 0, found.cut_CP[mine[0]][some_P] > 0
    lost = difference(right_P, cut_P)
    says = f"where no layer sees passages {FAR} steps from the fork or farther, the step is right in {cut_P.mean():.0%}"
    says += f", in place of {right_P.mean():.0%}"
    if lost[1] > MATTERS:
        return Evidence("knock-outs", reading, f"{says}: they are read", against=("heuristic",))
    if lost[2] < MATTERS:
        return Evidence("knock-outs", reading, f"{says}: they are not read", ("heuristic",))
    return Evidence("knock-outs", reading, f"{says}: too uncertain to tell")


def of_knockouts(found: Knockouts[Cut], draws: int = 200, seed: int = 0) -> Evidence:
    """In which layer edges at some distance are read: the mean layer, each as heavy as the effect of its knock-out."""
    reading, said, read = "passages hidden, layer by layer", [], []
    for end in ENDS:
        both = [
            _centres(found, end, cut_CP, draws, np.random.default_rng(seed))
            for cut_CP in (found.cut_CP, found.random_CP)
        ]
        read.append(_growing(rise(*both[0]), growth(*both[1]), True))
        name = "target" if end == "target" else "fork"
        said.append(f"by steps from the {name} {_listed(both[0][0], both[0][2][:, 0])}{read[-1][0]}")
    says = f"passages are read in layer (from 0), in the mean, {'. And '.join(said)}"
    rising = {supports for _, supports, _ in read if supports}
    if rising:  # a search that goes out from one end reads the other end's passages last
        supports = rising.pop() if len(rising) == 1 else SEARCHES
        return Evidence("knock-outs", reading, says, supports, _others(supports))
    return Evidence("knock-outs", reading, says, (), SEARCHES if all(against for *_, against in read) else ())


def _centres(
    found: Knockouts[Cut], end: From, cut_CP: np.ndarray, draws: int, dice: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances G, to the far ends of edges, pairs of each, and the mean layer (G, 1 + draws): of all pairs, and of as
    many drawn anew. NaN where no layer's knock-out has an effect of a twentieth."""
    distances, counts, rows = [], [], []
    for distance in sorted({cut.distance for cut in found.cuts}):
        named = [(cut.way, cut.end, cut.distance) for cut in found.cuts]
        mine = [number for number, name in enumerate(named) if name == ("behind", end, distance)]
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
    """How many hops from the target, and from where the path stands, probes find after each layer."""
    known: dict[From, np.ndarray] = {"target": found.from_target_L, "current": found.from_current_L}
    shapes = {end: shape(known[end], found.layers, found.most[end]) for end in ENDS}
    names = {"target": "target", "current": "path's cell"}
    listed = (
        f"{', '.join(map(str, known[end].tolist()))} from the {names[end]} (of {found.most[end]}): {_HOPS[shapes[end]]}"
        for end in ENDS
    )
    says = f"next hops decoded above every control, up to so many steps, after each layer: {'; '.join(listed)}"
    told = {_SHAPED[one] for one in shapes.values() if one in _SHAPED}
    if told:
        supports = told.pop() if len(told) == 1 else SEARCHES
        return Evidence("probes", f"hops known at {place}", says, supports, _others(supports))
    return Evidence("probes", f"hops known at {place}", says, (), ACCOUNTS if "flat" in shapes.values() else ())


_SHAPED: dict[str, tuple[Account, ...]] = {"linear": ("chaining",), "doubling": ("path merging",), "grows": SEARCHES}
_HOPS = {
    "few": "too few layers and hops for a curve",
    "flat": "as many in all layers",
    "linear": "as many more in each layer",
    "doubling": "each layer doubles them",
    "grows": "more with each layer, evenly or doubling",
    "neither": "more with depth, neither evenly nor doubling",
}


def _growing(
    grown: Rise | None, luck: Mapping[Growing, Fit], counts: bool
) -> tuple[str, tuple[Account, ...], tuple[Account, ...]]:
    """What is said of values that may rise with distance, and what this speaks for and against.

    luck: fits where distance has nothing to do with it. counts: whether no rise speaks against growth.
    """
    if grown is None:
        return "; too few distances to tell", (), ()
    value, low, high = grown.layers
    said = f"; {value:+.1f} layers{_ends(grown.layers)} from the nearest to the farthest"
    if value >= LAYER and low > max(0.0, luck["linear"].slope[0] * grown.steps if luck else 0.0):
        if grown.shape is None:
            return f"{said}, in a shape that decides nothing", SEARCHES, ()
        better: tuple[Account, ...] = ("chaining",) if grown.shape == "linear" else ("path merging",)
        shaped = "the distance" if grown.shape == "linear" else "its logarithm"
        return f"{said}, in proportion to {shaped}", better, _others(better)
    if high < LAYER and low > -LAYER and grown.distances >= SHAPE:
        return f"{said}: less than a layer", (), SEARCHES if counts else ()
    return f"{said}: not surely a layer or more", (), ()


def _others(supports: Sequence[Account]) -> tuple[Account, ...]:
    """The searches that are not supported."""
    return tuple(account for account in SEARCHES if account not in supports)


def _listed(distance_G: np.ndarray, values_G: Sequence[float] | np.ndarray) -> str:
    pairs = zip(distance_G.tolist(), values_G, strict=True)
    return ", ".join(f"{distance}: {value:.1f}" for distance, value in pairs if not np.isnan(value)) or "none"


def _share(figure: Figure) -> str:
    value, low, high = figure
    return f"{value:.0%} [{low:.0%}, {high:.0%}]"


def _ends(figure: Figure) -> str:
    _, low, high = figure
    return f" [{low:+.1f}, {high:+.1f}]" if np.isfinite([low, high]).all() else ""
