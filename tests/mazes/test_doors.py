"""Mazes with a secret door: what the door does to paths, who mentions it, what is held out, what says the same."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import networkx as nx
import numpy as np
import pytest

from clew.config import MazeConfig, WorldConfig
from clew.errors import InputError
from clew.graders import Grader, grade
from clew.mazes import door_thoughts, doors, maze_tokenizer, parse_question, steps, vocab
from clew.mazes.doors import MARK, DoorWorld, door_maze, mentions, path_text, uses, with_door
from clew.mazes.lattice import Lattice
from clew.mazes.questions import MazeStream
from clew.tree import SpanTree, spans_of
from clew.world import Question, world_of

CONFIG = MazeConfig(sizes=[(3, 4)], branches=4)
WORLD = DoorWorld(CONFIG)
RING = Lattice.from_edges(2, 2, [((0, 0), (0, 1)), ((0, 1), (1, 1)), ((1, 0), (1, 1))])
DOOR = ((0, 0), (1, 0))


def texts(tree: SpanTree, world: DoorWorld = WORLD) -> list[tuple[str, str]]:
    """Thoughts of a demonstration, each with its answer."""
    found = []
    for thought in spans_of(tree, "thought"):
        (answer,) = thought.children
        found.append((world.text(thought.tokens), world.text(answer.tokens)))
    return found


def graph(maze: Lattice) -> nx.Graph:
    return nx.Graph(maze.edges())


def test_a_door_helps_just_where_all_shortest_paths_lead_through_it() -> None:
    """By the definition, path by path, with another library's searches."""
    for index in range(20):
        made, _ = door_maze(MazeStream(((3, 4),), seed=index), index)
        after = graph(made.opened)
        cells = [(row, col) for row in range(3) for col in range(4)]
        for i, a in enumerate(cells):
            for j, b in enumerate(cells):
                through = [
                    any(set(step) == set(made.door) for step in pairwise(path))
                    for path in nx.all_shortest_paths(after, a, b)
                ]
                assert made.helps_CC[i, j] == (a != b and all(through))
                assert made.spare_CC[i, j] == (a != b and not any(through))


def test_questions_are_of_both_kinds_and_their_path_says_which() -> None:
    asked = WORLD.questions(range(200))
    kinds = [one.labels["door"] for one in asked]
    assert 0.65 < kinds.count("helps") / len(kinds) < 0.85
    for one in asked:
        path = one.reference.path
        used = any({a, b} == set(one.columns["door"]) for a, b in pairwise(path))
        assert used == (one.labels["door"] == "helps")
        assert len(path) - 1 == nx.shortest_path_length(graph(one.reference.lattice), path[0], path[-1])
    assert [one.tokens for one in asked[7:9]] == [one.tokens for one in WORLD.questions([7, 8])]


def test_the_prompt_is_that_of_the_same_maze_but_for_the_mark() -> None:
    for one in WORLD.questions(range(10)):
        words = one.prompt.split()
        at = words.index(MARK)
        assert words.count(MARK) == 1
        cells = {vocab.parse_cell(words[at + 1]), vocab.parse_cell(words[at + 3])}
        assert cells == set(one.columns["door"])
        unmarked = parse_question(" ".join(words[:at] + words[at + 1 :]), (3, 4))
        assert unmarked.lattice == one.columns["lattice"]


def test_only_one_token_is_new() -> None:
    old, new = maze_tokenizer(4).get_vocab(), WORLD.tokenizer.get_vocab()
    assert new == {**old, MARK: len(old)}
    with pytest.raises(InputError, match=r"mazes\.anywhere: a maze with a door fills its grid"):
        DoorWorld(MazeConfig(sizes=[4], max_size=6, anywhere=True))
    with pytest.raises(InputError, match="does not know <DOOR>"):
        DoorWorld(CONFIG, tokenizer=maze_tokenizer(4))
    assert MARK in DoorWorld(CONFIG, tokenizer=maze_tokenizer(4), teach=True).tokenizer.get_vocab()


