"""What the experiment found, question by question, made from the numbers alone.

*Leak* is how much rarer mentions of the door are in an arm's thoughts than in those of its control, the same arm
without the penalty: of the answers that used the door, a difference of shares, paired by seed. Intervals are Student's,
over seeds, and all of one question hold together (Bonferroni).
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from clew.study.cells import Result
from clew.study.effects import Effect, Row, Verdict, effect_of, percent, together
from clew.study.spillover.arms import BEST, HEARD, MAIN, POLICIES, PUBLISHED, REWRITINGS, WHO, WORST, Arm, published_at

Shares = np.ndarray
THOUGHTS, ANSWERS = "thought_tells", "answer_tells"
SILENCES = "answers_silent", "thoughts_then", "thoughts_silent"
BY = {"both": "heard by both", "face": "heard by the face"}
NOT_TOLD = "cannot be told apart"


class Found:
    """A study's results by arm."""

    def __init__(self, results: Sequence[Result]):
        self.by = {Arm(**one.condition): one for one in results if one.section == "arm"}

    def __contains__(self, arm: Arm) -> bool:
        return arm in self.by and arm.control() in self.by

    def values(self, arm: Arm, figure: str) -> np.ndarray:
        return self.by[arm].kept.figures[figure]

    def runs(self, arm: Arm) -> int:
        """Of how many seeds there is a run."""
        return self.by[arm].kept.runs

    def lost(self, arm: Arm, figure: str) -> np.ndarray:
        """By how much a figure is lower than in the arm's control, seed by seed."""
        return self.values(arm.control(), figure) - self.values(arm, figure)

    def leak(self, arm: Arm) -> np.ndarray:
        return self.lost(arm, THOUGHTS)

    def penalties(self) -> list[float]:
        return sorted({arm.penalty for arm in self.by if arm.penalty and arm.plain})


def verdicts(results: Sequence[Result]) -> list[Verdict]:
    """All questions that the results have the arms for."""
    found = Found(results)
    asked: list[Callable[[Found], Verdict | None]] = [
        _silenced, _leaks, _costs, _order, _rates, _models, _weight, _paraphraser, _style, _length, _code,
    ]  # fmt: skip
    return [one for ask in asked if (one := ask(found)) is not None]


def _effect(values_R: np.ndarray, condition: str, a: str, b: str, possible: float = 2.0) -> Effect | None:
    """None where fewer than two runs have anything to say: one of which no answer used the door has no share.

    possible: 1 for a difference of shares or scores, 2 for one of such differences."""
    known = values_R[~np.isnan(values_R)]
    return replace(effect_of(known, condition, a, b), possible=possible) if len(known) > 1 else None


def _rows(made: Sequence[tuple[str, Effect | None]]) -> list[Row]:
    """Rows of one effect each, with intervals that hold together."""
    there = [(label, effect) for label, effect in made if effect is not None]
    corrected = together([effect for _, effect in there])[0] if there else ()
    return [Row(label, (effect,)) for (label, _), effect in zip(there, corrected, strict=True)]


@dataclass(frozen=True)
class _Says:
    """How an effect reads: what a positive one means, what a negative one, and what it is where it holds 0."""

    more: str
    less: str
    level: str = NOT_TOLD

    def of(self, row: Row) -> str:
        effect = row.effects[0]
        low, mean, high = (percent(value) for value in (effect.low, effect.mean, effect.high))
        if not effect.scatters:
            return f"{row.label}: {self.level} ({mean} in each of {effect.replicas} runs: not told how sure that is)."
        if effect.sign == 0:
            return f"{row.label}: {self.level} ({mean} [{low}, {high}])."
        if effect.sign < 0:
            low, mean, high = (percent(-value) for value in (effect.high, effect.mean, effect.low))
        return f"{row.label}: {self.more if effect.sign > 0 else self.less} by {mean} [{low}, {high}]."


def _verdict(question: str, rows: Sequence[Row], says: _Says, first: str = "") -> Verdict | None:
    if not rows:
        return None
    return Verdict(question, " ".join([first, *map(says.of, rows)]).strip(), tuple(rows), says.more)


