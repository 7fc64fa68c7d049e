"""Attention of many branches to the keys that they share, which nobody copies: exact, gradients included.

A softmax over keys that stand in several places is put together from those over each place, weighted by the sums of
their exponentials; so the branches of a cell can read it side by side, as one long row of queries (Hydragen, Juravsky
et al. 2024, arXiv 2402.05099). Its gradient needs no more: a place's share in it follows from the output and the sum of
the whole (as in FlashAttention, Dao et al. 2022, arXiv 2205.14135). On a CPU, with torch's own kernel; the reference is
attention with a copy of the keys for each branch, which `attention.py` falls back to.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_read = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_learn = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True)
class Place:
    """Where queries stand side by side while they read some cells: A cells, Q queries each.

    Queries are numbered as in their own level's grid (C, L), laid flat.
    """

    query_AQ: Tensor
    """int64: the queries that read each cell; any number where there are fewer than Q"""
    slot_P: Tensor
    """int64: which places of `query_AQ`, laid flat, hold a query"""
    mask: Tensor | None
    """(A, 1, Q, K), added to the scores: -inf at padding among the keys; None where there is none"""

    @classmethod
    def of(cls, reader_AQ: Tensor, keys_AK: Tensor, dtype: torch.dtype) -> "Place":
        """reader_AQ: as `query_AQ`, -1 where no query stands; keys_AK: token indices, -1 at padding."""
        mask, real_AK = None, keys_AK >= 0
        real_AK = real_AK | ~real_AK.any(1, keepdim=True)  # a cell that nobody reads: anything finite
        if not real_AK.all():
            mask = torch.zeros(real_AK.shape, dtype=dtype, device=keys_AK.device).masked_fill_(~real_AK, -torch.inf)
            mask = mask[:, None, None].expand(-1, -1, reader_AQ.shape[1], -1)
        return cls(reader_AQ.clamp(min=0), (reader_AQ.reshape(-1) >= 0).nonzero()[:, 0], mask)

    def side_by_side(self, x_RH: Tensor, fill: float | None = None) -> Tensor:
        """(R, H, …) of all queries -> (A, H, Q, …); fill: what stands where no query does, anything if None."""
        x = x_RH.index_select(0, self.query_AQ.reshape(-1))
        if fill is not None:
            x = torch.full_like(x, fill).index_copy_(0, self.slot_P, x[self.slot_P])
        return x.view(*self.query_AQ.shape, *x_RH.shape[1:]).transpose(1, 2)

    def queries(self) -> Tensor:
        """The number of each query that stands here, in the order of `slot_P`."""
        return self.query_AQ.reshape(-1)[self.slot_P]

    def apart(self, x_AHQ: Tensor) -> Tensor:
        """(A, H, Q, …) -> of each query that stands here, in the order of `slot_P`: (P, H, …)"""
        return _flat(x_AHQ).index_select(0, self.slot_P)


def can_share(query: Tensor, value: Tensor, dropout: float) -> bool:
    """Whether torch's kernel for CPUs reads this."""
    alike = query.dtype == value.dtype and query.shape[-1] == value.shape[-1]  # autocast may widen queries alone
    return query.device.type == "cpu" and alike and not dropout


KeysValues = tuple[Tensor, Tensor]


def attend(query: Tensor, own: KeysValues, above: list[KeysValues], places: list[Place], scale: float | None) -> Tensor:
    """query (C, H, L, D), each of which reads its own cell up to itself, and one cell of each level above it whole.

    own: keys and values of the query's cells (C, H, L, D); above: those (A, H, K, D) of each level above; places: where
    the queries stand while they read it; scale: of the scores, by default 1 / sqrt(D). -> (C, L, H, D)
    """
    shared = [x for cells in above for x in cells]
    return _Attention.apply(query, *own, scale, places, *shared)  # type: ignore[no-any-return]


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float | None, places: list[Place], *shared: Tensor
    ) -> Tensor:
        query_R = _flat(query)
        out, lse = (_flat(x) for x in _read(query, key, value, 0.0, True, scale=scale))
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        total = lse
        for place, k, v in zip(places, shared[::2], shared[1::2], strict=True):
            part, part_lse = _read(place.side_by_side(query_R), k, v, 0.0, False, attn_mask=place.mask, scale=scale)
            at, part, part_lse = place.queries(), place.apart(part), place.apart(part_lse)
            total = total.index_copy(0, at, torch.logaddexp(total[at], part_lse))
            parts.append((at, part, part_lse))
        whole = out * _share(lse, total, out.dtype)
        for at, part, part_lse in parts:
            whole.index_add_(0, at, part * _share(part_lse, total[at], out.dtype))
        ctx.save_for_backward(query, key, value, whole, total, *shared)
        ctx.scale, ctx.places = scale, places
        cells, _, length, _ = query.shape
        return whole.view(cells, length, *whole.shape[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        query, key, value, whole, total, *shared = ctx.saved_tensors
        grad_R, query_R, scale = grad.reshape(whole.shape), _flat(query), ctx.scale

        def own(x_RH: Tensor) -> Tensor:
            return x_RH.view(len(query), query.shape[2], *x_RH.shape[1:]).transpose(1, 2)

        d_query, d_key, d_value = _learn(
            grad.transpose(1, 2), query, key, value, own(whole), own(total).contiguous(), 0.0, True, scale=scale
        )
        d_query_R, d_shared = _flat(d_query), list[Tensor]()
        for place, k, v in zip(ctx.places, shared[::2], shared[1::2], strict=True):
            # Where no query stands a sum without bound keeps what is read there at 0, however great its scores.
            asked, sums = place.side_by_side(grad_R, 0.0), place.side_by_side(total, torch.inf).contiguous()
            read = place.side_by_side(query_R), k, v, place.side_by_side(whole), sums
            d_q, d_k, d_v = _learn(asked, *read, 0.0, False, attn_mask=place.mask, scale=scale)
            d_query_R = d_query_R.index_add(0, place.queries(), place.apart(d_q))
            d_shared += [d_k, d_v]
        return own(d_query_R), d_key, d_value, None, None, *d_shared


def _flat(x: Tensor) -> Tensor:
    """(C, H, L, …) -> (C * L, H, …)"""
    return x.transpose(1, 2).flatten(0, 1)


def _share(lse: Tensor, total: Tensor, dtype: torch.dtype) -> Tensor:
    """(R, H, 1): of the whole sum of exponentials, the part that these keys have."""
    return (lse - total).exp().to(dtype)[..., None]
