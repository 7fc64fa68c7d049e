"""The habits of the house, read off the source: sizes, formatting, words, where heavy libraries may be named."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "clew"
LINES, STATEMENTS, SKIPS = 400, 60, 20
PICTURES = ("plots.py", "draw.py")
SKIP = "# fmt: " + "skip"
SHAPE = re.compile(r"[A-Za-z0-9_]*[a-z0-9]_([A-Z]{1,5})$")
AXES = set("ABCDGHKLMNPQRSTUV")


def sources(*folders: Path) -> Iterator[tuple[Path, str]]:
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            yield path, path.read_text(encoding="utf-8")


def long_modules(folder: Path) -> list[str]:
    return [f"{path.name}: {n} lines" for path, text in sources(folder) if (n := text.count("\n")) > LINES]


def long_functions(folder: Path) -> list[str]:
    found = []
    for path, text in sources(folder):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                found += [f"{path.name}: {node.name} has {length} lines"] * (length > STATEMENTS)
    return found


def hand_formatted(*folders: Path) -> list[str]:
    return [f"{path.name}: {line}" for path, text in sources(*folders) for line in text.splitlines() if SKIP in line]


def words_of_a_private_document(folder: Path) -> list[str]:
    return [path.name for path, text in sources(folder) if re.search(r"design,\s+section", text)]


def imported(text: str) -> Iterator[tuple[str, str | None]]:
    """Every module that a text imports, wherever in it, and the name that it gives to it if another."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((name.name, name.asname) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{name.name}", name.asname) for name in node.names)


def importers(folder: Path, library: str) -> list[str]:
    """Modules, by their place in the folder, that import a library anywhere."""
    found = []
    for path, text in sources(folder):
        if any(name.split(".")[0] == library for name, _ in imported(text)):
            found.append(path.relative_to(folder).as_posix())
    return found


def renamed_modules(folder: Path) -> list[str]:
    """Modules of the project that another one imports under a name that is not theirs; each room may have a `plots`."""
    names = {".".join(("clew", *path.relative_to(folder).with_suffix("").parts)) for path, _ in sources(folder)}
    plots = {name for name in names if f"{name.split('.')[-1]}.py" in PICTURES}
    found = []
    for path, text in sources(folder):
        found += [
            f"{path.name}: {name} as {other}" for name, other in imported(text) if other and name in names - plots
        ]
    return found


def odd_shapes(folder: Path) -> list[str]:
    """Names with a suffix in capitals that are not all axes of some array."""
    found = []
    for path, text in sources(folder):
        for node in ast.walk(ast.parse(text)):
            name = node.id if isinstance(node, ast.Name) else node.arg if isinstance(node, ast.arg) else ""
            match = SHAPE.fullmatch(name)
            if match and not set(match[1]) <= AXES:
                found.append(f"{path.name}: {name}")
    return sorted(set(found))


def test_modules_and_functions_are_short() -> None:
    assert long_modules(SRC) == []
    assert long_functions(SRC) == []


def test_ruff_formats_nearly_all() -> None:
    assert len(hand_formatted(SRC, ROOT / "bench", ROOT / "tests")) < SKIPS


def test_docstrings_name_no_document_that_is_not_here() -> None:
    assert words_of_a_private_document(SRC) == []


def test_matplotlib_is_imported_beside_the_data_that_is_drawn() -> None:
    assert [place for place in importers(SRC, "matplotlib") if Path(place).name not in PICTURES] == []


def test_rich_is_imported_where_the_terminal_is_written_to() -> None:
    places = [place for place in importers(SRC, "rich") if Path(place).name != "terminal.py"]
    assert [place for place in places if not place.startswith("cli/")] == []


def test_modules_go_by_their_own_names() -> None:
    assert renamed_modules(SRC) == []


def test_suffixes_in_capitals_are_axes() -> None:
    assert odd_shapes(SRC) == []


def test_each_of_these_can_fail(tmp_path: Path) -> None:
    """A house that breaks every habit once, and one of its size that breaks none."""
    (tmp_path / "cli").mkdir()
    (tmp_path / "good.py").write_text(
        "import numpy as np\nfrom torch.nn import functional as F\n\nx_QNK = scores_B = 1\n"
    )
    (tmp_path / "plots.py").write_text("import matplotlib\n")
    (tmp_path / "cli" / "main.py").write_text("import rich\n")
    checks = [long_modules, long_functions, hand_formatted, words_of_a_private_document, renamed_modules, odd_shapes]
    assert [check(tmp_path) for check in checks] == [[]] * len(checks)
    assert importers(tmp_path, "matplotlib") == ["plots.py"] and importers(tmp_path, "rich") == ["cli/main.py"]

    (tmp_path / "long.py").write_text("def long():\n" + "    pass\n" * LINES)
    (tmp_path / "bad.py").write_text(
        f'"""As in the design,\nsection 7."""\n\nfrom clew import good as g\n\nx_ZZ = [1,  2]  {SKIP}\n\n\n'
        "def draw():\n    from matplotlib import pyplot\n    import rich.console\n"
    )
    assert long_modules(tmp_path) == [f"long.py: {LINES + 1} lines"]
    assert long_functions(tmp_path) == [f"long.py: long has {LINES + 1} lines"]
    assert hand_formatted(tmp_path) == [f"bad.py: x_ZZ = [1,  2]  {SKIP}"]
    assert words_of_a_private_document(tmp_path) == ["bad.py"]
    assert renamed_modules(tmp_path) == ["bad.py: clew.good as g"]
    assert odd_shapes(tmp_path) == ["bad.py: x_ZZ"]
    assert importers(tmp_path, "matplotlib") == ["bad.py", "plots.py"]
    assert importers(tmp_path, "rich") == ["bad.py", "cli/main.py"]
