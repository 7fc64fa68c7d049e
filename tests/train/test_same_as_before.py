"""The loops give the figures that they gave before they were rebuilt: `before.json` holds those, step by step.

The weights were compared bit for bit, on one machine: of the demo after 300 steps and of ten rounds. Another CPU rounds
otherwise, so what is compared here has tolerances: the demo's losses, which depend on nothing that is drawn from a
model; and the rounds' figures, where a sample in a thousand may be drawn otherwise where a draw falls between
two roundings of a probability. Means over thousands of tokens hardly feel that; losses are those of a few samples, and
are compared as long as the same tokens have been drawn.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from clew.runs.options import flat, read_yaml
from clew.train.config import SplitConfig, TrainConfig
from clew.train.rounds import split
from clew.train.supervised import train
from small import changed, metrics

BEFORE = json.loads((Path(__file__).parent / "before.json").read_text())
EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str, config: type, out: Path, **changes: Any) -> Any:
    given = flat(read_yaml(EXAMPLES / f"{name}.yaml"), config)
    named = {option.replace(".", "__"): value for option, value in given.items()}
    return changed(config(), named | {"out": str(out)} | changes)


def test_the_demo(tmp_path: Path) -> None:
    def stop(values: dict[str, Any]) -> None:
        if values.get("step") == 40:
            raise KeyboardInterrupt

    config = example("demo", TrainConfig, tmp_path, steps=300, minutes=None, log_every=1, validate_every=0)
    with pytest.raises(KeyboardInterrupt):
        train(config, report=stop)
    lines = metrics(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 41))
    for line, before in zip(lines, BEFORE["demo"], strict=True):
        assert {name: line[name] for name in before} == pytest.approx(before, rel=1e-3)


def test_rounds_from_a_small_warm_start(tmp_path: Path) -> None:
    small = {"mazes__sizes": [3], "validation_questions": 4, "final_questions": 4}
    begun = {"model__layers": 2, "model__width": 64, "model__heads": 2, "warm_start__steps": 10}
    split(example("start", SplitConfig, tmp_path / "start", **small, **begun))
    rounds = {"rounds": 10, "questions": 16, "grader": ["models:length"]}
    folder = str(tmp_path / "start" / "warm")
    config = example("split", SplitConfig, tmp_path / "split", **small, **rounds, model__folder=folder)
    split(config)
    lines = metrics(tmp_path / "split")[1:]
    assert len(lines) == len(BEFORE["rounds"]) == 10
    alike = True
    for line, before in zip(lines, BEFORE["rounds"], strict=True):
        means = ("thought_tokens", "answer_tokens", "thoughts_ended", "answers_ended", "score")
        for name in (*means, "thought_cost", "thought_entropy", "answer_entropy"):
            assert line[name] == pytest.approx(before[name], rel=0.03), name
        drawn = [name for name in before if isinstance(before[name], int)] + ["score", "search_steps"]
        alike = alike and all(line[name] == pytest.approx(before[name], rel=1e-9) for name in drawn)
        if alike:
            assert {name: line[name] for name in before} == pytest.approx(before, rel=5e-3)
