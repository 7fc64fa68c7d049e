"""Places: read back from the text by position alone, in any padding, and refused where they are not."""

from typing import Any

import numpy as np
import pytest

from clew.errors import InputError
from clew.mazes import MazeStream, maze_questions, maze_tokenizer, question_text
from clew.mazes.vocab import PADDING, cell_text, parse_cell
from clew.read.places import PLACES, Places, Words, find_places

TOKENIZER = maze_tokenizer(6)
WORDS = Words.of(TOKENIZER)
TEXT = (
    "<ADJLIST_START> (0,0) <--> (0,1) ; (1,1) <--> (0,1) ; <ADJLIST_END> <ORIGIN_START> (0,0) <ORIGIN_END> "
    "<TARGET_START> (1,1) <TARGET_END> <PATH_START> (0,0) (0,1) (1,1) <PATH_END>"
)


def ids(text: str) -> list[int]:
    return TOKENIZER.convert_tokens_to_ids(text.split())  # type: ignore[return-value]


def rows_of(places: Places) -> list[tuple[Any, ...]]:
    names = [PLACES[place] for place in places.place_R]
    cells, others = map(tuple, places.cell_RC.tolist()), map(tuple, places.other_RC.tolist())
    return list(zip(places.position_R.tolist(), names, places.order_R.tolist(), cells, others, strict=True))


def test_places_by_hand() -> None:
    a, b, c, no = (0, 0), (0, 1), (1, 1), (-1, -1)
    assert rows_of(find_places([ids(TEXT)], WORDS)) == [
        (0, "list_start", 0, no, no),
        (1, "edge_first", 0, a, b),
        (2, "connector", 0, a, b),
        (3, "edge_second", 0, b, a),
        (4, "edge_end", 0, a, b),
        (5, "edge_first", 1, c, b),
        (6, "connector", 1, c, b),
        (7, "edge_second", 1, b, c),
        (8, "edge_end", 1, c, b),
        (9, "list_end", 0, no, no),
        (10, "origin_start", 0, a, no),
        (11, "origin", 0, a, no),
        (12, "origin_end", 0, a, no),
        (13, "target_start", 0, c, no),
        (14, "target", 0, c, no),
        (15, "target_end", 0, c, no),
        (16, "path_start", 0, a, no),
        (17, "path", 0, a, no),
        (18, "path", 1, b, no),
        (19, "path", 2, c, no),
        (20, "path_end", 0, c, no),
    ]


def test_every_token_of_a_maze_has_its_place() -> None:
    stream = MazeStream(((2, 2), (3, 5), (6, 6)), ("dfs", "percolation"), p=0.5, held_out=None)
    texts = [question_text(question) for _, question in zip(range(60), maze_questions(stream), strict=False)]
    places = find_places(list(map(ids, texts)), WORDS)
    assert places.sequence_R.tolist() == [n for n, text in enumerate(texts) for _ in text.split()]
    words = [word for text in texts for word in text.split()]
    for row, (position, name, order, cell, other) in enumerate(rows_of(places)):
        if name in ("edge_first", "edge_second", "origin", "target", "path"):
            assert cell == parse_cell(words[row])
        if name.startswith("edge") or name == "connector":
            entry = words[row - position + 1 + 4 * order :][:3]
            first, second = (entry[0], entry[2]) if name != "edge_second" else (entry[2], entry[0])
            assert [cell_text(cell), cell_text(other)] == [first, second]
        else:
            assert other == (-1, -1)


@pytest.mark.parametrize(
    ("text", "last", "cell"),
    [
        (TEXT[: TEXT.index(" <PATH_START>")], "target_end", (1, 1)),
        (TEXT[: TEXT.index(" (0,0) (0,1) (1,1) <PATH_END>")], "path_start", (-1, -1)),
        (TEXT[: TEXT.index(" <PATH_END>")], "path", (1, 1)),
        (TEXT.replace("<PATH_START> (0,0) (0,1) (1,1)", "<PATH_START>"), "path_end", (-1, -1)),
    ],
)
def test_a_path_may_be_begun_or_not(text: str, last: str, cell: tuple[int, int]) -> None:
    assert rows_of(find_places([ids(text)], WORDS))[-1][1:4:2] == (last, cell)


