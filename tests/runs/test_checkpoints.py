"""Checkpoints by number, odd names among them, torn ones, and which one a run goes on from."""

import json
from pathlib import Path

import pytest

from clew.errors import InputError
from clew.files import remove
from clew.runs.checkpoints import checkpoints, latest_checkpoint, new_checkpoint, read_state, resumed


def kept(out: Path, *steps: int) -> list[str]:
    """Makes checkpoints, and returns the names of all that are then there."""
    for step in steps:
        with new_checkpoint(out, step) as part:
            (part / "state.json").write_text(json.dumps({"step": step, "seconds": 0.5}))
    return sorted(path.name for path in (out / "checkpoints").iterdir())


def test_checkpoints_past_a_million_steps(tmp_path: Path) -> None:
    assert kept(tmp_path, 999_998, 999_999, 1_000_000) == ["step-1000000", "step-999999"]
    assert kept(tmp_path, 1_000_001) == ["step-1000000", "step-1000001"]
    last = latest_checkpoint(tmp_path)
    assert last and last.name == "step-1000001"
    assert resumed(tmp_path, read_state, lambda: None) == {"step": 1_000_001, "seconds": 0.5}


def test_a_signal_while_an_old_one_is_dropped_leaves_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came = []

    def cut_short(path: Path) -> None:
        if path.name == ".step-000001.part" and path.is_dir() and not came:
            came.append(path)
            raise KeyboardInterrupt
        remove(path)

    monkeypatch.setattr("clew.runs.checkpoints.remove", cut_short)
    with pytest.raises(KeyboardInterrupt):
        kept(tmp_path, 1, 2, 3)
    assert came and kept(tmp_path) == ["step-000002", "step-000003"]


def test_odd_names_do_no_harm(tmp_path: Path) -> None:
    odd = ["step-abc", "step-1.part", "step-", "step--3", "step-٣", "step-000009x", "warm-shoggoth", "step-" + "9" * 30]
    for name in odd:
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-000099").write_text("a file")
    assert checkpoints(tmp_path) == [] and resumed(tmp_path, read_state, lambda: None) is None
    assert kept(tmp_path, 1, 2, 3) == sorted([*odd, "step-000099", "step-000002", "step-000003"])


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / ".step-000002.part").mkdir(parents=True)
    assert resumed(tmp_path, read_state, lambda: None) is None


STATES = [
    b"",
    b'{"step": 2, "sec',
    b"\xff\xfe\x00",
    b"3",
    b"null",
    b"[]",
    b"{}",
    b'{"step": "x", "seconds": 1}',
    b'{"step": -1, "seconds": 1}',
    b'{"step": 1e400, "seconds": 1}',
    b'{"step": 2.0, "seconds": 1}',
    b'{"step": true, "seconds": 1}',
    b'{"step": 3, "seconds": 1}',
    b'{"step": 2}',
    b'{"step": 2, "seconds": "x"}',
    b'{"step": 2, "seconds": -1}',
    b'{"step": 2, "seconds": 1e400}',
    b'{"step": 2, "seconds": NaN}',
    b'{"step": 2, "seconds": true}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state[:40].decode(errors="replace"))
def test_a_torn_state(tmp_path: Path, state: bytes) -> None:
    kept(tmp_path, 1, 2)
    (tmp_path / "checkpoints" / "step-000002" / "state.json").write_bytes(state)
    last = latest_checkpoint(tmp_path)
    assert last and last.name == "step-000001"
    with pytest.warns(UserWarning, match=r"step-000002 is torn \(its state.json .*goes on from step-000001") as told:
        found = resumed(tmp_path, read_state, lambda: None)
    assert len(told) == 1 and "\n" not in str(told[0].message)
    assert found == {"step": 1, "seconds": 0.5}
    aside = tmp_path / "checkpoints" / "torn-step-000002" / "state.json"
    assert aside.read_bytes() == state  # kept for whoever wants it


def test_torn_ones_are_set_aside_each_by_itself(tmp_path: Path) -> None:
    for _ in range(2):
        kept(tmp_path, 1, 2)
        (tmp_path / "checkpoints" / "step-000002" / "state.json").unlink()
        with pytest.warns(UserWarning, match="no state.json"):
            resumed(tmp_path, read_state, lambda: None)
    assert kept(tmp_path) == ["step-000001", "torn-step-000002", "torn-step-000002-2"]


def test_no_whole_checkpoint_left(tmp_path: Path) -> None:
    kept(tmp_path, 1, 2)
    for checkpoint in checkpoints(tmp_path):
        (checkpoint / "state.json").write_text("")
    with pytest.raises(InputError, match=r"has no whole checkpoint left .*step-000002 is torn \(its state.json"):
        resumed(tmp_path, read_state, lambda: None)
    assert kept(tmp_path) == ["step-000001", "step-000002"]  # as it was
