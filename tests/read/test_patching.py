"""Patching: equal to a forward pass that is written out and edited by hand; identities; what is planted is found."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clew.errors import InputError
from clew.mazes import maze_tokenizer
from clew.mazes.pairs import PairBatch, PairStream
from clew.policy import Policy
from clew.read.effects import Effects, ratio
from clew.read.hooks import BY_HEAD, SITES, editing, heads_of, hook_name, keys_of, recording, sites_of
from clew.read.passes import asked, go_on, read_rows
from clew.read.patching import (
    GROUPS,
    PARTS,
    Patch,
    groups_of,
    patch,
    patch_attention,
    patch_heads,
    patch_mlp,
    patch_residual,
)
from clew.read.paths import patch_to_logits
from models import MAKERS, VARIANTS, shaken, tiny
from read.bridges import BRIDGED, bridge_over
from read.byhand import by_hand, metric, put, rows_of
from read.controls import compass

TOKENIZER = maze_tokenizer(4)


def policy(kind: str = "llama", seed: int = 0) -> Policy:
    return Policy(shaken(kind, len(TOKENIZER), seed), TOKENIZER)


def pairs(count: int = 12, kind: Any = "passage", seed: int = 0) -> PairBatch:
    return PairStream(kind, sizes=((3, 3), (4, 4)), seed=seed).batch(range(count), TOKENIZER)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["target", "passage"])
def test_equal_to_a_pass_that_was_edited_by_hand(kind: str) -> None:
    reader, batch = policy(), pairs(kind=kind)
    wheres = ["all", "changed", "edge_second", "path", "walked", "fork", "target", 5, -2]
    patches = [Patch(site, layer, where) for site in SITES for layer in range(3) for where in ("edge_second", -2)]
    patches += [Patch("resid_pre", 1, where) for where in wheres]
    patches += [Patch("z", layer, where, head) for layer in range(3) for head in range(4) for where in ("all", "fork")]
    patches += [Patch("k", 1, "all", 1), Patch("v", 2, "edge_second", 0), Patch("q", 2, "all", 3)]
    found, groups = patch(reader, batch, patches, batch_size=5), groups_of(reader, batch)
    for number in range(0, len(batch), 5):
        sides = rows_of(batch, number)
        seen: list[dict[Any, Tensor]] = [{}, {}]
        plain = [
            metric(batch, number, by_hand(reader.model, row, seen=at)) for row, at in zip(sides, seen, strict=True)
        ]
        np.testing.assert_allclose([found.clean_P[number], found.corrupt_P[number]], plain, atol=1e-6)
        for which, one in enumerate(patches):
            length = len(sides[0])
            where = groups[one.where][number, -length:] if isinstance(one.where, str) else np.zeros(length, np.bool_)
            if not isinstance(one.where, str):
                where[one.where] = True
            part = slice(None) if one.head is None else slice(8 * one.head, 8 * one.head + 8)
            key = (one.site, one.layer)
            for direction, base, source in (("noising", 0, 1), ("denoising", 1, 0)):
                edit = put(seen[source][key], where, part)
                want = metric(batch, number, by_hand(reader.model, sides[base], {key: edit}))
                got = found.patched[direction][which, number]  # type: ignore[index]
                assert got == pytest.approx(want, abs=1e-6), (one.label, direction)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", BRIDGED)
def test_equal_to_patching_by_transformer_lens(kind: str) -> None:
    reader, batch = Policy(shaken(kind, len(TOKENIZER)).float(), TOKENIZER), pairs()
    patches = [Patch(site, layer, "changed") for site in sites_of(reader.model) for layer in range(3)]
    patches += [Patch(site, 1, "edge_end", heads_of(reader.model, site) - 1) for site in BY_HEAD]
    # Its resid_mid is what the MLP's norm reads, and not the stream.
    patches = [one for one in patches if one.site != "resid_mid"]
    found, groups = patch(reader, batch, patches), groups_of(reader, batch)
    bridge = bridge_over(reader, kind)
    for number in (1, 6):
        sides = [torch.from_numpy(row)[None] for row in rows_of(batch, number)]
        caches = [bridge.run_with_cache(side)[1] for side in sides]
        for which, one in enumerate(patches):
            where = torch.from_numpy(groups[one.where][number, -sides[0].shape[1] :])  # type: ignore[index]
            at = (slice(None), where) if one.head is None else (slice(None), where, one.head)
            name = hook_name((one.site, one.layer))
            for direction, base, source in (("noising", 0, 1), ("denoising", 1, 0)):

                def put_in(value: Tensor, hook: Any, at: Any = at, of: Tensor = caches[source][name]) -> Tensor:
                    new = value.clone()
                    new[at] = of[at]
                    return new

                logits = bridge.run_with_hooks(sides[base], fwd_hooks=[(name, put_in)])
                got = found.patched[direction][which, number]  # type: ignore[index]
                assert got == pytest.approx(metric(batch, number, logits[0, -1]), abs=1e-5), (one.label, direction)


@pytest.mark.parametrize("kind", [*MAKERS, *VARIANTS])
def test_a_run_patched_with_itself_is_the_same_bit_for_bit(kind: str) -> None:
    reader, batch = policy(kind), pairs()
    same = replace(batch, corrupt_tokens_PT=batch.clean_tokens_PT)
    patches = [Patch(site, layer) for site, layer in keys_of(reader.model, sites_of(reader.model))]
    found = patch(reader, same, patches)
    assert (found.shifts_CP("noising") == 0).all() and (found.shifts_CP("denoising") == 0).all()
    # So is a pass that is gone on with, really: all layers are run again, from edits that put in what is there.
    with asked(reader) as model:
        keys = keys_of(model, sites_of(model))
        for group in batch.groups():
            run = read_rows(model, group.clean_tokens_PT, keys)
            torch.testing.assert_close(run.last_BV, model(torch.from_numpy(group.clean_tokens_PT)).logits[:, -1])
            for key in keys:
                assert torch.equal(go_on(run, {key: lambda _, value=run.values[key]: value}).last_BV, run.last_BV) or (
                    key[0] == "resid_mid"  # what is put in there may be rounded: see `editing`
                )
                assert torch.equal(go_on(run, {key: lambda x: x}).last_BV, run.last_BV)


@pytest.mark.parametrize("kind", [*MAKERS, *VARIANTS])
def test_all_of_the_last_stream_is_the_other_run(kind: str) -> None:
    reader, batch = policy(kind), pairs(40)
    last = [
        Patch("resid_post", 2),
        Patch("resid_post", 2, "fork"),
        Patch("resid_pre", 0),
        Patch("resid_pre", 0, "changed"),
    ]
    found = patch(reader, batch, last)
    for direction in ("noising", "denoising"):
        values = [value for value, _, _ in found.effect(direction)]
        assert values[:2] == [1.0, 1.0] and values[2:] == pytest.approx([1, 1])


@pytest.mark.parametrize("kind", [*MAKERS, *VARIANTS])
def test_columns_that_are_not_read_again_change_nothing(kind: str) -> None:
    reader, batch = policy(kind), pairs()
    with asked(reader) as model:
        keys = keys_of(model, sites_of(model))
        for group in list(batch.groups())[:3]:
            clean, corrupt = (read_rows(model, t, keys) for t in (group.clean_tokens_PT, group.corrupt_tokens_PT))
            assert clean.cache is not None
            for key in keys:
                for start in (1, 9, group.clean_tokens_PT.shape[1] - 1):
                    new = clean.values[key].clone()
                    new[:, start:] = corrupt.values[key][:, start:]
                    whole = go_on(clean, {key: lambda _, new=new: new})
                    short = go_on(clean, {key: lambda _, new=new, start=start: new[:, start:]}, column=start)
                    torch.testing.assert_close(short.last_BV, whole.last_BV)


@pytest.mark.parametrize("kind", [*MAKERS, *VARIANTS])
def test_what_is_written_is_what_is_read_back(kind: str) -> None:
    model, tokens = policy(kind).model, torch.from_numpy(rows_of(pairs(), 0)[0])[None]
    for key in keys_of(model, sites_of(model)):
        wanted: list[Tensor] = []

        def changed(x: Tensor, wanted: list[Tensor] = wanted) -> Tensor:
            wanted.append(x + x.roll(1, -1))  # twice as much would be nothing to what is normed behind
            return wanted[0]

        follow = ("resid_mid" if key[0] in ("q", "k", "v", "z", "attn_out") else "resid_post", key[1])
        if "resid_mid" not in sites_of(model):
            follow = ("resid_post", key[1])
        with torch.no_grad(), recording(model, [key, follow]) as plain:
            model(tokens)
        with torch.no_grad(), editing(model, {key: changed}), recording(model, [key, follow]) as taken:
            model(tokens)
        torch.testing.assert_close(taken[key], wanted[0])
        torch.testing.assert_close(wanted[0], plain[key] + plain[key].roll(1, -1))
        assert not torch.allclose(taken[follow], plain[follow])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_places_of_pairs() -> None:
    batch = pairs(30)
    groups = groups_of(policy(), batch)
    assert set(groups) == set(GROUPS)
    assert np.array_equal(sum(groups[name].astype(int) for name in PARTS), batch.mask_PT.astype(int))
    assert (groups["fork"].sum(1) == 1).all() and groups["fork"][:, -1].all()
    assert (groups["path"].sum(1) == batch.position_P + 1).all()
    assert (groups["changed"].sum(1) <= 2).all()
    in_target = groups_of(policy(), pairs(30, "target"))
    assert np.array_equal(in_target["changed"], in_target["target"])


def test_what_is_planted_is_found_at_its_size() -> None:
    batch = pairs(200, "target")
    reader = compass({(0, 1): (0.3, 0.3), (1, 0): (0.7, 0.7)})
    for found in (patch_heads(reader, batch), patch_to_logits(reader, batch)):
        for direction in ("noising", "denoising"):
            effects = dict(zip([(0, 0), (0, 1), (1, 0), (1, 1)], found.effect(direction), strict=True))
            for head, size in (((0, 0), 0.0), ((0, 1), 0.3), ((1, 0), 0.7), ((1, 1), 0.0)):
                value, low, high = effects[head]
                assert low - 1e-4 <= size <= high + 1e-4 and value == pytest.approx(size, abs=0.01), (head, effects)
    assert all(abs(value) < 1e-6 for value, _, _ in patch_mlp(reader, batch).effect())
    by_place = patch_residual(reader, batch, layers=[1])
    place = {label["place"]: value for label, (value, _, _) in zip(by_place.labels, by_place.effect(), strict=True)}
    assert place["target"] == pytest.approx(0.7, abs=0.01) and place["fork"] == pytest.approx(0.3, abs=0.01)


def test_what_is_planted_stands_out_of_noise() -> None:
    found = patch_heads(compass({(1, 0): (1, 1)}, noise=1.0), pairs(200, "target"))
    assert np.argmax([value for value, _, _ in found.effect()]) == 2
    value, low, _ = found.effect()[2]
    assert value > 0.8 and low > 0.7
    table = found.table().to_pylist()
    assert table[2] | {"layer": 1, "head": 0, "site": "z", "place": "all", "direction": "noising"} == table[2]


def test_a_random_model_has_no_effect_at_the_stated_rate() -> None:
    """Over new models and pairs, intervals of shifts hold 0, and so do those of effects, nearly as often as told."""
    held, ratios, count = 0, 0, 0
    for seed in range(40):
        reader = Policy.build(TOKENIZER, layers=2, width=32, heads=2, seed=seed)
        batch = PairStream("passage", sizes=((4, 4),), seed=seed).batch(range(40), TOKENIZER)
        found = patch_heads(reader, batch, directions=["denoising"])
        figures = list(zip(found.shift(), found.effect(), strict=True))
        held += sum(low <= 0 <= high for (_, low, high), _ in figures)
        ratios += sum(low <= 0 <= high for _, (_, low, high) in figures)
        count += len(figures)
    assert held / count > 0.85 and ratios / count > 0.85


def test_ratios_of_means() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        of_P = rng.normal(1, 1, 60)
        value, low, high = ratio(0.4 * of_P + rng.normal(0, 0.5, 60), of_P)
        inside += low <= 0.4 <= high and low <= value <= high
    assert 0.92 < inside / 400 < 0.98
    assert ratio(np.ones(20), rng.normal(0, 1, 20))[1:] == (-math.inf, math.inf)
    assert ratio(np.ones(20), np.ones(20) * 2) == (0.5, 0.5, 0.5)


def test_specialisations() -> None:
    reader, batch = policy(), pairs()
    for found, site in (
        (patch_attention(reader, batch, ["fork"]), "attn_out"),
        (patch_mlp(reader, batch, [0]), "mlp_out"),
    ):
        assert [(label["site"], label["layer"]) for label in found.labels] == [(site, layer) for layer in range(3)]
    assert len(patch_residual(reader, batch)) == 3 * len(PARTS)
    with pytest.raises(InputError, match=r"direction: 'noising' was not run; there are denoising"):
        patch_residual(reader, batch, ["fork"], directions=["denoising"]).effect("noising")


@pytest.mark.parametrize(
    ("asked_for", "said"),
    [
        (Patch("resid_pots", 0), "sites: 'resid_pots' is not one of"),  # type: ignore[arg-type]
        (Patch("z", 3), "layers: 3 is not one of the 3 layers"),
        (Patch("z", 0, head=4), "head: 4 is not one of the 4 heads of a layer, 0 to 3"),
        (Patch("mlp_out", 0, head=1), "head: 1 of mlp_out, which is not by head; expected one of the sites q, k, v, z"),
        (Patch("z", 0, "forks"), "places: 'forks' is not one of .*; nearest: fork"),
        (Patch("z", 0, 999), r"places: 999 is not a position in all rows, -\d+ to \d+"),
        (Patch("z", 0, np.ones((2, 2), bool)), r"places: bool of shape \(2, 2\) are not bools of shape \(12, \d+\)"),
        (Patch("v", 0, head=2), "head: 2 is not one of the 2 heads of v of a layer, 0 to 1"),
    ],
)
def test_what_does_not_exist_is_named(asked_for: Patch, said: str) -> None:
    with pytest.raises(InputError, match=said):
        patch(policy(), pairs(), [asked_for])


def test_what_cannot_be_asked() -> None:
    def asked_with(batch: PairBatch, patches: Sequence[Patch], **how: Any) -> Effects:
        return patch(policy(), batch, patches, **how)

    with pytest.raises(InputError, match=r"pairs: 9 are too few for a 95% interval; expected at least 10"):
        asked_with(pairs(9), [Patch("z", 0)])
    with pytest.raises(InputError, match="patches: there are none"):
        asked_with(pairs(), [])
    with pytest.raises(InputError, match="directions: 'sideways' is not one of noising, denoising"):
        asked_with(pairs(), [Patch("z", 0)], directions=["sideways"])
    with pytest.raises(InputError, match="batch_size: 0 is not a whole number from 1"):
        asked_with(pairs(), [Patch("z", 0)], batch_size=0)
    with pytest.raises(InputError, match=r"tokens: \d+ is not one of the 20 tokens of this model"):
        patch(Policy(tiny("llama", 20), TOKENIZER), pairs(), [Patch("z", 0)])
