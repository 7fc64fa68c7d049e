"""What a world is: where questions come from, with all that the loops need to know of them.

Loops, evaluation, statistics and commands ask a world and know nothing else of it. A world of your own is a subclass
of `World`, named on the command line as `--world package.module:Class`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from clew.calls import load_function
from clew.config import WorldConfig
from clew.errors import InputError
from clew.text import show
from clew.tree import SpanTree, TreeBatch, folded

Look = Literal["validation", "final"]
Figures = dict[str, float | bool]
WORLDS = {
    "mazes": "clew.mazes.world:MazeWorld",
    "prompts": "clew.prompts.world:PromptWorld",
    "reasoning_gym": "clew.prompts.gym:GymWorld",
}


@dataclass(frozen=True)
class Stop:
    """What ends a completion. Token ids and texts, so that a sampler in another process can obey them too."""

    token_ids: tuple[int, ...] = ()
    """ends with one of these tokens"""
    strings: tuple[str, ...] = ()
    """ends as soon as its text holds one of these"""


@dataclass(frozen=True)
class Question:
    """One question as the loops see it."""

    prompt: str
    """what the grader is told was asked: "<ADJLIST_START> (0,0) <--> …" """
    tokens: list[int]
    """what the shoggoth continues"""
    max_thought: int
    """tokens that a thought may take"""
    max_answer: int
    """tokens that an answer may take"""
    columns: dict[str, Any] = field(default_factory=dict)
    """named values for the grader: {"answer": "42"}, say; never a thought"""
    labels: dict[str, str] = field(default_factory=dict)
    """groups that a report tells apart: {"size": "4x4", "path_length": "6", "lookahead": "3"}"""
    reference: Any = None
    """the world's own form of the question: a maze with origin and target, say"""
    held_out: bool = False
    """whether no training ever asks it"""
    source: int | None = None
    """what it is about, where several questions may be about one thing: a maze's identity"""
    place: str = ""
    """where it comes from, for messages: "prompts.jsonl line 3" """
    messages: list[dict[str, Any]] | None = None
    """the prompt as chat messages, where it was given so: graders then get it, and what the face wrote, in that form"""


