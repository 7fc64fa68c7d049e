"""The zoo: every model that comes with the package opens offline and does what its card says."""

import importlib
import json
import math
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from clew import zoo
from clew.cli.main import main
from clew.config import MazeConfig, WorldConfig
from clew.errors import InputError
from clew.policy import Policy, model_folder
from clew.runs.intervals import is_rate
from clew.runs.options import read_yaml
from clew.train.evaluate import evaluate, held_out
from clew.train.opening import opened
from clew.train.rounds import split
from clew.train.supervised import train
from clew.train.team import role_folder
from small import metrics, split_config, train_config

torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
NAMES = zoo.names()
ASKED = 48


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo of one's own: a folder for `NAME/eval.json` and all else."""
    here = tmp_path / "zoo"
    here.mkdir()
    monkeypatch.setattr(zoo, "HERE", here)
    return here


def kept(own: Path, *names: str) -> None:
    for name in names:
        (own / name).mkdir()
        (own / name / "eval.json").write_text(json.dumps({"name": name}))


def test_there_are_models() -> None:
    assert NAMES


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_in_float32_whatever_its_file_holds(name: str) -> None:
    policy = Policy.load(f"zoo:{name}")
    assert {p.dtype for p in policy.model.parameters()} == {torch.float32}
    model = model_folder(f"zoo:{name}")
    assert model.parent == zoo.folder(name)
    with safe_open(model / "model.safetensors", "pt") as tensors:
        assert {tensors.get_tensor(key).dtype for key in tensors.keys()} == {torch.float16}  # noqa: SIM118
    assert AutoModelForCausalLM.from_pretrained(model).dtype == torch.float32
    assert zoo.card(name)["parameters"] == sum(p.numel() for p in policy.model.parameters())
    assert Policy.load(f"zoo:{name}", torch.bfloat16).model.dtype == torch.bfloat16


@pytest.mark.parametrize("name", NAMES)
def test_it_solves_as_many_mazes_as_its_card_says(name: str) -> None:
    card = zoo.card(name)
    config = WorldConfig(mazes=MazeConfig(**read_yaml(zoo.folder(name) / "config.yaml")["mazes"]))
    world, reasoner = opened(Path(f"zoo:{name}"), config)
    questions = held_out(world, ASKED)
    exact = evaluate(world, reasoner, questions, [])[0]["exact"]["value"]
    said = card["exact"]["value"]
    assert abs(exact - said) < 4 * math.sqrt(said * (1 - said) / ASKED) + 0.05


@pytest.mark.parametrize("name", NAMES)
def test_its_card_says_what_it_is(name: str) -> None:
    card: dict[str, Any] = zoo.card(name)
    assert card["name"] == name and is_rate(card["exact"], card["questions"])
    assert abs(card["exact"]["value"] - card["whole"]["exact"]) <= 0.002
    assert card["sizes"] and card["by_size"] and card["by_lookahead"] and card["baseline"]["exact"]
    made = card["trained"]
    assert made["command"].startswith(("clew train ", "clew split ")) and made["steps"] > 0 < made["minutes"]
    assert {"torch", "transformers"} <= made["versions"].keys() and made["machine"]
    text = (model_folder(f"zoo:{name}") / "README.md").read_text(encoding="utf-8")
    assert f'Policy.load("zoo:{name}")' in text and made["command"] in text and "| lookahead |" in text
    assert str(ROOT) not in text + (zoo.folder(name) / "config.yaml").read_text() + json.dumps(card)


def test_they_are_small() -> None:
    sizes = [sum(file.stat().st_size for file in zoo.folder(name).rglob("*")) for name in NAMES]
    assert max(sizes) < 3_500_000 and sum(sizes) < 25_000_000


def test_the_package_holds_all_of_them() -> None:
    globs = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["clew"]
    packed = {file for glob in globs for file in (ROOT / "src" / "clew").glob(glob)}
    assert packed >= {file for name in NAMES for file in zoo.folder(name).rglob("*") if file.is_file()}


