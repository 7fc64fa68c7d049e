"""Is every input read or refused in one line? A fuzzing campaign over all that people can hand to Clew.

    clew bench fuzz --minutes 30

Options and YAML files, prompts, mazes, damaged run folders, credit rules, graders, trees, what models write, worlds and
options of earlier versions are drawn by hypothesis (`fuzzing/strategies.py`), with new seeds each time, and given to
the commands and functions that take them (`fuzzing/targets.py` and beside it). Each must end well, or in one line: exit
code 0, 1 or 2 and the errors that the docs name, no traceback, nothing raw on the terminal, nothing half-written, no
run changed by a command that refused it (`fuzzing/endings.py`). All else is a finding: it is made as small as it gets,
printed, and kept beside the results, and the bench ends with 1. Needs hypothesis.
"""

import faulthandler
import os
import resource
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Flaky

from fuzzing import earlier, programs, targets, worlds
from fuzzing.endings import Finding, fresh
from fuzzing.targets import Target, Whole
from measure import keep, options

MAKERS: list[Callable[[Whole], Target]]
MAKERS = [targets.configurations, targets.prompts, targets.mazes, targets.run_folders]
MAKERS += [programs.rules, programs.graders, programs.trees, programs.outputs, worlds.worlds, earlier.earlier]
AT_ONCE = 200  # inputs from one seed
MEMORY = 12 * 2**30  # bytes: what would take more fails here, and does not take the machine with it
KINDS = {"tracebacks": ("traceback",), "half-written files": ("half-written",)}
KINDS["other findings"] = ("terminal", "late", "code", "wrong")
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much, HealthCheck.large_base_example]
PHASES = (Phase.generate, Phase.shrink)
QUIET = settings(database=None, deadline=None, suppress_health_check=SLOW, print_blob=False, phases=PHASES)


@dataclass
class Tally:
    """What became of a target's inputs."""

    target: str
    tried: int = 0
    accepted: int = 0
    refused: int = 0
    found: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)


def attack(
    target: Target,
    folder: Path,
    tally: Tally,
    examples: int,
    given_seed: int | None = None,
    until: float = float("inf"),
    known: frozenset[str] = frozenset(),
) -> None:
    """Draws so many inputs and runs them; raises the smallest Finding that is not `known`. Without a seed always the
    same inputs."""

    latest: list[Finding] = []

    def run(case: object) -> None:
        if time.monotonic() > until:
            return
        tally.tried += 1
        try:
            accepted = target.run(case, fresh(folder))
        except Finding as finding:
            finding.case = repr(case)[:4000]
            latest.append(finding)
            if signature(finding) in known:
                tally.found[finding.kind] = tally.found.get(finding.kind, 0) + 1
                return
            raise
        tally.accepted += accepted
        tally.refused += not accepted

    test = given(target.cases)(run)
    if given_seed is not None:
        test = seed(given_seed)(test)
    try:
        settings(QUIET, max_examples=examples, derandomize=given_seed is None)(test)()
    except Flaky:  # not found again: the time was over, or it hangs on more than the input
        if not latest:
            raise
        raise latest[-1] from None


def signature(finding: Finding) -> str:
    """What tells one finding from another: its kind, and where it comes from."""
    return str(finding).split(": ", 2)[1][:60] if finding.kind == "traceback" else str(finding)[:40]


def campaign(target: Target, folder: Path, seconds: float) -> Tally:
    """Attacks a target with one seed after another until its time is over."""
    tally, known = Tally(target.name), set()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        number = secrets.randbits(32)
        try:
            attack(target, folder, tally, AT_ONCE, number, until, frozenset(known))
        except (Finding, BaseExceptionGroup) as error:
            for finding in leaves(error):
                tally.found[finding.kind] = tally.found.get(finding.kind, 0) + 1
                known.add(signature(finding))
                tally.findings.append(f"{target.name}, seed {number}: {finding}\n    {finding.case}")
                print(tally.findings[-1], flush=True)
    return tally


def leaves(error: BaseException) -> list[Finding]:
    """The findings of one attack. What else was raised is a fault of the campaign's own, and goes through."""
    if isinstance(error, BaseExceptionGroup):
        return [finding for one in error.exceptions for finding in leaves(one)]
    if not isinstance(error, Finding):
        raise error
    return [error]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="in all, shared evenly by the targets")
    parser.add_argument("--only", type=str, default="", help="the targets whose names hold this")
    args = parser.parse_args()
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ[name] = "1"
    torch.set_num_threads(1)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    with tempfile.TemporaryDirectory() as name:
        whole = Whole(Path(name) / "whole")
        chosen = [target for target in (make(whole) for make in MAKERS) if args.only in target.name]
        tallies = [campaign(target, Path(name) / "case", 60 * args.minutes / len(chosen)) for target in chosen]
    table = ["| input | tried | accepted | refused in one line | " + " | ".join(KINDS) + " |", "|---" * 7 + "|"]
    for tally in tallies:
        counts = [sum(tally.found.get(kind, 0) for kind in kinds) for kinds in KINDS.values()]
        cells = [tally.tried, tally.accepted, tally.refused, *counts]
        table.append(f"| {tally.target} | " + " | ".join(f"{cell:,}" for cell in cells) + " |")
    keep("fuzz", args.out, [asdict(tally) for tally in tallies], table, "New random inputs each time.")
    if findings := [finding for tally in tallies for finding in tally.findings]:
        (args.out / "fuzz-findings.txt").write_text("\n\n".join(findings), encoding="utf-8", errors="backslashreplace")
        sys.exit(1)


if __name__ == "__main__":
    main()
