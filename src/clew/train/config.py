"""What can be set of the two loops. Only light modules are imported here, so that help and errors are quick."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_type_hints

from clew.config import (
    MazeConfig,
    ModelConfig,
    OptimizerConfig,
    RewriterConfig,
    RunConfig,
    SamplerConfig,
    SamplingConfig,
    WorldConfig,
    check_positive,
    check_rewriter,
    check_value,
    check_values,
)
from clew.errors import InputError
from clew.text import show

Loss = Literal["path", "full", "weighted", "graded"]


@dataclass
class TrainConfig(RunConfig, WorldConfig):
    """Train one model to answer, with the loss on the answer alone."""

    loss: Loss = "path"
    """path: the answer alone; full: every token; weighted: answer 1, the rest prompt_weight; graded: per step"""
    prompt_weight: float = 0.1
    """weight of every token before the answer, with --loss weighted"""
    detour_cost: float = 0.5
    """cost of probability on a valid step that is not on a shortest path, with --loss graded"""
    wall_cost: float = 1.0
    """cost of probability on a step that no passage allows, with --loss graded"""
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    average: bool = False
    """the model is a running average of the weights: with optimizer.schedule constant a finished one at every moment"""
    per_step: int = 8
    """trees a step (of mazes: mazes, each with its branches), over all processes together"""
    steps: int | None = None
    """stop after so many steps; with neither steps nor minutes, 2000"""
    minutes: float | None = None
    """stop after so many minutes of training"""
    log_every: int = 10
    """steps between lines of metrics.jsonl"""
    validate_every: int = 250
    """steps between validations on held-out questions; 0 for none before the end"""
    checkpoint_every: int = 500
    """steps between checkpoints; 0 for one at the end alone"""
    snapshots: float | None = None
    """keep the model of step 1 and whenever steps have grown by this factor (2, say), in snapshots/step-NNNNNN/model"""


@dataclass
class WarmStartConfig:
    """Imitation of the world's demonstrations, before the first round."""

    steps: int = 1000
    """steps of imitation; 0 for none"""
    per_step: int = 16
    """trees a step, over all processes together"""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    validate_every: int = 0
    """steps between validations on held-out questions, of one policy for both roles; 0 for none before the rounds"""


@dataclass
class ObjectiveConfig:
    """What an update of a round minimises."""

    name: Literal["nll", "clipped", "pair"] = "nll"
    """nll: weighted log-likelihood; clipped: PPO's ratio clipping; pair: logistic loss of best against worst"""
    updates: int = 1
    """updates on each round's samples"""
    clip_ratio: float = 0.2
    """how far a ratio of probabilities counts, with clipped"""
    beta: float = 0.1
    """how sharply pair tells best from worst"""
    kl: float = 0.0
    """weight of the KL divergence to the policies as they were before the first round"""
    importance_cap: float | None = None
    """with nll: weigh each token by its probability now over what the sampler reported, at most this much (2, say)"""


@dataclass
class GraderConfig:
    """A grader as an entry of `SplitConfig.grader` means it; a text alone is its function."""

    function: str = ""
    """package.module:function, or world for the world's own"""
    weight: float = 1.0
    """what its scores are multiplied by; negative for a penalty"""
    route: Literal["both", "answer"] = "both"
    """answer: the face alone hears it, and what it says does not teach the shoggoth"""
    credit: Literal["together", "each"] = "together"
    """each: the rule runs on its scores alone, and the weights are added up"""
    on_error: Literal["raise", "none"] = "raise"
    """none: a sample that it fails at goes without its score"""


