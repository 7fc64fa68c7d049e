"""report.md and pictures of a study, from its results alone."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clew.errors import InputError
from clew.files import write_atomically
from clew.study.cells import Result, read_results
from clew.study.effects import Verdict, effect_of, percent
from clew.study.verdicts import Found, allocations, maze_verdicts, tabular_verdicts, words
from clew.text import one_line

DRAWN = ("basic", "top 3", "mean", "best against worst", "advantage")  # in the picture of learning curves
LEAD = "lead, in % of what could be gained over the start"
HOLLOW = "Hollow where the interval holds 0. A row says who is to the right of 0 over who is to its left."
INTERVALS = (
    "Leads are in percent of the gain that was attainable over the start, paired by table or seed. 95% intervals are "
    "by Student's t and corrected for their number by Bonferroni: those of one question hold together, each of its m "
    "comparisons having an interval of 1 - 0.05 / m. Where the larger of several was picked by its result, all that it "
    "was picked from count (question 2)."
)


def league(results: Sequence[Result]) -> list[str]:
    """Every rule in every world: how it ended, how it got there, and what it chose."""
    names = "world", "rule", "gained", "area under the curve", "cost to 90%", "step size", "kept"
    lines = [f"| {' | '.join(names)} |", "|---|---|---|---|---|---|---|"]
    for r in results:
        if r.section != "rules":
            continue
        cells = []
        for name in ("gained", "area", "cost_90"):
            e = effect_of(r.kept.figures[name], "", "", "")
            cells.append(f"{percent(e.mean)} ± {percent(e.high - e.mean)}")
        keep = r.kept.values["options"].get("keep")
        cells += [f"{r.kept.values['lr']:g}", "" if keep is None else f"{keep:g}"]
        lines.append(f"| {words(r.condition)} | {r.name} | {' | '.join(cells)} |")
    return lines


def table(verdict: Verdict) -> list[str]:
    lines = ["| condition | ahead? | over | by | 95% interval |", "|---|---|---|---|---|"]
    for e in verdict.effects:
        lines.append(f"| {e.condition} | {e.a} | {e.b} | {percent(e.mean)} | [{percent(e.low)}, {percent(e.high)}] |")
    return lines


def report(folder: Path) -> tuple[list[Verdict], Path]:
    """Verdicts, report.md and pictures from the results in a study's folder. InputError if it holds none, or a part."""
    files = {name: folder / f"{name}.parquet" for name in ("tabular", "mazes")}
    found = {name: read_results(file) for name, file in files.items() if file.is_file()}
    if not found:
        who = "; what made its cells makes results of them (clew study spillover --missing leave: of those so far)"
        cells = who if (folder / "cells").is_dir() else ""
        raise InputError(f"{folder}: holds no finished study (no tabular.parquet or mazes.parquet){cells}")
    try:
        return _written(folder, found)
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, StopIteration) as error:
        said = one_line(f"{type(error).__name__}: {error}")[:200]
        raise InputError(f"{folder}: its results are not those of a whole study ({said})") from error


def _written(folder: Path, found: dict[str, tuple[dict[str, Any], list[Result]]]) -> tuple[list[Verdict], Path]:
    from clew.study import plots

    verdicts: list[Verdict] = []
    pictures, about = [], []
    by_noise = "noise: variance between the answers of a thought over that between thoughts"
    if "tabular" in found:
        config, results = found["tabular"]
        verdicts += tabular_verdicts(results)
        plots.phase_diagram(allocations(results), folder / "phase.png")
        rules = Found(results)
        panels = [(words(c), [rules.one("rules", c, name) for name in DRAWN]) for c in rules.conditions("rules")]
        plots.study_curves(panels, "share of the attainable gain", folder / "curves.png")
        plots.effects(verdicts, 1, f"{LEAD}; {by_noise}", folder / "effects.png")
        every = "Every comparison on tables, a panel a question, one scale for all"
        phase = "Best number of answers to a thought: the fuller the colour, the surer the winner."
        curves = "Learning curves at equal cost, each rule at its own best step size."
        pictures += [("effects.png", f"{every}. {HOLLOW}"), ("phase.png", phase), ("curves.png", curves)]
        chosen = f"step size and share kept, chosen on {config['tune_replicas']} other tables"
        about.append(f"Tabular: {config['replicas']} replicas a result, each rule at its own best {chosen}.")
    if "mazes" in found:
        config, results = found["mazes"]
        on_mazes = maze_verdicts(results)
        plots.study_curves([("mazes", results)], "mean score of a round", folder / "mazes.png")
        plots.effects(on_mazes, len(verdicts) + 1, LEAD, folder / "effects_mazes.png")
        verdicts += on_mazes
        pictures.append(("effects_mazes.png", f"Every comparison on mazes, on a scale of their own. {HOLLOW}"))
        pictures.append(("mazes.png", "Mean score of the samples of each round on mazes, mean over seeds."))
        about.append(f"Mazes: {config['seeds']} seeds a result, each rule at its own best learning rate.")
    write_atomically(folder / "report.md", "\n".join(_lines(verdicts, about, pictures, found)))
    return verdicts, folder / "report.md"


def _lines(
    verdicts: Sequence[Verdict], about: Sequence[str], pictures: Sequence[tuple[str, str]], found: dict[str, Any]
) -> list[str]:
    lines = ["# How much does the credit rule matter?", "", " ".join([*about, INTERVALS]), "", wider(verdicts), ""]
    for number, verdict in enumerate(verdicts, 1):
        lines += [f"## {number}. {verdict.question}", "", verdict.text, "", *table(verdict), ""]
    for name, caption in pictures:
        lines += [f"![{caption}]({name})", "", f"*{caption}*", ""]
    if "tabular" in found:
        alone = "Each by itself: these intervals, of 95%, are not corrected for their number."
        lines += ["## All rules", "", alone, "", *league(found["tabular"][1]), ""]
    return lines


def wider(verdicts: Sequence[Verdict]) -> str:
    """Which verdicts would be open if intervals were to hold for all comparisons of the report, not of a question."""
    count = sum(len(verdict.effects) for verdict in verdicts)
    lost = [
        f"{number} ({e.a} against {e.b}, {e.condition})"
        for number, verdict in enumerate(verdicts, 1)
        for e in verdict.effects
        if e.sign and not replace(e, among=max(e.among, count)).sign
    ]
    said = "; ".join(lost) or "none"
    return f"If they were to hold for all {count} comparisons of this report at once, these would be open too: {said}."
