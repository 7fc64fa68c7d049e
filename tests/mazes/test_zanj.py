"""Files that maze-dataset saved, today and in 2023, read without it; and files that only look like them."""

import io
import json
import subprocess
import sys
import zipfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.errors import InputError
from clew.mazes import MazeStream, Question, from_solved_maze, grade_path, maze_questions, read_questions, zanj
from clew.mazes.zanj import read_zanj

FULL, MINIMAL = "MazeDataset", "MazeDataset:minimal"


def questions(count: int = 3, size: int = 4) -> list[Question]:
    return list(islice(maze_questions(MazeStream(((size, size),), p=0.3, held_out=None)), count))


def headed(values: Any, dtype: str = "int32", key: str = "__muutils_format__", **changes: Any) -> dict[str, Any]:
    """An array as maze-dataset writes small ones: nested lists under a header."""
    array = np.array(values)
    header = {key: "numpy.ndarray:array_list_meta", "data": array.tolist(), "shape": list(array.shape)}
    return header | {"dtype": dtype, "n_elements": array.size} | changes


def maze_of(question: Question, key: str = "__muutils_format__") -> dict[str, Any]:
    assert question.path is not None
    return {
        key: "SolvedMaze(SerializableDataclass)",
        "connection_list": headed(question.lattice.passages, "bool", key),
        "generation_meta": {"func_name": "gen_dfs", "visited_cells": [[0, 1], [0, 0]]},
        "start_pos": headed(question.origin, key=key),
        "end_pos": headed(question.target, key=key),
        "solution": headed(question.path, key=key),
    }


def full(mazes: Any, **changes: Any) -> dict[str, Any]:
    """The JSON of a dataset that holds its mazes one by one."""
    return {"__muutils_format__": FULL, "cfg": {}, "mazes": mazes, "generation_metadata_collected": None} | changes


def stacked(asked: list[Question], **changes: Any) -> dict[str, Any]:
    """The JSON of a dataset that holds its mazes in three arrays."""
    lengths = [len(question.path or ()) for question in asked]
    solutions = np.zeros((len(asked), max(lengths), 2), int)
    for row, question in zip(solutions, asked, strict=True):
        row[: len(question.path or ())] = question.path
    arrays = {
        "maze_connection_lists": headed([question.lattice.passages for question in asked], "bool"),
        "maze_solution_lengths": headed(lengths),
        "maze_solutions": headed(solutions, "int8"),
    }
    return {"__muutils_format__": MINIMAL, "cfg": {}, **arrays} | changes


