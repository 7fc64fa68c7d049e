"""A world of one's own goes through every command, untouched by any other file."""

import json
from pathlib import Path

import pytest

import toy
from clew.cli.main import main

TOY = ["--world", "toy:Sorting", "--world-options", "{digits: 3}", "--layers", "2", "--width", "32", "--heads", "2"]


def test_a_world_is_short() -> None:
    assert len(Path(toy.__file__).read_text().splitlines()) < 60


def test_a_world_is_trained_in_asked_in_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    learning = ["--steps", "200", "--per-step", "64", "--lr", "1e-2", "--warmup", "5", "--validate-every", "100"]
    assert main(["train", *TOY, *learning, "--final-questions", "40", "--out", out]) == 0
    shown = capsys.readouterr()
    assert "by first" in shown.out and "sorted" in shown.out and ", sorted " in shown.err
    assert main(["eval", out, "--questions", "40", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["questions"] == 40 and report["sorted"]["value"] > 0.5 and "baseline" not in report
    assert main(["solve", out, "--seed", "3"]) == 0
    assert "wrote: " in capsys.readouterr().out


def test_a_world_is_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "split"
    few = ["--rounds", "2", "--questions", "4", "--thoughts", "2", "--answers", "2", "--final-questions", "10"]
    assert main(["split", *TOY, "--warm-start", "20", *few, "--validation-questions", "4", "--out", str(out)]) == 0
    assert "sorted" in capsys.readouterr().out
    assert main(["eval", str(out), "--questions", "10", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    after = json.loads((out / "eval.json").read_text())["after"]
    assert report["sorted"] == after["sorted"] and report["thought_tokens"] == after["thought_tokens"]
    assert main(["solve", str(out)]) == 0
    assert "thought: " in capsys.readouterr().out
    assert main(["eval", str(out), "--world-options", "{digits: 1}", "--questions", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["questions"] == 1
