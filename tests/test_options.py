"""Options as people and files give them: what they mean, or one line that names the file, the option and the value."""

from pathlib import Path

import pytest

from clew.config import (
    EvalConfig,
    MazeConfig,
    PlanConfig,
    SolveConfig,
    SplitConfig,
    TrainConfig,
    check_values,
)
from clew.errors import InputError
from clew.options import instance, parser_of, run_config


def given(*args: str) -> TrainConfig:
    return run_config("train", TrainConfig, "", list(args))[0]


def refused(*args: str) -> str:
    with pytest.raises(InputError) as caught:
        given(*args)
    line = str(caught.value)
    assert "\n" not in line and len(line) < 700
    return line


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mazes: 3", "mazes: 3 is no mapping"), ("mazes: null", "mazes: null is no mapping"),
        ("mazes: [4]", "mazes: [4] is no mapping"), ("mazes: words", "mazes: words is no mapping"),
        ("mazes:", "mazes: null is no mapping"), ("mazes: {sizes: null}", "mazes.sizes: null"),
        ("resume: runs/x", "resume: is given on the command line"), ("resume:", "resume: is given on the command"),
        ("config: more.yaml", "config: is given on the command line"), ("seed: null", "seed"),
        ("1: 2", "1: is no name of an option"), ("mazes: {1: 2}", "mazes.1: is no name"),
        ("2020-01-01: 2", "is no name of an option"), ("null: 2", "is no name of an option"),
        ("seed: 2020-01-01", "seed: 2020-01-01 is not a whole number"), ("- lr: 3", "a YAML mapping was expected"),
        ("words", "a YAML mapping was expected"), ("lr: 1\nlr: 2", "lr is given twice"),
        ("mazes: {p: 0.1, p: 0.2}", "p is given twice"), ("a: &a [*a]", "nested too deeply, or holds itself"),
        ("a: &a {b: *a}", "nested too deeply, or holds itself"), ("a: " + "[" * 5000, "nested too deeply"),
        ("seed: " + "9" * 5000, "cannot be read as YAML"), ("seed: 0x" + "f" * 5000, "seed: a number of 20000 bits"),
        ("lr: .nan", "lr: nan is not a finite number"), ("weight_decay: -.inf", "weight_decay: -inf is not"),
        ("seed: -1", "seed: -1 is not between 0 and 2^63 - 1"), ("seed: 18446744073709551616", "seed: a number of 65"),
        ("seed: 9223372036854775808", "seed: a number of 64 bits"), ('out: "a\\0b"', "out: 'a\\x00b' holds a NUL"),
        ('model: "\\0"', "model: '\\x00' holds a NUL"), ("? [1, 2]\n: 3", "cannot be read as YAML"),
        ("!!python/object:os.system x", "cannot be read as YAML"), ("lr: 1\n---\nlr: 2", "cannot be read as YAML"),
        ("lr: !!float x", "cannot be read as YAML"), ("mazes: !!set {a}", "mazes: {'a'} is no mapping"),
    ],
)  # fmt: skip
def test_files_of_another_shape(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "options.yaml"
    file.write_text(text)
    assert says in refused("--config", str(file))


def test_a_bomb_of_aliases_and_a_file_without_end(tmp_path: Path) -> None:
    file = tmp_path / "bomb.yaml"
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    file.write_text("\n".join(lines))
    assert "its aliases stand for more than" in refused("--config", str(file))
    assert "/dev/zero: is not a file" in refused("--config", "/dev/zero")
    file.write_text("# " + "x" * 2**21)
    assert "options take less than" in refused("--config", str(file))


def test_yaml_that_is_right(tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text("\ufefflr: &rate 0.5\nweight_decay: *rate\nmazes: {<<: {p: 0.3}, sizes: [3, [2, 4]]}\n")
    config = given("--config", str(file), "--seed", str(2**63 - 1))
    assert (config.lr, config.weight_decay, config.seed) == (0.5, 0.5, 2**63 - 1)
    assert config.mazes == MazeConfig(sizes=[3, (2, 4)], p=0.3)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--mazes", "3"], "mazes: 3 is no mapping"), (["--mazes", "null"], "mazes: null is no mapping"),
        (["--mazes", "[4]"], "mazes: [4] is no mapping"), (["--lr", "nan"], "lr: nan is not a finite number"),
        (["--lr", "inf"], "lr: inf is not a finite number"), (["--weight-decay", "nan"], "weight"),
        (["--minutes", "inf"], "minutes: inf"), (["--seed", "-1"], "seed: -1"), (["--seed", "1e3"], "seed: 1000.0"),
        (["--seed", "9" * 5000], "seed"), (["--out", "a\0b"], "NUL"), (["--resume", "a\0b"], "resume: 'a\\x00b'"),
        (["--config", "a\0b"], "NUL"), (["--out", "\ud800"], "no UTF-8"), (["--out", "\udc80"], "no UTF-8"),
        (["--re", "runs/x"], "re: there is no such option"), (["--conf", "x"], "conf: there is no such option"),
        (["--lr", "[" * 5000], "lr: "), (["--mazes.sizes", "null"], "mazes.sizes"), (["--steps", "true"], "steps"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be(args: list[str], says: str) -> None:
    assert says in refused(*args)


@pytest.mark.parametrize("config", [TrainConfig, SplitConfig, EvalConfig, SolveConfig])
@pytest.mark.parametrize("value", [-1, 2**63, 2**64, 10**30])
def test_seeds_of_every_command(config: type, value: int) -> None:
    parser = parser_of("any", config, "")
    model = ["folder"] if "model" in config.__dataclass_fields__ and config in (EvalConfig, SolveConfig) else []
    with pytest.raises(InputError, match="seed: "):
        instance(parser, config, parser.parse_args([*model, "--seed", str(value)]))


def test_values_are_checked_wherever_they_stand() -> None:
    for config, says in (
        (TrainConfig(MazeConfig(p=float("nan"))), "mazes.p: nan"), (SplitConfig(kl=float("inf")), "kl: inf"),
        (TrainConfig(muon_scale=1e300), "muon_scale: 1e\\+300 is out of range"),
        (SplitConfig(rule_options={"a": [float("nan")]}), "rule_options: nan"),
        (SplitConfig(grader=["a\0:b"]), "grader: 'a\\\\x00:b' holds a NUL"), 
        (PlanConfig(budget=float("nan")), "budget"),
        (SplitConfig(delimiters=("\ud800", "b")), "delimiters: '\\\\ud800' is no UTF-8"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=says):
            check_values(config)
    check_values(SplitConfig(rule_options={"top": None, "keep": 0.5}, kl=0.0, max_thought=None))


@pytest.mark.parametrize("option", ["out", "model", "track"])
def test_an_empty_text_is_refused(option: str) -> None:
    assert refused(f"--{option}", "").startswith(f"{option}: the text is empty")


def test_a_pair_of_texts_is_called_one() -> None:
    with pytest.raises(InputError, match=r"delimiters: .* is not a pair of texts like \[a, b\]"):
        run_config("split", SplitConfig, "", ["--delimiters", "[a]"])
