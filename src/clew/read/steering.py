"""Steering: directions added to activations while a model writes its path. What counts is the path that comes of it.

push = Addition("resid_post", 1, "target", direction_D, strength=4.0)
roll_out(policy, prompts, [push])                           # the paths
steer(policy, prompts, [push], wanted).table()              # beside no push, and random pushes of equal norm
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from clew.attention import inner
from clew.errors import InputError
from clew.mazes import vocab
from clew.mazes.lattice import Cell
from clew.policy import Policy
from clew.read.effects import LEAST, columns, difference, named, table_of
from clew.read.hooks import Edit, Key, Site, editing, final_norm_of, heads_of, keys_of, width_of
from clew.read.passes import asked, check_rows, positions_of
from clew.read.patching import check_head
from clew.read.places import PLACES, Words, find_places, numbers_of
from clew.runs.intervals import Ratio, Tally, student
from clew.text import show

if TYPE_CHECKING:
    import pyarrow as pa

Steps = tuple[Cell | None, ...]
Wanted = Callable[[int, Steps], bool]
"""of a prompt's number and a whole path, with None for what is no cell: whether it is what was to be brought about"""
SPARE = 2  # tokens beyond the longest possible path: room to be seen going wrong


@dataclass(frozen=True, eq=False)
class Addition:
    """A direction that is added, times its strength, wherever the model reads some place."""

    site: Site
    layer: int
    where: str | Collection[str] | np.ndarray
    """places by their names, those of the path as it is written among them; or bools (Q, T) over the prompts' tokens"""
    direction: np.ndarray | Tensor
    """(D,), or (Q, D) for a direction of its own at each prompt; of z, (H * D)"""
    strength: float = 1.0


@dataclass(frozen=True, eq=False)
class Replacement:
    """What stands in the place of one head's z at every token that has a place, the path's as they are written."""

    layer: int
    head: int
    z_GD: np.ndarray
    """float (places, D / H), in the order of PLACES"""

    def edit(self, places_BT: np.ndarray) -> Edit:
        """Of all heads' z (B, T, H * D), at tokens with these places by their numbers, -1 for none."""
        there, at = torch.from_numpy(places_BT >= 0)[..., None], torch.from_numpy(np.maximum(places_BT, 0))
        part = slice(self.head * self.z_GD.shape[1], (self.head + 1) * self.z_GD.shape[1])

        def edit(z_BTD: Tensor) -> Tensor:
            usual_BTD = torch.as_tensor(self.z_GD).to(z_BTD.device, z_BTD.dtype)[at.to(z_BTD.device)]
            new_BTD = z_BTD.clone()
            new_BTD[..., part] = torch.where(there.to(z_BTD.device), usual_BTD, z_BTD[..., part])
            return new_BTD

        return edit


@dataclass(frozen=True)
class Rolled:
    """What a model wrote after a prompt, greedily."""

    tokens: tuple[int, ...]
    """to `<PATH_END>`, with it, or to the limit"""
    path: Steps
    """the whole path, with what of it stood in the prompt; None for a token that is no cell"""
    ended: bool
    """whether the model said that the path was over"""


def roll_out(
    policy: Policy,
    prompts: Sequence[Sequence[int] | np.ndarray],
    additions: Sequence[Addition | Replacement] = (),
    max_new: int | None = None,
    batch_size: int = 128,
    cached: bool = True,
) -> list[Rolled]:
    """The path that the model writes after each of Q prompts, greedily, with directions added on the way, and what
    heads say replaced.

    prompts: token ids whole up to `<TARGET_END>`; a path may have begun. Those of equal length are continued together.
    max_new: tokens written at most; None for two more than the longest path that the tokenizer's cells allow, or as
    many as the model has positions for, if these are enough for the prompts' own cells.
    cached: False reads the whole row anew for each token: the reference.
    InputError for a model that cannot be read or is not for mazes, for a site, layer or place that does not exist, a
    direction or z of another size, for what is no maze prompt, and for a model with fewer positions than that takes.
    """
    words, rows = Words.of(policy.tokenizer), [np.asarray(prompt, np.int64) for prompt in prompts]
    pushes = [_checked(policy.model, one, rows) for one in additions]
    numbers = {word: int(np.flatnonzero(words.kind_V == word)[0]) for word in (vocab.PATH_START, vocab.PATH_END)}
    limit = max_new or int((words.cell_VC[:, 0] >= 0).sum()) + 2 + SPARE
    written: dict[int, Rolled] = {}
    with asked(policy) as model:
        for which in _alike(rows, batch_size):
            tokens_BT = np.stack([rows[number] for number in which])
            check_rows(model, tokens_BT, max_new or longest_path(tokens_BT, words))
            places_BT = _places(tokens_BT, words)
            most = min(limit, (positions_of(model) or math.inf) - tokens_BT.shape[1])
            found = _written(model, tokens_BT, places_BT, which, pushes, words, int(most), cached)
            for number, prompt_T, place_T, new in zip(which.tolist(), tokens_BT, places_BT, found, strict=True):
                before = prompt_T[np.isin(place_T, numbers_of(["path_start", "path"]))]
                written[number] = _rolled([*before.tolist(), *new], new, words, numbers)
    return [written[number] for number in range(len(rows))]


