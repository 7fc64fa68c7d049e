"""Searches of mazes with a door: how demonstrations draw them, and how one is read that was cut."""

from typing import Any

import numpy as np
import pytest

from clew.config import MazeConfig
from clew.mazes import door_thoughts, vocab
from clew.mazes.door_thoughts import MARK
from clew.mazes.doors import DoorWorld
from clew.mazes.traces import trace

SMALL = MazeConfig(sizes=[(3, 4)])
CYCLES = MazeConfig(sizes=[5], generators=["dfs_percolation"], p=0.2)


def test_a_search_that_was_cut_in_the_midst_of_a_line_is_read_up_to_there() -> None:
    (asked,) = DoorWorld(SMALL).questions([0])
    maze, door = asked.reference, asked.columns["door"]
    a, b = map(vocab.cell_text, (maze.origin, maze.lattice.neighbours(maze.origin)[0]))
    line = ["<THOUGHT_START>", a, b, ";"]
    for rest in ([], [a], [a, b], [MARK], [MARK, b], [MARK, b, a]):
        assert door_thoughts.true_steps(maze, door, [*line, *rest]) == [True]
        ended = door_thoughts.true_steps(maze, door, [*line, *rest, "<THOUGHT_END>"])
        assert ended == [True] + [False] * bool(rest)  # one that ended by itself was not cut
    for rest in ([a, a], [a, MARK], [MARK, MARK], [";"], ["<UNK>"], [a, b, a], [a, ";"]):
        assert door_thoughts.true_steps(maze, door, [*line, *rest]) == [True, False]
    assert door_thoughts.true_steps(maze, door, ["<THOUGHT_START>", a]) == []


def drawn_until_found(maze: Any, rng: np.random.Generator) -> list[tuple[Any, Any]]:
    """A search as `search` draws it where nothing bounds it: its passages, from the found cell to the new one."""
    seed = int(rng.integers(2**31))
    while (found := trace(maze, "dfs", seed)).path != [*maze.path]:
        seed += 1
    first: dict[Any, Any] = {}
    for parent, cell in found.steps[1:]:
        if cell != maze.origin:
            first.setdefault(cell, parent)
    return [(parent, cell) for cell, parent in first.items()]


@pytest.mark.parametrize("config", [SMALL, CYCLES])
def test_a_search_that_finds_its_path_by_itself_is_as_it_was_drawn(config: MazeConfig) -> None:
    for number, asked in enumerate(DoorWorld(config).questions(range(30))):
        maze, door = asked.reference, asked.columns["door"]
        dice, rng = np.random.default_rng(number), np.random.default_rng(number)
        lines = door_thoughts.search(maze, door, True, dice).lines
        for line, passage in zip(lines, drawn_until_found(maze, rng), strict=True):
            assert line.cells == passage[:: 1 if rng.random() < 0.5 else -1]
        assert dice.random() == rng.random()  # what is drawn next is the same too


def test_a_search_is_not_drawn_without_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a maze full of cycles hardly any search finds a shortest path by itself."""
    world = DoorWorld(MazeConfig(sizes=[10], generators=["percolation"], p=0.7))
    count = 0

    def counted(*args: Any) -> Any:
        nonlocal count
        count += 1
        assert count <= door_thoughts.TRIES
        return trace(*args)

    monkeypatch.setattr(door_thoughts, "trace", counted)
    most = 0
    for asked in world.questions(range(6)):
        count, maze = 0, asked.reference
        lines = door_thoughts.search(maze, asked.columns["door"], True, np.random.default_rng(0)).words()
        assert door_thoughts.found_path(maze, lines) == [*maze.path]
        most = max(most, count)
    assert most == door_thoughts.TRIES


def test_a_search_that_is_led_along_its_path_is_one_that_might_have_been_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes passages alone, comes back from dead ends alone, and has dead ends; another draw is another search."""
    monkeypatch.setattr(door_thoughts, "TRIES", 0)
    world, strayed, texts = DoorWorld(CYCLES), 0, set()
    for asked in world.questions(range(30)):
        maze, door = asked.reference, asked.columns["door"]
        for seed in range(3):
            lines = door_thoughts.search(maze, door, True, np.random.default_rng(seed)).lines
            steps = door_thoughts.steps_of(lines, maze.origin)
            assert steps is not None and steps[-1].cell == maze.target
            assert door_thoughts.path_to(steps, maze.origin, maze.target) == [*maze.path]
            way, seen = [maze.origin], {maze.origin}
            for parent, cell, marked in steps:
                assert maze.lattice.connected(parent, cell) and marked == ({parent, cell} == set(door))
                while way[-1] != parent:
                    assert set(maze.lattice.neighbours(way.pop())) <= seen
                way.append(cell)
                seen.add(cell)
            strayed += len(steps) > len(maze.path) - 1
            texts.add((maze.origin, maze.target, lines))
    assert strayed > 30 and len(texts) > 60
