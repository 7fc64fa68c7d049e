"""Probes for a page: fitted once on held-out mazes that it does not show, tested on others of these, and then read on
those that it shows."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from clew.mazes.lattice import Lattice, Question
from clew.mazes.questions import MazeStream
from clew.policy import Policy
from clew.read.activations import maze_sequences
from clew.read.cases import ProbeOptions
from clew.read.probes import MapReading, probe_map
from clew.view.maze_look import Look

PLACE = "target_end"
LABELS = ("next_hop", "distance")
STREAM, TRIED = 5, 20  # a stream of its own, apart from those that are evaluated on; indices looked at for each maze


@dataclass(frozen=True)
class Probes:
    """Readers of whole grids, behind each layer, from the token behind the question: what is known there of every cell
    before the path begins."""

    reading: MapReading

    def figures(self) -> list[dict[str, Any]]:
        """A row a label and layer: macro_f1 with its interval on test mazes, of the probe and of the control that does
        best: `control`, `control_f1`; `above` says whether the two intervals are apart."""
        rows = []
        for row in self.reading.rows:
            if row["control"] == "model":
                same = [one for one in self.reading.rows if all(one[name] == row[name] for name in ("layer", "label"))]
                best = max((one for one in same if one is not row), key=lambda one: one["macro_f1_high"])
                kept = ("layer", "label", "macro_f1", "macro_f1_low", "macro_f1_high", "test_mazes", "above")
                rows.append({name: row[name] for name in kept})
                rows[-1] |= {"control": best["control"], "control_f1": best["macro_f1"]}
        return rows

    def read(self, question: Question, seen: Look) -> dict[str, list[str]] | None:
        """What is decoded, by label: a text a layer with one digit a cell of the maze, row by row, the number of a
        class of `targets.classes_of`. None for a maze that does not fit on the grid."""
        rows, cols = question.lattice.rows, question.lattice.cols
        most_rows, most_cols = self.reading.versions["true"].shape
        if rows > most_rows or cols > most_cols:
            return None
        units_N = (np.arange(rows)[:, None] * most_cols + np.arange(cols)).reshape(-1)
        out: dict[str, list[str]] = {label: [] for label in LABELS}
        for label in LABELS:
            for layer, stream_D in enumerate(seen.streams_SLD[0]):
                class_U = self.reading.readers[("resid_post", layer), label].predict(stream_D[None])[0]
                out[label].append("".join(map(str, class_U[units_N])))
        return out


def reference(stream: MazeStream, shown: Collection[Lattice], mazes: int, policy: Policy) -> list[np.ndarray]:
    """Token rows of held-out mazes with their paths, none of which is shown; fewer than asked for where there are not
    so many. stream: of the sizes and generators that are wanted."""
    kinds = [(size, name) for size in stream.sizes for name in stream.generators]
    asked = replace(stream, held_out=True, branches=1, stream=STREAM)
    there = [replace(asked, sizes=(size,), generators=(name,)) for size, name in kinds]
    there = [kind for kind in there if not kind.missing()]
    rows: list[np.ndarray] = []
    hidden = set(shown)
    for number, kind in enumerate(there):
        wanted = len(range(number, mazes, len(there)))
        fresh = (index for index in range(TRIED * wanted) if kind.questions(index)[0].lattice not in hidden)
        rows += maze_sequences(kind, islice(fresh, wanted), policy.tokenizer)
    return rows


def fit(policy: Policy, rows: Sequence[np.ndarray], seed: int = 0) -> Probes:
    """Probes of all layers, of next hop and distance. InputError for too few mazes, or such as are not held-out."""
    return Probes(probe_map(policy, rows, PLACE, LABELS, options=ProbeOptions(seed=seed)))
