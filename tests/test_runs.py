"""Run folders: checkpoints by number, torn ones, metrics, and options that change on the way or are refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from clew import runs
from clew.config import MazeConfig, SplitConfig, TrainConfig, write_config
from clew.errors import InputError


def kept(out: Path, *steps: int) -> list[str]:
    """Makes checkpoints, and returns the names of all that are then there."""
    for step in steps:
        with runs.new_checkpoint(out, step) as part:
            (part / "state.json").write_text(json.dumps({"step": step, "seconds": 0.5}))
    return sorted(path.name for path in (out / "checkpoints").iterdir())


def test_checkpoints_past_a_million_steps(tmp_path: Path) -> None:
    assert kept(tmp_path, 999_998, 999_999, 1_000_000) == ["step-1000000", "step-999999"]
    assert kept(tmp_path, 1_000_001) == ["step-1000000", "step-1000001"]
    last = runs.latest_checkpoint(tmp_path)
    assert last and last.name == "step-1000001"
    assert runs.resumed(tmp_path, runs.read_state, lambda: None) == {"step": 1_000_001, "seconds": 0.5}


def test_odd_names_do_no_harm(tmp_path: Path) -> None:
    odd = ["step-abc", "step-1.part", "step-", "step--3", "step-٣", "step-000009x", "warm-shoggoth", "step-" + "9" * 30]
    for name in odd:
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-000099").write_text("a file")
    assert runs.checkpoints(tmp_path) == [] and runs.resumed(tmp_path, runs.read_state, lambda: None) is None
    assert kept(tmp_path, 1, 2, 3) == sorted([*odd, "step-000099", "step-000002", "step-000003"])


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / ".step-000002.part").mkdir(parents=True)
    assert runs.resumed(tmp_path, runs.read_state, lambda: None) is None


STATES = [
    b"", b'{"step": 2, "sec', b"\xff\xfe\x00", b"3", b"null", b"[]", b"{}", b'{"step": "x", "seconds": 1}',
    b'{"step": -1, "seconds": 1}', b'{"step": 1e400, "seconds": 1}', b'{"step": 2.0, "seconds": 1}',
    b'{"step": true, "seconds": 1}', b'{"step": 3, "seconds": 1}', b'{"step": 2}', b'{"step": 2, "seconds": "x"}',
    b'{"step": 2, "seconds": -1}', b'{"step": 2, "seconds": 1e400}', b'{"step": 2, "seconds": NaN}',
    b'{"step": 2, "seconds": true}', b"[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("state", STATES, ids=lambda state: state[:40].decode(errors="replace"))
def test_a_torn_state(tmp_path: Path, state: bytes) -> None:
    kept(tmp_path, 1, 2)
    (tmp_path / "checkpoints" / "step-000002" / "state.json").write_bytes(state)
    last = runs.latest_checkpoint(tmp_path)
    assert last and last.name == "step-000001"
    with pytest.warns(UserWarning, match=r"step-000002 is torn \(its state.json .*goes on from step-000001") as told:
        found = runs.resumed(tmp_path, runs.read_state, lambda: None)
    assert len(told) == 1 and "\n" not in str(told[0].message)
    assert found == {"step": 1, "seconds": 0.5}
    aside = tmp_path / "checkpoints" / "torn-step-000002" / "state.json"
    assert aside.read_bytes() == state  # kept for whoever wants it


def test_torn_ones_are_set_aside_each_by_itself(tmp_path: Path) -> None:
    for _ in range(2):
        kept(tmp_path, 1, 2)
        (tmp_path / "checkpoints" / "step-000002" / "state.json").unlink()
        with pytest.warns(UserWarning, match="no state.json"):
            runs.resumed(tmp_path, runs.read_state, lambda: None)
    assert kept(tmp_path) == ["step-000001", "torn-step-000002", "torn-step-000002-2"]


def test_no_whole_checkpoint_left(tmp_path: Path) -> None:
    kept(tmp_path, 1, 2)
    for checkpoint in runs.checkpoints(tmp_path):
        (checkpoint / "state.json").write_text("")
    with pytest.raises(InputError, match=r"has no whole checkpoint left .*step-000002 is torn \(its state.json"):
        runs.resumed(tmp_path, runs.read_state, lambda: None)
    assert kept(tmp_path) == ["step-000001", "step-000002"]  # as it was
    with pytest.raises(InputError, match=r"whose config.yaml is gone"), runs.run_folder(tmp_path, resume=False):
        pass


@pytest.mark.parametrize("name", ["eval.json", "samples.jsonl", "metrics.jsonl", "plots/training.png"])
def test_a_folder_where_a_file_belongs(tmp_path: Path, name: str) -> None:
    write_config(tmp_path / "config.yaml", TrainConfig())
    (tmp_path / name).mkdir(parents=True)
    says = f"{name} is a folder; a file was expected"
    with pytest.raises(InputError, match=says), runs.run_folder(tmp_path, resume=True):
        pass


def test_a_link_to_nowhere_where_a_folder_belongs(tmp_path: Path) -> None:
    write_config(tmp_path / "config.yaml", TrainConfig())
    (tmp_path / "plots").symlink_to("nowhere")
    with pytest.raises(InputError, match="plots is not a folder"), runs.run_folder(tmp_path, resume=True):
        pass


@pytest.mark.parametrize("name", ["checkpoints", "warm", "plots"])
def test_a_file_where_a_folder_belongs(tmp_path: Path, name: str) -> None:
    write_config(tmp_path / "config.yaml", TrainConfig())
    (tmp_path / name).write_text("5")
    with pytest.raises(InputError, match=f"{name} is not a folder"), runs.run_folder(tmp_path, resume=True):
        pass
    assert (tmp_path / name).read_text() == "5"


def test_metrics_lose_what_came_after_a_step_and_what_is_none(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [b'{"step": 1}', b"[1]", b"3", b"null", b'{"loss": 1}', b'{"step": "1"}', b'{"step": 1e400}', b"\xff\x00",
             b'{"step": true}', b"[" * 100_000, b"", b'{"step": 2, "loss": 1}', b'{"step": 3}', b'{"ste']  # fmt: skip
    path.write_bytes(b"\n".join(lines))
    runs.keep_metrics(path, 2)
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2, "loss": 1}\n'
    path.write_bytes(b'{"step": 1}')  # a whole line but for its end
    runs.keep_metrics(path, 2)
    runs.append_metrics(path, {"step": 2, "loss": float("nan")})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"step": 1}, {"step": 2, "loss": None}]
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=r"metrics.jsonl is a folder"):
        runs.keep_metrics(path, 2)


def test_a_line_that_does_not_fit_leaves_none(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "metrics.jsonl"
    runs.append_metrics(path, {"step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            runs.append_metrics(path, {"step": 2, "loss": 0.123456789})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(path) and path.read_text() == '{"step": 1}\n'


def test_what_a_kill_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    write_config(tmp_path / "config.yaml", TrainConfig())
    (tmp_path / "checkpoints" / ".step-000004.part" / "model").mkdir(parents=True)
    (tmp_path / "checkpoints" / ".warm-face.old").mkdir()
    (tmp_path / ".metrics.jsonl.part").write_text("half")
    with runs.run_folder(tmp_path, resume=True):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "checkpoints", "config.yaml"]
        assert kept(tmp_path) == ["warm-face"]  # set aside for a new one that never came


@pytest.mark.parametrize("config", [TrainConfig, SplitConfig])
def test_every_option_may_change_or_is_refused_by_name(tmp_path: Path, config: type) -> None:
    command = runs._command_of(config)
    write_config(tmp_path / "config.yaml", config())
    runs.check_options(tmp_path, config(out="elsewhere"))  # nothing has changed
    assert set(runs.MAY_CHANGE[command]) - {"attention"} <= {field.name for field in fields(config)}
    for name, value in runs.flat(asdict(config())).items():
        other = 7 if value is None else [3, 3] if name == "delimiters" else _other(value)
        top, _, inner = name.partition(".")
        changed = replace(config(), **{top: replace(config().mazes, **{inner: other}) if inner else other})
        if top in runs.MAY_CHANGE[command]:
            runs.check_options(tmp_path, changed)
            continue
        with pytest.raises(InputError) as caught:
            runs.check_options(tmp_path, changed)
        text = str(caught.value)
        assert text.startswith(f"{name}: this run began with {runs.show(value)}, and going on with {runs.show(other)}")
        assert "\n" not in text


def _other(value: Any) -> Any:
    if isinstance(value, (list, dict)):
        return [*value, "other"] if isinstance(value, list) else {**value, "other": 1}
    return value + "x" if isinstance(value, str) else value + 1


def test_fewer_steps_than_are_done(tmp_path: Path) -> None:
    write_config(tmp_path / "config.yaml", TrainConfig(steps=9))
    kept(tmp_path, 6)
    runs.check_options(tmp_path, TrainConfig(steps=6))
    with pytest.raises(InputError, match="steps: 5 is less than the 6"):
        runs.check_options(tmp_path, TrainConfig(steps=5))
    write_config(tmp_path / "config.yaml", SplitConfig(rounds=9))
    with pytest.raises(InputError, match="rounds: 5 is less than the 6"):
        runs.check_options(tmp_path, SplitConfig(rounds=5))


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(file: Path) -> None:
        values = yaml.safe_load(file.read_text())
        change(values)
        file.write_text(yaml.safe_dump(values))

    return edit


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda file: file.unlink(), "holds no run"),
        (lambda file: write_config(file, SplitConfig()), "a run of clew split; go on with clew split --resume"),
        (edited(lambda v: v.update(depth=3)), "config.yaml: 'depth': clew train has no such option"),
        (edited(lambda v: v.update(sizes=v["mazes"].pop("sizes"))), "config.yaml: 'sizes': clew train has no such"),
        (edited(lambda v: v["mazes"].update(layers=3)), "config.yaml: 'mazes.layers': clew train has no such"),
        (edited(lambda v: v.update({3: 4})), "config.yaml: "),
        (lambda file: file.write_text("- a\n"), "config.yaml: holds no options"),
        (lambda file: file.write_bytes(b"\xff\xfe\x00"), "config.yaml: cannot be read"),
        (edited(lambda v: v.update(mazes=3)), "config.yaml: mazes: 3 is no mapping"),
        (edited(lambda v: v.update(mazes=None)), "config.yaml: mazes: None is no mapping"),
    ],
)
def test_a_config_edited_by_hand(tmp_path: Path, edit: Callable[[Path], None], says: str) -> None:
    write_config(tmp_path / "config.yaml", TrainConfig())
    edit(tmp_path / "config.yaml")
    with pytest.raises(InputError, match=says) as caught:
        runs.check_options(tmp_path, TrainConfig())
    assert "\n" not in str(caught.value)


def test_a_config_of_an_older_version_or_written_otherwise(tmp_path: Path) -> None:
    write_config(tmp_path / "config.yaml", TrainConfig(adjacency_weight=0.1, mazes=MazeConfig(sizes=[(3, 4)])))
    edited(lambda v: (v.pop("wall_cost"), v.update(adjacency_weight="1e-1")))(tmp_path / "config.yaml")
    same = TrainConfig(adjacency_weight=0.1, mazes=MazeConfig(sizes=[(3, 4)]))
    runs.check_options(tmp_path, same)
    with pytest.raises(InputError, match=r"wall_cost: this run began with 1.0, and going on with 2.0"):
        runs.check_options(tmp_path, replace(same, wall_cost=2.0))
    shutil.rmtree(tmp_path)


def test_lines_without_figures_do_not_spoil_the_pictures(tmp_path: Path) -> None:
    from clew import plots

    lines = ['{"step": 1}', '{"step": 2, "loss": null, "score": "x"}', '{"step": 3, "loss": 1.5, "held_out_exact": 1}',
             '{"step": 4, "score": 0.5, "thought_tokens": 3, "held_out_score": 0.5}']  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for draw in (plots.training_curves, plots.split_curves):
        draw(tmp_path / "metrics.jsonl", tmp_path / f"{draw.__name__}.png")
        assert (tmp_path / f"{draw.__name__}.png").stat().st_size > 1000
