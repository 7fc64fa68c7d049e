"""Linear probes for what a model has derived of a maze, by site, layer and place, always beside their controls.

    read = probe_cells(policy, rows, places=("edge_end", "path"))      # at the token that names a cell: that cell
    read = probe_map(policy, rows, place="fork")                       # at one token a question: the whole grid
    read.rows                                                          # one a site x layer x place x label x control
    maps, cells = probe_all(policy, rows, ["fork", "target_end"], ["path"])     # all of it of one pass

`rows` are token rows of held-out mazes, as `maze_sequences` or a PairBatch's groups give them. Mazes are split by
identity: one that is tested on was never fitted, whatever was asked of it. Intervals are of resampled test mazes.

Controls, of which the best is the one to beat:

    embeddings   the token's own input embedding, with those of the cells that it could know by then: the edge's, and
                 after the question the origin's and the target's, side by side. What needs no model.
    random       a model of the same shape that has learned nothing
    shuffled     the labels of another question, on another maze of the same size, cell by cell: these keep what each
                 cell has on average, and each map its own counts (Hewitt and Liang 2019, arXiv 1909.03368)
    retargeted   the labels of another target, with the same maze and origin: what can be said without knowing the
                 target (`Targets.retargeted`). Only of labels that the target decides
    majority     the most frequent class, of each cell where the whole grid is read

**Tokens before the target cannot know it**, since a causal model reads on from the left. What they say of labels that
the target decides is therefore what the maze says: dead ends are seldom on a path, and lead back whatever was asked.
There the model is at the level of retargeted labels, whatever it is: a control that is built in (`after_target` False).
With mazes of a stream by dfs or wilson that is exact; in minimal pairs the target is not drawn evenly, and not quite.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from clew.errors import InputError
from clew.policy import Policy
from clew.read.cases import ONE_A_QUESTION, CaseReader, Cases, Parts, ProbeOptions, read
from clew.read.hooks import Key
from clew.read.linear import READERS, Moments, Reader, Task, rates, tally
from clew.read.places import PLACES, numbers_of
from clew.read.targets import LABELS, SANITY, Targets, classes_of
from clew.text import show

if TYPE_CHECKING:
    import pyarrow as pa

CONTROLS = ("embeddings", "random", "shuffled", "retargeted", "majority")
Stream = tuple[str, Key | None, str]
"""whose x it is (model, random, embeddings), where in it, and at which place"""
Counted = tuple[str, Key, str, str]
"""a control ("model" for the probe itself), site and layer, place, and label"""


@dataclass(frozen=True)
class Probed:
    """Results: of each probe and each control beside it, accuracy and macro-F1 with 95% intervals over mazes."""

    rows: list[dict[str, Any]]
    """form (cell or map), site, layer, place, label, control (model: the probe itself), accuracy, accuracy_low,
    accuracy_high, macro_f1, macro_f1_low, macro_f1_high, classes, train and test (labels), test_mazes, after_target,
    sanity, and above: of the model, whether its macro-F1 is above its best control's, the intervals apart; else None"""
    counts: dict[Counted, np.ndarray] = field(repr=False)
    """float32 (M, 3, C): `linear.hits`, summed over each of M test mazes, from which all figures follow; a control that
    several layers share has one array"""

    def table(self) -> "pa.Table":
        import pyarrow as pa

        return pa.Table.from_pylist(self.rows)


@dataclass(frozen=True)
class MapReading(Probed):
    """A reading of whole grids from one token a question, with the Q test questions one by one."""

    right: dict[tuple[str, Key, str], np.ndarray] = field(repr=False)
    """by control ("model" too), site and layer, and label: int8 (Q, U), 1 where the unit was told rightly, 0 where not
    and -1 where there was nothing to tell"""
    versions: dict[str, Targets] = field(repr=False)
    """the test questions as they are (true), and those whose labels shuffled and retargeted readers were to tell"""
    current_Q: np.ndarray = field(repr=False)
    """the cell at which the path stands, the origin where it has not begun: row * C + column"""
    maze_Q: np.ndarray = field(repr=False)
    """which of the test mazes, from 0"""
    options: ProbeOptions
    readers: dict[tuple[Key, str], Reader] = field(repr=False)
    """the probes themselves, by site and layer, and label: they read any maze on a grid of this size"""


def probe_cells(
    policy: Policy,
    rows: Sequence[np.ndarray],
    labels: Collection[str] = LABELS,
    sites: Collection[str] = ("resid_post",),
    layers: Collection[int] | None = None,
    places: Collection[str] = ("edge_first", "edge_second", "edge_end", "path"),
    options: ProbeOptions | None = None,
) -> Probed:
    """Reads each cell at the tokens that name it, one probe for all cells.

    At an edge's tokens the cell is that of `Places.cell_RC`, and `nearer` is whether it, and not the other end, is
    nearer to the target; `wall` is whether a passage leads to the right. A label of one class alone at a place, as
    on_path on a path, has no rows. InputError for what does not exist, as `gather`, and as `split_mazes`.
    """
    numbers_of(places)
    places = tuple(dict.fromkeys(places))
    run = _Run(CaseReader.begin(policy, rows, labels, sites, layers, places, options or ProbeOptions()))
    _read([run])
    return run.cells()


