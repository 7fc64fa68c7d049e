"""The README and the docs say what the committed results say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from clew import zoo
from clew.cli.main import HELP
from clew.text import with_interval

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_table_of_speeds_is_that_of_the_results() -> None:
    made = subprocess.run([sys.executable, ROOT / "bench" / "table.py"], capture_output=True, text=True, check=True)
    assert made.stdout in text_of("docs/performance.md")


@pytest.mark.parametrize(
    ("result", "start", "page"),
    [("learning", "| minutes |", "docs/performance.md"), ("architectures", "| | | `model_type` |", "docs/models.md")],
)
def test_tables_are_those_of_the_results(result: str, start: str, page: str) -> None:
    table = (RESULTS / f"{result}.md").read_text(encoding="utf-8").split("\n\n")[1]
    assert table.startswith(start) and "WRONG" not in table
    assert table in text_of(page)


def test_the_numbers_of_architectures_are_those_of_the_table() -> None:
    counts = [int(count) for count in re.findall(r"^\| \w[\w ]+ \| (\d+) \|", text_of("docs/models.md"), re.MULTILINE)]
    exact, rows, refused = counts
    told = f"{exact} of the {exact + rows + refused} causal architectures]"
    assert told in text_of("README.md") and f"; {rows} more are read as plain rows" in text_of("README.md")


def test_models_that_are_named_are_in_the_zoo() -> None:
    pages = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")]
    texts = [HELP, *map(text_of, ("README.md", "CHANGELOG.md", *pages))]
    named = {name for text in texts for name in re.findall(r"zoo:([a-z0-9][a-z0-9_-]*)", text)}
    assert named and named <= set(zoo.names())


def test_the_table_of_the_zoo_is_that_of_the_cards() -> None:
    rows = re.findall(r"^\| `zoo:(\S+)` \|.*\| (\S+ \[.*\]) \|$", text_of("README.md"), re.MULTILINE)
    assert dict(rows) == {name: with_interval(zoo.card(name)["optimal"]) for name in zoo.names()}


def test_figures_of_the_readme_are_those_of_the_docs() -> None:
    results = text_of("README.md").partition("## Results")[2].partition("\n## ")[0]
    told = "\n".join(map(text_of, ("docs/results.md", "docs/performance.md", "docs/reading.md")))
    intervals = re.findall(r"[\d.]+%? \[[\d., ]+\]", results)
    assert len(intervals) > 5 and [one for one in intervals if one not in told] == []


@pytest.mark.parametrize("line", ["make demo ", "make test ", "`pip install .`", "clew solve zoo:4x4 --seed 3\n"])
def test_the_first_steps_are_there(line: str) -> None:
    assert line in text_of("README.md")