def longest_path(tokens_BT: np.ndarray, words: Words) -> int:
    """Tokens of the longest path through the cells of any of some prompts, with its two ends, and a few to spare."""
    return 2 + SPARE + max((len(np.unique(row[words.kinds(row) == vocab.FIRST_CELL])) for row in tokens_BT), default=0)


def _rolled(path: list[int], new: list[int], words: Words, numbers: Mapping[int, int]) -> Rolled:
    start, end = numbers[vocab.PATH_START], numbers[vocab.PATH_END]
    ended = bool(new) and new[-1] == end
    body = path[path.index(start) + 1 : -1 if ended else None] if start in path else []
    cells = [tuple(words.cell_VC[token].tolist()) for token in body]
    return Rolled(tuple(new), tuple(cell if cell[0] >= 0 else None for cell in cells), ended)  # type: ignore[arg-type, misc]


def _alike(rows: Sequence[np.ndarray], batch_size: int) -> Iterator[np.ndarray]:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size: {show(batch_size)} is not a whole number from 1")
    lengths = np.array([len(row) for row in rows], np.int64)
    for length in np.unique(lengths):
        alike = np.flatnonzero(lengths == length)
        yield from np.split(alike, range(batch_size, len(alike), batch_size))


def _places(tokens_BT: np.ndarray, words: Words) -> np.ndarray:
    """Each token's place by its number in PLACES, -1 for none."""
    found = find_places(tokens_BT, words)
    places_BT = np.full(tokens_BT.shape, -1)
    places_BT[found.sequence_R, found.position_R] = found.place_R
    if (places_BT[:, :1] != PLACES.index("list_start")).any():
        raise InputError("prompts: one begins with padding, which the model would read")
    if (places_BT == PLACES.index("path_end")).any():
        raise InputError("prompts: one has its whole path already, to its <PATH_END>")
    return places_BT


@dataclass(frozen=True)
class _Push:
    key: Key
    places: list[int]
    mask_QT: np.ndarray | None
    vector_QD: Tensor
    """times the strength; one row for all, or one for each prompt"""

    def edit(self, which: np.ndarray, places_BT: np.ndarray, first: int) -> Edit:
        """For the tokens of some prompts from column `first` on, with these places."""
        if self.mask_QT is None:
            mask_BT = np.isin(places_BT, self.places)
        else:
            mask_BT = np.zeros(places_BT.shape, np.bool_)
            known_QT = self.mask_QT[which, first : first + places_BT.shape[1]]
            mask_BT[:, : known_QT.shape[1]] = known_QT
        vector_BD = self.vector_QD[which] if len(self.vector_QD) > 1 else self.vector_QD

        def edit(x_BTD: Tensor) -> Tensor:
            mask = torch.from_numpy(mask_BT).to(x_BTD.device)[..., None]
            return torch.where(mask, x_BTD + vector_BD.to(x_BTD.device, x_BTD.dtype)[:, None], x_BTD)

        return edit


@dataclass(frozen=True)
class _Put:
    key: Key
    one: Replacement

    def edit(self, which: np.ndarray, places_BT: np.ndarray, first: int) -> Edit:
        return self.one.edit(places_BT)


_Change = _Push | _Put


