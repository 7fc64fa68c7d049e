"""A run folder is held by one run at a time, and cleared of what a killed run left half-written."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from clew.errors import InputError
from clew.files import naming, put_back
from clew.runs.checkpoints import checkpoints
from clew.runs.metrics import read_metrics


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
    for name in ("checkpoints", "snapshots", "warm", "rollouts", "plots"):
        if os.path.lexists(out / name) and not (out / name).is_dir():
            raise InputError(f"out: {out / name} is not a folder")
    files = [out / name for name in ("metrics.jsonl", "eval.json", "samples.jsonl")]
    for file in (*files, *(out / "plots").glob("*.png")):
        if file.is_dir():
            raise InputError(f"out: {file} is a folder; a file was expected")
    if resume and not (out / "config.yaml").is_file():
        raise InputError(f"resume: {out} holds no run (no config.yaml)")
    if resume and not checkpoints(out) and (model := _trained(out)):
        raise InputError(
            f"resume: {out} has no checkpoint to go on from, and a new start would overwrite {model.name}, which was "
            f"trained; to train it further: --model {model} and another --out"
        )
    if not resume and (out / "config.yaml").exists():
        raise InputError(f"out: {out} already holds a run; go on with --resume {out}, or choose another --out")
    if not resume and checkpoints(out):
        raise InputError(f"out: {out} holds checkpoints of a run whose config.yaml is gone; choose another --out")


def _trained(out: Path) -> Path | None:
    """A model of the folder that took steps, which are written behind a checkpoint of the last one. A split of no
    rounds has a model that took none, and no checkpoint."""
    found = next((out / name for name in ("model", "shoggoth") if (out / name).is_dir()), None)
    logged = read_metrics(out / "metrics.jsonl")
    untrained = logged and not any(line.get("step") for line in logged)
    return None if untrained else found


def _tidy(out: Path) -> None:
    """Clears away what a killed run was in the middle of writing; what it had set aside for that goes back."""
    for folder in (out, *(out / name for name in ("checkpoints", "snapshots", "rollouts", "plots"))):
        for old in folder.glob(".*.old"):
            put_back(old.with_name(old.name[1:-4]))
        for part in folder.glob(".*.part"):
            shutil.rmtree(part) if part.is_dir() else part.unlink()