def _main(found: Found) -> list[Arm]:
    return [arm for who in POLICIES for by in HEARD if (arm := Arm(who, by, MAIN)) in found]


def _label(arm: Arm) -> str:
    return f"{WHO[arm.policies]}, {BY[arm.heard]}"


def _against_control(found: Found, figure: str) -> list[Row]:
    made = [(_label(arm), _effect(found.lost(arm, figure), "", "control", "penalty", 1.0)) for arm in _main(found)]
    return _rows(made)


def _silenced(found: Found) -> Verdict | None:
    says = _Says("mentions fell", "mentions rose", f"{NOT_TOLD} from its control")
    asked = f"Does the penalty (lambda {MAIN:g}) silence the answers that use the door?"
    return _verdict(asked, _against_control(found, ANSWERS), says)


def _leaks(found: Found) -> Verdict | None:
    says = _Says("mentions fell", "mentions rose", f"{NOT_TOLD} from its control")
    asked = "Does it leak into thoughts, which nobody penalised?"
    return _verdict(asked, _against_control(found, THOUGHTS), says)


def _costs(found: Found) -> Verdict | None:
    says = _Says("the score fell", "the score rose", f"{NOT_TOLD} from its control")
    return _verdict("What does it cost in score?", _against_control(found, "score"), says)


def _order(found: Found) -> Verdict | None:
    """The published order: each remedy leaks less than the one before."""
    known = [(name, arm) for name, arm in PUBLISHED.items() if arm in found]
    made = [
        (f"{a} against {b}", _effect(found.leak(weak) - found.leak(strong), "", a, b))
        for (a, weak), (b, strong) in pairwise(known)
    ]
    rows = _rows(made)
    signs = [row.effects[0].sign for row in rows]
    if len(rows) < len(PUBLISHED) - 1:
        first = ""
    elif all(sign > 0 for sign in signs):
        first = "Yes, in full."
    elif any(sign < 0 for sign in signs):
        first = "No: at least one step goes the other way."
    elif any(sign > 0 for sign in signs):
        first = "In part: the steps that can be told are in that order."
    else:
        first = "It cannot be told: no step is larger than chance allows."
    says = _Says("the first leaks more", "the first leaks less, against what was published,")
    return _verdict("Does the published order of remedies hold?", rows, says, first)


def _rates(found: Found) -> Verdict | None:
    """Each step of the published order with one rate for both sides, where these are of different policies or of
    policies at a rate that is not their own."""
    made = []
    for rate in POLICIES[:2]:
        known = [(name, arm) for name, arm in published_at(rate).items() if arm in found]
        for (a, weak), (b, strong) in pairwise(known):
            if weak.rate_of or strong.rate_of:
                label = f"{a} against {b}, at the rate of {WHO[rate]}"
                made.append((label, _effect(found.leak(weak) - found.leak(strong), "", a, b)))
    says = _Says("the first leaks more", "the first leaks less, against what was published,")
    return _verdict("Does the order hold at one learning rate for all?", _rows(made), says)


def _models(found: Found) -> Verdict | None:
    made = []
    for by in HEARD:
        for a, b in (("one", "adapters"), ("adapters", "two")):
            pair = Arm(a, by, MAIN), Arm(b, by, MAIN)  # type: ignore[arg-type]
            if all(arm in found for arm in pair):
                label = f"{WHO[a]} against {WHO[b]}, {BY[by]}"
                made.append((label, _effect(found.leak(pair[0]) - found.leak(pair[1]), "", WHO[a], WHO[b])))
    says = _Says("the first leaks more", "the first leaks less")
    return _verdict("Do thoughts need a model of their own, or will an adapter do?", _rows(made), says)


def _weight(found: Found) -> Verdict | None:
    penalties = found.penalties()
    if len(penalties) < 2:
        return None
    low, high = penalties[0], penalties[-1]
    made = []
    for arm in _main(found):
        pair = replace(arm, penalty=high), replace(arm, penalty=low)
        if all(one in found for one in pair):
            named = f"lambda {high:g}", f"lambda {low:g}"
            made.append((_label(arm), _effect(found.leak(pair[0]) - found.leak(pair[1]), "", *named)))
    says = _Says(f"{high:g} leaks more than {low:g}", f"{high:g} leaks less than {low:g}")
    return _verdict("Does a heavier penalty leak more?", _rows(made), says)


