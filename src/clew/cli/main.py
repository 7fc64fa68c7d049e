"""The doors: `clew train | eval | solve | …`. Parsing and printing only; the work is done elsewhere.

Heavy imports wait inside the commands, so that `clew --help` answers at once.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clew import __version__
from clew.config import (
    EvalConfig,
    PlanConfig,
    SolveConfig,
    SplitConfig,
    TrainConfig,
    check_positive,
    check_text,
    read_yaml,
    sizes_of,
)
from clew.endings import complain, exit_code, interruptible
from clew.errors import InputError
from clew.options import instance, parser_of, run_config, underscored
from clew.text import printable, safe_libraries

HELP = f"""\
Clew {__version__}: trains transformers that search and then report.

  clew train    train a model to solve mazes, on the path alone
  clew eval     measure a model on held-out mazes, or on mazes that others made
  clew solve    watch a model solve one maze in the terminal
  clew split    train a shoggoth that writes thoughts and a face that writes answers
  clew plan     how many thoughts a question, how many answers a thought
  clew study    how much a credit rule matters: tabular, mazes, report
  clew bench    measure the speed of each part against what people would use instead

Every command explains its options:  clew train --help
Every option can also come from a file:  clew train --config FILE.yaml --lr 1e-3

Exit codes:
  0    done
  1    the run failed: its loss was no number, a grader or a credit rule failed, memory ran out
  2    bad input, or a file that cannot be read or written (a full disk, say)
  130  interrupted (Ctrl-C); 143 ended by SIGTERM; after either, --resume goes on

First steps:
  clew train --minutes 3 --out runs/first      a small model on 4x4 mazes
  clew eval runs/first                         its figures, with intervals
  clew solve runs/first --seed 3               one maze, before your eyes
"""

STUDY_HELP = """\
usage: clew study tabular | mazes | report

  clew study tabular --out runs/study                      every rule in worlds of tables (twelve minutes, two cores)
  clew study mazes --start runs/split --out runs/study     the rules on mazes, from the warm start of a split
  clew study report runs/study                             verdicts and pictures from what is there

