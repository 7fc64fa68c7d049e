"""Cells that are run once, engines that agree, verdicts that say no more than the numbers do, and the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from clew.errors import InputError
from clew.runs.options import read_yaml
from clew.study import cells, grid, plots, tabular
from clew.study.cells import Job, Kept, Result, joined, key, path_of, read, run_cells
from clew.study.effects import Effect, Row, Verdict, effect_of, paired, tally, together
from clew.study.grid import TabularConfig
from clew.study.report import report, wider
from clew.study.tabular import Cell, World
from small import split_config

TINY = World(questions=2, thoughts=4, answers=4)
CELL = Cell(TINY, "basic", {"keep": 0.25}, total_cost=320.0, replicas=10)


def job(**changes: object) -> Job:
    return "tabular", tabular.as_json(replace(CELL, **changes))


def tiny(out: Path) -> TabularConfig:
    grid = {"noise_ratios": [1.0, 4.0], "cost_ratios": [4.0], "answers": [1, 4], "lrs": [1.0, 4.0], "keeps": [0.25]}
    return TabularConfig(TINY, **grid, rounds=3, replicas=20, tune_replicas=6, workers=2, out=str(out))


def test_finished_cells_are_found_and_changed_ones_are_not(tmp_path: Path) -> None:
    jobs = [job(), job(lr=2.0), job()]
    told: list[tuple[int, int]] = []
    first = run_cells(jobs, tmp_path, workers=1, report=lambda *at: told.append(at))
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert first[0].figures["gained"].tolist() == first[2].figures["gained"].tolist()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    run_cells(jobs, tmp_path, workers=1, report=lambda *at: told.append(at))
    assert told[-1] == (2, 2) and {path: path.stat().st_mtime_ns for path in before} == before
    changes = [{"lr": 3.0}, {"seed": 1}, {"replicas": 11}, {"options": {"keep": 0.5}}, {"world": World()}]
    assert len({key(job(**change)) for change in changes} | {key(job())}) == len(changes) + 1


def test_a_cell_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = path_of(tmp_path, job())
    path.parent.mkdir()
    (path.parent / f".{path.name}.123").write_bytes(b"half")  # what a kill leaves behind
    (kept,) = run_cells([job()], tmp_path, workers=1)
    assert kept.values == job()[1] and len(kept.figures["gained"]) == 10
    path.write_bytes(b"no parquet")
    with pytest.raises(InputError, match="is no file of a study"):
        read(path)


ENDLESS = """
import multiprocessing, sys, threading, time
from pathlib import Path
from clew.study.cells import run_cells

def tell():
    while not multiprocessing.active_children():
        time.sleep(0.01)
    print("a worker is up", flush=True)

if __name__ == "__main__":
    threading.Thread(target=tell, daemon=True).start()
    run_cells([("tabular", CELL)], Path(sys.argv[1]), workers=1)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path: Path, number: int) -> None:
    """In the middle of a cell that never ends: the caller's pipes are free at once."""
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS.replace("CELL", repr(job(total_cost=1e15)[1])))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path / "out")], text=True, **pipes)
    assert process.stdout and process.stdout.readline() == "a worker is up\n"
    time.sleep(2.5)  # it has begun with the cell
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == -number
    assert "Traceback" not in told or number == signal.SIGINT  # that one is the script's own
    assert told.count("Traceback") <= 1


