"""A page that is served, on this machine alone: its own server answers what it asks.

The server listens on the loopback interface. It answers a request only if its Host header names that address, since a
foreign site can make a browser send requests here under another name; and a question only if it is JSON that this
origin sent. There are two fixed routes, `/` and `/answer`; no part of a request ever becomes a path. What goes wrong is
told in one line, to the client and to the terminal, never as a traceback.
"""

import json
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from clew.errors import InputError
from clew.text import one_line, printable

HOST = "127.0.0.1"
MOST = 2**20
"""bytes that a request's body may have"""
PATIENCE = 10.0
"""seconds that a client may take to send a request"""
Answer = Callable[[dict[str, Any]], dict[str, Any]]


class Server(ThreadingHTTPServer):
    """page: called for the HTML of `/`. answer: called with the object that was posted to `/answer`; its InputError is
    told to the client. port: 0 takes a free one. InputError for a port that cannot be had."""

    daemon_threads = True

    def __init__(self, page: Callable[[], str], answer: Answer, port: int = 0):
        self.page, self.answer = page, answer
        try:
            super().__init__((HOST, port), Handler)
        except (OSError, OverflowError) as error:
            said = one_line(getattr(error, "strerror", None) or error)
            raise InputError(f"port: {port} cannot be listened on: {said}; choose another, or leave it out") from None

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event; anything else is one line."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            complain(error)


class Handler(BaseHTTPRequestHandler):
    server: Server  # type: ignore[assignment]
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "clew", ""
    timeout = PATIENCE

    def do_GET(self) -> None:
        if not self._ours():
            return
        if self.path.partition("?")[0] != "/":
            return self._refuse(404, "there is nothing here but /")
        try:
            self._send(200, "text/html; charset=utf-8", self.server.page().encode())
        except InputError as error:
            self._refuse(500, one_line(error))
        except Exception as error:
            complain(error)
            self._refuse(500, "the page could not be made; the terminal says why")

    def do_POST(self) -> None:
        if not self._ours():
            return
        if self.path != "/answer":
            return self._refuse(404, "there is nothing here but /answer")
        try:
            request = self._request()
            said = self.server.answer(request)
            self._send(200, "application/json", json.dumps(said, allow_nan=False).encode())
        except InputError as error:
            self._refuse(400, one_line(error))
        except Exception as error:
            complain(error)
            self._refuse(500, "that could not be answered; the terminal says why")

    def _ours(self) -> bool:
        """Whether a request was made to this address, and by this page if by any."""
        port = self.server.server_port
        named = {HOST, "localhost"}
        hosts = {f"{name}:{port}" for name in named} | (named if port == 80 else set())  # 80 is not said in a URL
        if self.headers.get_all("Host", []) != [host := self.headers.get("Host", "")] or host not in hosts:
            self._refuse(403, "this server answers under its own address alone")
            return False
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{one}" for one in hosts}:
            self._refuse(403, "this server answers its own page alone")
            return False
        return True

    def _request(self) -> dict[str, Any]:
        """The object that was posted. InputError for anything else."""
        kind, length = self.headers.get_content_type(), self.headers.get("Content-Length", "")
        if kind != "application/json":
            raise InputError("request: expected Content-Type application/json")
        if not (length.isascii() and length.isdigit()) or len(length) > 9 or int(length) > MOST:
            raise InputError(f"request: expected a Content-Length of at most {MOST:,} bytes")
        try:
            value = json.loads(self.rfile.read(int(length)))
        except TimeoutError:
            raise InputError(f"request: its {length} bytes did not come") from None
        except (ValueError, RecursionError):
            raise InputError("request: is no JSON") from None
        if not isinstance(value, dict):
            raise InputError("request: expected a JSON object")
        return value

    def _refuse(self, status: int, said: str) -> None:
        self.close_connection = True  # a body that was not read must not be taken for the next request
        self._send(status, "application/json", json.dumps({"error": printable(said)}).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library itself refuses, a method say, without a page that repeats the request."""
        self._refuse(code, "this server has / to read and /answer to ask")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a log line would repeat what a client sent."""


def complain(error: BaseException | None) -> None:
    print(printable(one_line(f"clew view: {type(error).__name__}: {error}")), file=sys.stderr)
