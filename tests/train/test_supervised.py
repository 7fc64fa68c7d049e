"""The training loop: resume after kill -9 bit for bit, NaN, folders in use, learning at all."""

import gc
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase

from clew.config import MazeConfig
from clew.errors import InputError
from clew.learner import Learner, LossNotFinite, learning_rate
from clew.mazes.vocab import maze_tokenizer
from clew.mazes.world import MazeWorld, cells_known
from clew.policy import Policy
from clew.rollout.sampler import SharedPrefixSampler
from clew.runs.checkpoints import checkpoints, latest_checkpoint
from clew.runs.rollouts import read_rollouts
from clew.train.evaluate import Reasoner, evaluate, held_out, world_grader
from clew.train.supervised import train
from small import metrics, same_weights, train_config


def clew(*args: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "clew", *args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def same(run: Path, other: Path) -> bool:
    return same_weights(run / "model", other / "model")


def gpt2(tokenizer: PreTrainedTokenizerBase, folder: Path) -> str:
    """A tiny GPT-2, with the dropout that it comes with, in a folder of its own."""
    shape: dict[str, Any] = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 256, "bos_token_id": None}
    shape |= {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    Policy(GPT2LMHeadModel(GPT2Config(**shape)), tokenizer).save(folder)
    return str(folder)


@pytest.mark.usefixtures("pictures")
def test_a_run_folder_holds_what_it_should(tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train(train_config(run))
    files = "config.yaml metrics.jsonl eval.json samples.jsonl model/model.safetensors model/tokenizer.json"
    files += " model/README.md plots/training.png plots/mazes.png plots/accuracy.png"
    for name in files.split():
        assert (run / name).is_file(), name
    lines = metrics(run)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert "held_out_exact" in lines[2]
    evaluation = json.loads((run / "eval.json").read_text())
    assert evaluation["questions"] == result["questions"] == 8
    assert {"command", "versions", "machine", "held_out", "baseline"} <= set(evaluation)
    samples = list(read_rollouts(run / "samples.jsonl"))
    assert len(samples) == 8 and all(sample["held_out"] for sample in samples)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["step-000004", "step-000006"]
    assert not list(run.rglob(".*.part"))


def test_muon_resumes_like_adamw(tmp_path: Path) -> None:
    options: dict[str, Any] = {"optimizer__name": "muon", "steps": 4, "validate_every": 0, "checkpoint_every": 2}
    train(train_config(tmp_path / "whole", **options))
    train(train_config(tmp_path / "part", **options))
    shutil.rmtree(tmp_path / "part" / "checkpoints" / "step-000004")  # as if killed after step 2
    train(train_config(tmp_path / "part", **options), resume=True)
    assert same(tmp_path / "part", tmp_path / "whole")


@pytest.mark.parametrize("loss", ["full", "weighted", "graded"])
def test_every_loss_learns(tmp_path: Path, loss: str) -> None:
    options: dict[str, Any] = {"steps": 40, "optimizer__lr": 1e-2, "validate_every": 0, "checkpoint_every": 0}
    train(train_config(tmp_path / "run", loss=loss, **options))
    lines = metrics(tmp_path / "run")
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]


@pytest.mark.parametrize("loss", ["path", "graded"])
@pytest.mark.parametrize("attention", ["trees", "rows"])
def test_a_budget_of_tokens_changes_nothing_but_rounding(tmp_path: Path, loss: str, attention: str) -> None:
    """Steps of some 130 tokens: a budget of 40 cuts each tree between its branches."""
    options: dict[str, Any] = {"loss": loss, "model__attention": attention, "steps": 4, "validate_every": 0}
    train(train_config(tmp_path / "whole", **options))
    train(train_config(tmp_path / "parts", **options, optimizer__tokens_at_once=40))
    for whole, parts in zip(metrics(tmp_path / "whole"), metrics(tmp_path / "parts"), strict=True):
        for name in ("loss", "grad_norm"):
            assert parts[name] == pytest.approx(whole[name], rel=1e-4)
    ours, theirs = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("parts", "whole"))
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-4, rtol=0)


def test_a_budget_of_tokens_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    inner = Learner._read

    def spied(self: Learner, piece: Any, *args: Any, **options: Any) -> Any:
        read.append(piece.tokens_BT.numel())
        return inner(self, piece, *args, **options)

    monkeypatch.setattr(Learner, "_read", spied)
    options: dict[str, Any] = {"steps": 1, "validate_every": 0, "per_step": 4}
    train(train_config(tmp_path / "whole", **options))
    whole, read = read, []
    train(train_config(tmp_path / "parts", **options, optimizer__tokens_at_once=60))
    assert len(whole) == 1 and whole[0] > 200
    assert len(read) >= 4 and max(read) <= 60


