"""Demonstrations of prompts: rows of a file, or a function; what is imitated, and what never is."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clew.config import ModelConfig, PromptConfig
from clew.errors import InputError
from clew.policy import Policy
from clew.prompts.world import PromptWorld
from clew.train.config import SplitConfig, TrainConfig
from clew.train.rounds import split
from clew.train.supervised import train
from clew.tree import SpanTree
from small import changed
from texts import TEMPLATE, bpe_tokenizer

MINE = "shown_by_a_test"


def rows(n: int = 30) -> list[dict[str, Any]]:
    return [{"prompt": f"what is {i} plus two", "want": str(i + 2)} for i in range(n)]


def lines(file: Path, *rows: Any) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def shown(n: int = 30) -> list[dict[str, Any]]:
    return [
        {"prompt": row["prompt"], "thought": f"{i} and two", "answer": row["want"]} for i, row in enumerate(rows(n))
    ]


def world(demonstrations: str | None, n: int = 30) -> PromptWorld:
    return PromptWorld(rows(n), bpe_tokenizer(TEMPLATE), demonstrations=demonstrations)


def texts(world: PromptWorld, tree: SpanTree) -> list[str]:
    thought = tree.children[0]
    assert (tree.role, thought.role, thought.children[0].role) == ("prompt", "thought", "answer")
    assert (tree.weight, thought.weight, thought.children[0].weight) == (0.0, 1.0, 1.0)
    return [world.text(span.tokens, special=True) for span in (tree, thought, thought.children[0])]


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Puts a function where an import path finds it."""
    module = type(sys)(MINE)
    monkeypatch.setitem(sys.modules, MINE, module)

    def put(function: Any) -> str:
        module.write = function  # type: ignore[attr-defined]
        return f"{MINE}:write"

    yield put


def test_rows_of_a_file_are_shown_with_their_ends(tmp_path: Path) -> None:
    made = world(lines(tmp_path / "shown.jsonl", *shown()))
    prompt, thought, answer = texts(made, made.demonstrations([0])[0])
    assert prompt.startswith("[user] what is") and prompt.endswith("[assistant] <think>")
    assert thought.endswith(" and two</think>") and answer.endswith("<eos>")
    assert int(answer.removesuffix("<eos>")) == int(thought.split()[0]) + 2


def test_held_out_prompts_are_never_shown(tmp_path: Path, function: Any) -> None:
    file = lines(tmp_path / "shown.jsonl", *shown(), {"prompt": "another", "thought": "", "answer": "yes"})
    held_out = {tuple(one.tokens) for one in world(None).held_out(range(30))}
    for source in (file, function(lambda prompt, want: ("hm", want))):
        seen = {tuple(tree.tokens) for tree in world(source).demonstrations(range(90))}
        assert held_out and not seen & held_out and len(seen) >= 30 - len(held_out)
    alone = [row for row in shown() if row["prompt"] in {one.prompt for one in world(None).held_out(range(30))}]
    with pytest.raises(InputError, match="shows held-out prompts alone"):
        world(lines(tmp_path / "alone.jsonl", *alone)).demonstrations([0])


def test_a_function_is_given_the_columns_and_may_pass(function: Any) -> None:
    def write(prompt: str, want: str) -> tuple[str, str] | None:
        assert prompt == f"what is {int(want) - 2} plus two"
        return (f"{want}!", want) if int(want) % 2 else None

    made = world(function(write))
    for tree in made.demonstrations(range(20)):
        _, thought, answer = texts(made, tree)
        assert int(answer.removesuffix("<eos>")) % 2 and thought == answer.replace("<eos>", "!</think>")
    asked: list[Any] = []
    chat = [{"prompt": [{"role": "user", "content": row["prompt"]}]} for row in rows()]
    messages = function(lambda prompt: asked.append(prompt) or ("", "x"))
    PromptWorld(chat, bpe_tokenizer(TEMPLATE), demonstrations=messages).demonstrations([0])
    assert asked[0][0]["role"] == "user"


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda prompt, want: None, "wrote none for any of the questions"),
        (lambda prompt, want: want, r"returned '.*' at row \d+; expected \(thought, answer\), two texts, or None"),
        (lambda prompt, want: (want, 3), "returned .* expected"),
        (lambda prompt, want: ("a\ud800", want), "returned .* expected"),
        (lambda prompt, want: 1 / 0, r"raised ZeroDivisionError: division by zero at row \d+"),
        (lambda prompt: ("", ""), "raised TypeError: .* unexpected keyword argument 'want' at row"),
        (lambda prompt, want: ("a</think>b", want), r"the thought at row \d+ holds '</think>', which ends it"),
    ],
)
def test_a_function_that_cannot_be_used_is_named(write: Any, says: str, function: Any) -> None:
    with pytest.raises(InputError, match=f"^prompts.demonstrations: .*{says}") as caught:
        world(function(write)).demonstrations([0])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            {"prompt": "a", "answer": "b"},
            "line 2 has no thought; expected a file of rows with prompt, thought and",
        ),
        ({"prompt": "a", "thought": "b"}, "line 2 has no answer"),
        ({"thought": "a", "answer": "b"}, "line 2 has no prompt"),
        ({"prompt": "a", "thought": None, "answer": "b"}, "line 2 has the thought None, which is not text"),
        ({"prompt": "", "thought": "a", "answer": "b"}, "line 2 has no prompt"),
        ([], "line 2 is no object"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: Any, says: str) -> None:
    file = lines(tmp_path / "shown.jsonl", shown()[0], row)
    with pytest.raises(InputError, match=f"^prompts.demonstrations: .*shown.jsonl {says}"):
        world(file).demonstrations([0])


