"""What probes are fitted to: activations at places of held-out mazes beside what is true there, batch by batch."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from clew.attention import inner
from clew.errors import InputError
from clew.policy import Policy
from clew.read.activations import Activations, gather
from clew.read.hooks import Key, keys_of
from clew.read.linear import READERS, RIDGE, Task, shares
from clew.read.places import PLACES, Places, Words
from clew.read.targets import OF_TARGET, Targets, classes_of, targets_in
from clew.text import show

VERSIONS = ("true", "shuffled", "retargeted")
ONE_A_QUESTION = ("fork", "path", *(name for name in PLACES if not name.startswith(("edge", "connector", "path"))))
ONE_A_QUESTION += ("path_start", "path_end")
LEAST_MAZES = 20
_EMBEDDED = ("resid_pre", 0)
_READ = {"connector": ("cell",), "edge_second": ("other",), "edge_end": ("cell", "other"), "origin_end": ("origin",)}
_READ |= {"target_start": ("origin",), "target": ("origin",), "path_end": ("cell", "origin", "target")}
_READ |= dict.fromkeys(("target_end", "path_start", "path"), ("origin", "target"))


@dataclass(frozen=True)
class ProbeOptions:
    """How probes are fitted and tested. InputError names one that cannot be used."""

    test: float = 0.25
    """the share of mazes that are tested on, by their identity"""
    cap: int = 8
    """steps to the target from which on all are one class, 15 at most"""
    ridge: float = RIDGE
    """added to the covariance, in parts of its own diagonal"""
    draws: int = 1000
    """times that the test mazes are drawn anew for an interval"""
    seed: int = 0
    """of the split, the shuffles, the random model, the draws and the choice of forks"""
    batch_size: int = 128
    reader: Literal["closed", "logistic"] = "closed"
    """how probes are fitted: in closed form, or as scikit-learn's LogisticRegression, slowly and from the first cases
    alone (see `clew.read.linear`)"""

    def __post_init__(self) -> None:
        classes_of("distance", self.cap)
        for name, value, right, said in (
            ("test", self.test, 0 < self.test < 1, "a share between 0 and 1"),
            ("ridge", self.ridge, self.ridge >= 0, "a number from 0"),
            ("draws", self.draws, self.draws >= 40, "at least 40, so that 2.5% of them is one"),
            ("seed", self.seed, self.seed >= 0, "a whole number from 0"),
            ("reader", self.reader, self.reader in READERS, f"one of {', '.join(READERS)}"),
        ):
            if not right:
                raise InputError(f"{name}: {show(value)} is not {said}")


def random_twin(policy: Policy, seed: int = 0) -> Policy:
    """A model of the same shape with weights as they are before training, and the same tokenizer."""
    base = inner(policy.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(base.config)
    rows = base.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    if rows != model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(rows, mean_resizing=False)
    return Policy(model.to(base.device, base.dtype).eval(), policy.tokenizer)


def split_mazes(targets: Targets, options: ProbeOptions | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Which questions are tested on, bool (Q,), and the number of each one's maze among those, -1 for the others.

    A maze's identity decides, and the seed. InputError for a maze that is not held-out, which a model may have been
    trained on, and for fewer than 20 mazes on either side.
    """
    options = options or ProbeOptions()
    for number in np.flatnonzero(targets.maze_Q % np.uint64(10) != 0):
        raise InputError(f"sequences: the maze of sequence {number} is not held-out; probes are read on held-out mazes")
    mixed_Q = targets.maze_Q // np.uint64(10) + np.uint64(options.seed) * np.uint64(7919)
    test_Q = mixed_Q % np.uint64(10_000) < options.test * 10_000
    names, number_N = np.unique(targets.maze_Q[test_Q], return_inverse=True)
    for side, count in (("test", len(names)), ("train", len(np.unique(targets.maze_Q[~test_Q])))):
        if count < LEAST_MAZES:
            raise InputError(f"sequences: {count} different mazes to {side} on are too few; expected {LEAST_MAZES}")
    maze_Q = np.full(len(targets), -1)
    maze_Q[test_Q] = number_N
    return test_Q, maze_Q


