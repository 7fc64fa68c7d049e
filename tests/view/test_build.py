"""What a page shows of each kind of path, and one line for what is none."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from clew import zoo
from clew.errors import InputError
from clew.runs.rollouts import read_rollouts
from clew.train.rounds import split
from clew.view import audits, pictures, runs, splits
from clew.view.build import ViewOptions, folder_of, page_sections, sections_of
from clew.view.live import Live, stamp_of
from pages import BREAK, FIGURE, MAZE, WALK, audit_folder, reading_folder, split_folder, study_folder, train_folder
from small import split_config


def kinds(path: Path) -> list[str]:
    return [one.kind for one in sections_of(str(path), folder_of(str(path)), ViewOptions())]


def refused(*paths: object) -> str:
    with pytest.raises(InputError) as caught:
        page_sections([str(path) for path in paths], ViewOptions())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_a_path_is_decides_what_is_shown(tmp_path: Path) -> None:
    made = {"split": split_folder, "train": train_folder, "reading": reading_folder}
    made |= {"audit": audit_folder, "study": study_folder}
    for kind, make in made.items():
        folder = tmp_path / kind
        folder.mkdir()
        assert kinds(make(folder)) == [kind]
    audit_folder(reading_folder_in(tmp_path / "split"))
    assert kinds(tmp_path / "split") == ["split", "audit", "reading"]


def reading_folder_in(folder: Path) -> Path:
    return reading_folder(folder)


def test_a_model_of_the_zoo_has_its_figures() -> None:
    (section,) = sections_of("zoo:4x4", folder_of("zoo:4x4"), ViewOptions())
    (run,) = section.data["runs"]
    assert (section.kind, run["name"]) == ("train", "zoo:4x4") and run["evaluation"]["optimal"]["value"] > 0.99
    assert ("model layers", "4") in run["facts"] and run["metrics"] == []


def test_several_paths_stand_side_by_side(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        split_folder(tmp_path / name)
    sections = page_sections([str(tmp_path / "a"), str(tmp_path / "b")], ViewOptions()).sections
    assert [one.kind for one in sections] == ["split"]
    assert [run["name"] for run in sections[0].data["runs"]] == [str(tmp_path / "a"), str(tmp_path / "b")]


def test_paths_that_are_nothing(tmp_path: Path) -> None:
    assert "is not there; expected a run folder" in refused(tmp_path / "none")
    assert "zoo:9x9" in refused("zoo:9x9") and "NUL" in refused("a\0b")
    (tmp_path / "file").write_text("x")
    assert "is a file; expected a run folder" in refused(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "holds nothing to show; expected a run folder" in refused(tmp_path / "empty")
    assert "holds nothing to show" in refused("zoo:4x4-full-2-layers", tmp_path / "empty")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for name, make, file, content in (
        ("a", train_folder, "eval.json", "[1]"),
        ("b", train_folder, "eval.json", "{"),
        ("c", split_folder, "rollouts/round-000002.parquet", "torn"),
        ("d", split_folder, "config.yaml", "- 1"),
        ("e", audit_folder, "audit.json", "[" * 100_000),
        ("f", study_folder, "mazes.parquet", "torn"),
        ("g", reading_folder, "readings/heads.parquet", "torn"),
        ("h", reading_folder, "readings/reading.json", '{"tables": {"../readings/heads": {}}}'),
        ("i", reading_folder, "readings/reading.json", "[" * 100_000),
    ):
        (tmp_path / name).mkdir()
        (make(tmp_path / name) / file).write_text(content)
        assert Path(file).name.split(".")[0].removesuffix("heads") in refused(tmp_path / name)


def test_rounds_are_spread() -> None:
    assert splits.spread(range(5), 9) == [0, 1, 2, 3, 4]
    assert splits.spread(range(1, 41), 3) == [1, 20, 40] or splits.spread(range(1, 41), 3) == [1, 21, 40]
    assert splits.spread([3, 5, 8], 1) == [8] and splits.spread([3, 5, 8], 2) == [3, 8] and splits.spread([], 3) == []
    for most in range(2, 12):
        found = splits.spread(range(100), most)
        assert len(found) == most and found[0] == 0 and found[-1] == 99 and found == sorted(set(found))


def text(part: Any, texts: list[str]) -> str:
    return texts[part] if isinstance(part, int) else part


def test_a_split_is_told_in_full(tmp_path: Path) -> None:
    """Every text, number and weight of real rollouts is on the page, and in its place."""
    limits = {"max_thought": 7, "max_answer": 6, "face_sees": "prompt+thought"}
    split(split_config(tmp_path / "run", rounds=2, warm_start__steps=5, **limits))
    (section,) = splits.sections(tmp_path / "run", "run", 9)
    told = section.data["runs"][0]["rounds"]
    records = list(read_rollouts(tmp_path / "run"))
    assert [one["round"] for one in told] == [1, 2] and sum(len(one["questions"]) for one in told) == len(records)
    for record, (question, texts) in zip(records, ((q, r["texts"]) for r in told for q in r["questions"]), strict=True):
        assert (question["number"], texts[question["prompt"]]) == (record["number"], record["prompt"])
        maze, _ = pictures.maze_of(record["prompt"]) or (None, None)
        assert maze is not None and question["maze"]["best"][0] == maze.origin
        for thought, real in zip(question["thoughts"], record["thoughts"], strict=True):
            assert (texts[thought["text"]], thought["tokens"]) == (real["text"], len(real["tokens"]))
            assert thought["weight"] == pytest.approx(real["weight"], rel=1e-4)
            own = {"prompt": record["prompt"], "thought": real["text"]}
            read = " ".join(own.get(part, "") if isinstance(part, str) else texts[part] for part in thought["read"])
            assert read.split() == real["read"].split() and thought["read"][0] == "prompt"
            for answer, given in zip(thought["answers"], real["answers"], strict=True):
                assert texts[answer["text"]] == given["text"] and answer["score"] == pytest.approx(
                    given["score"], rel=1e-4
                )
                assert {texts[name]: value for name, value in answer["scores"]} == pytest.approx(
                    given["scores"], rel=1e-4
                )
                assert answer["good"] == pictures.good_cells(maze, given["text"])


def test_a_split_says_how_it_was_made(tmp_path: Path) -> None:
    """Its evaluation's provenance stands beside the two reports, not in them."""
    report = {"questions": 9, "optimal": FIGURE}
    made = {"command": "clew split", "machine": "a machine", "held_out": "a tenth"}
    (split_folder(tmp_path) / "eval.json").write_text(json.dumps({"before": report, "after": report} | made))
    (section,) = sections_of(str(tmp_path), tmp_path, ViewOptions())
    assert {("command", "clew split"), ("machine", "a machine"), ("held out", "a tenth")} <= set(
        section.data["runs"][0]["facts"]
    )
    (tmp_path / "eval.json").unlink()  # a run that goes on, or was ended
    (section,) = sections_of(str(tmp_path), tmp_path, ViewOptions())
    assert section.data["runs"][0]["evaluation"] == {}


