"""`clew view` from its command line."""

from pathlib import Path
from socket import socket

import pytest

from clew.cli.main import main
from clew.view.serve import Server
from pages import split_folder, train_folder


def fails(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    capsys.readouterr()
    assert main(["view", *map(str, args)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_it_writes_one_page_and_says_where(hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "page.html"
    assert main(["view", str(split_folder(hostile)), "--out", str(out), "--no-open"]) == 0
    assert capsys.readouterr().err.strip() == f"wrote {out}"
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [one.name for one in out.parent.iterdir()] == ["page.html"]


def test_by_default_it_stands_in_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a b", "c"):
        (tmp_path / name).mkdir()
        train_folder(tmp_path / name)
    assert main(["view", "a b", "c/", "--no-open"]) == 0
    assert [one.name for one in (tmp_path / "runs").iterdir()] == ["view-a-b-c.html"]


@pytest.mark.parametrize("given", [[], ["--no-open"]])
@pytest.mark.parametrize("display", ["", ":1"])
def test_a_browser_is_opened_where_there_is_a_display(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], display: str
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    out = tmp_path / "page #1.html"
    assert main(["view", str(train_folder(tmp_path)), "--out", str(out), *given]) == 0
    assert opened == ([out.as_uri()] if display and not given else [])


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_folder(tmp_path)
    (tmp_path / "folder").mkdir()
    assert "is not there" in fails(capsys, tmp_path / "none")
    assert "out: " in fails(capsys, tmp_path, "--out", tmp_path / "folder")
    assert "is a folder" in fails(capsys, tmp_path, "--out", tmp_path / "folder")
    (tmp_path / "file").touch()
    assert "file is a file, where a folder was" in fails(capsys, "zoo:4x4", "--out", tmp_path / "file" / "page.html")
    assert "out: /proc/no cannot be written to" in fails(capsys, "zoo:4x4", "--out", "/proc/no/page.html")
    assert "questions: 0" in fails(capsys, tmp_path, "--questions", 0)
    assert "rounds: -1" in fails(capsys, tmp_path, "--rounds", -1)
    assert "port: 70000" in fails(capsys, tmp_path, "--serve", "--port", 70000)
    assert "port: " in fails(capsys, tmp_path, "--port", 8000)
    assert "out: " in fails(capsys, tmp_path, "--serve", "--out", "x.html")
    assert "wat: there is no such option" in fails(capsys, tmp_path, "--wat", 1)
    assert "PATH" in fails(capsys) or "paths" in fails(capsys)
    assert not (tmp_path / "folder" / "x").exists() and not list(tmp_path.glob("**/*.html"))


def test_a_page_is_served_until_it_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages: list[str] = []

    def once(self: Server, poll_interval: float = 0.5) -> None:
        pages.append(self.page())
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "serve_forever", once)
    assert main(["view", str(train_folder(tmp_path)), "--serve", "--no-open"]) == 130
    assert capsys.readouterr().err.startswith("serving http://127.0.0.1:")
    assert len(pages) == 1 and "connect-src &#x27;self&#x27;" in pages[0] and not list(tmp_path.glob("**/*.html"))


def test_a_port_in_use_is_told_of_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"port: {port} cannot be listened on" in fails(capsys, tmp_path / "none", "--serve", "--port", port)


def test_a_folder_that_cannot_be_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    assert fails(capsys, tmp_path).endswith("cannot be opened: Permission denied")
