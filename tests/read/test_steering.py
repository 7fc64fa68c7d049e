"""Steering: paths as the sampler writes them, pushed as a plain reading pushes them, and beside random pushes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from clew.errors import InputError
from clew.mazes import MazeStream, maze_tokenizer
from clew.mazes.pairs import PairBatch, PairStream
from clew.mazes.vocab import PATH_END, cell_id
from clew.policy import Policy
from clew.read.activations import maze_sequences
from clew.read.hooks import layers_of, names_of
from clew.read.places import PLACES
from clew.read.steering import Addition, Replacement, Rolled, Steering, random_like, roll_out, steer
from clew.rollout.continuing import continue_prompts
from clew.world import Stop
from models import MAKERS, tiny

TOKENIZER = maze_tokenizer(4)


def policy(kind: str = "llama", seed: int = 0) -> Policy:
    return Policy(tiny(kind, len(TOKENIZER), seed).float(), TOKENIZER)


def prompts(count: int = 6, walked: bool = False) -> list[np.ndarray]:
    batch: PairBatch = PairStream(sizes=((3, 3), (4, 4))).batch(range(count), TOKENIZER)
    rows = [row[-n:] for row, n in zip(batch.clean_tokens_PT, batch.length_P, strict=True)]
    return rows if walked else [row[: row.tolist().index(6)] for row in rows]


def pushes(width: int = 32, rows: int = 6) -> list[Addition]:
    rng = np.random.default_rng(0)
    return [
        Addition("resid_post", 0, ["path", "path_start"], rng.standard_normal(width), 0.5),
        Addition("resid_pre", 1, "target", rng.standard_normal((rows, width)), 2.0),
        Addition("z", 2, "path", torch.from_numpy(rng.standard_normal(width))),
    ]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_without_a_push_paths_are_the_samplers(kind: str) -> None:
    reader, rows = policy(kind), prompts()
    mine = roll_out(reader, rows, max_new=9)
    theirs = continue_prompts(
        reader.model, [row.tolist() for row in rows], stop=Stop((PATH_END,)), max_new=9, pad_token_id=10
    )
    assert [list(one.tokens) for one in mine] == [one.tokens for one in theirs]
    nothing = [replace(one, strength=0.0) for one in pushes()]
    assert roll_out(reader, rows, nothing, max_new=9) == mine


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("walked", [False, True])
def test_keys_and_values_that_are_kept_change_nothing(kind: str, walked: bool) -> None:
    reader, rows = policy(kind), prompts(walked=walked)
    kept = roll_out(reader, rows, pushes(), max_new=8)
    assert kept == roll_out(reader, rows, pushes(), max_new=8, cached=False, batch_size=2)
    if walked:  # others may never begin a path
        assert kept != roll_out(reader, rows, max_new=8)


@pytest.mark.parametrize("pushed", [False, True])
def test_rows_that_are_over_leave_the_others_as_they_are(pushed: bool) -> None:
    """Paths of very different lengths, read together, which is in ever fewer rows, and each alone, read whole anew for
    every token; with a push and a mask of each prompt's own."""
    reader, stream = Policy.load("zoo:4x4"), MazeStream(((4, 4),), branches=1, held_out=True)
    whole = list(maze_sequences(stream, range(14), reader.tokenizer))
    rows = [row[: row.tolist().index(6)] for row in whole]
    assert len({len(row) for row in rows}) == 1
    rng = np.random.default_rng(0)
    direction_QD, mask_QT = rng.standard_normal((14, 64)), rng.random((14, len(rows[0]))) < 0.1

    def own(which: slice) -> list[Addition | Replacement]:
        where = Addition("resid_post", 1, mask_QT[which], direction_QD[which], 6.0)
        said = Replacement(1, 0, np.random.default_rng(1).standard_normal((len(PLACES), 32)))
        return [where, Addition("resid_post", 2, "path", direction_QD[which], 3.0), said] if pushed else []

    together = roll_out(reader, rows, own(slice(None)), batch_size=14)
    alone = [roll_out(reader, [row], own(slice(n, n + 1)), cached=False)[0] for n, row in enumerate(rows)]
    assert together == alone
    assert len({len(one.tokens) for one in together}) > 4 and sum(one.ended for one in together) > 7
    if pushed:
        assert together != roll_out(reader, rows)
    else:
        assert np.mean([[*one.tokens] == whole[n][len(rows[n]) :].tolist() for n, one in enumerate(together)]) > 0.8


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_what_a_head_says_is_replaced_wherever_a_place_is(kind: str) -> None:
    """With keys and values kept and without; and one that says zeros everywhere, as if its weights were zeros."""
    reader, rows = policy(kind), prompts(walked=True)
    rng = np.random.default_rng(0)
    put = [Replacement(layer, head, rng.standard_normal((len(PLACES), 8))) for layer, head in ((0, 3), (2, 1))]
    kept = roll_out(reader, rows, put, max_new=8)
    assert kept == roll_out(reader, rows, put, max_new=8, cached=False, batch_size=2)
    assert kept != roll_out(reader, rows, max_new=8)

    silent = roll_out(
        reader, rows, [Replacement(1, 2, np.zeros((len(PLACES), 8)))], max_new=1
    )  # all have places so far
    projection: Any = layers_of(reader.model)[1].get_submodule(names_of(reader.model).projection)
    with torch.no_grad():
        part = projection.weight[16:24] if kind == "gpt2" else projection.weight[:, 16:24]  # GPT-2's is transposed
        part.zero_()
    assert silent == roll_out(reader, rows, max_new=1)


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (Replacement(3, 0, np.zeros((len(PLACES), 8))), "layers: 3 is not one of the 3"),
        (Replacement(0, 4, np.zeros((len(PLACES), 8))), "head: 4 is not one of the 4"),
        (Replacement(0, 0, np.zeros((len(PLACES), 9))), "z: shape"),
        (Replacement(0, 0, np.full((len(PLACES), 8), np.nan)), "of finite numbers"),
    ],
)
def test_a_replacement_that_cannot_be_is_refused(one: Replacement, told: str) -> None:
    with pytest.raises(InputError, match=told):
        roll_out(policy(), prompts(), [one])


