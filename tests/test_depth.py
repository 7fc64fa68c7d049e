"""The bench on depth: what is trained, what may be said of it, and what is refused."""

import importlib
import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from clew.runs.options import write_config
from pictures import size_of

BENCH = Path(__file__).parents[1] / "bench"
SHAPES = ("2 x 64, 16 mazes", "4 x 64, 16 mazes", "8 x 64, 16 mazes", "2 x 64, 32 mazes", "2 x 128, 16 mazes")
SECONDS = (0.05, 0.1, 0.2, 0.09, 0.13)
COSTS = {shape: {"seconds": seconds, "parameters": 9} for shape, seconds in zip(SHAPES, SECONDS, strict=True)}
MEASURED = {"repeats": 15, "machine": "an abacus", "models": COSTS}


@pytest.fixture
def depth(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(BENCH)
    yield importlib.import_module("depth")
    for name in ("depth", "depth_runs", "depth_report", "measure", "plots"):
        sys.modules.pop(name, None)


def results_of(depth: ModuleType, solved: dict[str, list[float]], seeds: int = 3, size: int = 4) -> Any:
    """Runs that solve these shares of mazes, by the arm's name and steps, one a seed; the others solve half."""
    runs = sys.modules["depth_runs"]
    arms = depth.arms([2, 4, 8], tuple(range(seeds)), 1000, COSTS)
    found = {}
    for arm in arms:
        shares = solved.get(f"{arm.name}, {arm.steps}", [0.5] * seeds)
        found[arm] = {seed: found_of(runs, shares[seed], arm.steps) for seed in arm.seeds if seed < len(shares)}
    return depth.SizeResults(size, arms, MEASURED, found)


def found_of(runs: ModuleType, share: float, steps: int) -> Any:
    asked = dict(zip(runs.LOOKAHEADS, (1000, 600, 400), strict=True))
    solved = {name: round(count * share) for name, count in asked.items()}
    walked = {name: count // 4 for name, count in asked.items()}
    return runs.Found(share, [(steps // 2, share / 2), (steps, share)], asked, solved, walked)


def test_equal_time_is_steps_that_cost_as_much(depth: ModuleType) -> None:
    results = results_of(depth, {})
    steps, times = results.of("equal steps"), results.of("equal time")
    assert [(arm.name, arm.steps) for arm in steps] == [("2 layers", 1000), ("4 layers", 1000), ("8 layers", 1000)]
    assert [(arm.name, arm.steps) for arm in times] == [("2 layers", 4000), ("4 layers", 2000), ("8 layers", 1000)]
    assert times[-1] is steps[-1]
    controls = [(arm.name, arm.steps, arm.seeds) for arm in results.of("control")]
    assert controls[0] == ("2 layers, 32 mazes a step", 1000, (0, 1, 2))
    assert controls[1] == ("2 layers, width 128", 1000, (0, 1, 2))
    assert controls[2] == ("8 layers, rate 0.001", 1000, (0,))
    assert {arm.shape for arm in results.arms} == set(COSTS)


def test_a_run_is_defined_by_its_steps(depth: ModuleType, tmp_path: Path) -> None:
    runs = sys.modules["depth_runs"]
    arms = depth.arms([2, 8], (0,), 1100, COSTS)
    for arm in arms:
        config = runs.config_of(tmp_path, 5, arm, 0, 2000)
        assert (config.steps, config.minutes, config.optimizer.schedule) == (arm.steps, None, "wsd")
        assert config.model.rope_base == 100 and config.model.width // config.model.heads == 32
        assert config.final_questions == 2000 and config.validate_every == arm.steps // 10
    names = {runs.folder(tmp_path, size, arm, seed).name for size in (4, 5) for arm in arms for seed in (0, 1)}
    assert len(names) == 4 * len(arms) and "5x5-equal-time-2-layers-seed-1" in names


def test_verdicts_follow_from_differences(depth: ModuleType) -> None:
    report = sys.modules["depth_report"]
    solved = {"8 layers, 1000": [0.80, 0.81, 0.82], "2 layers, 1000": [0.50, 0.52, 0.51]}
    solved |= {"2 layers, 4000": [0.97, 0.96, 0.98], "2 layers, 32 mazes a step, 1000": [0.40, 0.52, 0.60]}
    results = [results_of(depth, solved | {"4 layers, 1000": [0.6, 0.7, 0.5]})]
    compared = report.comparisons(results)
    lines = report.verdicts(results, compared)
    told = dict(line.removeprefix("- 4x4, ").split(": ", 1) for line in lines[:-1])
    assert told["depth"] == (  # the interval is Student's at 1 - 0.05 / 2: 6.205 standard errors of 0.577
        "**depth limits 2 layers**. After 1,000 steps 8 layers less 2 layers: "
        "+30.0 points [+26.4, +33.6] in lookahead 3 and more."
    )
    assert told["time"].startswith("**fewer layers and more steps pay more than depth**. In equal CPU time 8 layers")
    assert told["longer"].startswith("**time limits 2 layers**")
    assert told["data"].startswith("**cannot be told**")
    assert told["parameters"].startswith("**depth does more than as many parameters in width**")
    assert lines[-1] == "- 4x4, 2 layers reach 97.0% [94.5, 99.5] after 4,000 steps: **90% is not their ceiling**."
    among = {question: {one.effect.among for one in some} for question, some in compared.items()}
    assert among == {"depth": {2}, "time": {2}, "longer": {1}, "data": {1}, "parameters": {1}}


def test_the_sizes_of_one_question_share_their_chances(depth: ModuleType) -> None:
    report = sys.modules["depth_report"]
    compared = report.comparisons([results_of(depth, {}), results_of(depth, {}, size=5)])
    assert {one.effect.among for one in compared["depth"]} == {4}
    assert {one.sign for some in compared.values() for one in some} == {0}


def test_seeds_that_are_all_alike_tell_nothing(depth: ModuleType) -> None:
    """With few questions differences may be the same to the last digit, and an interval of no width would follow."""
    report = sys.modules["depth_report"]
    (last, *_) = report.comparisons([results_of(depth, {"4 layers, 1000": [0.75] * 3})])["depth"]
    assert last.sign == 0 and last.by_seed == {0: 0.25, 1: 0.25, 2: 0.25}


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ([0.7, 0.71, 0.72], "**they stay below 90% in that time**, which proves no ceiling"),
        ([0.8, 0.9, 0.99], "**whether 90% is their ceiling cannot be told**"),
        ([0.99], "(one seed): **whether 90% is their ceiling cannot be told**"),
        ([], "no run came to its end"),
    ],
)
def test_a_ceiling_needs_an_interval(depth: ModuleType, shares: list[float], told: str) -> None:
    report = sys.modules["depth_report"]
    results = [results_of(depth, {"2 layers, 4000": shares})]
    lines = report.verdicts(results, report.comparisons(results))
    assert told in lines[-1]


def test_missing_runs_are_told_and_the_others_reported(
    depth: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = results_of(depth, {"8 layers, 1000": [0.8], "2 layers, width 128, 1000": []})
    depth.report(Namespace(out=tmp_path, questions=2000), [results], {"runs/x": "RuntimeError: no luck"})
    shown = capsys.readouterr().out
    assert "| equal steps | 8 layers | 9 | 1,000 | 0.2000 | 3.3 | 80.0 / not there / not there | 80.0 |" in shown
    assert "nothing to compare" in shown and "Failed: x: RuntimeError: no luck" in shown
    assert "| 50.0 [46.9, 53.1] | 50.0 [46.0, 54.0] | 50.0 [45.1, 54.9] |" in shown  # mazes count once
    assert size_of(tmp_path / "depth.png")[0] > 600
    kept = json.loads((tmp_path / "depth.json").read_text())["results"]
    assert kept["4x4"]["measured"] == MEASURED and kept["failed"] == {"x": "RuntimeError: no luck"}


def test_runs_of_other_options_are_refused(depth: ModuleType, tmp_path: Path) -> None:
    args = Namespace(runs=tmp_path, sizes=[4], layers=[2, 4, 8], seeds=[0], steps=1000, questions=50, repeats=1)
    (tmp_path / "costs.json").write_text(json.dumps({"4x4": MEASURED}))
    configs = depth.configs(args, depth.planned(args))
    for config in configs:
        Path(config.out).mkdir()
        write_config(Path(config.out) / "config.yaml", config)
    assert [asdict(one) for one in depth.configs(args, depth.planned(args))] == [asdict(one) for one in configs]
    args.steps = 900
    with pytest.raises(SystemExit, match=r"4x4-equal-steps-2-layers-seed-0 was made with steps 1000, .*another --runs"):
        depth.configs(args, depth.planned(args))
    args.layers = [2, 6]
    with pytest.raises(SystemExit, match=r"costs.json has no 4x4 model of 6 x 64, 16 mazes, .*another --runs"):
        depth.planned(args)
    (tmp_path / "costs.json").write_text("[]")
    with pytest.raises(SystemExit, match="holds no costs of steps"):
        depth.planned(args)


def test_costs_are_measured_once(depth: ModuleType, tmp_path: Path) -> None:
    runs, file = sys.modules["depth_runs"], tmp_path / "new" / "costs.json"
    arms = [runs.Arm("equal steps", (0,), 1, 1), runs.Arm("equal steps", (0,), 1, 2)]
    measured = runs.measured(file, 2, arms, repeats=1)
    assert measured["models"].keys() == {"1 x 64, 16 mazes", "2 x 64, 16 mazes"}
    assert all(one["seconds"] > 0 for one in measured["models"].values())
    assert runs.measured(file, 2, arms, repeats=5) == measured == json.loads(file.read_text())["2x2"]


def test_a_run_that_fails_stops_no_other(depth: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, done = sys.modules["depth_runs"], []

    def trained(config: Any) -> None:
        if "4-layers" in config.out:
            raise RuntimeError("no\nluck")
        done.append(config.out)

    monkeypatch.setattr(depth, "process_pool", ThreadPoolExecutor)
    monkeypatch.setattr(depth, "trained", trained)
    monkeypatch.setattr(depth, "read", lambda out: found_of(runs, 0.5, 1000))
    arms = [arm for arm in depth.arms([2, 4, 8], (0,), 1000, COSTS) if arm.kind == "equal steps"]
    todo = [runs.config_of(runs.folder(tmp_path, 4, arm, 0), 4, arm, 0, 10) for arm in arms]
    assert depth.train_all(todo, 1) == {todo[1].out: "RuntimeError: no luck"}
    assert done == [todo[0].out, todo[2].out]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--steps 0", "--steps: 0 is not at least 1"),
        ("--layers 2", "is one depth; two at least are compared"),
        ("--seeds 1 1", "--seeds: 1 1 names one of them twice"),
        ("--sizes 4 1", "--sizes: 1 is not at least 2"),
    ],
)
def test_options_that_cannot_be_used(
    depth: ModuleType, given: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["depth", *given.split(), "--runs", str(tmp_path / "runs")])
    with pytest.raises(SystemExit, match=told):
        depth.main()
    assert not (tmp_path / "runs").exists()
