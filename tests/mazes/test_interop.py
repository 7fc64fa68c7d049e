"""Mazes of others: token lines, ASCII drawings and maze-dataset, both ways; and files that are none of these."""

import builtins
import random
import sys
import warnings
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.errors import InputError
from clew.mazes import (
    GENERATORS,
    Lattice,
    MazeStream,
    Question,
    ascii_maze,
    from_solved_maze,
    maze_questions,
    parse_ascii,
    parse_question,
    prompt_text,
    question_text,
    read_questions,
    to_maze_dataset,
    to_solved_maze,
)
from clew.mazes.interop import read_token_lines

SIZES = ((2, 2), (3, 5), (6, 4), (5, 5), (12, 12))
DRAWN = """\
#########
#S# # # #
#X##### #
#X# # # #
#X#######
#XXE    #
#########"""


def questions(count=12, sizes=SIZES, **fields) -> list[Question]:
    fields = {"p": 0.3, "held_out": None} | fields
    return list(islice(maze_questions(MazeStream(sizes, **fields)), count))


def refused(call, *args, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        call(*args)
    assert "\n" not in str(caught.value)


def test_a_drawing_is_read_cell_for_cell():
    question = parse_ascii(DRAWN)
    edges = [((0, 0), (1, 0)), ((1, 0), (2, 0)), ((2, 0), (2, 1)), ((2, 1), (2, 2)), ((2, 2), (2, 3)), ((0, 3), (1, 3))]
    assert question == Question(Lattice.from_edges(3, 4, edges), (0, 0), (2, 1), ((0, 0), (1, 0), (2, 0), (2, 1)))
    assert ascii_maze(question) == DRAWN


@pytest.mark.parametrize("generator", GENERATORS)
def test_drawings_are_maze_datasets_own_both_ways(generator):
    maze_dataset = pytest.importorskip("maze_dataset")
    for question in questions(generators=(generator,)):
        theirs = to_solved_maze(question).as_ascii()
        assert ascii_maze(question) == theirs
        assert parse_ascii(theirs) == question
        bare = question._replace(path=None)
        assert ascii_maze(bare) == maze_dataset.TargetedLatticeMaze.from_ascii(ascii_maze(bare)).as_ascii()
        assert parse_ascii(ascii_maze(bare)) == bare
        back = maze_dataset.SolvedMaze.from_ascii(ascii_maze(question)) if is_plain(question) else None
        assert back is None or from_solved_maze(back) == question


def is_plain(question: Question) -> bool:
    """Whether maze-dataset can read the path back: it looks at cells only, and is lost where a path touches itself."""
    path = question.path or ()
    return all(not question.lattice.connected(a, b) for i, a in enumerate(path) for b in path[i + 2 :])


def test_a_path_that_runs_beside_itself_is_read_by_its_passages():
    square = Lattice.from_edges(2, 2, [((0, 0), (0, 1)), ((0, 1), (1, 1)), ((1, 1), (1, 0)), ((1, 0), (0, 0))])
    question = Question(square, (0, 0), (1, 0), ((0, 0), (0, 1), (1, 1), (1, 0)))
    assert ascii_maze(question) == "#####\n#SXX#\n# #X#\n#EXX#\n#####"
    assert parse_ascii(ascii_maze(question)) == question


def test_space_around_a_drawing_does_no_harm():
    for text in (DRAWN + "\n", "\n\n" + DRAWN + "\n\n", DRAWN.replace("\n", "  \n"), DRAWN.replace("\n", "\r\n")):
        assert parse_ascii(text) == parse_ascii(DRAWN)


def redrawn(line: int, column: int, mark: str) -> str:
    lines = [list(line) for line in DRAWN.split("\n")]
    lines[line - 1][column - 1] = mark
    return "\n".join("".join(line) for line in lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the text is empty"),
        (" \n\n", "the text is empty"),
        (DRAWN.rsplit("\n", 1)[0], "6 lines of 9 characters from line 1 on; r x c cells, 2 to 64 a side"),
        ("\n".join(line[1:] for line in DRAWN.split("\n")), "7 lines of 8 characters"),
        ("###\n#S#\n###", "3 lines of 3 characters"),
        ("#", "1 lines of 1 characters"),
        ("\n".join(["#" * 131] * 131), "131 lines of 131 characters"),
        (DRAWN.replace("#XXE    #", "#XXE   #"), "line 6 has 8 characters, line 1 has 9"),
        (DRAWN.replace("#X##### #", ""), "line 3 has 0 characters, line 1 has 9"),
        ("\n\n" + DRAWN.replace("#XXE    #", "#XXE"), "line 8 has 4 characters, line 3 has 9"),
        (redrawn(2, 4, "?"), r"line 2, column 4 is '\?', expected ' ', 'S', 'E' or 'X', for here is a cell"),
        (redrawn(2, 4, "#"), "line 2, column 4 is '#', expected ' ', 'S'"),
        (redrawn(2, 3, "S"), "line 2, column 3 is 'S', expected '#', ' ' or 'X'"),
        (redrawn(3, 3, " "), "line 3, column 3 is ' ', expected '#'"),
        (redrawn(7, 2, " "), "line 7, column 2 is ' ', expected '#'"),
        (redrawn(4, 1, "X"), "line 4, column 1 is 'X', expected '#'"),
        (redrawn(2, 2, "X"), "lines 1 to 7 have no S, the origin"),
        (redrawn(6, 4, " "), "lines 1 to 7 have no E, the target"),
        (redrawn(4, 6, "S"), "line 4, column 6 is a second S"),
        (redrawn(6, 6, "E"), "line 6, column 6 is a second E"),
        (redrawn(6, 3, "#"), "S at line 2, column 2 and E at line 6, column 4 are not connected"),
        (redrawn(4, 2, " "), "line 4, column 2 is ' ' amid the path, expected 'X'"),
        (redrawn(6, 3, " "), "the path of X from S to E breaks off at line 6, column 2"),
        (redrawn(3, 2, " "), "the path of X from S to E breaks off at line 2, column 2"),
        (redrawn(6, 6, "X"), "the X at line 6, column 6 is no part of the path from S to E"),
        (redrawn(6, 5, "X"), "the X at line 6, column 5 is no part of the path from S to E"),
        ("#####\n#SXX#\n#X#X#\n#XXE#\n#####", "the path of X from S to E forks at line 2, column 2"),
    ],
)
def test_what_does_not_belong_in_a_drawing_is_pointed_at(text, said):
    refused(parse_ascii, text, said=said)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ((), r"path: it does not start at the origin \(0,0\)"),
        (((1, 0), (2, 0), (2, 1)), r"path: it does not start at the origin \(0,0\)"),
        (((0, 0), (0, 1)), r"no open passage leads from \(0,0\) to \(0,1\)"),
        (((0, 0), (9, 9)), r"no open passage leads from \(0,0\) to \(9,9\)"),
        (((0, 0), (1, 0)), r"it ends at \(1,0\), not at the target \(2,1\)"),
    ],
)
def test_a_path_through_walls_is_not_drawn(path, said):
    question = parse_ascii(DRAWN)._replace(path=path)
    refused(ascii_maze, question, said=said)
    refused(to_solved_maze, question, said=said)


