"""Traces in other words: the same search of the same maze, proven by parsers; and no text that breaks the rewriter."""

from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.config import MazeConfig
from clew.mazes import MazeStream, Question
from clew.mazes.rewrite import meaning, other_order
from clew.mazes.traces import ALGORITHMS, parse_trace, path_from_trace, trace, trace_tokens
from clew.mazes.vocab import SPECIAL_TOKENS, cell_text, parse_cell, prompt_text
from clew.mazes.world import MazeWorld

SIZES = ((3, 3), (3, 5), (5, 4), (6, 6))
TREES = MazeStream(SIZES, ("dfs", "wilson"), held_out=None, seed=1)
CYCLES = MazeStream(SIZES, ("dfs_percolation", "percolation"), p=0.5, held_out=None, seed=2)
QUESTIONS = [stream.questions(i)[0] for stream in (TREES, CYCLES) for i in range(30)]
WORDS = [*SPECIAL_TOKENS, "<DOOR>", *(cell_text(cell) for cell in product(range(3), range(3)))]
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def said_again(question: Question, words: list[str], seed: int, before: tuple[str, ...] = ()) -> list[str] | None:
    order = other_order(prompt_text(question).split(), before, words, np.random.default_rng(seed))
    return None if order is None else [words[i] for i in order]


def edges(words: list[str], algorithm: str) -> Counter[frozenset[str]]:
    """The passages that a trace names, whichever end first, read without the module's own parser."""
    cells = [word for word in words if parse_cell(word)]
    pairs = pairwise(cells) if algorithm == "dfs" else zip(*[iter(cells)] * 2, strict=True)
    return Counter(map(frozenset, pairs))


def straightened(words: list[str], algorithm: str) -> list[str]:
    """A trace of records with the end first that was named before, as the algorithms write it."""
    if algorithm == "dfs":
        return words
    out, been, places = list(words), set(), [i for i, word in enumerate(words) if parse_cell(word)]
    for first, second in zip(*[iter(places)] * 2, strict=True):
        if been and words[first] not in been:
            out[first], out[second] = words[second], words[first]
        been |= {words[first], words[second]}
    return out


@every_algorithm
def test_the_same_search_of_the_same_maze(algorithm: str) -> None:
    """Parsed anew it is a search that the algorithm could have made: the same steps, end and path, in as many words."""
    changed = moved = 0
    for number, question in enumerate(QUESTIONS):
        words = trace_tokens(trace(question, algorithm, number))
        again = said_again(question, words, number)
        assert again is not None and Counter(again) == Counter(words)
        straight = straightened(again, algorithm)
        assert parse_trace(straight, question).algorithm == algorithm
        assert edges(again, algorithm) == edges(words, algorithm)
        assert path_from_trace(straight) == path_from_trace(words)
        assert meaning(again) == meaning(words)
        changed, moved = changed + (again != words), moved + (straight != words)
    assert changed > (0.8 if algorithm != "dfs" else 0.05) * len(QUESTIONS)  # a walk has its dead ends alone to move
    assert moved > 0.05 * len(QUESTIONS)


def test_another_draw_is_another_text_and_the_same_one_the_same() -> None:
    words = max((trace_tokens(trace(question, "bfs", 3)) for question in QUESTIONS), key=len)
    question = next(one for one in QUESTIONS if parse_trace(words, one).algorithm)
    assert len({tuple(said_again(question, words, seed) or ()) for seed in range(20)}) == 20
    assert said_again(question, words, 5) == said_again(question, words, 5)


@pytest.mark.parametrize("algorithm", ["bfs", "astar", "flood"])
def test_line_by_line_only_ends_are_turned(algorithm: str) -> None:
    width, turned = 3, 0
    for number, question in enumerate(QUESTIONS):
        words = trace_tokens(trace(question, algorithm, number))
        read, lines = [], [words[: width + 1], *(words[i : i + width] for i in range(width + 1, len(words), width))]
        for line in lines:
            again = said_again(question, line, len(read) + number, tuple(read))
            assert again is not None and edges(again, algorithm) == edges(line, algorithm)
            turned += again != line
            read += again
        assert straightened(read, algorithm) == words
    assert turned > 2 * len(QUESTIONS)


