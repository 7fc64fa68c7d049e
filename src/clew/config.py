"""The dataclasses behind every command, and the run folder that they end up in.

Only the standard library and yaml are imported here, so that `clew --help` is quick.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from clew.errors import InputError

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


def check_positive(config: Any, *names: str, zero: bool = False) -> None:
    """InputError unless each of the config's named numbers is positive (or at least 0)."""
    for name in names:
        value = config
        for part in name.split("."):
            value = getattr(value, part)
        if value is not None and not (value >= 0 if zero else value > 0):
            raise InputError(f"{name}: {value} is not {'at least 0' if zero else 'more than 0'}")


def write_atomically(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """Gives a folder to fill beside `path`, and puts it in `path`'s place when all of it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside, old = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.old")
    for leftover in (beside, old):
        shutil.rmtree(leftover, ignore_errors=True)
    beside.mkdir()
    try:
        yield beside
        for file in beside.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        if path.exists():
            os.replace(path, old)
        os.replace(beside, path)
    except Exception as error:  # safetensors and tokenizers have exceptions of their own for a full disk
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None
        raise
    finally:
        for leftover in (beside, old):
            shutil.rmtree(leftover, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=2) + "\n")


def write_config(path: Path, config: Any) -> None:
    """The config as YAML, without `out`: running it again makes a new run."""
    values = {name: value for name, value in asdict(config).items() if name != "out"}
    write_atomically(path, yaml.safe_dump(_plain(values), sort_keys=False))


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping; InputError if it cannot be read as one."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML: {one_line(error)}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds no options (a YAML mapping was expected)")
    return values


def one_line(error: object) -> str:
    """An error's message without line breaks, for people."""
    return " ".join(str(error).split())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
