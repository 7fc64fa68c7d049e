"""What the docs say can be done, can be: commands run, code runs, options are there, links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pyarrow.types
import pytest

from clew.cli.main import main
from clew.cli.options import in_full
from clew.mazes import parse_ascii, parse_question
from clew.runs.options import names_of
from clew.runs.rollouts import schema

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
OTHERS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "bench/README.md")]
GUIDES, TUTORIALS = (sorted((DOCS / folder).glob("*.md")) for folder in ("guides", "tutorials"))
FENCE = re.compile(r"^(```+)([^\n]*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
INCLUDED = re.compile(r'^--8<-- "(.+)"$', re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s#]*)(?:#([^)\s]*))?\)")
CONFIGS = {
    "train": "clew.train.config:TrainConfig",
    "split": "clew.train.config:SplitConfig",
    "eval": "clew.cli.eval:EvalConfig",
    "solve": "clew.cli.solve:SolveConfig",
    "read": "clew.cli.read:ReadConfig",
    "plan": "clew.cli.plan:PlanConfig",
    "view": "clew.cli.view:ViewConfig",
    "audit": "clew.cli.audit:AuditConfig",
}
STUDIES = ("grid:TabularConfig", "mazes:MazeStudyConfig", "reading:ReadStudyConfig", "spillover.grid:SpilloverConfig")
COMMAND = re.compile(rf"(?:^|\s)clew ((?:{'|'.join(CONFIGS)})\b.*)", re.MULTILINE)
FLAGS = "config help json from resume show round question serve no-open"
ELSEWHERE = "no-enable-chunked-prefill table kills minutes version"  # of vLLM, of benches, of clew itself


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """Language, title and text of each fenced block, files that it includes put in."""
    for _, about, text in FENCE.findall(page.read_text(encoding="utf-8")):
        language, _, rest = about.partition(" ")
        title = re.search(r'title="([^"]+)"', rest)
        yield language, title[1] if title else "", INCLUDED.sub(lambda found: (ROOT / found[1]).read_text(), text)


def commands(text: str) -> Iterator[list[str]]:
    """The words of each line that is a command, what it puts into the environment left out."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words:
            yield words


def do_all(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Does what a page does, in its order: writes its files, runs its Python and its commands. How many things."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr("webbrowser.open", lambda address: True)  # clew view opens one where there is a display
    names: dict[str, object] = {}
    done = 0
    for language, title, text in blocks(page):
        if title:
            (folder / title).write_text(text)
            # A page's module is its own: one of that name, of a test before, is put aside until this one is over.
            monkeypatch.setitem(sys.modules, Path(title).stem, sys)
            del sys.modules[Path(title).stem]
        elif language == "python":
            exec(compile(text, page.name, "exec"), names)
        for words in commands(text) if language == "bash" else ():
            assert words[0] == "clew", f"{page.name}: {words}"
            assert main(words[1:]) == 0, f"{page.name}: {shlex.join(words)}"
        done += bool(title) or language in ("python", "bash")
    return done


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_a_guide_does_what_it_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert do_all(page, tmp_path, monkeypatch) >= 2


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_does_what_it_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert do_all(page, tmp_path, monkeypatch) >= 5


def config_of(path: str) -> type:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def known(config: type) -> list[str]:
    """Full names of a command's options and of their groups."""
    names = names_of(config)
    return [*names, *{name.rpartition(".")[0] for name in names if "." in name}]


def unknown_options(text: str) -> list[str]:
    """Options that a text gives to a command which has none such."""
    found = []
    for words in COMMAND.findall(text.replace("\\\n", " ")):
        command, _, rest = words.partition(" ")
        config = config_of(CONFIGS[command])
        for option in re.findall(r"(?<=\s)--([a-z][\w.-]*)", f" {rest}"):
            full = in_full([f"--{option}", "x"], config)[0].removeprefix("--")
            if full not in known(config) and option not in FLAGS.split():
                found.append(f"clew {command} --{option}")
    return found


def test_unknown_options_are_found() -> None:
    assert unknown_options("clew train --lr 1 --steps 2 --model m --config f\nPYTHONPATH=. clew split --show r") == []
    assert unknown_options("clew eval m --quesions 2 \\\n    --rounds 3") == [
        "clew eval --quesions",
        "clew eval --rounds",
    ]


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_options_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    fenced = "\n".join(block for _, _, block in blocks(page))
    assert unknown_options(fenced) == []
    if page.name != "CHANGELOG.md":  # which names options of earlier versions
        configs = [*CONFIGS.values(), *(f"clew.study.{one}" for one in STUDIES)]
        everything = {option.split(".")[-1] for path in configs for option in known(config_of(path))}
        several = {*FLAGS.split(), *ELSEWHERE.split()}
        named = {
            option
            for code in re.findall(r"`([^`\n]+)`", text)
            for option in re.findall(r"(?<!\S)--([a-z][\w.-]*)", code)
        }
        assert [one for one in named - several if one.replace("-", "_").split(".")[-1] not in everything] == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in plain}


def lost_links(page: Path) -> list[str]:
    """Links of a page that lead to no file of the repository, or to no heading of it."""
    found = []
    for link, anchor in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        to = page.parent / link if link else page
        if not to.exists() or (anchor and to.suffix == ".md" and anchor not in anchors(to)):
            found.append(f"{link}#{anchor}" if anchor else link)
    return found


def test_lost_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b` c\n[x](#a-b-c) [x](page.md) [x](#nowhere) [x](none.md) [x](https://example.org)\n")
    assert lost_links(page) == ["#nowhere", "none.md"]


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert lost_links(page) == []


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=ROOT, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        loaded = re.findall(
            r'<(?:script|img|iframe|link)\b[^>]*?(?:src|href)="([^"]+)"', page.read_text(encoding="utf-8")
        )
        assert [one for one in loaded if re.match(r"(https?:)?//", one)] == [], page.name


def test_the_formats_are_those_of_the_code() -> None:
    rollouts = next(block for _, _, block in blocks(DOCS / "formats.md") if block.startswith("round "))
    said = set(re.findall(r"^ *((?:\w+, )*\w+) {2,}", rollouts, re.MULTILINE))
    assert {name for names in said for name in names.split(", ")} == set(_fields(schema()))
    mazes = [block for language, _, block in blocks(DOCS / "formats.md") if language == "text"]
    assert parse_question(next(one for one in mazes if one.startswith("<ADJLIST_START>"))).origin == (0, 0)
    assert parse_ascii(next(one for one in mazes if one.startswith("#"))).path == ((0, 0), (0, 1), (1, 1), (1, 0))


def _fields(kind: object) -> Iterator[str]:
    """The names of a schema's fields at any depth."""
    for field in (
        kind if isinstance(kind, pyarrow.Schema) else kind.fields if isinstance(kind, pyarrow.StructType) else ()
    ):
        yield field.name
        inner = field.type
        while pyarrow.types.is_list(inner):
            inner = inner.value_type
        yield from _fields(inner)
