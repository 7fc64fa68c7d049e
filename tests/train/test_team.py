"""Who is trained: how often a model is read and held, and adapters that learn from the warm start on."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from clew.config import OptimizerConfig
from clew.errors import InputError
from clew.memory import tokens_that_fit
from clew.policy import Policy, reference_nll
from clew.train import team, warm
from clew.train.rounds import split
from clew.train.team import team_of, warm_policies
from clew.tree import SpanTree, TreeBatch
from small import WORLD, metrics, same_weights, split_config

BATCH = TreeBatch.pack([SpanTree([3, 4, 5], "prompt", 0.0, [SpanTree([7, 8], "answer", 1.0)])], 0)
SHORT: dict[str, Any] = {"warm_start__steps": 6, "warm_start__optimizer__warmup": 1, "validation_questions": 4}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folder") / "model"
    Policy.build(WORLD.tokenizer, 1, 16, 2, seed=3).save(folder)
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that weights are read from by transformers."""
    found: list[str] = []
    real = PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]

    def counted(cls: type, folder: Any, *args: Any, **kwargs: Any) -> Any:
        found.append(str(folder))
        return real(cls, folder, *args, **kwargs)

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(counted))
    return found


@pytest.mark.parametrize("policies", ["two", "one", "adapters", "adapter"])
def test_a_model_is_read_once_and_no_second_time_on_resume(
    tmp_path: Path, model: Path, reads: list[str], policies: str
) -> None:
    changes = SHORT | {"policies": policies, "model__folder": str(model), "rounds": 1, "final_questions": 4}
    split(split_config(tmp_path / "run", **changes))
    assert reads == [str(model)]
    reads.clear()
    split(split_config(tmp_path / "run", **changes | {"rounds": 2}), resume=True)
    names = ["shoggoth", "face"] if policies == "two" else ["shoggoth"]
    assert reads == [str(tmp_path / "run" / "warm" / name) for name in names]


def test_policies_from_one_folder_learn_apart(tmp_path: Path, model: Path) -> None:
    config = split_config(tmp_path, **SHORT, model__folder=str(model), rounds=0)
    split(config)
    assert not same_weights(tmp_path / "warm" / "shoggoth", tmp_path / "warm" / "face")
    shoggoth, face = warm_policies(config, tmp_path / "warm")[0].values()
    assert shoggoth.model is not face.model


def nll(policy: Policy) -> torch.Tensor:
    with torch.no_grad():
        return policy.model.eval()(BATCH.tokens_BT).logits.log_softmax(-1)


@pytest.mark.parametrize(("policies", "names"), [("adapters", ["face", "shoggoth"]), ("adapter", ["shoggoth"])])
def test_adapters_on_a_folder_s_model_learn_the_warm_start(
    tmp_path: Path, model: Path, policies: str, names: list[str]
) -> None:
    changes = SHORT | {"policies": policies, "model__folder": str(model), "rank": 2}
    changes |= {"objective__kl": 0.1, "optimizer__lr": 1e-2, "grader": ["models:length"]}
    config = split_config(tmp_path, **changes, rounds=2, final_questions=4)
    split(config)
    assert same_weights(tmp_path / "warm" / "shoggoth", model)  # the base stays as it was
    losses = {name: metrics(tmp_path / "imitation" / name)[-1]["loss"] for name in names}
    assert len(losses) == len(set(losses.values()))
    held = load_file(tmp_path / "warm" / warm.ADAPTERS)
    for name in names:
        assert any(f".lora_B.{name}." in key and value.abs().max() > 1e-4 for key, value in held.items())
    kl = [line[f"{name}_kl"] for line in metrics(tmp_path)[1:] for name in names]
    assert kl[: len(names)] == pytest.approx([0.0] * len(names), abs=1e-6) and max(kl[len(names) :]) > 0
    policies_now = warm_policies(config, tmp_path / "warm")[0]
    members = team_of(config, policies_now, Accelerator(cpu=True)).members
    assert sorted(members) == names
    for member in members.values():
        member.policy.activate()
        before = nll(member.policy)
        for parameter in member.learner.parameters:
            if parameter.requires_grad:
                parameter.data += 0.1
        assert not torch.allclose(nll(member.policy), before, atol=1e-3)
        told = reference_nll(member.policy, member.frozen, BATCH)
        wanted = -before[0, [2, 3], BATCH.targets_S]
        torch.testing.assert_close(told, wanted, atol=1e-5, rtol=1e-5)
        learnt = {name for name, p in member.policy.model.named_parameters() if p.requires_grad}
        assert learnt and all(f".{member.policy.adapter}." in name for name in learnt)


