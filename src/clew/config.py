"""The options that several commands share, each group nested once, and the checks that every option passes.

Only the standard library is imported here, so that `clew --help` is quick.
"""

import math
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Literal, get_args, get_type_hints

from clew.errors import InputError
from clew.text import check_text, show

Attention = Literal["trees", "rows"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Generator = Literal["dfs", "wilson", "dfs_percolation", "percolation"]
Size = int | tuple[int, int]


@dataclass
class MazeConfig:
    """The world called mazes."""

    sizes: list[Size] = field(default_factory=lambda: [4])
    """grid sizes, mixed evenly, in training a repeated one more often: 5 for 5x5, [4, 6] for 4 rows of 6"""
    generators: list[Generator] = field(default_factory=lambda: ["dfs"])
    """how mazes are carved, mixed evenly"""
    p: float = 0.1
    """chance of each extra passage where a generator percolates"""
    branches: int = 8
    """questions asked of each maze in training; they share its adjacency list, which is read once"""
    traces: list[Literal["dfs", "bfs", "astar", "flood"]] = field(default_factory=lambda: ["dfs"])
    """search traces that demonstrations show as thoughts, in turn; flood: breadth-first from target to origin"""
    max_size: int | None = None
    """largest maze side that a new model's tokenizer knows; by default the largest in sizes"""
    anywhere: bool = False
    """mazes stand at random places of a grid of side max_size; so small ones teach the cells of large ones"""


@dataclass
class PromptConfig:
    """The world called prompts, a user's own; all but its file holds for reasoning_gym too."""

    file: str | None = None
    """a JSON Lines file or datasets folder with a prompt column; naming it chooses this world"""
    delimiters: tuple[str, str] = ("<think>", "</think>")
    """what opens and closes a thought"""
    system: str | None = None
    """a system message put before each prompt that has none, by the chat template"""
    demonstrations: str | None = None
    """a file of rows with prompt, thought and answer, or package.module:function, called as f(prompt, **columns)"""


@dataclass
class GymConfig:
    """The world called reasoning_gym (needs the extra gym)."""

    tasks: list[str | dict[str, Any]] = field(default_factory=list)
    """names of tasks, or {name, weight, answer_tag, the task's own options}; naming some chooses this world"""
    answer_tag: str | None = None
    """grade what an answer holds between <answer> and </answer>, for answer, alone; by default all of it"""


@dataclass
class WorldConfig:
    """Where questions come from."""

    world: str | None = None
    """mazes, prompts, reasoning_gym, or package.module:Class; by default what --prompts or --gym asks for, or mazes"""
    world_options: dict[str, Any] = field(default_factory=dict)
    """keyword arguments for a world of your own, such as {digits: 4}"""
    mazes: MazeConfig = field(default_factory=MazeConfig)
    prompts: PromptConfig = field(default_factory=PromptConfig)
    gym: GymConfig = field(default_factory=GymConfig)


@dataclass
class ModelConfig:
    """The model, or models, that a run begins with."""

    folder: str | None = None
    """a Hugging Face causal LM folder, a run's, or zoo:NAME, to start from; by default a new Llama of the next sizes"""
    layers: int = 4
    """layers of a new model"""
    width: int = 128
    """hidden size of a new model"""
    heads: int = 4
    """attention heads of a new model"""
    rope_base: float = 10_000.0
    """rope_theta of a new model's rotary embeddings; a smaller one tells near tokens apart better, far ones less"""
    add_layers: int = 0
    """layers to add to the folder's model, which change nothing until they are trained"""
    attention: Attention = "trees"
    """trees: shared prefixes are read once; rows: plain rows, exact for any causal model, slower and without sharing"""
    gradient_checkpointing: bool = False
    """keep each layer's input alone for the backward pass and compute the rest anew: a third more work, less memory"""


@dataclass
class OptimizerConfig:
    """How weights follow gradients."""

    name: Literal["adamw", "muon"] = "adamw"
    """muon: Muon on the hidden matrices, AdamW on all else (torch 2.9 or newer)"""
    muon_scale: float = 2.0
    """Muon's learning rate over AdamW's"""
    lr: float = 2e-3
    """peak learning rate (of AdamW)"""
    warmup: int | None = None
    """steps of linear warm-up; by default 100, and a twentieth of the rounds of a split"""
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    """the learning rate after warm-up: a cosine down to 0, constant, or wsd, constant and from halfway straight to 0"""
    weight_decay: float = 0.01
    """on matrices alone"""
    clip: float = 1.0
    """largest gradient norm"""
    tokens_at_once: int | None = None
    """most tokens that one pass reads, same gradient; by default all, and by memory beyond 30 million parameters"""


@dataclass
class SamplingConfig:
    """How tokens are drawn."""

    temperature: float = 1.0
    """sampling temperature; 0 takes the likeliest token"""
    top_p: float = 1.0
    """sample from the smallest set of tokens with this much probability"""
    top_k: int = 0
    """sample from this many of the likeliest tokens, of which top_p then takes its share; 0: from all"""


@dataclass
class RewriterConfig:
    """How a model rewrites thoughts, with --paraphraser model:FOLDER."""

    template: str = "Say the following in other words. Keep its meaning and its numbers, and add nothing.\n\n{text}\n\n"
    """what the model is asked, {text} standing for what it is to rewrite; a chat model is asked as by a user"""
    versions: int = 4
    """versions that it writes, of which one that can be read is drawn; where none can, the text stays as it is"""
    temperature: float = 1.0
    """sampling temperature; 0 takes the likeliest token"""
    max_tokens: int = 128
    """most tokens of a version, in the model's own tokens"""


@dataclass
class SamplerConfig:
    """What makes completions."""

    name: Literal["shared", "vllm"] = "shared"
    """shared: the model that learns, each prompt read once; vllm: a vLLM server, or vLLM in this process"""
    url: str | None = None
    """the vLLM server, which serves the adapters' base; by default vLLM runs in this process"""
    timeout: float = 600.0
    """seconds that a server may take for one request"""
    cache: float = 4.0
    """GiB that vLLM in this process takes for keys and values"""
    window: int | None = None
    """most tokens of a row that vLLM in this process makes room for; by default the model's positions"""


@dataclass
class RunConfig:
    """Where and how long a run is, and how often it is looked at."""

    seed: int = 0
    """of first weights, questions and samples"""
    device: Device = "auto"
    """where to train"""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on CUDA, fp32 elsewhere; what learns is float32 either way, the still base of adapters as computed"""
    track: str | None = None
    """also report to trackio, tensorboard or wandb (install the extra of that name)"""
    validation_questions: int = 200
    """held-out questions that a validation asks, greedily"""
    final_questions: int = 1000
    """held-out questions of the final evaluation"""
    out: str | None = None
    """run folder; by default runs/COMMAND-DATE-TIME"""


PLACE = "{text}"
"""where a rewriter's template holds what is to be rewritten"""


def sizes_of(sizes: list[Size]) -> tuple[tuple[int, int], ...]:
    """Sizes as (rows, cols) pairs."""
    return tuple((size, size) if isinstance(size, int) else (size[0], size[1]) for size in sizes)


LARGEST = 3.4e38


def check_positive(config: Any, *names: str, zero: bool = False) -> None:
    """InputError unless each of the config's named numbers is positive (or at least 0)."""
    for name in names:
        value = config
        for part in name.split("."):
            value = getattr(value, part)
        if value is not None and not (value >= 0 if zero else value > 0):
            raise InputError(f"{name}: {value} is not {'at least 0' if zero else 'more than 0'}")


def check_rewriter(config: RewriterConfig) -> None:
    """InputError for an option of a rewriter that cannot be used."""
    if PLACE not in config.template:
        lacks = f"has no {PLACE}, where what is to be rewritten would stand"
        raise InputError(f"rewriter.template: {show(config.template)} {lacks}")
    for name, least in (("versions", 1), ("max_tokens", 1), ("temperature", 0)):
        if not getattr(config, name) >= least:
            raise InputError(f"rewriter.{name}: {getattr(config, name)} is not at least {least}")


def check_values(config: Any, inside: str = "") -> None:
    """InputError for a value that no option can have: null where something is needed, NaN, infinity, a whole number
    beyond 64 bits, a seed below 0, text that no file's name can hold."""
    hints = get_type_hints(type(config))
    for name, hint in hints.items():
        value = getattr(config, name)
        if is_dataclass(value):
            check_values(value, f"{inside}{name}.")
        elif value is None:
            if hint is not Any and type(None) not in get_args(hint):
                raise InputError(f"{inside}{name}: null is no value of it; leave the option out for its default")
        elif value == "":
            raise InputError(f"{inside}{name}: the text is empty; leave the option out for its default")
        else:
            check_value(inside + name, value)
    seed = getattr(config, "seed", 0) if "seed" in hints else 0
    if seed < 0:
        raise InputError(f"{inside}seed: {seed} is not between 0 and 2^63 - 1")


def check_value(name: str, value: Any) -> None:
    """InputError for a value, or one within it, that no option can have."""
    if isinstance(value, dict):
        for key, item in value.items():
            check_value(name, key)
            check_value(name, item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            check_value(name, item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{name}: {value} is not a finite number")
    elif isinstance(value, float) and abs(value) > LARGEST:
        raise InputError(f"{name}: {value} is out of range; expected at most {LARGEST}, where float32 ends")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InputError(f"{name}: a number of {value.bit_length()} bits is out of range; expected less than 2^63")
    elif isinstance(value, str):
        check_text(name, value)
