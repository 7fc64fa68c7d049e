"""What a study found: effects with intervals, and a plain sentence under each question, made from the numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from clew.errors import InputError
from clew.files import write_atomically
from clew.plan import best_allocation
from clew.study import tabular
from clew.study.cells import Result, read_results
from clew.text import one_line

DRAWN = ("basic", "top 3", "mean", "best against worst", "advantage")  # in the picture of learning curves
SMALL = 0.01  # of the attainable gain: what nobody would change a training run for


@dataclass(frozen=True)
class Effect:
    """By how much `a` is ahead of `b` in one figure: a mean of paired differences with its 95% interval."""

    condition: str
    a: str
    b: str
    mean: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the interval excludes 0, otherwise 0."""
        return int(self.low > 0) - int(self.high < 0)

    @property
    def most(self) -> float:
        """The largest difference, either way, that the interval allows."""
        return max(abs(self.low), abs(self.high))

    def sentence(self) -> str:
        """In words, with what the interval allows."""
        if self.low == self.high == 0:
            return "no difference: in these conditions they are one rule"
        if self.sign == 0:
            return f"no detectable difference between {self.a} and {self.b}, at most {percent(self.most)}"
        ahead, behind = (self.a, self.b) if self.sign > 0 else (self.b, self.a)
        low, high = sorted((abs(self.low), abs(self.high)))
        small = ", too little to matter" if high < SMALL else ""
        return f"{ahead} is ahead of {behind} by {percent(abs(self.mean))} [{percent(low)}, {percent(high)}]{small}"


@dataclass(frozen=True)
class Verdict:
    """One question of the study and what the numbers say."""

    question: str
    text: str
    effects: tuple[Effect, ...]


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def paired(a: Result, b: Result, figure: str = "gained", condition: str = "") -> Effect:
    """The effect of a over b on the same tables. ValueError where the tables are not the same."""
    same = ("seed", "replicas") if "policies" in a.kept.values else ("world", "seed", "replicas")
    if any(a.kept.values[name] != b.kept.values[name] for name in same):
        raise ValueError(f"{a.name} and {b.name} did not meet the same tables")
    return effect_of(a.kept.figures[figure] - b.kept.figures[figure], condition, a.name, b.name)


def effect_of(difference_R: np.ndarray, condition: str, a: str, b: str) -> Effect:
    """The mean of a difference over replicas, with Student's t interval."""
    count = len(difference_R)
    mean = float(difference_R.mean())
    half = float(student_t.ppf(0.975, count - 1) * difference_R.std(ddof=1) / count**0.5)
    return Effect(condition, a, b, mean, mean - half, mean + half)


def tally(effects: Sequence[Effect], a: str, b: str) -> str:
    """How often who was ahead, and by how much at most."""
    wins, losses = [sum(e.sign == sign for e in effects) for sign in (1, -1)]
    if len(effects) == 1:
        return effects[0].sentence()
    parts = [f"{a} is ahead in {wins} of {len(effects)} conditions" + _most(effects, 1),
             f"{b} in {losses}" + _most(effects, -1)]  # fmt: skip
    open_ones = [e for e in effects if e.sign == 0]
    if open_ones:
        bound = max(e.most for e in open_ones)
        parts.append(f"no detectable difference in {len(open_ones)}, at most {percent(bound)}")
    return "; ".join(parts)


def _most(effects: Sequence[Effect], sign: int) -> str:
    ahead = [e for e in effects if e.sign == sign]
    if not ahead:
        return ""
    top = max(ahead, key=lambda e: abs(e.mean))
    return (
        f" (most where {top.condition}: {percent(abs(top.mean))})" if top.condition else f" ({percent(abs(top.mean))})"
    )


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
        return tuple(
            paired(self.one(section, c, a), self.one(section, c, b), figure, words(c)) for c in self.conditions(section)
        )


def words(condition: dict[str, Any]) -> str:
    units = {"noise": "noise {}", "cost": "price {}", "round": "rounds x{}", "scope": "scope {}"}
    return ", ".join(units.get(name, name + " {}").format(f"{v:g}" if isinstance(v, float) else v)
                     for name, v in condition.items())  # fmt: skip


def tabular_verdicts(results: Sequence[Result]) -> list[Verdict]:
    """The verdicts of a tabular study, in the order of its questions."""
    found = _Found(results)
    return [
        _proposal(found), _allocation(found), _top_or_mean(found), _face(found), _steps(found), _contrast(found),
        _scope(found), _yardstick(found), _pressure(found),
    ]  # fmt: skip


