"""Who is trained: the policies of a run, new or from folders, and the world that they are asked in."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from clew import zoo
from clew.config import ModelConfig, OptimizerConfig
from clew.deepening import deepen
from clew.errors import InputError
from clew.learner import Learner, read_tensors
from clew.losses import OBJECTIVES
from clew.memory import LARGE, machine_memory, tokens_that_fit
from clew.policy import Policy, pick_device, with_adapters
from clew.rollout.paraphrase import Paraphrase
from clew.rollout.rewriters import paraphrase_of
from clew.rollout.sampler import SharedPrefixSampler
from clew.rollout.stages import limited
from clew.rollout.types import Sampler
from clew.rollout.vllm import VllmEngine, VllmServer, engine_for
from clew.rollout.window import check_room, window_of
from clew.runs.checkpoints import is_count, read_state
from clew.sharding import spreads, whole
from clew.text import one_line, show
from clew.train.config import ObjectiveConfig, SplitConfig, TrainConfig
from clew.train.evaluate import Reasoner
from clew.tree import Role
from clew.world import World, world_of

ROLES: dict[str, tuple[Role, ...]] = {"shoggoth": ("thought",), "face": ("answer",)}
BOTH: tuple[Role, ...] = ("thought", "answer")
ADAPTED = ("adapters", "adapter")  # policies that are adapters on one base
ADAPTERS = "adapters.safetensors"  # of a warm start that adapters have learned
BETAS = (0.9, 0.99)  # a round's gradient is noisy: its size is averaged over many rounds


def accelerator_for(config: TrainConfig | SplitConfig, out: Path) -> Accelerator:
    """The processes, device, precision and tracker of a run. InputError for a tracker that is not there."""
    device = pick_device(config.device)
    precision = "bf16" if in_bf16(config) else "no"
    try:
        accelerator = Accelerator(
            cpu=device.type == "cpu", mixed_precision=precision, log_with=config.track, project_dir=str(out)
        )
    except (ValueError, ImportError) as error:
        raise InputError(f"track: {config.track!r} cannot be used: {one_line(error)}") from None
    if spreads(accelerator):
        _check_spread(config)
    return accelerator


def _check_spread(config: TrainConfig | SplitConfig) -> None:
    """InputError for what cannot be where weights are spread over processes."""
    split = isinstance(config, SplitConfig)
    if "muon" in (config.optimizer.name, config.warm_start.optimizer.name if split else ""):
        raise InputError("optimizer.name: muon needs whole matrices, and FSDP2 spreads them; use adamw, or DDP")
    if split and config.sampler.name != "shared":
        raise InputError("sampler.name: vllm takes whole models, and FSDP2 spreads them; use shared, or DDP")


def in_bf16(config: TrainConfig | SplitConfig) -> bool:
    """Whether layers compute in bfloat16. What learns is float32 all the same; a model that stands still under adapters
    is held in bfloat16 too, at half the memory."""
    on_gpu = config.precision == "auto" and pick_device(config.device).type == "cuda"
    return config.precision == "bf16" or on_gpu


def learner_for(policy: Policy, config: OptimizerConfig, accelerator: Accelerator, **others: Any) -> Learner:
    """A policy's learner, as its options say."""
    muon = config.muon_scale if config.name == "muon" else 0.0
    budget = config.tokens_at_once or _usual_budget(policy, accelerator)
    own: dict[str, Any] = {"muon": muon, "accelerator": accelerator, "tokens_at_once": budget}
    return Learner(policy, config.lr, config.weight_decay, config.clip, **own, **others)


def _usual_budget(policy: Policy, accelerator: Accelerator) -> int | None:
    """How many tokens a pass of a large model reads where no budget is named: as `memory.tokens_that_fit` has it."""
    if sum(p.numel() for p in policy.model.parameters()) < LARGE:
        return None
    config = policy.model.config.get_text_config()
    anew = any(getattr(module, "gradient_checkpointing", False) for module in policy.model.modules())
    number = 2 if accelerator.mixed_precision == "bf16" else 4
    have = memory_of(accelerator.device)
    return tokens_that_fit(config.num_hidden_layers, config.hidden_size, number, anew, have)


def memory_of(device: torch.device) -> int:
    """Bytes that a run on this device may use."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else machine_memory()


def role_folder(folder: str, name: str) -> str:
    """The folder of one policy within that of an earlier run, or the folder itself; one of the zoo's by its path."""
    path = zoo.resolved(folder)
    for inner in (name, "shoggoth"):
        if (path / inner).is_dir():
            return str(path / inner)
    return str(path)


