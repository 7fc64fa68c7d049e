"""`clew study`: how much a choice matters. Configs live with the studies, which benches run too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from clew.cli.options import instance, parser_of
from clew.errors import InputError
from clew.text import check_text

HELP = """\
usage: clew study tabular | mazes | read | spillover | report

  clew study tabular --out runs/study                      every rule in worlds of tables (twelve minutes, two cores)
  clew study mazes --start runs/split --out runs/study     the rules on mazes, from the warm start of a split
  clew study read --out runs/study-read                    losses and depths: is a search taught by paths crisper?
  clew study spillover --out runs/spillover                does pressure on answers leak into thoughts?
  clew study report runs/study                             verdicts and pictures from what is there

Finished cells are kept and never run again: after a kill, the same command goes on. --config FILE.yaml declares the
grid; --engine ray runs it on a Ray cluster. Every part explains its options:  clew study tabular --help
"""


def run(args: list[str]) -> None:
    """The command."""
    parts = {"tabular": _tabular, "mazes": _mazes, "read": _read, "spillover": _spillover, "report": _report}
    if not args or args[0] in ("-h", "--help"):
        print(HELP)
        return
    if args[0] not in parts:
        raise InputError(f"{args[0]!r} is no part of a study; there are {', '.join(parts)} (clew study --help)")
    parts[args[0]](args[1:])


def _tabular(args: list[str]) -> None:
    from clew.study.grid import TabularConfig, study

    _studied("study tabular", TabularConfig, study, args)


def _mazes(args: list[str]) -> None:
    from clew.study.mazes import MazeStudyConfig, study

    _studied("study mazes", MazeStudyConfig, study, args)


def _read(args: list[str]) -> None:
    from clew.study.reading import ReadStudyConfig, study

    _studied("study read", ReadStudyConfig, study, args)


def _spillover(args: list[str]) -> None:
    from clew.study.spillover.grid import SpilloverConfig, study

    _studied("study spillover", SpilloverConfig, study, args)


def _studied(command: str, kind: Any, study: Callable[..., Any], args: list[str]) -> None:
    parser = parser_of(command, kind, str(kind.__doc__))
    config = instance(parser, kind, parser.parse_args(args))

    from rich.console import Console

    from clew.cli import terminal

    if command != "study tabular":  # which loads no model
        terminal.quiet()
    with terminal.StudyProgress(Console(stderr=True)) as progress:
        study(config, progress)
    _report([config.out])


def _report(args: list[str]) -> None:
    if args in (["-h"], ["--help"]):
        print("usage: clew study report FOLDER\n\nWrites FOLDER/report.md and its pictures from the results in FOLDER.")
        return
    if len(args) != 1 or args[0].startswith("-"):
        raise InputError("expected one folder of a study: clew study report FOLDER")
    check_text("folder", args[0])

    from rich.console import Console

    from clew.cli import terminal
    from clew.study import reading_report, report
    from clew.study.spillover import summary

    folder = Path(args[0])
    if (folder / reading_report.FILE).is_file():
        contrasts, written = reading_report.report(folder)
        for one in contrasts:
            Console().print(one.sentence, soft_wrap=True, highlight=False, markup=False)
    else:
        of = summary if (folder / summary.FILE).is_file() else report
        verdicts, written = of.report(folder)
        terminal.show_verdicts(Console(), verdicts)
    terminal.told(f"wrote {written}")
