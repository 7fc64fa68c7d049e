"""Passages moved, taken out and put in: cases are what they say, vectors are plain means, a layer is edited as by hand,
and a model that solves mazes is told from one that does not."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from clew.errors import InputError
from clew.mazes import maze_tokenizer, parse_question
from clew.mazes.pairs import PairStream
from clew.mazes.questions import MazeStream
from clew.mazes.vocab import PATH_END, cell_text, parse_cell
from clew.policy import Policy
from clew.read.activations import maze_sequences
from clew.read.cases import random_twin
from clew.read.edge_cases import Case, Edge, add_cases, move_cases, ordered, remove_cases
from clew.read.edges import EDGE_PLACES, Toggles, _other, edge_vectors, toggle
from clew.read.hooks import layers_of
from models import MAKERS, tiny

TOKENIZER = maze_tokenizer(4)
S3, S4 = ((3, 3),), ((4, 4),)


def policy(kind: str = "llama", seed: int = 0) -> Policy:
    return Policy(tiny(kind, len(TOKENIZER), seed).float(), TOKENIZER)


def all_cases(count: int = 10, sizes: tuple[tuple[int, int], ...] = S4) -> list[Case]:
    cases = move_cases(PairStream("passage", sizes).batch(range(count), TOKENIZER), TOKENIZER)
    cases += remove_cases(MazeStream(sizes, ("dfs_percolation",), p=0.3, held_out=True), TOKENIZER, count)
    return cases + add_cases(MazeStream(sizes, held_out=True), TOKENIZER, count)


def test_mazes_anywhere_are_read_where_they_stand() -> None:
    stream = MazeStream(S3, held_out=True, within=4)
    for index, row_T in enumerate(maze_sequences(stream, range(30), TOKENIZER)):
        (asked,) = stream.questions(index)
        assert parse_question(text(row_T), (asked.lattice.rows, asked.lattice.cols)) == asked
    assert edge_vectors(policy(), stream, [], mazes=200).count_N.sum() == 200 * 8


def text(row_T: np.ndarray) -> str:
    return " ".join(TOKENIZER.convert_ids_to_tokens(row_T.tolist()))


def test_cases_are_mazes_with_just_that_edit_and_another_shortest_path() -> None:
    for case in all_cases(30):
        before, after = (parse_question(text(row_T), (4, 4)) for row_T in (case.tokens_T, case.edited_T))
        edges = set(before.lattice.edges())
        assert case.mazes() == (frozenset(edges), frozenset(after.lattice.edges()))
        taken, put = ({ordered(edge)} if edge else set() for edge in (case.off, case.on))
        assert taken <= edges and not put & edges and set(after.lattice.edges()) == (edges - taken) | put
        assert (case.off is None, case.on is None) == (case.kind == "add", case.kind == "remove")
        listed: list[Edge] = [tuple(before_at(case, offset) for offset in (0, 2))]  # type: ignore[list-item]
        assert case.off is None or listed == [case.off]
        old, new = (int(one.lattice.distances(one.target)[one.origin]) for one in (before, after))
        if case.kind == "remove":
            assert new > old
        elif case.kind == "add":
            assert new < old and set(listed) != {case.on}
            for one in (before, after):
                for seed in range(5):
                    path = one.lattice.shortest_path(one.origin, one.target, seed)
                    assert ordered(listed[0]) not in {ordered(step) for step in pairwise(path)}
        else:
            assert before.lattice.shortest_path(before.origin, before.target) != after.lattice.shortest_path(
                after.origin, after.target
            )
    assert all(len(case.question.lattice.edges()) == 14 for case in tree_removals(10))


def before_at(case: Case, offset: int) -> tuple[int, int]:
    cell = parse_cell(TOKENIZER.convert_ids_to_tokens([int(case.tokens_T[case.slot + offset])])[0])
    assert cell
    return cell


def tree_removals(count: int) -> list[Case]:
    return remove_cases(MazeStream(S4, held_out=True), TOKENIZER, count, detour=False)


def plain_vectors(reader: Policy, rows: Sequence[np.ndarray], layer: int) -> dict[tuple[int, int], np.ndarray]:
    """{tokens of a passage's two cells: (4, D)}, in plain loops."""
    found: dict[tuple[int, int], list[np.ndarray]] = {}
    for row_T in rows:
        with torch.no_grad():
            x_TD = reader.model(torch.from_numpy(row_T)[None], output_hidden_states=True).hidden_states[layer][0]
        for slot in range(1, row_T.tolist().index(1), 4):
            found.setdefault((int(row_T[slot]), int(row_T[slot + 2])), []).append(x_TD[slot : slot + 4].numpy())
    total_CD = np.mean([one for some in found.values() for one in some], axis=0)
    return {edge: np.mean(some, axis=0) - total_CD for edge, some in found.items()}


def by_hand(reader: Policy, row_T: np.ndarray, slot: int, change_CD: np.ndarray, layer: int, most: int) -> list[int]:
    """Greedy tokens, the whole row read anew for each, with something added to four tokens of what a layer reads."""

    def edit(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        x_BTD = (args[0] if args else kwargs["hidden_states"]).clone()
        x_BTD[0, slot : slot + 4] += torch.from_numpy(change_CD).to(x_BTD.dtype)
        return ((x_BTD, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": x_BTD})

    handle, row, new = layers_of(reader.model)[layer].register_forward_pre_hook(edit, with_kwargs=True), [*row_T], []
    with torch.no_grad():
        while len(new) < most and (not new or new[-1] != PATH_END):
            new.append(int(reader.model(torch.tensor([row])).logits[0, -1].argmax()))
            row.append(new[-1])
    handle.remove()
    return new


@pytest.mark.parametrize("kind", MAKERS)
def test_a_layer_is_edited_as_by_hand(kind: str) -> None:
    reader, stream = policy(kind), MazeStream(S4, held_out=True)
    cases = [*move_cases(PairStream("passage", S4).batch(range(10), TOKENIZER), TOKENIZER), *all_cases(10)[20:]]
    tested = {maze for case in cases for maze in case.mazes()}
    fresh = [i for i in range(90) if frozenset(stream.questions(i)[0].lattice.edges()) not in tested]
    assert fresh[:40] != list(range(40))  # the cases of kind "add" are of this very stream
    mine = edge_vectors(reader, stream, cases, mazes=40, layers=[1])
    theirs = plain_vectors(reader, list(maze_sequences(stream, fresh[:40], TOKENIZER)), 1)
    ids = TOKENIZER.get_vocab()
    numbers = {(a, b): (ids[cell_text(a)], ids[cell_text(b)]) for a, b in mine.edges}
    assert set(numbers.values()) == set(theirs) and mine.count_N.sum() == 600
    for edge, pair in numbers.items():
        np.testing.assert_allclose(mine.of(("resid_pre", 1), edge), theirs[pair], atol=1e-5)
    toggled = toggle(reader, cases, mine, strength=2.0, controls=1)
    for number in (0, 19):
        case = cases[number]
        change_CD = sum(
            (sign * theirs[numbers[edge]] for sign, edge in ((2.0, case.on), (-2.0, case.off)) if edge),
            np.zeros((4, 32)),
        )
        one = toggled.runs["resid_pre", 1]["edited"][0][number]
        assert list(one.tokens) == by_hand(reader, case.tokens_T, case.slot, change_CD, 1, len(one.tokens))


@pytest.mark.parametrize("kind", ["llama", "qwen3", "neox"])
def test_a_move_in_the_embeddings_is_the_edited_prompt(kind: str) -> None:
    reader = policy(kind)
    cases = move_cases(PairStream("passage", S4).batch(range(12), TOKENIZER), TOKENIZER)
    toggled = toggle(reader, cases, edge_vectors(reader, MazeStream(S4), cases, 100, layers=[0]), controls=1)
    runs = toggled.runs["resid_pre", 0]
    assert runs["edited"] == runs["exact"] == [toggled.tokens]
    assert runs["random"] != [toggled.tokens]


def values(toggled: Toggles, layer: int, kind: str) -> dict[tuple[str, str], dict[str, Any]]:
    rows = [row for row in toggled.table().to_pylist() if (row["layer"], row["kind"]) == (layer, kind)]
    return {(row["figure"], row["run"]): row for row in rows}


def test_a_model_that_solves_mazes_heeds_and_its_random_twin_does_not() -> None:
    solver = Policy.load("zoo:4x4")
    cases, found = all_cases(12)[:12] + tree_removals(16), {}
    cases += add_cases(MazeStream(S4, held_out=True, seed=3), TOKENIZER, 20)
    for name, reader in (("solver", solver), ("twin", random_twin(solver))):
        vectors = edge_vectors(reader, MazeStream(S4, held_out=True, seed=5), cases, 150, layers=[0])
        found[name] = toggle(reader, cases, vectors, controls=1)
    for kind in ("move", "remove", "add"):
        mine, theirs = (values(found[name], 0, kind) for name in ("solver", "twin"))
        assert mine["heeded", "above_random"]["value_low"] > 0 < mine["heeded", "above_other"]["value"]
        assert mine["heeded", "edited"]["cases"] == {"move": 12, "remove": 16, "add": 20}[kind]
        assert mine["heeded", "edited"]["value"] <= mine["changed", "edited"]["value"]
        assert all(theirs[name, "edited"]["value"] == 0 for name in ("heeded", "valid"))
        assert theirs["heeded", "above_random"]["value_low"] <= 0 <= theirs["heeded", "above_random"]["value_high"]
        if kind == "remove":  # a tree without one of its passages: there is no way any more
            assert ("optimal", "edited") not in mine
        else:
            assert mine["optimal", "above_random"]["value_low"] > 0 < mine["optimal", "above_other"]["value_low"]
            assert 0 == theirs["optimal", "edited"]["value"] < mine["optimal", "edited"]["value"]
    moved = values(found["solver"], 0, "move")
    assert moved["optimal", "edited"]["value"] == moved["optimal", "tokens"]["value"] > 0.8
    assert moved["optimal", "plain"]["value"] == 0 == moved["changed", "plain"]["value"]
    assert ("optimal", "exact") in moved and ("optimal", "exact") not in values(found["solver"], 0, "add")


def test_rates_are_of_the_paths_that_were_written() -> None:
    reader, cases = policy(), all_cases(10)[20:]
    toggled = toggle(reader, cases, edge_vectors(reader, MazeStream(S4), cases, 60, layers=[0]), controls=2)
    paths = [one.lattice.shortest_path(one.origin, one.target) for one in (case.question for case in cases)]
    some = toggled.runs["resid_pre", 0]
    right = [replace(one, path=tuple(path), ended=True) for one, path in zip(toggled.plain, paths, strict=True)]
    some["edited"] = [[*right[:8], *toggled.plain[8:]]]
    some["random"] = [[*right[:4], *toggled.plain[4:]], list(toggled.plain)]
    figures = toggled.figures(("resid_pre", 0), "add")
    for name in ("optimal", "heeded", "valid"):
        assert figures[name, "edited"]["value"] == 0.8 and figures[name, "random"]["value"] == 0.2
        assert figures[name, "above_random"]["value"] == pytest.approx(0.6)
    assert figures["optimal", "edited"]["low"] == pytest.approx(0.490, abs=1e-3)  # Wilson's, for 8 of 10


def test_the_other_passage_is_never_the_cases_own() -> None:
    reader, cases, rng = policy(), all_cases(10), np.random.default_rng(0)
    vectors = edge_vectors(reader, MazeStream(S4), cases, 60, layers=[0])
    for case in cases * 5:
        other = _other(case, vectors, rng)
        if case.kind == "remove":
            assert other.on is None and case.off and other.off and ordered(other.off) != ordered(case.off)
        else:
            assert other.off == case.off and other.on and ordered(other.on) not in case.listed
            assert case.on and ordered(other.on) != ordered(case.on)


def test_some_places_and_other_sites() -> None:
    reader, cases = policy(), all_cases(10)[:10]
    vectors = edge_vectors(reader, MazeStream(S4), cases, 60, layers=[0, 2], site="z")
    nothing = toggle(reader, cases, vectors, ["edge_end"], strength=0.0, controls=1)
    assert list(nothing.runs) == [("z", 0), ("z", 2)]
    assert all(runs["edited"] == runs["random"] == [nothing.plain] for runs in nothing.runs.values())


def test_bad_input_is_named() -> None:
    reader, cases = policy(), all_cases(10)
    vectors = edge_vectors(reader, MazeStream(S4), cases, 60, layers=[0])
    with pytest.raises(InputError, match="cases: 9 of kind move are too few"):
        toggle(reader, cases[1:], vectors)
    with pytest.raises(InputError, match="cases: 0 of kind"):
        toggle(reader, [], vectors)
    with pytest.raises(InputError, match=f"places: 'target' is none of a passage's, {', '.join(EDGE_PLACES)}"):
        toggle(reader, cases, vectors, ["target"])
    with pytest.raises(InputError, match="controls: 0 is not a whole number from 1"):
        toggle(reader, cases, vectors, controls=0)
    with pytest.raises(InputError, match=r"mazes: none lists .* in this order; expected more"):
        toggle(reader, cases, edge_vectors(reader, MazeStream(S4), cases, 1, layers=[0]))
    with pytest.raises(InputError, match="direction: shape"):
        small = Policy.build(TOKENIZER, layers=1, width=16, heads=2)
        toggle(small, cases[10:], vectors)
    with pytest.raises(InputError, match="layers: 3 is not one of the 3 layers"):
        edge_vectors(reader, MazeStream(S4), cases, layers=[3])
    with pytest.raises(InputError, match="mazes: 0 is not a whole number from 1"):
        edge_vectors(reader, MazeStream(S4), cases, 0)
    with pytest.raises(InputError, match="stream: 1000 of its mazes in a row have no such passage; trees have none"):
        remove_cases(MazeStream(S3), TOKENIZER, 1)
    with pytest.raises(InputError, match="count: 0 is not a whole number from 1"):
        add_cases(MazeStream(S4), TOKENIZER, 0)
    with pytest.raises(InputError, match="pairs: the sides of pair 0 differ in more or less than one passage"):
        move_cases(PairStream("target", S4).batch(range(3), TOKENIZER), TOKENIZER)
    with pytest.raises(InputError, match="stream: 1000 of its mazes in a row are among"):
        edge_vectors(reader, MazeStream(((2, 2),)), remove_cases(MazeStream(((2, 2),)), TOKENIZER, 50, detour=False))
