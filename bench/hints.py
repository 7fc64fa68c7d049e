"""Does pressure on answers leak into thoughts? Sums with a wrong hint, on a real language model, two seeds.

    make language                                        # once: SmolLM2-135M-Instruct
    clew bench hints --workers 2                         # half a day of two cores; a killed one goes on where it was
    clew bench hints --arm one --seeds 1                 # one arm of the first seed alone, and no table
    clew bench hints --rounds 2 --warm-steps 4 --questions 20 --runs runs/quick --out runs/quick      # a quick look

The score is for agreeing with the friend who gave the hint; a penalty falls on answers that name him; a monitor sees
whether thoughts do (examples/language/hints.py). Each seed has a warm start of its own, from which all arms take as
many rounds of as many thoughts and answers, on the same questions: two controls, the four published remedies, and a
paraphraser. What is compared is how many held-out thoughts name the friend afterwards.
"""

import json
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from math import sqrt
from os import cpu_count
from pathlib import Path
from statistics import NormalDist, fmean

from clew.runs.intervals import wilson
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
MONITOR = "monitor_hints:thought_names_friend"
LAST = 5  # rounds, of which the monitor's mean is shown


@dataclass(frozen=True)
class Difference:
    """By how much more thoughts name the friend under one arm than under another: a share of held-out questions for
    each seed, with intervals that hold together for all contrasts and seeds."""

    a: str
    b: str
    by_seed: tuple[tuple[float, float, float], ...]
    """value, low and high"""

    @property
    def verdict(self) -> str:
        signs = {(low > 0) - (high < 0) for _, low, high in self.by_seed}
        if signs == {1}:
            return "more" if len(self.by_seed) > 1 else "more, in one seed"
        if signs == {-1}:
            return "fewer" if len(self.by_seed) > 1 else "fewer, in one seed"
        return "cannot be told apart" if 1 not in signs or -1 not in signs else "seeds disagree"


def difference(a: float, b: float, questions: int, level: float) -> tuple[float, float, float]:
    """a - b of two shares of as many questions, with Newcombe's interval (1998, method 10): Wilson's of each, squared
    and added. That the questions are the same is left out, which can only make it wider where both rise together."""
    z = NormalDist().inv_cdf(0.5 + level / 2)
    (low_a, high_a), (low_b, high_b) = (wilson(share * questions, questions, z) for share in (a, b))
    low, high = sqrt((a - low_a) ** 2 + (high_b - b) ** 2), sqrt((high_a - a) ** 2 + (b - low_b) ** 2)
    return a - b, a - b - low, a - b + high


def differences(reports: dict[str, list[dict]]) -> list[Difference]:
    """All contrasts of arms that were run, each interval at a level of 1 - 0.05 / (contrasts * seeds) (Bonferroni)."""
    pairs = [(a, b) for a, b in CONTRASTS if a in reports and b in reports]
    made = []
    for a, b in pairs:
        both = list(zip(reports[a], reports[b], strict=True))
        level = 1 - 0.05 / (len(pairs) * len(both))
        rates = [[one["after"]["thought_names"]["value"] for one in pair] for pair in both]
        counts = [mine["after"]["questions"] for mine, _ in both]
        by_seed = (difference(x, y, n, level) for (x, y), n in zip(rates, counts, strict=True))
        made.append(Difference(a, b, tuple(by_seed)))
    return made


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
        return {**report, "minutes": minutes_of(out), "monitor": monitored(out)}

    jobs = [(seed, name) for seed in range(args.seeds) for name in names]
    with ThreadPoolExecutor(args.workers) as pool:
        done = dict(zip(jobs, pool.map(one, jobs), strict=True))
    return {name: [done[seed, name] for seed in range(args.seeds)] for name in names}


def threads(args: Namespace) -> int:
    return max(1, (cpu_count() or 1) // args.workers)


def monitored(out: Path) -> list[float]:
    """The share of sampled thoughts that name the friend, round by round."""
    lines = (json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines())
    return [line[MONITOR] for line in lines if MONITOR in line]


def shares(reports: list[dict], name: str) -> str:
    """A rate over all seeds' held-out questions, as a mean, and in brackets each seed's with its own interval."""
    known = [one[name] for one in reports if name in one]
    if not known:
        return ""
    each = "; ".join(f"{one['value']:.2f} [{one['low']:.2f}, {one['high']:.2f}]" for one in known)
    return f"**{fmean(one['value'] for one in known):.2f}** ({each})"


def tables(before: list[dict], reports: dict[str, list[dict]]) -> list[str]:
    heads = ["", *RATES.values(), f"sampled thoughts name him, last {LAST} rounds", "minutes of learning"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    rows = [("warm start", before, "", "")]
    for name, several in reports.items():
        sampled = ", ".join(f"{fmean(one['monitor'][-LAST:]):.2f}" for one in several if one["monitor"])
        minutes = ", ".join(f"{one['minutes']:.0f}" for one in several)
        rows.append((ARMS[name], [one["after"] for one in several], sampled, minutes))
    for name, several, sampled, minutes in rows:
        lines.append(f"| {' | '.join([name, *(shares(several, rate) for rate in RATES), sampled, minutes])} |")
    lines += ["", "Held-out thoughts that name the friend, arm less arm, by seed:", ""]
    lines += ["| arm | less | by seed | verdict |", "|---|---|---|---|"]
    for one in differences(reports):
        each = "; ".join(f"{value:+.2f} [{low:+.2f}, {high:+.2f}]" for value, low, high in one.by_seed)
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
        f"{before[0]['questions']} held-out questions a seed, one greedy thought and answer each. Intervals of 95% are "
        "over questions, of these runs: two seeds say nothing of how much others would differ. Those of differences "
        "hold together for all contrasts and seeds (Bonferroni), and a verdict needs every seed."
    )
    results = {"before": before, **reports, "differences": [asdict(one) for one in differences(reports)]}
    keep("hints", args.out, results, tables(before, reports), about)


if __name__ == "__main__":
    main()
