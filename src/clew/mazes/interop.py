"""Mazes of others, in and out: token text lines, ASCII drawings, and maze-dataset's objects and files.

All readers raise InputError, in one line that names the file, the place in it and what is wrong.
"""

import random
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby, pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from clew.errors import InputError
from clew.mazes.grading import whole_path
from clew.mazes.lattice import MAX_SIZE, Cell, Lattice, Question, as_cell
from clew.mazes.vocab import parse_question
from clew.mazes.zanj import ends_of, read_zanj, unreadable

if TYPE_CHECKING:
    from maze_dataset import MazeDataset, SolvedMaze

WALL, OPEN, ORIGIN, TARGET, PATH = "#", " ", "S", "E", "X"


def read_questions(path: str | Path) -> list[tuple[Question, str | None]]:
    """The mazes of a file, each with the prompt to ask it with: its own token text, None where the file has none.

    A name in .zanj is a saved maze-dataset, which holds no token text; text whose first mark is a wall is ASCII mazes;
    all else is token lines.
    """
    if Path(path).suffix.lower() == ".zanj":
        return [(question, None) for question in read_zanj(path)]
    is_ascii = _read_text(path).lstrip().startswith(WALL)
    return list(read_ascii(path)) if is_ascii else list(read_token_lines(path))


def read_token_lines(path: str | Path) -> list[tuple[Question, str]]:
    """One token sequence a line -> (question, the line's own tokens up to `<TARGET_END>`); blank lines are passed over.

    The prompt keeps the file's order of edges, so that a model reads the very adjacency list that others asked with.
    """
    found = []
    for number, line in enumerate(_read_text(path).split("\n"), 1):
        if line.strip():
            try:
                question = parse_question(line)
                if question.path is not None:
                    whole_path(question)
            except InputError as error:
                raise InputError(f"{path}, line {number}: {error}") from None
            tokens = line.split()
            found.append((question, " ".join(tokens[: tokens.index("<TARGET_END>") + 1])))
    if not found:
        raise InputError(f"{path}: holds no mazes")
    return found


def read_ascii(path: str | Path) -> list[tuple[Question, None]]:
    """ASCII mazes, blank lines between them -> (question, None)."""
    found = []
    for drawn, group in groupby(enumerate(_read_text(path).split("\n"), 1), key=lambda item: bool(item[1].strip())):
        if drawn:
            numbers, lines = zip(*group, strict=True)
            try:
                found.append((_parse_drawing([line.rstrip() for line in lines], numbers[0]), None))
            except InputError as error:
                raise InputError(f"{path}: {error}") from None
    if not found:
        raise InputError(f"{path}: holds no mazes")
    return found


def ascii_maze(question: Question) -> str:
    """The maze as maze-dataset's `as_ascii` draws it: cell (r, c) stands in line 2r + 1, column 2c + 1, counted from 0.

    `#` wall, `S` origin, `E` target (over the S where they are one cell), `X` the path's cells and the passages between
    them, if the question has a path. InputError if that path is not one from origin to target through open passages.
    """
    rows, cols = question.lattice.rows, question.lattice.cols
    grid = np.full((2 * rows + 1, 2 * cols + 1), WALL)
    grid[1::2, 1::2] = OPEN
    grid[2::2, 1::2][question.lattice.passages[0]] = OPEN
    grid[1::2, 2::2][question.lattice.passages[1]] = OPEN
    path = () if question.path is None else whole_path(question)
    for here, after in pairwise(path):
        grid[2 * here[0] + 1, 2 * here[1] + 1] = PATH
        grid[here[0] + after[0] + 1, here[1] + after[1] + 1] = PATH
    for mark, (r, c) in ((ORIGIN, question.origin), (TARGET, question.target)):
        grid[2 * r + 1, 2 * c + 1] = mark
    return "\n".join("".join(row) for row in grid)


def parse_ascii(text: str) -> Question:
    """One ASCII maze -> its question; the path is None where no X is drawn. Blank lines around it do no harm.

    Raises InputError that names the line and column (counted from 1) of what does not belong: a torn or crooked
    drawing, an unknown mark, a missing or second S or E, an X that is no part of one simple path from S to E, or an S
    cut off from its E.
    """
    lines = [line.rstrip() for line in text.split("\n")]
    drawn = [number for number, line in enumerate(lines) if line]
    if not drawn:
        raise InputError("ASCII maze: the text is empty")
    return _parse_drawing(lines[drawn[0] : drawn[-1] + 1], drawn[0] + 1)


