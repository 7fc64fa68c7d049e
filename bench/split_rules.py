"""Two policies on 4x4 mazes: three credit rules from one warm start, with a cost on the length of thoughts.

    clew bench split_rules                               # about half an hour on two cores; finished runs are kept
    clew bench split_rules --rounds 2 --warmup-steps 20 --runs runs/quick --out runs/quick     # a quick look

Runs `clew split` with examples/start.yaml, then with examples/split.yaml for each rule: held-out figures before and
after, with 95% intervals.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from clew.mazes.traces import trace, trace_tokens
from clew.mazes.world import MazeWorld
from clew.runs.intervals import Tally
from clew.runs.options import read_yaml
from measure import figure, keep, options

RULES: dict[str, list[str]] = {
    "basic": ["--rule", "basic", "--rule-options", "{keep: 0.25}"],
    "denoised, top 3": ["--rule", "denoised", "--rule-options", "{top: 3, keep: 0.25}"],
    "advantage": ["--rule", "advantage"],
}
EXAMPLES = Path(os.path.relpath(Path(__file__).parents[1] / "examples"))


def imitated(questions: int) -> dict[str, dict[str, float]]:
    """Lengths of the random traces that the warm start imitates, on the same held-out mazes."""
    searches = read_yaml(EXAMPLES / "start.yaml")["mazes"]["traces"]
    tally = Tally()
    for i, asked in enumerate(MazeWorld().held_out(range(questions))):
        for search in searches:
            thought = trace(asked.reference, search, seed=i)
            tally.add(
                {"thought_tokens": float(len(trace_tokens(thought))), "search_steps": float(thought.search_steps)}
            )
    return tally.report()


def run(out: Path, *args: str) -> dict:
    """The evaluation of one `clew split`, run now or earlier."""
    if not (out / "eval.json").is_file():
        go_on = ["--resume", str(out)] if (out / "config.yaml").is_file() else ["--out", str(out)]
        subprocess.run([sys.executable, "-m", "clew", "split", *args, *go_on], check=True)
    return json.loads((out / "eval.json").read_text())


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, help="rounds a rule, other than the example's")
    parser.add_argument("--warmup-steps", type=int, help="steps of the warm start, other than the example's")
    parser.add_argument("--runs", type=Path, default=Path("runs/split-rules"), help="where the runs go")
    args = parser.parse_args()

    start = ["--config", str(EXAMPLES / "start.yaml")]
    start += ["--warm-start.steps", str(args.warmup_steps)] if args.warmup_steps else []
    run(args.runs / "start", *start)
    rules = ["--config", str(EXAMPLES / "split.yaml"), "--model.folder", str(args.runs / "start" / "warm")]
    rules += ["--rounds", str(args.rounds)] if args.rounds else []
    results = {name: run(args.runs / name.split(",")[0], *rules, *rule) for name, rule in RULES.items()}

    before = next(iter(results.values()))["before"]
    traces = imitated(before["questions"])
    lines = ["| | optimal, % | mean score | tokens a thought | search steps a thought |", "|---|---|---|---|---|"]
    lengths = [figure(traces[key]) for key in ("thought_tokens", "search_steps")]
    lines.append(f"| the traces imitated | | | {' | '.join(lengths)} |")
    for name, row in {"warm start": before, **{name: result["after"] for name, result in results.items()}}.items():
        cells = [figure(row["optimal"], 100), figure(row["score"], digits=3)]
        cells += [figure(row[key]) for key in ("thought_tokens", "search_steps")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    about = f"{before['questions']} held-out 4x4 mazes, one greedy thought and answer each, 95% intervals. One seed."
    keep("split_rules", args.out, {"rules": results, "imitated": traces}, lines, about)


if __name__ == "__main__":
    main()
