"""Which layers matter: what is lost at forks, and of whole paths, without a layer, its attention or its MLP.

    rows = list(maze_sequences(stream, range(300), policy.tokenizer))
    remove(policy, rows).table()

    skip   the part adds nothing to the stream: what it costs to be without it
    mean   the part adds what it adds in the mean over other mazes at the same place, and so nothing about this one

Skipping takes the stream out of its usual range, which the layers behind may mind more than what was lost; the mean
does not ("mean ablation": Wang et al. 2022, arXiv 2211.00593). But what is near the output speaks in the mean, too: for
what is usually written at that place, on whatever step of a path. Where the two disagree, trust the smaller loss.

Beside each stands a change as large that takes nothing away: a random direction added to what the part adds, as long as
what was changed. A part of which the removal costs no more than that was not shown to matter.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from clew.errors import InputError
from clew.policy import Policy
from clew.read.activations import questions_of
from clew.read.attribution import forks_of
from clew.read.effects import LEAST, Figure, columns, difference, rate, ratio, table_of
from clew.read.hooks import SITES, Edit, Key, Site, keys_of
from clew.read.passes import Pass, asked, go_on, padded, read_rows, unembed
from clew.read.places import PLACES, Words, find_places, numbers_of
from clew.text import show

if TYPE_CHECKING:
    import pyarrow as pa

Part = Literal["layer", "attention", "mlp"]
PARTS: tuple[Part, ...] = get_args(Part)
Mode = Literal["skip", "mean"]
MODES: tuple[Mode, ...] = get_args(Mode)
_ADDED: dict[Part, tuple[Site, ...]] = {"attention": ("attn_out",), "mlp": ("mlp_out",)}
_ADDED["layer"] = ("attn_out", "mlp_out")


@dataclass(frozen=True)
class Removal:
    """What is taken away."""

    layer: int
    part: Part = "layer"
    mode: Mode = "skip"

    @property
    def keys(self) -> list[Key]:
        return [(site, self.layer) for site in _ADDED[self.part]]


@dataclass(frozen=True)
class Depth:
    """How well Q paths are written, whole and with each of C removals."""

    removals: list[Removal]
    forks_Q: np.ndarray
    """int64: forks on each path"""
    right_Q: np.ndarray
    """int64: those of them at which the likeliest token is the path's next cell"""
    exact_Q: np.ndarray
    """bool: whether the model, greedily, writes this very path, from `<PATH_START>` to `<PATH_END>`"""
    right_CQ: np.ndarray
    exact_CQ: np.ndarray
    """the two with each removal"""
    random_right_CQ: np.ndarray
    random_exact_CQ: np.ndarray
    """and with a random change as large"""

    def figures(self, number: int) -> dict[str, Figure]:
        """Of one removal: `forks` and `exact`, the shares that are right (forks are pooled, their interval is that of a
        ratio of means over questions), and `forks_lost` and `exact_lost` against the whole model on the same mazes.
        Each also as `random_...`, and `..._lost_above_random` as the paired difference."""
        found: dict[str, Figure] = {}
        both = ("", self.right_CQ, self.exact_CQ), ("random_", self.random_right_CQ, self.random_exact_CQ)
        for name, right_CQ, exact_CQ in both:
            right_Q, exact_Q = right_CQ[number], exact_CQ[number]
            found[f"{name}forks"] = ratio(right_Q, self.forks_Q)
            found[f"{name}forks_lost"] = ratio(self.right_Q - right_Q, self.forks_Q)
            found[f"{name}exact"] = rate(exact_Q)
            found[f"{name}exact_lost"] = difference(self.exact_Q, exact_Q)
        found["forks_lost_above_random"] = ratio(self.random_right_CQ[number] - self.right_CQ[number], self.forks_Q)
        found["exact_lost_above_random"] = difference(self.random_exact_CQ[number], self.exact_CQ[number])
        return found

    def table(self) -> "pa.Table":
        """A row a removal and figure: layer, part, mode, mazes, forks, figure, value, value_low, value_high; first the
        whole model's `forks` and `exact`, without layer, part and mode."""
        about: dict[str, Any] = {"layer": None, "part": None, "mode": None, "mazes": len(self.forks_Q)}
        about["forks"] = int(self.forks_Q.sum())
        whole = {"forks": ratio(self.right_Q, self.forks_Q), "exact": rate(self.exact_Q)}
        rows = [{**about, "figure": name, **columns("value", figure)} for name, figure in whole.items()]
        for number, one in enumerate(self.removals):
            about |= {"layer": one.layer, "part": one.part, "mode": one.mode}
            for name, figure in self.figures(number).items():
                rows.append({**about, "figure": name, **columns("value", figure)})
        return table_of(rows)


