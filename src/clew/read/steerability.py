"""Does a model walk the other way when it is pushed to? Along the path, cell by cell, by differences of class means.

    found = steerability(policy, pairs, sequences)
    found.gain("path")                              # (value, low, high) above random pushes
    found.gain("step", layer=1)

At a cell of the path a model is about to write the next token. What it has there in the mean before one next token,
less what it has in the mean before another, is a direction: added, it should make it write the one in place of the
other ("mass-mean" directions: Marks and Tegmark 2023, arXiv 2310.06824; Rimsky et al. 2023, arXiv 2312.06681). A
minimal pair says what to write: the clean side's prompt is read, and from the fork on each token is pushed from its
right next token to that of the corrupt side's path. Success is that path, whole, and its end.

The direction of a probe is another: that in which its answer changes fastest, w_b - w_a of a linear probe that tells
classes a and b apart. It is what decodes best, and need not be what the model reads; it is pushed as far.
"""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from clew.errors import InputError
from clew.mazes import vocab
from clew.mazes.lattice import Cell, Question
from clew.mazes.pairs import PairBatch
from clew.policy import Policy
from clew.read.activations import gather, questions_of
from clew.read.effects import LEAST, Figure, columns, difference, table_of
from clew.read.hooks import Key, layers_of
from clew.read.linear import whitening_of
from clew.read.passes import Pass, asked, go_on, padded, read_rows, start_column, unembed
from clew.read.places import Words, find_places
from clew.read.targets import targets_in
from clew.text import show

if TYPE_CHECKING:
    import pyarrow as pa

Directions = Literal["means", "probe"]
DIRECTIONS: tuple[Directions, ...] = get_args(Directions)
STRENGTHS = (1.0, 2.0, 4.0, 8.0)
SEEN = 5
"""path tokens of a class below which its mean is no direction"""
Class = tuple[int, int]
"""a cell's token on a path, and the token that is right behind it"""
Means = dict[Class, dict[Key, np.ndarray]]


@dataclass(frozen=True)
class Detours:
    """Q clean prompts, each with the other side's path written behind it, and what each token of it is to be pushed
    from and to."""

    rows: list[np.ndarray]
    """token ids, to the corrupt side's target"""
    pushes: list[list[tuple[int, Class, Class]]]
    """by prompt, from the fork on: the token's position, the class that it is of, and the one that is wanted"""

    def known(self, classes: Container[Class]) -> "Detours":
        """Those of which all classes are among these."""
        kept = [all(a in classes and b in classes for _, a, b in some) for some in self.pushes]
        parts = zip(self.rows, self.pushes, kept, strict=True)
        both = [(row, some) for row, some, keep in parts if keep]
        return Detours([row for row, _ in both], [some for _, some in both])


def detours(pairs: PairBatch, words: Words) -> Detours:
    """Of pairs of kind target, in the ids of these words."""
    ids: dict[Cell, int] = {(r, c): number for number, (r, c) in enumerate(words.cell_VC.tolist()) if r >= 0}
    end = int(np.flatnonzero(words.kind_V == vocab.PATH_END)[0])
    sides = (pairs.clean_tokens_PT, pairs.corrupt_tokens_PT)
    cleans, corrupts = (questions_of(find_places(tokens_PT, words), len(pairs)) for tokens_PT in sides)
    rows, pushes = [], []
    for number, (clean, corrupt) in enumerate(zip(cleans, corrupts, strict=True)):
        prompt_T = pairs.clean_tokens_PT[number, -pairs.length_P[number] :]
        assert clean.path  # the walk to the fork
        cells = corrupt.lattice.shortest_path(clean.path[-1], corrupt.target)
        wanted = [*(ids[cell] for cell in cells[1:]), end]
        places = range(len(prompt_T) - 1, len(prompt_T) + len(cells) - 1)
        some = []
        for place, cell, token in zip(places, cells, wanted, strict=True):
            some.append((place, (ids[cell], _right(clean, cell, ids, end)), (ids[cell], token)))
        rows.append(np.concatenate([prompt_T, wanted[:-1]]))
        pushes.append(some)
    return Detours(rows, pushes)


