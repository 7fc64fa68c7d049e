"""What interventions on minimal pairs do, and 95% intervals over pairs of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from clew.errors import InputError
from clew.runs.intervals import Z95, wilson
from clew.text import show

if TYPE_CHECKING:
    import pyarrow as pa

Direction = Literal["noising", "denoising"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
LEAST = 10
"""pairs below which no interval is given: the normal approximation says nothing then"""
SHOWN = 0.05
"""effects below which a picture or a table leaves a place out"""
Figure = tuple[float, float, float]
"""a value, and the two ends of its 95% interval"""


def mean(values_P: np.ndarray) -> Figure:
    """A mean with its normal interval."""
    n, value = len(values_P), float(values_P.mean())
    half = Z95 * float(values_P.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return value, value - half, value + half


def rate(hits_P: np.ndarray) -> Figure:
    """A share of bools with Wilson's interval."""
    hits = float(hits_P.sum())
    return hits / len(hits_P), *wilson(hits, len(hits_P))


def difference(first_P: np.ndarray, other_P: np.ndarray, paired: bool = True) -> Figure:
    """The rate of the first less that of the other, both of the same P things, by Newcombe's hybrid of score intervals,
    which has a width where all of both are alike (Newcombe 1998, Statistics in Medicine 17, 2635, method 10; not
    paired: 17, 873, method 10). Either may be a mean of several draws, from 0 to 1, in place of a bool."""
    x_P, y_P = first_P.astype(np.float64), other_P.astype(np.float64)
    n, (a, b) = len(x_P), (float(x_P.mean()), float(y_P.mean()))
    (a_low, a_high), (b_low, b_high) = (wilson(float(some_P.sum()), n) for some_P in (x_P, y_P))
    both = n * n * a * (1 - a) * b * (1 - b)
    apart = n * float((x_P * y_P).sum()) - n * n * a * b  # ad - bc of the fourfold table
    phi = (max(apart - n / 2, 0.0) if apart > 0 else apart) / (n * math.sqrt(both)) if paired and both > 0 else 0.0

    def half(one: float, two: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * phi * one * two + two * two))

    return a - b, a - b - half(a - a_low, b_high - b), a - b + half(a_high - a, b - b_low)


def ratio(part_P: np.ndarray, of_P: np.ndarray) -> Figure:
    """mean(part) / mean(of), with the interval of a ratio of two means by Fieller's theorem (Fieller 1954).

    It is exact however small the denominator, and is without ends where the denominator's own interval includes 0: then
    there is nothing that something could be a share of.
    """
    n = len(part_P)
    if n < 2:
        raise InputError(f"pairs: {n} are too few for an interval; expected at least 2")
    a, b = float(part_P.mean()), float(of_P.mean())
    (_, ab), (_, bb) = (np.cov(part_P, of_P) / n).tolist()
    if b == 0 or (g := Z95 * Z95 * bb / (b * b)) >= 1:
        return (a / b if b else math.nan), -math.inf, math.inf
    value = a / b
    # By deviations from the ratio itself: all of them are 0 where the two are in proportion.
    residual_P = part_P - value * of_P
    rr, rb = float(residual_P.var(ddof=1)) / n, ab - value * bb
    middle = value - (Z95 * Z95 * rb / (b * b)) / (1 - g)
    inside = rr * (1 - g) + Z95 * Z95 * rb * rb / (b * b)
    half = Z95 / (abs(b) * (1 - g)) * math.sqrt(max(0.0, inside))
    return value, min(value, middle - half), max(value, middle + half)


@dataclass(frozen=True)
class Effects:
    """C interventions on P pairs, in one direction or both.

    The metric is logit(right) - logit(wrong) behind the fork, where right is the clean side's right step and wrong the
    corrupt side's, whichever side is run.
    """

    labels: list[dict[str, Any]]
    """what was done: C rows, of whatever columns they have"""
    clean_P: np.ndarray
    """the metric of the clean run"""
    corrupt_P: np.ndarray
    """the metric of the corrupt run"""
    patched: dict[Direction, np.ndarray]
    """by direction: (C, P), the metric of the patched runs"""

    def __len__(self) -> int:
        return len(self.labels)

    def shifts_CP(self, direction: Direction) -> np.ndarray:
        """By how much each patched run's metric exceeds that of the run patched into, in logits."""
        base_P = self.clean_P if direction == "noising" else self.corrupt_P
        return self._patched(direction) - base_P

    def effect(self, direction: Direction = "denoising") -> list[Figure]:
        """The normalised effect of each of the C: 0, the metric is that of the run patched into; 1, that of the other.

            denoising (the corrupt run with clean activations): (patched - corrupt) / (clean - corrupt)
            noising (the clean run with corrupt activations):   (patched - clean) / (corrupt - clean)

        of means over pairs, which is what TransformerLens's patching demonstrations use as `ioi_metric` for the first;
        for the second they leave that metric as it is, which is 1 less this one. The names of the two are those of
        Heimersheim and Nanda 2024 (arXiv 2404.15255). Intervals by Fieller's theorem; without ends, where the two runs
        themselves do not differ in the mean.
        """
        total_P = self.corrupt_P - self.clean_P if direction == "noising" else self.clean_P - self.corrupt_P
        return [ratio(shift_P, total_P) for shift_P in self.shifts_CP(direction)]

    def shift(self, direction: Direction = "denoising") -> list[Figure]:
        """The mean over pairs of `shifts_CP`, in logits: what there is even where no effect can be normalised."""
        return [mean(shift_P) for shift_P in self.shifts_CP(direction)]

    def table(self) -> "pa.Table":
        """A row an intervention and direction: its label, direction, pairs, effect, effect_low, effect_high, and shift,
        shift_low, shift_high in logits."""
        rows = []
        for direction in self.patched:
            for label, effect, shift in zip(self.labels, self.effect(direction), self.shift(direction), strict=True):
                row = {**label, "direction": direction, "pairs": len(self.clean_P)}
                rows.append(row | columns("effect", effect) | columns("shift", shift))
        return table_of(rows)

    def _patched(self, direction: Direction) -> np.ndarray:
        if direction not in self.patched:
            raise InputError(f"direction: {direction!r} was not run; there are {', '.join(self.patched)}")
        return self.patched[direction]


def columns(name: str, figure: Figure) -> dict[str, float]:
    """A figure as three columns: name, name_low, name_high."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), figure, strict=True))


def named(figure: Figure) -> dict[str, float]:
    """A figure as reports have it: {value, low, high}."""
    return dict(zip(("value", "low", "high"), figure, strict=True))


def table_of(rows: Sequence[dict[str, Any]]) -> "pa.Table":
    """Rows as one table."""
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows))


def check_pairs(count: int) -> None:
    """InputError for too few pairs."""
    if isinstance(count, bool) or not isinstance(count, int):
        raise InputError(f"pairs: {show(count)} is not a whole number")
    if count < LEAST:
        raise InputError(f"pairs: {count} are too few for a 95% interval; expected at least {LEAST}")