def test_every_row_is_looked_at_before_the_first_is_shown(tmp_path: Path) -> None:
    bad = {"prompt": "x", "thought": "so </think> it is", "answer": "b"}
    with pytest.raises(InputError, match=r"the thought at .*shown.jsonl line 31 holds '</think>', which ends it"):
        world(lines(tmp_path / "shown.jsonl", *shown(), bad)).demonstrations([0])


def test_what_is_asked_needs_no_demonstrations() -> None:
    """So that a run can be evaluated where the function that wrote them is not at hand."""
    assert world("no:where").questions([0]) and world("no:where").held_out([0])


def test_what_is_no_source_is_named() -> None:
    for source, says in (("missing.jsonl", "'missing.jsonl' is not there; expected a file"), ("no:where", "imported")):
        with pytest.raises(InputError, match=f"^prompts.demonstrations: .*{says}"):
            world(source).demonstrations([0])


def config(kind: type, tmp_path: Path, demonstrations: str | None, **changes: Any) -> Any:
    Policy.build(bpe_tokenizer(TEMPLATE), layers=1, width=16, heads=2).save(tmp_path / "model")
    own = PromptConfig(lines(tmp_path / "prompts.jsonl", *rows()), demonstrations=demonstrations)
    made = kind(prompts=own, model=ModelConfig(str(tmp_path / "model")), out=str(tmp_path / "run"))
    return changed(made, {"final_questions": 2, "validate_every": 0, "checkpoint_every": 0, **changes})


def test_a_warm_start_learns_them(tmp_path: Path, function: Any) -> None:
    """And a world that has none says that nothing is imitated."""
    few = {"rounds": 0, "warm_start__steps": 12, "warm_start__per_step": 2, "max_thought": 9, "max_answer": 9}
    graded = {"grader": ["small:commas"], "warm_start__optimizer__lr": 1e-2, "warm_start__optimizer__warmup": 1}
    told: list[dict[str, Any]] = []
    split(
        config(SplitConfig, tmp_path, function(lambda prompt, want: ("hm", want)), **few, **graded), report=told.append
    )
    losses = [one["loss"] for one in told if one.get("phase") == "warm start, shoggoth"]
    assert len(losses) == 2 and losses[-1] < losses[0] and not any("note" in one for one in told)
    (tmp_path / "none").mkdir()
    none: list[dict[str, Any]] = []
    split(config(SplitConfig, tmp_path / "none", None, **few, **graded), report=none.append)
    assert [one["note"] for one in none if "note" in one] == [
        "warm_start: this world has no demonstrations; rounds begin with the model as it is"
    ]


def test_training_learns_their_answers_without_thoughts(tmp_path: Path) -> None:
    source = lines(tmp_path / "shown.jsonl", *shown())
    few = {"steps": 4, "per_step": 2, "log_every": 1, "optimizer__lr": 1e-2, "optimizer__warmup": 1}
    told: list[dict[str, Any]] = []
    result = train(config(TrainConfig, tmp_path, source, **few), report=told.append)
    losses = [one["loss"] for one in told if "loss" in one]
    assert losses[-1] < losses[0] and result["questions"] >= 1
    made = world(source)
    batch, tree = made.batch([0]), made.demonstrations([0])[0]
    assert batch is not None and batch.tokens_BT[0].tolist() == tree.tokens + tree.children[0].children[0].tokens
    with pytest.raises(InputError, match="world: it has no demonstrations"):
        train(config(TrainConfig, tmp_path, None, **few, out=str(tmp_path / "other")))
