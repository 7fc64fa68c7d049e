"""A page that follows its files, and what it asks while it is served."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from clew import zoo
from clew.errors import InputError
from clew.text import show
from clew.view.build import Page, ViewOptions, page_sections
from clew.view.page import page_of

FOLDERS = ("", "rollouts", "readings")
"""within a path: where files are that a page is made from"""


class Live:
    """A page that is made anew when a file has changed, and the models that it may ask. notes: what a person should
    know of it. InputError for what cannot be shown."""

    def __init__(self, paths: Sequence[str], options: ViewOptions, title: str):
        self.paths, self.options, self.title = list(paths), options, title
        self._lock = Lock()
        self._stamp, self._page, self._html = "", Page([]), ""
        self.page()
        self.notes = self._page.notes

    def page(self) -> str:
        """The HTML. InputError for what cannot be shown."""
        with self._lock:
            stamp = stamp_of(self.paths)
            if self._stamp != stamp:
                self._page = page_sections(self.paths, self.options)
                self._html = page_of(self._page.sections, self.title, stamp, self._page.notes)
                self._stamp = stamp
            return self._html

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What the page is told. InputError for a request that means nothing.

        {"kind": "stamp"}      {"stamp": what the page would be made from now}
        {"kind": "maze", …}    what `view.maze.answer` says of the page's models
        """
        kind = request.get("kind")
        if kind == "stamp":
            return {"stamp": stamp_of(self.paths)}
        if kind != "maze":
            raise InputError(f"kind: {show(kind)} is not one of stamp, maze")
        with self._lock:
            if self._page.models is None:
                raise InputError("kind: no maze model is on this page")

            from clew.view import maze

            return maze.answer(self._page.models, {name: value for name, value in request.items() if name != "kind"})


def stamp_of(paths: Sequence[str]) -> str:
    """A name for the state of the files that a page of these paths is made from."""
    digest = hashlib.sha256()
    for path in paths:
        for inner in FOLDERS:
            folder: Path = zoo.resolved(path) / inner
            for file in sorted(folder.glob("*")):
                if file.is_file() and not file.name.startswith("."):
                    about = file.stat()
                    line = f"{file}\0{about.st_mtime_ns}\0{about.st_size}\n"
                    digest.update(line.encode(errors="backslashreplace"))  # a file's name need not be UTF-8
    return digest.hexdigest()[:16]
