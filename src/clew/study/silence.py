"""When something falls silent for the first time in a run's rounds, and what was still said of it elsewhere by then."""

import numpy as np

OVER = 3  # rounds that a share is averaged over


def silent_after(shares: np.ndarray, under: float) -> float:
    """The round, from 1, from which something is silent for the first time: the first of OVER rounds whose mean share
    is under a share, whatever comes later; NaN where there are none. Rounds without a share (NaN) count for nothing."""
    means = (mean_from(shares, first) for first in range(len(shares) - OVER + 1))
    return next((float(first) for first, mean in enumerate(means, 1) if mean < under), float("nan"))


def share_then(shares: np.ndarray, after: float) -> float:
    """The mean of OVER rounds' shares, the first that from which something else was silent for the first time; NaN
    where it never was.

    after: that round, as `silent_after` has it.
    """
    return float("nan") if np.isnan(after) else mean_from(shares, int(after) - 1)


def mean_from(shares: np.ndarray, first: int) -> float:
    """The mean of OVER rounds' shares from `first` on, NaN where none of them has any."""
    known = shares[first : first + OVER]
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else float("nan")
