"""What people see in a terminal: mazes, tables, progress."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from clew.evaluate import Attempt
from clew.mazes.grading import valid_start
from clew.mazes.lattice import Cell, Lattice
from clew.text import printable

if TYPE_CHECKING:
    from clew.study.report import Verdict

RATE_ROWS = {
    "exact": "exact (the reference path)", "optimal": "optimal (any shortest path)",
    "valid": "valid (only open passages)", "target_reached": "ends at the target",
    "starts_at_once": "starts its path at once",
}  # fmt: skip
MEAN_ROWS = {"mean_score": "mean score", "node_overlap": "node overlap", "fraction_connections_adjacent": "open steps"}


def maze_text(lattice: Lattice, paths: list[tuple[list[Cell | None], str]], ends: dict[Cell, tuple[str, str]]) -> Text:
    """A lattice drawn with block walls; each path (cells, style) is drawn over those before it, `ends` on top."""
    rows, cols = lattice.rows, lattice.cols
    grid = [[("██", "bright_black")] * (2 * cols + 1) for _ in range(2 * rows + 1)]
    for r in range(rows):
        for c in range(cols):
            grid[2 * r + 1][2 * c + 1] = ("  ", "")
            if lattice.passages[0, r, c]:
                grid[2 * r + 2][2 * c + 1] = ("  ", "")
            if lattice.passages[1, r, c]:
                grid[2 * r + 1][2 * c + 2] = ("  ", "")
    for cells, style in paths:
        walk = [cell if cell in lattice else None for cell in cells]
        for a, b in zip([None, *walk], walk, strict=False):
            if b is None:
                continue
            grid[2 * b[0] + 1][2 * b[1] + 1] = ("••", style)
            if a is not None and abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1:
                grid[a[0] + b[0] + 1][a[1] + b[1] + 1] = ("••", style)
    for (r, c), mark in ends.items():
        grid[2 * r + 1][2 * c + 1] = mark
    return Text("\n").join(Text.assemble(*line) for line in grid)


def show_attempt(console: Console, attempt: Attempt, model: str) -> None:
    """A maze with the model's path, wrong steps in red, beside the shortest path."""
    question, grade = attempt.item.question, attempt.grade
    ends = {question.origin: ("S ", "bold"), question.target: ("E ", "bold")}
    good = valid_start(question, attempt.cells)
    wrong = attempt.cells[max(0, good - 1) :] if good < len(attempt.cells) else []
    side_by_side = Table.grid(padding=(0, 4))
    side_by_side.add_row("[blue]the model's path[/] ([red]wrong steps[/])", "[yellow]a shortest path[/]")
    side_by_side.add_row(
        maze_text(question.lattice, [(wrong, "bold red"), (attempt.cells[:good], "bold blue")], ends),
        maze_text(question.lattice, [(list(attempt.solution), "bold yellow")], ends),
    )
    console.print(side_by_side)
    split = "held-out: never trained on" if question.lattice.held_out else "NOT held-out: may have been trained on"
    console.print(f"maze {question.lattice.rows}x{question.lattice.cols}, {split}", highlight=False)
    console.print(Text(f"{printable(model)} wrote: {printable(attempt.text)}"))
    verdict = "solved: a shortest path" if grade.optimal else "solved, with a detour" if grade.score > 0.5 else "failed"
    console.print(
        f"[bold]{verdict}[/]; score {grade.score:.3f}, {grade.steps} steps, shortest {grade.shortest_steps}",
        highlight=False,
    )


def show_report(console: Console, report: dict[str, Any]) -> None:
    """An evaluation as tables, and what could not be evaluated."""
    if "not_evaluated" in report:
        console.print(Text(printable(f"not evaluated: {report['not_evaluated']}")))
    if not report["mazes"]:
        return
    table = Table(title=f"{report['mazes']} mazes, greedy rollouts; 95% intervals")
    table.add_column("")
    table.add_column("model", justify="right")
    table.add_column("random walk", justify="right")
    for name, label in RATE_ROWS.items():
        table.add_row(label, _percent(report[name]), _percent(report["baseline"][name]))
    for name, label in MEAN_ROWS.items():
        table.add_row(label, _number(report[name]), _number(report["baseline"][name]))
    console.print(table)
    for key, title in (("by_split", "held-out or not"), ("by_size", "size"), ("by_generator", "generator"),
                       ("by_path_length", "path length")):  # fmt: skip
        groups = report[key]
        if len(groups) < 2 and key != "by_split":
            continue
        table = Table(title=f"by {title}")
        for column in (title, "mazes", "exact, with interval", "optimal", "valid", "mean score"):
            table.add_column(column, justify="left" if column == title else "right")
        for name, group in groups.items():
            rates = [f"{100 * group[rate]['value']:.1f}%" for rate in ("optimal", "valid")]
            table.add_row(_label(name), str(group["mazes"]), _percent(group["exact"]), *rates,
                          f"{group['mean_score']['value']:.3f}")  # fmt: skip
        console.print(table)