def npy(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def write(file: Path, main: Any, **members: str | bytes) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__zanj_meta__.json", "{}")
        if main is not None:
            archive.writestr("__zanj__.json", main if isinstance(main, str | bytes) else json.dumps(main))
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return file


def refused(file: Path, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_questions(file)
    assert str(file) in str(caught.value) and str(caught.value).isprintable()


def test_the_format_of_2023(tmp_path: Path) -> None:
    """Its layouts are called `__format__`, and its mazes stand a line each in a member of their own."""
    asked = questions(30, 6)
    lines = "".join(json.dumps(maze_of(question, "__format__")) + "\n" for question in asked)
    listed = {"__format__": "list:external", "$ref": "mazes.jsonl", "len(data)": 30, "data[0]": {"any": "thing"}}
    main = {"__format__": FULL, "cfg": {}, "mazes": listed, "generation_metadata_collected": None}
    file = write(tmp_path / "old.zanj", main, mazes__jsonl=lines)
    assert read_questions(file) == [(question, None) for question in asked]
    assert read_zanj(file) == asked
    pytest.importorskip("maze_dataset")
    from zanj.loading import load_item_recursive

    for line, question in zip(lines.splitlines(), asked, strict=True):
        theirs = load_item_recursive(json.loads(line.replace("__format__", "__muutils_format__")), ())
        assert from_solved_maze(theirs) == question


def test_nothing_of_maze_datasets_is_imported(tmp_path: Path) -> None:
    file = write(tmp_path / "mazes.zanj", full([maze_of(question) for question in questions()]))
    code = "import sys; from clew.mazes import read_questions; read_questions(sys.argv[1]); "
    code += "print(*{'maze_dataset', 'zanj', 'muutils', 'pickle5'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("count", "size", "least", "options"),
    [
        (3, 4, 100, {}),  # one by one
        (3, 12, 100, {}),  # each with its passages in a member of its own
        (270, 4, None, {}),  # a line each
        (260, 12, None, {}),  # a line each, with their passages in members of their own
        (5, 4, 0, {}),  # stacked, in the JSON
        (150, 4, 100, {}),  # stacked, in members of their own
        (3, 4, 100, {"internal_array_mode": "array_hex_meta"}),
        (120, 4, 100, {"internal_array_mode": "array_b64_meta", "external_array_threshold": 10**9}),
        (120, 4, 100, {"compress": 14}),
    ],
)
def test_what_maze_dataset_saves_is_read_as_it_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, size: int, least: int | None, options: dict[str, Any]
) -> None:
    maze_dataset = pytest.importorskip("maze_dataset")
    from maze_dataset.dataset import maze_dataset as module
    from zanj import ZANJ

    monkeypatch.setattr(module, "SERIALIZE_MINIMAL_THRESHOLD", least)
    config = maze_dataset.MazeDatasetConfig(name="t", grid_n=size, n_mazes=count)
    maze_dataset.MazeDataset.generate(config, gen_parallel=False).save(tmp_path / "t.zanj", ZANJ(**options))
    found = read_zanj(tmp_path / "t.zanj")
    assert found == [from_solved_maze(maze) for maze in maze_dataset.MazeDataset.read(tmp_path / "t.zanj")]
    assert len(found) == count and all(grade_path(question, question.path or ()).optimal for question in found)


def test_solutions_end_to_end_collections_and_rectangles(tmp_path: Path) -> None:
    maze_dataset = pytest.importorskip("maze_dataset")
    from maze_dataset.dataset.collected_dataset import MazeDatasetCollection, MazeDatasetCollectionConfig
    from maze_dataset.generation import LatticeMazeGenerators as Generators
    from zanj import ZANJ

    def theirs(name: str) -> list[Question]:
        return [from_solved_maze(maze) for maze in maze_dataset.MazeDataset.read(tmp_path / name).mazes]

    parts = [
        maze_dataset.MazeDataset.generate(
            maze_dataset.MazeDatasetConfig(name=name, grid_n=size, n_mazes=count), gen_parallel=False
        )
        for name, size, count in (("a", 4, 120), ("b", 5, 4))
    ]
    for name, part in zip(("many.zanj", "few.zanj"), parts, strict=True):
        ZANJ().save(part._serialize_minimal_soln_cat(), tmp_path / name)
        assert read_zanj(tmp_path / name) == theirs(name) == [from_solved_maze(maze) for maze in part]
    config: Any = MazeDatasetCollectionConfig(**{"name": "c", "maze_dataset_configs": [part.cfg for part in parts]})
    MazeDatasetCollection(config, parts).save(tmp_path / "both.zanj")
    assert read_zanj(tmp_path / "both.zanj") == theirs("both.zanj") == theirs("many.zanj") + theirs("few.zanj")
    lattice = Generators.gen_dfs(np.array([3, 5]))
    oblong = maze_dataset.SolvedMaze.from_lattice_maze(lattice, lattice.generate_random_path())
    maze_dataset.MazeDataset(maze_dataset.MazeDatasetConfig(name="r", grid_n=5, n_mazes=1), [oblong]).save(
        tmp_path / "oblong.zanj"
    )
    assert read_zanj(tmp_path / "oblong.zanj") == [from_solved_maze(oblong)]


