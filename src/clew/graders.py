"""Graders: functions that score answers, and that cannot see the thoughts behind them.

A grader has the form that TRL's trainers use for reward functions, `f(prompts, completions, **columns)`, sync or async,
and returns one number a sample, None where it has nothing to say of one. A completion is what the face wrote and that
alone: its text, or, where the prompt came as chat messages, the message `[{"role": "assistant", "content": text}]`.
These are passed too where the function takes them, by name or by **kwargs:

    completion_ids    the tokens of each completion
    trainer_state     how far the run is: global_step, max_steps, epoch
    log_extra         log_extra(column, values): a value a sample, kept with the rollouts
    log_metric        log_metric(name, value): a number for the figures of the round

Nothing in this module takes a thought: what a thought costs is charged by its length, in `length_discount`, outside of
every grader.
"""

import copy
import inspect
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clew.calls import Call, LateError, Outcome, copied, is_async, load_function, takes
from clew.errors import InputError
from clew.text import one_line, printable, show

Array: TypeAlias = NDArray[np.float64]
Columns: TypeAlias = Mapping[str, Sequence[Any]]
Route = Literal["both", "answer"]
CreditBy = Literal["together", "each"]
OnError = Literal["raise", "none"]

ALWAYS, WHERE_TAKEN = ("prompts", "completions"), ("completion_ids", "trainer_state", "log_extra", "log_metric")


class GraderError(RuntimeError):
    """A grader failed; the message is one printable line that names the grader and the first offending sample."""


@dataclass(frozen=True)
class Grader:
    """A reward function, its share in the score and the policies that hear of it.

    function: called as `function(prompts=..., completions=..., **columns)` in a thread of its own (so it cannot use
        signals), with lists of one entry a sample; returns one finite number or None a sample, or an awaitable of them.
    weight: what its scores are multiplied by; negative for a penalty.
    route: "both" policies, or the "answer" alone, for what the face says and the shoggoth must not learn from.
    credit: "together", its scores are added to those of others before the credit rule; "each", the rule runs on its
        scores alone, and the weights that it gives are multiplied by `weight` and added to the others'.
    on_error: "raise", a failure ends the run; "none", a sample that it fails at has no score of it.
    name: for logs and errors; by default the function's own name.
    time_limit: seconds that one call may take. A call that runs over is abandoned, not killed, and compiled code that
        never releases the interpreter cannot be interrupted at all.
    Raises InputError for a field that is out of range.
    """

    function: Callable[..., Any]
    weight: float = 1.0
    route: Route = "both"
    credit: CreditBy = "together"
    on_error: OnError = "raise"
    name: str = ""
    time_limit: float = 60.0

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InputError(f"function: {show(self.function)} cannot be called; see load_grader for import paths")
        if not math.isfinite(self.weight):
            raise InputError(f"weight: {self.weight!r} is not finite; expected a number")
        for name, choices in (("route", Route), ("credit", CreditBy), ("on_error", OnError)):
            if getattr(self, name) not in get_args(choices):
                known = ", ".join(get_args(choices))
                raise InputError(f"{name}: {getattr(self, name)!r} is unknown; expected one of {known}")
        if not 0 < self.time_limit <= threading.TIMEOUT_MAX:
            raise InputError(f"time_limit: {self.time_limit!r} is out of range; expected seconds above 0")
        if not self.name:
            object.__setattr__(self, "name", getattr(self.function, "__name__", type(self.function).__name__))


@dataclass(frozen=True, eq=False)
class Share:
    """Scores that a credit rule is run on by themselves, and what its weights count: scores_B, NaN for none."""

    weight: float
    scores_B: Array


@dataclass(frozen=True, eq=False)
class Scores:
    """What each policy hears of B samples: the shoggoth of graders routed to both (0 without any), the face of all.

    shoggoth_B, face_B: weighted sums over the graders that gave a sample a score, NaN where none did.
    by_grader: each grader's own scores by its name, unweighted, NaN where it gave none.
    shoggoth, face: the same in the shares by which credit is given, see `Grader.credit`.
    errors: how many samples a grader that may fail failed at, by its name.
    extra: what graders logged with log_extra, a value or None a sample. metrics: means of what they logged otherwise.
    """

    shoggoth_B: Array
    face_B: Array
    by_grader: dict[str, Array]
    shoggoth: list[Share] = field(default_factory=list)
    face: list[Share] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    extra: dict[str, list[Any]] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