Parts = dict[Task, np.ndarray]
"""by task: float32 (R, U, C + 1), the parts of R cases in its classes at U units (see `linear.shares`)"""


@dataclass
class Cases:
    """R cases at one place: of questions by number, with the cells of `Places` as row * C + column, -1 for none."""

    place: str
    question_R: np.ndarray
    cell_R: np.ndarray
    other_R: np.ndarray
    x: dict[tuple[str, Key | None], np.ndarray]
    """float32 (R, D) by source (model, random, embeddings), and by site and layer"""


@dataclass
class CaseReader:
    """Reads the cases of some sequences; fields as `begin` takes and makes them."""

    policy: Policy
    sequences: Sequence[np.ndarray]
    words: Words
    labels: tuple[str, ...]
    keys: list[Key]
    places: tuple[str, ...]
    options: ProbeOptions
    whole: bool
    """whether each case is of all units of the grid, one case a question, and not of the place's own cell"""
    versions: dict[str, Targets]
    test_Q: np.ndarray
    maze_Q: np.ndarray
    current_Q: np.ndarray
    """where `whole`: the cell at which the path stands, of the questions that were read, else -1"""

    def also(self, places: tuple[str, ...], whole: bool) -> "CaseReader":
        """A reader of the same labels in the same sequences, at other places."""
        return replace(self, places=places, whole=whole, current_Q=self.current_Q.copy())

    @classmethod
    def begin(
        cls,
        policy: Policy,
        sequences: Sequence[np.ndarray],
        labels: Collection[str],
        sites: Collection[str],
        layers: Collection[int] | None,
        places: tuple[str, ...],
        options: ProbeOptions,
        whole: bool = False,
    ) -> "CaseReader":
        """InputError for labels, sites and layers that do not exist, and as `targets_in` and `split_mazes`."""
        if not labels or isinstance(labels, str):
            raise InputError(f"labels: {show(labels)} is no list of labels, such as next_hop, on_path")
        for label in labels:
            classes_of(label)
        keys, words = keys_of(policy.model, sites, layers), Words.of(policy.tokenizer)
        true = targets_in(sequences, words)
        test_Q, maze_Q = split_mazes(true, options)
        versions = {"true": true, "shuffled": true.shuffled(options.seed, test_Q.astype(np.int64))}
        versions["retargeted"] = true.retargeted(options.seed)
        rest = versions, test_Q, maze_Q, np.full(len(true), -1)
        return cls(policy, sequences, words, tuple(dict.fromkeys(labels)), keys, places, options, whole, *rest)

    def of(self, passes: dict[str, Activations], numbers_N: np.ndarray) -> Iterator[tuple[Cases, Parts]]:
        """The cases of one batch, place by place. passes: what the model and its random twin have there, as `read` has
        it of the questions with these numbers."""
        for place in self.places:
            cases = self._cases(passes, place, numbers_N)
            yield cases, self._parts(cases)

    def _cases(self, passes: dict[str, Activations], place: str, numbers_N: np.ndarray) -> Cases:
        width, true, batch = self.versions["true"].shape[1], self.versions["true"], passes["model"]
        which_R = np.flatnonzero(batch.places.named("path" if place == "fork" else place))
        found = batch.places.take(which_R)
        question_R = numbers_N[found.sequence_R]
        if self.whole:
            kept = _one_each(found, question_R, true, place == "fork", self.options.seed)
            which_R, found, question_R = which_R[kept], found.take(kept), question_R[kept]
        cell_R, other_R = (
            np.where(cells_RC[:, 0] >= 0, cells_RC @ np.array([width, 1]), -1)
            for cells_RC in (found.cell_RC, found.other_RC)
        )
        if self.whole:
            self.current_Q[question_R] = cell_R if place in ("fork", "path") else true.origin_Q[question_R]
        rows_R = torch.from_numpy(which_R)
        x: dict[tuple[str, Key | None], np.ndarray] = {
            (source, key): one.values[key][rows_R].flatten(1).numpy()
            for source, one in passes.items()
            for key in self.keys
        }
        cells = {"cell": cell_R, "other": other_R}
        cells |= {"origin": true.origin_Q[question_R], "target": true.target_Q[question_R]}
        own_RD = batch.values[_EMBEDDED][rows_R].numpy()  # type: ignore[index]
        table_VD = self._embeddings()
        beside = [table_VD[cells[name]] for name in _READ.get(place, ())]
        x["embeddings", None] = np.concatenate([own_RD, *beside], 1)
        return Cases(place, question_R, cell_R, other_R, x)

    def _embeddings(self) -> np.ndarray:
        """float32 (cells, D): the input embedding of each cell of the grid."""
        rows, cols = self.versions["true"].shape
        number_of = {tuple(cell): number for number, cell in enumerate(self.words.cell_VC.tolist())}
        ids = [number_of.get((r, c), 0) for r in range(rows) for c in range(cols)]
        weight: Any = self.policy.model.get_input_embeddings().weight  # type: ignore[operator]
        return weight.detach()[ids].float().cpu().numpy()

    def _parts(self, cases: Cases) -> Parts:
        found, cap = {}, self.options.cap
        for label in self.labels:
            for name in VERSIONS if label in OF_TARGET else VERSIONS[:2]:
                if self.whole:
                    code_RU = self.versions[name].code(label, cap)[cases.question_R]
                else:
                    at = cases.question_R, cases.cell_R, cases.other_R
                    code_RU = self.versions[name].code_at(label, *at, cap)[:, None]
                found[label, name] = shares(code_RU, len(classes_of(label, cap)))
        return found