def test_plain_lists_and_mazes_without_a_solution(tmp_path: Path) -> None:
    asked = questions()
    mazes = [
        {
            "connection_list": question.lattice.passages.tolist(),
            "start_pos": list(question.origin),
            "end_pos": list(question.target),
        }
        for question in asked
    ]
    assert read_zanj(write(tmp_path / "a.zanj", full(mazes))) == [one._replace(path=None) for one in asked]
    capital = write(tmp_path / "B.ZANJ", stacked(asked))
    assert [question for question, _ in read_questions(capital)] == asked


def broken(**changes: Any) -> dict[str, Any]:
    """Two mazes, the second of them with a fault."""
    first, second = (maze_of(question) for question in questions(2))
    return full([first, second | changes])


def passages(size: tuple[int, ...] = (2, 4, 4), **changes: Any) -> dict[str, Any]:
    return headed(np.zeros(size, int), "int8", **changes)


@pytest.mark.parametrize(
    ("main", "said"),
    [
        (None, r"not a saved maze-dataset \(it has no member '__zanj__.json'"),
        ("", "'__zanj__.json' is not JSON: Expecting value"),
        ('{"__muutils_format__": "MazeDataset", "mazes": [', "is not JSON"),
        (b"\xff\xfe\xff", "'__zanj__.json' is not JSON that can be read: 'utf"),
        ("[" * 100_000, "is not JSON that can be read: maximum recursion depth"),
        ('{"mazes": ' + "9" * 5000 + "}", "is not JSON that can be read: Exceeds the limit"),
        (3, "its layout is None"),
        ([], "its layout is None"),
        ("null", "its layout is None"),
        ({"__muutils_format__": ["MazeDataset"]}, "its layout is None"),
        ({"__muutils_format__": "Maze\x1b[31mDataset"}, r"its layout is 'Maze\\x1b"),
        ({"__muutils_format__": "MazeDatasetCollection"}, "its maze_datasets are no list"),
        ({"__muutils_format__": "MazeDatasetCollection", "maze_datasets": [7]}, "its layout is None"),
        ({"__muutils_format__": "MazeDatasetCollection", "maze_datasets": []}, "holds no mazes"),
        ({"__muutils_format__": FULL}, "its mazes are no list"),
        (full({}), "its mazes are no list"),
        (full([]), "holds no mazes"),
        (full([None]), "maze 1: None is no maze"),
        (full({"$ref": "mazes.jsonl"}), "it has no member 'mazes.jsonl'"),
        (full({"$ref": ["x"]}), r"it has no member \['x'\]"),
        (broken(connection_list=None), "maze 2: connection_list: None is no array"),
        (broken(connection_list={"$ref": "a.npy"}), "it has no member 'a.npy'"),
        (broken(connection_list=[[[True], [False, True]]]), "maze 2: connection_list: setting an array element"),
        (broken(connection_list=passages((2, 4))), r"maze 2: passages: shape \(2, 4\) is not \(2, rows, cols\)"),
        (broken(connection_list=passages((3, 4, 4))), r"maze 2: passages: shape \(3, 4, 4\)"),
        (broken(connection_list=passages((2, 1, 1))), "maze 2: size: 1x1 is not a grid of 2 to 64"),
        (broken(connection_list=passages((2, 65, 65))), "maze 2: size: 65x65 is not a grid"),
        (broken(connection_list=passages(shape=[2, 5, 5])), r"its shape is \[2, 4, 4\], said to be \[2, 5, ...\]"),
        (broken(connection_list=headed(np.full((2, 4, 4), 7))), "connection_list: holds a number that is neither"),
        (broken(connection_list=headed(np.full((2, 4, 4), np.nan))), "connection_list: holds float64 where whole"),
        (broken(connection_list=headed(np.ones((2, 4, 4), int))), "maze 2: passages: one leads out of the grid"),
        (broken(connection_list={"data": "00", "dtype": "object", "shape": [1]}), "dtype 'object' is no whole number"),
        (broken(connection_list={"data": "?!", "dtype": "int8", "shape": [1]}), "maze 2: connection_list: "),
        (broken(connection_list={"data": "AAAA", "dtype": "int32", "shape": [1]}), "maze 2: connection_list: "),
        (broken(solution=[]), r"maze 2: solution: (holds float64|shape)"),
        (broken(solution=[[0, 0, 0]]), r"maze 2: solution: shape \(1, 3\) is not \(cells, 2\)"),
        (broken(solution=[["0", "0"]]), "maze 2: solution: holds <U1 where whole numbers"),
        (broken(solution=[[0, 10**30]]), "maze 2: solution: holds object where"),
        (broken(start_pos=None, end_pos=None, solution=[[0, 0], [0, 9]]), r"end_pos: \(0, 9\) is no cell of the 4x4"),
        (broken(start_pos=None, end_pos=None, solution=[[-1, 0], [0, 0]]), r"start_pos: \(-1, 0\) is no cell"),
        (broken(start_pos=None, end_pos=None, solution=[[0, 0], [3, 3]]), "maze 2: path: no open passage leads from"),
        (broken(start_pos=[3, 3, 3]), r"maze 2: start_pos: \[3, 3, 3\], where the solution has"),
        (broken(solution=None, end_pos=None), "maze 2: end_pos: None is no cell"),
        (broken(connection_list=passages(), solution=None, start_pos=[0, 0], end_pos=[1, 1]), "are not connected"),
        (stacked(questions(), maze_solution_lengths=headed([2, 2])), "maze_solution_lengths have shapes"),
        (stacked(questions(), maze_solution_lengths=headed([-1, 2, 2])), "does not fit the lengths that it names"),
        (stacked(questions(), maze_solution_lengths=headed([99, 2, 2])), "maze 1: solution: 99 cells long, where"),
        (stacked(questions(), maze_solution_lengths=headed([0, 2, 2])), r"maze 1: solution: shape \(0, 2\)"),
        (stacked(questions(), maze_solutions=headed([1, 2, 3])), r"maze_solutions has shape \(3,\)"),
        (stacked(questions(), maze_solutions=None), r"not a saved maze-dataset \(maze_solutions: None is no array"),
        (stacked(questions(), __muutils_format__="MazeDataset:minimal_soln_cat"), "maze_solutions_concat: None is no"),
    ],
)
def test_damaged_json_is_refused_in_one_line(tmp_path: Path, main: Any, said: str) -> None:
    refused(write(tmp_path / "mazes.zanj", main), said)


