"""`clew train`: parses, trains, shows. Its config lives in `clew.train.config`, with the loops, since studies, benches
and Python users run them without a command line."""

from pathlib import Path

from clew.cli.options import run_config
from clew.train.config import TrainConfig


def run(args: list[str]) -> None:
    """The command."""
    config, resume = run_config("train", TrainConfig, str(TrainConfig.__doc__), args)

    from rich.console import Console

    from clew.cli import terminal
    from clew.train.supervised import train

    terminal.quiet()
    with terminal.TrainingProgress(Console(stderr=True)) as progress:
        result = train(config, resume=resume, report=progress)
    if result and progress.world:  # one process of several has it
        terminal.show_report(Console(), result, progress.world.headline, progress.world.label)
        terminal.wrote(Path(config.out or ""))
