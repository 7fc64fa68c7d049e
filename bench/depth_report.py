"""What the runs of `clew bench depth` say: verdicts, differences paired by seed, shares by lookahead."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from clew.runs.intervals import student, wilson
from clew.study.effects import Effect, effect_of, together
from clew.text import in_percent
from depth_runs import (
    AS_MANY,
    BRANCHES,
    CONTROL,
    EQUAL_STEPS,
    EQUAL_TIME,
    HEAD,
    LOOKAHEADS,
    MAZES,
    RATE,
    ROPE_BASE,
    WIDTH,
    Arm,
    Found,
    Measured,
    width_for,
)
from measure import figure

HARD = [name for name, inside in LOOKAHEADS.items() if inside.start >= 3]
CLAIMED = {4: 0.9}  # what two layers were said to come to, by size
# Questions, and what it means that the first of two arms solves more, or fewer, of those that need foresight.
QUESTIONS = {
    "depth": ("depth limits {b}", "depth does harm in so few steps"),
    "time": ("depth pays for what it costs", "fewer layers and more steps pay more than depth"),
    "longer": ("time limits {b}", "more steps do harm"),
    "data": ("data, or so small a batch, limits {b}", "more mazes a step do harm"),
    "parameters": ("depth does more than as many parameters in width", "width does more than depth"),
}
ABOUT = {
    "depth": "equal steps: more layers less the fewest",
    "time": "equal CPU time: more layers less the fewest",
    "longer": "the fewest layers: the steps of equal time less those of equal steps",
    "data": "equal steps, the fewest layers: twice the mazes a step less as many as elsewhere; that is twice the "
    "batch, so less noise in gradients and twice the compute as much as twice the data, and cannot tell which helps",
    "parameters": "equal steps: the most layers less the fewest in a width, of more heads as wide, at which they have "
    f"as many parameters within {AS_MANY:.0%}; left out where there is none",
}


@dataclass(frozen=True)
class SizeResults:
    """All of one size: what was trained, what each step cost, and what came out, by arm and seed."""

    size: int
    arms: list[Arm]
    measured: Measured
    found: dict[Arm, dict[int, Found]]

    @property
    def name(self) -> str:
        return f"{self.size}x{self.size}"

    def of(self, kind: str) -> list[Arm]:
        """The arms of a set, shallowest first; the deepest serves equal steps and equal time."""
        own = [arm for arm in self.arms if arm.kind == kind]
        return [*own, self.of(EQUAL_STEPS)[-1]] if kind == EQUAL_TIME else own

    def seconds(self, arm: Arm) -> float:
        """CPU seconds of a step."""
        return self.measured["models"][arm.shape]["seconds"]


@dataclass(frozen=True)
class Comparison:
    """One arm less another in questions of lookahead 3 and more, seed by seed. Shares, not percent."""

    size: str
    question: str
    a: Arm
    b: Arm
    by_seed: dict[int, float]
    effect: Effect | None
    """none where fewer than two seeds have both; its error is 0 where all seeds are alike, which tells nothing"""

    @property
    def sign(self) -> int:
        return self.effect.sign if self.effect and self.effect.error > 1e-9 else 0


def comparisons(results: Sequence[SizeResults]) -> dict[str, list[Comparison]]:
    """By question; the intervals of one question hold together, over all depths and sizes."""
    found: dict[str, list[Comparison]] = {}
    for question in QUESTIONS:
        some = [_compared(one, question, a, b) for one in results for a, b in _pairs(one, question)]
        known = iter(together([one.effect for one in some if one.effect])[0])
        found[question] = [
            Comparison(one.size, question, one.a, one.b, one.by_seed, next(known) if one.effect else None)
            for one in some
        ]
    return found


def _pairs(results: SizeResults, question: str) -> Iterator[tuple[Arm, Arm]]:
    """The arms that a question compares; the deepest last."""
    steps, times = results.of(EQUAL_STEPS), results.of(EQUAL_TIME)
    if question in ("depth", "time"):
        base, *deeper = steps if question == "depth" else times
        yield from ((arm, base) for arm in deeper)
    elif question == "longer":
        yield times[0], steps[0]
    elif question == "data":
        yield next(arm for arm in results.of(CONTROL) if arm.mazes != MAZES), steps[0]
    else:
        yield from ((steps[-1], arm) for arm in results.of(CONTROL) if arm.width != WIDTH)


def _compared(results: SizeResults, question: str, a: Arm, b: Arm) -> Comparison:
    shares = [{seed: hard(one) for seed, one in results.found.get(arm, {}).items()} for arm in (a, b)]
    by_seed = {}
    for seed in sorted(shares[0].keys() & shares[1].keys()):
        first, second = (of[seed] for of in shares)
        if first is not None and second is not None:
            by_seed[seed] = first - second
    several = len(by_seed) > 1
    effect = effect_of(np.array([*by_seed.values()]), results.name, a.name, b.name) if several else None
    return Comparison(results.name, question, a, b, by_seed, effect)


def hard(found: Found) -> float | None:
    """The share that is solved of questions with lookahead 3 and more, if any were asked."""
    solved, asked = _hard(found)
    return solved / asked if asked else None


def _hard(found: Found) -> tuple[int, int]:
    return sum(found.solved[name] for name in HARD), sum(found.asked[name] for name in HARD)


def verdicts(results: Sequence[SizeResults], compared: dict[str, list[Comparison]]) -> list[str]:
    """A line for each size and question, the deepest against the fewest layers; and how far these came."""
    lines = []
    for one in results:
        for question, (more, fewer) in QUESTIONS.items():
            some = [comparison for comparison in compared[question] if comparison.size == one.name]
            if not some:  # no width has as many parameters
                lines.append(f"- {one.name}, {question}: {_left_out(one)}.")
                continue
            last = some[-1]
            words = {1: more, -1: fewer, 0: "cannot be told"}[last.sign].format(b=last.b.name)
            against = last.sign < 0 and last.a == one.of(EQUAL_STEPS)[-1]
            lines.append(f"- {one.name}, {question}: **{words}**. {_sentence(last)}.{_rate_caveat(one) * against}")
        lines.append(f"- {one.name}, {_reached(one)}.")
    return lines


def _left_out(results: SizeResults) -> str:
    """Why nothing is said of parameters."""
    least, *_, most = results.of(EQUAL_STEPS)
    width, share = width_for(results.size, least.layers, most.layers)
    nearest = f"at the nearest width, {width}, those of {least.name} are {share:.2f} times those of {most.name}"
    return f"**left out**. No width of whole heads has as many parameters within {AS_MANY:.0%}: {nearest}"


def _rate_caveat(results: SizeResults) -> str:
    """What a verdict against the deepest must carry: that its rate may be what harms it, where half the rate, with the
    same seed, does better than Wilson's interval allows. There is no other, of one seed."""
    full = results.of(EQUAL_STEPS)[-1]
    half = next(arm for arm in results.of(CONTROL) if arm.rate != RATE)
    (seed,) = half.seeds
    runs = [results.found.get(arm, {}).get(seed) for arm in (half, full)]
    (better, asked), (usual, _) = (_hard(run) if run else (0, 0) for run in runs)
    if None in runs or not asked:
        return f" Whether its rate is to blame is not known: of seed {seed}, {half.name} is not there beside it."
    if better / asked <= wilson(usual, asked)[1]:
        return ""
    shares = f"{100 * better / asked:.1f}% in place of {100 * usual / asked:.1f}%"
    return f" **But it may be the rate that does harm**: {half.name} solve {shares} (seed {seed} alone)."