class Bomb:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("unpickled"),)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (npy(np.zeros((3, 2, 5, 4), bool)), "maze 1: path: no open passage|maze 1: start_pos"),
        (npy(np.array([Bomb()], object), allow_pickle=True), r"'m.npy' holds dtype\('O'\) where whole numbers belong"),
        (npy(np.zeros((3, 2, 4, 4))), r"holds dtype\('float64'\)"),
        (npy(np.zeros(3, [("a", "i4")])), "holds dtype"),
        (npy(np.zeros((3, 2, 4, 4), bool))[:-1], "its length does not fit"),
        (npy(np.zeros((3, 2, 4, 4), bool)).replace(b"(3, 2", b"(9, 2"), "its length does not fit"),
        (npy(np.zeros((3, 2, 4, 4), bool)).replace(b"(3, 2, 4, 4)", b"(10**9,999)"), "is no plain array"),
        (npy(np.zeros((3, 2, 4, 4), bool)).replace(b"(3, 2, 4, 4)", b"(-3,-2,4, 4)"), "its length does not fit"),
        (npy(np.full((3, 2, 4, 4), 2, np.uint8)).replace(b"|u1", b"|b1"), "holds a number that is neither 0 nor 1"),
        (b"\x93NUMPY\x09\x00", "is no plain array"),
        (b"", "is no plain array"),
        (b"import os", "is no plain array"),
    ],
)
def test_damaged_arrays_are_refused_and_never_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    main = stacked(questions(), maze_connection_lists={"$ref": "m.npy"})
    refused(write(tmp_path / "mazes.zanj", main, m__npy=content), said)
    assert not Path("unpickled").exists()