Finished cells are kept and never run again: after a kill, the same command goes on. --config FILE.yaml declares the
grid; --engine ray runs it on a Ray cluster. Every part explains its options:  clew study tabular --help
"""


def train(args: list[str]) -> None:
    about = "Train one model to solve mazes, with the loss on the path alone."
    config, resume = run_config("train", TrainConfig, about, args)

    from rich.console import Console

    from clew import checks, supervised, terminal

    _quiet()
    supervised.checked_stream(config)
    _note(checks.training_notes(config))
    with terminal.TrainingProgress(Console(stderr=True)) as progress:
        result = supervised.train(config, resume=resume, report=progress)
    if result:
        terminal.show_report(Console(), result)
        _wrote(Path(config.out))


def evaluate(args: list[str]) -> None:
    parser = parser_of("eval", EvalConfig, "Measure a model on held-out mazes, or on mazes that others made.")
    parser.add_argument("--from", type=str | None, help="a file of mazes: token lines, ASCII, or maze-dataset's .zanj")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parsed = parser.parse_args(args)
    source: str | None = parsed.pop("from")
    as_json: bool = parsed.pop("json")
    config: EvalConfig = instance(parser, EvalConfig, parsed)

    from rich.console import Console

    from clew import evaluate as ev
    from clew import supervised, terminal

    _quiet()
    check_positive(config, "mazes", "batch")
    policy, items, missing = _given(config, source) if source is not None else _drawn(config)
    with terminal.MazeProgress(Console(stderr=True), None if source is not None else config.mazes) as progress:
        report, kept = ev.evaluate(policy, progress.counted(items), config.batch)
    if missing:
        report["not_evaluated"] = missing
    if config.out:
        supervised.write_evaluation(Path(config.out), report, kept)
    if as_json:
        print(json.dumps(report | ev.provenance(), indent=2))
    else:
        terminal.show_report(Console(), report)
    if config.out:
        _wrote(Path(config.out))


def _given(config: EvalConfig | SolveConfig, source: str, most: int | None = None) -> tuple[Any, Any, str]:
    """The policy, and the first mazes of a file."""
    from clew import evaluate as ev
    from clew.mazes.interop import read_questions

    check_text("from", source)
    if not source:
        raise InputError("from: the text is empty; a file of mazes was expected")
    policy = _policy_of(config)
    return policy, ev.items_of(read_questions(Path(source))[:most], policy, source), ""


def _drawn(config: EvalConfig) -> tuple[Any, Any, str]:
    """The policy, held-out mazes for it, and a line about sizes that have none."""
    from clew import checks
    from clew import evaluate as ev

    trained = _run_options(config.model).get("mazes", {})
    sizes = sizes_of(config.sizes or trained.get("sizes", [4]))
    generators = config.generators or trained.get("generators", ["dfs"])
    p = trained.get("p", 0.1) if config.p is None else config.p
    missing = checks.check_held_out(sizes, generators, p, config.seed)
    policy = _policy_of(config)
    _check_known(policy, sizes, config.model)
    notes = checks.check_evaluation(config, policy.model, max(max(size) for size in sizes))
    _note([missing] * bool(missing) + notes)
    return policy, ev.balanced_items(policy, sizes, generators, p, config.mazes, config.seed), missing


def solve(args: list[str]) -> None:
    parser = parser_of("solve", SolveConfig, "Show a model solving one maze in the terminal.")
    parser.add_argument("--from", type=str | None, help="a file of mazes; its first is solved")
    parsed = parser.parse_args(args)
    source: str | None = parsed.pop("from")
    config: SolveConfig = instance(parser, SolveConfig, parsed)

    from rich.console import Console

    from clew import checks, terminal
    from clew import evaluate as ev

    _quiet()
    if source is not None:
        policy, items, _ = _given(config, source, 1)
    else:
        sizes = sizes_of([config.size])
        checks.check_held_out(sizes, [config.generator], config.p, config.seed)
        policy = _policy_of(config)
        _check_known(policy, sizes, config.model)
        items = ev.balanced_items(policy, sizes, [config.generator], config.p, 1, config.seed)
    for attempt in ev.attempts(policy, items):
        terminal.show_attempt(Console(), attempt, config.model)


def split(args: list[str]) -> None:
    about = "Train a shoggoth that writes thoughts and a face that writes answers."
    config, resume = run_config("split", SplitConfig, about, args)

    from rich.console import Console

    from clew import checks, terminal
    from clew import split as loop

    _quiet()
    loop.check(config)
    _note(checks.splitting_notes(config))
    with terminal.TrainingProgress(Console(stderr=True)) as progress:
        result = loop.split(config, resume=resume, report=progress)
    if result:
        terminal.show_split(Console(), result)
        _wrote(Path(config.out))


def plan(args: list[str]) -> None:
    parser = parser_of("plan", PlanConfig, "How many thoughts a question, how many answers a thought, for a budget.")
    config: PlanConfig = instance(parser, PlanConfig, parser.parse_args(args))
    from clew.plan import Components, best_allocation, measured_run

    check_positive(config, "budget", "thought_cost", "answer_cost", "last")
    check_positive(config, "thought_variance", "answer_variance", zero=True)
    parts = Components(0.0, config.thought_variance or 0.0, config.answer_variance or 0.0)
    thought_cost, answer_cost, budget = config.thought_cost, config.answer_cost, config.budget
    if config.run:
        parts, costs = measured_run(Path(config.run), config.last)
        thought_cost, answer_cost, budget = thought_cost or costs[0], answer_cost or costs[1], budget or costs[2]
    elif config.thought_variance is None or config.answer_variance is None:
        raise InputError("run: give a split's run folder, or --thought-variance and --answer-variance")
    if not thought_cost or not answer_cost or not budget:
        raise InputError("thought_cost, answer_cost, budget: all three are needed where no run is given")
    try:
        n, k = best_allocation(parts, thought_cost, answer_cost, budget)
    except (OverflowError, ValueError):
        raise InputError(f"budget: {budget:g} buys more samples than can be counted") from None
    print(f"variance of scores: between thoughts {parts.thought:.4f}, between answers of a thought {parts.answer:.4f}")
    print(f"cost in tokens: a thought {thought_cost:.1f}, an answer {answer_cost:.1f}; budget {budget:.0f} a question")
    print(f"best: n = {n} thoughts, k = {k} answers; a thought's mean score is then {parts.reliability(k):.0%} its own")


def study(args: list[str]) -> None:
    kinds = {"tabular": _study_tabular, "mazes": _study_mazes, "report": _study_report}
    if not args or args[0] in ("-h", "--help"):
        print(STUDY_HELP)
        return
    if args[0] not in kinds:
        raise InputError(f"{args[0]!r} is no part of a study; there are {', '.join(kinds)} (clew study --help)")
    kinds[args[0]](args[1:])


def _study_tabular(args: list[str]) -> None:
    from clew.study.grid import TabularConfig, study

    parser = parser_of("study tabular", TabularConfig, "Every rule in worlds of tables, each at its best.")
    config: TabularConfig = instance(parser, TabularConfig, parser.parse_args(args))
    _studied(lambda report: study(config, report), Path(config.out))


def _study_mazes(args: list[str]) -> None:
    from clew.study.mazes import MazeStudyConfig, study

    parser = parser_of("study mazes", MazeStudyConfig, "The rules on mazes, from one warm start, at equal cost.")
    config: MazeStudyConfig = instance(parser, MazeStudyConfig, parser.parse_args(args))
    _quiet()
    _studied(lambda report: study(config, report), Path(config.out))


def _studied(run: Callable[[Any], Any], out: Path) -> None:
    from rich.console import Console

    from clew import terminal

    with terminal.StudyProgress(Console(stderr=True)) as progress:
        run(progress)
    _study_report([str(out)])


def _study_report(args: list[str]) -> None:
    from rich.console import Console

    from clew import terminal
    from clew.study.report import report

    if args in (["-h"], ["--help"]):
        print("usage: clew study report FOLDER\n\nWrites FOLDER/report.md and its pictures from the results in FOLDER.")
        return
    if len(args) != 1 or args[0].startswith("-"):
        raise InputError("expected one folder of a study: clew study report FOLDER")
    check_text("folder", args[0])
    verdicts, written = report(Path(args[0]))
    terminal.show_verdicts(Console(), verdicts)
    print(printable(f"wrote {written}"), file=sys.stderr)


def bench(args: list[str]) -> None:
    folder = Path(__file__).parents[2] / "bench"
    files = sorted(folder.glob("*.py")) if (folder / "measure.py").is_file() else []
    names = {path.stem: path for path in files if path.stem != "measure"}
    if not names:
        raise InputError("bench: the benches are in a clone of the project, and this is an installed package")
    if not args or args[0] in ("-h", "--help"):
        print("usage: clew bench NAME [--repeats N] [--out DIR]\n")
        for name, path in names.items():
            print(f"  {name:15} {path.read_text(encoding='utf-8').splitlines()[0].strip(chr(34))}")
        print("\nResults go to bench/results. What each asks, and what came out: bench/README.md")
        return
    if args[0] not in names:
        raise InputError(f"{args[0]!r} is no bench; there are {', '.join(names)}")
    if done := subprocess.run([sys.executable, names[args[0]], *args[1:]]).returncode:
        sys.exit(done)


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": train, "eval": evaluate, "solve": solve, "split": split, "plan": plan, "study": study, "bench": bench,
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns its exit code, see `endings.exit_code`."""
    args = list(sys.argv[1:] if argv is None else argv)
    if hasattr(sys.stdout, "reconfigure"):  # a terminal that lacks a character is no reason to fail
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0
    if args[0] in ("--version", "version"):
        print(f"clew {__version__}")
        return 0
    name = args[0]
    if name not in COMMANDS:
        return complain(f"clew: {name!r} is not a command; there are {', '.join(COMMANDS)} (clew --help)")
    with safe_libraries(), interruptible():
        return exit_code(f"clew {name}", lambda: COMMANDS[name]([underscored(arg) for arg in args[1:]]))


