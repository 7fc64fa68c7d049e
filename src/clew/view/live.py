"""A page that follows its files, and what it asks while it is served."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from clew import zoo
from clew.errors import InputError
from clew.text import show
from clew.view.build import ViewOptions, sections_of_all
from clew.view.page import page_of

FOLDERS = ("", "rollouts", "readings")
"""within a path: where files are that a page is made from"""


class Live:
    """A page, made anew when a file has changed, and the models that it may ask, each opened once."""

    def __init__(self, paths: Sequence[str], options: ViewOptions, title: str):
        self.paths, self.options, self.title = list(paths), options, title
        self._made: tuple[str, str] = ("", "")
        self._models: dict[str, Any] = {}
        self._lock = Lock()

    def page(self) -> str:
        """The HTML. InputError for what cannot be shown."""
        with self._lock:
            stamp = stamp_of(self.paths)
            if self._made[0] != stamp:
                self._made = stamp, page_of(sections_of_all(self.paths, self.options), self.title, stamp)
            return self._made[1]

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What the page is told. InputError for a request that means nothing.

        {"kind": "stamp"}                    {"stamp": what the page would be made from now}
        {"kind": "maze", "path": PATH, …}    what view.maze says; PATH is one of those that the page was made for
        """
        kind = request.get("kind")
        if kind == "stamp":
            return {"stamp": stamp_of(self.paths)}
        if kind == "maze":
            from clew.view import maze

            with self._lock:
                return maze.answer(self._model(request.get("path")), request)
        raise InputError(f"kind: {show(kind)} is not one of stamp, maze")

    def _model(self, path: Any) -> Any:
        if path not in self.paths:
            raise InputError(f"path: {show(path)} is none that this page was made for")
        if path not in self._models:
            from clew.policy import Policy

            self._models[path] = Policy.load(path)
        return self._models[path]


def stamp_of(paths: Sequence[str]) -> str:
    """A name for the state of the files that a page of these paths is made from."""
    digest = hashlib.sha256()
    for path in paths:
        for inner in FOLDERS:
            folder: Path = zoo.resolved(path) / inner
            for file in sorted(folder.glob("*")):
                if file.is_file() and not file.name.startswith("."):
                    about = file.stat()
                    digest.update(f"{file}\0{about.st_mtime_ns}\0{about.st_size}\n".encode())
    return digest.hexdigest()[:16]
