"""Lines of figures: whole ones, torn ones, and those that a killed run wrote too many."""

import json
from pathlib import Path

import pytest

from clew.errors import InputError
from clew.runs.metrics import append_metrics, keep_metrics, read_metrics


def test_metrics_lose_what_came_after_a_step_and_what_is_none(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [
        b'{"step": 1}',
        b"[1]",
        b"3",
        b"null",
        b'{"loss": 1}',
        b'{"step": "1"}',
        b'{"step": 1e400}',
        b"\xff\x00",
        b'{"step": true}',
        b"[" * 100_000,
        b"",
        b'{"step": 2, "loss": 1}',
        b'{"step": 3}',
        b'{"ste',
    ]
    path.write_bytes(b"\n".join(lines))
    keep_metrics(path, 2)
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2, "loss": 1}\n'
    path.write_bytes(b'{"step": 1}')  # a whole line but for its end
    keep_metrics(path, 2)
    append_metrics(path, {"step": 2, "loss": float("nan")})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"step": 1}, {"step": 2, "loss": None}]
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=r"metrics.jsonl is a folder"):
        keep_metrics(path, 2)


def test_a_line_that_does_not_fit_leaves_none(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "metrics.jsonl"
    append_metrics(path, {"step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            append_metrics(path, {"step": 2, "loss": 0.123456789})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(path) and path.read_text() == '{"step": 1}\n'


def test_all_that_is_an_object_is_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    path.write_bytes(b'{"step": 1}\n[1]\n\xff\n{"loss": null}\n{"st')
    assert read_metrics(path) == [{"step": 1}, {"loss": None}]
    with pytest.raises(InputError, match="cannot be read"):
        read_metrics(tmp_path)
