"""maze-dataset's .zanj files, read as what they are: a zip of JSON, JSON Lines and plain arrays.

No part of a file is unpickled, evaluated or imported, and sizes are checked before anything is unpacked, so that a file
from anywhere may be opened. Read are all layouts of maze-dataset 1.4 (mazes one by one, in stacked arrays, with their
solutions joined end to end; collections of datasets; members beside the JSON or arrays within it), and those of 2023,
which call the key that names a layout `__format__`.
"""

import base64
import io
import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from clew.errors import InputError
from clew.mazes.grading import whole_path
from clew.mazes.lattice import Cell, Lattice, Question, as_cell
from clew.mazes.vocab import cell_text
from clew.text import one_line, printable, show

MAIN = "__zanj__.json"
MAX_MAZES = 1_000_000
MAX_BYTES = 1 << 30  # of all that is unpacked from one file
MAX_JSON_BYTES = 1 << 27  # of JSON that is held at once: as Python objects it takes up to twenty times as much
MAX_LINE_BYTES = 1 << 22  # a 64x64 maze takes a fiftieth of it
DTYPES = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))


class _FileError(InputError):
    """What is wrong with the file as a whole, not with one of its mazes."""


def read_zanj(path: str | Path) -> list[Question]:
    """The mazes of a saved dataset, or of a collection of datasets, in their order.

    A maze with a solution has it as its path, which must lead from its first cell to its last through open passages; a
    maze with ends alone has none. InputError names the file, and the maze by its number, for all that is not so.
    """
    found: list[Question] = []
    try:
        with open(path, "rb") as file:
            for question in _questions(_Archive(file)):
                found.append(question)
                if len(found) > MAX_MAZES:
                    raise _FileError(f"it holds more than the {MAX_MAZES:,} mazes that are read")
    except _FileError as error:
        raise InputError(f"{path}: not a saved maze-dataset ({error})") from None
    except InputError as error:
        raise InputError(f"{path}, maze {len(found) + 1}: {error}") from None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    if not found:
        raise InputError(f"{path}: holds no mazes")
    return found


def unreadable(path: str | Path, error: OSError | ValueError) -> InputError:
    """The one line for a file that cannot be opened, or is no text."""
    if isinstance(error, UnicodeDecodeError):
        return InputError(f"{path}: byte {error.start} is not UTF-8 text")
    return InputError(f"{path}: cannot be read ({error.strerror if isinstance(error, OSError) else error})")


def ends_of(lattice: Lattice, start: object, end: object) -> tuple[Cell, Cell]:
    """maze-dataset's start_pos and end_pos as two cells; InputError if one is off the grid, or no way joins them."""
    ends = []
    for name, value in (("start_pos", start), ("end_pos", end)):
        cell = as_cell(value)
        if cell is None or cell not in lattice:
            raise InputError(f"{name}: {cell} is no cell of the {lattice.rows}x{lattice.cols} grid")
        ends.append(cell)
    if lattice.distances(ends[1])[ends[0]] < 0:
        raise InputError(f"start_pos {cell_text(ends[0])} and end_pos {cell_text(ends[1])} are not connected")
    return ends[0], ends[1]


