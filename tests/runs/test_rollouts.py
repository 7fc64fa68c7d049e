"""Rollouts of every round: a round trip of whatever a model wrote, rounds in order, torn lines told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.errors import InputError
from clew.runs.rollouts import keep_rollouts, last_round, read_rollouts, write_rollouts

# Any text a tokenizer might decode to: surrogates by themselves, control characters, line ends of all kinds.
TEXTS = st.text(st.one_of(st.characters(), st.characters(categories=["Cs", "Cc", "Zl", "Zp"])), max_size=20)


def record(number: int = 0, text: str = "hm", score: float | None = 1.0) -> dict[str, Any]:
    wrote = {"text": text, "tokens": [3, 4], "logps": [-0.5, -0.25], "ended": True}
    answer = wrote | {"weight": 1.0, "score": score, "scores": {"exact": score}}
    thought = wrote | {"read": text, "weight": -1.0, "answers": [answer, answer]}
    return {"number": number, "prompt": text, "context": [1, 2], "thoughts": [thought]}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    for round in (1_000_000, 2, 10):
        write_rollouts(tmp_path, round, [record(round), record(round + 1)])
    found = list(read_rollouts(tmp_path))
    assert [one["round"] for one in found] == [2, 2, 10, 10, 1_000_000, 1_000_000]
    assert [one["number"] for one in last_round(tmp_path)] == [1_000_000, 1_000_001]
    assert found[2] == {"round": 10, **record(10)}
    assert list(read_rollouts(tmp_path / "rollouts" / "round-000002.jsonl")) == found[:2]
    write_rollouts(tmp_path, 2, [record(5)])
    assert [one["number"] for one in read_rollouts(tmp_path)][:2] == [5, 10]  # a round that is run again replaces it


@settings(max_examples=200, deadline=None)
@given(text=TEXTS)
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("run")
    write_rollouts(folder, 1, [record(0, text), record(1)])
    first, second = read_rollouts(folder)
    assert first == {"round": 1, **record(0, text)} and second["number"] == 1


def test_huge_texts_survive(tmp_path: Path) -> None:
    text = "\ud800\x00é\u2028\n" * 400_000
    write_rollouts(tmp_path, 1, [record(0, text)])
    (found,) = read_rollouts(tmp_path)
    assert found["prompt"] == text and found["thoughts"][0]["answers"][1]["text"] == text


def test_what_json_cannot_say(tmp_path: Path) -> None:
    odd = {"a": np.float32(0.5), "b": np.arange(3), "c": {1: (2,)}, "d": 1 + 2j, "e": [float("inf"), np.nan], "f": {}}
    write_rollouts(tmp_path, 1, [record(0, score=float("nan")) | {"columns": odd}])
    (found,) = read_rollouts(tmp_path)
    assert found["columns"] == {"a": 0.5, "b": [0, 1, 2], "c": {"1": [2]}, "d": "(1+2j)", "e": [None, None], "f": {}}
    answer = found["thoughts"][0]["answers"][0]
    assert answer["score"] is None and answer["scores"] == {"exact": None} and answer["weight"] == 1.0
    for line in (tmp_path / "rollouts" / "round-000001.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_rounds_after_a_resumed_step_are_dropped(tmp_path: Path) -> None:
    keep_rollouts(tmp_path, 3)  # there are none yet
    for round in (2, 3, 4, 1_000_000):
        write_rollouts(tmp_path, round, [record()])
    (tmp_path / "rollouts" / "notes.txt").write_text("mine")
    (tmp_path / "rollouts" / "round-000009.jsonl").mkdir()
    keep_rollouts(tmp_path, 3)
    left = sorted(path.name for path in (tmp_path / "rollouts").iterdir())
    assert left == ["notes.txt", "round-000002.jsonl", "round-000003.jsonl"]


def changed(**values: Any) -> bytes:
    return json.dumps(record() | values).encode()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (changed()[:-40], "is torn: it is no JSON"),
        (b"", "is torn"),
        (b"\xff\x00", "is torn"),
        (b"[" * 100_000, "is torn"),
        (b"[1]", r"\[1\] is no object of a rollout"),
        (changed(thoughts=None), "thoughts: None is no value of it"),
        (changed(prompt=3), "prompt: 3 is no value of it"),
        (changed(thoughts=[3]), "thought 1: 3 is no object"),
        (changed(thoughts=[{**record()["thoughts"][0], "weight": True}]), "thought 1: weight: True is no value"),
        (
            changed(thoughts=[{**record()["thoughts"][0], "answers": [{"text": ""}]}]),
            "thought 1: answer 1: weight: None",
        ),
    ],
)
def test_a_torn_or_foreign_line(tmp_path: Path, line: bytes, says: str) -> None:
    write_rollouts(tmp_path, 3, [record()])
    file = tmp_path / "rollouts" / "round-000003.jsonl"
    file.write_bytes(file.read_bytes() + line + b"\n")
    found = read_rollouts(tmp_path)
    assert next(found)["number"] == 0  # what stands before it is read
    with pytest.raises(InputError, match=rf"round-000003.jsonl: line 2.*{says}") as caught:
        next(found)
    assert "\n" not in str(caught.value)


def test_nothing_to_read(tmp_path: Path) -> None:
    assert list(last_round(tmp_path)) == []
    with pytest.raises(InputError, match="holds no rollouts"):
        read_rollouts(tmp_path)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        next(read_rollouts(tmp_path / "round-000001.jsonl"))
