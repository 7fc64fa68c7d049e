"""Losses and all gradients: trees against plain rows, weights, objectives and the graded loss, and TransformerLens."""

import math
import os
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

sys.path.insert(0, os.path.dirname(__file__))
from clew import SpanTree, TreeBatch, layout
from clew.config import MazeConfig
from clew.errors import InputError
from clew.losses import (
    OBJECTIVES,
    Objective,
    ObjectiveOptions,
    clipped,
    evaluate_objective,
    graded_nll,
    kl_to,
    paired,
    token_nll,
    weighted_nll,
)
from clew.mazes.world import MazeWorld
from models import MAKERS, tiny
from shapes import bushy, caterpillar, crooked, forked, lopsided, staggered

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


@pytest.fixture(params=["the cheapest way", "levels, like trees apart"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How a layout is chosen: small trees are not worth levels, and like ones are not worth a group of their own."""
    if request.param != "the cheapest way":
        monkeypatch.setattr(layout, "_pairs_read", lambda levels: 0.0)
        monkeypatch.setattr(layout, "CALL_WORTH", 0)


@pytest.mark.usefixtures("way")
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


def hold_together(*trees: SpanTree) -> None:
    batch, by_tree, by_rows = TreeBatch.pack(trees, 0), tiny("neox"), tiny("neox")
    mine, theirs = weighted_nll(by_tree, batch), weighted_nll(by_rows, batch.flatten())
    torch.testing.assert_close(mine, theirs, atol=1e-8, rtol=1e-8)
    for a, b in zip(gradients(by_tree, mine), gradients(by_rows, theirs), strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-7)


@pytest.mark.usefixtures("way")
def test_large_and_small_trees_of_one_batch_equal_their_rows() -> None:
    trees = [lopsided(300, 50), random_tree(2, 7), forked(200, [150, 20]), forked(9, [5, 3]), forked(180, [90] * 3)]
    hold_together(*trees)


def test_trees_of_like_lengths_are_read_together() -> None:
    large, small = forked(400, [200] * 4), forked(60, [40] * 4)
    apart = TreeBatch.pack([large, small, large, small, small], 0).layout
    assert apart is not None and [tuple(level.grid_CL.shape) for level in apart.levels] == [
        (3, 60),
        (12, 40),
        (2, 400),
        (8, 200),
    ]
    alike = TreeBatch.pack([small, forked(58, [40] * 4)], 0)
    assert alike.layout is not None and len(alike.layout.levels) == 2
    batch = TreeBatch.pack([large, small], 0)
    elsewhere = batch.to("meta").layout  # where no kernel shares keys, branches have copies and masks of their own
    assert elsewhere is not None and [tuple(level.grid_CL.shape) for level in elsewhere.levels] == [(8, 600)]


@pytest.mark.usefixtures("way")
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


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("loss", ["path", "full", "weighted", "graded"])
def test_maze_forest_equals_its_rows(loss: str) -> None:
    world = MazeWorld(MazeConfig([3, [4, 2]], ["dfs", "percolation"], p=0.6, branches=3))
    batch = world.batch(range(4), {"full": 1.0, "weighted": 0.1}.get(loss, 0.0), choices=True)
    model, vocab = graded_nll if loss == "graded" else token_nll, 64
    by_tree, by_rows = tiny("gpt2", vocab), tiny("gpt2", vocab)
    mine, theirs = model(by_tree, batch), model(by_rows, batch.flatten())
    torch.testing.assert_close(mine, theirs, atol=LOSS_TOLERANCE, rtol=0)
    for a, b in zip(gradients(by_tree, mine.sum()), gradients(by_rows, theirs.sum()), strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


def test_weight_zero_means_no_gradient_whatever_the_logits() -> None:
    """The unsupervised branch's own tokens differ, and nothing that is learnt changes."""
    learnt = SpanTree([8, 9], "answer", 1.0)
    trees = [SpanTree([5, 6, 7], "prompt", 0.0, [learnt, SpanTree([t, t], "answer", 0.0)]) for t in (10, 30)]
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
    batch = TreeBatch.pack([random_tree(4, 1)], 0)
    assert len(batch.layout.levels) > 2  # type: ignore[union-attr]
    plain, frugal = tiny("llama"), tiny("llama").train()
    frugal.gradient_checkpointing_enable()
    ours, theirs = (gradients(model, weighted_nll(model, batch)) for model in (plain, frugal))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-7)


def test_model_still_generates_after_reading_trees() -> None:
    model, untouched = tiny("llama"), tiny("llama")
    weighted_nll(model, TreeBatch.pack([random_tree(4, 1)], 0))
    prompt = torch.tensor([[5, 6, 7, 8]])
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones_like(prompt)}
    assert torch.equal(model.generate(prompt, **options), untouched.generate(prompt, **options))


