"""What is trained on: trees of weighted spans, and the tensors they are packed into.

A tree is laid out depth first in one row of tokens, and one array says all about its shape: `parents`, the index of the
token that comes before each token on its own way from the root. Positions, attention and losses follow from that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from clew.errors import InputError

Role = Literal["prompt", "thought", "answer"]


@dataclass(frozen=True, slots=True)
class SpanTree:
    """A run of tokens with one role, and the spans that continue it.

    tokens: token ids, possibly none. weight: a number for the whole span, or one per token; 0 means not trained on,
    negative pushes away. InputError names a role, token or weight that cannot be.
    """

    tokens: Sequence[int]
    role: Role
    weight: float | Sequence[float] = 0.0
    children: Sequence["SpanTree"] = ()

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise InputError(f"role: {self.role!r} is not one of {', '.join(get_args(Role))}")
        if any(token < 0 for token in self.tokens):
            raise InputError(f"tokens: {min(self.tokens)} is not a token id")
        if not all(math.isfinite(weight) for weight in self.weights()):
            raise InputError(f"weight: {self.weight} is not finite")

    def weights(self) -> list[float]:
        """One weight per token. InputError if there are more or fewer weights than tokens."""
        if not isinstance(self.weight, Sequence) and np.ndim(self.weight) == 0:
            return [float(self.weight)] * len(self.tokens)
        if len(self.weight) != len(self.tokens):  # type: ignore[arg-type]
            raise InputError(f"weight: {len(self.weight)} weights for {len(self.tokens)} tokens")  # type: ignore[arg-type]
        return [float(weight) for weight in self.weight]  # type: ignore[union-attr]


def only(tree: SpanTree, *roles: Role) -> SpanTree:
    """The tree with every weight but those of `roles` set to 0."""
    children = [only(child, *roles) for child in tree.children]
    return replace(tree, weight=tree.weight if tree.role in roles else 0.0, children=children)


def pruned(tree: SpanTree) -> SpanTree | None:
    """The tree without the branches that nothing is learnt from; None if nothing is left."""
    children = [kept for child in tree.children if (kept := pruned(child))]
    return replace(tree, children=children) if children or any(tree.weights()) else None


def spans_of(tree: SpanTree, role: Role) -> list[SpanTree]:
    """The topmost spans of a role, with what continues them."""
    return [tree] if tree.role == role else [span for child in tree.children for span in spans_of(child, role)]


@dataclass(frozen=True)
class TreeLayout:
    """How attention reads a packed row: its segments (runs without a fork) level by level, as index grids.

    Level l has C[l] cells of L[l] tokens; cell c of level l continues cell c // (C[l] / C[l-1]) of level l-1. Cells
    that a tree with fewer branches leaves empty, and the ends of short segments, hold -1.
    """

    grids: tuple[Tensor, ...]
    """int64 (C[l], L[l]): flat token indices."""
    masks: tuple[Tensor | None, ...]
    """float32 (C[l], 1, L[l], L[0] + … + L[l]) added to the scores; None where plain causal attention is exact."""
    slots_T: Tensor
    """int64: where each token's output stands when the levels' outputs are laid end to end."""
    sources_U: Tensor
    """int64: the tokens whose last hidden state anything depends on, each once, in order."""
    slots_U: Tensor
    """int64: `slots_T` at those tokens."""

    def to(self, device: torch.device | str) -> "TreeLayout":
        return TreeLayout(
            tuple(grid.to(device) for grid in self.grids),
            tuple(None if mask is None else mask.to(device) for mask in self.masks),
            self.slots_T.to(device), self.sources_U.to(device), self.slots_U.to(device),
        )  # fmt: skip


@dataclass(frozen=True)
class TreeBatch:
    """Trees as tensors. S counts the supervised tokens: those of a weight other than 0 that have a token before them.

    Packed, all trees share one row without padding (B = 1). `flatten()` gives the same examples as padded plain rows.
    """

    tokens_BT: Tensor
    """int64: packed tokens, each shared prefix once."""
    positions_BT: Tensor
    """int64: depth of the token on its own root-to-leaf path."""
    parents_BT: Tensor
    """int64: flat index of the token before it on that path; -1 at a root."""
    supervised_S: Tensor
    """int64: flat index of supervised token s."""
    sources_S: Tensor
    """int64: flat index of the token whose hidden state predicts supervised token s."""
    targets_S: Tensor
    """int64: the supervised tokens."""
    weights_S: Tensor
    """float32: their weights."""
    pad_token_id: int
    layout: TreeLayout | None = None
    """None for plain rows, which any model reads by its own causal attention."""
    choices_SC: Tensor | None = None
    """int64: for graded losses, the tokens that would be allowed in the place of supervised token s; -1 = none."""
    optimal_SC: Tensor | None = None
    """bool: which of those would be as good as any."""

    @classmethod
    def pack(cls, trees: Sequence[SpanTree], pad_token_id: int) -> "TreeBatch":
        """Packs trees of any depth. Supervised tokens come in depth-first order. InputError if there is no token."""
        tokens: list[int] = []
        parents: list[int] = []
        weights: list[float] = []
        stack: list[tuple[SpanTree, int]] = [(tree, -1) for tree in reversed(trees)]
        while stack:
            span, before = stack.pop()
            weights += span.weights()
            for token in span.tokens:
                parents.append(before)
                before = len(tokens)
                tokens.append(int(token))
            stack += [(child, before) for child in reversed(span.children)]
        return cls.from_arrays(np.array(tokens, np.int64), np.array(parents, np.int64), np.array(weights), pad_token_id)

    @classmethod
    def from_arrays(
        cls,
        tokens_T: np.ndarray,
        parents_T: np.ndarray,
        weights_T: np.ndarray,
        pad_token_id: int,
        choices_TC: np.ndarray | None = None,
        optimal_TC: np.ndarray | None = None,
    ) -> "TreeBatch":
        """A batch from flat arrays in depth-first order: each token's parent stands before it, -1 at a root."""
        if len(tokens_T) == 0:
            raise InputError("trees: there is no token in them")
        supervised = np.flatnonzero((weights_T != 0) & (parents_T >= 0))
        segments = _Segments(parents_T)
        sources_S = parents_T[supervised]
        return cls(
            tokens_BT=torch.from_numpy(np.ascontiguousarray(tokens_T))[None],
            positions_BT=torch.from_numpy(segments.positions_T)[None],
            parents_BT=torch.from_numpy(np.ascontiguousarray(parents_T))[None],
            supervised_S=torch.from_numpy(supervised),
            sources_S=torch.from_numpy(sources_S),
            targets_S=torch.from_numpy(tokens_T[supervised]),
            weights_S=torch.from_numpy(weights_T[supervised].astype(np.float32)),
            pad_token_id=pad_token_id,
            layout=segments.layout(np.unique(sources_S)),
            choices_SC=None if choices_TC is None else torch.from_numpy(choices_TC[supervised]),
            optimal_SC=None if optimal_TC is None else torch.from_numpy(optimal_TC[supervised]),
        )

    def flatten(self) -> "TreeBatch":
        """The same examples as plain rows, one a leaf, padded on the right: the slow, obvious reference.

        Supervised tokens keep their order. One that several rows hold is supervised in the first of them alone.
        """
        parents = self.parents_BT.reshape(-1).tolist()
        tokens = self.tokens_BT.reshape(-1).tolist()
        inner = set(parents)
        rows: list[list[int]] = []
        for leaf in range(len(tokens)):
            if leaf not in inner:
                row = [leaf]
                while parents[row[-1]] >= 0:
                    row.append(parents[row[-1]])
                rows.append(row[::-1])
        width = max(map(len, rows))
        first_seen: dict[int, int] = {}
        tokens_BT = torch.full((len(rows), width), self.pad_token_id)
        for b, row in enumerate(rows):
            tokens_BT[b, : len(row)] = torch.tensor([tokens[t] for t in row])
            for depth, t in enumerate(row):
                first_seen.setdefault(t, b * width + depth)
        positions_BT = torch.arange(width).expand(len(rows), width).contiguous()
        parents_BT = torch.where(positions_BT > 0, torch.arange(len(rows) * width).view(len(rows), width) - 1, -1)
        supervised_S = torch.tensor([first_seen[t] for t in self.supervised_S.tolist()], dtype=torch.int64)
        plain = replace(self, tokens_BT=tokens_BT, positions_BT=positions_BT, parents_BT=parents_BT,
                        supervised_S=supervised_S, sources_S=supervised_S - 1, layout=None)  # fmt: skip
        return plain.to(self.tokens_BT.device)

    def to(self, device: torch.device | str) -> "TreeBatch":
        """The batch on another device."""
        moved = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, (Tensor, TreeLayout))
        }
        return replace(self, **moved)