def test_a_study_says_what_its_figures_mean(tmp_path: Path) -> None:
    (section,) = sections_of(str(tmp_path), study_folder(tmp_path), ViewOptions())
    (run,) = section.data["runs"]
    assert set(run["about"]) == {"gained", "optimal", "before", "thought_tokens"}
    assert not [one for one in run["verdicts"] if "`" in one["question"] + one["text"]]
    _, _, low, high = run["results"][0]["curve"][1]
    assert (0.5 - low, high - 0.5) == (pytest.approx(0.01 * 3.1824, abs=1e-5),) * 2  # Student's, of four seeds


def test_a_page_of_rollouts_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split_folder(tmp_path)
    monkeypatch.setattr(splits, "MOST", 30)
    (section,) = splits.sections(tmp_path, "run", 2)
    (run,) = section.data["runs"]
    assert run["of"] == 3 and [one["round"] for one in run["rounds"]] == [1, 3]
    assert [(len(one["questions"]), one["of"]) for one in run["rounds"]] == [(1, 2), (1, 2)]


def test_a_split_without_rounds_shows_its_final_evaluation(tmp_path: Path) -> None:
    """Samples that are kept beside rounds are not shown in their place."""
    split_folder(tmp_path)
    records = list(read_rollouts(tmp_path))
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (both,) = splits.sections(tmp_path, "run", 9)
    assert not any(one.get("held_out") for one in both.data["runs"][0]["rounds"])
    shutil.rmtree(tmp_path / "rollouts")
    (tmp_path / "shoggoth").mkdir()
    (lost,) = sections_of(str(tmp_path), tmp_path, ViewOptions())  # its rounds are not here, and it had some
    assert lost.data["runs"][0]["evaluation"] == both.data["runs"][0]["evaluation"]
    (tmp_path / "config.yaml").write_text("rounds: 0\n")
    (alone,) = sections_of(str(tmp_path), tmp_path, ViewOptions())
    (told,) = alone.data["runs"][0]["rounds"]
    assert alone.data["runs"][0]["evaluation"] == {"alone": both.data["runs"][0]["evaluation"]["after"]}
    assert told["held_out"] and [told["texts"][one["prompt"]] for one in told["questions"]] == [
        record["prompt"] for record in records
    ]
    (tmp_path / "imitation" / "shoggoth").mkdir(parents=True)
    (tmp_path / "imitation" / "shoggoth" / "metrics.jsonl").write_text('{"step": 7, "loss": 0.5}\n')
    (alone,) = sections_of(str(tmp_path), tmp_path, ViewOptions())
    assert alone.data["runs"][0]["metrics"] == [{"step": 7, "loss": 0.5}]
    (tmp_path / "samples.jsonl").write_text("[1]\n")
    assert "samples.jsonl: line 1: [1] is no object of a rollout" in refused(tmp_path)


