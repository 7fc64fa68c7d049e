"""What trackers are shown of a split beside its figures: a table of samples now and then."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from clew.runs.rollouts import Record
from clew.text import printable

COLUMNS = ("question", "prompt", "thought", "answer", "score", "thought_weight", "answer_weight")
QUESTIONS, MOST = 4, 1000  # questions of a table, each with its best and its worst answer; characters of a text


def log_samples(trackers: Sequence[Any], records: Iterable[Record], step: int) -> None:
    """Gives a few of a round's rollouts to each of Accelerate's trackers that can show them, under the name "samples":
    a table to wandb and trackio, Markdown to tensorboard."""
    rows = [row for record in islice(records, QUESTIONS) for row in _rows(record)]
    for tracker in trackers:
        if tracker.name == "wandb":
            tracker.log_table("samples", columns=list(COLUMNS), data=rows, step=step)
        elif tracker.name == "trackio":
            import trackio

            tracker.log({"samples": trackio.Table(data=[dict(zip(COLUMNS, row, strict=True)) for row in rows])}, step)
        elif tracker.name == "tensorboard":
            tracker.log({"samples": _markdown(rows)}, step)


def _rows(record: Record) -> list[list[Any]]:
    """A question's best and worst answers, each behind its thought."""
    pairs = [(thought, answer) for thought in record["thoughts"] for answer in thought["answers"]]
    pairs.sort(key=lambda pair: -float("inf") if pair[1]["score"] is None else pair[1]["score"])
    rows = []
    for thought, answer in [pairs[-1], pairs[0]] if len(pairs) > 1 else pairs:
        texts = [printable(text, MOST) for text in (record["prompt"], thought["text"], answer["text"])]
        rows.append([record.get("number"), *texts, answer["score"], thought["weight"], answer["weight"]])
    return rows


def _markdown(rows: Sequence[Sequence[Any]]) -> str:
    """A table whose cells are shown as they are, whatever they hold."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return "".join(c if c.isalnum() or c in " .-" else f"&#{ord(c)};" for c in text)
