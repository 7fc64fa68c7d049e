"""What every world has by itself, and how one is named."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clew.config import WorldConfig
from clew.errors import InputError
from clew.mazes.world import MazeWorld
from clew.prompts.world import PromptWorld
from clew.tree import ROLES, SpanTree, TreeBatch
from clew.world import Figures, Look, Question, Stop, World, world_of
from small import WORLD, changed, rows_of
from toy import Sorting


def named(world: str | None = None, **options: Any) -> WorldConfig:
    return changed(WorldConfig(world), options)


def test_worlds_by_their_names(tmp_path: Path) -> None:
    assert isinstance(world_of(named(), 0), MazeWorld) and isinstance(world_of(named("mazes"), 0), MazeWorld)
    own = world_of(named("toy:Sorting", world_options={"digits": 2}), 0)
    assert type(own).__name__ == "Sorting" and len(own.questions([0])[0].prompt) == 2
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "(0,0)"}\n{"prompt": "(0,1)"}\n')
    for name in (None, "prompts"):
        options = {"prompts__file": str(tmp_path / "prompts.jsonl"), "prompts__delimiters": (" (1,1)", "(2,2)")}
        world = world_of(named(name, **options), 0, WORLD.tokenizer)
        assert isinstance(world, PromptWorld) and world.held_out_count() == 1


def test_a_seed_and_a_tokenizer_reach_the_world() -> None:
    prompts = [
        [one.prompt for one in world_of(named(mazes__sizes=[3]), seed).questions(range(9))] for seed in (0, 0, 1)
    ]
    assert prompts[0] == prompts[1] != prompts[2]
    mine = Sorting().tokenizer
    assert world_of(named("toy:Sorting"), 3, mine).tokenizer is mine


class Lacking(World):
    """Which sets half of what it should."""

    def __init__(self, tokenizer: Any = None, seed: int = 0):
        self.tokenizer, self.thought_stop = WORLD.tokenizer, Stop()


class Failing(World):
    def __init__(self, tokenizer: Any = None, seed: int = 0, digits: int = 3):
        raise ValueError(f"no {digits} digits\nto be had")


class Refusing(World):
    def __init__(self, tokenizer: Any = None, seed: int = 0, digits: int = 3):
        raise InputError(f"digits: {digits} is not 1")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (named("maze"), "world: 'maze' is not one of mazes, prompts, reasoning_gym or package.module:Class$"),
        (named("nowhere:World"), "world: 'nowhere:World' cannot be imported"),
        (named("toy:Nothing"), "world: 'toy:Nothing' cannot be imported"),
        (named("toy:right_places"), "world: 'toy:right_places' is not a subclass of clew.world.World"),
        (named("small:commas:more"), "world: 'small:commas:more' is no import path"),
        (named("toy:Sorting", world_options={"letters": 3}), "world: 'toy:Sorting' cannot be made with {'letters': 3}"),
        (named("own_worlds:Failing"), "cannot be made with {}: .*no 3 digits"),
        (named("own_worlds:Refusing", world_options={"digits": 2}), "^digits: 2 is not 1$"),
        (named("own_worlds:Lacking"), "world: 'own_worlds:Lacking' lacks answer_stop, thought_end"),
        (named(world_options={"digits": 2}), "world_options: 'mazes' takes none; they are for a world of your own"),
        (named("prompts", world_options={"digits": 2}), "world_options: 'prompts' takes none"),
        (named("mazes", prompts__file="p.jsonl"), "world: 'mazes' asks no prompts; leave out --world, or --prompts"),
        (named("toy:Sorting", prompts__file="p.jsonl"), "world: 'toy:Sorting' asks no prompts"),
        (named("prompts"), "prompts.file: the world called prompts needs a file of them"),
        (named(prompts__file="p.jsonl"), "model.folder: prompts need a model folder to start from"),
    ],
)
def test_what_is_no_world_is_named(config: WorldConfig, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "own_worlds", sys.modules[__name__])
    with pytest.raises(InputError, match=says.replace("{", r"\{")) as caught:
        world_of(config, 0)
    assert str(caught.value).isprintable()


def test_answers_are_imitated_behind_their_prompts_without_the_thoughts() -> None:
    world = Sorting()
    for weight in (0.0, 0.5):
        batch = world.batch(range(3), weight)
        assert batch is not None
        wanted = []
        for question in world.questions(range(3)):
            answer = world.ids(*sorted(question.prompt), "<end>")
            prompt = [(question.tokens[: i + 1], weight) for i in range(1, len(question.tokens)) if weight]
            wanted += prompt + [([*question.tokens, *answer[: i + 1]], 1.0) for i in range(len(answer))]
        assert list(rows_of(batch)) == wanted
        assert batch.roles_S is not None and ROLES.index("thought") not in batch.roles_S.tolist()


class Branching(Sorting):
    """A thought that forks, one that ends without an answer, and an answer after an answer's sibling."""

    def demonstrations(self, numbers: Sequence[int]) -> list[SpanTree]:
        first, second = (SpanTree([4 + i], "answer", 1.0) for i in range(2))
        forked = SpanTree([6], "thought", 1.0, [SpanTree([7], "thought", 1.0, [first]), second])
        return [SpanTree([8, 9], "prompt", 0.0, [forked, SpanTree([6, 6], "thought", 1.0)])]


def test_whatever_shape_demonstrations_have_their_answers_stay() -> None:
    batch = Branching().batch([0])
    assert batch is not None and list(rows_of(batch)) == [([8, 9, 4], 1.0), ([8, 9, 5], 1.0)]


class Bare(World):
    """What a subclass has to write, and nothing more: no demonstrations, no grader."""

    def __init__(self, tokenizer: Any = None, seed: int = 0):
        self.tokenizer = tokenizer or WORLD.tokenizer
        self.thought_stop, self.answer_stop, self.thought_end = Stop((1,)), Stop((2,)), [1]

    def questions(self, numbers: Sequence[int]) -> list[Question]:
        return [Question("what", [3, 4], 5, 6) for _ in numbers]

    def held_out(self, numbers: Sequence[int], look: Look = "final", seed: int = 0) -> list[Question]:
        return self.questions(numbers)

    def demonstrations(self, numbers: Sequence[int]) -> list[SpanTree]:
        return []

    def measure(self, question: Question, thought: str | None, answer: str) -> Figures:
        return {}


def test_what_a_world_has_without_saying_so(tmp_path: Path) -> None:
    world = Bare()
    (question,) = world.questions([0])
    assert world.batch([0]) is None and world.step_tokens(None) == 0
    assert Sorting().step_tokens(None) == TreeBatch.pack(Sorting().demonstrations([0]), 0).tokens_BT.numel()
    assert world.grader() is None and world.held_out_count() is None and world.not_evaluated() == ""
    assert world.baseline(question, np.random.default_rng(0)) is None and world.drawing(question, "hm") is None
    assert world.label("starts_at_once") == "starts at once"
    assert world.pictures({}, [], tmp_path) is None and not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="loss: graded needs the moves open at each step, and Bare knows none"):
        world.batch([0], choices=True)
    with pytest.raises(InputError, match="from: Bare reads no files"):
        world.read(tmp_path / "any.txt")


def test_text_is_what_the_tokenizer_decodes() -> None:
    class Plain(Sorting):
        text = World.text

    assert Plain().text(Plain().ids("3", "1", "<end>")) == Plain().tokenizer.decode([6, 4, 1], skip_special_tokens=True)