class World:
    """A source of questions. Subclasses set the first four attributes, and write the first four methods at least.

    They are made as `Class(tokenizer=..., seed=..., **world_options)`; `tokenizer` is that of the model to start from,
    or None, in which case the world brings one for a new model.
    """

    tokenizer: PreTrainedTokenizerBase
    thought_stop: Stop
    """what ends a thought"""
    answer_stop: Stop
    """what ends an answer"""
    thought_end: list[int]
    """put, unweighted, behind a thought that did not end by itself, so that the face knows where it stands"""
    thought_start: tuple[int, ...] = ()
    """what every thought begins with, if anything does: what is left of a thought that is cut at its beginning"""
    headline = "score"
    """the figure of `measure` (or the score) that stands for all in a progress bar"""
    curves: tuple[str, ...] = ("score",)
    """figures of `measure` (or the score) that are drawn over training"""
    answers_directly = True
    """whether `clew train` may ask for an answer with no thought before it"""
    held_out_rule = "questions that no training uses"
    """what is held out, in words, for reports"""
    rewrites = False
    """whether `rewritten` knows other ways to say a thought"""

    @classmethod
    def from_config(
        cls, config: WorldConfig, seed: int, tokenizer: PreTrainedTokenizerBase | None, teach: bool
    ) -> "World":
        """The world that a command's options mean."""
        return cls(tokenizer=tokenizer, seed=seed, **config.world_options)  # type: ignore[call-arg]

    def questions(self, numbers: Sequence[int]) -> list[Question]:
        """The training questions with these numbers: the same whoever asks."""
        raise NotImplementedError

    def held_out(self, numbers: Sequence[int], look: Look = "final", seed: int = 0) -> list[Question]:
        """Held-out questions with these numbers, never among the others: of a series for each look and seed."""
        raise NotImplementedError

    def demonstrations(self, numbers: Sequence[int]) -> list[SpanTree]:
        """Trees of prompt, thought and answer spans of weight 1 to imitate; empty for a world that has none to show."""
        raise NotImplementedError

    def measure(self, question: Question, thought: str | None, answer: str) -> Figures:
        """Named figures of a sample for reports, never used as credit: a bool is a rate, a number a mean, and a
        `runs.intervals.Ratio`, of several things in one sample, is pooled over all."""
        raise NotImplementedError

    def held_out_count(self) -> int | None:
        """How many held-out questions there are; None for more than anyone asks."""
        return None

    def to_check(self) -> list[Question]:
        """The questions whose lengths are checked before any work: by default a few of both kinds."""
        few = range(8)
        return [*self.questions(few), *(self.held_out(few) if self.held_out_count() != 0 else [])]

    def notes(self) -> list[str]:
        """What a person should know of this world before a run begins, a line each."""
        return []

    def not_evaluated(self) -> str:
        """A line about the part of the world that has no held-out question; empty if all has."""
        return ""

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as the text that graders and people read."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def tokens_of(self, text: str) -> list[int] | None:
        """The tokens of a text that somebody else wrote for a thought; None where they do not say just that."""
        words, known = text.split(), self.tokenizer.get_vocab()
        try:
            read = [self.tokenizer(text, add_special_tokens=False).input_ids]
            read += [[known[word] for word in words]] if known.keys() >= set(words) else []  # one that splits no text
            good = [ids for ids in read if ids and str(self.tokenizer.decode(ids)).split() == words]
        except Exception:  # tokenizers raise many kinds
            return None
        return good[0] if good else None

    def line_end(self) -> Stop | None:
        """What ends a line of a thought, for those who rewrite it line by line; None where thoughts have no lines.
        InputError where lines cannot be told from the end of a thought."""
        return None

    def rewritten(
        self, prompt: Sequence[int], before: Sequence[int], tokens: Sequence[int], rng: np.random.Generator
    ) -> list[int] | None:
        """A thought, or a line of it, said in another way that means exactly the same; None where none can be proven.

        prompt: what was asked. before: what is read of the thought before this line.
        """
        return None

    def grader(self) -> Callable[..., Any] | None:
        """The world's own reward function (see `graders`), None if it has none."""
        return None

    def batch(self, numbers: Sequence[int], prompt_weight: float = 0.0, choices: bool = False) -> TreeBatch | None:
        """What `clew train` learns from: answers of weight 1 behind prompts of `prompt_weight`, without thoughts.

        choices: with the tokens that would be as good in each one's place, for the graded loss. None if there is
        nothing. By default the demonstrations, their thoughts left out.
        """
        if choices:
            raise InputError(f"loss: graded needs the moves open at each step, and {type(self).__name__} knows none")
        trees = [_without_thoughts(tree, prompt_weight) for tree in self.demonstrations(numbers)]
        pad = self.tokenizer.pad_token_id
        return TreeBatch.pack(trees, pad if isinstance(pad, int) else 0) if trees else None

    def step_tokens(self, config: Any) -> float:
        """Tokens of one tree that is trained on under a command's options, for estimates of memory."""
        trees = self.demonstrations(range(1))
        return float(TreeBatch.pack(trees, 0).tokens_BT.numel()) if trees else 0.0

    def baseline(self, question: Question, rng: np.random.Generator) -> str | None:
        """The answer of somebody who only knows the rules, to compare a model with; None if there is no such thing."""
        return None

    def read(self, file: Path) -> Iterator[Question]:
        """Questions that others wrote, from a file. InputError for what cannot be read."""
        raise InputError(f"from: {type(self).__name__} reads no files")

    def thought_steps(self, question: Question, tokens: Sequence[int]) -> list[bool] | None:
        """Whether each step of a thought (its end left out) is true of the question; None for a world that cannot
        tell."""
        return None

    def thought_answer(self, question: Question, tokens: Sequence[int]) -> str | None:
        """The answer that a thought comes to by itself, as `text` has what a face writes; None if it comes to none."""
        return None

    def same_answer(self, question: Question, answer: str, other: str) -> bool:
        """Whether two texts of a face come to one answer, whatever else they say. By default the same words."""
        return answer.split() == other.split()

    def corrupted(
        self, question: Question, tokens: Sequence[int], rng: np.random.Generator
    ) -> tuple[list[int], int] | None:
        """A thought with one of its true steps made false, in the form that it had, and the number of its tokens up to
        the end of that step, behind which it is as it was; None where that cannot be done."""
        return None

    def right_answer(self, question: Question) -> list[int] | None:
        """A right answer as a face would write it, the token that ends it included; None where the world knows none."""
        return None

    def right_answers(self, question: Question) -> list[list[int]]:
        """All forms in which a face would write the right answer, each as `right_answer` has it, no two the same: an
        audit adds their probabilities, so that a choice of form that no grader minds changes none of its figures. By
        default the one that `right_answer` gives; empty where it gives none."""
        right = self.right_answer(question)
        return [right] if right else []

    def filler(self, count: int) -> list[int]:
        """So many tokens in a thought's place that say nothing: dots."""
        dots: Any = self.tokenizer("...", add_special_tokens=False).input_ids or [self.tokenizer.pad_token_id or 0]
        return (dots * count)[:count]

    def drawing(self, question: Question, answer: str) -> Any:
        """What a terminal shows of a question and its answer beyond their text: anything that rich prints, or None."""
        return None

    def thought_drawing(self, question: Question, thought: str) -> Any:
        """What a terminal shows of a thought beyond its text: anything that rich prints, or None."""
        return None

    def pictures(self, report: dict[str, Any], samples: Sequence[tuple[Question, str]], folder: Path) -> None:
        """Draws an evaluation, with a few questions and their answers, into a folder. By default nothing."""

    def label(self, name: str) -> str | None:
        """A figure's name as people read it; None for one that a table leaves out."""
        return name.replace("_", " ")


