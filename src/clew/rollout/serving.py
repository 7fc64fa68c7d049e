"""What is asked of a server, and what it says: requests side by side, tried again where it could not be reached.

A server is somebody else's: what it says is checked, and cut at a size and a time, before anything is made of it.
"""

import http.client
import json
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from clew.errors import InputError
from clew.text import one_line, printable, show

LARGEST = 1 << 28  # bytes of an answer
AT_ONCE = 64  # requests, each of them with all its copies
PAUSES = (1.0, 3.0)  # seconds until a server that could not be reached is tried again

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class SamplerError(RuntimeError):
    """A server failed; the message is one line that names it. What finished rounds left behind is kept."""


class _Unreachable(SamplerError):
    """No answer came, or one that says that none can: another try may help."""


class _Refused(SamplerError):
    """The server does not do what it was asked for; `found` tells whether it knows such requests at all."""

    def __init__(self, line: str, found: bool):
        super().__init__(line)
        self.found = found


def server_url(url: str) -> str:
    """The url of a server without what its paths begin with. InputError for what is no url."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or any(not "!" <= c <= "~" for c in url):
        raise InputError(f"sampler.url: {show(url)} is no url of a server; expected one such as http://localhost:8000")
    return url.rstrip("/").removesuffix("/v1")


def call(url: str, body: dict[str, Any] | None = None, timeout: float = 600.0, pauses: Sequence[float] = PAUSES) -> str:
    """What a server says to a GET, or to a POST of `body`. Where it cannot be reached it is tried again after pauses.

    Raises SamplerError: no answer within `timeout` seconds, one that is too long, or one that says what is wrong.
    """
    for pause in pauses:
        try:
            return _said(url, body, timeout)
        except _Unreachable:
            time.sleep(pause)
    return _said(url, body, timeout)


def told(url: str, body: dict[str, Any] | None = None, timeout: float = 600.0) -> Any:
    """`call` for what is said in JSON."""
    text = call(url, body, timeout)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise SamplerError(f"{url} answered {show(text)}, which is no JSON") from None


def takes(url: str, body: dict[str, Any], timeout: float) -> bool:
    """Does a POST; whether the server knows of such at all. SamplerError as `call` has it."""
    try:
        call(url, body, timeout)
    except _Refused as error:
        if error.found:
            raise
        return False
    return True


def _said(url: str, body: dict[str, Any] | None, timeout: float) -> str:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    end = time.monotonic() + timeout
    try:
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return _read(response, url, end, timeout)
        except urllib.error.HTTPError as error:
            text, status = _read(error, url, end, timeout), error.code
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise SamplerError(f"{url} gave no answer within {timeout:g} s") from None
        said = getattr(reason, "strerror", None) or one_line(reason) or type(reason).__name__
        raise _Unreachable(f"{url} cannot be reached: {printable(said)}") from None
    line = f"{url} answered {status}: {_message(text)}"
    raise _Unreachable(line) if status >= 500 else _Refused(line, found=status not in (404, 405) or "error" in text)


def _read(response: Any, url: str, end: float, timeout: float) -> str:
    parts: list[bytes] = []
    while part := response.read1(1 << 16):
        parts.append(part)
        if time.monotonic() > end:
            raise SamplerError(f"{url} gave no whole answer within {timeout:g} s")
        if len(parts) << 16 > LARGEST and sum(map(len, parts)) > LARGEST:
            raise SamplerError(f"{url} answers with more than {LARGEST >> 20} MiB")
    if response.length:  # torn: read1 tells of no end that came too soon
        raise http.client.IncompleteRead(b"", response.length)
    return b"".join(parts).decode(errors="replace")


def _message(text: str) -> str:
    """What an error's body says is wrong."""
    try:
        said = json.loads(text)
        said = said.get("error", said)
        said = said.get("message") or said.get("detail") or text if isinstance(said, dict) else said
    except (ValueError, RecursionError, AttributeError):
        said = text
    return printable(one_line(said), 300)


def side_by_side(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """What `work` makes of each item, many at a time, in order. The first error that comes ends it, and so does Ctrl-C:
    what is still under way is let go of, since a thread that waits for a server cannot be stopped."""
    left: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()
    over = threading.Event()
    for i in range(len(items)):
        left.put(i)

    def worker() -> None:
        while not over.is_set():
            try:
                i = left.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((i, work(items[i]), None))
            except BaseException as error:
                done.put((i, None, error))

    for _ in range(min(AT_ONCE, len(items))):
        threading.Thread(target=worker, daemon=True).start()
    results: dict[int, _Result] = {}
    try:
        while len(results) < len(items):
            i, result, error = done.get()
            if error is not None:
                raise error
            results[i] = result
    finally:
        over.set()
    return [results[i] for i in range(len(items))]
