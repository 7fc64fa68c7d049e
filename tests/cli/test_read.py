"""`clew read`, on a model of the zoo."""

import json
from pathlib import Path

import pytest

from clew.cli.main import main
from clew.read.reading import PARTS, load_reading
from cli.conftest import Fails

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


def test_what_cannot_be_read(fails: Fails, tmp_path: Path) -> None:
    out = tmp_path / "never"
    where = ("--out", str(out))
    assert "parts: 'prbes' is not one of " + ", ".join(PARTS) in fails("read", "zoo:4x4", "--parts", "[prbes]", *where)
    assert "pairs: 3 are too few" in fails("read", "zoo:4x4", "--pairs", "3", *where)
    assert "is more than this model knows" in fails("read", "zoo:4x4", "--size", "9", *where)
    assert "world: models of mazes alone" in fails("read", "zoo:4x4", "--world", "prompts", *where)
    assert "not in the zoo" in fails("read", "zoo:none", *where)
    assert "different mazes" in fails("read", "zoo:4x4", "--parts", "[probes]", "--questions", "30", *where)
    assert not out.exists()
