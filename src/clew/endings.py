"""How a command ends: one line for what went wrong, and an exit code that says of which kind it was."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from clew.errors import InputError
from clew.text import one_line, printable

MEMORY = ("out of memory", "not enough memory", "can't allocate memory")  # as torch says it, which has no one exception


class Terminated(KeyboardInterrupt):
    """SIGTERM came: the run ends as if it had been interrupted, with its files whole."""


_CAME: list[type[KeyboardInterrupt]] = []
"""what the signals that came were raised as"""


def exit_code(name: str, work: Callable[[], None]) -> int:
    """Does the work and returns the exit code of the command called `name`, having said in one line what went wrong.

    0: done. 1: the run failed: its loss was not finite, a grader, a credit rule or a vLLM server failed in a round,
    or memory ran out. 2: bad input, or a file that cannot be read or written, as on a full disk. 130: interrupted. 143:
    ended by SIGTERM.
    Whatever else is raised is a bug, and goes through.
    """
    try:
        with _as_interrupts():
            work()
            sys.stdout.flush()
    except InputError as error:
        return complain(f"{name}: {error}")
    except BrokenPipeError:  # whoever read the output has had enough; nor shall the interpreter complain at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # rich's own way out of it, which says 1
            return 2
        raise
    except OSError as error:
        file = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else "file"
        return complain(f"{name}: {file}: {error.strerror or one_line(error)}")
    except Terminated:
        return complain(f"{name}: ended by SIGTERM", 143)
    except KeyboardInterrupt:
        return complain(f"{name}: interrupted", 130)
    except MemoryError:
        return complain(f"{name}: memory ran out", 1)
    except RuntimeError as error:
        if any(said in str(error) for said in MEMORY):
            return complain(f"{name}: memory ran out: {one_line(error)[:300]}", 1)
        if type(error).__module__.split(".")[0] != "clew":
            raise
        return complain(f"{name}: {error}", 1)
    return 0


@contextmanager
def _as_interrupts() -> Iterator[None]:
    """What is raised once a signal came is an interrupt: one that comes amid a library's compiled code, or while Python
    makes a class, is turned into an error of theirs."""
    try:
        yield
    except Exception:
        if _CAME:
            raise _CAME[-1] from None
        raise


def complain(line: str, code: int = 2) -> int:
    """Prints a line that no terminal obeys; returns the exit code."""
    print(printable(one_line(line)), file=sys.stderr)
    return code


@contextmanager
def interruptible() -> Iterator[None]:
    """While entered, SIGTERM raises Terminated, once: a second one ends the process at once. Signals are remembered."""
    _CAME.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(*_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _CAME.append(Terminated)
        raise Terminated

    def interrupt(*_: Any) -> None:
        _CAME.append(KeyboardInterrupt)
        raise KeyboardInterrupt

    handlers = {signal.SIGTERM: terminate}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background job ignores it
        handlers[signal.SIGINT] = interrupt
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
