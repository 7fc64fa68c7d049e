"""Does a run survive being killed? Kills at random moments and full disks; every run resumed, compared bit for bit.

    clew bench kills --kills 100          # about half an hour on one core; Linux

Each command is run once undisturbed. Then lives of it: killed, resumed, killed again, until it comes to its end; then
all that it left behind is compared with what the undisturbed run left: weights, optimizer, random state, figures but
for seconds, evaluations, pictures. A moment is drawn evenly from what the undisturbed run would still take, counted
from when the process has read its options. A full disk is a tmpfs that is filled at such a moment, but for a few
thousand bytes; where nothing may be mounted, it is a limit on the size of files that is set from outside.
"""

import argparse
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from measure import keep, options

TINY = "--layers 1 --width 16 --heads 2 --mazes.sizes [3] --mazes.branches 2 --seed 3"
LOOKS = "--validation-questions 4 --final-questions 8"
TRAIN = (
    f"train {TINY} --steps 60 --per-step 2 --warmup 5 --log-every 2 --validate-every 20 --checkpoint-every 4 {LOOKS}"
)
WARM = "--warm-start.steps 110 --warm-start.per-step 2 --warm-start.optimizer.lr 1e-2"
SPLIT = (
    f"split {TINY} {WARM} --rounds 14 --questions 3 --thoughts 3 --answers 2 --lr 1e-3 --max-thought 10 "
    f"--validate-every 5 --checkpoint-every 2 {LOOKS}"
)
STUDY = (
    "study tabular --world.questions 2 --world.thoughts 4 --world.answers 4 --noise-ratios [1.0,4.0] --cost-ratios "
    "[4.0] --answers [1,4] --rounds 3 --lrs [1.0,4.0] --keeps [0.25] --replicas 20 --tune-replicas 6 --workers 1"
)
COMMANDS = {
    "train": TRAIN,
    "train, muon, graded loss": f"{TRAIN} --optimizer muon --loss graded",
    "split, two policies, auto": f"{SPLIT} --allocate auto --warm-start.optimizer muon",
    "split, adapters, kl": f"{SPLIT} --policies adapters --rank 2 --kl 0.1",
    "split, one policy, kl, auto": f"{SPLIT} --policies one --kl 0.1 --allocate auto",
    "study": STUDY,
}
HOWS = {"SIGKILL": 0.66, "SIGINT": 0.12, "SIGTERM": 0.12, "full disk": 0.10}
CODES = {"SIGKILL": (-signal.SIGKILL,), "SIGINT": (130,), "SIGTERM": (143,), "full disk": (2,)}
CLOCKS = ("seconds", "items_per_second")
ORIGIN = ("command", "versions", "machine", "date", "cpu")  # of an evaluation: what differs between two commands
STRIKES = 5  # a life, at most; then it runs to its end
SOON = 0.3  # seconds: the least that is left to draw a moment from
PATIENCE = 120.0  # seconds for a process to end


@dataclass
class Struck:
    """One kill: how, after how many seconds, and how the process ended."""

    how: str
    moment: float
    code: int
    told: list[str]
    left: int = 0
    """processes that outlived it"""
    half_written: int = 0
    """files and folders that it left so, where it could have cleared them away: not after kill -9"""

    def tidy(self) -> bool:
        """Whether it ended as the docs say: with its exit code and, unless it was kill -9, one line about it."""
        if self.how != "full disk" and self.told and self.told[-1].startswith("wrote "):
            codes, said = (*CODES[self.how], -getattr(signal, self.how)), True  # all was done: it was on its way out
        else:
            codes = CODES[self.how]
            said = self.how == "SIGKILL" or bool(self.told and self.told[-1].startswith("clew "))
        if self.how == "full disk":
            said = said and re.search("No space left on device|File too large", self.told[-1]) is not None
        clean = not self.left and not self.half_written and not any("Traceback" in line for line in self.told)
        return self.code in codes and said and clean


@dataclass
class Life:
    """One run from its beginning to its end, with all that happened on the way."""

    struck: list[Struck] = field(default_factory=list)
    ended: bool = False
    differs: list[str] = field(default_factory=list)
    half_written: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


class Ground:
    """The folder that runs are made in, with what is needed to kill them there."""

    def __init__(self, base: Path, fork: bool):
        self.base, self.fork, self.disk = base, fork, base / "disk"
        self.disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(self.disk)]
        try:
            self.mounted = subprocess.run(mount, capture_output=True).returncode == 0
        except OSError:
            self.mounted = False
        self.log = base / "log"
        self.running: int | None = None

    def close(self) -> None:
        """Ends what still runs, should the campaign itself be stopped, and gives the disk back."""
        if self.running is not None and group(self.running):
            os.killpg(self.running, signal.SIGKILL)
            os.waitpid(self.running, 0)
        if self.mounted:
            subprocess.run(["umount", str(self.disk)], check=True)

    def begin(self, args: list[str], folder: Path) -> int:
        """Starts a command in a folder, in a process group of its own; its id."""
        self.log.write_bytes(b"")
        if pid := os.fork():
            self.running = pid
            return pid
        try:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.chdir(folder)
            file = os.open(self.log, os.O_WRONLY | os.O_APPEND)
            os.dup2(file, 1)
            os.dup2(file, 2)
            if not self.fork:
                os.execv(sys.executable, [sys.executable, "-m", "clew", *args])
            os._exit(_in_this_process(args))
        finally:
            os._exit(99)

    def told(self) -> list[str]:
        return [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]

    def strike(self, pid: int, how: str, room: int) -> None:
        if how == "SIGINT":  # as a terminal does: everyone in the group hears it
            os.killpg(pid, signal.SIGINT)
        elif how != "full disk":
            os.kill(pid, signal.Signals[how])
        elif self.mounted:
            with (self.disk / "ballast").open("wb", buffering=0) as file:
                free = os.statvfs(self.disk)
                file.write(bytes(max(0, free.f_bavail * free.f_frsize - room)))
        else:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))


