"""How many hops of the maze a layer knows: from the target backwards, and from the cell at which the path stands.

    known = hops(probe_map(policy, rows, place="fork"))
    known.from_target_L, known.from_current_L        # by layer
    known.fits["target"]["linear"]                   # flat, linear and doubling growth, with what each leaves over
    shape(known.from_target_L, known.layers, known.most["target"])                  # which of them it is, if any

A search leaves a trace of its order. Chaining one step a layer adds as many hops in each: linear in depth (Brinkmann
et al. 2024, arXiv 2402.11917). Merging paths that are known already doubles them (Saparov et al. 2024, arXiv
2412.04703). What does not grow with depth is no search by layers.

A reader of next hops can add a hop of its own, since a cell whose neighbour leads elsewhere leads there: it sees the
whole grid. That shifts all layers alike, and is no growth; `dead_end` and `wall`, of which no cell says anything about
another, are not shifted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from clew.errors import InputError
from clew.read.cases import LEAST_MAZES
from clew.read.probes import CONTROLS, MapReading, drawn_mazes
from clew.read.targets import OF_EDGES, Targets, classes_of
from clew.text import show

From = Literal["target", "current"]
ENDS: tuple[From, ...] = ("target", "current")
Shape = Literal["few", "flat", "grows", "linear", "doubling", "neither"]
LAYERS, COUNTS, NEAR, FAR = 4, 3, 0.5, 1.0
"""Layers and different numbers of hops below which there is no curve; how near to every layer's hops a curve of some
shape comes where it is of this shape, since hops are whole numbers; and how far off the best of another shape is"""


@dataclass(frozen=True)
class Curve:
    """Accuracy by path distance, 0 and on, of one label at one site and layer; NaN where fewer than 20 mazes have a
    unit at that distance. H distances."""

    accuracy_H: np.ndarray
    low_H: np.ndarray
    high_H: np.ndarray
    mazes_H: np.ndarray
    """int64: mazes that have a labelled unit there"""


@dataclass(frozen=True)
class Fit:
    """One way for hops to grow with the number of layers l: a, a + b l or a + b 2^l, by least squares."""

    a: float
    b: float
    residual: float
    """the sum of squared residuals"""
    layers: int
    """how many layers it was fitted to; with as many parameters as layers nothing is left over, and nothing shown"""


@dataclass(frozen=True)
class Hops:
    """What each of L layers knows."""

    label: str
    site: str
    layers: tuple[int, ...]
    from_target_L: np.ndarray
    """int64: the largest h such that units at every distance 1 .. h from the target are decoded above each control,
    the intervals apart; 0 if not even those at 1 are"""
    from_current_L: np.ndarray
    """the same from the cell at which the path stands"""
    most: dict[From, int]
    """the largest distance up to which all were measured: no more could have been found"""
    curves: dict[tuple[From, int, str], Curve]
    """by where distance counts from, layer, and control ("model" for the probe)"""
    fits: dict[From, dict[str, Fit]]
    """by flat, linear and doubling: see `growth`"""

    def rows(self) -> list[dict[str, Any]]:
        """The curves as a tidy table: one row an end, layer, control and distance."""
        found = []
        for (end, layer, control), curve in self.curves.items():
            about = {"label": self.label, "site": self.site, "layer": layer, "from": end, "control": control}
            arrays = zip(curve.accuracy_H, curve.low_H, curve.high_H, curve.mazes_H, strict=True)
            for hop, (accuracy, low, high, mazes) in enumerate(arrays):
                if mazes >= LEAST_MAZES:
                    figures = {"accuracy": float(accuracy), "accuracy_low": float(low), "accuracy_high": float(high)}
                    found.append(about | {"distance": hop} | figures | {"test_mazes": int(mazes)})
        return found


def hops(reading: MapReading, label: str = "next_hop", site: str = "resid_post") -> Hops:
    """How far from the target, and from the path's cell, each layer tells a label of cells.

    The unit's distance is that of its cell, of an edge that of its nearer end. Each control is asked at the distances
    of the question whose labels it was to tell, so shuffled ones at those of the other maze. At distance 0 there is
    nothing to find out: the target has no next hop, and the path's cell is read where it stands; it is in the curves
    alone. A layer that knows nothing is said to know a hop at a rate of 0.3% at most: two intervals of 95% stand apart
    that seldom where they are independent, and less often here, where both are of the same mazes and there are several
    controls. InputError for a label or site that was not read.
    """
    classes_of(label)
    layers = tuple(
        layer for control, (name, layer), what in reading.right if (control, name, what) == ("model", site, label)
    )
    if not layers:
        read = sorted({f"{name} of {what}" for _, (name, _), what in reading.right})
        raise InputError(f"label, site: {show(label)} at {show(site)} was not read; there are {', '.join(read)}")
    drawn_BM = drawn_mazes(int(reading.maze_Q.max()) + 1, reading.options)
    distances = _distances(reading, label)
    curves: dict[tuple[From, int, str], Curve] = {}
    for end in ENDS:
        for control in ("model", *CONTROLS):
            version = control if control in ("shuffled", "retargeted") else "true"
            for layer in layers:
                right_QU = reading.right.get((control, (site, layer), label))  # type: ignore[arg-type]
                if right_QU is not None:
                    curves[end, layer, control] = _curve(right_QU, distances[end, version], reading.maze_Q, drawn_BM)
    known: dict[From, list[tuple[int, int]]] = {end: [_known(curves, end, layer) for layer in layers] for end in ENDS}
    found = {end: np.array([hop for hop, _ in some]) for end, some in known.items()}
    most: dict[From, int] = {end: max(measured for _, measured in some) for end, some in known.items()}
    fits: dict[From, dict[str, Fit]] = {end: growth(found[end], layers, most[end]) for end in ENDS}
    return Hops(label, site, layers, found["target"], found["current"], most, curves, fits)


def _distances(reading: MapReading, label: str) -> dict[tuple[From, str], np.ndarray]:
    """int16 (Q, U): each unit's distance from the target and from the path's cell, in each version of the labels."""
    found: dict[tuple[From, str], np.ndarray] = {}
    for version, targets in reading.versions.items():
        for end in ENDS:
            dist_QU = targets.distance_QU if end == "target" else targets.distances_to(reading.current_Q)
            found[end, version] = _of_edges(dist_QU, targets) if label in OF_EDGES else dist_QU
    return found


def _of_edges(dist_QU: np.ndarray, targets: Targets) -> np.ndarray:
    """By edge, the distance of its nearer end; -1 if neither end has one."""
    far = np.iinfo(np.int16).max
    dist_QRC = np.where(dist_QU < 0, far, dist_QU).reshape(len(targets), *targets.shape)
    below_QRC, beside_QRC = np.full_like(dist_QRC, far), np.full_like(dist_QRC, far)
    below_QRC[:, :-1], beside_QRC[:, :, :-1] = dist_QRC[:, 1:], dist_QRC[:, :, 1:]
    near_QU = np.stack([np.minimum(dist_QRC, below_QRC), np.minimum(dist_QRC, beside_QRC)], 1).reshape(len(targets), -1)
    return np.where(near_QU == far, -1, near_QU)


def _curve(right_QU: np.ndarray, dist_QU: np.ndarray, maze_Q: np.ndarray, drawn_BM: np.ndarray) -> Curve:
    mazes, size = drawn_BM.shape[1], int(dist_QU.max(initial=0)) + 1
    there_QU = (right_QU >= 0) & (dist_QU >= 0)
    cell_N = (maze_Q[:, None] * size + dist_QU)[there_QU]
    right_MH, count_MH = (
        np.bincount(cell_N, weights, mazes * size).reshape(mazes, size).astype(np.float32)
        for weights in (right_QU[there_QU], None)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracy_H = right_MH.sum(0) / count_MH.sum(0)
        drawn_BH = (drawn_BM @ right_MH) / (drawn_BM @ count_MH)
    low_H, high_H = np.full((2, size), np.nan)
    mazes_H = (count_MH > 0).sum(0)
    whole_H = mazes_H >= LEAST_MAZES
    low_H[whole_H], high_H[whole_H] = np.nanquantile(drawn_BH[:, whole_H], (0.025, 0.975), axis=0)
    return Curve(np.where(whole_H, accuracy_H, np.nan), low_H, high_H, mazes_H)


def _known(curves: dict[tuple[From, int, str], Curve], end: From, layer: int) -> tuple[int, int]:
    """Hops that are known, and those that were measured without a gap."""
    low_H = curves[end, layer, "model"].low_H[1:]
    best_H = np.full(len(low_H), -np.inf)
    for control in CONTROLS:
        if (end, layer, control) in curves:
            # A control that has too few mazes at a distance says nothing there.
            high_H = curves[end, layer, control].high_H[1 : len(best_H) + 1]
            best_H[: len(high_H)] = np.fmax(best_H[: len(high_H)], high_H)
    measured, above = ~np.isnan(low_H), np.nan_to_num(low_H, nan=-np.inf) > best_H
    return int(np.cumprod(above).sum()), int(np.cumprod(measured).sum())


def shape(hops_L: np.ndarray | Sequence[float], layers: Sequence[int], most: int | None = None) -> Shape:
    """How the hops that are known grow with the number of layers l; arguments as those of `growth`.

    flat       the same in all layers, to half a hop, and two hops at least
    linear     some a + b l is half a hop off at most, in every layer, and every a + b 2^l a whole one in some layer
    doubling   the other way round
    grows      it grows, and the two cannot be told apart
    neither    it grows, and neither comes as near as a hop
    few        too few layers, or fewer than three different numbers of hops above 0: of two points every curve is
               the best one
    """
    y_L, depth_L = _growing(hops_L, layers, most)
    if len(y_L) < LAYERS or y_L.max() < 2:
        return "few"
    if (y_L.max() - y_L.min()) / 2 <= NEAR:
        return "flat" if y_L.min() >= 2 else "few"
    if len(np.unique(y_L[y_L > 0])) < COUNTS or np.polyfit(depth_L, y_L, 1)[0] <= 0:
        return "few"
    linear, doubling = (_farthest_off(y_L, by_L) for by_L in (depth_L, 2.0**depth_L))
    if min(linear, doubling) > FAR:
        return "neither"
    if linear <= NEAR and doubling >= FAR:
        return "linear"
    return "doubling" if doubling <= NEAR and linear >= FAR else "grows"


def _farthest_off(y_L: np.ndarray, x_L: np.ndarray) -> float:
    """How far off a line a + b x is at its worst point where a and b >= 0 make this least: the line lies along two of
    the points (Chebyshev), so that their slopes are all that need be tried."""
    first, second = np.triu_indices(len(x_L), 1)
    slope_S = np.append(np.maximum(0, (y_L[second] - y_L[first]) / (x_L[second] - x_L[first])), 0)
    left_SL = y_L - slope_S[:, None] * x_L
    return float((np.ptp(left_SL, axis=1) / 2).min())


def growth(hops_L: np.ndarray | Sequence[float], layers: Sequence[int], most: int | None = None) -> dict[str, Fit]:
    """Fits of flat, linear and doubling growth to the hops that are known after each layer.

    l is 1 after layer 0. most: the largest number that could have been found; layers after the first one that reaches
    it say nothing about growth, and are left out. InputError unless there are as many hops as layers, and one at least.
    """
    y_L, depth_L = _growing(hops_L, layers, most)
    found = {}
    for name, by_L in (("flat", None), ("linear", depth_L), ("doubling", 2.0**depth_L)):
        columns = [np.ones_like(y_L)] + ([] if by_L is None else [by_L])
        design_LP = np.stack(columns, 1)
        ab = np.linalg.lstsq(design_LP, y_L, rcond=None)[0]
        left_L = y_L - design_LP @ ab
        found[name] = Fit(float(ab[0]), float(ab[1]) if by_L is not None else 0.0, float(left_L @ left_L), len(y_L))
    return found


def _growing(
    hops_L: np.ndarray | Sequence[float], layers: Sequence[int], most: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Hops and the numbers of layers, up to the first layer that knows all that could have been found."""
    y_L, depth_L = np.asarray(hops_L, np.float64), np.asarray(layers, np.float64) + 1
    if y_L.ndim != 1 or y_L.shape != depth_L.shape or not len(y_L):
        raise InputError(f"hops: {show(hops_L)} are not one number for each of the layers {show(layers)}")
    full = np.flatnonzero(y_L >= (most or np.inf))
    end = full[0] + 1 if len(full) else len(y_L)
    return y_L[:end], depth_L[:end]
