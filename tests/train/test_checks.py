"""What is known of a run before its work: refusals that name the option and what would fit, and notes."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

sys.path.insert(0, os.path.dirname(os.path.dirname(__file__)))
from clew.config import MazeConfig, ModelConfig
from clew.errors import InputError
from clew.mazes.world import MazeWorld
from clew.policy import Policy
from clew.train import checks, supervised
from clew.train.config import SplitConfig, TrainConfig
from clew.world import world_of
from small import changed

GIB = 2**30


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 24 GiB, whatever the tests run on."""
    monkeypatch.setattr(checks, "machine_memory", lambda: 24 * GIB)


def check(config: TrainConfig | SplitConfig) -> None:
    world = world_of(config, 0)
    checks.check_splitting(config, world) if isinstance(config, SplitConfig) else checks.check_training(config, world)


def trained(**changes: Any) -> TrainConfig:
    return changed(TrainConfig(), changes)


def split(**changes: Any) -> SplitConfig:
    return changed(SplitConfig(), changes)


def test_tokens_are_counted_on_mazes() -> None:
    few, many = (MazeWorld().step_tokens(trained(mazes__branches=count)) for count in (0, 10))
    assert abs(few - (2 + 4 * 15)) < 2  # a spanning tree of sixteen cells
    assert 100 < many - few < 240


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mazes__branches": 100_000}, "mazes.branches: 100,000 would take about"),
        ({"mazes__sizes": [64], "mazes__branches": 5000}, "mazes.branches: 5,000 would take about"),
        ({"per_step": 10**9}, "per_step: 1,000,000,000 would take"),
        ({"mazes__branches": 10**18, "per_step": 10**18}, "no value of it alone would fit"),
        ({"model__width": 10**6}, "width: 1,000,000 would take about"),
        (
            {"model__folder": "zoo:4x4", "model__add_layers": 10**5},
            "model.add_layers and the model's own: 100,004",
        ),
        ({"model__layers": 10**5}, "layers: 100,000 would take"),
        ({"model__layers": 10**5, "model__width": 8}, "layers: 100,000 would take minutes to make"),
        ({"mazes__max_size": 10**5}, "max_size: 100000 is not between"),
        ({"mazes__max_size": 3}, "max_size: 3 is not between"),
    ],
)
def test_training_that_would_not_fit(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        check(trained(**changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"thoughts": 10**6}, "thoughts: 1,000,000 would"),
        ({"answers": 10**6}, "answers: 1,000,000 would"),
        ({"questions": 10**9}, "questions: 1,000,000,000 would"),
        ({"model__width": 10**6}, "width: 1,000,000 would"),
        ({"policies": "adapters", "rank": 10**6}, "rank: 1,000,000 would"),
        ({"model__layers": 10**5}, "layers: 100,000"),
        ({"mazes__branches": 10**6}, "mazes.branches: 1,000,000 would"),
        ({"max_thought": 10**9}, "max_thought, max_answer: 1000000000"),
    ],
)
def test_a_split_that_would_not_fit(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        check(split(**changes))


def test_tokens_at_once_make_a_step_fit() -> None:
    check(trained(mazes__branches=100_000, optimizer__tokens_at_once=10_000))


def test_what_is_named_as_fitting_fits_and_not_much_more_does() -> None:
    with pytest.raises(InputError, match=r"24 GiB; [\d,]+ would fit") as caught:
        check(trained(mazes__branches=100_000))
    fits = int(str(caught.value).split("; ")[1].split(" would")[0].replace(",", ""))
    check(trained(mazes__branches=fits))
    with pytest.raises(InputError):
        check(trained(mazes__branches=2 * fits))


@pytest.mark.parametrize(
    "config",
    [
        trained(),
        trained(mazes__sizes=[64]),
        trained(model__layers=12, model__width=768, model__heads=12),
        trained(mazes__sizes=[16], mazes__branches=32, per_step=32),
        trained(final_questions=10**12),
        split(),
        split(questions=64, thoughts=64, answers=64),
        split(thoughts=1024, answers=8),
        split(mazes__sizes=[10]),
        split(final_questions=10**12),
    ],
)
def test_what_is_plausible_is_not_refused(config: TrainConfig | SplitConfig) -> None:
    check(config)


def test_a_model_folder_s_own_size_counts(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for layers, fits in ((2, True), (10**6, False)):
        shape = {"num_hidden_layers": layers, "hidden_size": 64, "vocab_size": 30}
        (tmp_path / "model" / "config.json").write_text(json.dumps(shape))
        config = trained(model__folder=str(tmp_path))
        if fits:
            check(config)
        else:
            with pytest.raises(InputError, match="would take about"):
                check(config)


def test_a_model_counts_as_many_numbers_however_its_file_keeps_them(tmp_path: Path) -> None:
    made = Policy.build(MazeWorld().tokenizer, 1, 16, 2)
    made.save(tmp_path / "whole")
    made.save(tmp_path / "half", torch.float16)
    whole, half = (checks.shape_of(ModelConfig(folder=str(tmp_path / name)), 30) for name in ("whole", "half"))
    assert whole == half and half.parameters == sum(p.numel() for p in made.model.parameters())
    (tmp_path / "half" / "model.safetensors").write_bytes(b"torn")
    assert checks.shape_of(ModelConfig(folder=str(tmp_path / "half")), 30).parameters == 0


def test_the_model_that_rewrites_thoughts_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Policy.build(MazeWorld().tokenizer, 2, 64, 2)
    made.save(tmp_path / "words")
    weights = 4 * sum(p.numel() for p in made.model.parameters())
    few: dict[str, Any] = {"rewriter__max_tokens": 1, "rewriter__versions": 1}
    alone, beside = split(**few), split(**few, paraphraser=f"model:{tmp_path / 'words'}")
    world = world_of(alone, 0)
    before, with_it = (checks._splitting_bytes(config, world) for config in (alone, beside))
    assert with_it - before == weights
    assert checks._splitting_bytes(split(**few, paraphraser="shuffle"), world) == before
    long = split(paraphraser=beside.paraphraser, rewriter__max_tokens=1000)
    assert checks._rewriting_bytes(long)[1] > checks._rewriting_bytes(beside)[1]
    monkeypatch.setattr(checks, "machine_memory", lambda: before + weights - 1)
    check(alone)
    with pytest.raises(InputError, match="would take about"):
        check(beside)
    monkeypatch.setattr(checks, "machine_memory", lambda: weights - 1)
    with pytest.raises(InputError, match="paraphraser: 'model:"):
        check(beside)


def test_weights_take_what_their_folder_says(tmp_path: Path) -> None:
    made = Policy.build(MazeWorld().tokenizer, 1, 16, 2)
    made.save(tmp_path / "whole")
    made.model.to(torch.bfloat16).save_pretrained(tmp_path / "half")  # type: ignore[arg-type]
    assert [checks.shape_of(ModelConfig(folder=str(tmp_path / name)), 30).number for name in ("whole", "half")] == [
        4,
        2,
    ]


def test_an_evaluation_s_batch() -> None:
    values = {"num_hidden_layers": 4, "hidden_size": 128, "vocab_size": 30}
    model = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: SimpleNamespace(to_dict=lambda: values)))
    policy: Any = cast(Any, SimpleNamespace(model=model))

    def asked(questions: int, batch: int = 256, size: int = 4) -> list[str]:
        return checks.check_evaluation("cpu", questions, batch, policy, MazeWorld(MazeConfig(sizes=[size])))

    with pytest.raises(InputError, match="batch: 1,000,000,000 would take about"):
        asked(10**9, 10**9)
    assert asked(8, 10**9) == [] and asked(2000, size=64) == []
    [line] = asked(10**12)
    assert line == "questions: 1,000,000,000,000 of them take more than 277,778 hours at 1,000 a second"


def test_a_person_is_told_what_will_not_be_evaluated_and_what_takes_long() -> None:
    def notes(**changes: Any) -> list[str]:
        config, told = trained(**changes), []
        supervised._tell(config, world_of(config, 0), told.append)
        return [values["note"] for values in told if "note" in values]

    assert notes() == []
    [line] = notes(mazes__sizes=[2])
    assert "no held-out maze of 2x2 by dfs" in line and "this run trains, and cannot be evaluated" in line
    [line] = notes(mazes__sizes=[2, 4])
    assert "2x2" in line and "4x4" not in line and "only the others are evaluated" in line
    [line] = notes(validation_questions=10**10)
    assert line.startswith("validation_questions: 10,000,000,000")
    assert notes(validation_questions=10**10, validate_every=0) == []
    [line] = notes(final_questions=10**10)
    assert line.startswith("final_questions: 10,000,000,000 of them take more than")
