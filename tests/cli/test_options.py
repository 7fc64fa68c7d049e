"""Options as people and files give them: what they mean, or one line that names the file, the option and the value."""

import ast
import inspect
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from clew.cli.audit import AuditConfig
from clew.cli.eval import MODEL, AskConfig, EvalConfig
from clew.cli.options import in_full, instance, parser_of, run_config
from clew.cli.plan import PlanConfig
from clew.cli.solve import SolveConfig
from clew.config import MazeConfig, OptimizerConfig, PromptConfig, check_values
from clew.errors import InputError
from clew.runs.options import groups_of, names_of
from clew.train.config import ObjectiveConfig, SplitConfig, TrainConfig


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
        ("mazes: 3", "mazes: 3 is no mapping"),
        ("mazes: null", "mazes: null is no mapping"),
        ("mazes: [4]", "mazes: [4] is no mapping"),
        ("mazes: words", "mazes: words is no mapping"),
        ("mazes:", "mazes: null is no mapping"),
        ("mazes: {sizes: null}", "mazes.sizes: null"),
        ("resume: runs/x", "resume: is given on the command line"),
        ("resume:", "resume: is given on the command"),
        ("config: more.yaml", "config: is given on the command line"),
        ("seed: null", "seed"),
        ("1: 2", "1: is no name of an option"),
        ("mazes: {1: 2}", "mazes.1: is no name"),
        ("2020-01-01: 2", "is no name of an option"),
        ("null: 2", "is no name of an option"),
        ("seed: 2020-01-01", "seed: 2020-01-01 is not a whole number"),
        ("- lr: 3", "a YAML mapping was expected"),
        ("words", "a YAML mapping was expected"),
        ("lr: 1\nlr: 2", "lr is given twice"),
        ("mazes: {p: 0.1, p: 0.2}", "p is given twice"),
        ("a: &a [*a]", "nested too deeply, or holds itself"),
        ("a: &a {b: *a}", "nested too deeply, or holds itself"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("seed: " + "9" * 5000, "cannot be read as YAML"),
        ("seed: 0x" + "f" * 5000, "seed: a number of 20000 bits"),
        ("optimizer: {lr: .nan}", "optimizer.lr: nan is not a finite number"),
        ("optimizer: {weight_decay: -.inf}", "optimizer.weight_decay: -inf is not"),
        ("seed: -1", "seed: -1 is not between 0 and 2^63 - 1"),
        ("seed: 18446744073709551616", "seed: a number of 65"),
        ("seed: 9223372036854775808", "seed: a number of 64 bits"),
        ('out: "a\\0b"', "out: 'a\\x00b' holds a NUL"),
        ('model: {folder: "\\0"}', "model.folder: '\\x00' holds a NUL"),
        ("? [1, 2]\n: 3", "cannot be read as YAML"),
        ("!!python/object:os.system x", "cannot be read as YAML"),
        ("lr: 1\n---\nlr: 2", "cannot be read as YAML"),
        ("lr: !!float x", "cannot be read as YAML"),
        ("optimizer: {lrr: 1}", "optimizer.lrr: there is no such option; did you mean optimizer.lr?"),
        ("optimzer: {lr: 1}", "optimzer.lr: there is no such option; did you mean optimizer.lr?"),
        ("optimizer: {lr: fast}", "optimizer.lr: fast is not a finite number"),
        ("mazes: !!set {a}", "mazes: {'a'} is no mapping"),
    ],
)
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
    file.write_text(
        "\ufeffoptimizer: {lr: &rate 0.5, weight_decay: *rate}\nmazes: {<<: {p: 0.3}, sizes: [3, [2, 4]]}\n"
    )
    config = given("--config", str(file), "--seed", str(2**63 - 1))
    assert (config.optimizer.lr, config.optimizer.weight_decay, config.seed) == (0.5, 0.5, 2**63 - 1)
    assert config.mazes == MazeConfig(sizes=[3, (2, 4)], p=0.3)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--mazes", "3"], "mazes.sizes: 3 is not a list"),
        (["--mazes", "null"], "mazes.sizes: "),
        (["--mazes", "{sizes: null}"], "mazes.sizes: "),
        (["--mazes", "{colour: red}"], "mazes.colour: there is no such"),
        (["--mazes", "{sizes: [4"], "mazes: {sizes: [4 is no mapping"),
        (["--lr", "nan"], "optimizer.lr: nan is not a finite number"),
        (["--optimizer", "{lr: fast}"], "optimizer.lr: fast is not a finite number"),
        (["--optimizer", "sgd"], "optimizer.name: sgd is not one of adamw, muon"),
        (["--optimizer.lrr", "1"], "optimizer.lrr: there is no such option; did you mean optimizer.lr?"),
        (["--wieght-decay", "1"], "wieght_decay: there is no such option; did you mean optimizer.weight_decay?"),
        (["--stpes", "1"], "stpes: there is no such option; did you mean steps?"),
        (["--lr", "inf"], "optimizer.lr: inf is not a finite number"),
        (["--weight-decay", "nan"], "weight"),
        (["--minutes", "inf"], "minutes: inf"),
        (["--seed", "-1"], "seed: -1"),
        (["--seed", "1e3"], "seed: 1000.0"),
        (["--seed", "9" * 5000], "seed"),
        (["--out", "a\0b"], "NUL"),
        (["--resume", "a\0b"], "resume: 'a\\x00b'"),
        (["--config", "a\0b"], "NUL"),
        (["--out", "\ud800"], "no UTF-8"),
        (["--out", "\udc80"], "no UTF-8"),
        (["--re", "runs/x"], "re: there is no such option"),
        (["--conf", "x"], "conf: there is no such option"),
        (["--lr", "[" * 5000], "lr: "),
        (["--mazes.sizes", "null"], "mazes.sizes"),
        (["--steps", "true"], "steps"),
    ],
)
def test_arguments_that_cannot_be(args: list[str], says: str) -> None:
    assert says in refused(*args)


