"""Servers that are down, slow, torn or wrong: one line each, and no waiting for ever."""

import socket
import threading
import time
from contextlib import suppress

import pytest

from clew.errors import InputError
from clew.rollout import serving as module
from clew.rollout.serving import SamplerError, call, server_url, side_by_side, takes, told
from servers import free_port, serving


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call, "__defaults__", (None, 600.0, (0.01, 0.01)))


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://a", "http://", "http://a:b", "http://a b", "http://a\n"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InputError, match=r"^sampler\.url: .* is no url of a server; expected one such as http://"):
        server_url(url)


def test_what_paths_begin_with_is_no_part_of_it() -> None:
    assert {server_url(f"http://a:8000{end}") for end in ("", "/", "/v1", "/v1/")} == {"http://a:8000"}


def test_a_server_that_is_down() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(SamplerError, match=rf"^{url} cannot be reached: Connection refused$"):
        call(url)


def test_a_server_that_is_slow() -> None:
    ended = threading.Event()

    def slow(path: str, posted: object) -> tuple[int, str]:
        ended.wait(20)
        return 200, "late"

    with serving(slow) as url:
        began = time.monotonic()
        with pytest.raises(SamplerError, match=rf"^{url} gave no answer within 0\.2 s$"):
            call(url, timeout=0.2)
        assert time.monotonic() - began < 10
        ended.set()


def raw(parts: list[bytes], pause: float) -> str:
    """The url of a server that says just this, whatever it is asked, and hangs up."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            one, _ = listening.accept()
            with suppress(OSError), one:
                one.recv(65536)
                for part in parts:
                    one.sendall(part)
                    time.sleep(pause)

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_an_answer_that_drips_or_is_torn() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    with pytest.raises(SamplerError, match=r"gave no whole answer within 0\.3 s$"):
        call(raw([head, *[b"x"] * 50], 0.1), timeout=0.3)
    with pytest.raises(SamplerError, match="cannot be reached: IncompleteRead"):
        call(raw([head, b"{"], 0.0))
    with pytest.raises(SamplerError, match="cannot be reached"):
        call(raw([b"SSH-2.0-what\r\n"], 0.0))


def test_a_server_that_hangs_up_is_tried_again() -> None:
    asked: list[str] = []

    def moody(path: str, posted: object) -> tuple[int, str]:
        asked.append(path)
        if len(asked) < 3:
            raise ConnectionError
        return 200, '{"a": 1}'

    with serving(moody) as url:
        assert told(f"{url}/x", {"b": 2}) == {"a": 1} and asked == ["/x"] * 3
        asked[:] = []
        with pytest.raises(SamplerError, match="cannot be reached"):
            call(f"{url}/x", pauses=())
        assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "line", "asked"),
    [
        (400, '{"error": {"message": "too\\nlong"}}', "answered 400: too long", 1),
        (404, '{"detail": "Not Found"}', "answered 404: Not Found", 1),
        (422, "[1]", r"answered 422: \[1\]", 1),
        (503, "\x1b[31mred", r"answered 503: \\x1b\[31mred", 3),
    ],
)
def test_what_a_server_says_is_wrong(status: int, body: str, line: str, asked: int) -> None:
    count: list[str] = []

    def answer(path: str, posted: object) -> tuple[int, str]:
        count.append(path)
        return status, body

    with serving(answer) as url, pytest.raises(SamplerError, match=rf"^{url} {line}$"):
        call(url)
    assert len(count) == asked


@pytest.mark.parametrize("body", ["", '{"a": ', "[" * 100_000, b"\xff\xfe"])
def test_what_is_no_json(body: str | bytes) -> None:
    with serving(lambda path, posted: (200, body)) as url, pytest.raises(SamplerError, match=r"which is no JSON$"):
        told(url)


def test_an_answer_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 1 << 20)
    line = r"answers with more than 1 MiB$"
    with serving(lambda path, posted: (200, b" " * (2 << 20))) as url, pytest.raises(SamplerError, match=line):
        call(url)


def test_whether_a_server_knows_of_a_request() -> None:
    answers = {"/a": (200, "ok"), "/b": (404, '{"detail": "Not Found"}'), "/c": (404, '{"error": {"message": "no"}}')}
    with serving(lambda path, posted: answers[path]) as url:
        assert takes(f"{url}/a", {}, 5) and not takes(f"{url}/b", {}, 5)
        with pytest.raises(SamplerError, match="answered 404: no"):
            takes(f"{url}/c", {}, 5)


def test_side_by_side_in_order_and_ended_by_the_first_error() -> None:
    both = threading.Barrier(40, timeout=20)  # only work that is really side by side passes

    def together(i: int) -> int:
        both.wait()
        return i * i

    assert side_by_side(together, range(40)) == [i * i for i in range(40)]
    assert side_by_side(str, []) == []
    done: list[int] = []

    def failing(i: int) -> None:
        if i == 3:
            raise SamplerError("three")
        time.sleep(0.02)
        done.append(i)

    with pytest.raises(SamplerError, match="three"):
        side_by_side(failing, range(10_000))
    time.sleep(0.2)
    assert len(done) < 1000
