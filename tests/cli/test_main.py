"""The command line as a person meets it: help at once, exit codes, one clear line for each kind of bad input."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clew.cli.main import COMMANDS, HELP, main
from cli.conftest import Fails


@pytest.mark.parametrize(
    ("args", "heavy"),
    [
        (["--help"], "torch transformers numba numpy matplotlib jsonargparse rich yaml"),
        (["train", "--help"], "torch transformers numba numpy matplotlib rich"),
        (["split", "--help"], "torch transformers numba numpy matplotlib rich"),
        (["eval", "--help"], "torch transformers numba numpy matplotlib rich"),
        (["zoo", "--help"], "torch transformers numba numpy matplotlib jsonargparse rich yaml"),
    ],
)
def test_help_imports_nothing_heavy(args: list[str], heavy: str) -> None:
    code = f"""
import sys
from clew.cli.main import main
try:
    main({args})
except SystemExit as stop:
    assert stop.code == 0
print([name for name in {heavy.split()} if name in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "clew train" in out or f"usage: clew {args[0]}" in out
    assert out.strip().endswith("[]"), out[-200:]


def test_help_names_every_command_and_every_command_is_a_module() -> None:
    assert tuple(re.findall(r"^  clew (\w+)  ", HELP, re.MULTILINE)) == COMMANDS
    folder = Path(main.__code__.co_filename).parent
    assert all((folder / f"{name}.py").is_file() for name in COMMANDS)


def test_what_is_no_command(fails: Fails, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'trian' is not a command; there are train, " in fails("trian")
    assert main([]) == main(["help"]) == main(["--version"]) == 0
    assert "clew train" in capsys.readouterr().out


def test_a_pipe_that_closes_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "clew", "--help"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (2, "")


def test_what_is_known_before_work_is_said_before_work(run: Path, tmp_path: Path, fails: Fails) -> None:
    out = ["--out", str(tmp_path / "never")]
    one_maze = ["--generators", "[percolation]", "--p", "1.0"]
    both = "['models:length', 'models:length']"
    for command, args, says in (
        ("train", [*one_maze, "--sizes", "[64]"], "no training maze of 64x64 by percolation with p 1"),
        ("split", one_maze, "no held-out maze of 4x4 by percolation"),
        ("split", [*one_maze, "--sizes", "[64]"], "no training maze of 64x64"),
        ("split", ["--seed", "-1"], "seed: -1"),
        ("split", ["--kl", "inf"], "objective.kl: inf"),
        ("train", ["--lr", "nan"], "optimizer.lr: nan"),
        ("split", ["--grader", both], "named more than once"),
        ("train", ["--max-size", "3"], "mazes.max_size: 3"),
        ("train", ["--device", "mps"], "device: mps"),
        ("train", ["--track", "\x1b[31m"], "track: '\\x1b[31m'"),
        ("split", ["--thoughts", "1000000000"], "thoughts: "),
        ("train", ["--branches", "1000000000"], "mazes.branches: 1,000,000,000 would take about"),
        ("study", ["tabular", "--seed", "-1"], "seed: -1"),
        ("study", ["tabular", "--lrs", "[.nan]"], "lrs"),
        ("eval", [str(run), *one_maze, "--sizes", "[3]"], "no held-out maze of 3"),
        ("eval", [str(run), "--batch", "0"], "batch: 0"),
        ("eval", [str(run), "--seed", "-1"], "seed: -1"),
        ("solve", [str(run), "--seed", "-1"], "seed: -1"),
        ("eval", [str(run), "--device", "mps"], "device: mps"),
        ("eval", [str(run), "--batch", "1000000000", "--questions", "1000000000"], "would take about"),
    ):
        line = fails(command, *args, *([] if command == "solve" else out))
        assert says in line and line.isprintable(), line
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("command", ["train", "eval", "solve", "split"])
def test_worlds_that_are_none(run: Path, tmp_path: Path, fails: Fails, command: str) -> None:
    given = [str(run)] if command in ("eval", "solve") else ["--out", str(tmp_path / "never")]
    for world, says in (
        ("chess", "world: 'chess' is not one of mazes, prompts, reasoning_gym or package.module:Class"),
        ("no.module:World", "world: "),
        ("models:length", "world: 'models:length' is not a subclass of clew.world.World"),
        ("prompts", "prompts.file: "),
    ):
        assert says in fails(command, *given, "--world", world)
    assert "world_options: 'mazes' takes none" in fails(command, *given, "--world-options", "{digits: 3}")
    assert not (tmp_path / "never").exists()
