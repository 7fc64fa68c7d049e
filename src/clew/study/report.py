"""What a study found: effects with intervals, and a plain sentence under each question, made from the numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clew.errors import InputError
from clew.files import write_atomically
from clew.study import tabular
from clew.study.cells import Result, read_results
from clew.study.effects import SMALL, Allocation, Effect, Verdict, effect_of, paired, percent, tally, where_most
from clew.text import one_line
from clew.train.plan import best_allocation

DRAWN = ("basic", "top 3", "mean", "best against worst", "advantage")  # in the picture of learning curves


class _Found:
    """Results by section, condition and name."""

    def __init__(self, results: Sequence[Result]):
        self.results = results

    def conditions(self, section: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for r in self.results:
            if r.section == section and r.condition not in found:
                found.append(r.condition)
        return found

    def one(self, section: str, condition: dict[str, Any], name: str) -> Result:
        return next(r for r in self.results if (r.section, r.condition, r.name) == (section, condition, name))

    def under(self, section: str, condition: dict[str, Any]) -> list[Result]:
        return [r for r in self.results if r.section == section and r.condition == condition]

    def against(self, section: str, a: str, b: str, figure: str = "gained") -> tuple[Effect, ...]:
        both = ((self.one(section, c, a), self.one(section, c, b), c) for c in self.conditions(section))
        return tuple(paired(mine, theirs, figure, words(c)) for mine, theirs, c in both)


def words(condition: dict[str, Any]) -> str:
    units = {"noise": "noise {}", "cost": "price {}", "round": "rounds x{}", "scope": "scope {}"}
    values = {name: f"{v:g}" if isinstance(v, float) else v for name, v in condition.items()}
    return ", ".join(units.get(name, name + " {}").format(value) for name, value in values.items())


def tabular_verdicts(results: Sequence[Result]) -> list[Verdict]:
    """The verdicts of a tabular study, in the order of its questions."""
    found = _Found(results)
    parts = (_proposal, _allocation, _top_or_mean, _face, _steps, _contrast, _scope, _yardstick, _pressure)
    return [verdict(found) for verdict in parts]


def _proposal(found: _Found) -> Verdict:
    effects = found.against("rules", "top 3", "basic")
    same = found.against("rules", "basic", "basic, k=1")
    asked = "Does the proposal, top 3 and the best answer of the best thought, beat basic training?"
    itself = f"Basic itself, with several answers to a thought rather than more thoughts: {tally(same, 'k=8', 'k=1')}"
    return Verdict(asked, f"{tally(effects, 'The proposal', 'basic')}. {itself}.", (*effects, *same))


def _pressure(found: _Found) -> Verdict:
    names = ["top 3", "top 3, face from all kept", "mean", "top 1"]
    return _each(found, "And at one selection pressure, every rule keeping a quarter?", "pressure", names, "basic")


def _each(found: _Found, asked: str, section: str, names: Sequence[str], other: str) -> Verdict:
    """Several rules, one after the other, against the same other one."""
    effects = {name: found.against(section, name, other) for name in names}
    text = ". ".join(f"{name}: {tally(effects[name], 'it', other)}" for name in names) + "."
    return Verdict(asked, text, tuple(e for name in names for e in effects[name]))


def allocations(results: Sequence[Result]) -> list[Allocation]:
    """For each condition the k that gained most, how surely, and what the plan's k would have lost."""
    found, made = _Found(results), []
    for condition in found.conditions("allocation"):
        arms = sorted(found.under("allocation", condition), key=lambda r: -r.kept.figures["gained"].mean())
        cell = tabular.from_json(arms[0].kept.values)
        _, planned = best_allocation(tabular.components(cell.world), cell.thought_cost, 1.0, cell.round_cost)
        near = min(arms, key=lambda r: abs(np.log(k_of(r) / planned)))
        where = words(condition)
        fewest = min(arms, key=k_of)
        several = next(r for r in arms if r is not fewest)
        pairs = ((arms[0], arms[1]), (several, fewest), (arms[0], near))
        certainty, over_one, regret = (paired(a, b, condition=where) for a, b in pairs)
        grid = tuple(sorted(map(k_of, arms)))
        made.append(Allocation(condition, grid, k_of(arms[0]), certainty, over_one, planned, regret))
    return made


