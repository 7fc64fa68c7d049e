"""Pressure on answers and what thoughts have of it: arms, figures, verdicts of planted results, and a tiny grid."""

import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from clew.cli.main import main
from clew.errors import InputError
from clew.runs.options import read_yaml
from clew.study import cells
from clew.study.cells import Kept, Result, path_of, read_results, write_results
from clew.study.effects import effect_of
from clew.study.silence import mean_from, share_then, silent_after
from clew.study.spillover import grid, plots, starts, summary
from clew.study.spillover.arms import BEST, MAIN, PARTS, PUBLISHED, WORST, Arm, arms, published_at
from clew.study.spillover.grid import SpilloverConfig, study
from clew.study.spillover.measuring import AUDIT, audited, figures_of, measured
from clew.study.spillover.runs import SILENT, SpilloverCell, from_json, split_config
from clew.study.spillover.verdicts import Found, silence, verdicts
from clew.train.audit.information import open_reader
from clew.train.config import check_split
from clew.train.opening import opened

PENALTIES = [0.5, 1.0, 2.0]
SHARED = grid.world_of_runs(SpilloverConfig())


def test_every_arm_has_its_control_and_differs_from_it_in_the_penalty_alone() -> None:
    declared = arms(PARTS, PENALTIES)
    assert len(declared) == len(set(declared)) == len({arm.named() for arm in declared}) == 51
    for arm in declared:
        assert arm.control() in declared
        mine, theirs = (
            asdict(split_config(SpilloverCell(SHARED, one, 1e-3, 3), Path("x"), "y")) for one in (arm, arm.control())
        )
        told = mine.pop("grader"), theirs.pop("grader")
        assert mine == theirs and told[1] == ["world"]
        if arm.penalty:
            (_, penalty) = told[0]
            assert penalty["weight"] == -arm.penalty
            assert penalty["route"] == ("both" if arm.heard == "both" else "answer")
        check_split(split_config(SpilloverCell(SHARED, arm, 1e-3, 3), Path("x"), "y"))


def test_all_arms_cost_the_same_and_ask_the_same() -> None:
    configs = [split_config(SpilloverCell(SHARED, arm, 1e-3, 3), Path("x"), "y") for arm in arms(PARTS, PENALTIES)]
    for name in ("rounds", "questions", "thoughts", "answers", "seed", "mazes"):
        assert len({str(getattr(config, name)) for config in configs}) == 1
    assert {config.max_thought for config in configs} == {12, 40}


def test_parts_leave_out_what_was_not_asked_for_and_keep_what_it_is_compared_with() -> None:
    few = arms(["length"], PENALTIES)
    assert set(PUBLISHED.values()) < set(few) and not any(arm.paraphraser for arm in few)
    assert {arm.start for arm in few} == {"search", "path"} and all(arm.control() in few for arm in few)


def test_a_cell_is_known_again_as_plain_values() -> None:
    cell = SpilloverCell(SHARED, replace(BEST, paraphraser="shuffle", paraphrase="line"), 1e-3, 3)
    assert from_json(asdict(cell)) == cell
    assert cell.job() != replace(cell, arm=BEST).job()


def test_an_arm_at_the_rate_of_others_is_a_cell_by_its_rate() -> None:
    other = replace(BEST, rate_of="one")
    assert other in arms(["rates"], PENALTIES) and other.control() in arms(["rates"], PENALTIES)
    assert SpilloverCell(SHARED, other, 1e-3, 3).job() == SpilloverCell(SHARED, BEST, 1e-3, 3).job()
    assert SpilloverCell(SHARED, other, 1e-3, 3).job() != SpilloverCell(SHARED, BEST, 1e-4, 3).job()
    own = {arm for arm in PUBLISHED.values() if arm.policies == "one"}
    assert set(published_at("one").values()) & set(PUBLISHED.values()) == own


def row(helps: bool, used: bool, thought: bool, answer: bool, score: float = 1.0) -> dict[str, float]:
    values = {"helps": helps, "used": used, "thought": thought, "answer": answer, "score": score}
    return {name: float(value) for name, value in values.items()} | {"optimal": 1.0, "tokens": 9.0, "ended": 1.0}


