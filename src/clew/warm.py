"""Where two policies begin: imitation of the world's demonstrations, kept in a run's `warm` folder."""

import shutil
from pathlib import Path

import torch
from accelerate import Accelerator

from clew import samples as sm
from clew.config import SplitConfig
from clew.errors import InputError
from clew.files import folder_written_whole
from clew.learner import Learner, learning_rate
from clew.losses import weighted_nll
from clew.policy import Policy, with_adapters
from clew.runs import is_count
from clew.supervised import Report
from clew.text import show
from clew.world import World

WARM_MUON = 2.0  # times AdamW's rate
KEEP_EVERY = 100  # steps between checkpoints
SHOGGOTH, FACE = ("thought",), ("answer",)


def role_folder(folder: str, name: str) -> str:
    """The folder of one policy within that of an earlier split, or the folder itself."""
    for inner in (name, "shoggoth"):
        if (Path(folder) / inner).is_dir():
            return str(Path(folder) / inner)
    return folder


def first_policies(config: SplitConfig, world: World) -> dict[str, Policy]:
    """The policies before imitation, new or from the config's model: one, or by the names of two.

    Two adapters share a base, and the base is what is warmed up. InputError for a model that does not suit the world.
    """
    names = ("shoggoth", "face") if config.policies == "two" else ("shoggoth",)
    made = {}
    for number, name in enumerate(names):
        if not config.model:
            made[name] = Policy.build(world.tokenizer, config.layers, config.width, config.heads, config.seed + number)
        else:
            made[name] = Policy.load(role_folder(config.model, name))
            check_numbers(made[name], world, f"model: {config.model}")
        made[name].attention = config.attention
        made[name].check()
    return made


def check_numbers(policy: Policy, world: World, name: str) -> None:
    """InputError, beginning with `name`, unless a policy's tokens have the numbers that the world gives them."""
    if not world.tokenizer.get_vocab().items() <= policy.tokenizer.get_vocab().items():
        raise InputError(f"{name} does not number this world's tokens as the world does")


def warm_start(
    config: SplitConfig, world: World, policies: dict[str, Policy], accelerator: Accelerator, out: Path, report: Report
) -> None:
    """Imitation: each policy learns its own spans of the world's demonstrations. Leaves them in `out/warm`.

    Goes on from checkpoints that an interrupted one has left in `out`, and ends bit for bit as if it had not been.
    """
    roles_of = {"shoggoth": SHOGGOTH, "face": FACE} if config.policies == "two" else {"shoggoth": SHOGGOTH + FACE}
    rank, processes, per_step = accelerator.process_index, accelerator.num_processes, config.mazes.per_step
    for name, policy in policies.items():
        roles = roles_of[name]
        policy.model.to(accelerator.device)  # type: ignore[arg-type]
        learner = Learner(policy, config.warmup_lr, 0.01, config.clip, accelerator=accelerator,
                          muon=WARM_MUON if config.warmup_optimizer == "muon" else 0.0)  # fmt: skip
        kept = out / "checkpoints" / f"warm-{name}"
        for step in range(_steps_done(learner, kept, config.warmup_steps), config.warmup_steps):
            trees = world.demonstrate(range(step * per_step + rank, (step + 1) * per_step, processes))
            if not trees:
                break
            batch = sm.batch_for(trees, roles, config.face_sees, policy.pad_token_id)
            assert batch is not None
            batch.weights_S.div_(learner.total(batch.weights_S.sum().item()))
            progress = step / config.warmup_steps
            rate = learning_rate(config.warmup_lr, step, 100, progress)
            figures = learner.update(batch, weighted_nll, rate)
            if step % 10 == 9 and accelerator.is_main_process:
                report({"phase": f"warm start, {name}", "step": step + 1, **figures, "progress": progress})
            if (step + 1) % KEEP_EVERY == 0 or step + 1 == config.warmup_steps:
                if accelerator.is_main_process:
                    with folder_written_whole(kept) as part:
                        learner.save(part, {"step": step + 1})
                accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        with folder_written_whole(out / "warm") as part:
            for name, policy in policies.items():
                policy.save_into(part / name)
        for name in policies:
            shutil.rmtree(out / "checkpoints" / f"warm-{name}", ignore_errors=True)
    accelerator.wait_for_everyone()


def _steps_done(learner: Learner, kept: Path, steps: int) -> int:
    """Takes up what an interrupted imitation left in `kept`, if anything, and returns how many steps that was."""
    if not kept.is_dir():
        return 0
    try:
        done = learner.load(kept).get("step", -1)
        if not is_count(done) or done > steps:
            raise InputError(f"its state.json has the step {show(done)}")
    except InputError as error:
        raise InputError(
            f"resume: {kept} is torn ({error}), and no other checkpoint of the warm start is kept; "
            "move it away to begin that anew"
        ) from None
    return done


def policies_of(config: SplitConfig, warm: Path, device: torch.device) -> list[Policy]:
    """The team's policies as the warm start left them: one, or two."""
    try:
        first, *others = (Policy.load(warm / name) for name in ("shoggoth", "face")[: 1 + (config.policies == "two")])
    except InputError as error:
        raise InputError(f"resume: {warm} is torn ({error}); move it away to begin the warm start anew") from None
    if config.policies == "one":
        policies = [first]
    elif config.policies == "adapters":
        policies = with_adapters(first, ("shoggoth", "face"), config.rank, config.seed)
    else:
        policies = [first, *others]
    for policy in policies:
        policy.attention = config.attention
        policy.model.to(device)  # type: ignore[arg-type]
    return policies
