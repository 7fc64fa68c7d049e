"""Heads: patterns are eager attention's; who attends to what; what resampling costs; logits that add up."""

from typing import Any

import numpy as np
import pytest
import torch

from clew.errors import InputError
from clew.mazes import MazeStream, maze_tokenizer
from clew.mazes.forks import step_shares
from clew.mazes.pairs import PairStream
from clew.mazes.vocab import cell_id, cell_text
from clew.policy import Policy
from clew.read.activations import maze_sequences
from clew.read.attribution import TASKS, attribute, forks_of
from clew.read.heads import ATTENDED, attended, attending, attention, measured, resample_heads
from clew.read.places import find_places, numbers_of
from models import MAKERS, VARIANTS, shaken, tiny

TOKENIZER = maze_tokenizer(4)
STREAM = MazeStream(((3, 3), (4, 4)), ("dfs", "percolation"), p=0.4, held_out=None, seed=3)


def policy(kind: str = "llama", seed: int = 0) -> Policy:
    return Policy(shaken(kind, len(TOKENIZER), seed), TOKENIZER)


def sequences(count: int = 12) -> list[np.ndarray]:
    return list(maze_sequences(STREAM, range(count), TOKENIZER))


@torch.no_grad()
@pytest.mark.parametrize("kind", [*MAKERS, *VARIANTS])
def test_patterns_are_those_of_eager_attention(kind: str) -> None:
    model, tokens = policy(kind).model, torch.from_numpy(sequences(1)[0])[None]
    before = model(tokens).logits
    with attending(model) as patterns:
        model(tokens)
    assert torch.equal(model(tokens).logits, before) and model.config._attn_implementation == "sdpa"
    assert not any(m._forward_hooks for m in model.modules())
    model.set_attn_implementation("eager")
    wanted = model(tokens, output_attentions=True).attentions
    assert len(patterns) == len(wanted) == 3
    for mine, theirs in zip(patterns, wanted, strict=True):
        assert torch.equal(mine, theirs) and mine.shape == (1, 4, tokens.shape[1], tokens.shape[1])


def test_what_may_be_attended_to_by_hand() -> None:
    text = (
        "<ADJLIST_START> (0,0) <--> (0,1) ; (1,1) <--> (0,1) ; (1,0) <--> (1,1) ; <ADJLIST_END> <ORIGIN_START> (0,0) "
        "<ORIGIN_END> <TARGET_START> (1,0) <TARGET_END> <PATH_START> (0,0) (0,1) (1,1) (1,0) <PATH_END>"
    )
    words: list[str] = [*text.split()]
    tokens: Any = TOKENIZER.convert_tokens_to_ids(words)
    groups_GBTT, asks_BT = attended(find_places([tokens], TOKENIZER), (1, len(words)), numbers_of(["path"]))
    assert np.flatnonzero(asks_BT[0]).tolist() == [21, 22, 23, 24]

    def seen(query: int) -> dict[str, list[int]]:
        return {name: np.flatnonzero(groups_GBTT[g, 0, query]).tolist() for g, name in enumerate(ATTENDED)}

    assert [words[21], words[24]] == ["(0,0)", "(1,0)"]
    start = seen(21)
    assert start["open_edges"] == [1, 2, 3, 4] and start["open_cells"] == [3, 7] and start["walled_cells"] == [9]
    assert start["own_cell"] == [1] and start["target"] == [18] and start["origin"] == [15]
    assert start["own_path"] == [] and start["self"] == [21]
    assert start["delimiters"] == [0, 2, 4, 6, 8, 10, 12, 13, 14, 16, 17, 19, 20]
    last = seen(24)
    assert last["open_edges"] == [9, 10, 11, 12] and last["open_cells"] == [5, 11] and last["walled_cells"] == [1]
    assert last["own_path"] == [21, 22, 23]


