"""The command line as a person meets it: help, exit codes, one clear line for each kind of bad input."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clew import supervised
from clew.cli import main
from clew.config import MazeConfig, TrainConfig

SMALL = ["--layers", "1", "--width", "16", "--heads", "2", "--steps", "2", "--mazes.sizes", "[3, [2, 4]]",
         "--mazes.branches", "2", "--mazes.per-step", "2", "--eval-mazes", "8", "--probe-every", "0"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "small"
    mazes = MazeConfig(sizes=[3, (2, 4)], branches=2, per_step=2)
    supervised.train(
        TrainConfig(mazes, layers=1, width=16, heads=2, steps=2, eval_mazes=8, probe_every=0, out=str(out))
    )
    return out


def fails(capsys: pytest.CaptureFixture[str], *args: str, code: int = 2) -> str:
    """Runs a command that must fail; returns its one line."""
    assert main(list(args)) == code
    printed = capsys.readouterr()
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1 and "Traceback" not in printed.err, printed.err
    return lines[0]


def test_help_answers_at_once_and_imports_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "numba", "numpy", "matplotlib", "jsonargparse"]
    code = f"import sys; from clew.cli import main; main(['--help']); print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "clew train" in out and out.strip().endswith("[]")


@pytest.mark.parametrize("command", ["train", "eval", "solve"])
def test_every_option_is_explained(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "--config" in out and "_every" not in out


def test_train_eval_solve_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    assert main(["train", *SMALL, "--out", out]) == 0
    assert "exact" in capsys.readouterr().out
    assert main(["train", "--resume", out]) == 0
    assert main(["train", "--config", f"{out}/config.yaml", "--out", out + "-again", "--steps", "1"]) == 0
    assert "steps: 1\n" in Path(out + "-again", "config.yaml").read_text()
    capsys.readouterr()
    assert main(["eval", out, "--mazes", "12", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (
        report["mazes"] == 12 and set(report["by_size"]) == {"3x3", "2x4"} and set(report["by_split"]) == {"held_out"}
    )
    assert main(["solve", out, "--size", "3", "--seed", "3"]) == 0
    shown = capsys.readouterr().out
    assert "shortest path" in shown and "held-out" in shown


def test_eval_and_solve_mazes_of_others(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from clew.mazes import MazeStream, question_text

    questions = [MazeStream(((3, 3),), held_out=None, seed=2).questions(i)[0] for i in range(60)]
    file = tmp_path / "mazes.txt"
    file.write_text("\n".join(map(question_text, questions)) + "\n")
    assert main(["eval", str(run), "--from", str(file), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    held_out = sum(q.lattice.held_out for q in questions)
    assert 0 < held_out < 60
    assert report["by_split"]["held_out"]["mazes"] == held_out
    assert report["by_split"]["not_held_out"]["mazes"] == 60 - held_out
    assert main(["solve", str(run), "--from", str(file)]) == 0


def test_options_that_are_wrong(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "never")]
    assert "'trian' is not a command" in fails(capsys, "trian")
    assert "lr" in fails(capsys, "train", "--lr", "fast", *out)
    assert "nonsense" in fails(capsys, "train", "--nonsense", "1", *out)
    assert "sizes: 1x1" in fails(capsys, "train", "--mazes.sizes", "[1]", *out)
    assert "sizes: 0x0" in fails(capsys, "train", "--mazes.sizes", "[0]", *out)
    assert "loss" in fails(capsys, "train", "--loss", "most", *out)
    assert "sizes" in fails(capsys, "eval", str(run), "--sizes", "[7]")
    assert "track" in fails(capsys, "train", "--track", "nobody", *SMALL, *out)
    assert not (tmp_path / "never").exists()


def test_yaml_with_an_unknown_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "options.yaml"
    for text, says in (("learning_speed: 3\n", "learning_speed"), ("mazes:\n  colour: red\n", "colour"),
                       ("steps: many\n", "steps"), ("[1, 2\n", "options.yaml"), ("", "options.yaml")):  # fmt: skip
        file.write_text(text)
        line = fails(capsys, "train", "--config", str(file), "--out", str(tmp_path / "never"))
        assert says in line, line
    assert "missing.yaml" in fails(capsys, "train", "--config", str(tmp_path / "missing.yaml"))
    assert not (tmp_path / "never").exists()


def test_model_folders_that_are_wrong(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is not a folder" in fails(capsys, "eval", str(tmp_path / "nowhere"))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no config.json" in fails(capsys, "eval", str(empty))
    model = shutil.copytree(run / "model", tmp_path / "model")
    (model / "tokenizer_config.json").rename(tmp_path / "tokenizer_config.json")
    assert "no tokenizer" in fails(capsys, "eval", str(model))
    (tmp_path / "tokenizer_config.json").rename(model / "tokenizer_config.json")
    whole = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(whole[:100])
    assert "cannot be loaded" in fails(capsys, "eval", str(model))
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert "no *.safetensors" in fails(capsys, "eval", str(model))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no mazes"),
        ("<ADJLIST_START> (0,0) <-->\n", "token 4"),
        ("<PATH_START> (0,0) <PATH_END> <ADJLIST_START>\n", "token 1"),
        ("<ADJLIST_START> (0,0) <--> (0,1) ; <ADJLIST_END> <ORIGIN_START> (0,0) <ORIGIN_END> <TARGET_START> (1,1) "
         "<TARGET_END>\n", "not connected"),
        ("<ADJLIST_START> (0,0) <--> banana ; <ADJLIST_END>\n", "banana"),
        ("<ADJLIST_START> (0,0) <--> (0,1) ; (0,1) <--> (0,2) ; (0,2) <--> (0,3) ; (0,3) <--> (0,4) ; (0,4) <--> (0,5) "
         "; <ADJLIST_END> <ORIGIN_START> (0,0) <ORIGIN_END> <TARGET_START> (0,5) <TARGET_END>\n", "larger than"),
        ("#####\n#S  #\n# # #\n#   #\n#####\n", "E"),
    ],
)  # fmt: skip
def test_maze_files_that_are_wrong(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    file = tmp_path / "mazes.txt"
    file.write_text(text)
    assert says in fails(capsys, "eval", str(run), "--from", str(file))
    assert "missing.txt" in fails(capsys, "eval", str(run), "--from", str(tmp_path / "missing.txt"))


def test_run_folders_that_are_wrong(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "already holds a run" in fails(capsys, "train", *SMALL, "--out", str(run))
    assert "holds no run" in fails(capsys, "train", "--resume", str(tmp_path))
    with supervised.run_folder(tmp_path / "busy", resume=False):
        assert "in use" in fails(capsys, "train", *SMALL, "--out", str(tmp_path / "busy"))


def test_a_disk_that_fills_up_is_one_line_and_leaves_no_torn_file(tmp_path: Path) -> None:
    """A limit on file size stands in for the full disk: the same failing write, at the same place."""
    out = tmp_path / "run"
    process = subprocess.run(
        [sys.executable, "-m", "clew", "train", *SMALL, "--out", str(out)],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)),
    )  # fmt: skip
    assert process.returncode == 2, process.stderr
    errors = [line for line in process.stderr.splitlines() if line.startswith("clew train:")]
    assert len(errors) == 1 and "Traceback" not in process.stderr
    assert not list(out.rglob("*.part")) and not (out / "model").exists() and not list(out.glob("checkpoints/step-*"))


def test_nan_is_exit_1_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(capsys, "train", *SMALL, "--lr", "1e30", "--warmup", "0", "--schedule", "constant", "--steps", "50",
                 "--checkpoint-every", "1", "--out", str(tmp_path / "run"), "--log-every", "50", code=1)  # fmt: skip
    assert "last good checkpoint" in line


def test_split_then_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "split"
    small = ["--layers", "1", "--width", "16", "--heads", "2", "--mazes.sizes", "[3]", "--mazes.per-step", "2"]
    few = ["--warmup-steps", "3", "--rounds", "2", "--questions", "3", "--thoughts", "3", "--answers", "2"]
    assert main(["split", *small, *few, "--eval-questions", "4", "--final-questions", "4", "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert "optimal" in shown.out and f"wrote {out}/" in shown.err
    for name in ("shoggoth/model.safetensors", "face/model.safetensors", "warm/face/model.safetensors", "eval.json",
                 "samples.jsonl", "plots/tree.png", "plots/training.png"):  # fmt: skip
        assert (out / name).is_file(), name
    assert main(["plan", "--run", str(out)]) == 0
    assert "best: n = " in capsys.readouterr().out
    assert main(["plan", "--thought-variance", "1", "--answer-variance", "4", "--thought-cost", "16", "--answer-cost",
                 "4", "--budget", "320"]) == 0  # fmt: skip
    assert "n = 10 thoughts, k = 4 answers" in capsys.readouterr().out  # k = sqrt(16/4 * 4/1), n = 320 / (16 + 4 * 4)


def test_plan_and_bench_say_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "give a split's run folder" in fails(capsys, "plan")
    assert "all three are needed" in fails(capsys, "plan", "--thought-variance", "1", "--answer-variance", "1")
    assert "holds no rounds" in fails(capsys, "plan", "--run", str(tmp_path))
    assert "'luck' is no bench; there are " in fails(capsys, "bench", "luck")
    assert main(["bench"]) == 0 and "clew bench NAME" in capsys.readouterr().out


def test_a_split_that_cannot_begin_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--model", "nowhere"], ["--rule", "luck"], ["--traces", "[walk]"], ["--face-sees", "all"],
                  ["--grader", "['no.module:f']"], ["--lr", "0"], ["--prompts", "nowhere.jsonl"]):  # fmt: skip
        fails(capsys, "split", *wrong, "--out", str(tmp_path / "run"))
        assert not (tmp_path / "run").exists(), wrong


def test_sizes_without_held_out_mazes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """2x2 can be trained on: it is said at the start that it cannot be evaluated, and the run ends well."""
    tiny = [*SMALL, "--probe-every", "1", "--log-every", "1"]
    out = tmp_path / "two"
    assert main(["train", *tiny, "--mazes.sizes", "[2]", "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert shown.err.startswith("note: mazes.sizes: there is no held-out maze of 2x2") and "Traceback" not in shown.err
    assert "not evaluated: there is no held-out maze of 2x2" in shown.out
    report = json.loads((out / "eval.json").read_text())
    assert report["mazes"] == 0 and "2x2" in report["not_evaluated"] and (out / "model" / "model.safetensors").is_file()
    assert "no held-out maze of 2x2" in fails(capsys, "eval", str(out))
    assert "no held-out maze of 2x2" in fails(capsys, "solve", str(out), "--size", "2")
    both = tmp_path / "both"
    assert main(["train", *tiny, "--mazes.sizes", "[2, 3]", "--out", str(both)]) == 0
    report = json.loads((both / "eval.json").read_text())
    assert set(report["by_size"]) == {"3x3"} and "2x2" in report["not_evaluated"]
    capsys.readouterr()
    assert main(["eval", str(both), "--mazes", "4", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["mazes"] == 4 and shown.err.startswith("note: sizes: there is no held-out maze of 2x2")


def test_what_is_known_before_work_is_said_before_work(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "never")]
    one_maze = ["--mazes.generators", "[percolation]", "--mazes.p", "1.0"]
    for command, args, says in (
        ("train", [*one_maze, "--mazes.sizes", "[64]"], "no training maze of 64x64 by percolation with p 1"),
        ("split", one_maze, "no held-out maze of 4x4 by percolation with p 1"),
        ("split", [*one_maze, "--mazes.sizes", "[64]"], "no training maze of 64x64"),
        ("split", ["--mazes.sizes", "[2, 4]"], "no held-out maze of 2x2"), ("split", ["--seed", "-1"], "seed: -1"),
        ("split", ["--kl", "inf"], "kl: inf"), ("train", ["--lr", "nan"], "lr: nan"),
        ("split", ["--answer-grader", "['tests.models:length', 'tests.models:length']"], "named more than once"),
        ("train", ["--max-size", "3"], "max_size: 3"), ("train", ["--device", "mps"], "device: mps"),
        ("train", ["--track", "\x1b[31m"], "track: '\\x1b[31m'"), ("split", ["--thoughts", "1000000000"], "thoughts: "),
        ("train", ["--mazes.branches", "1000000000"], "mazes.branches: 1,000,000,000 would take about"),
        ("study", ["tabular", "--seed", "-1"], "seed: -1"), ("study", ["tabular", "--lrs", "[.nan]"], "lrs"),
        ("eval", [str(run), "--generators", "[percolation]", "--p", "1.0", "--sizes", "[3]"], "no held-out maze of 3"),
        ("eval", [str(run), "--batch", "0"], "batch: 0"), ("eval", [str(run), "--seed", "-1"], "seed: -1"),
        ("solve", [str(run), "--seed", "-1"], "seed: -1"), ("eval", [str(run), "--device", "mps"], "device: mps"),
    ):  # fmt: skip
        line = fails(capsys, command, *args, *([] if command == "solve" else out))
        assert says in line and line.isprintable(), line
    assert not (tmp_path / "never").exists()
    assert "seed: there is no such option" in fails(capsys, "plan", "--seed", "-1")
    assert "more samples than can be counted" in fails(
        capsys, "plan", "--thought-variance", "1", "--answer-variance", "1", "--thought-cost", "1e-300",
        "--answer-cost", "1e-300", "--budget", "1e30",
    )  # fmt: skip


def test_folders_with_odd_names(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "\x1b[31m\u202e[bold]"
    shutil.copytree(run, folder)
    assert main(["eval", str(folder), "--mazes", "2", "--out", str(folder / "again")]) == 0
    assert main(["solve", str(folder), "--size", "3"]) == 0
    shown = capsys.readouterr()
    assert all(line.isprintable() for line in (shown.out + shown.err).splitlines())
    assert "\\x1b[31m\\u202e[bold]" in shown.out and "\\x1b[31m\\u202e[bold]/again" in shown.err
    assert "\\x1b[31m\\u202e[bold]/no is not a folder" in fails(capsys, "eval", str(folder / "no"))


def test_an_empty_name_of_a_file_of_mazes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("eval", "solve"):
        assert main([command, str(tmp_path), "--from", ""]) == 2
        assert "from: the text is empty" in capsys.readouterr().err
