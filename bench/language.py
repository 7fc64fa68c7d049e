"""A shoggoth and a face on a real language model: three credit rules, two adapters and one policy from one warm start.

    make language                                        # once: SmolLM2-135M-Instruct
    clew bench language                                  # two hours on two cores; finished runs are kept
    clew bench language --variant group                  # one of them alone, to run two side by side
    clew bench language --rounds 2 --questions 20 --runs runs/quick --out runs/quick      # a quick look

Runs `clew train` with examples/language/direct.yaml, which answers without a thought, `clew split` with start.yaml,
then with split.yaml for each variant: held-out questions of a reasoning-gym task before and after, with 95% intervals,
and a few thoughts and answers to read. All variants ask the same questions in the same rounds; one seed, one rate.
"""

import json
from pathlib import Path

from clew.text import printable
from measure import EXAMPLES, figure, keep, minutes_of, options, run

VARIANTS: dict[str, tuple[str, list[str]]] = {
    "basic": ("`basic`", ["--rule", "basic", "--rule-options", "{keep: 0.25}"]),
    "denoised": ("`denoised`", ["--rule", "denoised", "--rule-options", "{top: 3, keep: 0.25}"]),
    "group": ("`group`", ["--rule", "group"]),
    "adapters": ("`group`, two adapters", ["--rule", "group", "--policies", "adapters", "--lr", "1e-4"]),
    "one": ("`group`, one policy", ["--rule", "group", "--policies", "one"]),
}
"""by the name of a run's folder: what the table calls it, and what it adds to split.yaml"""
SHOWN = 5  # samples that the report shows


def read_samples(out: Path) -> list[str]:
    """A few held-out questions with the thought and the answer, one after the other."""
    lines = []
    for line in (out / "samples.jsonl").read_text().splitlines()[:SHOWN]:
        sample = json.loads(line)
        thought = sample["thoughts"][0]
        answer = thought["answers"][0]
        asked = next(line for line in reversed(sample["prompt"].splitlines()) if "=" in line)
        said = [asked, thought["text"].removesuffix("</think>"), f"{answer['text']} (score {answer['score']:g})"]
        lines += [f"- {' → '.join(f'`{printable(text.strip(), 200)}`' for text in said)}"]
    return lines


def row(name: str, report: dict, minutes: float | None = None) -> str:
    """A line of the table."""
    tokens = figure(report["thought_tokens"]) if "thought_tokens" in report else ""
    took = "" if minutes is None else f"{minutes:.1f}"
    return f"| {name} | {figure(report['score'], digits=3)} | {tokens} | {took} |"


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, help="rounds a variant, other than the example's")
    parser.add_argument("--warm-steps", type=int, help="steps of imitation, other than the examples'")
    parser.add_argument("--questions", type=int, help="held-out questions, other than the examples'")
    parser.add_argument("--variant", choices=VARIANTS, action="append", help="this one, and no table; may be repeated")
    parser.add_argument("--runs", type=Path, default=Path("runs/language"), help="where the runs go")
    args = parser.parse_args()

    asked = ["--final-questions", str(args.questions)] if args.questions else []
    steps = (["--warm-start.steps", str(args.warm_steps)], ["--steps", str(args.warm_steps)])
    more, alone = steps if args.warm_steps else ([], [])
    start = args.runs / "start"
    before = run(start, "split", "--config", str(EXAMPLES / "start.yaml"), *asked, *more)["before"]
    common = ["--config", str(EXAMPLES / "split.yaml"), "--model.folder", str(start / "warm"), *asked]
    common += ["--rounds", str(args.rounds)] if args.rounds else []
    after = {name: run(args.runs / name, "split", *common, *VARIANTS[name][1]) for name in args.variant or VARIANTS}
    if args.variant:
        return
    direct = run(args.runs / "direct", "train", "--config", str(EXAMPLES / "direct.yaml"), *asked, *alone)

    lines = ["| | score | tokens a thought | minutes of learning |", "|---|---|---|---|"]
    lines.append(row("answers imitated without a thought", direct, minutes_of(args.runs / "direct")))
    lines.append(row("warm start", before, minutes_of(start / "imitation" / "shoggoth")))
    lines += [row(VARIANTS[name][0], one["after"], minutes_of(args.runs / name)) for name, one in after.items()]
    for title, folder in {"the warm start": start, "`denoised`": args.runs / "denoised"}.items():
        lines += ["", f"Held-out questions, thoughts and answers of {title}:", "", *read_samples(folder)]
    about = f"{before['questions']} held-out questions, one greedy thought and answer each, 95% intervals. One seed."
    keep("language", args.out, {"direct": direct, "before": before, **after}, lines, about)


if __name__ == "__main__":
    main()
