"""Readings of models whose answer is known: what is there is found, at its size, and what is not there is not."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from clew.mazes import MazeStream, vocab
from clew.mazes.lattice import Question
from clew.mazes.pairs import PairBatch, PairStream
from clew.policy import Policy
from clew.read import cases
from clew.read.activations import Activations, maze_sequences
from clew.read.attribution import TASKS, attribute
from clew.read.cases import ProbeOptions, random_twin
from clew.read.effects import Effects
from clew.read.heads import Ablations, attention, resample_heads
from clew.read.hops import hops
from clew.read.patching import Head, Patch, patch, patch_heads, patch_residual
from clew.read.paths import Path, patch_paths, patch_to_logits
from clew.read.places import find_places
from clew.read.probes import probe_cells, probe_map
from clew.read.steering import Addition, Steering, roll_out, steer
from clew.read.targets import targets_in
from read.controls import GAIN, HEADS, LAYERS, TOKENIZER, adjacent_pairs, compass, corridor, permuted, walker
from read.corridors import corridors

FOUR = ((4, 4),)
EVERY = list(np.ndindex(LAYERS, HEADS))


@cache
def walking() -> Any:
    return walker()


@cache
def pairs(kind: Any, count: int = 40) -> PairBatch:
    return adjacent_pairs(count) if kind == "adjacent" else PairStream(kind, FOUR).batch(range(count), TOKENIZER)


@cache
def mazes(count: int = 60) -> list[np.ndarray]:
    return list(maze_sequences(MazeStream(FOUR, held_out=True), range(count), TOKENIZER))


def questions(count: int) -> list[Question]:
    return [MazeStream(FOUR, held_out=True).questions(number)[0] for number in range(count)]


def prompts(asked: list[Question]) -> list[np.ndarray]:
    return [np.array(TOKENIZER.convert_tokens_to_ids(vocab.prompt_text(one).split())) for one in asked]


def by_head(effects: Effects, direction: Any = "denoising") -> dict[Head, tuple[float, float, float]]:
    return dict(zip(EVERY, effects.effect(direction), strict=True))


def named(values: dict[Head, float], least: float) -> set[Head]:
    return {head for head, value in values.items() if abs(value) > least}


# The fixtures are what they are said to be.


def test_the_walker_walks_on() -> None:
    asked = questions(40)
    for one, rolled in zip(asked, roll_out(walking().policy, prompts(asked)), strict=True):
        path = rolled.path
        assert rolled.ended and path[0] == one.origin
        for before, here, after in zip((None, *path), path, path[1:], strict=False):
            assert after in one.lattice.neighbours(here) and after != before, path  # type: ignore[arg-type]
        onward = [cell for cell in one.lattice.neighbours(path[-1]) if cell not in path[-2:-1]]  # type: ignore[arg-type]
        assert path[-1] == one.target or not onward


def test_the_corridor_model_solves_corridors_and_guesses_at_forks() -> None:
    asked = [corridors(number, held_out=True)[0] for number in range(100)]
    assert all(one.lattice.held_out for one in asked)
    solved = [one.path == rolled.path for one, rolled in zip(asked, roll_out(corridor(), prompts(asked)), strict=True)]
    assert np.mean(solved) > 0.97
    hit_K = dict(zip(TASKS, np.nanmean(attribute(corridor(), mazes()).hit_QK, 0), strict=True))
    assert min(hit_K["forced_steps"], hit_K["path_end"]) > 0.97 and 0.35 < hit_K["forks"] < 0.65


# What looks up the next passage and nothing else.


def test_patching_finds_the_passage_at_the_fork_and_none_far_away() -> None:
    reader, place = walking().policy, ["edge_first", "edge_second", "origin", "target", "walked", "fork"]
    near = patch_residual(reader, pairs("adjacent"), [*place, "changed"], [0, 1])
    for direction in ("noising", "denoising"):
        values = {(one["layer"], one["place"]): value for one, (value, _, _) in _zip(near, direction)}
        for layer in (0, 1):
            edges = values[layer, "edge_first"] + values[layer, "edge_second"]
            assert edges == pytest.approx(1, abs=1e-3) and values[layer, "changed"] > (0.99, 0.3)[layer]
            assert all(abs(values[layer, name]) < 1e-3 for name in place[2:])
        # Behind layer 0 both ends of an edge are known at its second cell, and at its first one alone.
        assert 0.2 < values[0, "edge_first"] < 0.8 and values[1, "edge_second"] == pytest.approx(1, abs=1e-3)
    assert (near.clean_P > 0.9).all() and (near.corrupt_P < -0.9).all()
    for kind in ("passage", "target"):
        far = patch_residual(reader, pairs(kind), ["changed", "fork"])
        assert np.abs(far.clean_P).max() < 0.002 and np.abs(far.corrupt_P).max() < 0.002
        assert all(np.abs(far.shifts_CP(direction)).max() < 1e-6 for direction in ("noising", "denoising"))


def _zip(effects: Effects, direction: Any) -> Any:
    return zip(effects.labels, effects.effect(direction), strict=True)


@pytest.mark.parametrize("planted", [(1, 2), (2, 1)])
def test_the_adjacency_head_is_named_wherever_it_is(planted: Head) -> None:
    by_hand, batch = walker(planted), pairs("adjacent", 24)
    reader = by_hand.policy
    assert len(by_hand.idle) == 4
    for found, direction, others in (
        (patch_to_logits(reader, batch, directions=["denoising"]), "denoising", set()),
        (patch_heads(reader, batch, directions=["noising"]), "noising", {by_hand.heads["partner"]}),
    ):
        values = {head: value for head, (value, _, _) in by_head(found, direction).items()}
        assert values[planted] == pytest.approx(1, abs=1e-3) and named(values, 1e-3) == {planted, *others}
    assert found.labels[EVERY.index(planted)] == {"site": "z", "layer": planted[0], "head": planted[1], "place": "all"}
    receivers = [head for head in EVERY if head[0]]
    sent = patch_paths(reader, batch, [Path([by_hand.heads["partner"]], [head]) for head in receivers], ["denoising"])
    # Through the edge's first cell goes what pairs ask of which it is that cell that differs, and no more.
    column_P = (batch.clean_tokens_PT != batch.corrupt_tokens_PT).argmax(1)
    through_P = (column_P - (batch.clean_tokens_PT.shape[1] - batch.length_P)) % 4 == 1
    whole_P = sent.clean_P - sent.corrupt_P
    share = whole_P[through_P].sum() / whole_P.sum()
    values = {head: value for head, (value, _, _) in zip(receivers, sent.effect(), strict=True)}
    assert named(values, 1e-3) == {planted} and values[planted] == pytest.approx(share, abs=1e-3) and 0.3 < share < 0.7
    score_LH = np.nanmean(attention(reader, mazes()).adjacency_QLH(), 0)
    assert named(dict(zip(EVERY, score_LH.reshape(-1), strict=True)), 0.05) == {planted}
    lost = {(row["layer"], row["head"]): row for row in resample_heads(reader, batch).table().to_pylist()}
    assert named({head: row["shift"] for head, row in lost.items() if head[0]}, 1e-2) == {planted}
    assert lost[planted]["shift_high"] < -GAIN / 4


def test_logits_come_from_the_heads_that_write_them() -> None:
    by_hand = walking()
    found = attribute(by_hand.policy, mazes())
    share_KC = np.nanmean(found.shares_QKC, 0)
    heads = [
        (number, (one["layer"], one["head"])) for number, one in enumerate(found.components) if one["head"] is not None
    ]

    def speaking(task: str) -> set[str]:
        values = {head: share_KC[TASKS.index(task), number] for number, head in heads}
        return {name for name, head in by_hand.heads.items() if head in named(values, 0.3)}

    assert speaking("origin_after_path_start") == {"origin"} and speaking("path_end") == {"arrival", "previous"}
    assert speaking("forks") == speaking("forced_steps") == {"adjacency", "previous"}
    assert all(
        np.nanmax(np.abs(found.shares_QKC[..., number])) < 1e-3 for number, head in heads if head in by_hand.idle
    )
    (number,) = (number for number, head in heads if head == by_hand.heads["adjacency"])
    for row, asked in enumerate(questions(len(mazes()))):  # GAIN / k behind k passages, less the mean of what it writes
        k = len(asked.lattice.neighbours(asked.origin))
        want = GAIN / k - 2 * GAIN / len(TOKENIZER)
        assert found.shares_QKC[row, TASKS.index("first_path_choice"), number] == pytest.approx(want, abs=1e-3)


def test_probes_find_what_the_walker_gathers_once_it_has() -> None:
    """At a path's cell, the passages that lead from it."""
    read = probe_cells(walking().policy, mazes(300), ["wall"], places=["path"], options=ProbeOptions(draws=100))
    above = {row["layer"]: row["above"] for row in read.rows if row["control"] == "model"}
    assert above == {0: False, 1: True, 2: True}


