"""What can be known of a run before any of its work: what has no maze, what would not fit, what would take for ever."""

import importlib.util
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from clew.config import EvalConfig, SplitConfig, TrainConfig, sizes_of
from clew.errors import InputError
from clew.evaluate import held_out_streams
from clew.mazes.lattice import MAX_SIZE
from clew.mazes.questions import MazeStream
from clew.memory import (
    LEARNT,
    NUMBER,
    SAMPLED,
    check_layers,
    check_memory,
    llama_parameters,
    machine_memory,
    sampling_bytes,
    training_bytes,
)
from clew.policy import pick_device

ANSWERS_A_SECOND = 1000  # that a small model gives on two cores, generously
POSITIONS = 8192  # of a new model, see Policy.build


class Shape(NamedTuple):
    """A model's size, as far as estimates need it."""

    layers: int
    width: int
    vocab: int
    parameters: int


def shape_of(config: Any, side: int) -> Shape:
    """The size of the model that a config starts from: its own options, or what a model folder's config.json says."""
    vocab = 14 + side * side
    if not config.model:
        return Shape(config.layers, config.width, vocab, llama_parameters(config.layers, config.width, vocab))
    folder = Path(config.model)
    files = [folder / name / "config.json" for name in ("model", "shoggoth", ".") if (folder / name).is_dir()]
    try:
        values = json.loads(next(file for file in files if file.is_file()).read_text(encoding="utf-8"))
        weights = sum(file.stat().st_size for file in folder.rglob("*.safetensors") if "checkpoints" not in file.parts)
        layers, width = (_number(values, *names) for names in (("num_hidden_layers", "n_layer"),
                                                               ("hidden_size", "n_embd")))  # fmt: skip
        return Shape(layers, width, _number(values, "vocab_size"), weights // 4)
    except (StopIteration, OSError, ValueError, TypeError, AttributeError):  # whoever loads it says what is wrong
        return Shape(1, 1, 1, 0)


def _number(values: dict[str, Any], *names: str) -> int:
    return next((value for name in names if isinstance(value := values.get(name), int)), 1)


def memory_for(device: str) -> int:
    """Bytes that a run on this device may use. InputError for a device that is not there."""
    picked = pick_device(device)
    return torch.cuda.get_device_properties(picked).total_memory if picked.type == "cuda" else machine_memory()


def tokens_of(stream: MazeStream) -> tuple[float, float]:
    """Tokens of a maze's adjacency list and of one of its questions with its path, on average over a few mazes."""
    few = 16
    one, nine = (len(replace(stream, branches=n).forest(range(few)).tokens_T) / few for n in (1, 9))
    question = (nine - one) / 8
    return one - question, question


def check_max_size(max_size: int | None, stream: MazeStream) -> None:
    """InputError for a tokenizer that would not know the mazes."""
    if max_size is not None and not stream.max_size <= max_size <= MAX_SIZE:
        raise InputError(f"max_size: {max_size} is not between the largest of mazes.sizes, {stream.max_size}, and "
                         f"{MAX_SIZE}")  # fmt: skip


def check_training(config: TrainConfig, stream: MazeStream) -> None:
    """InputError for a stream without mazes, or a step that would take more memory than there is."""
    check_max_size(config.max_size, stream)
    if not config.model:
        check_layers(config.layers)
    adjacency, question = tokens_of(stream.require())
    side, processes = config.max_size or stream.max_size, int(os.environ.get("WORLD_SIZE", 1))

    def need(config: TrainConfig) -> int:
        shape, mazes = shape_of(config, side), config.mazes
        tokens = int(-(-mazes.per_step // processes) * (adjacency + mazes.branches * question))
        number = NUMBER // 2 if config.precision == "bf16" else NUMBER
        return training_bytes(shape.parameters, tokens, shape.layers, shape.width, number)

    usual = {"mazes.branches": 8, "mazes.per_step": 8} | ({} if config.model else {"layers": 4, "width": 128})
    check_memory(config, usual, need, memory_for(config.device))


def training_notes(config: TrainConfig) -> list[str]:
    """What a person should know before a run begins: which mazes it cannot be evaluated on, and what will take long."""
    mazes = config.mazes
    streams, missing = held_out_streams(sizes_of(mazes.sizes), mazes.generators, mazes.p, 0)
    asked = {"eval_mazes": config.eval_mazes, "probe_mazes": config.probe_mazes if config.probe_every else 0}
    notes = [f"{name}: {line}" for name, count in asked.items() for line in _long(count)]
    if missing:
        rest = "only the others are evaluated" if streams else "so this run trains, and cannot be evaluated"
        notes.append(f"mazes.sizes: {missing}; {rest}")
    return notes


def _long(count: int) -> list[str]:
    hours = count / ANSWERS_A_SECOND / 3600
    return (
        [f"{count:,} of them take more than {hours:,.0f} hours at {ANSWERS_A_SECOND:,} a second"] if hours >= 1 else []
    )


def check_held_out(sizes: tuple[tuple[int, int], ...], generators: Sequence[str], p: float, seed: int) -> str:
    """A line about the sizes without a held-out maze, empty if there are none; InputError if no size has any."""
    streams, missing = held_out_streams(sizes, generators, p, seed)
    if not streams:
        raise InputError(f"sizes: {missing}; 3 by dfs, and any larger size, has some")
    return f"sizes: {missing}; only the others are evaluated" if missing else ""


def check_evaluation(config: EvalConfig, model: Any, side: int) -> list[str]:
    """InputError for a batch that would take more memory than there is; returns what a person should know."""

    def need(config: EvalConfig) -> int:
        values, cells = model.config.get_text_config().to_dict(), side * side
        layers, width = _number(values, "num_hidden_layers", "n_layer"), _number(values, "hidden_size", "n_embd")
        rows = min(config.batch, config.mazes)
        # A grouped-query model keeps less: a quarter is what none goes below by much.
        return sampling_bytes(rows, 4 * rows * cells, 0, layers, width // 4, _number(values, "vocab_size"))

    check_memory(config, {"batch": 256, "mazes": 10**30}, need, memory_for(config.device))
    return [f"mazes: {line}" for line in _long(config.mazes)]


def check_worlds_mazes(config: SplitConfig) -> list[MazeStream]:
    """The streams that a split on mazes draws from. InputError where one has no maze: a split looks at held-out
    questions from its first round on."""
    sizes, mazes = sizes_of(config.mazes.sizes), config.mazes
    streams = [MazeStream(sizes, tuple(mazes.generators), mazes.p, mazes.branches, held_out, config.seed, number)
               for number, held_out in ((0, False), (4, False), (3, True))]  # fmt: skip
    return [stream.require() for stream in streams]


def check_splitting(config: SplitConfig) -> None:
    """InputError for a split without mazes, without peft where adapters need it, or beyond the machine's memory."""
    if config.policies == "adapters" and importlib.util.find_spec("peft") is None:
        raise InputError('policies: adapters need peft: pip install "clew[adapters]"')
    if not config.model:
        check_layers(config.layers)
        if (config.max_thought or 0) + (config.max_answer or 0) > POSITIONS:
            raise InputError(f"max_thought, max_answer: {config.max_thought or 0} + {config.max_answer or 0} are more "
                             f"than the {POSITIONS} positions of a new model")  # fmt: skip
    side, adjacency, question, shown = 4, 64.0, 16.0, 0.0
    if config.prompts is None:
        stream = check_worlds_mazes(config)[1]
        side = stream.max_size
        adjacency, question = tokens_of(stream)
        shown = 1.0 if config.warmup_steps else 0.0
    processes = int(os.environ.get("WORLD_SIZE", 1))

    def need(config: SplitConfig) -> int:
        shape, mazes = shape_of(config, side), config.mazes
        n, k, questions = config.thoughts, config.answers, -(-config.questions // processes)
        # How long samples become nobody knows; some are short, and a rule may keep few: these are the least.
        thought, answer = (min(most or 8, 8) for most in (config.max_thought, config.max_answer))
        rows = max(min(1024, questions * n), n * k)
        sampled = sampling_bytes(rows, 0, min(thought, answer), shape.layers, shape.width // 4, shape.vocab)
        kept = questions * n * (SAMPLED * thought + k * (SAMPLED * answer + 500))
        imitated = int(shown * -(-mazes.per_step // processes) * (adjacency + mazes.branches * question))
        step = training_bytes(0, imitated, shape.layers, shape.width)
        lora = config.rank * 23 * shape.width * shape.layers * LEARNT * 2 if config.policies == "adapters" else 0
        policies = 1 if config.policies == "one" else 2
        learnt = lora + NUMBER * shape.parameters if config.policies == "adapters" else (
            policies * LEARNT * shape.parameters)  # fmt: skip
        return learnt + max(sampled + kept, step)

    usual = {"questions": 16, "thoughts": 8, "answers": 4, "mazes.branches": 4, "mazes.per_step": 16}
    usual |= {"rank": 16} if config.policies == "adapters" else {}
    usual |= {} if config.model else {"layers": 4, "width": 128}
    check_memory(config, usual, need, memory_for(config.device))


def splitting_notes(config: SplitConfig) -> list[str]:
    """What a person should know before a split begins."""
    asked = {"eval_questions": config.eval_questions, "final_questions": config.final_questions,
             "questions, thoughts, answers": config.questions * config.thoughts * config.answers}  # fmt: skip
    return [f"{name}: {line}" for name, questions in asked.items() for line in _long(questions)]
