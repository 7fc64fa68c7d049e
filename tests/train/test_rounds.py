"""Two policies: one round's parts against plain recomputation, and whole runs, resumed, torn and stopped."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from accelerate import Accelerator

from clew.credit import denoised
from clew.errors import InputError
from clew.graders import Grader, GraderError
from clew.losses import token_nll
from clew.mazes.vocab import maze_tokenizer
from clew.mazes.world import MazeWorld
from clew.policy import Policy
from clew.rollout.trees import training_batch
from clew.rollout.types import Rollout
from clew.runs.checkpoints import latest_checkpoint, resumed
from clew.runs.rollouts import read_rollouts
from clew.train import crediting, rounds
from clew.train.config import SplitConfig
from clew.train.crediting import Weights, credited, grade_rollouts
from clew.train.evaluate import as_metrics
from clew.train.rounds import split, weighted
from clew.train.team import Team, team_of, warm_policies
from clew.tree import Role
from small import WORLD, fresh_team, metrics, played, same_weights, split_config, timeless, weights


@cache
def a_round(face_sees: Any = "prompt+thought") -> tuple[list[Rollout], Team]:
    """Four questions, three thoughts each, two answers to each thought."""
    config = split_config(face_sees=face_sees, max_thought=8, max_answer=6)
    team = fresh_team(config)
    return played(config, team), team


def answers_of(rollouts: list[Rollout]) -> list[Any]:
    return [answer for one in rollouts for several in one.answers for answer in several]


def given(thought_QN: np.ndarray, answer_QNK: np.ndarray) -> Weights:
    return Weights(None, thought_QN, answer_QNK, 4)  # type: ignore[arg-type]


def test_log_probabilities_and_contexts_of_a_round() -> None:
    for face_sees in ("prompt+thought", "thought"):
        rollouts, team = a_round(face_sees)
        assert crediting.shape_of(rollouts) == (4, 3, 2) and len(answers_of(rollouts)) == 24
        model = team.members["face"].policy.model
        for rollout in rollouts:
            for thought, read, answers in zip(rollout.thoughts, rollout.read, rollout.answers, strict=True):
                ended = thought.tokens if thought.ended else [*thought.tokens, *WORLD.thought_end]
                context = [*(rollout.question.tokens if face_sees == "prompt+thought" else []), *ended]
                assert read.ids() == context
                for answer in answers:
                    logp = model(torch.tensor([context + answer.tokens])).logits[0].log_softmax(-1)
                    fresh = logp[len(context) - 1 : -1].gather(1, torch.tensor(answer.tokens)[:, None])[:, 0]
                    torch.testing.assert_close(torch.tensor(answer.logps), fresh.detach(), atol=1e-5, rtol=0)
        assert len({tuple(answer.tokens) for answer in answers_of(rollouts)}) > 1


def test_a_round_s_loss_is_the_weighted_log_likelihood_of_its_samples() -> None:
    """Credit, trees and losses together, against the log-probabilities that sampling itself reported."""
    for face_sees in ("prompt+thought", "thought"):
        rollouts, team = a_round(face_sees)
        dice = np.random.default_rng(0)
        thought_QN, answer_QNK = dice.normal(size=(4, 3)), dice.normal(size=(4, 3, 2))
        answer_QNK[0] = 0
        thought_QN[1] = 0
        thoughts = [thought for one in rollouts for thought in one.thoughts]
        parts = {"shoggoth": (thoughts, thought_QN), "face": (answers_of(rollouts), answer_QNK)}
        for name, (written, own) in parts.items():
            member = team.members[name]
            batch = training_batch(weighted(rollouts, given(thought_QN, answer_QNK), member.roles), 0)
            assert batch is not None
            loss = (token_nll(member.policy.model, batch) * batch.weights_S).sum().item()
            wanted = -sum(w / 4 * sum(part.logps) for w, part in zip(own.ravel(), written, strict=True))
            assert loss == pytest.approx(wanted, abs=1e-4)
            if face_sees == "thought" and name == "face":  # not a token of a prompt is read
                read = sum(len(context.ids()) for one in rollouts[1:] for context in one.read)
                learnt = sum(len(answer.tokens) for answer in written[6:])
                assert batch.tokens_BT.numel() == read + learnt


def test_branches_without_weight_are_not_read() -> None:
    rollouts, _ = a_round()
    nothing = given(np.zeros((4, 3)), np.zeros((4, 3, 2)))
    players: list[tuple[Role, ...]] = [("thought",), ("answer",), ("thought", "answer")]
    for roles in players:
        assert training_batch(weighted(rollouts, nothing, roles), 0) is None
    one = np.zeros((4, 3))
    one[2, 1] = 1
    batch = training_batch(weighted(rollouts, given(one, np.zeros((4, 3, 2))), ("thought",)), 0)
    assert batch is not None
    assert batch.tokens_BT.numel() == len(rollouts[2].question.tokens) + len(rollouts[2].thoughts[1].tokens)


def test_length_is_charged_to_the_shoggoth_alone_and_targeted_graders_to_the_face_alone() -> None:
    rollouts, _ = a_round()
    both = Grader(lambda completions, **_: [1.0 for _ in completions], name="both")
    counting = Grader(
        lambda completions, **_: [-float(i) for i in range(len(completions))], route="answer", name="face"
    )
    scores = grade_rollouts([both, counting], rollouts)
    assert np.array_equal(scores.shoggoth_B, np.ones(24)) and np.array_equal(scores.face_B, 1 - np.arange(24.0))
    free = credited(split_config(), denoised, rollouts, scores)
    charged = credited(split_config(length_cost=0.01), denoised, rollouts, scores)
    assert not free.thought_QN.any() and charged.thought_QN.any()  # all scores are equal: nothing to learn but length
    assert free.answer_QNK.any() and np.array_equal(free.answer_QNK, charged.answer_QNK)
    unlike = 0
    for rollout, weights_N in zip(rollouts, charged.thought_QN, strict=True):
        lengths = np.array([len(thought.tokens) for thought in rollout.thoughts])
        if len(set(lengths)) > 1:
            unlike += 1
            assert lengths[weights_N > 0].max() == lengths.min()
    assert unlike > 0


def test_graders_never_see_a_thought() -> None:
    """Nor anything that was made of one: whatever the thoughts are, a grader is called with the same."""
    rollouts, _ = a_round()
    seen: list[dict[str, Any]] = []

    def spy(log_extra: Any, log_metric: Any, **everything: Any) -> list[float]:
        seen.append(everything)
        return [0.0] * len(everything["completions"])

    others = [replace(one, thoughts=one.thoughts[::-1], read=[], thought_texts=["hm"] * 3) for one in rollouts]
    for made in (rollouts, others):
        grade_rollouts([Grader(spy)], made)
    assert repr(seen[0]) == repr(seen[1])
    assert seen[0]["completions"] == [WORLD.text(answer.tokens) for answer in answers_of(rollouts)]
    assert seen[0]["prompts"] == [one.question.prompt for one in rollouts for _ in range(6)]
    assert seen[0]["completion_ids"] == [answer.tokens for answer in answers_of(rollouts)]
    run = {"completion_ids", "trainer_state"}
    assert set(seen[0]) == {"prompts", "completions", *run, *rollouts[0].question.columns}
    told = repr({name: value for name, value in seen[0].items() if name != "completions"})
    thoughts = [text for one in rollouts for text in one.thought_texts]
    assert not any(text in told for text in thoughts if len(text.split()) > 2)
    assert sum(len(text.split()) > 2 for text in thoughts) > 6


RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "one, clipped": {
        "policies": "one",
        "rule": "advantage",
        "objective__name": "clipped",
        "objective__updates": 2,
        "grader": ["models:length"],
    },
    "adapters, kl": {
        "policies": "adapters",
        "face_sees": "thought",
        "rule": "basic",
        "objective__kl": 0.1,
        "grader": ["models:length"],
        "optimizer__lr": 1e-2,
    },
    "pair, auto": {
        "rule": "contrastive",
        "objective__name": "pair",
        "allocate": "auto",
        "rounds": 6,
        "grader": ["models:length"],
    },
    "copy, kl": {
        "paraphraser": "copy",
        "rule": "advantage",
        "objective__kl": 0.1,
        "grader": ["models:length"],
        "optimizer__lr": 1e-2,
    },
}


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("name", RUNS)
def test_whole_runs(tmp_path: Path, name: str) -> None:
    run, changes = tmp_path / "run", RUNS[name]
    config = split_config(run, **changes)
    result = split(config)
    lines = metrics(run)
    assert [line["step"] for line in lines] == list(range(config.rounds + 1))
    figures = "score optimal search_steps thought_tokens reliability var_thoughts effective_thoughts thought_entropy"
    assert {*figures.split(), "shoggoth_tokens_read"} <= set(lines[1])
    assert {"held_out_score", "held_out_optimal", "held_out_search_steps"} <= set(lines[0])
    assert result["after"]["questions"] == result["before"]["questions"] == 6
    assert json.loads((run / "eval.json").read_text()) == result
    names = ["shoggoth"] if config.policies == "one" else ["shoggoth", "face"]
    for policy in names:
        assert Policy.load(run / policy).model.num_parameters() > 0
        if config.grader:  # which says something in every round
            start = "shoggoth" if config.policies == "adapters" else policy
            assert not same_weights(run / policy, run / "warm" / start)
            assert all(line[f"{policy}_grad_norm"] > 0 for line in lines[1:])
    if config.objective.kl:
        for policy in names:  # each round's one update begins where the last one ended, and the first at the reference
            kl = [line[f"{policy}_kl"] for line in lines[1:]]
            assert abs(kl[0]) < 1e-6 and kl[-1] > 1e-6
    if name == "pair, auto":
        assert lines[1]["shoggoth_loss"] == pytest.approx(lines[1]["face_loss"])  # log 2 for each question told of
        assert (lines[-1]["n"], lines[-1]["k"]) != (3, 2)
    assert (run / "plots" / "tree.png").stat().st_size and (run / "plots" / "training.png").stat().st_size


def test_a_bare_run_learns_the_same_and_leaves_no_more_than_that(tmp_path: Path) -> None:
    whole, bare = tmp_path / "whole", tmp_path / "bare"
    told: dict[str, Any] = {"grader": ["models:length"], "optimizer__lr": 1e-2}
    split(split_config(whole, **told))
    assert split(split_config(bare, **told), bare=True) == {}
    for name in ("shoggoth", "face"):
        assert same_weights(whole / name, bare / name) and not same_weights(bare / name, bare / "warm" / name)
    assert timeless(whole)[1:] == timeless(bare)[1:] and timeless(bare)[0] == {"step": 0}
    left = {path.name for path in bare.iterdir()}
    assert {"rollouts", "plots", "eval.json"} <= {path.name for path in whole.iterdir()} - left
    assert {"shoggoth", "face", "metrics.jsonl", "checkpoints"} <= left


def test_every_round_s_rollouts_are_kept(tmp_path: Path) -> None:
    run = tmp_path / "run"
    graders: dict[str, Any] = {"grader": ["models:length", {"function": "small:commas", "route": "answer"}]}
    split(split_config(run, **graders, rule="advantage", warm_start__steps=2))
    found = list(read_rollouts(run))
    assert [(one["round"], one["number"]) for one in found] == [(1 + i // 3, i) for i in range(9)]
    for one in found:
        assert one["context"] and one["prompt"] == WORLD.text(one["context"])
        assert len(one["thoughts"]) == 3
        for thought in one["thoughts"]:
            assert len(thought["answers"]) == 2 and len(thought["tokens"]) == len(thought["logps"]) > 0
            assert thought["text"] == WORLD.text(thought["tokens"])
            assert thought["read"].startswith(f"{one['prompt']} {thought['text']}")
            for answer in thought["answers"]:
                length, commas = (answer["scores"][name] for name in ("models:length", "small:commas"))
                assert length == len(answer["text"]) and commas == -answer["text"].count(",")
                assert answer["score"] == length + commas
    lines = metrics(run)[1:]
    for number, line in enumerate(lines, 1):
        thoughts = [thought for one in found if one["round"] == number for thought in one["thoughts"]]
        scores = [answer["score"] for thought in thoughts for answer in thought["answers"]]
        assert np.mean(scores) == pytest.approx(line["score"])
    weighed = [thought["weight"] for one in found for thought in one["thoughts"]]
    assert any(weighed) and sum(weighed) == pytest.approx(0, abs=1e-6)  # advantages of a question add up to nothing


def test_trackers_are_shown_samples_at_validations_and_at_the_end(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    split(split_config(tmp_path / "run", track="tensorboard", rounds=3, validate_every=2, warm_start__steps=2))
    (file,) = (tmp_path / "run").rglob("events.out.*")
    read = events.EventAccumulator(str(file))
    read.Reload()
    shown = read.Tensors("samples/text_summary")
    assert [one.step for one in shown] == [2, 3] and [one.step for one in read.Scalars("score")] == [1, 2, 3]
    assert [cell.strip() for cell in shown[1].tensor_proto.string_val[0].decode().splitlines()[2].split("|")][1] == "6"


def test_the_reference_of_adapters_is_the_model_that_they_are_on() -> None:
    """No second copy is kept; of a policy with a model of its own there is one, as it was."""
    wanted: list[dict[str, Any]] = [{"objective__kl": 0.1}, {"objective__name": "pair"}]
    for asked in wanted:
        team = fresh_team(split_config(policies="adapters", **asked))
        assert [member.frozen for member in team.members.values()] == [None, None]
        shoggoth, face = (member.policy.model for member in team.members.values())
        assert shoggoth is face
        for member in fresh_team(split_config(**asked)).members.values():
            assert member.frozen is not None and member.frozen.model is not member.policy.model
            assert not any(parameter.grad is not None for parameter in member.frozen.model.parameters())
    assert all(member.frozen is None for member in fresh_team(split_config()).members.values())


def test_the_first_clipped_update_is_that_of_the_weighted_likelihood(tmp_path: Path) -> None:
    """The ratio to what sampling reported is 1: the same gradient, at the same place."""
    options: dict[str, Any] = {"grader": ["models:length"], "rounds": 1, "warm_start__steps": 2, "face_sees": "thought"}
    found = {}
    for name in ("nll", "clipped"):
        split(split_config(tmp_path / name, **options, policies="one", objective__name=name))
        (_, found[name]) = metrics(tmp_path / name)
    assert found["nll"]["score"] == found["clipped"]["score"]
    assert found["clipped"]["shoggoth_grad_norm"] == pytest.approx(found["nll"]["shoggoth_grad_norm"], rel=1e-3)
    assert found["clipped"]["shoggoth_loss"] != pytest.approx(found["nll"]["shoggoth_loss"], rel=1e-2)


@pytest.mark.parametrize("objective", ["nll", "pair"])
def test_a_budget_of_tokens_changes_nothing_but_rounding(tmp_path: Path, objective: str) -> None:
    options: dict[str, Any] = {"objective__name": objective, "objective__kl": 0.1, "rule": "contrastive"}
    options |= {"grader": ["models:length"], "rounds": 2, "warm_start__steps": 3, "optimizer__lr": 1e-3}
    split(split_config(tmp_path / "whole", **options))
    budgets: dict[str, Any] = {"optimizer__tokens_at_once": 60, "warm_start__optimizer__tokens_at_once": 60}
    split(split_config(tmp_path / "parts", **options, **budgets))
    for whole, parts in zip(timeless(tmp_path / "whole"), timeless(tmp_path / "parts"), strict=True):
        assert parts == pytest.approx(whole, rel=1e-3, abs=1e-5)
    for name in ("shoggoth", "face"):
        ours, theirs = weights(tmp_path / "parts" / name), weights(tmp_path / "whole" / name)
        for key in theirs:
            torch.testing.assert_close(ours[key], theirs[key], atol=1e-4, rtol=0)


def test_resumed_after_its_last_checkpoint_a_run_lacks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it had been killed while it wrote its results, and before that at its first look, and in a later round."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    changes: dict[str, Any] = {"warm_start__steps": 5, "allocate": "auto", "objective__kl": 0.1, "rounds": 7}
    changes |= {"grader": ["models:length"], "checkpoint_every": 2, "optimizer__lr": 1e-2}
    split(split_config(whole, **changes))

    def stop(values: dict) -> None:
        if values.get("phase") == "rounds" and values["step"] == stops[0]:
            stops.pop(0)
            raise KeyboardInterrupt

    stops = [0, 6, None]
    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            split(split_config(run, **changes), resume=resume, report=stop)
    assert (run / "rollouts" / "round-000006.parquet").exists()  # and its checkpoint is that of round 4
    with monkeypatch.context() as patched:
        patched.setattr(rounds, "write_evaluation", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            split(split_config(run, **changes), resume=True)
    split(split_config(run, **changes), resume=True)
    names = [sorted(str(path.relative_to(one)) for path in one.rglob("*")) for one in (run, whole)]
    assert names[0] == names[1] and "samples.jsonl" in names[0] and not any(".part" in name for name in names[0])
    assert timeless(run) == timeless(whole) and [line["step"] for line in timeless(run)] == list(range(8))
    assert (run / "samples.jsonl").read_text() == (whole / "samples.jsonl").read_text()
    for file in (whole / "rollouts").iterdir():
        assert (run / "rollouts" / file.name).read_bytes() == file.read_bytes()
    assert [one["number"] for one in read_rollouts(run)] == list(range(7 * 3))  # every question of every round, once
    ours, theirs = (json.loads((one / "eval.json").read_text()) for one in (run, whole))
    assert ours["before"] == theirs["before"] != ours["after"] == theirs["after"]
    assert as_metrics(ours["before"]).items() <= metrics(run)[0].items() and ours["before"]["questions"] == 6
    for name in ("shoggoth", "face"):
        assert same_weights(run / name, whole / name)


def test_rounds_after_the_checkpoint_that_a_run_goes_on_from_are_dropped(tmp_path: Path) -> None:
    """Killed in round 6, with a checkpoint of round 4, and ended by its owner after round 5."""
    options: dict[str, Any] = {"warm_start__steps": 2, "checkpoint_every": 4, "validate_every": 0}

    def stop(values: dict) -> None:
        if values.get("phase") == "rounds" and values["step"] == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        split(split_config(tmp_path, **options, rounds=9), report=stop)
    assert {one["round"] for one in read_rollouts(tmp_path)} == {1, 2, 3, 4, 5, 6}
    split(split_config(tmp_path, **options, rounds=5), resume=True)
    assert [line["step"] for line in metrics(tmp_path)] == [0, 1, 2, 3, 4, 5]
    assert [one["number"] for one in read_rollouts(tmp_path)] == list(range(5 * 3))


STATE: dict[str, Any] = {"step": 2, "seconds": 1, "shape": [3, 2], "recent": [], "before": {}}
DAMAGES = {
    "shape": ("state.json", STATE | {"shape": [3]}, "has the shape"),
    "shape of text": ("state.json", STATE | {"shape": ["3", 2]}, "has the shape"),
    "recent": ("state.json", STATE | {"recent": [[1, 2]]}, "recent variances"),
    "recent NaN": ("state.json", STATE | {"recent": [[1, 2, float("nan")]]}, "recent var"),
    "no recent": ("state.json", {k: v for k, v in STATE.items() if k != "recent"}, "recent variances"),
    "no first look": ("state.json", STATE | {"before": None}, "the first evaluation None"),
    "the face's optimizer": ("face/optimizer.safetensors", "garbage", "optimizer.safetensors cannot be read"),
    "the shoggoth's state": ("shoggoth/state.json", "{", "state.json cannot be read"),
}


def test_a_torn_split_goes_on_from_the_last_whole_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    made = split_config(run, warm_start__steps=2, rounds=2, validate_every=0)
    split(made)
    shutil.copytree(run / "face", tmp_path / "face")
    shutil.copytree(run / "checkpoints", tmp_path / "kept")
    team = team_of(made, warm_policies(made, run / "warm")[0], Accelerator(cpu=True))
    state = json.loads((run / "checkpoints" / "step-000002" / "state.json").read_text())
    assert state["before"]["questions"] == 6 and resumed(run, team.load, lambda: None) == state
    for file, content, says in DAMAGES.values():
        shutil.rmtree(run / "checkpoints")
        shutil.copytree(tmp_path / "kept", run / "checkpoints")
        torn = content if isinstance(content, str) else json.dumps(content)
        (run / "checkpoints" / "step-000002" / file).write_text(torn)
        with pytest.warns(UserWarning, match=rf"step-000002 is torn \(.*{says}"):
            state = resumed(run, team.load, lambda: None)
        assert state and state["step"] == 1
    split(made, resume=True)
    assert same_weights(run / "face", tmp_path / "face")


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[Path]:
    """A run of two rounds."""
    split(split_config(tmp_path / "run", warm_start__steps=2, rounds=2, validate_every=0))
    yield tmp_path / "run"


def going_on(run: Path, **changes: Any) -> SplitConfig:
    return split_config(run, warm_start__steps=2, **{"rounds": 2, "validate_every": 0} | changes)


def test_a_team_that_is_another(ended: Path) -> None:
    with pytest.raises(InputError, match="policies: this run began with 'two', and going on with 'one' would"):
        split(going_on(ended, policies="one"), resume=True)
    with pytest.raises(InputError, match="thoughts: this run began with 3, and going on with 4 would"):
        split(going_on(ended, thoughts=4), resume=True)
    file = ended / "config.yaml"
    written = file.read_text()
    file.write_text(written.replace("policies: two", "policies: one"))  # by hand
    with pytest.raises(InputError, match=r"no whole checkpoint left .*it holds face and shoggoth, not shoggoth"):
        split(going_on(ended, policies="one"), resume=True)
    values = yaml.safe_load(written)
    file.write_text(yaml.safe_dump(values | {"mazes": values["mazes"] | {"sizes": [5]}}))  # cells that nobody knows
    with pytest.raises(InputError, match=r"mazes.sizes: 5 is more than this model knows, which is mazes to 3x3"):
        split(going_on(ended, mazes__sizes=[5]), resume=True)


def test_a_warm_start_that_is_torn(ended: Path) -> None:
    face = ended / "warm" / "face"
    kept = Policy.load(face)
    Policy.build(maze_tokenizer(2), 1, 16, 2).save(face)
    with pytest.raises(InputError, match=r"resume: .*warm does not number this world's tokens as the world does"):
        split(going_on(ended), resume=True)
    kept.save(face)
    (face / "model.safetensors").write_text("garbage")
    with pytest.raises(InputError, match=r"resume: .*warm is torn .* move it away to begin the warm start anew"):
        split(going_on(ended, rounds=3), resume=True)
    shutil.rmtree(face)
    with pytest.raises(InputError, match=r"resume: .*warm is torn .*face is not a folder"):
        split(going_on(ended, rounds=3), resume=True)


def test_a_grader_that_fails_loses_no_finished_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def failing(completions: list[str], **_: Any) -> list[float]:
        calls.append(len(completions))
        if calls.count(18) > 3:  # samples of a round
            raise RuntimeError("no more")
        return [float(i % 3) for i in range(len(completions))]

    monkeypatch.setattr(MazeWorld, "grader", lambda self: failing)
    with pytest.raises(GraderError, match="no more"):
        split(split_config(tmp_path / "run", rounds=9, validate_every=0, warm_start__steps=2))
    checkpoint = latest_checkpoint(tmp_path / "run")
    assert checkpoint is not None and checkpoint.name == "step-000003"
    assert [line["step"] for line in metrics(tmp_path / "run")] == [0, 1, 2, 3]
    assert {one["round"] for one in read_rollouts(tmp_path / "run")} == {1, 2, 3}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rule": "best"}, "rule: 'best'"),
        ({"rule_options": {"peak": 3}}, "rule_options"),
        ({"rule": "nowhere:rule"}, "rule"),
        ({"grader": ["nowhere:f"]}, "grader"),
        ({"questions": 0}, "questions: 0"),
        ({"sampling__top_p": 1.5}, "sampling.top_p: 1.5"),
        ({"sampling__top_k": -1}, "sampling.top_k: -1"),
        ({"warm_start__optimizer__lr": 0.0}, "warm_start.optimizer.lr: 0.0"),
        ({"objective__updates": 0}, "objective.updates: 0"),
        ({"thoughts": 1, "answers": 1}, "nothing to be compared"),
        ({"prompts__file": "nowhere.jsonl"}, "model.folder: prompts need a model folder|nowhere.jsonl cannot be read"),
        ({"mazes__traces": ["dijkstra"]}, "mazes.traces: .*dijkstra"),
        ({"mazes__sizes": [2]}, "world: there is no held-out maze of 2x2 .*, and a split looks at some"),
        ({"world_options": {"digits": 3}}, "world_options: 'mazes' takes none"),
    ],
)
def test_bad_configs_are_named(tmp_path: Path, changes: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        split(split_config(tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("policies", ["one", "adapter"])
def test_validations_of_an_imitation_change_nothing(tmp_path: Path, policies: str) -> None:
    """They are logged, and drawn where no round follows; the weights are those of a run that is not looked at."""
    changes: dict[str, Any] = {"policies": policies, "rounds": 0}
    split(split_config(tmp_path / "blind", **changes))
    split(split_config(tmp_path / "seen", warm_start__validate_every=10, **changes))
    assert same_weights(tmp_path / "seen" / "shoggoth", tmp_path / "blind" / "shoggoth")
    logged = metrics(tmp_path / "seen" / "imitation" / "shoggoth")
    assert [line["step"] for line in logged if "held_out_exact" in line] == [10, 20]
    assert all("held_out_thought_tokens" in line for line in logged[:2])
    assert not any("held_out_exact" in line for line in metrics(tmp_path / "blind" / "imitation" / "shoggoth"))
    assert (tmp_path / "seen" / "plots" / "training.png").is_file()
