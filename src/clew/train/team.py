"""Who is trained: the policies of a run, new or from folders, and the world that they are asked in."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from clew.config import OptimizerConfig
from clew.errors import InputError
from clew.learner import Learner
from clew.losses import OBJECTIVES
from clew.policy import Policy, pick_device, with_adapters
from clew.rollout.paraphrase import PARAPHRASERS
from clew.rollout.sampler import SharedPrefixSampler
from clew.rollout.types import Sampler
from clew.runs.checkpoints import is_count, read_state
from clew.text import one_line, show
from clew.train.config import ObjectiveConfig, SplitConfig, TrainConfig
from clew.train.evaluate import Reasoner
from clew.tree import Role
from clew.world import World, world_of

ROLES: dict[str, tuple[Role, ...]] = {"shoggoth": ("thought",), "face": ("answer",)}
BETAS = (0.9, 0.99)  # a round's gradient is noisy: its size is averaged over many rounds


def accelerator_for(config: TrainConfig | SplitConfig, out: Path) -> Accelerator:
    """The processes, device, precision and tracker of a run. InputError for a tracker that is not there."""
    device = pick_device(config.device)
    bf16 = config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")
    precision = "bf16" if bf16 else "no"
    try:
        return Accelerator(
            cpu=device.type == "cpu", mixed_precision=precision, log_with=config.track, project_dir=str(out)
        )
    except (ValueError, ImportError) as error:
        raise InputError(f"track: {config.track!r} cannot be used: {one_line(error)}") from None


def learner_for(policy: Policy, config: OptimizerConfig, accelerator: Accelerator, **others: Any) -> Learner:
    """A policy's learner, as its options say."""
    muon = config.muon_scale if config.name == "muon" else 0.0
    own: dict[str, Any] = {"muon": muon, "accelerator": accelerator, "tokens_at_once": config.tokens_at_once}
    return Learner(policy, config.lr, config.weight_decay, config.clip, **own, **others)


def role_folder(folder: str, name: str) -> str:
    """The folder of one policy within that of an earlier run, or the folder itself."""
    for inner in (name, "shoggoth"):
        if (Path(folder) / inner).is_dir():
            return str(Path(folder) / inner)
    return folder


def first_policies(
    config: TrainConfig | SplitConfig, names: Sequence[str], fits: Callable[[World], None]
) -> tuple[dict[str, Policy], World]:
    """The policies that a run begins with, by their names, and their world.

    From the config's model folder, whose tokenizer is then taught the world's words, or new. fits: told of the world
    before a model is made, raises InputError for what would not fit into memory.
    """
    model = config.model
    if model.folder:
        policies = {name: Policy.load(role_folder(model.folder, name)) for name in names}
        world = world_of(config, config.seed, policies[names[0]].tokenizer, teach=True)
        fits(world)
        for policy in policies.values():
            policy.make_room()
            check_numbers(policy, world, f"model.folder: {model.folder}")
    else:
        world = world_of(config, config.seed)
        fits(world)
        sizes = (model.layers, model.width, model.heads)
        seeds = range(config.seed, config.seed + len(names))
        policies = {name: Policy.build(world.tokenizer, *sizes, seed) for name, seed in zip(names, seeds, strict=True)}
    for policy in policies.values():
        policy.attention = model.attention
        policy.check()
    return policies, world


def check_numbers(policy: Policy, world: World, name: str) -> None:
    """InputError, beginning with `name`, unless a policy's tokens have the numbers that the world gives them."""
    if not world.tokenizer.get_vocab().items() <= policy.tokenizer.get_vocab().items():
        raise InputError(f"{name} does not number this world's tokens as the world does")


def warm_names(config: SplitConfig) -> tuple[str, ...]:
    """The models that a split begins with: adapters, and one policy that plays both roles, begin with one."""
    return ("shoggoth", "face") if config.policies == "two" else ("shoggoth",)


def warm_policies(config: SplitConfig, warm: Path) -> tuple[dict[str, Policy], World]:
    """The policies as a warm start left them, and their world. InputError if the folder is torn."""
    try:
        policies = {name: Policy.load(warm / name) for name in warm_names(config)}
    except InputError as error:
        raise InputError(f"resume: {warm} is torn ({error}); move it away to begin the warm start anew") from None
    world = world_of(config, config.seed, policies["shoggoth"].tokenizer)
    for policy in policies.values():
        check_numbers(policy, world, f"resume: {warm}")
        policy.attention = config.model.attention
    return policies, world


@dataclass
class Member:
    """One policy in training."""

    learner: Learner
    roles: tuple[Role, ...]
    """what it writes, and learns"""
    sampler: Sampler
    """what makes its completions"""
    frozen: Policy | None
    """itself as it was before the first round, where the objective asks for that and it is no adapter"""

    @property
    def policy(self) -> Policy:
        return self.learner.policy


@dataclass
class Team:
    """The shoggoth and the face; one member where one policy plays both."""

    members: dict[str, Member]

    def reasoner(self, config: SplitConfig) -> Reasoner:
        """The team as it answers questions, its samplers brought to where its policies stand."""
        for member in self.members.values():
            member.sampler.sync(member.policy)
        samplers = [member.sampler for member in self.members.values()]
        rewrite = PARAPHRASERS[config.paraphraser] if config.paraphraser else None
        limits = (config.max_thought, config.max_answer)
        return Reasoner(samplers[-1], samplers[0], config.face_sees, rewrite, *limits)

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
        if not isinstance(state.get("before"), dict):
            raise InputError(f"its state.json has the first evaluation {show(state.get('before'))}")
        held = sorted(path.name for path in checkpoint.iterdir() if path.is_dir())
        if held != sorted(self.members):
            raise InputError(f"it holds {' and '.join(held) or 'no policy'}, not {' and '.join(self.members)}")
        for name, member in self.members.items():
            member.learner.load(checkpoint / name)
        return state


def asks_reference(objective: ObjectiveConfig) -> bool:
    """Whether updates compare a policy with what it was before the first round."""
    return objective.kl > 0 or "reference_nll_S" in OBJECTIVES[objective.name].needs


def team_of(config: SplitConfig, policies: dict[str, Policy], accelerator: Accelerator) -> Team:
    """The members, ready to learn: the policies themselves, or two adapters on the one that there is."""
    roles = dict(ROLES) if config.policies != "one" else {"shoggoth": ROLES["shoggoth"] + ROLES["face"]}
    if config.policies == "adapters":
        both = with_adapters(policies["shoggoth"], tuple(roles), config.rank, config.seed)
        policies = dict(zip(roles, both, strict=True))
    members = {}
    for name, policy in policies.items():
        policy.model.to(accelerator.device)  # type: ignore[arg-type]
        frozen = None
        if asks_reference(config.objective) and policy.adapter is None:
            frozen = Policy(copy.deepcopy(policy.model).eval(), policy.tokenizer, attention=policy.attention)
        learner = learner_for(policy, config.optimizer, accelerator, betas=BETAS)
        members[name] = Member(learner, roles[name], SharedPrefixSampler(policy), frozen)
    return Team(members)
