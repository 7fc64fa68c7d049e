"""A real browser, and folders of every kind whose texts are written to be run."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Debian's Chromium, driven by playwright; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, which the extra dev brings")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A page that may say nothing in its console, open no dialog, ask nobody, and run none of the texts it shows."""
    context = chromium.new_context(viewport={"width": 1200, "height": 900}, accept_downloads=True)
    shown, said = context.new_page(), []
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    shown.on("request", lambda request: said.append(request.url) if not _own(request.url) else None)
    shown.set_default_timeout(30_000)
    yield shown
    assert shown.evaluate("window.hacked") is None
    assert said == []
    context.close()


def _own(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:"))


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder whose name is written to be run."""
    folder = tmp_path / '"><img src=x onerror=hacked=1>'
    folder.mkdir()
    return folder
