"""Activations: equal to TransformerLens's at every layer, in any batch, at every place; written and read back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from clew.errors import InputError
from clew.mazes import MazeStream, lookahead, maze_tokenizer
from clew.mazes.pairs import PairStream
from clew.policy import Policy, with_adapters
from clew.read.activations import export, gather, joined, labels, load_part, maze_sequences
from clew.read.hooks import SITES, hook_name, key_of, keys_of, recording, sites_of, width_of
from clew.read.places import PLACES
from models import MAKERS, VARIANTS, shaken, tiny
from read.bridges import BRIDGED, bridge_over

TOKENIZER = maze_tokenizer(5)
STREAM = MazeStream(((3, 3), (5, 5), (2, 4)), ("dfs", "percolation"), p=0.5, held_out=None, seed=2)


def policy(kind: str = "llama", seed: int = 0) -> Policy:
    return Policy(shaken(kind, len(TOKENIZER), seed).float(), TOKENIZER)


def sequences(count: int = 6) -> list[np.ndarray]:
    return list(maze_sequences(STREAM, range(count), TOKENIZER))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", BRIDGED)
def test_all_sites_equal_transformer_lens(kind: str) -> None:
    reader, rows = policy(kind), sequences()
    (ours,) = gather(reader, rows, sites_of(reader.model))
    bridge = bridge_over(reader, kind)
    assert {site for site, _ in ours.values} == set(sites_of(reader.model))
    assert ("resid_mid" in sites_of(reader.model)) is (kind != "neox")
    for number, row in enumerate(rows):
        _, cache = bridge.run_with_cache(torch.from_numpy(row)[None])
        mine = torch.from_numpy(ours.places.sequence_R == number)
        assert ours.places.position_R[mine.numpy()].tolist() == list(range(len(row)))
        for (site, layer), value in ours.values.items():
            theirs = cache[hook_name((site, layer))][0]
            torch.testing.assert_close(value[mine], theirs, atol=1e-5, rtol=0, msg=f"{kind} {site} {layer}")


@pytest.mark.parametrize("kind", [*MAKERS, *VARIANTS])
def test_sites_add_up_to_the_stream(kind: str) -> None:
    model = policy(kind).model
    (batch,) = gather(policy(kind), sequences(), sites_of(model))
    values = batch.values
    assert all(value.flatten(1).shape[1] == width_of(model, key) for key, value in values.items())
    for layer in range(3):
        stream = values["resid_pre", layer] + values["attn_out", layer]
        if ("resid_mid", layer) in values:
            torch.testing.assert_close(values["resid_mid", layer], stream)
        torch.testing.assert_close(values["resid_post", layer], stream + values["mlp_out", layer])
        if layer:
            assert torch.equal(values["resid_pre", layer], values["resid_post", layer - 1])
        size, shared = 16 if kind == "qwen3-wide" else 8, {"llama": 2, "qwen3": 2, "llama-biased": 2, "qwen3-wide": 1}
        for site in ("q", "z", "k", "v"):
            heads = shared.get(kind, 4) if site in ("k", "v") else 4
            assert values[site, layer].shape == (len(batch), heads, size)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_batches_and_their_padding_change_nothing(batch_size: int) -> None:
    rows = sequences(7)
    assert len(set(map(len, rows))) > 3
    (whole,) = gather(policy(), rows, ["z", "resid_post"])
    parts = list(gather(policy(), iter(rows), ["z", "resid_post"], batch_size=batch_size))
    assert len(parts) == -(-7 // batch_size)
    together = joined(parts)
    for key, value in together.values.items():
        torch.testing.assert_close(value, whole.values[key], atol=1e-6, rtol=1e-5)
    for name, value in vars(whole.places).items():
        assert np.array_equal(getattr(together.places, name), value)
    assert together.questions == whole.questions and together.first == 0
    assert [part.first for part in parts] == list(range(0, 7, batch_size))


def test_some_sites_layers_and_places() -> None:
    (whole,) = gather(policy(), sequences(), ["attn_out", "z"])
    (some,) = gather(policy(), sequences(), ["attn_out"], [2, 0], ["path", "target"], dtype=torch.float16)
    assert list(some.values) == [("attn_out", 0), ("attn_out", 2)]
    for place in ("path", "target"):
        found = some["attn_out", 2, place]
        torch.testing.assert_close(found, whole["attn_out", 2, place].half())
        assert len(found) == some.places.named(place).sum() > 0
    assert set(some.places.place_R.tolist()) == {PLACES.index("path"), PLACES.index("target")}
    assert whole["z", 1, "origin"].shape == (6, 4, 8)
    for where in (("z", 0, "path"), ("attn_out", 1, "path")):
        with pytest.raises(InputError, match=r"activations: .* was not read; there are attn_out 0, attn_out 2"):
            some[where]


def test_the_first_stream_is_the_embeddings_and_a_reading_leaves_no_trace() -> None:
    reader, rows = policy(), sequences()
    reader.model.train()
    before = reader.model(torch.from_numpy(rows[0])[None]).logits
    (batch,) = gather(reader, rows, ["resid_pre"], [0])
    embedded = reader.model.get_input_embeddings()(torch.from_numpy(np.concatenate(rows)))
    torch.testing.assert_close(batch.values["resid_pre", 0], embedded.detach())
    assert torch.equal(reader.model(torch.from_numpy(rows[0])[None]).logits, before) and reader.model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in reader.model.modules())


def test_hooks_go_when_a_pass_fails() -> None:
    model = tiny("llama")
    with pytest.raises(RuntimeError, match="enough"), recording(model, keys_of(model, SITES)):
        raise RuntimeError("enough")
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_it_is_a_stream() -> None:
    read = []

    def endless() -> Any:
        for row in sequences(40):
            read.append(row)
            yield row

    batches = gather(policy(), endless(), batch_size=4)
    assert read == []
    next(batches)
    assert len(read) == 4


def test_questions_and_labels() -> None:
    stream = MazeStream(((3, 3), (4, 4)), held_out=None, seed=1)
    rows = maze_sequences(stream, range(30), TOKENIZER)
    for batch in gather(policy(), rows, layers=[0], batch_size=8):
        table = labels(batch)
        assert len(table) == len(batch)
        for question, number in zip(batch.questions, range(batch.first, 30), strict=False):
            assert question == stream.questions(number)[0]
            mine = table.filter(np.array(table["sequence"]) == number).to_pylist()
            walk = [(row["cell_row"], row["cell_col"]) for row in mine if row["place"] == "path"]
            assert tuple(walk) == question.path and [row["order"] for row in mine if row["place"] == "path"] == list(
                range(len(walk))
            )
            facts = {"rows": question.lattice.rows, "cols": question.lattice.cols, "path_length": len(walk) - 1}
            facts |= {"lookahead": lookahead(question), "held_out": question.lattice.held_out}
            assert all(facts.items() <= row.items() for row in mine)
            start = mine[0]
            assert start["place"] == "list_start" and start["cell_row"] is start["other_col"] is None
            edge = mine[1]
            cells = [(edge[f"{name}_row"], edge[f"{name}_col"]) for name in ("cell", "other")]
            assert question.lattice.connected(*cells)  # type: ignore[arg-type]


def test_pairs_are_read_without_padding() -> None:
    pairs = PairStream(sizes=((3, 3), (5, 5))).batch(range(12), TOKENIZER)
    rows = [row for group in pairs.groups() for row in group.clean_tokens_PT]
    (batch,) = gather(policy(), rows, places=["path"])
    last = np.flatnonzero(np.diff(batch.places.sequence_R, append=12))
    forks = pairs.take(np.argsort(pairs.length_P, kind="stable")).position_P
    assert batch.places.order_R[last].tolist() == forks.tolist()
    with pytest.raises(InputError, match=r"tokens: sequence \d+ begins with \d+ tokens of padding"):
        list(gather(policy(), pairs.clean_tokens_PT))


def test_export_holds_the_same_rows(tmp_path: Path) -> None:
    rows = sequences(4)
    (whole,) = gather(policy(), rows, ["z", "resid_post"])
    table = labels(whole)
    for name, most, count in (("one", 1 << 20, 1), ("some", 30_000, None), ("each", 1, len(whole))):
        batches = gather(policy(), rows, ["z", "resid_post"], batch_size=2)
        assert export(batches, tmp_path / name, most) == len(whole)
        parts = json.loads((tmp_path / name / "activations.json").read_text())["parts"]
        assert len(parts) == count if count else 1 < len(parts) < 9
        found = [load_part(tmp_path / name, part) for part in range(len(parts))]
        assert [len(labelled) for _, labelled in found] == parts
        for key, value in whole.values.items():
            torch.testing.assert_close(torch.cat([values[key] for values, _ in found]), value, atol=1e-6, rtol=1e-5)
        assert [row for _, labelled in found for row in labelled.to_pylist()] == table.to_pylist()
        assert pq.read_table(sorted((tmp_path / name).glob("*.parquet"))).to_pylist() == table.to_pylist()
    assert not list(tmp_path.glob(".*"))


def test_an_export_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    export(gather(policy(), sequences(2)), tmp_path / "a")
    torn = [*sequences(2), np.array([1, 2, 3])]
    with pytest.raises(InputError, match="sequence 0 is no maze question"):
        export(gather(policy(), torn, batch_size=2), tmp_path / "a")
    assert load_part(tmp_path / "a")[1]["sequence"].to_pylist()[-1] == 1
    with pytest.raises(InputError, match="activations: there are none to write"):
        export(gather(policy(), []), tmp_path / "b")
    prompts = [row[: row.tolist().index(6)] for row in sequences(2)]
    with pytest.raises(InputError, match="no sequence was read, or none has such a place"):
        export(gather(policy(), prompts, places=["path"]), tmp_path / "b")
    with pytest.raises(InputError, match="activations: there are none to join"):
        joined([])
    with pytest.raises(InputError, match=r"shard_bytes: 0 is not a whole number from 1"):
        export(gather(policy(), sequences(1)), tmp_path / "b", 0)
    with pytest.raises(InputError, match=r"part: 1 is not one of the 1 of .*, 0 to 0"):
        load_part(tmp_path / "a", 1)
    with pytest.raises(InputError, match=r"holds no activations \(activations.json was expected\)"):
        load_part(tmp_path / "b")
    (tmp_path / "a" / "part-00000.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match="part-00000: cannot be read"):
        load_part(tmp_path / "a")


def test_an_adapter_is_read_as_the_model_that_it_is_merged_into(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    (adapted,) = with_adapters(policy(), ("face",), rank=2)
    with torch.no_grad():
        for parameter in adapted.learnt().values():
            parameter += 0.1
    (ours,) = gather(adapted, sequences(2), SITES)
    adapted.save(tmp_path / "merged")
    (merged,) = gather(Policy.load(tmp_path / "merged"), sequences(2), SITES)
    for key, value in ours.values.items():
        torch.testing.assert_close(value, merged.values[key], atol=1e-4, rtol=1e-4)


def test_names_of_hook_points() -> None:
    for key in keys_of(tiny("llama"), SITES):
        assert key_of(hook_name(key)) == key
    assert hook_name(("z", 1)) == "blocks.1.attn.hook_z" and hook_name(("mlp_out", 0)) == "blocks.0.hook_mlp_out"
    for name in ("blocks.0.hook_z", "blocks.x.hook_resid_post", "resid_post", "", "blocks.00.hook_resid_pre"):
        with pytest.raises(InputError, match=r"is not the name of a hook point, such as blocks\.0\.hook_resid_post"):
            key_of(name)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (dict(sites=["resid_pots"]), r"sites: 'resid_pots' is not one of .*; nearest: resid_post"),
        (dict(sites=[]), "sites: .* is no list of sites"),
        (dict(sites="z"), "sites: 'z' is no list of sites"),
        (dict(layers=[3]), "layers: 3 is not one of the 3 layers of this model, 0 to 2"),
        (dict(layers=[-1]), "layers: -1 is not one of the 3 layers"),
        (dict(layers=[True]), "layers: True is not one of"),
        (dict(layers=[]), "layers: the list is empty"),
        (dict(places=["walls"]), "places: 'walls' is not one of"),
        (dict(places=[]), "places: .* is no list of places"),
        (dict(batch_size=0), "batch_size: 0 is not a whole number from 1"),
        (dict(dtype=torch.int64), "dtype: torch.int64 is not a floating-point type"),
    ],
)
def test_what_does_not_exist_is_named_before_anything_is_read(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        gather(policy(), sequences(1), **asked)


def test_models_that_cannot_be_read() -> None:
    size: Any = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    other = MistralForCausalLM(MistralConfig(vocab_size=len(TOKENIZER), num_key_value_heads=1, **size))
    with pytest.raises(InputError, match="model: activations of 'mistral' cannot be read; supported: llama, qwen3"):
        gather(Policy(other, TOKENIZER), sequences(1))
    with pytest.raises(InputError, match="sites: resid_mid is nowhere in this model, whose attention and MLP read"):
        gather(policy("neox"), sequences(1), ["resid_mid"])
    small = Policy(tiny("llama", 20).float(), TOKENIZER)
    with pytest.raises(InputError, match=r"tokens: \d+ is not one of the 20 tokens of this model, 0 to 19"):
        list(gather(small, sequences(6)))
    with pytest.raises(InputError, match=r"does not know the maze token \(0,3\)"):
        next(maze_sequences(STREAM, [0], maze_tokenizer(3)))


def test_a_model_with_too_few_positions_is_refused() -> None:
    """Learned positions have an end, behind which there is nothing to add; others were not trained behind theirs."""
    rows = sequences(6)
    most = max(map(len, rows))
    for kind in ("gpt2", "llama"):
        reader = policy(kind)
        reader.model.config.max_position_embeddings = most
        assert len(joined(gather(reader, rows))) == sum(map(len, rows))
        reader.model.config.max_position_embeddings = most - 1
        with pytest.raises(InputError, match=f"tokens: {most} of a row are more than the model's window of {most - 1}"):
            list(gather(reader, rows))
