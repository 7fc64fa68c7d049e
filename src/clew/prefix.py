"""Keys and values of prefixes that many rows continue, each held once: the cache behind rollouts.

A usual cache repeats a prompt's keys and values for every row that continues it, and copies all of them whenever a row
is added or leaves. Here a prompt is one cell of a level, a thought that continues it a cell of the next, and rows read
cells in place: only what a row has written itself belongs to it. Softmax runs over all of it at once, so nothing is
approximated.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

ROOM = 16  # tokens of its own that a row has room for at first
KeysValues = tuple[Tensor, Tensor]


@dataclass
class Level:
    """Cells of equal depth: C prefixes, or C continuations of prefixes, of L tokens each, padded on the left."""

    parent_C: Tensor | None
    """which cell of the level above each continues, in the order of those; None at the top"""
    valid_CL: Tensor
    """where a cell has tokens"""
    depth_C: Tensor
    """tokens from the root to the cell's end"""
    kv: dict[int, KeysValues] = field(default_factory=dict)
    """by layer: (C, H', L, D)"""


class SharedPrefix:
    """Levels of cells that a model has read, and R rows that continue the cells of the last level.

    Passed to the model in place of a tree, once to read each level, then once for each token of the rows.
    """

    def __init__(self) -> None:
        self.levels: list[Level] = []
        self.own: dict[int, list[Tensor]] = {}
        self.cells: list[Tensor] = []
        self.written = -1
        """tokens of the rows' own before the present one; -1 while levels are being read"""
        self.deepest = 0
        """tokens from the root to the end of the longest cell of the last level"""

    def add(self, tokens_CL: Tensor, valid_CL: Tensor, parent_C: Tensor | None) -> dict[str, Any]:
        """One more level; returns what the model needs to read it."""
        above_C = 0 if parent_C is None else self.levels[-1].depth_C[parent_C]
        depth_C = valid_CL.sum(1) + above_C
        self.levels.append(Level(parent_C, valid_CL, depth_C))
        self.deepest = int(depth_C.max())
        before_C = depth_C - valid_CL.sum(1)
        positions_CL = (before_C[:, None] + valid_CL.long().cumsum(1) - 1).clamp(min=0)
        return {"input_ids": tokens_CL, "position_ids": positions_CL}

    def fork(self, cells_R: Tensor) -> None:
        """Rows set out from cells of the last level, in the order of the cells."""
        self.written = 0
        self._place(cells_R)

    def step(self, tokens_R: Tensor) -> dict[str, Any]:
        """What the model needs to read one more token of each row."""
        depth_R = self.levels[-1].depth_C[self.cells[-1]] + self.written
        return {"input_ids": tokens_R[:, None], "position_ids": depth_R[:, None]}

    def select(self, rows: Tensor) -> None:
        """Goes on with some of the rows only."""
        self._place(self.cells[-1][rows])
        self.own = {layer: [x[rows] for x in kv] for layer, kv in self.own.items()}

    def _place(self, cells_R: Tensor) -> None:
        """Each row's cell in every level, and its place in that level's grid of (cell, row of the cell)."""
        self.cells = [cells_R]
        for level in reversed(self.levels[1:]):
            assert level.parent_C is not None
            self.cells.insert(0, level.parent_C[self.cells[0]])
        self.places: list[Tensor] = []
        self.widths: list[int] = []
        self.masks: list[Tensor | None] = []
        for level, cell_R in zip(self.levels, self.cells, strict=True):
            count_C = torch.bincount(cell_R, minlength=len(level.valid_CL))
            slot_R = torch.arange(len(cell_R), device=cell_R.device) - (count_C.cumsum(0) - count_C)[cell_R]
            self.widths.append(int(count_C.max()))
            self.places.append(cell_R * self.widths[-1] + slot_R)
            self.masks.append(None if level.valid_CL.all() else ~level.valid_CL[cell_R])

    def reach(self) -> int:
        """The longest way from the root to the token that is being read."""
        return self.deepest + self.written + 1

    def attend(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """query (B, H, L, D), key and value (B, H', L, D) of a level's cells, or of one token a row -> (B, L, H, D)."""
        layer: int = module.layer_idx  # type: ignore[assignment]
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        if self.written < 0:
            return self._read(layer, query, key, value, scale)
        return self._continue(layer, query[:, :, 0], key[:, :, 0], value[:, :, 0], scale)[:, None]

    def _read(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        level, length = self.levels[-1], query.shape[2]
        # As products read them: with heads inside of tokens, as models give them, each step would copy all of them.
        level.kv[layer] = (key.contiguous(), value.contiguous())
        causal = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
        own = torch.eye(length, dtype=torch.bool, device=query.device)  # padding has to look somewhere
        valid = [(causal & level.valid_CL[:, None]) | own]
        keys, values = [key], [value]
        cells = level.parent_C
        for above in reversed(self.levels[:-1]):
            assert cells is not None
            keys.insert(0, above.kv[layer][0][cells])
            values.insert(0, above.kv[layer][1][cells])
            valid.insert(0, above.valid_CL[cells][:, None].expand(-1, length, -1))
            cells = None if above.parent_C is None else above.parent_C[cells]
        plain = len(self.levels) == 1 and bool(level.valid_CL.all())
        mask, grouped = None if plain else torch.cat(valid, 2)[:, None], query.shape[1] != key.shape[1]
        return nn.functional.scaled_dot_product_attention(
            query, torch.cat(keys, 2), torch.cat(values, 2), mask, is_causal=plain, scale=scale, enable_gqa=grouped
        ).transpose(1, 2)

    def _continue(self, layer: int, query_RHD: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        rows, heads, size = query_RHD.shape
        grouped = query_RHD.view(rows, key.shape[1], heads // key.shape[1], size) * scale
        own_key, own_value = self._write(layer, key, value)
        scores: list[Tensor] = []
        for level, at, width, mask in zip(self.levels, self.places, self.widths, self.masks, strict=True):
            score = _from(_grid(grouped, at, level, width) @ level.kv[layer][0].transpose(2, 3), at, grouped)
            scores.append(score if mask is None else score.masked_fill_(mask[:, None, None], -torch.inf))
        scores.append(grouped @ own_key.transpose(2, 3))
        probs = torch.cat(scores, -1).softmax(-1, dtype=torch.float32).to(query_RHD.dtype)
        *shares, own = probs.split([score.shape[-1] for score in scores], -1)
        out = own @ own_value
        for share, level, at, width in zip(shares, self.levels, self.places, self.widths, strict=True):
            out = out + _from(_grid(share, at, level, width) @ level.kv[layer][1], at, share)
        return out.reshape(rows, heads, out.shape[-1])  # values may be of another size than keys

    def _write(self, layer: int, key_RHD: Tensor, value_RHD: Tensor) -> KeysValues:
        """Adds a token's keys and values to the rows' own, in place while there is room; all of them so far."""
        news, end = (key_RHD, value_RHD), self.written + 1
        kept = self.own.setdefault(layer, [x.new_empty(*x.shape[:2], ROOM, x.shape[2]) for x in news])
        for i, new in enumerate(news):
            if end > kept[i].shape[2]:
                kept[i] = torch.cat([kept[i], torch.empty_like(kept[i])], 2)
            kept[i][:, :, self.written] = new
        return kept[0][:, :, :end], kept[1][:, :, :end]


def _grid(x: Tensor, at_R: Tensor, level: Level, width: int) -> Tensor:
    """(R, H', G, X) of rows -> (C, H', width * G, X): rows side by side in the cells that they read."""
    cells, (_, heads, group, last) = len(level.valid_CL), x.shape
    grid = x if len(at_R) == cells * width else x.new_zeros(cells * width, heads, group, last).index_copy_(0, at_R, x)
    return grid.view(cells, width, heads, group, last).transpose(1, 2).reshape(cells, heads, width * group, last)


def _from(grid: Tensor, at_R: Tensor, like: Tensor) -> Tensor:
    """The way back: (C, H', width * G, X) -> (R, H', G, X)."""
    cells, heads, across, last = grid.shape
    width = across // like.shape[2]
    rows = grid.view(cells, heads, width, like.shape[2], last).transpose(1, 2).flatten(0, 1)
    return rows if len(at_R) == cells * width else rows[at_R]
