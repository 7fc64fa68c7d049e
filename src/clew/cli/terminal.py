"""What people see in a terminal: tables, samples, progress. Whatever has a name or text that others chose is shown as
it is, never obeyed and never read as markup."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from clew.runs.intervals import figures_in, is_rate, merged, ranges_of
from clew.text import in_percent, printable, with_interval

if TYPE_CHECKING:
    from clew.study.report import Verdict
    from clew.train.evaluate import Sample
    from clew.world import World

Figure = dict[str, float]
CLIP = 600  # characters of a prompt that are shown
ROWS = 16  # of a table by numbers; more are shown as ranges
FEW = 2  # rates of a table by groups beside the headline: what a terminal of 80 columns holds


def plain_label(name: str) -> str:
    return name.replace("_", " ")


def show_report(
    console: Console, report: dict[str, Any], headline: str = "score", label: Callable[[str], str | None] = plain_label
) -> None:
    """An evaluation as tables: all its figures beside the baseline's, and the headline by groups of questions."""
    if "not_evaluated" in report:
        console.print(_text(f"not evaluated: {report['not_evaluated']}"))
    if not report["questions"]:
        return
    columns = {"model": report} | ({"baseline": report["baseline"]} if "baseline" in report else {})
    console.print(_figures(f"{report['questions']} questions, greedy", columns, label))
    for name, groups in report.items():
        if name.startswith("by_") and len(groups) > 1:
            baseline = report.get(f"baseline_{name}", {})
            console.print(_by_group(plain_label(name.removeprefix("by_")), groups, baseline, headline, label))
    alone = [f"{plain_label(name[3:])} {next(iter(report[name]))}" for name in report if _has_one(name, report[name])]
    if alone:
        console.print(_text("all of " + ", ".join(alone)))


def _has_one(name: str, groups: Any) -> bool:
    return name.startswith("by_") and len(groups) == 1


def show_split(console: Console, result: dict[str, Any], label: Callable[[str], str | None] = plain_label) -> None:
    """A split's final evaluation beside that of its warm start."""
    after, before = result["after"], result["before"]
    title = f"{after['questions']} held-out questions, one greedy thought and answer each"
    console.print(_figures(title, {"warm start": before, "trained": after}, label))


def _figures(title: str, columns: dict[str, dict[str, Any]], label: Callable[[str], str | None]) -> Table:
    """Figures that have a label, with their intervals, a column for each report."""
    table = Table("", title=f"{title}; 95% intervals")
    for column in columns:
        table.add_column(column, justify="right")
    named = dict.fromkeys(name for report in columns.values() for name in figures_in(report))
    for name in named:
        if shown := label(name):
            table.add_row(_text(shown), *(_interval(report, name) for report in columns.values()))
    return table


def _by_group(
    kind: str, groups: dict[str, Any], baseline: dict[str, Any], headline: str, label: Callable[[str], str | None]
) -> Table:
    """The headline with its interval, the baseline's, and a few other rates, group by group; many numbers in ranges.
    And how many things questions are about, where those of some group share one."""
    if all(headline in group and is_rate(group[headline], group["questions"]) for group in groups.values()):
        ranges = ranges_of(groups, ROWS)
        groups, baseline = merged(groups, ranges), merged(baseline, ranges)
    first = next(iter(groups.values()))
    others = [name for name, figure in figures_in(first).items() if is_rate(figure, first["questions"])]
    others = [name for name in others if name != headline][:FEW]
    table = Table(title=_text(f"by {kind}"))
    table.add_column(_text(kind), no_wrap=True)
    shared = any(group.get("sources", group["questions"]) < group["questions"] for group in groups.values())
    about = [label("sources") or "sources"] if shared else []
    for column in ("questions", *about, headline, *(["baseline"] if baseline else []), *others):
        table.add_column(_text(plain_label(column)), justify="right", no_wrap=True)
    for name, group in groups.items():
        cells = [str(group["questions"]), *([str(group.get("sources", ""))] if shared else [])]
        cells.append(_interval(group, headline))
        cells += [_interval(baseline.get(name, {}), headline, short=True)] if baseline else []
        table.add_row(_text(name), *cells, *(_interval(group, other, short=True) for other in others))
    return table


