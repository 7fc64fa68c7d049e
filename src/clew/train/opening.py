"""What has been trained is opened again: the run folder of `clew train` or `clew split`, one of its snapshots, any
model folder, one of the zoo."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args, get_type_hints

from clew import zoo
from clew.config import Attention, Device, RewriterConfig, WorldConfig
from clew.errors import InputError
from clew.policy import Policy, pick_device
from clew.rollout.paraphrase import Paraphrase
from clew.rollout.rewriters import paraphrase_of
from clew.rollout.sampler import SharedPrefixSampler
from clew.rollout.stages import FaceSees
from clew.rollout.window import window_of
from clew.runs.checkpoints import is_count
from clew.runs.options import check_moved, flat, read_yaml
from clew.runs.snapshots import run_of
from clew.text import show
from clew.train.config import RENAMED, SplitConfig, TrainConfig
from clew.train.evaluate import Reasoner
from clew.train.team import check_numbers
from clew.world import World, world_of

ROLES = ("shoggoth", "face")
PARAPHRASES = ("paraphrase", "paraphrase_at")


def run_options(folder: Path) -> dict[str, Any]:
    """The options that a run, or the run of a snapshot, was made with, by dotted names: defaults where its file is
    silent, {} where a folder is no run. InputError for a file that cannot be read, or whose options have moved since.
    """
    folder = run_of(zoo.resolved(folder))
    file = folder / "config.yaml"
    if not file.is_file():
        return {}
    config = SplitConfig if (folder / ROLES[0]).is_dir() else TrainConfig
    values = read_yaml(file)
    check_moved(file, values, config, RENAMED)
    return flat(asdict(config()), config) | flat(values, config)


def opened(
    folder: Path,
    config: WorldConfig,
    *,
    seed: int = 0,
    attention: Attention | None = None,
    device: Device = "auto",
) -> tuple[World, Reasoner]:
    """The world that a config asks in, and what was trained in `folder`, which may be zoo:NAME, as it answers there.

    What a split trained thinks before it answers, as it did in training; anything else answers directly. attention: by
    default as in training. InputError for a folder that holds no model, a device that is not there, and a model that
    does not know the world's words or does not read exactly.
    """
    folder = zoo.resolved(folder)
    place, options = pick_device(device), run_options(folder)
    names = [name for name in ROLES if (folder / name).is_dir()] if (folder / ROLES[0]).is_dir() else [""]
    if names == [""] and options and not (folder / "model").is_dir():
        raise InputError(f"model: {folder} is a run that has no model yet; go on with it: --resume {folder}")
    policies = [Policy.load(folder / name) for name in names]
    world = world_of(config, seed, policies[0].tokenizer)
    for name, policy in zip(names, policies, strict=True):
        check_numbers(policy, world, f"model: {folder / name}")
        policy.attention = attention or options.get("model.attention", "trees")
        policy.check()
        policy.model.to(place)  # type: ignore[arg-type]
    face = SharedPrefixSampler(policies[-1])
    if names == [""]:
        if not world.answers_directly:
            raise InputError(f"world: asks for a thought before an answer, and {folder} is no split's run")
        reasoner = Reasoner(face, window=window_of(*policies))
    else:
        stages = _stages(folder, options, world, place)
        reasoner = Reasoner(face, SharedPrefixSampler(policies[0]), *stages, window_of(*policies))
    reasoner.check_room(world, world.to_check())
    return world, reasoner


def _stages(
    folder: Path, options: dict[str, Any], world: World, device: Any
) -> tuple[FaceSees, Paraphrase | None, int | None, int | None]:
    """How a split's answers come about: what the face sees, how thoughts are rewritten, and the limits of tokens."""
    file, hints = f"{folder}/config.yaml", get_type_hints(SplitConfig)
    known: dict[str, Sequence[Any]] = {name: _choices(hints[name]) for name in ("face_sees", *PARAPHRASES)}
    for name, choices in known.items():
        if options.get(name, choices[0]) not in choices:
            raise InputError(f"{file}: {name}: {show(options[name])} is not one of {choices}")
    thought, answer = options.get("max_thought"), options.get("max_answer")
    if not all(limit is None or is_count(limit, 1) for limit in (thought, answer)):
        raise InputError(f"{file}: max_thought, max_answer: {show((thought, answer))} are no counts")
    rewrite = None
    if options.get("paraphraser") and options.get("paraphrase_at", "both") != "training":
        rewrite = _paraphrase(file, options, world, device)
    return options.get("face_sees", "prompt+thought"), rewrite, thought, answer


def _paraphrase(file: str, options: dict[str, Any], world: World, device: Any) -> Paraphrase | None:
    """The paraphrase of a run whose options are read from a file, where somebody may have written anything."""
    rewriter = RewriterConfig()
    given = {name: options.get(f"rewriter.{name}", value) for name, value in asdict(rewriter).items()}
    limit, name = options.get("time_limit", 60.0), options["paraphraser"]
    numbers = (*(given[name] for name in ("versions", "max_tokens")),)
    good = isinstance(name, str) and isinstance(given["template"], str) and all(is_count(n, 1) for n in numbers)
    if not good or not all(_is_number(value) for value in (limit, given["temperature"])):
        raise InputError(f"{file}: paraphraser, rewriter: {show(name)}, {show(given)} are no values of them")
    try:
        return paraphrase_of(
            name, options.get("paraphrase"), RewriterConfig(**given), world, time_limit=float(limit), device=device
        )
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9


def _choices(hint: Any) -> tuple[Any, ...]:
    """The values that an option of choices has, the default first."""
    named = [value for part in get_args(hint) or [hint] for value in (get_args(part) or [part])]
    return tuple(None if value is type(None) else value for value in named)
