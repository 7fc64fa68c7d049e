"""What a run of `clew bench hints` is kept as: a cell, a small file that says what was run and what came of it.

It outlives the run's folder, is named after its seed and arm, and is never taken for that of other options."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from typing import Any

import measure
from clew.cli.options import instance, parser_of
from clew.config import WorldConfig
from clew.files import write_json
from clew.runs.intervals import Tally
from clew.runs.metrics import read_metrics
from clew.runs.options import flat, options_of
from clew.runs.provenance import provenance
from clew.runs.rollouts import Record, read_rollouts, rounds_in
from clew.study.spillover.measuring import drawn, one_thread
from clew.text import show
from clew.train.config import COMMANDS, RENAMED, SplitConfig
from clew.train.opening import opened
from measure import minutes_of, run

FIRST, LAST = 3, 8  # rounds that say what a warm start does; rounds that say what came of a run
CURVES = ("score", "follows", "answer_names", "thought_names")
HERE = ("out", "device")  # options that say where a run is, not what it is
THOUGHTS, ANSWERS = ("names", "whole", "other"), ("names", "number", "other")  # kinds, as the example's rules tell them
refuse = partial(measure.refuse, "hints")
Cell = dict[str, Any]
Options = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One run: `clew split` with what is `given`, from a warm start, and then `questions` held-out questions."""

    name: str
    """of its cell"""
    arm: str
    seed: int
    start: Path
    """run folder of the warm start"""
    out: Path
    """run folder of its own"""
    given: tuple[str, ...]
    begun: Options
    """what the start is made with"""
    questions: int

    def options(self) -> dict[str, Any]:
        """All that a cell must have been made with to be this job's."""
        return {"split": resolved(self.given, ("model.folder",)), "start": self.begun, "questions": self.questions}


@cache
def resolved(given: tuple[str, ...], but: tuple[str, ...] = ()) -> Options:
    """The options that `clew split` makes of its arguments, by dotted names, those of `HERE` and `but` left out."""
    parser = parser_of("split", SplitConfig, "")
    options = flat(asdict(instance(parser, SplitConfig, parser.parse_args(list(given)))), SplitConfig)
    return json.loads(json.dumps({name: value for name, value in options.items() if name not in (*HERE, *but)}))


def others(there: Options, wanted: Options, inside: str = "") -> list[str]:
    """Where options that a run was made with are not those that are wanted, in words."""
    names = dict.fromkeys([*wanted, *there])
    differ = [name for name in names if there.get(name) != wanted.get(name)]
    return [f"{inside}{name} {show(there.get(name))} (asked for: {show(wanted.get(name))})" for name in differ]


def check_run(out: Path, wanted: Options) -> None:
    """Refuses a run folder, finished or begun, that was made with other options."""
    if (out / "config.yaml").is_file():
        there = json.loads(json.dumps(options_of(out, SplitConfig, COMMANDS, RENAMED)))
        differ = others({name: value for name, value in there.items() if name in wanted}, wanted)
        refuse(differ, f"{out} was made with {', '.join(differ)}; choose another --runs, or take that run away")


def read_cell(folder: Path, job: Job) -> Cell | None:
    """A job's finished cell, None where there is none. Refuses one that was made with other options."""
    path = folder / f"{job.name}.json"
    if not path.is_file():
        return None
    try:
        cell = json.loads(path.read_text(encoding="utf-8"))
        there = cell["options"]
        wanted = job.options()
        differ = others(there["split"], wanted["split"]) + others(there["start"], wanted["start"], "warm start's ")
        differ += others({"questions": there["questions"]}, {"questions": wanted["questions"]})
    except (ValueError, KeyError, TypeError, AttributeError):
        refuse(True, f"{path} is no cell of this bench; take it away")
        raise  # never: for readers of types
    refuse(differ, f"{path} was made with {', '.join(differ)}; choose another --out, or take that cell away")
    return cell


def check_job(folder: Path, job: Job) -> None:
    """Refuses what lies in the way of a job: a cell or a run of other options."""
    if read_cell(folder, job) is None:
        check_run(job.out, job.options()["split"])


