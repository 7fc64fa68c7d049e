"""The dataclasses behind every command, and the run folder that they end up in.

Only the standard library and yaml are imported here, so that `clew --help` is quick.
"""

import math
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import yaml

from clew.errors import InputError
from clew.files import folder_written_whole as folder_written_whole
from clew.files import write_atomically
from clew.files import write_json as write_json
from clew.text import one_line, show

Attention = Literal["trees", "rows"]
Loss = Literal["path", "full", "weighted", "graded"]
Generator = Literal["dfs", "wilson", "dfs_percolation", "percolation"]
Size = int | tuple[int, int]


@dataclass
class MazeConfig:
    """Which mazes, and how many at once."""

    sizes: list[Size] = field(default_factory=lambda: [4])
    """grid sizes, mixed evenly: 5 for 5x5, [4, 6] for 4 rows of 6"""
    generators: list[Generator] = field(default_factory=lambda: ["dfs"])
    """how mazes are carved, mixed evenly"""
    p: float = 0.1
    """chance of each extra passage where a generator percolates"""
    branches: int = 8
    """questions asked of each maze; they share its adjacency list, which is read once"""
    per_step: int = 8
    """mazes a training step, over all processes together"""


@dataclass
class TrainConfig:
    """Train one model to solve mazes."""

    mazes: MazeConfig = field(default_factory=MazeConfig)
    loss: Loss = "path"
    """path: the answer alone; full: every token; weighted: answer 1, the rest adjacency_weight; graded: per step"""
    adjacency_weight: float = 0.1
    """weight of every token before the path, with --loss weighted"""
    detour_cost: float = 0.5
    """cost of probability on a valid step that is not on a shortest path, with --loss graded"""
    wall_cost: float = 1.0
    """cost of probability on a step that no passage allows, with --loss graded"""
    model: str | None = None
    """a Hugging Face causal LM folder to start from; otherwise a new Llama of the next three sizes"""
    layers: int = 4
    """layers of a new model"""
    width: int = 128
    """hidden size of a new model"""
    heads: int = 4
    """attention heads of a new model"""
    max_size: int | None = None
    """largest maze side that a new model's tokenizer knows; by default the largest in mazes.sizes"""
    steps: int | None = None
    """stop after so many steps; with neither steps nor minutes, 2000"""
    minutes: float | None = None
    """stop after so many minutes of training"""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: Muon on the hidden matrices, AdamW on all else (torch 2.9 or newer)"""
    muon_scale: float = 2.0
    """Muon's learning rate over AdamW's"""
    lr: float = 2e-3
    """peak learning rate (of AdamW)"""
    warmup: int = 100
    """steps of linear warm-up"""
    schedule: Literal["cosine", "constant"] = "cosine"
    """what the learning rate does after warm-up"""
    weight_decay: float = 0.01
    """AdamW's weight decay, on matrices alone"""
    clip: float = 1.0
    """largest gradient norm"""
    seed: int = 0
    """of the model's first weights and of the stream of mazes"""
    attention: Attention = "trees"
    """trees: shared prefixes are read once; rows: plain rows, exact for any causal model, slower and without sharing"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to train"""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on CUDA, fp32 elsewhere (at small widths a CPU is slower in bf16)"""
    track: str | None = None
    """also report to trackio, tensorboard or wandb (install the extra of that name)"""
    log_every: int = 10
    """steps between lines of metrics.jsonl"""
    probe_every: int = 250
    """steps between looks at held-out mazes; 0 for none before the end"""
    probe_mazes: int = 200
    """held-out mazes a look"""
    checkpoint_every: int = 500
    """steps between checkpoints; 0 for one at the end alone"""
    eval_mazes: int = 1000
    """held-out mazes in the final evaluation"""
    out: str | None = None
    """run folder; by default runs/train-DATE-TIME"""


@dataclass
class EvalConfig:
    """Measure a model on held-out mazes, or on mazes that others made."""

    model: str
    """a run folder or a Hugging Face model folder"""
    sizes: list[Size] | None = None
    """grid sizes; by default those that the run was trained on, else 4"""
    generators: list[Generator] | None = None
    """how mazes are carved; by default as in training, else dfs"""
    p: float | None = None
    """chance of each extra passage where a generator percolates; by default as in training, else 0.1"""
    mazes: int = 1000
    """held-out mazes to solve, in all"""
    seed: int = 0
    """of the stream of mazes"""
    batch: int = 256
    """mazes solved at once"""
    attention: Attention | None = None
    """trees: shared prefixes are read once; rows: plain rows, for models that need it; by default as in training"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to run"""
    out: str | None = None
    """folder for eval.json, samples.jsonl and plots; by default nothing is written"""