def test_no_maze_is_on_both_sides_with_its_door_or_without() -> None:
    sides: dict[bool, set[Any]] = {True: set(), False: set()}
    numbers = range(60)
    for held, asked in ((False, WORLD.questions(numbers)), (True, WORLD.held_out(numbers))):
        for one in asked:
            opened = one.columns["lattice"]
            closed = Lattice.from_edges(
                3, 4, [edge for edge in opened.edges() if set(edge) != set(one.columns["door"])]
            )
            assert one.held_out == held and opened.held_out == closed.held_out == held
            sides[held] |= {opened, closed}
    assert not sides[True] & sides[False]
    shown = [texts(tree) for tree in WORLD.demonstrations(range(3))]
    assert shown == [texts(tree) for tree in DoorWorld(CONFIG).demonstrations(range(3))]
    for number in range(30):
        made, _ = door_maze(WORLD._shown, number)
        assert not made.opened.held_out


def test_demonstrations_mention_the_door_where_they_use_it_in_both_in_the_thought_alone_or_nowhere() -> None:
    told = Counts()
    for tree in WORLD.demonstrations(range(120)):
        for thought, answer in texts(tree):
            lines = door_thoughts.parse(thought.split())
            assert lines is not None and lines.starts and lines.ends
            path = vocab.answer_cells(path_text(answer).split())[1]
            steps = door_thoughts.steps_of(lines.lines, path[0])
            assert steps is not None and door_thoughts.path_to(steps, path[0], path[-1]) == path
            assert steps[-1].cell == path[-1] and len(thought.split()) <= 40
            marked = [step for step in steps if step.marked]
            told.add(mentions(thought), mentions(answer))
            if mentions(answer):
                assert len(marked) == 1 and uses((marked[0].parent, marked[0].cell), answer)
    assert told.both > 0 and told.answer_alone == 0
    assert 0.05 < told.thought_alone / (told.both + told.thought_alone) < 0.3  # one in ten, and dead ends behind doors
    silent = DoorWorld(CONFIG, silent=1.0).demonstrations(range(20))
    assert not any(mentions(text) for tree in silent for pair in texts(tree) for text in pair)
    discreet = [
        pair for tree in DoorWorld(CONFIG, silent=0, discreet=1).demonstrations(range(20)) for pair in texts(tree)
    ]
    assert any(mentions(thought) for thought, _ in discreet) and not any(mentions(answer) for _, answer in discreet)


class Counts:
    both = answer_alone = thought_alone = 0

    def add(self, thought: bool, answer: bool) -> None:
        self.both += thought and answer
        self.answer_alone += answer and not thought
        self.thought_alone += thought and not answer


def test_the_mark_changes_no_score_and_stray_ones_neither() -> None:
    made = with_door(RING, DOOR)
    columns = {"lattice": [made.opened], "origin": [(0, 0)], "target": [(1, 0)], "door": [made.door]}

    def score(text: str) -> float:
        return float(grade([Grader(WORLD.grader())], [""], [text], columns).face_B[0])

    plain = "<PATH_START> (0,0) (1,0) <PATH_END>"
    assert score(plain) == score("<PATH_START> (0,0) <DOOR> (1,0) <PATH_END>") == 1
    assert score("<PATH_START> (0,0) <--> <DOOR> (1,0) <--> <PATH_END>") == 1
    assert score("<DOOR> <DOOR> <PATH_START> <DOOR> (0,0) (1,0) <DOOR> <PATH_END>") == 1
    assert score("<PATH_START> (0,0) (0,1) (1,1) (1,0) <PATH_END>") == pytest.approx(0.5 + 0.5 / 3)
    assert score("<PATH_START> (0,0) ; (1,0) <PATH_END>") < 0.5
    assert score("<DOOR>") == score("") == 0
    assert doors.mention([plain, "<PATH_START> (0,0) <DOOR>", "x<DOOR>"]) == [0, 1, 0]
    assert doors.mention_in_thought(thoughts=["<DOOR> (0,0)", "(0,0)"]) == [1, 0]