class _Archive:
    """The members of a zip, unpacked one at a time and within bounds. Raises _FileError."""

    def __init__(self, file: io.BufferedReader):
        try:
            self._zip = zipfile.ZipFile(file)
        except Exception as error:  # whatever zipfile stumbles over, the file is to blame
            raise _FileError(f"not a whole zip file: {_said(error)}") from None
        self._left = MAX_BYTES

    def json(self, name: str) -> Any:
        """A member that is one JSON value."""
        return _parsed(b"".join(self._chunks(name, MAX_JSON_BYTES)), name)

    def lines(self, name: str, most: int = MAX_JSON_BYTES) -> Iterator[Any]:
        """A member of one JSON value a line, of at most so many bytes."""
        rest, number = b"", 0
        for chunk in self._chunks(name, most):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                number += 1
                yield _parsed(line, f"{name} line {number}")
            if len(rest) > MAX_LINE_BYTES:
                raise _FileError(f"{show(name)} line {number + 1} is longer than {MAX_LINE_BYTES:,} bytes")
        if rest.strip():
            yield _parsed(rest, f"{name} line {number + 1}")

    def array(self, name: str) -> np.ndarray:
        """A member in NumPy's own format, of truth values or whole numbers."""
        content = b"".join(self._chunks(name, MAX_BYTES))
        stream = io.BytesIO(content)
        try:
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, fortran, dtype = read[np.lib.format.read_magic(stream)](stream)
        except Exception as error:  # a torn header raises many kinds
            raise _FileError(f"{show(name)} is no plain array: {_said(error)}") from None
        if dtype.kind not in "biu":  # above all no objects, which only pickle could make
            raise _FileError(f"{show(name)} holds {show(dtype)} where whole numbers belong")
        start, size = stream.tell(), math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or size != len(content) - start:
            raise _FileError(f"{show(name)} says that its shape is {show(shape)}, and its length does not fit that")
        return np.frombuffer(content, dtype, offset=start).reshape(shape, order="F" if fortran else "C")

    def _chunks(self, name: str, most: int) -> Iterator[bytes]:
        if not isinstance(name, str) or name not in self._zip.NameToInfo:
            raise _FileError(f"it has no member {show(name)}")
        info = self._zip.getinfo(name)
        if info.flag_bits & 1:
            raise _FileError(f"{show(name)} is encrypted")
        if info.file_size > min(most, self._left):  # zipfile unpacks no more than a member says of itself
            read = min(most, self._left)
            raise _FileError(f"{show(name)} is {info.file_size:,} bytes unpacked, more than the {read:,} that are read")
        self._left -= info.file_size
        try:
            with self._zip.open(info) as member:
                while chunk := member.read(1 << 20):
                    yield chunk
        except Exception as error:  # as above: wrong checksums, unknown compressions, torn streams
            raise _FileError(f"{show(name)} is damaged: {_said(error)}") from None


def _questions(archive: _Archive) -> Iterator[Question]:
    main = archive.json(MAIN)
    if _layout(main) != "MazeDatasetCollection":
        yield from _dataset(archive, main)
    else:
        datasets = main.get("maze_datasets")
        if not isinstance(datasets, list):
            raise _FileError("its maze_datasets are no list")
        for dataset in datasets:
            yield from _dataset(archive, dataset)


def _layout(node: object) -> str | None:
    """The name that a JSON object gives its own layout."""
    name = node.get("__muutils_format__", node.get("__format__")) if isinstance(node, dict) else None
    return name if isinstance(name, str) else None


def _dataset(archive: _Archive, node: Any) -> Iterator[Question]:
    layout = _layout(node)
    if layout == "MazeDataset":
        for maze in _items(archive, node.get("mazes")):
            yield _one_by_one(archive, maze)
    elif layout in ("MazeDataset:minimal", "MazeDataset:minimal_soln_cat"):
        try:
            yield from _stacked(archive, node, joined=layout.endswith("_soln_cat"))
        except _ArrayError as error:
            raise _FileError(error) from None
    else:
        raise _FileError(f"its layout is {show(layout)}; MazeDataset or MazeDatasetCollection was expected")


def _items(archive: _Archive, node: Any) -> Iterator[Any]:
    """A list that stands here, or in a member of its own."""
    if isinstance(node, dict) and "$ref" in node:
        yield from archive.lines(node["$ref"], MAX_BYTES)
    elif isinstance(node, list):
        yield from node
    else:
        raise _FileError("its mazes are no list")


def _one_by_one(archive: _Archive, maze: Any) -> Question:
    if not isinstance(maze, dict):
        raise InputError(f"{show(maze)} is no maze")
    passages = _truths(_array(archive, maze, "connection_list"), "connection_list")
    given = [None if maze.get(name) is None else _array(archive, maze, name) for name in ("start_pos", "end_pos")]
    solution = None if maze.get("solution") is None else _array(archive, maze, "solution")
    return _question(passages, solution, *given)


