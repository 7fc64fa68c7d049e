"""Imitation: one policy learns given spans. `clew train` is this loop on a world's answers; a warm start is this loop
on its demonstrations."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from clew import losses
from clew.averaging import Average
from clew.config import OptimizerConfig
from clew.errors import InputError
from clew.files import folder_written_whole
from clew.learner import Learner, LossNotFinite, end_training, learning_rate
from clew.policy import Policy
from clew.rollout.sampler import SharedPrefixSampler
from clew.rollout.window import window_of
from clew.runs.cards import write_card
from clew.runs.checkpoints import latest_checkpoint, new_checkpoint, number_of, read_state, resumed
from clew.runs.evaluations import write_evaluation
from clew.runs.folder import run_folder
from clew.runs.metrics import append_metrics, keep_metrics
from clew.runs.options import check_options, flat, write_config
from clew.runs.provenance import provenance
from clew.runs.snapshots import drop_after, is_due, new_snapshot
from clew.sharding import spreads, whole
from clew.train import checks
from clew.train.config import COMMANDS, LIMIT, MAY_CHANGE, RENAMED, TrainConfig, check_train
from clew.train.evaluate import Reasoner, as_metrics, evaluate, held_out, world_grader
from clew.train.team import accelerator_for, first_policies, learner_for
from clew.tree import TreeBatch
from clew.world import Question, World

DEFAULT_STEPS, DEFAULT_WARMUP = 2000, 100
TELL_EVERY = 20  # seconds
LOG_EVERY = 10  # steps

Report = Callable[[dict[str, Any]], None]
"""Is told of the world at first, of what a person should know (note), and of each logged step: step, seconds, loss, and
what else there is."""
State = dict[str, Any]


def imitate(
    learner: Learner,
    batch_of: Callable[[Sequence[int]], TreeBatch | None],
    loss: losses.Objective,
    options: losses.ObjectiveOptions,
    optimizer: OptimizerConfig,
    out: Path,
    *,
    per_step: int,
    steps: int | None,
    minutes: float | None = None,
    log_every: int = LOG_EVERY,
    checkpoint_every: int = 100,
    resume: bool = False,
    average: Average | None = None,
    validate: Callable[[int], dict[str, float]] = lambda step: {},
    snapshot: Callable[[int], None] = lambda step: None,
    report: Report = lambda values: None,
) -> int:
    """Learns `per_step` items a step until `steps` or `minutes` are over; metrics and checkpoints go into `out`.

    batch_of: the spans to imitate, by their numbers; item i is the same whatever the number of processes. Its weights
    are made to add to 1 over all processes. None ends the loop. validate: figures to log at a step, if it is time.
    snapshot: keeps the model of a step, if it is time. resume: from the last whole checkpoint. average: what averages
    the learner's weights after each step. Returns the steps made. LossNotFinite names the last good checkpoint.
    """
    rank, processes = learner.accelerator.process_index, learner.accelerator.num_processes
    state = _begun(learner, average, out, resume)
    step, before, start = state["step"], state["seconds"], time.monotonic()
    items, busy = 0, 0.0
    warmup = DEFAULT_WARMUP if optimizer.warmup is None else optimizer.warmup
    objective = partial(losses.evaluate_objective, loss, options=options)
    while True:
        seconds = before + time.monotonic() - start
        progress = max(step / steps if steps else 0.0, seconds / (60 * minutes) if minutes else 0.0)
        if processes > 1:  # one clock for all, or they would stop at different steps
            progress = learner.total(progress) / processes
        if progress >= 1:
            break
        begun = time.monotonic()
        batch = batch_of(range(step * per_step + rank, (step + 1) * per_step, processes))
        if batch is None:
            break
        rate = learning_rate(optimizer.lr, step, warmup, progress, optimizer.schedule)
        with _telling_where(step, out):
            figures = _update(learner, average, batch, objective, rate)
        step, items, busy = step + 1, items + per_step, busy + time.monotonic() - begun
        seconds = before + time.monotonic() - start
        done = steps is not None and step >= steps
        if step % log_every == 0 or done:
            values = {"step": step, "seconds": round(seconds, 3), **figures, "lr": rate}
            values |= {"items_per_second": round(items / busy, 1)} | ({} if done else validate(step))
            items, busy = 0, 0.0
            _log(learner.accelerator, out, values, report, max(progress, step / steps if steps else 0.0))
        snapshot(step)  # before the checkpoint: a run that resumes from that one does not come by here again
        if checkpoint_every and step % checkpoint_every == 0:
            _checkpoint(out, learner, average, {"step": step, "seconds": seconds})
    if not (last := latest_checkpoint(out)) or number_of(last) != step:
        _checkpoint(out, learner, average, {"step": step, "seconds": before + time.monotonic() - start})
    return step - state["step"]


def _begun(learner: Learner, average: Average | None, out: Path, resume: bool) -> State:
    """Where the loop begins: at a checkpoint, or at the first step; what was logged and kept after that goes."""
    accelerator = learner.accelerator
    main = accelerator.is_main_process
    state = resumed(out, partial(_load, learner, average), accelerator.wait_for_everyone, main) if resume else None
    if main:
        keep_metrics(out / "metrics.jsonl", state["step"] if state else -1)
        drop_after(out, state["step"] if state else 0)
    return state or {"step": 0, "seconds": 0.0}


def _update(
    learner: Learner, average: Average | None, batch: TreeBatch, objective: Any, rate: float
) -> dict[str, float]:
    batch.weights_S.div_(learner.total(batch.weights_S.sum().item()))
    figures = learner.update(batch, objective, rate)
    if average:
        average.update()
    return figures


def _log(accelerator: Accelerator, out: Path, values: dict[str, Any], report: Report, progress: float) -> None:
    if accelerator.is_main_process:
        append_metrics(out / "metrics.jsonl", values)
        report(values | {"progress": progress})
    accelerator.log(values, step=values["step"])


@contextmanager
def _telling_where(step: int, out: Path) -> Iterator[None]:
    """A loss that is no number is told with its step and the last good checkpoint."""
    try:
        yield
    except LossNotFinite as error:
        last = latest_checkpoint(out)
        kept = f"the last good checkpoint is {last}" if last else "there was no checkpoint yet"
        raise LossNotFinite(f"step {step}: {error}; {kept}. A lower learning rate is the usual cure") from None


def _load(learner: Learner, average: Average | None, checkpoint: Path) -> State:
    state = read_state(checkpoint)
    if average:
        average.load(checkpoint, state["step"])
    learner.load(checkpoint)
    return state


def _checkpoint(out: Path, learner: Learner, average: Average | None, state: State) -> None:
    main = learner.accelerator.is_main_process
    with new_checkpoint(out, state["step"]) if main else nullcontext() as part:
        learner.save(part, state)
        if average and part:
            average.save(part)
    learner.accelerator.wait_for_everyone()


def train(config: TrainConfig, resume: bool = False, report: Report = lambda values: None) -> dict[str, Any]:
    """Trains as `config` says in its run folder `config.out`, and returns the final evaluation.

    In several processes the first one writes, and the others return {}.

    resume: go on from the folder's last whole checkpoint; on CPU the weights end bit for bit as if it had never
    stopped. Options that may change (`config.MAY_CHANGE`) hold from there on.
    InputError for a config that cannot be used, a folder that is in use or holds another run, or one that has
    checkpoints and none is whole; LossNotFinite if the loss ceases to be a number, with the last checkpoint kept.
    """
    if config.out is None:
        raise InputError("out: a run needs a folder")
    out = Path(config.out)
    if resume:
        check_options(out, config, MAY_CHANGE["train"], LIMIT["train"], COMMANDS, RENAMED)
    check_train(config)
    accelerator = accelerator_for(config, out)
    main = accelerator.is_main_process
    checks.check_processes({"per_step": config.per_step}, accelerator.num_processes)
    if config.average and spreads(accelerator):
        raise InputError("average: is not there for models that are spread over processes (FSDP2); leave it out")
    torch.manual_seed(config.seed)  # of rows for new tokens, and of a model's dropout
    policies, world = first_policies(config, ("model",), partial(checks.check_training, config))
    policy = policies["model"]
    policy.model.to(accelerator.device)  # type: ignore[arg-type]
    _tell(config, world, report if main else lambda values: None)
    with run_folder(out, resume, main):
        average = Average(policy) if config.average else None
        learner = learner_for(policy, config.optimizer, accelerator)
        shown = average.policy if average else policy
        if main:
            write_config(out / "config.yaml", config)
        if config.track:
            accelerator.init_trackers(out.name, config=_for_trackers(config))
        objective = losses.OBJECTIVES["graded" if config.loss == "graded" else "nll"]
        costs = losses.ObjectiveOptions(detour_cost=config.detour_cost, wall_cost=config.wall_cost)
        try:
            made = imitate(
                learner,
                _answers(config, world),
                objective,
                costs,
                config.optimizer,
                out,
                per_step=config.per_step,
                steps=config.steps or (None if config.minutes else DEFAULT_STEPS),
                minutes=config.minutes,
                log_every=config.log_every,
                checkpoint_every=config.checkpoint_every,
                resume=resume,
                average=average,
                validate=partial(_validate, config, world, shown, accelerator),
                snapshot=partial(_snapshot, config.snapshots, shown, out, main),
                report=report,
            )
            _tell_made(config, made, resume, report)
            result = _finish(config, out, world, shown, accelerator, report)
        finally:
            end_training(accelerator, learner)
        return result if main else {}


def _tell_made(config: TrainConfig, made: int, resume: bool, report: Report) -> None:
    """Tells a person whose run should go on, and did not."""
    if resume and not made:
        limit = "steps" if config.steps else "minutes"
        more = f"; to go on, let --{limit} be more" if getattr(config, limit) else ""
        report({"note": f"resume: no step was left to make{more}"})


def _snapshot(factor: float | None, policy: Policy, out: Path, main: bool, step: int) -> None:
    """Keeps the model as it is, where it is time for that."""
    if factor and is_due(step, factor):
        with new_snapshot(out, step) if main else nullcontext() as part:
            policy.save_into(part / "model" if part else None)


def _answers(config: TrainConfig, world: World) -> Callable[[Sequence[int]], TreeBatch | None]:
    """What a run imitates: answers, and prompts with the weight that its loss gives them."""
    before = {"path": 0.0, "graded": 0.0, "full": 1.0, "weighted": config.prompt_weight}[config.loss]
    return partial(world.batch, prompt_weight=before, choices=config.loss == "graded")


def _tell(config: TrainConfig, world: World, report: Report) -> None:
    validations = config.validation_questions if config.validate_every else 0
    counts = {"final_questions": config.final_questions, "validation_questions": validations}
    checks.tell(world, counts, config.model, report)


def _for_trackers(config: TrainConfig) -> dict[str, Any]:
    """Options as plain values by dotted names, which is what trackers take."""
    values = flat(asdict(config), TrainConfig)
    return {name: one if isinstance(one, (int, float, str, bool)) else str(one) for name, one in values.items()}


def is_time(step: int, every: int, log_every: int = LOG_EVERY) -> bool:
    """Whether it is time for a validation, at a step that is logged; every 0: never."""
    return bool(every) and step % every < log_every


def validation(
    world: World, reasoner: Reasoner, policy: Policy, accelerator: Accelerator, questions: int
) -> dict[str, float]:
    """What a look at so many held-out questions finds, as metrics. policy: the one of which the reasoner's samplers are
    made."""
    if world.held_out_count() == 0:
        return {}
    asked = held_out(world, questions, "validation")
    with whole(policy.model):
        return as_metrics(evaluate(world, reasoner, asked, world_grader(world), accelerator=accelerator, keep=0)[0])


def _validate(
    config: TrainConfig, world: World, policy: Policy, accelerator: Accelerator, step: int
) -> dict[str, float]:
    if not is_time(step, config.validate_every, config.log_every):
        return {}
    return validation(world, _answering(policy), policy, accelerator, config.validation_questions)


def _answering(policy: Policy) -> Reasoner:
    return Reasoner(SharedPrefixSampler(policy), window=window_of(policy))


def _finish(
    config: TrainConfig, out: Path, world: World, policy: Policy, accelerator: Accelerator, report: Report
) -> dict[str, Any]:
    """The end of a run: model, final evaluation, samples and pictures into its folder. Returns the evaluation."""
    main = accelerator.is_main_process
    with folder_written_whole(out / "model") if main else nullcontext() as part:
        policy.save_into(part)
    result: dict[str, Any] = {"questions": 0}
    samples = []
    if world.held_out_count() != 0:
        asked = held_out(world, config.final_questions)
        told = _told(asked, config.final_questions, report if main else lambda values: None)
        with whole(policy.model):
            grader, reasoner = world_grader(world), _answering(policy)
            result, samples = evaluate(world, reasoner, told, grader, accelerator=accelerator, keep=100)
    result |= {"not_evaluated": world.not_evaluated()} if world.not_evaluated() else {}
    result |= {"held_out": world.held_out_rule, **provenance()}
    if main:
        from clew.runs import plots

        write_evaluation(out, result, [sample.record for sample in samples])
        if samples:
            world.pictures(result, [(sample.question, sample.answer) for sample in samples], out / "plots")
        what = f"A {type(policy.model).__name__}, trained on the loss called {config.loss}."
        write_card(out / "model", out.resolve().name, what, result, result, result.get("baseline"))
        plots.training_curves(out / "metrics.jsonl", out / "plots" / "training.png", (world.headline, *world.curves))
    accelerator.wait_for_everyone()
    return result


def _told(questions: Iterator[Question], count: int, report: Report) -> Iterator[Question]:
    """The questions of a final evaluation; one that takes long is told of now and then."""
    told = time.monotonic()
    for number, question in enumerate(questions):
        if time.monotonic() - told > TELL_EVERY:
            told = time.monotonic()
            report({"phase": "final evaluation", "questions": number, "progress": min(1.0, number / count)})
        yield question
