"""What a study of crispness found: the numbers of each family, and differences corrected for how many there are."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from clew.errors import InputError
from clew.files import write_atomically
from clew.study.cells import Result, read_results
from clew.study.reading import FORMS, NUMBERS

FILE = "reading.parquet"
TITLES = {"steps": "after as many steps", "accuracy": "as soon as it solves {:.0%} of held-out mazes"}


@dataclass(frozen=True)
class Contrast:
    """A difference of one number between two kinds of models: the mean over pairs that are alike but for this."""

    form: str
    number: str
    a: str
    b: str
    pairs: int
    mean: float
    low: float
    high: float
    """a 95% interval by Student's t that holds for all contrasts of a study together (Bonferroni)"""
    effect: float
    """Cohen's d of paired differences: the mean over their standard deviation"""

    @property
    def sentence(self) -> str:
        named = f"{self.number.replace('_', ' ')}, {self.a} less {self.b}"
        said = (
            "no difference shown"
            if self.low <= 0 <= self.high
            else f"higher with {self.a if self.mean > 0 else self.b}"
        )
        return f"{named}: {self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}], d = {self.effect:.1f}: {said}"


def contrasts(config: dict[str, Any], results: Sequence[Result]) -> list[Contrast]:
    """The first loss against each other, over depths and seeds; other depths against the first, over losses and seeds.
    Contrasts with fewer than two pairs are left out."""
    found = list(_differences(config, results))
    level = 1 - 0.05 / (2 * max(1, len(found)))
    made = []
    for form, number, a, b, values in found:
        mean, spread = float(values.mean()), float(values.std(ddof=1))
        half = float(stats.t.ppf(level, len(values) - 1)) * spread / math.sqrt(len(values))
        effect = mean / spread if spread else math.copysign(math.inf, mean) if mean else 0.0
        made.append(Contrast(form, number, a, b, len(values), mean, mean - half, mean + half, effect))
    return made


def _differences(config: dict[str, Any], results: Sequence[Result]) -> Iterator[tuple[str, str, str, str, np.ndarray]]:
    by = {(one.name, one.condition["layers"]): one.kept.figures for one in results}
    losses, depths = config["losses"], config["layers"]
    sides = [
        (f"{losses[0]} loss", f"{other} loss", [((losses[0], d), (other, d)) for d in depths]) for other in losses[1:]
    ]
    sides += [
        (f"{deep} layers", f"{depths[0]} layers", [((loss, deep), (loss, depths[0])) for loss in losses])
        for deep in depths[1:]
    ]
    for form in FORMS:
        for number in NUMBERS:
            for a, b, pairs in sides:
                name = f"{form}_{number}"
                values = np.concatenate([by[mine][name] - by[theirs][name] for mine, theirs in pairs])
                values = values[~np.isnan(values)]
                if len(values) >= 2:
                    yield form, number, a, b, values


def report(folder: Path) -> tuple[list[Contrast], Path]:
    """Writes reading.md from reading.parquet of a study's folder. InputError if it is not there, or not whole."""
    if not (folder / FILE).is_file():
        raise InputError(f"{folder}: holds no finished study of crispness (no {FILE})")
    config, results = read_results(folder / FILE)
    try:
        found = contrasts(config, results)
        lines = ["# Is a search that the path alone has taught crisper?", "", _about(config, len(found)), ""]
        for form in FORMS:
            lines += [f"## Read {TITLES[form].format(config['accuracy'])}", "", *_table(form, results), ""]
            lines += [f"- {one.sentence}" for one in found if one.form == form] + [""]
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{folder / FILE}: its results are not those of a whole study ({error!r})") from error
    write_atomically(folder / "reading.md", "\n".join(lines))
    return found, folder / "reading.md"


def _about(config: dict[str, Any], count: int) -> str:
    size = f"{config['size']}x{config['size']}"
    read = f"{config['mazes']} mazes and {config['pairs']} pairs of each kind, all held-out"
    return (
        f"{size} mazes by dfs, {config['steps']:,} steps of {config['per_step']} mazes of 8 questions, width "
        f"{config['width']}, {config['heads']} heads, {config['seeds']} seeds a family; means over seeds with the "
        "smallest and the largest. Differences are paired by seed and by all else that was varied; their intervals "
        f"hold for all {count} together. Numbers of `clew.read.crispness` on {read}."
    )


def _table(form: str, results: Sequence[Result]) -> list[str]:
    lines = ["| loss | layers | runs | exact, % | " + " | ".join(name.replace("_", " ") for name in NUMBERS) + " |"]
    lines.append("|---|---|---|---|" + "---|" * len(NUMBERS))
    for one in results:
        figures = one.kept.figures
        runs = int((~np.isnan(figures[f"{form}_exact"])).sum())
        cells = [_range(100 * figures[f"{form}_exact"], 1), *(_range(figures[f"{form}_{name}"], 2) for name in NUMBERS)]
        lines.append(f"| {one.name} | {one.condition['layers']} | {runs} | " + " | ".join(cells) + " |")
    return lines


def _range(values: np.ndarray, places: int) -> str:
    known = values[~np.isnan(values)]
    if not len(known):
        return ""
    return f"{known.mean():.{places}f} ({known.min():.{places}f} to {known.max():.{places}f})"