def first_policies(
    config: TrainConfig | SplitConfig, names: Sequence[str], fits: Callable[[World], None]
) -> tuple[dict[str, Policy], World]:
    """The policies that a run begins with, by their names, and their world.

    From the config's model folder, whose tokenizer is then taught the world's words, or new. fits: told of the world
    before a model is made, raises InputError for what would not fit into memory.
    """
    model = config.model
    if model.folder:
        policies = _loaded({name: role_folder(model.folder, name) for name in names}, config)
        world = world_of(config, config.seed, policies[names[0]].tokenizer, teach=True)
        fits(world)
        for policy in policies.values():
            policy.make_room()
            deepen(policy, model.add_layers)
            check_numbers(policy, world, f"model.folder: {model.folder}")
    else:
        world = world_of(config, config.seed)
        fits(world)
        shape = {"layers": model.layers, "width": model.width, "heads": model.heads, "rope_base": model.rope_base}
        seeds = range(config.seed, config.seed + len(names))
        build = partial(Policy.build, world.tokenizer, **shape)
        policies = {name: build(seed=seed) for name, seed in zip(names, seeds, strict=True)}
    for policy in policies.values():
        _as_asked(policy, model)
        policy.check()
    _check_room(config, world, window_of(*policies.values()))
    return policies, world


def _check_room(config: TrainConfig | SplitConfig, world: World, window: int | None) -> None:
    """InputError for a question that leaves a thought, if there is to be one, and an answer no room in the window."""
    if isinstance(config, SplitConfig):
        asked = limited(world.to_check(), config.max_thought, config.max_answer)
        check_room(asked, window, len(world.thought_end), config.face_sees)
    else:
        check_room(world.to_check(), window)


def _loaded(folders: dict[str, str], config: TrainConfig | SplitConfig) -> dict[str, Policy]:
    """The policies of some folders, as `in_bf16` has it: each folder is read once; one that shares it has a copy."""
    policies: dict[str, Policy] = {}
    still = isinstance(config, SplitConfig) and config.policies in ADAPTED and config.model.folder is not None
    dtype = torch.bfloat16 if still and in_bf16(config) else torch.float32
    for name, folder in folders.items():
        twin = next((policy for other, policy in policies.items() if folders[other] == folder), None)
        policies[name] = twin.copy() if twin else Policy.load(folder, dtype)
    return policies


def _as_asked(policy: Policy, model: ModelConfig) -> None:
    """How a policy reads, and what it keeps for the backward pass, as the options say."""
    policy.attention = model.attention
    if model.gradient_checkpointing:
        policy.checkpoint_layers()


def check_numbers(policy: Policy, world: World, name: str) -> None:
    """InputError, beginning with `name`, unless a policy's tokens have the numbers that the world gives them."""
    if not world.tokenizer.get_vocab().items() <= policy.tokenizer.get_vocab().items():
        raise InputError(f"{name} does not number this world's tokens as the world does")


def warm_names(config: SplitConfig) -> tuple[str, ...]:
    """The models that a split begins with: adapters, and one policy that plays both roles, begin with one."""
    return ("shoggoth", "face") if config.policies == "two" else ("shoggoth",)


def roles_of(config: SplitConfig) -> dict[str, tuple[Role, ...]]:
    """Who learns in the rounds, by name, and what each writes."""
    return dict(ROLES) if config.policies in ("two", "adapters") else {"shoggoth": BOTH}


def adapted(config: SplitConfig, policies: dict[str, Policy]) -> dict[str, Policy]:
    """The policies that learn: adapters on the one base that there is, or the policies themselves."""
    if config.policies not in ADAPTED or policies["shoggoth"].adapter:
        return policies
    names = tuple(roles_of(config))
    # What peft writes as an adapter's base: where the run began, and not where a resumed one found it.
    begun = config.model.folder
    policies["shoggoth"].model.name_or_path = role_folder(begun, "shoggoth") if begun else ""
    return dict(zip(names, with_adapters(policies["shoggoth"], names, config.rank, config.seed), strict=True))


def warm_policies(config: SplitConfig, warm: Path) -> tuple[dict[str, Policy], World]:
    """The policies as a warm start left them, and their world. InputError if the folder is torn."""
    kept = warm / ADAPTERS
    try:
        policies = _loaded({name: str(warm / name) for name in warm_names(config)}, config)
        tensors = read_tensors(kept) if config.policies in ADAPTED and kept.is_file() else {}
    except InputError as error:
        raise InputError(f"resume: {warm} is torn ({error}); move it away to begin the warm start anew") from None
    if tensors:
        policies = adapted(config, policies)
        own = adapter_weights(policies)
        if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in tensors.items()}:
            raise InputError(f"resume: {kept} holds other adapters; move {warm} away to begin the warm start anew")
        for name, value in own.items():
            value.copy_(tensors[name])
    world = world_of(config, config.seed, policies["shoggoth"].tokenizer)
    for policy in policies.values():
        check_numbers(policy, world, f"resume: {warm}")
        _as_asked(policy, config.model)
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
    """itself as it was before the first round, where the objective asks for that and it is no new adapter"""

    @property
    def policy(self) -> Policy:
        return self.learner.policy


