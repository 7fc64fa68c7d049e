"""What a final evaluation leaves in a run folder."""

import json
from pathlib import Path

from clew.runs.evaluations import write_evaluation
from clew.runs.rollouts import read_rollouts


def test_a_result_and_samples_in_the_schema_of_rollouts(tmp_path: Path) -> None:
    answer = {"text": "\ud800", "weight": 0.0, "score": float("nan")}
    thought = {"text": "", "tokens": [], "weight": 0.0, "answers": [answer]}
    write_evaluation(tmp_path, {"questions": 1}, [{"prompt": "a\u2028b", "thoughts": [thought]}])
    assert json.loads((tmp_path / "eval.json").read_text()) == {"questions": 1}
    (read,) = read_rollouts(tmp_path / "samples.jsonl")
    assert read == {"prompt": "a\u2028b", "thoughts": [thought | {"answers": [answer | {"score": None}]}]}


def test_what_is_no_number_is_null(tmp_path: Path) -> None:
    write_evaluation(tmp_path, {"score": {"value": float("nan"), "low": float("-inf"), "high": 1.0}})
    read = json.loads((tmp_path / "eval.json").read_text(), parse_constant=lambda name: name)
    assert read == {"score": {"value": None, "low": None, "high": 1.0}}


def test_no_samples_no_file(tmp_path: Path) -> None:
    write_evaluation(tmp_path, {"questions": 0})
    assert [path.name for path in tmp_path.iterdir()] == ["eval.json"]
