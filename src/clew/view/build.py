"""Which sections a path has: what it is decides who makes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clew import zoo
from clew.errors import InputError
from clew.text import check_text, show
from clew.view.page import Section, merged

EXPECTED = "a run folder of clew train or clew split, zoo:NAME, a reading of clew read, or results of clew study"


@dataclass(frozen=True)
class ViewOptions:
    """What goes onto a page."""

    questions: int = 50
    """mazes of a maze model"""
    rounds: int = 12
    """rounds of a split, the first and the last among them"""
    seed: int = 0
    """of the mazes"""
    served: bool = False
    """whether the page can ask a server"""


def sections_of(path: str, options: ViewOptions) -> list[Section]:
    """What a page shows of one path. InputError for a path that is nothing that can be shown."""
    check_text("path", path)
    folder = zoo.resolved(path)
    try:
        there = {one.name for one in folder.iterdir()}
    except FileNotFoundError:
        raise InputError(f"path: {show(path)} is not there; expected {EXPECTED}") from None
    except NotADirectoryError:
        raise InputError(f"path: {show(path)} is a file; expected {EXPECTED}") from None
    sections: list[Section] = []
    if "model" in there:
        sections += _maze(path, folder, options)
    if not sections:
        raise InputError(f"path: {show(path)} holds nothing to show; expected {EXPECTED}")
    return sections


def sections_of_all(paths: Sequence[str], options: ViewOptions) -> list[Section]:
    """What a page shows of several paths, side by side where that can be."""
    return merged([section for path in paths for section in sections_of(path, options)])


def _maze(path: str, folder: Path, options: ViewOptions) -> list[Section]:
    try:
        from clew.view import maze  # type: ignore[attr-defined]
    except ImportError:
        return []
    return maze.sections(folder, path, options)
