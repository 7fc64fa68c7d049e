"""Passages put into a maze, taken out of it and moved, in the residual stream alone. What counts is the path that comes
of it.

What the model has at the four tokens of a passage, in the mean over many mazes that list it, less the mean over all
passages, stands for that passage; it is added where the model reads another maze, or taken off there. So did Spies et
al. 2024 (arXiv 2412.11867) with features of sparse autoencoders, and found that putting in is easier than taking out.

Layer 0 reads the embeddings, where a move is the edited prompt itself but for what a model adds of positions: it is the
ceiling, and no finding. What is above random further up is; what is lost there though the vectors are `exact` has been
read by other tokens before.

    pairs = PairStream("passage", ((4, 4),)).batch(range(200), policy.tokenizer)
    cases = move_cases(pairs, policy.tokenizer)
    cases += add_cases(MazeStream(((4, 4),), held_out=True), policy.tokenizer, 200)
    vectors = edge_vectors(policy, MazeStream(((4, 4),), held_out=True, seed=1), cases)
    toggle(policy, cases, vectors).table()      # by layer, beside the edited prompt, random and other passages' vectors
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import count, pairwise
from typing import TYPE_CHECKING

import numpy as np

from clew.errors import InputError
from clew.mazes.grading import grade_path
from clew.mazes.questions import MazeStream
from clew.policy import Policy
from clew.read.activations import gather, maze_sequences
from clew.read.edge_cases import KINDS, TRIED, Case, Edge, Kind, ordered, steps_of
from clew.read.effects import LEAST, columns, difference, named, table_of
from clew.read.hooks import Key, Site, keys_of
from clew.read.places import Places, numbers_of
from clew.read.steering import Addition, Rolled, random_like, roll_out
from clew.runs.intervals import Ratio, Tally
from clew.text import show

if TYPE_CHECKING:
    import pyarrow as pa

EDGE_PLACES = ("edge_first", "connector", "edge_second", "edge_end")
WAYS = ((0, 1), (1, 0), (0, -1), (-1, 0))


@dataclass(frozen=True, eq=False)
class EdgeVectors:
    """What stands for each of N passages, in each of the two orders of its cells, at each of its four tokens."""

    edges: tuple[Edge, ...]
    values: dict[Key, np.ndarray]
    """by site and layer: float64 (N, 4, D), in the order of EDGE_PLACES; for z (N, 4, H * D)"""
    count_N: np.ndarray
    """in how many mazes it was listed so"""

    def of(self, key: Key, edge: Edge | None) -> np.ndarray:
        """(4, D); zeros for None. InputError for a passage that was in no maze."""
        if edge is None:
            return np.zeros_like(self.values[key][0])
        if edge not in self.edges:
            first, second = edge
            raise InputError(f"mazes: none lists {first} <--> {second} in this order; expected more of them")
        return self.values[key][self.edges.index(edge)]


def edge_vectors(
    policy: Policy,
    stream: MazeStream,
    cases: Sequence[Case] = (),
    mazes: int = 800,
    layers: Collection[int] | None = None,
    site: Site = "resid_pre",
    batch_size: int = 64,
) -> EdgeVectors:
    """The mean of what a model has at the tokens of each passage, less the mean over all passages, by layer.

    stream: of the sizes of the cases; its first mazes are read, but for those that are a case's, before its edit or
    after. site: what comes into a layer, unless another is named; so layer 0 is the embedding.
    InputError for a site or layer that does not exist, a model that is not for mazes, and mazes that are no number.
    """
    if isinstance(mazes, bool) or not isinstance(mazes, int) or mazes < 1:
        raise InputError(f"mazes: {show(mazes)} is not a whole number from 1")
    keys, size = keys_of(policy.model, [site], layers), stream.side
    tested = {maze for case in cases for maze in case.mazes()}
    chosen: list[int] = []
    for index in count():
        if frozenset(stream.questions(index)[0].lattice.edges()) not in tested:
            chosen.append(index)
        if len(chosen) == mazes:
            break
        if index - (chosen or [0])[-1] > TRIED:
            raise InputError(f"stream: {TRIED} of its mazes in a row are among the {len(tested)} of the cases")
    sums: dict[Key, np.ndarray] = {}
    count_N = np.zeros(size * size * len(WAYS), np.int64)
    rows = maze_sequences(stream, chosen, policy.tokenizer)
    for batch in gather(policy, rows, [site], layers, EDGE_PLACES, batch_size):
        edge_R, part_R = _numbers(batch.places, size)
        count_N += np.bincount(edge_R[part_R == 0], minlength=len(count_N))
        for key, x_RD in batch.values.items():
            x_RD = x_RD.flatten(1).double().numpy()
            total_NCD = sums.setdefault(key, np.zeros((len(count_N), 4, x_RD.shape[1])))
            np.add.at(total_NCD, (edge_R, part_R), x_RD)
    seen_N = np.flatnonzero(count_N)
    shape = count_N[seen_N, None, None]
    values = {key: sums[key][seen_N] / shape - sums[key].sum(0) / count_N.sum() for key in keys}
    return EdgeVectors(tuple(_edge(int(number), size) for number in seen_N), values, count_N[seen_N])


def _numbers(places: Places, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Of tokens of passages: the passage's number, by its first cell and its way, and the token's place in it."""
    part_R = places.place_R - numbers_of(EDGE_PLACES[:1])[0]
    turned_R1 = (part_R == EDGE_PLACES.index("edge_second"))[:, None]
    first_RC = np.where(turned_R1, places.other_RC, places.cell_RC)
    step_RC = np.where(turned_R1, places.cell_RC, places.other_RC) - first_RC
    way_R = (step_RC[:, None] == np.array(WAYS)).all(2).argmax(1)
    return (first_RC[:, 0] * size + first_RC[:, 1]) * len(WAYS) + way_R, part_R


