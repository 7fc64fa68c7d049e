"""What can be known of a run before any of its work: what is missing, would not fit, or would take for ever."""

import importlib.util
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from clew.config import ModelConfig, OptimizerConfig
from clew.errors import InputError
from clew.logits import PART
from clew.memory import (
    LARGE,
    LEARNT,
    NUMBER,
    SAMPLED,
    check_layers,
    check_memory,
    llama_parameters,
    machine_memory,
    sampling_bytes,
    tokens_that_fit,
    training_bytes,
)
from clew.memory import size as in_words
from clew.policy import Policy, model_folder, pick_device
from clew.rollout.rewriters import AT_ONCE, MODEL
from clew.text import show
from clew.train.config import SplitConfig, TrainConfig
from clew.train.team import ADAPTED, memory_of, role_folder, roles_of
from clew.world import World

ANSWERS_A_SECOND = 1000  # that a small model gives on two cores, generously
POSITIONS = 65_536  # of a new model, see Policy.build
SHORTEST = 8  # tokens of a sample: how long they become nobody knows, and some are short
NAMES = (("num_hidden_layers", "n_layer"), ("hidden_size", "n_embd"))  # of layers and width in a config.json


class Shape(NamedTuple):
    """A model's size, as far as estimates need it."""

    layers: int
    width: int
    vocab: int
    parameters: int
    kept: int
    """a quarter of the MLP's width, its usual share: what layers keep for the backward pass goes by it"""
    number: int = NUMBER
    """bytes of a weight, where a folder is opened as it says itself"""


