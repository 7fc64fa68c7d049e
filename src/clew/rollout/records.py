"""Rollouts as plain records, for run folders and pictures; their schema stands in `runs.rollouts`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clew.rollout.types import Completion, Context, Rollout, Thought
from clew.world import World

Scores = Mapping[str, np.ndarray]
"""Grader by grader, scores_QNK."""
LOOK_BACK = 4  # tokens of a shared span that are decoded again, so that what follows them is spelt as it is behind them


def records_of(
    world: World,
    rollouts: Sequence[Rollout],
    numbers: Sequence[int],
    thought_QN: np.ndarray,
    answer_QNK: np.ndarray,
    score_QNK: np.ndarray,
    scores_QNK: Scores,
    monitors_QNK: Scores | None = None,
    extra: Mapping[str, Sequence[Any]] | None = None,
) -> list[dict[str, Any]]:
    """One record a question: texts, tokens and log-probabilities, what the face read, scores by grader, weights.

    monitors_QNK: what each monitor saw, NaN where it saw nothing. extra: what graders logged, a value for each answer,
    all thoughts' answers of the first question first.
    """
    records, shape, known = [], score_QNK.shape, {}
    for q, rollout in enumerate(rollouts):
        thoughts = []
        for i, (thought, read, answers) in enumerate(zip(rollout.thoughts, rollout.read, rollout.answers, strict=True)):
            below = []
            for j, answer in enumerate(answers):
                worth: dict[str, Any] = {"weight": float(answer_QNK[q, i, j]), "score": float(score_QNK[q, i, j])}
                worth["scores"] = {name: float(each[q, i, j]) for name, each in scores_QNK.items()}
                if monitors_QNK:
                    worth["monitors"] = {name: float(each[q, i, j]) for name, each in monitors_QNK.items()}
                if extra:
                    place = int(np.ravel_multi_index((q, i, j), shape))
                    worth["extra"] = {name: each[place] for name, each in extra.items()}
                below.append(written(answer, rollout.answer_texts[i][j]) | worth)
            own = written(thought, rollout.thought_texts[i]) | {"read": text_of(world, read, known)}
            own |= lines_of(world, thought)
            thoughts.append(own | {"weight": float(thought_QN[q, i]), "answers": below})
        question = rollout.question
        asked = {"number": numbers[q], "prompt": question.prompt, "context": question.tokens}
        asked |= {"columns": question.columns} if question.columns else {}
        records.append(asked | {"thoughts": thoughts})
    return records


def written(one: Completion | Thought, text: str) -> dict[str, Any]:
    """A completion's own part of a record."""
    return {"text": text, "tokens": one.tokens, "logps": one.logps, "ended": one.ended}


def lines_of(world: World, thought: Thought) -> dict[str, Any]:
    """What was written and what was read in its place, line by line; nothing of a thought that nobody rewrote."""
    if not thought.paraphrased:
        return {}
    lines = []
    for line in thought.lines:
        own, read = list(line.written.tokens), list(line.read.tokens)
        said = {"text": world.text(own), "tokens": own, "read": world.text(read), "read_tokens": read}
        lines.append(said | {"kept": line.kept})
    return {"lines": lines}


def text_of(world: World, read: Context, known: dict[int, str] | None = None) -> str:
    """The text of all that is read. known: that of contexts by their ids, which must outlive it: each is decoded once.

    What stands behind a known context is decoded with that context's last tokens alone, not with all of it.
    """
    known = {} if known is None else known
    for link in read.chain():
        if id(link) not in known:
            ids, before = link.ids(), link.before
            last = ids[: len(ids) - len(link.tokens)][-LOOK_BACK:]
            first, tail = (known[id(before)], world.text(last)) if before else ("", "")
            both = world.text([*last, *link.tokens]) if tail and first.endswith(tail) else ""
            known[id(link)] = first + both[len(tail) :] if both and both.startswith(tail) else world.text(ids)
    return known[id(read)]