def test_sliding_window_shorter_than_a_path_is_refused() -> None:
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    model = MistralForCausalLM(MistralConfig(**sizes, **heads, sliding_window=4))
    with pytest.raises(InputError, match="sliding window of 4"):
        token_nll(model, TreeBatch.pack([SpanTree([2, 3, 4, 5, 6, 7], "answer", 1.0)], 0))


def test_graded_without_costs_is_the_path_loss_where_one_step_is_best() -> None:
    batch = MazeWorld(MazeConfig([4], branches=4)).batch(range(3), choices=True)
    model = tiny("llama", 64)
    torch.testing.assert_close(graded_nll(model, batch, 0.0, 0.0), token_nll(model, batch), atol=1e-6, rtol=0)


class Fixed(torch.nn.Module):
    """Says the same of every token."""

    def __init__(self, probs: list[float]):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor(probs, dtype=torch.float64).log())

    def forward(self, input_ids: Tensor, use_cache: bool):
        return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, len(self.logits)))


def test_graded_by_hand() -> None:
    """Four tokens: 0 optimal, 1 also optimal, 2 a detour, 3 a wall."""
    batch = TreeBatch.pack([SpanTree([0, 0], "answer", 1.0)], 0)
    choices = {"choices_SC": torch.tensor([[0, 1, 2]]), "optimal_SC": torch.tensor([[True, True, False]])}
    batch = replace(batch, layout=None, **choices)
    model = Fixed([0.3, 0.2, 0.4, 0.1])
    loss = graded_nll(model, batch, detour_cost=0.5, wall_cost=2.0)
    assert loss.item() == pytest.approx(-math.log(0.5) + 0.5 * 0.4 + 2.0 * 0.1)
    (grad,) = torch.autograd.grad(loss.sum(), model.logits)
    assert grad[0] < 0 and grad[1] < 0  # neither optimal step is punished
    assert grad[3] / 0.1 > grad[2] / 0.4 > 0  # probability on a wall is pushed down harder than on a detour
    half = replace(batch, weights_S=torch.tensor([0.5]))
    options = ObjectiveOptions(detour_cost=0.5, wall_cost=2.0)
    assert evaluate_objective("graded", model, half, options).item() == pytest.approx(loss.item() / 2)


def test_graded_needs_the_choices() -> None:
    with pytest.raises(InputError, match="graded"):
        graded_nll(tiny("llama"), TreeBatch.pack([SpanTree([2, 3], "answer", 1.0)], 0))


def test_objectives_by_hand() -> None:
    nll, before = torch.tensor([1.0, 1.0]), torch.tensor([1.5, 0.5])
    weights = torch.tensor([1.0, -1.0])
    ratio = (before - nll).exp()  # 1.65 and 0.61, both beyond the clip on the side that pays no more
    assert clipped(nll, before, weights, 0.2).item() == pytest.approx(-(1.2 - 0.8), abs=1e-6)
    assert clipped(nll, before, -weights, 0.2).item() == pytest.approx((ratio[0] - ratio[1]).item(), abs=1e-6)
    margin = (2.0 - 1.0) - (1.0 - 3.0)  # the best gained 1 nat over the reference, the worst lost 2
    got = paired(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 1.0]), weights, torch.tensor([0, 0]), beta=0.5)
    assert got.item() == pytest.approx(np.log1p(np.exp(-0.5 * margin)), abs=1e-6)
    assert paired(nll, nll, torch.ones(2), torch.tensor([0, 1])).item() == 0  # no tree has both signs
    assert (kl_to(torch.randn(50), torch.randn(50)) >= 0).all() and kl_to(nll, nll).abs().max() == 0


PAIRS = [
    SpanTree([3], "prompt", 0.0, [SpanTree([0, 1], "answer", w, (), [-1.0, -2.0]) for w in (weight, -weight)])
    for weight in (0.25, 0.5)
]


