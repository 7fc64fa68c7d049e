"""What is trained on: trees of weighted spans, and the tensors they are packed into.

A tree is laid out depth first in one row of tokens, and one array says all about its shape: `parents`, the index of the
token that comes before each token on its own way from the root. Positions, attention and losses follow from that.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from clew.errors import InputError
from clew.layout import Segments, TreeLayout, layout_of, parents_within
from clew.microbatches import cut
from clew.text import show

LARGEST = float(np.finfo(np.float32).max)  # what a weight may be: losses are weighted in float32
CERTAIN = 1e-3  # by how much rounding may lift a log-probability above 0
Role = Literal["prompt", "thought", "answer"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class SpanTree:
    """A run of tokens with one role, and the spans that continue it.

    tokens: token ids, possibly none. weight: a number for the whole span, or one per token; 0 means not trained on,
    negative pushes away. logps: what sampling said of each token, as a natural logarithm of its probability; None for
    what was not sampled. InputError names a role, token, weight or logp that cannot be.
    """

    tokens: Sequence[int]
    role: Role
    weight: float | Sequence[float] = 0.0
    children: Sequence["SpanTree"] = ()
    logps: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.role, str) or self.role not in ROLES:
            raise InputError(f"role: {show(self.role)} is not one of {', '.join(ROLES)}")
        check_ids(self.tokens)
        if not isinstance(self.children, Sequence) or not all(isinstance(child, SpanTree) for child in self.children):
            raise InputError(f"children: {show(self.children)} is no list of SpanTrees")
        for weight in set(self.weights()):
            if not abs(weight) <= LARGEST:
                raise InputError(f"weight: {weight} is not a finite float32 number, which ends at {LARGEST:.3g}")
        if self.logps is not None:
            self._check_logps()

    def _check_logps(self) -> None:
        try:
            logps = np.asarray(self.logps)
        except (TypeError, ValueError, RuntimeError):  # rows of unequal lengths; a tensor that cannot be read here
            logps = np.array(None)
        if logps.ndim != 1 or (logps.size and logps.dtype.kind not in "fiu"):
            raise InputError(f"logps: {show(self.logps)} is no row of log-probabilities (numbers up to 0)")
        if len(logps) != len(self.tokens):
            raise InputError(f"logps: {len(logps)} log-probabilities for {len(self.tokens)} tokens")
        for wrong in logps[~((logps >= -LARGEST) & (logps <= CERTAIN))]:
            raise InputError(f"logps: {wrong} is not the logarithm of a probability (a finite number up to 0)")

    def weights(self) -> list[float]:
        """One weight per token. InputError if there are more or fewer weights than tokens, or one is no number."""
        weight = self.weight
        try:
            if isinstance(weight, (str, bytes)):
                raise TypeError
            if not isinstance(weight, Sequence) and np.ndim(weight) == 0:
                return [_number(weight)] * len(self.tokens)
            if len(weight) != len(self.tokens):  # type: ignore[arg-type]
                raise InputError(f"weight: {len(weight)} weights for {len(self.tokens)} tokens")  # type: ignore[arg-type]
            return [_number(one) for one in weight]  # type: ignore[union-attr]
        except (TypeError, ValueError, OverflowError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"weight: {show(weight)} is no number, nor one a token") from None


def _number(value: object) -> float:
    if isinstance(value, (str, bytes)):
        raise TypeError
    return float(value)  # type: ignore[arg-type]


def check_ids(tokens: object, name: str = "tokens") -> None:
    """InputError, naming the field, unless these are whole numbers from 0, below 2^63: of Python, NumPy or torch."""
    if isinstance(tokens, (np.ndarray, Tensor)):
        whole = tokens.ndim == 1 and "int" in str(tokens.dtype)
        values: list[int] = tokens.tolist() if whole else []
    else:
        whole = isinstance(tokens, Sequence) and not isinstance(tokens, (str, bytes))
        values = list(tokens) if whole else []  # type: ignore[call-overload]
    if not whole:
        raise InputError(f"{name}: {show(tokens)} is no row of token ids (whole numbers from 0)")
    if not set(map(type, values)) <= {int}:  # most are plain, and then there is nothing to look at one by one
        values = [_whole(value, name) for value in values]
    if values and not 0 <= min(values) <= max(values) < 2**63:
        wrong = min(values) if min(values) < 0 else max(values)
        raise InputError(f"{name}: {show(wrong)} is not a token id (a whole number from 0, below 2^63)")


def _whole(value: object, name: str = "tokens") -> int:
    """A token as an int: of NumPy or torch too, while a bool is none."""
    try:
        if isinstance(value, (bool, np.bool_)) or (isinstance(value, Tensor) and "int" not in str(value.dtype)):
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(f"{name}: {show(value)} is not a token id (a whole number from 0)") from None


def only(tree: SpanTree, *roles: Role) -> SpanTree:
    """The tree with every weight but those of `roles` set to 0."""

    def kept(span: SpanTree, children: list[SpanTree]) -> SpanTree:
        return replace(span, weight=span.weight if span.role in roles else 0.0, children=children)

    return folded(tree, kept)


def pruned(tree: SpanTree) -> SpanTree | None:
    """The tree without the branches that nothing is learnt from; None if nothing is left."""

    def kept(span: SpanTree, below: list[SpanTree | None]) -> SpanTree | None:
        children = [child for child in below if child]
        return replace(span, children=children) if children or any(span.weights()) else None

    return folded(tree, kept)


def spans_of(tree: SpanTree, role: Role) -> list[SpanTree]:
    """The topmost spans of a role, with what continues them."""
    found, left = [], [tree]
    while left:
        span = left.pop()
        if span.role == role:
            found.append(span)
        else:
            left += reversed(span.children)
    return found


def folded(tree: Any, fold: Callable[[Any, list[Any]], Any]) -> Any:
    """What `fold` makes of a span and of what it made of its children, from the leaves up: depth takes no stack.

    tree: a SpanTree, or anything else with `children`.
    """
    spans, left = [], [tree]
    while left:
        spans.append(left.pop())
        left += spans[-1].children
    made: dict[int, Any] = {}
    for span in reversed(spans):
        made[id(span)] = fold(span, [made[id(child)] for child in span.children])
    return made[id(tree)]


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
    roots_S: Tensor
    """int64: which of the packed trees supervised token s belongs to."""
    layout: TreeLayout | None = None
    """None for plain rows, which any model reads by its own causal attention."""
    choices_SC: Tensor | None = None
    """int64: for graded losses, the tokens that would be allowed in the place of supervised token s; -1 = none."""
    optimal_SC: Tensor | None = None
    """bool: which of those would be as good as any."""
    roles_S: Tensor | None = None
    """uint8: the roles of the supervised tokens, as places in `ROLES`; None where nobody said."""
    sampled_nll_S: Tensor | None = None
    """float32: their negative log-likelihoods as sampling reported them, in nats; NaN where it did not."""
    reference_nll_S: Tensor | None = None
    """float32: their negative log-likelihoods under a frozen policy; None until `dataclasses.replace` sets them."""
    share: float = 1.0
    """this batch's part of the supervised tokens that one update is made of."""

    @classmethod
    def pack(cls, trees: Sequence[SpanTree], pad_token_id: int) -> "TreeBatch":
        """Packs trees of any depth. Supervised tokens come in depth-first order. InputError if there is no token."""
        if not isinstance(trees, Sequence):
            raise InputError(f"trees: {show(trees)} is no list of SpanTrees")
        for tree in trees:
            if not isinstance(tree, SpanTree):
                raise InputError(f"trees: {show(tree)} is no SpanTree")
        check_ids([pad_token_id], "pad_token_id")
        tokens: list[int] = []
        parents: list[int] = []
        weights: list[float] = []
        spans: list[SpanTree] = []
        stack: list[tuple[SpanTree, int]] = [(tree, -1) for tree in reversed(trees)]
        while stack:
            span, before = stack.pop()
            spans.append(span)
            weights += span.weights()
            for token in span.tokens:
                parents.append(before)
                before = len(tokens)
                tokens.append(int(token))
            stack += [(child, before) for child in reversed(span.children)]
        lengths = [len(span.tokens) for span in spans]
        return cls.from_arrays(
            np.array(tokens, np.int64),
            np.array(parents, np.int64),
            np.array(weights),
            pad_token_id,
            roles_T=np.repeat(np.array([ROLES.index(span.role) for span in spans], np.uint8), lengths),
            sampled_nll_T=_sampled_nll(spans),
        )

    @classmethod
    def from_arrays(
        cls,
        tokens_T: np.ndarray,
        parents_T: np.ndarray,
        weights_T: np.ndarray,
        pad_token_id: int,
        choices_TC: np.ndarray | None = None,
        optimal_TC: np.ndarray | None = None,
        roles_T: np.ndarray | None = None,
        sampled_nll_T: np.ndarray | None = None,
    ) -> "TreeBatch":
        """A batch from flat arrays in depth-first order: each token's parent stands before it, -1 at a root."""
        if len(tokens_T) == 0:
            raise InputError("trees: there is no token in them")
        if not (np.abs(weights_T) <= LARGEST).all():
            raise InputError("weights: one is not a finite float32 number")
        supervised = np.flatnonzero((weights_T != 0) & (parents_T >= 0))

        def chosen(values_T: np.ndarray | None) -> Tensor | None:
            return None if values_T is None else torch.from_numpy(values_T[supervised])

        return cls(
            **_structure(tokens_T, parents_T, supervised),
            weights_S=torch.from_numpy(weights_T[supervised].astype(np.float32)),
            pad_token_id=pad_token_id,
            choices_SC=chosen(choices_TC),
            optimal_SC=chosen(optimal_TC),
            roles_S=chosen(roles_T),
            sampled_nll_S=chosen(sampled_nll_T),
        )

    def microbatches(self, most_tokens: int, rows: bool = False, whole_trees: bool = False) -> list["TreeBatch"]:
        """Batches of at most `most_tokens` tokens whose losses and gradients add up to this one's.

        A tree that alone is larger is cut between its branches (never, with `whole_trees`): what stands above a cut is
        read in both pieces and supervised in the first. A way from a root to a leaf stays whole, whatever its length.
        rows: counts the places of the plain rows that a piece stands for. Pieces in which nothing is supervised are
        left out, unless that leaves none. InputError for plain rows: cut first, then flatten.
        """
        if self.layout is None:
            raise InputError("batch: plain rows are not cut; cut the packed batch and flatten its pieces")
        parents_T = self.parents_BT.reshape(-1).cpu().numpy()
        pieces = cut(parents_T, most_tokens, rows, whole_trees)
        if len(pieces) == 1:
            return [self]
        supervised = self.supervised_S.cpu().numpy()
        bounds = np.searchsorted(supervised, [(piece.first, piece.end) for piece in pieces])
        made = []
        for piece, (first, end) in zip(pieces, bounds.tolist(), strict=True):
            if first < end or (not len(supervised) and not made):
                made.append(self._part(parents_T, piece.tokens(), slice(first, end)))
        return made

    def _part(self, parents_T: np.ndarray, tokens: np.ndarray, mine: slice) -> "TreeBatch":
        """Some of the tokens, with all above them, of which those in `mine` (a range of S) are supervised."""
        supervised = np.searchsorted(tokens, self.supervised_S[mine].cpu().numpy())
        tokens_T = self.tokens_BT.reshape(-1).cpu().numpy()[tokens]
        kept = {
            name: value[mine]
            for name, value in vars(self).items()
            if isinstance(value, Tensor) and name.endswith(("_S", "_SC"))
        }
        structure = _structure(tokens_T, parents_within(parents_T, tokens), supervised)
        share = self.share * len(supervised) / max(1, len(self.supervised_S))
        part = replace(self, **(kept | structure), share=share if len(supervised) else self.share)
        return part.to(self.tokens_BT.device)

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
        plain = replace(
            self,
            tokens_BT=tokens_BT,
            positions_BT=positions_BT,
            parents_BT=parents_BT,
            supervised_S=supervised_S,
            sources_S=supervised_S - 1,
            layout=None,
        )
        return plain.to(self.tokens_BT.device)

    def to(self, device: torch.device | str) -> "TreeBatch":
        """The batch on another device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        place = torch.device(device)
        other = self.layout is not None and place.type != self.tokens_BT.device.type
        layout = self.laid_out(shares=place.type == "cpu").layout if other else self.layout
        return replace(self, **moved, layout=None if layout is None else layout.to(place))

    def laid_out(self, **how: bool) -> "TreeBatch":
        """A packed batch in another layout; how: as `layout_of` takes it."""
        assert self.layout is not None
        segments = Segments(self.parents_BT.reshape(-1).cpu().numpy())
        layout = layout_of(segments, self.layout.sources_U.cpu().numpy(), **how)
        return replace(self, layout=layout.to(self.tokens_BT.device))


def _structure(tokens_T: np.ndarray, parents_T: np.ndarray, supervised: np.ndarray) -> dict[str, Any]:
    """The fields of a packed TreeBatch that follow from its tokens, their parents, and which of them are supervised."""
    segments = Segments(parents_T)
    sources_S = parents_T[supervised]
    return {
        "tokens_BT": torch.from_numpy(np.ascontiguousarray(tokens_T))[None],
        "positions_BT": torch.from_numpy(segments.positions_T)[None],
        "parents_BT": torch.from_numpy(np.ascontiguousarray(parents_T))[None],
        "supervised_S": torch.from_numpy(supervised),
        "sources_S": torch.from_numpy(sources_S),
        "targets_S": torch.from_numpy(tokens_T[supervised]),
        "roots_S": torch.from_numpy((np.cumsum(parents_T < 0) - 1)[supervised]),
        "layout": layout_of(segments, np.unique(sources_S)),
    }


def _sampled_nll(spans: Sequence[SpanTree]) -> np.ndarray | None:
    """float32: what sampling said of each of the spans' tokens, NaN where nothing; None if it said nothing at all."""
    if all(span.logps is None for span in spans):
        return None
    parts = [np.full(len(span.tokens), np.nan) if span.logps is None else -np.asarray(span.logps) for span in spans]
    return np.concatenate(parts).astype(np.float32)
