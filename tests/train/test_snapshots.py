"""Snapshots: which steps are kept, that a run that went on holds what a whole one does, and that they open."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from clew.cli.main import main
from clew.errors import InputError
from clew.policy import Policy
from clew.runs.snapshots import is_due, snapshots_of
from clew.train.opening import run_options
from clew.train.supervised import train
from small import same_weights, train_config

OPTIONS: dict[str, Any] = {"snapshots": 2.0, "steps": 5, "checkpoint_every": 3, "validate_every": 0}
STEPS = ["step-000001", "step-000002", "step-000004"]


def kept(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "snapshots").iterdir())


@pytest.mark.parametrize(
    ("factor", "steps"),
    [(2.0, [1, 2, 4, 8, 16, 32]), (1.5, [1, 2, 3, 4, 6, 9, 14, 21, 32]), (10.0, [1, 10]), (1e-9 + 1, range(1, 40))],
)
def test_steps_grow_by_the_factor(factor: float, steps: Any) -> None:
    assert [step for step in range(1, 40) if is_due(step, factor)] == list(steps)


def test_folders_of_other_names_are_no_snapshots(tmp_path: Path) -> None:
    for name in ("step-000004", "step-²", "step-4x", "step-"):
        (tmp_path / "snapshots" / name).mkdir(parents=True)
    assert snapshots_of(tmp_path) == {4: tmp_path / "snapshots" / "step-000004"}


@pytest.mark.parametrize("average", [False, True])
def test_a_run_that_went_on_keeps_what_a_whole_one_does(tmp_path: Path, average: bool) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    train(train_config(whole, **OPTIONS, average=average))
    assert kept(whole) == STEPS
    shutil.copytree(whole, part)  # as if killed amid another snapshot, long after its last checkpoint
    shutil.rmtree(part / "checkpoints" / "step-000005")
    (part / "snapshots" / "step-000004" / "model" / "model.safetensors").write_bytes(b"")
    (part / "snapshots" / ".step-000008.part" / "model").mkdir(parents=True)
    shutil.copytree(part / "snapshots" / "step-000001", part / "snapshots" / "step-000064")
    train(train_config(part, **OPTIONS, average=average), resume=True)
    assert kept(part) == STEPS  # what another way had led to is no part of this run
    for name in STEPS:
        assert same_weights(part / "snapshots" / name / "model", whole / "snapshots" / name / "model")


@pytest.mark.parametrize("average", [False, True])
def test_a_snapshot_is_what_a_run_of_so_many_steps_ends_with(tmp_path: Path, average: bool) -> None:
    options = OPTIONS | {"average": average, "optimizer__schedule": "constant"}
    train(train_config(tmp_path / "long", **options))
    train(train_config(tmp_path / "short", **options | {"steps": 2, "snapshots": None}))
    assert same_weights(tmp_path / "long" / "snapshots" / "step-000002" / "model", tmp_path / "short" / "model")
    assert not (tmp_path / "short" / "snapshots").exists()
    train(train_config(tmp_path / "short", **options), resume=True)  # from there on, where it had none before
    assert kept(tmp_path / "short") == ["step-000004"]


def test_a_snapshot_opens_in_the_world_of_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train(train_config(run, **OPTIONS))
    snapshot = run / "snapshots" / "step-000002"
    assert Path(str(Policy.load(snapshot).model.name_or_path)) == snapshot / "model"
    assert run_options(snapshot) == run_options(run) != {}
    monkeypatch.chdir(snapshot)
    for folder in (str(snapshot), "."):
        assert main(["eval", folder, "--questions", "4", "--json"]) == 0
        assert list(json.loads(capsys.readouterr().out)["by_size"]) == ["3x3"]  # the command's own default is 4x4


@pytest.mark.parametrize("factor", [1.0, 0.0, -2.0, float("nan")])
def test_what_does_not_grow_is_refused(tmp_path: Path, factor: float) -> None:
    with pytest.raises(InputError, match=r"snapshots: .* is not "):
        train(train_config(tmp_path / "run", snapshots=factor))
    assert not (tmp_path / "run").exists()