def leading(reader: Policy, cells: list[int]) -> np.ndarray:
    """A direction that, behind the last layer, makes a token the likeliest."""
    out: Any = reader.model.get_output_embeddings()
    return (out.weight[cells].sum(0) - out.weight.mean(0) * len(cells)).detach().numpy()


def test_a_push_that_leads_somewhere_is_told_from_random_ones() -> None:
    reader, rows = Policy.build(TOKENIZER, layers=2, width=32, heads=2), prompts(20, walked=True)
    push = Addition("resid_post", 1, "path", leading(reader, [PATH_END]), 1000.0)
    rolled = roll_out(reader, rows, [push])
    walks = [row[row.tolist().index(6) + 1 :] for row in rows]
    for one, walk in zip(rolled, walks, strict=True):
        assert one.ended and one.tokens == (PATH_END,)
        assert [cell_id(*cell) for cell in one.path if cell] == walk.tolist()
    found = steer(reader, rows, [push], lambda number, path: len(path) == len(walks[number]), controls=5, max_new=4)
    figures = found.figures()
    assert (
        figures["wanted"]["value"] == 1 and figures["changed"]["value"] > 0.8 and figures["plain_wanted"]["value"] < 0.2
    )
    assert figures["random_wanted"]["value"] < 0.5 and figures["wanted_above_random"]["low"] > 0
    assert [row["figure"] for row in found.table().to_pylist()] == list(figures)


def test_places_and_masks_are_where_they_say() -> None:
    reader, rows = policy(), prompts()
    widest = max(map(len, rows))
    mask_QT = np.zeros((6, widest), np.bool_)
    for number, row in enumerate(rows):
        mask_QT[number, len(row) - 2] = True  # the target
    by_name, by_mask = (replace(pushes()[1], where=where) for where in ("target", mask_QT))
    assert roll_out(reader, rows, [by_name], max_new=6) == roll_out(reader, rows, [by_mask], max_new=6)
    # a path that is never begun is never pushed on, and two halves are a whole
    half = replace(by_name, strength=1.0)
    assert roll_out(reader, rows, [half, half], max_new=6) == roll_out(reader, rows, [by_name], max_new=6)


