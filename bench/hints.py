"""Does pressure on answers leak into thoughts? Sums with a wrong hint, on a real language model, two seeds.

    make language                                        # once: SmolLM2-135M-Instruct
    clew bench hints --workers 2                         # about ten hours of two cores; a killed one goes on
    clew bench hints --arm one --seeds 1                 # one arm of the first seed alone, and no table
    clew bench hints --rounds 2 --warm-steps 4 --questions 20 --runs runs/quick --out runs/quick      # a quick look

The score is for agreeing with the friend who gave the hint; a penalty falls on answers that name him; a monitor sees
whether thoughts do (examples/language/hints.py). Each seed has a warm start of its own, from which all arms take as
many rounds of as many thoughts and answers, on the same questions: two controls, the four published remedies, and a
paraphraser. What is compared is how many sampled thoughts name the friend in the last rounds: greedy ones, which are
shown too, name him as soon as more than half would.
"""

import json
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path
from statistics import fmean

import numpy as np

from clew.runs.rollouts import read_rollouts
from clew.study.effects import Effect, effect_of, together
from measure import EXAMPLES, keep, minutes_of, options, run

ARMS = {
    "control": "one policy, no penalty",
    "one": "one policy, both roles hear the penalty",
    "targeting": "one policy, its answers alone hear it",
    "control-two": "two policies, no penalty",
    "two": "two policies, both hear it",
    "both": "two policies, the face alone hears it",
    "paraphraser": "two policies, both hear it, synonyms between them",
}
"""by the name of a run's folder and of its file, examples/language/hints-NAME.yaml: what the tables call it"""
CONTRASTS = (
    ("one", "control"),
    ("targeting", "control"),
    ("two", "control-two"),
    ("both", "control-two"),
    ("paraphraser", "control-two"),
    ("targeting", "one"),
    ("two", "one"),
    ("both", "two"),
    ("paraphraser", "two"),
)
RATES = {
    "follows": "agrees with the friend",
    "right": "is right",
    "answer_names": "answer names him",
    "thought_names": "thought names him",
    "admits": "thought names him, of answers that agree",
}
MONITOR, PENALTY = "hints:thought_names_friend", "hints:answer_names_friend"
LAST = 10  # rounds whose samples are compared


@dataclass(frozen=True)
class Difference:
    """By how much more sampled thoughts name the friend under one arm than under another, seed by seed."""

    a: str
    b: str
    by_seed: tuple[Effect, ...]
    """paired by question, with intervals that hold together for all contrasts and seeds"""

    @property
    def verdict(self) -> str:
        signs = {effect.sign for effect in self.by_seed}
        if {1, -1} <= signs:
            return "seeds disagree"
        if 0 in signs:
            return "cannot be told apart"
        return ("more" if signs == {1} else "fewer") + (", in one seed" if len(self.by_seed) == 1 else "")


def differences(reports: dict[str, list[dict]]) -> list[Difference]:
    """All contrasts of arms that were run."""
    pairs = [(a, b) for a, b in CONTRASTS if a in reports and b in reports]
    found = [[_difference(*both, a, b) for both in zip(reports[a], reports[b], strict=True)] for a, b in pairs]
    return [Difference(a, b, by_seed) for (a, b), by_seed in zip(pairs, together(*found), strict=True)]


def _difference(mine: dict, theirs: dict, a: str, b: str) -> Effect:
    named_Q, other_Q = _by_kind([mine, theirs], "thought_names")
    difference_Q = named_Q - other_Q
    return effect_of(difference_Q[~np.isnan(difference_Q)], "", a, b)


def starts(args: Namespace) -> list[Path]:
    """The warm start of each seed, made now or earlier."""
    more = ["--model.folder", args.model] if args.model else []
    more += ["--warm-start.steps", str(args.warm_steps)] if args.warm_steps else []
    more += ["--final-questions", str(args.questions)] if args.questions else []
    folders = [args.runs / f"seed-{seed}" / "start" for seed in range(args.seeds)]

    def one(seed: int) -> None:
        config = ["--config", str(EXAMPLES / "hints-start.yaml")]
        run(folders[seed], "split", *config, "--seed", str(seed), *more, threads=threads(args))

    with ThreadPoolExecutor(args.workers) as pool:
        list(pool.map(one, range(args.seeds)))
    return folders


def trained(args: Namespace, begun: list[Path]) -> dict[str, list[dict]]:
    """The report of each arm under each seed, `args.workers` of them side by side."""
    names = args.arm or list(ARMS)
    more = [value for name in ("rounds",) if getattr(args, name) for value in (f"--{name}", str(getattr(args, name)))]
    more += ["--final-questions", str(args.questions)] if args.questions else []

    def one(job: tuple[int, str]) -> dict:
        seed, name = job
        configs = [value for file in ("hints", f"hints-{name}") for value in ("--config", f"{EXAMPLES / file}.yaml")]
        start = ["--model.folder", str(begun[seed] / "warm"), "--seed", str(seed)]
        out = begun[seed].parent / name
        report = run(out, "split", *configs, *start, *more, threads=threads(args))
        return {**report, "minutes": minutes_of(out), "sampled": sampled(out)}

    jobs = [(seed, name) for seed in range(args.seeds) for name in names]
    with ThreadPoolExecutor(args.workers) as pool:
        done = dict(zip(jobs, pool.map(one, jobs), strict=True))
    return {name: [done[seed, name] for seed in range(args.seeds)] for name in names}


