"""Text that is safe to show: whatever a file, a folder's name or a model says, a terminal displays it and never obeys.

Only light modules are imported here: `clew --help` needs it too.
"""

import difflib
import logging
import reprlib
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from clew.errors import InputError

_SHORT = reprlib.Repr()
_SHORT.maxstring, _SHORT.maxother, _SHORT.maxlist, _SHORT.maxdict = 60, 120, 2, 2


def encodable(text: str) -> str:
    """The text as UTF-8 can hold it: half a surrogate pair, which models write, becomes a replacement character."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def one_line(error: object) -> str:
    """An error's message without line breaks, for people."""
    return " ".join(str(error).split())


def printable(text: str, most: int = 2000) -> str:
    """Text with every character escaped that a terminal could obey or that has no look of its own: control characters,
    those that turn the direction of writing, halves of surrogate pairs. Cut after `most` characters."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:most])
    return shown + (" …" if len(text) > most else "")


def show(value: object) -> str:
    """A short repr of anything, safe to print."""
    try:
        text = _SHORT.repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return printable(text)


def in_percent(share: float) -> str:
    """In percent, to one place behind the point; to more where that would make all of what is not quite all."""
    texts = (f"{100 * share:.{places}f}" for places in range(1, 9))
    return next((text for text in texts if share >= 1 or float(text) < 100), "100.0")


def with_interval(figure: Mapping[str, float], sign: str = "") -> str:
    """A rate, {value, low, high}, in percent with its interval, whose lower end is no more all of it than the rate."""
    return f"{in_percent(figure['value'])}{sign} [{in_percent(figure['low'])}, {100 * figure['high']:.1f}]"


def nearest(name: object, known: Iterable[str]) -> str:
    """The three known names that are most like one that is not known, or as many as there are, for people to read."""
    return ", ".join(difflib.get_close_matches(str(name), known, 3, 0.0))


def check_text(name: str, value: str) -> None:
    """InputError for text that no path, and so no option, can hold: NUL, or what is no UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name}: {show(value)} is no UTF-8; expected ordinary text") from None
    if "\0" in value:
        raise InputError(f"{name}: {show(value)} holds a NUL character; expected ordinary text")


@contextmanager
def safe_libraries() -> Iterator[None]:
    """While entered, warnings and log records of every library are one printable line each."""
    shown, made = warnings.showwarning, logging.getLogRecordFactory()

    def warn(message: object, *_: Any, **__: Any) -> None:
        print(printable(one_line(f"warning: {message}")), file=sys.stderr)

    def record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        one = made(*args, **kwargs)
        one.msg, one.args = printable(one_line(one.getMessage())), ()
        return one

    warnings.showwarning = warn
    logging.setLogRecordFactory(record)
    try:
        yield
    finally:
        warnings.showwarning = shown
        logging.setLogRecordFactory(made)
