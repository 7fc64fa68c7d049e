"""The server: this machine's own page alone, two routes, no path, no traceback."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread
from typing import Any

import pytest

from clew.errors import InputError
from clew.view.serve import MOST, Server

JSON = {"Content-Type": "application/json"}


def said(request: dict[str, Any]) -> dict[str, Any]:
    if request.get("ask") == "bad":
        raise InputError("ask: bad is wrong")
    if request.get("ask") == "bug":
        raise KeyError("/etc/secret")
    return {"asked": request}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(lambda: "<p>page</p>", said) as one:
        thread = Thread(target=one.serve_forever, args=(0.05,))
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def ask(
    server: Server, method: str, path: str, body: str | bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def test_the_page_and_an_answer(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    status, headers, body = ask(server, "GET", "/")
    assert (status, body) == (200, b"<p>page</p>")
    assert headers["X-Frame-Options"] == "DENY" and headers["Cache-Control"] == "no-store"
    assert "Python" not in headers.get("Server", "")
    status, _, body = ask(server, "POST", "/answer", json.dumps({"a": [1]}), JSON)
    assert (status, json.loads(body)) == (200, {"asked": {"a": [1]}})


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "//etc/passwd", "/../../etc/passwd", "/%2e%2e/x", "/answer", "/?/x/.."]
)
def test_no_request_names_a_file(server: Server, path: str) -> None:
    status, _, body = ask(server, "GET", path)
    assert (status, body) == (200, b"<p>page</p>") if path.startswith("/?") else status == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "[::1]:80", "", "localhost:1"])
def test_another_host_is_refused(server: Server, host: str) -> None:
    for method, path in (("GET", "/"), ("POST", "/answer")):
        status, _, body = ask(server, method, path, "{}", {"Host": host} | JSON)
        assert status == 403 and "own address" in json.loads(body)["error"]


def test_its_own_hosts_are_not(server: Server) -> None:
    for host in ("127.0.0.1", "localhost"):
        origin = f"http://{host}:{server.server_port}"
        headers = JSON | {"Host": f"{host}:{server.server_port}", "Origin": origin}
        assert ask(server, "POST", "/answer", "{}", headers)[0] == 200


def test_a_port_that_no_url_says(server: Server) -> None:
    """A browser leaves 80 out of Host and Origin."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    server.server_port = 80
    for host, status in (("localhost", 200), ("127.0.0.1:80", 200), ("evil.example", 403)):
        connection.request("POST", "/answer", "{}", JSON | {"Host": host, "Origin": f"http://{host}"})
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (status, True)
    connection.close()


def raw(server: Server, sent: str) -> bytes:
    """All that is answered to bytes which no browser sends."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as one:
        one.sendall(sent.replace("PORT", str(server.server_port)).replace("\n", "\r\n").encode())
        with suppress(OSError):  # it may have answered and gone
            one.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: one.recv(2**16), b""))


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/1.1\nHost: 127.0.0.1:PORT", 200),
        ("GET / HTTP/1.0", 403),
        ("GET / HTTP/1.1\nHost: 127.0.0.1:PORT\nHost: evil.example", 403),
        ("GET / HTTP/1.1\nHost: evil.example\nHost: 127.0.0.1:PORT", 403),
        ("GET http://evil.example/ HTTP/1.1\nHost: 127.0.0.1:PORT", 404),
        ("GET / HTTP/1.1\nHost: 127.0.0.1:PORT\n" + "X: y\n" * 200, 431),
        (f"GET /{'x' * 2**17} HTTP/1.1\nHost: 127.0.0.1:PORT", 414),
    ],
)
def test_requests_that_no_browser_sends(server: Server, head: str, status: int) -> None:
    told = raw(server, f"{head}\nConnection: close\n\n")
    assert int(told.split()[1]) == status and (b"page" in told) == (status == 200)


def test_a_body_that_was_not_read_is_no_request(server: Server) -> None:
    inner = "GET / HTTP/1.1\nHost: 127.0.0.1:PORT\n\n"
    told = raw(server, f"POST /answer HTTP/1.1\nHost: 127.0.0.1:PORT\nContent-Length: 99\n\n{inner}")
    assert told.count(b"HTTP/1.1 ") == 1 and b"<p>page</p>" not in told


def test_who_sends_half_a_body_keeps_nobody_waiting(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clew.view.serve.Handler.timeout", 1.0)
    head = f"POST /answer HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as slow:
        slow.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        assert ask(server, "GET", "/")[0] == 200
        told = b"".join(iter(lambda: slow.recv(2**16), b""))
    assert told.startswith(b"HTTP/1.1 400 ") and b"did not come" in told


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1"])
def test_another_origin_is_refused(server: Server, origin: str) -> None:
    assert ask(server, "POST", "/answer", "{}", JSON | {"Origin": origin})[0] == 403


@pytest.mark.parametrize(
    ("body", "headers", "says"),
    [
        ("{}", {"Content-Type": "text/plain"}, "application/json"),
        ("{", JSON, "no JSON"),
        (b"\xff\xfe{", JSON, "no JSON"),
        ("[" * 100_000, JSON, "no JSON"),
        ("[1]", JSON, "JSON object"),
        ("", JSON, "no JSON"),
        ("{}", JSON | {"Content-Length": "-1"}, "Content-Length"),
        ("{}", JSON | {"Content-Length": "1e3"}, "Content-Length"),
        ("{}", JSON | {"Content-Length": str(MOST + 1)}, "at most"),
        ("{}", JSON | {"Content-Length": "9" * 5000}, "at most"),
        ('{"ask": "bad"}', JSON, "ask: bad is wrong"),
    ],
)
def test_a_bad_question_is_one_line(server: Server, body: str, headers: dict[str, str], says: str) -> None:
    status, _, told = ask(server, "POST", "/answer", body, headers)
    assert status == 400
    assert says in json.loads(told)["error"] and "\n" not in json.loads(told)["error"]


def test_a_bug_is_told_to_the_terminal_alone(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, body = ask(server, "POST", "/answer", '{"ask": "bug"}', JSON)
    assert status == 500 and b"secret" not in body and b"Traceback" not in body
    error = capsys.readouterr().err
    assert "KeyError" in error and "Traceback" not in error and error.count("\n") == 1


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD", "<script>"])
def test_other_methods_are_refused_and_not_repeated(server: Server, method: str) -> None:
    status, headers, body = ask(server, method, "/")
    assert status in (400, 501) and b"<" not in body and "Access-Control-Allow-Origin" not in headers


def test_a_port_in_use_is_one_line(server: Server) -> None:
    with pytest.raises(InputError, match=f"port: {server.server_port} cannot be listened on: Address already in use"):
        Server(lambda: "", said, server.server_port)
