"""Where a forest is cut, so that what is read at once stays within a budget of tokens."""

from dataclasses import dataclass

import numpy as np

from clew.errors import InputError
from clew.layout import Segments


@dataclass(frozen=True)
class Piece:
    """Some leaves that follow each other in depth-first order, with all that stands above them."""

    above: np.ndarray
    """int64: tokens above the first leaf that an earlier piece holds too, from the root on; there they are counted"""
    first: int
    """flat index of the first token that no earlier piece holds"""
    end: int
    """flat index past the last"""

    def tokens(self) -> np.ndarray:
        """int64: all tokens of the piece, in their order."""
        return np.concatenate([self.above, np.arange(self.first, self.end)])


def cut(parents_T: np.ndarray, most_tokens: int, rows: bool = False, whole_trees: bool = False) -> list[Piece]:
    """Cuts a forest in depth-first order into pieces of at most `most_tokens` tokens that together hold it all.

    Trees stay whole where one alone fits. A larger one is cut between its leaves, unless `whole_trees`; what is above a
    cut stands in both pieces. A way from a root to a leaf is never cut, whatever its length. rows: what counts are the
    places of the plain rows that a piece stands for, padding included. InputError for a budget below 1, and for tokens
    that are not laid out depth first.
    """
    if most_tokens < 1:
        raise InputError(f"most_tokens: {most_tokens} is not at least 1")
    if len(parents_T) <= most_tokens and not rows:
        return [Piece(parents_T[:0], 0, len(parents_T))]
    segments = Segments(parents_T)
    leaves = segments.leaves
    ends_L, reach_L = (segments.first + segments.length)[leaves], segments.end[leaves]
    tree_L = (np.cumsum(parents_T < 0) - 1)[ends_L - 1]
    pieces, leaf, first = [], 0, 0
    while leaf < len(leaves):
        stop = leaf + _fitting(ends_L[leaf:], reach_L[leaf:], most_tokens, rows)
        if stop < len(leaves):
            begin = int(np.searchsorted(tree_L, tree_L[stop]))  # of the tree that did not fit
            if begin > leaf:
                stop = begin
            elif whole_trees:
                stop = int(np.searchsorted(tree_L, tree_L[stop], "right"))
        path = segments.paths(leaves[leaf : leaf + 1], int(reach_L[leaf]))[0]
        pieces.append(Piece(path[path < first], first, int(ends_L[stop - 1])))
        leaf, first = stop, int(ends_L[stop - 1])
    return pieces


def _fitting(ends_L: np.ndarray, reach_L: np.ndarray, most: int, rows: bool) -> int:
    """How many of these leaves, from the first on, fit into a piece: at least one."""
    if rows:
        reach_L = reach_L[:most]  # a row has a token at least
        fit = np.searchsorted(np.maximum.accumulate(reach_L) * np.arange(1, len(reach_L) + 1), most, "right")
    else:  # between two leaves stands what the second does not share with the first
        fit = np.searchsorted(ends_L, ends_L[0] + most - reach_L[0], "right")
    return max(1, int(fit))
