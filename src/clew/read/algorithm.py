"""Which algorithm? Three accounts of how a model finds its way, what they predict, and which of them holds.

    chaining       passages are gone along one after another, as many more in each layer (Brinkmann et al. 2024, arXiv
                   2402.11917: one backward hop a layer)
    path merging   stretches of path that are known are joined to longer ones, so that each layer doubles them (Saparov
                   et al. 2024, arXiv 2412.04703)
    heuristic      no looking ahead: any open passage, say, or the branch that lies nearer to the target

What they predict, by kind of evidence; d is a distance in steps. A kind is causal if it changes what is inside and sees
what becomes of the step.

    behaviour               both searches: steps are right at forks that need two steps of looking ahead or more, for
                            either target and wherever a passage beyond was moved to. Heuristic: no oftener than by the
                            branch that is nearer as the crow flies, and than by a coin.
    patching (causal)       chaining: what lies d away has arrived at the fork after a number of layers that grows with
                            d. Path merging: with log2 d.
    knock-outs (causal)     chaining: the layer in which passages at d are read grows with d. Path merging: with log2 d.
                            Heuristic: those two steps away and more are not read in any layer.
    logit lens              the right branch is told after a number of layers that grows with the fork's lookahead d, or
                            with log2 d.
    probes                  chaining: after each layer as many more hops from one end are decoded. Path merging: twice
                            as many.

Growth is what survives the instrument (`arrival.rise`, `hops.shape`): the farthest comes a whole layer later than the
nearest; and the number of hops takes three values above 0 in four layers or more. Its shape has to be told from the
other one: over two layers and four distances, in 97.5% of the draws; or off by a hop. So a number that rises once has
no shape, and four layers seldom have one.

    verdict = which_algorithm(policy, target_pairs, passage_pairs, lens, knockouts, hops)
    verdict.name, verdict.why, verdict.evidence

**An account is accepted if at least two kinds of evidence speak for it, one of them causal, and none against.** Several
readings of a kind are one voice, and one that is against is an objection, whatever the others say. Between the searches
shape decides, by the same rule: otherwise what is known is that deeper layers look farther. All else is "none of
these", with what is missing or disagrees; where too few pairs ask for looking ahead, nothing is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clew.mazes.pairs import PairBatch
from clew.policy import Policy
from clew.read.arrival import Arrival, arrived, distances_of, known_after
from clew.read.effects import table_of
from clew.read.evidence import (
    ACCOUNTS,
    CAUSAL,
    KINDS,
    SEARCHES,
    Account,
    Evidence,
    Kind,
    behaviour,
    moved,
    of_arrival,
    of_hops,
    of_knockouts,
    of_lens,
    of_sight,
    of_steps,
)
from clew.read.hops import Hops
from clew.read.knockout import Cut, Knockouts
from clew.read.lens import Lens

if TYPE_CHECKING:
    import pyarrow as pa

HEURISTIC = "a heuristic: it does not look ahead"
EITHER = "chaining or path merging, which cannot be told apart here"
NONE = "none of these"
FEW = "too few pairs to tell"
AGREE = 2
"""kinds of evidence that have to agree, one of them causal"""
AGREE_SAID = f"Two kinds of evidence have to agree, one of them causal ({' or '.join(CAUSAL)})."

FLAT: dict[Kind, str] = {
    "patching": "near or far, it is known at the fork after as many layers",
    "knock-outs": "near or far, passages are read in the same layers",
    "logit lens": "near or far, the branch is told after as many layers",
    "probes": "as many hops are known in all layers",
}
"""what speaks against both searches, by kind"""


@dataclass(frozen=True)
class Verdict:
    """What all of it comes to."""

    name: str
    """an account; HEURISTIC, EITHER, NONE or FEW"""
    why: str
    """a sentence or two in plain words: what agrees, or what is missing or disagrees"""
    evidence: tuple[Evidence, ...]

    def table(self) -> "pa.Table":
        """A row a reading and account: verdict, why, kind, causal, reading, says, account, and speaks: for it, against
        it, or not."""
        rows = []
        for one in self.evidence:
            for account in ACCOUNTS:
                speaks = "for" if account in one.supports else "against" if account in one.against else "not"
                about = {"verdict": self.name, "why": self.why, "kind": one.kind, "causal": one.kind in CAUSAL}
                about |= {"reading": one.reading, "says": one.says}
                rows.append({**about, "account": account, "speaks": speaks})
        return table_of(rows)


def judge(evidence: Sequence[Evidence]) -> Verdict:
    """The verdict that follows, by the rule at the head of this module."""
    return Verdict(*_judged(evidence), tuple(evidence))


def _judged(evidence: Sequence[Evidence]) -> tuple[str, str]:
    """The verdict's name, and why."""
    if not any(one.supports or one.against for one in evidence if one.kind == "behaviour"):
        return FEW, "Too few of the pairs need looking ahead to see whether the model does."
    if any(set(ACCOUNTS) <= set(one.against) for one in _of(evidence, "behaviour")):
        return NONE, "It was not seen to walk: at forks its likeliest token is right no oftener than by random weights."
    seen, blind = _against(evidence, "heuristic"), _for(evidence, "heuristic")
    if _enough(blind) and not seen:
        return HEURISTIC, f"{_listed(blind)} agree, and nothing disagrees."
    if "behaviour" not in seen or "behaviour" in _objecting(evidence):
        against = f", and against it {_listed(seen)}" if seen else ""
        return NONE, f"Whether it looks ahead is not sure: for a heuristic {_alone(blind)}{against}. {AGREE_SAID}"
    if objecting := _objecting(evidence):
        seen_by = " and ".join(f"{FLAT[kind]} ({kind})" for kind in objecting)
        return NONE, f"It looks ahead, but not as a search by layers would: {seen_by}."
    growing: list[Kind] = [
        kind for kind in KINDS if any(set(SEARCHES) & set(one.supports) for one in _of(evidence, kind))
    ]
    if not _enough(growing):
        return NONE, f"It looks ahead; that deeper layers look farther, {_alone(growing)} for. {AGREE_SAID}"
    alone = {account: _alone_for(evidence, account) for account in SEARCHES}
    for account in SEARCHES:
        if _enough(alone[account]) and not _against(evidence, account):
            return account, f"{_listed(alone[account])} agree, and nothing disagrees."
    told = "; ".join(f"for {account} {_alone(kinds)}" for account, kinds in alone.items() if kinds)
    return EITHER, f"{_listed(growing)} agree that deeper layers look farther; {told or 'nothing says in what shape'}."