def _right(question: Question, cell: Cell, ids: Mapping[Cell, int], end: int) -> int:
    """What is right behind a cell, wherever the path came from."""
    way = question.lattice.shortest_path(cell, question.target)
    return ids[way[1]] if len(way) > 1 else end


def known_detours(
    pairs: PairBatch, sequences: Sequence[np.ndarray], words: Words
) -> tuple[Detours, Sequence[np.ndarray]]:
    """The detours of pairs whose classes can have a mean, and the sequences that it is taken from, which are those of
    other mazes. InputError where such pairs are too few; no model is read."""
    rows = [tokens_T[-length:] for tokens_T, length in zip(pairs.clean_tokens_PT, pairs.length_P, strict=True)]
    fresh_Q = ~np.isin(targets_in(sequences, words).maze_Q, targets_in(rows, words).maze_Q)
    fresh = [sequences[row] for row in np.flatnonzero(fresh_Q).tolist()]
    counts: Counter[Class] = Counter()
    for row_T in fresh:
        kinds_T = words.kinds(row_T)
        path = slice(int((kinds_T == vocab.PATH_START).argmax()) + 1, int((kinds_T == vocab.PATH_END).argmax()) + 1)
        counts.update(pairwise(row_T[path].tolist()))
    found = detours(pairs, words).known({name for name, count in counts.items() if count >= SEEN})
    if len(found.rows) < LEAST:
        few = (
            f"{len(found.rows)} of {len(pairs)} pairs have pushes whose steps are in {SEEN} or more of {len(sequences)}"
        )
        raise InputError(f"questions: too few to push by: {few} questions; expected at least {LEAST} such pairs")
    return found, fresh


def class_means(policy: Policy, sequences: Sequence[np.ndarray], keys: Sequence[Key], batch_size: int = 64) -> Means:
    """What the model has in the mean at a cell of a path, before each token that follows one there.

    sequences: rows of token ids with their whole paths. Classes of which there are fewer than SEEN are left out.
    """
    sums: Means = {}
    counts: dict[Class, int] = {}
    sites, layers = {site for site, _ in keys}, sorted({layer for _, layer in keys})
    for batch in gather(policy, sequences, sites, layers, ["path"], batch_size):
        at = zip(batch.places.sequence_R.tolist(), batch.places.position_R.tolist(), strict=True)
        pairs_RA = np.array([sequences[row][place : place + 2] for row, place in at])
        classes_CA, class_R = np.unique(pairs_RA, axis=0, return_inverse=True)
        part_CR = (class_R.reshape(-1) == np.arange(len(classes_CA))[:, None]).astype(np.float64)
        totals = {key: part_CR @ batch.values[key].flatten(1).double().numpy() for key in keys}
        for number, (cell, behind) in enumerate(classes_CA.tolist()):
            counts[cell, behind] = counts.get((cell, behind), 0) + int(part_CR[number].sum())
            mine = sums.setdefault((cell, behind), dict.fromkeys(keys, np.zeros(())))
            sums[cell, behind] = {key: mine[key] + totals[key][number] for key in keys}
    return {
        name: {key: total_D / counts[name] for key, total_D in by.items()}
        for name, by in sums.items()
        if counts[name] >= SEEN
    }


def probe_weights(
    policy: Policy, sequences: Sequence[np.ndarray], means: Means, keys: Sequence[Key], batch_size: int = 64
) -> Means:
    """What a linear probe of the next token at a cell of a path weighs activations by, class by class.

    The probe is linear discriminant analysis (Fisher 1936): the class means m, and one covariance S within all of the
    classes, with `linear.RIDGE` times its own diagonal added; weights are S^-1 m. sequences: those of the means.
    """
    sites, layers = {site for site, _ in keys}, sorted({layer for _, layer in keys})
    width = next(iter(means.values()))
    within = {key: np.zeros((len(width[key]), len(width[key]))) for key in keys}
    for batch in gather(policy, sequences, sites, layers, ["path"], batch_size):
        at = zip(batch.places.sequence_R.tolist(), batch.places.position_R.tolist(), strict=True)
        classes = [tuple(sequences[row][place : place + 2].tolist()) for row, place in at]
        known = [number for number, one in enumerate(classes) if one in means]
        for key in keys:
            mean_RD = np.array([means[classes[number]][key] for number in known])
            off_RD = batch.values[key].flatten(1).double().numpy()[known] - mean_RD
            within[key] += off_RD.T @ off_RD
    whitening = {key: whitening_of(sum_DD) for key, sum_DD in within.items()}
    inverse = {key: white_DD.T @ white_DD for key, white_DD in whitening.items()}
    return {name: {key: inverse[key] @ by[key] for key in keys} for name, by in means.items()}


