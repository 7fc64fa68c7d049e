"""How cost grows: seconds a supervised token against maze size, branches and model width.

    clew bench scaling                    # about four minutes

Path-only loss on trees, forward and backward; a log-log picture with the ideal line (cost that does not grow) beside
it. For memory, the most that a process has held when it has done one step of each size, smallest first.
"""

import resource

from clew import plots
from clew.losses import weighted_nll
from clew.mazes import MazeStream, maze_tokenizer
from clew.policy import Policy
from clew.supervised import maze_batch
from measure import interleaved, keep, options


def cost(size: int = 6, branches: int = 8, width: int = 128, repeats: int = 3) -> tuple[float, float]:
    """Seconds a supervised token, and MiB held at most so far."""
    policy = Policy.build(maze_tokenizer(size), width=width, heads=max(2, width // 32))
    batch = maze_batch(MazeStream(((size, size),), branches=branches).forest(range(max(1, 32 // branches))), "path")

    def step() -> None:
        weighted_nll(policy.model, batch).backward()
        policy.model.zero_grad()

    seconds = interleaved({"step": step}, repeats)["step"]
    return seconds / len(batch.targets_S), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    args = options(__doc__, repeats=3).parse_args()
    axes = {"size": (4, 6, 8, 10, 14, 20), "branches": (1, 2, 4, 8, 16, 32), "width": (32, 64, 128, 256, 512)}
    results: dict[str, dict[int, tuple[float, float]]] = {}
    table = ["| axis | value | microseconds a supervised token | MiB at most so far |", "|---|---|---|---|"]
    for axis, values in axes.items():
        results[axis] = {value: cost(**{axis: value}, repeats=args.repeats) for value in values}
        table += [f"| {axis} | {value} | {1e6 * seconds:,.0f} | {held:,.0f} |"
                  for value, (seconds, held) in results[axis].items()]  # fmt: skip
    plots.scaling({axis: {value: seconds for value, (seconds, _) in found.items()} for axis, found in results.items()},
                  args.out / "scaling.png")  # fmt: skip
    keep("scaling", args.out, results, table)


if __name__ == "__main__":
    main()
