"""The thoughts that ship as examples do the work that they show, and are as short as they say."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from transformers import AutoTokenizer

from clew.prompts.gym import GymWorld
from texts import TEMPLATE, bpe_tokenizer

FILE = Path(__file__).parents[2] / "examples" / "language" / "thoughts.py"
TASKS: list[Any] = [
    {"name": "letter_counting", "min_words": 1, "max_words": 5},
    {"name": "chain_sum", "min_terms": 2, "max_terms": 4, "min_digits": 2, "max_digits": 2},
    {"name": "spell_backward", "min_word_len": 3, "max_word_len": 10},
    {"name": "basic_arithmetic", "operators": ["+", "-"], "allow_parentheses": False, "max_terms": 3, "max_digits": 2},
]


@pytest.fixture(scope="module")
def thoughts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("thoughts", FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_does_its_work(thoughts: ModuleType) -> None:
    assert thoughts.counted(["The", "banana"], "a") == "t h e, b a1 n a2 n a3"
    assert thoughts.summed("12 + 34 - 5") == "12+34=46, 46-5=41" and thoughts.summed("7") == "7"
    assert thoughts.summed("-3 - -4") == "-3--4=1"
    assert thoughts.summed("2 * 3") is None and thoughts.summed("(2 + 3)") is None
    assert thoughts.spelt("straw") == "s t r a w, w a r t s"
    assert thoughts.write("?", "sudoku", {}, "1") is None


def test_two_kinds_half_of_each(thoughts: ModuleType) -> None:
    world = GymWorld([TASKS[1]], bpe_tokenizer(TEMPLATE))
    kinds = []
    for question in world.questions(range(400)):
        thought, answer = thoughts.mixed(question.prompt, **question.columns)
        stepwise, _ = thoughts.write(question.prompt, **question.columns)
        at_once = f"{question.columns['metadata']['expression'].replace(' ', '')}={answer}"
        assert thought in (stepwise, at_once) and thoughts.mixed(question.prompt, **question.columns)[0] == thought
        kinds += [thought == stepwise] if stepwise != at_once else []
    assert 0.4 < sum(kinds) / len(kinds) < 0.6
    assert thoughts.mixed("?", "spell_backward", {}, "1") is None


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task["name"])
def test_their_ends_are_the_answers(thoughts: ModuleType, task: dict[str, Any]) -> None:
    world = GymWorld([task], bpe_tokenizer(TEMPLATE))
    for question in world.questions(range(100)):
        thought, answer = thoughts.write(question.prompt, **question.columns)
        assert world.score(task["name"], question.columns["index"], answer) == 1
        if task["name"] == "spell_backward":
            assert thought.split(", ")[1].replace(" ", "") == answer
        elif task["name"] == "letter_counting":
            assert re.findall(r"\d+", thought)[-1] == answer or not answer.isalpha()
        else:
            assert re.split("[= ]", thought)[-1] == answer


def test_they_are_short(thoughts: ModuleType, smollm2: Path) -> None:
    """Of nearly all questions of these options: 48 tokens, with the delimiter that ends a thought."""
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    for task in TASKS:
        world = GymWorld([task], tokenizer)
        written = [thoughts.write(one.prompt, **one.columns)[0] for one in world.questions(range(200))]
        lengths = [len(tokenizer(text + "</think>").input_ids) for text in written]
        assert sum(length <= 48 for length in lengths) >= 196, (task["name"], max(lengths))