def _in_this_process(args: list[str]) -> int:
    """A command in a copy of this process, which has imported all that it needs."""
    import traceback

    from clew.cli import main

    sys.argv, sys.modules["__main__"] = ["clew", *args], main  # what a study's workers begin with
    try:
        code = main.main(args)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def waited(pid: int, until: float) -> int | None:
    """A process's exit code, as soon as it has one; None if it has none by then. Negative for a signal's number."""
    while True:
        gone, status = os.waitpid(pid, os.WNOHANG)
        if gone:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.002)


def awaited_up(ground: Ground, pid: int, folder: Path, study: bool) -> int | None:
    """Waits until a process has read its options and begun; its exit code if it ended before that."""
    config = folder / "run" / "config.yaml"

    def seen() -> tuple[int, int] | bool:
        if study:
            return ground.log.stat().st_size > 0
        return (config.stat().st_ino, config.stat().st_mtime_ns) if config.exists() else False

    before, until = seen(), time.monotonic() + PATIENCE
    while seen() == before and time.monotonic() < until:
        if (code := waited(pid, 0.0)) is not None:
            return code
        time.sleep(0.002)
    return None


def group(pid: int) -> int:
    """How many processes of a group are still running."""
    count = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = stat.read_text().rsplit(")", 1)[1].split()[:3]
        except OSError:
            continue
        count += int(of) == pid and state != "Z"
    return count


def outlived(pid: int) -> int:
    """How many of a process's group are there two seconds after its end; none stays behind that."""
    until = time.monotonic() + 2
    while (count := group(pid)) and time.monotonic() < until:
        time.sleep(0.02)
    if count:
        os.killpg(pid, signal.SIGKILL)
    return count


def command_for(args: list[str], folder: Path) -> list[str]:
    if args[0] == "study" or not (folder / "run" / "config.yaml").exists():
        return [*args, "--out", "run"]
    return [args[0], "--resume", "run"]


def undisturbed(ground: Ground, args: list[str], folder: Path) -> float:
    """Runs a command to its end; seconds from when it was up."""
    folder.mkdir()
    pid = ground.begin(command_for(args, folder), folder)
    code = awaited_up(ground, pid, folder, args[0] == "study")
    start = time.monotonic()
    code = waited(pid, start + PATIENCE) if code is None else code
    if code != 0:
        raise SystemExit(f"{' '.join(args)}: ended with {code}: {ground.told()[-3:]}")
    return time.monotonic() - start


def attempt(ground: Ground, args: list[str], folder: Path, how: str, moment: float, room: int) -> Struck | int:
    """Runs or resumes a command and strikes at a moment; its exit code if it had ended by then."""
    pid = ground.begin(command_for(args, folder), folder)
    code = awaited_up(ground, pid, folder, args[0] == "study")
    code = waited(pid, time.monotonic() + moment) if code is None else code
    if code is not None:
        return code
    ground.strike(pid, how, room)
    code = waited(pid, time.monotonic() + PATIENCE)
    (ground.disk / "ballast").unlink(missing_ok=True)
    if code is None:
        os.killpg(pid, signal.SIGKILL)
        return Struck(how, moment, waited(pid, time.monotonic() + PATIENCE) or 0, ["it did not end"])
    if code == 0:  # it had nothing left to write, or was done when the signal came
        return code
    parts = [path for ending in ("part", "old") for path in folder.rglob(f".*.{ending}") if how != "SIGKILL"]
    return Struck(how, round(moment, 3), code, ground.told()[-3:], outlived(pid), len(parts))