def test_objectives_of_a_batch_by_hand() -> None:
    """A model that gives every token of two pairs its probability p_t, whatever stands before it."""
    model = Fixed([0.5, 0.25, 0.125, 0.125])
    nll_S = [math.log(2), math.log(4)] * 4
    batch = replace(TreeBatch.pack(PAIRS, 0).flatten(), reference_nll_S=torch.tensor([1.0, 1.0, 2.0, 2.0] * 2))
    options = ObjectiveOptions(beta=0.5, questions=2, clip_ratio=0.1)
    margin = (1.0 + 1.0) - (2.0 + 2.0)  # what the first answer was ahead by in the reference: the policy's own cancels
    pair = 2 * math.log1p(math.exp(-0.5 * margin)) / 2
    assert evaluate_objective("pair", model, batch, options).item() == pytest.approx(pair)
    ratios = [math.exp(1.0 - nll_S[0]), math.exp(2.0 - nll_S[1])]  # 1.36 and 1.85, both beyond the clip
    gain = sum(0.75 * (1.1 - ratio) for ratio in ratios)
    assert evaluate_objective("clipped", model, batch, options).item() == pytest.approx(-gain)
    assert evaluate_objective("nll", model, batch, options).item() == pytest.approx(0.0, abs=1e-6)
    figures: dict[str, float] = {}
    halves = ObjectiveOptions(kl=3.0, processes=2)
    loss = evaluate_objective("nll", model, replace(batch, share=0.5), halves, figures)
    kl = sum(math.exp(n - r) - 1 - (n - r) for n, r in zip(nll_S, [1.0, 1.0, 2.0, 2.0] * 2, strict=True)) / 8
    assert loss.item() == pytest.approx(3.0 * kl * 0.5 / 2, abs=1e-6)
    evaluate_objective("nll", model, replace(batch, share=0.5), figures=figures)
    gap = sum(abs(n - r) for n, r in zip(nll_S, [1.0, 2.0] * 4, strict=True)) / 8
    assert figures == {"kl": pytest.approx(kl), "sampler_gap": pytest.approx(gap)}


def test_importance_by_hand() -> None:
    """Tokens that are likelier now than the sampler said count for more, up to the cap; the gradient feels it once."""
    model = Fixed([0.5, 0.25, 0.125, 0.125])
    tree = SpanTree([3], "prompt", 0.0, [SpanTree([0, 1], "answer", w, (), [-1.0, -2.0]) for w in (0.5, -0.25)])
    batch = replace(TreeBatch.pack([tree], 0).flatten(), share=0.5)
    nll_S, ratios = [math.log(2), math.log(4)], [0.5 * math.e, 0.25 * math.e**2]  # 1.36 and 1.85
    figures: dict[str, float] = {}
    loss = evaluate_objective("nll", model, batch, ObjectiveOptions(importance_cap=1.5), figures)
    assert loss.item() == pytest.approx(0.25 * (ratios[0] * nll_S[0] + 1.5 * nll_S[1]))
    gap = (abs(nll_S[0] - 1.0) + abs(nll_S[1] - 2.0)) / 2
    means = {"importance": sum(ratios) / 2, "importance_cut": 0.5, "sampler_gap": gap}
    assert figures == {name: pytest.approx(mean / 2) for name, mean in means.items()}


def test_importance_is_a_weight_of_each_token_and_no_gradient_goes_through_it() -> None:
    model = tiny("llama")
    batch = TreeBatch.pack([SpanTree([3], "prompt", 0.0, [SpanTree([4, 5, 6], "answer", w) for w in (0.7, -0.3)])], 0)
    nll_S = token_nll(model, batch).detach()
    batch = replace(batch, sampled_nll_S=nll_S + torch.tensor([0.5, -0.5, 2.0] * 2))
    by_hand = replace(batch, weights_S=batch.weights_S * torch.tensor([0.5, -0.5, math.log(2)] * 2).exp())
    corrected = evaluate_objective("nll", model, batch, ObjectiveOptions(importance_cap=2.0))
    for x, y in zip(gradients(model, corrected), gradients(model, weighted_nll(model, by_hand)), strict=True):
        torch.testing.assert_close(x, y)


