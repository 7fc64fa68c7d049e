"""Pictures of a run: whatever stands in its metrics, a PNG of sane size comes out."""

import json
from pathlib import Path

import pytest

from clew.runs import plots
from pictures import size_of

DRAWS = (plots.training_curves, plots.split_curves)
HOSTILE = "$x^{$ \\frac{ \x1b[31m\ud800\n" + "long " * 50


def drawn(tmp_path: Path, *lines: object) -> list[tuple[int, int]]:
    """The sizes of both pictures of metrics with these lines."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (tmp_path / "metrics.jsonl").write_text("\n".join(texts), encoding="utf-8")
    sizes = []
    for draw in DRAWS:
        draw(tmp_path / "metrics.jsonl", tmp_path / "plots" / f"{draw.__name__}.png")
        sizes.append(size_of(tmp_path / "plots" / f"{draw.__name__}.png"))
    return sizes


def test_lines_without_figures_do_not_spoil_the_pictures(tmp_path: Path) -> None:
    held = {"step": 3, "loss": 1.5, "held_out_exact": 1, "held_out_score": 0.5}
    round = {"step": 4, "score": 0.5, "thought_tokens": 3, "held_out_thought_tokens": 9, "held_out_valid": 0.5}
    odd = ["[1]", '{"st', '{"step": 1e400, "loss": 1, "score": 1, "thought_tokens": 1}', '{"step": true, "loss": 1}']
    odd += [json.dumps({"step": 5, "loss": int("9" * 4000)}), '{"step": 2, "loss": null, "score": "x"}']
    sizes = drawn(tmp_path, {"step": 1}, *odd, held, round)
    assert all(900 < width < 1300 and 300 < height < 600 for width, height in sizes)


def test_nothing_to_draw(tmp_path: Path) -> None:
    assert all(width < 1300 and height < 600 for width, height in drawn(tmp_path))


def test_names_that_a_world_gives_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    names = [HOSTILE, "_", "", *(f"figure {i}" for i in range(30))]
    line = {"step": 1, "loss": 1.0, "score": 0.5, "thought_tokens": 3, **{f"held_out_{name}": 0.5 for name in names}}
    assert all(width < 2000 and height < 1500 for width, height in drawn(tmp_path, line, line | {"step": 2}))


def test_rates_are_what_never_leaves_0_to_1() -> None:
    rows = [{"step": 1, "held_out_a": 0.5, "held_out_b": 1, "held_out_c": 0.5, "held_out_d": None, "loss": 0.5}]
    rows += [{"step": 2, "held_out_a": 0, "held_out_b": 1.5, "held_out_c": None, "held_out_e": True}]
    assert plots._validated(rows, ()) == ["held_out_a", "held_out_c"]
    assert plots._validated(rows, ("c", "b", "z")) == ["held_out_c"]


@pytest.mark.parametrize("draw", DRAWS)
def test_a_run_without_metrics(tmp_path: Path, draw) -> None:
    draw(tmp_path / "metrics.jsonl", tmp_path / "x.png")
    assert size_of(tmp_path / "x.png")[0] > 100
