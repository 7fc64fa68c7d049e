"""How somebody's function is called: found by its import path, in a thread of its own, with copies of what it is given,
within a time limit, and several async ones side by side in one event loop."""

import asyncio
import copy
import importlib
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from clew.errors import InputError
from clew.text import show

Outcome: TypeAlias = tuple[Any, BaseException | None]
"""What a function returned, and what it raised."""
PATIENCE = 0.5  # seconds after which an event loop that does not answer is taken for blocked


class LateError(Exception):
    """A call ran over its time limit."""


def load_function(path: str, field: str) -> Callable[..., Any]:
    """The function at `package.module:function`. Raises InputError, naming the field, if the path leads to none."""
    module, _, function = path.partition(":")
    form = "expected package.module:function, installed or in a folder on PYTHONPATH"
    if not all(part.isidentifier() for part in (*module.split("."), function)):
        raise InputError(f"{field}: {show(path)} is no import path; {form}")
    try:
        found = getattr(importlib.import_module(module), function)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a module that ends the program when it is imported
        raise InputError(f"{field}: {show(path)} cannot be imported: {show(error)}; {form}") from error
    if not callable(found):
        raise InputError(f"{field}: {show(path)} is {show(found)}, which cannot be called; {form}")
    return found


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a function, or an object that is called like one, is declared async."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def takes(function: Callable[..., Any], names: tuple[str, ...]) -> tuple[str, ...]:
    """Which of these keyword arguments a function takes, by name or by **kwargs; none where it cannot be seen."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a compiled function has no signature to look at
        return ()
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return names
    named = {one.name for one in parameters if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)}
    return tuple(name for name in names if name in named)


_PLAIN = (str, int, float, bool, type(None))  # nobody can change one of these


def copied(samples: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Samples of which a function may change what it likes. What many samples share is copied once a call."""
    memo: dict[int, Any] = {}
    copies = dict(samples)
    for name, values in samples.items():
        if all(type(value) in _PLAIN for value in values):
            continue
        try:
            copies[name] = copy.deepcopy(values, memo)
        except Exception as error:
            what = f"columns: {show(name)} holds what cannot be copied for a grader"
            raise InputError(f"{what}: {show(error)}") from error
    return copies


class Call:
    """One call of a function, begun at once. A call that runs over its time is abandoned, not killed."""

    # A thread and not the caller's own stack: waiting can stop, an event loop that already runs is no hindrance, and
    # the frames above the function hold nothing but its own arguments.
    def __init__(self, function: Callable[..., Any], arguments: dict[str, Any], seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._made: list[tuple[Outcome, float]] = []
        self._thread = threading.Thread(target=self._work, args=(function, arguments), daemon=True)
        self._thread.start()

    def _work(self, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        try:
            result = function(**arguments)
            outcome = self._awaited(result) if inspect.isawaitable(result) else (result, None)
        except BaseException as error:
            outcome = None, error
        self._made.append((outcome, time.monotonic()))

    def _awaited(self, result: Awaitable[Any]) -> Outcome:
        limited = asyncio.wait_for(_guarded(result), self._end - time.monotonic())
        return asyncio.run_coroutine_threadsafe(limited, _loop()).result()

    def outcome(self) -> Outcome:
        """What came of it, LateError if that was nothing within its time."""
        self._thread.join(max(0.0, self._end - time.monotonic()))
        in_time = [outcome for outcome, done in self._made if done < self._end]
        if not in_time:
            _leave_a_blocked_loop()
        return in_time[0] if in_time else (None, LateError())


async def _guarded(result: Awaitable[Any]) -> Outcome:
    """What an awaitable comes to; an exit that it raises does not end the loop."""
    try:
        return await result, None
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        return None, error


_loops: list[asyncio.AbstractEventLoop] = []
_choosing = threading.Lock()


def _loop() -> asyncio.AbstractEventLoop:
    """The one event loop of all async functions, in which what they keep open stays open from call to call."""
    with _choosing:
        if not _loops:
            _loops.append(asyncio.new_event_loop())
            threading.Thread(target=_loops[0].run_forever, daemon=True).start()
        return _loops[0]


def _leave_a_blocked_loop() -> None:
    """After a call that was late: the next ones get another loop where a function keeps this one to itself."""
    with _choosing:
        there = threading.Event()
        if _loops:
            _loops[0].call_soon_threadsafe(there.set)
            if not there.wait(PATIENCE):
                _loops.clear()
