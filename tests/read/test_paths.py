"""Path patching: equal to passes edited by hand, by queries, keys and values apart; what is planted is found."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from clew.errors import InputError
from clew.mazes import maze_tokenizer
from clew.mazes.pairs import PairBatch, PairStream
from clew.policy import Policy
from clew.read.patching import groups_of
from clew.read.paths import RECEIVER_INPUTS, Path, patch_paths, patch_to_logits
from models import MAKERS, VARIANTS, shaken, tiny
from read.byhand import by_hand, metric, put, rows_of
from read.controls import compass

TOKENIZER = maze_tokenizer(4)
Store = dict[tuple[str, int], Tensor]


def policy(kind: str = "llama") -> Policy:
    """One whose heads say so much that queries and keys matter: new models attend to nearly all alike."""
    model = shaken(kind, len(TOKENIZER))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.ndim == 2 else 1)
    return Policy(model, TOKENIZER)


def pairs(count: int = 12, kind: Any = "passage") -> PairBatch:
    return PairStream(kind, sizes=((3, 3), (4, 4))).batch(range(count), TOKENIZER)


def paths() -> list[Path]:
    """With one receiver and with several, in one layer and in two; of four heads, 2 and 3 may share keys."""
    ends: list[tuple[Any, Any]] = [
        ([(0, 1)], [(1, 3)]),
        ([(0, 1)], [(1, 3), (1, 0), (2, 2)]),
        ([(1, 0), (0, 2)], [(2, 1)]),
    ]
    found = [Path(*one, receiver_input=of) for one, of in product(ends, RECEIVER_INPUTS)]
    found += [Path([(0, 0), (0, 2)], [(1, 1)], "edge_second", of) for of in RECEIVER_INPUTS]
    return [*found, Path([(0, 1)]), Path([(0, 0), (1, 2)])]


@torch.no_grad()
def test_equal_to_a_llama_that_is_written_out_and_edited() -> None:
    """Heads 2 and 3 share their keys: what one receives as a key, the other does not read."""
    reader, batch = Policy(tiny("llama", len(TOKENIZER)), TOKENIZER), pairs()
    found, groups = patch_paths(reader, batch, paths()), groups_of(reader, batch)
    for number in (7,):
        clean, corrupt = rows_of(batch, number)
        seen: list[dict[Any, Tensor]] = [{}, {}]
        for row, at in zip((clean, corrupt), seen, strict=True):
            by_hand(reader.model, row, seen=at)
        for which, path in enumerate(paths()):
            where = groups[path.where][number, -len(clean) :]  # type: ignore[index]
            edits: dict[tuple[str, int], Any] = {}
            for layer in range(min(layer for layer, _ in path.senders), 3):
                mixed = seen[0]["z", layer]
                for at, head in path.senders:
                    if at == layer:
                        mixed = put(seen[1]["z", layer], where, slice(8 * head, 8 * head + 8))(mixed)
                edits["z", layer] = lambda _, mixed=mixed: mixed
            heard: dict[Any, Tensor] = {}
            logits_V = by_hand(reader.model, clean, edits, seen=heard)
            if path.receivers:
                taken = "qkv" if path.receiver_input == "all" else path.receiver_input
                read = {(*head, of): heard["normed", head[0]] for head, of in product(path.receivers, taken)}
                logits_V = by_hand(reader.model, clean, read_by_head=read)
            want = metric(batch, number, logits_V)
            got = found.patched["noising"][which, number]
            assert got == pytest.approx(want, abs=1e-6), path.label  # stock models turn by angles in single precision


@contextmanager
def attended_by_hand(model: Any, edits: Mapping[tuple[str, int], Callable[[Tensor], Tensor]]) -> Iterator[Store]:
    """While entered, a stock model attends by the formula, each head with keys and values of its own: (B, H, T, D).
    What is done to them, and to what comes of them, is in the edits; what there was is left in the dictionary."""
    seen: Store = {}

    def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, _: Any, **how: Any) -> Any:
        layer: Any = module.layer_idx
        times, ahead_TT = query.shape[1] // key.shape[1], torch.ones(2 * query.shape[-2:-1]).triu(1).bool()

        def at(name: str, x: Tensor) -> Tensor:
            seen[name, layer] = edits.get((name, layer), lambda x: x)(x)
            return seen[name, layer]

        q, k, v = at("q", query), at("k", key.repeat_interleave(times, 1)), at("v", value.repeat_interleave(times, 1))
        scores = (q @ k.transpose(2, 3) * how["scaling"]).masked_fill(ahead_TT, -math.inf)
        return at("z", scores.softmax(-1) @ v).transpose(1, 2), None

    AttentionInterface.register("by_hand", attend)
    AttentionMaskInterface.register("by_hand", sdpa_mask)
    before = model.config._attn_implementation
    model.set_attn_implementation("by_hand")
    try:
        yield seen
    finally:
        model.set_attn_implementation(before)


def heads_from(source: Tensor, heads: Any, where_T: np.ndarray | None = None) -> Callable[[Tensor], Tensor]:
    """The edit that takes some heads from a source, at some tokens or at all."""
    at = slice(None) if where_T is None else torch.from_numpy(where_T)

    def edit(x: Tensor) -> Tensor:
        x = x.clone()
        for head in heads:
            x[:, head, at] = source[:, head, at]
        return x

    return edit


@torch.no_grad()
@pytest.mark.parametrize("kind", [*MAKERS, *VARIANTS])
def test_equal_to_stock_attention_that_is_edited_by_hand(kind: str) -> None:
    """Every architecture, with biases, shared keys, fused projections and parallel residuals as they come."""
    reader, batch, number = policy(kind), pairs(), 5
    model: Any = reader.model
    found, groups = patch_paths(reader, batch, paths(), ["noising"]), groups_of(reader, batch)
    clean, corrupt = (torch.from_numpy(row)[None] for row in rows_of(batch, number))

    def read(tokens: Tensor, edits: Any) -> tuple[float, Store]:
        with attended_by_hand(model, edits) as seen:
            return metric(batch, number, model(tokens).logits[0, -1]), seen

    def of_layer(heads: Any, layer: int) -> list[int]:
        return [head for at, head in heads if at == layer]

    (plain, base), (_, source) = read(clean, {}), read(corrupt, {})
    assert found.clean_P[number] == pytest.approx(plain, abs=1e-9)
    for which, path in enumerate(paths()):
        where = groups[path.where][number, -clean.shape[1] :]  # type: ignore[index]
        edits: dict[tuple[str, int], Any] = {}
        for layer in range(3):
            mixed = heads_from(source["z", layer], of_layer(path.senders, layer), where)(base["z", layer])
            edits["z", layer] = lambda _, mixed=mixed: mixed
        want, heard = read(clean, edits)
        if path.receivers:
            taken = "qkv" if path.receiver_input == "all" else path.receiver_input
            ends = {layer: of_layer(path.receivers, layer) for layer in range(3)}
            edits = {(of, layer): heads_from(heard[of, layer], ends[layer]) for of in taken for layer in ends}
            want, _ = read(clean, edits)
        assert found.patched["noising"][which, number] == pytest.approx(want, abs=1e-9), path.label
        assert abs(want - plain) > 1e-6, path.label  # or there would be nothing to tell apart


@torch.no_grad()
@pytest.mark.parametrize(("blind", "zero", "whole"), [("q", "qk", "v"), ("k", "qk", "v"), ("v", "v", None)])
def test_a_receiver_that_does_not_look_takes_values_alone(blind: str, zero: str, whole: str | None) -> None:
    """Queries of 0 attend to all alike, whatever the keys; values of 0 say nothing."""
    reader, batch = policy("llama-own-keys"), pairs()
    model: Any = reader.model
    for layer in model.model.layers[1:]:
        layer.self_attn.get_submodule(f"{blind}_proj").weight[:] = 0
    found = patch_paths(reader, batch, [Path([(0, 1)], [(1, 3), (2, 0)], receiver_input=of) for of in RECEIVER_INPUTS])
    for direction in ("noising", "denoising"):
        q, k, v, together = found.shifts_CP(direction)
        shifts = {"q": q, "k": k, "v": v}
        if blind == "v":
            assert max(abs(together)) == 0
            zero = "qkv"
        assert all(np.abs(shifts[of]).max() < 1e-12 for of in zero)
        if whole:
            np.testing.assert_allclose(shifts[whole], together, atol=1e-12)
            assert min(abs(together)) > 1e-9


def relay(reads: Mapping[int, float]) -> Policy:
    """A compass whose head 0.0 does not speak to the logits, but to heads of layer 1: each attends to all alike, and
    says a share of what it is told."""
    reader = compass({(0, 0): (1, 1)})
    layers: Any = reader.model.model.layers  # type: ignore[union-attr]
    with torch.no_grad():
        said = layers[0].self_attn.o_proj.weight
        said[4:6], said[2:4] = said[2:4].clone(), 0
        for head, share in reads.items():
            part, own = layers[1].self_attn, slice(16 * head, 16 * head + 16)
            part.q_proj.weight[own] = part.v_proj.weight[own] = part.o_proj.weight[:, own] = 0
            for axis in range(2):
                part.v_proj.weight[16 * head + axis, 4 + axis] = 1
                part.o_proj.weight[2 + axis, 16 * head + axis] = share
        reader.model.get_input_embeddings().weight[:, 4:6] = 0  # type: ignore[operator]
        reader.model.lm_head.weight[:, 4:6] = 0  # type: ignore[union-attr]
    return reader


def test_shares_of_receivers_that_add_up_are_found_at_their_size() -> None:
    reader, batch = relay({0: 0.3, 1: 0.7}), pairs(200, "target")
    ends: list[Any] = [[(1, 0)], [(1, 1)], [(1, 0), (1, 1)]]
    found = patch_paths(reader, batch, [Path([(0, 0)], one, receiver_input=of) for of in "qkv" for one in ends])  # type: ignore[arg-type]
    for direction in ("noising", "denoising"):
        sizes = [value for value, _, _ in found.effect(direction)]
        np.testing.assert_allclose(sizes, [0] * 6 + [0.3, 0.7, 1], atol=0.02)
        first, second, both = found.shifts_CP(direction)[6:]
        np.testing.assert_allclose(first + second, both, atol=0.03 * np.abs(both).max())  # norms notice a little
    assert all(abs(value) < 0.01 for value, _, _ in patch_to_logits(reader, batch).effect()[:2])


def test_labels() -> None:
    heard, last = Path([(0, 1)], [(2, 0), (1, 3)], "fork", "k"), Path([(0, 1)])
    said = {"senders": "0.1", "receivers": "2.0 1.3", "receiver_input": "k", "place": "fork"}
    assert heard.label == said
    assert last.label == {"senders": "0.1", "receivers": "logits", "receiver_input": "all", "place": "all"}
    rows = patch_paths(policy(), pairs(), [heard, last], ["denoising"]).table().to_pylist()
    assert [{name: row[name] for name in said} for row in rows] == [heard.label, last.label]


@pytest.mark.parametrize(
    ("asked_for", "said"),
    [
        (Path([]), "senders: there are none; expected at least one head"),
        (Path([(0, 0)], [(0, 1)]), r"receivers: \(0, 1\) is not behind the first sender's layer, 0"),
        (Path([(1, 9)]), "head: 9 is not one of the 4 heads of a layer, 0 to 3"),
        (Path([(0, 0)], [(1, 4)], receiver_input="k"), "head: 4 is not one of the 4 heads of a layer, 0 to 3"),
        (Path([(0, 0)], [(3, 1)]), "layers: 3 is not one of the 3 layers"),
        (Path([(0, 0)], [(1, 1)], receiver_input="z"), "receiver_input: 'z' is not one of q, k, v, all"),  # type: ignore[arg-type]
        (Path([(0, 0)], receiver_input="q"), "receiver_input: q without receivers; the logits take all"),
        (Path([(0, 0)], [(1, 1)], "forks"), "places: 'forks' is not one of .*; nearest: fork"),
    ],
)
def test_what_does_not_exist_is_named(asked_for: Path, said: str) -> None:
    with pytest.raises(InputError, match=said):
        patch_paths(policy(), pairs(), [asked_for])
