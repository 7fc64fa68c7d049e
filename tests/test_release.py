"""What is picked up: one version everywhere, a package with all its files, true install lines, scripts that can run."""

import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

import clew

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "clew"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGE = PROJECT["project"]
EXTRAS = PACKAGE["optional-dependencies"]
INSTALL = re.compile(r"pip install[^\n`|]*?['\"]?\b([\w.-]+)\[([\w,-]+)\]")
BOUND = re.compile(r"[\w.-]+(\[[\w,-]+\])?[<>=,.\d]*>=\d[\d.]*(,<[\d.]+)?")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def left_behind(folder: Path, globs: list[str]) -> list[str]:
    """Files of a package that its wheel would lack: no modules, and not named as data; and modules in no package."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_dir() or "__pycache__" in name.parts:
            continue
        if path.suffix == ".py":
            packed = all((one / "__init__.py").is_file() for one in path.parents if one.is_relative_to(folder))
        else:
            packed = any(matches(name, glob) for glob in globs)
        found += [name.as_posix()] * (not packed)
    return found


def matches(name: Path, glob: str) -> bool:
    """As setuptools reads a glob of package-data: a star stays within one folder."""
    parts = glob.split("/")
    return len(parts) == len(name.parts) and all(map(fnmatch, name.parts, parts))


def wrong_install_lines(said: str) -> list[str]:
    """Packages with extras that a text tells people to install, and that are not this one or have no such extra."""
    return [
        f"{name}[{extras}]"
        for name, extras in INSTALL.findall(said)
        if name != PACKAGE["name"] or not set(extras.split(",")) <= set(EXTRAS)
    ]


def test_one_version_everywhere() -> None:
    citation = yaml.safe_load(text("CITATION.cff"))
    (newest, *_) = re.findall(r"^## (\S+)", text("CHANGELOG.md"), re.MULTILINE)
    assert {PACKAGE["version"], citation["version"], newest} == {clew.__version__}


def test_the_citation_has_what_its_format_requires() -> None:
    citation = yaml.safe_load(text("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0" and citation["license"] == PACKAGE["license"]
    assert all(one.get("name") or one.get("family-names") for one in citation["authors"])


def test_the_wheel_lacks_nothing(tmp_path: Path) -> None:
    globs = PROJECT["tool"]["setuptools"]["package-data"]["clew"]
    assert left_behind(SRC, globs) == []
    (tmp_path / "room" / "deep").mkdir(parents=True)
    for name in ("__init__.py", "py.typed", "room/lost.py", "room/page.js", "room/deep/page.js"):
        (tmp_path / name).touch()
    assert left_behind(tmp_path, ["py.typed", "room/*"]) == ["room/deep/page.js", "room/lost.py"]


def test_install_lines_name_this_package_and_its_extras() -> None:
    """Its name on PyPI is not that of the import, which there is somebody else's."""
    assert wrong_install_lines(f'pip install "{PACKAGE["name"]}[gym]"') == []
    assert wrong_install_lines("see `pip install 'clew[gym]'`") == ["clew[gym]"]
    assert wrong_install_lines(f"pip install -U {PACKAGE['name']}[gym,none]") == [f"{PACKAGE['name']}[gym,none]"]
    readers = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    readers += [path for folder in ("src", "bench", "examples") for path in (ROOT / folder).rglob("*.py")]
    found = [(path.name, *wrong_install_lines(path.read_text(encoding="utf-8"))) for path in readers]
    assert [one for one in found if len(one) > 1] == []


def test_every_dependency_has_a_lower_bound() -> None:
    """Without one the oldest release of all is allowed, which nobody has tried."""
    assert BOUND.fullmatch("a>=1") and BOUND.fullmatch("a[b]>=1.2,<2") and not BOUND.fullmatch("a<2")
    own = f"{PACKAGE['name']}["
    asked = {one for group in (PACKAGE["dependencies"], *EXTRAS.values()) for one in group if not one.startswith(own)}
    assert [one for one in sorted(asked) if not BOUND.fullmatch(one) and one != "muutils<0.9"] == []


def test_make_help_lists_every_target() -> None:
    makefile = text("Makefile")
    (phony,) = re.findall(r"^\.PHONY: (.*)", makefile, re.MULTILINE)
    listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in listed.splitlines()] == phony.split()
    assert set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE)) == set(phony.split())


def test_hooks_before_a_commit_are_the_checks_of_make_check() -> None:
    tool = re.compile(r"(?:\$\(BIN\)|\.venv/bin)/([\w-]+(?: check| format)?)")
    hooks = [
        hook["entry"] for repo in yaml.safe_load(text(".pre-commit-config.yaml"))["repos"] for hook in repo["hooks"]
    ]
    recipe = text("Makefile").split("\ncheck:")[1].split("\n\n")[0]
    assert set(tool.findall("\n".join(hooks))) == set(tool.findall(recipe)) and len(hooks) == 4


def test_templates_of_issues_can_be_shown() -> None:
    for name in ("bug", "feature"):
        form: Any = yaml.safe_load(text(f".github/ISSUE_TEMPLATE/{name}.yml"))
        assert {"name", "description", "body"} <= form.keys()
        fields = [part for part in form["body"] if part["type"] != "markdown"]
        assert len({part["id"] for part in fields}) == len(fields) > 2
        assert all(part["attributes"]["label"] for part in fields)


def test_scripts_can_be_run() -> None:
    for path in (ROOT / ".ci").iterdir():
        if path.suffix != ".py":
            assert path.stat().st_mode & 0o111, f"{path.name} is not executable"
            subprocess.run(["bash", "-n", path], check=True)


def without_a_reason(said: str) -> list[str]:
    """Lines that mark a test slow and do not say why."""
    return [one for one in said.splitlines() if "mark.slow" in one and not re.search(r'slow\(reason="[^"]{20,}', one)]


def test_a_slow_test_says_why() -> None:
    """`make test` leaves it out, so the reason has to say what short test stands in for it."""
    assert without_a_reason('@pytest.mark.slow(reason="ten times the inputs of test_this")\n') == []
    assert without_a_reason("@pytest.mark.slow\n@pytest.mark.slow()") == ["@pytest.mark.slow", "@pytest.mark.slow()"]
    modules = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    assert [one for path in modules for one in without_a_reason(path.read_text(encoding="utf-8"))] == []
