"""`clew read`: how does it search?"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clew import zoo
from clew.cli.eval import asked
from clew.config import Device, Size, WorldConfig, check_positive, sizes_of
from clew.errors import InputError
from clew.files import check_writable
from clew.text import show


@dataclass
class ReadConfig(WorldConfig):
    """Look inside a model that solves mazes: what is where, what carries it, and how it searches."""

    model: str = ""  # a positional argument, explained by eval.MODEL
    size: Size | None = None
    """mazes to read it on: 5 for 5x5, [4, 6] for 4 rows of 6; by default the largest that it was trained on"""
    parts: list[str] | None = None
    """which parts, by default all: patching, heads, attribution, probes, layers, edges, steering, search, crispness"""
    pairs: int = 500
    """minimal pairs of each kind: two mazes that differ in one thing, and ask for another step at one fork"""
    questions: int = 2000
    """held-out mazes that probes are fitted to, and tested on others of"""
    seed: int = 0
    """of the mazes"""
    device: Device = "auto"
    """where to run"""
    out: str | None = None
    """folder for readings/ (tables as Parquet, reading.json) and plots/; by default runs/read-NAME"""


def run(args: list[str]) -> None:
    """The command."""
    flags = {"json": {"action": "store_true", "help": "print reading.json in place of the figures"}}
    config, given = asked("read", ReadConfig, args, flags=flags)
    check_positive(config, "pairs", "questions")
    if config.world not in (None, "mazes") or config.prompts.file or config.gym.tasks:
        raise InputError("world: models of mazes alone can be read; expected mazes")
    size = max(sizes_of(config.mazes.sizes if config.size is None else [config.size]), key=math.prod)
    config.mazes = replace(config.mazes, sizes=[size])

    from rich.console import Console

    from clew.cli import terminal
    from clew.policy import Policy, pick_device
    from clew.read import plots
    from clew.read.reading import (
        FOLDER,
        PARTS,
        ReadingOptions,
        Subject,
        check_reading,
        read_model,
        summary,
        write_reading,
    )
    from clew.read.terminal import show_reading
    from clew.runs.provenance import provenance
    from clew.world import world_of

    terminal.quiet()
    parts = list(PARTS) if config.parts is None else config.parts
    mazes: Any = config.mazes
    o = ReadingOptions(size, tuple(mazes.generators), mazes.p, config.pairs, config.questions, config.seed)
    if (zoo.resolved(config.model) / "shoggoth").is_dir():
        raise InputError(f"model: {show(config.model)} thinks before it answers; one that answers at once was expected")
    policy = Policy.load(config.model)
    world_of(config, config.seed, policy.tokenizer)  # refuses mazes that the model does not know
    policy.model.to(pick_device(config.device))  # type: ignore[arg-type]
    if config.mazes.anywhere:
        terminal.told("note: mazes.anywhere: a reading is of mazes in the grid's first rows and columns, these alone")
    subject, out = Subject(policy, o), Path(config.out or f"runs/read-{zoo.file_name(config.model)}")
    check_reading(subject, parts)
    check_writable("out", out / FOLDER)
    with terminal.StudyProgress(Console(stderr=True), "parts") as progress:
        reading = read_model(subject, parts, lambda _, done, count: progress("reading", done, count))
    facts = {"model": config.model, **provenance()}
    write_reading(reading, out, facts)
    plots.draw(reading, out / "plots")
    if given["json"]:
        print(json.dumps(summary(reading, facts), indent=2))
    else:
        show_reading(Console(), reading)
    terminal.wrote(out)
