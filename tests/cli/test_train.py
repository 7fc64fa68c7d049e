"""`clew train` from first step to resume, and how it fails."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clew.cli.main import main
from clew.runs.folder import run_folder
from clew.runs.options import read_yaml
from cli.conftest import Fails

SMALL = ["--layers", "1", "--width", "16", "--heads", "2", "--steps", "2", "--mazes", "[3, [2, 4]]"]
SMALL += ["--branches", "2", "--per-step", "2", "--final-questions", "8", "--validate-every", "0"]


def test_train_resume_and_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    assert main(["train", *SMALL, "--rope-base", "100", "--validate-every", "1", "--log-every", "1", "--out", out]) == 0
    assert json.loads(Path(out, "model", "config.json").read_text())["rope_parameters"]["rope_theta"] == 100
    shown = capsys.readouterr()
    assert "exact" in shown.out and "by size" in shown.out and f"wrote {out}/" in shown.err
    assert "held-out score 0." in shown.err and ", exact 0." in shown.err
    assert "no step was left" not in shown.err
    assert main(["train", "--resume", out, "--minutes", "5"]) == 0
    assert "note: resume: no step was left to make; to go on, let --steps be more" in capsys.readouterr().err
    assert main(["train", "--config", f"{out}/config.yaml", "--out", out + "-again", "--steps", "1"]) == 0
    assert read_yaml(Path(out + "-again", "config.yaml"))["steps"] == 1


def test_sizes_of_a_new_model_are_told_where_there_is_another(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--model", str(run), *SMALL, "--layers", "9", "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    assert f"note: model.layers: is of a new model, and '{run}' has its own" in said and "rope_base" not in said


def test_the_example_is_what_it_was() -> None:
    """Everything that `examples/demo.yaml` sets, under today's names."""
    values = read_yaml(Path(__file__).parents[2] / "examples" / "demo.yaml")
    assert values == {
        "mazes": {"sizes": [3, 4], "branches": 4},
        "per_step": 16,
        "model": {"layers": 2, "width": 64, "heads": 2},
        "steps": 4000,
        "optimizer": {"name": "muon", "lr": 0.002},
        "final_questions": 1000,
    }


def test_options_that_are_wrong(tmp_path: Path, fails: Fails) -> None:
    out = ["--out", str(tmp_path / "never")]
    assert "optimizer.lr" in fails("train", "--lr", "fast", *out)
    assert "nonsense" in fails("train", "--nonsense", "1", *out)
    assert "sizes: 1x1" in fails("train", "--mazes.sizes", "[1]", *out)
    assert "sizes: 0x0" in fails("train", "--mazes.sizes", "[0]", *out)
    assert "loss" in fails("train", "--loss", "most", *out)
    for base in ("1", "-100", "inf", "nan"):
        assert "model.rope_base" in fails("train", "--rope-base", base, *SMALL, *out)
    assert "track" in fails("train", "--track", "nobody", *SMALL, *out)
    assert "is now called" in fails("train", "--eval-mazes", "8", *out)
    assert not (tmp_path / "never").exists()


def test_yaml_with_an_unknown_option(tmp_path: Path, fails: Fails) -> None:
    file = tmp_path / "options.yaml"
    for text, says in (
        ("learning_speed: 3\n", "learning_speed"),
        ("mazes:\n  colour: red\n", "colour"),
        ("steps: many\n", "steps"),
        ("lr: 3\n", "lr is now optimizer.lr"),
        ("[1, 2\n", "options.yaml"),
        ("", "options.yaml"),
    ):
        file.write_text(text)
        line = fails("train", "--config", str(file), "--out", str(tmp_path / "never"))
        assert says in line, line
    assert "missing.yaml" in fails("train", "--config", str(tmp_path / "missing.yaml"))
    assert not (tmp_path / "never").exists()


def test_run_folders_that_are_wrong(run: Path, split_run: Path, tmp_path: Path, fails: Fails) -> None:
    assert "already holds a run" in fails("train", *SMALL, "--out", str(run))
    assert "holds no run" in fails("train", "--resume", str(tmp_path))
    assert "holds a run of clew split" in fails("train", "--resume", str(split_run))
    with run_folder(tmp_path / "busy", resume=False):
        assert "in use" in fails("train", *SMALL, "--out", str(tmp_path / "busy"))


def test_a_run_without_its_checkpoints_keeps_its_model(run: Path, tmp_path: Path, fails: Fails) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("checkpoints", ".lock"))
    before = {file: file.read_bytes() for file in copy.rglob("*") if file.is_file()}
    assert f"to train it further: --model {copy}/model and" in fails("train", "--resume", str(copy), "--steps", "4")
    assert {file: file.read_bytes() for file in copy.rglob("*") if file.is_file() and file.name != ".lock"} == before


def test_a_disk_that_fills_up_is_one_line_and_leaves_no_torn_file(tmp_path: Path) -> None:
    """A limit on file size stands in for the full disk: the same failing write, at the same place."""
    out = tmp_path / "run"
    process = subprocess.run(
        [sys.executable, "-m", "clew", "train", *SMALL, "--out", str(out)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)),
    )
    assert process.returncode == 2, process.stderr
    errors = [line for line in process.stderr.splitlines() if line.startswith("clew train:")]
    assert len(errors) == 1 and "Traceback" not in process.stderr
    assert not list(out.rglob("*.part")) and not (out / "model").exists() and not list(out.glob("checkpoints/step-*"))


def test_nan_is_exit_1_and_one_line(tmp_path: Path, fails: Fails) -> None:
    wild = ["--lr", "1e30", "--warmup", "0", "--schedule", "constant", "--steps", "50", "--checkpoint-every", "1"]
    line = fails("train", *SMALL, *wild, "--out", str(tmp_path / "run"), "--log-every", "50", code=1)
    assert "last good checkpoint" in line


def test_sizes_without_held_out_mazes(tmp_path: Path, fails: Fails, capsys: pytest.CaptureFixture[str]) -> None:
    """2x2 can be trained on: it is said at the start that it cannot be evaluated, and the run ends well."""
    tiny = [*SMALL, "--validate-every", "1", "--log-every", "1"]
    out = tmp_path / "two"
    assert main(["train", *tiny, "--mazes.sizes", "[2]", "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert shown.err.startswith("note: world: there is no held-out maze of 2x2") and "Traceback" not in shown.err
    assert shown.err.count("note: ") == 1
    assert "not evaluated: there is no held-out maze of 2x2" in shown.out
    report = json.loads((out / "eval.json").read_text())
    assert report["questions"] == 0 and "2x2" in report["not_evaluated"]
    assert (out / "model" / "model.safetensors").is_file()
    assert "no held-out maze of 2x2" in fails("eval", str(out))
    assert "no held-out maze of 2x2" in fails("solve", str(out), "--size", "2")
    both = tmp_path / "both"
    assert main(["train", *tiny, "--mazes.sizes", "[2, 3]", "--out", str(both)]) == 0
    report = json.loads((both / "eval.json").read_text())
    assert report["questions"] == 8 and list(report["by_size"]) == ["3x3"] and "2x2" in report["not_evaluated"]
    capsys.readouterr()
    assert main(["eval", str(both), "--questions", "4", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["questions"] == 4
    assert shown.err.startswith("note: world: there is no held-out maze of 2x2")