class _Segments:
    """The runs without a fork of a forest in depth-first order, found from its parents alone."""

    def __init__(self, parents_T: np.ndarray):
        index = np.arange(len(parents_T))
        if (parents_T >= index).any():
            raise InputError("parents: a token stands before its parent; trees are laid out depth first")
        fanout = np.bincount(parents_T[parents_T >= 0], minlength=len(parents_T))
        starts = (parents_T < 0) | (parents_T != index - 1) | (fanout[parents_T] > 1)
        self.first = np.flatnonzero(starts)
        self.length = np.diff(self.first, append=len(parents_T))
        self.of_token = np.cumsum(starts) - 1
        before = parents_T[self.first]
        self.parent = np.where(before >= 0, self.of_token[before], -1)
        # Parents come first, so each pass settles one more level.
        self.level = np.zeros(len(self.first), np.int64)
        offset = np.zeros(len(self.first), np.int64)
        here = np.flatnonzero(self.parent < 0)
        self.by_level = [here]
        while True:
            here = np.flatnonzero(np.isin(self.parent, here))
            if len(here) == 0:
                break
            self.by_level.append(here)
            offset[here] = offset[self.parent[here]] + self.length[self.parent[here]]
            self.level[here] = len(self.by_level) - 1
        self.positions_T = offset[self.of_token] + index - self.first[self.of_token]

    def layout(self, sources_U: np.ndarray) -> TreeLayout:
        cell_of = np.zeros(len(self.first), np.int64)
        slots_T = np.empty(len(self.positions_T), np.int64)
        grids: list[np.ndarray] = []
        masks: list[Tensor | None] = []
        cells, base = 0, 0
        for level, here in enumerate(self.by_level):
            if level == 0:
                cell_of[here] = np.arange(len(here))
                cells = len(here)
            else:
                parent_cell = cell_of[self.parent[here]]
                order = np.argsort(parent_cell, kind="stable")
                first_of = np.searchsorted(parent_cell[order], parent_cell[order])
                rank = np.empty(len(here), np.int64)
                rank[order] = np.arange(len(here)) - first_of
                cell_of[here] = parent_cell * (rank.max() + 1) + rank
                cells *= int(rank.max()) + 1
            width = int(self.length[here].max())
            along = np.arange(width)
            filled = along < self.length[here][:, None]
            grid = np.full((cells, width), -1, np.int64)
            tokens = self.first[here][:, None] + along
            grid[cell_of[here]] = np.where(filled, tokens, -1)
            slots_T[tokens[filled]] = (base + cell_of[here][:, None] * width + along)[filled]
            base += grid.size
            grids.append(grid)
            masks.append(None if level == 0 else _mask(grids))
        as_tensor = torch.from_numpy
        return TreeLayout(tuple(map(as_tensor, grids)), tuple(masks), as_tensor(slots_T),
                          as_tensor(sources_U), as_tensor(slots_T[sources_U]))  # fmt: skip


def _mask(grids: list[np.ndarray]) -> Tensor:
    """What the last level's cells may read: all real tokens of the levels above, and their own up to themselves.

    A cell's own tokens need no check for padding: it stands to their right, where causality hides it.
    """
    cells, width = grids[-1].shape
    above = [np.repeat(grid >= 0, cells // len(grid), axis=0) for grid in grids[:-1]]
    visible = np.concatenate([
        np.broadcast_to(np.concatenate(above, axis=1)[:, None], (cells, width, sum(part.shape[1] for part in above))),
        np.broadcast_to(np.tri(width, dtype=np.bool_), (cells, width, width)),
    ], axis=2)  # fmt: skip
    return torch.from_numpy(np.where(visible, np.float32(0), np.float32(-np.inf)))[:, None]
