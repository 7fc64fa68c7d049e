"""Text on its way to a terminal."""

import logging
import sys
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.text import in_percent, nearest, one_line, printable, safe_libraries, show, with_interval

NASTY = "\x1b[31mred\x9b2J\u202eevil\u2066\u200b\ud800\x00\x07\r\n\u2028"


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()
    assert printable(shown) == shown
    assert show({"x": [text]}).isprintable()


def test_what_is_harmless_stays() -> None:
    assert printable("runs/ünïcode 迷宮 [bold] ██ 😀") == "runs/ünïcode 迷宮 [bold] ██ 😀"
    assert printable(NASTY).startswith("\\x1b[31mred\\x9b2J\\u202eevil\\u2066\\u200b\\ud800")
    assert printable("x" * 3000).endswith(" …")
    assert one_line("a\n  b") == "a b"


def test_libraries_warn_and_log_in_one_printable_line(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("some.library")
    handler = logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)
    try:
        with safe_libraries(), warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(f"odd {NASTY}", stacklevel=1)
            logger.warning("path %s", NASTY)
    finally:
        logger.removeHandler(handler)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.isprintable() for line in lines), lines
    assert lines[0].startswith("warning: odd \\x1b[31m") and lines[1].startswith("path \\x1b[31m")
    assert warnings.showwarning.__module__ != "clew.text"


def test_the_nearest_names() -> None:
    assert nearest("6x7", ["10x10", "7x7", "6x6", "zz"]).split(", ")[:2] == ["7x7", "6x6"]
    assert nearest("a", ["b"]) == "b" and nearest(3, []) == ""


def test_what_is_not_quite_all_is_not_all() -> None:
    shown = [in_percent(share) for share in (0.0, 0.9994, 0.9995, 0.9999, 0.99996, 1 - 1e-12, 1.0)]
    assert shown == ["0.0", "99.9", "99.95", "99.99", "99.996", "100.0", "100.0"]
    assert with_interval({"value": 0.9999, "low": 0.99955, "high": 1.0}, "%") == "99.99% [99.95, 100.0]"
    assert with_interval({"value": 0.5, "low": 0.45, "high": 0.55}) == "50.0 [45.0, 55.0]"