def made(folder: Path, job: Job, runner: Callable[..., Any] = run) -> Cell:
    """A job's cell: kept from earlier, or made of its run, which is run, or gone on with, where it is not finished."""
    if (known := read_cell(folder, job)) is not None:
        return known
    runner(job.out, "split", *job.given, threads=1)
    one_thread()
    cell = {"arm": job.arm, "seed": job.seed, "options": job.options(), "start": start_hash(job.start)}
    cell |= {"evaluation": json.loads((job.out / "eval.json").read_text())["after"]}
    cell |= during(job.out) | {"held_out": held_out(job), "minutes": round(minutes_of(job.out), 2)}
    cell |= provenance(["bench", "hints", "--arm", job.arm])
    write_json(folder / f"{job.name}.json", cell)
    print(f"{job.name}: {in_short(cell)}", flush=True)
    return cell


def in_short(cell: Cell) -> str:
    said = ", ".join(f"{ends(cell, f'{kind}_names'):.2f} of {kind}s" for kind in ("answer", "thought"))
    return f"he is named in {said} of the last rounds; {cell['minutes']:.0f} minutes"


def ends(cell: Cell, curve: str) -> float:
    """The mean of a run's own samples over the last rounds, NaN where there is none."""
    known = [value for value in cell["curves"][curve][-LAST:] if value is not None]
    return fmean(known) if known else float("nan")


def start_hash(start: Path) -> str:
    """Of the weights that a warm start left, so that arms of one seed are known to have begun alike."""
    hashed = hashlib.sha256()
    for file in sorted((start / "warm").rglob("*.safetensors")):
        hashed.update(file.read_bytes())
    return hashed.hexdigest()[:16]


def during(out: Path) -> Cell:
    """Of a run's own samples: shares round by round, of what kind thoughts and answers are in the last rounds, and what
    a warm start does, by the first."""
    rows = [row for row in read_metrics(out / "metrics.jsonl") if row["step"] > 0]
    files = list(rounds_in(out).values())
    records = [[record for file in some for record in read_rollouts(file)] for some in (files[:FIRST], files[-LAST:])]
    return {
        "curves": {name: [row.get(name) for row in rows] for name in CURVES},
        "kinds": kinds(records[1]),
        "first": beginning(records[0]),
    }


def kinds(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """The share of each kind among sampled thoughts, and among their answers."""
    from hints import answer_kind, thought_kind

    thoughts = [thought for record in records for thought in record["thoughts"]]
    answers = [answer for thought in thoughts for answer in thought["answers"]]
    found = {
        "thought": (THOUGHTS, Counter(thought_kind(one["text"], one["ended"]) for one in thoughts)),
        "answer": (ANSWERS, Counter(answer_kind(one["text"]) for one in answers)),
    }
    return {what: {kind: counts[kind] / counts.total() for kind in known} for what, (known, counts) in found.items()}


def beginning(records: Sequence[Record]) -> dict[str, float | None]:
    """Shares over all answers: who names him, who agrees with him, and who agrees behind a thought that names him, or
    does not; None where there is no such thought."""
    from hints import follows, names_friend

    rows = [
        (
            names_friend(thought["text"]),
            names_friend(answer["text"]),
            follows(answer["text"], record["columns"]["hint"]),
        )
        for record in records
        for thought in record["thoughts"]
        for answer in thought["answers"]
    ]
    behind = {side: [agrees for named, _, agrees in rows if named == side] for side in (True, False)}
    found: dict[str, float | None] = {
        name: fmean(row[i] for row in rows) for i, name in enumerate(("thought_names", "answer_names", "follows"))
    }
    found["follows_named"], found["follows_silent"] = (fmean(behind[s]) if behind[s] else None for s in (True, False))
    return found


def held_out(job: Job) -> dict[str, Any]:
    """Figures of the world, with intervals over questions: one sampled thought and one answer to each held-out
    question, with the same dice for every arm."""
    if not job.questions:
        return {"questions": 0}
    options = resolved(job.given)
    world, reasoner = opened(job.out, WorldConfig(options["world"], options["world_options"]), device="cpu")
    tally = Tally()
    for some, _ in drawn(world, reasoner, job.questions):
        for one in some:
            tally.add(world.measure(one.question, one.thought_texts[0], one.answer_texts[0][0]))
    return tally.report()