def test_a_head_that_looks_at_passages_is_told_from_one_that_looks_at_the_grid() -> None:
    rows = sequences(20)
    tokens_BT = np.full((len(rows), max(map(len, rows))), 10)
    for row, values in enumerate(rows):
        tokens_BT[row, : len(values)] = values
    groups_GBTT, asks_BT = attended(find_places(rows, TOKENIZER), tokens_BT.shape, numbers_of(["path"]))
    groups = dict(zip(ATTENDED, torch.from_numpy(groups_GBTT), strict=True))
    uniform = torch.ones(groups["self"].shape).tril()
    heads = [groups["open_cells"], groups["open_cells"] | groups["walled_cells"], groups["target"], uniform]
    pattern_BHTT = torch.stack([one.double() / one.sum(-1, keepdim=True).clamp(min=1) for one in heads], 1)
    mass, uniform_QG, open_QLH, walled_QLH = measured([pattern_BHTT], groups_GBTT, asks_BT)
    at = {name: g for g, name in enumerate(ATTENDED)}
    score_QH = (open_QLH - walled_QLH)[:, 0]
    known_Q = ~np.isnan(score_QH[:, 0])
    assert known_Q.sum() > 10 and (score_QH[known_Q, 0] > 0.02).all() and np.allclose(score_QH[known_Q, 1:], 0)
    assert np.allclose(mass[:, 0, 0, at["open_cells"]], 1) and np.allclose(mass[:, 0, 2, at["target"]], 1)
    assert np.allclose(mass[:, 0, 3], uniform_QG)


def test_attention_of_a_model() -> None:
    whole, parts = attention(policy(), sequences(), batch_size=64), attention(policy(), sequences(), batch_size=5)
    for name, value in vars(whole).items():
        np.testing.assert_allclose(getattr(parts, name), value, atol=1e-6)
    assert whole.mass_QLHG.shape == (12, 3, 4, len(ATTENDED))
    free = [ATTENDED.index(name) for name in ("own_cell", "open_cells", "walled_cells", "target", "delimiters", "self")]
    assert (whole.mass_QLHG[..., free].sum(-1) < 1 + 1e-6).all()
    table = whole.table().to_pylist()
    assert len(table) == 3 * 4 * (len(ATTENDED) + 1) and {row["sequences"] for row in table} <= set(range(13))
    with pytest.raises(InputError, match="places: 'walls' is not one of"):
        attention(policy(), sequences(1), ["walls"])
    with pytest.raises(InputError, match="sequences: there are none"):
        attention(policy(), [])


def test_resampling_costs_what_the_head_knew() -> None:
    reader = Policy.build(TOKENIZER, layers=2, width=32, heads=2)
    model: Any = reader.model
    with torch.no_grad():  # head (1, 0) alone says something: where, in the mean, the cells of the row lie
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        part = model.model.layers[1].self_attn
        part.q_proj.weight[:16] = part.v_proj.weight[:16] = 0
        model.lm_head.weight[:, 2:4] = model.model.embed_tokens.weight[:, :4] = 0
        for row, col in np.ndindex(4, 4):
            at = torch.tensor([row - 1.5, col - 1.5])
            model.model.embed_tokens.weight[cell_id(row, col), :2] = 0.02 * at
            model.lm_head.weight[cell_id(row, col), 2:4] = at
        for k in range(2):
            part.v_proj.weight[k, k] = part.o_proj.weight[2 + k, k] = 1
    batch = PairStream("target", sizes=((4, 4),)).batch(range(80), TOKENIZER)
    found = resample_heads(reader, batch, draws=2)
    assert found.heads == [(0, 0), (0, 1), (1, 0), (1, 1)] and 10 <= len(found.index_P) <= 80
    moved = np.abs(found.ablated_AP - found.clean_P).mean(1)
    assert moved[2] > 0.01 and (moved[[0, 1, 3]] < 1e-5).all()
    table = found.table().to_pylist()
    assert table[2]["shift_low"] < table[2]["shift"] < table[2]["shift_high"] and table[0]["shift"] == pytest.approx(
        0, abs=1e-5
    )
    assert table[0]["accuracy_lost"] == 0 and 0 <= table[0]["accuracy_low"] <= table[0]["accuracy_high"] <= 1
    again = resample_heads(reader, batch, [(1, 0)], draws=2, batch_size=7)
    np.testing.assert_allclose(again.ablated_AP[0], found.ablated_AP[2], atol=1e-5)
    itself = resample_heads(reader, batch.take(np.zeros(20, np.int64)), [(1, 0)])  # twenty times the same question
    assert (itself.ablated_AP == itself.clean_P).all()
    with pytest.raises(InputError, match=r"draws: 0 is not a whole number from 1"):
        resample_heads(reader, batch, draws=0)
    with pytest.raises(InputError, match="pairs: of 80 there are 0 with another of as many tokens"):
        resample_heads(reader, batch, draws=80)


