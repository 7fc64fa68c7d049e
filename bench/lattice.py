"""Tokenized maze questions a second, on one core and with workers, against maze-dataset's generation and tokenization.

    clew bench lattice                    # about three minutes; needs the extra maze-dataset

Both sides carve a maze by randomized depth-first search, choose two cells, solve, and write tokens. Clew's workers are
threads, since its kernel holds no lock; maze-dataset's are processes, started before the clock.
"""

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from os import cpu_count

import numpy as np
from maze_dataset import SolvedMaze
from maze_dataset.generation import LatticeMazeGenerators
from maze_dataset.tokenization import MazeTokenizerModular

from clew.mazes import MazeStream, parse_question
from measure import interleaved, keep, options

OURS, THEIRS = 1000, 20  # mazes a worker and turn
TOKENIZER = MazeTokenizerModular()


def theirs(size: int) -> list[str]:
    lines = []
    for _ in range(THEIRS):
        maze = LatticeMazeGenerators.gen_dfs(np.array([size, size]))
        lines.append(" ".join(SolvedMaze.from_lattice_maze(maze, maze.generate_random_path()).as_tokens(TOKENIZER)))
    return lines


def rates(size: int, workers: int, repeats: int) -> dict[str, float]:
    """Questions a second of each side."""
    stream, turns = MazeStream(((size, size),), branches=1), iter(range(10**9))
    with ThreadPoolExecutor(workers) as threads, ProcessPoolExecutor(workers) as processes:

        def ours() -> None:
            shares = [np.arange(OURS) + OURS * next(turns) for _ in range(workers)]
            list(threads.map(stream.forest, shares))

        def everybody() -> None:
            list(processes.map(theirs, [size] * workers))

        seconds = interleaved({"ours": ours, "theirs": everybody}, repeats)
    return {"ours": workers * OURS / seconds["ours"], "theirs": workers * THEIRS / seconds["theirs"]}


def main() -> None:
    args = options(__doc__).parse_args()
    table = ["| size | workers | questions a second | maze-dataset | ratio |", "|---|---|---|---|---|"]
    results = {}
    for size in (4, 6, 8, 10, 16):
        assert all(len(parse_question(line).path or ()) >= 2 for line in theirs(size))  # questions as ours are
        for workers in sorted({1, 2, cpu_count() or 1}):
            found = results.setdefault(f"{size}x{size}", {})[workers] = rates(size, workers, args.repeats)
            ours, other = found["ours"], found["theirs"]
            table.append(f"| {size}x{size} | {workers} | {ours:,.0f} | {other:,.0f} | {ours / other:,.0f} |")
    keep("lattice", args.out, results, table)


if __name__ == "__main__":
    main()