@dataclass
class Team:
    """The shoggoth and the face; one member where one policy plays both."""

    members: dict[str, Member]
    paraphrase: Paraphrase | None = None
    """what rewrites thoughts, when the options say that it does"""

    def reasoner(self, config: SplitConfig, at: Literal["training", "evaluation"] = "training") -> Reasoner:
        """The team as it answers questions, its samplers brought to where its policies stand."""
        for member in self.members.values():
            member.sampler.sync(member.policy)
        samplers = [member.sampler for member in self.members.values()]
        rewrite = self.paraphrase if config.paraphrase_at in ("both", at) else None
        limits = (config.max_thought, config.max_answer)
        window = window_of(*(member.policy for member in self.members.values()))
        return Reasoner(samplers[-1], samplers[0], config.face_sees, rewrite, *limits, window)

    def close(self) -> None:
        """Takes back what a vLLM server was given; ends vLLM in this process, before what the processes share ends."""
        for member in self.members.values():
            if isinstance(member.sampler, VllmServer | VllmEngine):
                member.sampler.close()

    def whole(self) -> AbstractContextManager[None]:
        """While entered, by all processes, each has all weights of all members: reading them waits for nobody."""
        return whole(*(member.policy.model for member in self.members.values()))

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


def sampler_maker(
    config: SplitConfig, policies: dict[str, Policy], accelerator: Accelerator, out: Path
) -> Callable[[Policy], Sampler]:
    """What makes a policy's sampler, as the options say.

    InputError, before any work, for a vLLM that is not there, or cannot sample from these policies; a server is given
    an adapter, and asked for a few tokens.
    """
    chosen, first = config.sampler, policies["shoggoth"]
    if chosen.name == "shared":
        return SharedPrefixSampler
    if chosen.url is None:
        if accelerator.num_processes > 1:
            raise InputError("sampler.url: vLLM within a process serves one alone; several share a server, by its url")
        shapes = [[p.shape for p in policy.model.parameters()] for policy in policies.values()]
        if shapes[0] != shapes[-1]:
            raise InputError("sampler: vllm in this process holds one model at a time, and these are of two shapes")
        bf16 = accelerator.mixed_precision == "bf16"
        return partial(VllmEngine, engine_for(first, chosen, torch.bfloat16 if bf16 else first.model.dtype))
    if first.adapter and not config.model.folder and not (out / "warm").is_dir():
        raise InputError("sampler.url: a server has no new model; name the folder of the model that it serves: --model")
    with TemporaryDirectory(prefix=".clew-", dir=next(p for p in out.absolute().parents if p.is_dir())) as folder:
        server = VllmServer(chosen.url, Path(folder), chosen.timeout, accelerator)
        server.sync(first)
        server.close()
    return lambda policy: VllmServer(
        chosen.url or "", out / "served" / str(policy.adapter), chosen.timeout, accelerator
    )


def paraphrase_for(config: SplitConfig, world: World, device: torch.device | str = "cpu") -> Paraphrase | None:
    """What a split's options say of the rewriting of thoughts. InputError as `paraphrase_of` has it."""
    how = (config.paraphraser, config.paraphrase, config.rewriter)
    return paraphrase_of(*how, world, time_limit=config.time_limit, device=device)


def asks_reference(objective: ObjectiveConfig) -> bool:
    """Whether updates compare a policy with what it was before the first round."""
    return objective.kl > 0 or "reference_nll_S" in OBJECTIVES[objective.name].needs


def adapter_weights(policies: dict[str, Policy]) -> dict[str, Tensor]:
    """The weights of adapters, by name."""
    model = next(iter(policies.values())).model
    return {name: p.data for name, p in model.named_parameters() if ".lora_" in name}


def team_of(
    config: SplitConfig,
    policies: dict[str, Policy],
    accelerator: Accelerator,
    sampler_of: Callable[[Policy], Sampler] = SharedPrefixSampler,
) -> Team:
    """The members, ready to learn: the policies themselves, or adapters on the one that there is."""
    begun = {name: policy for name, policy in policies.items() if policy.adapter}  # adapters that have learned
    roles, members, frozen = roles_of(config), {}, {}
    policies = adapted(config, policies)
    for name, policy in policies.items() if asks_reference(config.objective) else ():
        policy.model.to(accelerator.device)  # type: ignore[arg-type]
        if policy.adapter is None:
            frozen[name] = policy.copy()
            frozen[name].model.eval()
        elif name in begun:
            frozen[name] = policy.second_adapter(f"{name}_before")
    for name, policy in policies.items():
        policy.model.to(accelerator.device)  # type: ignore[arg-type]
        learner = learner_for(policy, config.optimizer, accelerator, betas=BETAS)
        members[name] = Member(learner, roles[name], sampler_of(policy), frozen.get(name))
    return Team(members)