@pytest.mark.parametrize("config", [TrainConfig, SplitConfig, EvalConfig, SolveConfig])
@pytest.mark.parametrize("value", [-1, 2**63, 2**64, 10**30])
def test_seeds_of_every_command(config: type, value: int) -> None:
    asks = issubclass(config, AskConfig)
    parser = parser_of("any", config, "", MODEL if asks else "")
    with pytest.raises(InputError, match="seed: "):
        instance(parser, config, parser.parse_args([*["folder"] * asks, "--seed", str(value)]))


def test_values_are_checked_wherever_they_stand() -> None:
    for config, says in (
        (TrainConfig(mazes=MazeConfig(p=float("nan"))), "mazes.p: nan"),
        (SplitConfig(objective=ObjectiveConfig(kl=float("inf"))), "objective.kl: inf"),
        (TrainConfig(optimizer=OptimizerConfig(muon_scale=1e300)), "muon_scale: 1e\\+300 is out of range"),
        (SplitConfig(rule_options={"a": [float("nan")]}), "rule_options: nan"),
        (SplitConfig(grader=["a\0:b"]), "grader: 'a\\\\x00:b' holds a NUL"),
        (PlanConfig(budget=float("nan")), "budget"),
        (SplitConfig(prompts=PromptConfig(delimiters=("\ud800", "b"))), "delimiters: '\\\\ud800' is no UTF-8"),
    ):
        with pytest.raises(InputError, match=says):
            check_values(config)
    check_values(SplitConfig(rule_options={"top": None, "keep": 0.5}, max_thought=None))


@pytest.mark.parametrize(("option", "name"), [("out", "out"), ("model", "model.folder"), ("track", "track")])
def test_an_empty_text_is_refused(option: str, name: str) -> None:
    assert refused(f"--{option}", "").startswith(f"{name}: the text is empty")


def test_a_pair_of_texts_is_called_one() -> None:
    with pytest.raises(InputError, match=r"delimiters: .* is not a pair of texts like \[a, b\]"):
        run_config("split", SplitConfig, "", ["--delimiters", "[a]"])


@pytest.mark.parametrize(
    ("args", "means"),
    [
        (["--lr", "1"], ["--optimizer.lr", "1"]),
        (["--lr=1"], ["--optimizer.lr=1"]),
        (["--optimizer.lr", "1"], ["--optimizer.lr", "1"]),
        (["--weight-decay=1"], ["--optimizer.weight_decay=1"]),
        (["--weight_decay=1"], ["--optimizer.weight_decay=1"]),
        (["--layers", "2"], ["--model.layers", "2"]),
        (["--sizes+", "3"], ["--mazes.sizes+", "3"]),
        (["--file", "a"], ["--prompts.file", "a"]),
        (["--model", "a-b"], ["--model.folder", "a-b"]),
        (["--model=--layers"], ["--model.folder=--layers"]),
        (["--model"], ["--model.folder"]),
        (["--optimizer", "muon"], ["--optimizer.name", "muon"]),
        (["--optimizer={name: muon}"], ["--optimizer={name: muon}"]),
        (["--objective", "clipped"], ["--objective.name", "clipped"]),
        (["--prompts", "a.jsonl"], ["--prompts.file", "a.jsonl"]),
        (["--mazes", "[3, 4]"], ["--mazes.sizes", "[3, 4]"]),
        (["--mazes", " {sizes: [3]}"], ["--mazes", " {sizes: [3]}"]),
        (["--warm-start.lr", "1"], ["--warm_start.lr", "1"]),  # there is none of that name
        (["--warm-start", "5"], ["--warm_start.steps", "5"]),
        (["--warm-start.optimizer", "muon"], ["--warm_start.optimizer.name", "muon"]),
        (["--rule-options.top", "3", "-h", "word"], ["--rule_options.top", "3", "-h", "word"]),
        (["--name", "pair"], ["--objective.name", "pair"]),  # the first of the least nested
    ],
)
def test_short_names(args: list[str], means: list[str]) -> None:
    assert in_full(args, SplitConfig) == means


