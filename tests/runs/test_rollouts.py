"""Rollouts of every round: a round trip of whatever a model wrote, rounds in order, what is torn told."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.errors import InputError
from clew.runs.rollouts import as_line, keep_rollouts, last_round, read_rollouts, schema, write_rollouts

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
    assert list(read_rollouts(tmp_path / "rollouts" / "round-000002.parquet")) == found[:2]
    write_rollouts(tmp_path, 2, [record(5)])
    assert [one["number"] for one in read_rollouts(tmp_path)][:2] == [5, 10]  # a round that is run again replaces it


def as_kept(text: str) -> str:
    """What UTF-8 can hold of it: pairs of surrogates are the character that they mean, halves of them nothing."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@settings(max_examples=100, deadline=None)
@given(text=TEXTS)
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("run")
    write_rollouts(folder, 1, [record(0, text), record(1)])
    first, second = read_rollouts(folder)
    assert first == {"round": 1, **record(0, as_kept(text))} and second["number"] == 1
    if all(c.isprintable() for c in text):
        assert first["prompt"] == text


def test_half_a_surrogate_pair_becomes_the_sign_for_it(tmp_path: Path) -> None:
    write_rollouts(tmp_path, 1, [record(0, "a\ud800b \ud83d\ude00")])
    (found,) = read_rollouts(tmp_path)
    assert found["prompt"] == found["thoughts"][0]["read"] == "a\ufffdb \U0001f600"


def test_huge_texts_survive(tmp_path: Path) -> None:
    text = "\x00é\u2028\n" * 400_000
    write_rollouts(tmp_path, 1, [record(0, text)])
    (found,) = read_rollouts(tmp_path)
    assert found["prompt"] == text and found["thoughts"][0]["answers"][1]["text"] == text


def test_what_neither_json_nor_arrow_can_say(tmp_path: Path) -> None:
    odd = {"a": np.float32(0.5), "b": np.arange(3), "c": {1: (2,)}, "d": 1 + 2j, "e": [float("inf"), np.nan], "f": {}}
    made = record(score=float("nan")) | {"columns": odd}
    answer = made["thoughts"][0]["answers"][0]
    answer |= {"logps": [-np.inf, -1.0], "monitors": {"m:columns": np.nan, "extra": 0.5}, "extra": {"note": ["\ud800"]}}
    write_rollouts(tmp_path, 1, [made])
    (found,) = read_rollouts(tmp_path)
    assert found["columns"] == {"a": 0.5, "b": [0, 1, 2], "c": {"1": [2]}, "d": "(1+2j)", "e": [None, None], "f": {}}
    answer = found["thoughts"][0]["answers"][0]
    assert answer["score"] is None and answer["scores"] == {"exact": None} and answer["weight"] == 1.0
    assert answer["logps"] == [None, -1.0] and answer["monitors"] == {"m:columns": None, "extra": 0.5}
    assert answer["extra"] == {"note": ["\ud800"]}  # JSON escapes it
    assert json.loads(as_line({"a": float("nan")}), parse_constant=lambda word: pytest.fail(word)) == {"a": None}


def test_others_read_the_file(tmp_path: Path) -> None:
    """Its types are those of the schema, whatever was left out; three lines make a table of answers."""
    pd = pytest.importorskip("pandas")
    write_rollouts(tmp_path, 1, [record(i) for i in range(3)])
    write_rollouts(tmp_path, 2, [{"prompt": "", "thoughts": []}])
    for file in (tmp_path / "rollouts").iterdir():
        assert pq.read_schema(file).equals(schema())
    assert pd.read_parquet(tmp_path / "rollouts").thoughts.map(len).tolist() == [1, 1, 1, 0]

    rows = list(read_rollouts(tmp_path))
    above = ["round", "number", ["thoughts", "text"], ["thoughts", "weight"]]
    answers = pd.json_normalize(rows, ["thoughts", "answers"], above)

    assert answers.number.tolist() == [0, 0, 1, 1, 2, 2] and set(answers["thoughts.weight"]) == {-1.0}
    assert answers["scores.exact"].mean() == answers.groupby("round").score.mean()[1] == 1


def test_pyarrow_waits_until_rollouts_are_written() -> None:
    code = "import sys, clew.cli.main, clew.runs.rollouts; sys.exit('pyarrow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rounds_after_a_resumed_step_are_dropped(tmp_path: Path) -> None:
    keep_rollouts(tmp_path, 3)  # there are none yet
    for round in (2, 3, 4, 1_000_000):
        write_rollouts(tmp_path, round, [record()])
    (tmp_path / "rollouts" / "notes.txt").write_text("mine")
    (tmp_path / "rollouts" / "round-000009.parquet").mkdir()
    (tmp_path / "rollouts" / "round-000005.jsonl").write_text("by an earlier version")
    keep_rollouts(tmp_path, 3)
    left = sorted(path.name for path in (tmp_path / "rollouts").iterdir())
    assert left == ["notes.txt", "round-000002.parquet", "round-000003.parquet"]


