"""Trackers are shown samples: by the trackers themselves, as people's tools read what they wrote."""

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.tracking import TensorBoardTracker, TrackioTracker, WandBTracker

from clew.runs.trackers import COLUMNS, log_samples


def rollout(number: int, scores: list[float | None], text: str = "hm") -> dict[str, Any]:
    answers = [{"text": f"{text} {score}", "score": score, "weight": 0.25} for score in scores]
    return {"number": number, "prompt": text, "thoughts": [{"text": text, "weight": -0.5, "answers": answers}]}


RECORDS = [rollout(0, [0.0, 1.0, 0.5]), rollout(1, [None, 1.0]), rollout(2, [2.0]), rollout(3, []), rollout(4, [1.0])]
SHOWN = [(0, "hm 1.0"), (0, "hm 0.0"), (1, "hm 1.0"), (1, "hm None"), (2, "hm 2.0")]  # best and worst of four questions


def test_tensorboard_shows_a_table_of_whatever_was_written(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    text = pytest.importorskip("tensorboard.plugins.text.text_plugin").text_array_to_html
    tracker = TensorBoardTracker("run", logging_dir=tmp_path)
    tracker.start()
    hostile = "<think> | *a* _b_ `c` [d](e)\n\x1b[31m & 1. é"
    log_samples([tracker], RECORDS, 1)
    log_samples([tracker], [rollout(9, [1.0], hostile)], 2)
    tracker.finish()
    read = events.EventAccumulator(str(tmp_path / "run"))
    read.Reload()
    first, second = read.Tensors("samples/text_summary")
    assert (first.step, second.step) == (1, 2)
    lines = first.tensor_proto.string_val[0].decode().splitlines()
    assert html.unescape(lines[0]) == f"| {' | '.join(COLUMNS)} |" and len(lines) == 2 + len(SHOWN)
    shown = text(np.array(second.tensor_proto.string_val[0]), enable_markdown=True)
    assert "<think>" not in shown and shown.count("<td>") == 7
    assert "<td><think> | *a* _b_ `c` [d](e)\\n\\x1b[31m & 1. é</td>" in html.unescape(shown)


def test_wandb_gets_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    tracker = WandBTracker("run", dir=str(tmp_path))
    tracker.start()
    log_samples([tracker], RECORDS, 3)
    tracker.finish()
    (file,) = tmp_path.rglob("samples*.table.json")
    table = json.loads(file.read_text())
    assert tuple(table["columns"]) == COLUMNS and [(row[0], row[3]) for row in table["data"]] == SHOWN


def test_trackio_gets_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    store = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
    tracker = TrackioTracker("run", embed=False)
    tracker.start()
    log_samples([tracker], RECORDS, 3)
    tracker.finish()
    (line,) = [line for name in store.get_runs("run") for line in store.get_logs("run", name)]
    assert [(row["question"], row["answer"]) for row in line["samples"]["_value"]] == SHOWN