def test_steps_validations_and_checkpoints_leave_no_tensor_behind(tmp_path: Path) -> None:
    alive: list[int] = []

    def count(values: dict) -> None:
        if values.get("step") in (6, 12, 18):  # the same place in the rhythm of validations and checkpoints
            gc.collect()
            alive.append(sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects()))

    train(train_config(tmp_path / "run", optimizer__name="muon", steps=24), report=count)
    assert len(alive) == 3 and len(set(alive)) == 1


def test_kill_9_at_any_moment_and_resume_ends_in_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three runs of the command that are killed, and the last resumed here."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    options: dict[str, Any] = {"steps": 60, "checkpoint_every": 7, "validate_every": 0}
    run, rng, kills = tmp_path / "killed", random.Random(0), 0
    train(train_config(tmp_path / "whole", **options))
    process = clew("train", "--config", str(tmp_path / "whole" / "config.yaml"), "--out", str(run))
    for wanted in (9, 20, 45):
        deadline = time.time() + 120
        while process.poll() is None and time.time() < deadline:
            done = (run / "metrics.jsonl").read_text().count("\n") if (run / "metrics.jsonl").exists() else 0
            if done >= wanted:
                time.sleep(rng.random() * 0.03)
                process.send_signal(signal.SIGKILL)
                kills += process.wait() == -signal.SIGKILL
                break
            time.sleep(0.005)
        if wanted < 45:
            process = clew("train", "--resume", str(run))
    assert kills >= 1
    assert latest_checkpoint(run) is not None
    train(train_config(run, **options), resume=True)
    assert same(run, tmp_path / "whole")
    assert [line["step"] for line in metrics(run)] == list(range(1, 61))


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    wild: dict[str, Any] = {"optimizer__lr": 1e30, "optimizer__warmup": 0, "optimizer__schedule": "constant"}
    with pytest.raises(LossNotFinite, match=r"step \d+: the loss is .*checkpoint"):
        train(train_config(tmp_path / "run", **wild, steps=50, checkpoint_every=1))
    last = latest_checkpoint(tmp_path / "run")
    assert last is not None
    assert all(t.isfinite().all() for t in load_file(last / "model" / "model.safetensors").values())