def changed(**values: Any) -> bytes:
    return json.dumps(record() | values).encode()


def with_answer(**values: Any) -> Any:
    thought = record()["thoughts"][0]
    return {**thought, "answers": [thought["answers"][0] | values]}


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
        (changed(columns=[1]), r"columns: \[1\] is no value of it"),
        (changed(context=3), "context: 3 is no value of it"),
        (changed(thoughts=[{**record()["thoughts"][0], "logps": 3}]), "thought 1: logps: 3 is no value"),
        (changed(thoughts=[with_answer(scores=[1])]), r"answer 1: scores: \[1\] is no value"),
        (changed(thoughts=[with_answer(extra="x")]), "answer 1: extra: 'x' is no value"),
        (changed(thoughts=[3]), "thought 1: 3 is no object"),
        (changed(thoughts=[{**record()["thoughts"][0], "weight": True}]), "thought 1: weight: True is no value"),
        (
            changed(thoughts=[{**record()["thoughts"][0], "answers": [{"text": ""}]}]),
            "thought 1: answer 1: weight: None",
        ),
    ],
)
def test_a_torn_or_foreign_line(tmp_path: Path, line: bytes, says: str) -> None:
    """Of samples.jsonl, and of rounds that an earlier version kept: those are read before newer ones."""
    write_rollouts(tmp_path, 4, [record(8)])
    file = tmp_path / "rollouts" / "round-000003.jsonl"
    file.write_bytes(as_line(record()).encode())
    assert [one["number"] for one in read_rollouts(tmp_path)] == [0, 8]
    file.write_bytes(file.read_bytes() + line + b"\n")
    found = read_rollouts(tmp_path)
    assert next(found)["number"] == 0  # what stands before it is read
    with pytest.raises(InputError, match=rf"round-000003.jsonl: line 2.*{says}") as caught:
        next(found)
    assert "\n" not in str(caught.value)


def table(**columns: list[Any]) -> bytes:
    pq.write_table(pa.table(columns), sink := pa.BufferOutputStream())
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (b"", "is torn, or no Parquet file"),
        (b"PAR1", "is torn"),
        (b"\xff" * 1000, "is torn"),
        (table(a=[1]), "row 1: prompt: None is no value of it"),
        (table(prompt=["a"], thoughts=["b"]), "row 1: thoughts: 'b' is no value of it"),
        (table(prompt=["a"], thoughts=[[3]]), "row 1: thought 1: 3 is no object"),
        (table(prompt=["a"], thoughts=[[]], columns=["{"]), "is torn"),
        (table(prompt=["a"], thoughts=[[{"text": "b", "tokens": [1], "weight": "c", "answers": []}]]), "weight: 'c'"),
    ],
)
def test_a_torn_or_foreign_file(tmp_path: Path, file: bytes, says: str) -> None:
    (tmp_path / "rollouts").mkdir()
    (tmp_path / "rollouts" / "round-000003.parquet").write_bytes(file)
    with pytest.raises(InputError, match=rf"round-000003.parquet: .*{says}") as caught:
        list(read_rollouts(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_torn_anywhere(tmp_path: Path) -> None:
    """Cut short, or with a bit turned: read as it is, or refused in one line that names it."""
    write_rollouts(tmp_path, 1, [record(i, f"some text {i}") for i in range(20)])
    file, dice = tmp_path / "rollouts" / "round-000001.parquet", np.random.default_rng(0)
    whole, refused = file.read_bytes(), 0
    for place in dice.integers(0, len(whole), 100):
        turned = bytearray(whole)
        turned[place] ^= 1 << int(dice.integers(8))
        for torn in (whole[:place], bytes(turned)):
            file.write_bytes(torn)
            try:
                list(read_rollouts(tmp_path))
            except InputError as error:
                assert "round-000001.parquet: " in str(error) and "\n" not in str(error)
                refused += 1
    assert refused >= 100


def test_nothing_to_read(tmp_path: Path) -> None:
    assert list(last_round(tmp_path)) == []
    with pytest.raises(InputError, match="holds no rollouts"):
        read_rollouts(tmp_path)
    for name in ("round-000001.jsonl", "round-000001.parquet"):
        with pytest.raises(InputError, match=f"{name}: cannot be read: No such file"):
            next(read_rollouts(tmp_path / name))
