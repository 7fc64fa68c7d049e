"""Loop 1: train one policy on given spans, for mazes the path alone."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from clew import evaluate as ev
from clew.checks import check_training
from clew.config import (
    LARGEST,
    SplitConfig,
    TrainConfig,
    check_positive,
    check_values,
    one_line,
    sizes_of,
    write_config,
)
from clew.errors import InputError
from clew.files import write_atomically, write_json
from clew.learner import Learner, LossNotFinite, Objective, end_training, learning_rate
from clew.losses import graded_nll, weighted_nll
from clew.mazes.questions import Forest, MazeStream
from clew.mazes.vocab import PADDING, maze_tokenizer, token_map
from clew.policy import Policy, pick_device, write_card
from clew.runs import (
    append_metrics,
    check_options,
    keep_metrics,
    latest_checkpoint,
    new_checkpoint,
    number_of,
    read_state,
    resumed,
    run_folder,
)
from clew.tree import TreeBatch

TRAIN_STREAM, PROBE_STREAM, EVAL_STREAM = 0, 1, 2
DEFAULT_STEPS = 2000
TELL_EVERY = 20  # seconds

Report = Callable[[dict[str, Any]], None]
"""Is told of each logged step: step, seconds, loss, and what else there is."""


def train(config: TrainConfig, resume: bool = False, report: Report = lambda values: None) -> dict[str, Any]:
    """Trains as `config` says in its run folder `config.out`, and returns the final evaluation.

    resume: go on from the folder's last whole checkpoint; on CPU the weights end bit for bit as if it had never
    stopped. Options that may change (`runs.MAY_CHANGE`) hold from there on.
    InputError for a config that cannot be used, a folder that is in use or holds another run, or one that has
    checkpoints and none is whole; LossNotFinite if the loss ceases to be a number, with the last checkpoint kept.
    """
    if config.out is None:
        raise InputError("out: a run needs a folder")
    out = Path(config.out)
    if resume:
        check_options(out, config)
    stream = checked_stream(config)
    accelerator = accelerator_for(config, out)
    if config.mazes.per_step < accelerator.num_processes:
        raise InputError(
            f"mazes.per_step: {config.mazes.per_step} is less than the {accelerator.num_processes} processes"
        )
    torch.manual_seed(config.seed)  # of rows for new tokens, and of a model's dropout
    policy = _first_policy(config, accelerator.device)
    with run_folder(out, resume, accelerator.is_main_process):
        learner = Learner(policy, config.lr, config.weight_decay, config.clip, accelerator=accelerator,
                          muon=config.muon_scale if config.optimizer == "muon" else 0.0)  # fmt: skip
        main = accelerator.is_main_process
        state = resumed(out, partial(_load, learner), accelerator.wait_for_everyone, main) if resume else None
        if accelerator.is_main_process:
            write_config(out / "config.yaml", config)
            keep_metrics(out / "metrics.jsonl", state["step"] if state else -1)
        state = state or {"step": 0, "seconds": 0.0}
        if config.track:
            accelerator.init_trackers(out.name, config=_flat(asdict(config)))
        try:
            _loop(config, out, stream, learner, state, report)
            result = finish(config, out, policy, report) if accelerator.is_main_process else {}
            accelerator.wait_for_everyone()
        finally:
            end_training(accelerator, learner)
        return result


def checked_stream(config: TrainConfig) -> MazeStream:
    """The training stream that a config means; InputError for any of its fields that cannot be used, for mazes that
    there are none of, and for a step that would not fit into memory."""
    check_values(config)
    check_positive(config, "mazes.per_step", "steps", "minutes", "lr", "clip", "log_every", "probe_mazes",
                   "eval_mazes", "layers", "width", "heads", "muon_scale")  # fmt: skip
    check_positive(config, "warmup", "weight_decay", "adjacency_weight", "detour_cost", "wall_cost", "probe_every",
                   "checkpoint_every", zero=True)  # fmt: skip
    mazes = config.mazes
    stream = MazeStream(sizes_of(mazes.sizes), tuple(mazes.generators), mazes.p, mazes.branches, held_out=False,
                        seed=config.seed, stream=TRAIN_STREAM)  # fmt: skip
    if config.lr * config.muon_scale > LARGEST:
        raise InputError(f"lr, muon_scale: {config.lr} times {config.muon_scale} is out of range")
    check_training(config, stream)
    return stream


def maze_batch(forest: Forest, loss: str, adjacency_weight: float = 0.0, ids: np.ndarray | None = None) -> TreeBatch:
    """A forest as a TreeBatch, weighted for a loss: path, full, weighted or graded. Each tree token weighs in once.

    ids: `token_map` of a model whose tokenizer numbers the maze tokens in its own way.
    """
    if ids is not None:
        choices_TC = np.where(forest.choices_TC >= 0, ids[forest.choices_TC], -1)
        forest = forest._replace(tokens_T=ids[forest.tokens_T], choices_TC=choices_TC)
    before = {"path": 0.0, "graded": 0.0, "full": 1.0, "weighted": adjacency_weight}[loss]
    weights_T = np.where(forest.answers_T, 1.0, before)
    graded = len(forest.choices_TC) > 0
    choices = (forest.choices_TC, forest.optimal_TC) if graded else (None, None)
    return TreeBatch.from_arrays(forest.tokens_T, forest.parents_T, weights_T, PADDING, *choices)


def objective_of(config: TrainConfig) -> Objective:
    """The config's loss as one scalar of a batch."""
    if config.loss != "graded":
        return weighted_nll

    def graded(model: torch.nn.Module, batch: TreeBatch) -> torch.Tensor:
        loss_S = graded_nll(model, batch, config.detour_cost, config.wall_cost)
        return (loss_S * batch.weights_S).sum()

    return graded


