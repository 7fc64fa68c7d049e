"""The bench on depth: what is trained, what may be said of it, and what is refused."""

import importlib
import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from clew.mazes import maze_tokenizer
from clew.policy import Policy
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
    arms = depth.arms(size, [2, 4, 8], tuple(range(seeds)), 1000, COSTS)
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
    arms = depth.arms(5, [2, 8], (0,), 1100, COSTS)
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
    assert "| 50.0 [46.9, 53.1] | 50.0 [46.0, 54.0] | 50.0 [45.1, 54.9] |" in shown  # questions count once
    assert "lookahead 3-4 (600 questions)" in shown and " mazes) |" not in shown
    assert "interval over questions" in shown and "about 363 at 4x4" in shown
    assert "twice the batch" in shown and "at half the rate has one seed, and enters no comparison" in shown
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
    torn = [{name: value for name, value in MEASURED.items() if name != lost} for lost in MEASURED]
    torn += [MEASURED | {"models": {"2 x 64, 16 mazes": cost}} for cost in ({"parameters": 1}, {"seconds": 1})]
    for there in ([], *({"4x4": one} for one in torn)):
        (tmp_path / "costs.json").write_text(json.dumps(there))
        with pytest.raises(SystemExit, match="holds no costs of steps"):
            depth.planned(args)


def test_costs_are_measured_once(depth: ModuleType, tmp_path: Path) -> None:
    runs, file = sys.modules["depth_runs"], tmp_path / "new" / "costs.json"
    arms = [runs.Arm("equal steps", (0,), 1, 1), runs.Arm("equal steps", (0,), 1, 2)]
    assert runs.known(file, 3, arms) is None
    measured = runs.measured(file, 3, arms, repeats=1)
    assert measured["models"].keys() == {"1 x 64, 16 mazes", "2 x 64, 16 mazes"}
    assert all(one["seconds"] > 0 for one in measured["models"].values())
    assert runs.known(file, 3, arms) == measured == json.loads(file.read_text())["3x3"]
    assert runs.known(file, 4, arms) is None