Setting = tuple[Key, float]
"""where is pushed, and how many times the difference of means"""
Success = Literal["step", "path"]
SUCCESSES: tuple[Success, ...] = get_args(Success)


@dataclass(frozen=True)
class Steerability:
    """What became of Q prompts under each of some settings."""

    settings: list[Setting]
    hits: np.ndarray
    """bool (settings, 1 + controls, 2, Q): by success, without and with random directions; see `pushed`"""

    def gain(self, success: Success = "path", layer: int | None = None) -> Figure:
        """By how much the rate of success exceeds that of random pushes; of one layer, or of all."""
        return difference(*self.chosen(success, layer)[:2], paired=False)

    def table(self, **about: Any) -> "pa.Table":
        """A row a success (step, path) and layer (None for the best of all): what is said of it, these, pairs, and as
        rates value (`gain`), value_low, value_high, pushed, random."""
        rows = []
        for success in SUCCESSES:
            for layer in (None, *sorted({layer for (_, layer), _ in self.settings})):
                hit_Q, random_Q, _ = self.chosen(success, layer)
                found = {"pushed": float(hit_Q.mean()), "random": float(random_Q.mean()), "pairs": len(hit_Q)}
                rows.append({**about, "success": success, "layer": layer, **found})
                rows[-1] |= columns("value", self.gain(success, layer))
        return table_of(rows)

    def chosen(
        self, success: Success = "path", layer: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, list[Setting]]:
        """Success at each prompt, the share of random pushes that succeed there, and the settings that were used.

        At the prompts of odd numbers the setting is the one that writes the most paths, and then the most steps, at
        those of even numbers; and the other way round.
        """
        numbers = [n for n, ((_, where), _) in enumerate(self.settings) if layer in (None, where)]
        if not numbers:
            raise InputError(f"layer: {show(layer)} was not pushed")
        odd_Q, kind, used = np.arange(self.hits.shape[-1]) % 2 == 1, SUCCESSES.index(success), []
        hit_Q, random_Q = np.zeros((2, len(odd_Q)))
        for measured_Q in (odd_Q, ~odd_Q):
            rates = self.hits[numbers, 0][:, :, ~measured_Q].mean(2)
            best = numbers[max(range(len(numbers)), key=lambda n: tuple(rates[n, ::-1]))]
            used.append(self.settings[best])
            hit_Q[measured_Q] = self.hits[best, 0, kind][measured_Q]
            random_Q[measured_Q] = self.hits[best, 1:, kind][:, measured_Q].mean(0)
        return hit_Q, random_Q, list(dict.fromkeys(used))


