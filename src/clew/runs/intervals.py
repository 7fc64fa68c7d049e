"""95% intervals of figures: Wilson's for rates and, as far as questions allow, for ratios; Student's for means."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

Z95 = 1.959963984540054
_T95 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604)
_T95 += (2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860)


class Ratio(float):
    """A share of several things in one question, its right steps among all that were taken, say.

    Over many questions the things are pooled: each thing counts once, not each question.
    """

    part: float
    of: float
    """how many things there were, more than 0; `part` of them count"""

    def __new__(cls, part: float, of: float) -> Self:
        ratio = super().__new__(cls, part / of)
        ratio.part, ratio.of = part, of
        return ratio

    def __reduce__(self) -> tuple[type[Self], tuple[float, float]]:  # other processes get it whole
        return type(self), (self.part, self.of)


def wilson(successes: float, n: float) -> tuple[float, float]:
    """The 95% score interval of a rate (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    rate = successes / n
    middle = (rate + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(rate * (1 - rate) / n + Z95**2 / (4 * n * n))
    # Rounding must not put the rate outside its own interval.
    return min(rate, max(0.0, middle - half)), max(rate, min(1.0, middle + half))


def student(degrees: int) -> float:
    """The 97.5% point of Student's t for so many degrees of freedom, from 1; beyond 20 by the first two terms of its
    expansion about the normal one (Fisher and Cornish 1960), which is right to 0.0003 there."""
    if degrees <= len(_T95):
        return _T95[degrees - 1]
    z, n = Z95, degrees
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n * n)


def band(means: Sequence[float], errors: Sequence[float], runs: int) -> tuple[list[float], list[float]]:
    """The lower and the upper ends of Student's 95% intervals about means of so many runs, at least two, by their
    standard errors."""
    both = list(zip(means, errors, strict=True))
    times = student(runs - 1)
    return [mean - times * error for mean, error in both], [mean + times * error for mean, error in both]


def figures_in(report: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The figures {value, low, high} of a report, without its counts and groups, whatever those are called."""
    both = ((name, value) for name, value in report.items() if isinstance(value, dict))
    return {name: value for name, value in both if isinstance(value.get("low"), float)}


def is_rate(figure: Mapping[str, float], n: int) -> bool:
    """Whether a figure is a share of n questions: its interval is then Wilson's."""
    if not 0 <= figure["value"] <= 1:
        return False
    return all(map(math.isclose, wilson(figure["value"] * n, n), (figure["low"], figure["high"])))


def ranges_of(names: Iterable[str], most: int) -> dict[str, str]:
    """Names of groups -> names of the groups to show: where more than `most` are numbers all, `most` ranges of them
    at most, each as wide: {"7": "7-9", "8": "7-9", ...}."""
    names = list(names)
    if len(names) <= most or not all(name.isdecimal() and len(name) < 10 for name in names):
        return {name: name for name in names}
    least, last = min(map(int, names)), max(map(int, names))
    width = -(-(last - least + 1) // most)
    found = {}
    for name in names:
        low = int(name) - (int(name) - least) % width
        high = min(low + width - 1, last)
        found[name] = f"{low}-{high}" if high > low else f"{low}"
    return found


def merged(groups: Mapping[str, Mapping[str, Any]], ranges: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Reports of groups put together as `ranges_of` says. A report of several groups has only those figures that are
    rates in each: their counts add up."""
    inside: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for name, group in groups.items():
        inside[ranges.get(name, name)].append(group)
    return {name: dict(some[0]) if len(some) == 1 else _together(some) for name, some in inside.items()}


def _together(reports: list[Mapping[str, Any]]) -> dict[str, Any]:
    n = sum(one["questions"] for one in reports)
    total: dict[str, Any] = {"questions": n}
    for name in figures_in(reports[0]):
        if all(name in one and is_rate(one[name], one["questions"]) for one in reports):
            rate = sum(one[name]["value"] * one["questions"] for one in reports) / n
            low, high = wilson(rate * n, n)
            total[name] = {"value": rate, "low": low, "high": high}
    return total


class Tally:
    """Sums from which every figure of a report follows, so that a million questions need no more room than one.

    A figure that is given as true or false is a rate, a `Ratio` is pooled, and any other number is a mean.
    """

    def __init__(self) -> None:
        self.n = 0
        self.names: list[str] = []  # in the order in which questions give them, whichever first has one
        self.counts: dict[str, int] = defaultdict(int)
        self.sums: dict[str, float] = defaultdict(float)
        self.squares: dict[str, float] = defaultdict(float)
        self.means: set[str] = set()
        self.ratios: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((3, 3)))

    def add(self, values: Mapping[str, float | np.bool_]) -> None:
        """Counts the figures of one question. One that a question lacks is reported over those that have it."""
        self.n += 1
        place = 0
        for name, value in values.items():
            if name not in self.counts:
                self.names.insert(place, name)
            place = self.names.index(name) + 1
            self.counts[name] += 1
            self.sums[name] += float(value)
            self.squares[name] += float(value) * float(value)
            if isinstance(value, Ratio):
                one = np.array([1.0, value.part, value.of])
                self.ratios[name] += np.outer(one, one)
            elif not isinstance(value, (bool, np.bool_)):
                self.means.add(name)

    def report(self) -> dict[str, Any]:
        """{questions, figure: {value, low, high}, ...}."""
        return {"questions": self.n, **{name: self._interval(name) for name in self.names}}

    def _interval(self, name: str) -> dict[str, float]:
        if name in self.ratios:
            return _pooled(self.ratios[name])
        n, total = self.counts[name], self.sums[name]
        mean = total / n
        if name in self.means:
            variance = max(0.0, self.squares[name] / n - mean * mean)
            half = student(max(1, n - 1)) * math.sqrt(variance / max(1, n - 1))
            low, high = mean - half, mean + half
        else:
            low, high = wilson(total, n)
        return {"value": mean, "low": low, "high": high}


def _pooled(moments: np.ndarray) -> dict[str, float]:
    """A pooled share, from the sum over questions of the products of (1, part, of) with each other.

    Things of one question are no independent draws. So its interval is Wilson's for as many as would leave the share
    as uncertain if they were (Kish 1965), by the variance of a ratio of sums over questions (Cochran 1977, 6.3): at
    most all of them, and no more than there are questions where these do not differ.
    """
    n, part, of = moments[0].tolist()
    share = part / of
    residual = np.array([0.0, 1.0, -share])  # what a question has beyond its due: part - share * of
    variance = float(residual @ moments @ residual) / (of * of)
    effective = min(of, share * (1 - share) / variance) if variance > 1e-12 / of else n
    low, high = wilson(share * effective, effective)
    return {"value": share, "low": min(low, share), "high": max(high, share)}
