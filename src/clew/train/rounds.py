"""Rounds of sample, grade, credit, update, for a shoggoth that writes thoughts and a face that writes answers.

A round in order: `rollout.stages` writes thoughts and answers, `crediting` grades them and turns scores into weights,
`rollout.trees` puts each policy's own completions back into the contexts that it read, and its learner takes a step.
"""

import json
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from clew import losses
from clew.errors import InputError
from clew.files import folder_written_whole
from clew.graders import Grader
from clew.learner import end_training, learning_rate
from clew.monitors import Monitor
from clew.policy import reference_nll
from clew.rollout.paraphrase import Paraphrase
from clew.rollout.records import records_of
from clew.rollout.trees import training_batch
from clew.rollout.types import Completion, Rollout
from clew.runs.cards import write_card
from clew.runs.checkpoints import new_checkpoint, resumed
from clew.runs.evaluations import write_evaluation
from clew.runs.folder import run_folder
from clew.runs.metrics import append_metrics, keep_metrics, metrics_file
from clew.runs.options import check_options, write_config
from clew.runs.provenance import provenance
from clew.runs.rollouts import keep_rollouts, last_round, write_rollouts
from clew.runs.trackers import log_samples
from clew.sharding import whole
from clew.train import checks, crediting
from clew.train.config import COMMANDS, LIMIT, MAY_CHANGE, RENAMED, SplitConfig, check_split
from clew.train.crediting import Rule, Weights
from clew.train.evaluate import as_metrics, evaluate, held_out
from clew.train.plan import Components, best_allocation
from clew.train.supervised import Report
from clew.train.team import (
    Member,
    Team,
    accelerator_for,
    adapted,
    asks_reference,
    first_policies,
    paraphrase_for,
    sampler_maker,
    team_of,
    warm_names,
    warm_policies,
)
from clew.train.warm import warm_start
from clew.train.watching import monitors_of, watched
from clew.tree import Role, TreeBatch
from clew.world import World

PLAN_EVERY = 5
State = dict[str, Any]


@dataclass
class Setting:
    """All that a round needs at hand."""

    config: SplitConfig
    world: World
    graders: list[Grader]
    rule: Rule
    team: Team
    out: Path
    accelerator: Accelerator
    report: Report = field(default=lambda values: None)
    monitors: Sequence[Monitor] = ()
    bare: bool = False

    @property
    def main(self) -> bool:
        return self.accelerator.is_main_process


def split(
    config: SplitConfig, resume: bool = False, report: Report = lambda values: None, bare: bool = False
) -> dict[str, Any]:
    """Runs `config` in its folder `config.out`, and returns the final evaluation beside that of the warm start.

    In several processes each samples and grades its own questions; the first one writes, and the others return {}.

    resume: go on from the folder's last whole checkpoint; options that may change (`config.MAY_CHANGE`) hold from there
    on. bare: for studies, which measure for themselves what a run leaves: policies, metrics and checkpoints are all,
    with no evaluation before and after, no rollouts, cards and pictures; returns {}.
    InputError for a config that cannot be used, or a folder that has checkpoints and none is whole; GraderError for a
    grader that fails, with all finished rounds kept.
    """
    if config.out is None:
        raise InputError("out: a run needs a folder")
    out = Path(config.out)
    if resume:
        check_options(out, config, MAY_CHANGE["split"], LIMIT["split"], COMMANDS, RENAMED)
    check_split(config)
    accelerator = accelerator_for(config, out)
    main = accelerator.is_main_process
    report = report if main else lambda values: None
    counts = {"questions": config.questions, "warm_start.per_step": config.warm_start.per_step}
    checks.check_processes(counts, accelerator.num_processes)
    torch.manual_seed(config.seed)
    warm = (out / "warm").is_dir()
    fits = partial(checks.check_splitting, config)
    policies, world = warm_policies(config, out / "warm") if warm else first_policies(config, warm_names(config), fits)
    if config.sampler.url:
        policies = adapted(config, policies)  # what the server is asked for before any work
    sampler_of = sampler_maker(config, policies, accelerator, out)
    paraphrase = paraphrase_for(config, world, accelerator.device)
    rule, graders = crediting.rule_of(config), crediting.graders_of(config.grader, world, config.time_limit)
    _tell(config, world, report, paraphrase)
    if not any(grader.route == "both" for grader in graders):
        report({"note": "grader: none is routed to both, so that the shoggoth learns nothing in the rounds"})
    with monitors_of(config.monitor, config.time_limit) as monitors, run_folder(out, resume, main):
        if main:
            write_config(out / "config.yaml", config)
        if not warm:
            policies = warm_start(config, world, policies, accelerator, out, resume, report, paraphrase)
        team = team_of(config, policies, accelerator, sampler_of)
        team.paraphrase = paraphrase
        torch.manual_seed(config.seed)  # a model's dropout: the same dice whether or not the warm start was just run
        state = resumed(out, team.load, accelerator.wait_for_everyone, main) if resume else None
        if config.track:
            accelerator.init_trackers(out.name)
        setting = Setting(config, world, graders, rule, team, out, accelerator, report, monitors, bare)
        try:
            result = _run(setting, state)
            accelerator.wait_for_everyone()
        finally:
            team.close()
            end_training(accelerator, *(member.learner for member in team.members.values()))
        return result if main else {}


