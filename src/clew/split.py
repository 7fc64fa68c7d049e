"""Loop 2: sample, grade, credit, update, for a shoggoth that writes thoughts and a face that writes answers."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from clew import plots
from clew import samples as sm
from clew.checks import check_splitting
from clew.config import (
    SplitConfig,
    check_positive,
    check_values,
    sizes_of,
    write_config,
)
from clew.errors import InputError
from clew.evaluate import Tally, provenance
from clew.files import folder_written_whole, write_atomically, write_json
from clew.learner import Learner, Objective, end_training, learning_rate
from clew.losses import clipped, kl_to, paired, token_nll
from clew.plan import Components, best_allocation
from clew.policy import Policy, write_card
from clew.runs import (
    append_metrics,
    check_options,
    is_count,
    keep_metrics,
    new_checkpoint,
    read_state,
    resumed,
    run_folder,
)
from clew.supervised import Report, accelerator_for
from clew.text import show
from clew.tree import SpanTree, TreeBatch
from clew.warm import FACE, SHOGGOTH, check_numbers, first_policies, policies_of, role_folder, warm_start
from clew.world import World

PLAN_EVERY = 5
BETAS = (0.9, 0.99)  # a round's gradient is noisy: its size is averaged over many rounds


def objective_for(
    config: SplitConfig, before_S: Tensor | None, reference_S: Tensor | None, notes: dict[str, float],
    processes: int = 1,
) -> Objective:  # fmt: skip
    """The config's objective as one scalar of a batch; leaves the KL divergence to the reference in `notes`."""

    def objective(model: nn.Module, batch: TreeBatch) -> Tensor:
        nll_S = token_nll(model, batch)
        weights_S = batch.weights_S.to(nll_S.dtype)
        if config.objective == "clipped" and before_S is not None:
            loss = clipped(nll_S, before_S, weights_S, config.clip_ratio)
        elif config.objective == "pair" and reference_S is not None:
            trees_S = batch.roots_S
            # Weights are shares of the round; a pair wants each of its two sides whole.
            share_S = nll_S.new_zeros(int(trees_S.max()) + 1).index_reduce(0, trees_S, weights_S.abs(), "amax")[trees_S]
            loss = paired(nll_S, reference_S, weights_S / share_S, trees_S, config.beta) / config.questions
        else:
            loss = (nll_S * weights_S).sum()
        if reference_S is not None:
            kl = kl_to(nll_S, reference_S).mean()
            notes["kl"] = kl.item()
            loss = loss + config.kl * kl / processes
        return loss

    return objective


def learn(
    config: SplitConfig, learner: Learner, reference: Policy | None, batch: TreeBatch | None, lr: float
) -> dict[str, float]:
    """All updates of one policy on a round's batch; returns its figures."""
    if not learner.total(float(batch is not None)):
        return {"loss": 0.0, "tokens_read": 0.0}
    learner.policy.activate()
    if batch is None:  # others have something to learn from, and wait for this process's gradient: 0
        idle = TreeBatch.pack([SpanTree([0, 0], "prompt")], 0)
        idled = [learner.update(idle, _nothing, lr) for _ in range(config.updates)]
        return {**idled[-1], "tokens_read": 0.0}
    batch = learner.policy.readable(batch).to(learner.accelerator.device)
    notes: dict[str, float] = {}
    with torch.no_grad():
        before_S = token_nll(learner.policy.model, batch) if config.objective == "clipped" else None
        reference_S = token_nll(reference.model, batch) if reference else None
    figures: dict[str, float] = {}
    for _ in range(config.updates):
        objective = objective_for(config, before_S, reference_S, notes, learner.accelerator.num_processes)
        figures = learner.update(batch, objective, lr)
    return {**figures, **notes, "tokens_read": float(batch.tokens_BT.numel() * config.updates),
            "effective_tokens": sm.effective_samples(batch.weights_S.double().cpu().numpy())}  # fmt: skip


def _nothing(model: nn.Module, batch: TreeBatch) -> Tensor:
    """A loss of 0 that every parameter is part of."""
    return model(input_ids=batch.tokens_BT).logits.sum() * 0.0


