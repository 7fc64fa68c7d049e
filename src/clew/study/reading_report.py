"""What a study of crispness found: the numbers of each family, and differences corrected for how many there are."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from clew.errors import InputError
from clew.files import write_atomically
from clew.study.cells import Result, read_results
from clew.study.reading import FORMS, FRESH, NUMBERS, VERDICTS

FILE = "reading.parquet"
TITLES = {
    "steps": "Read after as many steps",
    "accuracy": "Read at about equal accuracy, {:.0%} of held-out mazes solved",
}


@dataclass(frozen=True)
class Contrast:
    """A difference of one number between two kinds of models: the mean over pairs that are alike but for this."""

    form: str
    number: str
    a: str
    b: str
    pairs: int
    """pairs of which both have the number"""
    of: int
    """pairs of runs that there are"""
    mean: float
    low: float
    high: float
    """a 95% interval by Student's t that holds for all contrasts of a study together (Bonferroni)"""
    effect: float
    """Hedges' g of paired differences: the mean over their standard deviation, corrected for how few they are"""
    exact: tuple[float, ...]
    """the shares of mazes that the models of either kind solve, of the same pairs"""
    parts: dict[str, float]
    """the mean difference by what the pairs have in common: by depth, or by loss"""

    @property
    def apart(self) -> bool:
        return not self.low <= 0 <= self.high

    @property
    def sentence(self) -> str:
        named = f"{self.number.replace('_', ' ')}, {self.a} less {self.b}"
        if self.apart:
            said = f"higher with {self.a if self.mean > 0 else self.b}"
        else:
            most = max(abs(self.low), abs(self.high))
            said = f"cannot be told apart, but a difference of more than {most:.2f} is ruled out"
        parts = ", ".join(f"{name} {value:+.3f}" for name, value in self.parts.items())
        about = f"{self.pairs} of {self.of} pairs; {parts}; {self.exact[0]:.1%} against {self.exact[1]:.1%} solved"
        ends = f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}], g = {self.effect:.1f}"
        return f"{named}: {ends} ({about}): {said}"


def contrasts(config: dict[str, Any], results: Sequence[Result]) -> list[Contrast]:
    """The first loss against each other, over depths and seeds; other depths against the first, over losses and seeds.

    Pairs are of one seed and alike in all else. Those of several depths, or losses, are taken together: where these
    differ in the difference, its interval is too wide and never too narrow. Contrasts with fewer than two pairs that
    have the number are left out, see `missing`.
    """
    found = [one for one in _differences(config, results) if len(one.values) >= 2]
    level = 1 - 0.05 / (2 * max(1, len(found)))
    made = []
    for one in found:
        n, mean, spread = len(one.values), float(one.values.mean()), float(one.values.std(ddof=1))
        half = float(stats.t.ppf(level, n - 1)) * spread / math.sqrt(n)
        few = 1 - 3 / (4 * (n - 1) - 1)  # Hedges 1981
        effect = few * mean / spread if spread else math.copysign(math.inf, mean) if mean else 0.0
        parts = {name: float(one.values[one.part == name].mean()) for name in dict.fromkeys(one.part.tolist())}
        ends = mean, mean - half, mean + half
        made.append(Contrast(one.form, one.number, one.a, one.b, n, one.of, *ends, effect, one.exact, parts))
    return made


@dataclass(frozen=True)
class _Difference:
    form: str
    number: str
    a: str
    b: str
    of: int
    values: np.ndarray
    part: np.ndarray
    exact: tuple[float, ...]