# Heads in another order: every reading moves with them.


def readings(policy: Policy, batch: PairBatch) -> dict[str, np.ndarray]:
    """What each reading says of each head: (L, H, ...)."""
    layers, heads = policy.model.config.num_hidden_layers, policy.model.config.num_attention_heads
    attended = attention(policy, mazes(12))
    shares = attribute(policy, mazes(12))
    which = [number for number, one in enumerate(shares.components) if one["component"] == "head"]
    found = {
        "heads": patch_heads(policy, batch, directions=["noising"]).shifts_CP("noising"),
        "paths": patch_to_logits(policy, batch, directions=["denoising"]).shifts_CP("denoising"),
        "ablated": resample_heads(policy, batch).ablated_AP,
        "attribution": np.nan_to_num(np.moveaxis(shares.shares_QKC[..., which], -1, 0)),
    }
    found = {name: value.reshape(layers, heads, *value.shape[1:]) for name, value in found.items()}
    found["mass"] = np.moveaxis(attended.mass_QLHG, 0, -1)
    found["adjacency"] = np.nan_to_num(np.moveaxis(attended.adjacency_QLH(), 0, -1))
    return found


@pytest.mark.parametrize("kind", ["trained", "by hand"])
def test_readings_move_with_heads(kind: str) -> None:
    policy = _double(kind)
    layers, heads = policy.model.config.num_hidden_layers, policy.model.config.num_attention_heads
    orders = [np.roll(range(heads), layer % 2 + 1).tolist() if heads > 2 else [1, 0] for layer in range(layers)]
    batch = pairs("adjacent" if kind == "by hand" else "passage", 16)
    before, after = readings(policy, batch), readings(permuted(policy, orders), batch)
    for name, value in before.items():
        moved = np.stack([value[layer][order] for layer, order in enumerate(orders)])
        np.testing.assert_allclose(after[name], moved, atol=1e-6, err_msg=name)
        assert np.abs(after[name] - value).max() > 1e-3, name


