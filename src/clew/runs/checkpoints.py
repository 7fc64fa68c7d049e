"""Checkpoints by number, written whole or not at all, and the last whole one to go on from."""

import json
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clew.errors import InputError
from clew.files import folder_written_whole, remove
from clew.text import show

CHECKPOINTS_KEPT = 2


def number_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def checkpoints(out: Path) -> list[Path]:
    """A run folder's checkpoints in the order of their steps, torn ones included; other names are passed over."""
    found = (path for path in (out / "checkpoints").glob("step-*") if re.fullmatch(r"step-[0-9]{1,18}", path.name))
    return sorted((path for path in found if path.is_dir()), key=lambda path: (number_of(path), path.name))


def latest_checkpoint(out: Path) -> Path | None:
    """The newest checkpoint of a run folder whose state can be read."""
    for checkpoint in reversed(checkpoints(out)):
        try:
            read_state(checkpoint)
        except InputError:
            continue
        return checkpoint
    return None


@contextmanager
def new_checkpoint(out: Path, step: int) -> Iterator[Path]:
    """Gives a folder to fill, makes it the checkpoint of `step`, and drops all but the newest few."""
    with folder_written_whole(out / "checkpoints" / f"step-{step:06d}") as part:
        yield part
    for old in checkpoints(out)[:-CHECKPOINTS_KEPT]:
        aside = old.with_name(f".{old.name}.part")  # should the removal be cut short, nobody takes it for whole
        remove(aside)
        try:
            os.replace(old, aside)
            remove(aside)
        finally:
            remove(aside)  # the rest, where a signal came amid the removal


def read_state(checkpoint: Path, step: bool = True) -> dict[str, Any]:
    """A checkpoint's state.json. InputError unless it is an object with the step of the folder's name and seconds.

    step: False for a part of a checkpoint, whose state says neither.
    """
    try:
        state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("it has no state.json") from None
    except (OSError, ValueError, RecursionError):
        raise InputError("its state.json cannot be read") from None
    if not isinstance(state, dict):
        raise InputError("its state.json holds no object")
    if step:
        seconds = state.get("seconds")
        if not is_count(state.get("step")) or state["step"] != number_of(checkpoint):
            raise InputError(f"its state.json has the step {show(state.get('step'))}")
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
            raise InputError(f"its state.json has the seconds {show(seconds)}")
    return state


def is_count(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def resumed(
    out: Path, load: Callable[[Path], dict[str, Any]], together: Callable[[], None], main: bool = True
) -> dict[str, Any] | None:
    """The state of the newest checkpoint that `load` can take up; None where a run was stopped before its first one.

    load: takes up all of a checkpoint, or raises InputError and leaves a state that a later load overwrites. A newer
    checkpoint that cannot be loaded is named in a warning and kept under another name. together: waits for all
    processes, of which one is `main`. InputError if there are checkpoints and none is whole.
    """
    torn: dict[Path, str] = {}
    for checkpoint in reversed(checkpoints(out)):
        try:
            state = load(checkpoint)
        except InputError as error:
            torn[checkpoint] = str(error)
            continue
        together()  # or a process would no longer find what another has renamed
        if main:
            for path, why in torn.items():
                aside = _set_aside(path)
                warnings.warn(
                    f"{path} is torn ({why}): it is now {aside.name}, and the run goes on from {checkpoint.name}",
                    stacklevel=2,
                )
        return state
    if torn:
        path, why = next(iter(torn.items()))
        raise InputError(f"resume: {out} has no whole checkpoint left to go on from; {path.name} is torn ({why})")
    return None


def _set_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"torn-{path.name}" + (f"-{number}" if number > 1 else ""))).exists():
        number += 1
    return path.rename(aside)