def _stacked(archive: _Archive, node: dict[str, Any], joined: bool) -> Iterator[Question]:
    """All mazes' passages in one array; solutions padded to one length, or joined end to end."""
    passages = _truths(_array(archive, node, "maze_connection_lists"), "maze_connection_lists")
    lengths = _array(archive, node, "maze_solution_lengths")
    name = "maze_solutions_concat" if joined else "maze_solutions"
    solutions = _array(archive, node, name)
    count = len(passages) if passages.ndim == 4 else -1
    if lengths.shape != (count,):
        shapes = f"{passages.shape} and {lengths.shape}; (mazes, 2, rows, cols) and (mazes,) were expected"
        raise _FileError(f"maze_connection_lists and maze_solution_lengths have shapes {shapes}")
    wanted = (sum(lengths.tolist()), 2) if joined else (count, *solutions.shape[1:2], 2)
    if solutions.shape != wanted or (count and lengths.min() < 0):
        raise _FileError(f"{name} has shape {solutions.shape}, which does not fit the lengths that it names")
    if count > MAX_MAZES:
        raise _FileError(f"it holds {count:,} mazes, more than the {MAX_MAZES:,} that are read")
    first = 0
    for i, length in enumerate(lengths.tolist()):
        if not joined and length > solutions.shape[1]:
            raise InputError(f"solution: {length} cells long, where {solutions.shape[1]} are there")
        yield _question(passages[i], solutions[first : first + length] if joined else solutions[i, :length])
        first += length


def _question(
    passages: np.ndarray, solution: np.ndarray | None, start: np.ndarray | None = None, end: np.ndarray | None = None
) -> Question:
    lattice = Lattice(passages)
    if solution is None:
        return Question(lattice, *ends_of(lattice, start, end))
    if solution.ndim != 2 or solution.shape[1] != 2 or not len(solution):
        raise InputError(f"solution: shape {solution.shape} is not (cells, 2)")
    path: tuple[Cell, ...] = tuple((row, col) for row, col in solution.tolist())
    for name, given, cell in (("start_pos", start, path[0]), ("end_pos", end, path[-1])):
        if given is not None and as_cell(given) != cell:
            raise InputError(f"{name}: {printable(str(given.tolist()), 60)}, where the solution has {cell_text(cell)}")
    question = Question(lattice, *ends_of(lattice, path[0], path[-1]), path)
    whole_path(question)
    return question


class _ArrayError(InputError):
    """What is wrong with one array."""


def _array(archive: _Archive, node: dict[str, Any], name: str) -> np.ndarray:
    """The whole numbers under a name: nested lists, with or without a header; hex or base64; or a member's name."""
    value = node.get(name)
    shape, dtype = None, None
    if isinstance(value, dict):
        shape, dtype = value.get("shape"), value.get("dtype")
        if "$ref" not in value:
            value = value.get("data")
        elif str(value["$ref"]).endswith(".npy"):
            value = archive.array(value["$ref"])
        else:
            value = list(archive.lines(value["$ref"]))
    try:
        if isinstance(value, str):
            if dtype not in DTYPES:
                raise _ArrayError(f"{name}: its dtype {show(dtype)} is no whole number")
            raw = bytes.fromhex(value) if "hex" in str(_layout(node[name])) else base64.b64decode(value, validate=True)
            found = np.frombuffer(raw, dtype).reshape(shape)
        else:
            found = np.array(value) if isinstance(value, list) else value
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise _ArrayError(f"{name}: {_said(error)}") from None
    if not isinstance(found, np.ndarray):
        raise _ArrayError(f"{name}: {show(value)} is no array")
    if shape is not None and shape != list(found.shape):
        raise _ArrayError(f"{name}: its shape is {list(found.shape)}, said to be {show(shape)}")
    if found.dtype.kind not in "biu":
        raise _ArrayError(f"{name}: holds {found.dtype} where whole numbers belong")
    return found


def _truths(numbers: np.ndarray, name: str) -> np.ndarray:
    """Truth values from themselves, or from the whole numbers 0 and 1."""
    plain = numbers.view(np.uint8) if numbers.dtype == bool else numbers  # a byte of a bool array may be any byte
    if plain.size and not 0 <= plain.min() <= plain.max() <= 1:
        raise _ArrayError(f"{name}: holds a number that is neither 0 nor 1")
    return plain.astype(bool)


def _parsed(content: bytes, name: str) -> Any:
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise _FileError(f"{show(name)} is not JSON: {error.msg} at character {error.pos + 1}") from None
    except (ValueError, RecursionError) as error:  # no UTF-8, a number too long, or nested too deeply
        raise _FileError(f"{show(name)} is not JSON that can be read: {_said(error)}") from None


def _said(error: Exception) -> str:
    return printable(one_line(error), 100)