@dataclass
class Team:
    """Who plays which role, and who learns it. With one policy both are the same."""

    shoggoth: Learner
    face: Learner

    def members(self) -> dict[str, tuple[Learner, tuple[str, ...]]]:
        """Each learner with the roles that it plays."""
        if self.shoggoth is self.face:
            return {"shoggoth": (self.shoggoth, SHOGGOTH + FACE)}
        return {"shoggoth": (self.shoggoth, SHOGGOTH), "face": (self.face, FACE)}

    def load(self, checkpoint: Path) -> dict[str, Any]:
        """Takes up a checkpoint and returns the loop's state. InputError if it is torn, or another team's."""
        state = read_state(checkpoint)
        shape, recent = state.get("shape"), state.get("recent")
        if not (isinstance(shape, list) and len(shape) == 2 and all(is_count(n, 1) for n in shape)):
            raise InputError(f"its state.json has the shape {show(shape)}")
        try:
            whole = isinstance(recent, list) and np.isfinite(np.reshape(recent, (-1, 3)).astype(float)).all()
        except (ValueError, TypeError):
            whole = False
        if not whole:
            raise InputError(f"its state.json has the recent variances {show(recent)}")
        held = sorted(path.name for path in checkpoint.iterdir() if path.is_dir())
        if held != sorted(self.members()):
            raise InputError(f"it holds {' and '.join(held) or 'no policy'}, not {' and '.join(self.members())}")
        for name, (learner, _) in self.members().items():
            learner.load(checkpoint / name)
        return state


def split(config: SplitConfig, resume: bool = False, report: Report = lambda values: None) -> dict[str, Any]:
    """Runs `config` in its folder `config.out`, and returns the final evaluation beside that of the warm start.

    In several processes each samples and grades its own questions; the first one writes, and the others return {}.

    resume: go on from the folder's last whole checkpoint; options that may change (`runs.MAY_CHANGE`) hold from there
    on. InputError for a config that cannot be used, or a folder that has checkpoints and none is whole; GraderError for
    a grader that fails, with all finished rounds kept.
    """
    if config.out is None:
        raise InputError("out: a run needs a folder")
    out = Path(config.out)
    if resume:
        check_options(out, config)
    check(config)
    world = world_of(config)
    graders, rule = sm.graders_of(config, world), sm.rule_of(config)
    accelerator = accelerator_for(config, out)
    if min(config.questions, config.mazes.per_step) < accelerator.num_processes:
        raise InputError(f"questions, mazes.per_step: one is less than the {accelerator.num_processes} processes")
    torch.manual_seed(config.seed)
    fresh = None if (out / "warm").is_dir() else first_policies(config, world)  # before anything is written
    with run_folder(out, resume, accelerator.is_main_process):
        if accelerator.is_main_process:
            write_config(out / "config.yaml", config)
        if fresh:
            warm_start(config, world, fresh, accelerator, out, report)
        policies = policies_of(config, out / "warm", accelerator.device)
        for policy in policies:
            check_numbers(policy, world, f"resume: {out / 'warm'}")
        needed = config.kl > 0 or config.objective == "pair"
        references = policies_of(config, out / "warm", accelerator.device) if needed else None
        learners = [
            Learner(p, config.lr, config.weight_decay, config.clip, BETAS, accelerator=accelerator) for p in policies
        ]
        team = Team(learners[0], learners[-1])
        torch.manual_seed(config.seed)  # a model's dropout: the same dice whether or not the warm start was just run
        main = accelerator.is_main_process
        state = resumed(out, team.load, accelerator.wait_for_everyone, main) if resume else None
        if main:
            keep_metrics(out / "metrics.jsonl", state["step"] if state else -1)
        state = state or {"step": 0, "seconds": 0.0, "shape": [config.thoughts, config.answers], "recent": []}
        if config.track:
            accelerator.init_trackers(out.name)
        loop = _Loop(config, world, graders, rule, team, references, out, accelerator, report)
        try:
            loop.run(state)
            result = loop.finish() if accelerator.is_main_process else {}
            accelerator.wait_for_everyone()
        finally:
            end_training(accelerator, *learners)
        return result


def world_of(config: SplitConfig, tokenizer: PreTrainedTokenizerBase | None = None) -> World:
    """The world that a config asks in: its prompts, or mazes."""
    if config.prompts is None:
        from clew.mazes.world import MazeWorld

        mazes = config.mazes
        world: World = MazeWorld(sizes_of(mazes.sizes), tuple(mazes.generators), mazes.p, config.seed, config.traces,
                                 mazes.branches)  # fmt: skip
    else:
        from clew.prompts import PromptWorld, read_rows

        if tokenizer is None and config.model is None:
            raise InputError("model: prompts need a model folder to start from")
        tokenizer = tokenizer or Policy.load(role_folder(config.model or "", "shoggoth")).tokenizer
        world = PromptWorld(read_rows(config.prompts), tokenizer, config.delimiters)
    world.max_thought = config.max_thought or world.max_thought
    world.max_answer = config.max_answer or world.max_answer
    return world


