"""Packing: shapes, order, positions and the plain rows that a batch stands for."""

import os
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, os.path.dirname(__file__))
from clew import SpanTree, TreeBatch
from clew.attention import _masks as level_masks
from clew.errors import InputError
from clew.tree import ROLES, only, pruned, spans_of
from shapes import bushy, caterpillar, crooked, lopsided, staggered

ANSWERS = [SpanTree([8, 9], "answer", [1.0, -2.0]), SpanTree([], "answer", 1.0)]
EXAMPLE = SpanTree([5, 6], "prompt", 0.0, [SpanTree([7], "thought", 0.5, ANSWERS), SpanTree([10, 11, 12], "thought")])


def trees(depth: int = 3) -> st.SearchStrategy[SpanTree]:
    weight = st.sampled_from([0.0, 1.0, -0.5, 0.25])

    def span(children: st.SearchStrategy) -> st.SearchStrategy[SpanTree]:
        tokens = st.lists(st.integers(0, 39), max_size=5)
        return st.builds(SpanTree, tokens, st.sampled_from(["prompt", "thought", "answer"]), weight, children)

    strategy = span(st.just(()))
    for _ in range(depth):
        strategy = span(st.lists(strategy, max_size=3))
    return strategy


def forests() -> st.SearchStrategy[list[SpanTree]]:
    with_token = st.builds(lambda tree: SpanTree([3], "prompt", 0.0, [tree]), trees())
    return st.lists(with_token, min_size=1, max_size=3)


def leaves(tree: SpanTree, before: tuple = ()) -> list[tuple]:
    """Every root-to-leaf path as (token, weight, identity of the token) triples, by plain recursion."""
    here = before + tuple(
        (t, w, (id(tree), i)) for i, (t, w) in enumerate(zip(tree.tokens, tree.weights(), strict=True))
    )
    below = [row for child in tree.children for row in leaves(child, here)]
    return below or [here]


def test_example_by_hand() -> None:
    batch = TreeBatch.pack([EXAMPLE], pad_token_id=0)
    assert batch.tokens_BT.tolist() == [[5, 6, 7, 8, 9, 10, 11, 12]]
    assert batch.positions_BT.tolist() == [[0, 1, 2, 3, 4, 2, 3, 4]]
    assert batch.targets_S.tolist() == [7, 8, 9]
    assert batch.sources_S.tolist() == [1, 2, 3]
    assert batch.weights_S.tolist() == [0.5, 1.0, -2.0]
    assert batch.weights_S.dtype == torch.float32
    rows = batch.flatten()
    assert rows.tokens_BT.tolist() == [[5, 6, 7, 8, 9], [5, 6, 10, 11, 12]]
    assert rows.sources_S.tolist() == [1, 2, 3]


def test_first_token_of_a_tree_is_never_supervised() -> None:
    batch = TreeBatch.pack([SpanTree([4, 5], "answer", 1.0)], pad_token_id=0)
    assert batch.targets_S.tolist() == [5]


@settings(deadline=None, max_examples=60)
@given(forests())
def test_flatten_holds_every_path_once(forest: list[SpanTree]) -> None:
    batch = TreeBatch.pack(forest, pad_token_id=0)
    rows = batch.flatten()
    paths = {row for tree in forest for row in leaves(tree)}
    # A leaf span without tokens adds no row when a sibling carries the same tokens further.
    longest = {p for p in paths if not any(q != p and q[: len(p)] == p for q in paths)}
    width = rows.tokens_BT.shape[1]
    got = sorted(row.tolist() for row in rows.tokens_BT)
    assert got == sorted([t for t, _, _ in p] + [0] * (width - len(p)) for p in longest)
    supervised = {key: (t, w) for p in paths for t, w, key in p[1:] if w != 0}
    assert len(batch.targets_S) == len(supervised)
    assert sorted(batch.targets_S.tolist()) == sorted(t for t, _ in supervised.values())
    assert torch.equal(rows.targets_S, batch.targets_S)
    assert torch.equal(rows.weights_S, batch.weights_S)


