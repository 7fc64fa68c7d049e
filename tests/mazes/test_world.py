"""Mazes as a world: what is asked, shown, measured and held out."""

from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from clew.config import MazeConfig
from clew.errors import InputError
from clew.graders import Grader, grade
from clew.mazes import MazeStream, grade_path, lattice, lookahead, maze_tokenizer, vocab
from clew.mazes.kernels import ALGORITHMS
from clew.mazes.lattice import Lattice
from clew.mazes.steps import found_path
from clew.mazes.vocab import answer_cells
from clew.mazes.world import MazeWorld, cells_known, random_walk, solution
from clew.tree import TreeBatch
from clew.world import Figures, Question
from small import changed

CORRIDOR = Lattice.from_edges(2, 3, [((0, 0), (0, 1)), ((0, 1), (0, 2)), ((0, 2), (1, 2)), ((0, 0), (1, 0))])
MAZE = lattice.Question(CORRIDOR, (0, 0), (1, 2), ((0, 0), (0, 1), (0, 2), (1, 2)))
SMALL = MazeWorld(MazeConfig(sizes=[3]))


def world(*sizes: Any, **options: Any) -> MazeWorld:
    return MazeWorld(MazeConfig(sizes=list(sizes), **options))


def attempt(text: str) -> Figures:
    return SMALL.measure(Question("", [], 1, 1, reference=MAZE), None, text)


def score(text: str) -> float:
    columns = {"lattice": [CORRIDOR], "origin": [MAZE.origin], "target": [MAZE.target]}
    return float(grade([Grader(SMALL.grader())], [""], [text], columns).face_B[0])


def test_reading_what_a_model_wrote() -> None:
    text = "<PATH_START> (0,0) (0,1) (0,2) (1,2) <PATH_END> ; junk"
    assert attempt(text)["exact"] is True and attempt(text)["starts_at_once"] and score(text) == 1
    invents = attempt("; (0,0) <PATH_START> (0,0) (0,1) (0,2) (1,2) <PATH_END>")
    assert not invents["starts_at_once"] and invents["exact"]
    text = "<PATH_START> (0,0) (0,1) (0,2) (1,2)"
    assert not attempt(text)["exact"] and not attempt(text)["optimal"] and score(text) < 0.5
    for nonsense in ("", "<PATH_END>", "<PATH_START>", "<PATH_START> ; ; <UNK> <PATH_END>", "(0,0)"):
        assert score(nonsense) == 0 and attempt(nonsense)["exact"] is False


def test_steps_at_forks_are_told_from_forced_ones() -> None:
    right = attempt("<PATH_START> (0,0) (0,1) (0,2) (1,2) <PATH_END>")
    assert right["fork_steps"] == right["forced_steps"] == 1
    wrong = attempt("<PATH_START> (0,0) (1,0) <PATH_END>")
    assert wrong["fork_steps"] == 0 and wrong["forced_steps"] == 1
    lost = attempt("<PATH_START> (1,0) <PATH_END>")
    assert lost["forced_steps"] == 0 and "fork_steps" not in lost
    assert all(SMALL.label(name) for name in ("fork_steps", "forced_steps"))


def test_a_thought_s_search_is_measured_where_there_is_one() -> None:
    question = SMALL.held_out([0])[0]
    assert "search_steps" not in SMALL.measure(question, None, "")
    tree = SMALL.demonstrations([0])[0]
    thought = SMALL.text(tree.children[0].children[0].tokens)
    steps = [SMALL.measure(question, text, "")["search_steps"] for text in (thought, f"{thought} ;")]
    assert steps[0] == steps[1] >= 1
    assert SMALL.measure(question, "", "")["search_steps"] == 0


def test_questions_are_held_out_and_match_their_prompts() -> None:
    mixed = world(4, (3, 5), generators=["dfs", "wilson"])
    for look in ("validation", "final"):
        questions = mixed.held_out(range(100), look, seed=1)
        kinds = [(one.labels["size"], one.labels["generator"]) for one in questions]
        assert Counter(kinds) == {kind: 25 for kind in product(("4x4", "3x5"), ("dfs", "wilson"))}
        for one in questions:
            assert one.reference.lattice.held_out and one.held_out and one.labels["split"] == "held_out"
            words = mixed.tokenizer.convert_ids_to_tokens(one.tokens)
            assert one.prompt == " ".join(words)
            assert words[-2:] == ["({},{})".format(*one.reference.target), "<TARGET_END>"]
            assert one.labels["path_length"] == str(len(one.reference.path) - 1)
            assert one.labels["lookahead"] == str(lookahead(one.reference))
            assert one.max_thought == 3 * one.reference.lattice.passages[0].size + 2


