"""Two processes over gloo against one: the same curve, the same weights, everything written once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

TINY = ["--layers", "1", "--width", "16", "--heads", "2", "--mazes.sizes", "[3]", "--mazes.branches", "2",
        "--mazes.per-step", "4"]  # fmt: skip
TRAIN = ["train", *TINY, "--warmup", "3", "--eval-mazes", "8", "--probe-every", "0", "--log-every", "1",
         "--checkpoint-every", "3"]  # fmt: skip
SPLIT = ["split", *TINY, "--warmup-steps", "4", "--rounds", "3", "--questions", "4", "--thoughts", "3",
         "--answers", "2", "--eval-questions", "8", "--final-questions", "8", "--checkpoint-every",
         "2", "--lr", "1e-3"]  # fmt: skip


def clew(processes: int, *args: str) -> None:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launch if processes > 1 else []), "-m", "clew", *args]
    env = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]


def curve(run: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted({line["step"] for line in lines})  # each line once
    return [line[name] for line in lines if name in line]


def same_weights(a: Path, b: Path) -> None:
    ours, theirs = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=0)


def test_training_in_two_processes_equals_one_and_resumes_in_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    clew(1, *TRAIN, "--steps", "8", "--out", str(one))
    clew(2, *TRAIN, "--steps", "8", "--out", str(two))
    assert curve(two, "loss") == pytest.approx(curve(one, "loss"), abs=1e-5)
    same_weights(two / "model", one / "model")
    for step in (6, 8):  # as if it had been killed after step 3
        for path in sorted((two / "checkpoints" / f"step-{step:06d}").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (two / "checkpoints" / f"step-{step:06d}").rmdir()
    clew(1, "train", "--resume", str(two), "--steps", "8")
    assert curve(two, "loss") == pytest.approx(curve(one, "loss"), abs=1e-5)
    same_weights(two / "model", one / "model")


@pytest.mark.parametrize("rule", [["basic", "{keep: 0.25, scope: batch}"], ["advantage", "{}"]])
def test_split_in_two_processes_equals_one(tmp_path: Path, rule: list[str]) -> None:
    """Each process samples its own questions; a rule over the batch sees them all."""
    one, two = tmp_path / "one", tmp_path / "two"
    for processes, out in ((1, one), (2, two)):
        clew(processes, *SPLIT, "--rule", rule[0], "--rule-options", rule[1], "--out", str(out))
    for name in ("score", "shoggoth_loss", "face_loss", "shoggoth_sampled", "thought_tokens"):
        assert curve(two, name) == pytest.approx(curve(one, name), abs=1e-4), name
    for name in ("shoggoth", "face"):
        same_weights(two / name, one / name)
    assert sorted(p.name for p in two.iterdir()) == sorted(p.name for p in one.iterdir())