def check(config: SplitConfig) -> None:
    """InputError for a config that cannot be used, as far as that can be known before work."""
    check_values(config)
    check_positive(config, "questions", "thoughts", "answers", "lr", "warmup_lr", "clip", "updates", "beta", "top_p",
                   "temperature", "rank", "eval_questions", "final_questions", "time_limit", "max_thought",
                   "max_answer", "clip_ratio", "mazes.per_step", "mazes.branches", "layers", "width",
                   "heads")  # fmt: skip
    check_positive(config, "rounds", "warmup_steps", "kl", "length_cost", "weight_decay", "eval_every",
                   "checkpoint_every", zero=True)  # fmt: skip
    if config.top_p > 1:
        raise InputError(f"top_p: {config.top_p} is more than 1")
    if config.thoughts * config.answers < 2:
        raise InputError("thoughts, answers: one sample a question has nothing to be compared with")
    check_splitting(config)


@dataclass
class _Loop:
    """What a round needs at hand."""

    config: SplitConfig
    world: World
    graders: list[Any]
    rule: sm.Rule
    team: Team
    references: list[Policy] | None
    out: Path
    accelerator: Accelerator
    report: Report
    last: tuple[sm.Samples, sm.Weights] | None = None

    def run(self, state: dict[str, Any]) -> None:
        config, start, before = self.config, time.monotonic(), state["seconds"]
        if state["step"] == 0:
            self.log({"step": 0, "seconds": 0.0, **self.look(config.eval_questions)}, 0.0)
        while state["step"] < config.rounds:
            figures = self.round(state)
            state["step"] += 1
            state["seconds"] = before + time.monotonic() - start
            done = state["step"] == config.rounds
            if config.eval_every and state["step"] % config.eval_every == 0 and not done:
                figures |= self.look(config.eval_questions)
            self.log({"step": state["step"], "seconds": round(state["seconds"], 3), **figures},
                     state["step"] / config.rounds)  # fmt: skip
            if done:
                self.write_samples()  # before the checkpoint: a run resumed there samples nothing more
            if done or (config.checkpoint_every and state["step"] % config.checkpoint_every == 0):
                self.checkpoint(state)

    def round(self, state: dict[str, Any]) -> dict[str, Any]:
        """Sample, grade, credit, update: one round; returns its figures and moves `state` on."""
        config, world = self.config, self.world
        first = state["step"] * config.questions
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        numbers = range(first + rank, first + config.questions, processes)
        # Distinct streams of dice for each question of each round, the same at every resume.
        seeds = [int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0]) for number in numbers]
        n, k = state["shape"]
        samples = sm.sample(world, self.team.shoggoth.policy, self.team.face.policy, world.ask(numbers), (n, k),
                            face_sees=config.face_sees, temperature=config.temperature, top_p=config.top_p,
                            seeds=seeds)  # fmt: skip
        weights = sm.credited(config, self.rule, samples, sm.graded(world, self.graders, samples), self.gather)
        trees = sm.trees_of(world, samples, weights)
        rate = learning_rate(config.lr, state["step"], config.rounds // 20, state["step"] / config.rounds,
                             config.schedule)  # fmt: skip
        figures: dict[str, Any] = sm.figures_of(world, samples, weights)
        for i, (name, (learner, roles)) in enumerate(self.team.members().items()):
            batch = sm.batch_for(trees, roles, config.face_sees, learner.policy.pad_token_id)
            reference = self.references[i] if self.references else None
            learnt = learn(config, learner, reference, batch, rate)
            figures |= {f"{name}_{key}": value for key, value in learnt.items()}
        self.last = (samples, weights)
        figures = self.joined(figures)
        if config.allocate == "auto":
            self.plan(state, figures)
        return figures

    def gather(self, values_Q: np.ndarray) -> tuple[np.ndarray, slice]:
        """samples.Gather over all processes."""
        if self.accelerator.num_processes == 1:
            return sm.alone(values_Q)
        parts = gather_object([values_Q])
        first = sum(map(len, parts[: self.accelerator.process_index]))
        return np.concatenate(parts), slice(first, first + len(values_Q))

    def joined(self, figures: dict[str, Any]) -> dict[str, Any]:
        """A round's figures over all processes: counts of tokens added up, all else averaged."""
        if self.accelerator.num_processes == 1:
            return figures
        each = gather_object([figures])
        return {name: sum(one[name] for one in each if name in one)
                / (1 if name.endswith(("_sampled", "_prompted", "_read")) else sum(name in one for one in each))
                for name in figures}  # fmt: skip

    def plan(self, state: dict[str, Any], figures: dict[str, Any]) -> None:
        """Every few rounds: the n and k that the recent rounds' variances and token costs ask for, at equal cost."""
        config = self.config
        recent = state["recent"] = [
            *state["recent"],
            [figures[f"var_{part}s"] for part in ("question", "thought", "answer")],
        ]
        if len(recent) < PLAN_EVERY:
            return
        thought_cost, answer_cost = figures["thought_cost"], figures["answer_tokens"]
        budget = config.thoughts * (thought_cost + config.answers * answer_cost)
        parts = Components(*np.mean(recent, axis=0).tolist())
        n, k = best_allocation(parts, thought_cost, answer_cost, budget)
        state["shape"] = [max(2, n), k]
        state["recent"] = []

    def look(self, questions: int) -> dict[str, float]:
        """Greedy answers to held-out questions, as figures."""
        report = self.evaluate(self.team.shoggoth.policy, self.team.face.policy, questions)
        return {f"held_out_{name}": value["value"] for name, value in report.items() if isinstance(value, dict)}

    def evaluate(self, shoggoth: Policy, face: Policy, questions: int) -> dict[str, Any]:
        """Held-out questions, one greedy thought and one greedy answer each, with 95% intervals."""
        world, tally = self.world, Tally()
        for first in range(0, questions, 256):
            asked = world.ask(range(first, min(questions, first + 256)), held_out=True)
            samples = sm.sample(world, shoggoth, face, asked, (1, 1),
                                face_sees=self.config.face_sees, temperature=0.0)  # fmt: skip
            scores = sm.graded(world, self.graders, samples)
            own = sm.measured(world, samples)
            for i in range(len(asked)):
                tally.add({"score": float(scores.face_B[i]), "thought_tokens": float(len(samples.thoughts[i].tokens)),
                           "answer_tokens": float(len(samples.answers[i].tokens)),
                           **{name: values[i] for name, values in own.items()}})  # fmt: skip
        return tally.report()

    def log(self, values: dict[str, Any], progress: float) -> None:
        if self.accelerator.is_main_process:
            append_metrics(self.out / "metrics.jsonl", values)
            self.report({"phase": "rounds", **values, "progress": progress})
        self.accelerator.log(values, step=values["step"])

    def checkpoint(self, state: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            self.write_checkpoint(state)
        self.accelerator.wait_for_everyone()

    def write_checkpoint(self, state: dict[str, Any]) -> None:
        with new_checkpoint(self.out, state["step"]) as part:
            for name, (learner, _) in self.team.members().items():
                learner.save(part / name, {})
            (part / "state.json").write_text(json.dumps(state))

    def write_samples(self) -> None:
        """The last round's trees, and the first of them as a picture."""
        if self.accelerator.is_main_process and self.last:
            lines = sm.sample_lines(self.world, *self.last)
            write_atomically(self.out / "samples.jsonl", "".join(lines))
            plots.tree_of_samples(json.loads(lines[0]), self.out / "plots" / "tree.png")

    def finish(self) -> dict[str, Any]:
        """Policies, final evaluation beside the warm start's, samples and pictures into the run folder."""
        out, config = self.out, self.config
        trained = {name: learner.policy for name, (learner, _) in self.team.members().items()}
        after = self.evaluate(self.team.shoggoth.policy, self.team.face.policy, config.final_questions)
        for name, policy in trained.items():
            with folder_written_whole(out / name) as part:
                policy.save_into(part)
        warm = policies_of(config, out / "warm", self.accelerator.device)
        before = self.evaluate(warm[0], warm[-1], config.final_questions)
        result = {"after": after, "before": before,
                  "held_out": "questions that no training uses; one greedy thought and answer each",
                  **provenance()}  # fmt: skip
        write_json(out / "eval.json", result)
        for name in trained:
            figures = {key: value for key, value in after.items() if isinstance(value, dict)}
            what = f"The {name} of a reasoner split in two, trained by the credit rule {config.rule}."
            write_card(out / name, what, figures, result)
        plots.split_curves(out / "metrics.jsonl", out / "plots" / "training.png")
        return result
