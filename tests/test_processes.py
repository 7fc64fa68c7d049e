"""Two processes over gloo against one: the same curve, weights and evaluation, everything written once."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from clew.cli.main import main
from clew.runs.rollouts import read_rollouts
from small import metrics, weights

TINY = "--model.layers 1 --model.width 16 --model.heads 2 --mazes.sizes [3] --mazes.branches 2 --final-questions 8"
TRAIN = f"train {TINY} --per-step 4 --optimizer.warmup 3 --validate-every 3 --validation-questions 5 --log-every 1"
TRAIN += " --checkpoint-every 3 --steps 8 --snapshots 2"
SPLIT = f"split {TINY} --warm-start.per-step 4 --warm-start.steps 4 --rounds 3 --questions 4 --thoughts 3 --answers 2"
SPLIT += " --validation-questions 8 --checkpoint-every 2 --optimizer.lr 1e-3"
RULES = [["basic", "{keep: 0.25, scope: batch}"], ["advantage", "{}"]]


EXAMPLES = Path(__file__).parents[1] / "examples" / "accelerate"


def shared(*what: str, config: str = "") -> None:
    """Runs a module or a script in two processes, as one of accelerate's configs says."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    if config:
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(EXAMPLES / config)]
        launch += ["--main_process_port", "0"]
    path = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])
    env = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}
    done = subprocess.run([*launch, *what], env=os.environ | env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def curve(run: Path, name: str) -> list[float]:
    lines = metrics(run)
    assert [line["step"] for line in lines] == sorted({line["step"] for line in lines})  # each line once
    return [line[name] for line in lines if name in line]


def close_weights(a: Path, b: Path) -> None:
    ours, theirs = weights(a), weights(b)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=0)


def figures(report: dict[str, Any]) -> dict[str, float]:
    """All values of an evaluation by their place in it, those of its groups and its baseline included."""
    return {
        f"{name}.{inner}": value
        for name, part in report.items()
        if isinstance(part, dict) and name not in ("versions", "machine")
        for inner, value in (figures(part) | {k: v for k, v in part.items() if isinstance(v, float)}).items()
    }


def test_training_in_two_processes_equals_one_and_resumes_in_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert main([*TRAIN.split(), "--out", str(one)]) == 0
    shared("-m", "clew", *TRAIN.split(), "--out", str(two))
    for again in (False, True):
        assert curve(two, "loss") == pytest.approx(curve(one, "loss"), abs=1e-5)
        assert curve(two, "held_out_score") == curve(one, "held_out_score") and len(curve(one, "held_out_score")) == 2
        for model in ("model", "snapshots/step-000002/model", "snapshots/step-000008/model"):
            close_weights(two / model, one / model)
        reports = [json.loads((run / "eval.json").read_text()) for run in (two, one)]
        assert figures(reports[0]) == pytest.approx(figures(reports[1]))
        assert reports[0]["questions"] == 8 and len(figures(reports[0])) > 50
        asked = [[sample["prompt"] for sample in read_rollouts(run / "samples.jsonl")] for run in (two, one)]
        assert asked[0] == asked[1] and len(asked[0]) == 8
        if not again:  # as if it had been killed after step 6
            shutil.rmtree(two / "checkpoints" / "step-000008")
            assert main(["train", "--resume", str(two), "--steps", "8"]) == 0


def few_questions(accelerator: Any = None) -> tuple[dict[str, Any], list[Any]]:
    """An evaluation of five questions, in batches of two a process."""
    from clew.policy import Policy
    from clew.rollout.sampler import SharedPrefixSampler
    from clew.train.evaluate import Reasoner, evaluate, held_out, world_grader
    from small import WORLD

    torch.set_num_threads(1)
    samplers = [SharedPrefixSampler(Policy.build(WORLD.tokenizer, 1, 16, 2, seed)) for seed in range(2)]
    reasoner = Reasoner(samplers[0], samplers[1], max_thought=9, max_answer=7)
    asked = held_out(WORLD, 5)
    report, kept = evaluate(WORLD, reasoner, asked, world_grader(WORLD), accelerator=accelerator, batch=2, keep=4)
    return report, [sample.record for sample in kept]


WATCH = "import faulthandler; faulthandler.dump_traceback_later(480, exit=True)\n"  # a run that hangs says where
SCRIPT = """
import json, sys
from pathlib import Path
from accelerate import Accelerator
from clew.cli.main import main
from test_processes import RULES, few_questions, splitting

accelerator, out = Accelerator(cpu=True), Path(sys.argv[1])
assert accelerator.num_processes == 2
(out / f"evaluation-{accelerator.process_index}").write_text(json.dumps(few_questions(accelerator)))
del accelerator
assert main([*splitting(RULES[0]), "--out", str(out / "split-0")]) == 0
"""


