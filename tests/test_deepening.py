"""Layers added to a trained model: it says the same, learns in all of them, and is refused where it would not."""

from pathlib import Path

import pytest
import torch

from clew.deepening import deepen
from clew.errors import InputError
from clew.mazes.vocab import maze_tokenizer
from clew.policy import Policy
from clew.train.supervised import train
from models import tiny
from small import train_config


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("more", [1, 2, 5])
def test_it_says_the_same_and_every_new_layer_learns(kind: str, more: int) -> None:
    policy = Policy(tiny(kind), maze_tokenizer(3))
    model = policy.model
    tokens_BT = torch.randint(0, 40, (3, 11))
    before = model(tokens_BT).logits
    with torch.no_grad():
        old = [layer.self_attn.q_proj.weight.clone() for layer in model.model.layers]
    deepen(policy, more)
    layers = model.model.layers
    assert len(layers) == model.config.num_hidden_layers == 3 + more
    assert [layer.self_attn.layer_idx for layer in layers] == list(range(3 + more))
    torch.testing.assert_close(model(tokens_BT).logits, before)
    kept = [weight for weight in old if any(torch.equal(weight, layer.self_attn.q_proj.weight) for layer in layers)]
    assert len(kept) == 3
    model(tokens_BT, labels=tokens_BT).loss.backward()
    silent = [layer for layer in layers if not layer.mlp.down_proj.weight.any()]
    assert len(silent) == more
    assert all(layer.mlp.down_proj.weight.grad.any() and layer.self_attn.o_proj.weight.grad.any() for layer in silent)


def test_new_layers_lie_between_the_old_ones() -> None:
    policy = Policy.build(maze_tokenizer(3), 4, 16, 2)
    deepen(policy, 2)
    silent = [not layer.mlp.down_proj.weight.any() for layer in policy.model.model.layers]  # type: ignore[union-attr]
    assert silent == [False, False, True, False, True, False]


def test_it_opens_again_as_any_folder(tmp_path: Path) -> None:
    policy = Policy.build(maze_tokenizer(3), 1, 16, 2)
    deepen(policy, 1)
    policy.save(tmp_path / "model")
    tokens_BT = torch.arange(9)[None]
    torch.testing.assert_close(Policy.load(tmp_path / "model").model(tokens_BT).logits, policy.model(tokens_BT).logits)


@pytest.mark.parametrize("kind", ["gpt2", "neox"])
def test_other_layers_are_refused(kind: str) -> None:
    with pytest.raises(InputError, match=r"model\.add_layers: \w+ has no layers of Llama's kind"):
        deepen(Policy(tiny(kind), maze_tokenizer(3)), 1)


def test_a_run_goes_on_with_more_layers_and_resumes(tmp_path: Path) -> None:
    train(train_config(tmp_path / "small"))
    options = {"model__folder": str(tmp_path / "small"), "model__add_layers": 2}
    options["optimizer__schedule"] = "constant"  # so that a run of two steps is the beginning of one of six
    train(train_config(tmp_path / "whole", **options))
    train(train_config(tmp_path / "parts", **options, steps=2))
    train(train_config(tmp_path / "parts", **options), resume=True)
    whole, parts = (Policy.load(tmp_path / name).model for name in ("whole", "parts"))
    assert whole.config.num_hidden_layers == 3
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("folder", "more", "says"), [(None, 1, "is for the model of a folder"), (None, -1, "at least")]
)
def test_bad_counts_are_refused(folder: str | None, more: int, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"model\.add_layers: .*{says}"):
        train(train_config(tmp_path / "run", model__folder=folder, model__add_layers=more))
    assert not (tmp_path / "run").exists()
