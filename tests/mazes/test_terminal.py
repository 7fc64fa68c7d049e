"""A maze as a terminal shows it."""

import io

from rich.console import Console

from clew.mazes import Question
from clew.mazes.lattice import Lattice
from clew.mazes.terminal import attempt, maze_text

CORRIDOR = Lattice.from_edges(2, 3, [((0, 0), (0, 1)), ((0, 1), (0, 2)), ((0, 2), (1, 2)), ((0, 0), (1, 0))])
QUESTION = Question(CORRIDOR, (0, 0), (1, 2), ((0, 0), (0, 1), (0, 2), (1, 2)))


def shown(answer: str) -> str:
    out = io.StringIO()
    Console(file=out, width=100).print(attempt(QUESTION, answer))
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
    drawn = attempt(QUESTION, "<PATH_START> (0,0) (0,1) (1,1) (1,2) <PATH_END>").renderables[0]
    mine = next(iter(drawn.columns[0].cells))  # the heading; the maze is below it
    assert "wrong steps" in mine
    colors = {span.style for span in list(drawn.columns[0].cells)[1].spans}
    assert {"bold blue", "bold red"} <= colors


def test_verdicts() -> None:
    good = "<PATH_START> (0,0) (0,1) (0,2) (1,2) <PATH_END>"
    assert "solved: a shortest path; 3 steps, shortest 3" in shown(good)
    assert "solved, with a detour; 5 steps, shortest 3" in shown(good.replace("(0,1)", "(1,0) (0,0) (0,1)", 1))
    assert "failed; " in shown(good.removesuffix(" <PATH_END>"))  # it never said that it had arrived
    for nonsense in ("", "\x1b[31m", "(9,9) <PATH_START> (8,8)"):
        assert "failed; " in shown(nonsense) and all(line.isprintable() for line in shown(nonsense).splitlines())
    assert ("NOT held-out" in shown(good)) == (not CORRIDOR.held_out)
