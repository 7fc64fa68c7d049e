"""Snapshots: the models that a run had along the way, for those who study how what it does came about.

Each is snapshots/step-NNNNNN of the run folder, with its model in `model`. They stay, but for those of later steps
where a run goes on from an earlier one.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clew.files import folder_written_whole

FOLDER = "snapshots"


def is_due(step: int, factor: float) -> bool:
    """Whether a model is kept after this step: the first, and each by which the steps have grown by `factor` since the
    one before, rounded. It follows from the step alone, so that a resumed run keeps those of a whole one."""
    due = 1
    while due < step:
        due = max(due + 1, round(due * factor))
    return due == step


@contextmanager
def new_snapshot(out: Path, step: int) -> Iterator[Path]:
    """Gives a folder to fill, and makes it the snapshot of `step`, in place of one that is there."""
    with folder_written_whole(out / FOLDER / f"step-{step:06d}") as part:
        yield part


def drop_after(out: Path, step: int) -> None:
    """Takes away the snapshots of later steps than this one, from where a run goes on, perhaps in another way."""
    for at, folder in snapshots_of(out).items():
        if at > step:
            shutil.rmtree(folder)


def run_of(folder: Path) -> Path:
    """The run folder that a snapshot belongs to, and with it the options; any other folder is its own."""
    parent = folder.absolute().parent
    return parent.parent if parent.name == FOLDER else folder


def snapshots_of(run: Path) -> dict[int, Path]:
    """A run's snapshots by their steps, first to last; {} where there are none."""
    found = {one.name.removeprefix("step-"): one for one in (run / FOLDER).glob("step-*") if one.is_dir()}
    return {int(step): found[step] for step in sorted(found) if step.isdecimal()}