def probe_map(
    policy: Policy,
    rows: Sequence[np.ndarray],
    place: str = "fork",
    labels: Collection[str] = LABELS,
    sites: Collection[str] = ("resid_post",),
    layers: Collection[int] | None = None,
    options: ProbeOptions | None = None,
) -> MapReading:
    """Reads every cell, or edge, of the grid at one token a question, by a probe of its own: what a search that looks
    at the whole maze would have written there.

    place: fork, a token of the path at which a passage leads the wrong way, one drawn evenly of each path's; path, the
    last cell of the path as far as it is written; or another place that a sequence has once. Sequences without one,
    without a fork say, are left out. Labels of edges are by their upper or left end. InputError as `probe_cells`.
    """
    _check_place(place)
    run = _Run(CaseReader.begin(policy, rows, labels, sites, layers, (place,), options or ProbeOptions(), whole=True))
    _read([run])
    return run.map()


def probe_all(
    policy: Policy,
    rows: Sequence[np.ndarray],
    maps: Collection[str],
    cells: Collection[str],
    labels: Collection[str] = LABELS,
    sites: Collection[str] = ("resid_post",),
    layers: Collection[int] | None = None,
    options: ProbeOptions | None = None,
) -> tuple[dict[str, MapReading], Probed]:
    """What `probe_map` gives at each of some places, and `probe_cells` at some others, of one pass of the model and one
    of its random twin for all of it. InputError as these."""
    for place in maps:
        _check_place(place)
    numbers_of(cells)
    own = CaseReader.begin(policy, rows, labels, sites, layers, tuple(dict.fromkeys(cells)), options or ProbeOptions())
    of_cells, of_maps = _Run(own), {place: _Run(own.also((place,), whole=True)) for place in maps}
    _read([*of_maps.values(), of_cells])
    return {place: run.map() for place, run in of_maps.items()}, of_cells.cells()


def _check_place(place: str) -> None:
    if place not in ONE_A_QUESTION:
        raise InputError(f"place: {show(place)} is not one that a sequence has once: {', '.join(ONE_A_QUESTION)}")


def _read(runs: Sequence["_Run"]) -> None:
    """Fits all probes in one pass and tests them in another."""
    test_Q, run_of = runs[0].cases.test_Q, {id(run.cases): run for run in runs}
    readers = [run.cases for run in runs]
    for reader, cases, parts in read(readers, ~test_Q):
        run_of[id(reader)].fit(cases, parts)
    for run in runs:
        run.end_fit()
    for reader, cases, parts in read(readers, test_Q):
        run_of[id(reader)].test(cases, parts)


@dataclass
class _Run:
    """The probes of one reader."""

    cases: CaseReader
    moments: dict[Stream, Moments] = field(default_factory=dict)
    readers: dict[Counted, tuple[Stream, Task, Reader]] = field(default_factory=dict)
    """by control, site and layer, place, and label: which x is read, what is decoded, and by which reader; where layers
    share a control they share the reader"""
    counts: dict[Counted, np.ndarray] = field(default_factory=dict)
    right: dict[tuple[str, Key, str], np.ndarray] = field(default_factory=dict)

    def cells(self) -> Probed:
        return Probed(_rows(self, "cell"), self.counts)

    def map(self) -> MapReading:
        cases = self.cases
        which = np.flatnonzero(cases.test_Q & (cases.current_Q >= 0))
        versions = {name: version.take(which) for name, version in cases.versions.items()}
        right = {key: right_QU[which] for key, right_QU in self.right.items()}
        readers = {(key, label): one for (name, key, _, label), (_, _, one) in self.readers.items() if name == "model"}
        about = cases.current_Q[which], cases.maze_Q[which], cases.options
        return MapReading(_rows(self, "map"), self.counts, right, versions, *about, readers)

    def fit(self, cases: Cases, parts: Parts) -> None:
        made = READERS[self.cases.options.reader]
        wide = {task: part_RUC.astype(np.float64) for task, part_RUC in parts.items()}
        true = {task: part_RUC for task, part_RUC in wide.items() if task[1] == "true"}
        for (source, key), x_RD in cases.x.items():
            mine = wide if source == "model" else true
            self.moments.setdefault((source, key, cases.place), made()).add(x_RD, mine)

    def end_fit(self) -> None:
        """Makes the readers."""
        made: dict[Counted, tuple[Stream, Task, Reader]] = {}
        for stream, moments in self.moments.items():
            source, own, place = stream
            if not moments.count:
                continue
            white_DD = moments.whitening(self.cases.options.ridge)
            for task in moments.sums:
                label, version = task
                if not _differs(self.moments[("embeddings", None, place)].counts[label, "true"]):
                    continue
                control = source if version == "true" else version
                named = {control: moments.reader(task, white_DD)}
                if own is None:
                    named["majority"] = moments.majority(task)
                for name, reader in named.items():
                    for key in self.cases.keys if own is None else [own]:
                        made[name, key, place, label] = (stream, task, reader)
        self.readers = made

    def test(self, cases: Cases, parts: Parts) -> None:
        shared: dict[int, Counted] = {}
        for name, (stream, task, reader) in self.readers.items():
            if name[2] != cases.place:
                continue
            if id(reader) not in shared:
                shared[id(reader)] = name
                self._score(cases, name, parts[task], reader.predict(cases.x[stream[:2]]))
            (control, key, _, label), first = name, shared[id(reader)]
            self.counts[name] = self.counts[first]
            if self.cases.whole:
                self.right[control, key, label] = self.right[first[0], first[1], label]

    def _score(self, cases: Cases, name: Counted, parts_RUC: np.ndarray, predicted_RU: np.ndarray) -> None:
        maze_R, mazes = self.cases.maze_Q[cases.question_R], int(self.cases.maze_Q.max()) + 1
        if name not in self.counts:
            self.counts[name] = np.zeros((mazes, 3, parts_RUC.shape[2] - 1), np.float32)
        right_RU, counts_M3C = tally(predicted_RU, parts_RUC, maze_R, mazes)
        self.counts[name] += counts_M3C
        if self.cases.whole:
            control, key, _, label = name
            if (control, key, label) not in self.right:
                self.right[control, key, label] = np.full((len(self.cases.maze_Q), predicted_RU.shape[1]), -1, np.int8)
            self.right[control, key, label][cases.question_R] = np.where(parts_RUC[..., -1] > 0, -1, right_RU)


