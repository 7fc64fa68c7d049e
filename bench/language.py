"""A shoggoth and a face on a real language model: three credit rules, two adapters and one policy from one warm start.

    make language                                        # once: SmolLM2-135M-Instruct
    clew bench language                                  # two hours on two cores; finished runs are kept
    clew bench language --rounds 2 --questions 20 --runs runs/quick --out runs/quick      # a quick look

Runs `clew split` with examples/language/start.yaml, then with examples/language/split.yaml for each variant: held-out
questions of a reasoning-gym task before and after, with 95% intervals, and a few thoughts and answers to read.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from clew.text import printable
from measure import figure, keep, options

VARIANTS: dict[str, list[str]] = {
    "`basic`": ["--rule", "basic", "--rule-options", "{keep: 0.25}"],
    "`denoised`": ["--rule", "denoised", "--rule-options", "{top: 3, keep: 0.25}"],
    "`group`": ["--rule", "group"],
    "`group`, two adapters": ["--rule", "group", "--policies", "adapters", "--lr", "1e-4"],
    "`group`, one policy": ["--rule", "group", "--policies", "one"],
}
ROOT = Path(__file__).parents[1]
EXAMPLES = Path(os.path.relpath(ROOT / "examples" / "language"))
SHOWN = 3  # samples that the report shows


def run(out: Path, *args: str) -> dict:
    """The evaluation of one `clew split`, run now or earlier."""
    if not (out / "eval.json").is_file():
        go_on = ["--resume", str(out)] if (out / "config.yaml").is_file() else ["--out", str(out)]
        paths = os.pathsep.join(filter(None, (str(EXAMPLES), os.environ.get("PYTHONPATH", ""))))
        command = [sys.executable, "-m", "clew", "split", *args, *go_on]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": paths})
    return json.loads((out / "eval.json").read_text())


def read_samples(out: Path) -> list[str]:
    """A few held-out questions with the thought and the answer, one after the other."""
    lines = []
    for line in (out / "samples.jsonl").read_text().splitlines()[:SHOWN]:
        sample = json.loads(line)
        thought = sample["thoughts"][0]
        answer = thought["answers"][0]
        said = [sample["prompt"], thought["text"], f"{answer['text']} (score {answer['score']:g})"]
        lines += [f"- {' → '.join(f'`{printable(text.strip(), 200)}`' for text in said)}"]
    return lines


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, help="rounds a variant, other than the example's")
    parser.add_argument("--warm-steps", type=int, help="steps of the warm start, other than the example's")
    parser.add_argument("--questions", type=int, help="held-out questions, other than the example's")
    parser.add_argument("--runs", type=Path, default=Path("runs/language"), help="where the runs go")
    args = parser.parse_args()

    asked = ["--final-questions", str(args.questions)] if args.questions else []
    start = ["--config", str(EXAMPLES / "start.yaml"), *asked]
    start += ["--warm-start.steps", str(args.warm_steps)] if args.warm_steps else []
    run(args.runs / "start", *start)
    common = ["--config", str(EXAMPLES / "split.yaml"), "--model.folder", str(args.runs / "start" / "warm"), *asked]
    common += ["--rounds", str(args.rounds)] if args.rounds else []
    folders = {name: args.runs / name.replace("`", "").replace(", ", "-").replace(" ", "-") for name in VARIANTS}
    results = {name: run(folders[name], *common, *given) for name, given in VARIANTS.items()}

    before = next(iter(results.values()))["before"]
    lines = ["| | score | tokens a thought |", "|---|---|---|"]
    for name, row in {"warm start": before, **{name: result["after"] for name, result in results.items()}}.items():
        lines.append(f"| {name} | {figure(row['score'], digits=3)} | {figure(row['thought_tokens'])} |")
    lines += [
        "",
        "Held-out questions, thoughts and answers after `denoised`:",
        "",
        *read_samples(folders["`denoised`"]),
    ]
    about = f"{before['questions']} held-out questions, one greedy thought and answer each, 95% intervals. One seed."
    keep("language", args.out, results, lines, about)


if __name__ == "__main__":
    main()
