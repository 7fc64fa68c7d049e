"""A rollout's picture: whatever was written, and however much."""

from pathlib import Path
from typing import Any

import pytest

from clew.rollout.plots import tree_of_rollout
from clew.runs.rollouts import read_rollouts, write_rollouts
from pictures import size_of

HOSTILE = "$x^{$ \\frac{ \x1b[31m\ud800\n" + "long " * 500


def record(text: str, thoughts: int, answers: int, weight: float | None = 0.5) -> dict[str, Any]:
    wrote = {"text": text, "tokens": [3, 4], "weight": weight}
    return {
        "prompt": text,
        "thoughts": [wrote | {"answers": [wrote | {"score": weight} for _ in range(answers)]} for _ in range(thoughts)],
    }


@pytest.mark.parametrize(("thoughts", "answers"), [(3, 4), (1, 1), (0, 0), (2, 0), (100, 1), (1, 2000)])
def test_the_picture_stays_of_sane_size(tmp_path: Path, thoughts: int, answers: int) -> None:
    tree_of_rollout(record("hm", thoughts, answers), tmp_path / "tree.png")
    width, height = size_of(tmp_path / "tree.png")
    assert 200 < width < 2000 and height < 12_000


def test_text_and_numbers_of_any_kind(tmp_path: Path) -> None:
    for weight in (float("nan"), 0.0, -1.0):
        write_rollouts(tmp_path, 1, [record(HOSTILE, 2, 2, weight)])
        (read,) = read_rollouts(tmp_path)  # NaN has become null
        tree_of_rollout(read, tmp_path / "tree.png")
        assert size_of(tmp_path / "tree.png")[0] < 2500
