"""Weights that may be spread over processes: when they are, and what that changes where they are not. Two processes are
in test_processes.py."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from clew.errors import InputError
from clew.sharding import full, is_spread, like, spreads, whole


@pytest.mark.parametrize(
    ("processes", "env", "wanted"),
    [
        (2, {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, True),
        (1, {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, False),
        (2, {"ACCELERATE_USE_FSDP": "false", "FSDP_VERSION": "1"}, False),
        (2, {}, False),
    ],
)
def test_accelerate_s_config_says_whether(
    monkeypatch: pytest.MonkeyPatch, processes: int, env: dict[str, str], wanted: bool
) -> None:
    asked: Any = SimpleNamespace(num_processes=processes)
    for name in ("ACCELERATE_USE_FSDP", "FSDP_VERSION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert spreads(asked) is wanted
    if wanted:
        monkeypatch.setenv("FSDP_VERSION", "1")
        with pytest.raises(InputError, match=r"^accelerate: fsdp_version: 1 is not supported; expected 2"):
            spreads(asked)


def test_in_one_process_all_is_whole() -> None:
    model, value = torch.nn.Linear(2, 2), torch.ones(2)
    with whole(model):
        assert not is_spread(model)
    assert full(value) is value and like(value, torch.zeros(2)) is value
