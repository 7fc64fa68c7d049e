"""A whole reading of one model: every instrument of this room on the same mazes, and what became of it on disk.

subject = Subject(Policy.load("zoo:4x4"), ReadingOptions(size=(4, 4)))
reading = read_model(subject)
reading.tables["residual"]                  # tidy, one row a figure
write_reading(reading, Path("runs/read-4x4"), {"model": "zoo:4x4"})
"""

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clew.errors import InputError
from clew.files import write_atomically, write_json
from clew.mazes import vocab
from clew.mazes.pairs import PairBatch, PairStream
from clew.mazes.questions import MazeStream
from clew.policy import Policy
from clew.read import (
    algorithm,
    attribution,
    depth,
    edge_cases,
    edges,
    evidence,
    heads,
    knockout,
    patching,
    paths,
    probes,
    steerability,
)
from clew.read.activations import maze_sequences
from clew.read.cases import ProbeOptions, split_mazes
from clew.read.crispness import MAP_PLACES, CrispnessOptions, crispness
from clew.read.effects import LEAST, check_pairs, table_of
from clew.read.hooks import layers_of, names_of
from clew.read.hops import Hops, hops
from clew.read.lens import Lens, look
from clew.read.passes import asked, check_rows, positions_of
from clew.read.places import Words
from clew.read.steering import longest_path
from clew.read.targets import targets_in
from clew.text import nearest, one_line, show

if TYPE_CHECKING:
    import pyarrow as pa

Tables = dict[str, "pa.Table"]
FOLDER, INDEX = "readings", "reading"
CUT = 200
"""pairs that knock-outs, outputs by place and noising are read on: there are many of these"""
STEERED = 100
"""pairs whose clean side is pushed: there are many settings"""
CELLS = ("edge_first", "edge_second", "edge_end", "path")
"""places at which probes read the place's own cell"""
DRAWS = 1000
"""times that test mazes are drawn anew for an interval of a probe"""


@dataclass(frozen=True)
class ReadingOptions:
    """Which mazes, and how many. InputError for what cannot be used."""

    size: tuple[int, int]
    generators: tuple[str, ...] = ("dfs",)
    p: float = 0.1
    pairs: int = 500
    """minimal pairs of each kind"""
    mazes: int = 2000
    """held-out mazes that probes are fitted to and tested on"""
    seed: int = 0

    def __post_init__(self) -> None:
        check_pairs(self.pairs)
        if not (isinstance(self.size, tuple) and [type(side) for side in self.size] == [int, int]):
            raise InputError(f"size: {show(self.size)} is not (rows, columns), such as (4, 4)")
        if not isinstance(self.mazes, int) or self.mazes < LEAST:
            raise InputError(f"questions: {show(self.mazes)} is not a whole number from {LEAST}")


@dataclass(frozen=True)
class Subject:
    """A model and what it is read on; all of it held-out."""

    policy: Policy
    options: ReadingOptions

    @cached_property
    def pairs(self) -> PairBatch:
        """Minimal pairs that ask for another target."""
        return self.some_pairs("target", self.options.pairs)

    @cached_property
    def passages(self) -> PairBatch:
        """Minimal pairs in which one passage was moved."""
        return self.some_pairs("passage", self.options.pairs)

    @cached_property
    def sequences(self) -> list[np.ndarray]:
        """Mazes, each with one question and its whole path."""
        return list(maze_sequences(self.stream, range(self.options.mazes), self.policy.tokenizer))

    @cached_property
    def stream(self) -> MazeStream:
        o = self.options
        return MazeStream((o.size,), o.generators, o.p, 1, True, o.seed)

    @cached_property
    def probed(self) -> tuple[dict[str, probes.MapReading], probes.Probed]:
        """The whole grid as it is read at each of MAP_PLACES, and cells where they are named."""
        return probes.probe_all(self.policy, self.sequences, MAP_PLACES, CELLS, options=_probing(self))

    @cached_property
    def hops(self) -> dict[str, Hops]:
        return {place: hops(one) for place, one in self.probed[0].items()}

    @cached_property
    def lens(self) -> Lens:
        return look(self.policy, self.pairs, self.options.seed)

    def some_pairs(self, kind: Any, count: int) -> PairBatch:
        o = self.options
        stream = PairStream(kind, (o.size,), o.generators, o.p, seed=o.seed)
        return stream.batch(range(count), self.policy.tokenizer)


@dataclass(frozen=True)
class Reading:
    """What was found: tidy tables by name."""

    subject: Subject
    tables: Tables