def _loop(config: TrainConfig, out: Path, stream: MazeStream, learner: Learner, state: dict, report: Report) -> None:
    accelerator = learner.accelerator
    rank, world = accelerator.process_index, accelerator.num_processes
    objective = objective_of(config)
    limit = config.steps or (None if config.minutes else DEFAULT_STEPS)
    per_step = config.mazes.per_step
    ids = token_map(learner.policy.tokenizer, stream.max_size)
    step, before, start = state["step"], state["seconds"], time.monotonic()
    paths, busy = 0, 0.0
    while True:
        seconds = before + time.monotonic() - start
        progress = max(step / limit if limit else 0.0, seconds / (60 * config.minutes) if config.minutes else 0.0)
        if world > 1:  # one clock for all, or they would stop at different steps
            progress = learner.total(progress) / world
        if progress >= 1:
            break
        begun = time.monotonic()
        forest = stream.forest(np.arange(step * per_step + rank, (step + 1) * per_step, world),
                               choices=config.loss == "graded")  # fmt: skip
        batch = maze_batch(forest, config.loss, config.adjacency_weight, ids)
        batch.weights_S.div_(learner.total(batch.weights_S.sum().item()))
        rate = learning_rate(config.lr, step, config.warmup, progress, config.schedule)
        try:
            figures = learner.update(batch, objective, rate)
        except LossNotFinite as error:
            kept = latest_checkpoint(out)
            where = f"the last good checkpoint is {kept}" if kept else "there was no checkpoint yet"
            raise LossNotFinite(f"step {step}: {error}; {where}. A lower --lr is the usual cure") from None
        step += 1
        paths += per_step * stream.branches
        busy += time.monotonic() - begun
        seconds = before + time.monotonic() - start
        done = limit is not None and step >= limit
        if step % config.log_every == 0 or done:
            values = {"step": step, "seconds": round(seconds, 3), **figures, "lr": rate,
                      "paths_per_second": round(paths / busy, 1)}  # fmt: skip
            if config.probe_every and step % config.probe_every < config.log_every and not done:
                values |= probe(config, learner.policy)
            paths, busy = 0, 0.0
            if accelerator.is_main_process:
                append_metrics(out / "metrics.jsonl", values)
                report(values | {"progress": max(progress, step / limit if limit else 0.0)})
            accelerator.log(values, step=step)
        if config.checkpoint_every and step % config.checkpoint_every == 0:
            _checkpoint(out, learner, {"step": step, "seconds": seconds})
    if not (last := latest_checkpoint(out)) or number_of(last) != step:
        _checkpoint(out, learner, {"step": step, "seconds": before + time.monotonic() - start})


