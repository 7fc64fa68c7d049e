"""`clew read`, on a model of the zoo."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import MistralConfig, MistralForCausalLM

from clew.cli.main import main
from clew.mazes import maze_tokenizer
from clew.policy import Policy
from clew.read.reading import PARTS, load_reading
from cli.conftest import Fails
from models import MAKERS, shaken

FEW = ("--pairs", "12", "--questions", "300", "--seed", "3")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("read") / "read"
    assert main(["read", "zoo:4x4", *FEW, "--out", str(folder)]) == 0
    return folder


def test_tables_and_pictures_are_written(out: Path) -> None:
    about, tables = load_reading(out)
    assert about["model"] == "zoo:4x4" and about["options"]["pairs"] == 12 and about["options"]["size"] == [4, 4]
    assert about["command"].startswith("clew")
    few = {name for name, table in tables.items() if not table.num_rows}
    assert few <= {"arrival", "knockouts"}  # of 12 pairs there are too few at any distance
    assert {"residual", "heads", "attention", "ablation", "attribution", "probes", "hops"} <= set(tables)
    assert {"residual.png", "attention.png", "attribution.png", "probes.png"} <= {
        one.name for one in (out / "plots").iterdir()
    }
    assert all((one.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n") for one in (out / "plots").iterdir())


def test_some_parts_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "one"
    args = ["read", "zoo:4x4", "--parts", "[attribution]", "--size", "3", *FEW, "--out", str(folder), "--json"]
    capsys.readouterr()
    assert main(args) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((folder / "readings" / "reading.json").read_text())
    assert list(printed["tables"]) == ["attribution"] and printed["options"]["size"] == [3, 3]


@pytest.mark.slow(reason="whole readings of what tests/read does for each architecture, part by part")
@pytest.mark.parametrize("kind", ["qwen3", "gpt2", "neox", "neox-serial"])
def test_whole_readings_of_other_architectures(kind: str, out: Path, tmp_path: Path) -> None:
    tokenizer = maze_tokenizer(4)
    Policy(shaken(kind, len(tokenizer)).float(), tokenizer).save(tmp_path / kind)
    args = ["read", str(tmp_path / kind), "--mazes.max_size", "4", "--size", "4", *FEW, "--out", str(tmp_path / "read")]
    assert main(args) == 0
    tables, wanted = load_reading(tmp_path / "read")[1], load_reading(out)[1]
    assert tables.keys() == wanted.keys()
    first = {row["place"]: row["effect"] for row in tables["residual"].to_pylist() if row["layer"] == 0}
    # shares of a difference of logits that is small in a model which has learnt nothing: float32 leaves five digits
    assert first["target"] == pytest.approx(1, abs=1e-4) and first["fork"] == pytest.approx(0, abs=1e-4)
    logits: dict[str, list[float]] = {"all": [], "parts": []}
    for row in tables["attribution"].to_pylist():
        logits["all" if row["component"] == "all" else "parts"].append(row["logit"])
    assert sum(logits["all"]) == pytest.approx(sum(logits["parts"]), abs=1e-3)


def test_models_that_cannot_be_read(fails: Fails, tmp_path: Path) -> None:
    """Told before any work, and before a folder is made."""
    tokenizer, where = maze_tokenizer(3), ("--size", "3", "--out", str(tmp_path / "never"))
    size: Any = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    mistral = MistralForCausalLM(MistralConfig(vocab_size=len(tokenizer), num_key_value_heads=1, **size))
    for name, model in (("mistral", mistral), ("short", MAKERS["gpt2"](len(tokenizer), n_positions=48))):
        Policy(model, tokenizer).save(tmp_path / name)
    supported = "activations of 'mistral' cannot be read; supported: llama, qwen3, gpt_neox, gpt2"
    assert supported in fails("read", str(tmp_path / "mistral"), *where)
    window = "tokens: 40 of a row and 13 that may be written are more than the model's window of 48"
    assert window in fails("read", str(tmp_path / "short"), *where)
    assert not (tmp_path / "never").exists()


def test_what_cannot_be_read(fails: Fails, tmp_path: Path) -> None:
    out = tmp_path / "never"
    where = ("--out", str(out))
    assert "parts: 'prbes' is not one of " + ", ".join(PARTS) in fails("read", "zoo:4x4", "--parts", "[prbes]", *where)
    assert "pairs: 3 are too few" in fails("read", "zoo:4x4", "--pairs", "3", *where)
    assert "is more than this model knows" in fails("read", "zoo:4x4", "--size", "9", *where)
    assert "world: models of mazes alone" in fails("read", "zoo:4x4", "--world", "prompts", *where)
    assert "not in the zoo" in fails("read", "zoo:none", *where)
    assert "different mazes" in fails("read", "zoo:4x4", "--parts", "[probes]", "--questions", "30", *where)
    (tmp_path / "file").touch()
    (tmp_path / "split" / "shoggoth").mkdir(parents=True)
    assert "thinks before it answers" in fails("read", str(tmp_path / "split"), *where)
    assert f"out: {tmp_path}/file is a file, where" in fails("read", "zoo:4x4", "--out", str(tmp_path / "file"))
    assert not out.exists()
