"""A short killing campaign: what `clew bench kills` does at length. Its own comparison is shown to see a difference."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
TINY = ["--kills", "4", "--fork", "--commands", "train", "split, adapters, kl"]


def test_killed_runs_end_bit_for_bit_like_others(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCH / "kills.py"), *TINY, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    lives = [life for lived in json.loads((tmp_path / "kills.json").read_text())["results"].values() for life in lived]
    assert sum(len(life["struck"]) for life in lives) == 4
    assert all(life["ended"] and life["tidy"] and not life["differs"] + life["half_written"] for life in lives)


def test_the_campaign_sees_what_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    import torch
    from safetensors.torch import load_file, save_file

    import kills

    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    theirs.mkdir()
    save_file({"a": torch.zeros(3), "b": torch.ones(2)}, theirs / "model.safetensors")
    (theirs / "metrics.jsonl").write_text('{"step": 1, "seconds": 1.0, "loss": 0.5}\n')
    (theirs / "picture.png").write_bytes(b"png")
    shutil.copytree(theirs, ours)
    (ours / "metrics.jsonl").write_text('{"step": 1, "seconds": 2.0, "loss": 0.5}\n')
    (ours / ".lock").write_text("")
    assert kills.compared(ours, theirs) == ([], [])
    tensors = load_file(ours / "model.safetensors")
    tensors["a"][1] = -0.0  # equal, and not the same bits
    save_file(tensors, ours / "model.safetensors")
    (ours / "metrics.jsonl").write_text('{"step": 1, "seconds": 2.0, "loss": 0.25}\n')
    (ours / "picture.png").unlink()
    (ours / ".config.yaml.part").write_text("half")
    differs, half_written = kills.compared(ours, theirs)
    assert differs == ["picture.png", "metrics.jsonl", "model.safetensors"] and half_written == [".config.yaml.part"]
