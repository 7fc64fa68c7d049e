"""Where two policies begin: imitation of the world's demonstrations, kept in a run's `warm` folder."""

import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors.torch import save_file

from clew import losses
from clew.files import folder_written_whole
from clew.learner import release
from clew.policy import Policy
from clew.rollout.lines import seed_of
from clew.rollout.paraphrase import Paraphrase, Passage, line_stop
from clew.rollout.sampler import SharedPrefixSampler
from clew.rollout.stages import FaceSees, reading
from clew.rollout.stops import cut, held
from clew.rollout.trees import training_trees
from clew.rollout.types import Completion, Context, Line, Thought
from clew.rollout.window import window_of
from clew.sharding import full, is_spread
from clew.train.config import SplitConfig
from clew.train.evaluate import Reasoner
from clew.train.supervised import Report, imitate, is_time, validation
from clew.train.team import ADAPTERS, BOTH, adapted, adapter_weights, learner_for, roles_of, warm_names, warm_policies
from clew.tree import Role, SpanTree, TreeBatch, only, pruned, spans_of
from clew.world import Stop, World

KEEP_EVERY = 100  # steps between checkpoints


def warm_start(
    config: SplitConfig,
    world: World,
    policies: dict[str, Policy],
    accelerator: Accelerator,
    out: Path,
    resume: bool,
    report: Report,
    paraphrase: Paraphrase | None = None,
) -> dict[str, Policy]:
    """Each policy imitates its own spans of the world's demonstrations. Leaves them in `out/warm`, and returns them.

    paraphrase: how the rounds will rewrite thoughts. Where it says so (`in_warm_start`) demonstrations are rewritten,
    and imitated in the contexts that will be read then.

    Adapters that are put on a model from a folder learn by themselves, and their base stays as it is; under adapters on
    a new model, of which they could make nothing, the model itself imitates all roles, and they come after it.

    Interrupted, it goes on from its checkpoints in `out/imitation`, and ends bit for bit as if it had not been.
    """
    warm, roles = config.warm_start, roles_of(config)
    rewrite = paraphrase if paraphrase and paraphrase.in_warm_start and config.paraphrase_at != "evaluation" else None
    shown = Demonstrations(world, config.face_sees, rewrite, config.seed)
    if config.model.folder and warm.steps:
        policies = adapted(config, policies)
    for name, policy in policies.items():
        learns = roles[name] if roles.keys() == policies.keys() else BOTH
        policy.model.to(accelerator.device)  # type: ignore[arg-type]
        if not warm.steps:
            continue
        learner = learner_for(policy, warm.optimizer, accelerator)
        imitate(
            learner,
            partial(_spans, shown, learns, policy.pad_token_id),
            losses.OBJECTIVES["nll"],
            losses.ObjectiveOptions(),
            warm.optimizer,
            out / "imitation" / name,
            per_step=warm.per_step,
            steps=warm.steps,
            checkpoint_every=KEEP_EVERY,
            resume=resume,
            validate=partial(_validate, config, world, policy, accelerator, paraphrase),
            report=partial(_report_as, report, f"warm start, {name}"),
        )
        release(learner)
    main = accelerator.is_main_process
    adapters = {name: full(value) for name, value in adapter_weights(policies).items()}
    with folder_written_whole(out / "warm") if main else nullcontext() as part:
        for name in warm_names(config):
            policies[name].save_base_into(part / name if part else None)
        if part and adapters:
            save_file(adapters, part / ADAPTERS)
    if main:
        for name in policies:
            shutil.rmtree(out / "imitation" / name / "checkpoints", ignore_errors=True)
    accelerator.wait_for_everyone()
    if any(is_spread(policy.model) for policy in policies.values()):
        return warm_policies(config, out / "warm")[0]  # whole again: adapters and copies come before the next learner
    return policies


def _validate(
    config: SplitConfig,
    world: World,
    policy: Policy,
    accelerator: Accelerator,
    paraphrase: Paraphrase | None,
    step: int,
) -> dict[str, float]:
    """What a policy that plays both roles makes of held-out questions, where it is time for a look."""
    if not is_time(step, config.warm_start.validate_every):
        return {}
    sampler, rewrite = SharedPrefixSampler(policy), None if config.paraphrase_at == "training" else paraphrase
    limits = config.max_thought, config.max_answer, window_of(policy)
    reasoner = Reasoner(sampler, sampler, config.face_sees, rewrite, *limits)
    return validation(world, reasoner, policy, accelerator, config.validation_questions)


def _report_as(report: Report, phase: str, values: dict[str, Any]) -> None:
    report(values | {"phase": phase})


@dataclass(frozen=True)
class Demonstrations:
    """What is imitated, and in which contexts."""

    world: World
    face_sees: FaceSees
    paraphrase: Paraphrase | None
    seed: int


def _spans(shown: Demonstrations, roles: Sequence[Role], pad_token_id: int, numbers: Sequence[int]) -> TreeBatch | None:
    """What a policy that plays these roles imitates, each span in the context that it will be written in."""
    demonstrations = shown.world.demonstrations(numbers)
    if shown.paraphrase is None:
        trees = [part for tree in demonstrations for part in as_read(tree, roles, shown.face_sees)]
    else:
        both = zip(numbers, demonstrations, strict=True)
        written = [one for number, tree in both for one in rewritten(shown, shown.paraphrase, tree, number)]
        trees = training_trees((one, 1.0) for one in written if one.role in roles)
    return TreeBatch.pack(trees, pad_token_id) if trees else None


def rewritten(shown: Demonstrations, paraphrase: Paraphrase, tree: SpanTree, number: int) -> list[Completion]:
    """A demonstration as if it had been sampled under a paraphrase: its lines and its answers, each in the context in
    which it will be written."""
    made: list[Completion] = []
    stop = line_stop(shown.world) if paraphrase.by_line else Stop()

    def thought(span: SpanTree, before: Context) -> None:
        place, room = (shown.seed, before.ids(), number, len(made)), 1 << 30
        lines: list[Line] = []
        for i, tokens in enumerate(cut(stop, shown.world.tokenizer, span.tokens)):
            read = [token for one in lines for token in one.read.tokens]
            line = Completion(lines[-1].read if lines else before, "thought", tokens, [], "stop")
            passage = Passage(before.ids(), read, tokens, seed_of(*place, i))
            ((told, kept),) = paraphrase.rewritten(shown.world, [passage], [room])
            lines.append(Line(line, Context(told, "thought", line.context), kept))
        ended = held(shown.world.thought_stop, shown.world.tokenizer, span.tokens)
        answers_read = reading(shown.world, Thought(lines, ended), shown.face_sees)
        made.extend(line.written for line in lines)
        made.extend(Completion(answers_read, "answer", list(one.tokens), [], "stop") for one in span.children)

    def walk(span: SpanTree, before: Context | None) -> None:
        here = Context(span.tokens, "prompt", before)
        for child in span.children:
            thought(child, here) if child.role == "thought" else walk(child, here)

    walk(tree, None)
    return made


def as_read(tree: SpanTree, roles: Sequence[Role], face_sees: FaceSees) -> list[SpanTree]:
    """A demonstration as the trees that a policy of these roles reads, with weight on its roles alone.

    A face that sees thoughts alone reads trees that begin with them, whoever else the policy is.
    """
    if face_sees == "prompt+thought" or "answer" not in roles:
        parts = [only(tree, *roles)]
    else:
        parts = [only(span, "answer") for span in spans_of(tree, "thought")]
        parts = ([only(tree, "thought")] if "thought" in roles else []) + parts
    return [left for part in parts if (left := pruned(part))]
