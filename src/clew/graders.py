"""Graders: functions that score answers, and that cannot see the thoughts behind them.

A grader has the form that TRL's trainers use for reward functions, `f(prompts, completions, **columns) -> list[float]`,
sync or async. A completion is the text of the face alone. Nothing in this module takes a thought: what a thought costs
is charged by its length, in `length_discount`, outside of every grader.
"""

import asyncio
import copy
import importlib
import inspect
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clew.errors import InputError
from clew.text import one_line, printable, show

Array: TypeAlias = NDArray[np.float64]
Columns: TypeAlias = Mapping[str, Sequence[Any]]
Route = Literal["both", "answer"]

_Outcome: TypeAlias = tuple[Any, BaseException | None]


class GraderError(RuntimeError):
    """A grader failed; the message is one printable line that names the grader and the first offending sample."""


@dataclass(frozen=True)
class Grader:
    """A reward function, its share in the score and the policies that hear of it.

    function: called as `function(prompts=..., completions=..., **columns)` in a thread of its own (so it cannot use
        signals), with lists of one entry a sample; returns one finite number a sample, or an awaitable of them.
    weight: what its scores are multiplied by; negative for a penalty.
    route: "both" policies, or the "answer" alone, for what the face says and the shoggoth must not learn from.
    name: for logs and errors; by default the function's own name.
    time_limit: seconds that one call may take. A call that runs over is abandoned, not killed, and compiled code that
        never releases the interpreter cannot be interrupted at all.
    Raises InputError for a field that is out of range.
    """

    function: Callable[..., Any]
    weight: float = 1.0
    route: Route = "both"
    name: str = ""
    time_limit: float = 60.0

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InputError(f"function: {show(self.function)} cannot be called; see load_grader for import paths")
        if not math.isfinite(self.weight):
            raise InputError(f"weight: {self.weight!r} is not finite; expected a number")
        if self.route not in get_args(Route):
            raise InputError(f"route: {self.route!r} is unknown; expected one of {', '.join(get_args(Route))}")
        if not 0 < self.time_limit <= threading.TIMEOUT_MAX:
            raise InputError(f"time_limit: {self.time_limit!r} is out of range; expected seconds above 0")
        if not self.name:
            object.__setattr__(self, "name", getattr(self.function, "__name__", type(self.function).__name__))


@dataclass(frozen=True, eq=False)
class Scores:
    """What each policy hears of B samples: the shoggoth of graders routed to both (0 without any), the face of all.

    shoggoth_B, face_B: weighted sums over graders. by_grader: each grader's own scores by its name, unweighted.
    """

    shoggoth_B: Array
    face_B: Array
    by_grader: dict[str, Array]


def load_grader(path: str, **options: Any) -> Grader:
    """Make a grader of the function at `package.module:function`, by default under that name.

    options: Grader's other fields. Raises InputError for a path that does not lead to something that can be called.
    """
    return Grader(load_function(path, "grader"), **{"name": path, **options})


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