def _interval(report: dict[str, Any], name: str, short: bool = False) -> str:
    """A figure as people read it: a rate as a percentage, a mean as a number."""
    if name not in report:
        return ""
    figure = report[name]
    if is_rate(figure, report["questions"]):
        return f"{in_percent(figure['value'])}%" if short else with_interval(figure, "%")
    value, low, high = (f"{figure[part]:.3f}" for part in ("value", "low", "high"))
    return value if short else f"{value} [{low}, {high}]"


def show_sample(console: Console, world: "World", sample: "Sample", model: str) -> None:
    """One question, what a model made of it, and what that is worth."""
    console.print(_text(f"asked: {sample.question.prompt}", CLIP), soft_wrap=True)
    if sample.thought is not None:
        console.print(_text(f"{model} thought: {sample.thought}"), soft_wrap=True)
        if (searched := world.thought_drawing(sample.question, sample.thought)) is not None:
            console.print(searched)
    drawing = world.drawing(sample.question, sample.answer)
    if drawing is not None:
        console.print(drawing)
    console.print(_text(f"{model} wrote: {sample.answer}"), soft_wrap=True)
    shown = {label: value for name, value in sample.figures.items() if (label := world.label(name))}
    console.print(_text(", ".join(f"{label}: {_one(value)}" for label, value in shown.items())))


def show_rollout(console: Console, record: dict[str, Any], most: int) -> None:
    """One question's tree of thoughts and answers, by the schema of `runs.rollouts`; each text cut after `most`
    characters. Weights that pull are yellow, those that push away red."""
    place = ", ".join(
        f"{name} {record[key]}" for name, key in (("round", "round"), ("question", "number")) if key in record
    )
    tree = Tree(_text(f"{place}: {record['prompt']}" if place else record["prompt"], most), guide_style="dim")
    for thought in record["thoughts"]:
        cut = "" if thought.get("ended", True) else ", cut"
        branch = tree.add(_worth(thought, f"{len(thought['tokens'])} tokens{cut}", thought["text"], most))
        for line in thought.get("lines") or ():
            if line["read"] != line["text"]:
                branch.add(
                    Text.assemble(_text(f"{line['text']}  ", most), ("read as  ", "dim"), _text(line["read"], most))
                )
        for answer in thought["answers"]:
            named = (answer.get("scores") or {}) | (answer.get("monitors") or {})
            parts = [f"{name} {_number(value)}" for name, value in named.items()] if len(named) > 1 else []
            branch.add(_worth(answer, ", ".join([f"score {_number(answer['score'])}", *parts]), answer["text"], most))
    if not console.is_terminal:
        console.width = 100_000  # a line is a line
    console.print(tree)


def _worth(one: dict[str, Any], told: str, text: str, most: int) -> Text:
    weight = one["weight"] or 0.0
    style = "yellow" if weight > 0 else "red" if weight < 0 else "dim"
    return Text.assemble((f"weight {weight:+.3f}", style), _text(f"  {told}:  {text}", most))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _one(value: float | bool) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:.3f}"


def show_verdicts(console: Console, verdicts: Sequence["Verdict"]) -> None:
    """Each question of a study and what the numbers say."""
    for number, verdict in enumerate(verdicts, 1):
        console.print(Text(printable(f"{number}. {verdict.question}"), style="bold"))
        console.print(_text("   " + verdict.text, 100_000), Text())


def _text(text: str, most: int = 2000) -> Text:
    return Text(printable(text, most))


def told(line: str) -> None:
    """A line beside the results."""
    print(printable(line), file=sys.stderr)


def wrote(out: str | Path) -> None:
    told(f"wrote {out}/ (pictures in {out}/plots/)")


