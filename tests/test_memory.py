"""Estimates of memory: near what was measured, and a refusal that names the option and what would fit."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from clew import checks, memory
from clew.checks import check_evaluation, training_notes
from clew.config import EvalConfig, MazeConfig, SplitConfig, TrainConfig
from clew.errors import InputError
from clew.mazes.questions import MazeStream
from clew.memory import check_memory, training_bytes
from clew.split import check
from clew.study import grid
from clew.study.tabular import World
from clew.supervised import checked_stream

GIB = 2**30


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 24 GiB, whatever the tests run on."""
    monkeypatch.setattr(memory, "machine_memory", lambda: 24 * GIB)
    monkeypatch.setattr(checks, "machine_memory", lambda: 24 * GIB)


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


def test_tokens_are_counted_on_mazes() -> None:
    stream = MazeStream(((4, 4),))
    adjacency, question = checks.tokens_of(stream)
    assert abs(adjacency - (2 + 4 * 15)) < 2  # a spanning tree of sixteen cells
    assert 10 < question < 24


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mazes": MazeConfig(branches=100_000)}, "mazes.branches: 100,000 would take about"),
        ({"mazes": MazeConfig(sizes=[64], branches=5000)}, "mazes.branches: 5,000 would take about"),
        ({"mazes": MazeConfig(per_step=10**9)}, "mazes.per_step: 1,000,000,000 would take"),
        ({"mazes": MazeConfig(branches=10**18, per_step=10**18)}, "no value of it alone would fit"),
        ({"width": 10**6}, "width: 1,000,000 would take about"),
        ({"layers": 10**5}, "layers: 100,000 would take"),
        ({"layers": 10**5, "width": 8}, "layers: 100,000 would take minutes to make"),
        ({"max_size": 10**5}, "max_size: 100000 is not between"),
        ({"max_size": 3}, "max_size: 3 is not between"),
    ],
)
def test_training_that_would_not_fit(changes: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        checked_stream(TrainConfig(**changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"thoughts": 10**6}, "thoughts: 1,000,000 would"),
        ({"answers": 10**6}, "answers: 1,000,000 would"),
        ({"questions": 10**9}, "questions: 1,000,000,000 would"),
        ({"width": 10**6}, "width: 1,000,000 would"),
        ({"policies": "adapters", "rank": 10**6}, "rank: 1,000,000 would"),
        ({"layers": 10**5}, "layers: 100,000"),
        ({"mazes": MazeConfig(branches=10**6)}, "mazes.branches: 1,000,000 would"),
        ({"max_thought": 10**9}, "max_thought, max_answer: 1000000000"),
    ],
)
def test_a_split_that_would_not_fit(changes: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        check(SplitConfig(**changes))


def test_what_is_named_as_fitting_fits_and_not_much_more_does() -> None:
    with pytest.raises(InputError, match=r"24 GiB; [\d,]+ would fit") as caught:
        checked_stream(TrainConfig(MazeConfig(branches=100_000)))
    fits = int(str(caught.value).split("; ")[1].split(" would")[0].replace(",", ""))
    checked_stream(TrainConfig(MazeConfig(branches=fits)))
    with pytest.raises(InputError):
        checked_stream(TrainConfig(MazeConfig(branches=2 * fits)))


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(),
        TrainConfig(MazeConfig(sizes=[64])),
        TrainConfig(layers=12, width=768, heads=12),
        TrainConfig(MazeConfig(sizes=[16], branches=32, per_step=32)),
        TrainConfig(eval_mazes=10**12),
        SplitConfig(),
        SplitConfig(questions=64, thoughts=64, answers=64),
        SplitConfig(thoughts=1024, answers=8),
        SplitConfig(MazeConfig(sizes=[10])),
        SplitConfig(final_questions=10**12),
    ],
)
def test_what_is_plausible_is_not_refused(config: TrainConfig | SplitConfig) -> None:
    check(config) if isinstance(config, SplitConfig) else checked_stream(config)


def test_a_model_folder_s_own_size_counts(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for layers, fits in ((2, True), (10**6, False)):
        shape = {"num_hidden_layers": layers, "hidden_size": 64, "vocab_size": 30}
        (tmp_path / "model" / "config.json").write_text(json.dumps(shape))
        config = TrainConfig(model=str(tmp_path))
        if fits:
            checked_stream(config)
        else:
            with pytest.raises(InputError, match="would take about"):
                checked_stream(config)


def test_an_evaluation_s_batch() -> None:
    values = {"num_hidden_layers": 4, "hidden_size": 128, "vocab_size": 30}
    model = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: SimpleNamespace(to_dict=lambda: values)))
    with pytest.raises(InputError, match="batch: 1,000,000,000 would take about"):
        check_evaluation(EvalConfig("m", mazes=10**9, batch=10**9), model, 4)
    assert check_evaluation(EvalConfig("m", mazes=8, batch=10**9), model, 4) == []
    assert check_evaluation(EvalConfig("m", mazes=2000), model, 64) == []
    [line] = check_evaluation(EvalConfig("m", mazes=10**12), model, 4)
    assert line == "mazes: 1,000,000,000,000 of them take more than 277,778 hours at 1,000 a second"


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
    config = TrainConfig(layers=40, width=64)
    with pytest.raises(
        InputError, match="layers: 40 would take about 40 MiB of memory, and there are 9 MiB; 9 would fit"
    ):
        check_memory(config, {"layers": 4, "width": 128}, lambda config: config.layers * 2**20, 9 * 2**20)


def test_a_person_is_told_what_will_not_be_evaluated_and_what_takes_long() -> None:
    assert training_notes(TrainConfig()) == []
    [line] = training_notes(TrainConfig(MazeConfig(sizes=[2])))
    assert "no held-out maze of 2x2 by dfs" in line and "this run trains, and cannot be evaluated" in line
    [line] = training_notes(TrainConfig(MazeConfig(sizes=[2, 4])))
    assert "2x2" in line and "4x4" not in line and "only the others are evaluated" in line
    [line] = training_notes(TrainConfig(probe_mazes=10**10))
    assert line.startswith("probe_mazes: 10,000,000,000") and not training_notes(
        TrainConfig(probe_mazes=10**10, probe_every=0)
    )
    [line] = training_notes(TrainConfig(eval_mazes=10**10))
    assert line.startswith("eval_mazes: 10,000,000,000 of them take more than")
