"""Rollouts as records: all that was written, read, scored and weighed, by the one schema."""

from pathlib import Path

import numpy as np

from clew.rollout.records import records_of
from clew.runs.rollouts import read_rollouts, write_rollouts
from small import WORLD, fresh_team, played, split_config


def test_a_record_holds_what_was_written_read_scored_and_weighed(tmp_path: Path) -> None:
    config = split_config(face_sees="thought", max_thought=8, max_answer=5)
    rollouts, dice = played(config, fresh_team(config), 2), np.random.default_rng(0)
    thought_QN, answer_QNK, score_QNK = (dice.normal(size=shape) for shape in ((2, 3), (2, 3, 2), (2, 3, 2)))
    scores = {"length": score_QNK + 1, "tone": score_QNK * 0}
    records = records_of(WORLD, rollouts, [40, 50], thought_QN, answer_QNK, score_QNK, scores)
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