def test_not_used_and_not_mentioned_are_told_apart() -> None:
    rows = [row(True, True, True, True), row(True, True, False, True), row(True, False, True, False, 0.5)]
    rows += [row(True, False, False, False, 0.5), row(False, False, True, True)]
    found = figures_of(rows, penalty=2.0)
    assert (found["used"], found["used_told"], found["used_untold"]) == (0.5, 0.25, 0.25)
    assert (found["thought_tells"], found["answer_tells"]) == (0.5, 1.0)
    assert found["answer_mentions"] == pytest.approx(3 / 5) and found["thought_mentions"] == pytest.approx(3 / 5)
    assert found["score"] == pytest.approx(0.8) and found["reward"] == pytest.approx(0.8 - 2 * 0.6)
    nobody = figures_of([row(True, False, True, True)], penalty=1.0)
    assert nobody["used"] == 0 and np.isnan(nobody["thought_tells"]) and np.isnan(nobody["answer_tells"])


def test_when_thoughts_fall_silent() -> None:
    nan = float("nan")
    assert silent_after(np.array([0.5, 0, 0, 0, 0.9, 0.9, 0.9]), SILENT) == 2  # for the first time, though not the last
    assert silent_after(np.array([1, 0.5, 0.05, 0.05, 0.05, 0.5]), SILENT) == 3
    assert np.isnan(silent_after(np.array([0.05, 0.3, 0.05, 0.3]), SILENT))
    assert silent_after(np.array([nan, nan, nan, 0.2, 0.01, nan, 0.05]), SILENT) == 5
    assert np.isnan(silent_after(np.array([nan] * 5), SILENT))
    assert share_then(np.array([1, 0.5, 0.4, 0.3, 0.2]), 2) == pytest.approx(0.4)
    assert np.isnan(share_then(np.ones(5), nan))
    assert mean_from(np.array([1, nan, 0.4, 0.6, 0]), 1) == 0.5 and np.isnan(mean_from(np.array([1, nan]), 1))


PUBLISHED_LEAKS = dict(zip(PUBLISHED.values(), (0.7, 0.5, 0.3, 0.0), strict=True))


def planted(leak: Callable[[Arm], float], seeds: int = 5, noise: float = 0.02) -> list[Result]:
    """Results in which an arm's thoughts are by just so much more silent than its control's, seed by seed."""
    dice, results = np.random.default_rng(0), []
    for arm in arms(PARTS, PENALTIES):

        def values(mean: float) -> np.ndarray:
            return mean + dice.normal(0, noise, seeds)

        figures = {name: values(0.9) for name in (*summary.COLUMNS, "used_told")}
        figures |= {"thought_tells": values(0.95 - (leak(arm) if arm.penalty else 0.0))}
        figures |= {"answer_tells": values(0.05 if arm.penalty else 0.9), "used_told": values(0.5)}
        figures |= {"answers_silent": np.full(seeds, 7.0), "thoughts_then": np.full(seeds, 0.25)}
        figures |= {"thoughts_silent": np.full(seeds, np.nan)}
        results.append(Result("arm", asdict(arm), arm.named(), Kept({"lr": 1e-3}, figures, [0.9, 0.5], [0.0, 0.1])))
    return results


def begun(seeds: int = 5) -> list[Result]:
    """A warm start of each kind, as good as all that came of it."""
    names = (*summary.COLUMNS, "used_told", "answers_silent", "thoughts_then", "thoughts_silent")
    figures, kinds = {name: np.full(seeds, 0.9) for name in names}, ("search", "own style", "path")
    return [Result("start", {"start": kind}, kind, Kept({}, figures, [0.9], [0.0])) for kind in kinds]


def asked(results: list[Result], words: str) -> Any:
    return next(one for one in verdicts(results) if words in one.question)


def test_a_planted_order_is_found() -> None:
    results = planted(
        lambda arm: PUBLISHED_LEAKS.get(
            replace(arm, penalty=MAIN, paraphraser=None, paraphrase=None, start="search"), 0.2
        )
    )
    verdict = asked(results, "published order")
    assert verdict.text.startswith("Yes, in full.") and [e.sign for e in verdict.effects] == [1, 1, 1]
    leaks = {row.label: row.effects[0].sign for row in asked(results, "leak into thoughts").rows}
    assert leaks["one policy, heard by both"] == 1 and leaks["two policies, heard by the face"] == 0
    assert "cannot be told apart from its control" in asked(results, "leak into thoughts").text
    for words in ("paraphraser", "style of their own", "short thoughts", "heavier"):
        assert all(abs(e.mean) < 0.05 for e in asked(results, words).effects)
        assert "cannot be told apart" in asked(results, words).text


