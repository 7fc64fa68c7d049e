"""Monitors: functions that read thoughts and answers, for the log alone.

A monitor has the graders' form, `f(prompts, completions, thoughts, **columns)`, and returns a number or None a sample:
one answer with the thought before it. It runs in a process of its own, which this module starts as
`python -m clew.monitors package.module:function`, and both speak in lines of JSON. So whatever it returns, raises,
prints or changes, however it ends, and whatever it does to seeds, threads or the environment, stays there: the run
that asked goes on with numbers for its log, or without them. What a monitor is given is what JSON holds: chat messages
as graders get them, and anything in a column that JSON has no word for as text.
"""

import asyncio
import inspect
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from clew.calls import load_function
from clew.errors import InputError
from clew.text import one_line, printable, show

START = 60.0  # seconds that importing a monitor may take at the least
MOST = 2**26  # bytes of a reply: what is longer is no list of numbers


@dataclass
class Monitor:
    """A watcher in a process of its own, by its import path. Each call may take `time_limit` seconds."""

    name: str
    time_limit: float = 60.0
    failed: bool = False
    """whether any call has failed so far"""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """InputError for a path that does not lead to a function, or not within the time limit."""
        if fault := self._begun():
            self.close()
            raise InputError(f"monitor: {show(self.name)} {fault}")

    def watch(self, samples: Mapping[str, Sequence[Any]], count: int) -> tuple[np.ndarray, str]:
        """What it says of B samples: values_B, NaN where it said nothing, and a line about what went wrong, if it did.

        A process that has ended, was late or spoke out of turn is replaced at the next call.
        """
        values, fault = self._values(samples, count)
        self.failed = self.failed or bool(fault)
        return np.full(count, np.nan) if fault else np.array(values, dtype=np.float64), fault

    def close(self) -> None:
        """Ends its process, and those that it has started."""
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None  # its pipes are closed when the thread that waits for them lets go

    def _values(self, samples: Mapping[str, Sequence[Any]], count: int) -> tuple[list[float], str]:
        try:
            line = json.dumps(samples, default=_as_text).encode() + b"\n"
        except Exception as error:  # a column that holds itself, say, or names by other things than text
            return [], f"cannot be given these samples: {show(error)}"
        if not (self._process and self._process.poll() is None) and (fault := self._begun()):
            return [], fault
        reply = self._reply(line, self.time_limit)
        if isinstance(reply, dict) and isinstance(reply.get("error"), str):
            return [], printable(one_line(reply["error"]), 300)
        said = reply.get("values") if isinstance(reply, dict) else None
        if isinstance(said, list) and len(said) == count and all(_is_number(one) for one in said):
            return [math.nan if one is None else float(one) for one in said], ""
        self.close()
        return [], f"ended, or said nothing within {self.time_limit:g} s"

    def _begun(self) -> str:
        """A new process that has found its function; what went wrong, if something did."""
        self.close()
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)  # it finds what this process finds
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "clew.monitors", self.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": paths},
                start_new_session=True,
            )
        except OSError as error:
            return f"cannot be started: {error.strerror}"
        limit = max(self.time_limit, START)
        reply = self._reply(b"", limit)
        if isinstance(reply, dict) and "error" in reply:
            return printable(one_line(reply["error"]), 500)
        return "" if isinstance(reply, dict) else f"could not be imported within {limit:g} s"

    def _reply(self, line: bytes, seconds: float) -> Any:
        """The reply to a line, or to being started; None if there is none in time."""
        process, replies = self._process, queue.SimpleQueue[Any]()
        assert process and process.stdin and process.stdout

        def exchange(into: IO[bytes], out: IO[bytes]) -> None:
            try:
                into.write(line)
                into.flush()
                replies.put(json.loads(out.readline(MOST)))
            except Exception:  # it has ended, or has written what is no reply
                replies.put(None)

        threading.Thread(target=exchange, args=(process.stdin, process.stdout), daemon=True).start()
        try:
            return replies.get(timeout=seconds)
        except queue.Empty:
            return None


def _is_number(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and abs(value) < 1e300)


def _as_text(value: Any) -> Any:
    """What JSON has no word for: an array as lists, all else as text."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


# In the process of a monitor.


def _serve(path: str) -> None:
    """Answers questions on standard input, a line each, until there are no more; nothing printed gets in between."""
    asked, told = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for taken in (0, 1, 2):
        os.dup2(nowhere, taken)

    def reply(value: dict[str, Any]) -> None:
        told.write(json.dumps(value).encode() + b"\n")
        told.flush()

    lines = queue.SimpleQueue[bytes]()

    def listen() -> None:
        for line in asked:
            lines.put(line)
        os._exit(0)  # whoever asked is gone, whatever the function is at

    try:
        function = load_function(path, "monitor")
    except BaseException as error:
        return reply({"error": str(error).removeprefix(f"monitor: {show(path)} ")})
    threading.Thread(target=listen, daemon=True).start()
    reply({})
    while True:
        samples = json.loads(lines.get())
        try:
            answer = {"values": _numbers(function, samples)}
        except BaseException as error:
            answer = {"error": f"raised {show(error)}"}
        reply(answer)


def _numbers(function: Callable[..., Any], samples: dict[str, list[Any]]) -> list[float | None]:
    count = len(samples["completions"])
    said = function(**samples)
    said = asyncio.run(_awaited(said)) if inspect.isawaitable(said) else said
    said = said.tolist() if hasattr(said, "tolist") else said
    if not isinstance(said, list | tuple) or len(said) != count:
        raise ValueError(f"it returned {show(said)}; expected a list of {count} numbers or None")
    numbers = [None if one is None else float(one) for one in said]
    return [one if one is not None and abs(one) < 1e300 else None for one in numbers]


async def _awaited(said: Awaitable[Any]) -> Any:
    return await said


if __name__ == "__main__":
    _serve(sys.argv[1])