def _sentence(one: Comparison) -> str:
    steps = [f" ({arm.steps:,} steps)" for arm in (one.a, one.b)]
    if steps[0] == steps[1]:
        where, steps = f"After {one.a.steps:,} steps ", ["", ""]
    else:
        where = "In equal CPU time " if one.question == "time" else ""
    sides = f"{where}{one.a.name}{steps[0]} less {one.b.name}{steps[1]}"
    return f"{sides}: {_points(one)} in lookahead 3 and more"


def _points(one: Comparison) -> str:
    """A difference with its interval, in points."""
    if not one.by_seed:
        return "nothing to compare"
    if not (one.effect and one.effect.error > 1e-9):
        return f"{100 * fmean(one.by_seed.values()):+.1f} points (no interval)"
    mean, low, high = (100 * value for value in (one.effect.mean, one.effect.low, one.effect.high))
    return f"{mean:+.1f} points [{max(low, -100.0):+.1f}, {min(high, 100.0):+.1f}]"


def _reached(results: SizeResults) -> str:
    """How far the fewest layers came in their longest runs, and whether what was claimed of them is their ceiling."""
    arm = results.of(EQUAL_TIME)[0]
    shares = [one.exact for one in results.found.get(arm, {}).values()]
    if not shares:
        return f"{arm.name}: no run came to its end"
    told = f"{arm.name} reach{'es' * (arm.layers == 1)} {in_percent(fmean(shares))}%"
    claim, after = CLAIMED.get(results.size) if arm.layers == 2 else None, f"after {arm.steps:,} steps"
    if len(shares) < 2:
        cannot = f": **whether {claim:.0%} is their ceiling cannot be told**" if claim else ""
        return f"{told} {after} (one seed){cannot}"
    half = student(len(shares) - 1) * stdev(shares) / len(shares) ** 0.5
    low, high = max(0.0, fmean(shares) - half), min(1.0, fmean(shares) + half)
    told = f"{told} [{100 * low:.1f}, {100 * high:.1f}] {after}"
    if not claim:
        return told
    if low > claim:
        return f"{told}: **{claim:.0%} is not their ceiling**"
    if high < claim:
        return f"{told}: **they stay below {claim:.0%} in that time**, which proves no ceiling"
    return f"{told}: **whether {claim:.0%} is their ceiling cannot be told**"


