"""Two policies: one round's parts against plain recomputation, whole runs on mazes and on a user's own prompts."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

sys.path.insert(0, os.path.dirname(__file__))
from clew import runs, warm
from clew import samples as sm
from clew import split as loop
from clew.config import MazeConfig, SplitConfig
from clew.credit import denoised
from clew.errors import InputError
from clew.graders import Grader, GraderError
from clew.learner import Learner
from clew.losses import clipped, kl_to, paired, token_nll
from clew.mazes.vocab import PATH_START, THOUGHT_END, THOUGHT_START
from clew.mazes.world import MazeWorld
from clew.policy import Policy
from clew.tree import SpanTree, TreeBatch, only, pruned, spans_of
from models import tiny

WORLD = MazeWorld(((3, 3),))


def config(out: Path | None = None, **changes) -> SplitConfig:
    made = SplitConfig(
        MazeConfig(sizes=[3], branches=2, per_step=4), layers=1, width=16, heads=2, warmup_steps=30, warmup_lr=1e-2,
        rounds=3, questions=3, thoughts=3, answers=2, max_thought=12, eval_questions=6, final_questions=6, eval_every=2,
        checkpoint_every=1, out=str(out) if out else None,
    )  # fmt: skip
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def played(face_sees: str = "prompt+thought", seed: int = 0) -> tuple[sm.Samples, Policy, Policy]:
    shoggoth, face = (Policy.build(WORLD.tokenizer, 1, 16, 2, seed=s) for s in (seed, seed + 1))
    WORLD.max_thought, WORLD.max_answer = 8, 6
    asked = WORLD.ask(range(4))
    return sm.sample(WORLD, shoggoth, face, asked, (3, 2), face_sees=face_sees, temperature=1.0,
                     seeds=[1, 2, 3, 4]), shoggoth, face  # fmt: skip


def test_tree_tools() -> None:
    tree = SpanTree([1], "prompt", 0.0, [
        SpanTree([2], "thought", 1.0, [SpanTree([3], "answer", 0.0), SpanTree([4], "answer", -1.0)]),
        SpanTree([5], "thought", 0.0, [SpanTree([6], "answer", 0.0)]),
    ])  # fmt: skip
    left = pruned(tree)
    assert left and len(left.children) == 1 and [c.tokens for c in left.children[0].children] == [[4]]
    thoughts = pruned(only(tree, "thought"))
    assert thoughts and thoughts.children[0].children == []
    assert pruned(only(tree, "prompt")) is None
    assert [span.tokens for span in spans_of(tree, "thought")] == [[2], [5]]


def test_demonstrations_are_prompt_thought_answer() -> None:
    for tree in MazeWorld(((3, 3),), branches=3).demonstrate([0, 5]):
        assert len(tree.children) == 3
        for question in tree.children:
            (thought,) = question.children
            (answer,) = thought.children
            assert (thought.tokens[0], thought.tokens[-1]) == (THOUGHT_START, THOUGHT_END)
            assert answer.tokens[0] == PATH_START and answer.weight == thought.weight == 1.0


def test_log_probabilities_and_contexts_of_a_round() -> None:
    for face_sees in ("prompt+thought", "thought"):
        samples, _, face = played(face_sees)
        assert samples.shape == (4, 3, 2) and len(samples.answers) == 24
        for i, context in enumerate(samples.contexts()):
            thought = samples.thoughts[i]
            ended = thought.tokens if thought.stopped else [*thought.tokens, THOUGHT_END]
            before = samples.asked[i // 3].tokens if face_sees == "prompt+thought" else []
            assert context == [*before, *ended]
            for answer in samples.answers[2 * i : 2 * i + 2]:
                tokens = torch.tensor([context + answer.tokens])
                logp = face.model(tokens).logits[0].log_softmax(-1)[len(context) - 1 : -1]
                fresh = logp.gather(1, torch.tensor(answer.tokens)[:, None])[:, 0]
                torch.testing.assert_close(torch.tensor(answer.logps), fresh.detach(), atol=1e-5, rtol=0)
    assert len({tuple(a.tokens) for a in samples.answers}) > 1


def test_a_round_s_loss_is_the_weighted_log_likelihood_of_its_samples() -> None:
    """Credit, trees and losses together, against the log-probabilities that sampling itself reported."""
    for face_sees in ("prompt+thought", "thought"):
        samples, shoggoth, face = played(face_sees)
        rng = np.random.default_rng(0)
        thought_QN, answer_QNK = rng.normal(size=(4, 3)), rng.normal(size=(4, 3, 2))
        answer_QNK[0] = 0
        thought_QN[1] = 0
        trees = sm.trees_of(WORLD, samples, sm.Weights(None, thought_QN, answer_QNK, 4))  # type: ignore[arg-type]
        for policy, roles, parts, weights in ((shoggoth, ("thought",), samples.thoughts, thought_QN),
                                              (face, ("answer",), samples.answers, answer_QNK)):  # fmt: skip
            batch = sm.batch_for(trees, roles, face_sees, 0)
            assert batch is not None
            loss = (token_nll(policy.model, batch) * batch.weights_S).sum().item()
            wanted = -sum(w / 4 * sum(part.logps) for w, part in zip(weights.ravel(), parts, strict=True))
            if face_sees == "thought" and roles == ("answer",):
                assert batch.tokens_BT.numel() < sum(len(a.tokens) for a in samples.asked) + 400
            assert loss == pytest.approx(wanted, abs=1e-4)


def test_branches_without_weight_are_not_read() -> None:
    samples, *_ = played()
    nothing = sm.trees_of(WORLD, samples, sm.Weights(None, np.zeros((4, 3)), np.zeros((4, 3, 2)), 4))  # type: ignore[arg-type]
    assert sm.batch_for(nothing, ("thought",), "prompt+thought", 0) is None
    one = np.zeros((4, 3))
    one[2, 1] = 1
    batch = sm.batch_for(
        sm.trees_of(WORLD, samples, sm.Weights(None, one, np.zeros((4, 3, 2)), 4)), ("thought",), "thought", 0
    )  # type: ignore[arg-type]
    assert batch is not None
    assert batch.tokens_BT.numel() == len(samples.asked[2].tokens) + len(samples.thoughts[7].tokens)


def test_length_is_charged_to_the_shoggoth_alone_and_targeted_graders_to_the_face_alone() -> None:
    samples, *_ = played()
    scores = sm.graded(WORLD, [Grader(lambda completions, **_: [1.0 for _ in completions], name="both"),
                               Grader(lambda completions, **_: [-float(i) for i in range(len(completions))],
                                      route="answer", name="face")], samples)  # fmt: skip
    assert not np.array_equal(scores.shoggoth_B, scores.face_B)
    assert not sm.credited(config(), denoised, samples, scores).thought_QN.any()  # all equal: nothing to learn
    free = sm.credited(config(), denoised, samples, scores)
    charged = sm.credited(config(length_cost=0.01), denoised, samples, scores)
    assert np.array_equal(free.answer_QNK, charged.answer_QNK)
    lengths = samples.lengths_QN()
    for q in range(4):
        if len(set(lengths[q])) > 1:
            assert lengths[q][charged.thought_QN[q] > 0].max() == lengths[q].min()


def test_graders_never_see_a_thought() -> None:
    samples, *_ = played()
    seen: dict[str, list] = {}

    def spy(**everything) -> list[float]:
        seen.update(everything)
        return [0.0] * len(everything["completions"])

    sm.graded(WORLD, [Grader(spy)], samples)
    assert seen["completions"] == [WORLD.text(answer.tokens) for answer in samples.answers]
    assert seen["prompts"] == [one.prompt for one in samples.asked for _ in range(6)]
    assert set(seen) == {"prompts", "completions", *samples.asked[0].columns}
    assert "THOUGHT" not in repr([value for name, value in seen.items() if name != "completions"])


def test_objectives_by_hand() -> None:
    nll, before = torch.tensor([1.0, 1.0]), torch.tensor([1.5, 0.5])
    weights = torch.tensor([1.0, -1.0])
    ratio = (before - nll).exp()  # 1.65 and 0.61, both beyond the clip on the side that pays no more
    assert clipped(nll, before, weights, 0.2).item() == pytest.approx(-(1.2 - 0.8), abs=1e-6)
    assert clipped(nll, before, -weights, 0.2).item() == pytest.approx((ratio[0] - ratio[1]).item(), abs=1e-6)
    margin = (2.0 - 1.0) - (1.0 - 3.0)  # the best gained 1 nat over the reference, the worst lost 2
    got = paired(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 1.0]), weights, torch.tensor([0, 0]), beta=0.5)
    assert got.item() == pytest.approx(np.log1p(np.exp(-0.5 * margin)), abs=1e-6)
    assert paired(nll, nll, torch.ones(2), torch.tensor([0, 1])).item() == 0  # no tree has both signs
    assert (kl_to(torch.randn(50), torch.randn(50)) >= 0).all() and kl_to(nll, nll).abs().max() == 0


def test_clipped_s_first_update_is_the_policy_gradient() -> None:
    model = tiny("llama")
    batch = TreeBatch.pack([SpanTree([3], "prompt", 0.0, [SpanTree([4, 5], "answer", w) for w in (0.7, -0.3)])], 0)
    nll = token_nll(model, batch)
    a = torch.autograd.grad(
        clipped(nll, nll.detach(), batch.weights_S.double()), list(model.parameters()), retain_graph=True
    )
    b = torch.autograd.grad((nll * batch.weights_S).sum(), list(model.parameters()))
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"policies": "one", "rule": "advantage", "objective": "clipped", "updates": 2},
        {"policies": "adapters", "face_sees": "thought", "rule": "basic", "kl": 0.1,
         "grader": ["models:length"]},
        {"rule": "contrastive", "objective": "pair", "allocate": "auto", "rounds": 6},
    ],
)  # fmt: skip
def test_whole_runs(tmp_path: Path, changes: dict) -> None:
    run = tmp_path / "run"
    result = loop.split(config(run, **changes))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(len(lines)))
    assert {"score", "optimal", "search_steps", "thought_tokens", "reliability", "var_thoughts", "effective_thoughts",
            "thought_entropy", "shoggoth_tokens_read"} <= set(lines[1])  # fmt: skip
    assert {"held_out_score", "held_out_optimal", "held_out_search_steps"} <= set(lines[0])
    if changes.get("kl"):
        assert lines[1]["shoggoth_kl"] >= 0
    assert result["after"]["mazes"] == result["before"]["mazes"] == 6
    tree = json.loads((run / "samples.jsonl").read_text().splitlines()[0])
    assert all({"text", "score", "weight"} <= set(a) for t in tree["thoughts"] for a in t["answers"])
    names = ["shoggoth"] if changes.get("policies") == "one" else ["shoggoth", "face"]
    for name in names:
        assert Policy.load(run / name).model.num_parameters() > 0
    assert (run / "plots" / "tree.png").is_file() and (run / "plots" / "training.png").is_file()


def test_resumed_after_its_last_checkpoint_a_run_lacks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """As if it had been killed while it wrote its results, and before that at its first look, and in a later round."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    changes = {"warmup_steps": 5, "allocate": "auto", "kl": 0.1, "rounds": 7}
    loop.split(config(whole, **changes))

    def stop(values: dict) -> None:
        if values["phase"] == "rounds" and values["step"] == stops[0]:
            stops.pop(0)
            raise KeyboardInterrupt

    stops = [0, 6, None]
    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            loop.split(config(run, **changes), resume=resume, report=stop)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "write_json", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            loop.split(config(run, **changes), resume=True)
    loop.split(config(run, **changes), resume=True)
    names = [sorted(str(path.relative_to(one)) for path in one.rglob("*")) for one in (run, whole)]
    assert names[0] == names[1] and "samples.jsonl" in names[0]
    lines = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in file.read_text().splitlines()]
        for file in (run / "metrics.jsonl", whole / "metrics.jsonl")
    ]
    assert lines[0] == lines[1] and [line["step"] for line in lines[0]] == list(range(8))
    assert (run / "samples.jsonl").read_text() == (whole / "samples.jsonl").read_text()
    for name in ("shoggoth", "face"):
        ours, reference = (load_file(folder / name / "model.safetensors") for folder in (run, whole))
        assert all(torch.equal(ours[key], reference[key]) for key in reference)