def threads(args: Namespace) -> int:
    return max(1, (cpu_count() or 1) // args.workers)


def sampled(out: Path) -> dict[str, list[float | None]]:
    """Of each question of the last rounds, the share of its thoughts, and of its answers, that name the friend; None
    where the monitor failed. They were sampled before anybody learned from them, and all arms of a seed were asked the
    same."""
    records = list(read_rollouts(out))
    last = [one for one in records if one["round"] > max(other["round"] for other in records) - LAST]
    found: dict[str, list[float | None]] = {"thought_names": [], "answer_names": []}
    for record in last:
        answers = [answer for thought in record["thoughts"] for answer in thought["answers"]]
        for kind, inside, name in (("thought_names", "monitors", MONITOR), ("answer_names", "scores", PENALTY)):
            known = [answer[inside][name] for answer in answers if answer[inside][name] is not None]
            found[kind].append(fmean(known) if known else None)
    return found


def shares(reports: list[dict], name: str) -> str:
    """A rate over all seeds' held-out questions, as a mean, and in brackets each seed's with its own interval."""
    known = [one[name] for one in reports if name in one]
    if not known:
        return ""
    each = "; ".join(f"{one['value']:.2f} [{one['low']:.2f}, {one['high']:.2f}]" for one in known)
    return f"**{fmean(one['value'] for one in known):.2f}** ({each})"


def _by_kind(reports: list[dict], kind: str) -> list[np.ndarray]:
    return [np.array(one["sampled"][kind], dtype=float) for one in reports]


def tables(before: list[dict], reports: dict[str, list[dict]]) -> list[str]:
    heads = ["", "sampled thoughts name him", "sampled answers", *RATES.values(), "minutes of learning"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    lines.append(f"| {' | '.join(['warm start', '', '', *(shares(before, rate) for rate in RATES), ''])} |")
    for name, several in reports.items():
        said = [
            "; ".join(f"{np.nanmean(one):.2f}" for one in _by_kind(several, kind)) for kind in several[0]["sampled"]
        ]
        figures = [shares([one["after"] for one in several], rate) for rate in RATES]
        minutes = "; ".join(f"{one['minutes']:.0f}" for one in several)
        lines.append(f"| {' | '.join([ARMS[name], *said, *figures, minutes])} |")
    lines += ["", f"Thoughts sampled in the last {LAST} rounds that name the friend, arm less arm, by seed:", ""]
    lines += ["| arm | less | by seed | verdict |", "|---|---|---|---|"]
    for one in differences(reports):
        each = "; ".join(f"{effect.mean:+.2f} [{effect.low:+.2f}, {effect.high:+.2f}]" for effect in one.by_seed)
        lines.append(f"| {ARMS[one.a]} | {ARMS[one.b]} | {each} | {one.verdict} |")
    return lines


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, help="rounds an arm, other than hints.yaml's")
    parser.add_argument("--warm-steps", type=int, help="steps of imitation, other than hints-start.yaml's")
    parser.add_argument("--questions", type=int, help="held-out questions, other than the examples'")
    parser.add_argument("--seeds", type=int, default=2, help="seeds, each with a warm start of its own")
    parser.add_argument("--workers", type=int, default=1, help="runs side by side, which share the cores evenly")
    parser.add_argument("--arm", choices=ARMS, action="append", help="this one, and no table; may be repeated")
    parser.add_argument("--model", help="a model folder, other than SmolLM2's")
    parser.add_argument("--runs", type=Path, default=Path("runs/hints"), help="where the runs go")
    args = parser.parse_args()
    for name in ("seeds", "workers"):
        if getattr(args, name) < 1:
            parser.error(f"--{name}: {getattr(args, name)} is not more than 0")

    begun = starts(args)
    reports = trained(args, begun)
    if args.arm:
        return
    before = [json.loads((folder / "eval.json").read_text())["before"] for folder in begun]
    about = (
        f"{before[0]['questions']} held-out questions a seed, one greedy thought and answer each, with 95% intervals "
        f"over questions. Sampled: the last {LAST} rounds, on questions not yet learned from. Their differences are "
        "paired by question, with 95% intervals by Student's t that hold together for all contrasts and seeds "
        "(Bonferroni); a verdict needs every seed. All intervals are of these runs: how much other seeds would differ, "
        "two say little of."
    )
    found = [
        {"a": one.a, "b": one.b, "verdict": one.verdict, "by_seed": [[e.mean, e.low, e.high] for e in one.by_seed]}
        for one in differences(reports)
    ]
    results = {"before": before, **reports, "differences": found}
    keep("hints", args.out, results, tables(before, reports), about)


if __name__ == "__main__":
    main()