def _proposal(found: _Found) -> Verdict:
    effects = found.against("rules", "top 3", "basic")
    same = found.against("rules", "basic", "basic, k=1")
    text = (f"{tally(effects, 'The proposal', 'basic')}. Basic itself, with several answers to a thought rather than "
            f"more thoughts: {tally(same, 'k=8', 'k=1')}.")  # fmt: skip
    return Verdict("Does the proposal, top 3 and the best answer of the best thought, beat basic training?", text,
                   (*effects, *same))  # fmt: skip


def _pressure(found: _Found) -> Verdict:
    names = ["top 3", "top 3, face from all kept", "mean", "top 1"]
    effects = [e for name in names for e in found.against("pressure", name, "basic")]
    parts = [f"{name}: {tally([e for e in effects if e.a == name], 'it', 'basic')}" for name in names]
    return Verdict("And at one selection pressure, every rule keeping a quarter?", ". ".join(parts) + ".",
                   tuple(effects))  # fmt: skip


@dataclass(frozen=True)
class Allocation:
    """Who wins where: one condition of the grid of noise and cost."""

    condition: dict[str, Any]
    grid: tuple[int, ...]
    """the numbers of answers that were tried"""
    best: int
    certainty: Effect
    """the winner over the best of the others"""
    over_one: Effect
    """the best number of several answers over one answer to a thought, and more thoughts"""
    planned: int
    regret: Effect
    """the winner over the k of the grid that is nearest to the plan's"""


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
        made.append(Allocation(
            condition, tuple(sorted(map(k_of, arms))), k_of(arms[0]), paired(arms[0], arms[1], condition=where),
            paired(several, fewest, condition=where), planned, paired(arms[0], near, condition=where),
        ))  # fmt: skip
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
        f"conditions{_most(against_one, 1)}, and lose in {sum(e.sign < 0 for e in against_one)}. "
        f"The k that estimates thoughts best (`clew plan`) is within "
        f"{percent(SMALL)} of the best k in {close} of {len(made)}, and loses at most {percent(worst.regret.mean)} "
        f"(where {words(worst.condition)}: it plans k = {worst.planned}, and k = {worst.best} wins)."
    )
    return Verdict("Is denoising a thought's score worth the extra answers, or are more thoughts better?", text,
                   tuple(against_one))  # fmt: skip


def _top_or_mean(found: _Found) -> Verdict:
    early, final = found.against("early", "top 3", "mean", "early"), found.against("rules", "top 3", "mean")
    one = found.against("rules", "top 3", "top 1")
    text = (
        f"After a quarter of the cost, each at what is best for it there: {tally(early, 'top 3', 'mean')}. "
        f"At the end: {tally(final, 'top 3', 'mean')}. "
        f"Against judging a thought by its single best answer, at the end: {tally(one, 'top 3', 'top 1')}."
    )
    return Verdict("Top 3 or the mean of all: is a thought that can be answered well the better bet?", text,
                   (*final, *one))  # fmt: skip


def _face(found: _Found) -> Verdict:
    anywhere = found.against("rules", "top 3", "top 3, face from anywhere")
    kept = found.against("rules", "top 3", "top 3, face from all kept")
    text = (f"{tally(anywhere, 'The best thought', 'anywhere')}. Against learning from several answers of every kept "
            f"thought: {tally(kept, 'the best answer alone', 'all kept')}.")  # fmt: skip
    return Verdict("Should the face learn from the best thought, or from the best answers anywhere?", text,
                   (*anywhere, *kept))  # fmt: skip


def _steps(found: _Found) -> Verdict:
    effects = found.against("steps", "top 3, face from all kept", "basic")
    few, many = effects[-1], effects[0]
    ends = [found.conditions("steps")[i] for i in (-1, 0)]
    leads = [found.one("steps", c, "top 3, face from all kept").kept.figures["gained"]
             - found.one("steps", c, "basic").kept.figures["gained"] for c in ends]  # fmt: skip
    change = effect_of(leads[0] - leads[1], "", "few large rounds", "many small ones")
    text = (f"Denoised against basic, with many small rounds ({many.condition}): {many.sentence()}; "
            f"with few large ones ({few.condition}): {few.sentence()}. The lead changes by {percent(change.mean)} "
            f"[{percent(change.low)}, {percent(change.high)}] from many small to few large.")  # fmt: skip
    return Verdict("Does the difference wash out over many small steps?", text, effects)


def _contrast(found: _Found) -> Verdict:
    effects = found.against("rules", "best against worst", "best alone")
    falls = found.against("rules", "best against worst", "best alone", "fall")
    worst = max(falls, key=lambda e: e.mean)
    text = (f"{tally(effects, 'Contrast', 'best alone')}. Its curve ends below its own best point by at most "
            f"{percent(max(worst.mean, 0))} more than that of best alone.")  # fmt: skip
    return Verdict("Does contrast, best against worst, add to best alone, and is it stable?", text, effects)