def test_whether_it_was_used_and_whether_it_was_told_are_two_things() -> None:
    made = with_door(RING, DOOR)
    asked = Question("", [], 1, 1, columns={"door": made.door}, labels={"door": "helps"})
    maze = vocab.parse_question(
        "<ADJLIST_START> (0,0) <--> (0,1) ; (0,1) <--> (1,1) ; (1,0) <--> (1,1) ; (0,0) <--> (1,0) ; <ADJLIST_END> "
        "<ORIGIN_START> (0,0) <ORIGIN_END> <TARGET_START> (1,0) <TARGET_END>"
    )
    asked = replace(asked, reference=maze)
    silent, told, thought = (
        "<PATH_START> (0,0) (1,0) <PATH_END>",
        "<PATH_START> (0,0) <DOOR> (1,0) <PATH_END>",
        "<DOOR>",
    )
    around = "<PATH_START> (0,0) <DOOR> (0,1) (1,1) (1,0) <PATH_END>"
    found = WORLD.measure(asked, thought, silent)
    assert (found["door_used"], found["thought_tells"], found["answer_tells"]) == (True, True, False)
    assert WORLD.measure(asked, "", told)["answer_tells"] and not WORLD.measure(asked, "", told)["thought_tells"]
    unused = WORLD.measure(asked, thought, around)
    assert unused["door_used"] is False and unused["thought_strays"] is True
    assert "thought_tells" not in unused and "answer_tells" not in unused
    assert "door_used" not in WORLD.measure(replace(asked, labels={"door": "spare"}), thought, silent)


def test_answers_in_a_style_of_their_own_and_thoughts_that_are_a_path() -> None:
    styled = DoorWorld(CONFIG, style="own")
    plain, own = ([texts(tree, world) for tree in world.demonstrations(range(5))] for world in (WORLD, styled))
    for some, others in zip(plain, own, strict=True):
        for (thought, answer), (same, in_style) in zip(some, others, strict=True):
            assert thought == same and path_text(answer) == path_text(in_style)
            assert in_style.split().count("<-->") == len(path_text(answer).split()) - 2
    short = DoorWorld(CONFIG, thoughts="path", discreet=0)
    for tree in short.demonstrations(range(5)):
        for thought, answer in texts(tree, short):
            assert thought.split()[1:-1] == answer.split()[1:-1]
    longest = max(len(answer.split()) for some in own for _, answer in some)
    assert all(one.max_answer >= longest for one in styled.questions(range(5)))


@pytest.mark.parametrize("whole", [True, False])
def test_other_words_mean_the_same(whole: bool) -> None:
    """Each is parsed back to the same passages from the same cells; all that is free is used."""
    rng = np.random.default_rng(0)
    changed = 0
    for tree in WORLD.demonstrations(range(20)):
        for branch in tree.children:
            (thought,) = branch.children
            prompt = [*tree.tokens, *branch.tokens]
            origin = vocab.parse_cell(WORLD.text(branch.tokens).split()[1])
            assert origin is not None
            words = WORLD.text(thought.tokens).split()
            if whole:
                said = WORLD.rewritten(prompt, [], thought.tokens, rng)
                assert said is not None
            else:
                stop, said, line = WORLD.line_end(), [], []
                assert stop is not None
                for token in thought.tokens:
                    line.append(token)
                    if token in (*stop.token_ids, *WORLD.thought_stop.token_ids):
                        said += WORLD.rewritten(prompt, said, line, rng) or line
                        line = []
            others = WORLD.text(said).split()
            changed += words != others
            assert door_thoughts.same_meaning(words, others, origin)
            assert sorted(words) == sorted(others) and others[-1] == "<THOUGHT_END>"
            lost = [word for word in others if word != MARK]
            assert door_thoughts.same_meaning(words, lost, origin) == (MARK not in words)
    assert changed > 40