def lives(ground: Ground, name: str, hows: list[str], dice: np.random.Generator) -> list[Life]:
    """A command killed in all these ways, one after the other, over as many lives as that takes."""
    args, whole = COMMANDS[name].split(), ground.disk / "whole"
    duration = undisturbed(ground, args, whole)
    todo, lived = hows[::-1], []
    while todo:
        life, left, folder = Life(), duration, ground.disk / f"life-{len(lived)}"
        folder.mkdir()
        while todo and len(life.struck) < STRIKES:
            moment, room = dice.uniform(0, max(left, SOON)), int(dice.integers(0, 20_000))
            done = attempt(ground, args, folder, todo[-1], moment, room)
            if isinstance(done, int):
                break
            life.struck.append(done)
            todo.pop()
            left -= done.moment
        else:
            pid = ground.begin(command_for(args, folder), folder)
            done = waited(pid, time.monotonic() + PATIENCE)
        if done == 0 and not life.struck:  # it was never struck, so it says nothing
            duration *= 0.7  # the undisturbed run was slower, on a machine that had other things to do
            shutil.rmtree(folder)
            continue
        life.ended, life.told = done == 0, [] if done == 0 else ground.told()[-3:]
        if life.ended:
            life.differs, life.half_written = compared(folder / "run", whole / "run")
        lived.append(life)
        shutil.rmtree(folder)
        if not life.ended:
            print(f"{name}: {life}", file=sys.stderr)
            if len([one for one in lived if not one.ended]) > 3:
                break
    shutil.rmtree(whole)
    return lived


def compared(ours: Path, theirs: Path) -> tuple[list[str], list[str]]:
    """Names of the files in which two finished runs differ, and of those that are in the first alone."""
    names = [{str(path.relative_to(run)) for path in run.rglob("*") if path.name != ".lock"} for run in (ours, theirs)]
    shared = sorted(name for name in names[0] & names[1] if (ours / name).is_file())
    differs = [name for name in shared if content(ours / name) != content(theirs / name)]
    return sorted(names[1] - names[0]) + differs, sorted(names[0] - names[1])


def content(path: Path) -> Any:
    """What a file says, but for the clock and for the command that made it."""
    if path.suffix == ".safetensors":
        return {
            name: (str(t.dtype), tuple(t.shape), t.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
            for name, t in load_file(path).items()
        }
    if path.name == "metrics.jsonl":
        return [without(json.loads(line), CLOCKS) for line in path.read_text().splitlines()]
    if path.name in ("state.json", "eval.json"):
        return without(json.loads(path.read_text()), (*CLOCKS, *ORIGIN))
    if path.name == "README.md":
        return re.sub("Made by `.*`", "", path.read_text())
    return path.read_bytes()


def without(values: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def row(name: str, lived: list[Life]) -> str:
    """A command's line of the table."""
    struck = [one for life in lived for one in life.struck]
    counts = Counter(one.how for one in struck)
    ended = [life for life in lived if life.ended]
    equal = sum(not life.differs for life in ended)
    cells = [
        name,
        *(counts[how] for how in HOWS),
        f"{sum(one.tidy() for one in struck)} of {len(struck)}",
        f"{len(ended)} of {len(lived)}",
        f"{equal} of {len(lived)}",
        sum(len(life.half_written) for life in lived) + sum(one.half_written for one in struck),
        sum(one.left for one in struck),
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def shared_out(kills: int, names: list[str], dice: np.random.Generator) -> dict[str, list[str]]:
    """Each command's share of the kills, in an order that the seed decides."""
    counts = {how: round(kills * share) for how, share in HOWS.items() if how != "SIGKILL"}
    hows = [how for how, count in counts.items() for _ in range(count)]
    hows += ["SIGKILL"] * (kills - len(hows))
    hows = [hows[i] for i in dice.permutation(len(hows))]
    return {name: mine for i, name in enumerate(names) if (mine := hows[i :: len(names)])}


def main() -> None:
    parser: argparse.ArgumentParser = options(__doc__, repeats=1)
    parser.add_argument("--kills", type=int, default=100, help="kills in all, full disks included")
    names: dict[str, Any] = {"nargs": "+", "choices": list(COMMANDS), "default": list(COMMANDS), "metavar": "NAME"}
    parser.add_argument("--commands", help="of the table's first column; by default all", **names)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of their order")
    parser.add_argument("--fork", action="store_true", help="copy a process that has imported everything: much quicker")
    args = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if args.fork:  # torch's threads cannot be copied, so nothing is computed here before the copies are made
        import peft  # noqa: F401

        from clew.cli import terminal  # noqa: F401
        from clew.mazes import draw  # noqa: F401
        from clew.rollout import plots  # noqa: F401
        from clew.train import rounds, supervised  # noqa: F401
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stopped, it clears away what it made
    dice = np.random.default_rng(args.seed)
    found = "ended as documented | resumed to the end | bit for bit equal | half-written files left | processes left"
    table = [f"| command | {' | '.join(HOWS)} | {found} |", "|---" * 10 + "|"]
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        ground = Ground(Path(folder), args.fork)
        try:
            for name, hows in shared_out(args.kills, args.commands, dice).items():
                lived = lives(ground, name, hows, dice)
                results[name] = [{**asdict(life), "tidy": all(one.tidy() for one in life.struck)} for life in lived]
                table.append(row(name, lived))
                print(table[-1], file=sys.stderr, flush=True)
        finally:
            ground.close()
    disk = "a tmpfs, filled" if ground.mounted else "a limit on the size of files (nothing could be mounted)"
    about = f"Full disks: {disk}. A run is killed up to five times and resumed each time."
    keep("kills", args.out, results, table, about)
    if any(life["differs"] or not life["ended"] or not life["tidy"] for lived in results.values() for life in lived):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
