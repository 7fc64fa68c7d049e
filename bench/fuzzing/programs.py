"""Targets that are called from Python: rules and graders of a user, trees, and what models write."""

import copy
import io
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch
from hypothesis import strategies as st
from rich.console import Console
from transformers import LlamaConfig, LlamaForCausalLM

from clew.cli import terminal
from clew.config import MazeConfig
from clew.credit import Credit
from clew.graders import Grader, grade
from clew.losses import token_nll, weighted_nll
from clew.mazes import draw
from clew.mazes.traces import parse_trace, path_from_trace, search_steps
from clew.mazes.vocab import maze_tokenizer
from clew.mazes.world import MazeWorld, path_score
from clew.prompts.world import PromptWorld
from clew.rollout.plots import tree_of_rollout
from clew.runs.rollouts import read_rollouts, write_rollouts
from clew.train import crediting
from clew.train.config import SplitConfig
from clew.train.crediting import grade_texts
from clew.train.evaluate import Sample
from clew.tree import SpanTree, TreeBatch, only, pruned
from fuzzing import strategies as draws
from fuzzing.endings import Finding, check_run, check_terminal, check_whole, command, tried
from fuzzing.targets import SPLIT, SPLITTED, Target, Whole

VOCABULARY = 23
EXACT = 2e-5  # a Llama norms in float32, whatever the precision of its weights


class _Mute(Exception):
    """Cannot even be shown."""

    def __str__(self) -> str:
        raise ValueError("no words")


class _Greedy(str):
    """A text that is more than one."""

    thought = "a secret"


ERRORS: list[BaseException] = [ValueError("\x1b[2J\nred"), KeyError("\ud800"), RuntimeError(), SystemExit(0), _Mute()]
ERRORS += [RecursionError("deep"), MemoryError(), StopIteration(), GeneratorExit(), AssertionError("x" * 10_000)]
ERRORS += [OSError(28, "No space", "a\x1bb")]
module = sys.modules.setdefault("clew_fuzz", ModuleType("clew_fuzz"))  # what a user's own functions are found in


def _length(completions: list[str], **_: object) -> list[float]:
    return [float(len(text)) for text in completions]


vars(module)["length"] = _length


@dataclass(frozen=True)
class Program:
    """A function of a user's: what it does, with what, and from which call on."""

    kind: str
    value: Any = None
    after: int = 0


def _array(value: Any, shape: tuple[int, ...], dtype: str) -> Any:
    made = np.empty(shape, object)
    made[...] = value
    try:
        with np.errstate(all="ignore"):
            return made.astype(dtype)
    except (TypeError, ValueError, OverflowError):
        return made


KINDS = ["right", "fill", "fill", "shape", "transposed", "dtype", "value", "ragged", "tensor", "none", "raise"]
KINDS += ["mutate", "mutate-deep", "generator", "async", "coroutine", "class", "late", "partial", "text", "grow"]
_values = st.one_of(draws.plain, draws.values, st.sampled_from(ERRORS))
programs = st.builds(Program, st.sampled_from(KINDS), _values, st.integers(0, 3))


def rule_of(program: Program) -> Callable[..., Any]:
    """A credit rule that does what was drawn."""
    calls = iter(range(10**6))

    def rule(scores_QNK: np.ndarray, **options: Any) -> Any:
        kind, value, shape = program.kind, program.value, scores_QNK.shape
        right = Credit(np.zeros(shape[:2]), np.zeros(shape))
        if next(calls) < program.after or kind == "right":
            return right
        filled = value if isinstance(value, (int, float, str, bytes, bool, complex)) else 0.5
        if kind in ("fill", "partial"):
            right.answer_QNK[(0,) * 3 if kind == "partial" else ...] = _number(filled)
        elif kind == "shape":
            return Credit(np.zeros((*shape[:2], 1)), np.zeros(shape[:2]))
        elif kind == "transposed":
            return Credit(np.zeros(shape[1::-1]), np.zeros(shape[::-1]))
        elif kind == "dtype":
            return Credit(_array(filled, shape[:2], "U9"), _array(filled, shape, "object"))
        elif kind == "ragged":
            return Credit(cast(Any, [[1.0], []]), cast(Any, [[value], 3]))
        elif kind == "tensor":
            return Credit(cast(Any, torch.zeros(shape[:2])), cast(Any, torch.zeros(shape, requires_grad=True)))
        elif kind == "raise":
            raise type(value)(*value.args) if isinstance(value, BaseException) else ValueError(value)
        elif kind == "mutate":
            scores_QNK[...] = _number(filled)
        elif kind == "mutate-deep":
            options.clear()
            scores_QNK.sort()
            scores_QNK.resize((1, 1, 1), refcheck=False)
        elif kind in ("value", "text", "none", "class"):
            return {"none": None, "class": Credit, "text": str(filled)}.get(kind, value)
        return right

    return _odd_kind(program, rule)