def test_a_depth_that_comes_later_is_measured_beside_the_deepest(
    depth: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, file = sys.modules["depth_runs"], tmp_path / "costs.json"
    file.write_text(json.dumps({"4x4": MEASURED}))
    args = Namespace(runs=tmp_path, sizes=[4], layers=[2, 4, 6, 8], seeds=[0], steps=1000, questions=50, repeats=1)
    took = {"6 x 64, 16 mazes": 1.5, "8 x 64, 16 mazes": 2.0}  # a slower machine: ten times as long as in the file

    def interleaved(sides: dict[str, Any], repeats: int, clock: Any) -> dict[str, float]:
        return {shape: took[shape] for shape in sides}

    monkeypatch.setattr(runs, "interleaved", interleaved)
    (planned,) = depth.planned(args)
    six = planned.measured["models"].pop("6 x 64, 16 mazes")
    assert planned.measured == MEASURED and six["seconds"] == pytest.approx(0.15)
    times = {arm.name: arm.steps for arm in planned.of("equal time")}
    assert times == {"2 layers": 4000, "4 layers": 2000, "6 layers": 1333, "8 layers": 1000}
    monkeypatch.setattr(runs, "interleaved", lambda *_, **__: pytest.fail("measured twice"))
    assert [arm.steps for arm in depth.planned(args)[0].arms] == [arm.steps for arm in planned.arms]


def test_nothing_is_measured_before_all_sizes_can_be_used(
    depth: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = sys.modules["depth_runs"]
    args = Namespace(runs=tmp_path, sizes=[4, 5], layers=[2, 4, 8], seeds=[0], steps=1000, questions=50, repeats=1)
    (arm, *_) = depth.wanted(args, 5)
    other = runs.config_of(runs.folder(tmp_path, 5, arm, 0), 5, replace(arm, steps=900), 0, 50)
    Path(other.out).mkdir()
    write_config(Path(other.out) / "config.yaml", other)
    monkeypatch.setattr(depth, "measured", lambda *_: pytest.fail("4x4 was measured"))
    with pytest.raises(SystemExit, match="5x5-equal-steps-2-layers-seed-0 was made with steps 900"):
        depth.planned(args)
    (tmp_path / "costs.json").write_text(json.dumps({"5x5": {**MEASURED, "models": {}}}))
    with pytest.raises(SystemExit, match="has no 5x5 model of 8 x 64"):
        depth.planned(args)


@pytest.mark.parametrize(("layers", "width"), [([1, 4], 128), ([2, 8], 128), ([4, 9], 96), ([1, 10], 192)])
def test_the_wide_control_has_as_many_parameters_as_the_deepest(
    depth: ModuleType, layers: list[int], width: int
) -> None:
    runs = sys.modules["depth_runs"]
    (wide,) = [arm for arm in depth.arms(4, layers, (0,), 1) if arm.width != 64]
    deep = next(arm for arm in depth.arms(4, layers, (0,), 1) if arm.layers == layers[-1])
    counts = []
    for arm in (wide, deep):
        model = runs.config_of(Path(), 4, arm, 0, 1).model
        policy = Policy.build(maze_tokenizer(4), model.layers, model.width, model.heads)
        counts.append(policy.model.num_parameters())
    assert (wide.width, wide.layers) == (width, layers[0])
    assert 0.9 <= counts[0] / counts[1] <= 1.1


def test_a_question_of_parameters_is_left_out_where_no_width_has_as_many(depth: ModuleType) -> None:
    report = sys.modules["depth_report"]
    arms = depth.arms(3, [1, 2], (0, 1), 30, {f"{n} x 64, 16 mazes": {"seconds": n / 10} for n in (1, 2)})
    assert {arm.width for arm in arms} == {64}
    runs = sys.modules["depth_runs"]
    found = {arm: {seed: found_of(runs, 0.5, arm.steps) for seed in arm.seeds} for arm in arms}
    results = [depth.SizeResults(3, arms, MEASURED, found)]
    compared = report.comparisons(results)
    (told,) = [line for line in report.verdicts(results, compared) if ", parameters: " in line]
    assert told == (
        "- 3x3, parameters: **left out**. No width of whole heads has as many parameters within 10%: "
        "at the nearest width, 96, those of 1 layer are 1.13 times those of 2 layers."
    )
    assert not any("| parameters |" in line for line in report.differences(compared))


@pytest.mark.parametrize(
    ("half", "told"),
    [
        ([0.60], " **But it may be the rate that does harm**: 8 layers, rate 0.001 solve 60.0% in place of 40.0%"),
        ([0.41], ""),
        ([], " Whether its rate is to blame is not known: of seed 0, 8 layers, rate 0.001 is not there"),
    ],
)
def test_verdicts_against_depth_say_where_half_the_rate_does_better(
    depth: ModuleType, half: list[float], told: str
) -> None:
    report = sys.modules["depth_report"]
    solved = {"8 layers, 1000": [0.40, 0.41, 0.42], "2 layers, 1000": [0.70, 0.72, 0.71]}
    results = [results_of(depth, solved | {"8 layers, rate 0.001, 1000": half})]
    lines = report.verdicts(results, report.comparisons(results))
    harm, *_ = [line for line in lines if ", depth: " in line]
    assert "**depth does harm in so few steps**" in harm
    assert harm.partition("lookahead 3 and more.")[2].startswith(told) and harm.endswith(".")
    assert told or harm.endswith("lookahead 3 and more.")
    assert not any("rate" in line for line in lines if ", longer: " in line or ", data: " in line)


@pytest.mark.parametrize(("end", "whole"), [({"exact": {}}, True), ({"questions": 0}, False), (None, False)])
def test_a_run_is_finished_once_it_was_asked_something(
    depth: ModuleType, tmp_path: Path, end: dict[str, Any] | None, whole: bool
) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    if end is not None:
        (tmp_path / "eval.json").write_text(json.dumps(end))
    assert depth.finished(tmp_path) is whole


@pytest.mark.parametrize("bench", ["depth_runs", "zoo", "hints_cells"])
def test_benches_end_as_commands_do(
    bench: str, depth: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With 2 for bad input, with 1 for what failed, and with a line either way."""
    monkeypatch.delitem(sys.modules, bench, raising=False)
    refuse = importlib.import_module(bench).refuse
    refuse("", "is not told")
    for code, given in ((2, {}), (1, {"code": 1})):
        with pytest.raises(SystemExit) as ended:
            refuse(["one"], "of no use", **given)
        assert ended.value.code == code
        assert capsys.readouterr().err == f"clew bench {bench.partition('_')[0]}: of no use\n"
    sys.modules.pop(bench)


def test_failed_runs_end_with_1(depth: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = f"--sizes 4 --layers 2 4 8 --seeds 0 --out {tmp_path} --runs {tmp_path}"
    (tmp_path / "costs.json").write_text(json.dumps({"4x4": MEASURED}))
    monkeypatch.setattr(sys, "argv", ["depth", *given.split()])
    monkeypatch.setattr(depth, "train_all", lambda todo, workers: {str(todo[0].out): "no luck"})
    with pytest.raises(SystemExit, match="1 of 8 runs failed") as ended:
        depth.main()
    assert ended.value.code == 1


def test_a_run_that_fails_stops_no_other(depth: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, done = sys.modules["depth_runs"], []

    def trained(config: Any) -> None:
        if "4-layers" in config.out:
            raise RuntimeError("no\nluck")
        done.append(config.out)

    monkeypatch.setattr(depth, "process_pool", ThreadPoolExecutor)
    monkeypatch.setattr(depth, "trained", trained)
    monkeypatch.setattr(depth, "read", lambda out: found_of(runs, 0.5, 1000))
    arms = [arm for arm in depth.arms(4, [2, 4, 8], (0,), 1000, COSTS) if arm.kind == "equal steps"]
    todo = [runs.config_of(runs.folder(tmp_path, 4, arm, 0), 4, arm, 0, 10) for arm in arms]
    assert depth.train_all(todo, 1) == {todo[1].out: "RuntimeError: no luck"}
    assert done == [todo[0].out, todo[2].out]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--steps 0", "--steps: 0 is not at least 1"),
        ("--layers 2", "is one depth; two at least are compared"),
        ("--seeds 1 1", "--seeds: 1 1 names one of them twice"),
        ("--sizes 4 2", "--sizes: 2 is not at least 3"),
        ("--sizes 4 65", "--sizes: 65 is not at most 64"),
        ("--out README.md/x", "--out: README.md is no folder"),
    ],
)
def test_options_that_cannot_be_used(
    depth: ModuleType, given: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["depth", *given.split(), "--runs", str(tmp_path / "runs")])
    monkeypatch.chdir(BENCH.parent)
    with pytest.raises(SystemExit, match=told) as ended:
        depth.main()
    assert ended.value.code == 2
    assert not (tmp_path / "runs").exists()