def differences(compared: dict[str, list[Comparison]]) -> list[str]:
    """Every comparison, seed by seed and with its interval."""
    seeds = sorted({seed for some in compared.values() for one in some for seed in one.by_seed})
    head = f"points in lookahead 3 and more, seeds {' / '.join(map(str, seeds))}"
    lines = [f"| question | mazes | one | less the other | {head} | mean | intervals that hold together |"]
    lines.append("|---" * 7 + "|")
    for question, some in compared.items():
        for one in some:
            each = " / ".join(f"{100 * one.by_seed[seed]:+.1f}" if seed in one.by_seed else "-" for seed in seeds)
            sides = " | ".join(f"{arm.name}, {arm.steps:,} steps" for arm in (one.a, one.b))
            mean, among = _points(one).replace(" points", ""), one.effect.among if one.effect else 0
            lines.append(f"| {question} | {one.size} | {sides} | {each} | {mean} | {among or ''} |")
    return [*lines, "", *(f"{question}: {about}." for question, about in ABOUT.items())]


def table(results: SizeResults) -> list[str]:
    """A row for each arm: what it took, and what it solved, in all and by lookahead."""
    finished = [one for by_seed in results.found.values() for one in by_seed.values()]
    asked = finished[0].asked  # of all runs, the same mazes
    seeds = " / ".join(map(str, results.arms[0].seeds))
    heads = ["set", "model", "parameters", "steps", "CPU seconds a step", "CPU minutes"]
    heads += [f"exact, seeds {seeds}", "mean"]
    heads += [f"lookahead {name} ({count} questions)" for name, count in asked.items()]
    timed = "medians of {repeats} steps of one thread ({machine})".format(**results.measured)
    lines = [f"{results.name} mazes, exact held-out paths in percent; CPU seconds a step: {timed}:", ""]
    lines.append(f"| {' | '.join(heads)} |")
    lines.append("|---" * len(heads) + "|")
    for kind in (EQUAL_STEPS, EQUAL_TIME, CONTROL):
        for arm in results.of(kind):
            by_seed = results.found.get(arm, {})
            shares = [in_percent(by_seed[seed].exact) if seed in by_seed else "not there" for seed in arm.seeds]
            cells = [kind, arm.name, f"{results.measured['models'][arm.shape]['parameters']:,}", f"{arm.steps:,}"]
            cells += [f"{results.seconds(arm):.4f}", f"{results.seconds(arm) * arm.steps / 60:.1f}"]
            cells += [" / ".join(shares), in_percent(fmean(one.exact for one in by_seed.values())) if by_seed else ""]
            lines.append(f"| {' | '.join([*cells, *_by_lookahead([*by_seed.values()], asked)])} |")
    walk = [_rate(finished[0].walked[name], count) for name, count in asked.items()]
    every = in_percent(sum(finished[0].walked.values()) / sum(asked.values()))
    return [*lines, f"| | random walk | | | | | | {every} | {' | '.join(walk)} |"]


def _by_lookahead(runs: list[Found], asked: dict[str, int]) -> list[str]:
    """Means over seeds."""
    return [_rate(fmean(one.solved[name] for one in runs), count) if runs else "" for name, count in asked.items()]


def _rate(solved: float, asked: int) -> str:
    """A share with Wilson's interval. All seeds are asked the same questions, which therefore count once."""
    low, high = wilson(solved, asked)
    return figure({"value": solved / asked, "low": low, "high": high}, 100) if asked else ""


def about(questions: int) -> list[str]:
    """How the figures are to be read."""
    return [
        f"All runs: heads of {HEAD} dimensions, rotary base {ROPE_BASE:g}, Muon, a rate (of {RATE:g} unless said) that "
        f"falls to 0 over the second half of a run, averaged weights, {MAZES} mazes of {BRANCHES} questions a step "
        f"unless said, width {WIDTH} unless said. Asked at the end, greedily: the same {questions:,} questions about "
        "held-out mazes. What a step costs was measured once, before training, all models of a size taking turns on "
        "the same mazes; of a depth that came later, beside the deepest, and in proportion to it. Steps of equal time: "
        "as many as take the CPU time that the deepest needs for its own. Shares by lookahead: means over "
        "seeds, with Wilson's 95% interval over questions, which says nothing of other seeds. Held-out mazes "
        "are few at small sizes, and repeat: 2,000 questions are about 8 different mazes at 3x3, about 363 at 4x4 and "
        "1,955 at 5x5. So these intervals say how well a model does on these mazes, not on others.",
        "",
        "Differences are paired by seed, with 95% intervals by Student's t over seeds. Those of one question hold "
        "together, over all depths and sizes (Bonferroni); those of different questions do not. Where an interval "
        "holds 0, nothing can be told. The deepest at half the rate has one seed, and enters no comparison: a verdict "
        "against the deepest says where it does better than Wilson's interval of the full rate's same seed allows.",
    ]
