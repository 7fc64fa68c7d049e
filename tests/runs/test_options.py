"""config.yaml: options that change on the way or are refused, files edited by hand, and what has moved since."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from clew.errors import InputError
from clew.runs.checkpoints import new_checkpoint
from clew.runs.options import check_moved, check_options, flat, moved, names_of, options_of, read_yaml, write_config
from clew.text import show


@dataclass
class Mazes:
    sizes: list[Any] = field(default_factory=lambda: [4])
    traces: list[str] = field(default_factory=lambda: ["dfs"])


@dataclass
class Prompts:
    file: str | None = None
    delimiters: tuple[str, str] = ("<think>", "</think>")


@dataclass
class Model:
    folder: str | None = None
    layers: int = 4
    width: int = 128


@dataclass
class Optimizer:
    name: Literal["adamw", "muon"] = "adamw"
    lr: float = 2e-3
    warmup: int | None = None


@dataclass
class WarmStart:
    steps: int = 1000
    per_step: int = 16
    name: str = "imitation"
    optimizer: Optimizer = field(default_factory=Optimizer)


@dataclass
class Train:
    mazes: Mazes = field(default_factory=Mazes)
    model: Model = field(default_factory=Model)
    optimizer: Optimizer = field(default_factory=Optimizer)
    prompt_weight: float = 0.1
    per_step: int = 8
    steps: int | None = None
    validate_every: int = 250
    out: str | None = None


@dataclass
class Split:
    mazes: Mazes = field(default_factory=Mazes)
    prompts: Prompts = field(default_factory=Prompts)
    model: Model = field(default_factory=Model)
    warm_start: WarmStart = field(default_factory=WarmStart)
    rule: str = "denoised"
    rule_options: dict[str, Any] = field(default_factory=dict)
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(lr=3e-5))
    rounds: int = 100
    validate_every: int = 10
    out: str | None = None


COMMANDS = {"train": Train, "split": Split}
RENAMED = {
    "mazes.per_step": "per_step",
    "probe_every": "validate_every",
    "eval_every": "validate_every",
    "adjacency_weight": "prompt_weight",
    "warmup_steps": "warm_start.steps",
    "warmup_lr": "warm_start.optimizer.lr",
}
MAY_CHANGE = {"train": ["steps", "optimizer.lr", "out"], "split": ["rounds", "optimizer.lr", "model", "out"]}


def check(out: Path, config: Train | Split) -> None:
    name, limit = ("train", "steps") if isinstance(config, Train) else ("split", "rounds")
    check_options(out, config, MAY_CHANGE[name], limit, COMMANDS, RENAMED)


@pytest.mark.parametrize("config", [Train, Split])
def test_every_option_may_change_or_is_refused_by_name(tmp_path: Path, config: type) -> None:
    write_config(tmp_path / "config.yaml", config())
    check(tmp_path, config(out="elsewhere"))  # nothing has changed
    may = ["steps", "optimizer.lr", "out"] if config is Train else ["rounds", "optimizer.lr", "out"]
    may += [] if config is Train else ["model.folder", "model.layers", "model.width"]
    known = flat(asdict(config()), config)
    assert list(known) == names_of(config) and set(may) <= set(known)
    for name, value in known.items():
        other = 777 if value is None else _other(value)
        changed = _with(config(), name.split("."), other)
        if name in may:
            check(tmp_path, changed)
            continue
        with pytest.raises(InputError) as caught:
            check(tmp_path, changed)
        text = str(caught.value)
        assert text.startswith(f"{name}: this run began with {show(value)}, and going on with {show(other)}")
        assert "\n" not in text


def _with(config: Any, path: list[str], value: Any) -> Any:
    inner = _with(getattr(config, path[0]), path[1:], value) if path[1:] else value
    return replace(config, **{path[0]: inner})


def _other(value: Any) -> Any:
    if isinstance(value, (list, dict)):
        return [*value, "other"] if isinstance(value, list) else {**value, "other": 1}
    return value + "x" if isinstance(value, str) else value + 1


def test_fewer_steps_than_are_done(tmp_path: Path) -> None:
    write_config(tmp_path / "config.yaml", Train(steps=9))
    with new_checkpoint(tmp_path, 6) as part:
        (part / "state.json").write_text(json.dumps({"step": 6, "seconds": 0.5}))
    check(tmp_path, Train(steps=6))
    check(tmp_path, Train(steps=None))
    with pytest.raises(InputError, match="steps: 5 is less than the 6"):
        check(tmp_path, Train(steps=5))
    write_config(tmp_path / "config.yaml", Split(rounds=9))
    with pytest.raises(InputError, match="rounds: 5 is less than the 6"):
        check(tmp_path, Split(rounds=5))


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(file: Path) -> None:
        values = yaml.safe_load(file.read_text())
        change(values)
        file.write_text(yaml.safe_dump(values))

    return edit


OLD_SPLIT = {"rule": "basic", "rounds": 3, "warmup_lr": 0.1, "lr": 1e-5}


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda file: file.unlink(), "holds no run"),
        (lambda file: write_config(file, Split()), "a run of clew split; go on with clew split --resume"),
        (lambda file: file.write_text(yaml.safe_dump(OLD_SPLIT)), "a run of clew split; go on with clew split"),
        (edited(lambda v: v.update(depth=3)), "config.yaml: 'depth': clew train has no such option"),
        (edited(lambda v: v.update(lr=3, depth=3)), "config.yaml: 'depth': clew train has no such option"),
        (edited(lambda v: v["mazes"].update(layers=3)), "config.yaml: 'mazes.layers': clew train has no such"),
        (edited(lambda v: v.update({3: 4})), "config.yaml: '3': clew train has no such"),
        (lambda file: file.write_text("- a\n"), "config.yaml: holds no options"),
        (lambda file: file.write_bytes(b"\xff\xfe\x00"), "config.yaml: cannot be read"),
        (edited(lambda v: v.update(mazes=3)), "config.yaml: mazes: 3 is no mapping of options such as {sizes: …}"),
        (edited(lambda v: v.update(mazes=None)), "config.yaml: mazes: None is no mapping"),
        (edited(lambda v: v.update(mazes="x")), "config.yaml: mazes: 'x' is no mapping"),
        (edited(lambda v: v.update(optimizer=None)), "config.yaml: optimizer: None is no mapping"),
        (edited(lambda v: v.update(lr=v["optimizer"].pop("lr"))), "these options have moved: lr is now optimizer.lr;"),
    ],
)
def test_a_config_edited_by_hand(tmp_path: Path, edit: Callable[[Path], None], says: str) -> None:
    write_config(tmp_path / "config.yaml", Train())
    edit(tmp_path / "config.yaml")
    with pytest.raises(InputError, match=says) as caught:
        check(tmp_path, Train())
    assert "\n" not in str(caught.value)


def test_a_group_in_a_group_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("warm_start: {optimizer: 3}")
    with pytest.raises(InputError, match=r"warm_start.optimizer: 3 is no mapping of options such as {name: …}"):
        check(tmp_path, Split())


def test_a_config_that_is_silent_or_written_otherwise(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("prompt_weight: 1e-1\nmazes: {sizes: [[3, 4]]}\n")
    same = Train(mazes=Mazes(sizes=[(3, 4)]))
    assert options_of(tmp_path, Train, COMMANDS)["optimizer.lr"] == 2e-3
    check(tmp_path, same)
    with pytest.raises(InputError, match=r"prompt_weight: this run began with '1e-1', and going on with 2.0"):
        check(tmp_path, replace(same, prompt_weight=2.0))


def test_what_an_earlier_version_wrote_is_told_where_it_is_now(tmp_path: Path) -> None:
    old = {"mazes": {"sizes": [4], "per_step": 8}, "model": "runs/start/warm", "layers": 3, "optimizer": "muon"}
    old |= {"lr": 0.1, "warmup": 5, "adjacency_weight": 0.2, "probe_every": 3, "steps": 4}
    places = {
        "mazes.per_step": "per_step",
        "model": "model.folder",
        "layers": "model.layers",
        "optimizer": "optimizer.name",
        "lr": "optimizer.lr",
        "warmup": "optimizer.warmup",
        "adjacency_weight": "prompt_weight",
        "probe_every": "validate_every",
    }
    assert moved(old, Train, RENAMED) == places
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(old))
    told = ", ".join(f"{name} is now {places[name]}" for name in sorted(places))  # as YAML is dumped
    with pytest.raises(InputError) as caught:
        check(tmp_path, Train())
    file = tmp_path / "config.yaml"
    begins = f"{file}: was written by an earlier version; these options have moved: "
    assert str(caught.value) == f"{begins}{told}; move them, or start anew"


def test_what_has_moved_in_a_split() -> None:
    old = {
        "mazes": {"per_step": 8},
        "warmup_steps": 9,
        "warmup_lr": 0.1,
        "lr": 1e-5,
        "prompts": "a.jsonl",
        "model": None,
    }
    assert moved(old, Split, RENAMED) == {
        "mazes.per_step": "warm_start.per_step",  # renamed to what this command has in a group
        "warmup_steps": "warm_start.steps",
        "warmup_lr": "warm_start.optimizer.lr",
        "lr": "optimizer.lr",  # and not the one further in
        "prompts": "prompts.file",
        "model": "model.folder",
    }


def test_what_is_where_it_belongs_has_not_moved() -> None:
    for config in (Train, Split):
        values = asdict(config())
        assert moved(values, config, RENAMED) == {}
        check_moved(Path("config.yaml"), values, config, RENAMED)
    assert moved({"name": "x"}, Split) == {}  # optimizer.name, or warm_start.name?
    assert moved({"depth": 3, "mazes": 3, "mazes.layers": 3, "warmup_steps": 3}, Train, RENAMED) == {}


LAUGHS = b"a: &a [1]\n" + b"".join(b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 10)) for c in b"bcdef")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"a: 1\na: 2\n", "cannot be read as YAML: .*a is given twice"),
        (b"a: &a [*a]", "nested too deeply, or holds itself"),
        (b"[" * 5000, "nested too deeply, or holds itself"),
        (b"a: !!python/object:os.system {}", "cannot be read as YAML"),
        (b"# " + b"x" * 2**20, "options take less than"),
        (b"3", "holds no options"),
        (LAUGHS, "its aliases stand for more than"),
    ],
)
def test_yaml_that_holds_no_options(tmp_path: Path, text: bytes, says: str) -> None:
    (tmp_path / "x.yaml").write_bytes(text)
    with pytest.raises(InputError, match=says) as caught:
        read_yaml(tmp_path / "x.yaml")
    assert "\n" not in str(caught.value)


def test_a_config_is_written_as_it_is_read(tmp_path: Path) -> None:
    config = Split(out="here", mazes=Mazes(sizes=[(3, 4), 5]), rule_options={"top": 3})
    write_config(tmp_path / "config.yaml", config)
    values = read_yaml(tmp_path / "config.yaml")
    assert "out" not in values and values["mazes"]["sizes"] == [[3, 4], 5]
    assert flat(values, Split) | {"out": "here"} == flat(asdict(config), Split)