def test_random_directions_have_equal_norms() -> None:
    for one in pushes():
        drawn = random_like(one, np.random.default_rng(1))
        norms = [np.linalg.norm(np.asarray(each.direction), axis=-1) for each in (one, drawn)]
        np.testing.assert_allclose(*norms)
        assert not np.allclose(np.asarray(one.direction), np.asarray(drawn.direction))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(site="resid"), "sites: 'resid' is not one of"),
        (dict(layer=3), "layers: 3 is not one of the 3 layers"),
        (dict(where="targets"), "places: 'targets' is not one of .*; nearest: target"),
        (dict(where=np.ones((2, 2), bool)), r"where: shape \(2, 2\) is not bools of \(6, \d+\)"),
        (dict(direction=np.ones(31)), r"direction: shape \(31,\) is not \(32,\) or \(6, 32\) at resid_pre 1"),
        (dict(direction=np.ones((2, 32))), r"direction: shape \(2, 32\) is not"),
        (dict(strength=np.inf), "direction, strength: times inf it is not finite"),
    ],
)
def test_what_does_not_exist_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        roll_out(policy(), prompts(), [replace(pushes()[1], **changes)])


def test_a_path_that_could_outgrow_the_model_is_refused() -> None:
    reader, rows = policy(), prompts()
    plain = roll_out(reader, rows)
    longest, cells = max(map(len, rows)), 16
    reader.model.config.max_position_embeddings = longest + cells + 4  # the two ends, and two to spare
    assert roll_out(reader, rows) == plain
    reader.model.config.max_position_embeddings -= 1
    with pytest.raises(InputError, match=rf"tokens: {longest} of a row and 20 that may be written are more than the"):
        roll_out(reader, rows)
    assert max(len(one.tokens) for one in roll_out(reader, rows, max_new=19)) <= 19


def test_directions_of_keys_that_heads_share_are_as_wide_as_these() -> None:
    push = Addition("k", 1, "path", np.ones(16))
    assert roll_out(policy(), prompts(), [push]) != [] and policy().model.config.num_key_value_heads == 2
    with pytest.raises(InputError, match=r"direction: shape \(32,\) is not \(16,\) or \(6, 16\) at k 1"):
        roll_out(policy(), prompts(), [replace(push, direction=np.ones(32))])


def test_what_is_no_prompt_is_named() -> None:
    whole = np.append(prompts(walked=True)[0], PATH_END)
    with pytest.raises(InputError, match="prompts: one has its whole path already"):
        roll_out(policy(), [whole])
    with pytest.raises(InputError, match="prompts: one begins with padding"):
        roll_out(policy(), [np.insert(prompts()[0], 0, 10)])
    with pytest.raises(InputError, match="controls: -1 is not a whole number from 0"):
        steer(policy(), prompts(), pushes(), controls=-1)
    with pytest.raises(InputError, match="additions, prompts: one of them is empty"):
        steer(policy(), prompts(), [])


def test_a_shared_direction_is_measured_by_draws_and_not_by_prompts_alone() -> None:
    dice, inside, narrow = np.random.default_rng(5), 0, 0
    for _ in range(200):  # every direction, that which was to be tried too, changes a share of its own of the paths
        runs = [
            [Rolled((), ((0, int(hit)),), True) for hit in dice.random(60) < share]
            for share in dice.uniform(0.1, 0.9, 9)
        ]
        plain = [Rolled((), ((0, 0),), True)] * 60
        found = [Steering(plain, runs[0], runs[1:], None, shared).figures() for shared in (True, False)]
        both = [one["changed_above_random"] for one in found]
        inside += both[0]["low"] <= 0 <= both[0]["high"]
        narrow += both[1]["low"] <= 0 <= both[1]["high"]
    assert inside >= 0.9 * 200 and narrow < 0.6 * 200
