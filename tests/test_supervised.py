"""The training loop: resume after kill -9 bit for bit, NaN, folders in use, learning at all."""

import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clew import evaluate as ev
from clew import runs, supervised
from clew.config import MazeConfig, TrainConfig
from clew.errors import InputError
from clew.learner import LossNotFinite, learning_rate
from clew.policy import Policy

TINY = ["--layers", "1", "--width", "16", "--heads", "2", "--mazes.sizes", "[3]", "--mazes.branches", "2",
        "--mazes.per_step", "2", "--warmup", "3", "--eval_mazes", "8", "--probe_every", "0",
        "--log_every", "1"]  # fmt: skip


def tiny_config(out: Path, **changes) -> TrainConfig:
    config = TrainConfig(
        MazeConfig(sizes=[3], branches=2, per_step=2), layers=1, width=16, heads=2, steps=6, warmup=2, eval_mazes=8,
        probe_every=3, probe_mazes=4, log_every=1, checkpoint_every=2, out=str(out),
    )  # fmt: skip
    for name, value in changes.items():
        setattr(config, name, value)
    return config


def clew(*args: str, **options) -> subprocess.Popen:
    env = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen([sys.executable, "-m", "clew", *args], env=env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)  # fmt: skip


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def test_a_run_folder_holds_what_the_design_says(tmp_path: Path) -> None:
    result = supervised.train(tiny_config(tmp_path / "run"))
    run = tmp_path / "run"
    for name in ("config.yaml", "metrics.jsonl", "eval.json", "samples.jsonl", "model/model.safetensors",
                 "model/tokenizer.json", "model/README.md",
                 "plots/training.png", "plots/mazes.png", "plots/accuracy.png"):  # fmt: skip
        assert (run / name).is_file(), name
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert "held_out_exact" in lines[2]
    evaluation = json.loads((run / "eval.json").read_text())
    assert evaluation["mazes"] == result["mazes"] == 8
    assert {"command", "versions", "machine", "held_out", "baseline"} <= set(evaluation)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["step-000004", "step-000006"]
    assert not list(run.rglob(".*.part"))


def test_muon_resumes_like_adamw(tmp_path: Path) -> None:
    options = {"optimizer": "muon", "steps": 4, "probe_every": 0, "checkpoint_every": 2}
    supervised.train(tiny_config(tmp_path / "whole", **options))
    supervised.train(tiny_config(tmp_path / "part", **options | {"schedule": "cosine"}))
    shutil.rmtree(tmp_path / "part" / "checkpoints" / "step-000004")  # as if killed after step 2
    supervised.train(tiny_config(tmp_path / "part", **options), resume=True)
    ours, reference = weights(tmp_path / "part"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], reference[name]) for name in reference)


@pytest.mark.parametrize("loss", ["full", "weighted", "graded"])
def test_every_loss_learns(tmp_path: Path, loss: str) -> None:
    supervised.train(tiny_config(tmp_path / "run", loss=loss, steps=40, lr=1e-2, probe_every=0, checkpoint_every=0))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]


def test_steps_probes_and_checkpoints_leave_no_tensor_behind(tmp_path: Path) -> None:
    alive = []

    def count(values: dict) -> None:
        gc.collect()
        alive.append(sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects()))

    supervised.train(tiny_config(tmp_path / "run", optimizer="muon", steps=24), report=count)
    assert alive[5] == alive[11] == alive[17]  # the same place in the rhythm of probes and checkpoints


def test_kill_9_at_any_moment_and_resume_ends_in_the_same_weights(tmp_path: Path) -> None:
    options = [*TINY, "--steps", "60", "--checkpoint_every", "7"]
    whole = clew("train", *options, "--out", str(tmp_path / "whole"))
    assert whole.wait() == 0, whole.stderr.read()
    run, rng, kills = tmp_path / "killed", random.Random(0), 0
    first = clew("train", *options, "--out", str(run))
    process = first
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
        process = clew("train", "--resume", str(run))
    assert process.wait() == 0, process.stderr.read()
    assert kills >= 1
    ours, reference = weights(run), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], reference[name]) for name in reference)
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 61))


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(LossNotFinite, match=r"step \d+: the loss is .*checkpoint"):
        supervised.train(tiny_config(tmp_path / "run", lr=1e30, warmup=0, schedule="constant", steps=50,
                                     checkpoint_every=1))  # fmt: skip
    last = runs.latest_checkpoint(tmp_path / "run")
    assert last is not None
    assert all(t.isfinite().all() for t in load_file(last / "model" / "model.safetensors").values())


def test_a_torn_checkpoint_is_passed_over_for_the_last_whole_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    supervised.train(tiny_config(run))
    before, last = weights(run), run / "checkpoints" / "step-000006" / "optimizer.safetensors"
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"step-000006 is torn .*optimizer.safetensors cannot.* from step-000004"):
        supervised.train(tiny_config(run), resume=True)
    assert all(torch.equal(weights(run)[name], before[name]) for name in before)
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3, 4, 5, 6]
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"step-000004", "step-000006", "torn-step-000006"}
    for checkpoint in runs.checkpoints(run):
        (checkpoint / "model" / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(InputError, match="has no whole checkpoint left"):
        supervised.train(tiny_config(run), resume=True)


def test_a_rate_that_changes_on_resume_holds_from_there_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {"probe_every": 0, "warmup": 0, "schedule": "constant"}
    supervised.train(tiny_config(tmp_path / "run", **plain, steps=4, lr=1e-2, weight_decay=0.0))
    supervised.train(tiny_config(tmp_path / "run", **plain, steps=6, lr=1e-3, weight_decay=0.5), resume=True)
    update = supervised.Learner.update

    def by_hand(self, batch, objective, lr):
        steps.append(lr)
        for group in self.optimizers[0].param_groups:
            group["weight_decay"] = 0.5 if len(steps) > 4 and group["params"][0].ndim > 1 else 0.0
        return update(self, batch, objective, 1e-2 if len(steps) <= 4 else 1e-3)

    steps: list[float] = []
    monkeypatch.setattr(supervised.Learner, "update", by_hand)
    supervised.train(tiny_config(tmp_path / "whole", **plain, steps=6))
    ours, reference = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], reference[name]) for name in reference)


