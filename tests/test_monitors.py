"""Monitors: heard by the log, and by nothing else, whatever they do."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from clew.cli.main import main
from clew.errors import InputError
from clew.monitors import Monitor
from clew.runs.rollouts import read_rollouts
from clew.train.rounds import split
from small import metrics, split_config

TINY = "--model.layers 1 --model.width 16 --model.heads 2 --mazes.sizes [3]"
SAMPLES = {"prompts": ["2 + 2", "3 + 3"], "completions": ["4", "six"], "thoughts": ["two and two", "hm"]}


def said(name: str, samples: dict[str, list[Any]] = SAMPLES, calls: int = 1, time_limit: float = 30.0) -> Any:
    """What a monitor of `watchers` says, and what went wrong, the last time."""
    monitor, answer = Monitor(f"watchers:{name}", time_limit), None
    monitor.start()
    try:
        for _ in range(calls):
            answer = monitor.watch(samples, 2)
        return answer
    finally:
        monitor.close()


def test_a_monitor_reads_thoughts_and_answers() -> None:
    values_B, fault = said("thought_length", calls=3)
    assert_array_equal(values_B, [3, 1])
    assert fault == ""
    assert_array_equal(said("judge")[0], [1, 3])


def test_what_json_has_no_word_for_is_told_in_text() -> None:
    messages = [[{"role": "user", "content": "\ud800 \x00"}]] * 2
    columns = {"grid": [np.eye(2), np.float32(1)], "other": [object(), {"a": {1, 2}}], "n": [float("nan"), 10**400]}
    values_B, fault = said("thought_length", {**SAMPLES, "prompts": messages, **columns})
    assert_array_equal(values_B, [3, 1])
    assert fault == ""
    for column in ([{(1, 2): 3}, {}], [loop := [], loop.append(loop)]):
        values_B, fault = said("thought_length", {**SAMPLES, "column": column})
        assert np.isnan(values_B).all() and fault.startswith("cannot be given these samples: ")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("raises", "raised KeyError('no\\x1b[2J\\nnever')"),
        ("leaves", "raised SystemExit(0)"),
        ("mutates", "it returned [1.0]; expected a list of 2 numbers or None"),
        ("short", "it returned [1.0]; expected a list of 2"),
        ("text", "raised ValueError("),
        ("dies", "ended, or said nothing within 30 s"),
        ("forges", "ended, or said nothing within 30 s"),
    ],
)
def test_failures_are_one_safe_line(name: str, fault: str) -> None:
    for calls in (1, 2):
        values_B, line = said(name, calls=calls)
        assert np.isnan(values_B).all() and fault in line and line.isprintable()


def test_what_is_printed_is_not_heard() -> None:
    values_B, fault = said("prints", calls=2)
    assert_array_equal(values_B, [1, 1])
    assert fault == ""


def test_what_is_no_number_is_nothing() -> None:
    values_B, fault = said("odd", {name: values * 3 for name, values in SAMPLES.items()})
    assert fault == "ended, or said nothing within 30 s" and len(values_B) == 2  # 6 values, where 2 were asked for
    monitor = Monitor("watchers:odd")
    monitor.start()
    values_B, fault = monitor.watch({name: values * 3 for name, values in SAMPLES.items()}, 6)
    monitor.close()
    assert_array_equal(values_B, [np.nan, np.nan, np.nan, 1, 1e200, 0])
    assert fault == ""


def test_one_that_hangs_is_ended_with_what_it_has_begun() -> None:
    monitor = Monitor("watchers:hangs", 0.5)
    monitor.start()
    assert monitor._process is not None
    group = monitor._process.pid
    values_B, fault = monitor.watch(SAMPLES, 2)
    assert np.isnan(values_B).all() and fault == "ended, or said nothing within 0.5 s" and monitor.failed
    for _ in range(100):  # until the last of the group is gone
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the group of the monitor's process is still there")


def test_one_that_has_ended_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHERS_MARK", str(tmp_path / "mark"))
    monitor = Monitor("watchers:dies_at_first")
    monitor.start()
    assert np.isnan(monitor.watch(SAMPLES, 2)[0]).all()
    assert_array_equal(monitor.watch(SAMPLES, 2)[0], [2, 2])
    monitor.close()
    monitor.close()


@pytest.mark.parametrize("path", ["watchers", "a b:c", "watchers:missing", "watchers:CALLS", "no_such_module:f"])
def test_what_cannot_be_found_is_said_before_work(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"^monitor: '.*expected package\.module:function"):
        Monitor(path).start()
    if path == "watchers:missing":
        args = ["split", *TINY.split(), "--monitor", f"['{path}']", "--out", str(tmp_path / "never")]
        assert main(args) == 2 and not (tmp_path / "never").exists()
        assert len(capsys.readouterr().err.splitlines()) == 1
        twice = ["split", "--monitor", "['a:b', 'a:b']", "--out", str(tmp_path / "never")]
        assert main(twice) == 2 and "monitor: 'a:b' is named more than once" in capsys.readouterr().err


# Deafness: nothing that a monitor does reaches a weight or a checkpoint.

DEAF = ["chance", "raises", "mutates", "seeds", "dies", "hangs", "prints", "forges", "thought_length"]


def all_that_is_learned(run: Path) -> dict[str, bytes]:
    """Every file of weights and of checkpoints, byte for byte; of their states, all but the seconds."""
    names = ["warm", "shoggoth", "face", "checkpoints"]
    files = [file for name in names for file in sorted((run / name).rglob("*")) if file.is_file()]
    found = {str(file.relative_to(run)): file.read_bytes() for file in files if file.suffix != ".md"}
    for name in [name for name in found if name.endswith("state.json")]:
        found[name] = b" ".join(word for word in found[name].split(b",") if b'"seconds"' not in word)
    return found


def test_nothing_that_monitors_do_reaches_what_is_learned(tmp_path: Path) -> None:
    options: dict[str, Any] = {"rule": "advantage", "grader": ["models:length"], "warm_start__steps": 2, "rounds": 2}
    options |= {"allocate": "auto", "validate_every": 1, "time_limit": 2.0}
    notes: list[str] = []
    split(split_config(tmp_path / "alone", **options))
    monitors = [f"watchers:{name}" for name in DEAF]
    told = split_config(tmp_path / "watched", **options, monitor=monitors)
    split(told, report=lambda values: notes.append(values.get("note", "")))

    alone, watched = (all_that_is_learned(tmp_path / name) for name in ("alone", "watched"))
    assert alone.keys() == watched.keys()
    assert {name for name in alone if alone[name] != watched[name]} == set()
    assert any("optimizer" in name for name in alone) and any(name.endswith("state.json") for name in alone)
    lines = metrics(tmp_path / "watched")[1:]
    own = {name for line in lines for name in line if name.startswith("monitor_")}
    for line, before in zip(lines, metrics(tmp_path / "alone")[1:], strict=True):
        assert {name: line[name] for name in line if name not in own | {"seconds"}} == {
            name: before[name] for name in before if name != "seconds"
        }
        errors = {name: line[f"monitor_errors_watchers:{name}"] for name in DEAF}
        assert errors == dict.fromkeys(DEAF, 0.0) | dict.fromkeys(("raises", "mutates", "dies", "hangs", "forges"), 1.0)
        assert line["monitor_watchers:prints"] == 1 and "monitor_watchers:dies" not in line
    assert sum("monitor: " in note for note in notes) == 5  # each that failed, once

    found = list(read_rollouts(tmp_path / "watched"))
    kept = [
        answer | {"thought": thought} for one in found for thought in one["thoughts"] for answer in thought["answers"]
    ]
    for answer in kept:
        assert answer["monitors"]["watchers:thought_length"] == len(answer["thought"]["text"].split())
        assert answer["monitors"]["watchers:dies"] is None
    mean = np.mean([answer["monitors"]["watchers:thought_length"] for answer in kept[len(kept) // 2 :]])
    assert lines[-1]["monitor_watchers:thought_length"] == pytest.approx(mean)


def test_a_resumed_run_may_be_watched_by_others(tmp_path: Path) -> None:
    run = tmp_path / "run"
    split(split_config(run, rounds=1, warm_start__steps=2))
    split(split_config(run, rounds=2, warm_start__steps=2, monitor=["watchers:thought_length"]), resume=True)
    first, second = metrics(run)[1:]
    assert "monitor_watchers:thought_length" not in first and second["monitor_watchers:thought_length"] > 0
