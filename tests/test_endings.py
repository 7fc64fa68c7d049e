"""Exit codes: those that `clew --help` names, each with one line."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from clew.cli.main import HELP, main
from clew.credit import RuleError
from clew.endings import Terminated, exit_code, interruptible
from clew.errors import InputError
from clew.graders import GraderError
from clew.learner import LossNotFinite


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (InputError("lr: \x1b[31m\nis wrong"), 2, "clew x: lr: \\x1b[31m is wrong"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/\x1b[31m"), 2, "clew x: runs/\\x1b[31m: No space left"),
        (PermissionError(errno.EACCES, "Permission denied", b"runs/\xff"), 2, "clew x: runs/\\udcff: Permission"),
        (GraderError("grader 'f' failed"), 1, "clew x: grader 'f' failed"),
        (RuleError("rule 'f' failed"), 1, "clew x: rule 'f' failed"),
        (LossNotFinite("the loss is nan"), 1, "clew x: the loss is nan"),
        (MemoryError(), 1, "clew x: memory ran out"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), 1, "memory ran out: "),
        (KeyboardInterrupt(), 130, "clew x: interrupted"),
        (Terminated(), 143, "clew x: ended by SIGTERM"),
    ],
)
def test_every_code(error: BaseException, code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise error

    assert exit_code("clew x", work) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and says in lines[0] and lines[0].isprintable()
    assert f"\n  {code if code != 143 else 130}  " in HELP and (code != 143 or "143" in HELP)


def test_bugs_go_through() -> None:
    def work() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        exit_code("clew x", work)


def test_sigterm_ends_a_run_as_an_interrupt_does_and_only_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), interruptible():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(10)
        finally:
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = "--model.layers 1 --model.width 16 --model.heads 2 --mazes.sizes [3] --mazes.branches 2 --per-step 2 "
    options += "--validate-every 0 --final-questions 4 --log-every 1 --steps 100000 --checkpoint-every 5"
    args = options.split()
    command = [sys.executable, "-m", "clew", "train", *args, "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    metrics = out / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= 6):
        threading.Event().wait(0.05)
    process.terminate()
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 143, error
    assert error.splitlines()[-1] == "clew train: ended by SIGTERM" and "Traceback" not in error
    assert not list(out.rglob("*.part"))
    step = max(int(path.name[5:]) for path in (out / "checkpoints").iterdir())
    assert main(["train", "--resume", str(out), "--steps", str(step + 1)]) == 0


@pytest.mark.parametrize("show", ["print", "__import__('rich.console').console.Console().print"])
def test_a_reader_that_has_had_enough(show: str) -> None:
    code = (
        f"import sys; from clew.endings import exit_code; sys.exit(exit_code('clew x', lambda: {show}('x ' * 10**4)))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 2


@pytest.mark.parametrize(
    ("number", "code", "says"), [(signal.SIGTERM, 143, "ended by SIGTERM"), (signal.SIGINT, 130, "interrupted")]
)
def test_what_a_library_makes_of_an_interrupt_is_an_interrupt(
    number: int, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Importing makes classes, and Python wraps what comes then in a RuntimeError; others swallow it whole."""

    class Field:
        def __set_name__(self, owner: type, name: str) -> None:
            os.kill(os.getpid(), number)

    def importing() -> None:
        type("Config", (), {"rank": Field()})

    def drawing() -> None:
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt:
            raise ValueError("Invalid bounding box") from None

    for work in (importing, drawing):
        with interruptible():
            assert exit_code("clew x", work) == code
        assert capsys.readouterr().err == f"clew x: {says}\n"
    with interruptible(), pytest.raises(ValueError, match="of its own"):  # and what came of no signal is a bug
        exit_code("clew x", lambda: (_ for _ in ()).throw(ValueError("of its own")))