@pytest.fixture(scope="module")
def in_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left of an evaluation and of a split by each rule."""
    out = tmp_path_factory.mktemp("two")
    (out / "script.py").write_text(WATCH + SCRIPT)
    shared(str(out / "script.py"), str(out))
    for number in range(1, len(RULES)):
        shared("-m", "clew", *splitting(RULES[number]), "--out", str(out / f"split-{number}"))
    return out


def splitting(rule: list[str]) -> list[str]:
    return [*SPLIT.split(), "--rule", rule[0], "--rule-options", rule[1]]


@pytest.mark.parametrize("number", range(len(RULES)))
def test_split_in_two_processes_equals_one(in_two: Path, tmp_path: Path, number: int) -> None:
    """Each process samples its own questions; a rule over the batch sees them all."""
    one, two = tmp_path / "one", in_two / f"split-{number}"
    assert main([*splitting(RULES[number]), "--out", str(one)]) == 0
    for name in ("score", "shoggoth_loss", "face_loss", "shoggoth_sampled", "thought_tokens"):
        assert curve(two, name) == pytest.approx(curve(one, name), abs=1e-4), name
    for name in ("shoggoth", "face"):
        close_weights(two / name, one / name)
    assert sorted(p.name for p in two.iterdir()) == sorted(p.name for p in one.iterdir())
    for ours, theirs in zip(read_rollouts(two), read_rollouts(one), strict=True):
        for name in ("round", "number", "prompt"):
            assert ours[name] == theirs[name]
        tokens = [[thought["tokens"] for thought in one["thoughts"]] for one in (ours, theirs)]
        assert tokens[0] == tokens[1]


def test_an_evaluation_is_shared_and_every_process_has_all_of_it(in_two: Path) -> None:
    """Of an odd number of questions: in the last batch one process has none."""
    report, kept = json.loads(json.dumps(few_questions()))
    assert report["questions"] == 5 and len(kept) == 4
    for rank in range(2):
        ours, our_kept = json.loads((in_two / f"evaluation-{rank}").read_text())
        assert ours.keys() == report.keys() and figures(ours) == pytest.approx(figures(report))
        assert [one["prompt"] for one in our_kept] == [one["prompt"] for one in kept]
        answers = [[one["thoughts"][0]["answers"][0]["text"] for one in some] for some in (our_kept, kept)]
        assert answers[0] == answers[1]


OVER_FOLDER = ["--rule", "advantage", "--grader", "['models:length']", "--objective.kl", "0.3", "--model.layers", "2"]
SPLITS = {
    "adapters": [*OVER_FOLDER, "--policies", "adapters", "--rank", "2", "--model.gradient-checkpointing", "true"],
    "two": [*OVER_FOLDER, "--policies", "two", "--optimizer.tokens-at-once", "150"],
}
SPREAD = """
import sys
from pathlib import Path
from accelerate import Accelerator
from clew.cli.main import main
from clew.learner import Learner
from clew.sharding import parts, spreads
from clew.train import rounds, supervised
from test_processes import SPLITS, TRAIN, over

accelerator, out, model = Accelerator(cpu=True), Path(sys.argv[1]), sys.argv[2]
spread = sys.argv[3] == "spread"
assert accelerator.num_processes == 2 and spreads(accelerator) == spread
ends = rounds.end_training
rounds.end_training = supervised.end_training = lambda *_: None  # the last run ends what all of them share
update = Learner.update

def watched(self, *args, **kwargs):
    assert bool(parts(self.policy.model)) == spread
    assert all((p.to_local().numel() < p.numel()) == spread for p in self.parameters if hasattr(p, "to_local"))
    return update(self, *args, **kwargs)

Learner.update = watched
if spread:
    assert main([*TRAIN.split(), "--device", "cpu", "--out", str(out / "train")]) == 0
    for refused in (["--optimizer", "muon"], ["--warm-start.optimizer.name", "muon"], ["--sampler", "vllm"]):
        assert main([*over(model, "two"), *refused, "--out", str(out / "refused")]) == 2
    assert not (out / "refused").exists()
for name in SPLITS:
    if name == list(SPLITS)[-1]:
        rounds.end_training = ends
    assert main([*over(model, name), "--out", str(out / name)]) == 0
"""


def over(model: str, name: str) -> list[str]:
    return [*SPLIT.split(), *SPLITS[name], "--model", model, "--device", "cpu"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    from clew.policy import Policy
    from small import WORLD

    folder = tmp_path_factory.mktemp("folder") / "model"
    Policy.build(WORLD.tokenizer, 2, 16, 2, seed=3).save(folder)
    return str(folder)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, model: str) -> Path:
    """The same runs in one process."""
    out = tmp_path_factory.mktemp("alone")
    for name in SPLITS:
        assert main([*over(model, name), "--out", str(out / name)]) == 0
    return out


def same_split(ours: Path, theirs: Path, policies: str) -> None:
    for name in ("score", "shoggoth_loss", "face_loss", "face_kl", "shoggoth_sampled"):
        assert curve(ours, name) == pytest.approx(curve(theirs, name), abs=1e-4), name
    assert max(curve(ours, "face_kl")) > 1e-7
    for name in ("shoggoth", "face"):
        close_weights(ours / name, theirs / name)
        close_weights(ours / "warm" / "shoggoth", theirs / "warm" / "shoggoth")
    assert sorted(p.name for p in ours.rglob("*") if p.is_file()) == sorted(
        p.name for p in theirs.rglob("*") if p.is_file()
    )


@pytest.mark.parametrize("how", ["spread", "copied"])
def test_adapters_and_full_weights_in_two_processes_equal_one(
    tmp_path: Path, model: str, alone: Path, how: str
) -> None:
    """By FSDP2 and by DDP, as the configs in examples/accelerate have them; a spread run goes on in one process."""
    (tmp_path / "script.py").write_text(WATCH + SPREAD)
    config = "fsdp2-cpu2.yaml" if how == "spread" else "cpu2.yaml"
    shared(str(tmp_path / "script.py"), str(tmp_path), model, how, config=config)
    for name in SPLITS:
        same_split(tmp_path / name, alone / name, name)
    if how == "copied":
        return
    assert main([*TRAIN.split(), "--out", str(tmp_path / "one")]) == 0
    assert curve(tmp_path / "train", "loss") == pytest.approx(curve(tmp_path / "one", "loss"), abs=1e-5)
    close_weights(tmp_path / "train" / "model", tmp_path / "one" / "model")
    for name in SPLITS:  # as if it had been killed after round 2
        shutil.rmtree(tmp_path / name / "checkpoints" / "step-000003")
        assert main(["split", "--resume", str(tmp_path / name), "--rounds", "3"]) == 0
        same_split(tmp_path / name, alone / name, name)