def read_patching(subject: Subject) -> Tables:
    """The residual stream, heads, and outputs of attention and MLPs that carry the target to the fork."""
    how: dict[str, Any] = {"directions": ("denoising",)}
    policy, pairs = subject.policy, subject.pairs
    some = pairs.take(np.arange(min(CUT, len(pairs))))
    outputs = [one(policy, some, **how).table() for one in (patching.patch_attention, patching.patch_mlp)]
    found = {
        "residual": patching.patch_residual(policy, pairs, **how),
        "noising": patching.patch_residual(policy, some, directions=("noising",)),
        "heads": patching.patch_heads(policy, pairs),
        "mlps": patching.patch_mlp(policy, pairs, ("all",)),
        "paths": paths.patch_to_logits(policy, pairs, **how),
    }
    tables = {name: effects.table() for name, effects in found.items()}
    return tables | {"outputs": table_of([row for table in outputs for row in table.to_pylist()])}


def read_heads(subject: Subject) -> Tables:
    """What heads attend to, and what is lost without each."""
    some = subject.sequences[: subject.options.pairs]
    return {
        "attention": heads.attention(subject.policy, some).table(),
        "ablation": heads.resample_heads(subject.policy, subject.pairs, seed=subject.options.seed).table(),
    }


def read_attribution(subject: Subject) -> Tables:
    """Which component pushes the right token's logit, on seven tasks of one token."""
    some = subject.sequences[: subject.options.pairs]
    return {"attribution": attribution.attribute(subject.policy, some).table()}


def read_probes(subject: Subject) -> Tables:
    """What can be decoded that no token says, beside five controls, and how many hops of it each layer knows."""
    maps, cells = subject.probed
    return {
        "probes": table_of([row for one in (*maps.values(), cells) for row in one.rows]),
        "hops": table_of([{"place": place} | row for place, one in subject.hops.items() for row in one.rows()]),
    }


def read_layers(subject: Subject) -> Tables:
    """What is lost without each layer, its attention or its MLP."""
    some = subject.sequences[: subject.options.pairs]
    return {
        "depth": depth.remove(subject.policy, some, seed=subject.options.seed).table(),
        "lens": subject.lens.table(),
    }


