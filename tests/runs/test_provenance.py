"""What made a result."""

import sys
from pathlib import Path

import pytest

import clew
from clew.runs.provenance import provenance


def test_command_versions_and_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["clew", "eval", "runs/x"])
    found = provenance()
    assert found["command"] == "clew eval runs/x" and provenance(["plan"])["command"] == "clew plan"
    monkeypatch.setattr(sys, "argv", [str(Path(__file__).parents[2] / "bench" / "depth.py"), "--workers", "1"])
    assert provenance()["command"] == "clew bench depth --workers 1"
    assert found["versions"]["clew"] == clew.__version__
    assert set(found["versions"]) == {"clew", "python", "torch", "transformers"}
    assert "threads" in found["machine"]
