"""Mazes as a world: the thought is a search trace, the answer a path."""

from collections.abc import Callable, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from clew.errors import InputError
from clew.mazes import vocab
from clew.mazes.grading import PathGrade, grade_path
from clew.mazes.lattice import Question
from clew.mazes.questions import MazeStream
from clew.mazes.traces import ALGORITHMS, search_steps, trace, trace_tokens
from clew.tree import SpanTree
from clew.world import Asked

HELD_OUT_STREAM, DEMONSTRATION_STREAM = 3, 4


def path_score(completions: list[str], lattice: list, origin: list, target: list, **_: Any) -> list[float]:
    """The default grader: a path's score in [0, 1] (design, section 7)."""
    questions = [Question(*asked) for asked in zip(lattice, origin, target, strict=True)]
    return [_grade(question, text).score for question, text in zip(questions, completions, strict=True)]


def _grade(question: Question, text: str) -> PathGrade:
    _, cells, ended = vocab.answer_cells(text.split())
    return grade_path(question, cells, ended)


class MazeWorld:
    """Mazes of a stream's sizes and generators, one question each; demonstrations are random traces of `algorithms`."""

    def __init__(
        self, sizes: tuple[tuple[int, int], ...], generators: tuple[str, ...] = ("dfs",), p: float = 0.1, seed: int = 0,
        algorithms: Sequence[str] = ("dfs",), branches: int = 4, max_size: int | None = None,
    ):  # fmt: skip
        def stream(number: int, held_out: bool, branches: int = 1) -> MazeStream:
            return MazeStream(sizes, generators, p, branches, held_out, seed, number)

        self._training, self._held_out = stream(0, False), stream(HELD_OUT_STREAM, True)
        self._shown = stream(DEMONSTRATION_STREAM, False, branches)
        self.algorithms = tuple(algorithms)
        if not self.algorithms or not set(self.algorithms) <= set(ALGORITHMS):
            raise InputError(f"traces: {list(self.algorithms)} are not some of {', '.join(ALGORITHMS)}")
        side = max_size or self._training.max_size
        self.tokenizer: PreTrainedTokenizerBase = vocab.maze_tokenizer(side)
        cells = max(rows * cols for rows, cols in sizes)
        self.max_thought, self.max_answer = 3 * cells + 2, cells + 4
        self.close_thought = [vocab.THOUGHT_END]

    def ask(self, indices: Sequence[int], held_out: bool = False) -> list[Asked]:
        stream = self._held_out if held_out else self._training
        forest = stream.forest(indices)
        ends = [*forest.starts_M[1:].tolist(), len(forest.tokens_T)]
        asked = []
        for i, start, end in zip(indices, forest.starts_M.tolist(), ends, strict=True):
            question = stream.questions(i)[0]
            tokens = forest.tokens_T[start:end][~forest.answers_T[start:end]].tolist()
            columns = {"lattice": question.lattice, "origin": question.origin, "target": question.target}
            asked.append(Asked(self.text(tokens), tokens, columns))
        return asked

    def demonstrate(self, indices: Sequence[int]) -> list[SpanTree]:
        trees = []
        for i in indices:
            questions = self._shown.questions(i)
            edges = vocab.shuffled_edges(questions[0].lattice, seed=i)
            texts = [self._ids(vocab.question_text(question, edges).split()) for question in questions]
            fork = texts[0].index(vocab.ADJLIST_END) + 1
            children = []
            for b, (question, ids) in enumerate(zip(questions, texts, strict=True)):
                thought = trace(question, self.algorithms[(i + b) % len(self.algorithms)], seed=i * len(questions) + b)
                answer = ids.index(vocab.PATH_START)
                answer_span = SpanTree(ids[answer:], "answer", 1.0)
                thought_span = SpanTree(self._ids(trace_tokens(thought)), "thought", 1.0, [answer_span])
                children.append(SpanTree(ids[fork:answer], "prompt", 0.0, [thought_span]))
            trees.append(SpanTree(texts[0][:fork], "prompt", 0.0, children))
        return trees

    def _ids(self, words: list[str]) -> list[int]:
        return self.tokenizer.convert_tokens_to_ids(words)  # type: ignore[return-value]

    def thought_ends(self, tokens: Sequence[int]) -> bool:
        return tokens[-1] == vocab.THOUGHT_END

    def answer_ends(self, tokens: Sequence[int]) -> bool:
        return tokens[-1] == vocab.PATH_END

    def text(self, tokens: Sequence[int]) -> str:
        return " ".join(self.tokenizer.convert_ids_to_tokens(list(tokens)))

    def default_grader(self) -> Callable[..., list[float]]:
        return path_score

    def measure(
        self, asked: Sequence[Asked], thoughts: Sequence[str], answers: Sequence[str]
    ) -> dict[str, list[float]]:
        grades = [_grade(Question(**one.columns), text) for one, text in zip(asked, answers, strict=True)]
        return {
            "optimal": [float(grade.optimal) for grade in grades], "valid": [float(grade.valid) for grade in grades],
            "search_steps": [float(search_steps(text)) for text in thoughts],
        }  # fmt: skip
