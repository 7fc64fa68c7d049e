"""`clew audit`: a split's run from start to files, and what it refuses before any work."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from clew.cli.main import main
from clew.train.audit.audit import MEASURES
from clew.train.rounds import split
from cli.conftest import Fails
from small import split_config

FEW = ("--questions", "10", "--thoughts", "2")


def audited(capsys: pytest.CaptureFixture[str], *args: str) -> dict:
    capsys.readouterr()
    assert main(["audit", *args, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run_is_audited_into_its_folder(split_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(split_run, tmp_path / "run")
    given = [*FEW, "--monitor", "['watchers:thought_length']"]
    report = audited(capsys, str(run), *given)
    assert json.loads((run / "audit.json").read_text()) == report
    assert report["questions"] == 10 and report["thoughts"] == 2
    assert list(report["measures"]) == list(report["says"]) == list(MEASURES)
    assert report["measures"]["leakage"]["watchers:thought_length"]["thoughts"]["value"] > 0
    rows = pq.read_table(run / "audit.parquet").to_pylist()
    nats = [row for row in rows if (row["measure"], row["figure"]) == ("necessity", "nats")]
    assert sorted(row["number"] for row in nats) == list(range(10))
    mean = report["measures"]["necessity"]["none"]["nats"]["value"]
    assert mean == pytest.approx(sum(row["value"] for row in nats) / 10)
    assert (run / "plots" / "audit.png").read_bytes()[1:4] == b"PNG"
    assert audited(capsys, str(run), *given)["measures"] == report["measures"]  # the same again
    out = tmp_path / "elsewhere"
    some = ["--measures", "[legality, necessity]", "--out", str(out)]
    assert list(audited(capsys, str(run), *FEW, *some)["measures"]) == ["necessity", "legality"]
    assert main(["audit", str(run), *FEW, *some]) == 0
    shown = capsys.readouterr()
    assert "no thought" in shown.out and "true steps" in shown.out and f"wrote {out}/" in shown.err
    assert "positive: the thought helps" in shown.out


@pytest.mark.parametrize("policies", ["two", "one", "adapters"])
def test_the_warm_starts_face_is_the_fresh_reader(
    policies: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no round was played both faces are one, and so are their shoggoths."""
    if policies == "adapters":
        pytest.importorskip("peft")
    few = {"rounds": 0, "warm_start__steps": 3, "final_questions": 2, "max_thought": 5, "max_answer": 4}
    first = tmp_path / "first"
    split(split_config(first, policies="two" if policies == "adapters" else policies, **few))
    run = first
    if policies == "adapters":  # adapters on a folder learn from the warm start on, and are kept beside their base
        run = tmp_path / "run"
        split(split_config(run, policies=policies, model__folder=str(first / "shoggoth"), **few))
        assert (run / "warm" / "adapters.safetensors").is_file()
    args = [*FEW, "--measures", "[fresh_reader]"]
    told = audited(capsys, str(run), *args)["measures"]["fresh_reader"][""]
    for figure in ("gap", "own_gap", "excess", "nats", "right_nats"):
        assert told[figure]["value"] == pytest.approx(0, abs=1e-4), figure
    if policies == "two":
        other = tmp_path / "other"
        split(split_config(other, seed=1, **few))
        told = audited(capsys, str(run), *args, "--reader", str(other))["measures"]["fresh_reader"][""]
        assert abs(told["nats"]["value"]) > 1e-3
        face = ["--reader", str(other / "face")]  # a model's folder has no shoggoth, so there is no control
        assert "own_gap" not in audited(capsys, str(run), *args, *face)["measures"]["fresh_reader"][""]


