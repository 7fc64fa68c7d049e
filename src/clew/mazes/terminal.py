"""A maze in the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from clew.mazes.forks import lookahead
from clew.mazes.grading import grade_path, solution, valid_start
from clew.mazes.lattice import Cell, Lattice, Question
from clew.mazes.vocab import answer_cells, cell_text, parse_cell

GAP = 4  # between two drawings
Paths = Sequence[tuple[Sequence[Cell | None], str]]
"""cells and a style each"""


def attempt(maze: Question, answer: str) -> RenderableType:
    """A maze with the path that somebody answered, wrong steps in red, beside a shortest path; and what it is worth. Of
    a grid the rows and columns before all this are left out."""
    whole = maze.lattice
    _, cells, ended = answer_cells(answer.split())
    maze, cells, first = _standing(maze, cells)
    grade, good = grade_path(maze, cells, ended), valid_start(maze, cells)
    best = solution(maze)
    wrong = cells[max(0, good - 1) :] if good < len(cells) else []
    ends = {maze.origin: ("S ", "bold"), maze.target: ("E ", "bold")}
    both = {
        "[blue]the model's path[/] ([red]wrong steps[/])": [(wrong, "bold red"), (cells[:good], "bold blue")],
        "[yellow]a shortest path[/]": [(best, "bold yellow")],
    }
    split = "held-out: never trained on" if whole.held_out else "NOT held-out: may have been trained on"
    solved = "solved: a shortest path" if grade.optimal else "solved, with a detour"
    verdict = solved if grade.score >= 0.5 else "failed"
    steps = f"; {grade.steps} steps, shortest {grade.shortest_steps}, lookahead {lookahead(maze)}"
    place = f" (shown from {cell_text(first)} on)" if any(first) else ""
    size = Text(f"maze {whole.rows}x{whole.cols}{place}, {split}")
    return Group(_Drawings(maze.lattice, both, ends), size, Text.assemble((verdict, "bold"), steps))


def search(maze: Question, thought: str) -> RenderableType | None:
    """A maze whose cells are numbered in the order in which a thought first came to them, as far as two characters say
    it, and the passages between those that it names one after the other; None where it names none."""
    named = [cell for token in thought.split() if (cell := parse_cell(token)) and cell in maze.lattice]
    maze, cells, _ = _standing(maze, named)
    order = dict.fromkeys(cell for cell in cells if cell)
    ends = {cell: (f"{number:<2}", "bold magenta") for number, cell in enumerate(order, 1)}
    walks = [([a, b], "magenta") for a, b in pairwise(cells) if a and b and maze.lattice.connected(a, b)]
    title = "[magenta]the model's search[/], cells as it came to them"
    return _Drawings(maze.lattice, {title: walks}, ends) if order else None


def _standing(maze: Question, answered: Sequence[Cell | None]) -> tuple[Question, list[Cell | None], Cell]:
    """A question and an answer as if the grid began where the maze, or the answer, does; and which cell that is."""
    lattice = maze.lattice
    used = [maze.origin, maze.target, *(cell for edge in lattice.edges() for cell in edge)]
    used += [cell for cell in answered if cell and cell in lattice]
    top, left = (min(place[axis] for place in used) for axis in (0, 1))
    top, left = min(top, lattice.rows - 2), min(left, lattice.cols - 2)

    def moved(cell: Cell) -> Cell:
        return cell[0] - top, cell[1] - left

    path = tuple(map(moved, maze.path)) if maze.path else maze.path
    asked = Question(Lattice(lattice.passages[:, top:, left:]), moved(maze.origin), moved(maze.target), path)
    return asked, [cell and moved(cell) for cell in answered], (top, left)


@dataclass(frozen=True)
class _Drawings:
    """A maze with different paths, by title: beside each other where the terminal has room, else one below the other,
    and half as wide where it has no room for one."""

    lattice: Lattice
    paths: Mapping[str, Paths]
    ends: Mapping[Cell, tuple[str, str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        tile = 2 if 2 * (2 * self.lattice.cols + 1) <= options.max_width else 1
        made = {title: maze_text(self.lattice, paths, self.ends, tile) for title, paths in self.paths.items()}
        if 2 * tile * (2 * self.lattice.cols + 1) + GAP > options.max_width:
            yield from (part for drawn in made.items() for part in drawn)
        else:
            beside = Table.grid(padding=(0, GAP))
            beside.add_row(*made)
            beside.add_row(*made.values())
            yield beside


def maze_text(lattice: Lattice, paths: Paths, ends: Mapping[Cell, tuple[str, str]], tile: int = 2) -> Text:
    """A lattice drawn with block walls; each path (cells, style) is drawn over those before it, `ends` on top.

    tile: characters that a cell, or a wall, is wide: 2, which makes cells square, or 1, where a mark of two is a dot.
    """
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
    for (r, c), (mark, style) in ends.items():
        grid[2 * r + 1][2 * c + 1] = (mark if len(mark.strip()) <= tile else "••", style)
    lines = [[(drawn[:tile], style) for drawn, style in line] for line in grid]
    return Text("\n", no_wrap=True, overflow="crop").join(Text.assemble(*line) for line in lines)
