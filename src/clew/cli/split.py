"""`clew split`: parses, trains, shows; with `--show RUN` it prints what a run sampled, and trains nothing. Its config
is in `clew.train.config`, with the loops, since studies, benches and Python users run them without a command line."""

from dataclasses import dataclass
from pathlib import Path

from clew.cli.options import check_rewriter_used, instance, named_in, parser_of, run_config
from clew.errors import InputError
from clew.runs.rollouts import Record, read_rollouts, rounds_in
from clew.text import show
from clew.train.config import SplitConfig

SHOW = "clew split --show RUN prints what a finished or running split sampled (clew split --show RUN --help)."


@dataclass
class ShowConfig:
    """Print a round's questions, thoughts and answers, with what they scored and what they were worth."""

    show: str = ""
    """run folder of a split, or a file of its rollouts, or a samples.jsonl"""
    round: int | None = None
    """which round; by default the last"""
    question: int | None = None
    """number of one question, shown at length; by default all of the round, each text cut"""


def run(args: list[str]) -> None:
    """The command."""
    if any(arg.split("=")[0] == "--show" for arg in args):
        return _show(args)
    config, resume = run_config("split", SplitConfig, f"{SplitConfig.__doc__} {SHOW}", args)
    check_rewriter_used(named_in(args, SplitConfig), config.paraphraser)

    from rich.console import Console

    from clew.cli import terminal
    from clew.train.rounds import split

    terminal.quiet()
    with terminal.TrainingProgress(Console(stderr=True)) as progress:
        result = split(config, resume=resume, report=progress)
    if result and progress.world:  # one process of several has it
        world = progress.world
        if config.rounds:
            terminal.show_split(Console(), result, world.label)
        else:  # the warm start is all that there is
            terminal.show_report(Console(), result["after"], world.headline, world.label)
        terminal.wrote(Path(config.out or ""))


def _show(args: list[str]) -> None:
    parser = parser_of("split", ShowConfig, str(ShowConfig.__doc__))
    config: ShowConfig = instance(parser, ShowConfig, parser.parse_args(args))

    from rich.console import Console

    from clew.cli import terminal

    records = list(_asked(config))
    for record in records:
        terminal.show_rollout(Console(), record, 2000 if len(records) == 1 else 200)


def _asked(config: ShowConfig) -> list[Record]:
    """The questions that are to be shown."""
    path = Path(config.show)
    if path.is_dir() and (files := rounds_in(path)):
        number = max(files) if config.round is None else config.round
        if number not in files:
            raise InputError(f"round: {number} is not in {show(config.show)}, which has {min(files)} to {max(files)}")
        path = files[number]
    elif config.round is not None and not path.is_dir():
        raise InputError(f"round: {show(config.show)} is no run folder, and has no rounds")
    records = list(read_rollouts(path))
    if config.question is None:
        return records
    numbers = [record.get("number") for record in records]
    if config.question not in numbers:
        there = ", ".join(map(str, numbers))
        raise InputError(f"question: {config.question} is not in {path}, which has {there[:200]}")
    return [records[numbers.index(config.question)]]
