"""`clew zoo`, and the commands that take zoo:NAME."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from clew import zoo
from clew.cli.main import main
from clew.mazes import MazeStream, question_text
from clew.text import in_percent
from cli.conftest import Fails

NAME = zoo.names()[0]
CARD = zoo.card(NAME)
SMALL, LARGE = (f"{side}x{side}" for side in (CARD["sizes"][0], CARD["sizes"][-1]))


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    capsys.readouterr()
    assert main(list(args)) == 0
    return capsys.readouterr().out


def test_the_list_has_a_line_a_model_and_needs_no_torch() -> None:
    code = "import sys; from clew.cli.main import main; main(['zoo']); assert 'torch' not in sys.modules"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name in zoo.names():
        line = next(line for line in out.splitlines() if line.startswith(f" {name} "))
        assert f"{in_percent(zoo.card(name)['optimal']['value'])}% [" in line
        assert len(line) <= 80
    assert "…" not in out and "".join(zoo.card(NAME)["mazes"].split()) in "".join(out.split())


def test_a_card_in_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for name in (NAME, f"zoo:{NAME}"):
        text = shown(capsys, "zoo", name)
        assert f"zoo:{NAME}: {CARD['layers']} layers of width {CARD['width']}" in text
        assert CARD["trained"]["command"] in text and str(zoo.folder(NAME)) in text
        assert ("by size" in text) == (len(CARD["sizes"]) > 1)
        assert "by lookahead" in text and "baseline" in text


def test_cards_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(shown(capsys, "zoo", NAME, "--json")) == CARD
    assert json.loads(shown(capsys, "zoo", "--json")) == {name: zoo.card(name) for name in zoo.names()}


def test_what_is_not_there(fails: Fails, tmp_path: Path) -> None:
    out = str(tmp_path / "never")
    for args in (["zoo", "9z9"], ["solve", "zoo:9z9"], ["eval", "zoo:9z9"]):
        assert f"{args[0]}: model: 'zoo:9z9' is not in the zoo; nearest: " in fails(*args)
    for command in ("train", "split"):
        assert "model: 'zoo:9z9' is not in the zoo" in fails(command, "--model", "zoo:9z9", "--out", out)
        assert "model: 'zoo:9z9' is not in the zoo" in fails(command, "--model.folder", "zoo:9z9", "--out", out)
    assert not Path(out).exists()
    assert "'--jsn': there is no such option" in fails("zoo", "--jsn")
    assert "one name at a time" in fails("zoo", NAME, NAME)


def test_solve_asks_the_largest_size_unless_told(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "solve", f"zoo:{NAME}", "--seed", "3")
    assert f"maze {LARGE}, held-out: never trained on" in text and f"zoo:{NAME} wrote: " in text
    assert f"maze {LARGE}" in shown(capsys, "solve", f"zoo:{NAME}", "--seed", "4")
    assert f"maze {SMALL}" in shown(capsys, "solve", f"zoo:{NAME}", "--size", str(CARD["sizes"][0]))
    assert f"maze {SMALL}" in shown(capsys, "solve", f"zoo:{NAME}", "--sizes", str(CARD["sizes"][:1]))


def test_eval_asks_what_it_was_trained_on_or_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = json.loads(shown(capsys, "eval", f"zoo:{NAME}", "--questions", "8", "--json"))
    assert report["questions"] == 8 and set(report["by_size"]) == set(CARD["by_size"])
    file = tmp_path / "mazes.txt"
    file.write_text(question_text(MazeStream(((3, 3),), held_out=True, seed=2).questions(0)[0]) + "\n")
    report = json.loads(shown(capsys, "eval", f"zoo:{NAME}", "--from", str(file), "--json"))
    assert report["questions"] == 1 and set(report["by_size"]) == {"3x3"}
