"""Pictures of mazes: whatever was answered, and reports with and without groups."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from clew.mazes import Question
from clew.mazes.draw import Attempt, accuracy, draw_attempt, maze_sheet
from clew.mazes.lattice import Lattice
from clew.plots import INK, RED
from clew.runs.intervals import Tally
from pictures import size_of

RING = [((0, 0), (0, 1)), ((0, 1), (0, 2)), ((0, 2), (1, 2)), ((0, 0), (1, 0)), ((1, 0), (1, 1)), ((1, 1), (1, 2))]
QUESTION = Question(Lattice.from_edges(2, 3, RING), (0, 0), (1, 2), ((0, 0), (0, 1), (0, 2), (1, 2)))
SOLVED = "<PATH_START> (0,0) (0,1) (0,2) (1,2) <PATH_END>"


@pytest.mark.parametrize(
    ("answer", "title", "color"),
    [
        (SOLVED, "exact", INK),
        ("<PATH_START> (0,0) (1,0) (1,1) (1,2) <PATH_END>", "optimal", INK),
        (SOLVED.removesuffix(" <PATH_END>"), "score 0.50", RED),
        ("<PATH_START> (0,0) (0,1) (1,1) <UNK> (9,9) $x$ <PATH_END>", "score 0.17", RED),
        ("", "score 0.00", RED),
        ("\ud800\x1b[31m $\\frac{", "score 0.00", RED),
    ],
)
def test_a_verdict_stands_above_its_maze(answer: str, title: str, color: str) -> None:
    figure, axes = plt.subplots()
    draw_attempt(axes, Attempt(QUESTION, answer))
    assert axes.get_title() == title and axes.title.get_color() == color
    plt.close(figure)


def test_a_thought_is_drawn_move_by_move_whatever_it_says() -> None:
    for thought, moves in (("<THOUGHT_START> (0,0) (0,1) (0,0) (1,0) <THOUGHT_END>", 3), ("(0,0) (1,2) $x$ (9,9)", 0)):
        figure, axes = plt.subplots()
        draw_attempt(axes, Attempt(QUESTION, SOLVED))
        without = len(axes.lines)
        draw_attempt(axes, Attempt(QUESTION, SOLVED, thought))
        assert len(axes.lines) == 2 * without + moves
        plt.close(figure)


def test_a_sheet(tmp_path: Path) -> None:
    maze_sheet([], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
    maze_sheet([Attempt(QUESTION, SOLVED)] * 7, tmp_path / "mazes.png")
    assert size_of(tmp_path / "mazes.png")[1] == pytest.approx(2 * 1.95 * 130, rel=0.1)


def test_accuracy_with_and_without_groups(tmp_path: Path) -> None:
    exact = {"exact": {"value": 0.5, "low": 0.25, "high": 0.75}}
    by = {f"{prefix}by_path_length": {"3": exact, "11": exact} for prefix in ("", "baseline_")}
    for report in ({}, by, by | {"by_lookahead": {"0": exact, "2": exact}, "by_size": {"4x4": exact}}):
        accuracy(report, tmp_path / "accuracy.png")
        width, height = size_of(tmp_path / "accuracy.png")
        assert 1300 < width < 1500 and 300 < height < 600


def test_each_group_stands_at_its_number_or_in_the_middle_of_its_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report: dict[str, Any] = {}
    for kind, names in (("path_length", range(1, 33)), ("lookahead", (0, 1, 5)), ("size", ("4x4", "6x6"))):
        report[f"by_{kind}"] = {str(name): half() for name in names}
    drawn = {}
    monkeypatch.setattr("clew.mazes.draw.save", lambda figure, out: drawn.update({out: figure.axes}))
    accuracy(report, tmp_path / "accuracy.png")
    (axes,) = drawn.values()
    assert [ax.get_title() for ax in axes] == ["By path length", "By lookahead", "By size"]
    at = [list(ax.containers[0].lines[0].get_xdata()) for ax in axes]
    assert at == [[1.5 + 2 * n for n in range(16)], [0, 1, 5], ["4x4", "6x6"]]
    plt.close("all")


def half() -> dict[str, Any]:
    tally = Tally()
    for right in (True, False):
        tally.add({"exact": right})
    return tally.report()
