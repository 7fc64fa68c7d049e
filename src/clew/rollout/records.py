"""Rollouts as plain records, for run folders and pictures; their schema stands in `runs.rollouts`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clew.rollout.types import Completion, Rollout
from clew.world import World

Scores = Mapping[str, np.ndarray]
"""Grader by grader, scores_QNK."""


def records_of(
    world: World,
    rollouts: Sequence[Rollout],
    numbers: Sequence[int],
    thought_QN: np.ndarray,
    answer_QNK: np.ndarray,
    score_QNK: np.ndarray,
    scores_QNK: Scores,
) -> list[dict[str, Any]]:
    """One record a question: texts, tokens and log-probabilities, what the face read, scores by grader, weights."""
    records = []
    for q, rollout in enumerate(rollouts):
        thoughts = []
        for i, (thought, read, answers) in enumerate(zip(rollout.thoughts, rollout.read, rollout.answers, strict=True)):
            below = [
                written(answer, rollout.answer_texts[i][j])
                | {
                    "weight": float(answer_QNK[q, i, j]),
                    "score": float(score_QNK[q, i, j]),
                    "scores": {name: float(each[q, i, j]) for name, each in scores_QNK.items()},
                }
                for j, answer in enumerate(answers)
            ]
            own = written(thought, rollout.thought_texts[i]) | {"read": world.text(read.ids())}
            thoughts.append(own | {"weight": float(thought_QN[q, i]), "answers": below})
        question = rollout.question
        records.append(
            {"number": numbers[q], "prompt": question.prompt, "context": question.tokens} | {"thoughts": thoughts}
        )
    return records


def written(one: Completion, text: str) -> dict[str, Any]:
    """A completion's own part of a record."""
    logps = [round(logp, 6) for logp in one.logps]
    return {"text": text, "tokens": one.tokens, "logps": logps, "ended": one.ended}
