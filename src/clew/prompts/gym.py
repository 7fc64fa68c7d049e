"""The world of reasoning-gym: its procedural tasks, each with the verifier that comes with it.

A question is drawn by its task and an index. Those whose text hashes into the held-out tenth are never trained on,
whatever the index, the seed or the run.
"""

import json
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from time import monotonic
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from clew.config import WorldConfig
from clew.errors import InputError
from clew.prompts.arithmetic import last_total, true_equations, with_false_equation
from clew.prompts.asking import TextWorld, hashed_out
from clew.prompts.rows import Row, said
from clew.text import nearest, printable, show
from clew.world import Figures, Look, Question

TRAINING, VALIDATION, FINAL, DEMONSTRATIONS, TRIAL = range(5)  # series of questions
INDICES = 2**31  # of a task that makes its questions from nothing but the index
ATTEMPTS = 500  # draws before a task is said to have no such question
TRIALS, TRIAL_SECONDS = 500, 2.0  # draws that are looked through for repeats, and the time that they may take
REPEATS = 10  # among them that tell a task with few questions from one where some are more likely than others
SHOWN = 100  # draws before a writer of demonstrations is said to write none
UNSTEADY = ("isomorphic_strings", "polynomial_multiplication", "ransom_note", "word_ladder")  # they go through sets
KEPT = 4096  # entries that are kept, since a grader asks for what was just drawn
OWN = ("name", "weight", "answer_tag")
SUMS = ("chain_sum", "basic_arithmetic")  # tasks whose answer is what a thought's last equation comes to


@dataclass(frozen=True)
class Task:
    """A task as it was asked for."""

    name: str
    weight: float
    answer_tag: str | None
    data: Any
    """reasoning-gym's dataset"""
    indices: int
    """how many there are"""


