"""Checkpoints of a learner: optimizer states by name, and nothing taken up from a folder that is torn or another's."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from clew.errors import InputError
from clew.learner import Learner
from clew.mazes.vocab import maze_tokenizer
from clew.policy import Policy, with_adapters
from clew.tree import SpanTree, TreeBatch

torch.set_num_threads(1)
BATCH = TreeBatch.pack([SpanTree([3, 4], "prompt", 0.0, [SpanTree([5, 6, 7], "answer", 0.5)])], 0)


def learner(muon: float = 0.0, width: int = 16, steps: int = 2, rank: int = 0) -> Learner:
    policy = Policy.build(maze_tokenizer(3), 1, width, 2, seed=width)
    made = Learner(with_adapters(policy, ("shoggoth", "face"), rank)[1] if rank else policy, muon=muon)
    for _ in range(steps):
        made.update(BATCH)
    return made


def state_of(made: Learner) -> list[torch.Tensor]:
    """All that learns and all that it is remembered by."""
    kept = [p.detach().clone() for p in made.policy.model.parameters()]
    for optimizer in made.optimizers:
        for _, slots in sorted(optimizer.state_dict()["state"].items()):
            kept += [value.clone() for _, value in sorted(slots.items()) if torch.is_tensor(value)]
    return kept


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("options", [{}, {"muon": 2.0}, {"rank": 2}])
def test_a_saved_learner_goes_on_as_if_it_had_not_stopped(tmp_path: Path, options: dict) -> None:
    first = learner(**options)
    first.save(tmp_path / "kept", {"step": 2})
    dice = torch.rand(3)
    first.update(BATCH)
    second = learner(**options, steps=0)
    assert second.load(tmp_path / "kept") == {"step": 2}
    assert torch.equal(torch.rand(3), dice)
    second.update(BATCH)
    assert same(state_of(first), state_of(second))
    names = {key.split(".", 1)[1].rpartition(".")[0] for key in load_file(tmp_path / "kept" / "optimizer.safetensors")
             if key != "rng"}  # fmt: skip
    assert names == {name for name, p in first.policy.model.named_parameters() if p.requires_grad}


def test_states_find_their_parameters_whatever_their_order(tmp_path: Path) -> None:
    first = learner()
    first.save(tmp_path / "kept", {})
    second = learner(steps=0)
    for group in second.optimizers[0].param_groups:
        group["params"].reverse()
    second.load(tmp_path / "kept")
    (a,), (b,) = first.optimizers, second.optimizers
    for p, q in zip(first.policy.model.parameters(), second.policy.model.parameters(), strict=True):
        assert torch.equal(a.state[p]["exp_avg"], b.state[q]["exp_avg"])


def test_folders_from_before_states_were_named(tmp_path: Path) -> None:
    first = learner(muon=2.0)
    first.save(tmp_path / "kept", {})
    file, numbered = tmp_path / "kept" / "optimizer.safetensors", {}
    for key, value in load_file(file).items():
        number, _, rest = key.partition(".")
        name, _, slot = rest.rpartition(".")
        index = first._names(first.optimizers[int(number)]).index(name) if rest else 0
        numbered[f"{number}.{index}.{slot}" if rest else key] = value
    save_file(numbered, file)
    second = learner(muon=2.0, steps=0)
    second.load(tmp_path / "kept")
    assert same(state_of(first), state_of(second))


def cut(name: str, size: int = 200) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def holding(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def lacking_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model" / "model.safetensors")
    tensors.pop("model.layers.0.mlp.up_proj.weight")
    save_file(tensors, folder / "model" / "model.safetensors", {"format": "pt"})


def changed(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / "optimizer.safetensors")
        change(tensors)
        save_file(tensors, folder / "optimizer.safetensors")

    return damage


NORM = "0.model.norm.weight.exp_avg"
DAMAGES = {
    "state cut": (cut("state.json", 5), "state.json cannot be read"),
    "state empty": (holding("state.json", b""), "state.json cannot be read"),
    "state binary": (holding("state.json", bytes(range(256))), "state.json cannot be read"),
    "state deep": (holding("state.json", b"[" * 100_000), "state.json cannot be read"),
    "state a list": (holding("state.json", b"[]"), "holds no object"),
    "state gone": (without("state.json"), "has no state.json"),
    "state without optimizer": (holding("state.json", b"{}"), "nothing of the optimizer"),
    "optimizer of text": (holding("state.json", b'{"optimizer": 3}'), "nothing of the optimizer"),
    "optimizer cut": (cut("optimizer.safetensors", 3000), "optimizer.safetensors cannot be read"),
    "optimizer empty": (holding("optimizer.safetensors", b""), "optimizer.safetensors cannot be read"),
    "optimizer garbage": (holding("optimizer.safetensors", b"\xff" * 5000), "optimizer.safetensors cannot be read"),
    "optimizer gone": (without("optimizer.safetensors"), "has no optimizer.safetensors"),
    "no dice": (changed(lambda t: t.pop("rng")), "no random state"),
    "other dice": (changed(lambda t: t.update(rng=t["rng"][:9].clone())), "no random state"),
    "half a state": (changed(lambda t: t.pop(NORM)), "lacks a part"),
    "another shape": (changed(lambda t: t.update({NORM: torch.zeros(3)})), "another optimizer or model"),
    "another name": (changed(lambda t: t.update({NORM + "_new": t.pop(NORM)})), "another optimizer or model"),
    "weights cut": (cut("model/model.safetensors", 3000), "cannot be loaded"),
    "weights garbage": (holding("model/model.safetensors", b"\xff" * 5000), "cannot be loaded"),
    "weights gone": (without("model/model.safetensors"), "no \\*.safetensors"),
    "a weight lacking": (lacking_a_tensor, "lacks weights"),
    "config cut": (cut("model/config.json"), "cannot be loaded"),
    "config gone": (without("model/config.json"), "no config.json"),
    "tokenizer cut": (cut("model/tokenizer.json"), "cannot be loaded"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_torn_folder_is_refused_before_anything_is_changed(tmp_path: Path, name: str) -> None:
    damage, says = DAMAGES[name]
    learner().save(tmp_path / "kept", {"step": 2})
    damage(tmp_path / "kept")
    second = learner(steps=1)
    before = state_of(second)
    with pytest.raises(InputError, match=says) as caught:
        second.load(tmp_path / "kept")
    assert "\n" not in str(caught.value)
    assert same(state_of(second), before)


@pytest.mark.parametrize(
    ("saved", "own", "says"),
    [
        ({}, {"muon": 2.0}, "another optimizer"),
        ({"muon": 2.0}, {}, "another optimizer"),
        ({}, {"width": 32}, r"another model: .* the shape \(\d+, 16\) and not \(\d+, 32\)"),
        ({"rank": 2}, {"rank": 4}, "another model: .* the shape"),
        ({"rank": 2}, {}, "is not a folder"),
        ({}, {"rank": 2}, "has no adapter.safetensors"),
    ],
)
def test_another_model_or_optimizer_is_refused(tmp_path: Path, saved: dict, own: dict, says: str) -> None:
    learner(**saved).save(tmp_path / "kept", {})
    second = learner(**own)
    before = state_of(second)
    with pytest.raises(InputError, match=says):
        second.load(tmp_path / "kept")
    assert same(state_of(second), before)


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    learner().save(tmp_path / "kept", {})
    suffixes = {path.suffix for path in (tmp_path / "kept").rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".safetensors", ".jinja"}
    assert isinstance(json.loads((tmp_path / "kept" / "state.json").read_text()), dict)
