"""Losses and all gradients: trees against plain rows, weights, the graded loss, and TransformerLens."""

import math
import os
import sys

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

sys.path.insert(0, os.path.dirname(__file__))
from clew import SpanTree, TreeBatch
from clew.errors import InputError
from clew.losses import graded_nll, token_nll, weighted_nll
from clew.mazes import MazeStream
from clew.supervised import maze_batch
from models import MAKERS, tiny
from shapes import bushy, caterpillar, crooked, lopsided, staggered

# Llama and Qwen3 normalise in float32 whatever their weights are in, so sums over 5 or over 50 rows round apart.
LOSS_TOLERANCE, GRAD_TOLERANCE = 1e-10, {"llama": 2e-5, "qwen3": 2e-5}


def random_tree(depth: int, seed: int) -> SpanTree:
    draw = torch.Generator().manual_seed(seed)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=draw))

    def span(left: int, root: bool = False) -> SpanTree:
        tokens = [number(2, 40) for _ in range(number(1 if root else 0, 7))]
        children = [span(left - 1) for _ in range(number(1, 4))] if left else []
        return SpanTree(tokens, "answer", [0.0, 1.0, -0.5, 2.0][number(0, 4)], children)

    return span(depth, root=True)


def gradients(model: torch.nn.Module, loss: Tensor) -> list[Tensor]:
    model.zero_grad()
    loss.backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("depth", [0, 1, 2, 4])
def test_tree_equals_its_rows_gradients_included(kind: str, depth: int) -> None:
    batch = TreeBatch.pack([random_tree(depth, seed) for seed in range(5)], pad_token_id=0)
    by_tree, by_rows = tiny(kind), tiny(kind)
    torch.testing.assert_close(
        token_nll(by_tree, batch), token_nll(by_rows, batch.flatten()), atol=LOSS_TOLERANCE, rtol=0
    )
    ours = gradients(by_tree, weighted_nll(by_tree, batch))
    reference = gradients(by_rows, weighted_nll(by_rows, batch.flatten()))
    assert any(g.abs().max() > 0.01 for g in reference)
    tolerance = GRAD_TOLERANCE.get(kind, 1e-10)
    for mine, theirs in zip(ours, reference, strict=True):
        torch.testing.assert_close(mine, theirs, atol=tolerance, rtol=tolerance)


def hold_together(tree: SpanTree) -> None:
    batch, by_tree, by_rows = TreeBatch.pack([tree], 0), tiny("neox"), tiny("neox")
    mine, theirs = weighted_nll(by_tree, batch), weighted_nll(by_rows, batch.flatten())
    torch.testing.assert_close(mine, theirs, atol=1e-8, rtol=1e-8)
    for a, b in zip(gradients(by_tree, mine), gradients(by_rows, theirs), strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize(
    "tree",
    [
        caterpillar(22, 10, 10),
        caterpillar(200, 1, 1),
        staggered(40, 30),
        bushy(300, 300),
        bushy(10, 1990),
        lopsided(300, 50),
    ],
)
def test_trees_of_awkward_shapes_equal_their_rows(tree: SpanTree) -> None:
    hold_together(tree)


@settings(deadline=None, max_examples=10)
@given(crooked(spans=40))
def test_trees_of_any_shape_equal_their_rows(tree: SpanTree) -> None:
    hold_together(tree)


@pytest.mark.parametrize("loss", ["path", "full", "weighted", "graded"])
def test_maze_forest_equals_its_rows(loss: str) -> None:
    forest = MazeStream(((3, 3), (4, 2)), ("dfs", "percolation"), p=0.6, branches=3).forest(range(4), choices=True)
    batch = maze_batch(forest, loss, 0.1)
    model, vocab = graded_nll if loss == "graded" else token_nll, 64
    by_tree, by_rows = tiny("gpt2", vocab), tiny("gpt2", vocab)
    mine, theirs = model(by_tree, batch), model(by_rows, batch.flatten())
    torch.testing.assert_close(mine, theirs, atol=LOSS_TOLERANCE, rtol=0)
    for a, b in zip(gradients(by_tree, mine.sum()), gradients(by_rows, theirs.sum()), strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


def test_weight_zero_means_no_gradient_whatever_the_logits() -> None:
    """The unsupervised branch's own tokens differ, and nothing that is learnt changes."""
    trees = [SpanTree([5, 6, 7], "prompt", 0.0, [SpanTree([8, 9], "answer", 1.0), SpanTree([t, t], "answer", 0.0)])
             for t in (10, 30)]  # fmt: skip
    models = [tiny("llama"), tiny("llama")]
    first, second = (
        gradients(model, weighted_nll(model, TreeBatch.pack([tree], 0)))
        for model, tree in zip(models, trees, strict=True)
    )
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    head = models[0].get_output_embeddings().weight
    batch = TreeBatch.pack([trees[0]], 0)
    assert head.grad is not None and len(batch.targets_S) == 2


def test_logits_are_computed_at_supervised_positions_alone() -> None:
    model, rows = tiny("llama"), []
    model.get_output_embeddings().register_forward_hook(lambda module, args, output: rows.append(output.shape))
    token_nll(
        model, TreeBatch.pack([SpanTree(list(range(2, 30)), "prompt", 0.0, [SpanTree([3, 4], "answer", 1.0)])], 0)
    )
    assert rows == [(1, 2, 40)]


def test_gradient_checkpointing_changes_nothing() -> None:
    batch = TreeBatch.pack([random_tree(2, 7)], 0)
    plain, frugal = tiny("llama"), tiny("llama").train()
    frugal.gradient_checkpointing_enable()
    for a, b in zip(gradients(plain, weighted_nll(plain, batch)), gradients(frugal, weighted_nll(frugal, batch)),
                    strict=True):  # fmt: skip
        torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-7)


def test_model_still_generates_after_reading_trees() -> None:
    model, untouched = tiny("llama"), tiny("llama")
    weighted_nll(model, TreeBatch.pack([random_tree(1, 3)], 0))
    prompt = torch.tensor([[5, 6, 7, 8]])
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones_like(prompt)}
    assert torch.equal(model.generate(prompt, **options), untouched.generate(prompt, **options))


