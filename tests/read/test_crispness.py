"""The card: a planted head is all there is, a random twin has nothing, and intervals hold what they should."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from clew.errors import InputError
from clew.mazes import MazeStream, maze_tokenizer
from clew.mazes.pairs import PairBatch, PairStream
from clew.policy import Policy
from clew.read import steerability as steering_of_paths
from clew.read.activations import gather, maze_sequences
from clew.read.cases import random_twin
from clew.read.crispness import (
    CELL_PLACES,
    DERIVED,
    MAP_PLACES,
    NUMBERS,
    CrispnessOptions,
    Row,
    crispness,
    decoded,
    depth_used,
    effective,
    fork_effects,
    holm,
    localised,
    steered,
)
from clew.read.depth import Depth, Removal
from clew.read.effects import LEAST, Effects, difference
from clew.read.hooks import editing
from clew.read.linear import RIDGE
from clew.read.passes import asked, go_on, padded, read_rows
from clew.read.places import Words
from clew.read.probes import Probed, probe_all
from clew.read.steerability import (
    Steerability,
    class_means,
    detours,
    known_detours,
    probe_weights,
    pushed,
    steerability,
)
from models import MAKERS, tiny
from read.controls import compass

TOKENIZER = maze_tokenizer(4)
STREAM = MazeStream(((4, 4),), held_out=True)
SMALL = CrispnessOptions(sizes=((4, 4),), pairs=12, mazes=200, removed=24, draws=60)


def sequences(count: int) -> list[np.ndarray]:
    return list(maze_sequences(STREAM, range(count), TOKENIZER))


def pairs(count: int, seed: int = 0) -> PairBatch:
    return PairStream(sizes=((4, 4),), seed=seed).batch(range(count), TOKENIZER)


def head_of(rows: list[Row]) -> Row:
    assert rows[0]["part"] == "all"
    return rows[0]


# Localisation


def drawn(rng: np.random.Generator, mean_C: np.ndarray, noise: float, count: int = 60) -> Effects:
    """Sites whose effects all grow with what is at stake in a pair, and each for itself."""
    stake_P = rng.normal(1, 0.3, count)
    shift_CP = mean_C[:, None] * stake_P + noise * rng.normal(size=(len(mean_C), count))
    labels = [{"site": "z", "layer": n, "head": 0, "place": "fork"} for n in range(len(mean_C))]
    return Effects(labels, stake_P, -stake_P, {"denoising": shift_CP - stake_P})


@pytest.mark.parametrize(("profile", "noise"), [("steep", 0.2), ("few", 0.3), ("even", 1.0)])
def test_localisation_is_within_its_interval_as_often_as_it_should(profile: str, noise: float) -> None:
    """And right in the mean: the best are not those that had luck, as they are where they are chosen and measured on
    the same pairs."""
    number_C = np.arange(70)
    mean_C = {"steep": np.exp(-number_C / 8), "few": 2.0 * (number_C < 3), "even": np.ones(70)}[profile]
    mean_C = np.random.default_rng(1).permutation(mean_C)
    ranked_C, weight_C = np.sort(mean_C)[::-1], np.clip(3.5 - number_C, 0, 1)
    truth, rng = float(weight_C @ ranked_C / mean_C.sum()), np.random.default_rng(2)
    found = [head_of(localised(drawn(rng, mean_C, noise))) for _ in range(150)]
    assert found[0]["null"] == pytest.approx(0.05)
    inside = np.mean([row["value_low"] <= truth <= row["value_high"] for row in found])
    assert 0.89 < inside < 0.985 and np.mean([row["value"] for row in found]) == pytest.approx(truth, abs=0.02)


def test_a_planted_head_is_all_there_is() -> None:
    options = replace(SMALL, kinds=("target",), pairs=40)
    rows = localised(fork_effects(compass({(1, 0): (1.0, 1.0)}), options))
    assert head_of(rows)["value"] == pytest.approx(1, abs=1e-3) and head_of(rows)["null"] == 1 / 18
    assert rows[1]["part"] == "z 1.0 fork" and rows[1]["value"] == pytest.approx(1, abs=1e-3)
    spread = head_of(localised(fork_effects(compass({(0, 1): (0.3, 0.3), (1, 0): (0.7, 0.7)}), options)))
    assert spread["value"] == pytest.approx(0.7, abs=0.01)


def test_where_no_fork_is_chosen_there_is_nothing_to_localise() -> None:
    for seed in range(3):
        twin = random_twin(Policy.build(TOKENIZER, layers=2, width=32, heads=2), seed)
        (row,) = localised(fork_effects(twin, SMALL))
        assert row["value"] is None and row["remark"].startswith("no effect to localise: the clean side is more for")
    noise = np.random.default_rng(0).normal(size=(3, 40))
    (row,) = localised(Effects([{}] * 3, noise[0] + 9, noise[1] - 9, {"denoising": noise + noise[1] - 9}))
    assert row["value"] is None  # the model chooses, but no site makes it


def test_sites_are_those_that_can_have_an_effect() -> None:
    """Beside them nothing has any, in any model, and all of them have some in a random one."""
    found = fork_effects(Policy(tiny("llama", len(TOKENIZER)), TOKENIZER), replace(SMALL, kinds=("passage",)))
    sites = {(label["site"], label["layer"], label["head"], label["place"]) for label in found.labels}
    assert len(sites) == len(found) == 5 * (2 * 14 + 1)  # 4 heads and the MLP, in two layers and at the fork of a third
    assert (np.abs(found.shifts_CP("denoising")).max(1) > 1e-9).all()
    assert not [place for *_, place in sites if place == "list_start"]


# Decodability


def counted(rng: np.random.Generator, accuracy: dict[tuple[str, int], float], mazes: int = 80) -> Probed:
    """A reading of a label of two classes, four cases a maze, by control and layer told rightly so often."""
    counts: dict[Any, np.ndarray] = {}
    for (control, layer), rate in accuracy.items():
        truth_MN, right_MN = rng.integers(2, size=(mazes, 4)), rng.random((mazes, 4)) < rate
        said_MN = np.where(right_MN, truth_MN, 1 - truth_MN)
        one_hot = np.eye(2, dtype=np.float32)
        parts = one_hot[truth_MN] * right_MN[..., None], one_hot[said_MN], one_hot[truth_MN]
        counts[control, ("resid_post", layer), "fork", "on_path"] = np.stack([part.sum(1) for part in parts], 1)
    return Probed([], counts)


def test_decodability_is_within_its_interval_and_nothing_is_gained_by_choosing() -> None:
    rng, layers = np.random.default_rng(0), range(8)
    controls = {(control, layer): 0.7 for control in ("random", "majority") for layer in layers}
    for rates, truth in (
        ({layer: 0.7 for layer in layers}, 0.0),
        ({layer: 0.5 + 0.06 * layer for layer in layers}, 0.22),
    ):
        mine = {("model", layer): rate for layer, rate in rates.items()}
        found = [head_of(decoded([counted(rng, mine | controls)], 100)) for _ in range(60)]
        inside = [row["value_low"] <= truth <= row["value_high"] for row in found]
        assert np.mean(inside) > 0.92 and np.mean([row["value"] for row in found]) == pytest.approx(truth, abs=0.015)
    assert "resid_post 7 fork against" in decoded([counted(rng, mine | controls)], 200)[1]["remark"]


def test_what_probes_tell_beyond_the_card_changes_nothing() -> None:
    own = Policy.build(TOKENIZER, layers=2, width=32, heads=2)
    maps, cells = probe_all(own, sequences(200), MAP_PLACES, ("edge_first", *CELL_PLACES), options=SMALL.probing())
    less_maps, less = probe_all(own, sequences(200), MAP_PLACES, CELL_PLACES, DERIVED, options=SMALL.probing())
    assert decoded([*maps.values(), cells], 60) == decoded([*less_maps.values(), less], 60)
    assert {name[-1] for name in cells.counts} - {name[-1] for name in less.counts} == {"wall"}


# Steerability


@pytest.mark.parametrize("kind", MAKERS)
def test_pushes_are_those_of_a_plain_reading_token_by_token(kind: str) -> None:
    """Each prompt is written out greedily, row by row, every token of the path pushed as it is read."""
    reader, words = Policy(tiny(kind, len(TOKENIZER)).float(), TOKENIZER), Words.of(TOKENIZER)
    keys: Any = [("resid_post", 0), ("resid_post", 1)]
    means = class_means(reader, sequences(120), keys)
    asked_for = detours(pairs(30), words).known(means)
    settings = [(key, strength) for key in keys for strength in (1.0, 1000.0)]
    found = pushed(reader, asked_for, means, settings, 1, batch_size=7)
    assert found[:, 0, 0].any() and not found[:, 0].all()
    for number, (key, strength) in enumerate(settings):
        for row in range(0, len(asked_for.rows), 5):
            tokens, hits = asked_for.rows[row], []
            for place, own, wanted in asked_for.pushes[row]:

                def edit(x_BTD: torch.Tensor, last: int = place, row: int = row) -> torch.Tensor:
                    new_BTD = x_BTD.clone()
                    for at, a, b in asked_for.pushes[row]:
                        if at <= last:
                            new_BTD[0, at] += strength * torch.from_numpy(means[b][key] - means[a][key]).to(x_BTD)  # noqa: B023
                    return new_BTD

                with asked(reader) as model, editing(model, {key: edit}):
                    logits_BTV = model(torch.from_numpy(tokens[None, : place + 1])).logits
                assert own[0] == wanted[0] == tokens[place]
                hits.append(int(logits_BTV[0, -1].argmax()) == wanted[1])
            assert found[number, 0, :, row].tolist() == [hits[0], all(hits)]


@pytest.mark.parametrize("column", [None, 0])
def test_columns_that_no_push_is_at_are_not_read_again(column: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading on from the first token that is pushed gives what reading all of it does: at every setting and draw, and
    it is read from there."""
    reader, words, key = Policy.load("zoo:4x4"), Words.of(TOKENIZER), ("resid_post", 1)
    means = class_means(reader, sequences(200), [key])  # type: ignore[list-item]
    asked_for = detours(pairs(24), words).known(means)
    rows = padded(asked_for.rows, reader.pad_token_id)
    at = [(row, place) for row, some in enumerate(asked_for.pushes) for place, *_ in some]
    row_N, place_N = (torch.tensor(part) for part in zip(*at, strict=True))
    push_ND = np.random.default_rng(0).standard_normal((len(at), 64)) * 5
    read_from: list[int] = []
    monkeypatch.setattr(
        steering_of_paths, "go_on", lambda *args, **how: read_from.append(how["column"]) or go_on(*args, **how)
    )
    if column is not None:
        monkeypatch.setattr(steering_of_paths, "start_column", lambda *_: column)
    with asked(reader) as model:
        base = read_rows(model, rows)
        told_N = steering_of_paths._likeliest(base, key, row_N, place_N, push_ND)  # type: ignore[arg-type]
        for number, row in enumerate(asked_for.rows):
            mine = row_N == number

            def edit(x_BTD: torch.Tensor, mine: torch.Tensor = mine) -> torch.Tensor:
                new_BTD = x_BTD.clone()
                new_BTD[0, place_N[mine]] += torch.from_numpy(push_ND[mine]).to(x_BTD)
                return new_BTD

            with editing(model, {key: edit}):  # type: ignore[dict-item]
                logits_TV = model(torch.from_numpy(row[None])).logits[0]
            assert logits_TV[place_N[mine]].argmax(-1).tolist() == told_N[mine.numpy()].tolist()
    assert read_from == [int(place_N.min()) if column is None else 0] and place_N.min() > 60


