"""A maze as a terminal shows it."""

import io

from rich.console import Console, RenderableType

from clew.mazes import Question
from clew.mazes.lattice import Lattice
from clew.mazes.terminal import attempt, maze_text, search

CORRIDOR = Lattice.from_edges(2, 3, [((0, 0), (0, 1)), ((0, 1), (0, 2)), ((0, 2), (1, 2)), ((0, 0), (1, 0))])
QUESTION = Question(CORRIDOR, (0, 0), (1, 2), ((0, 0), (0, 1), (0, 2), (1, 2)))


def shown(answer: str, width: int = 100) -> str:
    return printed(attempt(QUESTION, answer), width)


def printed(drawn: RenderableType, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(drawn)
    return out.getvalue()


def test_walls_passages_and_ends() -> None:
    text = maze_text(CORRIDOR, [([(0, 0), (0, 1)], "blue")], {(1, 2): ("E ", "bold")})
    assert text.plain.splitlines() == [
        "██████████████",
        "██••••••    ██",
        "██  ██████  ██",
        "██  ██  ██E ██",
        "██████████████",
    ]


def test_wrong_steps_are_red_and_right_ones_blue() -> None:
    out = io.StringIO()
    drawn = attempt(QUESTION, "<PATH_START> (0,0) (0,1) (1,1) (1,2) <PATH_END>")
    Console(file=out, width=100, force_terminal=True, color_system="standard").print(drawn)
    assert "\x1b[1;34m••" in out.getvalue() and "\x1b[1;31m••" in out.getvalue()


def test_drawings_fit_the_terminal() -> None:
    """Beside each other, below each other, and half as wide; no line is broken or cut."""
    good = "<PATH_START> (0,0) (0,1) (0,2) (1,2) <PATH_END>"
    square, narrow = "██  ██████••██", "█ ███•█"
    for width, tile, drawings in ((80, square, 2), (31, square, 1), (14, square, 1), (13, narrow, 1), (7, narrow, 1)):
        lines = [line for line in shown(good, width).splitlines() if line.count("█") > 4]
        assert [line.count(tile) for line in lines if line.strip().startswith(tile)] == [drawings] * (2 // drawings)
        assert max(map(len, lines)) <= width


def test_rows_and_columns_before_the_maze_are_left_out() -> None:
    edges = [((a + 4, b + 1), (c + 4, d + 1)) for (a, b), (c, d) in CORRIDOR.edges()]
    moved = Question(Lattice.from_edges(6, 4, edges), (4, 1), (5, 3), ((4, 1), (4, 2), (4, 3), (5, 3)))
    answers = ("(0,0) (0,1) (0,2) (1,2)", "(0,0) (0,1) (1,1)", "(0,0) (1,0)")
    for there, here in zip(("(4,1) (4,2) (4,3) (5,3)", "(4,1) (4,2) (5,2)", "(4,1) (5,1)"), answers, strict=True):
        drawn = printed(attempt(moved, f"<PATH_START> {there} <PATH_END>"))
        assert drawn.replace("6x4 (shown from (4,1) on)", "2x3") == shown(f"<PATH_START> {here} <PATH_END>")
    through_a_wall = printed(attempt(moved, "<PATH_START> (4,1) (3,1) (9,9) ; (5,3) <PATH_END>"))
    assert "maze 6x4 (shown from (3,1) on)" in through_a_wall and "failed; " in through_a_wall
    assert through_a_wall.splitlines()[2].startswith("██••██")  # the cell behind the wall


def test_a_search_is_numbered_as_it_came_to_cells() -> None:
    """First visits count, jumps are not joined, cells that are none are read past, and numbers of two digits need two
    characters."""
    thought = "<THOUGHT_START> (0,0) (1,0) (0,0) ; \x1b[31m (0,1) (9,9) (1,2) <THOUGHT_END>"
    drawn = printed(search(QUESTION, thought) or "")
    assert drawn.splitlines()[1:] == [
        line.ljust(len(drawn.splitlines()[1]))
        for line in ("██████████████", "██1 ••3     ██", "██••██████  ██", "██2 ██  ██4 ██", "██████████████")
    ]
    through_walls = printed(search(QUESTION, "(0,2) (0,1) ; (1,1) (1,0) (0,0)") or "").splitlines()
    assert [line.rstrip() for line in through_walls[2:5]] == ["██5   2 ••1 ██", "██••██████  ██", "██4 ██3 ██  ██"]
    assert search(QUESTION, "plain words (9,9)") is None and search(QUESTION, "") is None
    cells = " ".join(f"(0,{column})" for column in range(11))
    row = Question(Lattice.from_edges(2, 11, [((0, c), (0, c + 1)) for c in range(10)]), (0, 0), (0, 10), None)
    assert "••9 ••10••11██" in printed(search(row, cells) or "")
    assert "█1•2•3•4•5•6•7•8•9••••█" in printed(search(row, cells) or "", 40)


def test_verdicts() -> None:
    good = "<PATH_START> (0,0) (0,1) (0,2) (1,2) <PATH_END>"
    assert "solved: a shortest path; 3 steps, shortest 3" in shown(good)
    assert "solved, with a detour; 5 steps, shortest 3" in shown(good.replace("(0,1)", "(1,0) (0,0) (0,1)", 1))
    assert "failed; " in shown(good.removesuffix(" <PATH_END>"))  # it never said that it had arrived
    for nonsense in ("", "\x1b[31m", "(9,9) <PATH_START> (8,8)"):
        assert "failed; " in shown(nonsense) and all(line.isprintable() for line in shown(nonsense).splitlines())
    there = attempt(QUESTION._replace(target=(0, 0), path=((0, 0),)), "<PATH_START> (0,0) (0,1) (0,0) <PATH_END>")
    assert "solved, with a detour" in printed(there)  # the least that a whole path is worth, for no steps were needed
    assert ("NOT held-out" in shown(good)) == (not CORRIDOR.held_out)
