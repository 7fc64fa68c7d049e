"""`clew split`: parses, trains, shows. Its config lives in `clew.train.config`, with the loops, since studies, benches
and Python users run them without a command line."""

from pathlib import Path

from clew.cli.options import run_config
from clew.train.config import SplitConfig


def run(args: list[str]) -> None:
    """The command."""
    config, resume = run_config("split", SplitConfig, str(SplitConfig.__doc__), args)

    from rich.console import Console

    from clew.cli import terminal
    from clew.train.rounds import split

    terminal.quiet()
    with terminal.TrainingProgress(Console(stderr=True)) as progress:
        result = split(config, resume=resume, report=progress)
    if result and progress.world:  # one process of several has it
        terminal.show_split(Console(), result, progress.world.label)
        terminal.wrote(Path(config.out or ""))