def _note(lines: list[str]) -> None:
    """Says what a person should know before the work begins; one process of several says it."""
    for line in lines if os.environ.get("RANK", "0") == "0" else []:
        print(printable(f"note: {line}"), file=sys.stderr)


def _run_options(model: str) -> dict[str, Any]:
    """The options of a run folder; empty for any other folder."""
    path = Path(model) / "config.yaml"
    return read_yaml(path) if path.is_file() else {}


def _policy_of(config: EvalConfig | SolveConfig) -> Any:
    """The model that a command asks, on its device, reading as it was trained unless the options say otherwise."""
    from clew.policy import Policy, pick_device

    policy = Policy.load(config.model)
    policy.attention = config.attention or _run_options(config.model).get("attention", "trees")
    policy.check()
    policy.model.to(pick_device(config.device))  # type: ignore[arg-type]
    return policy


def _check_known(policy: Any, sizes: tuple[tuple[int, int], ...], model: str) -> None:
    from clew.evaluate import cells_known

    known, largest = cells_known(policy), max(max(size) for size in sizes)
    if largest > known:
        raise InputError(f"sizes: {largest} is more than {model} knows, which is mazes to {known}x{known}")


def _quiet() -> None:
    """Libraries' chatter about tiny models would bury the figures."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def _wrote(out: Path) -> None:
    print(printable(f"wrote {out}/ (pictures in {out}/plots/)"), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