def test_what_is_no_whole_zip_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "mazes.zanj", full([maze_of(question) for question in questions()]))
    whole = file.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 5):
        file.write_bytes(whole[:size])
        refused(file, "not a saved maze-dataset .not a whole zip file")
    file.write_bytes(whole.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00"))
    refused(file, "'__zanj__.json' is encrypted")
    at = whole.index(b"__zanj__.json") + 60
    file.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    refused(file, "'__zanj__.json' is damaged")


def test_sizes_are_checked_before_anything_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = questions(20)
    lines = "".join(json.dumps(maze_of(question)) + "\n" for question in asked)
    file = write(tmp_path / "mazes.zanj", full({"$ref": "m.jsonl"}), m__jsonl=lines)
    for name, most, said in (
        ("MAX_BYTES", len(lines), "'m.jsonl' is .* bytes unpacked, more than the"),  # the JSON took some of it
        ("MAX_JSON_BYTES", 50, "'__zanj__.json' is .* bytes unpacked, more than the 50 that are read"),
        ("MAX_LINE_BYTES", 2, "'m.jsonl' line 1 is longer than 2 bytes"),
        ("MAX_MAZES", 19, "it holds more than the 19 mazes"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(zanj, name, most)
            if name == "MAX_LINE_BYTES":
                write(file, full({"$ref": "m.jsonl"}), m__jsonl=lines.replace("\n", " "))
            refused(file, said)
            write(file, full({"$ref": "m.jsonl"}), m__jsonl=lines)
    monkeypatch.setattr(zanj, "MAX_MAZES", 19)
    refused(write(file, stacked(asked)), "it holds 20 mazes, more than the 19")
    bomb = write(tmp_path / "bomb.zanj", stacked(asked[:3], maze_solutions={"$ref": "b.npy"}), b__npy=b"")
    content = bomb.read_bytes()
    at = content.rindex(b"PK\x01\x02")  # the last member's own record
    bomb.write_bytes(content[: at + 24] + b"\xfe\xff\xff\xff" + content[at + 28 :])
    refused(bomb, "'b.npy' is 4,294,967,294 bytes unpacked, more than the")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    folder = tmp_path_factory.mktemp("zanj")
    asked = questions(2)
    lines = "".join(json.dumps(maze_of(question)) + "\n" for question in asked)
    arrays = npy(np.stack([question.lattice.passages for question in asked]))
    made = [
        write(folder / "a.zanj", full({"$ref": "m.jsonl"}), m__jsonl=lines),
        write(folder / "b.zanj", stacked(asked, maze_connection_lists={"$ref": "m.npy"}), m__npy=arrays),
    ]
    return folder, [file.read_bytes() for file in made]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_bytes_break_the_reader(files: tuple[Path, list[bytes]], data: st.DataObject) -> None:
    folder, whole = files
    content = bytearray(data.draw(st.sampled_from(whole)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    (folder / "c.zanj").write_bytes(content)
    try:
        found = read_zanj(folder / "c.zanj")
    except InputError as error:
        assert str(error).isprintable() and "c.zanj" in str(error)
    else:
        assert 1 <= len(found) <= 2


KEYS = ["$ref", "data", "shape", "dtype", "__format__"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(["a.npy", "int8"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_values_break_the_reader(files: tuple[Path, list[bytes]], data: st.DataObject) -> None:
    main = data.draw(st.sampled_from([full([maze_of(question) for question in questions(2)]), stacked(questions(2))]))
    node: Any = main
    while True:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        inside = node[key]
        if not isinstance(inside, dict | list) or not inside or data.draw(st.booleans()):
            break
        node = inside
    node[key] = data.draw(VALUES)
    file = write(files[0] / "d.zanj", main)
    try:
        found = read_zanj(file)
    except InputError as error:
        assert str(error).isprintable()
    else:
        for question in found:
            assert question.path is None or grade_path(question, question.path).valid