def shape_of(model: ModelConfig, vocab: int) -> Shape:
    """The size of the model that a run starts from: its own options, or what a model folder's config.json says."""
    if not model.folder:
        parameters = llama_parameters(model.layers, model.width, vocab)
        return Shape(model.layers, model.width, vocab, parameters, model.width)
    try:
        folder = model_folder(role_folder(model.folder, "shoggoth"))
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        parameters = sum(map(_parameters, folder.glob("*.safetensors")))
        layers, width = (_number(values, *names) for names in NAMES)
        mlp = _number({"intermediate_size": 4 * width} | values, "intermediate_size")
        parameters += model.add_layers * (4 * width**2 + 3 * width * mlp)  # attention and MLP, as Llama has them
        layers += model.add_layers
        number = _bytes_of(values.get("dtype", values.get("torch_dtype")))
        return Shape(layers, width, _number(values, "vocab_size"), parameters, min(width, mlp // 4), number)
    except (
        InputError,
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        SafetensorError,
    ):  # whoever loads it says what is wrong
        return Shape(1, 1, 1, 0, 1)


def _parameters(file: Path) -> int:
    """How many numbers a file holds, however many bytes each of them takes there."""
    with safe_open(file, "pt") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118


def _bytes_of(dtype: object) -> int:
    """Bytes of a weight of the dtype that a config.json names: "bfloat16", say."""
    return NUMBER // 2 if dtype in ("bfloat16", "float16") else NUMBER


def _number(values: dict[str, Any], *names: str) -> int:
    return next((value for name in names if isinstance(value := values.get(name), int)), 1)


@dataclass(frozen=True)
class Batches:
    """How many questions an evaluation asks, and how many at once."""

    batch: int
    questions: int


def memory_for(device: str) -> int:
    """Bytes that a run on this device may use. InputError for a device that is not there."""
    picked = pick_device(device)
    return memory_of(picked) if picked.type == "cuda" else machine_memory()


def check_processes(counts: dict[str, int], processes: int) -> None:
    """InputError where there is less to share than processes to share it."""
    for name, count in counts.items():
        if count < processes:
            raise InputError(f"{name}: {count} is less than the {processes} processes")


def check_training(config: TrainConfig, world: World) -> None:
    """InputError for a world that has nothing to imitate, or a step that would take more memory than there is."""
    if not config.model.folder:
        check_layers(config.model.layers)
    elif config.model.add_layers:
        check_layers(shape_of(config.model, len(world.tokenizer)).layers, "model.add_layers and the model's own")
    if not world.step_tokens(config):
        raise InputError("world: it has no demonstrations, so there is nothing to imitate")

    def need(config: TrainConfig) -> int:
        shape = shape_of(config.model, len(world.tokenizer))
        number = NUMBER // 2 if config.precision == "bf16" else NUMBER
        tokens = _shared(config.per_step) * world.step_tokens(config)
        tokens = _tokens_at_once(config.optimizer, tokens, shape, number, config.model, config.device)
        logits = min(tokens * shape.vocab, PART) if config.loss in ("full", "weighted") else 0
        anew = config.model.gradient_checkpointing
        return training_bytes(shape.parameters, tokens, shape.layers, shape.kept, number, anew, logits)

    usual = {"mazes.branches": 8, "per_step": 8} | _usual_sizes(config.model)
    check_memory(config, usual, need, memory_for(config.device))


def check_splitting(config: SplitConfig, world: World) -> None:
    """InputError for a split that nothing is held out for, without peft where adapters need it, or beyond memory."""
    if config.policies in ADAPTED and importlib.util.find_spec("peft") is None:
        raise InputError('policies: adapters need peft: pip install "clew-spans[adapters]"')
    if world.held_out_count() == 0:
        raise InputError(f"world: {world.not_evaluated() or 'it holds no question out'}, and a split looks at some")
    if not config.model.folder:
        check_layers(config.model.layers)
        thought, answer = config.max_thought or 0, config.max_answer or 0
        if thought + answer > POSITIONS:
            raise InputError(
                f"max_thought, max_answer: {thought} + {answer} are more than the {POSITIONS} positions of a new model"
            )
    usual = {"questions": 16, "thoughts": 8, "answers": 4, "mazes.branches": 4, "warm_start.per_step": 16}
    usual |= {"rank": 16} if config.policies in ADAPTED else {}
    usual |= _usual_sizes(config.model)
    have = memory_for(config.device)
    if (weights := _rewriting_bytes(config)[0]) > have:
        there = f"takes about {in_words(weights)} of memory, and there are {in_words(have)}"
        raise InputError(f"paraphraser: {show(config.paraphraser)} {there}")
    check_memory(config, usual, lambda config: _splitting_bytes(config, world), have)


def _splitting_bytes(config: SplitConfig, world: World) -> int:
    """What a split takes at the least: a rule may keep few samples, and they may be short."""
    shape = shape_of(config.model, len(world.tokenizer))
    n, k, questions = config.thoughts, config.answers, _shared(config.questions)
    thought, answer = (min(most or SHORTEST, SHORTEST) for most in (config.max_thought, config.max_answer))
    rows = max(min(1024, questions * n), n * k)
    sampled = sampling_bytes(rows, 0, min(thought, answer), shape.layers, shape.width // 4, shape.vocab)
    kept = questions * n * (SAMPLED * thought + k * (SAMPLED * answer + 500))
    warm = config.warm_start
    tokens = _shared(warm.per_step) * world.step_tokens(config) if warm.steps else 0.0
    number = NUMBER // 2 if config.precision == "bf16" else NUMBER
    tokens = _tokens_at_once(warm.optimizer, tokens, shape, number, config.model, config.device)
    anew = config.model.gradient_checkpointing
    imitated = training_bytes(0, tokens, shape.layers, shape.kept, number, anew)
    policies = len(roles_of(config))
    own, still = shape.parameters, 0
    if config.policies in ADAPTED:
        own, still = config.rank * 23 * shape.width * shape.layers, number * shape.parameters
    # Gradients are let go of after a step, so that one policy at a time has any.
    learnt = still + (policies * (LEARNT - NUMBER) + NUMBER) * own
    weights, rewritten = _rewriting_bytes(config)
    return learnt + weights + max(max(sampled, rewritten) + kept, imitated)


def _rewriting_bytes(config: SplitConfig) -> tuple[int, int]:
    """What the model takes that rewrites thoughts: its weights, as its folder says, and what it writes at once; nothing
    of other paraphrasers."""
    if not (config.paraphraser or "").startswith(MODEL):
        return 0, 0
    shape, asked = shape_of(ModelConfig((config.paraphraser or "").removeprefix(MODEL)), 0), config.rewriter
    rows = max(1, AT_ONCE // asked.versions) * asked.versions
    rows = min(rows, _shared(config.questions) * config.thoughts * asked.versions)
    new = min(asked.max_tokens, SHORTEST)
    return shape.number * shape.parameters, sampling_bytes(rows, 0, new, shape.layers, shape.width // 4, shape.vocab)


def _shared(count: int) -> int:
    """One process's part of what all share."""
    return -(-count // int(os.environ.get("WORLD_SIZE", 1)))


def _tokens_at_once(
    optimizer: OptimizerConfig, tokens: float, shape: Shape, number: int, model: ModelConfig, device: str
) -> int:
    """Of a step's tokens those that one pass reads; see `team.learner_for`."""
    usual = tokens
    if shape.parameters > LARGE:
        usual = tokens_that_fit(shape.layers, shape.width, number, model.gradient_checkpointing, memory_for(device))
    return int(min(tokens, optimizer.tokens_at_once or usual))


def _usual_sizes(model: ModelConfig) -> dict[str, int]:
    return {} if model.folder else {"model.layers": 4, "model.width": 128}


def tell(world: World, counts: dict[str, int], model: ModelConfig, report: Callable[[dict[str, Any]], None]) -> None:
    """Tells a report of the world, and of what a person should know."""
    report({"world": world})
    for line in [*notes(world, counts), *ignored(model)]:
        report({"note": line})


def notes(world: World, counts: dict[str, int]) -> list[str]:
    """What a person should know before a run begins: what it cannot be evaluated on, and what will take long.

    counts: questions that are asked at once, by the options that say so.
    """
    lines = [f"{name}: {line}" for name, count in counts.items() for line in _long(count)]
    lines += [f"world: {line}" for line in world.notes()]
    if missing := world.not_evaluated():
        some = world.held_out_count() != 0
        rest = "only the others are evaluated" if some else "so this run trains, and cannot be evaluated"
        lines.append(f"world: {missing}; {rest}")
    return lines


def ignored(model: ModelConfig) -> list[str]:
    """Sizes of a new model that were asked for, where a folder's model is taken, which has its own."""
    if not model.folder:
        return []
    usual = ModelConfig()
    named = [name for name in ("layers", "width", "heads", "rope_base") if getattr(model, name) != getattr(usual, name)]
    return [f"model.{name}: is of a new model, and {show(model.folder)} has its own" for name in named]


def _long(count: int) -> list[str]:
    hours = count / ANSWERS_A_SECOND / 3600
    line = f"{count:,} of them take more than {hours:,.0f} hours at {ANSWERS_A_SECOND:,} a second"
    return [line] if hours >= 1 else []


def check_evaluation(device: str, questions: int, batch: int, policy: Policy, world: World) -> list[str]:
    """InputError for a batch that would take more memory than there is; returns what a person should know."""
    values = policy.model.config.get_text_config().to_dict()
    layers, width = (_number(values, *names) for names in NAMES)
    prompt = len(world.held_out(range(1))[0].tokens)

    def need(asked: Batches) -> int:
        rows = min(asked.batch, asked.questions)
        # A grouped-query model keeps less: a quarter is what none goes below by much.
        return sampling_bytes(rows, rows * prompt, 0, layers, width // 4, _number(values, "vocab_size"))

    check_memory(Batches(batch, questions), {"batch": 256, "questions": 10**30}, need, memory_for(device))
    return [f"questions: {line}" for line in _long(questions)]
