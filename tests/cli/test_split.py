"""`clew split` from warm start to its last picture, and what it leaves where it cannot begin."""

import json
from pathlib import Path
from typing import Any

import pytest

from clew.cli.main import main
from clew.runs.options import read_yaml
from clew.runs.rollouts import write_rollouts
from cli.conftest import Fails

SMALL = ["--layers", "1", "--width", "16", "--heads", "2", "--mazes", "[3]", "--per-step", "2", "--warm-start", "3"]
SMALL += ["--rounds", "2", "--questions", "3", "--thoughts", "3", "--answers", "2", "--validation-questions", "4"]


def test_split_then_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "split"
    assert main(["split", *SMALL, "--final-questions", "4", "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert "optimal" in shown.out and "warm start" in shown.out and f"wrote {out}/" in shown.err
    assert "rounds 100%  round 2  score" in shown.err and "warm start, shoggoth 100%  step 3" in shown.err
    made = "shoggoth/model.safetensors face/model.safetensors warm/face/model.safetensors eval.json samples.jsonl"
    for name in [*made.split(), "plots/tree.png", "plots/training.png", "rollouts/round-000002.parquet"]:
        assert (out / name).is_file(), name
    assert main(["plan", "--run", str(out)]) == 0
    assert "best: n = " in capsys.readouterr().out


def test_a_model_that_thinks_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without rounds the warm start is the model: told once, beside the baseline, and its search is drawn."""
    out = tmp_path / "aloud"
    more = ["--policies", "one", "--rounds", "0", "--final-questions", "4", "--out", str(out)]
    assert main(["split", *SMALL, *more]) == 0
    shown = capsys.readouterr().out
    assert "baseline" in shown and "warm start" not in shown and "trained" not in shown
    assert (
        "A policy that thinks and then answers, as its warm start left it." in (out / "shoggoth/README.md").read_text()
    )
    assert main(["solve", str(out), "--size", "3"]) == 0
    shown = capsys.readouterr().out
    assert "thought: " in shown and "the model's path" in shown
    assert main(["solve", "zoo:10x10-aloud", "--size", "4"]) == 0
    assert "the model's search" in capsys.readouterr().out


def test_a_split_that_cannot_begin_leaves_nothing(tmp_path: Path, fails: Fails) -> None:
    for wrong, says in (
        (["--model", "nowhere"], "nowhere"),
        (["--rule", "luck"], "rule: 'luck'"),
        (["--traces", "[walk]"], "mazes.traces: "),
        (["--face-sees", "all"], "face_sees: all is not one of"),
        (
            ["--paraphraser", "all"],
            "paraphraser: 'all' is not one of copy, shuffle, model:FOLDER or package.module:func",
        ),
        (["--paraphrase", "line"], "paraphrase: nothing rewrites thoughts; name what does: --paraphraser copy, say"),
        (["--paraphrase-at", "evaluation"], "paraphrase_at: nothing rewrites thoughts"),
        (["--paraphraser", "copy", "--paraphrase", "line"], "paraphrase: line needs thoughts with lines"),
        (["--paraphraser", "copy", "--paraphrase", "words"], "paraphrase: words is not one of whole, line"),
        (["--paraphraser", "model:nowhere"], "nowhere is not a folder"),
        (["--paraphraser", "no.module:f"], "paraphraser: 'no.module:f' cannot be imported"),
        (["--paraphraser", "copy", "--template", "{text}"], "rewriter.template: is for a model that rewrites, and"),
        (["--paraphraser", "model:nowhere", "--template", "say it"], "rewriter.template: 'say it' has no {text}"),
        (["--paraphraser", "model:nowhere", "--versions", "0"], "rewriter.versions: 0 is not at least 1"),
        (["--grader", "['no.module:f']"], "no.module"),
        (["--lr", "0"], "optimizer.lr: 0.0 is not more than 0"),
        (["--warm-start.validate-every", "-1"], "warm_start.validate_every: -1 is not at least 0"),
        (["--warm-start.validate-every", "5"], "warm_start.validate_every: is for policies one or adapter; two that"),
        (["--warm-start.optimizer.lr", "0"], "warm_start.optimizer.lr: 0.0 is not more than 0"),
        (["--prompts", "nowhere.jsonl"], "model.folder: prompts need a model folder"),
        (["--mazes.sizes", "[2]"], "no held-out maze of 2x2"),
        (["--warmup-steps", "3"], "warmup_steps: is now called warm_start.steps"),
    ):
        assert says in fails("split", *wrong, "--out", str(tmp_path / "run")), wrong
        assert not (tmp_path / "run").exists(), wrong


def test_the_examples_are_what_they_were() -> None:
    folder = Path(__file__).parents[2] / "examples"
    assert read_yaml(folder / "start.yaml") == {
        "mazes": {"sizes": [3, 4], "branches": 4, "traces": ["dfs", "bfs", "astar"]},
        "warm_start": {"steps": 1000, "per_step": 16, "optimizer": {"name": "muon"}},
        "rounds": 0,
    }
    assert read_yaml(folder / "split.yaml") == {
        "mazes": {"sizes": [4]},
        "model": {"folder": "runs/start/warm"},
        "warm_start": {"steps": 0},
        "max_thought": 26,
        "length_cost": 0.01,
        "questions": 32,
        "thoughts": 8,
        "answers": 4,
        "rounds": 40,
        "optimizer": {"lr": 1e-4},
    }


def test_a_user_with_prompts_of_their_own(
    split_run: Path, tmp_path: Path, fails: Fails, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model folder, a file of prompts, a grader: splits, and its run is opened again in its own world."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"(0,{i % 3}) ; (1,{i // 3})"}) + "\n" for i in range(9)))
    model = [
        "--model",
        str(split_run),
        "--prompts",
        str(prompts),
        "--delimiters",
        "['<THOUGHT_START>', '<THOUGHT_END>']",
    ]
    grader, out = ["--grader", "['models:length']"], tmp_path / "mine"
    few = ["--rounds", "1", "--questions", "2", "--thoughts", "2", "--answers", "2", "--max-thought", "5"]
    counts = ["--max-answer", "5", "--validation-questions", "2", "--final-questions", "2", "--warm-start", "0"]
    assert main(["split", *model, *grader, *few, *counts, "--out", str(out)]) == 0
    assert main(["eval", str(out), "--questions", "5", "--json"]) == 0
    report = json.loads(capsys.readouterr().out.split("\n{", 1)[-1].join(["{", ""]))
    assert 0 < report["questions"] <= 5 and report["answer_tokens"]["value"] <= 5
    assert main(["solve", str(out)]) == 0
    assert "asked: (" in capsys.readouterr().out
    assert "asks no prompts" in fails("eval", str(out), "--world", "mazes")


def rollout(number: int, text: str, score: float | None = 1.0) -> dict[str, Any]:
    wrote = {"text": text, "tokens": [3, 4], "logps": [-0.5, -0.25], "ended": False}
    answers = [wrote | {"weight": w, "score": score, "scores": {"a": 1.0, "b": score}} for w in (0.5, -0.5, 0.0)]
    return {
        "number": number,
        "prompt": text,
        "context": [1],
        "thoughts": [wrote | {"read": text, "weight": 0.25, "answers": answers}] * 2,
    }


def test_show_prints_a_round(tmp_path: Path, capsys: pytest.CaptureFixture[str], fails: Fails) -> None:
    for number in (1, 2):
        write_rollouts(tmp_path, number, [rollout(2 * number + i, f"said {2 * number + i}") for i in range(2)])
    assert main(["split", "--show", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "round 2, question 4: said 4" and lines[9] == "round 2, question 5: said 5" and len(lines) == 18
    assert lines[1] == "├── weight +0.250  2 tokens, cut:  said 4"
    assert lines[2] == "│   ├── weight +0.500  score 1.00, a 1.00, b 1.00:  said 4"
    assert main(["split", "--round", "1", f"--show={tmp_path}", "--question", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "round 1, question 3: said 3" and len(lines) == 9
    (file,) = (tmp_path / "rollouts").glob("*1.parquet")
    assert main(["split", "--show", str(file)]) == 0
    assert "round 1, question 2: said 2" in capsys.readouterr().out
    for wrong, says in (
        (["--round", "3"], "which has 1 to 2"),
        (["--question", "2"], "question: 2 is not in "),
        (["--rounds", "2"], "rounds: there is no such option; did you mean round?"),
    ):
        assert says in fails("split", "--show", str(tmp_path), *wrong)
    assert "cannot be read: No such file" in fails("split", "--show", str(tmp_path / "no"))
    assert "is no run folder" in fails("split", "--show", str(tmp_path / "no"), "--round", "1")
    (tmp_path / "empty").mkdir()
    assert "holds no rollouts" in fails("split", "--show", str(tmp_path / "empty"), "--round", "1")
    file.write_bytes(b"PAR1")
    assert "round-000001.parquet: is torn" in fails("split", "--show", str(tmp_path), "--round", "1")


def test_show_obeys_no_text_and_cuts_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "[bold]x[/bold] \x1b[31m\u202e\n" + "long " * 100
    write_rollouts(tmp_path, 1, [rollout(0, text, None), rollout(1, text, None)])
    assert main(["split", "--show", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "score -, a 1.00, b -:  [bold]x[/bold] \\x1b[31m\\u202e\\nlong" in shown
    assert all(c.isprintable() or c == "\n" for c in shown) and shown.count("\n") == 18 and shown.count("…") == 18
    assert main(["split", "--show", str(tmp_path), "--question", "1"]) == 0
    assert "…" not in capsys.readouterr().out  # one alone is shown at length