def _edge(number: int, size: int) -> Edge:
    cell, way = divmod(number, len(WAYS))
    row, col = divmod(cell, size)
    return (row, col), (row + WAYS[way][0], col + WAYS[way][1])


@dataclass(frozen=True, eq=False)
class Toggles:
    """What the paths became."""

    cases: Sequence[Case]
    plain: list[Rolled]
    """of the prompts as they are"""
    tokens: list[Rolled]
    """of the edited prompts: what the model itself makes of the edit"""
    runs: dict[Key, dict[str, list[list[Rolled]]]]
    """by site and layer, and by what was added, one or several draws: `edited`, the vectors; `exact`, of cases of kind
    "move", the difference of what the model has at the slot in the two prompts, of which the vectors are a mean;
    `random`, random directions of the vectors' norms; `other`, vectors of another passage in place of the one put in,
    or, where none is, of the one taken off"""

    def figures(self, key: Key, kind: Kind) -> dict[tuple[str, str], dict[str, float]]:
        """{(figure, run): {value, low, high}} over the cases of one kind, for each run, for `plain` and `tokens`, and
        for `above_random` and `above_other`, by how much `edited` exceeds these. Rates, by Wilson, and differences by
        `effects.difference`:

            optimal   the path is a shortest one of the edited maze; not where no way leads to the target any more
            heeded    the path walks through what was put in and not through what was taken off, and the plain one
                      did not do so
            valid     the path keeps to the passages of the edited maze
            changed   the path is another one than the plain
        """
        tally, pairs = Tally(), defaultdict(list)
        for number in [number for number, case in enumerate(self.cases) if case.kind == kind]:
            drawn = {"plain": [self.plain], "tokens": [self.tokens], **self.runs[key]}
            if kind != "move":
                drawn.pop("exact", None)
            found: dict[str, float] = {}
            hits = {run: [self._checks(number, draw[number]) for draw in draws] for run, draws in drawn.items()}
            for figure in hits["plain"][0]:
                rates = {run: [checks[figure] for checks in some] for run, some in hits.items()}
                for run, some in rates.items():
                    found[f"{figure} {run}"] = some[0] if len(some) == 1 else Ratio(sum(some), len(some))
                for run in ("random", "other"):
                    pairs[f"{figure} above_{run}"].append((rates["edited"][0], sum(rates[run]) / len(rates[run])))
            tally.add(found)
        report = {name: figure for name, figure in tally.report().items() if isinstance(figure, dict)}
        report |= {name: named(difference(*np.array(some, np.float64).T)) for name, some in pairs.items()}
        return {tuple(name.split()): figure for name, figure in report.items()}  # type: ignore[misc]

    def _checks(self, number: int, one: Rolled) -> dict[str, bool]:
        case, plain = self.cases[number], self.plain[number]
        grade, found = grade_path(case.question, one.path, one.ended), {}
        if steps_of(case.question) >= 0:
            found["optimal"] = grade.optimal
        heeded = _heeds(case, one) and not _heeds(case, plain)
        return found | {"heeded": heeded, "valid": grade.valid, "changed": one.path != plain.path}

    def table(self) -> "pa.Table":
        """A row a kind, site, layer, figure and run: these, cases, value, value_low, value_high."""
        rows = []
        kinds: list[Kind] = [kind for kind in KINDS if kind in {case.kind for case in self.cases}]
        for kind in kinds:
            cases = sum(case.kind == kind for case in self.cases)
            for key in self.runs:
                for (figure, run), value in self.figures(key, kind).items():
                    ends = columns("value", (value["value"], value["low"], value["high"]))
                    label = {"kind": kind, "site": key[0], "layer": key[1], "figure": figure, "run": run}
                    rows.append({**label, "cases": cases, **ends})
        return table_of(rows)