def _parse_drawing(lines: list[str], first: int) -> Question:
    """`parse_ascii` without what stands around the maze; `first` is the number of its first line in the file."""
    height, width = len(lines), len(lines[0])
    rows, cols = height // 2, width // 2
    for r, line in enumerate(lines):
        if len(line) != width:
            raise InputError(f"ASCII maze: line {first + r} has {len(line)} characters, line {first} has {width}")
    if height % 2 == 0 or width % 2 == 0 or min(rows, cols) < 2 or max(rows, cols) > MAX_SIZE:
        found = f"{height} lines of {width} characters from line {first} on"
        raise InputError(f"ASCII maze: {found}; r x c cells, 2 to {MAX_SIZE} a side, take 2r + 1 lines of 2c + 1")
    ends: dict[str, Cell] = {}
    for r, line in enumerate(lines):
        for c, mark in enumerate(line):
            if r in (0, 2 * rows) or c in (0, 2 * cols) or r % 2 == c % 2 == 0:
                wanted, allowed = "'#'", WALL
            elif r % 2 and c % 2:
                wanted, allowed = "' ', 'S', 'E' or 'X', for here is a cell", OPEN + ORIGIN + TARGET + PATH
            else:
                wanted, allowed = "'#', ' ' or 'X', for here two cells meet", WALL + OPEN + PATH
            if mark not in allowed:
                raise InputError(f"ASCII maze: {_place(first, r, c)} is {mark!r}, expected {wanted}")
            if mark in ends:
                raise InputError(f"ASCII maze: {_place(first, r, c)} is a second {mark}, there may be only one")
            if mark in (ORIGIN, TARGET):
                ends[mark] = (r // 2, c // 2)
    for mark, name in ((ORIGIN, "origin"), (TARGET, "target")):
        if mark not in ends:
            raise InputError(f"ASCII maze: lines {first} to {first + height - 1} have no {mark}, the {name}")
    origin, target = ends[ORIGIN], ends[TARGET]
    grid = np.array([list(line) for line in lines])
    lattice = Lattice(np.stack([grid[2::2, 1::2], grid[1::2, 2::2]]) != WALL)
    if lattice.distances(target)[origin] < 0:
        s, e = (_place(first, 2 * r + 1, 2 * c + 1) for r, c in (origin, target))
        raise InputError(f"ASCII maze: S at {s} and E at {e} are not connected")
    return Question(lattice, origin, target, _follow(grid, origin, target, first) if PATH in grid else None)


def _follow(grid: np.ndarray, origin: Cell, target: Cell, first: int) -> tuple[Cell, ...]:
    """The path that the X marks of a drawing show: from S, each step over the one marked passage not yet used."""
    left = {(int(r), int(c)) for r, c in np.argwhere(grid == PATH)}
    path = [origin]
    while path[-1] != target:
        r, c = 2 * path[-1][0] + 1, 2 * path[-1][1] + 1
        ways = [(dr, dc) for dr, dc in ((-1, 0), (1, 0), (0, -1), (0, 1)) if (r + dr, c + dc) in left]
        if len(ways) != 1:
            breach = "forks" if ways else "breaks off"
            raise InputError(f"ASCII maze: the path of X from S to E {breach} at {_place(first, r, c)}")
        dr, dc = ways[0]
        step = (path[-1][0] + dr, path[-1][1] + dc)
        place = (2 * step[0] + 1, 2 * step[1] + 1)
        if step != target and place not in left:
            raise InputError(f"ASCII maze: {_place(first, *place)} is {str(grid[place])!r} amid the path, expected 'X'")
        left -= {(r + dr, c + dc), place}
        path.append(step)
    if left:
        raise InputError(f"ASCII maze: the X at {_place(first, *min(left))} is no part of the path from S to E")
    return tuple(path)


def to_solved_maze(question: Question) -> "SolvedMaze":
    """The question as a maze-dataset maze, with its own path, or a shortest one where it has none.

    InputError if maze-dataset is not installed, or the path is not one from origin to target.
    """
    path = question.lattice.shortest_path(question.origin, question.target)
    if question.path is not None:
        path = whole_path(question)
    with _maze_dataset() as library:
        return library.SolvedMaze(connection_list=question.lattice.passages.copy(), solution=np.array(path))


def from_solved_maze(maze: "SolvedMaze") -> Question:
    """A maze-dataset maze as a question; a maze with ends but without a solution gives one without a path.

    InputError for a maze without ends, with ends off the grid or cut off from each other, or with odd passages.
    """
    lattice = Lattice(maze.connection_list)
    origin, target = ends_of(lattice, getattr(maze, "start_pos", None), getattr(maze, "end_pos", None))
    solution = getattr(maze, "solution", None)
    if solution is None:
        return Question(lattice, origin, target)
    path = [as_cell(cell) for cell in solution]
    if None in path:
        raise InputError(f"solution: entry {path.index(None) + 1} is not a (row, column) pair")
    return Question(lattice, origin, target, tuple(cell for cell in path if cell is not None))


def to_maze_dataset(questions: Iterable[Question], name: str = "clew") -> "MazeDataset":
    """The questions as a maze-dataset `MazeDataset`; its own `save` writes the file that `read_questions` reads.

    InputError for no questions at all, or for mazes that are not squares of one size, all that such a dataset can hold.
    """
    asked = list(questions)
    if not asked:
        raise InputError("questions: there are none to put into a maze-dataset")
    sizes = sorted({(question.lattice.rows, question.lattice.cols) for question in asked})
    if len(sizes) > 1 or sizes[0][0] != sizes[0][1]:
        shapes = ", ".join(f"{rows}x{cols}" for rows, cols in sizes)
        raise InputError(f"questions: a maze-dataset holds square mazes of one size, these are {shapes}")
    mazes = [to_solved_maze(question) for question in asked]
    with _maze_dataset() as library:
        config = library.MazeDatasetConfig(name=name, grid_n=sizes[0][0], n_mazes=len(mazes))
        # Without collected metadata, even if there is none, its `save` fails from a hundred mazes on.
        return library.MazeDataset(config, mazes, generation_metadata_collected={})


@contextmanager
def _maze_dataset() -> Iterator[ModuleType]:
    """maze-dataset, imported when it is needed; its warnings kept quiet, and the random states that it reseeds kept."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                import maze_dataset
            except ImportError as error:
                raise InputError(f'maze-dataset: {error}; to get it: pip install "clew-spans[maze-dataset]"') from None
            yield maze_dataset
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _read_text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


def _place(first: int, r: int, c: int) -> str:
    return f"line {first + r}, column {c + 1}"