def _tell(config: SplitConfig, world: World, report: Report, paraphrase: Paraphrase | None) -> None:
    counts = {
        "validation_questions": config.validation_questions,
        "final_questions": config.final_questions,
        "questions, thoughts, answers": config.questions * config.thoughts * config.answers,
    }
    checks.tell(world, counts, config.model, report)
    if config.warm_start.steps and not world.demonstrations(range(1)):
        report({"note": "warm_start: this world has no demonstrations; rounds begin with the model as it is"})
    at_training = config.paraphrase_at != "evaluation"
    if paraphrase and paraphrase.takes_long and at_training and config.warm_start.steps:
        report({"note": "paraphraser: a model is slow, so the warm start imitates demonstrations that it has not seen"})


def _run(setting: Setting, state: State | None) -> dict[str, Any]:
    """All rounds that are left, and the final evaluation."""
    config = setting.config
    if setting.main:
        keep_metrics(setting.out / "metrics.jsonl", state["step"] if state else -1)
        keep_rollouts(setting.out, state["step"] if state else 0)
    evaluated = None
    if state is None:
        evaluated = None if setting.bare else _evaluated(setting, config.final_questions, 0)
        before = evaluated[0] if evaluated else {}
        state = {"step": 0, "seconds": 0.0, "shape": [config.thoughts, config.answers], "recent": [], "before": before}
        _log(setting, {"step": 0, "seconds": 0.0, **as_metrics(before)}, 0.0)
    start, earlier = time.monotonic(), state["seconds"]
    while state["step"] < config.rounds:
        figures = play_round(setting, state)
        state["step"] += 1
        state["seconds"] = earlier + time.monotonic() - start
        done = state["step"] == config.rounds
        looks = bool(config.validate_every) and state["step"] % config.validate_every == 0
        if looks and not done:
            figures |= as_metrics(_evaluated(setting, config.validation_questions, state["step"], "validation")[0])
        line = {"step": state["step"], "seconds": round(state["seconds"], 3), **figures}
        _log(setting, line, state["step"] / config.rounds)
        if config.track and setting.main and (looks or done):
            log_samples(setting.accelerator.trackers, last_round(setting.out), state["step"])
        if done or (config.checkpoint_every and state["step"] % config.checkpoint_every == 0):
            _checkpoint(setting, state)
    if (config.rounds or not evaluated) and not setting.bare:  # else what was found before is what there is
        evaluated = _evaluated(setting, config.final_questions, state["step"])
    return _finish(setting, state, evaluated)


def play_round(setting: Setting, state: State) -> dict[str, Any]:
    """Sample, grade, credit, update: one round; returns its figures."""
    config, world, accelerator = setting.config, setting.world, setting.accelerator
    first = state["step"] * config.questions
    numbers = range(first + accelerator.process_index, first + config.questions, accelerator.num_processes)
    # Distinct streams of dice for each question of each round, the same at every resume.
    seeds = [int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0]) for number in numbers]
    questions, shape = world.questions(numbers), tuple(state["shape"])
    with setting.team.whole():
        rollouts = setting.team.reasoner(config).rollouts(world, questions, shape, config.sampling, seeds)
    scores = crediting.grade_rollouts(setting.graders, rollouts, crediting.trainer_state(state["step"], config.rounds))
    if np.isnan(scores.face_B).all():
        setting.report({"note": f"grader: none had a score for any answer of round {state['step'] + 1}"})
    weights = crediting.credited(config, setting.rule, rollouts, scores, partial(_gathered, accelerator))
    figures: dict[str, Any] = crediting.figures_of(world, rollouts, weights)
    warmup = config.rounds // 20 if config.optimizer.warmup is None else config.optimizer.warmup
    progress = state["step"] / config.rounds
    rate = learning_rate(config.optimizer.lr, state["step"], warmup, progress, config.optimizer.schedule)
    for name, member in setting.team.members.items():
        batch = training_batch(weighted(rollouts, weights, member.roles), member.policy.pad_token_id)
        learnt = update(config, member, batch, rate)
        figures |= {f"{name}_{key}": value for key, value in learnt.items()}
    seen_QNK, said = watched(setting.monitors, rollouts, setting.report)
    figures |= said
    if not setting.bare:
        _keep_rollouts(setting, state["step"] + 1, rollouts, numbers, weights, seen_QNK)
    figures = _joined(accelerator, figures)
    if config.allocate == "auto":
        _plan(config, state, figures)
    return figures