def _written(
    model: nn.Module,
    tokens_BT: np.ndarray,
    places_BT: np.ndarray,
    which: np.ndarray,
    pushes: Sequence[_Change],
    words: Words,
    limit: int,
    cached: bool,
) -> list[list[int]]:
    base: Any = inner(model)
    cache = DynamicCache(config=base.config) if cached else None
    name = "cache" if "cache" in signature(base.base_model.forward).parameters else "past_key_values"
    first, new = 0, [[] for _ in tokens_BT]
    written = list(new)  # of the rows that are still read
    over_B = np.zeros(len(tokens_BT), np.bool_)
    for _ in range(limit):
        fresh_BT, at_BT = tokens_BT[:, first:], places_BT[:, first:]
        with _pushing(model, pushes, which, at_BT, first):
            read = torch.from_numpy(np.ascontiguousarray(fresh_BT)).to(base.device)
            how = {name: cache, "use_cache": True} if cached else {"use_cache": False}
            stream_BTD = _ahead_of_norm(model, read, how)
        logits_BV = base.get_output_embeddings()(final_norm_of(model)(stream_BTD[:, -1]))
        next_B = logits_BV.argmax(-1).cpu().numpy()
        first = tokens_BT.shape[1] if cached else 0
        place_B = _next_places(places_BT, words.kinds(next_B))
        for row in np.flatnonzero(~over_B):
            written[row].append(int(next_B[row]))
        over_B |= words.kinds(next_B) == vocab.PATH_END
        if over_B.all():
            break
        tokens_BT = np.concatenate([tokens_BT, next_B[:, None]], 1)
        places_BT = np.concatenate([places_BT, place_B[:, None]], 1)
        if 2 * over_B.sum() >= len(over_B):  # the other rows are read no further
            alive = np.flatnonzero(~over_B)
            tokens_BT, places_BT, which, over_B = tokens_BT[alive], places_BT[alive], which[alive], over_B[alive]
            written = [written[row] for row in alive]
            if cache is not None:
                cache.batch_select_indices(torch.from_numpy(alive).to(base.device))
    return new


def _ahead_of_norm(model: nn.Module, tokens_BT: Tensor, how: dict[str, Any]) -> Tensor:
    """The stream behind the last layer, pushed as it is."""
    taken: list[Tensor] = []
    handle = final_norm_of(model).register_forward_pre_hook(lambda _, args: taken.append(args[0]))
    try:
        inner(model).base_model(input_ids=tokens_BT, **how)
    finally:
        handle.remove()
    return taken[0]


def _next_places(places_BT: np.ndarray, kinds_B: np.ndarray) -> np.ndarray:
    """The place of a token that is written next, as `find_places` would name it."""
    start, path = PLACES.index("path_start"), PLACES.index("path")
    begun_B = (places_BT == start).any(1)
    walking_B = np.isin(places_BT[:, -1], [start, path])
    place_B = np.where(walking_B & (kinds_B == vocab.FIRST_CELL), path, -1)
    place_B = np.where(walking_B & (kinds_B == vocab.PATH_END), PLACES.index("path_end"), place_B)
    return np.where(~begun_B & (kinds_B == vocab.PATH_START), start, place_B)


def _pushing(model: nn.Module, pushes: Sequence[_Change], which: np.ndarray, places_BT: np.ndarray, first: int) -> Any:
    edits: dict[Key, Edit] = {}
    for push in pushes:
        edit = push.edit(which, places_BT, first)
        edits[push.key] = _then(edits[push.key], edit) if push.key in edits else edit
    return editing(model, edits)


def _then(before: Edit, after: Edit) -> Edit:
    return lambda x_BTD: after(before(x_BTD))


def _checked(model: nn.Module, one: Addition | Replacement, rows: Sequence[np.ndarray]) -> _Change:
    if isinstance(one, Replacement):
        return _checked_put(model, one)
    (key,) = keys_of(model, [one.site], [one.layer])
    vector_QD = torch.atleast_2d(torch.as_tensor(one.direction).detach().float())
    size = width_of(model, key)
    if vector_QD.ndim != 2 or vector_QD.shape[1] != size or len(vector_QD) not in (1, len(rows)):
        shape = tuple(torch.as_tensor(one.direction).shape)
        raise InputError(f"direction: shape {shape} is not ({size},) or ({len(rows)}, {size}) at {key[0]} {key[1]}")
    if not torch.isfinite(vector_QD * one.strength).all():
        raise InputError(f"direction, strength: times {show(one.strength)} it is not finite")
    if isinstance(one.where, np.ndarray):
        widest = max(map(len, rows), default=0)
        if one.where.dtype != np.bool_ or one.where.shape != (len(rows), widest):
            raise InputError(f"where: shape {one.where.shape} is not bools of ({len(rows)}, {widest})")
        return _Push(key, [], one.where, vector_QD * one.strength)
    names = [one.where] if isinstance(one.where, str) else one.where
    return _Push(key, numbers_of(names), None, vector_QD * one.strength)


def _checked_put(model: nn.Module, one: Replacement) -> _Put:
    (key,) = keys_of(model, ["z"], [one.layer])
    check_head(model, (one.layer, one.head))
    size = width_of(model, key) // heads_of(model)
    if one.z_GD.shape != (len(PLACES), size) or not np.isfinite(one.z_GD).all():
        raise InputError(f"z: shape {one.z_GD.shape} is not ({len(PLACES)}, {size}) of finite numbers")
    return _Put(key, one)