@pytest.mark.parametrize("kind", [*MAKERS, *VARIANTS])
def test_shares_of_logits_add_up(kind: str) -> None:
    reader = policy(kind)
    with torch.no_grad():
        for parameter in reader.model.parameters():  # norms and biases that do something
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)).double()
    found = attribute(reader, sequences(), batch_size=5)
    assert found.shares_QKC.shape == (12, 7, len(found.components)) and len(found.components) == 2 + 3 * 6
    np.testing.assert_allclose(found.shares_QKC.sum(-1), found.logit_QK, atol=1e-6)  # some norms are float32
    for number, row in enumerate(sequences()):
        with torch.no_grad():
            logits_TV = reader.model(torch.from_numpy(row)[None]).logits[0]
        at = row.tolist().index(6)  # <PATH_START>
        for task, column in ((0, at), (1, at + 1), (5, len(row) - 2), (6, len(row) - 1)):
            if task == 5 and column == at + 1:
                continue
            want = logits_TV[column - 1, row[column]] - logits_TV[column - 1].mean()
            assert found.logit_QK[number, task] == pytest.approx(float(want), abs=1e-6), (number, task)
            assert found.hit_QK[number, task] == (logits_TV[column - 1].argmax() == row[column])


@pytest.mark.filterwarnings("ignore")
def test_shares_equal_transformer_lens() -> None:
    lens = pytest.importorskip("transformer_lens.model_bridge")
    reader, row = Policy(tiny("llama", len(TOKENIZER)).float(), maze_tokenizer(4)), sequences(1)[0]
    found = attribute(reader, [row])
    bridge = lens.TransformerBridge.boot_transformers(
        "meta-llama/Llama-2-7b-hf", hf_model=reader.model, tokenizer=reader.tokenizer, device="cpu"
    )
    _, cache = bridge.run_with_cache(torch.from_numpy(row)[None])
    end_D = cache["blocks.2.hook_resid_post"][0, -2]
    scale = (end_D.pow(2).mean() + 1e-6).sqrt()
    torch.testing.assert_close(cache["ln_final.hook_scale"][0, -2].squeeze(), scale, atol=1e-5, rtol=1e-5)
    model: Any = reader.model
    out = next(p for name, p in model.named_parameters() if "lm_head" in name).detach()
    weight = next(p for name, p in model.named_parameters() if name.startswith("model.norm")).detach()
    towards_D = (out[row[-1]] - out.mean(0)) * weight
    k = TASKS.index("path_end")
    for c, label in enumerate(found.components):
        if label["component"] == "mlp":
            theirs = cache[f"blocks.{label['layer']}.hook_mlp_out"][0, -2] / scale @ towards_D
            assert found.shares_QKC[0, k, c] == pytest.approx(float(theirs), abs=1e-5)


def test_tasks_are_steps_of_the_path() -> None:
    for number in range(40):
        question = STREAM.questions(number)[0]
        assert question.path
        forks = forks_of(question.lattice, question.path)
        shares = step_shares(question, question.path)
        assert sum(forks) == (shares["fork_steps"].of if "fork_steps" in shares else 0)
        assert len(forks) - sum(forks) + 2 == shares["forced_steps"].of, cell_text(question.origin)
    table = attribute(policy(), sequences()).table().to_pylist()
    assert {row["task"] for row in table} == set(TASKS)
    assert [row["component"] for row in table[:3]] == ["all", "embedding", "head"]
    prompts = [row[: row.tolist().index(7)] for row in sequences(2)]
    with pytest.raises(InputError, match="sequences: number 0 of a batch has no whole path"):
        attribute(policy(), prompts)