def load_grader(path: str, **options: Any) -> Grader:
    """Make a grader of the function at `package.module:function`, by default under that name.

    options: Grader's other fields. Raises InputError for a path that does not lead to something that can be called.
    """
    return Grader(load_function(path, "grader"), **{"name": path, **options})


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
    given = {name: [] for name in (*ALWAYS, *takes(function, WHERE_TAKEN))}
    try:
        signature.bind(**given, **columns)
    except TypeError as error:
        names = ", ".join((*ALWAYS, *columns))
        said = f"cannot be called with {printable(names)}: {one_line(error)}"
        raise InputError(f"grader: {show(grader.name)} {said}; **columns takes those that it has no use for") from None


def grade(
    graders: Sequence[Grader],
    prompts: Sequence[Any],
    completions: Sequence[str],
    columns: Columns,
    completion_ids: Sequence[Sequence[int]] | None = None,
    trainer_state: Any = None,
) -> Scores:
    """Score B samples with every grader: async ones side by side, the others in turn.

    prompts: one a sample, text or chat messages. completions: the face's text, one a sample. columns: the question's
    other named values (a reference, say), one a sample under each name; they reach the grader as keyword arguments.
    completion_ids, trainer_state: see above; graders that take them go without where there are none.
    Raises InputError for arguments that do not fit together, for a column named after thoughts and for a completion
    that is more than plain text. Raises GraderError for a grader that raises, runs over its time limit, or returns
    anything but one finite number or None a sample. To name the sample that a grader raised at or hung on, it is called
    again with one sample at a time, for at most its time limit once more; where none fails alone, sample 0 is named. A
    grader that may fail is called so too, and what fails alone, or is not reached in that time, is left out.
    """
    _check(graders, prompts, completions, columns, completion_ids)
    said = as_given(prompts, completions)
    lists = {"prompts": list(prompts), "completions": said, **{name: list(values) for name, values in columns.items()}}
    ids = None if completion_ids is None else [[int(token) for token in tokens] for tokens in completion_ids]
    samples = _Samples(lists, ids, trainer_state, _Logged(len(completions)))
    side_by_side = [grader for grader in graders if is_async(grader.function)]
    begun = {grader.name: samples.called(grader) for grader in side_by_side}
    by_grader, errors = {}, {}
    for grader in graders:
        call = begun.get(grader.name) or samples.called(grader)
        if len(begun) > 1 and grader.name in begun and isinstance(call[0].outcome()[1], LateError):
            call = samples.called(grader)  # it may have been another that kept the loop they share
        by_grader[grader.name], failed = _score(grader, samples, call)
        errors |= {grader.name: failed} if grader.on_error == "none" else {}
    logged = samples.logged
    metrics = {name: float(np.mean(values)) for name, values in logged.metrics.items() if values}
    shoggoth, face = ([one for one in graders if route in ("answer", one.route)] for route in get_args(Route))
    heard = [_total(some, by_grader) if some else np.zeros(len(said)) for some in (shoggoth, face)]
    shares = [_shares(some, by_grader) for some in (shoggoth, face)]
    return Scores(heard[0], heard[1], by_grader, shares[0], shares[1], errors, logged.extra, metrics)


def as_given(prompts: Sequence[Any], texts: Sequence[str]) -> list[Any]:
    """What the face wrote in the form of each prompt: text, or a list of one message."""
    both = zip(prompts, texts, strict=True)
    return [[{"role": "assistant", "content": text}] if isinstance(prompt, list) else text for prompt, text in both]


def _total(graders: Sequence[Grader], by_grader: dict[str, Array]) -> Array:
    """The weighted sum of scores, over the graders that gave one; NaN where none did."""
    weighted = np.stack([grader.weight * by_grader[grader.name] for grader in graders])
    return np.where(np.isnan(weighted).all(0), np.nan, np.nansum(weighted, axis=0))