def k_of(result: Result) -> int:
    return int(result.kept.values["answers"])


def _allocation(found: _Found) -> Verdict:
    made = allocations(found.results)
    against_one = [a.over_one for a in made]
    clear = [e for e in against_one if e.sign > 0 and e.mean >= SMALL]
    worst = max(made, key=lambda a: a.regret.mean)
    close = sum(a.regret.mean < SMALL for a in made)
    text = (
        f"Several answers to a thought beat more thoughts by {percent(SMALL)} or more in {len(clear)} of {len(made)} "
        f"conditions{where_most(against_one, 1)}, and lose in {sum(e.sign < 0 for e in against_one)}. "
        f"The k that estimates thoughts best (`clew plan`) is within "
        f"{percent(SMALL)} of the best k in {close} of {len(made)}, and loses at most {percent(worst.regret.mean)} "
        f"(where {words(worst.condition)}: it plans k = {worst.planned}, and k = {worst.best} wins)."
    )
    asked = "Is denoising a thought's score worth the extra answers, or are more thoughts better?"
    return Verdict(asked, text, tuple(against_one))


def _top_or_mean(found: _Found) -> Verdict:
    early, final = found.against("early", "top 3", "mean", "early"), found.against("rules", "top 3", "mean")
    one = found.against("rules", "top 3", "top 1")
    text = (
        f"After a quarter of the cost, each at what is best for it there: {tally(early, 'top 3', 'mean')}. "
        f"At the end: {tally(final, 'top 3', 'mean')}. "
        f"Against judging a thought by its single best answer, at the end: {tally(one, 'top 3', 'top 1')}."
    )
    asked = "Top 3 or the mean of all: is a thought that can be answered well the better bet?"
    return Verdict(asked, text, (*final, *one))


def _face(found: _Found) -> Verdict:
    anywhere = found.against("rules", "top 3", "top 3, face from anywhere")
    kept = found.against("rules", "top 3", "top 3, face from all kept")
    asked = "Should the face learn from the best thought, or from the best answers anywhere?"
    other = f"from several answers of every kept thought: {tally(kept, 'the best answer alone', 'all kept')}"
    text = f"{tally(anywhere, 'The best thought', 'anywhere')}. Against learning {other}."
    return Verdict(asked, text, (*anywhere, *kept))


def _steps(found: _Found) -> Verdict:
    effects = found.against("steps", "top 3, face from all kept", "basic")
    few, many = effects[-1], effects[0]
    ends = [found.conditions("steps")[i] for i in (-1, 0)]

    def gained(condition: dict[str, Any], name: str) -> np.ndarray:
        return found.one("steps", condition, name).kept.figures["gained"]

    leads = [gained(c, "top 3, face from all kept") - gained(c, "basic") for c in ends]
    change = effect_of(leads[0] - leads[1], "", "few large rounds", "many small ones")
    text = (
        f"Denoised against basic, with many small rounds ({many.condition}): {many.sentence()}; "
        f"with few large ones ({few.condition}): {few.sentence()}. The lead changes by {percent(change.mean)} "
        f"[{percent(change.low)}, {percent(change.high)}] from many small to few large."
    )
    return Verdict("Does the difference wash out over many small steps?", text, effects)


def _contrast(found: _Found) -> Verdict:
    effects = found.against("rules", "best against worst", "best alone")
    falls = found.against("rules", "best against worst", "best alone", "fall")
    worst = max(falls, key=lambda e: e.mean)
    fall = f"below its own best point by at most {percent(max(worst.mean, 0))} more than that of best alone"
    text = f"{tally(effects, 'Contrast', 'best alone')}. Its curve ends {fall}."
    return Verdict("Does contrast, best against worst, add to best alone, and is it stable?", text, effects)


