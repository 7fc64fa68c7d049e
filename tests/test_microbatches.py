"""Cutting: pieces stay within their budget, and together they hold every supervised token once, in its own context."""

import os
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, os.path.dirname(__file__))
from clew import SpanTree, TreeBatch
from clew.errors import InputError
from shapes import bushy, crooked, lopsided, staggered


def full(trees: list[SpanTree]) -> TreeBatch:
    """A batch with all that one may hold, a different number at each supervised token."""
    batch = TreeBatch.pack(trees, 0)
    numbers_S = torch.arange(len(batch.targets_S))
    return replace(
        batch,
        weights_S=numbers_S.float(),  # 0 too: what is supervised is not for the weights of today to say
        sampled_nll_S=numbers_S + 0.25,
        reference_nll_S=numbers_S + 0.5,
        choices_SC=torch.stack([numbers_S, -numbers_S], 1),
        optimal_SC=torch.stack([numbers_S % 2 == 0, numbers_S % 3 == 0], 1),
    )


def contexts(batch: TreeBatch) -> list[tuple]:
    """All that is known of each supervised token: what stands before it, the token, and its fields."""
    tokens, parents = batch.tokens_BT[0].tolist(), batch.parents_BT[0].tolist()
    assert batch.roles_S is not None and batch.sampled_nll_S is not None and batch.reference_nll_S is not None
    assert batch.choices_SC is not None and batch.optimal_SC is not None
    fields = (batch.weights_S, batch.roles_S, batch.sampled_nll_S, batch.reference_nll_S)
    columns = [field.tolist() for field in (*fields, batch.choices_SC, batch.optimal_SC, batch.targets_S)]
    found = []
    for s, at in enumerate(batch.supervised_S.tolist()):
        way = [at]
        while parents[way[-1]] >= 0:
            way.append(parents[way[-1]])
        found.append((tuple(tokens[t] for t in way), *(str(column[s]) for column in columns)))
    return found


def places(batch: TreeBatch, rows: bool) -> int:
    return batch.flatten().tokens_BT.numel() if rows else batch.tokens_BT.numel()


def check(batch: TreeBatch, most: int, rows: bool, whole_trees: bool) -> list[TreeBatch]:
    pieces = batch.microbatches(most, rows, whole_trees)
    assert [one for piece in pieces for one in contexts(piece)] == contexts(batch)
    assert sum(piece.share for piece in pieces) == pytest.approx(batch.share)
    for piece in pieces:
        assert piece.layout is not None and len(piece.flatten().targets_S) == len(piece.targets_S)
        inner = set(piece.parents_BT[0].tolist())
        leaves, roots = piece.tokens_BT.numel() - len(inner - {-1}), int((piece.parents_BT < 0).sum())
        alone = roots == 1 if whole_trees else leaves == 1  # one tree, or one way from a root to a leaf
        assert places(piece, rows) <= most or alone
    if places(batch, rows) <= most:
        assert pieces[0] is batch
    return pieces


@settings(deadline=None, max_examples=80)
@given(st.lists(crooked(spans=30), min_size=1, max_size=4), st.integers(1, 300), st.booleans(), st.booleans())
def test_pieces_hold_all_of_a_forest_within_the_budget(
    trees: list[SpanTree], most: int, rows: bool, whole_trees: bool
) -> None:
    check(full(trees), most, rows, whole_trees)


@pytest.mark.parametrize("tree", [lopsided(9, 80), staggered(30, 20), bushy(40, 40)])
@pytest.mark.parametrize("rows", [False, True])
def test_awkward_trees_are_cut_into_few_pieces(tree: SpanTree, rows: bool) -> None:
    batch = full([tree])
    longest = int(batch.positions_BT.max()) + 1
    assert 3 <= len(check(batch, longest + places(batch, rows) // 3, rows, False)) <= 4


def test_trees_stay_whole_where_they_fit() -> None:
    small = [SpanTree([3] * 4, "prompt", 0.0, [SpanTree([5] * 3, "answer", 1.0)] * 2)] * 5  # 10 tokens each, 14 in rows
    large = SpanTree([4] * 4, "prompt", 0.0, [SpanTree([6] * 3, "answer", 1.0)] * 9)  # 31 tokens
    assert [piece.tokens_BT.numel() for piece in full(small).microbatches(29)] == [20, 20, 10]
    assert [places(piece, True) for piece in full(small).microbatches(29, rows=True)] == [28, 28, 14]
    pieces = full([small[0], large, small[0]]).microbatches(25)
    assert [piece.tokens_BT[0].tolist().count(4) for piece in pieces] == [0, 4, 4]
    assert [piece.tokens_BT.numel() for piece in pieces] == [10, 25, 20]  # the end of one tree and all of the next
    whole = full([small[0], large, small[0]]).microbatches(25, whole_trees=True)
    assert [piece.tokens_BT.numel() for piece in whole] == [10, 31, 10]
    assert [piece.roots_S.unique().tolist() for piece in whole] == [[0], [0], [0]]


def test_pieces_without_anything_supervised_are_left_out() -> None:
    empty, tree = SpanTree([3] * 6, "prompt"), SpanTree([4] * 6, "answer", 1.0)
    (piece,) = TreeBatch.pack([empty, tree, empty], 0).microbatches(6)
    assert piece.tokens_BT[0].tolist() == [4] * 6 and piece.share == 1.0
    nothing = TreeBatch.pack([empty, empty], 0).microbatches(6)
    assert len(nothing) == 1 and len(nothing[0].targets_S) == 0 and nothing[0].share == 1.0


def test_bad_budgets_and_batches_are_named() -> None:
    batch = TreeBatch.pack([bushy(3, 3)], 0)
    with pytest.raises(InputError, match="most_tokens: 0 is not at least 1"):
        batch.microbatches(0)
    with pytest.raises(InputError, match="plain rows are not cut"):
        batch.flatten().microbatches(3)
    breadth_first = TreeBatch.from_arrays(np.arange(7), np.array([-1, 0, 0, 1, 3, 2, 1]), np.ones(7), 0)
    with pytest.raises(InputError, match="laid out depth first"):
        breadth_first.microbatches(4)
