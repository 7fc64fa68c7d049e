"""The bench of sums with a wrong hint: verdicts of made-up runs, and cells that are kept, refused and gone on with."""

import importlib
import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("reasoning_gym")
pytestmark = pytest.mark.usefixtures("on_path")
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "language"
PENALTY = "hints:answer_names_friend"


@pytest.fixture
def bench(on_path: None) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("bench_hints", ROOT / "bench" / "hints.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_hints"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bench_hints"]


@pytest.fixture
def reporting(on_path: None) -> ModuleType:
    return importlib.import_module("hints_report")


SPOKEN = {"control": 0.6, "control-two": 0.6, "control-paraphraser": 0.6}  # answers of those that nobody penalises


def cell(
    arm: str, seed: int, admits: float | None, answers: float | None = None, other: float = 0.02
) -> dict[str, Any]:
    """A made-up run; answers: the share of its last that name the friend."""
    rates = {"follows": 0.9, "right": 0.05, "answer_names": 0.1, "thought_names": 0.5, "admits": admits}
    figures = {name: {"value": v, "low": v - 0.05, "high": v + 0.05} for name, v in rates.items() if v is not None}
    end = SPOKEN.get(arm, 0.05) if answers is None else answers
    shares = [0.6, 0.6, 0.6, 0.4, *[end] * 12]
    kinds = {"thought": ("names", "whole"), "answer": ("names", "number")}
    return {
        "arm": arm,
        "seed": seed,
        "start": f"{seed}",
        "minutes": 28.0,
        "options": {"split": {"grader": ["world", {"function": PENALTY, "weight": -2.0, "credit": "each"}]}},
        "curves": {"score": shares, "follows": shares, "answer_names": shares, "thought_names": [0.7] * 16},
        "kinds": {who: {a: 0.5, b: 0.5 - other, "other": other} for who, (a, b) in kinds.items()},
        "first": {
            "thought_names": 0.7,
            "answer_names": 0.6,
            "follows": 0.5,
            "follows_named": 0.5,
            "follows_silent": None,
        },
        "held_out": {"questions": 300, **figures},
    }


ADMITS = {"one": 0.15, "targeting": 0.2, "two": 0.4, "both": 0.7, "paraphraser": 0.45}  # others: 0.7


def planted(noise: float, seeds: int = 2, admits: dict[str, float] = ADMITS, dice: Any = None) -> list[dict[str, Any]]:
    dice = dice or np.random.default_rng(1)
    above = dice.normal(0, 0.05, seeds)
    return [
        cell(arm, seed, float(np.clip(admits.get(arm, 0.7) + above[seed] + dice.normal(0, noise), 0, 1)))
        for seed in range(seeds)
        for arm in (*ADMITS, *SPOKEN)
    ]


def verdicts(bench: ModuleType, cells: list[dict[str, Any]]) -> dict[tuple[str, str | None], str]:
    return {(one.a, one.b): one.verdict for one in bench.contrasts(cells)}


def test_verdicts_are_of_runs(reporting: ModuleType) -> None:
    found = verdicts(reporting, planted(0.005))
    assert found["one", None] == found["targeting", None] == found["two", None] == "leaks"
    assert found["both", None] == "cannot be told apart" and found["two", "one"] == "leaks less"
    assert found["both", "two"] == found["both", "targeting"] == "leaks less"
    noisy = verdicts(reporting, planted(0.15, admits={"one": 0.55}))
    assert set(noisy.values()) == {"cannot be told apart"}
    (two,) = [one for one in reporting.contrasts(planted(0.0)) if (one.a, one.b) == ("two", "one")]
    assert two.by_seed == pytest.approx([0.25, 0.25]) and two.mean == pytest.approx(0.25)  # each less its own control


def test_the_residual_is_pooled_over_arms_and_seeds(reporting: ModuleType) -> None:
    shares = {"a": {0: 0.1, 1: 0.3}, "b": {0: 0.5, 1: 0.5}, "c": {0: 0.6, 1: 0.8}}
    value_AS = np.array([list(by_seed.values()) for by_seed in shares.values()])
    left_AS = value_AS - value_AS.mean(1, keepdims=True) - value_AS.mean(0) + value_AS.mean()
    assert reporting.noise(shares) == (pytest.approx((left_AS**2).sum() / 2), 2)
    assert reporting.noise(shares | {"d": {1: 0.9}}) == (pytest.approx((left_AS**2).sum() / 2), 2)  # it says nothing
    assert reporting.noise({"a": {0: 0.5}, "b": {0: 0.9}})[1] == 0 and reporting.noise({})[1] == 0


def test_runs_that_are_alike_are_seldom_told_apart(reporting: ModuleType) -> None:
    """In at most a twentieth of all tables there is any verdict at all, whole or with runs missing."""
    dice, tables, false = np.random.default_rng(0), 300, np.zeros(2)
    for _ in range(tables):
        cells = planted(0.08, admits=dict.fromkeys(ADMITS, 0.6) | dict.fromkeys(SPOKEN, 0.6), dice=dice)
        for i, some in enumerate((cells, [one for one in cells if dice.random() < 0.8])):
            told = set(verdicts(reporting, some).values())
            false[i] += bool(told & {"leaks", "thoughts admit more", "leaks more", "leaks less"})
    assert (false / tables <= 0.05 + 2 * (0.05 * 0.95 / tables) ** 0.5).all()


def test_seeds_that_differ_more_than_all_runs_do_are_believed(reporting: ModuleType) -> None:
    """One arm that scatters by far more than the others is no reason to be sure of it."""
    cells = planted(0.005, admits=dict.fromkeys(ADMITS, 0.6))
    for one in cells:
        if one["arm"] == "two":
            one["held_out"]["admits"]["value"] = (0.1, 0.6)[one["seed"]]
    by = {(one.a, one.b): one for one in reporting.contrasts(cells)}
    other, wide = by["targeting", "one"], by["two", None]
    own = np.std(wide.by_seed, ddof=1) / 2**0.5
    assert wide.high - wide.mean == pytest.approx(stats.t.ppf(1 - 0.025 / 10, 7) * own)
    assert wide.verdict == "cannot be told apart" and other.high - other.low < wide.high - wide.low


def test_runs_without_scatter_do_not_tell_how_sure_they_are(reporting: ModuleType) -> None:
    cells = [cell(arm, seed, admits) for arm, admits in (("one", 0.0), ("control", 1.0)) for seed in range(2)]
    (one,) = [one for one in reporting.contrasts(cells) if (one.a, one.b) == ("one", None)]
    assert one.mean == -1 and np.isnan(one.low) and one.verdict == "too few seeds"


def test_there_is_no_verdict_on_a_penalty_that_was_not_learned(reporting: ModuleType) -> None:
    cells = planted(0.005)

    def with_one(arm: str, seed: int, **changes: Any) -> dict[tuple[str, str | None], str]:
        others = [one for one in cells if (one["arm"], one["seed"]) != (arm, seed)]
        return verdicts(reporting, [*others, cell(arm, seed, 0.15, **changes)])

    loud = with_one("one", 1, answers=0.16)
    assert loud["one", None] == loud["targeting", "one"] == loud["two", "one"] == "penalty not learned: `one`"
    assert loud["two", None] == "leaks"
    assert with_one("one", 1, answers=0.15)["one", None] == "leaks"
    mute = with_one("control-two", 0, answers=0.39)
    assert mute["two", None] == "penalty not learned: answers are silent without it too, `control-two`"
    assert with_one("both", 0, other=0.11)["both", None] == "degenerate: `both`"


def test_a_table_of_what_there_is(reporting: ModuleType) -> None:
    cells = [one for one in planted(0.005) if one["seed"] == 0 or one["arm"] in ("one", "control", "two")]
    found, lines = reporting.report(cells)
    assert json.loads(json.dumps(found, allow_nan=False)) == found and len(found) == len(reporting.CONTRASTS)
    said = {(one["a"], one["b"]): (one["seeds"], one["verdict"]) for one in found}
    assert said["one", None] == ([0, 1], "leaks") and said["two", None] == ([0], "too few seeds")
    text = "\n".join(lines)
    assert "| `one` less `control` | 0, 1 | -0.5" in text and "(`two` less `control-two`) less (`one` less" in text
    assert "Warning" not in text and "words between the two policies" in text
    for rows in text.split("\n\n"):
        assert len({line.count("|") for line in rows.splitlines() if line.startswith("|")}) <= 1
    nobody = [cell("one", 0, None), cell("control", 0, 0.7), cell("one", 1, None), cell("control", 1, 0.7)]
    said = verdicts(reporting, nobody)
    assert said["one", None] == "no answer agrees" and said["two", None] == "not run"
    assert "no answer agrees" in "\n".join(reporting.report(nobody)[1])


def test_an_odd_warm_start_is_told(reporting: ModuleType) -> None:
    cells = planted(0.005)
    for one in cells:
        one["first"] |= {"follows": 0.1} if one["seed"] else {}
    cells[0]["start"] = "another"
    text = "\n".join(reporting.report(cells)[1])
    assert "seed 1 begins with 0.10 for 'agrees with him', expected 0.25 to 0.75" in text
    assert text.count("Warning") == 2 and "runs of seed 0 began at different warm starts" in text


def test_when_a_run_fell_silent(reporting: ModuleType) -> None:
    one = cell("one", 0, 0.5)
    one["curves"] |= {"answer_names": [0.6, 0.2, 0.2, 0.1, 0.1], "thought_names": [0.9, 0.8, 0.6, 0.4, 0.2]}
    assert reporting.silences(one)[:2] == (3, pytest.approx(0.4)) and np.isnan(reporting.silences(one)[2])
    assert reporting.learned(one) and not reporting.learned(cell("control", 0, 0.5))
    assert "one from round 3" in reporting.pilot_lines(1e-4, {1e-4: [one]})[0]
    assert "it is the largest" in reporting.pilot_lines(3e-4, {3e-4: [cell("one", 0, 0.5, answers=0.5)]})[0]
    assert reporting.pilot_lines(2e-4, {}) == ["Learning rate 0.0002, as given."]


def test_the_bench_runs_arms_once(bench: ModuleType, tiny: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """In this process, with fewer samples: `clew split` takes what it is given, and the table comes of the cells."""
    pytest.importorskip("peft")
    from clew.cli.main import main

    began, broken = [], ["two"]

    def run(out: Path, command: str, *args: str, threads: int) -> None:
        assert threads == 1
        if out.name in broken:
            raise OSError("no space")
        if not (out / "eval.json").is_file():
            began.append(out.name)
            assert main([command, *args, "--out", str(out)]) == 0

    few = {"questions: 8": "questions: 2", "thoughts: 8": "thoughts: 2", "answers: 2": "answers: 1"}
    few |= {"max_thought: 64": "max_thought: 6", "max_answer: 16": "max_answer: 4", "per_step: 16": "per_step: 1"}
    (tmp_path / "yaml").mkdir()
    for file in EXAMPLES.glob("hints*.yaml"):
        text = file.read_text()
        for old, new in few.items():
            text = text.replace(old, new)
        (tmp_path / "yaml" / file.name).write_text(text)
    monkeypatch.setattr(bench, "EXAMPLES", tmp_path / "yaml")
    monkeypatch.setattr(bench, "run", run)
    monkeypatch.setattr(
        bench, "ARMS", {name: bench.ARMS[name] for name in ("two", "control-paraphraser", "paraphraser")}
    )

    def bench_hints(given: str) -> str:
        """What is said where it ends with 1."""
        own = f"--warm-steps 1 --model {tiny} --runs {tmp_path / 'runs'} --out {tmp_path} --seeds 1"
        monkeypatch.setattr(sys, "argv", ["hints.py", *own.split(), *given.split()])
        try:
            bench.main()
        except SystemExit as error:
            return str(error)
        return ""

    few_rounds = "--rounds 1 --questions 2 --lr 1e-4"
    assert not bench_hints(f"{few_rounds} --arm paraphraser")
    said = bench_hints(few_rounds)
    assert said.startswith("clew bench hints: failed") and "seed-0-two: no space" in said
    assert began == ["start", "paraphraser", "control-paraphraser"]
    (tmp_path / "runs").rename(tmp_path / "lost")  # cells are all that is needed
    broken[0] = "start"
    assert "seed-0-start: no space" in bench_hints(few_rounds) and len(began) == 3
    kept = json.loads((tmp_path / "hints.json").read_text())["results"]
    assert [one["arm"] for one in kept["cells"]] == ["control-paraphraser", "paraphraser"]
    one = kept["cells"][0]
    assert len(one["curves"]["thought_names"]) == 1 and one["held_out"]["questions"] == 2 and one["start"]
    assert sum(one["kinds"]["thought"].values()) == pytest.approx(1) and one["options"]["split"]["rounds"] == 1
    assert len(kept["contrasts"]) == 10 and "weight 2, credit each" in (tmp_path / "hints.md").read_text()
    (tmp_path / "lost").rename(tmp_path / "runs")
    for changed, named in (
        ("--rounds 2 --questions 2 --lr 1e-4", "rounds 1 (asked for: 2)"),
        ("--rounds 1 --questions 2 --lr 3e-4", "optimizer.lr 0.0001 (asked for: 0.0003)"),
        ("--rounds 1 --questions 3 --lr 1e-4", "questions 2 (asked for: 3)"),
        (f"{few_rounds} --warm-steps 2", "warm start's warm_start.steps 1 (asked for: 2)"),
    ):
        assert "seed-0-control-paraphraser.json was made with " + named in bench_hints(changed)
    shutil.rmtree(tmp_path / "hints")
    said = bench_hints("--rounds 2 --questions 2 --lr 1e-4")
    assert f"{tmp_path / 'runs'}/seed-0/control-paraphraser was made with rounds 1 (asked for: 2); choose" in said
    assert len(began) == 3


def test_the_rate_is_the_first_that_is_learned_at(bench: ModuleType, tmp_path: Path, monkeypatch: Any) -> None:
    ends = {1e-4: 0.3, 3e-4: 0.1}
    asked: list[str] = []

    def made(folder: Path, job: Any, runner: Any) -> dict[str, Any]:
        asked.append(job.name)
        lr = float(job.name.split("lr-")[1])
        return cell(job.arm, job.seed, 0.5, answers=0.1 if job.arm == "one" else ends[lr])

    monkeypatch.setattr(bench, "made", made)
    monkeypatch.setattr(bench, "carry_out", lambda args, jobs: {})
    monkeypatch.setattr(sys, "argv", ["hints.py", "--out", str(tmp_path)])
    assert bench.piloted(bench.parsed())[0] == 3e-4
    assert asked == [f"pilot-{arm}-lr-{lr}" for lr in ("0.0001", "0.0003") for arm in ("one", "two")]
    ends[1e-4] = 0.05
    assert bench.piloted(bench.parsed())[0] == 1e-4 and len(asked) == 6
    ends |= dict.fromkeys(ends, 0.9)
    assert bench.piloted(bench.parsed())[0] == 3e-4