class GymWorld(TextWorld):
    """Tasks of reasoning-gym, mixed by their weights; the score is the task's own `score_answer`.

    tasks: names, or mappings of a name, a weight, an answer_tag and the task's own options. Question i of a series
    depends on the seed and i alone. Columns for graders and writers of demonstrations: `task`, `index`, `answer` (the
    task's own, None where many are right) and `metadata`.
    InputError for a task or an option that is not there, and for tasks of which no question, or every one, is held out.
    """

    curves = ("score", "solved")
    held_out_rule = "questions whose text hashes into one tenth; no training ever uses them"

    def __init__(
        self,
        tasks: Sequence[str | dict[str, Any]],
        tokenizer: PreTrainedTokenizerBase,
        seed: int = 0,
        delimiters: tuple[str, str] = ("<think>", "</think>"),
        max_thought: int = 256,
        max_answer: int = 128,
        system: str | None = None,
        demonstrations: str | None = None,
        answer_tag: str | None = None,
    ):
        super().__init__(tokenizer, delimiters, (max_thought, max_answer), system, demonstrations)
        self.seed, self.tasks = seed, {task.name: task for task in map(lambda one: task_of(one, answer_tag), tasks)}
        if len(self.tasks) < max(1, len(tasks)):
            names = f"{show(list(self.tasks))} of {len(tasks)}"
            raise InputError(f"gym.tasks: names {names}; at least one was expected, and each once")
        self._entry = lru_cache(KEPT)(lambda name, index: entry_of(self.tasks[name], index))

    @classmethod
    def from_config(
        cls, config: WorldConfig, seed: int, tokenizer: PreTrainedTokenizerBase | None, teach: bool
    ) -> "GymWorld":
        if tokenizer is None:
            raise InputError("model.folder: tasks of reasoning-gym need a model folder to start from")
        own, tag = config.prompts, config.gym.answer_tag
        shown: dict[str, Any] = {"system": own.system, "demonstrations": own.demonstrations, "answer_tag": tag}
        return cls(config.gym.tasks, tokenizer, seed, own.delimiters, **shown)

    def questions(self, numbers: Sequence[int]) -> list[Question]:
        return [self._drawn(self.seed, TRAINING, number, False) for number in numbers]

    def held_out(self, numbers: Sequence[int], look: Look = "final", seed: int = 0) -> list[Question]:
        """Where all tasks are small, each of their held-out questions once, shuffled; else drawn as in training."""
        series = VALIDATION if look == "validation" else FINAL
        if self._few is None:
            return [self._drawn(seed, series, number, True) for number in numbers]
        order = np.random.default_rng([seed, series]).permutation(len(self._few))
        return [self._asked(*self._few[order[number % len(order)]], held_out=True) for number in numbers]

    def held_out_count(self) -> int | None:
        return None if self._few is None else len(self._few)

    def _drawn(self, seed: int, series: int, number: int, held_out: bool) -> Question:
        """A series' question of this number: by its own dice, a task, and the first draw that is on the wanted side."""
        dice = np.random.default_rng([seed, series, number])
        weights = np.cumsum([task.weight for task in self.tasks.values()])
        task = list(self.tasks.values())[int(np.searchsorted(weights, dice.random() * weights[-1], side="right"))]
        for index in dice.integers(task.indices, size=ATTEMPTS).tolist():
            if hashed_out(self._entry(task.name, index)["question"]) == held_out:
                return self._asked(task.name, index, held_out)
        side = "held-out question" if held_out else "question to train on"
        raise InputError(f"gym.tasks: {task.name} has no {side} among {ATTEMPTS}: too few of its questions differ")

    def _asked(self, name: str, index: int, held_out: bool) -> Question:
        asked = self.asked(name, index, self._entry(name, index))
        row = Row(asked, f"question {index} of {name}", "gym.tasks")
        return replace(self._made([row])[0], labels={"task": name}, held_out=held_out)

    def asked(self, name: str, index: int, entry: dict[str, Any]) -> dict[str, Any]:
        """The prompt and the columns of an entry of a task: what a world that asks in other words changes. Which side a
        question is on is decided by the task's own text."""
        columns = {"task": name, "index": index, "answer": _plain(entry["answer"])}
        return {"prompt": entry["question"], **columns, "metadata": _plain(entry["metadata"])}

    def _to_show(self, number: int) -> Iterable[Question]:
        tries = range(number * SHOWN, (number + 1) * SHOWN)  # of tasks that the writer passes over, too
        return (self._drawn(self.seed, DEMONSTRATIONS, one, False) for one in tries)

    def _holds_out(self, row: Row, question: Question) -> bool:
        return hashed_out(row["prompt"])

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """About how many different questions the tasks have that have few, as far as a short trial shows."""
        sizes = {}
        for task in self.tasks.values():
            texts, end = [], monotonic() + TRIAL_SECONDS
            for index in np.random.default_rng(TRIAL).integers(task.indices, size=TRIALS).tolist():
                texts.append(self._entry(task.name, index)["question"])
                if monotonic() > end:
                    break
            n, again = len(texts), len(texts) - len(set(texts))
            if again >= REPEATS or task.indices < INDICES:
                sizes[task.name] = min(task.indices, n * n // (2 * again) if again else task.indices)
        return sizes

    @cached_property
    def _few(self) -> list[tuple[str, int]] | None:
        """All held-out questions of tasks that have few, as task and index; None where one of the tasks has many."""
        if len(self._sizes) < len(self.tasks):
            return None
        found: dict[tuple[str, str], int] = {}
        for name, size in self._sizes.items():
            total = self.tasks[name].indices
            draws = np.random.default_rng(TRIAL).integers(total, size=6 * size) if total == INDICES else range(total)
            for index in map(int, draws):
                text = entry_of(self.tasks[name], index)["question"]
                if hashed_out(text):
                    found.setdefault((name, text), index)
        return [(name, index) for (name, _), index in found.items()]

    def notes(self) -> list[str]:
        lines = [f"{name} has only about {size:,} different questions" for name, size in self._sizes.items()]
        loose = [] if "PYTHONHASHSEED" in os.environ else [name for name in self.tasks if name in UNSTEADY]
        return lines + [f"{name} asks the same questions again only with PYTHONHASHSEED set" for name in loose]

    def not_evaluated(self) -> str:
        held = {name for name, _ in self._few} if self._few is not None else set(self.tasks)
        without = ", ".join(name for name in self.tasks if name not in held)
        return f"there is no held-out question of {without} (too few differ to put some aside)" if without else ""

    def grader(self) -> Callable[..., list[float]]:
        def score_answer(completions: Sequence[str], task: list[str], index: list[int], **_: Any) -> list[float]:
            """What each task's own verifier gives."""
            return [self.score(*one) for one in zip(task, index, completions, strict=True)]

        return score_answer

    def score(self, name: str, index: int, answer: str) -> float:
        """What the task's verifier gives an answer, 0 where it raises at one, or finds no answer in its tag."""
        from reasoning_gym.utils import extract_answer

        task = self.tasks[name]
        text = extract_answer(answer, task.answer_tag) if task.answer_tag else answer.strip()
        try:
            return 0.0 if text is None else float(task.data.score_answer(text, self._entry(name, index)))
        except Exception:  # verifiers read whatever a model wrote, and some fall over it
            return 0.0

    def measure(self, question: Question, thought: str | None, answer: str) -> Figures:
        """Whether the score is full."""
        return {"solved": self.score(question.columns["task"], question.columns["index"], answer) >= 1}

    def thought_steps(self, question: Question, tokens: Sequence[int]) -> list[bool]:
        """Whether each equation of a thought holds, of sums and differences; whether it is of the question's terms is
        not asked."""
        return true_equations(self.text(tokens))

    def thought_answer(self, question: Question, tokens: Sequence[int]) -> str | None:
        return last_total(self.text(tokens)) if question.columns["task"] in SUMS else None

    def corrupted(
        self, question: Question, tokens: Sequence[int], rng: np.random.Generator
    ) -> tuple[list[int], int] | None:
        made = with_false_equation(self.text(tokens), rng)
        if made is None:
            return None
        before, after = map(self._ids, made)
        return [*before, *after], len(before)

    def right_answer(self, question: Question) -> list[int] | None:
        """The task's own answer, where it has one and none is looked for in a tag."""
        answer = question.columns["answer"]
        tagged = self.tasks[question.columns["task"]].answer_tag
        return [*self._ids(answer), *self.answer_stop.token_ids] if isinstance(answer, str) and not tagged else None


def task_of(given: str | dict[str, Any], answer_tag: str | None = None) -> Task:
    """A task by name, or by name and options. InputError for a name or an option that is not there, with those nearest
    to it, and for a value that the task does not take."""
    try:
        from reasoning_gym.factory import DATASETS, create_dataset
    except ImportError:
        raise InputError('world: reasoning_gym needs reasoning-gym: pip install "clew-spans[gym]"') from None
    values = {"name": given} if isinstance(given, str) else dict(given)
    name, weight = values.pop("name", None), values.pop("weight", 1.0)
    tag = values.pop("answer_tag", answer_tag)
    if name not in DATASETS or name == "composite":
        near = nearest(name, set(DATASETS) - {"composite"})
        raise InputError(f"gym.tasks: {show(name)} is no task of reasoning-gym; the nearest are {near}")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight > 0:
        raise InputError(f"gym.tasks: {name}: weight: {show(weight)} is not more than 0")
    if not (tag is None or (isinstance(tag, str) and tag.isidentifier())):
        raise InputError(f"gym.tasks: {name}: answer_tag: {show(tag)} is no name of a tag, such as answer")
    known = [field.name for field in fields(DATASETS[name][1]) if field.name != "seed"]
    for option in values:
        if option not in known:
            near = nearest(option, known)
            raise InputError(f"gym.tasks: {name}: {show(option)} is no option of it; the nearest are {near}")
    try:
        data = create_dataset(name, **values, seed=0)
        task = Task(name, float(weight), tag, data, INDICES)
        entry_of(task, 0)
    except Exception as error:
        raise InputError(f"gym.tasks: {name} does not take {printable(str(values), 200)}: {said(error)}") from None
    try:
        entry_of(task, INDICES - 1)
    except IndexError:  # it has made all of its questions, as many as its size says
        task = replace(task, indices=len(data))
    return task


def entry_of(task: Task, index: int) -> dict[str, Any]:
    """A task's entry at an index: the same whoever asks, and the dice of others stay where they were."""
    with _dice(index):
        return task.data[index]


@contextmanager
def _dice(seed: int) -> Iterator[None]:
    """Python's and NumPy's own dice, which some tasks throw, begin at a seed; afterwards they go on as before."""
    kept, kept_numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(kept)
        np.random.set_state(kept_numpy)


def _plain(value: Any) -> Any:
    """A value as JSON has it, so that it can be copied and kept."""
    return json.loads(json.dumps(value, default=str, skipkeys=True))
