"""Exact or refused: what the self-check says of models that read trees, of those that need rows, and of neither."""

import os
import sys
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from transformers import (
    BartConfig,
    BartForCausalLM,
    DogeConfig,
    DogeForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    Llama4ForCausalLM,
    Llama4TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    RobertaConfig,
    RobertaForCausalLM,
)

sys.path.insert(0, os.path.dirname(__file__))
import clew.attention
from clew import Policy, SpanTree, TreeBatch
from clew.cli.main import main
from clew.errors import InputError
from clew.learner import Learner
from clew.losses import OBJECTIVES, ObjectiveOptions, evaluate_objective, token_nll, weighted_nll
from clew.mazes import maze_tokenizer
from clew.policy import reference_nll
from clew.rollout.continuing import continue_prompts
from clew.selfcheck import reads_rows, reads_trees
from clew.world import Stop
from models import MAKERS, tiny

SPECIAL = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, **SPECIAL}
SHAPE["vocab_size"] = 64
GROUPED = {**SHAPE, "num_key_value_heads": 2}
LLAMA4 = {"head_dim": 8, "num_local_experts": 2, "intermediate_size_mlp": 48, "interleave_moe_layer_step": 2, **GROUPED}
FORK = SpanTree([9, 10], "thought", 0.5, [SpanTree([11, 12, 13], "answer", 1.0), SpanTree([14], "answer", -1.0)])
CHAIN = SpanTree([15, 16, 17], "thought", 1.0, [SpanTree([18, 19], "answer", 1.0)])
TREE = SpanTree([5, 6, 7, 8], "prompt", 0.0, [FORK, CHAIN])


def falcon() -> PreTrainedModel:
    return FalconForCausalLM(FalconConfig(**{k: v for k, v in SHAPE.items() if k != "intermediate_size"}))


def mamba() -> PreTrainedModel:
    return MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=8))


