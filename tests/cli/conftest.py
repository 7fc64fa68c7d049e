"""What tests of commands share: finished runs of tiny models, and commands that must fail."""

from collections.abc import Callable
from pathlib import Path

import pytest

from clew.cli.main import main
from clew.train.rounds import split
from clew.train.supervised import train
from small import split_config, train_config

Fails = Callable[..., str]


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """Runs a command that must fail; returns its one line."""

    def failing(*args: str, code: int = 2) -> str:
        capsys.readouterr()
        assert main(list(args)) == code
        printed = capsys.readouterr()
        lines = printed.err.strip().splitlines()
        assert len(lines) == 1 and "Traceback" not in printed.err, printed.err
        return lines[0]

    return failing


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished `clew train`."""
    out = tmp_path_factory.mktemp("runs") / "small"
    train(train_config(out, steps=2, validate_every=0, mazes__sizes=[3, (2, 4)]))
    return out


@pytest.fixture(scope="session")
def split_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished `clew split` whose face sees thoughts alone, copied, of 7 tokens at most."""
    out = tmp_path_factory.mktemp("runs") / "split"
    limits = {"max_thought": 7, "max_answer": 6, "face_sees": "thought", "paraphraser": "copy"}
    split(split_config(out, rounds=1, warm_start__steps=5, **limits))
    return out