def test_what_is_refused_before_any_work(run: Path, split_run: Path, tmp_path: Path, fails: Fails) -> None:
    assert "is no split's run" in fails("audit", str(run))
    assert "is not a folder" in fails("audit", str(tmp_path / "nowhere"))
    assert "questions: 9 are too few for a 95% interval; expected at least 10" in fails(
        "audit", str(split_run), "--questions", "9"
    )
    one = ["--thoughts", "1", "--measures", "[mutual_information]"]
    assert "thoughts: 1 is too few for mutual_information" in fails("audit", str(split_run), *one)
    assert "nearest: legality" in fails("audit", str(split_run), "--measures", "[legallity]")
    assert "no list of measures" in fails("audit", str(split_run), "--measures", "[]")
    assert "leakage needs monitors" in fails("audit", str(split_run), "--measures", "[leakage]")
    assert "cannot be imported" in fails("audit", str(split_run), "--monitor", "['no_such:function']")
    assert "paraphraser" in fails("audit", str(split_run), "--paraphraser", "nothing")
    assert "reader: " in fails("audit", str(split_run), "--reader", str(tmp_path / "nowhere"))
    bare = shutil.copytree(split_run, tmp_path / "bare")
    shutil.rmtree(bare / "warm")
    assert "needs a reader" in fails("audit", str(bare), "--measures", "[fresh_reader]")
    assert "out: /proc/no cannot be written to" in fails("audit", str(split_run), "--out", "/proc/no")
    assert not (bare / "audit.json").exists() and not list(bare.glob("audit*"))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--paraphraser", "nonsense"], "paraphraser: is for paraphrasability; expected it among the measures"),
        (["--rewriter.versions", "2"], "rewriter.versions: is for paraphrasability"),
        (["--reader=nowhere"], "reader: is for fresh_reader"),
        (["--monitor", "['watchers:thought_length']"], "monitor: is for leakage"),
    ],
)
def test_an_option_that_no_measure_uses_is_refused(given: list[str], says: str, split_run: Path, fails: Fails) -> None:
    assert says in fails("audit", str(split_run), "--measures", "[legality]", *given)


def test_options_of_a_model_that_rewrites_are_refused_where_none_does(
    split_run: Path, tmp_path: Path, fails: Fails, capsys: pytest.CaptureFixture[str]
) -> None:
    says = "is for a model that rewrites, and the paraphraser here is"
    assert f"rewriter.versions: {says} 'shuffle'" in fails("audit", str(split_run), "--versions", "2")
    given = ["--paraphraser", "copy", "--rewriter", "{versions: 2}"]
    assert f"rewriter: {says} 'copy'; expected --paraphraser model:FOLDER" in fails("audit", str(split_run), *given)
    assert f"rewriter.versions: {says} 'copy'" in fails("split", "--paraphraser", "copy", "--rewriter.versions", "2")
    assert "there is no paraphraser here" in fails("split", "--rewriter.template", "{text}")
    run = shutil.copytree(split_run, tmp_path / "run")
    values = yaml.safe_load((run / "config.yaml").read_text())
    values |= {"monitor": ["watchers:thought_length"], "rewriter": {"versions": 2}}
    (run / "config.yaml").write_text(yaml.safe_dump(values))  # what a run was made with is no fault of who audits it
    assert list(audited(capsys, str(run), *FEW, "--measures", "[legality]")["measures"]) == ["legality"]


def test_a_reader_of_other_tokens_is_refused(split_run: Path, tmp_path: Path, fails: Fails) -> None:
    from clew.policy import Policy
    from texts import bpe_tokenizer

    Policy.build(bpe_tokenizer(), 1, 16, 2).save(tmp_path / "other")
    said = fails("audit", str(split_run), "--reader", str(tmp_path / "other"))
    assert "reader: " in said and "does not number this world's tokens" in said


def test_a_run_that_lacks_something_says_what_was_left_out(
    split_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = shutil.copytree(split_run, tmp_path / "bare")
    shutil.rmtree(bare / "warm")
    values = yaml.safe_load((bare / "config.yaml").read_text())
    values["monitor"] = ["watchers:names_a_seven"]
    (bare / "config.yaml").write_text(yaml.safe_dump(values))
    report = audited(capsys, str(bare), *FEW[:2], "--thoughts", "1")
    assert "leakage" in report["measures"]
    assert not {"fresh_reader", "mutual_information"} & set(report["measures"])
    assert any("fresh_reader needs a reader" in note for note in report["notes"])
    assert any("too few for mutual_information" in note for note in report["notes"])
