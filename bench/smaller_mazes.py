"""Do smaller mazes fool a model? One size against a mixture, whole-sequence loss against path-only loss.

Four models, alike but for what they are trained on, each for the same number of questions; then each is asked held-out
mazes of every size up to the one it was trained on.

    clew bench smaller_mazes                 # about 25 minutes on two cores; finished models are not trained again
    clew bench smaller_mazes --steps 20 --mazes 50 --out runs/quick --runs runs/quick     # a look at the machinery
"""

from pathlib import Path

from clew.config import MazeConfig, OptimizerConfig
from clew.mazes.world import MazeWorld
from clew.policy import Policy
from clew.rollout.sampler import SharedPrefixSampler
from clew.train.config import TrainConfig
from clew.train.evaluate import Reasoner, evaluate, held_out, world_grader
from clew.train.supervised import train
from measure import keep, options

LARGEST, SMALLER = 5, [3, 4]
ARMS = {
    "one size, full": ([LARGEST], "full"),
    "one size, path": ([LARGEST], "path"),
    "mixed sizes, full": ([*SMALLER, LARGEST], "full"),
    "mixed sizes, path": ([*SMALLER, LARGEST], "path"),
}


def trained(name: str, steps: int, runs: Path) -> Policy:
    """The arm's model, from its finished run or newly trained."""
    sizes, loss = ARMS[name]
    out = runs / name.replace(", ", "-").replace(" ", "-")
    if not (out / "eval.json").is_file():
        config = TrainConfig(
            mazes=MazeConfig(sizes=[*sizes], max_size=LARGEST),
            loss=loss,
            steps=steps,
            optimizer=OptimizerConfig("muon"),
            validate_every=0,
            final_questions=300,
            out=str(out),
        )
        train(config, resume=(out / "config.yaml").is_file())
    return Policy.load(out)


def figure(value: dict[str, float]) -> str:
    return f"{100 * value['value']:.0f}% [{100 * value['low']:.0f}, {100 * value['high']:.0f}]"


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=2000, help="training steps of 64 questions an arm")
    parser.add_argument("--mazes", type=int, default=1000, help="held-out mazes a size")
    parser.add_argument("--runs", type=Path, default=Path("runs/smaller-mazes"), help="where the models go")
    args = parser.parse_args()

    results: dict[str, dict] = {}
    for name in ARMS:
        policy = trained(name, args.steps, args.runs)
        results[name] = {}
        for size in (*SMALLER, LARGEST):
            world = MazeWorld(MazeConfig(sizes=[size]), tokenizer=policy.tokenizer)
            reasoner = Reasoner(SharedPrefixSampler(policy))
            report, _ = evaluate(world, reasoner, held_out(world, args.mazes), world_grader(world))
            kept = {key: report[key] for key in ("questions", "starts_at_once", "exact", "valid", "score")}
            results[name][f"{size}x{size}"] = kept | {"baseline": report["baseline"]["exact"]}
            print(name, size, {key: figure(report[key]) for key in ("starts_at_once", "exact")}, flush=True)
    table = ["| trained on | asked | starts its path at once | exact | random walk |", "|---|---|---|---|---|"]
    for name, sizes in results.items():
        for size, row in sizes.items():
            cells = (figure(row["starts_at_once"]), figure(row["exact"]), f"{100 * row['baseline']['value']:.0f}%")
            table.append(f"| {name} | {size} | {' | '.join(cells)} |")
    about = f"{args.steps} steps of 64 questions an arm, {args.mazes} held-out mazes a size, 95% intervals."
    keep("smaller_mazes", args.out, results, table, about)


if __name__ == "__main__":
    main()
