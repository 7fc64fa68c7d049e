"""A training, or a model of the zoo, on a page: what it is, its curves, and its final evaluation."""

from pathlib import Path

from clew.view.page import Section
from clew.view.runs import config_of, facts_of, json_of, metrics_of

SHOWN = ("mazes.sizes", "mazes.generators", "world", "prompts.file", "gym.tasks", "loss", "model.folder")
SHOWN += (
    "model.layers",
    "model.width",
    "model.heads",
    "optimizer.name",
    "optimizer.lr",
    "optimizer.schedule",
    "per_step",
)


def sections(folder: Path, name: str) -> list[Section]:
    """The section of a train run's folder. InputError for files that cannot be read."""
    config, report = config_of(folder), json_of(folder / "eval.json")
    run = {"name": name, "facts": facts_of(config, report, SHOWN), "metrics": metrics_of(folder), "evaluation": report}
    return [Section("train", "Training", {"runs": [run]})]