def test_a_size_that_is_named_twice_is_trained_on_more_often_and_asked_no_more() -> None:
    """An evaluation that asked the same mazes twice would have narrower intervals than it has mazes."""
    twice, once = world(3, 5, 5), world(3, 5)
    assert [one.prompt for one in twice.held_out(range(60))] == [one.prompt for one in once.held_out(range(60))]
    asked = Counter(one.labels["size"] for one in twice.questions(range(600)))
    assert 0.55 < asked["5x5"] / 600 < 0.78


def test_series_are_apart() -> None:
    """Of a world's looks, seeds and numbers; and the same whoever asks, however."""
    mixed = world(4)
    series = [mixed.held_out(range(30), look, seed) for look in ("validation", "final") for seed in (0, 1)]
    prompts = [{one.prompt for one in some} for some in series]
    assert all(len(some) > 25 for some in prompts)
    assert all(not a & b for i, a in enumerate(prompts) for b in prompts[:i])
    assert [one.prompt for one in mixed.held_out([7, 3], "final", 1)] == [series[3][7].prompt, series[3][3].prompt]
    asked = mixed.questions(range(30))
    assert [one.prompt for one in world(4).questions([20, 2])] == [asked[20].prompt, asked[2].prompt]
    assert mixed.questions([]) == mixed.held_out([]) == []


def test_no_training_maze_is_ever_evaluated() -> None:
    """Whatever is trained on: questions of rounds, demonstrations, batches of imitation."""
    for seed in (0, 4):
        mine = MazeWorld(MazeConfig(sizes=[3]), seed)
        trained = {one.reference.lattice for one in mine.questions(range(300))}
        trained |= {maze.lattice for i in range(300) for maze in MazeStream(((3, 3),), seed=seed).questions(i)}
        looks = [*mine.held_out(range(100), "validation", 4), *mine.held_out(range(100), "final", 4)]
        asked = {one.reference.lattice for one in looks}
        assert len(trained) > 50 and len(asked) > 5 and not trained & asked
        held_out = {_edges(one.prompt.split("<ORIGIN_START>")[0]) for one in looks}
        shown = {_edges(mine.text(tree.tokens)) for tree in mine.demonstrations(range(300))}
        assert not held_out & shown and len(held_out) == len(asked) and len(shown) > 50


def _edges(text: str) -> frozenset[frozenset[str]]:
    """The connections of an adjacency list, in whatever order they stand."""
    words = text.replace("<ADJLIST_START>", "").replace("<ADJLIST_END>", "").split(";")
    return frozenset(frozenset(pair.split(" <--> ")) for pair in (word.strip() for word in words) if pair)


def test_baseline_walks_are_valid_and_do_not_turn_back() -> None:
    percolated, rng = world(4, generators=["dfs_percolation"], p=0.2), np.random.default_rng(0)
    for one in percolated.held_out(range(200)):
        walk = random_walk(one.reference, rng)
        assert grade_path(one.reference, walk).valid
        assert all(a != c for a, c in zip(walk, walk[2:], strict=False))
        stuck = len(one.reference.lattice.neighbours(walk[-1])) == 1
        assert walk[-1] == one.reference.target or stuck or len(walk) > one.reference.lattice.passages[0].size
        answer = percolated.baseline(one, np.random.default_rng(3))
        assert answer_cells(answer.split())[1] == random_walk(one.reference, np.random.default_rng(3))


def test_sizes_without_a_held_out_maze_are_left_out_and_named_at_once() -> None:
    some = world(2, 3)
    assert {one.labels["size"] for one in some.held_out(range(10))} == {"3x3"}
    said = some.not_evaluated()
    assert said.startswith("there is no held-out maze of 2x2 by dfs") and "3x3" not in said
    assert some.held_out_count() is None
    assert SMALL.not_evaluated() == ""
    none = world(2)
    assert none.held_out_count() == 0
    with pytest.raises(InputError, match=r"no held-out maze of 2x2 by dfs .*; choose a larger size"):
        none.held_out([0])


