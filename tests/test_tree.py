"""Packing: shapes, order, positions and the plain rows that a batch stands for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clew import SpanTree, TreeBatch
from clew.errors import InputError

EXAMPLE = SpanTree([5, 6], "prompt", 0.0, [
    SpanTree([7], "thought", 0.5, [SpanTree([8, 9], "answer", [1.0, -2.0]), SpanTree([], "answer", 1.0)]),
    SpanTree([10, 11, 12], "thought"),
])  # fmt: skip


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


@settings(deadline=None, max_examples=60)
@given(forests())
def test_layout_reaches_exactly_the_ancestors(forest: list[SpanTree]) -> None:
    """What each token may attend to by the level grids, against a walk up its parents."""
    batch = TreeBatch.pack(forest, pad_token_id=0)
    layout, parents = batch.layout, batch.parents_BT[0].tolist()
    assert layout is not None
    seen: dict[int, set[int]] = {}
    above: list[np.ndarray] = []
    for grid_CL, mask in zip(layout.grids, layout.masks, strict=True):
        grid = grid_CL.numpy()
        above = [np.repeat(part, len(grid) // len(part), axis=0) for part in above] + [grid]
        keys = np.concatenate(above, axis=1)
        for cell in range(len(grid)):
            for i, token in enumerate(grid[cell]):
                if token >= 0:
                    open_ = keys[cell][: i + 1] if mask is None else keys[cell][mask[cell, 0, i].numpy() == 0]
                    seen[int(token)] = set(open_.tolist())
    for token in range(len(parents)):
        ancestors, walk = set(), token
        while walk >= 0:
            ancestors.add(walk)
            walk = parents[walk]
        assert seen[token] == ancestors


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
