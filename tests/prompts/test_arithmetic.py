"""Equations in thoughts: held against Python's own sums, and made wrong one at a time."""

import random

import numpy as np
import pytest

from clew.prompts.arithmetic import last_total, true_equations, with_false_equation


def test_sums_are_pythons() -> None:
    dice = random.Random(0)
    for _ in range(500):
        left = str(dice.randint(-99, 99))
        for _ in range(dice.randint(1, 5)):
            left += dice.choice([" + ", "+", " - ", "-"]) + str(dice.randint(-99, 99))
        total, off = eval(left), dice.randint(1, 9)
        assert true_equations(f"so {left} = {total}, and {left}={total + off}.") == [True, False], left
        assert last_total(f"{left}={total}") == str(total)


def test_what_is_no_equation_is_passed_over() -> None:
    for text in ("", "12", "x=3", "=5", "3+=2", "1 = 1", "9" * 5000 + "+1=2", "1+1=" + "9" * 5000, "\x1b[2J+=="):
        assert true_equations(text) == [] and last_total(text) is None
        assert with_false_equation(text, np.random.default_rng(0)) is None
    assert true_equations("2+2=5") == [False] and with_false_equation("2+2=5", np.random.default_rng(0)) is None


def test_one_equation_is_made_wrong_and_the_text_is_cut_behind_it() -> None:
    text, cuts = "12+34=46, 46-5=41, 41+1=42", set()
    for seed in range(30):
        made = with_false_equation(text, np.random.default_rng(seed))
        assert made is not None
        before, after = made
        number = before.count("=") - 1
        assert true_equations(before + after) == [i != number for i in range(3)]
        assert text.endswith(after) and before.startswith(text[: text.index("=")])
        cuts.add(number)
    assert cuts == {0, 1, 2}


def test_a_gym_world_reads_thoughts_in_its_tokens() -> None:
    pytest.importorskip("reasoning_gym")
    from clew.prompts.gym import GymWorld
    from texts import bpe_tokenizer

    world = GymWorld(["chain_sum", "spell_backward"], bpe_tokenizer(), max_answer=8)
    asked = {question.columns["task"]: question for question in world.questions(range(20))}
    sums, other = asked["chain_sum"], asked["spell_backward"]
    tokens = world._ids("12+34=46, 46-5=41")
    assert world.thought_steps(sums, tokens) == [True, True] and world.thought_answer(sums, tokens) == "41"
    assert world.thought_answer(other, tokens) is None and world.thought_steps(other, world._ids("a b c")) == []
    made = world.corrupted(sums, tokens, np.random.default_rng(0))
    assert made is not None
    wrong, end = made
    assert world.thought_steps(sums, wrong).count(False) == 1 == world.thought_steps(sums, wrong[:end]).count(False)
    right = world.right_answer(sums)
    assert right is not None and world.measure(sums, None, world.text(right)) == {"solved": True}
    assert world.text(world.filler(4)) and len(world.filler(4)) == 4
