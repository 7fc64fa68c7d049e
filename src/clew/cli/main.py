"""The doors: `clew train | eval | solve | zoo | …`. Each command is a module of its own beside this one.

Heavy imports wait inside the commands, so that `clew --help` answers at once.
"""

import sys
from importlib import import_module

from clew import __version__
from clew.endings import complain, exit_code, interruptible
from clew.text import safe_libraries

HELP = f"""\
Clew {__version__}: trains transformers that search and then report.

  clew train    train a model to answer, on mazes or a world of your own
  clew eval     measure what was trained on held-out questions, or on a file of questions
  clew solve    watch it answer one question in the terminal
  clew zoo      trained models that come with Clew, and what each can do
  clew read     look inside one: what is where, what carries it, how it searches
  clew split    train a shoggoth that writes thoughts and a face that writes answers
  clew audit    what a split's thoughts are worth: needed, true, read alike by a stranger
  clew plan     how many thoughts a question, how many answers a thought
  clew view     look at a run, a zoo model, a reading or a study in a browser
  clew study    how much a choice matters, in numbers: tabular, mazes, read, spillover, report
  clew bench    measure the speed of each part against what people would use instead

Every command explains its options:  clew train --help
Every option can also come from a file:  clew train --config FILE.yaml --lr 1e-3

Exit codes:
  0    done
  1    the run failed: its loss was no number, a grader or a credit rule failed, memory ran out
  2    bad input, or a file that cannot be read or written (a full disk, say)
  130  interrupted (Ctrl-C); 143 ended by SIGTERM; after either, --resume goes on

First steps:
  clew solve zoo:4x4 --seed 3                  a model that is there already, on one maze, before your eyes
  clew train --minutes 3 --out runs/first      a small model on 4x4 mazes
  clew eval runs/first                         its figures, with intervals
  clew solve runs/first --seed 3               one maze, before your eyes
"""

COMMANDS = ("train", "eval", "solve", "zoo", "read", "split", "audit", "plan", "view", "study", "bench")


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns its exit code, see `endings.exit_code`."""
    args = list(sys.argv[1:] if argv is None else argv)
    if hasattr(sys.stdout, "reconfigure"):  # a terminal that lacks a character is no reason to fail
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if not args or args[0] in ("-h", "--help", "help"):
        return exit_code("clew", lambda: print(HELP))
    if args[0] in ("--version", "version"):
        print(f"clew {__version__}")
        return 0
    name = args[0]
    if name not in COMMANDS:
        return complain(f"clew: {name!r} is not a command; there are {', '.join(COMMANDS)} (clew --help)")
    with safe_libraries(), interruptible():
        return exit_code(f"clew {name}", lambda: import_module(f"clew.cli.{name}").run(args[1:]))


if __name__ == "__main__":
    sys.exit(main())
