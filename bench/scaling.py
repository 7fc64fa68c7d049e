"""How cost grows: seconds and memory against maze size, branches and model width; questions a second against workers.

    clew bench scaling                    # about five minutes

Path-only loss on trees, forward and backward, each point in a process of its own: its memory is the most that a step
adds to a process that has the model and its gradients. A log-log picture, with the ideal line dashed.
"""

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from os import cpu_count

import numpy as np

import plots
from clew.config import MazeConfig
from clew.losses import weighted_nll
from clew.mazes import MazeStream
from clew.mazes.world import MazeWorld
from clew.policy import Policy
from measure import interleaved, keep, options, room


def cost(size: int = 6, branches: int = 8, width: int = 128, repeats: int = 3) -> tuple[float, float]:
    """Seconds a supervised token, and KiB a supervised token that a step needs at most."""
    world = MazeWorld(MazeConfig(sizes=[size], branches=branches))
    policy = Policy.build(world.tokenizer, width=width, heads=max(2, width // 32))
    batch = world.batch(range(max(1, 32 // branches)))

    def step() -> None:
        weighted_nll(policy.model, batch).backward()
        policy.model.zero_grad()

    small = MazeWorld(MazeConfig(sizes=[2], branches=1)).batch(range(1))
    weighted_nll(policy.model, small).backward()  # what the first step of any size takes: threads, libraries, gradients
    taken = room(step)
    seconds = interleaved({"step": step}, repeats)["step"]
    return seconds / len(batch.targets_S), taken / 1024 / len(batch.targets_S)


def questions(workers: int, repeats: int) -> float:
    """Seconds a tokenized 6x6 question with so many workers."""
    stream, each = MazeStream(((6, 6),)), 2000
    with ThreadPoolExecutor(workers) as threads:
        shares = [np.arange(each) + each * worker for worker in range(workers)]
        seconds = interleaved({"fill": lambda: list(threads.map(stream.forest, shares))}, repeats)["fill"]
    return seconds / (each * workers)


def main() -> None:
    args = options(__doc__, repeats=3).parse_args()
    axes = {"size": (4, 6, 8, 10, 14, 20), "branches": (1, 2, 4, 8, 16, 32), "width": (32, 64, 128, 256, 512)}
    results: dict[str, dict[int, tuple[float, float]]] = {}
    table = ["| axis | value | microseconds a supervised token | KiB a supervised token |", "|---|---|---|---|"]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as alone:
        for axis, values in axes.items():
            points = {value: alone.submit(cost, **{axis: value}, repeats=args.repeats) for value in values}
            results[axis] = {value: point.result() for value, point in points.items()}
            for value, (seconds, kib) in results[axis].items():
                table.append(f"| {axis} | {value} | {1e6 * seconds:,.0f} | {kib:,.0f} |")
    workers = {n: questions(n, args.repeats) for n in range(1, (cpu_count() or 1) + 1)}
    table += ["", "| workers | tokenized 6x6 questions a second |", "|---|---|"]
    table += [f"| {n} | {1 / seconds:,.0f} |" for n, seconds in workers.items()]
    plots.scaling(results, workers, args.out / "scaling.png")
    keep("scaling", args.out, {**results, "workers": workers}, table)


if __name__ == "__main__":
    main()
