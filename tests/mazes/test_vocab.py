"""Token text, ids and the tokenizer, held against maze-dataset and against whatever a file may hold."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clew.errors import InputError
from clew.mazes import Lattice, Question, maze_tokenizer, parse_question, prompt_text, question_text
from clew.mazes.lattice import MAX_SIZE
from clew.mazes.vocab import (
    FIRST_CELL,
    SPECIAL_TOKENS,
    answer_cells,
    cell_id,
    cell_ids,
    cell_text,
    parse_cell,
    shuffled_edges,
)

TEXT = (
    "<ADJLIST_START> (0,0) <--> (0,1) ; (1,1) <--> (0,1) ; <ADJLIST_END> <ORIGIN_START> (0,0) <ORIGIN_END> "
    "<TARGET_START> (1,1) <TARGET_END> <PATH_START> (0,0) (0,1) (1,1) <PATH_END>"
)


def a_question(rows=4, cols=5, seed=0, generator="dfs_percolation") -> Question:
    lattice = Lattice.random(rows, cols, seed=seed, generator=generator, p=0.3)
    origin, target = (0, 0), (rows - 1, cols - 1)
    return Question(lattice, origin, target, tuple(lattice.shortest_path(origin, target)))


def modular():
    return pytest.importorskip("maze_dataset.tokenization").MazeTokenizerModular()


def test_ids_are_those_of_the_legacy_tokenizer_with_our_own_tokens_between():
    tokenization = pytest.importorskip("maze_dataset.tokenization")
    theirs = tokenization.MazeTokenizer(
        tokenization_mode=tokenization.TokenizationMode.AOTP_UT_uniform, max_grid_size=12
    ).token_arr
    specials = [token for token in theirs if token.startswith("<") or token == ";"]
    assert list(SPECIAL_TOKENS[: len(specials)]) == specials == theirs[: len(specials)]
    ours = maze_tokenizer(12)
    tokens = [ours.convert_ids_to_tokens(i) for i in range(len(ours))]
    assert tokens[FIRST_CELL:] == theirs[len(specials) :]
    assert tokens[:FIRST_CELL] == list(SPECIAL_TOKENS)


def test_cell_ids_fill_shell_after_shell_so_larger_tokenizers_only_add():
    for size in (1, 2, 5, MAX_SIZE):
        ids = {cell_id(r, c) for r in range(size) for c in range(size)}
        assert ids == set(range(FIRST_CELL, FIRST_CELL + size * size))
    assert cell_ids(9)[3, 7] == cell_id(3, 7)
    small, large = maze_tokenizer(3).get_vocab(), maze_tokenizer(6).get_vocab()
    assert small.items() <= large.items() and len(large) == FIRST_CELL + 36


def test_tokenizer_reads_and_writes_every_token():
    tokenizer = maze_tokenizer(4)
    text = question_text(a_question(4, 4))
    ids = tokenizer.encode(text)
    assert tokenizer.convert_ids_to_tokens(ids) == text.split()
    assert tokenizer.decode(ids) == text
    assert tokenizer(text)["input_ids"] == ids  # nothing is added at the ends
    assert tokenizer.unk_token_id not in ids
    thought = "<THOUGHT_START> (0,0) <UNK> <THOUGHT_END> <PADDING>"
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode(thought)) == thought.split()


@pytest.mark.parametrize("token", ["(4,0)", "(0,4)", "(00,1)", "(-1,0)", "left", "<PATH>"])
def test_unknown_tokens_become_unk(token):
    tokenizer = maze_tokenizer(4)
    assert tokenizer.encode(f"(0,0) {token} (1,1)") == [cell_id(0, 0), tokenizer.unk_token_id, cell_id(1, 1)]
    assert tokenizer.convert_tokens_to_ids(token) == tokenizer.unk_token_id
    assert tokenizer.convert_ids_to_tokens(tokenizer.unk_token_id) == "<UNK>"


def test_tokenizer_batches_pad_on_the_left():
    tokenizer = maze_tokenizer(3)
    batch = tokenizer(["(0,0)", "(0,0) (0,1) (0,2)"], padding=True)
    pad = tokenizer.pad_token_id
    assert tokenizer.pad_token == "<PADDING>" and tokenizer.eos_token == "<PATH_END>"
    assert batch["input_ids"][0] == [pad, pad, cell_id(0, 0)]
    assert batch["attention_mask"] == [[0, 0, 1], [1, 1, 1]]


def test_tokenizer_survives_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from transformers import AutoTokenizer

    tokenizer = maze_tokenizer(7)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = question_text(a_question(7, 6)) + " (7,0) <THOUGHT_START>"
    assert again.encode(text) == tokenizer.encode(text)
    assert again.decode(again.encode(text)) == tokenizer.decode(tokenizer.encode(text))
    assert again.get_vocab() == tokenizer.get_vocab()
    for name in ("pad_token_id", "unk_token_id", "eos_token_id", "padding_side"):
        assert getattr(again, name) == getattr(tokenizer, name)


@pytest.mark.parametrize("size", [0, 1, -3, MAX_SIZE + 1])
def test_tokenizer_sizes_have_bounds(size):
    with pytest.raises(InputError, match=f"max_size: {size} is not between 2 and 64"):
        maze_tokenizer(size)


def test_prompt_lists_every_edge_once_in_random_order_and_direction():
    question = a_question(6, 6)
    edges = question.lattice.edges()
    texts = {seed: shuffled_edges(question.lattice, seed) for seed in range(20)}
    for shuffled in texts.values():
        assert sorted(tuple(sorted(edge)) for edge in shuffled) == sorted(edges)
    flipped = sum(a > b for shuffled in texts.values() for a, b in shuffled)
    assert 0.4 < flipped / (20 * len(edges)) < 0.6
    assert len({tuple(shuffled) for shuffled in texts.values()}) == 20
    assert prompt_text(question) == prompt_text(question)
    assert question_text(question).startswith(prompt_text(question) + " <PATH_START> (0,0) ")


def test_text_of_a_question_reads_back_to_it():
    for seed in range(10):
        question = a_question(3 + seed, 12 - seed, seed=seed)
        assert parse_question(question_text(question)) == question
        assert parse_question(prompt_text(question)) == question._replace(path=None)
    assert question_text(question._replace(path=None)) == prompt_text(question)
    edges = question.lattice.edges()
    assert prompt_text(question, edges).split()[1:4] == [cell_text(edges[0][0]), "<-->", cell_text(edges[0][1])]


def test_size_is_the_smallest_that_holds_the_text_unless_given():
    assert parse_question(TEXT).lattice.passages.shape == (2, 2, 2)
    assert parse_question(TEXT, size=(4, 3)).lattice.passages.shape == (2, 4, 3)
    one_row = TEXT[: TEXT.index(" <PATH_START>")].replace("(1,1) <--> (0,1) ; ", "").replace("(1,1)", "(0,1)")
    assert parse_question(one_row).lattice.passages.shape == (2, 2, 2)
    assert parse_question(one_row).path is None


@pytest.mark.parametrize("generator", ["dfs", "wilson", "dfs_percolation"])
def test_our_text_is_the_same_maze_to_maze_dataset(generator):
    from numpy import array_equal

    tokenizer = modular()
    maze_dataset = pytest.importorskip("maze_dataset")
    for seed in range(5):
        question = a_question(5, 5, seed=seed, generator=generator)
        maze = maze_dataset.SolvedMaze.from_tokens(question_text(question).split(), tokenizer)
        assert array_equal(maze.connection_list, question.lattice.passages)
        assert array_equal(maze.solution, question.path)
        assert tuple(maze.start_pos) == question.origin and tuple(maze.end_pos) == question.target


def test_maze_datasets_text_is_the_same_maze_to_us():
    tokenizer = modular()
    maze_dataset = pytest.importorskip("maze_dataset")
    config = maze_dataset.MazeDatasetConfig(name="test", grid_n=5, n_mazes=5)
    for maze in maze_dataset.MazeDataset.generate(config, gen_parallel=False):
        tokens = maze.as_tokens(tokenizer)
        question = parse_question(" ".join(tokens))
        assert (question.lattice.passages == maze.connection_list).all()
        assert question.path == tuple(map(tuple, maze.solution.tolist()))
        # the same order of parts: everything but the shuffled adjacency list is equal, token for token
        ours = question_text(question).split()
        end = tokens.index("<ADJLIST_END>")
        assert ours[end:] == tokens[end:] and sorted(ours[:end:4]) == sorted(tokens[:end:4])
        assert maze_tokenizer(5).unk_token_id not in maze_tokenizer(5).encode(" ".join(tokens))


def test_a_thought_is_passed_over():
    thoughtful = TEXT.replace(
        "<PATH_START>", "<THOUGHT_START> (9,9) nonsense <ADJLIST_START> <THOUGHT_END> <PATH_START>"
    )
    assert parse_question(thoughtful) == parse_question(TEXT)
    with pytest.raises(InputError, match="token 22 is the end of the text, expected <THOUGHT_END>"):
        parse_question(TEXT.replace("<PATH_START>", "<THOUGHT_START>").replace("<PATH_END>", "on"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "token 1 is the end of the text, expected <ADJLIST_START>"),
        (TEXT.replace("<ADJLIST_START> ", ""), r"token 1 is '\(0,0\)', expected <ADJLIST_START>"),
        (TEXT.replace("<-->", "--", 1), "token 3 is '--', expected <-->"),
        (TEXT.replace("(0,1) ;", "(0,1)", 1), r"token 5 is '\(1,1\)', expected ;"),
        (TEXT.replace("(0,0)", "(0,x)", 1), r"token 2 is '\(0,x\)', expected a cell"),
        (TEXT.replace("(0,0)", "(00,0)", 1), "expected a cell"),
        (TEXT.replace("(0,0)", "(٣,0)", 1), "expected a cell"),
        (TEXT.replace("(0,0)", "(70,0)", 1), r"cell \(70,0\), is beyond 64x64"),
        (TEXT.replace("(0,1)", "(1,1)", 1), r"edge \(0, 0\) <--> \(1, 1\): the two cells are not neighbours"),
        (TEXT.replace("<ADJLIST_END> ", ""), "expected a cell such as .* or <ADJLIST_END>"),
        (TEXT[TEXT.index("<PATH_START>") :], "token 1 is '<PATH_START>', expected <ADJLIST_START>"),
        (TEXT[: TEXT.index("<TARGET_START>")], "is the end of the text, expected <TARGET_START>"),
        (TEXT.replace(" <PATH_END>", ""), "the end of the text, expected a cell such as .* or <PATH_END>"),
        (TEXT + " (0,0)", "expected the end of the text"),
        (TEXT.replace("<TARGET_START> (1,1)", "<TARGET_START> (1,0)"), r"\(0,0\) and target \(1,0\) are not connected"),
        (TEXT.replace("<TARGET_START> (1,1)", "<TARGET_START> (5,5)"), "are not connected"),
        (TEXT.replace("<TARGET_END>", "<TARGET_END> what"), "token 17 is 'what', expected <PATH_START>"),
    ],
)
def test_wrong_text_is_told_by_its_first_wrong_token(text, said):
    with pytest.raises(InputError, match=said) as caught:
        parse_question(text)
    assert "\n" not in str(caught.value)


def test_a_given_size_must_hold_the_text():
    with pytest.raises(InputError, match="outside the 2x2 grid"):
        parse_question(TEXT.replace("(0,1)", "(0,1) ; (0,1) <--> (0,2)", 1), size=(2, 2))
    with pytest.raises(InputError, match=r"target \(5,5\) is outside the 3x3 grid"):
        parse_question(TEXT.replace("<TARGET_START> (1,1)", "<TARGET_START> (5,5)"), size=(3, 3))
    with pytest.raises(InputError, match="1x1 is not a grid"):
        parse_question(TEXT, size=(1, 1))


def test_a_path_is_read_as_it_stands():
    wild = TEXT.replace("<PATH_START> (0,0) (0,1)", "<PATH_START> (9,9) (0,0)")
    assert parse_question(wild).path == ((9, 9), (0, 0), (1, 1))
    assert parse_question(wild).lattice == parse_question(TEXT).lattice
    assert parse_question(TEXT.replace("(0,0) (0,1) (1,1) <PATH_END>", "<PATH_END>")).path == ()


pieces = st.sampled_from(
    [*SPECIAL_TOKENS, "(0,0)", "(0,1)", "(1,1)", "(63,63)", "(64,0)", "(9999,9999)", "(0,01)", "(,)"]
)


@st.composite
def torn_texts(draw):
    """A good text with tokens lost, doubled, swapped or put in."""
    tokens = TEXT.split()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(tokens)))
        tokens[at : at + draw(st.integers(0, 2))] = draw(st.lists(pieces | st.text(max_size=5), max_size=2))
    return " ".join(tokens)


@given(st.text() | torn_texts() | st.lists(pieces, max_size=30).map(" ".join))
@example("<ADJLIST_START> <ADJLIST_END> <ORIGIN_START> (0,0) <ORIGIN_END> <TARGET_START> (0,0) <TARGET_END>")
@settings(max_examples=300, deadline=None)
def test_no_text_breaks_the_parser(text):
    try:
        question = parse_question(text)
    except InputError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert question.lattice.distances(question.target)[question.origin] >= 0
        assert parse_question(question_text(question), size=question.lattice.passages.shape[1:]) == question


@given(st.lists(pieces | st.text(max_size=8), max_size=12))
@settings(max_examples=200, deadline=None)
def test_no_answer_breaks_its_reader(tokens):
    starts, cells, ends = answer_cells(tokens)
    assert starts == (tokens[:1] == ["<PATH_START>"])
    assert cells == [] or "<PATH_START>" in tokens
    assert not ends or "<PATH_END>" in tokens
    assert len(cells) <= len(tokens)
    assert answer_cells(tuple(tokens)) == (starts, cells, ends)


def test_answers_by_example():
    def read(text):
        return answer_cells(text.split())

    assert read("<PATH_START> (0,0) (0,1) <PATH_END> (0,2)") == (True, [(0, 0), (0, 1)], True)
    assert read("<PATH_START> (0,0) ; <PATH_START>") == (True, [(0, 0), None, None], False)
    assert read("(0,0) <--> (0,1) ; <PATH_START> (1,1) <PATH_END>") == (False, [(1, 1)], True)
    assert answer_cells([]) == (False, [], False)
    assert answer_cells(["<PATH_END>"]) == (False, [], False)


@given(st.integers(0, 9999), st.integers(0, 9999))
@settings(max_examples=50, deadline=None)
def test_cells_are_read_as_they_are_written(row, col):
    assert parse_cell(cell_text((row, col))) == (row, col)
    for token in (f"({row},{col}", f"({row}, {col})", f"(-{row},{col})", f"(0{row},{col})", f"({row},{col})\n"):
        assert parse_cell(token) is None


def test_a_tokenizer_is_the_callers_own() -> None:
    mine = maze_tokenizer(3)
    mine.add_tokens(["<MINE>"])
    assert len(maze_tokenizer(3)) == len(mine) - 1
    assert "<MINE>" not in maze_tokenizer(3).get_vocab()