def test_a_probes_directions_are_those_of_its_formula_and_turn_steps_too() -> None:
    reader, key, rows = Policy.load("zoo:4x4"), ("resid_post", 2), sequences(300)
    keys: Any = [key]
    means = class_means(reader, rows, keys)
    weights = probe_weights(reader, rows, means, keys, batch_size=7)
    sums, counts = np.zeros((64, 64)), dict.fromkeys(means, 0)
    for batch in gather(reader, rows, ["resid_post"], [2], ["path"]):
        at = zip(batch.places.sequence_R.tolist(), batch.places.position_R.tolist(), strict=True)
        for x_D, (row, place) in zip(batch.values[keys[0]].double().numpy(), at, strict=True):
            if (name := tuple(rows[row][place : place + 2].tolist())) in means:
                sums, counts[name] = sums + np.outer(x_D, x_D), counts[name] + 1
    within = sums - sum(count * np.outer(means[name][keys[0]], means[name][keys[0]]) for name, count in counts.items())
    within += RIDGE * np.diag(np.diag(within))
    for name, by in weights.items():
        np.testing.assert_allclose(by[keys[0]], np.linalg.solve(within, means[name][keys[0]]), rtol=1e-5, atol=1e-9)
    found = steerability(reader, pairs(24), sequences(600), directions="probe")
    assert found.gain("step", 2)[1] > 0.3
    table = found.table(directions="probe").to_pylist()
    assert [row["layer"] for row in table if row["success"] == "path"] == [None, 0, 1, 2]
    assert all(row["value"] == pytest.approx(row["pushed"] - row["random"]) for row in table)
    with pytest.raises(InputError, match="directions: 'luck' is not one of means, probe"):
        steerability(reader, pairs(24), rows, directions="luck")  # type: ignore[arg-type]


