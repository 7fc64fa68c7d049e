"""What a study found: a plain sentence under each of its questions, made from effects whose intervals hold together."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from clew.study import tabular
from clew.study.cells import Result
from clew.study.effects import (
    SMALL,
    Allocation,
    Effect,
    Row,
    Verdict,
    effect_of,
    paired,
    percent,
    tally,
    together,
    where_most,
)
from clew.train.plan import best_allocation

KEPT = "top 3, face from all kept"
PLAIN = {
    "basic": "basic",
    "basic, k=1": "basic, one answer to a thought",
    "top 1": "thoughts by their best answer",
    "top 3": "proposal (thoughts by their best 3)",
    "mean": "thoughts by the mean",
    KEPT: "proposal, face from several answers",
    "best against worst": "best against worst",
    "advantage": "advantage",
}


class Found:
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

    def against(self, section: str, a: str, b: str, figure: str = "gained", when: str = "") -> tuple[Effect, ...]:
        both = ((self.one(section, c, a), self.one(section, c, b), c) for c in self.conditions(section))
        return tuple(paired(mine, theirs, figure, words(c) + when) for mine, theirs, c in both)

    def noises(self) -> tuple[str, ...]:
        return tuple(words(condition) for condition in self.conditions("rules"))

    def middle(self) -> tuple[str, ...]:
        """The one noise level of questions that are asked at one alone."""
        noises = sorted(condition["noise"] for condition in self.conditions("rules"))
        return (words({"noise": noises[len(noises) // 2]}),)


def words(condition: dict[str, Any]) -> str:
    units = {"noise": "noise {}", "cost": "price {}", "round": "rounds x{}", "scope": "scope {}"}
    values = {name: f"{v:g}" if isinstance(v, float) else v for name, v in condition.items()}
    return ", ".join(units.get(name, name + " {}").format(value) for name, value in values.items())


def tabular_verdicts(results: Sequence[Result]) -> list[Verdict]:
    """The verdicts of a tabular study, in the order of its questions."""
    found = Found(results)
    parts = (_proposal, _allocation, _top_or_mean, _face, _steps, _contrast, _scope, _yardstick, _pressure)
    return [verdict(found) for verdict in parts]


def _proposal(found: Found) -> Verdict:
    effects, same = together(found.against("rules", "top 3", "basic"), found.against("rules", "basic", "basic, k=1"))
    asked = "Does the proposal, top 3 and the best answer of the best thought, beat basic training?"
    itself = f"Basic itself, with several answers to a thought rather than more thoughts: {tally(same, 'k=8', 'k=1')}"
    rows = (
        Row("proposal over basic", effects, found.noises()),
        Row("basic: 8 answers a thought over 1", same, found.noises()),
    )
    return Verdict(asked, f"{tally(effects, 'The proposal', 'basic')}. {itself}.", rows)


def _pressure(found: Found) -> Verdict:
    names = ["top 3", KEPT, "mean", "top 1"]
    return _each(found, "And at one selection pressure, every rule keeping a quarter?", "pressure", names, "basic")


def _each(found: Found, asked: str, section: str, names: Sequence[str], other: str) -> Verdict:
    """Several rules, one after the other, against the same other one."""
    effects = dict(zip(names, together(*(found.against(section, name, other) for name in names)), strict=True))
    text = ". ".join(f"{name}: {tally(effects[name], 'it', other)}" for name in names) + "."
    rows = (Row(f"{PLAIN[name]} over {other}", effects[name], found.noises()) for name in names)
    return Verdict(asked, text, tuple(rows))


def allocations(results: Sequence[Result]) -> list[Allocation]:
    """For each condition the k that gained most, how surely, and what the plan's k would have lost.

    Who is compared was chosen by the results, so intervals hold for all that might have been: every several against
    one answer, and every pair, under all conditions.
    """
    found = Found(results)
    conditions = found.conditions("allocation")
    count = len({r.name for r in results if r.section == "allocation"})
    made, effects = [], []
    for condition in conditions:
        arms = sorted(found.under("allocation", condition), key=lambda r: -r.kept.figures["gained"].mean())
        cell = tabular.from_json(arms[0].kept.values)
        _, planned = best_allocation(tabular.components(cell.world), cell.thought_cost, 1.0, cell.round_cost)
        near = min(arms, key=lambda r: abs(np.log(k_of(r) / planned)))
        fewest = min(arms, key=k_of)
        several = next(r for r in arms if r is not fewest)
        pairs = ((arms[0], arms[1]), (several, fewest), (arms[0], near))
        effects.append([paired(a, b, condition=words(condition)) for a, b in pairs])
        made.append((condition, tuple(sorted(map(k_of, arms))), k_of(arms[0]), planned))
    any_two = max(1, count * (count - 1) // 2)
    sides = zip(*effects, strict=True)
    certain, over_one, regret = (
        together(side, chosen_from=of)[0] for side, of in zip(sides, (any_two, max(1, count - 1), any_two), strict=True)
    )
    found_all = zip(made, certain, over_one, regret, strict=True)
    return [Allocation(c, grid, best, sure, over, plan, lost) for (c, grid, best, plan), sure, over, lost in found_all]


def k_of(result: Result) -> int:
    return int(result.kept.values["answers"])


def _allocation(found: Found) -> Verdict:
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
    rows = []
    for cost in dict.fromkeys(a.condition["cost"] for a in made):
        at = [a for a in made if a.condition["cost"] == cost]
        marks = tuple(words({"noise": a.condition["noise"]}) for a in at)
        rows.append(Row(f"several answers over one, a thought costs {cost:g}", tuple(a.over_one for a in at), marks))
    return Verdict(asked, text, tuple(rows))


def _top_or_mean(found: Found) -> Verdict:
    early, final, one = together(
        found.against("early", "top 3", "mean", "early", ", after a quarter"),
        found.against("rules", "top 3", "mean"),
        found.against("rules", "top 3", "top 1"),
    )
    text = (
        f"After a quarter of the cost, each at what is best for it there: {tally(early, 'top 3', 'mean')}. "
        f"At the end: {tally(final, 'top 3', 'mean')}. "
        f"Against judging a thought by its single best answer, at the end: {tally(one, 'top 3', 'top 1')}."
    )
    asked = "Top 3 or the mean of all: is a thought that can be answered well the better bet?"
    labels = ("best 3 over the mean, after a quarter", "best 3 over the mean, at the end", "best 3 over the best one")
    rows = (Row(label, effects, found.noises()) for label, effects in zip(labels, (early, final, one), strict=True))
    return Verdict(asked, text, tuple(rows))


def _face(found: Found) -> Verdict:
    anywhere, kept = together(
        found.against("rules", "top 3", "top 3, face from anywhere"), found.against("rules", "top 3", KEPT)
    )
    asked = "Should the face learn from the best thought, or from the best answers anywhere?"
    other = f"from several answers of every kept thought: {tally(kept, 'the best answer alone', 'all kept')}"
    text = f"{tally(anywhere, 'The best thought', 'anywhere')}. Against learning {other}."
    rows = (
        Row("face from the best thought over anywhere", anywhere, found.noises()),
        Row("face from one answer over several", kept, found.noises()),
    )
    return Verdict(asked, text, rows)


def _steps(found: Found) -> Verdict:
    conditions = found.conditions("steps")

    def leads(condition: dict[str, Any]) -> np.ndarray:
        mine, theirs = (found.one("steps", condition, name).kept.figures["gained"] for name in (KEPT, "basic"))
        return mine - theirs

    ends = f"{words(conditions[-1])} less {words(conditions[0])}"
    difference = effect_of(leads(conditions[-1]) - leads(conditions[0]), ends, KEPT, "basic")
    effects, (change,) = together(found.against("steps", KEPT, "basic"), [difference])
    few, many = effects[-1], effects[0]
    text = (
        f"Denoised against basic, with many small rounds ({many.condition}): {many.sentence()}; "
        f"with few large ones ({few.condition}): {few.sentence()}. The lead changes by {percent(change.mean)} "
        f"[{percent(change.low)}, {percent(change.high)}] from many small to few large."
    )
    rows = [
        Row(f"denoised over basic, {words(c)}", (e,), found.middle()) for c, e in zip(conditions, effects, strict=True)
    ]
    rows.append(Row("by how much the lead changes", (change,), found.middle()))
    return Verdict("Does the difference wash out over many small steps?", text, tuple(rows))


def _contrast(found: Found) -> Verdict:
    (effects,) = together(found.against("rules", "best against worst", "best alone"))
    falls = found.against("rules", "best against worst", "best alone", "fall")
    worst = max(falls, key=lambda e: e.mean)
    fall = f"below its own best point by at most {percent(max(worst.mean, 0))} more than that of best alone"
    text = f"{tally(effects, 'Contrast', 'best alone')}. Its curve ends {fall}."
    asked = "Does contrast, best against worst, add to best alone, and is it stable?"
    return Verdict(asked, text, (Row("best against worst over best alone", effects, found.noises()),))


def _scope(found: Found) -> Verdict:
    effects, labels = [], []
    for name, plain in (("basic", "basic"), (KEPT, "denoised")):
        batch, question = (found.one("scope", {"scope": scope}, name) for scope in ("batch", "question"))
        for figure, of in (("gained", "all questions"), ("hard", "the hard half")):
            difference = batch.kept.figures[figure] - question.kept.figures[figure]
            effects.append(effect_of(difference, of, f"{name} over the batch", f"{name} per question"))
            labels.append(f"{plain}: batch over question, {of}")
    (effects,) = together(effects)
    text = "; ".join(f"{e.condition}: {e.sentence()}" for e in effects) + "."
    asked = "Selection per question or over the whole batch: are hard questions abandoned?"
    rows = (Row(label, (effect,), found.middle()) for label, effect in zip(labels, effects, strict=True))
    return Verdict(asked, text, tuple(rows))


def _yardstick(found: Found) -> Verdict:
    names = ["basic", "top 3", KEPT, "mean", "best against worst"]
    asked = "How does each fare against `advantage`, the leave-one-out policy gradient?"
    return _each(found, asked, "rules", names, "advantage")


def maze_verdicts(results: Sequence[Result]) -> list[Verdict]:
    """The verdicts of a maze study: every arm against basic, and one policy against two, over seeds."""
    arms = {r.name: r for r in results}
    base = arms["basic"]
    others = [r for r in results if r is not base and "one policy" not in r.name]
    (effects,) = together([paired(r, base, condition="mazes") for r in others])
    rows = (Row(f"{PLAIN.get(e.a, e.a)} over basic", (e,)) for e in effects)
    text = "; ".join(e.sentence() for e in effects) + "."
    made = [Verdict("On mazes: does the rule matter?", text, tuple(rows))]
    for name, one in arms.items():
        if name.endswith(", one policy"):
            effect = paired(arms[name.removesuffix(", one policy")], one, condition="mazes")
            asked = "Does a policy that is split in two learn differently from one that plays both roles?"
            row = Row(f"{name.removesuffix(', one policy')}: two policies over one", (effect,))
            made.append(Verdict(asked, effect.sentence() + ".", (row,)))
    return made