def _heeds(case: Case, one: Rolled) -> bool:
    walked = {ordered((a, b)) for a, b in pairwise(one.path) if a is not None and b is not None}
    put_in = case.on is None or ordered(case.on) in walked
    return put_in and not (case.off is not None and ordered(case.off) in walked)


def toggle(
    policy: Policy,
    cases: Sequence[Case],
    vectors: EdgeVectors,
    places: Collection[str] = EDGE_PLACES,
    strength: float = 1.0,
    controls: int = 2,
    seed: int = 0,
    batch_size: int = 256,
) -> Toggles:
    """Rolls out the path of each case at each site and layer of the vectors, with what is put in added at the slot and
    what is taken off subtracted, `strength` times; beside what `Toggles.runs` names.

    places: at which of a passage's four tokens. controls: draws of random directions, and of other passages.
    InputError for too few cases of a kind, for places that are none of a passage's, a passage without vectors, vectors
    of another model's width, and what `roll_out` refuses; all before any path is written.
    """
    _check(cases, places, controls)
    prompts, rng = [case.tokens_T for case in cases], np.random.default_rng(seed)
    slot_Q, moved_Q = np.array([case.slot for case in cases]), np.array([case.kind == "move" for case in cases])
    others = [[_other(case, vectors, rng) for case in cases] for _ in range(controls)]
    exact = _exact(policy, cases, moved_Q, list(vectors.values), batch_size) if moved_Q.any() else {}
    runs: dict[Key, dict[str, list[list[Rolled]]]] = {}
    for key in vectors.values:
        one = _additions(key, cases, _changes(key, cases, vectors), slot_Q, places, strength)
        blocks = {"edited": [one], "random": [[random_like(part, rng) for part in one] for _ in range(controls)]}
        changes = [_changes(key, other, vectors) for other in others]
        blocks["other"] = [_additions(key, cases, change_QCD, slot_Q, places, strength) for change_QCD in changes]
        if exact:
            blocks["exact"] = [_additions(key, cases, exact[key], slot_Q, places, 1.0)]
        together = [block for some in blocks.values() for block in some]
        paths = iter(_rolled_together(policy, prompts, together, batch_size))
        runs[key] = {name: [next(paths) for _ in some] for name, some in blocks.items()}
    plain, tokens = (roll_out(policy, rows, batch_size=batch_size) for rows in (prompts, [c.edited_T for c in cases]))
    return Toggles(cases, plain, tokens, runs)


