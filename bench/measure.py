"""What the benches share: sides that take turns, and results with the command that made them."""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from clew.endings import complain
from clew.files import write_atomically, write_json
from clew.runs.options import flat, read_yaml
from clew.runs.provenance import provenance
from clew.text import with_interval
from clew.train.config import TrainConfig

Clock = Callable[[], float]
EXAMPLES = Path(os.path.relpath(Path(__file__).parents[1] / "examples" / "language"))


class Refused(SystemExit):
    """Ends a bench with an exit code, its line having been told; whoever catches it can read the line."""

    def __init__(self, line: str, code: int) -> None:
        super().__init__(code)
        self.line = line

    def __str__(self) -> str:
        return self.line


def interleaved(
    sides: dict[str, Callable[[], object]],
    repeats: int,
    warm: int = 2,
    clock: Clock = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each side by a clock, all sides taking turns; the first `warm` turns are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + warm):
        for name, run in sides.items():
            start = clock()
            run()
            if turn >= warm:
                seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def timed(owner: object, name: str, label: str, spent: dict[str, float], clock: Clock = time.perf_counter) -> None:
    """Adds the seconds of every call of `owner.name` to spent[label]."""
    inner = getattr(owner, name)

    def outer(*args: Any, **kwargs: Any) -> Any:
        start = clock()
        try:
            return inner(*args, **kwargs)
        finally:
            spent[label] += clock() - start

    setattr(owner, name, outer)


def held(field: str = "VmRSS") -> int:
    """Bytes of this process's memory (Linux): VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(field)))


def room(run: Callable[[], object]) -> int:
    """Bytes that `run` holds at most beyond what the process held before it."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = held()
    run()
    return held("VmHWM") - before


def run(out: Path, command: str, *args: str, threads: int | None = None) -> dict[str, Any]:
    """The evaluation of one `clew train` or `clew split` of the language examples, run now or earlier; one that was
    killed goes on. threads: of its own, where several run side by side."""
    if not (out / "eval.json").is_file():
        go_on = ["--resume", str(out)] if (out / "config.yaml").is_file() else ["--out", str(out)]
        paths = os.pathsep.join(filter(None, (str(EXAMPLES), os.environ.get("PYTHONPATH", ""))))
        env = {**os.environ, "PYTHONPATH": paths} | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
        subprocess.run([sys.executable, "-m", "clew", command, *args, *go_on], check=True, env=env)
    return json.loads((out / "eval.json").read_text())


def other_options(wanted: Mapping[str, Any], run: Path, kind: type = TrainConfig) -> dict[str, Any]:
    """What a run of `clew train`, or of another kind, was made with where `wanted`, options by groups, says something
    else."""
    there, asked = flat(read_yaml(run / "config.yaml"), kind), flat(wanted, kind)
    return {name: there.get(name) for name, value in asked.items() if not same(value, there.get(name))}


def same(first: Any, second: Any) -> bool:
    """Whether two values of an option mean the same; YAML takes 1e-3 for text."""
    try:
        return float(first) == float(second)
    except (TypeError, ValueError):
        return first == second


def minutes_of(out: Path) -> float:
    """What a run's rounds or steps took, without evaluations."""
    logged = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return max(one["seconds"] for one in logged) / 60


def figure(value: dict[str, float], scale: float = 1.0, digits: int = 1) -> str:
    """A figure of an evaluation with its interval."""
    if (scale, digits) == (100, 1):
        return with_interval(value)
    told, low, high = (f"{scale * value[part]:.{digits}f}" for part in ("value", "low", "high"))
    return f"{told} [{low}, {high}]"


def refuse(bench: str, condition: object, line: str, code: int = 2) -> None:
    """On a condition ends a bench with one line, and as `clew` does: with 2 for bad input, 1 for what failed."""
    if condition:
        complain(f"clew bench {bench}: {line}")
        raise Refused(f"clew bench {bench}: {line}", code)


def options(about: str | None, repeats: int = 9) -> argparse.ArgumentParser:
    """The options that every bench has."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=repeats, help="turns of each side; medians count")
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="folder of the results")
    return parser


def keep(name: str, out: Path, results: object, table: list[str], about: str = "") -> None:
    """OUT/NAME.json and OUT/NAME.md, and the table on the screen."""
    command = re.sub(r" --(out|runs)[ =]\S+", "", " ".join(["clew bench", name, *sys.argv[1:]]))
    write_json(out / f"{name}.json", {"results": results, **provenance(), "command": command})
    text = f"Made by `{command}`, {torch.get_num_threads()} threads, torch {torch.__version__}. {about}".strip()
    write_atomically(out / f"{name}.md", "\n".join([text, "", *table]) + "\n")
    print("\n".join(table))