def _shares(graders: Sequence[Grader], by_grader: dict[str, Array]) -> list[Share]:
    together = [grader for grader in graders if grader.credit == "together"]
    each = [Share(grader.weight, by_grader[grader.name]) for grader in graders if grader.credit == "each"]
    return ([Share(1.0, _total(together, by_grader))] if together else []) + each


def length_discount(lengths_QN: ArrayLike, cost: float, free: float = 0.0) -> Array:
    """The share of its score that a thought keeps: all for the first `free` tokens, `cost` less for each token after.

    lengths_QN: tokens of each thought, NaN where none was sampled. Returns factors_QN in [0, 1]. A loop multiplies the
    shoggoth's positive scores by them, and nothing else: lengths are all that is passed, so that no pressure falls on
    what a thought says, and the face is not charged for a thought that it did not write. It is a discount on success
    and not a fine, since fines teach a policy that often fails to stop thinking altogether.
    Raises InputError for a negative or infinite length, cost or free allowance.
    """
    lengths = np.asarray(lengths_QN, dtype=np.float64)
    for name, value in (("lengths", lengths[~np.isnan(lengths)]), ("cost", cost), ("free", free)):
        wrong = np.extract(~(np.isfinite(value) & np.greater_equal(value, 0)), value)
        if wrong.size:
            raise InputError(f"{name}: {wrong[0]} is out of range; expected a finite number from 0")
    return np.maximum(1.0 - cost * np.maximum(lengths - free, 0.0), 0.0)


def _check(
    graders: Sequence[Grader],
    prompts: Sequence[Any],
    completions: Sequence[str],
    columns: Columns,
    completion_ids: Sequence[Sequence[int]] | None,
) -> None:
    names = [grader.name for grader in graders]
    if not names or len(set(names)) < len(names):
        raise InputError(f"graders: names {names}; expected at least one grader, each with a name of its own")
    if not completions:
        raise InputError("completions: there are none; expected one a sample")
    for index, text in enumerate(completions):
        # A subclass of str, or anything richer, could carry the thought along.
        if type(text) is not str:
            raise InputError(f"completions: {show(text)} at sample {index}; expected the face's text, a plain str")
    for name in columns:
        if "thought" in name.casefold():
            raise InputError(f"columns: {show(name)} names a thought, which no grader may see; expected it left out")
        if name in (*ALWAYS, *WHERE_TAKEN):
            raise InputError(f"columns: {name!r} is an argument of every grader; expected another name")
    ids = {} if completion_ids is None else {"completion_ids": completion_ids}
    for name, values in {"prompts": prompts, **columns, **ids}.items():
        if len(values) != len(completions):
            raise InputError(f"{show(name)}: {len(values)} values; expected {len(completions)}, one a completion")


class _Logged:
    """What graders logged of some samples."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.extra: dict[str, list[Any]] = {}
        self.metrics: dict[str, list[float]] = {}

    def log_extra(self, column: str, values: Sequence[Any]) -> None:
        values = list(values)
        if len(values) != self.count:
            raise ValueError(f"log_extra: {len(values)} values of {show(column)} for {self.count} samples")
        self.extra[str(column)] = copy.deepcopy(values)

    def log_metric(self, name: str, value: float) -> None:
        self.metrics.setdefault(str(name), []).append(float(value))

    def add(self, other: "_Logged", first: int) -> None:
        """What was logged of some of these samples, from the `first` on."""
        for column, values in list(other.extra.items()):
            self.extra.setdefault(column, [None] * self.count)[first : first + other.count] = values
        for name, numbers in list(other.metrics.items()):
            self.metrics.setdefault(name, []).extend(number for number in numbers if math.isfinite(number))


@dataclass
class _Samples:
    """All that graders are given, and what they logged."""

    lists: dict[str, list[Any]]
    completion_ids: list[list[int]] | None
    trainer_state: Any
    logged: _Logged

    def called(self, grader: Grader, rows: slice = slice(None), seconds: float | None = None) -> tuple[Call, _Logged]:
        """A call with copies of these rows, begun."""
        given = copied({name: values[rows] for name, values in self.lists.items()})
        logged = _Logged(len(given["completions"]))
        others: dict[str, Any] = {"log_extra": logged.log_extra, "log_metric": logged.log_metric}
        if self.completion_ids is not None:
            others["completion_ids"] = [list(tokens) for tokens in self.completion_ids[rows]]
        if self.trainer_state is not None:
            others["trainer_state"] = copy.deepcopy(self.trainer_state)
        taken = {name: others[name] for name in takes(grader.function, WHERE_TAKEN) if name in others}
        return Call(grader.function, given | taken, grader.time_limit if seconds is None else seconds), logged


class _Fault(Exception):
    """What is wrong with an outcome; at which sample, where that can be seen from it."""

    def __init__(self, reason: str, index: int | None = None) -> None:
        super().__init__(reason)
        self.index = index


def _score(grader: Grader, samples: _Samples, call: tuple[Call, _Logged]) -> tuple[Array, int]:
    """A grader's scores_B, and at how many samples it failed where it may."""
    count = len(samples.lists["completions"])
    outcome = call[0].outcome()
    try:
        scores_B, wrong = _numbers(grader, outcome, count)
    except _Fault as fault:
        if grader.on_error == "none":
            return _one_by_one(grader, samples, count)
        _fail(grader, samples, fault, outcome[1])
    samples.logged.add(call[1], 0)
    return scores_B, wrong


