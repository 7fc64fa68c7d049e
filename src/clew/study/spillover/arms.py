"""The arms: who writes what, who hears of the penalty and how hard it is, what rewrites thoughts, and the beginning.

The first four are the published remedies ("Output Supervision Can Obfuscate the Chain of Thought", arXiv 2511.11584),
in the words of Clew: a penalty that the face alone hears is *reward targeting*, two policies are *Mind & Face*.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

Policies = Literal["one", "two", "adapters"]
Heard = Literal["both", "face"]
Start = Literal["search", "own style", "path"]
POLICIES: tuple[Policies, ...] = ("one", "two", "adapters")
WHO = {"one": "one policy", "two": "two policies", "adapters": "two adapters"}
HEARD: tuple[Heard, ...] = ("both", "face")
STARTS: tuple[Start, ...] = ("search", "own style", "path")
REWRITINGS: tuple[tuple[str, str], ...] = (("copy", "line"), ("shuffle", "whole"), ("shuffle", "line"))


@dataclass(frozen=True)
class Arm:
    """One way to train. An arm without a penalty is the control of those that differ from it in the penalty alone."""

    policies: Policies = "one"
    heard: Heard = "both"
    """who hears of the penalty"""
    penalty: float = 1.0
    """lambda: what an answer that mentions the door loses"""
    paraphraser: str | None = None
    paraphrase: str | None = None
    start: Start = "search"
    """what was imitated: searches, the same with answers in a style of their own, or thoughts that are a path"""
    rate_of: Policies | None = None
    """the kind of policies whose learning rate it has; None: its own"""

    @property
    def plain(self) -> bool:
        """Whether it is one of the remedies, and nothing is asked beyond them."""
        return self.start == "search" and self.paraphraser is None and self.rate_of is None

    def control(self) -> "Arm":
        """Without the penalty, of which then nobody hears."""
        return replace(self, penalty=0.0, heard="both")

    def named(self) -> str:
        """In words: "two policies, heard by the face, penalty 1, shuffle line"."""
        told = [f"heard by {'both' if self.heard == 'both' else 'the face'}", f"penalty {self.penalty:g}"]
        parts = [WHO[self.policies], *(told if self.penalty else ["no penalty"])]
        parts += [f"{self.paraphraser} {self.paraphrase}"] if self.paraphraser else []
        parts += [f"at the rate of {WHO[self.rate_of]}"] if self.rate_of else []
        return ", ".join([*parts, *{"own style": ["own style"], "path": ["path thoughts"]}.get(self.start, [])])


MAIN = 1.0  # the penalty at which remedies are compared
PENALTY_ALONE, TARGETED = Arm(), Arm(heard="face")
MIND_AND_FACE, COMBINED = Arm("two"), Arm("two", "face")
PUBLISHED: dict[str, Arm] = {
    "penalty alone": PENALTY_ALONE,
    "reward targeting": TARGETED,
    "Mind & Face": MIND_AND_FACE,
    "Mind & Face with reward targeting": COMBINED,
}
"""from the weakest to the strongest, as published"""
WORST, BEST = PENALTY_ALONE, COMBINED


def remedies(penalties: Sequence[float]) -> list[Arm]:
    """Who writes what by who hears of the penalty by its weight; without a penalty nobody can be told apart by that."""
    made = [Arm(policies, penalty=0.0) for policies in POLICIES]
    heavy = [penalty for penalty in penalties if penalty]
    return made + [Arm(policies, heard, penalty) for policies, heard, penalty in product(POLICIES, HEARD, heavy)]


def rewritten() -> list[Arm]:
    """Paraphrasers on the worst and on the best arm, and on their controls."""
    both = product((WORST, BEST), REWRITINGS)
    return _with_controls([replace(arm, paraphraser=name, paraphrase=how) for arm, (name, how) in both])


def begun_in_style() -> list[Arm]:
    """The published remedies after answers in a style of their own were imitated."""
    return _with_controls([replace(arm, start="own style") for arm in PUBLISHED.values()])


def with_short_thoughts() -> list[Arm]:
    """The published remedies where a thought is a path."""
    return _with_controls([replace(arm, start="path") for arm in PUBLISHED.values()])


def at_rates_of_others() -> list[Arm]:
    """The published remedies, one policy at the rate of two and two at the rate of one: how far thoughts fall silent
    depends on the rate too, and each kind of policies chose its own."""
    return _with_controls([arm for rate in POLICIES[:2] for arm in published_at(rate).values() if arm.rate_of])


def published_at(rate: Policies) -> dict[str, Arm]:
    """The published remedies, each at the learning rate of these policies."""
    return {name: arm if arm.policies == rate else replace(arm, rate_of=rate) for name, arm in PUBLISHED.items()}


def _with_controls(arms: Sequence[Arm]) -> list[Arm]:
    return list(dict.fromkeys([arm.control() for arm in arms] + [*arms]))


PARTS = ("remedies", "paraphrasers", "style", "length", "rates")


def arms(parts: Sequence[str], penalties: Sequence[float]) -> list[Arm]:
    """All arms of these parts of the study, each once."""
    made = {
        "remedies": remedies(penalties),
        "paraphrasers": rewritten(),
        "style": begun_in_style(),
        "length": with_short_thoughts(),
        "rates": at_rates_of_others(),
    }
    needed = [*PUBLISHED.values(), *(arm.control() for arm in PUBLISHED.values())]  # what the others are compared with
    return list(dict.fromkeys([*needed, *(arm for part in PARTS if part in parts for arm in made[part])]))