def probe(config: TrainConfig, policy: Policy) -> dict[str, float]:
    """A quick look at held-out mazes during training."""
    mazes = config.mazes
    if not ev.held_out_streams(sizes_of(mazes.sizes), mazes.generators, mazes.p, 0, PROBE_STREAM)[0]:
        return {}
    items = ev.balanced_items(policy, sizes_of(mazes.sizes), mazes.generators, mazes.p, config.probe_mazes, 0,
                              PROBE_STREAM)  # fmt: skip
    figures, _ = ev.evaluate(policy, items, keep=0)
    return {f"held_out_{name}": figures[name]["value"] for name in ("exact", "optimal", "starts_at_once")}


def finish(config: TrainConfig, out: Path, policy: Policy, report: Report = lambda values: None) -> dict[str, Any]:
    """The end of a run: model, final evaluation, samples and pictures into its folder. Returns the evaluation."""
    from clew import plots

    policy.save(out / "model")
    kinds = (sizes_of(config.mazes.sizes), config.mazes.generators, config.mazes.p)
    streams, missing = ev.held_out_streams(*kinds, 0, EVAL_STREAM)
    not_evaluated = {"not_evaluated": missing} if missing else {}
    if streams:
        items = ev.balanced_items(policy, *kinds, config.eval_mazes, 0, EVAL_STREAM)
        figures, kept = ev.evaluate(policy, _told(items, config.eval_mazes, report))
        result = write_evaluation(out, figures | not_evaluated, kept)
    else:
        result = {"mazes": 0, **not_evaluated, **ev.provenance()}
        write_json(out / "eval.json", result)
    what = f"A maze solver: a {type(policy.model).__name__}, trained on the loss called {config.loss}."
    write_card(out / "model", what, {name: result[name] for name in ev.RATES if name in result}, result)
    plots.training_curves(out / "metrics.jsonl", out / "plots" / "training.png")
    return result


def _told(items: Iterable[ev.Item], count: int, report: Report) -> Iterator[ev.Item]:
    """The items of a final evaluation; one that takes long is told of now and then."""
    told = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - told > TELL_EVERY:
            told = time.monotonic()
            report({"phase": "final evaluation", "mazes": number, "progress": min(1.0, number / count)})
        yield item


def write_evaluation(out: Path, figures: dict[str, Any], kept: list[ev.Attempt]) -> dict[str, Any]:
    """eval.json, samples.jsonl and the pictures of an evaluation."""
    from clew import plots

    result = {**figures, "held_out": "mazes whose connectivity hash is 0 modulo 10; no training ever uses them",
              **ev.provenance()}  # fmt: skip
    write_json(out / "eval.json", result)
    write_atomically(out / "samples.jsonl", "".join(json.dumps(ev.sample_record(one)) + "\n" for one in kept))
    plots.maze_sheet(kept, out / "plots" / "mazes.png")
    plots.accuracy(result, out / "plots" / "accuracy.png")
    return result


def _first_policy(config: TrainConfig, device: torch.device) -> Policy:
    side = config.max_size or max(max(size) for size in sizes_of(config.mazes.sizes))
    if config.model:
        policy = Policy.load(config.model)
        policy.teach(maze_tokenizer(side).convert_ids_to_tokens(list(range(len(maze_tokenizer(side))))))
    else:
        policy = Policy.build(maze_tokenizer(side), config.layers, config.width, config.heads, config.seed)
    policy.attention = config.attention
    policy.check()
    policy.model.to(device)  # type: ignore[arg-type]
    return policy


def accelerator_for(config: TrainConfig | SplitConfig, out: Path) -> Accelerator:
    device = pick_device(config.device)
    bf16 = config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")
    try:
        return Accelerator(cpu=device.type == "cpu", mixed_precision="bf16" if bf16 else "no",
                           log_with=config.track, project_dir=str(out))  # fmt: skip
    except (ValueError, ImportError) as error:
        raise InputError(f"track: {config.track!r} cannot be used: {one_line(error)}") from None


def _load(learner: Learner, checkpoint: Path) -> dict[str, Any]:
    state = read_state(checkpoint)
    learner.load(checkpoint)
    return state


def _checkpoint(out: Path, learner: Learner, state: dict[str, Any]) -> None:
    if learner.accelerator.is_main_process:
        with new_checkpoint(out, state["step"]) as part:
            learner.save(part, state)
    learner.accelerator.wait_for_everyone()


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options as a flat dictionary of plain values, which is what trackers take."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            out |= _flat(value, f"{prefix}{name}.")
        else:
            out[prefix + name] = value if isinstance(value, (int, float, str, bool)) else str(value)
    return out