DAMAGES = {
    "shape": ("state.json", '{"step": 2, "seconds": 1, "shape": [3], "recent": []}', "has the shape"),
    "shape of text": ("state.json", '{"step": 2, "seconds": 1, "shape": ["3", 2], "recent": []}', "has the shape"),
    "recent": ("state.json", '{"step": 2, "seconds": 1, "shape": [3, 2], "recent": [[1, 2]]}', "recent variances"),
    "recent NaN": ("state.json", '{"step": 2, "seconds": 1, "shape": [3, 2], "recent": [[1, 2, NaN]]}', "recent var"),
    "no recent": ("state.json", '{"step": 2, "seconds": 1, "shape": [3, 2]}', "recent variances"),
    "the face's optimizer": ("face/optimizer.safetensors", "garbage", "optimizer.safetensors cannot be read"),
    "the shoggoth's state": ("shoggoth/state.json", "{", "state.json cannot be read"),
}


def test_a_torn_split_goes_on_from_the_last_whole_checkpoint(tmp_path: Path) -> None:
    made, run = config(tmp_path / "run", warmup_steps=2, rounds=2, eval_every=0), tmp_path / "run"
    loop.split(made)
    reference = load_file(run / "face" / "model.safetensors")
    shutil.copytree(run / "checkpoints", tmp_path / "kept")
    team = loop.Team(*(Learner(policy) for policy in warm.policies_of(made, run / "warm", torch.device("cpu"))))
    assert runs.resumed(run, team.load, lambda: None) == json.loads(
        (run / "checkpoints" / "step-000002" / "state.json").read_text()
    )
    for file, content, says in DAMAGES.values():
        shutil.rmtree(run / "checkpoints")
        shutil.copytree(tmp_path / "kept", run / "checkpoints")
        (run / "checkpoints" / "step-000002" / file).write_text(content)
        with pytest.warns(UserWarning, match=rf"step-000002 is torn \(.*{says}"):
            state = runs.resumed(run, team.load, lambda: None)
        assert state and state["step"] == 1
    loop.split(made, resume=True)
    ours = load_file(run / "face" / "model.safetensors")
    assert all(torch.equal(ours[key], reference[key]) for key in reference)


