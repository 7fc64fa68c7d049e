"""Models that a page of mazes shows: opened, asked, and read on mazes of their own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from clew.config import Device, MazeConfig, Size, WorldConfig
from clew.errors import InputError
from clew.mazes.lattice import Lattice, Question
from clew.mazes.pairs import PairStream
from clew.mazes.questions import MazeStream
from clew.mazes.vocab import prompt_text
from clew.mazes.world import SPARE_TOKENS, MazeWorld
from clew.policy import Policy
from clew.read import heads
from clew.read.hooks import heads_of, layers_of, names_of
from clew.read.places import Words
from clew.read.steering import Replacement, Rolled, roll_out
from clew.rollout.sampler import SharedPrefixSampler
from clew.rollout.window import window_of
from clew.text import one_line, printable, show
from clew.train.evaluate import Reasoner
from clew.train.opening import opened, run_options
from clew.view import maze_probes
from clew.view.maze_look import Case, look
from clew.view.maze_records import Edge, Record, Tongue, record

Told = Callable[[str, int, int], None]
READ, PAIRS = 300, 200
"""mazes whose attention is averaged, and from which the usual z is taken; minimal pairs on which heads are resampled"""


@dataclass(eq=False)
class Model:
    """A model in its world of mazes."""

    name: str
    """as a page calls it"""
    world: MazeWorld
    reasoner: Reasoner
    seed: int = 0
    mazes: int = 800
    """held-out mazes that probes are fitted to and tested on, and heads are read on"""
    shown: list[Lattice] = field(default_factory=list)
    """mazes of the page, which are none of those"""

    @property
    def policy(self) -> Policy:
        assert isinstance(self.reasoner.face, SharedPrefixSampler)
        return self.reasoner.face.policy

    @cached_property
    def tongue(self) -> Tongue:
        return Tongue.of(self.policy.tokenizer)

    @cached_property
    def words(self) -> Words:
        return Words.of(self.policy.tokenizer)

    @property
    def heads(self) -> list[tuple[int, int]]:
        """All heads as layer and number, in the order of their numbers on a page."""
        layers, count = len(layers_of(self.policy.model)), heads_of(self.policy.model)
        return [(layer, head) for layer in range(layers) for head in range(count)]

    @property
    def stream(self) -> MazeStream:
        config = self.world.config
        sizes, within = self.world.sizes, self.world.within
        return MazeStream(sizes, tuple(config.generators), config.p, 1, True, self.seed, within=within)

    @cached_property
    def reference(self) -> list[np.ndarray]:
        """Mazes that the model is read on as a whole."""
        return maze_probes.reference(self.stream, self.shown, self.mazes, self.policy)

    @cached_property
    def usual_LHGD(self) -> np.ndarray:
        return heads.usual_z(self.policy, self.reference[:READ])

    @cached_property
    def probes(self) -> maze_probes.Probes | str:
        """Or why there are none."""
        try:
            return maze_probes.fit(self.policy, self.reference, self.seed)
        except InputError as error:
            return one_line(error)

    def head_rows(self) -> tuple[list[Record], str | None]:
        """A row a head of what it attends to from the path, as shares of its attention, with the adjacency score, and
        of what is lost at forks without it; and why there is none of the last."""
        seen = heads.attention(self.policy, self.reference[:READ])
        adjacency_QLH, rows = seen.adjacency_QLH(), []
        for layer, head in self.heads:
            mass_QG = seen.mass_QLHG[:, layer, head]
            row: Record = {"layer": layer, "head": head, "adjacency": float(np.nanmean(adjacency_QLH[:, layer, head]))}
            rows.append(row | dict(zip(heads.ATTENDED, np.nanmean(mass_QG, 0).tolist(), strict=True)))
        sizes = (max(self.world.sizes, key=lambda size: size[0] * size[1]),)
        config = self.world.config
        try:
            pairs = PairStream("target", sizes, tuple(config.generators), config.p, seed=self.seed)
            lost = heads.resample_heads(self.policy, pairs.batch(range(PAIRS), self.policy.tokenizer), seed=self.seed)
        except InputError as error:
            return rows, one_line(error)
        for row, found in zip(rows, lost.table().to_pylist(), strict=True):
            row |= {name: found[f"accuracy_{name}"] for name in ("lost", "lost_low", "lost_high")}
        return rows, None

    def ask(self, questions: Sequence[Question], edges: Sequence[Sequence[Edge]]) -> list[Case]:
        """What the model writes, greedily, to questions whose lists have these edges. InputError for a list that leaves
        a path no room in the model's window."""
        texts = [prompt_text(one, listed) for one, listed in zip(questions, edges, strict=True)]
        prompts = [np.array(self.policy.tokenizer.convert_tokens_to_ids(text.split()), np.int64) for text in texts]
        window = window_of(self.policy)
        for prompt_T, limit in zip(prompts, map(longest, questions), strict=True):
            if window is not None and len(prompt_T) + limit > window:
                needs = f"a prompt of {len(prompt_T)} tokens and a path of up to {limit}"
                raise InputError(f"edges: they make {needs}; {self.name} has {window} positions")
        rolled = self._rolled(questions, prompts)
        return [Case(*one) for one in zip(questions, prompts, rolled, strict=True)]

    def records(self, cases: Sequence[Case], ablate: bool = True) -> list[Record]:
        """What a page is told of them. ablate: with the paths without each head."""
        looks = look(self.policy, cases, self.usual_LHGD if ablate else None)
        lost = [self.without(cases, number) for number in range(len(self.heads))] if ablate else []
        found = []
        for number, (case, seen) in enumerate(zip(cases, looks, strict=True)):
            one = record(case, seen, self.tongue, [paths[number] for paths in lost] if ablate else None)
            probes = None if isinstance(self.probes, str) else self.probes.read(case.question, seen)
            found.append(one | {"probes": probes})
        return found

    def without(self, cases: Sequence[Case], head: int) -> list[Rolled]:
        """What is written without one head, by its number: it says, everywhere, what it says there in the mean."""
        layer, number = self.heads[head]
        put = Replacement(layer, number, self.usual_LHGD[layer, number])
        return self._rolled([case.question for case in cases], [case.prompt_T for case in cases], put)

    def _rolled(self, questions: Sequence[Question], prompts: Sequence[np.ndarray], *put: Replacement) -> list[Rolled]:
        most = list(map(longest, questions))
        found: dict[int, Rolled] = {}
        for limit in dict.fromkeys(most):
            which = [number for number, one in enumerate(most) if one == limit]
            found |= zip(which, roll_out(self.policy, [prompts[i] for i in which], put, limit), strict=True)
        return [found[number] for number in range(len(prompts))]