def test_the_opposite_order_is_found_too_and_none_where_there_is_none() -> None:
    reverse = dict(zip(PUBLISHED.values(), (0.0, 0.3, 0.5, 0.7), strict=True))
    said = asked(planted(lambda arm: reverse.get(arm, 0.1)), "published order").text
    assert said.startswith("No: at least one step")
    (value, low, high), *_ = re.findall(r"against what was published, by ([\d.]+)% \[([\d.]+)%, ([\d.]+)%\]", said)
    assert float(low) < float(value) < float(high)
    assert asked(planted(lambda arm: 0.4), "published order").text.startswith("It cannot be told")
    part = {WORST: 0.8}
    assert asked(planted(lambda arm: part.get(arm, 0.2)), "published order").text.startswith("In part")


def test_an_order_that_the_rates_alone_make_is_seen_through() -> None:
    """Two policies leak less, but only since they learn slower: at one rate nothing is left of it."""
    results = planted(lambda arm: 0.6 if (arm.rate_of or arm.policies) == "one" else 0.1)
    assert asked(results, "published order").text.startswith("In part")
    rows = asked(results, "one learning rate").rows
    assert len(rows) == 4 and not any(row.effects[0].sign for row in rows)
    assert {row.effects[0].among for row in rows} == {4}
    real = asked(planted(lambda arm: 0.6 if arm.policies == "one" else 0.1), "one learning rate").rows
    assert [row.effects[0].sign for row in real if row.label.startswith("reward targeting against Mind")] == [1, 1]


def test_planted_effects_of_paraphraser_style_length_and_weight() -> None:
    def leak(arm: Arm) -> float:
        helped = 0.3 * (arm.paraphraser == "shuffle") + 0.3 * (arm.start == "own style") - 0.2 * (arm.start == "path")
        return 0.5 - helped + 0.1 * arm.penalty

    results = planted(leak)
    by = {row.label: row.effects[0].sign for row in asked(results, "paraphraser").rows}
    assert by["none against copy line, the weakest remedy"] == 0
    assert (
        by["copy line against shuffle line, the strongest remedy"]
        == by["none against shuffle whole, the weakest remedy"]
        == 1
    )
    assert {e.sign for e in asked(results, "style of their own").effects} == {1}
    assert {e.sign for e in asked(results, "short thoughts").effects} == {-1}
    assert {e.sign for e in asked(results, "heavier").effects} == {1}


def test_intervals_of_a_question_hold_together() -> None:
    wrong = 0
    for seed in range(60):
        dice, results = np.random.default_rng(seed), planted(lambda arm: 0.0)
        for one in results:
            one.kept.figures["thought_tells"][:] = dice.normal(0.5, 0.1, 5)
        wrong += any(e.sign for e in asked(results, "leak into thoughts").effects)
    assert wrong <= 8  # of 60, where 5% are allowed for; six intervals uncorrected would be wrong in a quarter
    assert {e.among for e in asked(planted(lambda arm: 0.0), "leak into thoughts").effects} == {6}


def test_intervals_are_cut_at_what_is_possible() -> None:
    effect = replace(effect_of(np.array([0.9, 0.1]), "", "a", "b"), possible=1.0)
    assert (effect.low, effect.mean, effect.high, effect.sign) == (-1.0, 0.5, 1.0, 0)
    rows = {row.label: row.effects[0] for row in asked(planted(lambda arm: 0.5, 2, noise=0.3), "leak into").rows}
    assert rows and all(-1 <= one.low <= one.mean <= one.high <= 1 for one in rows.values())


def test_the_score_in_the_picture_is_less_that_of_the_warm_start(tmp_path: Path) -> None:
    drawn: list[tuple[float, float]] = []

    def nothing(*_: Any, **__: Any) -> None: ...

    ax = cast(Any, SimpleNamespace(errorbar=lambda *at, **_: drawn.append(at), plot=nothing, annotate=nothing))
    (arm, result), (start, *_) = next(iter(Found(planted(lambda arm: 0.5)).by.items())), begun()
    plots._point(ax, arm, result, start, "")
    assert drawn == [
        (result.kept.figures["thought_tells"].mean(), pytest.approx(result.kept.figures["score"].mean() - 0.9))
    ]
    few = [(one, other) for one, other in Found(planted(lambda arm: 0.5)).by.items() if one.plain]
    plots.pareto(few, {"search": start}, tmp_path / "few.png")
    plots.pareto([*few, (replace(arm, start="path"), result)], {one.name: one for one in begun()}, tmp_path / "all.png")
    assert (tmp_path / "few.png").is_file() and (tmp_path / "all.png").is_file()


