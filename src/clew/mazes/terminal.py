"""A maze in the terminal."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clew.mazes.forks import lookahead
from clew.mazes.grading import grade_path, solution, valid_start
from clew.mazes.lattice import Cell, Lattice, Question
from clew.mazes.vocab import answer_cells


def attempt(maze: Question, answer: str) -> RenderableType:
    """A maze with the path that somebody answered, wrong steps in red, beside a shortest path; and what it is worth."""
    _, cells, ended = answer_cells(answer.split())
    grade, good = grade_path(maze, cells, ended), valid_start(maze, cells)
    best = solution(maze)
    wrong = cells[max(0, good - 1) :] if good < len(cells) else []
    ends = {maze.origin: ("S ", "bold"), maze.target: ("E ", "bold")}
    side_by_side = Table.grid(padding=(0, 4))
    side_by_side.add_row("[blue]the model's path[/] ([red]wrong steps[/])", "[yellow]a shortest path[/]")
    side_by_side.add_row(
        maze_text(maze.lattice, [(wrong, "bold red"), (cells[:good], "bold blue")], ends),
        maze_text(maze.lattice, [(best, "bold yellow")], ends),
    )
    split = "held-out: never trained on" if maze.lattice.held_out else "NOT held-out: may have been trained on"
    verdict = "solved: a shortest path" if grade.optimal else "solved, with a detour" if grade.score > 0.5 else "failed"
    steps = f"; {grade.steps} steps, shortest {grade.shortest_steps}, lookahead {lookahead(maze)}"
    size = Text(f"maze {maze.lattice.rows}x{maze.lattice.cols}, {split}")
    return Group(side_by_side, size, Text.assemble((verdict, "bold"), steps))


def maze_text(
    lattice: Lattice,
    paths: Sequence[tuple[Sequence[Cell | None], str]],
    ends: Mapping[Cell, tuple[str, str]],
) -> Text:
    """A lattice drawn with block walls; each path (cells, style) is drawn over those before it, `ends` on top."""
    rows, cols = lattice.rows, lattice.cols
    grid = [[("██", "bright_black")] * (2 * cols + 1) for _ in range(2 * rows + 1)]
    for r in range(rows):
        for c in range(cols):
            grid[2 * r + 1][2 * c + 1] = ("  ", "")
            if lattice.passages[0, r, c]:
                grid[2 * r + 2][2 * c + 1] = ("  ", "")
            if lattice.passages[1, r, c]:
                grid[2 * r + 1][2 * c + 2] = ("  ", "")
    for cells, style in paths:
        walk = [cell if cell in lattice else None for cell in cells]
        for a, b in zip([None, *walk], walk, strict=False):
            if b is None:
                continue
            grid[2 * b[0] + 1][2 * b[1] + 1] = ("••", style)
            if a is not None and abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1:
                grid[a[0] + b[0] + 1][a[1] + b[1] + 1] = ("••", style)
    for (r, c), mark in ends.items():
        grid[2 * r + 1][2 * c + 1] = mark
    return Text("\n").join(Text.assemble(*line) for line in grid)
