"""Estimates of memory: near what was measured, and a refusal that names the option and what would fit."""

import pytest

from clew import memory
from clew.config import ModelConfig
from clew.errors import InputError
from clew.memory import check_memory, training_bytes
from clew.study import grid
from clew.study.tabular import World

GIB = 2**30


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 24 GiB, whatever the tests run on."""
    monkeypatch.setattr(memory, "machine_memory", lambda: 24 * GIB)


def test_the_machine_has_some() -> None:
    # The fixture's is another: this is the function as it stands.
    assert 2**28 < MACHINE() < 2**50


MACHINE = memory.machine_memory


@pytest.mark.parametrize(
    ("tokens", "layers", "width", "measured_mib"),  # peaks of one step each, measured on two CPU cores
    [(11079, 4, 128, 915), (58557, 4, 128, 4993), (10441, 2, 256, 972), (30699, 8, 64, 2918), (14370, 4, 128, 1644)],
)
def test_estimates_are_below_what_was_measured_and_above_half_of_it(
    tokens: int, layers: int, width: int, measured_mib: int
) -> None:
    assert 0.5 < training_bytes(0, tokens, layers, width) / 2**20 / measured_mib < 1


@pytest.mark.parametrize(("tokens", "measured_mib"), [(512, 2958), (1024, 4023), (2048, 5639), (3576, 8467)])
def test_estimates_of_a_model_with_a_real_vocabulary(tokens: int, measured_mib: int) -> None:
    """SmolLM2 as bench/results/memory.md has it: 134.5 million parameters, MLPs of 1,536."""
    assert 0.8 < training_bytes(134_515_008, tokens, 30, 1536 // 4) / 2**20 / measured_mib < 1


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (grid.TabularConfig(World(thoughts=10**6, answers=10**4)), "world.thoughts: 1,000,000 would"),
        (grid.TabularConfig(replicas=10**12), "replicas: 1,000,000,000,000 would"),
        (grid.TabularConfig(workers=10**6), "workers: 1,000,000 would"),
        (grid.TabularConfig(round_cost=1e12), "round_cost: 1,000,000,000,000.0 would"),
        (grid.TabularConfig(seed=-1), "seed: -1"),
        (grid.TabularConfig(lrs=[float("nan")]), "lrs: nan"),
    ],
)
def test_a_study_that_would_not_fit(config: grid.TabularConfig, says: str) -> None:
    grid.check(grid.TabularConfig(workers=2))
    with pytest.raises(InputError, match=says):
        grid.check(config)


def test_the_option_that_is_furthest_from_what_is_usual_is_named() -> None:
    config = ModelConfig(layers=40, width=64)
    with pytest.raises(
        InputError, match="layers: 40 would take about 40 MiB of memory, and there are 9 MiB; 9 would fit"
    ):
        check_memory(config, {"layers": 4, "width": 128}, lambda config: config.layers * 2**20, 9 * 2**20)