def check_call(grader: Grader, columns: Mapping[str, Any]) -> None:
    """InputError for a grader that cannot be called with these columns, or is a generator."""
    function = grader.function
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InputError(
            f"grader: {show(grader.name)} is a generator; expected a function that returns a list of numbers"
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a compiled function has none to look at
        return
    try:
        signature.bind(prompts=[], completions=[], **columns)
    except TypeError as error:
        names = ", ".join(("prompts", "completions", *columns))
        said = f"cannot be called with {printable(names)}: {one_line(error)}"
        raise InputError(f"grader: {show(grader.name)} {said}; **columns takes those that it has no use for") from None


def grade(graders: Sequence[Grader], prompts: Sequence[Any], completions: Sequence[str], columns: Columns) -> Scores:
    """Score B samples with every grader in turn.

    prompts: one a sample, text or chat messages. completions: the face's text, one a sample. columns: the question's
    other named values (a reference, say), one a sample under each name; they reach the grader as keyword arguments.
    Raises InputError for arguments that do not fit together, for a column named after thoughts and for a completion
    that is more than plain text. Raises GraderError for a grader that raises, runs over its time limit, or returns
    anything but one finite number a sample. To name the sample that a grader raised at or hung on, it is called again
    with one sample at a time, for at most its time limit once more; where none fails alone, sample 0 is named.
    """
    _check(graders, prompts, completions, columns)
    samples = {"prompts": prompts, "completions": completions, **columns}
    by_grader = {grader.name: _score(grader, samples, len(completions)) for grader in graders}
    face = [grader.weight * by_grader[grader.name] for grader in graders]
    shoggoth = [grader.weight * by_grader[grader.name] * (grader.route == "both") for grader in graders]
    return Scores(np.sum(shoggoth, axis=0), np.sum(face, axis=0), by_grader)


def length_discount(lengths_QN: ArrayLike, cost: float, free: float = 0.0) -> Array:
    """The share of its score that a thought keeps: all for the first `free` tokens, `cost` less for each token after.

    lengths_QN: tokens of each thought, NaN where none was sampled. Returns factors_QN in [0, 1]. A loop multiplies the
    shoggoth's positive scores by them, and nothing else: lengths are all that is passed, so that no pressure falls on
    what a thought says, and the face is not charged for a thought that it did not write. It is a discount on success
    and not a fine, since fines teach a policy that often fails to stop thinking altogether.
    Raises InputError for a negative or infinite length, cost or free allowance.
    """
    lengths = np.asarray(lengths_QN, dtype=np.float64)
    for field, value in (("lengths", lengths[~np.isnan(lengths)]), ("cost", cost), ("free", free)):
        wrong = np.extract(~(np.isfinite(value) & np.greater_equal(value, 0)), value)
        if wrong.size:
            raise InputError(f"{field}: {wrong[0]} is out of range; expected a finite number from 0")
    return np.maximum(1.0 - cost * np.maximum(lengths - free, 0.0), 0.0)


def _check(graders: Sequence[Grader], prompts: Sequence[Any], completions: Sequence[str], columns: Columns) -> None:
    names = [grader.name for grader in graders]
    if not names or len(set(names)) < len(names):
        raise InputError(f"graders: names {names}; expected at least one grader, each with a name of its own")
    if not completions:
        raise InputError("completions: there are none; expected one a sample")
    for index, text in enumerate(completions):
        # A subclass of str, or anything richer, could carry the thought along.
        if type(text) is not str:
            raise InputError(f"completions: {show(text)} at sample {index}; expected the face's text, a plain str")
    for field in columns:
        if "thought" in field.casefold():
            raise InputError(f"columns: {show(field)} names a thought, which no grader may see; expected it left out")
        if field in ("prompts", "completions"):
            raise InputError(f"columns: {field!r} is an argument of every grader; expected another name")
    for field, values in {"prompts": prompts, **columns}.items():
        if len(values) != len(completions):
            raise InputError(f"{show(field)}: {len(values)} values; expected {len(completions)}, one a completion")


def _score(grader: Grader, samples: Columns, count: int) -> Array:
    def call(rows: slice, seconds: float) -> _Outcome:
        return _call(grader.function, _copied({name: list(values[rows]) for name, values in samples.items()}), seconds)

    def fail(reason: str, index: int, cause: BaseException | None = None) -> NoReturn:
        prompt, completion = show(samples["prompts"][index]), show(samples["completions"][index])
        sample = f"sample {index} of {count}, prompt {prompt}, completion {completion}"
        raise GraderError(f"grader {show(grader.name)} {reason}; {sample}") from cause

    result, error = call(slice(None), grader.time_limit)
    if error is not None:
        late = isinstance(error, _LateError)
        reason = f"gave no scores within {grader.time_limit:g} s" if late else f"raised {show(error)}"
        fail(reason, _culprit(call, count, grader.time_limit, error), error)
    result = result.tolist() if hasattr(result, "tolist") else result
    if not isinstance(result, list | tuple):
        fail(f"returned {show(result)} where a list of {count} numbers belongs", 0)
    if len(result) != count:
        fail(f"returned {len(result)} scores for {count} samples", min(len(result), count - 1))
    scores_B = np.array([_number(score) for score in result])
    for index in np.flatnonzero(~np.isfinite(scores_B))[:1]:
        fail(f"returned {show(result[index])} where a finite number belongs", int(index))
    return scores_B


_PLAIN = (str, int, float, bool, type(None))  # nobody can change one of these


def _copied(samples: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Samples of which a grader may change what it likes. What many samples share is copied once a call."""
    memo: dict[int, Any] = {}
    for name, values in samples.items():
        if all(type(value) in _PLAIN for value in values):
            continue
        try:
            samples[name] = copy.deepcopy(values, memo)
        except Exception as error:
            raise InputError(
                f"columns: {show(name)} holds what cannot be copied for a grader: {show(error)}"
            ) from error
    return samples


def _culprit(call: Callable[[slice, float], _Outcome], count: int, seconds: float, error: BaseException) -> int:
    """The first sample that fails alone as all of them failed together; 0 where none does within the seconds."""
    end = time.monotonic() + seconds
    for index in range(count if count > 1 else 0):
        _, alone = call(slice(index, index + 1), end - time.monotonic())
        if alone is not None:
            return index if type(alone) is type(error) else 0
    return 0


class _LateError(Exception):
    """A call ran over its time limit."""


def _call(function: Callable[..., Any], arguments: dict[str, list[Any]], seconds: float) -> _Outcome:
    """What a function returns and what it raises, the latter _LateError if it does neither within the seconds."""
    outcome: list[_Outcome] = []

    def work() -> None:
        try:
            result = function(**arguments)
            if inspect.isawaitable(result):
                result = asyncio.run(asyncio.wait_for(result, seconds))
            outcome.append((result, None))
        except BaseException as error:
            outcome.append((None, error))

    # A thread and not the caller's own stack: waiting can stop, an event loop that already runs is no hindrance, and
    # the frames above the grader hold nothing but its own arguments.
    end = time.monotonic() + seconds
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    return outcome[0] if outcome and time.monotonic() < end else (None, _LateError())


def _number(score: Any) -> float:
    """A score as a float, NaN for what is not a number; text is not, even where it spells one."""
    try:
        return float(score) if hasattr(score, "__float__") else math.nan
    except Exception:
        return math.nan
