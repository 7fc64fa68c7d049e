"""Probes: what was planted is found and nothing else; tokens before the target never know it; mazes stay apart."""

from typing import Any

import numpy as np
import pytest
import torch

from clew.errors import InputError
from clew.mazes import MazeStream, maze_tokenizer
from clew.mazes.pairs import PairStream
from clew.policy import Policy
from clew.read import cases
from clew.read.activations import Activations, gather, maze_sequences
from clew.read.cases import ProbeOptions, random_twin, split_mazes
from clew.read.linear import Moments, hits, shares
from clew.read.places import Words, find_places
from clew.read.probes import CONTROLS, probe_all, probe_cells, probe_map
from clew.read.targets import OF_TARGET, targets_in

TOKENIZER = maze_tokenizer(4)
STREAM = MazeStream(((4, 4),), held_out=True)
QUICK = ProbeOptions(draws=200)


def policy(layers: int = 2) -> Policy:
    return Policy.build(TOKENIZER, layers=layers, width=32, heads=2)


def sequences(count: int, stream: MazeStream = STREAM) -> list[np.ndarray]:
    return list(maze_sequences(stream, range(count), TOKENIZER))


def test_a_maze_is_never_on_both_sides() -> None:
    targets = targets_in(sequences(600, MazeStream(((3, 3), (4, 4)), held_out=True)), TOKENIZER)
    for share in (0.2, 0.5):
        test_Q, maze_Q = split_mazes(targets, ProbeOptions(test=share))
        assert not set(targets.maze_Q[test_Q]) & set(targets.maze_Q[~test_Q])
        names = set(zip(targets.maze_Q[test_Q], maze_Q[test_Q], strict=True))
        assert len(names) == len({maze for maze, _ in names}) == maze_Q.max() + 1 and (maze_Q[~test_Q] == -1).all()
        assert len(names) == pytest.approx(share * len(set(targets.maze_Q)), rel=0.35)
    assert (split_mazes(targets, ProbeOptions(seed=1))[0] != split_mazes(targets)[0]).any()


def test_a_random_twin_has_the_shape_and_nothing_else() -> None:
    one = policy()
    with torch.no_grad():
        for parameter in one.model.parameters():
            parameter += 1
    twin, again = random_twin(one, 3), random_twin(one, 3)
    theirs = dict(one.model.named_parameters())
    for name, parameter in twin.model.named_parameters():
        assert parameter.shape == theirs[name].shape and not torch.equal(parameter, theirs[name])
        assert torch.equal(parameter, dict(again.model.named_parameters())[name])


def test_tokens_before_the_target_are_at_the_level_of_another_target() -> None:
    """Whatever the model: of the differences between labels of the true and of another target, as many stand apart as
    chance puts there, though the maze itself is known; and after the target they differ."""
    rows, trained = sequences(800), Policy.load("zoo:4x4")
    found = probe_cells(trained, rows, OF_TARGET, layers=[0, 1], places=["edge_end"], options=QUICK).rows
    for place in ("list_end", "origin", "target_end"):
        found += probe_map(trained, rows, place, OF_TARGET, layers=[0, 1], options=QUICK).rows
    apart: dict[bool, list[bool]] = {True: [], False: []}
    by = {tuple(row[name] for name in ("layer", "place", "label", "control")): row for row in found}
    for (layer, place, label, control), row in by.items():
        if control == "model":
            other = by[layer, place, label, "retargeted"]
            apart[row["after_target"]].append(row["macro_f1_low"] > other["macro_f1_high"])
            assert row["after_target"] == (place == "target_end")
    assert len(apart[False]) == 24 and sum(apart[False]) <= 1
    assert np.mean(apart[True]) > 0.7
    known = by[1, "list_end", "next_hop", "model"]
    assert known["macro_f1_low"] > by[1, "list_end", "next_hop", "shuffled"]["macro_f1_high"]


def test_rows_are_tidy_and_hold_all_controls() -> None:
    rows = sequences(300)
    read = probe_cells(
        policy(), rows, sites=("z", "resid_post"), layers=[1], places=("edge_end", "path"), options=QUICK
    )
    assert read.table().num_rows == len(read.rows)
    by = {(row["site"], row["layer"], row["place"], row["label"], row["control"]) for row in read.rows}
    assert len(by) == len(read.rows) and {row["form"] for row in read.rows} == {"cell"}
    for site in ("z", "resid_post"):
        for label in ("next_hop", "on_path", "distance", "nearer"):
            mine = {control for *where, control in by if where == [site, 1, "edge_end", label]}
            assert mine == {"model", *CONTROLS}
        assert (site, 1, "edge_end", "wall", "retargeted") not in by
        assert not [where for where in by if where[2:4] in (("path", "on_path"), ("path", "nearer"))]
    for row in read.rows:
        assert 0 <= row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"] <= 1
        assert row["sanity"] == (row["label"] == "wall") and (row["above"] is None) == (row["control"] != "model")
        assert row["test_mazes"] >= 20 and row["train"] > row["test"] > 0
    shared = [row["macro_f1"] for row in read.rows if row["control"] == "embeddings" and row["label"] == "wall"]
    assert len(set(shared)) == 2 and len(shared) == 4


