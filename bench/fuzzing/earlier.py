"""Options as earlier versions had them, in files and on command lines: none is taken for another, each is told of."""

import shlex
import shutil
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from fuzzing.endings import Finding, check_untouched, command, snapshot
from fuzzing.targets import SPLIT, TRAIN, Target, Whole

STAYED: dict[str, Any] = {"seed": 0, "device": "auto", "precision": "auto", "track": None}
MODEL: dict[str, Any] = {"model": None, "layers": 1, "width": 16, "heads": 2, "attention": "trees"}
PACE: dict[str, Any] = {"lr": 1e-3, "schedule": "cosine", "weight_decay": 0.01, "clip": 1.0}
MOVED: dict[str, dict[str, Any]] = {
    "train": {
        **MODEL,
        **PACE,
        "mazes": {"sizes": [3], "branches": 2, "per_step": 2},
        "adjacency_weight": 0.1,
        "max_size": None,
        "optimizer": "adamw",
        "muon_scale": 2.0,
        "warmup": 5,
        "probe_every": 0,
        "probe_mazes": 2,
        "eval_mazes": 4,
    },
    "split": {
        **MODEL,
        **PACE,
        "mazes": {"sizes": [3], "per_step": 2},
        "traces": ["dfs"],
        "prompts": None,
        "delimiters": ["<think>", "</think>"],
        "warmup_steps": 1,
        "warmup_lr": 1e-3,
        "warmup_optimizer": "muon",
        "temperature": 1.0,
        "top_p": 1.0,
        "objective": "nll",
        "updates": 1,
        "clip_ratio": 0.2,
        "beta": 0.1,
        "kl": 0.0,
        "eval_every": 0,
        "eval_questions": 2,
    },
}
"""what stands elsewhere now, as version 0.1 wrote it"""
RENAMED = {"train": ["adjacency_weight", "probe_every", "probe_mazes", "eval_mazes"]}
RENAMED["split"] = ["warmup_steps", "warmup_lr", "warmup_optimizer", "eval_every", "eval_questions"]


def earlier(whole: Whole) -> Target:
    """Files of flat options, read as --config, in a run that is resumed and in one that is evaluated; old flags."""

    def cases(kind: str) -> st.SearchStrategy:
        names = st.lists(st.sampled_from(sorted(MOVED[kind])), min_size=1, unique=True)
        others = st.lists(st.sampled_from(sorted(STAYED)), unique=True)
        ways = st.sampled_from(["config", "resume", "eval", "solve", "flag", "today"])
        return st.tuples(st.just(kind), names, others, ways, st.sampled_from(RENAMED[kind]))

    def run(case: tuple[str, list[str], list[str], str, str], there: Path) -> bool:
        kind, names, others, way, flag = case
        options = {name: STAYED[name] for name in others}
        options |= {} if way == "today" else {name: MOVED[kind][name] for name in names}
        text = yaml.safe_dump(options, sort_keys=False)
        argv = [kind, *(TRAIN if kind == "train" else SPLIT), "--out", "run"]
        if way in ("config", "today"):
            (there / "given.yaml").write_text(text)
            argv += ["--config", "given.yaml"]
        elif way == "flag":
            argv += [f"--{flag}", str(MOVED[kind][flag])]
        else:
            shutil.copytree(whole.runs[kind], there / "run")
            (there / "run" / "config.yaml").write_text(text)
            argv = [kind, "--resume", "run"] if way == "resume" else shlex.split(f"{way} run")
        before = snapshot(there)
        ending = command(argv, there)
        if way == "today":
            return ending.code == 0
        wanted = [flag, "is now called"] if way == "flag" else ["given.yaml" if way == "config" else "config.yaml"]
        wanted += [] if way == "flag" else ["have moved", *(f"{_told(name)} is now " for name in names)]
        lacking = [words for words in wanted if words not in ending.err]
        if ending.code != 2 or lacking:
            raise Finding("wrong", f"exit code {ending.code}, {lacking} not told: {ending.err}")
        check_untouched(there, before, ending)
        if snapshot(there) != before:
            raise Finding("half-written", f"refused, and yet there is {sorted(snapshot(there))}")
        return False

    return Target("options of earlier versions", st.sampled_from(sorted(MOVED)).flatmap(cases), run)


def _told(name: str) -> str:
    """The old name as a message has it: what a group held of old is named with the group."""
    return "mazes.per_step" if name == "mazes" else name