def _odd_kind(program: Program, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself, or one that makes a generator, a coroutine or a late answer of it."""

    def generator(*args: Any, **kwargs: Any) -> Any:
        yield function(*args, **kwargs)

    async def slow(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    def late(*args: Any, **kwargs: Any) -> Any:
        time.sleep(0.12)
        return function(*args, **kwargs)

    return {"generator": generator, "async": slow, "coroutine": lambda *a, **k: slow(*a, **k), "late": late}.get(
        program.kind, function
    )


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def grader_of(program: Program) -> Callable[..., Any]:
    """A grader that does what was drawn."""
    calls = iter(range(10**6))

    def grader(prompts: list[Any], completions: list[str], **columns: list[Any]) -> Any:
        kind, value, count = program.kind, program.value, len(completions)
        right: list[Any] = [float(len(text)) for text in completions]
        if next(calls) < program.after or kind == "right":
            return right
        if kind in ("fill", "partial"):
            right[:: 1 if kind == "fill" else 2] = [value] * len(right[:: 1 if kind == "fill" else 2])
        elif kind in ("shape", "grow"):
            return right * 2 if kind == "grow" else right[1:]
        elif kind in ("transposed", "dtype"):
            return _array(_number(value), (1, count) if kind == "transposed" else (count,), "float16")
        elif kind == "ragged":
            return [[one] for one in right]
        elif kind == "tensor":
            return torch.tensor(right, requires_grad=True)
        elif kind == "raise":
            raise type(value)(*value.args) if isinstance(value, BaseException) else ValueError(value)
        elif kind in ("mutate", "mutate-deep"):
            for given in (prompts, completions, *columns.values()):
                if kind == "mutate-deep" and isinstance(given[0], (dict, list)):
                    given[0].clear()
                given[:] = [value]
        elif kind in ("value", "text", "none", "class"):
            return {"none": None, "class": list, "text": str(count)}.get(kind, value)
        return right

    return _odd_kind(program, grader)


def rules(whole: Whole) -> Target:
    """Credit rules of a user: tried before work, applied to scores, and now and then in a whole split."""

    def run(case: tuple[Program, tuple[int, int, int], list[float], dict[str, Any], bool], there: Path) -> bool:
        program, shape, scores, options, by_command = case
        vars(module)["rule"] = rule_of(program)
        if by_command:
            return _split(there, "--rule", "clew_fuzz:rule")
        scores_QNK = np.resize(np.array(scores), shape)
        before, kept = scores_QNK.copy(), copy.deepcopy(options)

        def apply() -> Credit:
            config = SplitConfig(rule="clew_fuzz:rule", rule_options=options, thoughts=shape[1], answers=shape[2])
            return crediting.rule_of(config)(scores_QNK)

        accepted, given = tried(apply)
        if not np.array_equal(before, scores_QNK, equal_nan=True) or repr(options) != repr(kept):
            raise Finding("wrong", "the rule has changed what the run goes on with")
        weights = (given.thought_QN, given.answer_QNK) if accepted else ()
        for weight, wanted in zip(weights, (shape[:2], shape), strict=False):
            if weight.shape != wanted or not np.isfinite(weight.astype(np.float32)).all():
                raise Finding("wrong", f"weights {weight} were taken for those of a rule")
        return accepted

    shapes = st.tuples(*[st.integers(1, 3)] * 3)
    scores = st.lists(st.one_of(st.floats(0, 1), st.just(float("nan"))), min_size=1, max_size=6)
    options = st.one_of(st.just({}), st.dictionaries(st.sampled_from(["top", "x"]), draws.values, max_size=2))
    return Target("credit rules", st.tuples(programs, shapes, scores, options, _rarely), run)


_rarely = st.integers(0, 24).map(lambda number: number == 7)


def _split(there: Path, *args: str) -> bool:
    ending = command(["split", *SPLIT, "--time-limit", "2", *args, "--out", "run"], there)
    check_run(there / "run", ending, SPLITTED)
    return ending.code == 0


def graders(whole: Whole) -> Target:
    """Graders of a user: they score answers, and now and then a whole split."""

    def run(case: tuple[Program, list[str], list[Any], str, bool], there: Path) -> bool:
        program, completions, column, name, by_command = case
        vars(module)["grader"] = grader_of(program)
        if by_command:
            return _split(there, "--grader", '["clew_fuzz:grader", {function: "clew_fuzz:length", route: answer}]')
        prompts: list[Any] = [{"role": [text]} for text in completions]
        columns = {name: [copy.deepcopy(column) for _ in completions]}
        before = repr((prompts, completions, columns))
        started = time.monotonic()
        graders = [Grader(vars(module)["grader"], name="odd", time_limit=0.06), Grader(_length, weight=-2.0)]
        accepted, scores = tried(lambda: grade(graders, prompts, completions, columns))
        if repr((prompts, completions, columns)) != before:
            raise Finding("wrong", "the grader has changed what the run goes on with")
        if time.monotonic() - started > 5:
            raise Finding("late", f"a limit of 0.06 s let {time.monotonic() - started:.1f} s pass")
        if accepted and (np.isinf(scores.face_B).any() or scores.face_B.shape != (len(completions),)):
            raise Finding("wrong", f"{scores.face_B} were taken for scores")
        return accepted

    names = st.sampled_from(["want", "lattice", "x\x1b[2J", "prompts", "my_thoughts", "self", "é"])
    completions = st.lists(st.one_of(draws.texts, st.just(_Greedy("x"))), max_size=4)
    return Target("graders", st.tuples(programs, completions, st.lists(draws.values, max_size=2), names, _rarely), run)


@lru_cache
def llama() -> LlamaForCausalLM:
    """A tiny model in float64, which reads trees as exactly as numbers can be."""
    torch.manual_seed(0)
    size: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "max_position_embeddings": 8192}
    size |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    special: dict[str, Any] = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **size, **special)).double().eval()


Spans = list[tuple[int, Any, Any, Any]]


@st.composite
def forests(draw: st.DrawFn) -> tuple[Spans, int]:
    """Spans with the number of the span that each continues, and how many levels of one token stand above the first."""
    tokens = st.lists(st.integers(0, VOCABULARY - 1), max_size=4)
    weights = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 0.25, 0]), st.floats(-4, 4))
    roles = st.sampled_from(["prompt", "thought", "answer"])
    spans: Spans = []
    for number in range(draw(st.integers(1, 14))):
        above = draw(st.one_of(st.just(number - 1), st.integers(-1, number - 1)))
        mine = draw(tokens)
        each = st.lists(weights, min_size=len(mine), max_size=len(mine))
        spans.append((above, mine, draw(roles), draw(st.one_of(weights, each))))
    depth = draw(st.sampled_from([0, 0, 0, 1, 40, 200, 1200]))
    if draw(st.integers(0, 2)):
        return spans, depth
    place = draw(st.integers(0, len(spans) - 1))
    above, *parts = spans[place]
    odd: list[Any] = [np.array([1.5]), np.array([[1]]), np.array([True]), np.arange(3), torch.arange(2)]
    odd += [torch.tensor([0.5]), range(3), b"ab", "ab", {1: 2}, (1, 2), [VOCABULARY], [2**62], [np.int8(-1)], [[1]]]
    which = draw(st.integers(0, 2))
    parts[which] = draw(st.one_of(draws.values, st.lists(draws.plain, max_size=3), st.sampled_from(odd)))
    spans[place] = (above, *parts)  # type: ignore[assignment]
    return spans, depth


def trees_of(spans: Spans, depth: int) -> list[SpanTree]:
    below: dict[int, list[SpanTree]] = {}
    for number in reversed(range(len(spans))):
        above, tokens, role, weight = spans[number]
        tree = SpanTree(tokens, role, weight, below.get(number, [])[::-1])
        for level in range(depth if number == 0 else 0):
            tree = SpanTree([level % VOCABULARY], "thought", 0.5, [tree])
        below.setdefault(above, []).append(tree)
    return below[-1][::-1]


def trees(whole: Whole) -> Target:
    """Trees of odd tokens, weights and roles are refused; the others' losses and gradients are those of their rows."""

    def compare(batch: TreeBatch) -> float:
        model, found = llama(), []
        for one in (batch, batch.flatten()):
            model.zero_grad()
            nll_S = token_nll(model, one)
            weighted_nll(model, one).backward()
            grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
            found.append([nll_S.detach(), *(grad.clone() for grad in grads)])
        pairs = zip(*found, strict=True)
        return max((float((a - b).abs().max() / (1 + b.abs().max())) for a, b in pairs if a.numel()), default=0.0)

    def run(case: tuple[Spans, int], there: Path) -> bool:
        def read() -> float:
            made = trees_of(*case)
            for tree in made:
                only(tree, "answer")
                pruned(tree)
            return compare(TreeBatch.pack(made, 0))

        accepted, worst = tried(read)
        if accepted and not worst <= EXACT:
            raise Finding("wrong", f"trees and their rows differ by {worst:.1e}")
        return accepted

    return Target("trees", forests(), run)


def outputs(whole: Whole) -> Target:
    """What models may write, through parsers, graders, the terminal, samples and pictures."""
    words = st.sampled_from([*maze_tokenizer(3).get_vocab(), *draws.ODD_TEXTS])
    written = st.one_of(st.lists(words, max_size=12), st.lists(draws.texts, max_size=6))
    ids = st.lists(st.integers(0, len(whole.tokenizer) - 1), max_size=12)
    world = PromptWorld([{"prompt": "a"}, {"prompt": "b"}], whole.tokenizer)
    mazes = MazeWorld(MazeConfig(sizes=[3]))
    asked = mazes.questions(range(3))

    def show(tokens: list[str], texts: list[str], number: int) -> None:
        question, stream, text = asked[number], io.StringIO(), " ".join(tokens)
        console = Console(file=stream, width=100)
        for given in (tokens, text):
            parse_trace(given, question.reference)
            search_steps(given)
            path_from_trace(given)
        figures = mazes.measure(question, text, text)
        scores = grade_texts([Grader(path_score)], [question], [text], [[]]).face_B
        if scores is None or not 0 <= scores[0] <= 1 or not np.isfinite([*figures.values()]).all():
            raise Finding("wrong", f"scores {scores}, figures {figures}")
        terminal.show_sample(console, mazes, Sample(question, text, text, figures, {}), text)
        figure = {"value": 0.5, "low": 0.0, "high": 1.0}
        terminal.show_split(console, {when: {"questions": 1, text: figure} for when in ("after", "before")})
        progress = terminal.TrainingProgress(console)
        progress({"phase": text, "step": 1, "loss": float("nan"), "progress": 0.5})
        check_terminal(stream.getvalue())
        texts.append(text)

    def run(case: tuple[list[str], list[int], int, bool], there: Path) -> bool:
        tokens, numbers, number, drawn = case
        texts = [str(whole.tokenizer.decode(numbers))]

        def read() -> None:
            show(tokens, texts, number)
            world.text(numbers)
            world.text(numbers, special=True)
            if drawn:
                answers = [{"text": text, "score": -1.0, "weight": 0.0} for text in texts]
                thoughts = [{"text": text, "tokens": [3], "weight": -0.5, "answers": answers} for text in texts]
                write_rollouts(there, 1, [{"prompt": texts[1], "thoughts": thoughts}])
                for record in read_rollouts(there):
                    tree_of_rollout(record, there / "tree.png")
                draw.maze_sheet([draw.Attempt(asked[number].reference, " ".join(tokens))], there / "mazes.png")
                check_whole(there, {})

        return tried(read)[0]

    return Target("model output", st.tuples(written, ids, st.integers(0, 2), _rarely), run)