def _scope(found: _Found) -> Verdict:
    effects = []
    for name in ("basic", "top 3, face from all kept"):
        batch, question = (found.one("scope", {"scope": scope}, name) for scope in ("batch", "question"))
        for figure, of in (("gained", "all questions"), ("hard", "the hard half")):
            difference = batch.kept.figures[figure] - question.kept.figures[figure]
            effects.append(effect_of(difference, of, f"{name} over the batch", f"{name} per question"))
    text = "; ".join(f"{e.condition}: {e.sentence()}" for e in effects) + "."
    asked = "Selection per question or over the whole batch: are hard questions abandoned?"
    return Verdict(asked, text, tuple(effects))


def _yardstick(found: _Found) -> Verdict:
    names = ["basic", "top 3", "top 3, face from all kept", "mean", "best against worst"]
    asked = "How does each fare against `advantage`, the leave-one-out policy gradient?"
    return _each(found, asked, "rules", names, "advantage")


def maze_verdicts(results: Sequence[Result]) -> list[Verdict]:
    """The verdicts of a maze study: every arm against basic, and one policy against two, over seeds."""
    arms = {r.name: r for r in results}
    base = arms["basic"]
    effects = [paired(r, base, condition="mazes") for r in results if r is not base and "one policy" not in r.name]
    made = [Verdict("On mazes: does the rule matter?", "; ".join(e.sentence() for e in effects) + ".", tuple(effects))]
    for name, one in arms.items():
        if name.endswith(", one policy"):
            effect = paired(arms[name.removesuffix(", one policy")], one, condition="mazes")
            asked = "Does a policy that is split in two learn differently from one that plays both roles?"
            made.append(Verdict(asked, effect.sentence() + ".", (effect,)))
    return made


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
        raise InputError(f"{folder}: holds no finished study (no tabular.parquet or mazes.parquet)")
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
    if "tabular" in found:
        config, results = found["tabular"]
        verdicts += tabular_verdicts(results)
        plots.phase_diagram(allocations(results), folder / "phase.png")
        rules = _Found(results)
        panels = [(words(c), [rules.one("rules", c, name) for name in DRAWN]) for c in rules.conditions("rules")]
        plots.study_curves(panels, "share of the attainable gain", folder / "curves.png")
        phase = "Best number of answers to a thought: the fuller the colour, the surer the winner."
        curves = "Learning curves at equal cost, each rule at its own best step size."
        pictures += [("phase.png", phase), ("curves.png", curves)]
        chosen = f"step size and share kept, chosen on {config['tune_replicas']} other tables"
        about.append(f"Tabular: {config['replicas']} replicas a result, each rule at its own best {chosen}.")
    if "mazes" in found:
        config, results = found["mazes"]
        verdicts += maze_verdicts(results)
        plots.study_curves([("mazes", results)], "mean score of a round", folder / "mazes.png")
        pictures.append(("mazes.png", "Mean score of the samples of each round on mazes, mean over seeds."))
        about.append(f"Mazes: {config['seeds']} seeds a result, each rule at its own best learning rate.")
    intervals = "paired by table or seed, with 95% intervals that are not corrected for their number"
    about.append(f"Leads are in percent of the gain that was attainable over the start, {intervals}.")
    plots.effects(verdicts, folder / "effects.png")
    pictures.append(("effects.png", "Every comparison; grey where the interval holds 0."))
    lines = ["# How much does the credit rule matter?", "", " ".join(about), ""]
    for number, verdict in enumerate(verdicts, 1):
        lines += [f"## {number}. {verdict.question}", "", verdict.text, "", *table(verdict), ""]
    for name, caption in pictures:
        lines += [f"![{caption}]({name})", "", f"*{caption}*", ""]
    if "tabular" in found:
        lines += ["## All rules", "", *league(found["tabular"][1]), ""]
    write_atomically(folder / "report.md", "\n".join(lines))
    return verdicts, folder / "report.md"
