"""The study of crispness: what is planted is found, corrected for how many comparisons there are; and one tiny run."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from clew.cli.main import main
from clew.errors import InputError
from clew.policy import Policy
from clew.read.algorithm import NONE
from clew.read.reading import load_reading
from clew.study.cells import Kept, Result, read_results
from clew.study.reading import FORMS, NUMBERS, ReadStudyConfig, study
from clew.study.reading_report import contrasts, missing, report
from clew.study.reading_runs import Along, RunCell, records, train_config


def made(seeds: int, gap: float = 0.0, seed: int = 0) -> tuple[dict[str, Any], list[Result]]:
    """Results of noise, but for localisation, which is higher by a gap with the first loss."""
    dice, config = np.random.default_rng(seed), asdict(ReadStudyConfig(seeds=seeds))
    results = []
    for loss in config["losses"]:
        for layers in config["layers"]:
            names = [f"{form}_{number}" for form in FORMS for number in ("exact", *NUMBERS)]
            figures = {name: dice.normal(0.5, 0.05, seeds) for name in names}
            for form in FORMS:
                figures[f"{form}_localisation"] += gap * (loss == "path")
            results.append(Result("reading", {"layers": layers}, loss, Kept({}, figures, [0.0], [0.0])))
    return config, results


def test_a_planted_difference_is_found_and_no_other() -> None:
    found = {(one.form, one.number, one.a, one.b): one for one in contrasts(*made(3, gap=0.6))}
    assert len(found) == 2 * 4 * 3
    for (_, number, a, b), one in found.items():
        planted = number == "localisation" and (a, b) in {("path loss", "full loss"), ("path loss", "graded loss")}
        assert (one.low > 0) == planted and one.pairs == (9 if "layers" in a else 6)


def test_intervals_hold_for_all_contrasts_together() -> None:
    whole = [all(one.low <= 0 <= one.high for one in contrasts(*made(3, seed=seed))) for seed in range(100)]
    assert np.mean(whole) >= 0.9
    one, *_ = contrasts(*made(3))
    t = stats.t.ppf(1 - 0.05 / 48, 5)
    assert one.high - one.mean == pytest.approx(t * abs((1 - 3 / 19) * one.mean / one.effect) / 6**0.5)


def test_runs_that_have_no_number_are_left_out() -> None:
    config, results = made(3)
    for one in results:
        for name, values in one.kept.figures.items():
            if name.startswith("accuracy") and one.condition["layers"] == 2:
                values[:] = np.nan
    found = contrasts(config, results)
    assert {(one.pairs, one.of) for one in found if one.form == "accuracy"} == {(3, 6)}
    assert all("layers" not in one.a for one in found if one.form == "accuracy")
    said = missing(config, results, "accuracy")
    assert sum("3 of 3 runs had no model of this accuracy" in line for line in said) == 3
    assert sum("6 layers less 2 layers: not compared" in line for line in said) == 4
    assert not missing(config, results, "steps")


def test_what_cannot_be_told_apart_says_what_is_ruled_out() -> None:
    apart, *_ = contrasts(*made(3, gap=0.6))
    assert apart.sentence.endswith("higher with path loss") and list(apart.parts) == ["2 layers", "6 layers"]
    assert apart.mean == pytest.approx(np.mean(list(apart.parts.values())))
    same, *_ = contrasts(*made(3))
    assert f"more than {max(-same.low, same.high):.2f} is ruled out" in same.sentence
    assert "cannot be told apart" in same.sentence


def test_cells_differ_in_nothing_but_what_is_varied() -> None:
    world = asdict(ReadStudyConfig())
    a, b = (asdict(train_config(cell, "x")) for cell in (RunCell(world, "path", 2, 1), RunCell(world, "full", 6, 1)))
    assert {name for name in a if a[name] != b[name]} == {"loss", "model"}
    assert a["snapshots"] and a["average"] and a["steps"] == 4000


def test_models_along_the_way_are_kept_where_they_are_better_than_all_before() -> None:
    share = {1: 0.0, 2: 0.1, 4: 0.5, 8: 0.4, 16: 0.8, 32: 0.8, 40: 0.7}
    assert records(share) == [4, 16, 40]
    assert records({1: 0.0, 2: 0.1}) == [2]


def test_equal_accuracy_is_that_of_the_nearest_model() -> None:
    left = Along(Path(), {4: 0.5, 16: 0.8, 40: 0.7}, (4, 16, 40))
    assert left.best == 0.8
    assert [left.nearest(accuracy) for accuracy in (0.46, 0.55, 0.6, 0.74, 0.76, 0.84, 0.9)] == [
        *(4, 4, None, 40, 16, 16, None)
    ]


def test_a_tiny_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small: dict[str, Any] = {"losses": ["path"], "layers": [1, 2], "seeds": 1, "steps": 3, "width": 16, "workers": 1}
    small |= {"pairs": 10, "verdict_pairs": 10, "mazes": 600, "out": str(tmp_path)}
    study(ReadStudyConfig(**small, accuracy=1.0))
    _, results = read_results(tmp_path / "reading.parquet")
    assert [one.condition for one in results] == [{"layers": 1}, {"layers": 2}]
    for one in results:  # such a model solves nothing, so there is nothing to localise, and no equal accuracy
        assert one.kept.figures["steps_exact"] < 0.1 and np.isnan(one.kept.figures["accuracy_exact"])
        assert np.isnan(one.kept.figures["steps_localisation"])
    capsys.readouterr()
    assert main(["study", "report", str(tmp_path)]) == 0
    text = (tmp_path / "reading.md").read_text()
    assert "| path | 2 | 1 | 3 (3 to 3) |" in text and "| path | 2 | 0 |" in text
    assert "path loss, 2 layers: 1 of 1 runs had no model of this accuracy" in text
    found = json.loads((tmp_path / "verdicts.json").read_text())
    assert [(one["form"], one["verdict"]) for one in found["runs"]] == [("steps", NONE)] * 2
    assert {"behaviour", "patching", "knock-outs", "logit lens", "probes"} == {
        one["kind"] for one in found["runs"][1]["evidence"]
    }
    _tables_are_kept_and_nothing_is_done_twice(tmp_path, small)
    (tmp_path / "verdicts.json").unlink()
    for folder, says in (tmp_path, "are not those of a whole study"), (tmp_path / "no", "holds no finished study"):
        with pytest.raises(InputError, match=says):
            report(folder)


def _tables_are_kept_and_nothing_is_done_twice(out: Path, small: dict[str, Any]) -> None:
    """At another accuracy: that which all have reached, where the last models are all there are."""
    cells = {one: one.stat().st_mtime_ns for one in (out / "cells").iterdir()}
    folders = sorted((out / "read").iterdir())
    assert len(cells) == 4 and len(folders) == 2
    for folder in folders:
        about, tables = load_reading(folder)
        assert {"probes", "hops", "arrival", "knockouts", "lens", "verdict", "crispness"} <= tables.keys()
        assert (about["loss"], about["step"]) == ("path", 3) and Policy.load(about["model"])
    study(ReadStudyConfig(**small))
    assert {one: one.stat().st_mtime_ns for one in (out / "cells").iterdir()} == cells
    config, results = read_results(out / "reading.parquet")
    for one in results:
        figures = one.kept.figures
        assert figures["accuracy_step"] == 3 and config["level"] < 0.1
        np.testing.assert_array_equal(figures["accuracy_decodability"], figures["steps_decodability"])


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--losses", "[]"], "losses: the list is empty"),
        (["--accuracy", "1.5"], "accuracy: 1.5 is not a share"),
        (["--pairs", "3"], "pairs: 3 are too few"),
        (["--width", "10", "--heads", "3"], "width"),
        (["--layers", "[0]"], "layers"),
        (["--layers", "[2, 2]"], "layers: [2, 2] names one twice"),
        (["--verdict-pairs", "9"], "pairs: 9 are too few"),
        (["--size", "3"], "size, questions: of 1000 questions at this size 3 different mazes"),
    ],
)
def test_bad_input_is_one_line(args: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "read", "--out", str(tmp_path / "never"), *args]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and says in lines[0]
    assert not (tmp_path / "never").exists()
