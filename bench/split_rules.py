"""Two policies on 4x4 mazes: from one warm start, several credit rules, with a cost on the length of thoughts.

    python bench/split_rules.py                          # about 15 minutes on two cores; finished runs are kept
    python bench/split_rules.py --rounds 3 --out runs/split-quick      # a look at the machinery

Writes OUT/split_rules.json and OUT/split_rules.md: held-out figures before and after, with 95% intervals.
"""

import argparse
import json
from pathlib import Path

from clew import split
from clew.config import MazeConfig, SplitConfig, write_atomically, write_json
from clew.evaluate import Tally, provenance
from clew.mazes.lattice import Question
from clew.mazes.traces import trace

RULES: dict[str, dict] = {
    "basic": {"rule": "basic", "rule_options": {"keep": 0.25}},
    "denoised": {"rule": "denoised", "rule_options": {"top": 3, "keep": 0.25, "answers": "kept"}},
    "advantage": {"rule": "advantage"},
}


def config(rounds: int, warmup: int, length_cost: float, lr: float, **changes) -> SplitConfig:
    return SplitConfig(
        MazeConfig(sizes=[4], branches=4, per_step=16), layers=4, width=128, heads=4, warmup_steps=warmup,
        rounds=rounds, questions=16, thoughts=8, answers=4, length_cost=length_cost, lr=lr, eval_every=10, **changes,
    )  # fmt: skip


def figure(value: dict[str, float], scale: float = 1.0, digits: int = 1) -> str:
    return (
        f"{scale * value['value']:.{digits}f} [{scale * value['low']:.{digits}f}, {scale * value['high']:.{digits}f}]"
    )


def imitated_steps(questions: int) -> dict[str, float]:
    """Search steps of the random depth-first traces that the warm start imitates, on the same held-out mazes."""
    world = split.world_of(config(0, 0, 0.0, 1e-3))
    tally = Tally()
    for i, asked in enumerate(world.ask(range(questions), held_out=True)):
        tally.add({"search_steps": float(trace(Question(**asked.columns), "dfs", seed=i).search_steps)})
    return tally.report()["search_steps"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=120, help="rounds a rule")
    parser.add_argument("--warmup", type=int, default=700, help="steps of the one warm start")
    parser.add_argument(
        "--length-cost", type=float, default=0.01, help="share of its score that the shoggoth loses a token"
    )
    parser.add_argument("--lr", type=float, default=5e-4, help="learning rate of both policies")
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="where the results go")
    parser.add_argument("--runs", type=Path, default=Path("runs/split-rules"), help="where the runs go")
    args = parser.parse_args()

    warm = args.runs / "warm"
    if not (warm / "eval.json").is_file():
        split.split(config(0, args.warmup, 0.0, args.lr, out=str(warm)), resume=(warm / "config.yaml").is_file())
    results = {}
    for name, options in RULES.items():
        run = args.runs / name
        if not (run / "eval.json").is_file():
            made = config(args.rounds, 0, args.length_cost, args.lr, model=str(warm / "warm"), out=str(run), **options)
            split.split(made, resume=(run / "config.yaml").is_file())
        results[name] = json.loads((run / "eval.json").read_text())
        print(
            name,
            {key: figure(results[name]["after"][key], digits=3) for key in ("optimal", "search_steps")},
            flush=True,
        )

    command = (f"python bench/split_rules.py --rounds {args.rounds} --warmup {args.warmup} "
               f"--length-cost {args.length_cost} --lr {args.lr}")  # fmt: skip
    before = next(iter(results.values()))["before"]
    imitated = imitated_steps(before["mazes"])
    write_json(
        args.out / "split_rules.json", {"rules": results, "imitated": imitated, **provenance(), "command": command}
    )
    lines = [
        f"Made by `{command}`; {before['mazes']} held-out 4x4 mazes, one greedy thought and answer each, "
        "95% intervals. One seed.", "",
        "| | optimal, % | mean score | search steps a thought | tokens a thought |", "|---|---|---|---|---|",
    ]  # fmt: skip
    lines.append(f"| the traces imitated | | | {figure(imitated, digits=2)} | |")
    for name, row in {"warm start": before, **{name: result["after"] for name, result in results.items()}}.items():
        cells = [figure(row["optimal"], 100), figure(row["score"], digits=3)]
        cells += [figure(row[key], digits=2) for key in ("search_steps", "thought_tokens")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    write_atomically(args.out / "split_rules.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