def _scope(found: _Found) -> Verdict:
    effects = []
    for name in ("basic", "top 3, face from all kept"):
        batch, question = (found.one("scope", {"scope": scope}, name) for scope in ("batch", "question"))
        for figure, of in (("gained", "all questions"), ("hard", "the hard half")):
            difference = batch.kept.figures[figure] - question.kept.figures[figure]
            effects.append(effect_of(difference, of, f"{name} over the batch", f"{name} per question"))
    text = "; ".join(f"{e.condition}: {e.sentence()}" for e in effects) + "."
    return Verdict(
        "Selection per question or over the whole batch: are hard questions abandoned?", text, tuple(effects)
    )


def _yardstick(found: _Found) -> Verdict:
    names = ["basic", "top 3", "top 3, face from all kept", "mean", "best against worst"]
    effects = [e for name in names for e in found.against("rules", name, "advantage")]
    parts = [f"{name}: {tally([e for e in effects if e.a == name], 'it', 'advantage')}" for name in names]
    return Verdict("How does each fare against `advantage`, the leave-one-out policy gradient?", ". ".join(parts) + ".",
                   tuple(effects))  # fmt: skip


def maze_verdicts(results: Sequence[Result]) -> list[Verdict]:
    """The verdicts of a maze study: every arm against basic, and one policy against two, over seeds."""
    arms = {r.name: r for r in results}
    base = arms["basic"]
    effects = [paired(r, base, condition="mazes") for r in results if r is not base and "one policy" not in r.name]
    made = [Verdict("On mazes: does the rule matter?", "; ".join(e.sentence() for e in effects) + ".", tuple(effects))]
    for name, one in arms.items():
        if name.endswith(", one policy"):
            effect = paired(arms[name.removesuffix(", one policy")], one, condition="mazes")
            made.append(Verdict("Does a policy that is split in two learn differently from one that plays both roles?",
                                effect.sentence() + ".", (effect,)))  # fmt: skip
    return made


def league(results: Sequence[Result]) -> list[str]:
    """Every rule in every world: how it ended, how it got there, and what it chose."""
    lines = ["| world | rule | gained | area under the curve | cost to 90% | step size | kept |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for r in results:
        if r.section != "rules":
            continue
        cells = []
        for name in ("gained", "area", "cost_90"):
            e = effect_of(r.kept.figures[name], "", "", "")
            cells.append(f"{percent(e.mean)} ± {percent(e.high - e.mean)}")
        kept = r.kept.values["options"].get("keep")
        lines.append(f"| {words(r.condition)} | {r.name} | {' | '.join(cells)} | {r.kept.values['lr']:g} | "
                     f"{'' if kept is None else f'{kept:g}'} |")  # fmt: skip
    return lines


def table(verdict: Verdict) -> list[str]:
    lines = ["| condition | ahead? | over | by | 95% interval |", "|---|---|---|---|---|"]
    for e in verdict.effects:
        lines.append(f"| {e.condition} | {e.a} | {e.b} | {percent(e.mean)} | [{percent(e.low)}, {percent(e.high)}] |")
    return lines


def report(folder: Path) -> tuple[list[Verdict], Path]:
    """Verdicts, report.md and pictures from the results in a study's folder. InputError if it holds none, or a part."""
    found = {name: read_results(folder / f"{name}.parquet") for name in ("tabular", "mazes")
             if (folder / f"{name}.parquet").is_file()}  # fmt: skip
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
    from clew import plots

    verdicts: list[Verdict] = []
    pictures, about = [], []
    if "tabular" in found:
        config, results = found["tabular"]
        verdicts += tabular_verdicts(results)
        plots.phase_diagram(allocations(results), folder / "phase.png")
        rules = _Found(results)
        panels = [(words(c), [rules.one("rules", c, name) for name in DRAWN]) for c in rules.conditions("rules")]
        plots.study_curves(panels, "share of the attainable gain", folder / "curves.png")
        pictures += [("phase.png", "Best number of answers to a thought: the fuller the colour, the surer the winner."),
                     ("curves.png", "Learning curves at equal cost, each rule at its own best step size.")]  # fmt: skip
        about.append(f"Tabular: {config['replicas']} replicas a result, each rule at its own best step size and share "
                     f"kept, chosen on {config['tune_replicas']} other tables.")  # fmt: skip
    if "mazes" in found:
        config, results = found["mazes"]
        verdicts += maze_verdicts(results)
        plots.study_curves([("mazes", results)], "mean score of a round", folder / "mazes.png")
        pictures.append(("mazes.png", "Mean score of the samples of each round on mazes, mean over seeds."))
        about.append(f"Mazes: {config['seeds']} seeds a result, each rule at its own best learning rate.")
    about.append("Leads are in percent of the gain that was attainable over the start, paired by table or seed, with "
                 "95% intervals that are not corrected for their number.")  # fmt: skip
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