def thought(*lines: str, ended: bool = True) -> list[str]:
    return ["<THOUGHT_START>", *" ".join(lines).split(), *["<THOUGHT_END>"] * ended]


def test_a_mark_moves_with_its_record() -> None:
    words = thought("(0,0) (0,0) ;", "<DOOR> (0,0) (0,1) ;", "(0,0) (1,0) ;")
    said = {" ".join(said_again(QUESTIONS[0], words, seed) or ()) for seed in range(20)}
    assert all("<DOOR> (0,0) (0,1) ;" in one or "<DOOR> (0,1) (0,0) ;" in one for one in said) and len(said) == 4


def test_two_meanings_are_told_apart() -> None:
    told = thought("(0,0) (0,0) ;", "(0,0) (0,1) ;", "(0,1) (1,1) ;")
    for other in (
        thought("(0,0) (0,0) ;", "(0,0) (0,1) ;", "(0,1) (0,2) ;"),  # another end
        thought("(0,0) (0,0) ;", "(0,1) (1,1) ;", "(0,0) (0,1) ;"),  # from a cell that is not found yet
        thought("(0,0) (0,0) ;", "(0,0) (0,1) ;", "(0,1) (1,1) ;", ended=False),
        thought("(0,0) (0,0) ;", "(0,0) (0,1) ;", "<DOOR> (0,1) (1,1) ;"),
    ):
        assert meaning(told) != meaning(other)
    assert meaning(told) == meaning(thought("(0,0) (0,0) ;", "(0,1) (0,0) ;", "(1,1) (0,1) ;"))


@given(st.lists(st.sampled_from(WORDS), max_size=30), st.lists(st.sampled_from(WORDS), max_size=8), st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_whatever_a_model_writes_is_kept_or_said_again_with_its_meaning(
    words: list[str], before: list[str], seed: int
) -> None:
    for prompt in (prompt_text(QUESTIONS[0]).split(), words):
        order = other_order(prompt, before, words, np.random.default_rng(seed))
        if order is not None:
            assert sorted(order) == list(range(len(words)))
            assert meaning([words[i] for i in order], before) == meaning(words, before)


@given(st.integers(0, len(QUESTIONS) - 1), st.sampled_from(ALGORITHMS), st.data())
@settings(max_examples=100, deadline=None)
def test_a_trace_with_one_wrong_word_too(number: int, algorithm: str, data: st.DataObject) -> None:
    words = trace_tokens(trace(QUESTIONS[number], algorithm, number))
    words[data.draw(st.integers(0, len(words) - 1))] = data.draw(st.sampled_from(WORDS))
    again = said_again(QUESTIONS[number], words, number)
    assert again is None or (Counter(again) == Counter(words) and meaning(again) == meaning(words))


def test_a_world_of_mazes_says_thoughts_again_in_its_own_numbers() -> None:
    world = MazeWorld(MazeConfig(sizes=[4], traces=["bfs"]))
    tokenizer = MazeWorld(MazeConfig(sizes=[4])).tokenizer
    other = MazeWorld(MazeConfig(sizes=[4], traces=["bfs"]), tokenizer=tokenizer)
    for made in (world, other):
        (question,) = made.questions([3])
        words = trace_tokens(trace(question.reference, "bfs", 1))
        tokens = made.tokenizer.convert_tokens_to_ids(words)
        again = made.rewritten(question.tokens, [], tokens, np.random.default_rng(0))  # type: ignore[arg-type]
        assert again is not None and again != tokens and sorted(again) == sorted(tokens)  # type: ignore[arg-type]
        assert made.rewritten(question.tokens, [], tokens[3:4], np.random.default_rng(0)) is None  # type: ignore[index]


def test_which_thoughts_have_lines() -> None:
    ends = {name: MazeWorld(MazeConfig(traces=[name])).line_end() for name in ALGORITHMS}  # type: ignore[list-item]
    assert ends.pop("dfs") is None and None not in ends.values()