def test_batches_change_nothing() -> None:
    rows = sequences(200)
    for read in (
        lambda options: probe_cells(policy(), rows, ["next_hop"], places=["edge_end"], options=options),
        lambda options: probe_map(policy(), rows, "path_start", ["next_hop"], options=options),
    ):
        one, other = (read(ProbeOptions(draws=40, batch_size=size)).rows for size in (200, 13))
        for mine, theirs in zip(one, other, strict=True):
            assert mine["accuracy"] == pytest.approx(theirs["accuracy"], abs=0.01)


def test_one_pass_for_all_places_tells_what_one_for_each_does() -> None:
    rows, own, labels = sequences(200), policy(), ["next_hop", "wall"]
    maps, cells = probe_all(own, rows, ["fork", "target_end"], ["edge_end", "path"], labels, options=QUICK)
    for place, found in maps.items():
        alone = probe_map(own, rows, place, labels, options=QUICK)
        assert found.rows == alone.rows and (found.current_Q == alone.current_Q).all()
        assert found.right.keys() == alone.right.keys() and len(found.right) == 2 * (6 + 5)
        assert all((found.right[key] == alone.right[key]).all() for key in alone.right)
    assert cells.rows == probe_cells(own, rows, labels, places=["edge_end", "path"], options=QUICK).rows
    with pytest.raises(InputError, match="place: 'edge_end' is not one that a sequence has once"):
        probe_all(own, rows, ["edge_end"], ["path"])


def test_a_reading_is_what_is_fitted_and_told_by_hand() -> None:
    """Each probe and control of `probe_all` at one token and at edges: fitted to the mazes of one side alone, with the
    labels that are its own, and counted maze by maze on the other."""
    own, rows, label = policy(), sequences(240), "next_hop"
    with torch.no_grad():  # or it would be its own random twin
        for parameter in own.model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5))
    options = ProbeOptions(draws=40, batch_size=240)
    true = targets_in(rows, TOKENIZER)
    test_Q, maze_Q = split_mazes(true, options)
    versions = {"true": true, "retargeted": true.retargeted(0), "shuffled": true.shuffled(0, test_Q.astype(np.int64))}
    maps, cells = probe_all(own, rows, ["target_end"], ["edge_end"], [label], layers=[1], options=options)
    embedded_VD = own.model.get_input_embeddings().weight.detach().numpy()  # type: ignore[operator]
    number_of = {tuple(cell): number for number, cell in enumerate(Words.of(TOKENIZER).cell_VC.tolist())}
    table_CD = embedded_VD[[number_of[r, c] for r in range(4) for c in range(4)]]
    for place, reading in (("target_end", maps["target_end"]), ("edge_end", cells)):
        x, found, token_RD = {}, None, np.zeros(0)
        for name, one in (("model", own), ("random", random_twin(own, 0))):
            (batch,) = gather(one, rows, ["resid_pre", "resid_post"], [0, 1], [place], 240)
            x[name] = batch["resid_post", 1, place].flatten(1).numpy()
            if name == "model":
                found = batch.places.take(batch.places.named(place))
                token_RD = batch["resid_pre", 0, place].numpy()
        assert found is not None
        question_R = found.sequence_R
        first_R, second_R = (part @ np.array([4, 1]) for part in (found.cell_RC, found.other_RC))
        if place == "target_end":
            first_R, second_R = true.origin_Q[question_R], true.target_Q[question_R]
        x["embeddings"] = np.concatenate([token_RD, table_CD[first_R], table_CD[second_R]], 1)
        for control in ("model", *CONTROLS):
            code_QU = versions.get(control, true).code(label)
            code_RU = code_QU[question_R] if place == "target_end" else code_QU[question_R, first_R][:, None]
            parts_RUC, x_RD = shares(code_RU, 4), x.get(control, x["model"])
            moments, tested_R = Moments(), test_Q[question_R]
            moments.add(x_RD[~tested_R], {(label, "true"): parts_RUC[~tested_R].astype(np.float64)})
            reader = moments.reader((label, "true"), moments.whitening())
            if control == "majority":
                reader = moments.majority((label, "true"))
            told_RU = reader.predict(x_RD[tested_R])
            counts_M3C = np.zeros((maze_Q.max() + 1, 3, 4))
            np.add.at(counts_M3C, maze_Q[question_R[tested_R]], hits(told_RU, parts_RUC[tested_R]))
            np.testing.assert_allclose(
                *(reading.counts[control, ("resid_post", 1), place, label], counts_M3C), atol=1e-4, err_msg=control
            )


