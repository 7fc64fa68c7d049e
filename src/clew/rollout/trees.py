"""Training trees, built in one place: each policy's completions in the contexts that they were written in."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from clew.rollout.types import Completion, Context
from clew.tree import SpanTree, TreeBatch, folded, pruned


@dataclass(eq=False)
class _Span:
    """A span on the way to becoming a SpanTree."""

    of: Context | Completion
    weight: float = 0.0
    logps: list[float] | None = None
    children: list["_Span"] = field(default_factory=list)


def training_trees(weighted: Iterable[tuple[Completion, float]]) -> list[SpanTree]:
    """Trees in which each completion has its weight, and stands behind the very context that it was written in.

    Contexts that are shared are held once. A completion that others read as it was written is their context, with its
    weight; one that they read in another form (alone, or rewritten) stands beside what they read. Siblings come in the
    order of `weighted`. Branches with no weight are left out.
    """
    roots: list[_Span] = []
    spans: dict[int, _Span] = {}

    def span_of(context: Context) -> _Span:
        held = context.written or context  # what is read as it was written is the completion itself
        for link in _missing(context, spans):
            own = link.written or link
            spans[id(own)] = _Span(own)
            above = link.before and spans[id(link.before.written or link.before)]
            (above.children if above else roots).append(spans[id(own)])
        return spans[id(held)]

    for completion, weight in weighted:
        span = span_of(completion.as_read())
        span.weight, span.logps = weight, completion.logps
    return [tree for root in roots if (tree := pruned(folded(root, _as_tree)))]


def _missing(context: Context, spans: dict[int, _Span]) -> list[Context]:
    return [link for link in context.chain() if id(link.written or link) not in spans]


def _as_tree(span: _Span, children: list[SpanTree]) -> SpanTree:
    return SpanTree(span.of.tokens, span.of.role, span.weight, children, span.logps or None)


def training_batch(weighted: Iterable[tuple[Completion, float]], pad_token_id: int) -> TreeBatch | None:
    """What a policy learns from its completions; None if that is nothing."""
    trees = training_trees(weighted)
    batch = TreeBatch.pack(trees, pad_token_id) if trees else None
    return batch if batch is not None and len(batch.targets_S) else None
