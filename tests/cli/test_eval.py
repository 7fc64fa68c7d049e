"""`clew eval`: whatever was trained, on held-out questions or on those of others."""

import json
import shutil
from pathlib import Path

import pytest

from clew.cli.main import main
from clew.mazes import MazeStream, question_text
from cli.conftest import Fails


def test_a_run_is_asked_in_its_own_world(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "asked"
    assert main(["eval", str(run), "--questions", "12", "--json", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert report["questions"] == 12 and set(report["by_size"]) == {"3x3", "2x4"}
    assert set(report["by_split"]) == {"held_out"} and report["baseline"]["valid"]["value"] == 1
    assert f"wrote {out}/" in printed.err and json.loads((out / "eval.json").read_text()) == report
    samples = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 12 and all(one["held_out"] for one in samples)
    assert (out / "plots" / "mazes.png").is_file() and (out / "plots" / "accuracy.png").is_file()


def test_options_win_over_those_of_the_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def sizes_of(*args: str) -> set[str]:
        capsys.readouterr()
        assert main(["eval", str(run), "--questions", "4", "--json", *args]) == 0
        report = json.loads(capsys.readouterr().out)
        return {f"{size} {generator}" for size in report["by_size"] for generator in report["by_generator"]}

    assert sizes_of("--sizes", "[3]") == {"3x3 dfs"}
    assert sizes_of("--mazes", "{generators: [wilson]}") == {"3x3 wilson", "2x4 wilson"}
    file = tmp_path / "options.yaml"
    file.write_text("mazes: {sizes: [[2, 3]]}\n")
    assert sizes_of("--config", str(file)) == {"2x3 dfs"}
    assert sizes_of("--config", str(file), "--sizes", "[3]") == {"3x3 dfs"}


def test_answers_are_graded_as_in_the_run_or_as_asked(
    split_run: Path, tmp_path: Path, fails: Fails, capsys: pytest.CaptureFixture[str]
) -> None:
    def score_of(folder: Path, *args: str) -> float:
        capsys.readouterr()
        assert main(["eval", str(folder), "--questions", "6", "--json", *args]) == 0
        return json.loads(capsys.readouterr().out)["score"]["value"]

    own = score_of(split_run)
    length = score_of(split_run, "--grader", "['models:length']")
    assert 0 <= own <= 1 < length
    assert score_of(split_run, "--grader", "[world, {function: 'models:length', weight: -2}]") == pytest.approx(
        own - 2 * length
    )
    graded = shutil.copytree(split_run, tmp_path / "graded")
    text = (graded / "config.yaml").read_text()
    assert "grader: []" in text
    (graded / "config.yaml").write_text(text.replace("grader: []", "grader: ['models:length']"))
    assert score_of(graded) == length and score_of(graded, "--grader", "[world]") == own
    assert "route: 3 is not one of" in fails("eval", str(split_run), "--grader", "[{function: 'a:b', route: 3}]")
    assert "cannot be imported" in fails("eval", str(split_run), "--grader", "['no_such:function']")


def test_a_model_folder_without_a_run_is_asked_4x4_mazes(
    run: Path, fails: Fails, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(run / "model"), "--questions", "2"]) == 0
    shown = capsys.readouterr().out
    assert "2 questions, greedy" in shown and "size 4x4" in shown
    assert "mazes.sizes: 7 is more than this model knows" in fails("eval", str(run), "--sizes", "[7]")


def test_a_splits_run_thinks_first(split_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(split_run), "--questions", "6", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["by_size"]) == {"3x3"} and report["questions"] == 6
    final = json.loads((split_run / "eval.json").read_text())["after"]
    assert {name: report[name] for name in final if name in report} == {
        name: final[name] for name in final if name in report
    }
    assert 0 < report["thought_tokens"]["value"] <= 7 and report["answer_tokens"]["value"] <= 6
    assert "search_steps" in report


def test_mazes_of_others(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions = [MazeStream(((3, 3),), held_out=None, seed=2).questions(i)[0] for i in range(60)]
    file = tmp_path / "mazes.txt"
    file.write_text("\n".join(map(question_text, questions)) + "\n")
    assert main(["eval", str(run), "--from", str(file), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    held_out = sum(question.lattice.held_out for question in questions)
    assert 0 < held_out < 60
    assert report["by_split"]["held_out"]["questions"] == held_out
    assert report["by_split"]["not_held_out"]["questions"] == 60 - held_out


def test_runs_whose_config_is_wrong(run: Path, split_run: Path, tmp_path: Path, fails: Fails) -> None:
    folder = tmp_path / "run"
    (folder / "model").parent.mkdir()
    shutil.copytree(run / "model", folder / "model")
    for text, says in (
        ("mazes: 3", "mazes: 3 is no mapping"),
        ("mazes: {sizes: many}", "mazes.sizes: many is not a list"),
        ("mazes: {colour: red}", "mazes.colour: there is no such option"),
        ("layers: 2\nmazes: {sizes: [3]}", "layers is now model.layers"),
        ("[1", "cannot be read as YAML"),
    ):
        (folder / "config.yaml").write_text(text)
        line = fails("eval", str(folder))
        assert says in line and f"{folder}/config.yaml" in line, line
    (folder / "model").rename(folder / "other")
    (folder / "config.yaml").write_text("seed: 0")
    assert "is a run that has no model yet" in fails("eval", str(folder))
    torn = shutil.copytree(split_run, tmp_path / "split")
    (torn / "config.yaml").write_text(
        (split_run / "config.yaml").read_text().replace("max_thought: 7", "max_thought: x")
    )
    assert "max_thought, max_answer: ('x', 6)" in fails("solve", str(torn))
    (torn / "config.yaml").write_text("face_sees: nothing\nmazes: {sizes: [3]}")
    assert "face_sees: 'nothing' is not one of" in fails("solve", str(torn))


def test_model_folders_that_are_wrong(run: Path, tmp_path: Path, fails: Fails) -> None:
    assert "is not a folder" in fails("eval", str(tmp_path / "nowhere"))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no config.json" in fails("eval", str(empty))
    model = shutil.copytree(run / "model", tmp_path / "model")
    (model / "tokenizer_config.json").rename(tmp_path / "tokenizer_config.json")
    assert "no tokenizer" in fails("eval", str(model))
    (tmp_path / "tokenizer_config.json").rename(model / "tokenizer_config.json")
    whole = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(whole[:100])
    assert "cannot be loaded" in fails("eval", str(model))
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert "no *.safetensors" in fails("eval", str(model))


TWO = "<ADJLIST_START> (0,0) <--> (0,1) ; <ADJLIST_END> <ORIGIN_START> (0,0) <ORIGIN_END> <TARGET_START> (1,1) "
LONG = "<ADJLIST_START> (0,0) <--> (0,1) ; (0,1) <--> (0,2) ; (0,2) <--> (0,3) ; (0,3) <--> (0,4) ; (0,4) <--> (0,5) "


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no mazes"),
        ("<ADJLIST_START> (0,0) <-->\n", "token 4"),
        ("<PATH_START> (0,0) <PATH_END> <ADJLIST_START>\n", "token 1"),
        (f"{TWO}<TARGET_END>\n", "not connected"),
        ("<ADJLIST_START> (0,0) <--> banana ; <ADJLIST_END>\n", "banana"),
        (
            f"{LONG}; <ADJLIST_END> <ORIGIN_START> (0,0) <ORIGIN_END> <TARGET_START> (0,5) <TARGET_END>\n",
            "larger than",
        ),
        ("#####\n#S  #\n# # #\n#   #\n#####\n", "E"),
    ],
)
def test_maze_files_that_are_wrong(run: Path, tmp_path: Path, fails: Fails, text: str, says: str) -> None:
    file = tmp_path / "mazes.txt"
    file.write_text(text)
    assert says in fails("eval", str(run), "--from", str(file))
    assert "missing.txt" in fails("eval", str(run), "--from", str(tmp_path / "missing.txt"))


def test_a_bad_maze_is_found_before_one_is_asked(run: Path, tmp_path: Path, fails: Fails) -> None:
    good = question_text(MazeStream(((3, 3),), seed=2).questions(0)[0])
    large = question_text(MazeStream(((5, 5),), seed=2).questions(0)[0])
    file = tmp_path / "mazes.txt"
    file.write_text("\n".join([good, good, large]))
    assert "maze 3 is 5x5, larger than" in fails(
        "eval", str(run), "--from", str(file), "--batch", "1", "--grader", "[]"
    )
    file.write_text(good + "\n" + good.replace("<PATH_START> ", "<PATH_START> (9,9) "))
    assert f"{file}, line 2: path: it does not start at the origin" in fails("eval", str(run), "--from", str(file))


def test_an_evaluation_has_a_folder_of_its_own(run: Path, tmp_path: Path, fails: Fails) -> None:
    (tmp_path / "file").touch()
    before = (run / "eval.json").read_bytes()
    for out in ("file", "file/under"):
        assert f"out: {tmp_path}/file is a file, where" in fails("eval", str(run), "--out", str(tmp_path / out))
    assert f"out: {run} is a run, which has an evaluation" in fails("eval", str(run), "--out", str(run))
    assert "out: /proc/no cannot be written to" in fails("eval", str(run), "--out", "/proc/no")
    assert (run / "eval.json").read_bytes() == before


def test_an_empty_name_of_a_file_is_refused(tmp_path: Path, fails: Fails) -> None:
    for command in ("eval", "solve"):
        assert "from: the text is empty" in fails(command, str(tmp_path), "--from", "")


def test_folders_with_odd_names(run: Path, tmp_path: Path, fails: Fails, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "\x1b[31m\u202e[bold]"
    shutil.copytree(run, folder)
    assert main(["eval", str(folder), "--questions", "2", "--out", str(folder / "again")]) == 0
    assert main(["solve", str(folder), "--size", "3"]) == 0
    shown = capsys.readouterr()
    assert all(line.isprintable() for line in (shown.out + shown.err).splitlines())
    assert "\\x1b[31m\\u202e[bold]" in shown.out and "\\x1b[31m\\u202e[bold]/again" in shown.err
    assert "\\x1b[31m\\u202e[bold]/no is not a folder" in fails("eval", str(folder / "no"))
