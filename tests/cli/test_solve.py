"""`clew solve`: one question before one's eyes."""

from pathlib import Path

import pytest

from clew.cli.main import main
from clew.mazes import MazeStream, question_text
from cli.conftest import Fails


def asked(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    capsys.readouterr()
    assert main(["solve", *args]) == 0
    return capsys.readouterr().out


def test_a_seed_picks_the_question(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = asked(capsys, str(run), "--size", "3", "--seed", "3")
    assert "a shortest path" in shown and "maze 3x3, held-out: never trained on" in shown
    assert shown == asked(capsys, str(run), "--size", "3", "--seed", "3")
    assert shown != asked(capsys, str(run), "--size", "3", "--seed", "4")
    assert "maze 2x3" in asked(capsys, str(run), "--size", "[2, 3]")
    both = {word for seed in "0123" for word in ("3x3", "2x4") if word in asked(capsys, str(run), "--seed", seed)}
    assert both == {"3x3", "2x4"}


def test_a_splits_run_shows_its_thought(split_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = asked(capsys, str(split_run))
    assert f"{split_run} thought: " in shown and f"{split_run} wrote: " in shown and "score: " in shown


def test_the_first_maze_of_a_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions = [MazeStream(((3, 3),), held_out=False, seed=2).questions(i)[0] for i in range(2)]
    file = tmp_path / "mazes.txt"
    file.write_text("\n".join(map(question_text, questions)) + "\n")
    shown = asked(capsys, str(run), "--from", str(file))
    assert "maze 3x3, NOT held-out" in shown and shown.count("wrote: ") == 1


def test_sizes_that_are_none(run: Path, fails: Fails) -> None:
    assert "mazes.sizes: 7 is more than this model knows" in fails("solve", str(run), "--size", "7")
    assert "mazes of a file have their own" in fails("solve", str(run), "--size", "3", "--from", "mazes.txt")
    assert "leave out one of the two" in fails("solve", str(run), "--size", "3", "--sizes", "[4]")
    assert "size: mazes alone have one" in fails("solve", str(run), "--size", "3", "--world", "models:length")