def test_pairs_that_can_be_pushed_are_told_without_a_model() -> None:
    """They are those whose classes have a mean, of mazes that are no pair's."""
    some, words, rows = pairs(40), Words.of(TOKENIZER), sequences(180)
    found, fresh = known_detours(some, rows, words)
    means = class_means(Policy.build(TOKENIZER, layers=1, width=16, heads=2), fresh, [("resid_post", 0)])
    expected = detours(some, words).known(means)
    assert LEAST <= len(found.rows) < 40 and found.pushes == expected.pushes
    assert all(np.array_equal(a, b) for a, b in zip(found.rows, expected.rows, strict=True))


def test_detours_are_the_corrupt_sides_paths() -> None:
    stream, words = PairStream(sizes=((4, 4),)), Words.of(TOKENIZER)
    found = detours(stream.batch(range(20), TOKENIZER), words)
    for number, (row, pushes) in enumerate(zip(found.rows, found.pushes, strict=True)):
        pair = stream.pair(number)
        cells = [tuple(words.cell_VC[token].tolist()) for token in row[row.tolist().index(6) + 1 :]]
        assert tuple(cells) == pair.corrupt.path and pushes[-1][2] == (row[-1], TOKENIZER.vocab["<PATH_END>"])  # type: ignore[attr-defined]
        (_, (fork, right), (_, wrong)), *_ = pushes
        named = [tuple(words.cell_VC[token].tolist()) for token in (fork, right, wrong)]
        assert named == [pair.walk[-1], pair.right, pair.wrong]
        assert [place for place, *_ in pushes] == list(range(len(row) - len(pushes), len(row)))