@dataclass
class SolveConfig:
    """Show a model solving one maze in the terminal."""

    model: str
    """a run folder or a Hugging Face model folder"""
    size: Size = 4
    """grid size of the held-out maze"""
    generator: Generator = "dfs"
    """how the maze is carved"""
    p: float = 0.1
    """chance of each extra passage where the generator percolates"""
    seed: int = 0
    """which maze"""
    attention: Attention | None = None
    """trees: shared prefixes are read once; rows: plain rows, for models that need it; by default as in training"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to run"""


@dataclass
class SplitConfig:
    """Train a shoggoth that writes thoughts and a face that writes answers, from one score."""

    mazes: MazeConfig = field(default_factory=lambda: MazeConfig(branches=4, per_step=16))
    """the mazes that are asked; branches and per_step serve the warm start alone"""
    traces: list[Literal["dfs", "bfs", "astar"]] = field(default_factory=lambda: ["dfs"])
    """search traces that the warm start imitates"""
    prompts: str | None = None
    """ask a user's own prompts instead of mazes: a JSON Lines file or datasets folder with a prompt column"""
    delimiters: tuple[str, str] = ("<think>", "</think>")
    """what opens and closes a thought, with --prompts"""
    max_thought: int | None = None
    """most tokens of a thought; by default what the world needs"""
    max_answer: int | None = None
    """most tokens of an answer; by default what the world needs"""
    policies: Literal["two", "adapters", "one"] = "two"
    """two models; one base with two LoRA adapters; or one model that plays both roles (the control)"""
    face_sees: Literal["prompt+thought", "thought"] = "prompt+thought"
    """what the face may read before it answers"""
    model: str | None = None
    """folder to start both policies from, or that of an earlier split with shoggoth/ and face/ in it"""
    layers: int = 4
    """layers of new models"""
    width: int = 128
    """hidden size of new models"""
    heads: int = 4
    """attention heads of new models"""
    rank: int = 16
    """LoRA rank, with --policies adapters"""
    warmup_steps: int = 1000
    """steps of imitation before the first round; 0 for none"""
    warmup_lr: float = 2e-3
    """peak learning rate of the imitation"""
    warmup_optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: Muon on the hidden matrices at twice that rate, AdamW on all else (torch 2.9 or newer)"""
    rounds: int = 100
    """rounds of sample, grade, credit, update"""
    questions: int = 16
    """questions a round, over all processes together"""
    thoughts: int = 8
    """thoughts a question (n)"""
    answers: int = 4
    """answers a thought (k)"""
    allocate: Literal["fixed", "auto"] = "fixed"
    """auto: plan n and k anew every few rounds, from the scores' variances, at the same cost"""
    temperature: float = 1.0
    """sampling temperature"""
    top_p: float = 1.0
    """sample from the smallest set of tokens with this much probability"""
    rule: str = "denoised"
    """basic, denoised, contrastive, advantage, or package.module:function of one's own"""
    rule_options: dict[str, Any] = field(default_factory=dict)
    """the rule's own options, such as {top: 3, keep: 0.25, answers: best, scope: question}"""
    grader: list[str] = field(default_factory=list)
    """package.module:function of graders that both policies hear; by default the world's own"""
    answer_grader: list[str] = field(default_factory=list)
    """graders that the face alone hears: what they say must not teach the shoggoth"""
    time_limit: float = 60.0
    """seconds that one call of a grader may take"""
    length_cost: float = 0.0
    """share of a positive score that the shoggoth, and it alone, loses for each token of a thought"""
    objective: Literal["nll", "clipped", "pair"] = "nll"
    """nll: weighted log-likelihood; clipped: PPO's ratio clipping; pair: logistic loss of best against worst"""
    updates: int = 1
    """updates on each round's samples"""
    clip_ratio: float = 0.2
    """with --objective clipped"""
    beta: float = 0.1
    """with --objective pair"""
    kl: float = 0.0
    """weight of the KL divergence to the policies as they were before the first round"""
    lr: float = 3e-5
    """peak learning rate of both policies, reached after a twentieth of the rounds"""
    schedule: Literal["cosine", "constant"] = "cosine"
    """what the learning rate does after that"""
    weight_decay: float = 0.0
    """AdamW's weight decay, on matrices alone"""
    clip: float = 1.0
    """largest gradient norm"""
    seed: int = 0
    """of first weights, questions and samples"""
    attention: Attention = "trees"
    """trees: shared prefixes are read once; rows: plain rows, exact for any causal model, slower and without sharing"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to train"""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on CUDA, fp32 elsewhere"""
    track: str | None = None
    """also report to trackio, tensorboard or wandb"""
    eval_every: int = 10
    """rounds between looks at held-out questions; 0 for none but the first and last"""
    eval_questions: int = 200
    """held-out questions a look, answered greedily"""
    final_questions: int = 1000
    """held-out questions in the final evaluation"""
    checkpoint_every: int = 10
    """rounds between checkpoints; 0 for one at the end alone"""
    out: str | None = None
    """run folder; by default runs/split-DATE-TIME"""


@dataclass
class PlanConfig:
    """How many thoughts a question and answers a thought estimate thoughts best, for a budget of tokens a question."""

    run: str | None = None
    """a split's run folder, whose metrics give what is not given here"""
    last: int = 10
    """how many of its last rounds to measure by"""
    thought_variance: float | None = None
    """variance of scores between the thoughts of a question"""
    answer_variance: float | None = None
    """variance of scores between the answers of a thought"""
    thought_cost: float | None = None
    """tokens that a thought costs: its own, written by the shoggoth and read by the face"""
    answer_cost: float | None = None
    """tokens that an answer costs"""
    budget: float | None = None
    """tokens a question"""


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
            _check_value(inside + name, value)
    seed = getattr(config, "seed", 0) if "seed" in hints else 0
    if seed < 0:
        raise InputError(f"{inside}seed: {seed} is not between 0 and 2^63 - 1")