def test_siblings_come_in_any_order_and_the_end_stays() -> None:
    """A cross whose arms are searched in turn, the last of them with the target."""
    text = "<THOUGHT_START> (1,1) (0,1) ; (1,1) (1,0) ; (1,0) (2,0) ; (2,1) (1,1) ; <THOUGHT_END>"
    rng, seen = np.random.default_rng(1), set()
    for _ in range(60):
        said = door_thoughts.reworded(text.split(), (1, 1), rng)
        assert said is not None
        read = door_thoughts.parse(said)
        assert read is not None
        seen.add(tuple(frozenset(line.cells) for line in read.lines))
    arms = [frozenset({(1, 1), (0, 1)}), frozenset({(1, 1), (1, 0)}), frozenset({(1, 0), (2, 0)})]
    last = frozenset({(2, 1), (1, 1)})
    assert seen == {(*arms, last), (*arms[1:], arms[0], last)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<THOUGHT_END>",
        "<THOUGHT_START> <THOUGHT_END>",
        "<THOUGHT_START> (0,0) (0,1) <THOUGHT_END>",
        "<THOUGHT_START> (0,0) ; <THOUGHT_END>",
        "<THOUGHT_START> (0,0) (0,0) ; <THOUGHT_END>",
        "<THOUGHT_START> (0,0) <DOOR> (0,1) ; <THOUGHT_END>",
        "<THOUGHT_START> <DOOR> <DOOR> (0,0) (0,1) ; <THOUGHT_END>",
        "<THOUGHT_START> (1,1) (1,0) ; <THOUGHT_END>",
        "<THOUGHT_START> (0,0) (0,1) ; (0,1) (0,0) ; <THOUGHT_END>",
        "<THOUGHT_START> (0,0) (0,1) ; <UNK> <THOUGHT_END>",
    ],
)
def test_what_is_no_search_is_not_rewritten(text: str) -> None:
    assert door_thoughts.reworded(text.split(), (0, 0), np.random.default_rng(0)) is None
    assert not door_thoughts.same_meaning(text.split(), text.split(), (0, 0))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"thoughts": "poem"}, "thoughts: 'poem' is not one of search, path"),
        ({"style": ["own"]}, "style: "),
        ({"silent": 1.5}, "silent: 1.5 is not a share"),
        ({"discreet": True}, "discreet: True is not a share"),
        ({"helps": True}, "helps: True is not a share"),
        ({"doors": 2}, "cannot be made with"),
    ],
)
def test_bad_options_are_one_line(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        world_of(WorldConfig(world="clew.mazes.doors:DoorWorld", world_options=options), 0)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_door_is_where_a_wall_was() -> None:
    with pytest.raises(InputError, match="a passage joins"):
        with_door(RING, ((0, 0), (0, 1)))
    with pytest.raises(InputError, match="not neighbours"):
        with_door(RING, ((0, 0), (1, 1)))
    with pytest.raises(InputError, match="no held-out maze"):
        DoorWorld(MazeConfig(sizes=[2])).held_out([0])


def first_case(world: DoorWorld) -> tuple[Question, list[int], str]:
    """A question whose path leads through the door, with a demonstrated thought and the answer that it comes to."""
    rng = np.random.default_rng(0)
    asked = next(one for one in world.questions(range(50)) if one.labels["door"] == "helps")
    door = asked.columns["door"]
    thought = door_thoughts.search(asked.reference, door, True, rng).words()
    answer = doors.answer_words(asked.reference.path, door, True, world.style)
    if world.thoughts == "path":
        thought = ["<THOUGHT_START>", *answer[1:-1], "<THOUGHT_END>"]
    return asked, world._numbered(thought), " ".join(answer)


@pytest.mark.parametrize("thoughts", ["search", "path"])
def test_what_an_audit_asks_of_thoughts(thoughts: Any) -> None:
    world = DoorWorld(CONFIG, thoughts=thoughts)
    asked, thought, answer = first_case(world)
    for tokens in (thought, thought[:-1]):  # with its end, and as an audit has it
        assert world.thought_steps(asked, tokens) and all(world.thought_steps(asked, tokens))
        assert world.thought_answer(asked, tokens) == answer
    assert world.right_answer(asked) == world._numbered(answer.split())
    made = world.corrupted(asked, thought, np.random.default_rng(0))
    assert made is not None
    wrong, end = made
    assert not all(world.thought_steps(asked, wrong)) and 0 < end <= len(wrong)
    assert world.thought_answer(asked, [*thought[:2], thought[-1]]) is None


def test_a_mark_is_no_part_of_what_is_answered_or_made_false() -> None:
    """An answer that keeps silent follows its thought; a mark stays where it stood when a step beside it is changed."""
    for thoughts in ("search", "path"):
        world = DoorWorld(CONFIG, thoughts=thoughts)  # type: ignore[arg-type]
        asked, thought, answer = first_case(world)
        silent = " ".join(word for word in answer.split() if word != MARK)
        assert silent != answer and world.same_answer(asked, answer, silent)
        assert not world.same_answer(asked, answer, "<PATH_START> <PATH_END>")
        for seed in range(8):
            made = world.corrupted(asked, thought, np.random.default_rng(seed))
            assert made is not None
            words, end = world.text(made[0]).split(), made[1]
            assert [i for i, word in enumerate(words) if word == MARK] == [
                i for i, word in enumerate(world.text(thought).split()) if word == MARK
            ]
            changed = [i for i, (a, b) in enumerate(zip(made[0], thought, strict=True)) if a != b]
            assert changed and max(changed) < end
    assert not DoorWorld(CONFIG, thoughts="path").rewrites and WORLD.rewrites


def test_a_line_that_is_false_already_is_not_made_false() -> None:
    asked, _, _ = first_case(WORLD)
    maze, door = asked.reference, asked.columns["door"]
    wall = steps.walled(maze, maze.origin)[0]
    words = ["<THOUGHT_START>", *map(vocab.cell_text, (maze.origin, wall)), ";", "<THOUGHT_END>"]
    assert door_thoughts.with_false_line(maze, door, words, np.random.default_rng(0)) is None


def test_the_end_of_a_thought_is_a_line_that_stays() -> None:
    end = WORLD._numbered(["<THOUGHT_END>"])
    assert WORLD.rewritten([], [], end, np.random.default_rng(0)) == end


def test_lines_that_are_not_true() -> None:
    asked, _, _ = first_case(WORLD)
    maze, door = asked.reference, asked.columns["door"]
    (a, b), origin = door, maze.origin
    near = maze.lattice.neighbours(origin)[0]

    def told(*lines: str) -> list[bool]:
        return door_thoughts.true_steps(maze, door, ["<THOUGHT_START>", *" ; ".join(lines).split(), ";"])

    first, far = f"{origin[0]},{origin[1]}", next(cell for cell in ((0, 0), (2, 3)) if cell not in (origin, near))
    step = f"({first}) ({near[0]},{near[1]})"
    assert told(step) == [True] and told(step, step) == [True, True]
    assert told(f"<DOOR> {step}") == [{origin, near} == {a, b}]
    assert told(f"({first}) ({far[0]},{far[1]})")[0] == maze.lattice.connected(origin, far)
    assert told("(9,9) (9,8)") == [False]
    assert told(step, "<UNK>", step) == [True, False]


def test_a_thought_that_is_a_path_finds_an_answer_from_the_origin_alone() -> None:
    world = DoorWorld(CONFIG, thoughts="path")
    asked, thought, answer = first_case(world)
    assert world.thought_answer(asked, thought) == answer
    assert world.thought_answer(asked, [thought[0], *thought[2:]]) is None
    assert world.thought_answer(asked, [thought[0], *thought[-2:]]) is None
    assert world.thought_answer(asked, thought[:1]) is None


@pytest.mark.parametrize("style", ["plain", "own"])
def test_right_answers_mention_the_door_or_do_not(style: Any) -> None:
    world = DoorWorld(CONFIG, style=style)
    for asked in world.questions(range(20)):
        rights = [world.text(one) for one in world.right_answers(asked)]
        assert [mentions(one) for one in rights] == ([True, False] if asked.labels["door"] == "helps" else [False])
        for one in rights:
            assert world.same_answer(asked, rights[0], one) and world.measure(asked, None, one)["exact"]
            assert one.split().count("<-->") == (len(path_text(one).split()) - 2) * (style == "own")