def test_an_origin_that_is_the_target_is_drawn_as_maze_dataset_draws_it():
    pytest.importorskip("maze_dataset")
    question = Question(parse_ascii(DRAWN).lattice, (2, 2), (2, 2), ((2, 2),))
    assert ascii_maze(question) == to_solved_maze(question).as_ascii()
    assert from_solved_maze(to_solved_maze(question)) == question


@st.composite
def torn_drawings(draw):
    marks = list(
        draw(st.sampled_from([DRAWN, "#####\n#SXX#\n#X#X#\n#XXE#\n#####", "#####\n#S E#\n# # #\n#   #\n#####"]))
    )
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(marks)))
        marks[at : at + draw(st.integers(0, 1))] = draw(st.text("# SEX\n?é", max_size=1))
    return "".join(marks)


@given(st.text() | st.text("# SEX\n", max_size=60) | torn_drawings())
@settings(max_examples=400, deadline=None)
def test_no_text_breaks_the_drawings_reader(text):
    try:
        question = parse_ascii(text)
    except InputError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert parse_ascii(ascii_maze(question)) == question


def test_token_lines_keep_their_own_adjacency_lists(tmp_path):
    asked = questions(generators=("dfs", "dfs_percolation"))
    lines = [question_text(q) if i % 2 else prompt_text(q) for i, q in enumerate(asked)]
    lines[3] = lines[3].replace("<PATH_START>", "<THOUGHT_START> (0,0) ; <THOUGHT_END> <PATH_START>")
    file = tmp_path / "mazes.txt"
    file.write_text("\n" + "\n\n".join(lines) + "\r\n")
    found = read_questions(file)
    assert found == read_token_lines(str(file))
    for question, line, (read, prompt) in zip(asked, lines, found, strict=True):
        assert read == (question if "<PATH_START>" in line else question._replace(path=None))
        assert line.startswith(prompt) and prompt.endswith(" <TARGET_END>")
        assert parse_question(prompt) == question._replace(path=None)