def test_adapters_on_a_new_model_come_after_its_warm_start(tmp_path: Path) -> None:
    """Of random weights an adapter can make nothing: there the model itself imitates."""
    split(split_config(tmp_path, **SHORT, policies="adapters", rounds=0))
    assert sorted(path.name for path in (tmp_path / "warm").iterdir()) == ["shoggoth"]
    assert sorted(path.name for path in (tmp_path / "imitation").iterdir()) == ["shoggoth"]


def test_the_adapter_itself_stands_beside_the_merged_model(tmp_path: Path, model: Path) -> None:
    split(split_config(tmp_path, **SHORT, policies="adapter", model__folder=str(model), rounds=1, final_questions=4))
    merged = Policy.load(tmp_path / "shoggoth")
    base = AutoModelForCausalLM.from_pretrained(model)
    apart = PeftModel.from_pretrained(base, str(tmp_path / "shoggoth" / "adapter"))
    torch.testing.assert_close(nll(Policy(apart, merged.tokenizer)), nll(merged), atol=1e-5, rtol=1e-5)  # type: ignore[arg-type]
    assert not torch.allclose(nll(merged), nll(Policy.load(model)), atol=1e-3)
    told = json.loads((tmp_path / "shoggoth" / "adapter" / "adapter_config.json").read_text())
    assert told["target_modules"] == sorted(told["target_modules"])  # the same file whatever process writes it
    assert told["base_model_name_or_path"] == str(model) and told["inference_mode"]


def test_a_warm_folder_with_other_adapters_is_named(tmp_path: Path, model: Path) -> None:
    changes = SHORT | {"policies": "adapters", "model__folder": str(model), "rounds": 0}
    split(split_config(tmp_path, **changes))
    (tmp_path / "warm" / warm.ADAPTERS).write_bytes(b"\xff" * 99)
    with pytest.raises(InputError, match=r"^resume: .*warm is torn \(its adapters.safetensors cannot be read"):
        warm_policies(split_config(tmp_path, **changes), tmp_path / "warm")
    other = split_config(tmp_path / "other", **changes, rank=4)
    split(other)
    (tmp_path / "other" / "warm" / warm.ADAPTERS).rename(tmp_path / "warm" / warm.ADAPTERS)
    with pytest.raises(InputError, match="holds other adapters"):
        warm_policies(split_config(tmp_path, **changes), tmp_path / "warm")


@pytest.mark.parametrize(("precision", "policies"), [("bf16", "adapter"), ("fp32", "adapter"), ("bf16", "one")])
def test_what_learns_is_float32_and_a_base_that_stands_still_as_small_as_asked(
    tmp_path: Path, model: Path, other_precision: None, precision: str, policies: str
) -> None:
    half = tmp_path / "half"
    Policy.load(model, torch.bfloat16).save(half)
    changes = SHORT | {"policies": policies, "model__folder": str(half), "precision": precision, "final_questions": 4}
    changes |= {"grader": ["models:length"], "model__gradient_checkpointing": True}
    config = split_config(tmp_path / "run", **changes, rounds=2, optimizer__lr=1e-2)
    split(config)
    held = warm_policies(config, tmp_path / "run" / "warm")[0]["shoggoth"].model
    still = {p.dtype for name, p in held.named_parameters() if "lora_" not in name}
    assert still == {torch.bfloat16 if policies == "adapter" and precision == "bf16" else torch.float32}
    assert {p.dtype for name, p in held.named_parameters() if "lora_" in name} <= {torch.float32}
    losses = [line["loss"] for line in metrics(tmp_path / "run" / "imitation" / "shoggoth")]
    assert losses and all(loss > 0 for loss in losses)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000002")
    before = load_file(tmp_path / "run" / "shoggoth" / "model.safetensors")
    split(config, resume=True)
    after = load_file(tmp_path / "run" / "shoggoth" / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_large_model_has_a_budget_of_tokens_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, options = Policy.build(WORLD.tokenizer, 2, 16, 2), OptimizerConfig()
    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr(team, "machine_memory", lambda: 2**22)
    assert team.learner_for(policy, options, accelerator).tokens_at_once is None
    monkeypatch.setattr(team, "LARGE", 1000)
    usual = team.learner_for(policy, options, accelerator).tokens_at_once
    assert usual == tokens_that_fit(2, 16, 4, False, 2**22) == 100
    policy.checkpoint_layers()
    assert team.learner_for(policy, options, accelerator).tokens_at_once == tokens_that_fit(2, 16, 4, True, 2**22) > 200
    options.tokens_at_once = 7
    assert team.learner_for(policy, options, accelerator).tokens_at_once == 7
