"""Rollouts as records: all that was written, read, scored and weighed, by the one schema."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.rollout.records import records_of, text_of
from clew.rollout.types import Context
from clew.runs.rollouts import read_rollouts, write_rollouts
from small import WORLD, fresh_team, played, split_config


def test_a_record_holds_what_was_written_read_scored_and_weighed(tmp_path: Path) -> None:
    config = split_config(face_sees="thought", max_thought=8, max_answer=5)
    rollouts, dice = played(config, fresh_team(config), 2), np.random.default_rng(0)
    thought_QN, answer_QNK, score_QNK = (dice.normal(size=shape) for shape in ((2, 3), (2, 3, 2), (2, 3, 2)))
    scores = {"length": score_QNK + 1, "tone": score_QNK * 0}
    watched, logged = {"loud": np.where(score_QNK > 0, score_QNK, np.nan)}, {"note": list(range(12))}
    records = records_of(WORLD, rollouts, [40, 50], thought_QN, answer_QNK, score_QNK, scores, watched, logged)
    write_rollouts(tmp_path, 7, records)
    for q, (record, rollout) in enumerate(zip(read_rollouts(tmp_path), rollouts, strict=True)):
        assert (record["round"], record["number"]) == (7, (40, 50)[q])
        assert (record["prompt"], record["context"]) == (rollout.question.prompt, rollout.question.tokens)
        assert len(record["thoughts"]) == 3
        for i, (told, thought) in enumerate(zip(record["thoughts"], rollout.thoughts, strict=True)):
            assert (told["tokens"], told["ended"], told["weight"]) == (thought.tokens, thought.ended, thought_QN[q, i])
            assert np.allclose(told["logps"], thought.logps, atol=1e-6) and told["text"] == WORLD.text(thought.tokens)
            assert told["read"] == " ".join([told["text"], *([] if thought.ended else ["<THOUGHT_END>"])])
            assert len(told["answers"]) == 2
            for j, (said, answer) in enumerate(zip(told["answers"], rollout.answers[i], strict=True)):
                assert (said["text"], said["tokens"]) == (WORLD.text(answer.tokens), answer.tokens)
                assert (said["weight"], said["score"]) == (answer_QNK[q, i, j], score_QNK[q, i, j])
                assert said["scores"] == {"length": score_QNK[q, i, j] + 1, "tone": 0.0}
                assert said["monitors"] == {"loud": score_QNK[q, i, j] if score_QNK[q, i, j] > 0 else None}
                assert said["extra"] == {"note": (3 * q + i) * 2 + j}


class Bytes:
    """A world's text, of one token a byte: what a span says alone is not what it says behind another."""

    def __init__(self) -> None:
        self.decoded = 0

    def text(self, tokens: Sequence[int]) -> str:
        self.decoded += len(tokens)
        return bytes(tokens).decode(errors="replace").lstrip(" ")  # as many tokenizers do with a first space


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.sampled_from("ab \n\ufffdé漢😀"), max_size=30), cuts=st.lists(st.integers(0, 90), max_size=4))
def test_what_is_read_is_spelt_as_if_decoded_whole(text: str, cuts: list[int]) -> None:
    ids, world = list(text.encode()), Bytes()
    places = sorted({0, len(ids), *(min(cut, len(ids)) for cut in cuts)})
    link = Context([], "prompt")
    for first, last in pairwise(places):
        link = Context(ids[first:last], "thought", link)
    assert text_of(world, link) == text_of(world, link, {}) == world.text(ids)  # type: ignore[arg-type]


def test_a_span_that_many_read_is_decoded_once() -> None:
    prompt, world, known = Context(list(b"a long prompt. " * 100), "prompt"), Bytes(), {}
    for read in [Context(f"thought {i}".encode(), "thought", prompt) for i in range(50)]:
        assert text_of(world, read, known) == bytes(read.ids()).decode()  # type: ignore[arg-type]
    assert world.decoded < 1500 + 50 * 20
