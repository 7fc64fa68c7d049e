"""Policies: built, loaded or refused, saved whole, taught tokens, and what their references say."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.path.dirname(__file__))
from clew.errors import InputError
from clew.learner import Learner
from clew.losses import token_nll
from clew.mazes.vocab import maze_tokenizer
from clew.policy import Policy, model_folder, pick_device, reference_nll, with_adapters
from clew.tree import SpanTree, TreeBatch

torch.set_num_threads(1)
THOUGHTS = [
    SpanTree([5, 6, t], "thought", 0.5, [SpanTree([7, 8 + t], "answer", w) for w in (1.0, -1.0)]) for t in range(4)
]
BATCH = TreeBatch.pack([SpanTree([3, 4, 5], "prompt", 0.0, THOUGHTS), SpanTree([9, 10], "answer", 1.0)], 0)


def policy(seed: int = 0) -> Policy:
    return Policy.build(maze_tokenizer(3), 1, 16, 2, seed=seed)


def weights(of: Policy) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in of.model.state_dict().items()}


def nll(of: Policy) -> torch.Tensor:
    with torch.no_grad():
        return token_nll(of.model, of.readable(BATCH))


def test_a_seed_fixes_the_weights_and_leaves_the_dice_alone() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    first, second, third = policy(1), policy(1), policy(2)
    assert torch.equal(torch.rand(3), wanted)
    assert all(torch.equal(weights(second)[name], value) for name, value in weights(first).items())
    assert not torch.equal(nll(first), nll(third))


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ((0, 16, 2), "layers, width, heads: 0, 16, 2 are not all at least 1"),
        ((1, 18, 2), "width: 18 is not a multiple"),
    ],
)
def test_sizes_that_cannot_be_are_named(sizes: tuple[int, int, int], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Policy.build(maze_tokenizer(3), *sizes)


def test_a_rotary_base_turns_neighbours_as_its_formula_says_and_is_kept(tmp_path: Path) -> None:
    made = Policy.build(maze_tokenizer(3), 1, 16, 2, rope_base=100.0)
    made.save(tmp_path)
    for one in (made, Policy.load(tmp_path)):
        turns = one.model.model.rotary_emb.inv_freq  # type: ignore[union-attr, operator]
        torch.testing.assert_close(turns, 100.0 ** -torch.tensor([0.0, 0.25, 0.5, 0.75]))
    other = Policy.build(maze_tokenizer(3), 1, 16, 2)
    assert all(torch.equal(weights(other)[name], value) for name, value in weights(made).items())
    assert not torch.equal(nll(other), nll(made))


def test_a_saved_policy_comes_back_whole_and_reads_as_any_model_does(tmp_path: Path) -> None:
    made = policy()
    told = nll(made)  # by now its attention reads trees, which is nobody else's business
    made.save(tmp_path / "run" / "model")
    assert "attn_implementation" not in (tmp_path / "run" / "model" / "config.json").read_text()
    for folder in (tmp_path / "run" / "model", tmp_path / "run"):
        loaded = Policy.load(folder)
        assert model_folder(folder) == tmp_path / "run" / "model"
        assert loaded.tokenizer.get_vocab() == made.tokenizer.get_vocab()
        assert torch.equal(nll(loaded), told)


def test_weights_may_take_half_the_room_and_open_as_before(tmp_path: Path) -> None:
    made = policy()
    made.save(tmp_path / "half", torch.float16)
    kept, loaded = load_file(tmp_path / "half" / "model.safetensors"), Policy.load(tmp_path / "half")
    assert {value.dtype for value in kept.values()} == {torch.float16} and loaded.model.dtype == torch.float32
    for name, value in weights(made).items():
        assert torch.equal(weights(loaded)[name], value.half().float())


def without_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.norm.weight")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def of_fewer_tokens(folder: Path) -> None:
    Policy.build(maze_tokenizer(2), 1, 16, 2).model.save_pretrained(folder)


def with_code_of_its_own(folder: Path) -> None:
    (folder / "own.py").write_text("raise KeyboardInterrupt\n")  # which nothing on the way would catch
    code = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    (folder / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": code}))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
    "no tokenizer": (lambda folder: (folder / "tokenizer_config.json").unlink(), "holds no tokenizer"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), r"holds no \*.safetensors"),
    "torn weights": (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 99), "cannot be loaded: "),
    "config of another kind": (lambda folder: (folder / "config.json").write_text("[]"), "cannot be loaded: "),
    "a tensor lacking": (without_a_tensor, "lacks weights of the model that its config.json describes: model.norm"),
    "code of its own": (with_code_of_its_own, "contains custom code"),
    "a larger tokenizer": (of_fewer_tokens, "more than its embeddings"),
}


@pytest.mark.parametrize("name", BAD)
def test_folders_that_cannot_be_loaded_are_named(tmp_path: Path, name: str) -> None:
    folder, (damage, says) = tmp_path / "model", BAD[name]
    policy().save(folder)
    damage(folder)
    with pytest.raises(InputError, match=f"^model: {folder} .*{says}") as caught:
        Policy.load(folder)
    assert str(caught.value).isprintable()


def test_what_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        Policy.load(tmp_path / "nothing")


def test_taught_tokens_have_rows_and_the_known_keep_theirs() -> None:
    made = policy()
    before = made.model.get_input_embeddings().weight.detach().clone()
    made.teach(["<new>", "(0,0)", "<other>"])
    after = made.model.get_input_embeddings().weight
    assert len(made.tokenizer) == len(before) + 2 == len(after)
    assert torch.equal(after[: len(before)], before)
    assert made.tokenizer.convert_tokens_to_ids("<other>") == len(before) + 1
    made.teach(["<new>"])
    assert len(made.tokenizer) == len(after)


def test_room_is_made_for_tokens_that_somebody_else_taught() -> None:
    made = policy()
    made.tokenizer.add_tokens(["<new>"])
    made.make_room()
    assert made.model.get_input_embeddings().weight.shape[0] == len(made.tokenizer)
    made.model.resize_token_embeddings(len(made.tokenizer) + 7)
    made.make_room()
    assert made.model.get_input_embeddings().weight.shape[0] == len(made.tokenizer) + 7  # never fewer


def test_adapters_share_their_base_and_one_of_them_is_saved_as_a_whole_model(tmp_path: Path) -> None:
    shoggoth, face = with_adapters(policy(), ("shoggoth", "face"), 2)
    assert shoggoth.model is face.model
    learner = Learner(face, lr=0.1)
    learner.update(BATCH)
    learned = nll(face)
    shoggoth.activate()
    untrained = nll(shoggoth)
    assert not torch.allclose(learned, untrained, atol=1e-3)
    for of, wanted in ((face, learned), (shoggoth, untrained)):
        of.save(tmp_path / str(of.adapter))
        torch.testing.assert_close(nll(Policy.load(tmp_path / str(of.adapter))), wanted, atol=1e-5, rtol=1e-5)
    config = json.loads((tmp_path / "face" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]


@pytest.mark.parametrize("attention", ["trees", "rows"])
def test_the_reference_of_an_adapter_is_its_base_bit_for_bit(attention: str) -> None:
    base = policy()
    base.attention = attention  # type: ignore[assignment]
    wanted = nll(base)
    _, face = with_adapters(base, ("shoggoth", "face"), 2)
    learner = Learner(face, lr=0.1)
    learner.update(BATCH)
    state, dice = weights(face), torch.get_rng_state()
    learnt = [name for name, p in face.model.named_parameters() if p.requires_grad]
    assert torch.equal(reference_nll(face, None, BATCH), wanted)
    torch.testing.assert_close(reference_nll(face, None, BATCH, tokens_at_once=11), wanted, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(nll(face), wanted, atol=1e-3)  # the adapter is on again,
    assert [name for name, p in face.model.named_parameters() if p.requires_grad] == learnt and face.model.training
    assert all(torch.equal(value, state[name]) for name, value in weights(face).items())
    assert torch.equal(torch.get_rng_state(), dice)
    learner.update(BATCH)
    assert not torch.equal(weights(face)[learnt[0]], state[learnt[0]])  # and learns


def test_other_references_are_frozen_policies_read_without_dropout() -> None:
    frozen, learning = policy(1), policy(2)
    wanted = nll(frozen)
    frozen.model.config.attention_dropout = 0.5
    for module in frozen.model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5  # type: ignore[assignment]
    frozen.model.train()
    given = reference_nll(learning, frozen, BATCH)
    assert torch.equal(given, wanted) and not given.requires_grad and frozen.model.training
    with pytest.raises(InputError, match=r"^reference: a policy without an adapter needs a frozen policy"):
        reference_nll(learning, None, BATCH)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_device("cpu") == torch.device("cpu")
    for there, best in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert pick_device("auto") == torch.device(best)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "mps"):
        with pytest.raises(InputError, match=f"device: {name} is not available here"):
            pick_device(name)
