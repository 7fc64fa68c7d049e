"""What a person sees: nothing raw, nothing read as markup, one line for an error, also under a progress bar."""

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from clew.cli import terminal
from clew.runs.intervals import Tally, wilson
from clew.study.report import Verdict
from clew.train.evaluate import Sample
from clew.world import World
from small import WORLD

NASTY = "\x1b[31m\u202e\x9b2J[red]x[/]"
ESCAPED = "\\x1b[31m\\u202e\\x9b2J[red]x[/]"
FIGURE = {"value": 0.5, "low": 0.4, "high": 0.6}


def shown(show: Callable[..., None], *args: object) -> str:
    out = io.StringIO()
    show(Console(file=out, width=200), *args)
    return out.getvalue()


def told(*values: dict[str, object], width: int = 200) -> str:
    """What a progress bar says of a loop's reports where there is no terminal."""
    out = io.StringIO()
    with terminal.TrainingProgress(Console(file=out, width=width)) as progress:
        for one in values:
            progress(one)
    return out.getvalue()


def tally(n: int, good: int) -> dict[str, object]:
    total = Tally()
    for i in range(n):
        total.add({"right": i < good, "other": True, "length": 0.5 + i % 2, "hidden": 1.0})
    return total.report()


def test_names_and_texts_are_neither_obeyed_nor_read_as_markup() -> None:
    question = WORLD.held_out(range(1))[0]
    sample = Sample(replace(question, prompt=NASTY), NASTY, NASTY, {NASTY: True}, {})
    both = {"questions": 3, NASTY: FIGURE}
    groups = {f"by_{NASTY}": {NASTY: both, "b": both}, "by_alone": {NASTY: both}}
    for text in (
        shown(terminal.show_sample, WORLD, sample, "runs/m"),
        shown(terminal.show_sample, World(), sample, f"runs/{NASTY}"),
        shown(terminal.show_split, {"after": both, "before": both}),
        shown(terminal.show_verdicts, [Verdict(NASTY, NASTY, ())]),
        shown(terminal.show_report, both | groups, NASTY),
        shown(terminal.show_report, {"questions": 0, "not_evaluated": NASTY}),
        told({"note": NASTY}),
    ):
        assert ESCAPED in text
        assert all(line.isprintable() for line in text.splitlines())


def test_a_report_tells_rates_from_means_and_leaves_out_what_has_no_label() -> None:
    report = tally(20, 5) | {"baseline": tally(20, 10), "by_size": {"a": tally(8, 2), "b": tally(12, 3)}}
    report |= {"baseline_by_size": {"a": tally(8, 4)}, "by_kind": {"only": tally(20, 5)}}
    text = shown(terminal.show_report, report, "right", {"right": "is right", "length": "long"}.get)
    rows = {cells[0]: cells[1:] for line in text.splitlines() if len(cells := re.split(r" *│ *", line)[1:-1]) > 1}
    assert rows["is right"] == ["25.0% [11.2, 46.9]", "50.0% [29.9, 70.1]"]  # Wilson's, of 5 and of 10 in 20
    assert rows["long"][0].startswith("1.000 [") and "hidden" not in text
    assert rows["a"] == ["8", "25.0% [7.1, 59.1]", "50.0%", "100.0%"]
    assert rows["b"] == ["12", "25.0% [8.9, 53.2]", "", "100.0%"]
    assert "all of kind only" in text


def test_what_is_not_quite_all_is_not_shown_as_all() -> None:
    report = {
        "questions": 2000,
        "right": dict(zip(("value", "low", "high"), (0.9995, *wilson(1999, 2000)), strict=True)),
    }
    assert "99.95% [99.7, 100.0]" in shown(terminal.show_report, report, "right")


def test_many_groups_by_number_are_shown_as_ranges() -> None:
    lengths = {str(n): tally(10, 5) for n in range(1, 41)}
    report = tally(400, 200) | {"by_length": lengths, "baseline_by_length": lengths}
    text = shown(terminal.show_report, report, "right")
    assert re.search(r"│ 1-3 +│ +30 │ 50.0% \[33.2, 66.8\] │ +50.0% │", text) and "│ 40 " in text
    assert "│ 2 " not in text
    assert "│ 2 " in shown(terminal.show_report, report, "length")  # means do not add up
    assert "│ 2 " in shown(terminal.show_report, report, "nothing")


def test_a_split_is_shown_beside_its_warm_start() -> None:
    text = shown(terminal.show_split, {"before": tally(20, 5), "after": tally(20, 10)})
    row = next(line for line in text.splitlines() if "right" in line)
    assert row.index("25.0%") < row.index("50.0%") and text.index("warm start") < text.index("trained")


def test_a_sample_shows_what_there_is_of_it() -> None:
    question = replace(WORLD.held_out(range(1))[0], prompt="p" * 5000)
    answer = "<PATH_START> (0,0) <PATH_END>"
    text = shown(terminal.show_sample, WORLD, Sample(question, None, answer, {"exact": False, "score": 0.25}, {}), "m")
    assert f"m wrote: {answer}" in text and "m thought" not in text and "a shortest path" in text
    assert "exact (the reference path): no, score: 0.250" in text
    assert 0 < text.count("p" * 100) < 10  # a long prompt is cut
    assert "m thought: hm" in shown(terminal.show_sample, World(), Sample(question, "hm", answer, {}, {}), "m")


def test_a_phase_is_neither() -> None:
    assert told({"phase": NASTY, "step": 1, "progress": 0.5}) == f"{ESCAPED}  50%  step 1\n"


def test_notes_stand_alone_and_the_world_says_what_is_looked_at() -> None:
    rounds = {"phase": "rounds", "step": 3, "score": 0.5, "thought_tokens": 4.0, "progress": 0.5}
    looked = {"held_out_score": 0.25, "held_out_exact": 0.125, "held_out_valid": 1.0}
    assert told({"note": "slow"}, rounds | looked) == (
        "note: slow\nrounds  50%  round 3  score 0.500  4.0 tokens a thought  held-out score 0.250\n"
    )
    assert told({"world": WORLD}, rounds | looked).endswith("  held-out score 0.250, exact 0.125\n")


def test_a_long_evaluation_is_told_of() -> None:
    asked = [{"phase": "final evaluation", "questions": n, "progress": n / 10**12} for n in (5000, 6000)]
    assert told(*asked) == "final evaluation   0%  5,000 questions\nfinal evaluation   0%  6,000 questions\n"


def test_questions_are_counted_as_they_are_taken() -> None:
    with terminal.QuestionProgress(Console(file=io.StringIO()), 3) as progress:
        taken = progress.counted("abc")
        assert next(taken) == "a" and progress.bar.tasks[0].completed == 1
        assert list(taken) == ["b", "c"] and progress.bar.tasks[0].completed == 3


def on_a_terminal(*command: str) -> tuple[int, str]:
    """Runs a command on a terminal of its own; its exit code and all that it wrote."""
    leader, follower = pty.openpty()
    settings = os.environ | {"OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "200", "LINES": "40"}
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=settings)
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
from clew.cli import terminal
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
    line = {"phase": "rounds", "step": 3, "loss": 0.5, "held_out_score": 0.25, "progress": 0.5}
    assert told(line, width=20) == "rounds  50%  step 3  loss 0.500  held-out score 0.250\n"