def read_edges(subject: Subject) -> Tables:
    """Paths after a passage was moved, taken out or put in within the stream."""
    policy, o = subject.policy, subject.options
    stream, count = subject.stream, max(LEAST, o.pairs // 5)
    cases = [
        *edge_cases.move_cases(subject.passages.take(np.arange(min(count, len(subject.passages)))), policy.tokenizer),
        *edge_cases.remove_cases(stream, policy.tokenizer, count, detour=False),
        *edge_cases.add_cases(stream, policy.tokenizer, count),
    ]
    return {"edges": edges.toggle(policy, cases, edges.edge_vectors(policy, stream, cases), seed=o.seed).table()}


def read_steering(subject: Subject) -> Tables:
    """Steps and whole paths turned by pushes, along differences of means and along probes' weights; nothing of a model
    of one layer, which is none before the last."""
    if len(layers_of(subject.policy.model)) < 2:
        return {}
    some, rows = subject.some_pairs("target", STEERED), []
    for way in steerability.DIRECTIONS:
        how: Any = {"seed": subject.options.seed, "directions": way}
        found = steerability.steerability(subject.policy, some, subject.sequences, **how)
        rows += found.table(directions=way).to_pylist()
    return {"steering": table_of(rows)}


def read_search(subject: Subject) -> Tables:
    """How it searches: when what lies how far away is known, which passages are read in which layer, and the verdict
    that follows of these, the logit lens and the hops that probes find. And which tokens are used as registers."""
    policy, pairs, depth = subject.policy, subject.pairs, len(layers_of(subject.policy.model))
    some, seed = pairs.take(np.arange(min(CUT, len(pairs)))), subject.options.seed
    cut = knockout.knock_out(policy, some, evidence.cuts_of(depth), seed=seed)
    windows = [tuple(range(depth)), *((layer,) for layer in range(depth))]
    unseen = [knockout.Unseen(place, layers) for place in knockout.REGISTERS for layers in windows]
    verdict, arrivals = algorithm.which_algorithm(policy, pairs, subject.passages, subject.lens, cut, subject.hops)
    rows = [row for one in arrivals for row in one.table().to_pylist()]
    return {
        "lens": subject.lens.table(),
        "knockouts": cut.table(),
        "registers": knockout.knock_out(policy, some, unseen, seed=seed).table(),
        "arrival": table_of(rows),
        "verdict": verdict.table(),
    }


def read_crispness(subject: Subject) -> Tables:
    """Four numbers on one card."""
    maps, cells = subject.probed
    return {"crispness": crispness(subject.policy, _card(subject), [*maps.values(), cells]).table()}


def _card(subject: Subject) -> CrispnessOptions:
    o = subject.options
    return CrispnessOptions((o.size,), o.generators, o.p, mazes=o.mazes, removed=min(o.mazes, 200), seed=o.seed)


def _probing(subject: Subject) -> ProbeOptions:
    """As many mazes are tested on as the card asks for, which is of the same probes."""
    return replace(CrispnessOptions((subject.options.size,)).probing(), draws=DRAWS, seed=subject.options.seed)


PARTS: dict[str, Callable[[Subject], Tables]] = {
    "patching": read_patching,
    "heads": read_heads,
    "attribution": read_attribution,
    "probes": read_probes,
    "layers": read_layers,
    "edges": read_edges,
    "steering": read_steering,
    "search": read_search,
    "crispness": read_crispness,
}
"""what a reading consists of, in its order"""


def check_reading(subject: Subject, parts: Collection[str]) -> None:
    """InputError for what would stop a reading: a part that there is not, or none; a model that cannot be read, is not
    for mazes, or has fewer positions than these take; and too few mazes."""
    if not parts or isinstance(parts, str):
        raise InputError(f"parts: {show(parts)} is no list of parts, such as patching, probes")
    for part in parts:
        if part not in PARTS:
            raise InputError(f"parts: {show(part)} is not one of {', '.join(PARTS)}; nearest: {nearest(part, PARTS)}")
    names_of(subject.policy.model)
    _check_room(subject, Words.of(subject.policy.tokenizer))
    with asked(subject.policy):  # refuses weights that are no numbers
        pass
    if "heads" in parts:
        heads.check_donors(subject.policy, subject.pairs, seed=subject.options.seed)
    if {"probes", "search", "crispness"} & set(parts):
        check_probed(subject.sequences, subject.policy.tokenizer, _probing(subject))
    if len(layers_of(subject.policy.model)) > 1:
        _check_pushed(subject, parts)


def _check_pushed(subject: Subject, parts: Collection[str]) -> None:
    """InputError where too few pairs can be pushed."""
    pushed: list[PairBatch] = [subject.some_pairs("target", STEERED)] if "steering" in parts else []
    pushed += [_card(subject).pairs_of("target", subject.policy)] if "crispness" in parts else []
    for pairs in pushed:
        steerability.known_detours(pairs, subject.sequences, Words.of(subject.policy.tokenizer))


def check_probed(sequences: Sequence[np.ndarray], tokenizer: Any, options: ProbeOptions) -> None:
    """InputError, by the name of the option that would help, where these questions are of too few mazes."""
    try:
        split_mazes(targets_in(sequences, tokenizer), options)
    except InputError as error:
        said = str(error).removeprefix("sequences: ")
        raise InputError(f"size, questions: of {len(sequences)} questions at this size {said}") from None


def _check_room(subject: Subject, words: Words) -> None:
    for row in subject.sequences if positions_of(subject.policy.model) else ():
        prompt_1T = row[None, : 1 + int((words.kinds(row) == vocab.TARGET_END).argmax())]
        check_rows(subject.policy.model, prompt_1T, longest_path(prompt_1T, words))


def read_model(
    subject: Subject, parts: Collection[str] = tuple(PARTS), told: Callable[[str, int, int], None] = lambda *_: None
) -> Reading:
    """All parts, or some. told: is called with a part, how many are done and how many there are.

    InputError for a part that there is not, a model that cannot be read or is not for mazes, a size that its tokenizer
    does not know, and for too few pairs or mazes.
    """
    check_reading(subject, parts)
    wanted, tables = [part for part in PARTS if part in parts], {}
    for done, part in enumerate(wanted):
        told(part, done, len(wanted))
        tables |= PARTS[part](subject)
    told("done", len(wanted), len(wanted))
    return Reading(subject, tables)


def write_reading(reading: Reading, out: Path, facts: dict[str, Any]) -> None:
    """readings/NAME.parquet, a tidy table each, and readings/reading.json, written last: facts, the options, and what
    each table has. Each file is written whole or not at all."""
    import pyarrow.parquet as pq

    folder = out / FOLDER
    for name, table in reading.tables.items():
        file = BytesIO()
        pq.write_table(table, file, compression="zstd")
        write_atomically(folder / f"{name}.parquet", file.getvalue())
    write_json(folder / f"{INDEX}.json", summary(reading, facts))


def summary(reading: Reading, facts: dict[str, Any]) -> dict[str, Any]:
    """What reading.json holds."""
    about = {"options": asdict(reading.subject.options)}
    tables = {name: {"rows": table.num_rows, "columns": table.column_names} for name, table in reading.tables.items()}
    return facts | about | {"tables": tables}


def load_reading(out: Path) -> tuple[dict[str, Any], Tables]:
    """reading.json and its tables, of a folder that a reading was written to. InputError for one that holds none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = out / FOLDER
    try:
        about = json.loads((folder / f"{INDEX}.json").read_text(encoding="utf-8"))
        for name in about["tables"]:
            if not re.fullmatch(r"\w+", name):  # a path, say
                raise ValueError(f"{show(name)} is no name of a table")
        return about, {name: pq.read_table(folder / f"{name}.parquet") for name in about["tables"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError, pa.ArrowException) as error:
        raise InputError(f"{folder}: holds no reading that can be opened: {one_line(error)[:160]}") from None