def quiet() -> None:
    """Libraries' chatter about tiny models would bury the figures."""
    import os

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


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
    """A bar with step, loss or score, the last validation and time left; a line now and then where there is no
    terminal. Notes stand on lines of their own."""

    def __init__(self, console: Console):
        self.console = console
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(10),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
        )
        self.task = self.bar.add_task("", total=1.0, figures="")
        self.world: World | None = None
        self.validation = ""
        self.last: tuple[str, int] = ("", -1)

    def __call__(self, values: dict[str, Any]) -> None:
        """What a loop tells: its world, a note, or the figures of a step."""
        if "note" in values:
            self.console.print(_text(f"note: {values['note']}"), soft_wrap=True)
        if "world" in values:
            self.world = values["world"]
        if "progress" not in values:
            return
        names = dict.fromkeys(("score", self.world.headline if self.world else "score"))
        looked = [name for name in names if f"held_out_{name}" in values]
        if looked:
            said = ", ".join(f"{plain_label(name)} {values[f'held_out_{name}']:.3f}" for name in looked)
            self.validation = f"  held-out {said}"
        phase, figures = values.get("phase", "training"), _step(values) + self.validation
        description = f"[bold]{escape(printable(phase))}[/]"
        shown = escape(printable(figures))
        self.bar.update(self.task, description=description, completed=values["progress"], figures=shown)
        tenth = (phase, int(10 * values["progress"]))
        if not self.console.is_terminal and (looked or tenth != self.last or "step" not in values):
            self.console.print(_text(f"{phase} {values['progress']:4.0%}  {figures}"), soft_wrap=True)
        self.last = tenth


def _step(values: dict[str, Any]) -> str:
    """The figures of one step, of a round, or of an evaluation that takes long."""
    if "step" not in values:
        return f"{values['questions']:,} questions"
    if "score" in values:
        length = f"  {values['thought_tokens']:.1f} tokens a thought" if "thought_tokens" in values else ""
        return f"round {values['step']}  score {values['score']:.3f}{length}"
    loss = f"  loss {values['loss']:.3f}" if "loss" in values else ""
    speed = f"  {values['items_per_second']:.0f} trees/s" if "items_per_second" in values else ""
    return f"step {values['step']}{loss}{speed}"


class QuestionProgress(_Bar):
    """A bar with the questions taken up, which goes when they are done; where there is no terminal, a line a minute."""

    def __init__(self, console: Console, count: int | None):
        self.console, self.count = console, count
        self.bar = Progress(
            TextColumn("[bold]questions[/]"),
            BarColumn(20),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            transient=True,
        )
        self.task = self.bar.add_task("", total=count)
        self.last = time.monotonic()

    def counted(self, questions: Iterable[Any]) -> Iterator[Any]:
        """The questions, each counted as it is taken."""
        for number, question in enumerate(questions, 1):
            self.bar.update(self.task, completed=number)
            if not self.console.is_terminal and time.monotonic() - self.last > 60:
                self.last = time.monotonic()
                of = f"{self.count:,}" if self.count else "the"
                self.console.print(_text(f"{number:,} of {of} questions"))
            yield question


class StudyProgress(_Bar):
    """A bar with the cells, or other units, done and the time left; a line a tenth where there is no terminal."""

    def __init__(self, console: Console, unit: str = "cells"):
        self.console, self.unit = console, unit
        self.bar = Progress(
            TextColumn("[bold]{task.description}[/]"),
            BarColumn(20),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
        )
        self.tasks: dict[str, Any] = {}
        self.last: tuple[str, int] = ("", -1)

    def __call__(self, phase: str, done: int, count: int) -> None:
        if phase not in self.tasks:  # what was finished before does not count towards the speed
            self.tasks[phase] = self.bar.add_task(phase, total=count, completed=done)
        self.bar.update(self.tasks[phase], completed=done)
        tenth = (phase, 10 * done // max(1, count))
        if not self.console.is_terminal and tenth != self.last:
            self.console.print(f"{phase}: {done} of {count} {self.unit}", highlight=False)
        self.last = tenth
