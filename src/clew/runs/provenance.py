"""What made a result."""

import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clew import __version__

BENCHES = Path(__file__).parents[3] / "bench"  # of a clone; as `clew bench` starts them


def _command_line() -> list[str]:
    """This process's words after `clew`; those of a bench, which is a script of its own, are told by its name."""
    started = Path(*sys.argv[:1])
    bench = ["bench", started.stem] if started.parent == BENCHES else []
    return [*bench, *sys.argv[1:]]


def provenance(command: Sequence[str] | None = None) -> dict[str, Any]:
    """What made a result: {command, versions, machine}. command: its words after `clew`; by default this process's."""
    import torch
    import transformers

    words = ["clew", *(_command_line() if command is None else command)]
    versions = {"clew": __version__, "python": platform.python_version()}
    versions |= {"torch": torch.__version__, "transformers": transformers.__version__}
    machine = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        machine += f", {torch.cuda.get_device_name()}"
    return {"command": " ".join(words), "versions": versions, "machine": machine}