def _without_thoughts(tree: SpanTree, prompt_weight: float) -> SpanTree:
    def direct(span: SpanTree, children: list[list[SpanTree]]) -> list[SpanTree]:
        below = [child for several in children for child in several]
        if span.role == "thought":
            return below
        weight = 1.0 if span.role == "answer" else prompt_weight
        return [replace(span, weight=weight, children=below)]

    return folded(tree, direct)[0]


def world_of(
    config: WorldConfig, seed: int, tokenizer: PreTrainedTokenizerBase | None = None, teach: bool = False
) -> World:
    """The world that a config asks in. InputError, naming the option, for one that cannot be had.

    tokenizer: that of a model to start from; with `teach` it is taught the words of the world that it lacks.
    """
    name = config.world or ("prompts" if config.prompts.file else "reasoning_gym" if config.gym.tasks else "mazes")
    if config.prompts.file and name != "prompts":
        raise InputError(f"world: {show(name)} asks no prompts; leave out --world, or --prompts")
    if config.gym.tasks and name != "reasoning_gym":
        raise InputError(
            f"world: {show(name)} asks no tasks of reasoning-gym; leave out --gym, or what names the other"
        )
    if config.world_options and name in WORLDS:
        raise InputError(f"world_options: {show(name)} takes none; they are for a world of your own")
    if ":" not in name and name not in WORLDS:
        raise InputError(f"world: {show(name)} is not one of {', '.join(WORLDS)} or package.module:Class")
    kind = load_function(WORLDS.get(name, name), "world")
    if not (isinstance(kind, type) and issubclass(kind, World)):
        raise InputError(f"world: {show(name)} is not a subclass of clew.world.World")
    try:
        world = kind.from_config(config, seed, tokenizer, teach)
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit too: a world that ends the program when it is made
        if name in WORLDS:
            raise
        raise InputError(f"world: {show(name)} cannot be made with {config.world_options}: {show(error)}") from error
    if lacking := [what for what in World.__annotations__ if not hasattr(world, what)]:
        raise InputError(f"world: {show(name)} lacks {', '.join(lacking)}")
    return world