def longest(question: Question) -> int:
    """Tokens that a path may have, as the world lets it."""
    return question.lattice.rows * question.lattice.cols + 2 + SPARE_TOKENS


def open_model(
    folder: str | Path,
    mazes: MazeConfig | None = None,
    seed: int = 0,
    device: Device = "auto",
    size: Size | None = None,
) -> Model:
    """What `clew train` left in a folder, or zoo:NAME. mazes: those to be asked, by default those of its run. size: of
    them; needed for a folder that is no run. InputError for what cannot be opened or read, and for a model of no mazes.
    """
    config = mazes or maze_options(folder, size)
    world, reasoner = opened(Path(folder), WorldConfig(world="mazes", mazes=config), seed=seed, device=device)
    if reasoner.shoggoth is not None:
        raise InputError(f"model: {show(str(folder))} thinks before it answers; a model of clew train was expected")
    assert isinstance(world, MazeWorld)
    if world.held_out_count() == 0:
        raise InputError(f"mazes: {world.not_evaluated()}; a page shows held-out mazes alone")
    model = Model(printable(str(folder), 80), world, reasoner, seed)
    names_of(model.policy.model)
    return model


def maze_options(folder: str | Path, size: Size | None = None) -> MazeConfig:
    """The mazes that a run was trained on. InputError for a run of another world, and, without a size, for no run."""
    options: dict[str, Any] = run_options(Path(folder))
    if not options:
        if size is None:
            raise InputError(f"size: {show(str(folder))} is no run folder; say which mazes it is for, such as 5")
        return MazeConfig(sizes=[size])
    if options["world"] not in (None, "mazes") or options["prompts.file"] or options["gym.tasks"]:
        raise InputError(f"model: {show(str(folder))} was trained in another world; a model of mazes was expected")
    named = {name.removeprefix("mazes."): value for name, value in options.items() if name.startswith("mazes.")}
    config = MazeConfig(**named)
    return config if size is None else replace(config, sizes=[size])
