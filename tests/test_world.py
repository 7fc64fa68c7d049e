"""How a world is found, and what is said of one that cannot be had."""

from typing import Any

import pytest

import toy
from clew.config import PromptConfig, WorldConfig
from clew.errors import InputError
from clew.world import world_of


def own(error: BaseException) -> type:
    class Failing(toy.Sorting):
        def __init__(self, **options: Any):
            raise error

    return Failing


@pytest.mark.parametrize(
    ("world", "options", "says"),
    [
        ("nowhere", {}, "'nowhere' is not one of mazes, prompts or package.module:Class"),
        ("toy:nothing", {}, "'toy:nothing' cannot be imported"),
        ("toy:right_places", {}, "is not a subclass of clew.world.World"),
        ("toy:Sorting", {"digits": "x"}, r"cannot be made with \{'digits': 'x'\}"),
        ("toy:Sorting", {"letters": 3}, "unexpected keyword argument 'letters'"),
        ("clew.world:World", {}, "cannot be made with"),
        ("mazes", {"digits": 3}, "world_options: 'mazes' takes none"),
    ],
)
def test_a_world_that_cannot_be_had_is_told_in_a_line(world: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as raised:
        world_of(WorldConfig(world, options), 0)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("error", [SystemExit(0), GeneratorExit(), StopIteration(), ValueError("\x1b[2J\n")])
def test_a_world_that_ends_the_program_is_one_too(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy, "Failing", own(error), raising=False)
    with pytest.raises(InputError, match="'toy:Failing' cannot be made with"):
        world_of(WorldConfig("toy:Failing"), 0)


def test_an_interrupt_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy, "Failing", own(KeyboardInterrupt()), raising=False)
    with pytest.raises(KeyboardInterrupt):
        world_of(WorldConfig("toy:Failing"), 0)


def test_a_world_without_what_the_loops_need(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(toy.Sorting):
        def __init__(self, **options: Any):
            super().__init__(**options)
            del self.answer_stop

    monkeypatch.setattr(toy, "Endless", Endless, raising=False)
    with pytest.raises(InputError, match="'toy:Endless' lacks answer_stop"):
        world_of(WorldConfig("toy:Endless"), 0)


def test_prompts_are_asked_in_their_own_world_alone() -> None:
    with pytest.raises(InputError, match="world: 'mazes' asks no prompts"):
        world_of(WorldConfig("mazes", prompts=PromptConfig("questions.jsonl")), 0)
