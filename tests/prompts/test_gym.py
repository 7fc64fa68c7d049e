"""Tasks of reasoning-gym as a world: which questions, by whom they are graded, and what is refused."""

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clew.config import GymConfig, ModelConfig, PromptConfig
from clew.errors import InputError
from clew.policy import Policy
from clew.prompts.asking import hashed_out
from clew.prompts.gym import GymWorld, entry_of, task_of
from clew.prompts.world import PromptWorld
from clew.train.config import SplitConfig
from clew.train.rounds import split
from clew.world import Question, world_of
from texts import TEMPLATE, bpe_tokenizer

pytest.importorskip("reasoning_gym")
WORDS = {"name": "spell_backward", "min_word_len": 3, "max_word_len": 8}


def gym(*tasks: Any, **options: Any) -> GymWorld:
    return GymWorld(tasks, bpe_tokenizer(TEMPLATE), **options)


def scores(world: GymWorld, questions: list[Question], answers: list[str]) -> list[float]:
    columns = {name: [question.columns[name] for question in questions] for name in questions[0].columns}
    prompts = [question.prompt for question in questions]
    return world.grader()(prompts=prompts, completions=answers, **columns)


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        (
            ["letter_countin"],
            "'letter_countin' is no task of .* nearest are letter_counting, leg_counting, letter_j",
        ),
        ([{"nam": "chain_sum"}], "None is no task of reasoning-gym; the nearest are"),
        (["composite"], "'composite' is no task"),
        (
            [{"name": "chain_sum", "min_term": 3}],
            "chain_sum: 'min_term' is no option of it; the nearest are min_terms,",
        ),
        ([{"name": "chain_sum", "seed": 3}], "chain_sum: 'seed' is no option"),
        ([{"name": "chain_sum", "min_terms": "a"}], r"chain_sum does not take .'min_terms': 'a'.: TypeError"),
        (
            [{"name": "chain_sum", "min_terms": 9}],
            "chain_sum does not take .*: AssertionError: max_terms must be >= min",
        ),
        ([{"name": "chain_sum", "weight": 0}], "chain_sum: weight: 0 is not more than 0"),
        ([{"name": "chain_sum", "weight": "2"}], "chain_sum: weight: '2' is not"),
        ([{"name": "chain_sum", "answer_tag": "<a>"}], "chain_sum: answer_tag: '<a>' is no name of a tag"),
        (["chain_sum", "chain_sum"], r"names \['chain_sum'\] of 2; .* each once"),
        ([], r"names \[\] of 0; at least one"),
    ],
)
def test_what_is_no_task_is_named(tasks: list[Any], says: str) -> None:
    with pytest.raises(InputError, match=f"^gym.tasks: {says}") as caught:
        gym(*tasks)
    assert "\n" not in str(caught.value)


def test_question_i_is_the_same_whoever_asks() -> None:
    """And others by another seed; what is held out is by no seed trained on."""
    world, again = gym(WORDS), gym(WORDS)
    first = world.questions(range(200))
    assert again.questions([150, 7]) == [first[150], first[7]]
    trained = {one.prompt for seed in range(3) for one in gym(WORDS, seed=seed).questions(range(200))}
    assert len({one.prompt for one in first}) < len(trained)  # others by other seeds
    held_out = world.held_out(range(60)) + world.held_out(range(60), "validation") + world.held_out(range(60), seed=3)
    assert all(one.held_out for one in held_out) and not any(one.held_out for one in first)
    assert not trained & {one.prompt for one in held_out}
    assert all(hashed_out(one.prompt) for one in held_out) and not any(map(hashed_out, trained))
    assert world.held_out(range(9)) == again.held_out(range(9)) != world.held_out(range(9), "validation")


def test_the_same_texts_as_prompts_of_a_file_are_held_out() -> None:
    world = gym(WORDS)
    both = world.questions(range(40)) + world.held_out(range(10))
    file = PromptWorld([{"prompt": one.prompt} for one in both], bpe_tokenizer(TEMPLATE))
    assert {one.prompt for one in file.held_out(range(99))} == {one.prompt for one in both if one.held_out}
    assert file.questions([0])[0].tokens == both[0].tokens


def test_tasks_are_mixed_by_weight_and_told_apart() -> None:
    world = gym({"name": "chain_sum", "weight": 3}, "letter_counting")
    asked = world.questions(range(400))
    assert {one.labels["task"] for one in asked} == {"chain_sum", "letter_counting"}
    assert 0.68 < sum(one.labels["task"] == "chain_sum" for one in asked) / 400 < 0.82
    right = [one.columns["answer"] for one in asked]
    assert scores(world, asked, right) == [1.0] * 400
    assert max(scores(world, asked, ["nothing"] * 400)) < 1
    assert world.measure(asked[0], "hm", right[0]) == {"solved": True}
    assert world.measure(asked[0], None, "nothing") == {"solved": False}