def _differs(count_UC: np.ndarray) -> bool:
    """Whether any unit has more than one class."""
    return bool(((count_UC[:, :-1] > 0).sum(1) > 1).any())


def drawn_mazes(mazes: int, options: ProbeOptions) -> np.ndarray:
    """float32 (draws, mazes): how often each maze comes in each draw of as many, with replacement (Efron 1979)."""
    rng, even = np.random.default_rng([options.seed, 4]), np.full(mazes, 1 / mazes)
    drawn_BM = np.empty((options.draws, mazes), np.float32)
    for row in drawn_BM:
        row[:] = rng.multinomial(mazes, even)
    return drawn_BM


def _rows(run: _Run, form: str) -> list[dict[str, Any]]:
    drawn_BM = drawn_mazes(int(run.cases.maze_Q.max()) + 1, run.cases.options)
    figures: dict[int, dict[str, Any]] = {}
    rows = []
    for key in run.cases.keys:
        for place in run.cases.places:
            for label in run.cases.labels:
                mine = {control: run.counts.get((control, key, place, label)) for control in ("model", *CONTROLS)}
                found = {
                    control: _figures(counts_M3C, drawn_BM, figures)
                    for control, counts_M3C in mine.items()
                    if counts_M3C is not None
                }
                if "model" not in found:
                    continue
                best = max(figure["macro_f1_high"] for control, figure in found.items() if control != "model")
                trained = run.moments["model", key, place].counts[label, "true"][:, :-1].sum()
                about = {"form": form, "site": key[0], "layer": key[1], "place": place, "label": label}
                facts = {"classes": len(classes_of(label, run.cases.options.cap)), "train": round(float(trained))}
                facts |= {"after_target": place == "fork" or PLACES.index(place) >= PLACES.index("target")}
                facts |= {"sanity": label in SANITY}
                for control, figure in found.items():
                    above = figure["macro_f1_low"] > best if control == "model" else None
                    rows.append(about | {"control": control} | figure | facts | {"above": above})
    return rows


def _figures(counts_M3C: np.ndarray, drawn_BM: np.ndarray, known: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Both rates with their intervals; those of a control that several layers share are worked out once."""
    if id(counts_M3C) in known:
        return known[id(counts_M3C)]
    mazes, *shape = counts_M3C.shape
    drawn_B3C = (drawn_BM @ counts_M3C.reshape(mazes, -1)).reshape(-1, *shape)
    whole, draws = rates(counts_M3C.sum(0, dtype=np.float64)[None]), rates(drawn_B3C.astype(np.float64))
    out: dict[str, Any] = {}
    for name, value, values_B in zip(("accuracy", "macro_f1"), whole, draws, strict=True):
        low, high = np.nanquantile(values_B, (0.025, 0.975))
        out |= {name: float(value[0]), f"{name}_low": float(low), f"{name}_high": float(high)}
    out |= {"test": round(float(counts_M3C[:, 2].sum())), "test_mazes": int((counts_M3C[:, 2].sum(1) > 0).sum())}
    return known.setdefault(id(counts_M3C), out)


def furthest(rows: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the probes of one label, that which is furthest above its best control, with this control; of tokens that can
    know the target, where there are such."""
    found, knowing = [], any(row["after_target"] for row in rows)
    for row in rows:
        if row["control"] == "model" and row["after_target"] >= knowing:
            same = ("form", "site", "layer", "place")
            others = [one for one in rows if one["control"] != "model" and all(one[k] == row[k] for k in same)]
            found.append((row, max(others, key=lambda one: one["macro_f1"])))
    return max(found, key=lambda pair: pair[0]["macro_f1"] - pair[1]["macro_f1"])
