"""What was trained is opened as it was trained."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from clew.config import MazeConfig, WorldConfig
from clew.errors import InputError
from clew.policy import Policy
from clew.rollout.sampler import SharedPrefixSampler
from clew.runs.options import read_yaml
from clew.train.opening import opened, run_options
from clew.train.rounds import split
from clew.train.supervised import train
from small import split_config, train_config

THREE = WorldConfig(mazes=MazeConfig(sizes=[3]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "train"
    train(train_config(out, steps=1, validate_every=0))
    return out


def policy_of(sampler: object) -> Policy:
    assert isinstance(sampler, SharedPrefixSampler)
    return sampler.policy


def attention_of(sampler: object) -> str:
    return policy_of(sampler).attention


def test_a_run_answers_directly_and_reads_as_it_was_trained_unless_told_otherwise(
    trained: Path, tmp_path: Path
) -> None:
    world, reasoner = opened(trained, THREE)
    assert reasoner.shoggoth is None and attention_of(reasoner.face) == "trees" and len(world.held_out([0])) == 1
    rows = shutil.copytree(trained, tmp_path / "rows")
    values = read_yaml(rows / "config.yaml")
    values["model"]["attention"] = "rows"
    (rows / "config.yaml").write_text(yaml.safe_dump(values))
    assert attention_of(opened(rows, THREE)[1].face) == "rows"
    assert attention_of(opened(rows, THREE, attention="trees")[1].face) == "trees"
    assert attention_of(opened(rows / "model", THREE)[1].face) == "trees"


@pytest.mark.parametrize("policies", ["two", "one", "adapters"])
def test_a_splits_run_thinks_as_it_did(tmp_path: Path, policies: str) -> None:
    if policies == "adapters":
        pytest.importorskip("peft")
    out = tmp_path / "split"
    few = {"rounds": 0, "warm_start__steps": 2, "final_questions": 2, "max_thought": 5, "max_answer": 4}
    split(split_config(out, policies=policies, face_sees="thought", paraphraser="copy", **few))
    world, reasoner = opened(out, THREE)
    assert reasoner.face_sees == "thought" and reasoner.paraphrase is not None
    made = reasoner.rollouts(world, world.held_out([0, 1]))[0]
    assert len(made.thoughts[0].tokens) <= 5 and len(made.answers[0][0].tokens) <= 4
    assert made.read[0].chain()[0].role == "thought"
    assert str(policy_of(reasoner.face).model.name_or_path).endswith("shoggoth" if policies == "one" else "face")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"paraphraser": "all"}, "paraphraser: 'all' is not one of copy"),
        ({"paraphraser": 3}, "paraphraser, rewriter: 3"),
        ({"paraphrase": "words"}, "paraphrase: 'words' is not one of"),
        ({"paraphrase_at": "never"}, "paraphrase_at: 'never' is not one of"),
        ({"paraphrase": "line"}, "paraphrase: line needs thoughts with lines"),
        ({"rewriter": {"versions": "four"}}, "paraphraser, rewriter: 'copy'"),
        (
            {"paraphraser": "model:nowhere", "rewriter": {"template": "again"}},
            "rewriter.template: 'again' has no {text}",
        ),
        ({"paraphraser": "copy", "time_limit": "long"}, "paraphraser, rewriter: 'copy'"),
    ],
)
def test_a_paraphrase_that_somebody_wrote_into_a_run(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    out = tmp_path / "split"
    few = {"rounds": 0, "warm_start__steps": 0, "final_questions": 2}
    split(split_config(out, paraphraser="copy", **few))
    values = yaml.safe_load((out / "config.yaml").read_text())
    (out / "config.yaml").write_text(yaml.safe_dump(values | changes))
    with pytest.raises(InputError) as error:
        opened(out, THREE)
    assert str(error.value).startswith(f"{out}/config.yaml: ") and says in str(error.value)
    (out / "config.yaml").write_text(yaml.safe_dump(values | changes | {"paraphraser": None}))
    if "paraphraser" in changes or "rewriter" in changes:
        assert opened(out, THREE)[1].paraphrase is None  # what nothing asks for is not looked at


def test_what_cannot_be_opened(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        opened(tmp_path / "nowhere", THREE)
    with pytest.raises(InputError, match=r"mazes.sizes: 5 is more than this model knows"):
        opened(trained, WorldConfig(mazes=MazeConfig(sizes=[5])))
    torn = shutil.copytree(trained, tmp_path / "torn")
    shutil.rmtree(torn / "model")
    with pytest.raises(InputError, match="is a run that has no model yet"):
        opened(torn, THREE)
    (torn / "config.yaml").write_text("layers: 2\n")
    with pytest.raises(InputError, match=r"layers is now model\.layers"):
        run_options(torn)
    assert run_options(tmp_path) == {}
