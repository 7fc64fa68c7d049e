"""Mazes as a world: the thought is a search trace, the answer a path."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from clew.config import MazeConfig, WorldConfig, sizes_of
from clew.errors import InputError
from clew.mazes import lattice, vocab
from clew.mazes.forks import lookahead, step_shares
from clew.mazes.grading import PathGrade, grade_path, path_metrics, solution
from clew.mazes.interop import read_questions
from clew.mazes.questions import MazeStream
from clew.mazes.rewrite import other_order
from clew.mazes.steps import found_path, true_steps, with_false_step
from clew.mazes.traces import ALGORITHMS, search_steps, trace, trace_tokens
from clew.text import show
from clew.tree import SpanTree, TreeBatch
from clew.world import Figures, Look, Question, Stop, World

TRAINING, VALIDATION, FINAL, DEMONSTRATIONS = 0, 1, 2, 4  # streams of one seed
SPARE_TOKENS = 2  # beyond the longest possible path: room to be seen going wrong
FEW = 16  # mazes from which the tokens of others are estimated
NAMES = {
    "score": "score",
    "exact": "exact (the reference path)",
    "optimal": "optimal (any shortest path)",
    "valid": "valid (only open passages)",
    "target_reached": "ends at the target",
    "starts_at_once": "starts its path at once",
    "fork_steps": "right steps at forks",
    "forced_steps": "right steps elsewhere",
    "node_overlap": "node overlap",
    "fraction_connections_adjacent": "open steps",
    "search_steps": "search steps",
    "thought_tokens": "tokens a thought",
    "answer_tokens": "tokens an answer",
    "sources": "mazes",
}  # the rest of maze-transformer's figures is for files


def path_score(completions: list[str], lattice: list, origin: list, target: list, **_: Any) -> list[float]:
    """The world's own grader: a path's score in [0, 1], see `grade_path`."""
    mazes = zip(lattice, origin, target, strict=True)
    return [grade_answer(_maze(*maze), text).score for maze, text in zip(mazes, completions, strict=True)]


def _path_words(cells: Sequence[lattice.Cell]) -> list[str]:
    return ["<PATH_START>", *map(vocab.cell_text, cells), "<PATH_END>"]


def _maze(*parts: Any) -> lattice.Question:
    return lattice.Question(*parts)


def grade_answer(maze: lattice.Question, text: str) -> PathGrade:
    """Grades what a model wrote: any tokens whatever."""
    _, cells, ended = vocab.answer_cells(text.split())
    return grade_path(maze, cells, ended)


class MazeWorld(World):
    """Mazes of several sizes and generators. A question of a round or an evaluation has a maze of its own; training
    asks `branches` of each, and demonstrations show random traces of `traces`, in turn, and answer with the path that
    the trace found, or with a shorter one where there is. All of them may stand `anywhere` in a larger grid.

    tokenizer: one that numbers the maze tokens in its own way; those that it lacks are added with `teach`, and an
    InputError without.
    """

    headline = "exact"
    curves = ("exact", "optimal", "starts_at_once")
    rewrites = True
    held_out_rule = "mazes whose connectivity hash is 0 modulo 10; no training ever uses them"

    def __init__(
        self,
        config: MazeConfig | None = None,
        seed: int = 0,
        tokenizer: PreTrainedTokenizerBase | None = None,
        teach: bool = False,
    ):
        self.config, self.seed = config or MazeConfig(), seed
        self.sizes = sizes_of(self.config.sizes)
        largest = max(max(size) for size in self.sizes) if self.sizes else 0
        self.side = self.config.max_size or largest
        if largest > lattice.MAX_SIZE:
            raise InputError(f"mazes.sizes: a side of {largest} is more than {lattice.MAX_SIZE}")
        if self.sizes and not largest <= self.side <= lattice.MAX_SIZE:
            raise InputError(
                f"mazes.max_size: {self.side} is not between {largest}, the largest side in mazes.sizes, "
                f"and {lattice.MAX_SIZE}"
            )
        if self.config.anywhere and not self.config.max_size:
            raise InputError("mazes.anywhere: of which grid? mazes.max_size is its side")
        self._training = self._stream(TRAINING, 1)
        self._trained = replace(self._training, branches=self.config.branches)
        self._shown = self._stream(DEMONSTRATIONS, self.config.branches)
        if not self.config.traces or not set(self.config.traces) <= set(ALGORITHMS):
            raise InputError(f"mazes.traces: {show(self.config.traces)} are not some of {', '.join(ALGORITHMS)}")
        own = vocab.maze_tokenizer(self.side)
        self.tokenizer = tokenizer or own
        if tokenizer is not None and teach:
            known = tokenizer.get_vocab()
            words = own.convert_ids_to_tokens(list(range(len(own))))
            tokenizer.add_tokens([word for word in words if word not in known])
        self._ids = None if tokenizer is None else _numbers(tokenizer, self._trained)
        thought_end, path_end = self._numbered(["<THOUGHT_END>", "<PATH_END>"])
        self.thought_stop, self.answer_stop = Stop((thought_end,)), Stop((path_end,))
        self.thought_end = [thought_end]
        self.thought_start = (*self._numbered(["<THOUGHT_START>"]),)

    @classmethod
    def from_config(
        cls, config: WorldConfig, seed: int, tokenizer: PreTrainedTokenizerBase | None, teach: bool
    ) -> "MazeWorld":
        return cls(config.mazes, seed, tokenizer, teach)

    def _stream(self, number: int, branches: int) -> MazeStream:
        config, within = self.config, self.within
        return MazeStream(self.sizes, tuple(config.generators), config.p, branches, False, self.seed, number, within)

    @property
    def within(self) -> int | None:
        """The side of the grid in which mazes stand anywhere; None where each has a grid of its own."""
        return self.side if self.config.anywhere else None

    def questions(self, numbers: Sequence[int]) -> list[Question]:
        return self._questions(self._training, numbers)

    def held_out(self, numbers: Sequence[int], look: Look = "final", seed: int = 0) -> list[Question]:
        """As many of each size and generator, in turn, also of those that training has more often; those that have no
        held-out maze are left out."""
        streams = self._kinds(seed, VALIDATION if look == "validation" else FINAL)[0]
        if not streams:
            raise InputError(f"mazes.sizes: {self.not_evaluated()}; choose a larger size, such as 3 by dfs")
        made: dict[int, Question] = {}
        for kind, stream in enumerate(streams):
            mine = [number for number in numbers if number % len(streams) == kind]
            made |= zip(mine, self._questions(stream, [number // len(streams) for number in mine]), strict=True)
        return [made[number] for number in numbers]

    def held_out_count(self) -> int | None:
        return None if self._kinds(0, FINAL)[0] else 0

    def not_evaluated(self) -> str:
        without = ", ".join(self._kinds(0, FINAL)[1])
        return f"there is no held-out maze of {without} (too few differ to put some aside)" if without else ""

    @cache  # noqa: B019  a world lives as long as its run
    def _kinds(self, seed: int, number: int) -> tuple[list[MazeStream], list[str]]:
        """A stream of held-out mazes for each size and generator that has any, and the names of those that have none:
        there are four mazes of 2x2, for one, and the hash put none aside."""
        kinds = [
            MazeStream((size,), (generator,), self.config.p, 1, True, seed, number, self.within)
            for size, generator in dict.fromkeys(product(self.sizes, self.config.generators))
        ]
        missing = [kind for kind in kinds if kind.missing()]
        names = [f"{kind.sizes[0][0]}x{kind.sizes[0][1]} by {kind.generators[0]}" for kind in missing]
        return [kind for kind in kinds if kind not in missing], [*dict.fromkeys(names)]

    def _questions(self, stream: MazeStream, numbers: Sequence[int]) -> list[Question]:
        if not numbers:
            return []
        forest = stream.forest(numbers)
        tokens_T = forest.tokens_T if self._ids is None else self._ids[forest.tokens_T]
        parts = (np.split(flat, forest.starts_M[1:]) for flat in (tokens_T, forest.answers_T))
        generator = stream.generators[0] if len(stream.generators) == 1 else "mixed"
        return [
            self._question(
                stream.questions(number)[0], tokens[: int(answers.argmax())].tolist(), generator, stream.size_of(number)
            )
            for number, tokens, answers in zip(numbers, *parts, strict=True)
        ]

    def _question(
        self, maze: lattice.Question, tokens: list[int], generator: str, size: tuple[int, int] | None = None
    ) -> Question:
        """size: the maze's, where it stands in a larger grid."""
        grid, held_out = maze.lattice, maze.lattice.held_out
        rows, cols = size or (grid.rows, grid.cols)
        cells = rows * cols
        labels = {"size": f"{rows}x{cols}", "generator": generator}
        labels |= {"path_length": str(len(solution(maze)) - 1), "lookahead": str(lookahead(maze))}
        labels |= {"split": "held_out" if held_out else "not_held_out"}
        columns = {"lattice": grid, "origin": maze.origin, "target": maze.target}
        longest = cells + 2 + SPARE_TOKENS
        return Question(
            self.text(tokens), tokens, 3 * cells + 2, longest, columns, labels, maze, held_out, source=hash(grid)
        )

    def demonstrations(self, numbers: Sequence[int]) -> list[SpanTree]:
        return [self._demonstration(number) for number in numbers]

    def _demonstration(self, number: int) -> SpanTree:
        mazes, algorithms = self._shown.questions(number), self.config.traces
        children = []
        for b, maze in enumerate(mazes):
            searched = trace(maze, algorithms[(number + b) % len(algorithms)], seed=number * len(mazes) + b)
            best = min(searched.path, solution(maze), key=len)  # of several shortest ones that which the thought found
            words = vocab.question_text(maze._replace(path=tuple(best)), []).split()
            path = words.index("<PATH_START>")
            answer = SpanTree(self._numbered(words[path:]), "answer", 1.0)
            thought = SpanTree(self._numbered(trace_tokens(searched)), "thought", 1.0, [answer])
            children.append(
                SpanTree(self._numbered(words[words.index("<ORIGIN_START>") : path]), "prompt", 0.0, [thought])
            )
        words = vocab.prompt_text(mazes[0], vocab.shuffled_edges(mazes[0].lattice, seed=number)).split()
        return SpanTree(self._numbered(words[: words.index("<ORIGIN_START>")]), "prompt", 0.0, children)

    def batch(self, numbers: Sequence[int], prompt_weight: float = 0.0, choices: bool = False) -> TreeBatch:
        """Each maze's adjacency list once, then its questions with their paths, straight from the kernel's arrays."""
        forest = self._trained.forest(np.asarray(numbers), choices=choices)
        tokens_T, choices_TC = forest.tokens_T, forest.choices_TC
        if self._ids is not None:
            tokens_T = self._ids[tokens_T]
            choices_TC = np.where(choices_TC >= 0, self._ids[choices_TC], -1)
        weights_T = np.where(forest.answers_T, 1.0, prompt_weight)
        open_moves = (choices_TC, forest.optimal_TC) if choices else (None, None)
        return TreeBatch.from_arrays(tokens_T, forest.parents_T, weights_T, vocab.PADDING, *open_moves)

    def step_tokens(self, config: Any) -> float:
        """An adjacency list and its branches, on average over a few mazes. InputError if there are none to train on."""
        adjacency, question = self._lengths
        return adjacency + config.mazes.branches * question

    @cached_property
    def _lengths(self) -> tuple[float, float]:
        stream = self._training.require()
        one, nine = (len(replace(stream, branches=n).forest(range(FEW)).tokens_T) / FEW for n in (1, 9))
        question = (nine - one) / 8
        return one - question, question

    def text(self, tokens: Sequence[int]) -> str:
        return " ".join(self.tokenizer.convert_ids_to_tokens(list(tokens)))

    def _numbered(self, words: list[str]) -> list[int]:
        return self.tokenizer.convert_tokens_to_ids(words)  # type: ignore[return-value]

    def line_end(self) -> Stop | None:
        """A step of a breadth-first trace, a flood or an A* trace is a line; a walk has none."""
        (separator,) = self._numbered([";"])
        ids = (separator,) if {"bfs", "flood"} & set(self.config.traces) else ()
        # Any cell behind the connector, as tokenizers of both kinds spell it.
        strings = ("<--> (", "<-->(") if "astar" in self.config.traces else ()
        return Stop(ids, strings) if ids or strings else None

    def rewritten(
        self, prompt: Sequence[int], before: Sequence[int], tokens: Sequence[int], rng: np.random.Generator
    ) -> list[int] | None:
        """The same search, of the same steps, in another order: see `mazes.rewrite`."""
        order = other_order(self._words(prompt), self._words(before), self._words(tokens), rng)
        return None if order is None else [int(tokens[i]) for i in order]

    def _words(self, tokens: Sequence[int]) -> list[str]:
        return [str(word) for word in self.tokenizer.convert_ids_to_tokens([int(token) for token in tokens])]

    def grader(self) -> Callable[..., list[float]]:
        return path_score

    def measure(self, question: Question, thought: str | None, answer: str) -> Figures:
        """Whether the path is exact (the reference), optimal, valid; shares of right steps, at forks and elsewhere;
        maze-transformer's path metrics; search steps."""
        maze, (starts, cells, ended) = question.reference, vocab.answer_cells(answer.split())
        grade, best = grade_path(maze, cells, ended), solution(maze)
        figures: Figures = {
            "exact": bool(ended and cells == list(best)),
            "optimal": grade.optimal,
            "valid": grade.valid,
            "target_reached": grade.reaches_target,
            "starts_at_once": bool(starts),
            "ended": bool(ended),
        }
        return (
            figures
            | step_shares(maze, cells, ended)
            | path_metrics(maze, cells, best)
            | ({} if thought is None else {"search_steps": float(search_steps(thought))})
        )

    def thought_steps(self, question: Question, tokens: Sequence[int]) -> list[bool]:
        return true_steps(question.reference, self.text(tokens))

    def thought_answer(self, question: Question, tokens: Sequence[int]) -> str | None:
        path = found_path(question.reference, self.text(tokens))
        return " ".join(_path_words(path)) if path else None

    def corrupted(
        self, question: Question, tokens: Sequence[int], rng: np.random.Generator
    ) -> tuple[list[int], int] | None:
        made = with_false_step(question.reference, self.text(tokens), rng)
        return made and (self._numbered(made[0]), made[1])

    def right_answer(self, question: Question) -> list[int]:
        """A shortest path."""
        return self._numbered(_path_words(solution(question.reference)))

    def filler(self, count: int) -> list[int]:
        """The thought's first token, then separators."""
        return self._numbered(["<THOUGHT_START>", *[";"] * count][:count])

    def baseline(self, question: Question, rng: np.random.Generator) -> str:
        """A random walk that never turns back and takes open passages alone; it ends at the target or in a dead end."""
        walk = random_walk(question.reference, rng)
        return " ".join(_path_words(walk))

    def read(self, file: Path) -> Iterator[Question]:
        """Mazes as others write them, asked in their own words where they have any."""
        known = self.tokenizer.get_vocab()
        asked = [(maze, (text or vocab.prompt_text(maze)).split()) for maze, text in read_questions(file)]
        for number, (maze, words) in enumerate(asked, 1):  # all of them, before one is asked
            if not all(word in known for word in words):
                size = f"{maze.lattice.rows}x{maze.lattice.cols}"
                raise InputError(f"{file}: maze {number} is {size}, larger than this model's tokenizer knows")
        for maze, words in asked:
            yield self._question(maze, [known[word] for word in words], "given")

    def drawing(self, question: Question, answer: str) -> Any:
        from clew.mazes.terminal import attempt

        return attempt(question.reference, answer)

    def thought_drawing(self, question: Question, thought: str) -> Any:
        from clew.mazes.terminal import search

        return search(question.reference, thought)

    def pictures(self, report: dict[str, Any], samples: Sequence[tuple[Question, str]], folder: Path) -> None:
        from clew.mazes import draw

        draw.maze_sheet([draw.Attempt(one.reference, answer) for one, answer in samples], folder / "mazes.png")
        draw.accuracy(report, folder / "accuracy.png")

    def label(self, name: str) -> str | None:
        return NAMES.get(name)