def weighted(
    rollouts: Sequence[Rollout], weights: Weights, roles: Sequence[Role]
) -> Iterable[tuple[Completion, float]]:
    """The completions of these roles with their shares of the round's credit, thoughts before their answers. Each line
    of a thought has the weight of the thought: it is what the shoggoth wrote, whatever was read in its place."""
    for q, rollout in enumerate(rollouts):
        for i, (thought, answers) in enumerate(zip(rollout.thoughts, rollout.answers, strict=True)):
            if "thought" in roles:
                for line in thought.lines:
                    yield line.written, float(weights.thought_QN[q, i]) / weights.questions
            if "answer" in roles:
                for answer, weight in zip(answers, weights.answer_QNK[q, i], strict=True):
                    yield answer, float(weight) / weights.questions


def update(config: SplitConfig, member: Member, batch: TreeBatch | None, lr: float) -> dict[str, float]:
    """All updates of one policy on a round's batch; returns its figures."""
    learner, wanted = member.learner, config.objective
    if not learner.total(float(batch is not None)):
        return {"loss": 0.0, "tokens_read": 0.0}
    member.policy.activate()
    objective = losses.OBJECTIVES[wanted.name]
    numbers = (wanted.clip_ratio, wanted.beta, wanted.kl)
    processes = learner.accelerator.num_processes
    options = losses.ObjectiveOptions(
        *numbers, importance_cap=wanted.importance_cap, questions=config.questions, processes=processes
    )
    if asks_reference(wanted):
        with whole(member.policy.model):
            if batch is not None:
                known_S = reference_nll(member.policy, member.frozen, batch, learner.tokens_at_once)
                batch = replace(batch, reference_nll_S=known_S)
    figures: dict[str, float] = {}
    gap: dict[str, float] = {}  # of the first update, before which the policy is the one that sampled
    for _ in range(wanted.updates):
        notes: dict[str, float] = {}
        loss = partial(losses.evaluate_objective, objective, options=options, figures=notes)
        figures = learner.update([] if batch is None else batch, loss, lr, whole_trees=objective.whole_trees) | notes
        gap = gap or {name: value for name, value in notes.items() if name == "sampler_gap"}
    if batch is None:
        return figures | {"tokens_read": 0.0}
    figures["tokens_read"] = float(batch.tokens_BT.numel() * wanted.updates)
    return figures | gap | {"effective_tokens": crediting.effective_samples(batch.weights_S.double().cpu().numpy())}


def _gathered(accelerator: Accelerator, values_Q: np.ndarray) -> tuple[np.ndarray, slice]:
    """crediting.Gather over all processes."""
    if accelerator.num_processes == 1:
        return crediting.alone(values_Q)
    parts = gather_object([values_Q])
    first = sum(map(len, parts[: accelerator.process_index]))
    return np.concatenate(parts), slice(first, first + len(values_Q))


def _joined(accelerator: Accelerator, figures: dict[str, Any]) -> dict[str, Any]:
    """A round's figures over all processes: counts added up, all else averaged."""
    if accelerator.num_processes == 1:
        return figures
    each: dict[str, list[float]] = {}
    for one in gather_object([figures]):
        for name, value in one.items():
            each.setdefault(name, []).append(value)
    counted = re.compile("(shoggoth|face)_(sampled|prompted|tokens_read)|(grader|monitor)_errors_.*", re.DOTALL)
    return {name: sum(all_) / (1 if counted.fullmatch(name) else len(all_)) for name, all_ in each.items()}


