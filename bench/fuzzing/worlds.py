"""Worlds of a user's own, and what else one may type where a world is named."""

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from clew.config import MazeConfig, WorldConfig
from clew.mazes.world import MazeWorld
from fuzzing import strategies as draws
from fuzzing.endings import check_run, command
from fuzzing.programs import ERRORS, module
from fuzzing.targets import SPLIT, SPLITTED, TRAIN, TRAINED, Target, Whole

NAMES = ["clew.world:World", "clew.mazes.world:MazeWorld", "clew.prompts.world:PromptWorld", "math:pi", "os:getcwd"]
NAMES += ["builtins:int", "builtins:exit", "mazes", "prompts", "mazes:", ":", "clew_fuzz:nothing"]
ATTRIBUTES = ["tokenizer", "thought_stop", "answer_stop", "thought_end"]
SEEN = ("samples.jsonl", "plots/mazes.png")
KINDS = ["right", "right", "raise", "lacking", "strange", "call", "module"]


class Right(MazeWorld):
    """3x3 mazes, as a world of one's own with options of its own."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None = None, seed: int = 0, p: float = 0.5):
        super().__init__(MazeConfig([3], ["dfs_percolation"], float(p), 2), seed, tokenizer)

    @classmethod
    def from_config(cls, config: WorldConfig, seed: int, tokenizer: Any, teach: bool) -> "Right":
        return cls(tokenizer=tokenizer, seed=seed, **config.world_options)


def world_of(kind: str, error: BaseException, attribute: str) -> Any:
    """What stands where a world is looked for."""

    class Odd(Right):
        def __init__(self, *args: Any, **options: Any):
            if kind == "raise":
                raise type(error)(*error.args)
            super().__init__(*args, **options)
            if kind == "lacking":
                delattr(self, attribute)

        @classmethod
        def from_config(cls, config: WorldConfig, seed: int, tokenizer: Any, teach: bool) -> Any:
            return 3 if kind == "strange" else super().from_config(config, seed, tokenizer, teach)

    return {"call": lambda **options: Right(**options), "module": json}.get(kind, Odd)


def worlds(whole: Whole) -> Target:
    """--world and --world-options of train, split, eval and solve."""
    commands = {"train": ["train", *TRAIN], "split": ["split", *SPLIT]}
    commands["eval"] = ["eval", str(whole.split), "--questions", "4"]
    commands["solve"] = ["solve", str(whole.train)]
    # Where every passage is open there is one maze of 3x3, and none to look at.
    needed = {"train": tuple(name for name in TRAINED if name not in SEEN), "split": SPLITTED}

    def run(case: tuple[str, str, Any, tuple[str, BaseException, str]], there: Path) -> bool:
        name, world, options, own = case
        vars(module)["world"] = world_of(*own)
        argv = [*commands[name], f"--world={world}", *(["--out", "run"] if name in needed else [])]
        ending = command(argv if options is None else [*argv, "--world-options", draws.as_text(options)], there)
        if name in needed:
            check_run(there / "run", ending, needed[name])
        return ending.code == 0

    usual = st.sampled_from([None, None, {"p": 0.1}, {"p": 1}, {"p": "0.2"}, {"q": 1}, {"seed": 1}])
    asked = st.one_of(st.just("clew_fuzz:world"), st.just("clew_fuzz:world"), st.sampled_from(NAMES), draws.texts)
    owns = st.tuples(st.sampled_from(KINDS), st.sampled_from(ERRORS), st.sampled_from(ATTRIBUTES))
    options = st.one_of(usual, usual, draws.values)
    return Target("worlds", st.tuples(st.sampled_from(sorted(commands)), asked, options, owns), run)
