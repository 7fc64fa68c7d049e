"""95% intervals of figures: Wilson's for rates, the normal one for means."""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

Z95 = 1.959963984540054


def wilson(successes: float, n: int) -> tuple[float, float]:
    """The 95% score interval of a rate (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    rate = successes / n
    middle = (rate + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(rate * (1 - rate) / n + Z95**2 / (4 * n * n))
    # Rounding must not put the rate outside its own interval.
    return min(rate, max(0.0, middle - half)), max(rate, min(1.0, middle + half))


def figures_in(report: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The figures {value, low, high} of a report, without its counts and groups, whatever those are called."""
    both = ((name, value) for name, value in report.items() if isinstance(value, dict))
    return {name: value for name, value in both if isinstance(value.get("low"), float)}


class Tally:
    """Sums from which every figure of a report follows, so that a million questions need no more room than one.

    A figure that is given as true or false is a rate; any other number is a mean.
    """

    def __init__(self) -> None:
        self.n = 0
        self.counts: dict[str, int] = defaultdict(int)
        self.sums: dict[str, float] = defaultdict(float)
        self.squares: dict[str, float] = defaultdict(float)
        self.means: set[str] = set()

    def add(self, values: Mapping[str, float | np.bool_]) -> None:
        """Counts the figures of one question. One that a question lacks is reported over those that have it."""
        self.n += 1
        for name, value in values.items():
            self.counts[name] += 1
            self.sums[name] += float(value)
            self.squares[name] += float(value) * float(value)
            if not isinstance(value, (bool, np.bool_)):
                self.means.add(name)

    def report(self) -> dict[str, Any]:
        """{questions, figure: {value, low, high}, ...}."""
        return {"questions": self.n, **{name: self._interval(name) for name in self.sums}}

    def _interval(self, name: str) -> dict[str, float]:
        n, total = self.counts[name], self.sums[name]
        mean = total / n
        if name in self.means:
            variance = max(0.0, self.squares[name] / n - mean * mean)
            half = Z95 * math.sqrt(variance / max(1, n - 1))
            low, high = mean - half, mean + half
        else:
            low, high = wilson(total, n)
        return {"value": mean, "low": low, "high": high}