@dataclass
class SplitConfig(RunConfig, WorldConfig):
    """Train a shoggoth that writes thoughts and a face that writes answers, from one score."""

    mazes: MazeConfig = field(default_factory=lambda: MazeConfig(branches=4))
    max_thought: int | None = None
    """most tokens of a thought; by default what the world needs"""
    max_answer: int | None = None
    """most tokens of an answer; by default what the world needs"""
    policies: Literal["two", "adapters", "one", "adapter"] = "two"
    """two models; one base with two LoRA adapters; one model, or one adapter, that plays both roles (the controls)"""
    rank: int = 16
    """LoRA rank, with --policies adapters or adapter"""
    face_sees: Literal["prompt+thought", "thought"] = "prompt+thought"
    """what the face may read before it answers"""
    paraphraser: str | None = None
    """what rewrites thoughts: copy (nothing: the control), shuffle (the world), model:FOLDER, or package.module:name"""
    paraphrase: Literal["whole", "line"] | None = None
    """whole (default): before the face reads it; line: line by line, the shoggoth going on from what each became"""
    paraphrase_at: Literal["both", "training", "evaluation"] = "both"
    """when thoughts are rewritten"""
    model: ModelConfig = field(default_factory=ModelConfig)
    warm_start: WarmStartConfig = field(default_factory=WarmStartConfig)
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
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    rewriter: RewriterConfig = field(default_factory=RewriterConfig)
    rule: str = "denoised"
    """basic, denoised, contrastive, advantage, group, or package.module:function of one's own"""
    rule_options: dict[str, Any] = field(default_factory=dict)
    """the rule's own options, such as {top: 3, keep: 0.25, answers: best, scope: question}"""
    grader: list[str | dict[str, Any]] = field(default_factory=list)
    """package.module:function or {function, weight, route, credit, on_error}; world, the default, is the world's own"""
    monitor: list[str] = field(default_factory=list)
    """package.module:function that reads thoughts, as written, and answers for the log alone, in its own process"""
    time_limit: float = 60.0
    """seconds that one call of a grader, a monitor or a paraphraser may take"""
    length_cost: float = 0.0
    """share of a positive score that the shoggoth, and it alone, loses for each token of a thought"""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=3e-5, weight_decay=0.0))
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    validate_every: int = 10
    """rounds between validations on held-out questions; 0 for none but the first and last"""
    checkpoint_every: int = 10
    """rounds between checkpoints; 0 for one at the end alone"""


COMMANDS: dict[str, type] = {"train": TrainConfig, "split": SplitConfig}

# What is learned, from what and by what stays as it was when the run began. How long, how fast, where, and how often
# it is looked at may change: from the resumed step on the new value holds, as if the run had been at that step with it.
_BOTH = """optimizer.lr optimizer.warmup optimizer.schedule optimizer.weight_decay optimizer.clip
    optimizer.tokens_at_once device precision model.attention model.gradient_checkpointing track validate_every
    validation_questions final_questions checkpoint_every out"""
_SAMPLER = "sampler.name sampler.url sampler.timeout sampler.cache sampler.window"
MAY_CHANGE: dict[str, Sequence[str]] = {
    "train": f"steps minutes log_every snapshots {_BOTH}".split(),
    "split": f"rounds time_limit monitor warm_start.validate_every {_BOTH} {_SAMPLER}".split(),
}
LIMIT = {"train": "steps", "split": "rounds"}

# Options of earlier versions that have another name now, not only another place; behind a colon, how it is written.
RENAMED = {
    "mazes.per_step": "per_step",
    "adjacency_weight": "prompt_weight",
    "probe_every": "validate_every",
    "probe_mazes": "validation_questions",
    "eval_mazes": "final_questions",
    "eval_every": "validate_every",
    "eval_questions": "validation_questions",
    "warmup_steps": "warm_start.steps",
    "warmup_lr": "warm_start.optimizer.lr",
    "warmup_optimizer": "warm_start.optimizer.name",
    "answer_grader": "grader: [world, {function: package.module:function, route: answer}]",
}


def grader_entries(given: Sequence[Any]) -> list[GraderConfig]:
    """The graders that a list of texts and mappings names. InputError for an entry that is neither, one with a key or
    value that no grader has, and one that names a function again."""
    entries = [_grader_entry(one) for one in given]
    named = [entry.function for entry in entries]
    for function in named:
        if named.count(function) > 1:
            raise InputError(f"grader: {show(function)} is named more than once; expected each grader in one place")
    return entries


def _grader_entry(given: Any) -> GraderConfig:
    values: Any = {"function": given} if isinstance(given, str) else given
    hints = get_type_hints(GraderConfig)
    if not isinstance(values, dict) or not values.get("function") or not isinstance(values["function"], str):
        form = "expected package.module:function, or {function: package.module:function, weight: 0.5}"
        raise InputError(f"grader: {show(given)} names no function; {form}")
    inside = f"grader: {show(values['function'])}"
    for name, value in values.items():
        if name not in hints:
            raise InputError(f"{inside}: {show(name)} is no option of a grader; expected {', '.join(hints)}")
        choices = get_args(hints[name])
        if choices and value not in choices:
            raise InputError(f"{inside}: {name}: {show(value)} is not one of {', '.join(choices)}")
        if name == "weight" and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise InputError(f"{inside}: weight: {show(value)} is no number")
        check_value(f"{inside}: {name}", value)
    return GraderConfig(**values)