@pytest.mark.parametrize("changes", [{"optimizer": "muon"}, {"width": 32}, {"seed": 1}, {"loss": "full"}])
def test_what_a_run_is_may_not_change_on_resume(tmp_path: Path, changes: dict) -> None:
    run = tmp_path / "run"
    supervised.train(tiny_config(run, steps=2, probe_every=0))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    ((name, value),) = changes.items()
    with pytest.raises(InputError, match=f"^{name}: this run began with .* and going on with {value!r} would"):
        supervised.train(tiny_config(run, steps=4, probe_every=0, **changes), resume=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_seed_fixes_new_rows_and_dropout(tmp_path: Path) -> None:
    """Of a model that draws: begun anew with the same seed, and resumed, it ends in the same weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from clew.mazes.vocab import maze_tokenizer

    tokenizer = maze_tokenizer(2)  # it has no tokens yet for the cells of larger mazes
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=256,
                                       bos_token_id=None, eos_token_id=tokenizer.eos_token_id))  # fmt: skip
    Policy(model, tokenizer).save(tmp_path / "gpt2")
    for name in ("whole", "again", "part"):
        config = tiny_config(tmp_path / name, model=str(tmp_path / "gpt2"), steps=4, probe_every=0)
        supervised.train(config)
    shutil.rmtree(tmp_path / "part" / "checkpoints" / "step-000004")
    supervised.train(config, resume=True)
    whole = weights(tmp_path / "whole")
    for name in ("again", "part"):
        assert all(torch.equal(value, whole[key]) for key, value in weights(tmp_path / name).items())


def test_one_run_a_folder(tmp_path: Path) -> None:
    first, second = (runs.run_folder(tmp_path / "run", resume=False) for _ in range(2))
    with first, pytest.raises(InputError, match="in use"), second:
        pass
    supervised.train(tiny_config(tmp_path / "other", steps=1, probe_every=0))
    with pytest.raises(InputError, match="already holds a run"):
        supervised.train(tiny_config(tmp_path / "other"))
    with pytest.raises(InputError, match="holds no run"):
        supervised.train(tiny_config(tmp_path / "nothing"), resume=True)


def test_starting_from_a_model_folder(tmp_path: Path) -> None:
    supervised.train(tiny_config(tmp_path / "first", steps=2, probe_every=0))
    start = str(tmp_path / "first" / "model")
    supervised.train(tiny_config(tmp_path / "second", steps=1, model=start, lr=1e-12, warmup=0, probe_every=0))
    before, after = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    larger = tiny_config(tmp_path / "third", model=start, mazes=MazeConfig(sizes=[4], branches=2, per_step=2), steps=1)
    supervised.train(larger)  # cells that it had no tokens for are added
    assert ev.cells_known(Policy.load(tmp_path / "third")) == 4


def test_starting_from_a_model_with_a_tokenizer_of_its_own(tmp_path: Path) -> None:
    """A GPT-2 with a byte-level tokenizer learns the maze tokens as new words, under ids that are not Clew's."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    letters = pre_tokenizers.ByteLevel.alphabet()
    words = Tokenizer(models.BPE({letter: i for i, letter in enumerate([*letters, "<eos>"])}, []))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>")
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=256,
                                       bos_token_id=None, eos_token_id=tokenizer.eos_token_id))  # fmt: skip
    Policy(model, tokenizer).save(tmp_path / "gpt2")
    run = tmp_path / "run"
    supervised.train(tiny_config(run, model=str(tmp_path / "gpt2"), steps=60, lr=2e-2, loss="graded", probe_every=0))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    policy = Policy.load(run)
    assert type(policy.model).__name__ == "GPT2LMHeadModel" and ev.cells_known(policy) == 3
    report, _ = ev.evaluate(policy, ev.balanced_items(policy, ((3, 3),), ("dfs",), 0.1, 8, seed=0))
    assert report["starts_at_once"]["value"] == 1.0  # the one thing that 60 steps suffice for


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"steps": 0}, "steps: 0"),
        ({"lr": -1.0}, "lr: -1.0"),
        ({"mazes": MazeConfig(sizes=[1])}, "sizes: 1x1"),
        ({"mazes": MazeConfig(sizes=[])}, "sizes: the list is empty"),
        ({"mazes": MazeConfig(branches=0)}, "branches: 0"),
        ({"mazes": MazeConfig(p=2.0)}, "p: 2.0"),
        ({"max_size": 2}, "max_size: 2"),
        ({"width": 30, "heads": 4}, "width: 30"),
    ],
)
def test_bad_configs_are_named_before_anything_is_written(tmp_path: Path, changes: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        supervised.train(tiny_config(tmp_path / "run", **changes))
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_learning_rate() -> None:
    assert learning_rate(1.0, 0, 10, 0.0) == pytest.approx(0.1)
    assert learning_rate(1.0, 20, 10, 0.5) == pytest.approx(0.5)
    assert learning_rate(1.0, 20, 10, 1.0) == pytest.approx(0.0)
    assert learning_rate(1.0, 20, 10, 0.5, "constant") == 1.0