def _keep_rollouts(
    setting: Setting,
    step: int,
    rollouts: list[Rollout],
    numbers: Sequence[int],
    weights: Weights,
    seen_QNK: dict[str, np.ndarray],
) -> None:
    """Writes all that a round sampled, of all processes, into the run folder."""
    shape, scores = crediting.shape_of(rollouts), weights.scores
    each = {name: scores_B.reshape(shape) for name, scores_B in scores.by_grader.items()}
    face_QNK = scores.face_B.reshape(shape)
    given = weights.thought_QN, weights.answer_QNK
    records = records_of(setting.world, rollouts, numbers, *given, face_QNK, each, seen_QNK, scores.extra)
    if setting.accelerator.num_processes > 1:
        records = sorted(gather_object(records), key=lambda record: record["number"])
    if setting.main:
        write_rollouts(setting.out, step, records)


def _plan(config: SplitConfig, state: State, figures: dict[str, Any]) -> None:
    """Every few rounds: the n and k that the recent rounds' variances and token costs ask for, at equal cost."""
    variances = [figures[f"var_{part}s"] for part in ("question", "thought", "answer")]
    recent = state["recent"] = [*state["recent"], variances]
    if len(recent) < PLAN_EVERY:
        return
    thought_cost, answer_cost = figures["thought_cost"], figures["answer_tokens"]
    budget = config.thoughts * (thought_cost + config.answers * answer_cost)
    n, k = best_allocation(Components(*np.mean(recent, axis=0).tolist()), thought_cost, answer_cost, budget)
    state["shape"], state["recent"] = [max(2, n), k], []


def _evaluated(setting: Setting, questions: int, step: int, look: Any = "final") -> tuple[dict[str, Any], list[Any]]:
    """Held-out questions, one greedy thought and one greedy answer each, with 95% intervals."""
    config, world, asked = setting.config, setting.world, held_out(setting.world, questions, look)
    told: dict[str, Any] = {"state": crediting.trainer_state(step, config.rounds), "accelerator": setting.accelerator}
    with setting.team.whole():
        return evaluate(world, setting.team.reasoner(config, "evaluation"), asked, setting.graders, **told, keep=100)


def _log(setting: Setting, values: dict[str, Any], progress: float) -> None:
    if setting.main:
        append_metrics(setting.out / "metrics.jsonl", values)
        setting.report({"phase": "rounds", **values, "progress": progress})
    setting.accelerator.log(values, step=values["step"])


def _checkpoint(setting: Setting, state: State) -> None:
    with new_checkpoint(setting.out, state["step"]) if setting.main else nullcontext() as part:
        for name, member in setting.team.members.items():
            member.learner.save(part / name if part else None, {})
        if part:
            (part / "state.json").write_text(json.dumps(state))
    setting.accelerator.wait_for_everyone()


def _finish(setting: Setting, state: State, evaluated: tuple[dict[str, Any], list[Any]] | None) -> dict[str, Any]:
    """Policies, final evaluation beside the warm start's, and pictures into the run folder."""
    out, world = setting.out, setting.world
    for name, member in setting.team.members.items():
        with folder_written_whole(out / name) if setting.main else nullcontext() as part:
            member.policy.save_into(part)
    if evaluated is None or not setting.main:
        return {}
    after, samples = evaluated
    result = {"after": after, "before": state["before"], "held_out": world.held_out_rule, **provenance()}
    beside = state["before"] if setting.config.rounds else after.get("baseline")
    for name in setting.team.members:
        what = _described(setting.config, name, len(setting.team.members))
        write_card(out / name, out.resolve().name, what, after, result, beside)
    write_evaluation(out, result, [sample.record for sample in samples])
    world.pictures(after, [(sample.question, sample.answer) for sample in samples], out / "plots")
    _draw(out, setting.config.rounds, (world.headline, *world.curves))
    return result


def _described(config: SplitConfig, name: str, policies: int) -> str:
    """What a policy is, for its card."""
    who = f"The {name} of a reasoner split in two" if policies > 1 else "A policy that thinks and then answers"
    return f"{who}, {f'trained by the credit rule {config.rule}' if config.rounds else 'as its warm start left it'}."


def _draw(out: Path, rounds: int, shown: Sequence[str]) -> None:
    """The curves of a run, or of its imitation where it had no rounds, and the first tree of its last round."""
    from clew.rollout import plots as trees
    from clew.runs import plots

    curves = plots.split_curves if rounds else plots.training_curves
    curves(metrics_file(out, rounds), out / "plots" / "training.png", shown)
    if record := next(last_round(out), None):
        trees.tree_of_rollout(record, out / "plots" / "tree.png")