def test_short_names_reach_the_config(tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text("optimizer: {lr: 0.5, clip: 3}\n")
    config = given(
        "--config",
        str(file),
        "--optimizer",
        "muon",
        "--lr=0.25",
        "--mazes",
        "[3]",
        "--mazes",
        "{p: 0.5}",
        "--model",
        "m",
    )
    assert config.optimizer == OptimizerConfig("muon", lr=0.25, clip=3.0)
    assert config.mazes == MazeConfig([3], p=0.5) and config.model.folder == "m"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("probe_every", "validate_every"),
        ("eval_mazes", "final_questions"),
        ("adjacency_weight", "prompt_weight"),
        ("mazes.per_step", "per_step"),
    ],
)
def test_names_of_earlier_versions_on_the_command_line(old: str, new: str) -> None:
    assert refused(f"--{old.replace('_', '-')}", "3") == f"{old}: is now called {new}"
    assert refused(f"--{old}=3") == f"{old}: is now called {new}"


def test_a_config_of_an_earlier_version_says_what_has_moved(tmp_path: Path) -> None:
    old = "mazes: {sizes: [3], per_step: 16}\nlayers: 2\noptimizer: muon\nmodel: null\nlr: 0.1\nprobe_every: 5\n"
    (tmp_path / "config.yaml").write_text(old)
    moves = {
        "mazes.per_step": "per_step",
        "layers": "model.layers",
        "optimizer": "optimizer.name",
        "model": "model.folder",
        "lr": "optimizer.lr",
        "probe_every": "validate_every",
    }
    for args in (["--config", str(tmp_path / "config.yaml")], ["--resume", str(tmp_path)]):
        line = refused(*args)
        assert line.startswith(f"{tmp_path}/config.yaml: was written by an earlier version")
        assert all(f"{old} is now {new}" in line for old, new in moves.items()), line


def documented(config: type) -> dict[str, str]:
    """What a config's source says below each of its fields, by dotted names."""
    docs: dict[str, str] = {}
    for one in reversed(config.__mro__[:-1]):
        body = ast.parse(inspect.getsource(one).lstrip()).body[0].body  # type: ignore[attr-defined]
        for line, after in pairwise(body):
            if isinstance(line, ast.AnnAssign) and isinstance(after, ast.Expr):
                docs[line.target.id] = after.value.value  # type: ignore[union-attr, attr-defined]
    for name, group in groups_of(config).items():
        docs |= {f"{name}.{inner}": text for inner, text in documented(group).items()}
    return docs


def unexplained(config: type, positional: str = "") -> list[str]:
    """The options of a parser whose help is not what their own docstrings say, and groups without a heading."""
    parser, docs = parser_of("any", config, "", positional), documented(config)
    said = {action.dest: " ".join((action.help or "").split()) for action in parser._actions}
    wrong = [name for name in names_of(config) if not said[name] or said[name] != docs.get(name, positional)]
    titles = {group.title for group in parser._action_groups}
    groups = {"": config} | groups_of(config)
    heads = {docs.get(name) or str(group.__doc__).split("\n")[0].rstrip(".") for name, group in groups.items()}
    return wrong + sorted(heads - titles)


@dataclass
class Inner:
    """A group."""

    dull: int = 1
    told: int = 1
    """that is said"""


@dataclass
class Dull:
    """Somebody's options."""

    inner: Inner = field(default_factory=Inner)
    silent: int = 0
    clear: int = 0
    """clear enough"""


def test_what_is_not_explained_is_found() -> None:
    assert unexplained(Dull) == ["inner.dull", "silent"]


@pytest.mark.parametrize("config", [TrainConfig, SplitConfig, EvalConfig, SolveConfig, AuditConfig, PlanConfig])
def test_every_option_is_explained(config: type) -> None:
    assert len(names_of(config)) > 5
    assert unexplained(config, MODEL if issubclass(config, AskConfig) else "") == []


def test_every_option_of_a_study_is_explained() -> None:
    from clew.study.grid import TabularConfig
    from clew.study.mazes import MazeStudyConfig

    assert unexplained(TabularConfig) == unexplained(MazeStudyConfig) == []


def test_every_option_of_a_page_is_explained() -> None:
    from clew.cli.view import ViewConfig

    assert unexplained(ViewConfig) == []


def test_help_says_how_options_are_shortened() -> None:
    said = " ".join(parser_of("split", SplitConfig, "about this").format_help().split())
    assert "--generators is --mazes.generators" in said and "--mazes VALUE is --mazes.sizes VALUE" in said
    assert "--objective.clip-ratio" in said and "_every" not in said
    assert "shortened" not in parser_of("plan", PlanConfig, "").format_help()