def _paraphraser(found: Found) -> Verdict | None:
    """Copying line by line is the control of shuffling line by line; no paraphraser is that of the others."""
    made = []
    for place, arm in (("the weakest", WORST), ("the strongest", BEST)):
        with_one = {f"{name} {how}": replace(arm, paraphraser=name, paraphrase=how) for name, how in REWRITINGS}
        known = {"none": arm, **with_one}
        for a, b in (("none", "copy line"), ("none", "shuffle whole"), ("copy line", "shuffle line")):
            if known[a] in found and known[b] in found:
                gain = found.leak(known[a]) - found.leak(known[b])
                made.append((f"{a} against {b}, {place} remedy", _effect(gain, "", a, b)))
    says = _Says("the first leaks more", "the first leaks less")
    return _verdict("Does a paraphraser between shoggoth and face keep thoughts open?", _rows(made), says)


def _beginnings(found: Found, start: Any, a: str, b: str) -> list[Row]:
    made = []
    for name, arm in PUBLISHED.items():
        other = replace(arm, start=start)
        if arm in found and other in found:
            made.append((name, _effect(found.leak(arm) - found.leak(other), "", a, b)))
    return _rows(made)


def _style(found: Found) -> Verdict | None:
    says = _Says("a style of their own leaks less", "a style of their own leaks more")
    rows = _beginnings(found, "own style", "one style", "own style")
    return _verdict("Does it help if answers have a style of their own before training?", rows, says)


def _length(found: Found) -> Verdict | None:
    says = _Says("short thoughts leak less", "short thoughts leak more")
    rows = _beginnings(found, "path", "search", "path")
    return _verdict("Do short thoughts leak more than long ones?", rows, says)


def _code(found: Found) -> Verdict | None:
    """A private code: what the trained face makes of thoughts beyond a face that never trained with the shoggoth, and
    beyond the same in the control, where a face has only become better."""

    def gap(arm: Arm) -> np.ndarray:
        return found.values(arm, "score") - found.values(arm, "fresh_score")

    rewritten = [one for one in found.by if one.paraphraser and one.penalty and one in found]
    made = []
    for arm in dict.fromkeys([*_main(found), *rewritten]):
        label = _label(arm) + (f", {arm.paraphraser} {arm.paraphrase}" if arm.paraphraser else "")
        made.append((label, _effect(gap(arm) - gap(arm.control()), "", "penalty", "control")))
    says = _Says("the gap grew", "the gap shrank", f"{NOT_TOLD} from its control")
    asked = "Does the penalty make thoughts a private code, which a face that never trained with them reads worse?"
    return _verdict(asked, _rows(made), says)


@dataclass(frozen=True)
class Silence:
    """When an arm fell silent for the first time: in how many of its runs, and from which round on, the median over
    those; NaN for none."""

    arm: Arm
    runs: int
    answers: int
    answers_after: float
    thoughts_then: float
    """share of thoughts that still mention the door when answers have fallen silent, mean over those runs"""
    thoughts: int
    thoughts_after: float


def silence(found: Found) -> list[Silence]:
    """Of each arm with a penalty when its answers, and its thoughts, fell silent for the first time."""
    rows = []
    for arm in found.by:
        if arm.penalty:
            answers, then, thoughts = (_known(found, arm, name) for name in SILENCES)
            runs = found.runs(arm)
            middle = [float(np.median(x)) if len(x) else float("nan") for x in (answers, thoughts)]
            mean = float(then.mean()) if len(then) else float("nan")
            rows.append(Silence(arm, runs, len(answers), middle[0], mean, len(thoughts), middle[1]))
    return rows


def _known(found: Found, arm: Arm, figure: str) -> np.ndarray:
    values = found.values(arm, figure)
    return values[~np.isnan(values)]


def condition_of(arm: Arm) -> dict[str, Any]:
    """The arm as a Result's condition has it."""
    return asdict(arm)
