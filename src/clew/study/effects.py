"""By how much one arm of a study is ahead of another: paired differences with intervals, in numbers and in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from clew.study.cells import Result

SMALL = 0.01  # of the attainable gain: what nobody would change a training run for
SINGLE = 1e-7  # within which shares of single precision are the same; files keep four digits of them


@dataclass(frozen=True)
class Effect:
    """By how much `a` is ahead of `b` in one figure: a mean of paired differences with its 95% interval."""

    condition: str
    a: str
    b: str
    mean: float
    error: float
    """standard error of the mean"""
    replicas: int
    among: int = 1
    """how many comparisons the interval holds for together (Bonferroni)"""
    possible: float = math.inf
    """what no such difference exceeds, either way; its interval is cut there"""

    @property
    def half(self) -> float:
        """Half of the interval: Student's t at 1 - 0.05 / (2 * among), times the standard error."""
        return float(stats.t.ppf(1 - 0.025 / self.among, self.replicas - 1)) * self.error if self.error else 0.0

    @property
    def low(self) -> float:
        return max(self.mean - self.half, -self.possible)

    @property
    def high(self) -> float:
        return min(self.mean + self.half, self.possible)

    @property
    def sign(self) -> int:
        """1 or -1 where the interval excludes 0, otherwise 0: also where all differences are the same, of however many
        replicas, since they do not tell then how much such a difference scatters."""
        return int(self.low > 0) - int(self.high < 0) if self.scatters else 0

    @property
    def scatters(self) -> bool:
        """Whether the differences are not all the same, but for how they were rounded, as files of them are."""
        return self.error > SINGLE

    @property
    def most(self) -> float:
        """The largest difference, either way, that the interval allows."""
        return max(abs(self.low), abs(self.high))

    def sentence(self) -> str:
        """In words, with what the interval allows."""
        if self.low == self.high == 0:
            return "no difference: in these conditions they are one rule"
        if not self.scatters:
            said = f"differ by {percent(abs(self.mean))} in each of {self.replicas} replicas"
            return f"{self.a} and {self.b} {said}, which do not tell how sure that is"
        if self.sign == 0:
            return f"no detectable difference between {self.a} and {self.b}, at most {percent(self.most)}"
        ahead, behind = (self.a, self.b) if self.sign > 0 else (self.b, self.a)
        low, high = sorted((abs(self.low), abs(self.high)))
        small = ", too little to matter" if high < SMALL else ""
        return f"{ahead} is ahead of {behind} by {percent(abs(self.mean))} [{percent(low)}, {percent(high)}]{small}"


@dataclass(frozen=True)
class Row:
    """One comparison in plain words, under one or several conditions: a row of the picture."""

    label: str
    effects: tuple[Effect, ...]
    marks: tuple[str, ...] = ()
    """what distinguishes its effects, one a mark; empty where there is one effect alone"""


@dataclass(frozen=True)
class Verdict:
    """One question of the study and what the numbers say. The intervals of all its effects hold together."""

    question: str
    text: str
    rows: tuple[Row, ...]
    positive: str = ""
    """what an effect above 0 means, where it is not that `a` is ahead: "mentions fell" """

    @property
    def effects(self) -> tuple[Effect, ...]:
        return tuple(effect for row in self.rows for effect in row.effects)


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def paired(a: Result, b: Result, figure: str = "gained", condition: str = "") -> Effect:
    """The effect of a over b on the same tables. ValueError where the tables are not the same."""
    same = ("seed", "replicas") if "policies" in a.kept.values else ("world", "seed", "replicas")
    if any(a.kept.values[name] != b.kept.values[name] for name in same):
        raise ValueError(f"{a.name} and {b.name} did not meet the same tables")
    return effect_of(a.kept.figures[figure] - b.kept.figures[figure], condition, a.name, b.name)


def effect_of(difference_R: np.ndarray, condition: str, a: str, b: str) -> Effect:
    """The mean of a difference over replicas, with Student's t interval."""
    count = len(difference_R)
    error = float(difference_R.std(ddof=1) / count**0.5)
    return Effect(condition, a, b, float(difference_R.mean()), error, count)


def together(*groups: Sequence[Effect], chosen_from: int = 1) -> list[tuple[Effect, ...]]:
    """The groups of one question with intervals that hold for all of their effects at once, in 95 of 100 studies.

    Bonferroni: each of m comparisons gets an interval of 1 - 0.05 / m. An effect that was picked as the largest of
    several counts for all of them: `chosen_from` is how many each stands for.
    """
    among = chosen_from * sum(map(len, groups))
    return [tuple(replace(effect, among=among) for effect in group) for group in groups]


def tally(effects: Sequence[Effect], a: str, b: str) -> str:
    """How often who was ahead, and by how much at most."""
    wins, losses = [sum(e.sign == sign for e in effects) for sign in (1, -1)]
    if len(effects) == 1:
        return effects[0].sentence()
    parts = [f"{a} is ahead in {wins} of {len(effects)} conditions" + where_most(effects, 1)]
    parts.append(f"{b} in {losses}" + where_most(effects, -1))
    open_ones = [e for e in effects if e.sign == 0]
    if open_ones:
        bound = max(e.most for e in open_ones)
        parts.append(f"no detectable difference in {len(open_ones)}, at most {percent(bound)}")
    return "; ".join(parts)


def where_most(effects: Sequence[Effect], sign: int) -> str:
    ahead = [e for e in effects if e.sign == sign]
    if not ahead:
        return ""
    top = max(ahead, key=lambda e: abs(e.mean))
    where = f"most where {top.condition}: " if top.condition else ""
    return f" ({where}{percent(abs(top.mean))})"


@dataclass(frozen=True)
class Allocation:
    """Who wins where: one condition of the grid of noise and cost."""

    condition: dict[str, Any]
    grid: tuple[int, ...]
    """the numbers of answers that were tried"""
    best: int
    certainty: Effect
    """the winner over the best of the others"""
    over_one: Effect
    """the best number of several answers over one answer to a thought, and more thoughts"""
    planned: int
    regret: Effect
    """the winner over the k of the grid that is nearest to the plan's"""
