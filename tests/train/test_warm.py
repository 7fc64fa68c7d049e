"""Where two policies begin: what is imitated, and a warm start that is stopped and goes on."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from clew.errors import InputError
from clew.mazes.vocab import PATH_START, THOUGHT_END, THOUGHT_START
from clew.train import warm
from clew.train.config import SplitConfig
from clew.train.rounds import split
from clew.tree import SpanTree
from small import WORLD, metrics, same_weights, split_config

TREE = SpanTree(
    [1],
    "prompt",
    0.0,
    [
        SpanTree([2], "thought", 1.0, [SpanTree([3], "answer", 1.0), SpanTree([4], "answer", 1.0)]),
        SpanTree([5], "thought", 1.0, [SpanTree([6], "answer", 1.0)]),
    ],
)


def weighed(tree: SpanTree, before: tuple[int, ...] = ()) -> list[tuple[tuple[int, ...], float]]:
    """Each span with what stands before it, and its weight."""
    way = (*before, *tree.tokens)
    return [(way, float(tree.weights()[0])), *(one for child in tree.children for one in weighed(child, way))]


def test_a_demonstration_as_each_policy_reads_it() -> None:
    def read(*roles: Any, face_sees: Any) -> list[list[tuple[tuple[int, ...], float]]]:
        return [weighed(tree) for tree in warm.as_read(TREE, roles, face_sees)]

    thoughts = [[((1,), 0.0), ((1, 2), 1.0), ((1, 5), 1.0)]]
    both = [((1,), 0.0), ((1, 2), 1.0), ((1, 2, 3), 1.0), ((1, 2, 4), 1.0), ((1, 5), 1.0), ((1, 5, 6), 1.0)]
    answers = [(way, weight if len(way) == 3 else 0.0) for way, weight in both]
    alone = [[((2,), 0.0), ((2, 3), 1.0), ((2, 4), 1.0)], [((5,), 0.0), ((5, 6), 1.0)]]
    for face_sees in ("prompt+thought", "thought"):
        assert read("thought", face_sees=face_sees) == thoughts
    assert read("answer", face_sees="prompt+thought") == [answers]
    assert read("thought", "answer", face_sees="prompt+thought") == [both]
    assert read("answer", face_sees="thought") == alone
    assert read("thought", "answer", face_sees="thought") == [*thoughts, *alone]


def test_demonstrations_are_prompt_thought_answer() -> None:
    trees = WORLD.demonstrations([0, 5])
    assert len(trees) == 2
    for tree in trees:
        assert len(tree.children) == WORLD.config.branches
        for question in tree.children:
            (thought,) = question.children
            (answer,) = thought.children
            assert (thought.tokens[0], thought.tokens[-1]) == (THOUGHT_START, THOUGHT_END)
            assert answer.tokens[0] == PATH_START and answer.weight == thought.weight == 1.0


def short(out: Path, **changes: Any) -> SplitConfig:
    options: dict[str, Any] = {"warm_start__steps": 30, "warm_start__per_step": 2, "rounds": 0}
    return split_config(out, **options | {"validation_questions": 4, "final_questions": 4} | changes)


@pytest.mark.parametrize("policies", ["two", "adapters", "one"])
def test_imitation_learns(tmp_path: Path, policies: str) -> None:
    split(short(tmp_path, policies=policies, face_sees="thought", warm_start__optimizer__warmup=3))
    names = ("shoggoth", "face") if policies == "two" else ("shoggoth",)
    assert sorted(path.name for path in (tmp_path / "warm").iterdir()) == sorted(names)
    for name in names:
        losses = [line["loss"] for line in metrics(tmp_path / "imitation" / name)]
        assert len(losses) == 3 and losses[-1] < 0.9 * losses[0]


def test_no_steps_leave_the_policies_as_they_were(tmp_path: Path) -> None:
    split(short(tmp_path / "first", warm_start__steps=3))
    begun = {"model__folder": str(tmp_path / "first" / "warm"), "warm_start__steps": 0}
    split(short(tmp_path / "second", **begun))
    for name in ("shoggoth", "face"):
        assert same_weights(tmp_path / "second" / "warm" / name, tmp_path / "first" / "warm" / name)
    assert not same_weights(tmp_path / "first" / "warm" / "face", tmp_path / "first" / "warm" / "shoggoth")


def test_an_interrupted_warm_start_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "KEEP_EVERY", 10)
    run, whole = tmp_path / "stopped", tmp_path / "whole"
    split(short(whole))
    for number, (policy, step) in enumerate((("shoggoth", 20), ("face", 10), ("face", 30))):

        def stop(values: dict, policy: str = policy, step: int = step) -> None:
            if values.get("phase") == f"warm start, {policy}" and values["step"] == step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            split(short(run), resume=number > 0, report=stop)
        assert not (run / "warm").exists()
    kept = run / "imitation" / "face" / "checkpoints"
    assert sorted(path.name for path in kept.iterdir()) == ["step-000010", "step-000020"]
    shutil.copytree(kept, tmp_path / "kept")
    state = (kept / "step-000020" / "state.json").read_text()
    for content in ("", "{}", state.replace('"step": 20', '"step": 2000')):
        for name in ("step-000010", "step-000020"):
            (kept / name / "state.json").write_text(content)
        with pytest.raises(InputError, match=r"face has no whole checkpoint left to go on from; step-0000.0 is torn"):
            split(short(run), resume=True)
        shutil.rmtree(kept)
        shutil.copytree(tmp_path / "kept", kept)
    (kept / "step-000020" / "optimizer.safetensors").write_text("garbage")
    with pytest.warns(UserWarning, match="step-000020 is torn .* goes on from step-000010"):
        split(short(run), resume=True)
    for name in ("shoggoth", "face"):
        assert same_weights(run / "warm" / name, whole / "warm" / name)
        assert not (run / "imitation" / name / "checkpoints").exists()
        steps = [[line["step"] for line in metrics(one / "imitation" / name)] for one in (run, whole)]
        assert steps[0] == steps[1] == [10, 20, 30]