def test_a_team_that_is_another_and_a_warm_start_that_is_torn(tmp_path: Path) -> None:
    run = tmp_path / "run"
    loop.split(config(run, warmup_steps=2, rounds=2, eval_every=0))
    with pytest.raises(InputError, match="policies: this run began with 'two', and going on with 'one' would"):
        loop.split(config(run, warmup_steps=2, rounds=2, policies="one"), resume=True)
    with pytest.raises(InputError, match="thoughts: this run began with 3, and going on with 4 would"):
        loop.split(config(run, warmup_steps=2, rounds=2, thoughts=4), resume=True)
    file = run / "config.yaml"
    file.write_text(file.read_text().replace("policies: two", "policies: one"))  # by hand
    with pytest.raises(InputError, match=r"no whole checkpoint left .*it holds face and shoggoth, not shoggoth"):
        loop.split(config(run, warmup_steps=2, rounds=2, policies="one", eval_every=0), resume=True)
    file.write_text(file.read_text().replace("policies: one", "policies: two"))
    small = file.read_text()
    file.write_text(yaml.safe_dump(yaml.safe_load(small) | {"mazes": {"sizes": [5]}}))  # cells that nobody knows
    with pytest.raises(InputError, match=r"resume: .*warm does not number this world's tokens as the world does"):
        mazes = MazeConfig(sizes=[5], branches=4, per_step=16)
        loop.split(config(run, warmup_steps=2, rounds=2, mazes=mazes), resume=True)
    file.write_text(small)
    (run / "warm" / "face" / "model.safetensors").write_text("garbage")
    with pytest.raises(InputError, match=r"resume: .*warm is torn .* move it away to begin the warm start anew"):
        loop.split(config(run, warmup_steps=2, rounds=3), resume=True)
    shutil.rmtree(run / "warm" / "face")
    with pytest.raises(InputError, match=r"resume: .*warm is torn .*face is not a folder"):
        loop.split(config(run, warmup_steps=2, rounds=3), resume=True)