def test_runs_that_never_used_the_door_are_left_out() -> None:
    results = planted(lambda arm: 0.5)
    for one in results:
        if Arm(**one.condition) == WORST:
            one.kept.figures["thought_tells"][:3] = np.nan
        if Arm(**one.condition) == BEST:
            one.kept.figures["thought_tells"][:] = np.nan
    rows = {row.label: row.effects[0] for row in asked(results, "leak into thoughts").rows}
    assert rows["one policy, heard by both"].replicas == 2 and "two policies, heard by the face" not in rows
    first = silence(Found(results))[0]
    assert (first.runs, first.answers, first.answers_after, first.thoughts_then, first.thoughts) == (5, 5, 7, 0.25, 0)
    for one in results:  # a seed that is not there at all
        if Arm(**one.condition) == WORST:
            one.kept.figures.update({name: np.append(values[:4], np.nan) for name, values in one.kept.figures.items()})
    assert silence(Found(results))[0].runs == 4


def with_seeds(results: list[Result], seeds: Callable[[Arm], int]) -> list[Result]:
    """The results with so many seeds of each arm, as where a grid is not finished: an arm without any is left out."""
    for one in results:
        for values in one.kept.figures.values():
            values[seeds(Arm(**one.condition)) :] = np.nan
    return [one for one in results if seeds(Arm(**one.condition))]


def test_a_grid_of_one_seed_is_reported_without_a_comparison(tmp_path: Path) -> None:
    config = asdict(SpilloverConfig(lrs=[1e-4, 1e-3, 1e-2], seeds=6))
    write_results(tmp_path / summary.FILE, config, with_seeds(planted(lambda arm: 0.4, seeds=6), lambda arm: 1))
    said, written = summary.report(tmp_path)
    text = written.read_text()
    assert said == [] and "1 seed an arm (the grid is not finished: 51 of 306 runs are there)" in text
    assert "Nothing can be compared yet" in text and "spillover.png" not in text and "(pareto.png)" in text
    assert "| one policy, heard by both, penalty 1 | 1 | 0.001 |" in text


def test_parts_that_are_whole_for_different_seeds(tmp_path: Path) -> None:
    """Pairs are of the seeds that both have; an arm of one seed is named, and one of none is not there."""
    config = asdict(SpilloverConfig(lrs=[1e-4, 1e-3, 1e-2], seeds=6))

    def seeds(arm: Arm) -> int:
        return 1 if arm.paraphraser else 3 if arm.start == "path" else 0 if arm.start == "own style" else 5

    results = with_seeds(planted(lambda arm: 0.4, seeds=6), seeds)
    write_results(tmp_path / summary.FILE, config, results)
    text = summary.report(tmp_path)[1].read_text()
    asks = {one.question: {effect.replicas for effect in one.effects} for one in verdicts(results)}
    assert {seen for words, found in asks.items() if "short thoughts" in words for seen in found} == {3}
    assert {seen for words, found in asks.items() if "leak into thoughts" in words for seen in found} == {5}
    assert not any("paraphraser" in words or "style" in words for words in asks)
    there = sum(seeds(arm) for arm in arms(PARTS, PENALTIES))
    assert f"1 to 5 seeds an arm (the grid is not finished: {there} of 306 runs are there)" in text
    (alone,) = re.findall(r"Arms of one seed, with which nothing is compared: (.*)\.", text)
    assert len(alone.split("; ")) == 12 and all("copy" in one or "shuffle" in one for one in alone.split("; "))
    two = with_seeds(planted(lambda arm: 0.4, seeds=6), lambda arm: 2)
    write_results(tmp_path / summary.FILE, config | {"seeds": 2}, two)
    assert "door, 2 seeds an arm, 50 rounds" in summary.report(tmp_path)[1].read_text()


def test_differences_that_are_the_same_in_all_runs_have_no_interval(tmp_path: Path) -> None:
    results = planted(lambda arm: 0.4, seeds=2)
    for one in results:
        if Arm(**one.condition) in (WORST, WORST.control()):
            one.kept.figures["thought_tells"][:] = [0.1, 0.3] if one.condition["penalty"] else [0.6, 0.8]
    write_results(tmp_path / summary.FILE, asdict(SpilloverConfig(lrs=[1e-3], seeds=2)), results)
    said, written = summary.report(tmp_path)
    row = "| one policy, heard by both | 50.0% | the same in each | cannot be told apart | 2 |"
    assert row in written.read_text()
    assert "control (50.0% in each of 2 runs: not told how sure that is)" in said[1].text


