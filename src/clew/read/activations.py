"""Activations of a stock Hugging Face model on maze sequences, by site, layer and place, batch by batch.

    sequences = maze_sequences(MazeStream(((6, 6),), held_out=True), range(100_000), policy.tokenizer)
    for batch in gather(policy, sequences, ["resid_post"], places=["target", "path"]):
        batch["resid_post", 2, "path"]      # (R', D), with labels batch.places of all R rows

    export(gather(policy, sequences), Path("activations"))      # .safetensors and Parquet, row by row the same

One batch is in memory at a time, and of it only the places that are asked for.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from clew.attention import inner
from clew.errors import InputError
from clew.files import folder_written_whole, write_json
from clew.mazes import vocab
from clew.mazes.forks import lookahead
from clew.mazes.lattice import Lattice, Question
from clew.mazes.questions import MazeStream
from clew.policy import Policy
from clew.read.hooks import BY_HEAD, Key, heads_of, hook_name, key_of, keys_of, recording
from clew.read.passes import asked, check_length, padded
from clew.read.places import PLACES, Places, Words, find_places, numbers_of
from clew.text import one_line, show

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

AT_ONCE = 4096  # stream indices whose token arrays are held at a time
SHARD = 1 << 28  # bytes of activations in one file, at most
INDEX = "activations.json"


@dataclass(frozen=True)
class Activations:
    """Activations at R places of some sequences: row i of every tensor is at place i."""

    values: dict[Key, Tensor]
    """by (site, layer): (R, D), and for those of hooks.BY_HEAD (R, H, D), on the CPU"""
    places: Places
    """where each row is; `sequence_R` counts over all sequences that were read, from 0"""
    questions: list[Question]
    """of the sequences from `first` on, which these places are in; each with its path as far as it was written"""
    first: int = 0

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, where: tuple[str, int, str]) -> Tensor:
        """The rows of one site, layer and place, in their order. InputError for what is not there."""
        site, layer, place = where
        value = self.values.get((site, layer))  # type: ignore[arg-type]
        if value is None:
            there = ", ".join(f"{name} {number}" for name, number in self.values)
            raise InputError(f"activations: {show((site, layer))} was not read; there are {there}")
        return value[torch.from_numpy(self.places.named(place))]


def maze_sequences(
    stream: MazeStream, indices: Iterable[int], tokenizer: PreTrainedTokenizerBase
) -> Iterator[np.ndarray]:
    """The token ids of a stream's mazes, each with its first question and whole path, one at a time.

    InputError for a tokenizer that lacks one of the stream's tokens.
    """
    ids, one = vocab.token_map(tokenizer, stream.side), replace(stream, branches=1)
    rest = iter(indices)
    while some := list(islice(rest, AT_ONCE)):
        forest = one.forest(some)
        yield from np.split(ids[forest.tokens_T], forest.starts_M[1:])


def gather(
    policy: Policy,
    sequences: Iterable[Sequence[int] | np.ndarray],
    sites: Collection[str] = ("resid_post",),
    layers: Collection[int] | None = None,
    places: Collection[str] = PLACES,
    batch_size: int = 64,
    dtype: torch.dtype = torch.float32,
) -> Iterator[Activations]:
    """Runs the model over maze sequences and gives what it has at each place, a batch of sequences at a time.

    sequences: rows of token ids, each a prompt whole up to `<TARGET_END>`, with a path, whole or begun, or without:
    those of `maze_sequences`, of a PairBatch's groups, or tokenized text. layers: None for all. dtype: of what is kept.
    Sequences of unequal length are padded on the right, which a causal model never looks at.
    InputError, before anything is read, for a model that cannot be read or is not for mazes, and for a site, layer or
    place that does not exist; and for a sequence that is no maze question or holds an id that the model does not know.
    """
    keys, words, wanted = keys_of(policy.model, sites, layers), Words.of(policy.tokenizer), numbers_of(places)
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size: {show(batch_size)} is not a whole number from 1")
    if not dtype.is_floating_point:
        raise InputError(f"dtype: {dtype} is not a floating-point type, such as torch.float16")

    def batches() -> Iterator[Activations]:
        first, rest = 0, iter(sequences)
        while rows := list(islice(rest, batch_size)):
            found = find_places(rows, words)
            _check(found, first)
            chosen = found.take(np.isin(found.place_R, wanted))
            values = _read(policy, rows, keys, chosen, dtype)
            counted = replace(chosen, sequence_R=chosen.sequence_R + first)
            yield Activations(values, counted, questions_of(found, len(rows)), first)
            first += len(rows)

    return batches()


def _check(places: Places, first: int) -> None:
    start_B = places.position_R[places.named("list_start")]
    for row in np.flatnonzero(start_B):
        found = (
            f"sequence {first + int(row)} begins with {int(start_B[row])} tokens of padding, which a model would read"
        )
        raise InputError(f"tokens: {found}; expected <ADJLIST_START> first (a PairBatch's groups have no padding)")


def _read(policy: Policy, rows: list[Any], keys: list[Key], places: Places, dtype: torch.dtype) -> dict[Key, Tensor]:
    tokens_BT = torch.from_numpy(padded(rows, policy.pad_token_id))
    known = policy.model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    for wrong in tokens_BT[(tokens_BT < 0) | (tokens_BT >= known)].tolist():
        raise InputError(f"tokens: {wrong} is not one of the {known} tokens of this model, 0 to {known - 1}")
    check_length(policy.model, tokens_BT.shape[1])
    sequence_R, position_R = (torch.from_numpy(part) for part in (places.sequence_R, places.position_R))
    with (
        asked(policy) as model,
        recording(model, keys, lambda x_BTD: x_BTD[sequence_R, position_R].to("cpu", dtype)) as taken,
    ):
        inner(model).base_model(input_ids=tokens_BT.to(inner(model).device), use_cache=False)
    by_head = {site: heads_of(model, site) for site in BY_HEAD}
    return {key: x.unflatten(1, (by_head[key[0]], -1)) if key[0] in by_head else x for key, x in taken.items()}


def questions_of(places: Places, count: int) -> list[Question]:
    """What each of the sequences asks, read off its places; the grid is the smallest that holds all its cells."""
    edges_R, path_R = places.named("edge_first"), places.named("path")
    single = {name: places.cell_RC[places.named(name)].tolist() for name in ("origin", "target")}
    bounds = np.arange(1, count)
    edges = np.concatenate([places.cell_RC, places.other_RC], 1)[edges_R]
    by_edges = np.split(edges, np.searchsorted(places.sequence_R[edges_R], bounds))
    by_path = np.split(places.cell_RC[path_R], np.searchsorted(places.sequence_R[path_R], bounds))
    questions = []
    for listed, walk, origin, target in zip(by_edges, by_path, single["origin"], single["target"], strict=True):
        named = np.concatenate([listed.reshape(-1, 2), [origin, target]])
        rows, cols = (int(side) for side in np.maximum(2, 1 + named.max(0)))
        lattice = Lattice.from_edges(rows, cols, [((a, b), (c, d)) for a, b, c, d in listed.tolist()])
        path = tuple((row, col) for row, col in walk.tolist()) or None
        questions.append(Question(lattice, tuple(origin), tuple(target), path))
    return questions


def joined(batches: Iterable[Activations]) -> Activations:
    """All batches as one, in memory; of 100,000 mazes choose few places. InputError if there is none."""
    held = list(batches)
    if not held:
        raise InputError("activations: there are none to join: no sequence was read")
    values = {key: torch.cat([batch.values[key] for batch in held]) for key in held[0].values}
    arrays = {name: np.concatenate([getattr(batch.places, name) for batch in held]) for name in vars(held[0].places)}
    questions = [question for batch in held for question in batch.questions]
    return Activations(values, Places(**arrays), questions, held[0].first)


def labels(batch: Activations) -> "pa.Table":
    """One row a place: sequence, place, position, order; cell_row, cell_col and other_row, other_col, null where there
    is none; and of its question rows, cols, held_out, path_length (steps of a shortest path) and lookahead, these two
    null where no passages lead to the target."""
    import pyarrow as pa

    places, of_R = batch.places, batch.places.sequence_R - batch.first
    columns: dict[str, Any] = {
        "sequence": places.sequence_R,
        "place": pa.DictionaryArray.from_arrays(pa.array(places.place_R.astype(np.int8)), list(PLACES)),
        "position": places.position_R,
        "order": places.order_R,
    }
    for name, cells in (("cell", places.cell_RC), ("other", places.other_RC)):
        for side, part in enumerate(("row", "col")):
            columns[f"{name}_{part}"] = pa.array(cells[:, side], pa.int64(), mask=cells[:, side] < 0)
    facts = [_facts(question) for question in batch.questions]
    for name in ("rows", "cols", "path_length", "lookahead", "held_out"):
        kind = pa.bool_() if name == "held_out" else pa.int64()
        columns[name] = pa.array([fact[name] for fact in facts], kind).take(pa.array(of_R))
    return pa.table(columns)


def _facts(question: Question) -> dict[str, Any]:
    lattice = question.lattice
    steps = int(lattice.distances(question.target)[question.origin])
    facts = {"rows": lattice.rows, "cols": lattice.cols, "held_out": lattice.held_out}
    if steps < 0:
        return facts | {"path_length": None, "lookahead": None}
    return facts | {"path_length": steps, "lookahead": lookahead(question)}


def export(batches: Iterable[Activations], folder: Path, shard_bytes: int = SHARD) -> int:
    """Writes activations as they come; returns how many rows. The folder, written whole or not at all, holds

        part-00000.safetensors      {blocks.0.hook_resid_post: (R, D), blocks.0.attn.hook_z: (R, H, D), ...}
        part-00000.parquet          `labels`: row i is row i of each of the tensors
        activations.json            how many rows each part has

    with a new part once the tensors of one would have more than so many bytes; that many are held in memory, and no
    more. `pyarrow.parquet.read_table(sorted(folder.glob("*.parquet")))` is one table of all parts; `load_part` reads
    one. InputError if there is nothing to write.
    """
    if isinstance(shard_bytes, bool) or not isinstance(shard_bytes, int) or shard_bytes < 1:
        raise InputError(f"shard_bytes: {show(shard_bytes)} is not a whole number from 1")
    parts: list[int] = []
    with folder_written_whole(folder) as unfinished:
        part = None
        for batch in batches:
            table, at = labels(batch), 0
            while at < len(batch):
                part = part or _Part.begin(batch, table.schema, unfinished / f"part-{len(parts):05d}", shard_bytes)
                at += part.add(batch, table, at)
                if not part.room():
                    parts.append(part.finish())
                    part = None
        if part:
            parts.append(part.finish())
        if not parts:
            raise InputError("activations: there are none to write: no sequence was read, or none has such a place")
        write_json(unfinished / INDEX, {"parts": parts})
    return sum(parts)


@dataclass
class _Part:
    """A part that is being filled. Its room is taken at once: as many small tensors, kept between passes of the model,
    the same rows would leave holes in memory that take several times their own."""

    path: Path
    values: dict[Key, Tensor]
    table: "pq.ParquetWriter"
    filled: int = 0

    @classmethod
    def begin(cls, batch: Activations, schema: "pa.Schema", path: Path, most_bytes: int) -> "_Part":
        import pyarrow.parquet as pq

        rows = max(1, most_bytes // sum(value[0].nbytes for value in batch.values.values()))
        values = {key: value.new_empty(rows, *value.shape[1:]) for key, value in batch.values.items()}
        return cls(path, values, pq.ParquetWriter(path.with_suffix(".parquet"), schema, compression="zstd"))

    def room(self) -> int:
        """How many rows it still takes."""
        return len(next(iter(self.values.values()))) - self.filled

    def add(self, batch: Activations, table: "pa.Table", at: int) -> int:
        """As many rows of the batch from `at` on as there is room for; returns how many."""
        count = min(self.room(), len(batch) - at)
        for key, value in batch.values.items():
            self.values[key][self.filled : self.filled + count] = value[at : at + count]
        self.table.write_table(table.slice(at, count))
        self.filled += count
        return count

    def finish(self) -> int:
        self.table.close()
        tensors = {hook_name(key): value[: self.filled] for key, value in self.values.items()}
        save_file(tensors, self.path.with_suffix(".safetensors"), {"format": "pt"})
        return self.filled


def load_part(folder: Path, part: int = 0) -> tuple[dict[Key, Tensor], "pa.Table"]:
    """One part of an exported folder: tensors by (site, layer), and the table of their rows.

    InputError for a folder that is none, a part that it does not have, or a file that cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parts = json.loads((folder / INDEX).read_text(encoding="utf-8"))["parts"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{folder}: holds no activations ({INDEX} was expected)") from None
    if part not in range(len(parts)):
        raise InputError(f"part: {show(part)} is not one of the {len(parts)} of {folder}, 0 to {len(parts) - 1}")
    path = folder / f"part-{part:05d}"
    try:
        with safe_open(path.with_suffix(".safetensors"), "pt") as file:
            values = {key_of(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        return values, pq.read_table(path.with_suffix(".parquet"))
    except (OSError, SafetensorError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read: {one_line(error)[:120]}") from None