def test_kl_is_of_likelihoods_whatever_the_objective_s_own_loss() -> None:
    batch = replace(TreeBatch.pack(PAIRS, 0).flatten(), reference_nll_S=torch.ones(8))
    choices_SC = batch.targets_S[:, None]
    batch = replace(batch, choices_SC=choices_SC, optimal_SC=torch.ones_like(choices_SC, dtype=torch.bool))
    model, added = Fixed([0.5, 0.25, 0.125, 0.125]), {}
    for name in ("nll", "graded"):
        with_kl, without = (evaluate_objective(name, model, batch, ObjectiveOptions(kl=kl)) for kl in (1.0, 0.0))
        added[name] = (with_kl - without).item()
    assert added["graded"] == pytest.approx(added["nll"]) and added["nll"] > 0


@pytest.mark.parametrize(
    ("name", "options", "lacks"),
    [
        ("graded", {}, "choices_SC"),
        ("clipped", {}, "sampled_nll_S"),
        ("pair", {}, "reference_nll_S"),
        ("nll", {"kl": 0.1}, "reference_nll_S"),
        ("nll", {"importance_cap": 2.0}, "sampled_nll_S"),
    ],
)
def test_what_an_objective_lacks_is_named_before_anything_is_read(name: str, options: dict, lacks: str) -> None:
    batch = TreeBatch.pack([SpanTree([2, 3], "answer", 1.0)], 0)
    model = SimpleNamespace()  # whoever reads it fails otherwise
    for objective in (name, OBJECTIVES[name]):
        with pytest.raises(
            InputError,
            match=f"^objective: {name}( with kl 0.1| with importance_cap 2)? needs {lacks}, and this batch has none",
        ):
            evaluate_objective(objective, model, batch, ObjectiveOptions(**options))  # type: ignore[arg-type]


def test_tokens_that_were_not_sampled_are_counted() -> None:
    answers = [SpanTree([3, 4], "answer", 1.0, (), [-1.0, -2.0]), SpanTree([5, 6, 7], "answer", 1.0)]
    batch = TreeBatch.pack([SpanTree([2], "prompt", 0.0, answers)], 0)
    with pytest.raises(InputError, match="clipped needs sampled_nll_S at every supervised token, and it is NaN at 3"):
        evaluate_objective("clipped", tiny("llama"), batch)
    with pytest.raises(InputError, match="'ppo' is not one of nll, graded, clipped, pair"):
        evaluate_objective("ppo", tiny("llama"), batch)


def test_an_objective_of_one_s_own_is_one_function() -> None:
    own = Objective(lambda nll_S, batch, options: (nll_S**2).sum())
    batch, model = TreeBatch.pack([random_tree(2, 3)], 0), tiny("gpt2")
    torch.testing.assert_close(evaluate_objective(own, model, batch), (token_nll(model, batch) ** 2).sum())


def test_clipped_s_first_update_is_the_policy_gradient() -> None:
    model = tiny("llama")
    batch = TreeBatch.pack([SpanTree([3], "prompt", 0.0, [SpanTree([4, 5], "answer", w) for w in (0.7, -0.3)])], 0)
    batch = replace(batch, sampled_nll_S=token_nll(model, batch).detach())
    first, plain = (gradients(model, evaluate_objective(name, model, batch)) for name in ("clipped", "nll"))
    for x, y in zip(first, plain, strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.filterwarnings("ignore")
def test_token_losses_equal_transformer_lens() -> None:
    lens = pytest.importorskip("transformer_lens.model_bridge")
    from clew.mazes import maze_tokenizer
    from clew.policy import Policy

    policy = Policy.build(maze_tokenizer(4), layers=2, width=32, heads=2)
    policy.model.eval()
    batch = MazeWorld(MazeConfig([4], branches=1)).batch([0], prompt_weight=1.0)
    ours = token_nll(policy.model, batch)  # before: the bridge takes the model's modules over
    bridge = lens.TransformerBridge.boot_transformers(
        "meta-llama/Llama-2-7b-hf", hf_model=policy.model, tokenizer=policy.tokenizer, device="cpu"
    )
    theirs = bridge(batch.tokens_BT, return_type="loss", loss_per_token=True)
    torch.testing.assert_close(ours, theirs[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("rows", [False, True])
def test_tokens_that_the_model_does_not_know_are_named(rows: bool) -> None:
    batch = TreeBatch.pack([SpanTree([2, 39, 40], "answer", 1.0)], 0)
    with pytest.raises(InputError, match="tokens: 40 is not one of the 40 tokens of this model, 0 to 39"):
        token_nll(tiny("llama"), batch.flatten() if rows else batch)