def pushed(
    policy: Policy,
    asked_for: Detours,
    means: Means,
    settings: Sequence[Setting],
    controls: int = 2,
    seed: int = 0,
    batch_size: int = 64,
    along: Means | None = None,
) -> np.ndarray:
    """bool (settings, 1 + controls, 2, Q): whether the step at the fork, and all of the path, is that of the corrupt
    side; pushed, and pushed in random directions of equal norm, drawn for each token anew. along: in whose differences
    is pushed, as far as the means are apart; by default in those of the means.

    All is read of one pass over each row: a model writes it, greedily, just if each token is the likeliest behind those
    before it, pushed as they are.
    """
    found = np.zeros((len(settings), 1 + controls, len(SUCCESSES), len(asked_for.rows)), np.bool_)
    with asked(policy) as model:
        for first in range(0, len(asked_for.rows), batch_size):
            which = slice(first, first + batch_size)
            some = asked_for.pushes[which]
            base = read_rows(model, padded(asked_for.rows[which], policy.pad_token_id))
            at = [(row, place) for row, tokens in enumerate(some) for place, *_ in tokens]
            row_N, place_N = (torch.tensor(part) for part in zip(*at, strict=True))
            wanted_N = np.array([wanted[1] for tokens in some for _, _, wanted in tokens])
            for number, (key, strength) in enumerate(settings):
                push_ND = _apart(means, key, some)
                if along is not None:
                    push_ND = _scaled(_apart(along, key, some), push_ND)
                for draw in range(1 + controls):
                    if draw:
                        push_ND = _as_long(push_ND, np.random.default_rng([seed, number, draw, first]))
                    hit_N = _likeliest(base, key, row_N, place_N, strength * push_ND) == wanted_N
                    by_row = np.split(hit_N, np.cumsum([len(tokens) for tokens in some])[:-1])
                    found[number, draw, :, which] = np.array([(hits[0], hits.all()) for hits in by_row]).T
    return found


def _apart(means: Means, key: Key, some: Sequence[Sequence[tuple[int, Class, Class]]]) -> np.ndarray:
    """From the class that each token is of to the one that is wanted."""
    return np.stack([means[b][key] - means[a][key] for tokens in some for _, a, b in tokens])


def _as_long(vector_ND: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random directions of the same norms."""
    return _scaled(rng.standard_normal(vector_ND.shape), vector_ND)


def _scaled(vector_ND: np.ndarray, like_ND: np.ndarray) -> np.ndarray:
    """Vectors with the norms of others; those that are 0 stay so."""
    own_N1, wanted_N1 = (np.linalg.norm(one, axis=1, keepdims=True) for one in (vector_ND, like_ND))
    return vector_ND * (wanted_N1 / np.where(own_N1 > 0, own_N1, 1.0))


def _likeliest(base: Pass, key: Key, row_N: torch.Tensor, place_N: torch.Tensor, push_ND: np.ndarray) -> np.ndarray:
    """The token that each pushed one makes likeliest behind it."""

    pushed_BT = torch.zeros(base.end_BTD.shape[:2], dtype=torch.bool)
    pushed_BT[row_N, place_N] = True
    column = start_column(base, pushed_BT)

    def edit(x_BTD: torch.Tensor) -> torch.Tensor:
        new_BTD = x_BTD.clone()
        new_BTD[row_N, place_N - column] += torch.from_numpy(push_ND).to(x_BTD)
        return new_BTD

    end_ND = go_on(base, {key: edit}, column=column).end_BTD[row_N, place_N - column]
    return unembed(base.model, end_ND).argmax(-1).cpu().numpy()


def steerability(
    policy: Policy,
    pairs: PairBatch,
    sequences: Sequence[np.ndarray],
    strengths: Sequence[float] = STRENGTHS,
    controls: int = 2,
    seed: int = 0,
    batch_size: int = 64,
    directions: Directions = "means",
) -> Steerability:
    """How often pushes bring about the corrupt side's path, behind each layer but the last, by strength.

    Behind the last layer a token is but a matrix away: to push there is to write. pairs: of kind target. sequences:
    mazes with their whole paths, from which the means are taken; those that are a pair's are left out. directions:
    differences of means, or of a probe's weights, as long. InputError as `gather`, for directions that are neither, a
    model of one layer, and for too few pairs whose tokens were seen in the sequences.
    """
    if directions not in DIRECTIONS:
        raise InputError(f"directions: {show(directions)} is not one of {', '.join(DIRECTIONS)}")
    keys: list[Key] = [("resid_post", layer) for layer in range(len(layers_of(policy.model)) - 1)]
    if not keys:
        raise InputError("model: of its one layer none is before the last; expected at least 2")
    asked_for, fresh = known_detours(pairs, sequences, Words.of(policy.tokenizer))
    means = class_means(policy, fresh, keys, batch_size)
    settings = [(key, strength) for key in keys for strength in strengths]
    along = probe_weights(policy, fresh, means, keys, batch_size) if directions == "probe" else None
    return Steerability(settings, pushed(policy, asked_for, means, settings, controls, seed, batch_size, along))
