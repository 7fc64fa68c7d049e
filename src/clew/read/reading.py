"""A whole reading of one model: every instrument of this room on the same mazes, and what became of it on disk.

subject = Subject(Policy.load("zoo:4x4"), ReadingOptions(size=(4, 4)))
reading = read_model(subject)
reading.tables["residual"]                  # tidy, one row a figure
write_reading(reading, Path("runs/read-4x4"), {"model": "zoo:4x4"})
"""

import json
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clew.errors import InputError
from clew.files import write_atomically, write_json
from clew.mazes.pairs import PairBatch, PairStream
from clew.mazes.questions import MazeStream
from clew.policy import Policy
from clew.read import attribution, heads, patching, probes
from clew.read.activations import maze_sequences
from clew.read.cases import ProbeOptions, split_mazes
from clew.read.effects import check_pairs, table_of
from clew.read.hops import hops
from clew.read.targets import targets_in
from clew.text import nearest, one_line, show

if TYPE_CHECKING:
    import pyarrow as pa

Tables = dict[str, "pa.Table"]
FOLDER, INDEX = "readings", "reading"
MAP_PLACES = ("target_end", "fork")
"""where the whole grid is read: behind the question, before a word of the path is written, and at a fork of it"""


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


@dataclass(frozen=True)
class Subject:
    """A model and what it is read on; all of it held-out."""

    policy: Policy
    options: ReadingOptions

    @cached_property
    def pairs(self) -> PairBatch:
        """Minimal pairs that ask for another target."""
        return self._pairs("target")

    @cached_property
    def passages(self) -> PairBatch:
        """Minimal pairs in which one passage was moved."""
        return self._pairs("passage")

    @cached_property
    def sequences(self) -> list[np.ndarray]:
        """Mazes, each with one question and its whole path."""
        o = self.options
        stream = MazeStream((o.size,), o.generators, o.p, 1, True, o.seed)
        return list(maze_sequences(stream, range(o.mazes), self.policy.tokenizer))

    def _pairs(self, kind: Any) -> PairBatch:
        o = self.options
        stream = PairStream(kind, (o.size,), o.generators, o.p, seed=o.seed)
        return stream.batch(range(o.pairs), self.policy.tokenizer)


@dataclass(frozen=True)
class Reading:
    """What was found: tidy tables by name."""

    subject: Subject
    tables: Tables


def read_patching(subject: Subject) -> Tables:
    """The residual stream, heads and MLPs that carry the target to the fork."""
    how: dict[str, Any] = {"directions": ("denoising",)}
    policy, pairs = subject.policy, subject.pairs
    found = {
        "residual": patching.patch_residual(policy, pairs, **how),
        "heads": patching.patch_heads(policy, pairs),
        "mlps": patching.patch_mlp(policy, pairs, ("all",)),
        "paths": patching.patch_to_logits(policy, pairs, **how),
    }
    return {name: effects.table() for name, effects in found.items()}


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
    policy, rows, how = subject.policy, subject.sequences, _probing(subject)
    maps = {place: probes.probe_map(policy, rows, place, options=how) for place in MAP_PLACES}
    cells = probes.probe_cells(policy, rows, options=how)
    return {
        "probes": table_of([row for one in (*maps.values(), cells) for row in one.rows]),
        "hops": table_of([{"place": place} | row for place, one in maps.items() for row in hops(one).rows()]),
    }


def _probing(subject: Subject) -> ProbeOptions:
    return ProbeOptions(seed=subject.options.seed)


PARTS: dict[str, Callable[[Subject], Tables]] = {
    "patching": read_patching,
    "heads": read_heads,
    "attribution": read_attribution,
    "probes": read_probes,
}
"""what a reading consists of, in its order"""


def check_parts(parts: Collection[str]) -> None:
    """InputError for a part that there is not, or for none."""
    if not parts or isinstance(parts, str):
        raise InputError(f"parts: {show(parts)} is no list of parts, such as patching, probes")
    for part in parts:
        if part not in PARTS:
            raise InputError(f"parts: {show(part)} is not one of {', '.join(PARTS)}; nearest: {nearest(part, PARTS)}")


def read_model(
    subject: Subject, parts: Collection[str] = tuple(PARTS), told: Callable[[str, int, int], None] = lambda *_: None
) -> Reading:
    """All parts, or some. told: is called with a part, how many are done and how many there are.

    InputError for a part that there is not, a model that cannot be read or is not for mazes, a size that its tokenizer
    does not know, and for too few pairs or mazes.
    """
    check_parts(parts)
    if "probes" in parts:
        split_mazes(targets_in(subject.sequences, subject.policy.tokenizer), _probing(subject))
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
        return about, {name: pq.read_table(folder / f"{name}.parquet") for name in about["tables"]}
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise InputError(f"{folder}: holds no reading that can be opened: {one_line(error)[:160]}") from None