def check_model(model: ModelConfig) -> None:
    """InputError for a size that no model has, or layers to add where there is no model to add them to."""
    for name in ("layers", "width", "heads"):
        if (size := getattr(model, name)) < 1:
            raise InputError(f"model.{name}: {size} is not more than 0")
    if not 1 < model.rope_base < math.inf:
        raise InputError(f"model.rope_base: {model.rope_base:g} is not more than 1 and finite")
    if model.add_layers < 0:
        raise InputError(f"model.add_layers: {model.add_layers} is not at least 0")
    if model.add_layers and not model.folder:
        raise InputError("model.add_layers: is for the model of a folder (--model); a new one has model.layers")


def check_optimizer(config: Any, inside: str = "optimizer") -> None:
    """InputError for an optimizer's option that cannot be used."""
    names = ("muon_scale", "lr", "clip", "tokens_at_once")
    check_positive(config, *(f"{inside}.{name}" for name in names))
    check_positive(config, f"{inside}.warmup", f"{inside}.weight_decay", zero=True)


def check_train(config: TrainConfig) -> None:
    """InputError for an option of `clew train` that cannot be used, as far as can be seen from it alone."""
    check_values(config)
    counts = "mazes.branches per_step steps minutes log_every validation_questions final_questions"
    check_positive(config, *counts.split())
    check_model(config.model)
    check_positive(config, "prompt_weight", "detour_cost", "wall_cost", "validate_every", "checkpoint_every", zero=True)
    if config.snapshots is not None and not config.snapshots > 1:
        raise InputError(f"snapshots: {config.snapshots} is not more than 1; 2 keeps steps 1, 2, 4, 8, ...")
    check_optimizer(config)


def _check_paraphrase(config: SplitConfig) -> None:
    for name, default in (("paraphrase", None), ("paraphrase_at", "both")):
        if getattr(config, name) != default and config.paraphraser is None:
            raise InputError(f"{name}: nothing rewrites thoughts; name what does: --paraphraser copy, say")
    check_rewriter(config.rewriter)


def check_split(config: SplitConfig) -> None:
    """InputError for an option of `clew split` that cannot be used, as far as can be seen from it alone."""
    check_values(config)
    counts = """questions thoughts answers rank validation_questions final_questions time_limit max_thought max_answer
        mazes.branches warm_start.per_step sampling.top_p sampling.temperature
        objective.updates objective.beta objective.clip_ratio objective.importance_cap sampler.timeout sampler.cache
        sampler.window"""
    check_positive(config, *counts.split())
    at_least_0 = """rounds warm_start.steps warm_start.validate_every objective.kl length_cost validate_every
        checkpoint_every sampling.top_k"""
    check_positive(config, *at_least_0.split(), zero=True)
    _check_paraphrase(config)
    check_model(config.model)
    check_optimizer(config)
    check_optimizer(config, "warm_start.optimizer")
    if config.warm_start.validate_every and config.policies not in ("one", "adapter"):
        alone = "two that learn one after the other have nothing to show before the rounds"
        raise InputError(f"warm_start.validate_every: is for policies one or adapter; {alone}")
    grader_entries(config.grader)
    for name in config.monitor:
        if config.monitor.count(name) > 1:
            raise InputError(f"monitor: {show(name)} is named more than once; expected each monitor once")
    if config.sampling.top_p > 1:
        raise InputError(f"sampling.top_p: {config.sampling.top_p} is more than 1")
    if config.objective.importance_cap and config.objective.name != "nll":
        raise InputError(f"objective.importance_cap: is for nll; {config.objective.name} compares probabilities itself")
    if config.sampler.url and config.sampler.name != "vllm":
        raise InputError(f"sampler.url: names a vLLM server, and the sampler is {config.sampler.name}")
    if config.thoughts * config.answers < 2:
        raise InputError("thoughts, answers: one sample a question has nothing to be compared with")