def _double(kind: str) -> Policy:
    if kind == "by hand":
        return walking().policy
    loaded = Policy.load("zoo:4x4")
    return Policy(loaded.model.double(), loaded.tokenizer)


# What never looks ahead, but was trained: its readings beside those of a model that does.


@cache
def far_pairs() -> PairBatch:
    """The target on either side two steps from the fork or more: one hop is seen by who looks up passages."""
    batch = PairStream("target", FOUR).batch(range(300), TOKENIZER)
    return batch.take(np.minimum(batch.distance_P, batch.corrupt_distance_P) > 1)


def test_the_corridor_model_does_not_know_the_target_at_forks() -> None:
    batch = far_pairs()
    shift, right = {}, {}
    for name, policy in (("short", corridor()), ("solver", Policy.load("zoo:4x4"))):
        found = patch_residual(policy, batch, ["target", "edge_second"], layers=[0])
        assert np.all(found.shifts_CP("denoising")[1] == 0)
        shift[name], right[name] = found.shift()[0], (found.clean_P > 0).mean()
        assert found.shift("noising")[0][0] == pytest.approx(-shift[name][0], rel=0.2)
    assert right["solver"] == 1 and abs(right["short"] - 0.5) < 0.1
    assert shift["solver"][1] > 20 and shift["short"][2] < 0.03 * shift["solver"][0]


