"""Hops that a layer knows: the planted number is found exactly, none is found in noise, and growth is told apart."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from clew.errors import InputError
from clew.mazes import MazeStream, maze_tokenizer
from clew.policy import Policy
from clew.read import cases
from clew.read.activations import Activations, maze_sequences
from clew.read.cases import ProbeOptions
from clew.read.hops import growth, hops, shape
from clew.read.places import find_places
from clew.read.probes import MapReading, probe_map
from clew.read.targets import Targets, targets_in

TOKENIZER = maze_tokenizer(4)
Plant = Callable[[int, Targets, np.ndarray, np.random.Generator], np.ndarray]


def planted(
    monkeypatch: pytest.MonkeyPatch, plant: Plant, layers: int, labels: list[str], count: int, seed: int = 0
) -> MapReading:
    """A reading of a model that has at the target's end what `plant` gives for each layer: it is handed the questions
    and their next hops as classes (Q, U), -1 for none. Its random twin has noise."""
    own = Policy.build(TOKENIZER, layers=layers, width=8, heads=2)
    rng = np.random.default_rng(seed)

    def gather(policy: Policy, sequences: Any, sites: Any, layers: Any, places: Any, batch_size: int) -> Any:
        rows = list(sequences)
        found, asked = find_places(rows, TOKENIZER), targets_in(rows, TOKENIZER)
        found = found.take(found.named(*places))
        class_QU = np.where(asked.code("next_hop") > 0, np.log2(np.maximum(1, asked.code("next_hop"))), -1).astype(int)
        values: Any = {("resid_pre", layer): torch.zeros(len(found), 4) for layer in layers}
        for layer in layers:
            x_RD = plant(layer, asked, class_QU, rng) if policy is own else rng.normal(size=(len(rows), 16))
            values["resid_post", layer] = torch.from_numpy(x_RD.astype(np.float32))
        yield Activations(values, found, [])

    monkeypatch.setattr(cases, "gather", gather)
    rows = list(maze_sequences(MazeStream(((4, 4),), held_out=True, seed=seed), range(count), TOKENIZER))
    return probe_map(own, rows, "target_end", labels, options=ProbeOptions(draws=400, seed=seed))


def test_the_planted_number_of_hops_is_found_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layer l holds of cells as near to the target as 2^l steps whether they are dead ends, and nothing of the others:
    a label of which no cell says anything about another, as next hops do, which a reader extends by one."""

    def near(layer: int, asked: Targets, class_QU: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        sign_QU = np.where(asked.code("dead_end") == 2, 1, -1) * (asked.distance_QU <= 2**layer)
        return sign_QU + 0.15 * rng.normal(size=class_QU.shape)

    known = hops(planted(monkeypatch, near, 4, ["dead_end"], 2000), "dead_end")
    assert known.from_target_L.tolist() == [1, 2, 4, 8] and known.layers == (0, 1, 2, 3)
    assert known.most["target"] >= 9
    fits = known.fits["target"]
    assert fits["doubling"].residual < 1e-9 < fits["linear"].residual < fits["flat"].residual
    assert fits["doubling"].b == pytest.approx(0.5) and fits["doubling"].layers == 4
    curve = known.curves["target", 1, "model"]
    assert (curve.accuracy_H[1:3] > 0.95).all() and (curve.accuracy_H[4:8] < 0.85).all()
    rows = known.rows()
    assert {row["control"] for row in rows} == {"model", "embeddings", "random", "shuffled", "majority"}
    assert all(0 <= row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"] <= 1 for row in rows)


def test_hops_from_the_current_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no path has begun that is the origin."""

    def ahead(layer: int, asked: Targets, class_QU: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        known_QU = (class_QU >= 0) & (asked.distances_to(asked.origin_Q) <= 3 - layer)
        told_QU = np.where(known_QU, class_QU, rng.integers(0, 4, class_QU.shape))
        return (np.eye(4)[told_QU] + 0.2 * rng.normal(size=(*class_QU.shape, 4))).reshape(len(class_QU), -1)

    known = hops(planted(monkeypatch, ahead, 3, ["next_hop"], 2000))
    assert known.from_current_L.tolist() == [3, 2, 1]


def test_nothing_is_found_in_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 0.3% of layers that know nothing are said to know a hop: more than two of 120 once in 150 such tests."""

    def noise(layer: int, asked: Targets, class_QU: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rng.normal(size=(len(class_QU), 16))

    labels, found = ["next_hop", "on_path", "distance", "dead_end", "nearer"], []
    for seed in range(1):
        read = planted(monkeypatch, noise, 12, labels, 600, seed)
        for label in labels:
            known = hops(read, label)
            found += [*known.from_target_L, *known.from_current_L]
        above = [row["above"] for row in read.rows if row["control"] == "model"]
        assert len(above) == 60 and sum(above) <= 1
    assert len(found) == 120 and np.count_nonzero(found) <= 2


def test_edges_count_from_their_nearer_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def near(layer: int, asked: Targets, class_QU: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        code_QU = asked.code("nearer")
        dist_QRC = asked.distance_QU.reshape(-1, 4, 4)
        far_QU = np.full((len(asked), 2, 4, 4), 99)
        far_QU[:, 0, :-1] = np.minimum(dist_QRC[:, :-1], dist_QRC[:, 1:])
        far_QU[:, 1, :, :-1] = np.minimum(dist_QRC[:, :, :-1], dist_QRC[:, :, 1:])
        known_QU = (code_QU > 0) & (far_QU.reshape(len(asked), -1) <= layer + 1)
        sign_QU = np.where(known_QU, np.where(code_QU == 2, 1, -1), rng.choice((-1, 1), code_QU.shape))
        return sign_QU + 0.3 * rng.normal(size=code_QU.shape)

    known = hops(planted(monkeypatch, near, 2, ["nearer"], 2000), "nearer")
    assert known.from_target_L.tolist() == [1, 2]


def test_growth_is_told_apart() -> None:
    layers = range(5)
    shapes = {"flat": [3] * 5, "linear": [1, 3, 5, 7, 9], "doubling": [2, 4, 8, 16, 32]}
    for name, found in shapes.items():
        fits = growth(found, layers)
        assert fits[name].residual == pytest.approx(0, abs=1e-9)
        if name != "flat":
            assert all(fits[other].residual > 1 for other in shapes if other != name)
    assert growth(shapes["linear"], layers)["linear"].b == pytest.approx(2)
    assert growth(shapes["doubling"], layers)["doubling"].a == pytest.approx(0)
    full = growth([1, 2, 4, 6, 6], layers, most=6)
    assert full["linear"].layers == 4 and growth([0, 0], [0, 1], most=0)["flat"].layers == 2
    wrong: Any
    for wrong in ([1, 2], [], [[1]]):
        with pytest.raises(InputError, match=r"hops: .* are not one number for each of the layers"):
            growth(wrong, [0, 1, 2] if wrong else [])


def test_a_shape_is_told_only_of_enough_layers_and_hops() -> None:
    for hops_L, told in (
        ([0, 0, 0, 2], "few"),  # of two points every curve is the best one
        ([0, 0, 2, 6], "few"),
        ([1, 2, 4], "few"),
        ([1, 1, 1, 1], "few"),
        ([4, 3, 2, 1], "few"),
        ([3, 3, 3, 3], "flat"),
        ([1, 2, 3, 4, 5, 6], "grows"),  # within a hop of doubling in every layer
        ([1, 2, 4, 8], "grows"),
        ([1, 2, 3, 4, 5, 6, 7], "linear"),
        ([2, 4, 8, 16], "doubling"),
        ([0, 0, 0, 0, 1, 3, 7, 15], "doubling"),
        ([1, 5, 2, 9], "neither"),
    ):
        assert shape(hops_L, range(len(hops_L))) == told, hops_L
    assert shape([2, 4, 8, 16, 16, 16], range(6), 16) == "doubling"
    rng = np.random.default_rng(0)
    for _ in range(200):  # whole numbers of hops of a straight line are never called doubling, and the other way round
        start, slope = rng.uniform(0, 2, 2)
        line_L = np.floor(start + slope * np.arange(1, 9))
        curve_L = np.floor(start + 0.1 * slope * 2.0 ** np.arange(1, 9))
        assert shape(line_L, range(8)) != "doubling" and shape(curve_L, range(8)) != "linear"


def test_what_was_not_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    read = planted(monkeypatch, lambda layer, asked, *_: np.ones((len(asked), 2)), 1, ["on_path"], 200)
    with pytest.raises(InputError, match="'next_hop' at 'resid_post' was not read; there are resid_post of on_path"):
        hops(read)
    with pytest.raises(InputError, match="'on_path' at 'z' was not read"):
        hops(read, "on_path", "z")
    with pytest.raises(InputError, match="labels: 'hop' is not one of"):
        hops(read, "hop")
    assert hops(read, "on_path").from_target_L.tolist() == [0]