def bart() -> PreTrainedModel:
    size = {"vocab_size": 64, "d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48}
    config = BartConfig(**size, **SPECIAL, dropout=0.0, is_decoder=True, is_encoder_decoder=False)
    return BartForCausalLM(config)


def roberta(is_decoder: bool = True) -> PreTrainedModel:
    config = RobertaConfig(**SHAPE, is_decoder=is_decoder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return RobertaForCausalLM(config)


def sinks() -> PreTrainedModel:
    config = GptOssConfig(**GROUPED, head_dim=8, num_local_experts=2, num_experts_per_tok=1)
    return GptOssForCausalLM(config)


NEED_ROWS = {
    **{make.__name__: make for make in (falcon, mamba, bart, roberta, sinks)},
    "doge": lambda: DogeForCausalLM(DogeConfig(**GROUPED)),
}


def seeded(make) -> PreTrainedModel:
    torch.manual_seed(0)
    return make().eval()


def row_by_row(model: PreTrainedModel, batch: TreeBatch) -> torch.Tensor:
    """Each supervised token from a row that ends before it: nothing of Clew's reads here."""
    rows, nll = batch.flatten(), []
    width = rows.tokens_BT.shape[1]
    for source, target in zip(rows.sources_S.tolist(), rows.targets_S, strict=True):
        logits = model(input_ids=rows.tokens_BT[source // width, None, : source % width + 1], use_cache=False).logits
        nll.append(-logits[0, -1].log_softmax(-1)[target])
    return torch.stack(nll)


@pytest.mark.parametrize("kind", NEED_ROWS)
def test_a_model_that_does_not_read_trees_is_refused_left_alone_and_exact_on_rows(kind: str) -> None:
    batch = TreeBatch.pack([TREE], 0)
    model, untouched = seeded(NEED_ROWS[kind]), seeded(NEED_ROWS[kind])
    with pytest.raises(InputError, match=f"{type(model).__name__} does not read trees exactly: .*--attention rows"):
        weighted_nll(model, batch)
    assert model.config._attn_implementation == untouched.config._attn_implementation
    reads_rows(model)
    mine, theirs = token_nll(model, batch.flatten()), row_by_row(untouched, batch)
    torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=0)
    (mine * batch.weights_S).sum().backward()
    (theirs * batch.weights_S).sum().backward()
    assert any(p.grad is not None and p.grad.abs().max() > 1e-3 for p in untouched.parameters())
    for a, b in zip(model.parameters(), untouched.parameters(), strict=True):
        both = (torch.zeros_like(p) if p.grad is None else p.grad for p in (a, b))
        torch.testing.assert_close(*both, atol=1e-4, rtol=1e-3)


def test_what_looks_ahead_is_refused_on_rows_too() -> None:
    with pytest.raises(InputError, match=r"RobertaForCausalLM cannot be trained.*not causal"):
        reads_rows(seeded(lambda: roberta(is_decoder=False)))


def test_a_fault_that_only_the_gradient_shows_is_found() -> None:
    """Attention whose values carry no gradient from siblings' rows: the loss is right and learning is not."""

    class Deaf(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: torch.Tensor) -> torch.Tensor:
            ctx.rows = len(x)
            return x.clone()

        @staticmethod
        def backward(ctx, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return grad if ctx.rows > 1 else 0.5 * grad

    model = tiny("llama").float()
    project = model.model.layers[0].self_attn.v_proj
    forward = project.forward
    project.forward = lambda x: Deaf.apply(forward(x))
    with pytest.raises(InputError, match=r"the gradient of .* differs"):
        reads_trees(model)


@pytest.mark.parametrize("room", [64, 19])
def test_a_fault_of_levels_is_found_however_small_the_example(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """For so few tokens rows are cheaper, and larger trees are not read by rows."""
    attend = clew.attention.attend
    monkeypatch.setattr(clew.attention, "attend", lambda *of: 0.5 * attend(*of))
    model = seeded(lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, max_position_embeddings=room)))
    with pytest.raises(InputError, match="does not read trees exactly"):
        reads_trees(model)


def test_a_window_or_a_chunk_shorter_than_a_path_is_refused_whoever_knows_of_it() -> None:
    """Mistral tells its window to the attention function; Llama 4 knows of its chunks in its masks alone."""
    windowed = MistralForCausalLM(MistralConfig(**GROUPED, sliding_window=24))
    chunked = ["chunked_attention", "chunked_attention"]
    chunks = Llama4TextConfig(**LLAMA4, attention_chunk_size=24, no_rope_layers=[1, 1], layer_types=chunked)
    for model in (windowed, Llama4ForCausalLM(chunks)):
        short = TreeBatch.pack([SpanTree(list(range(2, 22)), "answer", 1.0)], 0)
        torch.testing.assert_close(token_nll(model, short), token_nll(model, short.flatten()), atol=1e-4, rtol=0)
        long = TreeBatch.pack([SpanTree(list(range(2, 32)), "answer", 1.0)], 0)
        with pytest.raises(InputError, match="path of 30 tokens"):
            token_nll(model, long)
        with pytest.raises(InputError, match="path of 26 tokens"):
            continue_prompts(model, [[2, 3, 4, 5]], stop=Stop(), max_new=22, pad_token_id=0)


def test_a_loss_that_changes_with_the_length_of_its_row_is_refused_on_trees_and_on_rows() -> None:
    """Places that are scaled by the longest of them: no token's loss is its own any more."""
    scaled = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 24}
    scaled |= {"long_factor": [4.0] * 4, "short_factor": [1.0] * 4}
    shape = {**GROUPED, "max_position_embeddings": 256, "original_max_position_embeddings": 24}
    short = TreeBatch.pack([SpanTree(list(range(2, 22)), "answer", 1.0)], 0)
    long = TreeBatch.pack([SpanTree(list(range(2, 40)), "answer", 1.0)], 0)
    for attention in ("trees", "rows"):
        model = seeded(lambda: Phi3ForCausalLM(Phi3Config(**shape, rope_parameters=scaled)))
        policy = Policy(model, maze_tokenizer(3), attention=attention)
        for p in policy.model.parameters():
            p.data.mul_(3)
        token_nll(policy.model, policy.readable(short))
        with pytest.raises(InputError, match=r"38 tokens a token's loss changes .* with the length of its row"):
            token_nll(policy.model, policy.readable(long))


def test_a_model_that_counts_in_the_row_is_refused_where_that_shows() -> None:
    counts = {"no_rope_layers": [0, 0], "floor_scale": 64, "attn_scale": 2.0, "layer_types": ["full_attention"] * 2}
    config = Llama4TextConfig(**LLAMA4, **counts)
    model, few = Llama4ForCausalLM(config), TreeBatch.pack([TREE], 0)
    torch.testing.assert_close(token_nll(model, few), token_nll(model, few.flatten()), atol=1e-4, rtol=0)
    with pytest.raises(InputError, match="among 150 tokens"):
        token_nll(model, TreeBatch.pack([TREE] * 10, 0))


def agree(model: PreTrainedModel, untouched: PreTrainedModel) -> None:
    batch = TreeBatch.pack([TREE], 0)
    mine, theirs = token_nll(model, batch), row_by_row(untouched, batch)
    torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=0)


def test_a_model_that_is_changed_after_its_check_is_still_exact() -> None:
    def llama(seed: int = 0) -> PreTrainedModel:
        return tiny("llama", seed=seed).float()

    eager, deeper, longer, shared = llama(), llama(), llama(), llama()
    for model in (eager, deeper, shared):
        agree(model, llama())
    eager.set_attn_implementation("eager")
    agree(eager, llama())
    for model in (deeper, longer):
        model.model.layers.append(llama(1).model.layers[2])
        model.model.layers[3].self_attn.config, model.model.layers[3].self_attn.layer_idx = model.config, 3
        model.config.num_hidden_layers = 4
    agree(deeper, longer)
    shallow, alike = llama(2), llama(2)  # its last layer is an inner one of another model
    for model, of in ((shallow, shared), (alike, llama())):
        model.model.layers, model.config.num_hidden_layers = of.model.layers[:2], 2
        model.model.layers[0].self_attn.config = model.model.layers[1].self_attn.config = of.config
        model.model.config = of.config
    agree(shallow, alike)
    agree(shared, llama())


def test_another_attention_put_into_a_checked_model_is_found() -> None:
    class Other(nn.Module):
        def forward(self, hidden_states: torch.Tensor, **kwargs: object) -> tuple[torch.Tensor, None]:
            return hidden_states.cumsum(1), None

    model = tiny("llama")
    reads_trees(model, 20)
    untouched = model.config._attn_implementation
    model.model.layers[1].self_attn = Other()
    with pytest.raises(InputError, match="does not read trees exactly"):
        reads_trees(model, 20)
    assert untouched != model.config._attn_implementation
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_the_check_is_apart_from_what_it_is_asked_amid() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        reads_trees(tiny("llama").float(), 20)


@pytest.mark.usefixtures("other_precision")
@pytest.mark.parametrize("copied", [True, False])
def test_a_model_that_is_prepared_for_half_precision_is_checked_in_full(
    copied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not copied:
        monkeypatch.setattr("clew.selfcheck.SMALL", 0)
    model = seeded(lambda: tiny("llama")).float()
    for p in model.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    prepared = Accelerator(cpu=True, mixed_precision="bf16").prepare(model)
    row = torch.randint(5, 30, (1, 9))
    halved = prepared(row).logits
    reads_trees(model, 40, 200)
    reads_rows(model, 40)
    assert prepared is model and torch.equal(prepared(row).logits, halved)  # and trains in half precision still
    assert (model._original_forward(row).logits - halved).abs().max() > 1e-3


def test_a_frozen_model_that_is_checked_in_place_reads_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clew.selfcheck.SMALL", 0)
    reads_rows(tiny("llama").requires_grad_(False), 20)


def test_what_is_refused_in_place_keeps_no_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clew.selfcheck.SMALL", 0)
    model = seeded(NEED_ROWS["doge"])
    for p in model.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    with pytest.raises(InputError, match="does not read trees"):
        reads_trees(model)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_places_beyond_those_that_a_model_knows_are_refused() -> None:
    model = tiny("gpt2")  # 256 learned places
    with pytest.raises(InputError, match="path of 300 tokens"):
        token_nll(model, TreeBatch.pack([SpanTree([2] * 300, "answer", 1.0)], 0))


@pytest.mark.parametrize("kind", MAKERS)
def test_the_check_leaves_no_trace(kind: str) -> None:
    model, seen = tiny(kind).train(), []
    model.register_forward_hook(lambda *_: seen.append(1))
    before, dice = {name: p.clone() for name, p in model.named_parameters()}, torch.get_rng_state()
    reads_trees(model, 20)
    reads_rows(model)
    assert not seen and model.training
    assert torch.equal(torch.get_rng_state(), dice)
    for name, p in model.named_parameters():
        assert p.grad is None and torch.equal(p, before[name])


def test_half_precision_is_checked_on_a_copy() -> None:
    model = tiny("llama").to(torch.bfloat16)
    reads_trees(model, 20)
    assert model.dtype == torch.bfloat16
    with pytest.raises(InputError, match="does not read trees"):
        reads_trees(seeded(falcon).to(torch.bfloat16))


def test_a_large_model_is_checked_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clew.selfcheck.SMALL", 0)
    model = tiny("llama")
    reads_trees(model, 20)
    assert all(p.grad is None for p in model.parameters())
    batch = TreeBatch.pack([TREE], 0)
    torch.testing.assert_close(token_nll(model, batch), token_nll(model, batch.flatten()))
    wrong = seeded(falcon)
    with torch.no_grad():
        for p in wrong.parameters():
            p.add_(torch.randn_like(p), alpha=0.1)
    untouched = wrong.config._attn_implementation
    with pytest.raises(InputError, match="does not read trees"):
        reads_trees(wrong)
    assert wrong.config._attn_implementation == untouched


def gradients(model: nn.Module) -> list[torch.Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


def test_reentrant_checkpointing_is_refused_and_the_other_kind_exact() -> None:
    batch = TreeBatch.pack([TREE], 0)
    plain, frugal, reentrant = tiny("llama"), tiny("llama").train(), tiny("llama").train()
    frugal.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    reentrant.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    with pytest.raises(InputError, match="reentrant"):
        weighted_nll(reentrant, batch).backward()
    weighted_nll(frugal, batch).backward()
    weighted_nll(plain, batch.flatten()).backward()
    for a, b in zip(gradients(frugal), gradients(plain), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=2e-5)


def test_a_compiled_model_is_unwrapped() -> None:
    batch, model = TreeBatch.pack([TREE], 0), tiny("llama")
    torch.testing.assert_close(token_nll(torch.compile(model), batch), token_nll(model, batch.flatten()))
    inside, in_place = nn.DataParallel(torch.compile(model)), tiny("llama")
    in_place.compile()
    for compiled in (inside, in_place):
        torch.testing.assert_close(token_nll(compiled, batch), row_by_row(model, batch))


def test_prompt_tuning_is_refused() -> None:
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    model = peft.get_peft_model(tiny("llama"), config)
    batch = TreeBatch.pack([TREE], 0)
    for either in (batch, batch.flatten()):
        with pytest.raises(InputError, match="prompt tuning"):
            token_nll(model, either)


@pytest.mark.parametrize("rows", [False, True])
def test_nothing_supervised_is_a_loss_of_nothing(rows: bool) -> None:
    model, batch = tiny("llama"), TreeBatch.pack([SpanTree([4, 5, 6], "prompt")], 0)
    loss = weighted_nll(model, batch.flatten() if rows else batch)
    loss.backward()
    assert loss.item() == 0.0 and all(g.abs().max() == 0 for g in gradients(model))


@pytest.mark.parametrize("make", [lambda: tiny("qwen3"), *NEED_ROWS.values()])
def test_rollouts_row_by_row_equal_a_fresh_pass(make) -> None:
    model = seeded(make)
    prompts, tails = [[5, 6, 7], [8]], [[[9], [10, 11]], [[12], [13, 14, 15]]]
    options = {"stop": Stop(tuple(range(8))), "max_new": 6, "pad_token_id": 0, "temperature": 1.0}
    got = continue_prompts(model, prompts, tails=tails, copies=2, seeds=range(4), attention="rows", **options)
    for i, one in enumerate(got):
        before = prompts[i // 4] + tails[i // 4][i // 2 % 2]
        logits = model(input_ids=torch.tensor([before + one.tokens]), use_cache=False).logits[0]
        logp = logits.float().log_softmax(-1)
        want = [float(logp[len(before) + j - 1, token]) for j, token in enumerate(one.tokens)]
        torch.testing.assert_close(torch.tensor(one.logps), torch.tensor(want), atol=1e-4, rtol=0)
    if type(model).__name__ == "Qwen3ForCausalLM":
        shared = continue_prompts(model, prompts, tails=tails, copies=2, seeds=range(4), **options)
        assert [one.tokens for one in shared] == [one.tokens for one in got]


@pytest.mark.parametrize("objective", ["nll", "pair"])
def test_a_learner_steps_alike_on_trees_and_on_their_rows(objective: str) -> None:
    batch, weights = TreeBatch.pack([TREE, TREE], 0), []
    wanted, options = OBJECTIVES[objective], ObjectiveOptions(kl=0.1)
    for attention in ("trees", "rows"):
        policy, reference = (Policy(tiny("qwen3", seed=s), maze_tokenizer(3), attention=attention) for s in (0, 1))
        learner = Learner(policy, lr=1e-2)
        known = replace(batch, reference_nll_S=reference_nll(policy, reference, batch))
        learner.update(known, lambda model, piece: evaluate_objective(wanted, model, piece, options), 1e-2)
        weights.append([p.detach().clone() for p in policy.model.parameters()])
    for a, b in zip(*weights, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_the_command_line_refuses_before_work_and_goes_on_with_rows(tmp_path, capsys) -> None:
    start = tmp_path / "falcon"
    config = FalconConfig(vocab_size=len(maze_tokenizer(3)), hidden_size=32, num_hidden_layers=1, num_attention_heads=4)
    torch.manual_seed(0)
    Policy(FalconForCausalLM(config), maze_tokenizer(3)).save(start)
    out = tmp_path / "run"
    options = f"--model.folder {start} --mazes.sizes [3] --final-questions 4"
    args = f"train {options} --steps 2 --validate-every 0 --out {out}".split()
    capsys.readouterr()
    assert main(args) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said and "FalconForCausalLM does not read trees exactly" in said and "--attention rows" in said
    assert not out.exists()
    assert main([*args, "--attention", "rows"]) == 0
    assert main(["eval", str(out), "--questions", "4"]) == 0  # as the run was trained
    assert main(["solve", str(out / "model"), "--size", "3"]) == 2
    assert main(["solve", str(out / "model"), "--size", "3", "--attention", "rows"]) == 0
    few = "--warm-start.steps 2 --rounds 1 --questions 2 --thoughts 2 --answers 2 --validation-questions 2"
    split = f"split {options} {few} --objective.kl 0.1 --out {tmp_path / 'split'}".split()
    assert main(split) == 2 and not (tmp_path / "split").exists()
    assert main([*split, "--attention", "rows"]) == 0