@pytest.mark.parametrize("task", ["basic_arithmetic", "rubiks_cube", "graph_color", "list_functions", "pool_matrix"])
def test_verifiers_get_the_very_entry_and_nobody_s_dice_move(task: str) -> None:
    """Of tasks with one right answer and with many, and of such as throw Python's or NumPy's own dice."""
    random.seed(1), np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    made = gym(task)
    asked = made.questions(range(3))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[union-attr]
    random.seed(2)
    for one in asked:
        index = one.columns["index"]
        first, again = (entry_of(task_of(task), index) for _ in range(2))
        assert first["question"] == again["question"] == one.prompt and first["answer"] == again["answer"]
    given = scores(made, asked, ["[[", "None", ""])
    assert all(0 <= score < 1 for score in given)


def test_a_verifier_that_falls_over_an_answer_gives_it_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = gym(WORDS)
    asked = world.questions([0])

    def falls(answer: str, entry: Any) -> float:
        raise ValueError(answer)

    monkeypatch.setattr(world.tasks["spell_backward"].data, "score_answer", falls)
    assert scores(world, asked, ["x"]) == [0.0]


def test_an_answer_may_stand_in_a_tag() -> None:
    """By a task's own option, or for all of them."""
    for world in (gym(WORDS | {"answer_tag": "answer"}), gym(WORDS, answer_tag="answer")):
        asked = world.questions([0, 1])
        right = asked[0].columns["answer"]
        assert scores(world, asked, [f"so it is <answer> {right} </answer>", right]) == [1.0, 0.0]
    assert scores(gym(WORDS), asked[:1], [f" {right}\n"]) == [1.0]


def test_a_task_with_few_questions_says_so_and_asks_each_held_out_one_once() -> None:
    world = gym({"name": "acre", "size": 60})
    [line] = world.notes()
    assert line == "acre has only about 60 different questions"
    count = world.held_out_count()
    assert count is not None and 1 <= count < 20
    assert len({one.prompt for one in world.held_out(range(count))}) == count
    assert world.held_out(range(count)) != world.held_out(range(count), "validation")
    many = gym(WORDS | {"min_word_len": 7, "max_word_len": 7}, {"name": "chain_sum", "min_digits": 4})
    assert many.held_out_count() is None and not any("chain_sum" in line for line in many.notes())
    short = gym(WORDS | {"min_word_len": 3, "max_word_len": 3})
    assert (few := short.held_out_count()) and len({one.prompt for one in short.held_out(range(few))}) == few


def test_a_task_that_goes_by_the_hash_seed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    assert gym("ransom_note").notes() == ["ransom_note asks the same questions again only with PYTHONHASHSEED set"]
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert gym("ransom_note").notes() == []


def test_a_task_of_which_nothing_is_held_out_is_refused_where_it_is_evaluated() -> None:
    world = gym({"name": "acre", "size": 1})
    assert world.held_out_count() == 0 and "no held-out question of acre" in world.not_evaluated()


def with_model(tmp_path: Path, **changes: Any) -> SplitConfig:
    Policy.build(bpe_tokenizer(TEMPLATE), layers=1, width=16, heads=2).save(tmp_path / "model")
    config = SplitConfig(
        gym=GymConfig(["chain_sum", {"name": "letter_counting", "max_words": 5}]),
        prompts=PromptConfig(demonstrations="gym_thoughts:sums"),
        model=ModelConfig(str(tmp_path / "model")),
        rounds=1,
        questions=2,
        thoughts=2,
        answers=2,
        max_thought=6,
        max_answer=5,
        final_questions=12,
        validate_every=0,
        checkpoint_every=0,
        out=str(tmp_path / "run"),
    )
    config.warm_start.steps, config.warm_start.per_step = 2, 2
    for name, value in changes.items():
        setattr(config, name, value)
    return config


def test_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm start on demonstrations that a function writes, a round, and a report by task."""
    (tmp_path / "gym_thoughts.py").write_text(
        "def sums(prompt, task, answer, **_):\n    return ('hm', answer) if task == 'chain_sum' else None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    told: list[dict[str, Any]] = []
    result = split(with_model(tmp_path), report=told.append)
    assert set(result["after"]["by_task"]) == {"chain_sum", "letter_counting"}
    assert {"score", "solved"} <= set(result["after"]) and result["held_out"].startswith("questions whose text")
    assert any(one.get("phase") == "warm start, face" and one["loss"] > 0 for one in told)
    sys.modules.pop("gym_thoughts", None)


def test_the_world_is_named_by_its_tasks(tmp_path: Path) -> None:
    config = with_model(tmp_path, prompts=PromptConfig())
    assert isinstance(world_of(config, 0, bpe_tokenizer()), GymWorld)
    with pytest.raises(InputError, match=r"model.folder: tasks of reasoning-gym need a model folder"):
        world_of(config, 0)
    config.world = "mazes"
    with pytest.raises(InputError, match="world: 'mazes' asks no tasks of reasoning-gym; leave out --gym"):
        world_of(config, 0)
    config.world, config.prompts = None, PromptConfig(file="p.jsonl")
    with pytest.raises(InputError, match="world: 'prompts' asks no tasks"):
        world_of(config, 0)


def test_without_reasoning_gym_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(InputError, match=r'world: reasoning_gym needs reasoning-gym: pip install "clew-spans\[gym\]"'):
        gym(WORDS)