def test_the_report_says_what_the_verdicts_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = begun() + planted(lambda arm: PUBLISHED_LEAKS.get(arm, 0.2))
    config = asdict(SpilloverConfig(lrs=[1e-4, 1e-3, 1e-2]))
    write_results(tmp_path / summary.FILE, config, results)
    assert main(["study", "report", str(tmp_path)]) == 0
    text = (tmp_path / "spillover.md").read_text()
    assert "Yes, in full." in text and "Yes, in full." in capsys.readouterr().out
    assert (
        "| penalty alone | 0.18 |" in text and "5 of 5 | 7 | 25.0% | 0 of 5 | never |" in text and "Bonferroni" in text
    )
    assert "silent for the first time" in text and text.count("| from round |") == 2 and "after round" not in text
    for name in ("pareto", "outcomes", "rounds", "spillover"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000 and f"({name}.png)" in text
    assert "of 0.0001, 0.001, 0.01: adapters 0.001, one 0.001, two 0.001.\n" in text  # none at an end
    write_results(tmp_path / summary.FILE, config | {"lrs": [1e-4, 1e-3]}, results)
    assert main(["study", "report", str(tmp_path)]) == 0
    assert "For adapters, one, two it lies at an end of what was tried" in (tmp_path / "spillover.md").read_text()
    (tmp_path / summary.FILE).write_bytes(b"torn")
    assert main(["study", "report", str(tmp_path)]) == 2


TINY: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "rank": 2, "steps": 4, "next_steps": 2, "per_step": 2}
TINY |= {
    "branches": 2,
    "rounds": 3,
    "questions": 2,
    "thoughts": 2,
    "lrs": [1e-3],
    "seeds": 2,
    "final_questions": 6,
    "audit_questions": 0,
    "workers": 1,
}