def test_steering_turns_who_looks_ahead_and_not_who_does_not() -> None:
    """The other target's embedding in place of the target's: the walk goes the other way, or as it went."""
    batch = far_pairs().take(np.arange(60))
    rows = [row[-length:] for row, length in zip(batch.clean_tokens_PT, batch.length_P, strict=True)]
    wrong = [vocab.parse_cell(word) for word in TOKENIZER.convert_ids_to_tokens(batch.wrong_P.tolist())]
    differs_PT = batch.clean_tokens_PT != batch.corrupt_tokens_PT
    figures = {}
    for name, policy in (("short", corridor()), ("solver", Policy.load("zoo:4x4"))):
        embeddings: Any = policy.model.get_input_embeddings()
        table = embeddings.weight.detach()
        push_QD = table[batch.corrupt_tokens_PT[differs_PT]] - table[batch.clean_tokens_PT[differs_PT]]
        push = Addition("resid_pre", 0, "target", push_QD)
        found = steer(policy, rows, [push], lambda row, path: path[-1] == wrong[row], controls=2, max_new=1)
        figures[name] = {key: (one["value"], one["low"], one["high"]) for key, one in found.figures().items()}
    short, solver = figures["short"], figures["solver"]
    assert solver["wanted"][0] == 1 and solver["plain_wanted"][0] == 0 and solver["wanted_above_random"][1] > 0.5
    assert abs(short["wanted"][0] - short["plain_wanted"][0]) < 0.1 and short["changed"][2] < 0.2
    assert short["changed_above_random"][1] < 0.05


def test_no_hops_are_known_to_who_never_looks_ahead() -> None:
    options = ProbeOptions(draws=100)
    for policy, places in ((corridor(), ("fork", "target_end")), (walking().policy, ("fork",))):
        for place in places:
            known = hops(probe_map(policy, mazes(300), place, ["next_hop"], options=options))
            assert not known.from_target_L.any() and (known.from_current_L <= 1).all() and known.most["target"] > 5


def test_a_random_twin_has_nothing() -> None:
    twin = random_twin(Policy.load("zoo:4x4"), 1)
    rows = [row for row in attention(twin, mazes()).table().to_pylist() if row["group"] == "adjacency"]
    assert len(rows) == 8 and sum(row["mass_low"] > 0.005 or row["mass_high"] < -0.005 for row in rows) == 0
    batch = far_pairs()
    found = patch_residual(twin, batch, ["target"], layers=[0])
    assert abs((found.clean_P > 0).mean() - 0.5) < 0.15 and abs(found.shift()[0][0]) < 0.05


# Intervals hold what was planted as often as they say.

REPEATS, EACH = 60, 40


def held(part: Callable[[np.ndarray], tuple[float, float]], truth: float) -> float:
    """In how many of REPEATS draws of EACH an interval holds the truth."""
    parts = (part(np.arange(number * EACH, (number + 1) * EACH)) for number in range(REPEATS))
    return float(np.mean([low <= truth <= high for low, high in parts]))


@cache
def many() -> PairBatch:
    return PairStream("target", FOUR).batch(range(REPEATS * EACH), TOKENIZER)


@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_a_planted_effect_is_in_its_interval_as_often_as_told(direction: Any) -> None:
    """One head has the rows, whose share is a half in the mean and anything in single pairs."""
    found = patch(compass({(0, 1): (1, 0), (1, 0): (0, 1)}), many(), [Patch("z", 0, head=1)], [direction])

    def interval(which: np.ndarray) -> tuple[float, float]:
        patched = {direction: found.patched[direction][:, which]}
        (row,) = Effects(found.labels, found.clean_P[which], found.corrupt_P[which], patched).table().to_pylist()
        return row["effect_low"], row["effect_high"]

    assert 0.88 <= held(interval, 0.5) < 1
    _, low, high = found.effect(direction)[0]
    assert low < 0.5 < high and high - low < 0.07


def test_what_a_resampled_head_costs_is_in_its_interval_as_often_as_told() -> None:
    """Another question's target lies on no side of the fork in the mean, so the whole difference is lost."""
    found = resample_heads(compass({(1, 0): (1, 1)}), many(), [(1, 0), (0, 0)])
    assert len(found.index_P) >= REPEATS * EACH - 5

    def interval(which: np.ndarray, head: int = 0) -> tuple[float, float]:
        which = which[which < len(found.index_P)]
        row = Ablations(
            found.heads, found.index_P[which], found.clean_P[which], found.hit_P[which], found.ablated_AP[:, which],
            found.hits_AP[:, which],
        ).table().to_pylist()[head]  # fmt: skip
        return row["shift_low"], row["shift_high"]

    lost = -float(found.clean_P.mean())
    assert lost < -0.005 and 0.88 <= held(interval, lost) < 1
    assert interval(np.arange(len(found.index_P)))[1] < 0
    assert np.abs(found.ablated_AP[1] - found.clean_P).max() < 1e-5