def test_a_byte_order_mark_is_no_token(tmp_path):
    file = tmp_path / "windows.txt"
    file.write_text(prompt_text(questions(1)[0]), encoding="utf-8-sig")
    assert read_questions(file)[0][1] == prompt_text(questions(1)[0])


def test_ascii_files_hold_many_mazes(tmp_path):
    asked = questions()
    file = tmp_path / "mazes.txt"
    file.write_text("\n \n" + "\n\n  \n".join(ascii_maze(q) for q in asked) + "\n\n")
    assert read_questions(file) == [(question, None) for question in asked]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "mazes.txt: holds no mazes"),
        (b"\n \n\t\n", "mazes.txt: holds no mazes"),
        (b"\n\nhello\n", "mazes.txt, line 3: maze text: token 1 is 'hello', expected <ADJLIST_START>"),
        (
            DRAWN.encode() + b"\n\n" + DRAWN.encode()[:-1],
            "mazes.txt: ASCII maze: line 15 has 8 characters, line 9 has 9",
        ),
        (DRAWN.encode() + b"\n\n\n" + redrawn(2, 2, " ").encode(), "mazes.txt: ASCII maze: lines 10 to 16 have no S"),
        (b"\x00\x01", "mazes.txt, line 1: maze text: token 1 is"),
        (b"<ADJLIST_START> \xff", "mazes.txt: byte 16 is not UTF-8 text"),
    ],
)
def test_a_bad_file_is_named_with_the_place(tmp_path, content, said):
    file = tmp_path / "mazes.txt"
    file.write_bytes(content)
    refused(read_questions, file, said=said)


@pytest.mark.parametrize("name", ["none.txt", "none.zanj", "folder.txt", "folder.zanj", "nul\0.txt"])
def test_what_cannot_be_opened_is_named(tmp_path, name):
    for folder in ("folder.txt", "folder.zanj"):
        (tmp_path / folder).mkdir()
    said = "cannot be read .(No such file|Is a directory|embedded null)"
    refused(read_questions, tmp_path / name, said=said)


@given(st.binary(max_size=80))
@settings(max_examples=100, deadline=None)
def test_no_file_breaks_the_reader(tmp_path_factory, content):
    for name in ("a.txt", "a.zanj"):
        file = tmp_path_factory.getbasetemp() / name
        file.write_bytes(content)
        refused(read_questions, file, said=name)


def test_maze_dataset_objects_both_ways():
    pytest.importorskip("maze_dataset")
    for question in questions(generators=GENERATORS):
        maze = to_solved_maze(question)
        assert type(maze).__name__ == "SolvedMaze" and np.array_equal(maze.connection_list, question.lattice.passages)
        assert from_solved_maze(maze) == question
        shortest = to_solved_maze(question._replace(path=None)).solution
        assert len(shortest) == question.lattice.distances(question.target)[question.origin] + 1