def show_split(console: Console, result: dict[str, Any]) -> None:
    """A split's final evaluation beside that of its warm start."""
    after, before = result["after"], result["before"]
    table = Table(title=f"{after['mazes']} held-out questions, one greedy thought and answer each; 95% intervals")
    for column in ("", "warm start", "trained"):
        table.add_column(column, justify="right" if column else "left")
    for name in after:
        if isinstance(after[name], dict):
            table.add_row(_label(name), _number(before[name]), _number(after[name]))
    console.print(table)


def _label(name: str) -> Text:
    """A figure's name: never markup, whoever named it."""
    return Text(printable(name.replace("_", " ")))


def _percent(figure: dict[str, float]) -> str:
    return f"{100 * figure['value']:.1f}% [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"


def _number(figure: dict[str, float]) -> str:
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


class _Bar:
    """A progress bar that is shown where there is a terminal, while it is entered."""

    console: Console
    bar: Progress

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        # The line that says what went wrong stands alone: Progress.stop would put an empty one before it.
        self.bar.live.transient |= kind is not None
        self.bar.live.stop()


class TrainingProgress(_Bar):
    """A bar with step, loss, held-out exact, paths a second and time left; a line now and then where there is no
    terminal."""

    def __init__(self, console: Console):
        self.console = console
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(10),
            TextColumn("{task.fields[figures]}"), TimeRemainingColumn(compact=True), TextColumn("left"),
            console=console,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=1.0, figures="")
        self.exact = ""
        self.told: tuple[str, int] = ("", -1)

    def __call__(self, values: dict[str, Any]) -> None:
        if "held_out_exact" in values:
            self.exact = f"  held-out exact {values['held_out_exact']:.1%}"
        if "held_out_score" in values:
            self.exact = f"  held-out score {values['held_out_score']:.3f}"
            if "held_out_optimal" in values:
                self.exact += f", optimal {values['held_out_optimal']:.1%}"
        if "score" in values:
            figures = (
                f"round {values['step']}  score {values['score']:.3f}  {values['thought_tokens']:.1f} tokens a thought"
            )
        else:
            figures = f"{values['mazes']:,} mazes" if "mazes" in values else f"step {values['step']}"
            figures += f"  loss {values['loss']:.3f}" if "loss" in values else ""
        figures += self.exact
        if "paths_per_second" in values:
            figures += f"  {values['paths_per_second']:.0f} paths/s"
        phase = values.get("phase", "training")
        self.bar.update(
            self.task, description=f"[bold]{escape(printable(phase))}[/]", completed=values["progress"], figures=figures
        )
        looked = any(name.startswith("held_out") for name in values)
        tenth = (phase, int(10 * values["progress"]))
        if not self.console.is_terminal and (looked or tenth != self.told or "mazes" in values):
            self.console.print(Text(printable(f"{phase} {values['progress']:4.0%}  {figures}")), soft_wrap=True)
        self.told = tenth


class MazeProgress(_Bar):
    """A bar with the mazes taken up, which goes when they are done; where there is no terminal, a line a minute."""

    def __init__(self, console: Console, count: int | None):
        self.console, self.count = console, count
        self.bar = Progress(
            TextColumn("[bold]mazes[/]"), BarColumn(20), MofNCompleteColumn(),
            TimeRemainingColumn(compact=True), TextColumn("left"), console=console, transient=True,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=count)
        self.told = time.monotonic()

    def counted(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items, each counted as it is taken."""
        for number, item in enumerate(items, 1):
            self.bar.update(self.task, completed=number)
            if not self.console.is_terminal and time.monotonic() - self.told > 60:
                self.told = time.monotonic()
                self.console.print(Text(f"{number:,} of {format(self.count, ',') if self.count else 'the'} mazes"))
            yield item


class StudyProgress(_Bar):
    """A bar with the cells done and the time left; where there is no terminal, a line for each tenth."""

    def __init__(self, console: Console):
        self.console = console
        self.bar = Progress(
            TextColumn("[bold]{task.description}[/]"), BarColumn(20), MofNCompleteColumn(), TextColumn("cells"),
            TimeRemainingColumn(compact=True), TextColumn("left"), console=console,
        )  # fmt: skip
        self.tasks: dict[str, Any] = {}
        self.told: tuple[str, int] = ("", -1)

    def __call__(self, phase: str, done: int, count: int) -> None:
        if phase not in self.tasks:  # what was finished before does not count towards the speed
            self.tasks[phase] = self.bar.add_task(phase, total=count, completed=done)
        self.bar.update(self.tasks[phase], completed=done)
        tenth = (phase, 10 * done // max(1, count))
        if not self.console.is_terminal and tenth != self.told:
            self.console.print(f"{phase}: {done} of {count} cells", highlight=False)
        self.told = tenth


def show_verdicts(console: Console, verdicts: Sequence["Verdict"]) -> None:
    """Each question of a study and what the numbers say."""
    for number, verdict in enumerate(verdicts, 1):
        console.print(Text(printable(f"{number}. {verdict.question}"), style="bold"))
        console.print(Text("   " + printable(verdict.text, 100_000) + "\n"))