def rotated(side: int) -> PreTrainedTokenizerBase:
    """The maze tokens under other numbers."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = list(maze_tokenizer(side).convert_ids_to_tokens(list(range(len(maze_tokenizer(side))))))
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words[5:] + words[:5])}, "<UNK>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<UNK>", pad_token="<PADDING>")


def test_a_tokenizer_with_numbers_of_its_own_says_the_same() -> None:
    """In prompts, demonstrations, batches with their choices, and the ends of thoughts and answers."""
    other = MazeWorld(MazeConfig(sizes=[3]), 0, rotated(4))

    def said(world: MazeWorld, batch: TreeBatch) -> tuple[Any, ...]:
        assert batch.choices_SC is not None
        choices = batch.choices_SC.reshape(-1).tolist()
        words = [None if choice < 0 else world.text([choice]) for choice in choices]
        return world.text(batch.tokens_BT[0].tolist()), batch.weights_S.tolist(), words

    for ours, theirs in zip(SMALL.questions(range(5)), other.questions(range(5)), strict=True):
        assert ours.prompt == theirs.prompt and ours.tokens != theirs.tokens
    batches = (SMALL.batch(range(3), 0.5, choices=True), other.batch(range(3), 0.5, choices=True))
    assert said(SMALL, batches[0]) == said(other, batches[1])
    shown = [
        [one.text(tree.children[0].children[0].tokens) for tree in one.demonstrations(range(3))]
        for one in (SMALL, other)
    ]
    assert shown[0] == shown[1]
    assert other.text(other.thought_end) == "<THOUGHT_END>"
    assert other.text(other.answer_stop.token_ids) == "<PATH_END>"
    assert cells_known(other.tokenizer) == 4
    with pytest.raises(InputError, match=r"mazes\.sizes: 5 is more than this model knows, which is mazes to 4x4"):
        MazeWorld(MazeConfig(sizes=[5]), 0, rotated(4))


def test_a_tokenizer_is_taught_what_it_lacks_only_where_that_is_asked() -> None:
    with pytest.raises(InputError, match=r"mazes\.sizes: 3 is more"):
        MazeWorld(MazeConfig(sizes=[3]), 0, maze_tokenizer(2))
    taught = MazeWorld(MazeConfig(sizes=[3], max_size=4), 0, maze_tokenizer(2), teach=True)
    assert cells_known(taught.tokenizer) == 4
    assert taught.questions([0])[0].prompt == SMALL.questions([0])[0].prompt


def test_batches_are_the_stream_s_questions_with_their_paths() -> None:
    branched = world(3, branches=3)
    batch = branched.batch([4, 9], prompt_weight=0.25)
    rows = [[row for row in some if row] for some in batch.flatten().tokens_BT.tolist()]
    questions = [maze for number in (4, 9) for maze in MazeStream(((3, 3),), branches=3).questions(number)]
    texts = [branched.text([token for token in row if token != vocab.PADDING]) for row in rows]
    assert len(texts) == len(questions) == 6
    for text, maze in zip(texts, questions, strict=True):
        assert text.endswith(" ".join(["<PATH_START>", *map(vocab.cell_text, solution(maze)), "<PATH_END>"]))
    assert set(batch.weights_S.tolist()) == {0.25, 1.0} and batch.choices_SC is None
    assert set(branched.batch([4]).weights_S.tolist()) == {1.0}


def test_mazes_stand_anywhere_in_a_larger_grid() -> None:
    """In batches, questions, demonstrations and evaluations; they keep the size that they have."""
    small, anywhere = (world(3, branches=2, max_size=6, anywhere=anywhere) for anywhere in (False, True))

    def cells_of(some: MazeWorld) -> list[set[str]]:
        trees, asked = some.demonstrations(range(60)), [*some.questions(range(90)), *some.held_out(range(90))]
        told = [some.text(tree.tokens) for tree in trees], [one.prompt for one in asked]
        told = [*told, [some.text(some.batch(range(60)).tokens_BT.flatten().tolist())]]
        return [{word for text in texts for word in text.split() if word[0] == "("} for texts in told]

    assert [len(cells) for cells in cells_of(small)] == [9, 9, 9]
    assert [len(cells) for cells in cells_of(anywhere)] == [36, 36, 36]
    for one in (*anywhere.held_out(range(40)), *anywhere.questions(range(40))):
        assert one.labels["size"] == "3x3" and one.max_thought == 3 * 9 + 2
        assert one.reference.lattice.held_out == one.held_out
        path = " ".join(map(vocab.cell_text, solution(one.reference)))
        assert anywhere.measure(one, None, f"<PATH_START> {path} <PATH_END>")["exact"]
    taught = MazeWorld(anywhere.config, 0, rotated(6))
    rows = [some.text(some.batch([3]).tokens_BT[0].tolist()) for some in (anywhere, taught)]
    assert rows[0] == rows[1]
    with pytest.raises(InputError, match=r"mazes\.max_size: 6 is more than this model knows, which is mazes to 4x4"):
        MazeWorld(anywhere.config, 0, rotated(4))


def test_others_mazes_are_read_as_questions(tmp_path: Path) -> None:
    lines = [one.prompt for one in (*SMALL.questions(range(2)), *SMALL.held_out(range(2)))]
    (tmp_path / "mazes.txt").write_text("\n".join(lines))
    read = list(SMALL.read(tmp_path / "mazes.txt"))
    assert [one.prompt for one in read] == lines
    assert [one.held_out for one in read] == [False, False, True, True]
    assert [one.labels["split"] for one in read] == ["not_held_out"] * 2 + ["held_out"] * 2
    assert {one.labels["generator"] for one in read} == {"given"}
    (tmp_path / "large.txt").write_text(world(4).questions([0])[0].prompt)
    with pytest.raises(InputError, match=r"large.txt: maze 1 is 4x4, larger than this model's tokenizer knows"):
        list(SMALL.read(tmp_path / "large.txt"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"traces": []}, r"mazes.traces: \[\] are not some of"),
        ({"traces": ["dfs", "dijkstra"]}, "mazes.traces: .*dijkstra.* are not some of"),
        ({"max_size": 2}, "mazes.max_size: 2 is not between 3, the largest side in mazes.sizes, and 64"),
        ({"max_size": 65}, "mazes.max_size: 65 is not between"),
        ({"sizes": [65]}, "mazes.sizes: a side of 65 is more than 64"),
        ({"anywhere": True}, r"mazes.anywhere: of which grid\? mazes.max_size is its side"),
        ({"sizes": [1]}, "sizes: 1x1"),
        ({"sizes": []}, "sizes: the list is empty"),
        ({"p": 2.0}, "p: 2.0"),
    ],
)
def test_what_no_mazes_can_be_is_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        MazeWorld(changed(MazeConfig(sizes=[3]), options))


def tokens_of(trees: Sequence[Any]) -> list[list[int]]:
    return [list(tree.tokens) for tree in trees]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_of_several_shortest_paths_demonstrations_take_the_one_that_the_thought_found(algorithm: str) -> None:
    mazes = world(4, generators=["percolation"], p=0.5, branches=4, traces=[algorithm])
    others = detours = 0
    for number in range(20):
        (tree,), shown = mazes.demonstrations([number]), mazes._shown.questions(number)
        for asked, maze in zip(tree.children, shown, strict=True):
            (thought,) = asked.children
            found = found_path(maze, mazes.text(thought.tokens))
            path = answer_cells(mazes.text(thought.children[0].tokens).split())[1]
            assert found and maze.path and len(path) == len(maze.path)
            assert path == found or (algorithm == "dfs" and len(found) > len(path))
            others, detours = others + (path != list(maze.path)), detours + (path != found)
    assert others and (detours > 0) == (algorithm == "dfs")


def test_demonstrations_show_the_traces_in_turn_and_are_the_same_whoever_asks() -> None:
    mixed = world(3, branches=3, traces=["dfs", "bfs"])
    trees = mixed.demonstrations([0, 1])
    assert tokens_of(trees) == tokens_of(MazeWorld(mixed.config).demonstrations(range(2)))
    shapes = []
    for tree in trees:
        words = [mixed.text(question.children[0].tokens).split() for question in tree.children]
        assert all(text[0] == "<THOUGHT_START>" and text[-1] == "<THOUGHT_END>" for text in words)
        shapes.append([any(not vocab.parse_cell(word) for word in text[1:-1]) for text in words])
    assert shapes[0] == [not one for one in shapes[1]]  # depth-first walks are cells alone
