"""`clew view`: look at it."""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clew.cli.options import instance, parser_of
from clew.config import check_positive
from clew.errors import InputError
from clew.files import check_writable, write_atomically
from clew.text import show

PATH = "a run folder of clew train or clew split, zoo:NAME, a folder of clew read, or a study's; several are compared"


@dataclass
class ViewConfig:
    """Look at a run, a zoo model, a reading or a study: one page that any browser opens, without a network."""

    questions: int = 50
    """mazes on the page of a maze model, held-out"""
    rounds: int = 12
    """rounds on the page of a split, evenly spread, the first and the last among them"""
    seed: int = 0
    """of the mazes"""
    port: int = 0
    """with --serve, the port of the loopback interface; 0 takes a free one"""
    out: str | None = None
    """the HTML file; by default runs/view-NAME.html"""


FLAGS = {
    "serve": "keep the page live on this machine's loopback interface, until Ctrl-C",
    "no-open": "open no browser; where there is no display none is opened in any case",
}


def run(args: list[str]) -> None:
    """The command."""
    config, paths, given = _asked(args)

    from rich.console import Console

    from clew.cli import terminal
    from clew.view.build import ViewOptions, page_sections
    from clew.view.page import page_of

    terminal.quiet()
    options = ViewOptions(config.questions, config.rounds, config.seed)
    if given["serve"]:
        return _serve(config, paths, options, not given["no_open"])
    out = Path(config.out or f"runs/view-{_name(paths)}.html")
    if out.is_dir():
        raise InputError(f"out: {show(str(out))} is a folder; expected the name of an HTML file")
    check_writable("out", out.parent)
    with terminal.StudyProgress(Console(stderr=True), "parts") as progress:
        page = page_sections(paths, options, lambda part, done, count: progress(part, done, count))
    write_atomically(out, page_of(page.sections, title_of(paths), notes=page.notes))
    for note in page.notes:
        terminal.told(f"note: {note}")
    terminal.told(f"wrote {out}")
    if not given["no_open"]:
        _open(out.resolve().as_uri())


def title_of(paths: list[str]) -> str:
    return " · ".join(paths)


def _asked(args: list[str]) -> tuple[ViewConfig, list[str], dict[str, bool]]:
    parser = parser_of("view", ViewConfig, str(ViewConfig.__doc__))
    parser.add_argument("paths", nargs="+", type=str, metavar="PATH", help=PATH)
    for name, about in FLAGS.items():
        parser.add_argument(f"--{name.replace('-', '_')}", action="store_true", help=about)
    parsed = parser.parse_args(args)
    paths = parsed.pop("paths")
    given = {name.replace("-", "_"): parsed.pop(name.replace("-", "_")) for name in FLAGS}
    config = instance(parser, ViewConfig, parsed)
    check_positive(config, "questions", "rounds")
    if not 0 <= config.port < 2**16:
        raise InputError(f"port: {config.port} is not between 0 and 65535")
    if given["serve"] and config.out:
        raise InputError("out: a page that is served is not written; leave out --out, or --serve")
    if config.port and not given["serve"]:
        raise InputError("port: a page that is written needs none; leave it out, or add --serve")
    return config, paths, given


def _serve(config: ViewConfig, paths: list[str], options: Any, opens: bool) -> None:
    from clew.cli import terminal
    from clew.view.live import Live
    from clew.view.serve import Server

    made: list[Live] = []  # the port is asked for first, since a page can take long to make
    with Server(lambda: made[0].page(), lambda request: made[0].answer(request), config.port) as server:
        made.append(Live(paths, options, title_of(paths)))
        for note in made[0].notes:
            terminal.told(f"note: {note}")
        terminal.told(f"serving {server.address} until Ctrl-C")
        if opens:
            _open(server.address)
        server.serve_forever()


def _open(address: str) -> None:
    """Opens a browser where there is somewhere to show it."""
    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        import webbrowser

        webbrowser.open(address)


def _name(paths: list[str]) -> str:
    """What a page is called after: the last parts of its paths."""
    names = [Path(path.replace(":", "-")).resolve().name for path in paths]
    return re.sub(r"[^\w.-]+", "-", "-".join(names))[:80].strip("-.") or "page"
