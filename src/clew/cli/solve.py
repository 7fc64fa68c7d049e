"""`clew solve`: watch a model answer one question."""

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from clew.cli.eval import AskConfig, asked
from clew.cli.options import named_in
from clew.config import Size
from clew.errors import InputError

MANY = 1000  # questions that a seed picks from, where there are more than anyone asks


@dataclass
class SolveConfig(AskConfig):
    """Show a model answering one held-out question in the terminal."""

    size: Size | None = None
    """of mazes: grid size, as --mazes.sizes with this size alone; by default the largest that a zoo model knows"""


def run(args: list[str]) -> None:
    """The command."""
    config, given = asked("solve", SolveConfig, args, "a file of questions; its first is asked")
    if config.size is not None:
        if config.world not in (None, "mazes") or config.prompts.file:
            raise InputError("size: mazes alone have one")
        if given["from"] is not None:
            raise InputError("size: the mazes of a file have their own; leave out --size, or --from")
        if "mazes.sizes" in named_in(args, SolveConfig):
            raise InputError("size: stands for --mazes.sizes, which is given too; leave out one of the two")
        config.mazes = replace(config.mazes, sizes=[config.size])

    from rich.console import Console

    from clew.cli import terminal
    from clew.train.evaluate import samples_of, world_grader
    from clew.train.opening import opened

    terminal.quiet()
    where: dict[str, Any] = {"attention": config.attention, "device": config.device}
    world, reasoner = opened(Path(config.model), config, seed=config.seed, **where)
    if given["from"] is not None:
        questions = list(islice(world.read(Path(given["from"])), 1))
    else:
        count = world.held_out_count()
        questions = world.held_out([config.seed % (MANY if count is None else max(1, count))], "final", config.seed)
    for sample in samples_of(world, reasoner.rollouts(world, questions), world_grader(world)):
        terminal.show_sample(Console(), world, sample, config.model)
