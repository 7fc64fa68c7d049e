"""Readings over a training: each snapshot's own, in the order of the steps."""

from pathlib import Path

import pytest

from clew.errors import InputError
from clew.mazes.pairs import PairStream
from clew.policy import Policy
from clew.read.along import along
from clew.read.lens import look
from clew.train.supervised import train
from small import train_config


def test_each_snapshot_is_read(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(train_config(out, steps=10, snapshots=2.0, validate_every=0, mazes__sizes=[4]))
    pairs = PairStream(sizes=((4, 4),)).batch(range(20))
    table = along(out, lambda policy: look(policy, pairs).table())
    assert table.column_names[0] == "step" and table["step"].unique().to_pylist() == [1, 2, 4, 8]
    for step in (1, 8):
        mine = table.filter(table["step"].to_numpy() == step).drop_columns("step")
        alone = look(Policy.load(out / "snapshots" / f"step-{step:06d}" / "model"), pairs).table()
        assert mine.to_pylist() == alone.to_pylist()
    with pytest.raises(InputError, match="keeps no snapshots"):
        along(tmp_path, lambda policy: look(policy, pairs).table())
