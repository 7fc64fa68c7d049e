"""What a good ending is: the oracle of the fuzzing campaign. Whatever else happens is a finding."""

import hashlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import yaml
from safetensors.torch import load_file

from clew.cli.main import main
from clew.credit import RuleError
from clew.errors import InputError
from clew.graders import GraderError

PATIENCE = 180.0  # seconds that anything tiny may take, on a machine that does much else
SOON = 8.0  # seconds of this process's own that a refusal may take
ASIDE = ("note: ", "warning: ")  # what may stand beside the one line that says what went wrong
UNFINISHED = (".part", ".old", ".tmp")
OWN = (".lock",)  # files that change hands without being results


class Finding(AssertionError):
    """What should not be. kind: traceback, half-written, terminal, late, code or wrong."""

    case = ""

    def __init__(self, kind: str, about: str):
        super().__init__(f"{kind}: {about}")
        self.kind = kind


class _Late(BaseException):
    """The patience is over. No Exception, so that nobody takes it for one of his own."""


@dataclass(frozen=True)
class Ending:
    """How a command ended, and what it told."""

    code: int
    out: str
    err: str


@contextmanager
def in_time(seconds: float | None = None) -> Iterator[None]:
    """Finding if what is done meanwhile takes longer than that."""

    def end(*_: Any) -> None:
        raise _Late

    seconds = PATIENCE if seconds is None else seconds
    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _Late:
        raise Finding("late", f"took more than {seconds:g} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def captured(told: list[str]) -> Iterator[None]:
    """What is written to the terminal meanwhile, by libraries in C and Rust too, as two texts in `told`."""
    with ExitStack() as stack:
        for number, name in enumerate(("stdout", "stderr"), 1):
            stack.enter_context(_caught(number, name, told))
        yield
    told.reverse()  # the last to be opened is the first to be closed


@contextmanager
def _caught(number: int, name: str, told: list[str]) -> Iterator[None]:
    stream, kept = getattr(sys, name), os.dup(number)
    stream.flush()
    with TemporaryFile() as file:
        os.dup2(file.fileno(), number)
        errors = "strict" if number == 1 else "backslashreplace"  # as Python has them
        with open(number, "w", encoding="utf-8", errors=errors, buffering=1, closefd=False) as own:
            setattr(sys, name, own)
            try:
                yield
            finally:
                own.flush()
                setattr(sys, name, stream)
                os.dup2(kept, number)
                os.close(kept)
                file.seek(0)
                told.append(file.read().decode(errors="surrogateescape"))


def command(argv: list[str], folder: Path) -> Ending:
    """Runs a command in a folder, and checks how it ended: code, lines, what the terminal got, what it left behind."""
    told: list[str] = []
    before, started, code, unfinished = Path.cwd(), time.process_time(), -1, _unfinished(folder)
    try:
        os.chdir(folder)
        with in_time(), captured(told):
            try:
                code = main(argv)
            except SystemExit as stop:  # --help
                code = stop.code if isinstance(stop.code, int) else -1
    except Finding as late:
        raise Finding(late.kind, f"{late} ({argv})") from None
    except (Exception, KeyboardInterrupt) as error:
        raise Finding("traceback", where(error)) from error
    finally:
        os.chdir(before)
    ending = Ending(code, *told)
    _check_lines(ending)
    check_terminal(ending.out + ending.err)
    for left in sorted(_unfinished(folder) - unfinished):
        raise Finding("half-written", f"{left} was left behind")
    if ending.code == 2 and time.process_time() - started > SOON:
        raise Finding("late", f"was refused after {time.process_time() - started:.1f} s: {ending.err}")
    return ending


def where(error: BaseException) -> str:
    """An exception with the last line of Clew's own that it passed, which is what tells one from another."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if "/clew/" in frame.filename]
    at = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
    return f"{type(error).__name__} at {at}: {str(error)[:300]}"


def _check_lines(ending: Ending) -> None:
    lines = [line for line in ending.err.split("\n") if line and not line.startswith(ASIDE)]
    said = [line for line in lines if line.startswith("clew")]
    if ending.code not in (0, 1, 2):
        raise Finding("code", f"exit code {ending.code}: {ending.err[-500:]}")
    if "Traceback" in ending.err or "panicked" in ending.err:
        raise Finding("traceback", ending.err[-1000:])
    if len(said) != (ending.code != 0) or (said and lines[-1] != said[0]) or (ending.code == 2 and len(lines) != 1):
        raise Finding("terminal", f"exit code {ending.code} with the lines {lines[-6:]}")


def check_terminal(text: str) -> None:
    """Finding for text that a terminal would obey."""
    for character in text:
        if character != "\n" and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            at = text.index(character)
            raise Finding("terminal", f"{character!r} reaches it raw, in {text[max(0, at - 60) : at + 60]!r}")


def _unfinished(folder: Path) -> set[str]:
    """What is half-written in a folder, by its name."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.endswith(UNFINISHED)}


def snapshot(folder: Path) -> dict[str, bytes]:
    """What is in a folder: the digest of each file by its path, links as they are."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = os.fsencode(os.readlink(path))
        elif path.is_file() and path.name not in OWN:
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).digest()
    return found


def check_whole(folder: Path, before: dict[str, bytes]) -> None:
    """Finding for a file that is new or has changed since `before` and that cannot be read as what its name says."""
    for name, digest in snapshot(folder).items():
        set_aside = any(part.startswith("torn-") for part in Path(name).parts)
        if before.get(name) == digest or set_aside or (folder / name).is_symlink():
            continue
        path = folder / name
        try:
            if path.suffix in (".json", ".jsonl"):
                text = path.read_text(encoding="utf-8")
                parts = [text] if path.suffix == ".json" else text.splitlines()
                if not all(isinstance(json.loads(part), dict) for part in parts):
                    raise ValueError("no object")
            elif path.suffix == ".yaml":
                yaml.safe_load(path.read_text(encoding="utf-8"))
            elif path.suffix == ".safetensors":
                load_file(path)
            elif path.suffix == ".png" and not path.read_bytes().endswith(b"IEND\xaeB`\x82"):
                raise ValueError("no end")
        except Exception as error:
            raise Finding("half-written", f"{name} cannot be read: {error!r}") from None


def check_run(out: Path, ending: Ending, needed: tuple[str, ...]) -> None:
    """Finding unless a run that was to be made in `out` is not there at all (refused), or whole."""
    if ending.code == 2 and out.exists():
        raise Finding("half-written", f"refused, and yet there is {[*map(str, out.rglob('*'))]}: {ending.err}")
    check_whole(out, {})
    for name in needed if ending.code == 0 else ():
        if not (out / name).exists():
            raise Finding("half-written", f"done, and yet there is no {name}")


def check_untouched(folder: Path, before: dict[str, bytes], ending: Ending, may: tuple[str, ...] = ()) -> None:
    """Finding if a refused command changed a file, or took one away, but for those that it `may`."""
    after = snapshot(folder)
    changed = [name for name in before if after.get(name) != before[name] and Path(name).name not in may]
    if ending.code == 2 and changed:
        raise Finding("wrong", f"refused, and yet it changed {changed}: {ending.err}")


def tried(call: Callable[[], Any]) -> tuple[bool, Any]:
    """Whether a call was accepted, and what it returned; a Finding unless it ends well or with an error of Clew's."""
    told: list[str] = []
    try:
        with in_time(), captured(told):
            given = (True, call())
    except (InputError, GraderError, RuleError) as error:
        if not str(error).strip() or len(str(error)) > 5000:
            raise Finding("terminal", f"an error of {len(str(error))} characters: {str(error)[:200]!r}") from None
        if isinstance(error, (GraderError, RuleError)):
            check_terminal(str(error) + str(error).replace("\n", "\0"))
        given = (False, error)
    except Finding:
        raise
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        raise Finding("traceback", where(error)) from error
    check_terminal("".join(told))
    return given


def fresh(folder: Path) -> Path:
    """An empty folder in place of what an earlier example left; commands run two folders below it, in `there`."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "here" / "there").mkdir(parents=True)
    return folder / "here" / "there"