def _differences(config: dict[str, Any], results: Sequence[Result]) -> Iterator[_Difference]:
    by = {(one.name, one.condition["layers"]): one.kept.figures for one in results}
    losses, depths = config["losses"], config["layers"]
    sides = [
        (f"{losses[0]} loss", f"{other} loss", {f"{d} layers": ((losses[0], d), (other, d)) for d in depths})
        for other in losses[1:]
    ]
    sides += [
        (
            f"{deep} layers",
            f"{depths[0]} layers",
            {f"{loss} loss": ((loss, deep), (loss, depths[0])) for loss in losses},
        )
        for deep in depths[1:]
    ]
    for form in FORMS:
        for number in NUMBERS:
            for a, b, pairs in sides:
                mine, theirs, *exacts = (
                    np.concatenate([by[pair[side]][f"{form}_{name}"] for pair in pairs.values()])
                    for name in (number, "exact")
                    for side in (0, 1)
                )
                part = np.repeat(list(pairs), len(mine) // len(pairs))
                known = ~np.isnan(mine - theirs)
                exact = tuple(float(values[known].mean()) if known.any() else math.nan for values in exacts)
                yield _Difference(form, number, a, b, len(mine), (mine - theirs)[known], part[known], exact)


def missing(config: dict[str, Any], results: Sequence[Result], form: str) -> list[str]:
    """What could not be compared, and why, as lines."""
    lines = []
    for one in results:
        exact = one.kept.figures[f"{form}_exact"]
        if none := int(np.isnan(exact).sum()):
            last = one.kept.figures["steps_exact"].mean()
            said = (
                f"{one.name} loss, {one.condition['layers']} layers: {none} of {len(exact)} runs had no model of this "
            )
            lines.append(f"{said}accuracy; after all steps its runs solve {last:.1%} in the mean")
    for one in _differences(config, results):
        if one.form == form and len(one.values) < 2:
            named = f"{one.number.replace('_', ' ')}, {one.a} less {one.b}"
            lines.append(f"{named}: not compared, since {len(one.values)} of {one.of} pairs have the number")
    return lines


def report(folder: Path) -> tuple[list[Contrast], Path]:
    """Writes reading.md from reading.parquet and verdicts.json of a study's folder. InputError if these are not there,
    or not whole."""
    if not (folder / FILE).is_file():
        raise InputError(f"{folder}: holds no finished study of crispness (no {FILE})")
    config, results = read_results(folder / FILE)
    try:
        verdicts = json.loads((folder / VERDICTS).read_text(encoding="utf-8"))["runs"]
        found = contrasts(config, results)
        lines = ["# Is a search that the path alone has taught crisper?", "", _about(config, len(found)), ""]
        for form in FORMS:
            lines += [f"## {TITLES[form].format(config['level'])}", "", *_table(form, results), ""]
            said = [one.sentence for one in found if one.form == form] + missing(config, results, form)
            lines += [f"- {one}" for one in said] + [""]
            lines += ["Which algorithm?", "", *_algorithms([one for one in verdicts if one["form"] == form]), ""]
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise InputError(f"{folder / FILE}: its results are not those of a whole study ({error!r})") from error
    write_atomically(folder / "reading.md", "\n".join(lines))
    return found, folder / "reading.md"


def _algorithms(verdicts: Sequence[dict[str, Any]]) -> list[str]:
    """A row a family: its verdicts, and how many runs' evidence speaks for and against each account, by kind. Then why
    each verdict was given, by run."""
    lines = ["| loss | layers | verdicts | for | against |", "|---|---|---|---|---|"]
    why = []
    for family in dict.fromkeys((one["loss"], one["layers"]) for one in verdicts):
        own = [one for one in verdicts if (one["loss"], one["layers"]) == family]
        cells = [_counted(one["verdict"] for one in own)]
        for side in ("for", "against"):
            said = (
                {f"{account} ({each['kind']})" for each in one["evidence"] for account in each[side]} for one in own
            )
            cells.append(_counted(name for names in said for name in sorted(names)))
        lines.append(f"| {family[0]} | {family[1]} | " + " | ".join(cells) + " |")
        for one in own:
            named = f"{one['loss']}, {one['layers']} layers, seed {one['seed']}, step {one['step']}"
            why.append(f"- {named}: {one['verdict']}. {one['why']}")
    return [*lines, "", *why]


def _counted(names: Iterable[str]) -> str:
    return "; ".join(f"{name} {count}x" for name, count in Counter(names).most_common())


def _about(config: dict[str, Any], count: int) -> str:
    size = f"{config['size']}x{config['size']}"
    read = f"{config['mazes']} mazes and {config['pairs']} pairs of each kind, all held-out"
    return (
        f"{size} mazes by dfs, {config['steps']:,} steps of {config['per_step']} mazes of 8 questions, width "
        f"{config['width']}, {config['heads']} heads, rotary base {config['rope_base']:g}, {config['seeds']} seeds a "
        f"family; means over seeds with the "
        f"smallest and the largest. Accuracy is of {FRESH:,} held-out mazes by which no model was chosen. Differences "
        "are paired by seed and by all else that was varied, and their intervals are over these pairs alone: Student's "
        f"t, wide enough to hold for all {count} together (Bonferroni); g is Hedges' effect size. Numbers of "
        f"`clew.read.crispness` on {read}; verdicts of `clew.read.algorithm` on {config['verdict_pairs']} pairs of "
        "each kind. Depth used is at most the number of layers, so that deeper models differ in it for that reason "
        "alone."
    )


def _table(form: str, results: Sequence[Result]) -> list[str]:
    lines = [
        "| loss | layers | runs | step | exact, % | " + " | ".join(name.replace("_", " ") for name in NUMBERS) + " |"
    ]
    lines.append("|---|---|---|---|---|" + "---|" * len(NUMBERS))
    for one in results:
        figures = one.kept.figures
        runs = int((~np.isnan(figures[f"{form}_exact"])).sum())
        cells = [_range(figures[f"{form}_step"], 0), _range(100 * figures[f"{form}_exact"], 1)]
        cells += [_range(figures[f"{form}_{name}"], 2) for name in NUMBERS]
        lines.append(f"| {one.name} | {one.condition['layers']} | {runs} | " + " | ".join(cells) + " |")
    return lines


def _range(values: np.ndarray, places: int) -> str:
    known = values[~np.isnan(values)]
    if not len(known):
        return ""
    return f"{known.mean():.{places}f} ({known.min():.{places}f} to {known.max():.{places}f})"