def removals_of(
    model: nn.Module,
    layers: Collection[int] | None = None,
    parts: Collection[Part] = PARTS,
    modes: Collection[Mode] = MODES,
) -> list[Removal]:
    """Each mode of each part of each layer; None for all layers. InputError for one that does not exist."""
    chosen = [layer for _, layer in keys_of(model, ["mlp_out"], layers)]
    found = [Removal(layer, part, mode) for mode in modes for part in parts for layer in chosen]
    _check(model, found)
    return found


def remove(
    policy: Policy,
    sequences: Sequence[np.ndarray],
    removals: Sequence[Removal] | None = None,
    seed: int = 0,
    batch_size: int = 64,
) -> Depth:
    """How well the paths of Q mazes are written without each of C parts, by default all of `removals_of`.

    sequences: rows of token ids with their whole paths, as `activations.maze_sequences` gives them. All is read of one
    pass over each row: a model writes it, greedily, just if each token of the path is the likeliest after those before.
    Of a maze with several shortest paths the given one alone counts as right; mazes that are trees have one.
    The random twin of a model writes no path and so has nothing to lose. seed: of the random changes.
    InputError, before anything is removed, for a layer, part or mode that does not exist, a model that cannot be read
    or is not for mazes, a row without its whole path, mazes without forks, and fewer than 10 mazes.
    """
    chosen = removals_of(policy.model) if removals is None else list(removals)
    _check(policy.model, chosen)
    if len(sequences) < LEAST:
        raise InputError(f"sequences: {len(sequences)} are too few for a 95% interval; expected at least {LEAST}")
    rows = _Rows.of(policy, sequences)
    keys = {key for one in chosen for key in one.keys}
    right, exact = np.zeros((1 + 2 * len(chosen), len(rows))), np.zeros((1 + 2 * len(chosen), len(rows)), np.bool_)
    with asked(policy) as model:
        usual = _Usual.of(rows, model, keys, batch_size) if any(one.mode == "mean" for one in chosen) else None
        for which in rows.batches(batch_size):
            base = read_rows(model, rows.tokens_QT[which], keys)
            right[0, which], exact[0, which] = rows.graded(base, which)
            for number, one in enumerate(chosen, 1):
                edits, others = _edits(base, one, usual, rows, which, seed)
                right[number, which], exact[number, which] = rows.graded(go_on(base, edits), which)
                other = number + len(chosen)
                right[other, which], exact[other, which] = rows.graded(go_on(base, others), which)
    removed, random = slice(1, 1 + len(chosen)), slice(1 + len(chosen), None)
    plain = rows.forks_QT.sum(1), right[0], exact[0]
    return Depth(chosen, *plain, right[removed], exact[removed], right[random], exact[random])


@dataclass(frozen=True)
class _Rows:
    """Q rows of T tokens, filled up on the right."""

    tokens_QT: np.ndarray
    place_QT: np.ndarray
    """int64: places by their numbers in PLACES, -1 for none"""
    path_QT: np.ndarray
    """bool: behind which tokens one of the path is to be written"""
    forks_QT: np.ndarray
    """bool: behind which of these one is to be chosen"""

    @classmethod
    def of(cls, policy: Policy, sequences: Sequence[np.ndarray]) -> "_Rows":
        found = find_places(sequences, Words.of(policy.tokenizer))
        tokens_QT = padded(sequences, policy.pad_token_id)
        place_QT, forks_QT = np.full(tokens_QT.shape, -1), np.zeros(tokens_QT.shape, np.bool_)
        place_QT[found.sequence_R, found.position_R] = found.place_R
        for row in np.flatnonzero(~(place_QT == PLACES.index("path_end")).any(1)):
            raise InputError(f"sequences: number {row} lacks its whole path, up to <PATH_END>")
        first_Q = (place_QT == PLACES.index("path")).argmax(1)
        for row, question in enumerate(questions_of(found, len(sequences))):
            forks = forks_of(question.lattice, question.path or ())
            forks_QT[row, first_Q[row] : first_Q[row] + len(forks)] = forks
        if not forks_QT.any():
            raise InputError("sequences: there is no fork on any path; expected mazes with some")
        path_QT = np.zeros(tokens_QT.shape, np.bool_)
        path_QT[:, :-1] = np.isin(place_QT[:, 1:], numbers_of(["path_start", "path", "path_end"]))
        return cls(tokens_QT, place_QT, path_QT, forks_QT)

    def __len__(self) -> int:
        return len(self.tokens_QT)

    def batches(self, batch_size: int) -> Iterator[slice]:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(f"batch_size: {show(batch_size)} is not a whole number from 1")
        return (slice(start, start + batch_size) for start in range(0, len(self), batch_size))

    def graded(self, run: Pass, which: slice) -> tuple[np.ndarray, np.ndarray]:
        """Of some rows: how many forks are gone right at, and whether all of the path is written."""
        path_BT, right_BT = self.path_QT[which], np.zeros(self.path_QT[which].shape, np.bool_)
        stream_ND = run.end_BTD[torch.from_numpy(path_BT).to(run.end_BTD.device)]
        wanted_N = self.tokens_QT[which][:, 1:][path_BT[:, :-1]]
        right_BT[path_BT] = unembed(run.model, stream_ND).argmax(-1).cpu().numpy() == wanted_N
        return (right_BT & self.forks_QT[which]).sum(1), (path_BT & ~right_BT).sum(1) == 0


