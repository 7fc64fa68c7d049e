"""The study of crispness: what is planted is found, corrected for how many comparisons there are; and one tiny run."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from clew.cli.main import main
from clew.study.cells import Kept, Result, read_results
from clew.study.reading import FORMS, NUMBERS, ReadCell, ReadStudyConfig, study, train_config
from clew.study.reading_report import contrasts, report


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
    assert one.high - one.mean == pytest.approx(t * abs(one.mean / one.effect) / 6**0.5)


def test_runs_that_have_no_number_are_left_out() -> None:
    config, results = made(3)
    for one in results:
        for name, values in one.kept.figures.items():
            if name.startswith("accuracy") and one.condition["layers"] == 2:
                values[:] = np.nan
    found = contrasts(config, results)
    assert {one.pairs for one in found if one.form == "accuracy"} == {3}
    assert all("layers" not in one.a for one in found if one.form == "accuracy")


def test_cells_differ_in_nothing_but_what_is_varied() -> None:
    world = asdict(ReadStudyConfig())
    a, b = (asdict(train_config(cell, "x")) for cell in (ReadCell(world, "path", 2, 1), ReadCell(world, "full", 6, 1)))
    assert {name for name in a if a[name] != b[name]} == {"loss", "model"}
    assert a["snapshots"] and a["average"] and a["steps"] == 4000


def test_a_tiny_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small: dict[str, Any] = {"losses": ["path"], "layers": [1, 2], "seeds": 1, "steps": 3, "width": 16, "workers": 1}
    config = ReadStudyConfig(**small, pairs=10, mazes=600, accuracy=1.0, out=str(tmp_path))
    study(config)
    _, results = read_results(tmp_path / "reading.parquet")
    assert [one.condition for one in results] == [{"layers": 1}, {"layers": 2}]
    for one in results:  # such a model solves nothing, so there is nothing to localise, and no equal accuracy
        assert one.kept.figures["steps_exact"] < 0.1 and np.isnan(one.kept.figures["accuracy_exact"])
        assert np.isnan(one.kept.figures["steps_localisation"])
    capsys.readouterr()
    assert main(["study", "report", str(tmp_path)]) == 0
    text = (tmp_path / "reading.md").read_text()
    assert "| path | 2 | 1 |" in text and "| path | 2 | 0 |" in text
    with pytest.raises(Exception, match="holds no finished study of crispness"):
        report(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--losses", "[]"], "losses: the list is empty"),
        (["--accuracy", "1.5"], "accuracy: 1.5 is not a share"),
        (["--pairs", "3"], "pairs: 3 are too few"),
        (["--width", "10", "--heads", "3"], "width"),
        (["--layers", "[0]"], "layers"),
    ],
)
def test_bad_input_is_one_line(args: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "read", "--out", str(tmp_path / "never"), *args]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and says in lines[0]
    assert not (tmp_path / "never").exists()
