"""Run folders, readings, audits and studies of a few figures, whose texts are written to be run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clew.runs.rollouts import write_rollouts
from clew.study.cells import Kept, Result, write_results

SCRIPT = "<script>hacked=1</script>"
IMAGE = '"><img src=x onerror=hacked=1>'
BREAK = "</script><script>hacked=1</script><!-- \u2028 \u2029 & ]]> \u202e \U000e0041 \x00 \ud83d"
TEXTS = (SCRIPT, IMAGE, BREAK, "javascript:hacked=1", "=HYPERLINK(1)", "plain words")
MAZE = (
    "<ADJLIST_START> (0,0) <--> (0,1) ; (1,1) <--> (0,1) ; (1,0) <--> (1,1) ; <ADJLIST_END> "
    "<ORIGIN_START> (0,0) <ORIGIN_END> <TARGET_START> (1,0) <TARGET_END>"
)
WALK = "<PATH_START> (0,0) (0,1) (1,1) (1,0) <PATH_END>"
FIGURE = {"value": 0.5, "low": 0.4, "high": 0.6}


def written(text: str, weight: float) -> dict[str, Any]:
    return {"text": text, "tokens": [1, 2, 3], "logps": [-0.5, -1.0, -0.25], "ended": True, "weight": weight}


def answer(text: str, score: float, weight: float = 0.0) -> dict[str, Any]:
    worth = {"score": score, "scores": {f"grader {IMAGE}": score}, "monitors": {f"monitor {SCRIPT}": 1.0}}
    return written(text, weight) | worth | {"extra": {f"logged {IMAGE}": SCRIPT}}


def question(number: int, prompt: str, answers: list[str], thought: Sequence[str] = TEXTS) -> dict[str, Any]:
    """One with a thought for each text of `thought`, each with all the answers, better and better."""
    thoughts = []
    for i, text in enumerate(thought):
        below = [answer(one, (i + j) / 10, (i - j) / 4) for j, one in enumerate(answers)]
        lines = [{"text": text, "tokens": [1], "read": f"{text} rewritten", "read_tokens": [2], "kept": False}]
        own = written(text, i / 3 - 1) | {"read": f"before {prompt} {text} behind", "lines": lines, "answers": below}
        thoughts.append(own)
    return {"number": number, "prompt": prompt, "context": [1, 2], "columns": {IMAGE: SCRIPT}, "thoughts": thoughts}


def split_folder(folder: Path, rounds: int = 3) -> Path:
    """A split's run: its rounds have a question in language and one about a maze."""
    for number in range(1, rounds + 1):
        asked = [
            question(2 * number, f"{SCRIPT} What is {number}?", list(TEXTS)),
            question(2 * number + 1, MAZE, [WALK]),
        ]
        write_rollouts(folder, number, asked)
    lines = [{"step": n, "score": n / 10, "thought_tokens": 9 - n, f"held_out_score {IMAGE}": 0.1} for n in range(1, 4)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = {"questions": 9, "optimal": FIGURE, f"figure {IMAGE}": FIGURE, "command": SCRIPT}
    (folder / "eval.json").write_text(json.dumps({"before": report, "after": report}))
    (folder / "config.yaml").write_text(f"rule: '{IMAGE}'\nseed: 3\nrounds: {rounds}\n")
    return folder


def train_folder(folder: Path) -> Path:
    lines = [{"step": n, "loss": 2.0 / n, "held_out_exact": n / 9, f"more {IMAGE}": n} for n in range(1, 9)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    groups = {IMAGE: {"questions": 4, "exact": FIGURE}, SCRIPT: {"questions": 5, "exact": FIGURE}}
    report = {"questions": 9, "exact": FIGURE, SCRIPT: FIGURE, "by_size": groups, "command": IMAGE}
    baseline = {"baseline": {"exact": FIGURE}, "baseline_by_size": groups}
    (folder / "eval.json").write_text(json.dumps(report | baseline))
    (folder / "config.yaml").write_text(f"loss: '{SCRIPT}'\n")
    return folder


def reading_folder(folder: Path) -> Path:
    (folder / "readings").mkdir()
    ends = {"effect": 0.5, "effect_low": 0.4, "effect_high": 0.6}
    tables = {
        "residual": [
            {"place": place, "layer": layer, "direction": "denoising", **ends}
            for place in (IMAGE, SCRIPT)
            for layer in range(2)
        ],
        "heads": [{"layer": 0, "head": head, "direction": "denoising", **ends} for head in range(2)],
        "crispness": [
            {"number": "localisation", "part": part, "value": 0.5, "value_low": 0.4, "value_high": 0.6, "null": 0.05}
            | {"remark": SCRIPT}
            for part in ("all", IMAGE)
        ],
        "verdict": [
            {"verdict": IMAGE, "why": BREAK, "reading": SCRIPT, "says": BREAK, "account": IMAGE, "speaks": SCRIPT}
        ],
    }
    for name, rows in tables.items():
        clean = json.loads(json.dumps(rows).replace("\\ud83d", "?"))
        pq.write_table(pa.Table.from_pylist(clean), folder / "readings" / f"{name}.parquet")
    about = {"model": SCRIPT, "options": {"size": [3, 3]}, "tables": {name: {} for name in tables}}
    (folder / "readings" / "reading.json").write_text(json.dumps(about))
    return folder


def audit_folder(folder: Path) -> Path:
    measures = {"necessity": {"": {"nats": FIGURE}}, IMAGE: {SCRIPT: {IMAGE: FIGURE, "changed": FIGURE}}}
    report = {"questions": 20, "thoughts": 4, "measures": measures, "says": {"necessity": {"nats": SCRIPT}}}
    (folder / "audit.json").write_text(json.dumps(report | {"notes": [IMAGE]}))
    return folder


def study_folder(folder: Path) -> Path:
    """Six arms on mazes, as a study of credit rules has them."""
    dice, results = np.random.default_rng(0), []
    names = ("basic", "basic, k=1", IMAGE, "best against worst", "advantage", "basic, one policy")
    for i, name in enumerate(names):
        figures = {one: dice.normal(0.5 + i / 20, 0.05, 4) for one in ("gained", "optimal", "before", "thought_tokens")}
        kept = Kept(
            {"seed": 0, "replicas": 4, "policies": "two", "lr": 0.1, "note": SCRIPT}, figures, [0.1, 0.5], [0.01] * 2
        )
        results.append(Result("mazes", {}, name, kept))
    write_results(folder / "mazes.parquet", {"seeds": 4, "start": IMAGE}, results)
    return folder