def test_a_maze_they_made_is_the_same_to_us():
    maze_dataset = pytest.importorskip("maze_dataset")
    generators = pytest.importorskip("maze_dataset.generation").LatticeMazeGenerators
    config = maze_dataset.MazeDatasetConfig(
        name="t", grid_n=6, n_mazes=6, maze_ctor=generators.gen_dfs_percolation, maze_ctor_kwargs={"p": 0.2}
    )
    for maze in maze_dataset.MazeDataset.generate(config, gen_parallel=False):
        question = from_solved_maze(maze)
        assert question.path is not None and len(question.path) == len(
            maze.find_shortest_path(maze.start_pos, maze.end_pos)
        )
        for cell in [(0, 0), (2, 3), (5, 5), (0, 5)]:
            assert sorted(question.lattice.neighbours(cell)) == sorted(
                map(tuple, maze.get_coord_neighbors(cell).tolist())
            )


def test_mazes_that_are_no_questions_are_refused():
    maze_dataset = pytest.importorskip("maze_dataset")
    lattice = Lattice.from_edges(3, 3, [((0, 0), (0, 1))])
    bare = maze_dataset.LatticeMaze(connection_list=lattice.passages)
    refused(from_solved_maze, bare, said="start_pos: None is no cell of the 3x3 grid")
    ends = dict(connection_list=lattice.passages, start_pos=np.array([0, 0]))
    targeted = maze_dataset.TargetedLatticeMaze(**ends, end_pos=np.array([0, 1]))
    assert from_solved_maze(targeted) == Question(lattice, (0, 0), (0, 1))
    cut_off = maze_dataset.TargetedLatticeMaze(**ends, end_pos=np.array([2, 2]))
    refused(from_solved_maze, cut_off, said=r"start_pos \(0,0\) and end_pos \(2,2\) are not connected")


@pytest.mark.parametrize("count", [3, 150])  # from a hundred on, their files have another layout
def test_datasets_are_saved_and_read(tmp_path, count):
    maze_dataset = pytest.importorskip("maze_dataset")
    asked = questions(count, sizes=((5, 5),), generators=GENERATORS)
    file = tmp_path / "mazes.zanj"
    dataset = to_maze_dataset(asked)
    assert len(dataset) == dataset.cfg.n_mazes == count and dataset.cfg.grid_n == 5
    dataset.save(file)
    assert read_questions(file) == [(question, None) for question in asked]
    theirs = maze_dataset.MazeDataset.read(file)
    assert [from_solved_maze(maze) for maze in theirs] == asked


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((), "there are none to put into a maze-dataset"),
        (((3, 4),), "square mazes of one size, these are 3x4"),
        (((3, 3), (4, 4)), "square mazes of one size, these are 3x3, 4x4"),
    ],
)
def test_only_what_fits_goes_into_a_dataset(sizes, said):
    refused(to_maze_dataset, questions(20, sizes) if sizes else [], said=said)


def test_the_callers_random_states_and_ears_are_spared(tmp_path):
    pytest.importorskip("maze_dataset")
    random.seed(5)
    np.random.seed(5)
    expected = (random.random(), np.random.random())
    random.seed(5)
    np.random.seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asked = questions(2, sizes=((4, 4),))
        dataset = to_maze_dataset(asked, name="quiet")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = random.getstate(), np.random.get_state()
            dataset.save(tmp_path / "mazes.zanj")
            random.setstate(state[0])
            np.random.set_state(state[1])
        read_questions(tmp_path / "mazes.zanj")
    assert (random.random(), np.random.random()) == expected


def test_without_maze_dataset_the_way_to_install_it_is_told(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "maze_dataset":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, "maze_dataset", raising=False)
    question = parse_ascii(DRAWN)
    square = questions(1, sizes=((3, 3),))
    said = r"No module named 'maze_dataset'; to get it: pip install \"clew-spans\[maze-dataset\]\""
    refused(to_solved_maze, question, said=said)
    refused(to_maze_dataset, square, said=said)
    assert parse_ascii(ascii_maze(question)) == question
