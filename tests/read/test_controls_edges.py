"""Passages that are edited in the stream of a model whose answer is known: see `controls.py`."""

from clew.mazes import MazeStream
from clew.mazes.pairs import PairStream
from clew.read.edge_cases import move_cases
from clew.read.edges import edge_vectors, toggle
from read.controls import TOKENIZER, walker

FOUR = ((4, 4),)


def test_passages_are_edited_where_they_are_still_read() -> None:
    """Until layer 1 has looked them up; behind it nothing is left to edit."""
    cases = move_cases(PairStream("passage", FOUR).batch(range(24), TOKENIZER), TOKENIZER)
    reader = walker().policy
    vectors = edge_vectors(reader, MazeStream(FOUR, held_out=True, seed=1), cases, mazes=60)
    found = toggle(reader, cases, vectors, controls=1)
    tokens = found.tokens
    for layer in (0, 1):
        (exact,) = found.runs["resid_pre", layer]["exact"]
        assert [one.path for one in exact] == [one.path for one in tokens]
        assert [one.path for one in exact] != [one.path for one in found.plain]
    for draws in found.runs["resid_pre", 2].values():
        if draws is not found.runs["resid_pre", 2]["random"]:
            assert [one.path for one in draws[0]] == [one.path for one in found.plain]
