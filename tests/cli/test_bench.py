"""`clew bench`: which benches there are."""

import pytest

from clew.cli.main import main
from cli.conftest import Fails


def test_benches_are_listed_and_what_they_share_is_not(fails: Fails, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench"]) == 0
    shown = capsys.readouterr().out
    assert "clew bench NAME" in shown and "\n  trees  " in shown
    assert "\n  measure  " not in shown and "\n  plots  " not in shown
    assert "'luck' is no bench; there are " in fails("bench", "luck")
