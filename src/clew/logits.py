"""What is made of logits, token by token, without ever holding all of them: S supervised tokens have S x V logits, at a
vocabulary of 150,000 and 3,000 tokens 1.8 GB, several times over with softmax and gradients.

So where there are many, the output head is given its tokens some at a time, within the model's own forward pass, and
the head runs once more for each of these parts when gradients are asked for. Numbers are those of the whole.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clew.attention import check_tokens, inner, tree_logits
from clew.selfcheck import reads_trees
from clew.tree import TreeBatch

WHOLE = 2**25  # logits that are held at once: 128 MiB in float32, and two or three times that with their gradient
PART = 2**24

PerToken = Callable[[Tensor, TreeBatch], tuple[Tensor, ...]]
"""(logits_SV, batch) -> some x_S, each token's from its own logits; targets, weights and choices are those of the S"""


def per_token(model: nn.Module, batch: TreeBatch, of: PerToken) -> tuple[Tensor, ...]:
    """`of` the logits of a batch's supervised tokens, in float32 at least.

    A model's first batch of trees is preceded by a check that it reads them exactly; InputError if it does not, and for
    a token that the model does not know.
    """
    check_tokens(model, int(batch.tokens_BT.max()))
    if batch.layout is not None:
        reads_trees(model, batch.layout.reach, batch.tokens_BT.numel())
        if (found := _in_parts(model, batch, of)) is not None:
            return found
    return of(_exact(tree_logits(model, batch)), batch)


def _exact(logits_SV: Tensor) -> Tensor:
    return logits_SV.float() if logits_SV.dtype in (torch.bfloat16, torch.float16) else logits_SV


def _in_parts(model: nn.Module, batch: TreeBatch, of: PerToken) -> tuple[Tensor, ...] | None:
    """`per_token`, the head given its tokens part by part; None where there are few logits, and for a model that does
    more to logits than its head (scaling, capping), which has to be given all of them."""
    base = inner(model)
    head, vocabulary = base.get_output_embeddings(), getattr(base.config.get_text_config(), "vocab_size", 0)
    count, most = len(batch.targets_S), PART // max(1, vocabulary)
    if count * vocabulary <= WHOLE or not isinstance(head, nn.Module) or getattr(base, "_clew_whole_logits", False):
        return None
    parts: list[tuple[Tensor, ...]] = []
    plain, own, first = head.forward, "forward" in vars(head), []

    def part_of(hidden_PD: Tensor, part: TreeBatch) -> tuple[Tensor, ...]:
        return of(_exact(plain(hidden_PD[None])[0]), part)

    def forward(hidden_1SD: Tensor) -> Tensor:
        for start in range(0, count, max(1, most)):
            at = slice(start, start + max(1, most))
            job = partial(part_of, hidden_1SD[0, at], _only(batch, at))
            parts.append(checkpoint(job, use_reentrant=False) if torch.is_grad_enabled() else job())  # type: ignore[arg-type]
        first.append(plain(hidden_1SD[:, :1]))
        return first[0]

    head.forward = forward
    try:
        given = tree_logits(model, batch)
    finally:
        if own:
            head.forward = plain
        else:
            del head.forward
    if len(first) != 1 or not torch.equal(given, first[0][0]):
        base._clew_whole_logits = True  # type: ignore[assignment]
        return None
    return tuple(torch.cat(values) for values in zip(*parts, strict=True))


def _only(batch: TreeBatch, at: slice) -> TreeBatch:
    """A batch with some of its supervised tokens; all else is left as it stands."""
    own = {name: value for name, value in vars(batch).items() if name.endswith(("_S", "_SC")) and value is not None}
    return replace(batch, **{name: value[at] for name, value in own.items()})