def test_sliding_window_shorter_than_a_path_is_refused() -> None:
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                           num_attention_heads=4, num_key_value_heads=2, sliding_window=4)  # fmt: skip
    model = MistralForCausalLM(config)
    with pytest.raises(InputError, match="sliding window of 4"):
        token_nll(model, TreeBatch.pack([SpanTree([2, 3, 4, 5, 6, 7], "answer", 1.0)], 0))


def test_graded_without_costs_is_the_path_loss_where_one_step_is_best() -> None:
    forest = MazeStream(((4, 4),), branches=4).forest(range(3), choices=True)
    batch = maze_batch(forest, "graded")
    model = tiny("llama", 64)
    torch.testing.assert_close(graded_nll(model, batch, 0.0, 0.0), token_nll(model, batch), atol=1e-6, rtol=0)


def test_graded_by_hand() -> None:
    """Three tokens: 0 optimal, 1 also optimal, 2 a detour, 3 a wall; probabilities set through the output bias."""

    class Fixed(torch.nn.Module):
        def __init__(self, probs: list[float]):
            super().__init__()
            self.logits = torch.nn.Parameter(torch.tensor(probs, dtype=torch.float64).log())

        def forward(self, input_ids: Tensor, use_cache: bool):
            from types import SimpleNamespace

            return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, 4))

    from dataclasses import replace

    batch = TreeBatch.pack([SpanTree([0, 0], "answer", 1.0)], 0)
    batch = replace(batch, layout=None, choices_SC=torch.tensor([[0, 1, 2]]),
                    optimal_SC=torch.tensor([[True, True, False]]))  # fmt: skip
    model = Fixed([0.3, 0.2, 0.4, 0.1])
    loss = graded_nll(model, batch, detour_cost=0.5, wall_cost=2.0)
    assert loss.item() == pytest.approx(-math.log(0.5) + 0.5 * 0.4 + 2.0 * 0.1)
    (grad,) = torch.autograd.grad(loss.sum(), model.logits)
    assert grad[0] < 0 and grad[1] < 0  # neither optimal step is punished
    assert grad[3] / 0.1 > grad[2] / 0.4 > 0  # probability on a wall is pushed down harder than on a detour


def test_graded_needs_the_choices() -> None:
    with pytest.raises(InputError, match="graded"):
        graded_nll(tiny("llama"), TreeBatch.pack([SpanTree([2, 3], "answer", 1.0)], 0))


@pytest.mark.filterwarnings("ignore")
def test_token_losses_equal_transformer_lens() -> None:
    lens = pytest.importorskip("transformer_lens.model_bridge")
    from clew.mazes import maze_tokenizer
    from clew.policy import Policy

    policy = Policy.build(maze_tokenizer(4), layers=2, width=32, heads=2)
    policy.model.eval()
    forest = MazeStream(((4, 4),)).forest([0])
    ours = token_nll(policy.model, maze_batch(forest, "full"))  # before: the bridge takes the model's modules over
    bridge = lens.TransformerBridge.boot_transformers(
        "meta-llama/Llama-2-7b-hf", hf_model=policy.model, tokenizer=policy.tokenizer, device="cpu"
    )
    theirs = bridge(torch.from_numpy(forest.tokens_T)[None], return_type="loss", loss_per_token=True)
    torch.testing.assert_close(ours, theirs[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("rows", [False, True])
def test_tokens_that_the_model_does_not_know_are_named(rows: bool) -> None:
    batch = TreeBatch.pack([SpanTree([2, 39, 40], "answer", 1.0)], 0)
    with pytest.raises(InputError, match="tokens: 40 is not one of the 40 tokens of this model, 0 to 39"):
        token_nll(tiny("llama"), batch.flatten() if rows else batch)