def test_a_tiny_grid_and_what_a_kill_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real runs from real warm starts; then what is missing, and that alone, is run again."""
    rewritten = replace(BEST, paraphraser="shuffle", paraphrase="line")
    few = [rewritten.control(), rewritten, Arm(penalty=0.0, start="path")]
    for module in (grid, summary):
        monkeypatch.setattr(module, "arms", lambda parts, penalties: few)
    monkeypatch.setattr(grid, "POLICIES", ("one", "two"))
    monkeypatch.setattr(cells, "_local", lambda jobs, folder, _: (cells.solve(job, folder) for job in jobs))
    config = SpilloverConfig(**TINY, out=str(tmp_path))
    results = study(config)
    assert [one.name for one in results[2:]] == [arm.named() for arm in few]
    assert [one.section for one in results].count("start") == 2
    for one in results:
        assert all(len(values) == 2 for values in one.kept.figures.values())
        assert (one.kept.figures["score"] >= 0).all() and (one.kept.figures["score"] <= 1).all()
    begun = [starts.folder_of(tmp_path, starts.job_of(grid.world_of_runs(config), seed, "search")) for seed in range(2)]
    asked = starts.world_config(grid.world_of_runs(config), "search")
    world, reasoner = opened(begun[0], asked, device="cpu")
    audit = audited(world, reasoner, 10, open_reader(begun[0], begun[0], world, asked, reasoner))
    assert audit["audit fresh_reader excess"] == 0  # its own face is no stranger
    assert {"audit necessity none nats", "audit mutual_information at_least"} <= set(audit) <= set(AUDIT)
    short = starts.folder_of(tmp_path, starts.job_of(grid.world_of_runs(config), 0, "path"))
    paths = starts.world_config(grid.world_of_runs(config), "path")
    of_paths, writer = opened(short, paths, device="cpu")
    audit = audited(of_paths, writer, 10, open_reader(short, short, of_paths, paths, writer))
    assert "audit necessity none nats" in audit and not any("paraphrasability" in name for name in audit)
    stranger = open_reader(begun[1], begun[0], world, asked, reasoner).face
    read_by_it = measured(world, replace(reasoner, face=stranger), 6, 0.0)
    assert measured(world, reasoner, 6, 0.0, stranger)["fresh_score"] == pytest.approx(read_by_it["score"])
    assert len(results[-1].kept.curve) == TINY["rounds"] and len(results[0].kept.curve) > 0
    assert read_results(tmp_path / summary.FILE)[0]["seeds"] == 2

    def changed_by(lost: SpilloverCell) -> tuple[int, list[tuple[str, int, int]]]:
        """How many cells are run again once this one is lost, and what is told meanwhile."""
        told: list[tuple[str, int, int]] = []
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
        file = path_of(tmp_path, lost.job())
        file.unlink()
        again = study(config, lambda *at: told.append(at))
        for one, other in zip(results, again, strict=True):
            assert one.name == other.name
            np.testing.assert_allclose(one.kept.figures["score"], other.kept.figures["score"], atol=1e-4)
        now = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
        assert file in before and now.keys() == before.keys()
        return sum(now[path] != before[path] for path in now), told

    shared = grid.world_of_runs(config)
    gone = starts.folder_of(tmp_path, starts.job_of(shared, 1, "path"))
    shutil.rmtree(gone)
    count, told = changed_by(SpilloverCell(shared, rewritten, 1e-3, 1))
    assert count == 1 and ("seed 1: results", 2, 3) in told and not gone.exists()  # all that began there is kept
    shutil.rmtree(begun[1])
    count, told = changed_by(SpilloverCell(shared, few[-1], 1e-3, 1))
    assert count == 3 and ("seed 1: warm starts (path)", 0, 1) in told and gone.is_dir() and begun[1].is_dir()

    side_by_side: list[str] = []
    again = study(replace(config, workers=2), lambda phase, *_: side_by_side.append(phase))
    assert "seeds 0 to 1: warm starts (path)" in side_by_side and "seed 1: results" in side_by_side
    for one, other in zip(results, again, strict=True):
        assert one.name == other.name
        np.testing.assert_allclose(one.kept.figures["score"], other.kept.figures["score"], atol=1e-4)
    _reports_of_what_is_there(config, SpilloverCell(shared, few[-1], 1e-3, 0), results)


def _reports_of_what_is_there(config: SpilloverConfig, lost: SpilloverCell, whole: list[Result]) -> None:
    """Without this cell its arm has a seed less, and nothing is run; without the others there is nothing to say."""
    leaving, folder = replace(config, missing="leave"), Path(config.out)
    assert [one.name for one in study(leaving)] == [one.name for one in whole]
    path_of(folder, lost.job()).unlink()
    left = study(leaving)
    assert np.isnan(left[-1].kept.figures["score"]).tolist() == [True, False] and left[-1].kept.runs == 1
    np.testing.assert_allclose(left[-1].kept.figures["score"][1], whole[-1].kept.figures["score"][1], atol=1e-4)
    assert len(left[-1].kept.curve) == TINY["rounds"] and not path_of(folder, lost.job()).exists()
    said = summary.report(folder)[1].read_text()
    assert "1 to 2 seeds an arm (the grid is not finished: 5 of 6 runs are there)" in said
    assert read_yaml(folder / "spillover.yaml")["missing"] == "run"  # what goes on with the grid
    path_of(folder, replace(lost, seed=1).job()).unlink()
    assert [one.name for one in study(leaving)] == [one.name for one in whole[:-1]]
    with pytest.raises(InputError, match=r"missing: leave: .* has 0 of the 4 runs that choose"):
        study(replace(leaving, tune_seeds=2, lrs=[0.5]))


def test_the_committed_grid_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    from clew.cli.options import instance, parser_of

    file = Path(__file__).parents[2] / "examples" / "spillover.yaml"
    parser = parser_of("study spillover", SpilloverConfig, "")
    config = instance(parser, SpilloverConfig, parser.parse_args(["--config", str(file)]))
    grid.check(config)
    assert config.seeds >= 5 and set(config.parts) == set(PARTS)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--seeds", "1"], "seeds: 1 have no interval"),
        (["--penalties", "[0.5]"], "penalties: [0.5] lack 1"),
        (["--penalties", "[-1, 1]"], "penalties: [-1.0, 1.0] is not"),
        (["--lrs", "[]"], "lrs: [] is not"),
        (["--parts", "[]"], "parts: the list is empty"),
        (["--parts", "[luck]"], "parts"),
        (["--rounds", "0"], "rounds: 0 is not more than 0"),
        (["--size", "[2, 2]"], "2x2"),
        (["--rule", "luck"], "rule: 'luck' is not one of"),
        (["--width", "7"], "width: 7"),
    ],
)
def test_bad_input_is_one_line(args: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["study", "spillover", "--out", str(tmp_path / "x"), *args]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and not (tmp_path / "x").exists()


def test_a_study_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no spillover"):
        summary.report(tmp_path)
