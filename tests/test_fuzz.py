"""The fuzzing campaign of bench/fuzz.py, with a short budget and always the same inputs."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
import fuzz
from clew.errors import InputError
from fuzzing.endings import Ending, Finding, captured, check_run, check_untouched, command, in_time, snapshot, tried
from fuzzing.targets import Target, Whole

EXAMPLES = {"configurations": 40, "prompts": 80, "mazes": 80, "run_folders": 8}
EXAMPLES |= {"rules": 80, "graders": 60, "trees": 40, "outputs": 80, "worlds": 24, "earlier": 12}


@pytest.fixture(scope="module")
def whole() -> Iterator[Whole]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        yield Whole(Path(folder), brief=True)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("maker", fuzz.MAKERS, ids=lambda maker: maker.__name__)
def test_every_input_is_read_or_refused_in_one_line(maker, whole: Whole, tmp_path: Path) -> None:
    tally = fuzz.Tally("")
    fuzz.attack(maker(whole), tmp_path / "case", tally, EXAMPLES[maker.__name__])
    assert tally.tried == tally.accepted + tally.refused > EXAMPLES[maker.__name__] // 2
    assert tally.accepted


def test_what_should_not_be_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise InputError("no")

    assert tried(lambda: 3) == (True, 3) and not tried(refused)[0]
    with pytest.raises(Finding, match="traceback: ZeroDivisionError"):
        tried(lambda: 1 / 0)
    with pytest.raises(Finding, match="reaches it raw"):
        tried(lambda: print("\x1b[2J"))
    with pytest.raises(Finding, match=r"late: took more than 0.05 s"), in_time(0.05):
        time.sleep(5)
    (tmp_path / "run").mkdir()
    with pytest.raises(Finding, match="half-written: refused, and yet there is"):
        check_run(tmp_path / "run", Ending(2, "", "no"), ())
    (tmp_path / "run" / "eval.json").write_text("{")
    with pytest.raises(Finding, match=r"half-written: eval.json cannot be read"):
        check_run(tmp_path / "run", Ending(0, "", ""), ("eval.json",))
    before = snapshot(tmp_path)
    (tmp_path / "run" / "eval.json").write_text("{}")
    with pytest.raises(Finding, match="half-written: done, and yet there is no model"):
        check_run(tmp_path / "run", Ending(0, "", ""), ("eval.json", "model"))
    with pytest.raises(Finding, match="wrong: refused, and yet it changed"):
        check_untouched(tmp_path, before, Ending(2, "", "no"))
    for lines, says in ((["one", "two"], "terminal: exit code 2 with the lines"), ([], "terminal: exit code 2 with")):
        monkeypatch.setattr("fuzzing.endings.main", lambda argv, lines=lines: print(*lines, file=sys.stderr) or 2)
        with pytest.raises(Finding, match=says):
            command([], tmp_path)


def test_what_libraries_print_is_captured_too(capfd: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    with captured(told):
        print("python")
        os.write(2, b"another language\n")
    assert told == ["python\n", "another language\n"]
    assert capfd.readouterr() == ("", "")


def test_findings_are_made_small_and_are_found_once(tmp_path: Path) -> None:
    def run(case: list[int], there: Path) -> bool:
        if sum(case) > 100:
            raise Finding("wrong", "too much")
        return True

    tally = fuzz.campaign(Target("sums", st.lists(st.integers(0, 1000)), run), tmp_path / "case", 0.5)
    assert tally.found["wrong"] >= 1 and tally.accepted and len(tally.findings) == 1
    assert tally.findings[0].endswith("    [101]")


def test_a_finding_that_comes_and_goes_is_one_too(tmp_path: Path) -> None:
    once = iter([True])

    def run(case: int, there: Path) -> bool:
        if next(once, False):
            raise Finding("wrong", "now and then")
        return True

    with pytest.raises(Finding, match="now and then"):
        fuzz.attack(Target("moods", st.integers(), run), tmp_path / "case", fuzz.Tally(""), 20)
