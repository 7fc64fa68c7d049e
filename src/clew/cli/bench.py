"""`clew bench`: the benches of a clone, each a script of its own."""

import subprocess
import sys
from pathlib import Path

from clew.errors import InputError

RESULTS = "Results go to bench/results. What each asks, and what came out: bench/README.md"
ELSEWHERE = "the benches are in a clone of the project, and this is an installed package"


def run(args: list[str]) -> None:
    """The command."""
    folder = Path(__file__).parents[3] / "bench"
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))}
    # What they share has nothing to run; and a folder of that name beside an installed package is somebody else's.
    known = {
        path.stem: path for path, text in texts.items() if "__main__" in text and (folder / "measure.py").is_file()
    }
    if not args or args[0] in ("-h", "--help"):
        print("usage: clew bench NAME [--repeats N] [--out DIR]\n")
        for name, path in known.items():
            print(f"  {name:15} {texts[path].splitlines()[0].strip(chr(34))}")
        print(f"\n{RESULTS if known else ELSEWHERE}")
        return
    if not known:
        raise InputError(f"{args[0]!r} cannot be run: {ELSEWHERE}")
    if args[0] not in known:
        raise InputError(f"{args[0]!r} is no bench; there are {', '.join(known)}")
    if done := subprocess.run([sys.executable, known[args[0]], *args[1:]]).returncode:
        sys.exit(done)