def _check_value(name: str, value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _check_value(name, key)
            _check_value(name, item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_value(name, item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{name}: {value} is not a finite number")
    elif isinstance(value, float) and abs(value) > LARGEST:
        raise InputError(f"{name}: {value} is out of range; expected at most {LARGEST}, where float32 ends")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InputError(f"{name}: a number of {value.bit_length()} bits is out of range; expected less than 2^63")
    elif isinstance(value, str):
        check_text(name, value)


def check_text(name: str, value: str) -> None:
    """InputError for text that no path, and so no option, can hold: NUL, or what is no UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name}: {show(value)} is no UTF-8; expected ordinary text") from None
    if "\0" in value:
        raise InputError(f"{name}: {show(value)} holds a NUL character; expected ordinary text")


def write_config(path: Path, config: Any) -> None:
    """The config as YAML, without `out`: running it again makes a new run."""
    values = {name: value for name, value in asdict(config).items() if name != "out"}
    write_atomically(path, yaml.safe_dump(plain(values), sort_keys=False))


class _Loader(yaml.SafeLoader):
    """Plain YAML; a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add((key.tag, str(key.value)))
        return super().construct_mapping(node, deep)


YAML_BYTES, YAML_VALUES = 2**20, 10_000  # far beyond any options; what is larger is something else


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping with keys of text; InputError if it cannot be read as one."""
    check_text("config", str(path))
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a file")
    try:
        if path.stat().st_size > YAML_BYTES:
            raise InputError(f"{path}: holds {path.stat().st_size:,} bytes; options take less than {YAML_BYTES:,}")
        values = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
        holds = _count(values, {})
    except InputError:
        raise
    except RecursionError:
        raise InputError(f"{path}: cannot be read as YAML: it is nested too deeply, or holds itself") from None
    except (OSError, ValueError, OverflowError, TypeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML: {one_line(error)}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds no options (a YAML mapping was expected)")
    if holds > YAML_VALUES:
        raise InputError(f"{path}: its aliases stand for more than {YAML_VALUES:,} values, which no options need")
    return values


def _count(value: Any, known: dict[int, int]) -> int:
    """Plain values in nested ones, each as often as it is referred to. RecursionError if one holds itself."""
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) not in known:
        known[id(value)] = -1
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count(part, known) for part in parts)
    if known[id(value)] < 0:
        raise RecursionError
    return known[id(value)]


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
