"""Every command of an installed Clew, as a person would run it, in an empty folder: PYTHON .ci/smoke.py

For a virtual environment into which the wheel was installed; nothing of the clone is imported. Ends with 1 at the first
command that does not do what it should.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

TRAIN = "train --mazes.sizes [3] --layers 1 --width 16 --heads 2 --steps 4 --per-step 2 --final-questions 8 --out first"
SPLIT = (
    "split --mazes.sizes [3] --layers 1 --width 16 --heads 2 --warm-start.steps 3 --warm-start.per-step 2 --rounds 1 "
    "--questions 2 --thoughts 2 --answers 2 --max-thought 8 --validation-questions 4 --final-questions 4 --out second"
)
READ = "read zoo:4x4 --parts [attribution] --pairs 12 --questions 300 --out third"
PLAN = "plan --thought-variance 0.02 --answer-variance 0.05 --thought-cost 40 --answer-cost 10 --budget 400"
WRITTEN = ("first/eval.json", "first/model/model.safetensors", "second/shoggoth/model.safetensors", "third/readings")


def run(command: str, code: int = 0) -> str:
    """What `clew COMMAND` prints; ends the smoke test if it ends otherwise than it should."""
    print(f"clew {command}", flush=True)
    words = [str(Path(sys.executable).with_name("clew")), *command.split()]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    if done.returncode != code or "Traceback" in done.stderr:
        sys.exit(f"exit code {done.returncode}, not {code}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def check_contents() -> None:
    """The licence, the mark of types and the zoo are in what was installed, and it is what is imported."""
    import clew

    package = distribution("clew-spans")
    files = {str(path) for path in package.files or ()}
    assert Path(clew.__file__).is_relative_to(sys.prefix), f"{clew.__file__} is not what was installed"
    assert clew.__version__ == package.version and package.metadata["License-Expression"] == "MIT"
    assert "clew/py.typed" in files and any(path.endswith("licenses/LICENSE") for path in files)
    zoo = {path.split("/")[2] for path in files if path.startswith("clew/zoo/") and path.endswith(".safetensors")}
    assert zoo, "no model of the zoo is there"
    assert set(json.loads(run("zoo --json"))) == zoo


def main() -> None:
    """Contents, then commands."""
    check_contents()
    assert run("--version").startswith("clew ")
    names = re.findall(r"^  clew (\w+)  ", run("--help"), re.MULTILINE)
    assert {"train", "eval", "solve", "zoo", "split", "read", "plan", "study"} <= set(names), names
    for name in names:
        assert run(f"{name} --help").strip()
    assert "zoo:4x4" in run("solve zoo:4x4 --seed 3")
    for command in ("zoo", "zoo 4x4"):
        assert "4x4" in run(command)
    run("eval zoo:4x4 --questions 50 --out eval")
    audit = "audit second --questions 12 --thoughts 2 --measures [necessity]"
    for command in (TRAIN, "eval first --questions 8", "solve first --seed 3", SPLIT, "eval second", audit, READ, PLAN):
        run(command)
    for path in WRITTEN:
        assert Path(path).exists(), f"{path} was not written"
    if "view" in names:
        run("view zoo:4x4 second third --questions 2 --no-open --out page.html")
        assert "Content-Security-Policy" in Path("page.html").read_text(encoding="utf-8")
    run("solve zoo:none", code=2)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        main()
        os.chdir("/")
    print("1 passed, 0 failed")
