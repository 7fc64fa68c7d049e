"""Mazes without a fork, as a world to train in: whoever walks on, and never turns back, arrives.

tests/read/data/corridor/config.yaml trains `controls.corridor` in it, and says how.
"""

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from clew.config import WorldConfig
from clew.mazes import Lattice, MazeStream, vocab
from clew.mazes.lattice import Question as Maze
from clew.mazes.world import MazeWorld
from clew.tree import SpanTree, TreeBatch
from clew.world import Look, Question

TRIES = 100


def without_forks(lattice: Lattice, rng: np.random.Generator) -> Lattice:
    """The maze without as many passages, drawn at random, as leave no cell with more than two: corridors."""
    edges = lattice.edges()
    order = rng.permutation(len(edges)).tolist()
    degree = np.zeros((lattice.rows, lattice.cols), np.int64)
    kept = []
    for a, b in (edges[number] for number in order):
        if degree[a] < 2 and degree[b] < 2:
            degree[a] += 1
            degree[b] += 1
            kept.append((a, b))
    return Lattice.from_edges(lattice.rows, lattice.cols, kept)


def corridors(number: int, held_out: bool, branches: int = 1, seed: int = 0, side: int = 4) -> list[Maze]:
    """Questions of one maze of corridors on one side of the held-out split, each from an end to a cell farther on.

    The maze is one of a tree's, by dfs, so there is no ring; each question goes down a corridor of two cells or more.
    """
    rng = np.random.default_rng([seed, number, held_out])
    for index in range(number * TRIES, (number + 1) * TRIES):
        lattice = without_forks(MazeStream(((side, side),), held_out=None, seed=seed).questions(index)[0].lattice, rng)
        if lattice.held_out == held_out:
            break
    else:
        raise AssertionError(f"no maze of corridors in {TRIES} draws")
    ends = [cell for cell in np.ndindex(side, side) if len(lattice.neighbours(cell)) == 1]
    found = []
    for _ in range(branches):
        origin = ends[rng.integers(len(ends))]
        farther = np.argwhere(lattice.distances(origin) > 0).tolist()
        row, col = farther[rng.integers(len(farther))]
        target = (row, col)
        found.append(Maze(lattice, origin, target, tuple(lattice.shortest_path(origin, target))))
    return found


class Corridors(MazeWorld):
    """4x4 mazes of corridors, four questions of each in training."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None = None, seed: int = 0, branches: int = 4):
        super().__init__(None, seed, tokenizer)
        self.branches = branches

    @classmethod
    def from_config(
        cls, config: WorldConfig, seed: int, tokenizer: PreTrainedTokenizerBase | None, teach: bool
    ) -> "Corridors":
        return cls(tokenizer, seed, **config.world_options)

    def _asked(self, numbers: Sequence[int], held_out: bool) -> list[Question]:
        made = []
        for number in numbers:
            (maze,) = corridors(number, held_out, seed=self.seed)
            words = vocab.prompt_text(maze, vocab.shuffled_edges(maze.lattice, number)).split()
            made.append(self._question(maze, self._numbered(words), "corridors"))
        return made

    def questions(self, numbers: Sequence[int]) -> list[Question]:
        return self._asked(numbers, held_out=False)

    def held_out(self, numbers: Sequence[int], look: Look = "final", seed: int = 0) -> list[Question]:
        return self._asked([number + (look == "final") * 100_000 for number in numbers], held_out=True)

    def batch(self, numbers: Sequence[int], prompt_weight: float = 0.0, choices: bool = False) -> TreeBatch:
        trees = []
        for number in numbers:
            mazes = corridors(number, False, self.branches, self.seed)
            edges = vocab.shuffled_edges(mazes[0].lattice, number)
            texts = [vocab.question_text(maze, edges).split() for maze in mazes]
            fork = texts[0].index("<ADJLIST_END>") + 1
            children = []
            for words in texts:
                path = words.index("<PATH_START>")
                answer = SpanTree(self._numbered(words[path:]), "answer", 1.0)
                children.append(SpanTree(self._numbered(words[fork:path]), "prompt", prompt_weight, [answer]))
            trees.append(SpanTree(self._numbered(texts[0][:fork]), "prompt", prompt_weight, children))
        return TreeBatch.pack(trees, vocab.PADDING)