def test_models_of_the_zoo_that_think_show_their_thoughts() -> None:
    for name in (name for name in zoo.names() if (zoo.folder(name) / "shoggoth").is_dir()):
        (section,) = page_sections([f"zoo:{name}"], ViewOptions()).sections
        (run,) = section.data["runs"]
        (told,) = run["rounds"]
        assert "warm start steps" in dict(run["facts"]) and "rule" not in dict(run["facts"])
        assert run["evaluation"]["alone"]["optimal"]["value"] > 0.85 and run["evaluation"]["alone"]["baseline"]
        assert len(told["questions"]) == 40 and all(one["maze"] and one["thoughts"] for one in told["questions"])


def test_a_maze_is_read_off_its_prompt() -> None:
    maze, drawn = pictures.maze_of(MAZE)  # type: ignore[misc]
    assert (drawn["down"], drawn["right"]) == ("0100", "1010") and "marked" not in drawn
    assert drawn["best"] == ((0, 0), (0, 1), (1, 1), (1, 0))
    assert pictures.good_cells(maze, WALK) == 4
    assert pictures.good_cells(maze, "<PATH_START> (0,0) (1,0) <PATH_END>") == 1
    assert pictures.good_cells(maze, BREAK) == 0


def test_words_that_a_world_adds_mark_a_passage() -> None:
    maze, drawn = pictures.maze_of(MAZE.replace("(1,1) <--> (0,1)", "<DOOR> (1,1) <--> (0,1)"))  # type: ignore[misc]
    assert drawn["marked"] == [[(1, 1), (0, 1)]]
    assert pictures.good_cells(maze, WALK.replace("(1,1)", "<DOOR> (1,1)")) == 4


@pytest.mark.parametrize("prompt", ["", "words", BREAK, MAZE[:60], MAZE.replace("(1,0)", "(1,9)"), f"{MAZE} {BREAK}"])
def test_what_is_no_maze_is_text(prompt: str) -> None:
    assert pictures.maze_of(prompt) is None


def test_metrics_are_thinned_and_validations_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        {"step": n, "loss": 1.0, "note": "text", "bad": True} | ({"held_out_x": 0.5} if n % 7 == 0 else {})
        for n in range(100)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"loss": 3.0}, [1]]))
    monkeypatch.setattr(runs, "LINES", 10)
    kept = runs.metrics_of(tmp_path)
    assert {row["step"] for row in kept} == set(range(0, 100, 10)) | set(range(0, 100, 7))
    assert all(set(row) <= {"step", "loss", "held_out_x"} for row in kept)


def test_figures_of_an_audit_are_found_wherever_they_stand() -> None:
    report = {"a": {"": {"x": FIGURE}, "b": {"c": {"x": FIGURE}}}, "y": FIGURE, "z": {"value": 1}, "w": [FIGURE]}
    found = [(one["measure"], one["condition"], one["figure"]) for one in audits.figures(report)]
    assert found == [("a", "", "x"), ("a", "b · c", "x"), ("", "", "y")]
    assert [one["figure"] for one in audits.figures(FIGURE)] == [""]


@pytest.mark.parametrize("report", [{"value": 1, "low": 0, "high": 1}, {"measures": FIGURE, "notes": 5, "says": []}])
def test_an_audit_that_somebody_else_wrote_is_shown_as_far_as_it_goes(tmp_path: Path, report: dict[str, Any]) -> None:
    (tmp_path / "audit.json").write_text(json.dumps(report))
    (section,) = audits.sections(tmp_path, "x")
    assert len(section.data["runs"][0]["rows"]) == 1 and section.data["runs"][0]["notes"] == []


def test_a_live_page_follows_its_files(tmp_path: Path) -> None:
    train_folder(tmp_path)
    live = Live([str(tmp_path)], ViewOptions(), "t")
    first, before = live.page(), live.answer({"kind": "stamp"})
    assert live.page() is first and before == {"stamp": stamp_of([str(tmp_path)])} and before["stamp"] in first
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 77.25}\n')
    assert live.answer({"kind": "stamp"}) != before
    assert "77.25" in live.page() and "77.25" not in first
    (tmp_path / "eval.json").write_text("[")
    with pytest.raises(InputError, match="no JSON"):
        live.page()


def test_names_that_are_no_utf8_are_followed_too(tmp_path: Path) -> None:
    before = stamp_of([str(train_folder(tmp_path))])
    (tmp_path / os.fsdecode(b"\xff<script>")).touch()
    assert stamp_of([str(tmp_path)]) != before


@pytest.mark.parametrize("request_", [{}, {"kind": "file"}, {"kind": ["maze"]}, {"kind": "maze", "rows": 3}])
def test_a_live_page_answers_what_it_knows(tmp_path: Path, request_: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^kind: "):
        Live([str(train_folder(tmp_path))], ViewOptions(), "t").answer(request_)
