"""Tokenized maze questions a second on one core, against maze-dataset's own generation and tokenization.

    clew bench lattice                    # about two minutes; needs the extra maze-dataset

Both sides carve a maze by randomized depth-first search, choose two cells, solve, and write tokens.
"""

import numpy as np
from maze_dataset import SolvedMaze
from maze_dataset.generation import LatticeMazeGenerators
from maze_dataset.tokenization import MazeTokenizerModular

from clew.mazes import MazeStream, parse_question
from measure import interleaved, keep, options

THEIRS = 20  # of maze-dataset's mazes a turn


def main() -> None:
    args = options(__doc__).parse_args()
    tokenizer = MazeTokenizerModular()
    table = ["| size | questions a second | maze-dataset | ratio |", "|---|---|---|---|"]
    results = {}
    for size in (4, 6, 8, 10, 16):
        stream, turns = MazeStream(((size, size),), branches=1), iter(range(10**9))

        def ours(stream=stream, turns=turns) -> None:
            stream.forest(np.arange(1000) + 1000 * next(turns))

        def theirs(size=size) -> list[str]:
            lines = []
            for _ in range(THEIRS):
                maze = LatticeMazeGenerators.gen_dfs(np.array([size, size]))
                lines.append(
                    " ".join(SolvedMaze.from_lattice_maze(maze, maze.generate_random_path()).as_tokens(tokenizer))
                )
            return lines

        assert all(len(parse_question(line).path or ()) >= 2 for line in theirs())  # theirs are questions as ours are
        seconds = interleaved({"ours": ours, "theirs": theirs}, args.repeats)
        rates = results[f"{size}x{size}"] = {"ours": 1000 / seconds["ours"], "theirs": THEIRS / seconds["theirs"]}
        ratio = rates["ours"] / rates["theirs"]
        table.append(f"| {size}x{size} | {rates['ours']:,.0f} | {rates['theirs']:,.0f} | {ratio:,.0f} |")
    keep("lattice", args.out, results, table)


if __name__ == "__main__":
    main()
