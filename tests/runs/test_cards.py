"""Model cards: figures with intervals, and text of others that cannot break out of its place."""

from pathlib import Path

from clew.runs.cards import write_card
from clew.runs.provenance import provenance

FIGURE = {"value": 0.5, "low": 0.25, "high": 0.75}


def test_a_card(tmp_path: Path) -> None:
    report = {"questions": 8, "exact": FIGURE, "target_reached": FIGURE, "by_size": {"4x4": {"exact": FIGURE}}}
    origin = provenance(["train", "--seed", "3"])
    write_card(tmp_path, "first", "A maze solver.", report, origin)
    lines = (tmp_path / "README.md").read_text().splitlines()
    assert lines[:6] == ["---", "library_name: transformers", "tags: [clew]", "---", "", "# first"]
    table = [line for line in lines if line.startswith("|")]
    assert table[2:] == ["| exact | 0.500 | 0.250 to 0.750 |", "| target reached | 0.500 | 0.250 to 0.750 |"]
    assert any(line.startswith("Made by `clew train --seed 3` with clew ") for line in lines)
    assert f'policy = Policy.load("{tmp_path}")' in lines


def test_what_is_not_quite_all_is_not_shown_as_all(tmp_path: Path) -> None:
    figures = {
        "exact": {"value": 0.9995, "low": 0.99716, "high": 0.99996},
        "valid": {"value": 1.0, "low": 0.9, "high": 1.0},
        "walls": {"value": 0.0004, "low": 0.0, "high": 0.001},
    }
    write_card(tmp_path, "first", "A model.", figures, provenance([]))
    rows = [line for line in (tmp_path / "README.md").read_text().splitlines() if line.startswith("|")][2:]
    assert rows == [
        "| exact | 0.9995 | 0.997 to 0.99996 |",
        "| valid | 1.000 | 0.900 to 1.000 |",
        "| walls | 0.0004 | 0.000 to 0.001 |",
    ]


def test_a_baseline_stands_beside_the_model(tmp_path: Path) -> None:
    figures = {"exact": FIGURE, "score": FIGURE}
    write_card(tmp_path, "first", "A maze solver.", figures, provenance([]), {"exact": {**FIGURE, "value": 0.1}})
    table = [line for line in (tmp_path / "README.md").read_text().splitlines() if line.startswith("|")]
    assert table[0] == "| held-out | value | 95% interval | baseline |"
    assert table[2] == "| exact | 0.500 | 0.250 to 0.750 | 0.100 |"
    assert table[3] == "| score | 0.500 | 0.250 to 0.750 |  |"


def test_a_rate_by_groups_and_another_name(tmp_path: Path) -> None:
    sizes = {size: {"questions": 1200, "exact": FIGURE} for size in ("3x3", "4x4")}
    report = {"exact": FIGURE, "by_size": sizes, "by_generator": {"dfs": sizes["3x3"]}}
    write_card(tmp_path, "first", "A model.", report, provenance([]), headline="exact", opens="zoo:first")
    text = (tmp_path / "README.md").read_text()
    assert "| size | questions | exact | 95% interval |\n| --- | --- | --- | --- |\n| 3x3 | 1,200 | 0.500 | " in text
    assert "generator" not in text and 'policy = Policy.load("zoo:first")' in text


def test_names_and_commands_of_others_stay_in_their_line(tmp_path: Path) -> None:
    folder = tmp_path / 'a"b\\c'
    write_card(folder, "x\n# y\x1b[31m", "A model.", {}, provenance(["train", "--out", "a\nb"]))
    lines = (folder / "README.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("#")] == ["# x # y\\x1b[31m"]
    code = next(line for line in lines if line.startswith("policy = "))
    assert eval(code.removeprefix("policy = Policy.load"), {}) == str(folder)
