"""Attention to shared keys against attention to a copy of them for each branch, gradients included."""

import numpy as np
import pytest
import torch
from torch import Tensor

from clew.layout import Segments, TreeLevel
from clew.shared import Place, attend, can_share

HEADS, SIZE = 2, 8


def level_of(parents: list[int]) -> tuple[TreeLevel, ...]:
    return Segments(np.array(parents)).levels()[0]


def forked(*prefixes: tuple[int, list[int]]) -> list[int]:
    """Parents of trees with a prefix of so many tokens and branches of such lengths."""
    parents: list[int] = []
    for length, branches in prefixes:
        first = len(parents)
        parents += [-1, *range(first, first + length - 1)]
        for branch in branches:
            parents += [first + length - 1, *range(len(parents), len(parents) + branch - 1)]
    return parents


def by_copies(parents: list[int], query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(T, H, D): every token reads itself and all tokens above it, one by one."""
    rows: list[Tensor] = []
    for token in range(len(parents)):
        path, here = [token], parents[token]
        while here >= 0:
            path, here = [*path, here], parents[here]
        scores = torch.einsum("hd,khd->hk", query[token], key[path]) / SIZE**0.5
        rows.append(torch.einsum("hk,khd->hd", scores.softmax(-1), value[path]))
    return torch.stack(rows)


def by_places(levels: tuple[TreeLevel, ...], query: Tensor, key: Tensor, value: Tensor) -> dict[int, Tensor]:
    """For each token of the last level, (H, D)."""

    def take(x: Tensor, grid_CL: Tensor) -> Tensor:
        at = grid_CL.clamp(min=0)
        return x[at.reshape(-1)].view(*at.shape, HEADS, SIZE).transpose(1, 2)

    *above, last = levels
    assert last.readers is not None
    places = [Place.of(reader, level.grid_CL, query.dtype) for reader, level in zip(last.readers, above, strict=True)]
    cells = [(take(key, level.grid_CL), take(value, level.grid_CL)) for level in levels]
    out = attend(take(query, last.grid_CL), cells[-1], cells[:-1], places, None).flatten(0, 1)
    return {int(t): out[i] for i, t in enumerate(last.grid_CL.reshape(-1)) if t >= 0}


@pytest.mark.parametrize(
    "parents",
    [
        forked((5, [2, 2, 2]), (5, [2, 2, 2])),  # nothing is padded
        forked((5, [1, 4]), (5, [3, 2])),
        forked((7, [3, 1, 2]), (4, [2, 5, 3])),  # prefixes of two lengths, so that keys are masked
        forked((6, [3, 1, 2, 2]), (4, [2, 5])),  # not equally many branches
        forked((6, [2, 2]), (3, []), (5, [2, 1, 1])),  # a cell that nobody continues
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_shared_keys_are_read_as_copies_are(parents: list[int], dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(len(parents))
    shape = (3, len(parents), HEADS, SIZE)
    x = (2 * torch.randn(shape, generator=draw, dtype=dtype)).requires_grad_()
    shared = by_places(level_of(parents), *x)
    tokens = sorted(shared)
    mine, theirs = torch.stack([shared[t] for t in tokens]), by_copies(parents, *x)[tokens]
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(mine, theirs, atol=tolerance, rtol=tolerance)
    weight = torch.randn(mine.shape, generator=draw, dtype=dtype)
    gradients = [torch.autograd.grad((out * weight).sum(), x)[0] for out in (mine, theirs)]
    assert gradients[1].abs().max() > 0.1
    torch.testing.assert_close(*gradients, atol=10 * tolerance, rtol=10 * tolerance)


def test_three_levels() -> None:
    parents = [-1, 0, 1, 2, 3, 2, 5, 4, 7, 4, 6, 6, 11]
    order = [0, 1, 2, 3, 4, 7, 8, 9, 5, 6, 10, 11, 12]  # depth first
    parents = [-1 if parents[t] < 0 else order.index(parents[t]) for t in order]
    levels = level_of(parents)
    assert len(levels) == 3
    x = torch.randn(3, len(parents), HEADS, SIZE, dtype=torch.float64)
    shared, copied = by_places(levels, *x), by_copies(parents, *x)
    assert len(shared) == 6
    for token, out in shared.items():
        torch.testing.assert_close(out, copied[token])


def test_great_scores_neither_overflow_nor_vanish() -> None:
    parents = forked((6, [3, 3]), (4, [3, 2]))
    x = 60 * torch.randn(3, len(parents), HEADS, SIZE, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    shared, copied = by_places(level_of(parents), *x), by_copies(parents, *x)
    for token, out in shared.items():
        torch.testing.assert_close(out, copied[token], rtol=1e-4, atol=1e-3)
    (gradient,) = torch.autograd.grad(torch.stack([*shared.values()]).sum(), x)
    assert gradient.isfinite().all()


def test_a_copy_is_read_where_that_is_cheaper() -> None:
    """One prefix with a hundred branches beside many without: side by side all would be as wide as the hundred."""
    parents = forked((5, [1] * 100), *[(5, [1])] * 100)
    assert level_of(parents)[1].readers is None
    assert level_of(forked((5, [1] * 100)))[1].readers is not None


def test_what_the_kernel_cannot_read_is_left_to_copies() -> None:
    x = torch.zeros(1, HEADS, 3, SIZE)
    assert can_share(x, x, 0.0)
    assert not can_share(x, x, 0.1) and not can_share(x, x[..., :4], 0.0) and not can_share(x.to("meta"), x, 0.0)
    assert not can_share(x, x.bfloat16(), 0.0)  # transformers 5.5 under autocast
