"""Runs of a second: one thread, and pictures, which take longer than a run, only where a test asks for `pictures`."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from clew.files import write_atomically
from clew.mazes.world import MazeWorld
from clew.rollout import plots as rollout_plots
from clew.runs import plots as run_plots


@pytest.fixture(scope="session", autouse=True)
def imported() -> None:
    """What is imported by now is left out of garbage collection, of which each run's end does several."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def pictures() -> None:
    """For a test that looks at pictures."""


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def undrawn(what: Any, out: Path, shown: Any = ()) -> None:
        write_atomically(out, b"")

    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(MazeWorld, "pictures", lambda *_: None)
        monkeypatch.setattr(rollout_plots, "tree_of_rollout", undrawn)
        for name in ("training_curves", "split_curves"):
            monkeypatch.setattr(run_plots, name, undrawn)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
