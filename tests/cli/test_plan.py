"""`clew plan`: what it says, and what it says is wrong."""

from pathlib import Path

import pytest

from clew.cli.main import main
from cli.conftest import Fails

VARIANCES = ["--thought-variance", "1", "--answer-variance"]


def test_a_plan_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    costs = ["--thought-cost", "16", "--answer-cost", "4", "--budget", "320"]
    assert main(["plan", *VARIANCES, "4", *costs]) == 0
    assert "n = 10 thoughts, k = 4 answers" in capsys.readouterr().out  # k = sqrt(16/4 * 4/1), n = 320 / (16 + 4 * 4)


def test_plans_that_cannot_be(tmp_path: Path, fails: Fails) -> None:
    assert "give a split's run folder" in fails("plan")
    assert "all three are needed" in fails("plan", *VARIANCES, "1")
    assert "holds no rounds" in fails("plan", "--run", str(tmp_path))
    assert "seed: there is no such option" in fails("plan", "--seed", "-1")
    costs = ["--thought-cost", "1e-300", "--answer-cost", "1e-300", "--budget", "1e30"]
    assert "more samples than can be counted" in fails("plan", *VARIANCES, "1", *costs)