@dataclass(frozen=True)
class Steering:
    """What steering did to the paths of Q prompts."""

    plain: list[Rolled]
    """without it"""
    steered: list[Rolled]
    controls: list[list[Rolled]]
    """for each of some draws, with random directions of equal norm in place of those that were to be tried"""
    wanted: Wanted | None
    shared: bool = False
    """whether a direction was added to all prompts alike: then draws are as few as there are directions"""

    def figures(self) -> dict[str, dict[str, float]]:
        """{figure: {value, low, high}}: `changed`, the share of paths that are others than without steering, and
        `wanted`, the share that are what was wanted; each also as `plain_wanted`, `random_changed`, `random_wanted` for
        the controls, and `changed_above_random`, `wanted_above_random` (`effects.difference`). Where a
        direction is shared, prompts alone would make the last two look surer than they are: added to their interval is
        that in which another random direction would lie, by Student's t over the draws; without ends for fewer than 2.
        """
        tally, drawn = Tally(), defaultdict(list)
        for number, (plain, steered) in enumerate(zip(self.plain, self.steered, strict=True)):
            random = [control[number] for control in self.controls]
            checks: dict[str, Callable[[Rolled], bool]] = {
                "changed": lambda one, plain=plain: _text(one) != _text(plain)
            }
            if self.wanted:
                checks["wanted"] = lambda one, number=number, wanted=self.wanted: bool(wanted(number, one.path))
            found: dict[str, float] = {}
            for name, check in checks.items():
                found[name] = check(steered)
                if name == "wanted":
                    found["plain_wanted"] = check(plain)
                if random:
                    hits = [check(one) for one in random]
                    drawn[name].append([found[name], *hits])
                    found[f"random_{name}"] = Ratio(sum(hits), len(hits))
            tally.add(found)
        report = tally.report()
        for name, rows in drawn.items():
            own_Q, *random_NQ = np.array(rows, np.float64).T
            figure = named(difference(own_Q, np.mean(random_NQ, axis=0)))
            for end, sign in (("low", -1), ("high", 1)) if self.shared else ():
                apart = math.hypot(figure[end] - figure["value"], _another(np.mean(random_NQ, axis=1).tolist()))
                figure[end] = figure["value"] + sign * apart
            report[f"{name}_above_random"] = figure
        return {name: figure for name, figure in report.items() if isinstance(figure, dict)}

    def table(self) -> "pa.Table":
        """A row a figure: figure, prompts, value, value_low, value_high."""
        rows = []
        for name, figure in self.figures().items():
            ends = columns("value", (figure["value"], figure["low"], figure["high"]))
            rows.append({"figure": name, "prompts": len(self.plain), **ends})
        return table_of(rows)


def _another(rates: Sequence[float]) -> float:
    """How far from the mean of some draws' rates that of one more draw lies, in 95 of 100 times."""
    if len(rates) < 2:
        return math.inf
    return student(len(rates) - 1) * float(np.std(rates, ddof=1)) * math.sqrt(1 + 1 / len(rates))


def _text(one: Rolled) -> tuple[Steps, bool]:
    return one.path, one.ended


def steer(
    policy: Policy,
    prompts: Sequence[Sequence[int] | np.ndarray],
    additions: Sequence[Addition],
    wanted: Wanted | None = None,
    controls: int = 8,
    seed: int = 0,
    **how: Any,
) -> Steering:
    """Paths with directions added, without them, and with random directions of equal norm at the same sites and places.

    wanted: what counts as success, such as the other side's path of a minimal pair; without it only change is counted.
    controls: how many draws of random directions; each has one direction for each addition, or one for each prompt
    where the addition has. Further arguments, and InputError, as `roll_out`.
    """
    if isinstance(controls, bool) or not isinstance(controls, int) or controls < 0:
        raise InputError(f"controls: {show(controls)} is not a whole number from 0")
    if not additions or len(prompts) < LEAST:
        raise InputError(f"additions, prompts: one of them is empty, or prompts are too few; expected at least {LEAST}")
    rng = np.random.default_rng(seed)
    drawn = [[random_like(one, rng) for one in additions] for _ in range(controls)]
    runs = [roll_out(policy, prompts, some, **how) for some in ((), additions, *drawn)]
    shared = any(torch.as_tensor(one.direction).ndim == 1 for one in additions)
    return Steering(runs[0], runs[1], runs[2:], wanted, shared)


def random_like(one: Addition, rng: np.random.Generator) -> Addition:
    """The same addition with a direction drawn uniformly, of equal norm."""
    direction = torch.as_tensor(one.direction).detach().double().cpu().numpy()
    drawn = rng.standard_normal(direction.shape)
    norms = [np.linalg.norm(vector, axis=-1, keepdims=True) for vector in (direction, drawn)]
    return replace(one, direction=drawn / norms[1] * norms[0])
