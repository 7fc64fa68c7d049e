"""The running average of weights: its formula, what a run makes of it, and an exact resume."""

import shutil
from pathlib import Path

import pytest
import torch

from clew.averaging import FOLDER, Average
from clew.errors import InputError
from clew.mazes.vocab import maze_tokenizer
from clew.policy import Policy
from clew.runs.checkpoints import latest_checkpoint
from clew.train.supervised import train
from small import same_weights, train_config

OPTIONS = {"average": True, "optimizer__schedule": "constant", "checkpoint_every": 4, "validate_every": 0}


def test_it_is_the_polynomial_average_of_what_was_learnt() -> None:
    policy = Policy.build(maze_tokenizer(3), 1, 16, 2)
    average, seen = Average(policy), []
    weight, mean = (one.model.get_parameter("lm_head.weight") for one in (policy, average.policy))
    for _ in range(12):
        with torch.no_grad():
            weight.add_(torch.randn_like(weight))
        average.update()
        seen.append(weight.detach().clone())
    shares = torch.ones(len(seen), dtype=torch.float64)  # by hand: update t, counted from 0, takes 8 / (t + 8) of all
    for t in range(len(seen)):
        shares[:t] *= 1 - 8 / (t + 8)
        shares[t] = 8 / (t + 8)
    assert shares.sum() == pytest.approx(1)
    torch.testing.assert_close(
        mean.double(), sum(share * one.double() for share, one in zip(shares, seen, strict=True))
    )


def test_a_run_keeps_the_average_and_resumes_exactly(tmp_path: Path) -> None:
    train(train_config(tmp_path / "whole", **OPTIONS, steps=8))
    train(train_config(tmp_path / "part", **OPTIONS, steps=5))
    train(train_config(tmp_path / "part", **OPTIONS, steps=8), resume=True)
    assert same_weights(tmp_path / "whole" / "model", tmp_path / "part" / "model")
    last = latest_checkpoint(tmp_path / "whole")
    assert last and same_weights(tmp_path / "whole" / "model", last / FOLDER)
    assert not same_weights(tmp_path / "whole" / "model", last / "model")
    train(train_config(tmp_path / "plain", **OPTIONS | {"average": False}, steps=8))
    assert same_weights(tmp_path / "plain" / "model", last / "model")  # it changes nothing of what is learnt


def test_a_checkpoint_without_its_average_is_torn(tmp_path: Path) -> None:
    train(train_config(tmp_path / "run", **OPTIONS, steps=8))
    last = latest_checkpoint(tmp_path / "run")
    assert last
    shutil.rmtree(last / FOLDER)
    with pytest.warns(UserWarning, match="it has no average"):
        train(train_config(tmp_path / "run", **OPTIONS, steps=8), resume=True)
    other = Average(Policy.build(maze_tokenizer(3), 1, 32, 2))
    again = latest_checkpoint(tmp_path / "run")
    assert again
    with pytest.raises(InputError, match="of another model"):
        other.load(again, 8)
