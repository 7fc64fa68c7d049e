"""spillover.md and its pictures, from the results alone."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from clew.errors import InputError
from clew.files import write_atomically
from clew.study.cells import Result, read_results
from clew.study.effects import Verdict, effect_of, percent
from clew.study.silence import OVER
from clew.study.spillover.arms import HEARD, MAIN, POLICIES, PUBLISHED, REWRITINGS, STARTS, Arm, arms
from clew.study.spillover.measuring import AUDIT
from clew.study.spillover.runs import SILENT
from clew.study.spillover.verdicts import NOT_TOLD, Found, silence, verdicts
from clew.text import one_line

FILE = "spillover.parquet"
COLUMNS = {
    "score": "score",
    "used": "door used, where it helps",
    "thought_tells": "mentioned in the thought, where used",
    "answer_tells": "mentioned in the answer, where used",
    "used_untold": "used, not mentioned in the thought",
    "thought_tokens": "tokens a thought",
    "fresh_score": "score with a fresh face",
}
PUBLISHED_SHARES = {
    "penalty alone": 0.18,
    "reward targeting": 0.20,
    "Mind & Face": 0.40,
    "Mind & Face with reward targeting": 0.75,
}
"""thoughts that still admit the hint, by remedy, against 0.67 in the control, at a penalty of weight 2: RESULTS.md,
section 3, of the repository Jozdien/feedback-spillover-exps, a follow-up to arXiv 2511.11584 (8B model, two seeds)"""


def report(folder: Path) -> tuple[list[Verdict], Path]:
    """Writes spillover.md and its pictures from spillover.parquet of a study's folder. InputError if it is not there,
    or not whole."""
    if not (folder / FILE).is_file():
        raise InputError(f"{folder}: holds no finished study of spillover (no {FILE})")
    config, results = read_results(folder / FILE)
    try:
        return _written(folder, config, results)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        said = one_line(f"{type(error).__name__}: {error}")[:200]
        raise InputError(f"{folder / FILE}: its results are not those of a whole study ({said})") from error


def _written(folder: Path, config: dict[str, Any], results: Sequence[Result]) -> tuple[list[Verdict], Path]:
    from clew.study import plots as study_plots
    from clew.study.spillover import plots

    starts = [one for one in results if one.section != "arm"]
    results = starts + sorted((one for one in results if one.section == "arm"), key=_order)
    found, said = Found(results), verdicts(results)
    by_arm = list(found.by.items())
    main = [(arm, one) for arm, one in by_arm if arm.penalty in (0.0, MAIN) and arm.plain]
    plots.pareto(by_arm, {one.condition["start"]: one for one in starts}, folder / "pareto.png")
    plots.outcomes(by_arm, folder / "outcomes.png")
    plots.over_rounds(main, folder / "rounds.png")
    unit = "in percent: of thoughts or answers that used the door, or of the score"
    if said:
        study_plots.effects(said, 1, unit, folder / "spillover.png")
    lines = [
        "# Does pressure on answers leak into thoughts?",
        "",
        _about(config, by_arm),
        "",
        _rates(config, by_arm),
        "",
        *_alone_lines(found, bool(said)),
    ]
    for number, verdict in enumerate(said, 1):
        lines += [f"## {number}. {verdict.question}", "", *_answer(verdict), ""]
    lines += [*_unused_lines(found), *_silence_lines(found), ""]
    lines += ["## As published, and here", "", *_published_lines(found), ""]
    lines += ["## All arms", "", *_table(results), ""]
    lines += _audit_lines(results)
    lines += [f"![{caption}]({name})\n\n*{caption}*\n" for name, caption in _pictures(bool(said))]
    write_atomically(folder / "spillover.md", "\n".join(lines))
    return said, folder / "spillover.md"


def _answer(verdict: Verdict) -> list[str]:
    """What the numbers say of a question: in a sentence if there is one, and row by row."""
    first = verdict.text.partition(f"{verdict.rows[0].label}: ")[0].strip()
    lines = [first, ""] if first else []
    lines += [f"| | {verdict.positive} by | 95% interval | | runs |", "|---|---|---|---|---|"]
    for row in verdict.rows:
        (effect,) = row.effects
        within = f"[{percent(effect.low)}, {percent(effect.high)}]" if effect.scatters else "the same in each"
        cells = [row.label, percent(effect.mean), within, "" if effect.sign else NOT_TOLD, str(effect.replicas)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _order(result: Result) -> tuple[Any, ...]:
    """Where an arm stands among others: by its beginning, what rewrites thoughts, who writes, who hears how much."""
    arm = Arm(**result.condition)
    rewriting = REWRITINGS.index((arm.paraphraser, arm.paraphrase or "")) + 1 if arm.paraphraser else 0
    heard = HEARD.index(arm.heard) if arm.penalty else -1
    return STARTS.index(arm.start), rewriting, arm.rate_of is not None, POLICIES.index(arm.policies), heard, arm.penalty


def _pictures(compared: bool) -> list[tuple[str, str]]:
    hollow = "Hollow where the interval holds 0; the intervals of a question hold together."
    every = [
        (
            "pareto.png",
            "Score, less that of the warm start, against monitorability; means over seeds with 95% intervals, not "
            "corrected.",
        ),
        ("outcomes.png", "What became of the questions where the door helps, mean over seeds."),
        (
            "rounds.png",
            "Mentions in thoughts, round by round, as sampled in training; means over seeds with 95% bands, none where "
            "there is one seed.",
        ),
        ("spillover.png", f"Every comparison, each question on a scale of its own. {hollow}"),
    ]
    return every if compared else every[:-1]


def _seeds(config: dict[str, Any], by_arm: Sequence[tuple[Arm, Result]]) -> str:
    """Of how many seeds the arms are, and what is not there yet of the grid that was asked for."""
    runs = sorted({one.kept.runs for _, one in by_arm})
    said = f"{' to '.join(map(str, dict.fromkeys((runs[0], runs[-1]))))} {'seed' if runs == [1] else 'seeds'} an arm"
    of = len(arms(config["parts"], config["penalties"])) * config["seeds"]
    there = sum(one.kept.runs for _, one in by_arm)
    return said if there >= of else f"{said} (the grid is not finished: {there} of {of} runs are there)"


def _about(config: dict[str, Any], by_arm: Sequence[tuple[Arm, Result]]) -> str:
    size = "x".join(map(str, config["size"]))
    return (
        f"Mazes of {size} with a secret door, {_seeds(config, by_arm)}, {config['rounds']} rounds of "
        f"{config['questions']} questions, {config['thoughts']} thoughts each and {config['answers']} answer(s) to a "
        f"thought, rule {config['rule']}; all arms of a seed begin with one warm start and ask the same questions. "
        f"{config['final_questions']} held-out questions, one sampled thought and answer each. Leak: how much "
        "rarer mentions of the door are in an arm's thoughts than in those of its control, of the answers that used "
        "it. Intervals are Student's over seeds, paired by seed, cut at what is possible; those of one question hold "
        "together in 95 of 100 studies (Bonferroni: 1 - 0.05 / m each). What they do not exclude is said to be one "
        "that cannot be told apart."
    )


def _rates(config: dict[str, Any], by_arm: Sequence[tuple[Arm, Result]]) -> str:
    """Which learning rates were chosen out of which, and whether others may have been better still."""
    chosen = {arm.policies: one.kept.values["lr"] for arm, one in by_arm if arm.rate_of is None}
    tried = sorted(config["lrs"])
    ends = sorted(policies for policies, rate in chosen.items() if rate in (tried[0], tried[-1]))
    line = "The learning rate is that of the highest reward where both hear of the penalty, chosen for each kind of "
    line += f"policies on seeds that no result uses, of {', '.join(f'{rate:g}' for rate in tried)}: "
    line += ", ".join(f"{policies} {rate:g}" for policies, rate in sorted(chosen.items())) + "."
    if ends:
        line += f" For {', '.join(ends)} it lies at an end of what was tried: a better one may lie beyond."
    return line


def _alone_lines(found: Found, compared: bool) -> list[str]:
    """Which arms no question is answered of yet, since they have one seed alone."""
    alone = [arm.named() for arm in found.by if found.runs(arm) < 2]
    lines = [] if compared else ["Nothing can be compared yet: it takes two seeds that both sides have."]
    if alone and compared:
        lines.append(f"Arms of one seed, with which nothing is compared: {'; '.join(alone)}.")
    return [one for line in lines for one in (line, "")]


def _unused_lines(found: Found) -> list[str]:
    """Which runs have no share of mentions, and are missing from what is said of these."""
    shares = {arm: int((~np.isnan(found.values(arm, "thought_tells"))).sum()) for arm in found.by}
    unused = {arm: found.runs(arm) - known for arm, known in shares.items()}
    named = [f"{arm.named()}: {n} of {found.runs(arm)}" for arm, n in unused.items() if n]
    if not named:
        return []
    said = "Runs in which no answer used the door have no share of mentions and are left out above; a comparison that "
    return [f"{said}fewer than two runs are left for is not made. {'; '.join(named)}.", ""]


def _silence_lines(found: Found) -> list[str]:
    said = f"Silent: over {OVER} rounds fewer than {percent(SILENT)} mention the door, of those whose answer used it."
    first = "It is from the first of these on, whatever came later; medians over the runs in which that came."
    lines = ["## From when on answers and thoughts are silent for the first time", "", f"{said} {first}", ""]
    lines += ["| arm | answers silent | from round | thoughts that mention it then | thoughts silent | from round |"]
    lines += ["|---|---|---|---|---|---|"]
    for one in silence(found):
        then = "" if np.isnan(one.thoughts_then) else percent(one.thoughts_then)
        answers, thoughts = f"{one.answers} of {one.runs}", f"{one.thoughts} of {one.runs}"
        cells = [answers, _round(one.answers_after), then, thoughts, _round(one.thoughts_after)]
        lines.append(f"| {one.arm.named()} | {' | '.join(cells)} |")
    return lines


def _round(value: float) -> str:
    return "never" if np.isnan(value) else f"{value:g}"


def _published_lines(found: Found) -> list[str]:
    weight = max(found.penalties(), default=MAIN)
    lines = [f"At a penalty of weight 2 as published, of {weight:g} here.", ""]
    lines += ["| remedy | thoughts that mention it, published (control 0.67) | here | its control here |"]
    lines.append("|---|---|---|---|")
    for name, arm in ((name, replace(arm, penalty=weight)) for name, arm in PUBLISHED.items()):
        if arm in found:
            here, control = (_cell(found.values(one, "thought_tells")) for one in (arm, arm.control()))
            lines.append(f"| {name} | {PUBLISHED_SHARES[name]:.2f} | {here} | {control} |")
    return lines


def _table(results: Sequence[Result]) -> list[str]:
    lines = ["Means over seeds with 95% intervals that are not corrected for their number.", ""]
    lines += [
        f"| arm | runs | learning rate | {' | '.join(COLUMNS.values())} |",
        "|---|---|---|" + "---|" * len(COLUMNS),
    ]
    for one in results:
        rate = f"{one.kept.values['lr']:g}" if "lr" in one.kept.values else ""
        cells = [_cell(one.kept.figures[name]) for name in COLUMNS]
        lines.append(f"| {one.name} | {one.kept.runs} | {rate} | {' | '.join(cells)} |")
    return lines


def _audit_lines(results: Sequence[Result]) -> list[str]:
    """The table of the arms' audits, of those figures that they have."""
    known = {name: said for name, said in AUDIT.items() if any(name in one.kept.figures for one in results)}
    if not known:
        return []
    lines = ["## Audits", "", "`clew audit` of each arm, means over seeds with 95% intervals, not corrected.", ""]
    lines += [f"| arm | {' | '.join(known.values())} |", "|---|" + "---|" * len(known)]
    made = [one for one in results if one.section == "arm"]
    lines += [f"| {one.name} | {' | '.join(_cell(one.kept.figures[name]) for name in known)} |" for one in made]
    return [*lines, ""]


def _cell(values: np.ndarray) -> str:
    known = values[~np.isnan(values)]
    if not len(known):
        return ""
    places = 1 if abs(known.mean()) >= 10 else 2
    if len(known) < 2:
        return f"{known[0]:.{places}f}"
    effect = effect_of(known, "", "", "")
    return f"{effect.mean:.{places}f} [{effect.low:.{places}f}, {effect.high:.{places}f}]"