def failing(completions: list[str], **_) -> list[float]:
    if failing.calls > 3:  # type: ignore[attr-defined]
        raise RuntimeError("no more")
    failing.calls += 1  # type: ignore[attr-defined]
    return [float(i % 3) for i in range(len(completions))]


def test_a_grader_that_fails_loses_no_finished_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(WORLD.__class__, "default_grader", lambda self: failing)
    with pytest.raises(GraderError, match="no more"):
        loop.split(config(tmp_path / "run", rounds=9, eval_every=0, warmup_steps=2))
    checkpoint = runs.latest_checkpoint(tmp_path / "run")
    assert checkpoint is not None and checkpoint.name == "step-000003"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rule": "best"}, "rule: 'best'"), ({"rule_options": {"peak": 3}}, "rule_options"),
        ({"rule": "nowhere:rule"}, "rule"), ({"grader": ["nowhere:f"]}, "grader"), ({"questions": 0}, "questions: 0"),
        ({"top_p": 1.5}, "top_p: 1.5"), ({"thoughts": 1, "answers": 1}, "nothing to be compared"),
        ({"prompts": "nowhere.jsonl"}, "model"), ({"traces": ["dijkstra"]}, "dijkstra"),
    ],
)  # fmt: skip
def test_bad_configs_are_named(tmp_path: Path, changes: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        loop.split(config(tmp_path / "run", **changes))
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_an_interrupted_warm_start_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "KEEP_EVERY", 10)
    config = SplitConfig(MazeConfig(sizes=[3], branches=2, per_step=2), layers=1, width=16, heads=2, warmup_steps=30,
                         rounds=0, eval_questions=4, final_questions=4, out=str(tmp_path / "whole"))  # fmt: skip
    loop.split(config)
    for number, (policy, step) in enumerate((("shoggoth", 20), ("face", 10), ("face", 30))):

        def stop(values: dict, policy: str = policy, step: int = step) -> None:
            if values.get("phase") == f"warm start, {policy}" and values["step"] == step:
                raise KeyboardInterrupt

        config.out = str(tmp_path / "stopped")
        with pytest.raises(KeyboardInterrupt):
            loop.split(config, resume=number > 0, report=stop)
        assert not (tmp_path / "stopped" / "warm").exists()
    kept = tmp_path / "stopped" / "checkpoints" / "warm-face" / "state.json"
    state = kept.read_text()
    for content in ("", "{}", state.replace('"step": 20', '"step": 2000')):
        kept.write_text(content)
        with pytest.raises(InputError, match=r"warm-face is torn .* no other checkpoint of the warm start is kept"):
            loop.split(config, resume=True)
    kept.write_text(state)
    loop.split(config, resume=True)
    for name in ("shoggoth", "face"):
        ours, theirs = (load_file(tmp_path / run / "warm" / name / "model.safetensors") for run in ("stopped", "whole"))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert not list((tmp_path / "stopped" / "checkpoints").glob("warm-*"))