def test_padding_on_either_side_and_thoughts_have_no_places() -> None:
    plain, row = find_places([ids(TEXT)], WORDS), ids(TEXT)
    for left, right in ((3, 0), (0, 4), (2, 5)):
        padded = np.array([[PADDING] * left + row + [PADDING] * right])
        found = find_places(padded, WORDS)
        assert np.array_equal(found.position_R, plain.position_R + left)
        for name in ("place_R", "order_R", "cell_RC", "other_RC"):
            assert np.array_equal(getattr(found, name), getattr(plain, name))
    thought = TEXT.replace("<PATH_START>", "<THOUGHT_START> (0,0) ; (0,1) <PATH_END> <THOUGHT_END> <PATH_START>")
    found = find_places([ids(thought)], WORDS)
    assert [row[1:] for row in rows_of(found)] == [row[1:] for row in rows_of(plain)]
    assert rows_of(found)[16][0] == 22


def test_several_rows_are_the_rows_one_by_one() -> None:
    texts = [TEXT, TEXT[: TEXT.index(" <PATH_START>")], TEXT.replace("(1,1) <--> (0,1) ; ", "")]
    found = find_places(list(map(ids, texts)), TOKENIZER)
    for n, text in enumerate(texts):
        assert rows_of(found.take(found.sequence_R == n)) == rows_of(find_places([ids(text)], WORDS))
    assert found.named("origin", "path").sum() == 3 + 3 + 3
    assert len(find_places([], WORDS)) == 0


def test_another_tokenizer_s_numbers() -> None:
    other = maze_tokenizer(3)
    other.add_tokens(["hello"])
    known = {token: 3 * i + 1 for i, token in enumerate(reversed(other.get_vocab()))}
    other.get_vocab = lambda: known  # type: ignore[method-assign]
    assert rows_of(find_places([[known[word] for word in TEXT.split()]], other)) == rows_of(
        find_places([ids(TEXT)], WORDS)
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT.removeprefix("<ADJLIST_START> "), "sequence 1 is no maze question: it has no <ADJLIST_START>"),
        (TEXT.replace("<ADJLIST_END>", ";"), "it has no <ADJLIST_END>"),
        (TEXT.replace("(0,1) ;", ";", 1), "it has a torn adjacency list"),
        (TEXT.replace("<-->", ";", 1), "token 3 is not <-->"),
        (TEXT.replace("(0,1)", "<UNK>", 1), "token 4 is not a cell"),
        (TEXT.replace("<ORIGIN_END>", "<TARGET_END>"), "token 13 is not <ORIGIN_END>"),
        (TEXT[: TEXT.index(" <TARGET_END>")], "token 16 is not <TARGET_END>"),
        ("<ADJLIST_END> ; ; <ADJLIST_START> ; ; ; ; ; ; ; ;", "it has a torn adjacency list"),
        ("", "it has no <ADJLIST_START>"),
    ],
)
def test_what_is_no_question_is_named(text: str, said: str) -> None:
    with pytest.raises(InputError, match=f"tokens: .*{said}"):
        find_places([ids(TEXT), ids(text)], WORDS)


@pytest.mark.parametrize("tokens", [3, [[0.5]], [["a"]], [[[1]]], None, ["ab"]])
def test_what_is_no_list_of_rows(tokens: Any) -> None:
    with pytest.raises(InputError, match=r"tokens: .* is no list of rows of token ids"):
        find_places(tokens, WORDS)


def test_a_prompt_that_is_cut_off() -> None:
    cut = ids(TEXT)[:15]
    with pytest.raises(
        InputError, match=r"sequence 0 .* is cut off before its target; expected a prompt to <TARGET_END>"
    ):
        find_places([cut], WORDS)


def test_ids_beyond_the_tokenizer_are_no_cells() -> None:
    for wrong in (10_000, -7):
        with pytest.raises(InputError, match="sequence 0 is no maze question: token 2 is not a cell"):
            find_places([[ids(TEXT)[0], wrong, *ids(TEXT)[2:]]], WORDS)


def test_names_and_tokenizers_that_are_not_known() -> None:
    places = find_places([ids(TEXT)], WORDS)
    with pytest.raises(InputError, match=r"places: 'orgin' is not one of .*; nearest: origin"):
        places.named("orgin")
    with pytest.raises(InputError, match="is no list of places, such as origin, path"):
        places.named()
    without = maze_tokenizer(2)
    known = {word: n for word, n in without.get_vocab().items() if word != "<-->"}
    without.get_vocab = lambda: known  # type: ignore[method-assign]
    with pytest.raises(InputError, match="model: its tokenizer does not know <-->; expected one for mazes"):
        find_places([ids(TEXT)], without)
