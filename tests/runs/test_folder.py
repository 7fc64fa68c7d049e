"""A run folder is held by one run, and refused or cleared where something else stands in it."""

from pathlib import Path

import pytest

from clew.errors import InputError
from clew.runs.folder import run_folder


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with run_folder(tmp_path / "run", resume=False):
        with pytest.raises(InputError, match="is in use by another run"), run_folder(tmp_path / "run", resume=False):
            pass
        with run_folder(tmp_path / "run", resume=False, main=False):  # other processes of the same run
            pass
    with run_folder(tmp_path / "run", resume=False):
        pass


def test_a_run_is_gone_on_with_or_begun_and_never_by_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no run \(no config.yaml\)"), run_folder(tmp_path, resume=True):
        pass
    (tmp_path / "checkpoints" / "step-000001").mkdir(parents=True)
    with pytest.raises(InputError, match=r"whose config.yaml is gone"), run_folder(tmp_path, resume=False):
        pass
    (tmp_path / "config.yaml").write_text("steps: 3\n")
    with pytest.raises(InputError, match="already holds a run; go on with"), run_folder(tmp_path, resume=False):
        pass


@pytest.mark.parametrize("name", ["model", "shoggoth"])
def test_a_model_whose_checkpoints_are_gone_is_not_trained_anew(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.yaml").write_text("steps: 3\n")
    (tmp_path / name).mkdir()
    says = f"no checkpoint to go on from, and a new start would overwrite {name}"
    for logged in (None, '{"step": 0}\n{"step": 3}\n'):
        if logged:
            (tmp_path / "metrics.jsonl").write_text(logged)
        with pytest.raises(InputError, match=says), run_folder(tmp_path, resume=True):
            pass
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n')  # a split of no rounds: as its warm start left it
    with run_folder(tmp_path, resume=True):
        pass


@pytest.mark.parametrize("name", ["eval.json", "samples.jsonl", "metrics.jsonl", "plots/training.png"])
def test_a_folder_where_a_file_belongs(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.yaml").write_text("steps: 3\n")
    (tmp_path / name).mkdir(parents=True)
    says = f"{name} is a folder; a file was expected"
    with pytest.raises(InputError, match=says), run_folder(tmp_path, resume=True):
        pass


def test_a_link_to_nowhere_where_a_folder_belongs(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("steps: 3\n")
    (tmp_path / "plots").symlink_to("nowhere")
    with pytest.raises(InputError, match="plots is not a folder"), run_folder(tmp_path, resume=True):
        pass


@pytest.mark.parametrize("name", ["checkpoints", "snapshots", "warm", "rollouts", "plots"])
def test_a_file_where_a_folder_belongs(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.yaml").write_text("steps: 3\n")
    (tmp_path / name).write_text("5")
    with pytest.raises(InputError, match=f"{name} is not a folder"), run_folder(tmp_path, resume=True):
        pass
    assert (tmp_path / name).read_text() == "5"


def test_what_a_kill_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("steps: 3\n")
    (tmp_path / "checkpoints" / ".step-000004.part" / "model").mkdir(parents=True)
    (tmp_path / "checkpoints" / ".warm-face.old").mkdir()
    (tmp_path / ".metrics.jsonl.part").write_text("half")
    with run_folder(tmp_path, resume=True):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "checkpoints", "config.yaml"]
        assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [
            "warm-face"
        ]  # set aside for a new one that never came