def walks() -> list[np.ndarray]:
    return [row[-length:] for row, length in zip(many().clean_tokens_PT, many().length_P, strict=True)]


def part_of(found: Steering, which: np.ndarray, figure: str) -> tuple[float, float]:
    """The interval of some prompts alone."""
    lists = [[side[number] for number in which] for side in (found.plain, found.steered, *found.controls)]
    wanted: Any = found.wanted and (lambda number, path: found.wanted(which[number], path))  # type: ignore[misc]
    known = Steering(lists[0], lists[1], lists[2:], wanted).figures()[figure]
    return known["low"], known["high"]


def test_what_steering_does_is_in_its_interval_as_often_as_told() -> None:
    """Six of ten pushes lead to the end of the path, whatever the maze, and the others nowhere."""
    policy, rows = Policy.build(TOKENIZER, layers=1, width=16, heads=2), walks()
    out: Any = policy.model.get_output_embeddings()
    towards_D = (out.weight[vocab.PATH_END] - out.weight.mean(0)).detach().numpy()
    push_QD = (np.random.default_rng(0).random((len(rows), 1)) < 0.6) * 1000 * towards_D
    lengths = [len(row) - row.tolist().index(vocab.PATH_START) - 1 for row in rows]
    push = Addition("resid_post", 0, "path", push_QD)
    found = steer(policy, rows, [push], lambda number, path: len(path) == lengths[number], controls=0, max_new=1)
    assert 0.88 <= held(lambda which: part_of(found, which, "wanted"), 0.6) < 1


def test_pushes_that_are_random_do_no_more_than_random_ones_as_often_as_told() -> None:
    """Each prompt's direction is its own. One direction for all would be one draw, however many the prompts."""
    policy, rows = Policy.build(TOKENIZER, layers=1, width=16, heads=2), walks()
    push = Addition("resid_post", 0, "path", np.random.default_rng(1).standard_normal((len(rows), 16)), 0.3)
    found = steer(policy, rows, [push], controls=2, max_new=1)
    assert 0.2 < found.figures()["changed"]["value"] < 0.9
    assert 0.88 <= held(lambda which: part_of(found, which, "changed_above_random"), 0.0) < 1


def test_what_a_probe_reads_is_in_its_interval_as_often_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eight passages in ten is planted which end is nearer, of the others the wrong one; beside it stands noise."""
    held_in, above = [], {0: 0, 1: 0}
    for seed in range(30):
        rng, own = np.random.default_rng(seed), Policy.build(TOKENIZER, layers=2, width=8, heads=2)

        def planted(policy: Policy, sequences: Any, *_: Any, rng: Any = rng, own: Policy = own) -> Any:
            rows = list(sequences)
            found, asked = find_places(rows, TOKENIZER), targets_in(rows, TOKENIZER)
            found = found.take(found.named("edge_second"))
            here_R, there_R = (cells_RC @ np.array([4, 1]) for cells_RC in (found.cell_RC, found.other_RC))
            sign_R = np.where(asked.code_at("nearer", found.sequence_R, here_R, there_R, 8) == 2, 1.0, -1.0)
            told_R = sign_R * np.where(rng.random(len(found)) < 0.8, 1, -1)
            values: Any = {("resid_pre", layer): torch.zeros(len(found), 2) for layer in (0, 1)}
            for layer in (0, 1):
                x_RD = rng.normal(size=(len(found), 4))
                x_RD[:, 0] = told_R if policy is own and layer == 1 else x_RD[:, 0]
                values["resid_post", layer] = torch.from_numpy(x_RD.astype(np.float32))
            yield Activations(values, found, [])

        monkeypatch.setattr(cases, "gather", planted)
        rows = list(maze_sequences(MazeStream(FOUR, held_out=True, seed=seed), range(150), TOKENIZER))
        read = probe_cells(
            own, rows, ["nearer"], places=["edge_second"], options=ProbeOptions(draws=100, test=0.4)
        ).rows
        for row in read:
            if row["control"] == "model":
                above[row["layer"]] += row["above"]
                if row["layer"]:
                    held_in.append(row["accuracy_low"] <= 0.8 <= row["accuracy_high"])
    assert np.mean(held_in) >= 0.83 and above[0] <= 2 and above[1] == 30