@dataclass(frozen=True)
class _Usual:
    """Sums by place, over all rows, of what is added: (places, D) at each site and layer."""

    sums: dict[Key, Tensor]
    counts: Tensor

    @classmethod
    def of(cls, rows: _Rows, model: nn.Module, keys: Collection[Key], batch_size: int) -> "_Usual":
        sums: dict[Key, Tensor] = {}
        counts = torch.zeros(len(PLACES), dtype=torch.float64)
        for which in rows.batches(batch_size):
            run, at_BTG = read_rows(model, rows.tokens_QT[which], keys), _at(rows, which)
            counts += at_BTG.sum((0, 1))
            for key in keys:
                part_GD = _by_place(at_BTG, run.values[key]).sum(0)
                sums[key] = sums[key] + part_GD if key in sums else part_GD
        return cls(sums, counts)

    def elsewhere(self, key: Key, value_BTD: Tensor, at_BTG: Tensor) -> Tensor:
        """(B, T, D): what other rows have at each token's place, in the mean; 0 at padding."""
        left_BGD = self.sums[key] - _by_place(at_BTG, value_BTD)
        left_BG = (self.counts - at_BTG.sum(1)).clamp(min=1).to(left_BGD.device)
        return torch.einsum("btg,bgd->btd", at_BTG.to(left_BGD), left_BGD / left_BG[..., None]).to(value_BTD.dtype)


def _at(rows: _Rows, which: slice) -> Tensor:
    """(B, T, places): 1 at each token's place."""
    return torch.from_numpy(rows.place_QT[which][..., None] == np.arange(len(PLACES))).double()


def _by_place(at_BTG: Tensor, value_BTD: Tensor) -> Tensor:
    return torch.einsum("btg,btd->bgd", at_BTG.to(value_BTD.device), value_BTD.double())


def _edits(
    base: Pass, one: Removal, usual: _Usual | None, rows: _Rows, which: slice, seed: int
) -> tuple[dict[Key, Edit], dict[Key, Edit]]:
    """What takes a part away, and what changes it as much at random."""
    edits: dict[Key, Edit] = {}
    others: dict[Key, Edit] = {}
    for key in one.keys:
        value_BTD = base.values[key]
        mean_BTD = usual.elsewhere(key, value_BTD, _at(rows, which)) if usual and one.mode == "mean" else None
        luck_BTD = torch.zeros_like(value_BTD)
        for row, index in enumerate(range(len(rows))[which]):
            dice = np.random.default_rng([seed, one.layer, SITES.index(key[0]), index])
            luck_BTD[row] = torch.from_numpy(dice.standard_normal(value_BTD.shape[1:]))
        edits[key] = _put(mean_BTD)
        others[key] = _push(mean_BTD, luck_BTD / luck_BTD.norm(dim=-1, keepdim=True))
    return edits, others


def _put(mean_BTD: Tensor | None) -> Edit:
    return torch.zeros_like if mean_BTD is None else lambda x_BTD: mean_BTD


def _push(mean_BTD: Tensor | None, luck_BTD: Tensor) -> Callable[[Tensor], Tensor]:
    def edit(x_BTD: Tensor) -> Tensor:
        changed_BTD = x_BTD if mean_BTD is None else x_BTD - mean_BTD
        return x_BTD + luck_BTD * changed_BTD.norm(dim=-1, keepdim=True)

    return edit


def _check(model: nn.Module, removals: Sequence[Removal]) -> None:
    if not removals:
        raise InputError("removals: there are none; expected at least one")
    for one in removals:
        for name, value, known in (("part", one.part, PARTS), ("mode", one.mode, MODES)):
            if value not in known:
                raise InputError(f"{name}: {show(value)} is not one of {', '.join(known)}")
        keys_of(model, ["mlp_out"], [one.layer])
