"""What tests of prompts share. Models this small are slower on several threads than on one."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from clew.policy import Policy
from texts import TEMPLATE, bpe_tokenizer

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The sums with a wrong hint, and their bench, can be imported."""
    monkeypatch.syspath_prepend(ROOT / "bench")
    monkeypatch.syspath_prepend(
        ROOT / "examples" / "language"
    )  # the first: a bench has the name of the example that it runs
    yield
    for name in ("hints", "hints_cells", "hints_report", "thoughts", "measure"):
        sys.modules.pop(name, None)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder with a language model of no size, which knows nothing."""
    Policy.build(bpe_tokenizer(TEMPLATE), layers=1, width=16, heads=2).save(tmp_path / "model")
    return tmp_path / "model"