def _of(evidence: Sequence[Evidence], kind: Kind) -> list[Evidence]:
    return [one for one in evidence if one.kind == kind]


def _against(evidence: Sequence[Evidence], account: Account) -> list[Kind]:
    """The kinds of which some reading speaks against it."""
    return [kind for kind in KINDS if any(account in one.against for one in _of(evidence, kind))]


def _for(evidence: Sequence[Evidence], account: Account) -> list[Kind]:
    """The kinds of which some reading speaks for it, and none against."""
    against = _against(evidence, account)
    some: list[Kind] = [kind for kind in KINDS if any(account in one.supports for one in _of(evidence, kind))]
    return [kind for kind in some if kind not in against]


def _alone_for(evidence: Sequence[Evidence], account: Account) -> list[Kind]:
    """The kinds that speak for one search and against the other."""
    (other,) = set(SEARCHES) - {account}
    return [kind for kind in _for(evidence, account) if kind in _against(evidence, other)]


def _objecting(evidence: Sequence[Evidence]) -> list[Kind]:
    """The kinds of which some reading speaks against both searches."""
    return [kind for kind in KINDS if any(set(SEARCHES) <= set(one.against) for one in _of(evidence, kind))]


def _enough(kinds: Sequence[Kind]) -> bool:
    return len(kinds) >= AGREE and any(kind in CAUSAL for kind in kinds)


def _alone(kinds: Sequence[Kind]) -> str:
    return f"{_listed(kinds)} alone speak{'s' * (len(kinds) == 1)}" if kinds else "nothing speaks"


def _listed(kinds: Sequence[str]) -> str:
    return " and ".join([", ".join(kinds[:-1]), kinds[-1]] if len(kinds) > 1 else kinds)


def which_algorithm(
    policy: Policy,
    targets: PairBatch,
    passages: PairBatch,
    lens: Lens,
    knockouts: Knockouts[Cut],
    known: Mapping[str, Hops] | None = None,
) -> tuple[Verdict, list[Arrival]]:
    """The verdict, and the arrivals that it rests on.

    targets, passages: pairs of the two kinds. lens: of the former. knockouts: on them, of `evidence.cuts_of`. known:
    hops that probes find, by the place at which they read. InputError as `patching.patch`, and for pairs of another
    kind.
    """
    of_targets, of_passages = known_after(policy, targets), known_after(policy, passages)
    found = [
        arrived(of_targets, "lookahead", distances_of(policy, targets)["lookahead"]),
        arrived(of_passages, "farther", distances_of(policy, passages)["farther"]),
    ]
    evidence = [of_steps(lens), behaviour(policy, targets, of_targets), moved(passages, of_passages)]
    evidence += [of_arrival(one) for one in found]
    evidence += [of_sight(knockouts), of_knockouts(knockouts), of_lens(lens)]
    evidence += [of_hops(place, hops) for place, hops in (known or {}).items()]
    return judge(evidence), found
