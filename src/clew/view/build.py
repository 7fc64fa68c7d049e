"""Which sections a page has: what each path is decides who makes them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clew import zoo
from clew.errors import InputError
from clew.runs.snapshots import run_of
from clew.text import check_text, show
from clew.view import audits, readings, splits, studies, trains
from clew.view.page import Section, merged
from clew.view.runs import config_of, is_mazes

EXPECTED = "a run folder of clew train or clew split, zoo:NAME, a reading of clew read, or results of clew study"
Told = Callable[[str, int, int], None]
"""called with what is done, how much of it is, and of how much"""


@dataclass(frozen=True)
class ViewOptions:
    """What goes onto a page."""

    questions: int = 50
    """mazes of a maze model"""
    rounds: int = 12
    """rounds of a split, the first and the last among them"""
    seed: int = 0
    """of the mazes"""


@dataclass(frozen=True)
class Page:
    """A page's sections; the maze models that it can ask while it is served, None where it has none; and what a person
    should know of it, a line each."""

    sections: list[Section]
    models: Any = None
    notes: tuple[str, ...] = ()


def page_sections(paths: Sequence[str], options: ViewOptions, told: Told = lambda *_: None) -> Page:
    """What a page shows of several paths, side by side where that can be. InputError for a path that is nothing that
    can be shown, and for files in it that cannot be read."""
    named = [(path, folder_of(path)) for path in paths]
    each = [sections_of(path, folder, options) for path, folder in named]
    mazes = [path for path, folder in named if is_maze_model(folder)]
    for (path, _), sections in zip(named, each, strict=True):
        if not sections and path not in mazes:
            raise InputError(f"path: {show(path)} holds nothing to show; expected {EXPECTED}")
    others = merged([section for sections in each for section in sections])
    if not mazes:
        return Page(others)
    try:
        return _with_mazes(mazes, others, options, told)
    except InputError as error:
        if not others:
            raise
        return Page(others, notes=(f"mazes are left out: {error}",))


def _with_mazes(paths: list[str], others: list[Section], options: ViewOptions, told: Told) -> Page:
    from clew.view import maze

    models = maze.open_models(paths, seed=options.seed)
    shown = maze.sections(models, questions=options.questions, seed=options.seed, told=told)
    return Page([*shown, *others], models)


def folder_of(path: str) -> Path:
    """The folder that a path means. InputError for one that is none, or cannot be looked into."""
    check_text("path", path)
    folder = zoo.resolved(path)
    try:
        next(folder.iterdir(), None)
    except FileNotFoundError:
        raise InputError(f"path: {show(path)} is not there; expected {EXPECTED}") from None
    except NotADirectoryError:
        raise InputError(f"path: {show(path)} is a file; expected {EXPECTED}") from None
    except OSError as error:
        raise InputError(f"path: {show(path)} cannot be opened: {error.strerror}") from None
    return folder


def sections_of(path: str, folder: Path, options: ViewOptions) -> list[Section]:
    """What a page shows of one folder, but for the mazes of a model; nothing of a folder that is none of a run's."""
    sections: list[Section] = []
    if (folder / "rollouts").is_dir() or (folder / "shoggoth").is_dir():
        sections += splits.sections(folder, path, options.rounds)
    elif (folder / "metrics.jsonl").is_file() or (folder / "eval.json").is_file():
        sections += trains.sections(folder, path)
    sections += audits.sections(folder, path)
    if (folder / "readings" / "reading.json").is_file():
        sections += readings.sections(folder, path)
    return sections + studies.sections(folder, path)


def is_maze_model(folder: Path) -> bool:
    """Whether a folder is a run of clew train, or a snapshot of one, whose model answers mazes."""
    config = config_of(run_of(folder))
    return bool(config) and (folder / "model").is_dir() and config.get("world") in (None, "mazes") and is_mazes(config)