def test_a_model_that_thinks_is_put_and_opened(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limits: dict[str, Any] = {"max_thought": 12, "final_questions": 4}
    run = tmp_path / "run"
    split(split_config(run, policies="one", rounds=0, warm_start__steps=5, **limits))
    monkeypatch.syspath_prepend(ROOT / "bench")
    bench = importlib.import_module("zoo")
    monkeypatch.setattr(bench, "MOST_APART", 1.0)
    bench.put("thinker", run, 10)
    for name in ("zoo", "measure", "plots"):
        sys.modules.pop(name, None)
    card = zoo.card("thinker")
    assert card["loss"] == "thought and path" and card["trained"]["command"].startswith("clew split --config")
    assert card["trained"]["steps"] == 5 and is_rate(card["exact"], card["questions"])
    policy = Policy.load("zoo:thinker")
    assert model_folder("zoo:thinker") == own / "thinker" / "shoggoth"
    _, reasoner = opened(own / "thinker", WorldConfig(mazes=MazeConfig(sizes=[3])))
    assert reasoner.shoggoth is not None
    theirs = Policy.load(run, torch.float16).model.state_dict()
    assert all(torch.equal(value, theirs[key].float()) for key, value in policy.model.state_dict().items())
    main(["solve", "zoo:thinker"])
    assert "thought" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    main(["audit", "zoo:thinker", "--questions", "10", "--thoughts", "2", "--measures", "[necessity]"])
    assert (tmp_path / "runs" / "audit-zoo-thinker" / "audit.json").is_file() and not (
        own / "thinker" / "audit.json"
    ).exists()
    main(["view", "zoo:thinker", "--out", str(tmp_path / "page.html")])
    assert "thinker" in (tmp_path / "page.html").read_text()


def test_a_split_of_two_is_refused_as_a_model_and_told_where_the_two_are(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("shoggoth", "face"):
        (tmp_path / "run" / name).mkdir(parents=True)
    with pytest.raises(InputError, match=r"model: \S+run holds two, of a split; expected \S+shoggoth or \S+face"):
        model_folder(tmp_path / "run")
    shutil.copy(ROOT / "examples" / "split.yaml", tmp_path / "run" / "config.yaml")
    monkeypatch.syspath_prepend(ROOT / "bench")
    monkeypatch.setattr(sys, "argv", ["zoo", "two", "--from", str(tmp_path / "run")])
    with pytest.raises(SystemExit, match="clew bench zoo: "):
        importlib.import_module("zoo").main()
    for name in ("zoo", "measure", "plots"):
        sys.modules.pop(name, None)
    assert "Traceback" not in capsys.readouterr().err and not zoo.names()


def test_training_goes_on_from_one(tmp_path: Path) -> None:
    start = f"zoo:{NAMES[0]}"
    train(train_config(tmp_path / "run", model__folder=start, steps=1, validate_every=0))
    assert len(metrics(tmp_path / "run")) == 1
    assert read_yaml(tmp_path / "run" / "config.yaml")["model"]["folder"] == start
    with safe_open(tmp_path / "run" / "model" / "model.safetensors", "pt") as tensors:
        assert tensors.get_tensor("model.norm.weight").dtype == torch.float32


def test_names_go_by_their_length_and_unfinished_ones_are_none(own: Path) -> None:
    kept(own, "10x10", "6x6", "4x4", ".8x8.part")
    (own / "__pycache__").mkdir()
    assert zoo.names() == ["4x4", "6x6", "10x10"] and zoo.card("6x6") == {"name": "6x6"}


def test_a_name_that_is_not_there_is_told_the_three_nearest(own: Path) -> None:
    with pytest.raises(InputError, match=r"^model: 'zoo:6x7' is not in the zoo; this package holds no models"):
        zoo.folder("6x7")
    kept(own, "10x10", "6x6", "4x4", "7x7")
    for ask in (
        zoo.folder,
        zoo.card,
        lambda name: Policy.load(f"zoo:{name}"),
        lambda name: zoo.resolved(f"zoo:{name}"),
    ):
        with pytest.raises(InputError, match=r"^model: 'zoo:6x7' is not in the zoo; nearest: 7x7, 6x6, \S+ \(clew zoo"):
            ask("6x7")


def test_the_prefix_wins(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(own, "4x4")
    shutil.copytree(own / "4x4", tmp_path / "zoo:4x4" / "face")
    monkeypatch.chdir(tmp_path)
    for name in ("zoo:4x4", Path("zoo:4x4")):
        assert zoo.resolved(name) == own / "4x4" and zoo.is_zoo(name)
    assert role_folder("zoo:4x4", "face") == str(own / "4x4")
    assert zoo.resolved(tmp_path / "zoo:4x4") == tmp_path / "zoo:4x4"
    for name in ("", "../4x4", "4x4/", "4X4"):
        with pytest.raises(InputError):
            zoo.resolved(f"zoo:{name}")
