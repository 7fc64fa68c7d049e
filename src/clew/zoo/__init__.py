"""The zoo: trained models that come with the package, each a small run folder beside this file.

    NAME/config.yaml    the options that it was trained with
    NAME/eval.json      its card as data: what it is, its held-out figures, and what made them
    NAME/samples.jsonl  of one that thinks: what it thought and answered to the first of those questions
    NAME/model/         an ordinary Hugging Face folder, whose weights take two bytes each and open as float32; called
                        shoggoth/ where the model thinks before it answers, as in a split's run

Wherever a model folder is taken, zoo:NAME is one of these. The prefix always wins: a folder of your own that is called
zoo:… is reached by its absolute path. Only light modules are imported here, so that `clew zoo` is quick.
"""

import json
from pathlib import Path
from typing import Any

from clew.errors import InputError
from clew.text import nearest, show

PREFIX = "zoo:"
HERE = Path(__file__).parent


def names() -> list[str]:
    """The names of the models that there are, smaller numbers first: 4x4 before 10x10."""
    found = [file.parent.name for file in HERE.glob("*/eval.json")]
    return sorted((name for name in found if name[0] != "."), key=lambda name: (len(name), name))  # hidden: unfinished


def folder(name: str) -> Path:
    """The run folder of a model, as above. InputError for a name that is not there."""
    known = names()
    if name not in known:
        there = f"nearest: {nearest(name, known)}" if known else "this package holds no models"
        raise InputError(f"model: {show(PREFIX + name)} is not in the zoo; {there} (clew zoo lists all)")
    return HERE / name


def card(name: str) -> dict[str, Any]:
    """A model's eval.json: what it is (`mazes`, `sizes`, `layers`, `width`, `parameters`, `loss`), how it was made
    (`trained`) and, as any evaluation has them, its figures. InputError for a name that is not there."""
    return json.loads((folder(name) / "eval.json").read_text(encoding="utf-8"))


def is_zoo(model: str | Path) -> bool:
    """Whether a model is named as one of the zoo."""
    return str(model).startswith(PREFIX)


def resolved(model: str | Path) -> Path:
    """The folder that a model's name means: one of the zoo's for zoo:NAME, anything else as it is. InputError for a
    name that is not in the zoo."""
    return folder(str(model).removeprefix(PREFIX)) if is_zoo(model) else Path(model)


def file_name(model: str) -> str:
    """What files about a model are called after: zoo-NAME for zoo:NAME, else its folder's own name."""
    return f"zoo-{model.removeprefix(PREFIX)}" if is_zoo(model) else Path(model).resolve().name