def test_the_setting_is_chosen_on_other_pairs() -> None:
    """Of settings that succeed by luck alone none is above random ones, though the best of them all seems to be."""
    rng, inside = np.random.default_rng(0), []
    settings: Any = [(("resid_post", layer), strength) for layer in range(4) for strength in (1.0, 2.0)]
    for _ in range(200):
        value, low, high = Steerability(settings, rng.random((8, 3, 2, 40)) < 0.3).gain()
        inside.append(low <= 0 <= high)
        assert low <= value <= high
    assert np.mean(inside) > 0.9
    hits = np.zeros((8, 3, 2, 40), np.bool_)
    hits[5, 0] = True
    rows = steered(Steerability(settings, hits))
    assert head_of(rows)["value"] == 1 and head_of(rows)["value_low"] > 0.85
    assert head_of(rows)["remark"] == "whole paths turned: 100.0%, by random pushes 0.0%; pushed 2 times behind layer 2"
    by = {row["part"]: row["value"] for row in rows}
    assert by == {"all": 1, "step": 1, "layer 0": 0, "layer 1": 0, "layer 2": 1, "layer 3": 0}
    assert difference(np.zeros(40), np.zeros(40))[1] < -0.05


def test_a_model_that_is_asked_nothing_of_is_not_steered() -> None:
    with pytest.raises(InputError, match="model: of its one layer none is before the last; expected at least 2"):
        steerability(Policy.build(TOKENIZER, layers=1, width=16, heads=2), pairs(12), sequences(40))
    with pytest.raises(InputError, match="layer: 3 was not pushed"):
        Steerability([(("resid_post", 0), 1.0)], np.zeros((1, 2, 2, 12), np.bool_)).gain("path", 3)
    with pytest.raises(InputError, match=r"questions: too few to push by: 0 of 12 pairs .* 5 or more of 2 questions"):
        steerability(Policy.build(TOKENIZER, layers=2, width=16, heads=2), pairs(12), sequences(2))


