"""What a person sees: nothing raw, nothing read as markup, one line for an error, also under a progress bar."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from clew import terminal
from clew.evaluate import Item, read_attempt
from clew.mazes import MazeStream
from clew.study.report import Verdict

NASTY = "\x1b[31m\u202e\x9b2J[red]x[/]"


def shown(show: object, *args: object) -> str:
    out = io.StringIO()
    show(Console(file=out, width=200), *args)  # type: ignore[operator]
    return out.getvalue()


def test_names_and_texts_are_neither_obeyed_nor_read_as_markup() -> None:
    figure = {"value": 0.5, "low": 0.4, "high": 0.6}
    item = Item(MazeStream(((3, 3),)).questions(0)[0], [], "dfs")
    for text in (
        shown(terminal.show_attempt, read_attempt(item, [NASTY]), f"runs/{NASTY}"),
        shown(terminal.show_split, {"after": {"mazes": 3, NASTY: figure}, "before": {"mazes": 3, NASTY: figure}}),
        shown(terminal.show_verdicts, [Verdict(NASTY, NASTY, ())]),
        shown(terminal.show_report, {"mazes": 0, "not_evaluated": NASTY}),
    ):
        assert "\\x1b[31m\\u202e\\x9b2J[red]x[/]" in text
        assert all(line.isprintable() for line in text.splitlines())


def test_a_phase_is_neither(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    with terminal.TrainingProgress(Console(file=out, width=200)) as progress:
        progress({"phase": NASTY, "step": 1, "progress": 0.5})
    assert out.getvalue() == "\\x1b[31m\\u202e\\x9b2J[red]x[/]  50%  step 1\n"


def test_a_long_evaluation_is_told_of() -> None:
    out = io.StringIO()
    with terminal.TrainingProgress(Console(file=out, width=200)) as progress:
        for number in (5000, 6000):
            progress({"phase": "final evaluation", "mazes": number, "progress": number / 10**12})
    assert out.getvalue() == "final evaluation   0%  5,000 mazes\nfinal evaluation   0%  6,000 mazes\n"


def on_a_terminal(*command: str) -> tuple[int, str]:
    """Runs a command on a terminal of its own; its exit code and all that it wrote."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=os.environ | {
        "OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "200", "LINES": "40",
    })  # fmt: skip
    os.close(follower)
    written = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        written += part
    os.close(leader)
    return process.wait(), written.decode()


def screen(written: str) -> list[str]:
    """The lines that stay on a terminal's screen, for the few movements that a progress bar makes."""
    lines, row = [""], 0
    i = 0
    while i < len(written):
        if written.startswith("\x1b[", i):
            end = i + 2
            while not written[end].isalpha():
                end += 1
            if written[end] == "A":
                row = max(0, row - int(written[i + 2 : end] or 1))
            elif written[end] == "K":
                lines[row] = ""
            i = end + 1
            continue
        if written[i] == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif written[i] == "\r":
            pass
        else:
            lines[row] += written[i]
        i += 1
    return [line for line in lines if line.strip()]


UNDER_A_BAR = """
import sys
from rich.console import Console
from clew import terminal
from clew.endings import exit_code
from clew.errors import InputError

def work():
    with terminal.TrainingProgress(Console(stderr=True)) as progress:
        progress({"phase": "training", "step": 1, "loss": 0.5, "progress": 0.5})
        raise InputError("lr: what is wrong")

sys.exit(exit_code("clew train", work))
"""


def test_an_error_under_a_bar_is_one_line() -> None:
    code, written = on_a_terminal(sys.executable, "-c", UNDER_A_BAR)
    left = screen(written)
    assert "\x1b[?25h" in written  # the cursor is back
    assert "step 1" in written  # there was a bar
    assert code == 2 and left == ["clew train: lr: what is wrong"], left


def test_the_command_itself_on_a_terminal(tmp_path: Path) -> None:
    out = tmp_path / "run\x1b[31m"
    (out / "config.yaml").parent.mkdir()
    (out / "config.yaml").write_text("steps: 1\n")
    code, written = on_a_terminal(sys.executable, "-m", "clew", "train", "--out", str(out), "--steps", "1")
    left = screen(written)
    assert code == 2 and len(left) == 1 and left[0].startswith(f"clew train: out: {tmp_path}/run\\x1b[31m already"), (
        left
    )


def test_a_line_of_progress_is_one_line_however_narrow_the_place() -> None:
    out = io.StringIO()
    with terminal.TrainingProgress(Console(file=out, width=20)) as progress:
        progress({"phase": "rounds", "step": 3, "loss": 0.5, "held_out_score": 0.25, "progress": 0.5})
    assert out.getvalue() == "rounds  50%  step 3  loss 0.500  held-out score 0.250\n"
