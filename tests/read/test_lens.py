"""The logit lens: the model's own norm and head, on its own hidden states."""

from typing import Any

import numpy as np
import pytest
import torch

from clew.errors import InputError
from clew.mazes import maze_tokenizer
from clew.mazes.pairs import PairStream
from clew.policy import Policy
from clew.read.cases import random_twin
from clew.read.hooks import final_norm_of
from clew.read.lens import Lens, look
from models import MAKERS, tiny

TOKENIZER = maze_tokenizer(4)
PAIRS = PairStream("target", sizes=((3, 3), (4, 4))).batch(range(12), TOKENIZER)


def policy(kind: str = "llama", seed: int = 0) -> Policy:
    return Policy(tiny(kind, len(TOKENIZER), seed), TOKENIZER)


@torch.no_grad()
@pytest.mark.parametrize("kind", MAKERS)
def test_equal_to_norm_and_head_on_hidden_states(kind: str) -> None:
    reader = policy(kind, seed=1)
    found = look(reader, PAIRS, batch_size=5)
    for one, metric_LP, top_LP in (
        (reader, found.metric_LP, found.top_LP),
        (random_twin(reader), found.random_metric_LP, found.random_top_LP),
    ):
        head: Any = one.model.get_output_embeddings()  # type: ignore[operator]
        for number in (0, 5, 11):
            row = PAIRS.clean_tokens_PT[number, -PAIRS.length_P[number] :]
            out = one.model(torch.from_numpy(row)[None], output_hidden_states=True)
            right, wrong = PAIRS.right_P[number], PAIRS.wrong_P[number]
            for depth, hidden_BTD in enumerate(out.hidden_states[:3]):
                logits_V = head(final_norm_of(one.model)(hidden_BTD[0, -1]))
                assert metric_LP[depth, number] == pytest.approx(float(logits_V[right] - logits_V[wrong]), abs=1e-6)
                assert top_LP[depth, number] == (int(logits_V.argmax()) == right)
            last_V = out.logits[0, -1]
            assert metric_LP[3, number] == pytest.approx(float(last_V[right] - last_V[wrong]), abs=1e-6)
    assert not np.allclose(found.metric_LP, found.random_metric_LP)


def test_table() -> None:
    metric_LP = np.array([[-1.0] * 20, [1.0] * 15 + [-3.0] * 5])
    top_LP = metric_LP > 0
    found = Lens(metric_LP, top_LP, -metric_LP, ~top_LP, np.array([1] * 15 + [2] * 5))
    rows = found.table().to_pylist()
    assert [row["lookahead"] for row in rows[::6]] == [None, 1, None, 1]  # five pairs are too few for a row
    last = {row["figure"]: row for row in rows if row["depth"] == 1 and row["lookahead"] is None}
    assert last["branch"]["value"] == 0.75 and last["random_branch"]["value"] == 0.25 and last["top"]["pairs"] == 20
    assert last["difference"]["value"] == 0 and last["difference"]["value_low"] < 0 < last["difference"]["value_high"]


def test_too_few_pairs() -> None:
    with pytest.raises(InputError, match="pairs: 9 are too few"):
        look(policy(), PAIRS.take(np.arange(9)))