# Depth used


def lost(cost_L: list[float], count: int = 120, seed: int = 0) -> Depth:
    """Three forks a maze, all right, but for those that each layer's removal costs."""
    rng, layers = np.random.default_rng(seed), len(cost_L)
    right_LQ = 3 - rng.binomial(3, np.array(cost_L)[:, None], (layers, count))
    whole, none = np.full(count, 3), np.zeros((layers, count), np.bool_)
    removals = [Removal(layer, "layer", "mean") for layer in range(layers)]
    return Depth(removals, whole, whole, np.ones(count, np.bool_), right_LQ, none, np.tile(whole, (layers, 1)), none)


def test_depth_is_what_was_planted() -> None:
    for cost_L, truth in (([0.5] * 4, 4.0), ([0.6, 0.0, 0.0, 0.0], 1.0), ([0.4, 0.4, 0.0, 0.0], 2.0)):
        row, layers, above, *each = depth_used(lost(cost_L), 200)
        assert row["value_low"] - 0.05 <= truth <= row["value_high"] + 0.05
        used = sum(cost > 0 for cost in cost_L)
        assert (layers["value"], layers["value_high"], above["value"]) == (used, 4, used)
        assert [one["part"] for one in each] == [f"layer {layer}" for layer in range(4)]
    row, layers, *_ = depth_used(lost([0.0] * 4), 200)
    assert row["value"] is None and layers["value"] == 0 and "; 0 of 4 removals cost right" in row["remark"]
    assert effective(np.array([[1.0, 1.0, -3.0]])) == pytest.approx(2)


def test_holm_finds_hardly_any_where_there_are_none() -> None:
    rng = np.random.default_rng(0)
    wrong = [holm(rng.normal(size=(6, 80))).any() for _ in range(400)]
    assert np.mean(wrong) < 0.05  # half of it is on the other side
    assert holm(rng.normal(size=(6, 80)) + np.array([1, 0, 0, 0, -1, 0])[:, None]).tolist() == [True] + [False] * 5


# The card


def test_a_random_twin_has_nothing() -> None:
    twin = random_twin(Policy.build(TOKENIZER, layers=2, width=32, heads=2), 5)  # another one than its control
    card = crispness(twin, SMALL)
    assert card.figure("localisation") is card.figure("depth_used") is None
    pushed_twin, told = card.figure("steerability"), card.figure("decodability")
    assert pushed_twin and pushed_twin[1] <= 0 <= pushed_twin[2]
    (null,) = [row["null"] for row in card.rows if (row["number"], row["part"]) == ("decodability", "all")]
    assert told and told[1] <= max(0, null) + 0.02 and abs(told[0] - null) < 0.05
    assert {row["number"] for row in card.rows} == set(NUMBERS)
    table = card.table().to_pylist()
    assert len(table) == len(card.rows) and set(table[0]) == set(card.rows[0])
    with pytest.raises(InputError, match="number: 'crispiness' is not one of localisation, decodability"):
        card.figure("crispiness")


def test_a_trained_model_is_crisp() -> None:
    card = crispness(Policy.load("zoo:4x4"), replace(SMALL, kinds=("target",), pairs=16))
    for number, least in (("localisation", 0.2), ("steerability", 0.0), ("depth_used", 1.5)):
        figure = card.figure(number)
        assert figure and figure[1] > least


def test_one_layer_has_no_layer_to_steer_at() -> None:
    card = crispness(Policy.build(TOKENIZER, layers=1, width=16, heads=2), SMALL)
    assert card.figure("steerability") is None


def test_what_cannot_be_used_is_named() -> None:
    for changes, said in (
        ({"pairs": 9}, "pairs: 9 are too few for a 95% interval; expected at least 10"),
        ({"kinds": ("targets",)}, r"kinds: .*targets.* are not some of target, passage"),
        ({"mazes": 100}, "removed: 200 is not from 10 to mazes, 100"),
        ({"generators": ("dsf",)}, "generators?: .*dsf"),
        ({"seed": -1}, "seed: -1 is not a whole number from 0"),
    ):
        with pytest.raises(InputError, match=said):
            CrispnessOptions(**{"sizes": ((4, 4),), **changes})  # type: ignore[arg-type]
