"""The README says what the committed results say."""

import re
import subprocess
import sys
from pathlib import Path

from clew import zoo
from clew.cli.main import HELP

ROOT = Path(__file__).parents[1]


def test_the_table_of_speeds_is_that_of_the_results() -> None:
    made = subprocess.run([sys.executable, ROOT / "bench" / "table.py"], capture_output=True, text=True, check=True)
    assert made.stdout in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_learning_is_that_of_the_results() -> None:
    table = (ROOT / "bench" / "results" / "learning.md").read_text(encoding="utf-8").split("\n\n")[1]
    assert table.startswith("| minutes |")
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_list_of_architectures_is_that_of_the_results() -> None:
    table = (ROOT / "bench" / "results" / "architectures.md").read_text(encoding="utf-8").split("\n\n")[1]
    assert table.startswith("| | | `model_type` |") and "WRONG" not in table
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")


def test_models_that_are_named_are_in_the_zoo() -> None:
    texts = [HELP, *((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CHANGELOG.md"))]
    named = {name for text in texts for name in re.findall(r"zoo:([a-z0-9][a-z0-9_-]*)", text)}
    assert named and named <= set(zoo.names())
