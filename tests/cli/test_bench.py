"""`clew bench`: which benches there are."""

from pathlib import Path

import pytest

from clew.cli import bench
from clew.cli.main import main
from cli.conftest import Fails


def test_benches_are_listed_and_what_they_share_is_not(fails: Fails, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench"]) == 0
    shown = capsys.readouterr().out
    assert "clew bench NAME" in shown and "\n  trees  " in shown
    assert "\n  measure  " not in shown and "\n  plots  " not in shown
    assert "'luck' is no bench; there are " in fails("bench", "luck")


def test_an_installed_package_says_where_they_are(
    fails: Fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "__file__", str(tmp_path / "lib" / "clew" / "cli" / "bench.py"))
    assert main(["bench", "--help"]) == 0
    assert "in a clone of the project" in capsys.readouterr().out
    assert "'trees' cannot be run: the benches are in a clone" in fails("bench", "trees")
