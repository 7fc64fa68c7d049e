"""`clew audit`: what a split learned to do with its thoughts."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clew import zoo
from clew.cli.eval import AskConfig, asked
from clew.cli.options import check_rewriter_used, named_in
from clew.config import RewriterConfig, check_positive, check_rewriter
from clew.errors import InputError
from clew.files import check_writable
from clew.text import show
from clew.train.config import grader_entries

if TYPE_CHECKING:
    from clew.cli.terminal import StudyProgress
    from clew.train.audit.subject import Subject, Told
    from clew.train.evaluate import Reasoner
    from clew.world import World

RUN = "the run folder of a clew split"
USED_BY = {
    "paraphraser": "paraphrasability",
    "rewriter": "paraphrasability",
    "reader": "fresh_reader",
    "monitor": "leakage",
}
"""options that one measure alone uses"""


@dataclass
class AuditConfig(AskConfig):
    """Audit a split: whether its thoughts are needed, true, told by their words, and read alike by a stranger."""

    measures: list[str] | None = None
    """which to take, by default all that can be taken; one that there is not lists those that there are"""
    questions: int = 200
    """held-out questions"""
    thoughts: int = 8
    """thoughts drawn for each question, with an answer each: for mutual_information, legality and leakage"""
    paraphraser: str | None = None
    """shuffle, copy, model:FOLDER or package.module:function; by default the run's own, or the world's (shuffle)"""
    rewriter: RewriterConfig = field(default_factory=RewriterConfig)
    reader: str | None = None
    """whose face is the fresh reader: a split's run, a warm start or a model; by default the run's own warm start"""
    monitor: list[str] = field(default_factory=list)
    """package.module:function of what reads thoughts and answers; by default the run's own"""
    grader: list[str | dict[str, Any]] = field(default_factory=list)
    """what scores the answers, as for clew split; by default what did so in the run"""
    time_limit: float = 60.0
    """seconds that one call of a grader, a monitor or a paraphraser may take"""
    out: str | None = None
    """folder for audit.json, audit.parquet, plots/audit.png; by default the run; of zoo:NAME runs/audit-zoo-NAME"""


def run(args: list[str]) -> None:
    """The command."""
    flags = {"json": {"action": "store_true", "help": "print audit.json in place of the tables"}}
    config, given = asked("audit", AuditConfig, args, flags=flags, positional=RUN)
    check_positive(config, "questions", "thoughts", "time_limit")
    grader_entries(config.grader)
    check_rewriter(config.rewriter)
    named = named_in(args, AuditConfig)
    _check_used(named, config.measures)

    from rich.console import Console

    from clew.cli import terminal
    from clew.runs.provenance import provenance
    from clew.train.audit import plots
    from clew.train.audit.audit import MEASURES, audit, check_count, check_measures, lacking, write_audit
    from clew.train.audit.subject import draw_cases
    from clew.train.audit.terminal import show_audit
    from clew.train.evaluate import held_out

    terminal.quiet()
    check_count(config.questions)
    with ExitStack() as stack:
        subject = _subject(config, stack)
        check_rewriter_used(named, subject.paraphraser)
        missing = {name: lacking(subject, name) for name in MEASURES}
        measures = [name for name in MEASURES if not missing[name]] if config.measures is None else config.measures
        check_measures(subject, measures)
        if config.measures is None:
            subject.notes += [f"left out: {why}" for why in missing.values() if why]
        questions = list(held_out(subject.world, config.questions, seed=config.seed))
        check_count(len(questions))
        out = Path(config.out or _folder(config.model))
        check_writable("out", out)
        subject.told = _progress(stack.enter_context(terminal.StudyProgress(Console(stderr=True), "questions")))
        subject.cases = draw_cases(subject, subject.reasoner, questions, "thoughts")
        done = audit(subject, measures)
    report = done.report() | {"held_out": subject.world.held_out_rule, "run": config.model, **provenance()}
    plots.draw(report, out / "plots" / "audit.png")
    write_audit(done, report, out)
    if given["json"]:
        print(json.dumps(report, indent=2))
    else:
        show_audit(Console(), report)
    terminal.wrote(out)


def _folder(model: str) -> str:
    """Where an audit goes if nobody says: into the run, but of a model of the zoo into a folder of its own."""
    return f"runs/audit-{zoo.file_name(model)}" if zoo.is_zoo(model) else model


def _check_used(named: Sequence[str], measures: list[str] | None) -> None:
    """InputError for an option named on the command line that none of the measures uses."""
    for name in named:
        measure = USED_BY.get(name.split(".")[0])
        if measures is not None and measure and measure not in measures:
            raise InputError(f"{name}: is for {measure}; expected it among the measures, which are {show(measures)}")


def _progress(bar: "StudyProgress") -> "Told":
    """A bar a pass over the questions; where there is no terminal, a line a pass, since there are many."""

    def told(phase: str, done: int, count: int) -> None:
        if bar.console.is_terminal or done == count:
            bar(phase, done, count)

    return told


def _subject(config: AuditConfig, stack: ExitStack) -> "Subject":
    """The run with all that its audit needs, no question drawn yet. InputError for what cannot be had."""
    from clew.train import crediting
    from clew.train.audit.subject import Subject
    from clew.train.evaluate import world_grader
    from clew.train.opening import opened
    from clew.train.watching import monitors_of

    folder = Path(config.model)
    world, reasoner = opened(folder, config, seed=config.seed, attention=config.attention, device=config.device)
    if reasoner.shoggoth is None:
        raise InputError(f"run: {show(config.model)} is no split's run: nobody thinks in it (it has no shoggoth/)")
    graders = crediting.graders_of(config.grader, world, config.time_limit) if config.grader else world_grader(world)
    reader = _reader(config, world, reasoner)
    monitors = stack.enter_context(monitors_of(config.monitor, config.time_limit))
    subject = Subject(world, reasoner, graders, config.thoughts, config.seed, reader=reader, monitors=monitors)
    return _with_paraphraser(config, subject)


def _reader(config: AuditConfig, world: "World", reasoner: "Reasoner") -> "Reasoner | None":
    from clew.train.audit.information import WARM, open_reader

    folder = Path(config.model)
    wanted = config.measures is None or "fresh_reader" in config.measures
    if not wanted or not (config.reader or (folder / WARM).is_dir()):
        return None
    return open_reader(Path(config.reader) if config.reader else None, folder, world, config, reasoner)


def _with_paraphraser(config: AuditConfig, subject: "Subject") -> "Subject":
    from clew.rollout.rewriters import paraphrase_of
    from clew.train.audit.subject import face_of
    from clew.train.opening import run_options

    own = run_options(Path(config.model)).get("paraphraser")
    usual = own if own not in (None, "copy") else "shuffle" if subject.world.rewrites else None
    wanted = config.measures is None or "paraphrasability" in config.measures
    name = (config.paraphraser or usual) if wanted else None
    device = face_of(subject.reasoner).policy.model.device
    made = paraphrase_of(name, None, config.rewriter, subject.world, time_limit=config.time_limit, device=device)
    return replace(subject, paraphrase=made, paraphraser=name or "")