def _numbers(tokenizer: PreTrainedTokenizerBase, stream: MazeStream) -> np.ndarray | None:
    """The map from the maze tokens' own ids to a tokenizer's, None where they are the same. InputError for a tokenizer
    that was not made for such mazes."""
    known = cells_known(tokenizer)
    for field, side in (("sizes", stream.max_size), ("max_size", stream.side)):
        if known and known < side:
            raise InputError(f"mazes.{field}: {side} is more than this model knows, which is mazes to {known}x{known}")
    ids = vocab.token_map(tokenizer, stream.side)
    return None if (ids == np.arange(len(ids))).all() else ids


def cells_known(tokenizer: PreTrainedTokenizerBase) -> int:
    """The largest square whose cells a tokenizer knows, as the length of a side; 0 for none."""
    cells = {cell for token in tokenizer.get_vocab() if (cell := vocab.parse_cell(token))}
    side = 0
    while all((side, other) in cells and (other, side) in cells for other in range(side + 1)):
        side += 1
    return side


def random_walk(maze: lattice.Question, rng: np.random.Generator) -> list[lattice.Cell]:
    """A random walk without turning back. It stops at the target or in a dead end."""
    walk = [maze.origin]
    longest = maze.lattice.passages[0].size
    while walk[-1] != maze.target and len(walk) <= longest:
        onward = [cell for cell in maze.lattice.neighbours(walk[-1]) if len(walk) < 2 or cell != walk[-2]]
        if not onward:
            break
        walk.append(onward[rng.integers(len(onward))])
    return walk