def test_a_torn_checkpoint_is_passed_over_for_the_last_whole_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(train_config(run))
    shutil.copytree(run / "model", tmp_path / "before" / "model")
    last = run / "checkpoints" / "step-000006" / "optimizer.safetensors"
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"step-000006 is torn .*optimizer.safetensors cannot.* from step-000004"):
        train(train_config(run), resume=True)
    assert same(run, tmp_path / "before")
    assert [line["step"] for line in metrics(run)] == [1, 2, 3, 4, 5, 6]
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"step-000004", "step-000006", "torn-step-000006"}
    for checkpoint in checkpoints(run):
        (checkpoint / "model" / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(InputError, match="has no whole checkpoint left"):
        train(train_config(run), resume=True)


def test_a_rate_that_changes_on_resume_holds_from_there_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain: dict[str, Any] = {"validate_every": 0, "optimizer__warmup": 0, "optimizer__schedule": "constant"}
    before: dict[str, Any] = {"optimizer__lr": 1e-2, "optimizer__weight_decay": 0.0}
    after: dict[str, Any] = {"optimizer__lr": 1e-3, "optimizer__weight_decay": 0.5}
    train(train_config(tmp_path / "run", **plain, **before, steps=4))
    train(train_config(tmp_path / "run", **plain, **after, steps=6), resume=True)
    update = Learner.update

    def by_hand(self: Learner, batch: Any, objective: Any, lr: float) -> dict[str, float]:
        steps.append(lr)
        for group in self.optimizers[0].param_groups:
            group["weight_decay"] = 0.5 if len(steps) > 4 and group["params"][0].ndim > 1 else 0.0
        return update(self, batch, objective, 1e-2 if len(steps) <= 4 else 1e-3)

    steps: list[float] = []
    monkeypatch.setattr(Learner, "update", by_hand)
    train(train_config(tmp_path / "whole", **plain, steps=6))
    assert len(steps) == 6 and same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize(
    ("name", "value"), [("optimizer.name", "muon"), ("model.width", 32), ("seed", 1), ("loss", "full")]
)
def test_what_a_run_is_may_not_change_on_resume(tmp_path: Path, name: str, value: Any) -> None:
    run = tmp_path / "run"
    train(train_config(run, steps=2, validate_every=0))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    changes = {name.replace(".", "__"): value}
    with pytest.raises(InputError, match=f"^{name}: this run began with .* and going on with {value!r} would"):
        train(train_config(run, steps=4, validate_every=0, **changes), resume=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_seed_fixes_new_rows_and_dropout(tmp_path: Path) -> None:
    """Of a model that draws: begun anew with the same seed, and resumed, it ends in the same weights."""
    folder = gpt2(maze_tokenizer(2), tmp_path / "gpt2")  # it has no tokens yet for the cells of larger mazes
    options: dict[str, Any] = {"model__folder": folder, "steps": 4, "validate_every": 0}
    for name in ("whole", "again", "part"):
        train(train_config(tmp_path / name, **options))
    shutil.rmtree(tmp_path / "part" / "checkpoints" / "step-000004")
    train(train_config(tmp_path / "part", **options), resume=True)
    for name in ("again", "part"):
        assert same(tmp_path / name, tmp_path / "whole")
    train(train_config(tmp_path / "other", **options, seed=1))
    assert not same(tmp_path / "other", tmp_path / "whole")


def test_starting_from_a_model_folder(tmp_path: Path) -> None:
    train(train_config(tmp_path / "first", steps=2, validate_every=0))
    start = {"model__folder": str(tmp_path / "first" / "model"), "steps": 1, "validate_every": 0}
    train(train_config(tmp_path / "second", **start, optimizer__lr=1e-12, optimizer__warmup=0))
    before, after = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("first", "second"))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    train(train_config(tmp_path / "third", **start, mazes__sizes=[4]))  # cells that it had no tokens for are added
    assert cells_known(Policy.load(tmp_path / "third").tokenizer) == 4


def test_starting_from_a_model_with_a_tokenizer_of_its_own(tmp_path: Path) -> None:
    """A GPT-2 with a byte-level tokenizer learns the maze tokens as new words, under ids that are not Clew's."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = pre_tokenizers.ByteLevel.alphabet()
    words = Tokenizer(models.BPE({letter: i for i, letter in enumerate([*letters, "<eos>"])}, []))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>")
    options: dict[str, Any] = {"model__folder": gpt2(tokenizer, tmp_path / "gpt2"), "loss": "graded"}
    options |= {"steps": 60, "optimizer__lr": 2e-2, "validate_every": 0}
    train(train_config(tmp_path / "run", **options))
    lines = metrics(tmp_path / "run")
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    policy = Policy.load(tmp_path / "run")
    assert type(policy.model).__name__ == "GPT2LMHeadModel" and cells_known(policy.tokenizer) == 3
    world = MazeWorld(MazeConfig(sizes=[3]), 0, policy.tokenizer)
    reasoner = Reasoner(SharedPrefixSampler(policy))
    report, _ = evaluate(world, reasoner, held_out(world, 8), world_grader(world))
    assert report["starts_at_once"]["value"] == 1.0  # the one thing that 60 steps suffice for


def test_a_world_with_nothing_held_out_trains_and_is_not_evaluated(tmp_path: Path) -> None:
    told: list[dict] = []
    result = train(train_config(tmp_path / "run", mazes__sizes=[2], steps=3), report=told.append)
    assert "there is no held-out maze of 2x2 by dfs" in result["not_evaluated"] and result["questions"] == 0
    assert "exact" not in result and result == json.loads((tmp_path / "run" / "eval.json").read_text())
    assert [list(line) for line in told if "note" in line] == [["note"]]
    assert not any(name.startswith("held_out_") for line in metrics(tmp_path / "run") for name in line)
    assert Policy.load(tmp_path / "run").model.num_parameters() > 0
    assert not (tmp_path / "run" / "samples.jsonl").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"steps": 0}, "steps: 0"),
        ({"optimizer__lr": -1.0}, "optimizer.lr: -1.0"),
        ({"optimizer__tokens_at_once": 0}, "optimizer.tokens_at_once: 0"),
        ({"mazes__sizes": [1]}, "sizes: 1x1"),
        ({"mazes__sizes": []}, "sizes: the list is empty"),
        ({"mazes__branches": 0}, "branches: 0"),
        ({"mazes__p": 2.0}, "p: 2.0"),
        ({"mazes__max_size": 2}, "mazes.max_size: 2"),
        ({"model__width": 30, "model__heads": 4}, "width: 30"),
        (
            {"world": "labyrinths"},
            "world: 'labyrinths' is not one of mazes, prompts, reasoning_gym or package.module:Class",
        ),
    ],
)
def test_bad_configs_are_named_before_anything_is_written(tmp_path: Path, changes: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        train(train_config(tmp_path / "run", **changes))
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_learning_rate() -> None:
    assert learning_rate(1.0, 0, 10, 0.0) == pytest.approx(0.1)
    assert learning_rate(1.0, 20, 10, 0.5) == pytest.approx(0.5)
    assert learning_rate(1.0, 20, 10, 1.0) == pytest.approx(0.0)
    assert learning_rate(1.0, 20, 10, 0.5, "constant") == 1.0
    assert [learning_rate(1.0, 20, 10, at, "wsd") for at in (0.25, 0.5, 0.75, 1.0, 1.1)] == [1.0, 1.0, 0.5, 0.0, 0.0]
    assert learning_rate(1.0, 0, 10, 0.75, "wsd") == pytest.approx(0.05)
