"""Run folders: one run at a time, checkpoints by number, the last whole one to go on from, what may change on the way.

Only the standard library, yaml and filelock are imported here: the command line asks it before anything heavy.
"""

import json
import math
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from clew.config import SplitConfig, TrainConfig, plain, read_yaml
from clew.errors import InputError
from clew.files import folder_written_whole, naming, put_back, write_atomically
from clew.text import show

CHECKPOINTS_KEPT = 2
COMMANDS: dict[str, type] = {"train": TrainConfig, "split": SplitConfig}

# What is learned, from what and by what stays as it was when the run began. How long, how fast, where, and how often
# it is looked at may change: from the resumed step on the new value holds, as if the run had been at that step with it.
BOTH = "lr schedule weight_decay clip device precision attention track checkpoint_every out"
MAY_CHANGE = {
    "train": f"steps minutes warmup log_every probe_every probe_mazes eval_mazes {BOTH}".split(),
    "split": f"rounds time_limit eval_every eval_questions final_questions {BOTH}".split(),
}


@contextmanager
def run_folder(out: Path, resume: bool, main: bool = True) -> Iterator[None]:
    """Holds a run folder for one run at a time. InputError if it is in use, or holds a run that is not resumed."""
    if not main:
        yield
        return
    _check_folder(out, resume)
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock")
    try:
        with naming(out / ".lock"):
            lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"out: {out} is in use by another run") from None
    try:
        _check_folder(out, resume)  # another may have begun a run here, and ended it
        _tidy(out)
        yield
    finally:
        lock.release()


def _check_folder(out: Path, resume: bool) -> None:
    for name in ("checkpoints", "warm", "plots"):
        if os.path.lexists(out / name) and not (out / name).is_dir():
            raise InputError(f"out: {out / name} is not a folder")
    files = [out / name for name in ("metrics.jsonl", "eval.json", "samples.jsonl")]
    for file in (*files, *(out / "plots").glob("*.png")):
        if file.is_dir():
            raise InputError(f"out: {file} is a folder; a file was expected")
    if resume and not (out / "config.yaml").is_file():
        raise InputError(f"resume: {out} holds no run (no config.yaml)")
    if not resume and (out / "config.yaml").exists():
        raise InputError(f"out: {out} already holds a run; go on with --resume {out}, or choose another --out")
    if not resume and checkpoints(out):
        raise InputError(f"out: {out} holds checkpoints of a run whose config.yaml is gone; choose another --out")


def _tidy(out: Path) -> None:
    """Clears away what a killed run was in the middle of writing; what it had set aside for that goes back."""
    for folder in (out, out / "checkpoints", out / "plots"):
        for old in folder.glob(".*.old"):
            put_back(old.with_name(old.name[1:-4]))
        for part in folder.glob(".*.part"):
            shutil.rmtree(part) if part.is_dir() else part.unlink()


def options_of(out: Path, config: type) -> dict[str, Any]:
    """The options that a run folder was made with, flat, by dotted names; defaults where its file is silent.

    config: the dataclass of the command that goes on with it. InputError for a folder without a run, for a run of
    another command, and for a file whose options are not this command's.
    """
    file = out / "config.yaml"
    if not file.is_file():
        raise InputError(f"resume: {out} holds no run (no config.yaml)")
    values, own = read_yaml(file), {field.name for field in fields(config)}
    strange = [name for name in values if name not in own]
    for command, other in COMMANDS.items():
        if strange and other is not config and {str(name) for name in values} <= {f.name for f in fields(other)}:
            raise InputError(f"resume: {out} holds a run of clew {command}; go on with clew {command} --resume {out}")
    if not isinstance(values.get("mazes", {}), dict):
        raise InputError(f"{file}: mazes: {show(values['mazes'])} is no mapping of options such as {{sizes: [4]}}")
    kept = flat(asdict(config()))
    given = flat({name: value for name, value in values.items() if name not in strange})
    strange += [name for name in given if name not in kept]
    if strange:
        raise InputError(f"{file}: {show(strange[0])}: clew {_command_of(config)} has no such option")
    return kept | given


def check_options(out: Path, config: TrainConfig | SplitConfig) -> None:
    """InputError, with the option's old and new value, unless a run may go on with these options where it stands."""
    old, new = options_of(out, type(config)), flat(asdict(config))
    command = _command_of(type(config))
    for name, value in new.items():
        if name.split(".")[0] not in MAY_CHANGE[command] and not _same(old[name], value):
            raise InputError(
                f"{name}: this run began with {show(old[name])}, and going on with {show(value)} would "
                "be another run; leave the option out, or start anew with another --out"
            )
    last, limit = latest_checkpoint(out), "rounds" if isinstance(config, SplitConfig) else "steps"
    wanted = getattr(config, limit)
    if last and wanted is not None and wanted < number_of(last):
        raise InputError(f"{limit}: {wanted} is less than the {number_of(last)} that this run has done")


def _command_of(config: type) -> str:
    return next(command for command, one in COMMANDS.items() if one is config)


def flat(values: dict[str, Any], inside: str = "") -> dict[str, Any]:
    """Nested options by dotted names, as YAML would have them. A rule's own options are one value."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and name == "mazes":
            out |= flat(value, f"{inside}{name}.")
        else:
            out[f"{inside}{name}"] = plain(value)
    return out


def _same(old: Any, new: Any) -> bool:
    """Whether two values of an option mean the same; YAML takes a hand-written 1e-1 for text."""
    if isinstance(old, str) and isinstance(new, (int, float)) and not isinstance(new, bool):
        try:
            return float(old) == new
        except ValueError:
            return False
    return old == new


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
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(old, aside)
        shutil.rmtree(aside, ignore_errors=True)


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


def append_metrics(path: Path, values: dict[str, Any]) -> None:
    """Adds a line of figures, whole or not at all; numbers that are not finite become null."""
    clean = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}
    before = path.stat().st_size if path.exists() else 0
    try:
        with naming(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(clean) + "\n")
    except OSError:
        os.truncate(path, before)
        raise


def keep_metrics(path: Path, step: int) -> None:
    """Drops the lines that a killed run wrote after `step`, and all that is no line of figures, a torn one included."""
    if path.is_dir():
        raise InputError(f"resume: {path} is a folder; a file of figures was expected")
    kept = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(values, dict) and is_count(values.get("step")) and values["step"] <= step:
            kept.append(line + b"\n")
    write_atomically(path, b"".join(kept))