def read(readers: Sequence[CaseReader], which_Q: np.ndarray) -> Iterator[tuple[CaseReader, Cases, Parts]]:
    """The cases of some questions, batch by batch, with their parts in the classes of each task: for each of some
    readers of the same sequences, with the same options, of one pass of the model and one of its random twin."""
    first, numbers_N = readers[0], np.flatnonzero(which_Q)
    keys = {key for reader in readers for key in reader.keys} | {_EMBEDDED}
    sites, layers = {site for site, _ in keys}, sorted({layer for _, layer in keys})
    places = {"path" if place == "fork" else place for reader in readers for place in reader.places}
    named = {"model": first.policy, "random": random_twin(first.policy, first.options.seed)}
    passes = []
    for policy in named.values():
        chosen = (first.sequences[number] for number in numbers_N.tolist())
        passes.append(gather(policy, chosen, sites, layers, sorted(places), first.options.batch_size))
    for batches in zip(*passes, strict=True):
        for reader in readers:
            for cases, parts in reader.of(dict(zip(named, batches, strict=True)), numbers_N):
                yield reader, cases, parts


def _one_each(found: Places, question_R: np.ndarray, true: Targets, fork: bool, seed: int) -> np.ndarray:
    """Of places of the path, or such as are one a question, those to read: the last of each, or a fork at random."""
    if not fork:
        return np.flatnonzero(np.diff(question_R, append=-1) != 0)
    cell_R = found.cell_RC @ np.array([true.shape[1], 1])
    degree_R = true.open_QGU[question_R, :, cell_R].sum(1)
    right_R = (true.code("next_hop")[question_R, cell_R][:, None] >> np.arange(4) & 1).sum(1)
    forks = np.flatnonzero((right_R > 0) & (degree_R - right_R - (found.order_R > 0) > 0))
    if not len(forks):
        return forks
    luck_Q = np.random.default_rng([seed, 3]).random(len(true))
    starts = np.flatnonzero(np.diff(question_R[forks], prepend=-1) != 0)
    counts = np.diff(starts, append=len(forks))
    return forks[starts + (luck_Q[question_R[forks[starts]]] * counts).astype(np.int64)]