def test_what_a_killed_worker_was_writing_is_cleared_away(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    host = cells.host()
    left, other = (tmp_path / "cells" / f".a.parquet.{name}.{gone.stdout.strip()}.part" for name in (host, "elsewhere"))
    mine = tmp_path / "cells" / f".a.parquet.{host}.{os.getppid()}.part"
    (tmp_path / "cells").mkdir()
    for part in (left, other, mine):
        part.write_bytes(b"half")
    run_cells([], tmp_path)
    assert not left.exists() and other.exists() and mine.exists()  # nobody here knows whether those still run


def test_a_failing_cell_is_heard_of(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rule: 'luck' is not one of"):
        run_cells([job(rule="luck")], tmp_path, workers=1)
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_cell_that_fails_stops_no_other(tmp_path: Path) -> None:
    broken, told = ("tabular", {"no": "world"}), []
    with pytest.raises(KeyError, match="world") as raised:
        run_cells([broken, job()], tmp_path, workers=1, report=lambda *at: told.append(at))
    assert raised.value.__notes__ == ["1 of the cells failed, this one first; the same command tries them again"]
    assert path_of(tmp_path, job()).is_file() and told == [(0, 2), (1, 2)]


def test_local_and_ray_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "300")  # beside other work a cluster starts slowly
    jobs = [job(), job(lr=2.0)]
    local = run_cells(jobs, tmp_path / "local", "local", workers=2)
    cluster = run_cells(jobs, tmp_path / "ray", "ray", workers=2)
    with pytest.raises(KeyError, match="world"):  # on a cluster, too, a cell that fails stops no other
        run_cells([("tabular", {"no": "world"}), job()], tmp_path / "broken", "ray", workers=2)
    assert path_of(tmp_path / "broken", job()).is_file()
    with pytest.raises(InputError, match="rule: 'luck' is not one of"):
        run_cells([job(rule="luck")], tmp_path / "luck", "ray", workers=2)
    for a, b in zip(local, cluster, strict=True):
        assert a.curve == b.curve and a.values == b.values
        for name in a.figures:
            np.testing.assert_array_equal(a.figures[name], b.figures[name])


def trained(rule: dict, dice: int, replicas: int = 600) -> np.ndarray:
    """Final expected scores of replicas that share tables with every other call, and dice with none."""
    cell = replace(CELL, **rule)
    scores, shoggoth, face = tabular.tables(TINY, replicas, np.random.default_rng(0))
    rng = np.random.default_rng(dice)
    for _ in range(4):
        tabular.learn_round(cell, scores, shoggoth, face, rng)
    return tabular.expected_scores(scores, shoggoth, face).mean(1)


def test_a_planted_difference_is_found_and_a_planted_null_is_not() -> None:
    """Forty studies of 15 replicas: one rule against itself, and against a step size that hardly learns."""
    own, same, weak = trained({}, 1), trained({}, 2), trained({"lr": 0.05}, 3)
    null = [effect_of(d, "", "a", "b").sign for d in (own - same).reshape(40, 15)]
    planted = [effect_of(d, "", "a", "b").sign for d in (own - weak).reshape(40, 15)]
    assert sum(map(abs, null)) <= 6  # 2 are expected at 5%; more than 6 come up once in 150 such tests
    assert sum(planted) >= 35


def test_intervals_hold_the_truth_at_the_stated_rate() -> None:
    rng = np.random.default_rng(0)
    for replicas in (3, 10, 200):
        effects = [effect_of(rng.normal(0.1, 1, replicas), "", "a", "b") for _ in range(2000)]
        held = np.mean([e.low <= 0.1 <= e.high for e in effects])
        assert held == pytest.approx(0.95, abs=0.015)


def test_intervals_of_one_question_hold_together_at_the_stated_rate() -> None:
    """Ten comparisons a question: uncorrected, all ten hold the truth in 60% of studies."""
    rng = np.random.default_rng(0)
    for replicas in (4, 200):
        alone, held = [], []
        for _ in range(1000):
            effects = [effect_of(rng.normal(0.1, 1, replicas), "", "a", "b") for _ in range(10)]
            first, second = together(effects[:3], effects[3:])
            assert len(first) == 3 and {e.among for e in (*first, *second)} == {10}
            alone.append(all(e.low <= 0.1 <= e.high for e in effects))
            held.append(all(e.low <= 0.1 <= e.high for e in (*first, *second)))
        assert np.mean(alone) < 0.7
        assert 0.93 < np.mean(held) < 0.98


def test_the_best_of_several_counts_for_all_that_it_was_picked_from() -> None:
    """Four arms that are alike, and the largest against a fifth: picked, it seems ahead too often."""
    rng = np.random.default_rng(1)
    signs = []
    for _ in range(1000):
        base = rng.normal(0, 1, 30)
        arms = [effect_of(rng.normal(0, 1, 30) - base, "", "a", "b") for _ in range(4)]
        best = max(arms, key=lambda e: e.mean)
        signs.append((best.sign > 0, together([best], chosen_from=4)[0][0].sign > 0))
    naive, corrected = np.mean(signs, axis=0)
    assert naive > 0.04 and corrected < 0.025


def test_differences_that_are_all_the_same_tell_nobody_apart() -> None:
    for same in ([0.02, 0.02], [0.1 + 0.2, 0.3, 0.3]):
        effect = effect_of(np.array(same), "", "a", "b")
        assert effect.sign == 0 and "do not tell how sure" in effect.sentence()
        assert tally([effect, effect], "a", "b").startswith("a is ahead in 0 of 2 conditions")
    assert effect_of(np.zeros(3), "", "a", "b").sentence().startswith("no difference: ")
    assert effect_of(np.array([0.02, 0.0201, 0.02]), "", "a", "b").sign == 1


def test_differences_that_are_all_the_same_tell_nobody_apart_in_a_file_either(tmp_path: Path) -> None:
    """Files are of single precision, which holds no 0.1."""
    base = np.array([0.1234, 0.5678, 0.9012])
    cells.write_results(tmp_path / "whole.parquet", {}, [result("a", base + 0.05), result("b", base)])
    _, (a, b) = cells.read_results(tmp_path / "whole.parquet")
    effect = paired(a, b)
    assert effect.error > 0 and effect.sign == 0 and "do not tell how sure" in effect.sentence()
    scattered = np.array([0.0007] * 399 + [0.0008])  # the least that four digits know of
    assert effect_of(scattered, "", "a", "b").sign == 1


@pytest.mark.parametrize(("runs", "times"), [(2, 12.7062), (6, 2.5706), (400, 1.9659)])
def test_a_curve_of_few_runs_has_a_wide_band(runs: int, times: float) -> None:
    _, ax = plt.subplots()
    plots.band(ax, [0, 1], [0.5, 0.5], [0.01, 0.01], 1, "red")
    assert not ax.collections  # one run does not tell how runs scatter
    plots.band(ax, [0, 1], [0.5, 0.5], [0.01, 0.01], runs, "red")
    (drawn,) = ax.collections
    (inside,) = drawn.get_paths()
    low, high = inside.vertices[:, 1].min(), inside.vertices[:, 1].max()
    assert (high - 0.5, 0.5 - low) == (pytest.approx(0.01 * times, rel=1e-4),) * 2
    plt.close()


def test_a_curve_has_no_band_where_runs_have_no_value() -> None:
    nan = float("nan")
    curves = [[0.0, 1.0, nan], [1.0, nan, nan], [2.0, nan, nan], [nan] * 3]  # the last is a run that is missing
    curve = joined([Kept({}, {"score": np.array([0.5])}, one, [0.0] * 3) for one in curves])
    np.testing.assert_allclose(curve.curve, [1, 1, nan])
    np.testing.assert_allclose(curve.curve_error, [3**-0.5, nan, nan])


@pytest.mark.parametrize("positive", ["", "it fell"])
def test_small_effects_are_seen_beside_large_ones_of_another_kind(
    positive: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(plots, "save", lambda figure, out: drawn.append(figure))
    several = [
        Verdict(f"q{mean}", "", (Row("r", (Effect("", "a", "b", mean, mean / 10, 6),)),), positive)
        for mean in (0.01, 0.7)
    ]
    plots.effects(several, 1, "percent", tmp_path / "x.png")
    widths = [np.ptp(ax.get_xlim()) for ax in drawn[0].axes]
    assert widths[0] < 3 and widths[1] > 60 if positive else widths[0] == widths[1]
    plt.close("all")


def test_verdicts_that_more_comparisons_would_open_are_named() -> None:
    sure, weak = (Effect(where, "a", "b", mean, 0.05, 400) for mean, where in ((1.0, "x"), (0.12, "y")))
    assert sure.sign == weak.sign == 1
    null = [Effect("z", "a", "b", 0.0, 0.05, 400)] * 58
    verdicts = [Verdict("q", "", (Row("r", (sure,)), Row("s", (weak,)))), Verdict("n", "", (Row("t", tuple(null)),))]
    said = wider(verdicts)
    assert "all 60 comparisons" in said and "1 (a against b, y)" in said and "1 (a against b, x)" not in said


def test_committed_verdicts_are_those_of_the_committed_results(tmp_path: Path) -> None:
    """What is committed is what `clew study report` makes; docs/study.md names the verdicts that are open."""
    committed = Path(__file__).parents[2] / "bench" / "results" / "study"
    for name in ("tabular.parquet", "mazes.parquet"):
        (tmp_path / name).write_bytes((committed / name).read_bytes())
    verdicts, written = report(tmp_path)
    assert written.read_text() == (committed / "report.md").read_text()
    assert {path.name for path in tmp_path.glob("*.png")} == {path.name for path in committed.glob("*.png")}
    assert [e.sign for e in verdicts[9].effects] == [0, 0, 0, 0]
    many = sum(len(one.effects) for one in verdicts)
    assert f"all {many} intervals" in (committed.parents[2] / "docs" / "study.md").read_text()


def result(name: str, gained: np.ndarray, seed: int = 0) -> Result:
    values = {"world": asdict(TINY), "seed": seed, "replicas": len(gained)}
    return Result("rules", {"noise": 1.0}, name, Kept(values, {"gained": gained}, [], []))


def test_sentences() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, 400)
    a, b = result("A", 0.5 + noise), result("B", np.full(400, 0.45))
    assert paired(a, b).sentence().startswith("A is ahead of B by 5.0% [4.9%, 5.1%]")
    assert paired(b, a).sentence().startswith("A is ahead of B by 5.0% [4.9%, 5.1%]")
    null = paired(result("A", 0.5 + noise), result("B", 0.5 + np.roll(noise, 1)))
    assert null.sign == 0 and null.sentence() == "no detectable difference between A and B, at most 0.1%"
    assert "too little to matter" in paired(result("A", 0.505 + noise), result("B", np.full(400, 0.5))).sentence()
    assert tally([null, null], "A", "B").endswith("no detectable difference in 2, at most 0.1%")
    with pytest.raises(ValueError, match="did not meet the same tables"):
        paired(a, result("B", noise, seed=1))


def test_tuning_never_sees_the_tables_of_a_result() -> None:
    config = TabularConfig()
    for arm in grid.arms(config):
        assert {cell.seed for cell in arm.tuned(config)} == {config.seed + 1} != {arm.cell.seed}
        costs = {cell.total_cost for cell in arm.tuned(config)}
        assert costs == {arm.cell.total_cost}


def test_a_study_from_the_command_line(tmp_path: Path) -> None:
    config = tmp_path / "grid.yaml"
    values = {name: value for name, value in asdict(tiny(tmp_path)).items() if name != "out"}
    config.write_text(json.dumps(values))
    command = [
        sys.executable,
        "-m",
        "clew",
        "study",
        "tabular",
        "--config",
        str(config),
        "--out",
        str(tmp_path / "out"),
    ]
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert "2. Is denoising" in first.stdout and "8. How does each fare" in first.stdout
    text = (tmp_path / "out" / "report.md").read_text()
    assert (tmp_path / "out" / "phase.png").stat().st_size > 5000
    repeats = read_yaml(tmp_path / "out" / "tabular.yaml")  # all that is needed to run it again
    assert repeats["lrs"] == values["lrs"] and repeats["world"]["thoughts"] == 4
    assert all(f"({name}.png)" in text for name in ("phase", "curves", "effects"))
    assert "Bonferroni" in text
    again = subprocess.run(command, capture_output=True, text=True)  # nothing is left to run, and nothing changes
    assert again.stdout == first.stdout and (tmp_path / "out" / "report.md").read_text() == text
    verdicts, _ = report(tmp_path / "out")
    assert len(verdicts) == 9


def test_a_study_on_mazes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real runs from two warm starts: chosen rates, seeds as replicas, equal prices, verdicts; then nothing to run."""
    from clew.study import mazes
    from clew.train.rounds import split

    for policies in ("two", "one"):
        split(split_config(tmp_path / policies, rounds=0, policies=policies, warm_start__steps=3))
    names = ("basic", "basic, k=1", "basic, one policy")
    monkeypatch.setattr(mazes, "ARMS", {name: mazes.ARMS[name] for name in names})
    config = mazes.MazeStudyConfig(
        start=str(tmp_path / "two"),
        start_one=str(tmp_path / "one"),
        sizes=[3],
        max_thought=8,
        rounds=2,
        questions=2,
        price=100.0,
        lrs=[1e-4, 1e-3],
        seeds=2,
        tune_seeds=1,
        final_questions=8,
        workers=2,
        out=str(tmp_path / "study"),
    )
    results = mazes.study(config)
    assert [r.name for r in results] == list(names)
    assert [len(r.kept.figures["gained"]) for r in results] == [2, 2, 2]
    cells = [r.kept.values for r in results]
    assert cells[0]["thoughts"] < cells[1]["thoughts"]  # fewer answers to a thought buy more thoughts
    assert len(results[0].kept.curve) == 2 and cells[2]["policies"] == "one"
    told: list[tuple[int, int]] = []
    mazes.study(config, lambda phase, done, count: told.append((done, count)))
    assert all(done == count for done, count in told)
    verdicts, written = report(tmp_path / "study")
    assert (tmp_path / "study" / "effects_mazes.png").is_file()
    assert [len(v.effects) for v in verdicts] == [1, 1] and "one that plays both" in verdicts[1].question
    assert "2 seeds" in written.read_text()


def test_cells_that_earlier_versions_finished_are_known() -> None:
    """What the committed results say of their cells is what a cell is named by, and is a run of today's."""
    from clew.study import mazes

    kept = cells.read_results(Path(__file__).parents[2] / "bench" / "results" / "study" / "mazes.parquet")[1]
    assert {result.name for result in kept} <= set(mazes.ARMS)
    for result in kept:
        cell = mazes.from_json(result.kept.values)
        assert key(("mazes", asdict(cell))) == key(("mazes", result.kept.values))
        config, shared = mazes.split_config(cell, "run"), result.kept.values["world"]
        assert (config.optimizer.lr, config.model.folder) == (result.kept.values["lr"], shared["start"])
        assert [getattr(config, name) for name in ("rounds", "length_cost")] == [
            shared["rounds"],
            shared["length_cost"],
        ]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["tabular", "--lrs", "[0]"], "lrs: 0.0 is not"),
        (["tabular", "--keeps", "[2]"], "keeps: 2.0 is no fraction"),
        (["tabular", "--replicas", "1"], "replicas: 1 have no interval"),
        (["tabular", "--world.thoughts", "1"], "world.thoughts: 1 leave nothing to choose"),
        (["mazes", "--start", "nowhere"], "start: nowhere holds no warm start"),
        (["mazes", "--start", "nowhere", "--sizes", "[3, 2]"], "sizes: there is no held-out maze of 2x2"),
        (["mazes", "--start", "nowhere", "--lrs", "[]"], "lrs: [] is not a list"),
        (["report", "nowhere"], "nowhere: holds no finished study"),
        (["report"], "expected one folder"),
        (["tables"], "'tables' is no part of a study"),
    ],
)
def test_bad_input_is_one_line(args: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    from clew.cli.main import main

    assert main(["study", *args]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and says in lines[0], lines


def test_a_folder_of_cells_says_who_makes_results_of_them(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    with pytest.raises(InputError, match=r"holds no finished study .*; what made its cells .*--missing leave"):
        report(tmp_path)


def test_results_that_are_not_those_of_a_whole_study(tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    table = parquet.read_table(Path(__file__).parents[2] / "bench" / "results" / "study" / "mazes.parquet")
    about = json.loads(table.schema.metadata[b"clew"])

    def written(**changes: object) -> Path:
        changed = table.replace_schema_metadata({"clew": json.dumps(about | changes)})
        parquet.write_table(changed, tmp_path / "mazes.parquet")
        return tmp_path

    for arms, says in ((about["arms"][1:], "not those of a whole study .*'basic'"), (3, "holds no results of a study")):
        with pytest.raises(InputError, match=says):
            report(written(arms=arms))
    with pytest.raises(InputError, match="holds no cell of a study"):
        read(written() / "mazes.parquet")
    assert not (tmp_path / "report.md").exists()