def test_forks_are_forks_drawn_evenly_and_one_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = sequences(400)
    read = probe_map(policy(), rows, "fork", ["next_hop"], layers=[0], options=QUICK)
    true = read.versions["true"]
    degree_Q = true.open_QGU.sum(1)[np.arange(len(true)), read.current_Q]
    assert ((degree_Q > 2) | ((degree_Q == 2) & (read.current_Q == true.origin_Q))).all()
    assert (true.code("on_path")[np.arange(len(true)), read.current_Q] == 2).all()
    assert len(true) > 50 and len(set(read.current_Q)) > 8
    pairs = PairStream(sizes=((4, 4),)).batch(range(300), TOKENIZER)
    begun = [row for group in pairs.groups() for row in group.clean_tokens_PT]
    last = probe_map(policy(), begun, "path", ["next_hop"], layers=[0], options=QUICK)
    test_Q, _ = split_mazes(targets_in(begun, TOKENIZER), QUICK)
    ends = [find_places([row], TOKENIZER).cell_RC[-1] @ [4, 1] for row, test in zip(begun, test_Q, strict=True) if test]
    assert last.current_Q.tolist() == ends


@pytest.mark.parametrize("reader", ["closed", "logistic"])
def test_what_is_planted_is_found(monkeypatch: pytest.MonkeyPatch, reader: Any) -> None:
    """Layer 1 holds each cell's distance at the token that names it, in noise, and layer 0 noise alone."""
    pytest.importorskip("sklearn")
    own, rng = policy(), np.random.default_rng(0)

    def planted(policy: Policy, sequences: Any, sites: Any, layers: Any, places: Any, batch_size: int) -> Any:
        rows = list(sequences)
        found, asked = find_places(rows, TOKENIZER), targets_in(rows, TOKENIZER)
        found = found.take(found.named(*places))
        dist_R = asked.distance_QU[found.sequence_R, found.cell_RC @ np.array([4, 1])]
        values: Any = {("resid_pre", layer): torch.zeros(len(found), 4) for layer in layers}
        for layer in layers:
            x_RD: Any = rng.normal(size=(len(found), 16))
            if policy is own and layer == 1:
                x_RD[np.arange(len(found)), np.minimum(dist_R, 8)] += 3
            values["resid_post", layer] = torch.from_numpy(x_RD.astype(np.float32))
        yield Activations(values, found, [])

    monkeypatch.setattr(cases, "gather", planted)
    options = ProbeOptions(draws=200, reader=reader)
    read = probe_cells(own, sequences(500), ["distance", "dead_end"], places=["edge_second"], options=options)
    above = {(row["label"], row["layer"]): row["above"] for row in read.rows if row["control"] == "model"}
    assert above == {("distance", 1): True, ("distance", 0): False, ("dead_end", 0): False, ("dead_end", 1): False}
    accuracy = {(row["layer"], row["control"]): row["accuracy"] for row in read.rows if row["label"] == "distance"}
    assert accuracy[1, "model"] > 0.8 and accuracy[0, "model"] < 0.25 and accuracy[1, "shuffled"] < 0.25


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (dict(labels=["next_hops"]), "labels: 'next_hops' is not one of .*; nearest: next_hop"),
        (dict(labels=[]), "labels: .* is no list of labels"),
        (dict(sites=["resid"]), "sites: 'resid' is not one of"),
        (dict(layers=[2]), "layers: 2 is not one of the 2 layers"),
        (dict(place="edge_end"), "place: 'edge_end' is not one that a sequence has once: fork, path"),
        (dict(rows=sequences(30)), r"sequences: \d+ different mazes to test on are too few; expected 20"),
        (dict(rows=[]), "sequences: the list is empty"),
        (dict(rows=sequences(3, MazeStream())), "the maze of sequence 0 is not held-out"),
    ],
)
def test_bad_input_is_one_line(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        given: dict[str, Any] = {"rows": sequences(200)} | asked
        probe_map(policy(), **given)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (dict(test=0), "test: 0 is not a share between 0 and 1"),
        (dict(cap=16), "cap: 16 is not a whole number from 1 to 15"),
        (dict(ridge=-1.0), "ridge: -1.0 is not a number from 0"),
        (dict(draws=39), "draws: 39 is not at least 40"),
        (dict(seed=-1), "seed: -1 is not a whole number from 0"),
        (dict(reader="mlp"), "reader: 'mlp' is not one of closed, logistic"),
    ],
)
def test_bad_options_are_one_line(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ProbeOptions(**asked)


def test_the_readers_that_were_tested_are_kept() -> None:
    """What they tell of each test maze's activations is right just where the reading says so."""
    one, rows = policy(), sequences(400)
    read = probe_map(one, rows, "target_end", ["next_hop", "distance"], options=QUICK)
    assert set(read.readers) == {
        (("resid_post", layer), label) for layer in (0, 1) for label in ("next_hop", "distance")
    }
    test_Q, _ = split_mazes(targets_in(rows, TOKENIZER), QUICK)
    tested = [rows[number] for number in np.flatnonzero(test_Q)]
    (batch,) = gather(one, tested, places=["target_end"], batch_size=len(tested))
    for ((site, layer), label), reader in read.readers.items():
        told_QU = reader.predict(batch[site, layer, "target_end"].numpy())
        code_QU = read.versions["true"].code(label, QUICK.cap).astype(np.int64)
        right_QU = np.where(code_QU == 0, -1, code_QU >> told_QU & 1)
        assert np.mean(right_QU == read.right["model", (site, layer), label]) > 0.999  # other batches round otherwise