def _check(cases: Sequence[Case], places: Collection[str], controls: int) -> None:
    counts = {kind: sum(case.kind == kind for case in cases) for kind in dict.fromkeys(case.kind for case in cases)}
    for kind, number in (counts or {"move": 0}).items():
        if number < LEAST:
            raise InputError(
                f"cases: {number} of kind {kind} are too few for a 95% interval; expected at least {LEAST}"
            )
    numbers_of(places)
    for place in places:
        if place not in EDGE_PLACES:
            raise InputError(f"places: {show(place)} is none of a passage's, {', '.join(EDGE_PLACES)}")
    if isinstance(controls, bool) or not isinstance(controls, int) or controls < 1:
        raise InputError(f"controls: {show(controls)} is not a whole number from 1")


def _other(case: Case, vectors: EdgeVectors, rng: np.random.Generator) -> Case:
    """The case with another passage put in, one that is not listed; or, where none is put in, another taken off."""
    own = {ordered(edge) for edge in (case.off, case.on) if edge}
    known = [edge for edge in vectors.edges if ordered(edge) not in own]
    fresh = [edge for edge in known if ordered(edge) not in case.listed]
    if not known:
        raise InputError("mazes: they list no passage but those of one case; expected more of them")
    if case.on is None:
        return replace(case, off=known[rng.integers(len(known))])
    chosen = fresh or known
    return replace(case, on=chosen[rng.integers(len(chosen))])


def _changes(key: Key, cases: Sequence[Case], vectors: EdgeVectors) -> np.ndarray:
    """(Q, 4, D): what is added at each of the four tokens."""
    return np.stack([vectors.of(key, case.on) - vectors.of(key, case.off) for case in cases])


def _exact(
    policy: Policy, cases: Sequence[Case], moved_Q: np.ndarray, keys: Sequence[Key], batch_size: int
) -> dict[Key, np.ndarray]:
    """(Q, 4, D): by how much the model differs at the slot where the edited prompt is read, for cases that are moves;
    0 for others."""
    sides = [[case.tokens_T for case in cases], [case.edited_T for case in cases]]
    slot_Q, sites = np.array([case.slot for case in cases]), [key[0] for key in keys]
    layers, found = sorted({key[1] for key in keys}), []
    for rows in sides:
        values: dict[Key, np.ndarray] = {}
        for batch in gather(policy, rows, sites, layers, EDGE_PLACES, min(batch_size, 64)):
            offset_R = batch.places.position_R - slot_Q[batch.places.sequence_R]
            here_R = (offset_R >= 0) & (offset_R < 4) & moved_Q[batch.places.sequence_R]
            at = batch.places.sequence_R[here_R], offset_R[here_R]
            for key in keys:
                x_RD = batch.values[key].flatten(1).double().numpy()[here_R]
                values.setdefault(key, np.zeros((len(cases), 4, x_RD.shape[1])))[at] = x_RD
        found.append(values)
    return {key: found[1][key] - found[0][key] for key in keys}


def _additions(
    key: Key,
    cases: Sequence[Case],
    change_QCD: np.ndarray,
    slot_Q: np.ndarray,
    places: Collection[str],
    strength: float,
) -> list[Addition]:
    width, additions = max(len(case.tokens_T) for case in cases), []
    for place in places:
        part = EDGE_PLACES.index(place)
        where_QT = np.arange(width) == (slot_Q + part)[:, None]
        additions.append(Addition(*key, where_QT, change_QCD[:, part], strength))
    return additions


def _rolled_together(
    policy: Policy, prompts: Sequence[np.ndarray], blocks: Sequence[Sequence[Addition]], batch_size: int
) -> list[list[Rolled]]:
    """The paths of the prompts with each block of additions, all read as one batch."""
    joint = []
    for parts in zip(*blocks, strict=True):  # the same place, block by block
        where, direction = (np.concatenate([getattr(part, name) for part in parts]) for name in ("where", "direction"))
        scale = np.repeat([part.strength for part in parts], len(prompts))[:, None]
        joint.append(replace(parts[0], where=where, direction=direction * scale, strength=1.0))
    rolled = roll_out(policy, list(prompts) * len(blocks), joint, batch_size=batch_size)
    return [rolled[first : first + len(prompts)] for first in range(0, len(rolled), len(prompts))]
