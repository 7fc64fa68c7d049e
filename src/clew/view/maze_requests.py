"""What a served page asks about a maze that somebody drew. A request is data from elsewhere: all of it is checked."""

from dataclasses import dataclass
from typing import Any

from clew.errors import InputError
from clew.mazes.lattice import Lattice, Question
from clew.text import show
from clew.view.maze_records import Edge


@dataclass(frozen=True)
class Request:
    """A maze with its passages in the order and direction in which the model is told of them."""

    question: Question
    edges: list[Edge]
    head: int | None
    """the head, by its number on the page, that is taken away; None: all answer"""


def parsed(request: dict[str, Any], side: int, heads: int) -> Request:
    """A request {"rows", "cols", "edges": [[cell, cell], ...], "origin", "target", "head": number or null}; cells are
    row * cols + column. InputError, in one line, for any other.

    side: the longest that a maze may have. heads: how many the model has, at most.
    """
    rows, cols = (_whole(request, name, 2, side) for name in ("rows", "cols"))
    origin, target = (_whole(request, name, 0, rows * cols - 1) for name in ("origin", "target"))
    if origin == target:
        raise InputError(f"target: {target} is the origin, too; expected another cell")
    listed, most = request.get("edges"), 2 * rows * cols - rows - cols
    if not isinstance(listed, list) or not 1 <= len(listed) <= most:
        raise InputError(f"edges: {show(listed)} is no list of 1 to {most} passages of a {rows}x{cols} grid")
    edges = [_edge(one, rows, cols) for one in listed]
    if len({tuple(sorted(edge)) for edge in edges}) < len(edges):
        raise InputError("edges: a passage is listed twice; expected each once")
    head = None if request.get("head") is None else _whole(request, "head", 0, heads - 1)
    lattice = Lattice.from_edges(rows, cols, edges)
    return Request(Question(lattice, divmod(origin, cols), divmod(target, cols)), edges, head)


def _whole(request: dict[str, Any], name: str, least: int, most: int) -> int:
    value = request.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{name}: {show(value)} is not a whole number from {least} to {most}")
    return value


def _edge(value: Any, rows: int, cols: int) -> Edge:
    if isinstance(value, list) and len(value) == 2:
        numbers = [_whole({"edges": one}, "edges", 0, rows * cols - 1) for one in value]
        (r, c), (s, d) = (divmod(number, cols) for number in numbers)
        if abs(r - s) + abs(c - d) == 1:
            return (r, c), (s, d)
    raise InputError(f"edges: {show(value)} is no pair of neighbouring cells of a {rows}x{cols} grid")