@settings(deadline=None, max_examples=60)
@given(forests())
def test_positions_parents_and_sources_agree(forest: list[SpanTree]) -> None:
    batch = TreeBatch.pack(forest, pad_token_id=0)
    parents, positions = batch.parents_BT[0], batch.positions_BT[0]
    for token, parent in enumerate(parents.tolist()):
        assert positions[token] == (0 if parent < 0 else positions[parent] + 1)
    rows = batch.flatten()
    flat, packed = rows.tokens_BT.reshape(-1), batch.tokens_BT.reshape(-1)
    assert torch.equal(flat[rows.sources_S], packed[batch.sources_S])
    assert torch.equal(flat[rows.supervised_S], rows.targets_S)
    assert torch.equal(packed[batch.supervised_S], batch.targets_S)
    assert torch.equal(batch.parents_BT[0][batch.supervised_S], batch.sources_S)


def readable(batch: TreeBatch) -> dict[int, set[int]]:
    """What each token may attend to by the layout: that of every place where it stands must be the same."""
    layout = batch.layout
    assert layout is not None
    seen: dict[int, set[int]] = {}
    keys = np.empty((0, 0), np.int64)
    for level, mask in zip(layout.levels, level_masks(layout, torch.float32), strict=True):
        grid = level.grid_CL.numpy()
        keys = grid if level.parent_C is None else np.concatenate([keys[level.parent_C.numpy()], grid], axis=1)
        for cell, place in zip(*np.nonzero(grid >= 0), strict=True):
            if mask is None:
                open_ = keys[cell][: place + 1]
            else:
                open_ = keys[cell][mask[min(cell, len(mask) - 1), 0, place].numpy() == 0]
            assert seen.setdefault(int(grid[cell, place]), set(open_.tolist())) == set(open_.tolist())
    outputs = np.concatenate([level.grid_CL.reshape(-1).numpy() for level in layout.levels])
    assert outputs[layout.slots_T.numpy()].tolist() == list(range(batch.tokens_BT.shape[1]))
    return seen


def ancestors(batch: TreeBatch) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for token, parent in enumerate(batch.parents_BT[0].tolist()):  # a parent stands before its children
        found[token] = {token} | found.get(parent, set())
    return found


@settings(deadline=None, max_examples=60)
@given(forests())
def test_layout_reaches_exactly_the_ancestors(forest: list[SpanTree]) -> None:
    batch = TreeBatch.pack(forest, pad_token_id=0)
    assert readable(batch) == ancestors(batch)


def numbers_held(batch: TreeBatch) -> int:
    """How many numbers a layout holds, the masks that attention makes of it and the keys that its cells read."""
    layout = batch.layout
    assert layout is not None
    masks = [0 if mask is None else mask.numel() for mask in level_masks(layout, torch.float32)]
    keys, width = 0, 0
    for level in layout.levels:
        width = level.grid_CL.shape[1] + (width if level.parent_C is not None else 0)
        keys += len(level.grid_CL) * width
    return sum(level.grid_CL.numel() for level in layout.levels) + sum(masks) // 32 + keys


CROOKED = {
    "caterpillar": caterpillar(22, 45, 45),
    "200 levels": caterpillar(200, 9, 3),
    "staggered": staggered(100, 60),
    "bushy": bushy(300, 300),
    "10,000 leaves": bushy(100, 9901),
    "one long answer": lopsided(2000, 500),
}


@pytest.mark.parametrize("name", CROOKED)
def test_a_layout_costs_no_more_than_a_constant_times_its_rows(name: str) -> None:
    """Rows without their padding, even."""
    batch = TreeBatch.pack([CROOKED[name]], pad_token_id=0)
    leaves = set(range(batch.tokens_BT.shape[1])) - set(batch.parents_BT[0].tolist())
    assert numbers_held(batch) <= 6 * int((batch.positions_BT[0, sorted(leaves)] + 1).sum())


