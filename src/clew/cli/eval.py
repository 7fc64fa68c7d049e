"""`clew eval`: what a model really does when it is asked."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from clew import zoo
from clew.cli.options import check_file, instance, parser_of
from clew.config import Attention, Device, WorldConfig, check_positive
from clew.errors import InputError
from clew.files import check_writable, strict_json
from clew.runs.options import read_yaml
from clew.text import check_text
from clew.train.config import grader_entries

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from clew.train.evaluate import Sample
    from clew.world import World

MODEL = "zoo:NAME (clew zoo lists them), a run folder of clew train or clew split, a snapshot, or a Hugging Face folder"
OF_RUN = (*get_type_hints(WorldConfig), "grader", "monitor", "time_limit", "rewriter")
"""options that a run's config.yaml gives"""


@dataclass
class AskConfig(WorldConfig):
    """Ask what has been trained. The world is that of its run unless options say otherwise."""

    model: str = ""  # a positional argument, explained by MODEL
    seed: int = 0
    """of the held-out questions"""
    attention: Attention | None = None
    """trees: shared prefixes are read once; rows: plain rows, for models that need it; by default as in training"""
    device: Device = "auto"
    """where to run"""


@dataclass
class EvalConfig(AskConfig):
    """Measure a model on held-out questions, or on questions that others made."""

    questions: int = 1000
    """held-out questions to ask, in all; of a file (--from) all are"""
    batch: int = 256
    """questions answered at once"""
    grader: list[str | dict[str, Any]] = field(default_factory=list)
    """what scores the answers, as for clew split; by default what did so in the run"""
    time_limit: float = 60.0
    """seconds that one call of a grader may take"""
    out: str | None = None
    """folder for eval.json, samples.jsonl and plots; by default nothing is written"""


def run(args: list[str]) -> None:
    """The command."""
    flags = {"json": {"action": "store_true", "help": "print the report as JSON"}}
    config, given = asked("eval", EvalConfig, args, "a file of questions to ask in place of held-out ones", flags)
    check_positive(config, "questions", "batch", "time_limit")
    grader_entries(config.grader)
    if config.out is not None:
        _check_out(Path(config.out))

    from rich.console import Console

    from clew.cli import terminal
    from clew.rollout.sampler import SharedPrefixSampler
    from clew.runs.provenance import provenance
    from clew.train import checks, crediting
    from clew.train.evaluate import evaluate, held_out, world_grader
    from clew.train.opening import opened

    terminal.quiet()
    where: dict[str, Any] = {"attention": config.attention, "device": config.device}
    world, reasoner = opened(Path(config.model), config, seed=config.seed, **where)
    named = config.grader
    graders = crediting.graders_of(named, world, config.time_limit) if named else world_grader(world)
    source, missing = given["from"], ""
    if source is not None:
        questions = world.read(Path(source))
    else:
        questions, missing = held_out(world, config.questions, seed=config.seed), world.not_evaluated()
        assert isinstance(reasoner.face, SharedPrefixSampler)
        policy = reasoner.face.policy
        notes = checks.check_evaluation(config.device, config.questions, config.batch, policy, world)
        for note in [f"world: {missing}; only the others are evaluated"] * bool(missing) + notes:
            terminal.told(f"note: {note}")
    with terminal.QuestionProgress(Console(stderr=True), None if source is not None else config.questions) as progress:
        numbers = {"batch": config.batch, "seed": config.seed}
        report, samples = evaluate(world, reasoner, progress.counted(questions), graders, **numbers)
    report |= {"not_evaluated": missing} if missing else {}
    report |= {"held_out": world.held_out_rule, **provenance()}
    if given["json"]:
        print(strict_json(report, indent=2))
    else:
        terminal.show_report(Console(), report, world.headline, world.label)
    if config.out:
        _write(Path(config.out), world, report, samples)
        terminal.wrote(config.out)


def _check_out(out: Path) -> None:
    """InputError for a place that no folder can be at, and for a run, whose own evaluation would go."""
    check_writable("out", out)
    if (out / "config.yaml").is_file():
        raise InputError(f"out: {out} is a run, which has an evaluation of its own; choose another folder")


def _write(out: Path, world: "World", report: dict[str, Any], samples: "list[Sample]") -> None:
    from clew.runs.evaluations import write_evaluation

    write_evaluation(out, report, [sample.record for sample in samples])
    world.pictures(report, [(sample.question, sample.answer) for sample in samples], out / "plots")


def asked(
    command: str,
    kind: type,
    args: list[str],
    source: str = "",
    flags: dict[str, dict[str, Any]] | None = None,
    positional: str = MODEL,
) -> tuple[Any, dict[str, Any]]:
    """The config of a command that asks a model, and the values of --from and of the command's flags.

    source: help of --from, for a command that has it. positional: help of the model. The world's options are by
    default those of the run that is opened.
    """
    about = f"{kind.__doc__} The world is by default that of the run that is opened."
    parser = parser_of(command, kind, about, positional)
    others: dict[str, dict[str, Any]] = {"from": {"type": str | None, "help": source}} if source else {}
    others |= flags or {}
    for name, settings in others.items():
        parser.add_argument(f"--{name}", **settings)
    model = parser.parse_args(args)["model"]
    parsed = parser.parse_args(args, _of_run(parser, kind, model))
    given = {name: parsed.pop(name) for name in others}
    if given.get("from") is not None:
        check_text("from", given["from"])
        if not given["from"]:
            raise InputError("from: the text is empty; a file of questions was expected")
    return instance(parser, kind, parsed), given


def _of_run(parser: "ArgumentParser", kind: type, model: str) -> Any:
    """The options of the world that a run was trained in, and of its graders, parsed; those of no run are none. Of a
    model of the zoo a command with a size asks the largest."""
    from clew.runs.snapshots import run_of
    from clew.train.opening import run_options

    if not run_options(Path(model)):
        return None
    file = run_of(zoo.resolved(model)) / "config.yaml"
    asked = get_type_hints(kind)
    values = {name: value for name, value in read_yaml(file).items() if name in OF_RUN and name in asked}
    check_file(file, values, WorldConfig)
    if zoo.is_zoo(model) and "size" in asked:
        values["mazes"]["sizes"] = zoo.card(model.removeprefix(zoo.PREFIX))["sizes"][-1:]
    try:
        return parser.parse_object(values | {"model": model}, defaults=False)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