def _numbers(grader: Grader, outcome: Outcome, count: int) -> tuple[Array, int]:
    """The scores that an outcome holds, and how many of a grader that may fail are none. _Fault for what is no list of
    scores."""
    result, error = outcome
    if error is not None:
        late = isinstance(error, LateError)
        raise _Fault(f"gave no scores within {grader.time_limit:g} s" if late else f"raised {show(error)}")
    result = result.tolist() if hasattr(result, "tolist") else result
    if not isinstance(result, list | tuple):
        raise _Fault(f"returned {show(result)} where a list of {count} numbers belongs", 0)
    if len(result) != count:
        raise _Fault(f"returned {len(result)} scores for {count} samples", min(len(result), count - 1))
    scores_B = np.array([_number(score) for score in result])
    wrong = [i for i in np.flatnonzero(~np.isfinite(scores_B)).tolist() if result[i] is not None]
    if wrong and grader.on_error == "raise":
        raise _Fault(f"returned {show(result[wrong[0]])} where a finite number or None belongs", wrong[0])
    scores_B[~np.isfinite(scores_B)] = np.nan
    return scores_B, len(wrong)


def _fail(grader: Grader, samples: _Samples, fault: _Fault, error: BaseException | None) -> NoReturn:
    index = fault.index if error is None else _culprit(grader, samples, error)
    index, lists = index or 0, samples.lists
    said = lists["completions"][index]
    prompt, text = show(lists["prompts"][index]), show(said if isinstance(said, str) else said[0]["content"])
    sample = f"sample {index} of {len(lists['completions'])}, prompt {prompt}, completion {text}"
    raise GraderError(f"grader {show(grader.name)} {fault}; {sample}") from error


def _culprit(grader: Grader, samples: _Samples, error: BaseException) -> int:
    """The first sample that fails alone as all of them failed together; 0 where none does within the time limit."""
    count, end = len(samples.lists["completions"]), time.monotonic() + grader.time_limit
    for index in range(count if count > 1 else 0):
        _, alone = samples.called(grader, slice(index, index + 1), end - time.monotonic())[0].outcome()
        if alone is not None:
            return index if type(alone) is type(error) else 0
    return 0


def _one_by_one(grader: Grader, samples: _Samples, count: int) -> tuple[Array, int]:
    """The scores of those samples that a grader does not fail at alone, and how many others there are."""
    scores_B, failed, end = np.full(count, np.nan), count, time.monotonic() + grader.time_limit
    for index in range(count if count > 1 else 0):
        left = (end - time.monotonic()) / 2  # one that hangs leaves time for others
        if left < grader.time_limit / 1000:
            break
        call, logged = samples.called(grader, slice(index, index + 1), left)
        try:
            scores_B[index : index + 1], wrong = _numbers(grader, call.outcome(), 1)
        except _Fault:
            continue
        failed -= 1 - wrong
        samples.logged.add(logged, index)
    return scores_B, failed


def _number(score: Any) -> float:
    """A score as a float, NaN for what is not a number; text is not, even where it spells one."""
    try:
        return float(score) if hasattr(score, "__float__") else math.nan
    except Exception:
        return math.nan