@settings(deadline=None, max_examples=25)
@given(crooked())
def test_layouts_of_crooked_trees_are_exact_and_bounded(tree: SpanTree) -> None:
    batch = TreeBatch.pack([tree], pad_token_id=0)
    assert readable(batch) == ancestors(batch)
    assert numbers_held(batch) <= 6 * batch.flatten().tokens_BT.numel()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SpanTree([1], "face"), "role: 'face'"),
        (lambda: SpanTree([1, -2], "prompt"), "tokens: -2"),
        (lambda: SpanTree([1], "prompt", float("nan")), "weight: nan"),
        (lambda: SpanTree([1], "prompt", [1.0, 2.0]), "weight: 2 weights for 1 tokens"),
        (lambda: TreeBatch.pack([], 0), "no token"),
        (lambda: TreeBatch.pack([SpanTree([], "prompt")], 0), "no token"),
        (lambda: TreeBatch.from_arrays(np.array([1, 2]), np.array([1, -1]), np.ones(2), 0), "depth first"),
    ],
)
def test_bad_input_is_named(make, says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()


PLAIN = ([1.5], [True], ["3"], [None], "12", b"12", [-1], [2**63], [10**30], [[1]], 3, None, {1, 2})
ARRAYS = (np.array([1.0]), np.array([True]), [np.True_], np.zeros((2, 2), int))
TENSORS = (torch.tensor([1.0]), torch.tensor([True]), [torch.tensor(1.5)])


@pytest.mark.parametrize("tokens", [*PLAIN, *ARRAYS, *TENSORS])
def test_tokens_that_are_no_whole_numbers_are_named(tokens: object) -> None:
    with pytest.raises(InputError, match=r"^tokens: ") as caught:
        SpanTree(tokens, "answer", 1.0)  # type: ignore[arg-type]
    assert str(caught.value).isprintable()


WHOLE = ((3, 4), range(3, 5), [np.int64(3), 4], np.array([3, 4], np.int32), np.array([3, 4], np.uint8))


@pytest.mark.parametrize("tokens", [*WHOLE, torch.tensor([3, 4]), [torch.tensor(3), 4]])
def test_whole_numbers_of_any_kind_are_tokens(tokens: Any) -> None:
    batch = TreeBatch.pack([SpanTree(tokens, "answer", 1.0)], 0)
    assert batch.tokens_BT.tolist() == [[3, 4]]


TOO_LARGE = (1e39, -1e39, float("nan"), float("inf"), 10**400, [1.0, 1e39])


@pytest.mark.parametrize("weight", [*TOO_LARGE, [1.0], "1", "12", ["1", "2"], None, [None, 1.0], 1j, {}, object()])
def test_weights_that_no_float32_holds_are_named(weight: object) -> None:
    with pytest.raises(InputError, match=r"^weight: "):
        SpanTree([3, 4], "answer", weight)  # type: ignore[arg-type]


def test_other_fields_that_cannot_be_are_named() -> None:
    for make, says in (
        (lambda: SpanTree([1], "answer", 1.0, [3]), "children: "),
        (lambda: SpanTree([1], "reply"), "role: 'reply'"),
        (lambda: SpanTree([1], ["answer"]), "role: "),
        (lambda: SpanTree([1], "answer", 1.0, None), "children: None"),
        (lambda: TreeBatch.pack([3], 0), "trees: 3 is no SpanTree"),
        (lambda: TreeBatch.pack([SpanTree([1, 2], "answer", 1.0)], -1), "pad_token_id: -1"),
        (lambda: TreeBatch.pack([SpanTree([1, 2], "answer", 1.0)], None), "None is not a token id"),
        (lambda: TreeBatch.from_arrays(np.arange(2), np.arange(-1, 1), np.array([0, 1e39]), 0), "weights: one"),
    ):
        with pytest.raises(InputError, match=says):
            make()  # type: ignore[no-untyped-call]
    largest = float(np.finfo(np.float32).max)
    assert TreeBatch.pack([SpanTree([1, 2], "answer", largest)], 0).weights_S.isfinite().all()


def test_trees_deeper_than_the_stack_are_weighted_pruned_and_searched() -> None:
    answer = SpanTree([7], "answer", 1.0)
    tree = SpanTree([5], "prompt", 0.0, [answer, SpanTree([9], "thought", 2.0)])
    for _ in range(3 * sys.getrecursionlimit()):
        tree = SpanTree([3], "prompt", 1.0, [tree])
    left = pruned(only(tree, "answer"))
    assert left is not None
    batch = TreeBatch.pack([left], 0)
    assert batch.tokens_BT.numel() == 2 + 3 * sys.getrecursionlimit()
    assert batch.targets_S.tolist() == [7] and batch.weights_S.tolist() == [1.0]
    assert spans_of(tree, "answer") == [answer]
    assert [span.tokens for span in spans_of(EXAMPLE, "answer")] == [[8, 9], []]
    assert pruned(only(EXAMPLE, "prompt")) is None


def test_what_is_no_list_of_trees_or_no_padding_is_named() -> None:
    tree = SpanTree([1, 2], "answer", 1.0)
    for trees in (tree, None, (one for one in [tree])):
        with pytest.raises(InputError, match=r"trees: .* is no list of SpanTrees"):
            TreeBatch.pack(trees, 0)
    for pad in (-1, 2**63, "a", None):
        with pytest.raises(InputError, match=r"pad_token_id: .* is not a token id"):
            TreeBatch.pack([tree], pad)


def test_batches_know_roles_and_what_sampling_said() -> None:
    answer = SpanTree([8, 9], "answer", 1.0, (), [-0.5, -1.5])
    tree = SpanTree([5, 6], "prompt", [0.0, 1.0], [SpanTree([7], "thought", 0.5, [answer])])
    batch = TreeBatch.pack([tree], 0)
    for made in (batch, batch.flatten(), batch.to("cpu")):
        assert made.roles_S is not None and made.sampled_nll_S is not None
        assert [ROLES[role] for role in made.roles_S.tolist()] == ["prompt", "thought", "answer", "answer"]
        assert made.sampled_nll_S.dtype == torch.float32
        assert made.sampled_nll_S.isnan().tolist() == [True, True, False, False]
        assert made.sampled_nll_S[2:].tolist() == [0.5, 1.5]
    assert TreeBatch.pack([EXAMPLE], 0).sampled_nll_S is None
    assert TreeBatch.from_arrays(np.arange(2), np.arange(-1, 1), np.ones(2), 0).roles_S is None
    assert spans_of(only(tree, "answer"), "answer")[0].logps == [-0.5, -1.5]
    for logps in (np.array([-1.0, 0.0], np.float32), torch.tensor([-1.0, 0.0]), (-1, 0)):
        batch = TreeBatch.pack([SpanTree([3, 4], "answer", 1.0, (), logps)], 0)  # type: ignore[arg-type]
        assert batch.sampled_nll_S is not None and batch.sampled_nll_S.tolist() == [0.0]


NO_LOGPS = ([-1.0], [-1.0, 0.5], [-1.0, float("nan")], [float("-inf"), -1.0], "ab", [None, -1.0], [[-1.0], [-1.0]])


@pytest.mark.parametrize("logps", [*NO_LOGPS, -1.0, [[-1.0], -1.0], ["-1", "-2"], [True, False], [-1e39, -1.0], {}])
def test_logps_that_cannot_be_are_named(logps: object) -> None:
    with pytest.raises(InputError, match=r"^logps: ") as caught:
        SpanTree([3, 4], "answer", 1.0, (), logps)  # type: ignore[arg-type]
    assert str(caught.value).isprintable()
