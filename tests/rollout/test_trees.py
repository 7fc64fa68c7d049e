"""Training trees: each completion once, with its weight, behind the very context that it was written in."""

from typing import Any

import numpy as np
import pytest

from clew.rollout.trees import training_batch, training_trees
from clew.rollout.types import Completion, Context
from clew.tree import ROLES, SpanTree, TreeBatch, only, pruned, spans_of

PROMPT = Context([1, 2], "prompt")


def wrote(context: Context, *tokens: int, role: Any = "answer") -> Completion:
    return Completion(context, role, list(tokens), [-0.5 * token for token in tokens], "stop")


THOUGHTS = [wrote(PROMPT, 3, 4, role="thought"), wrote(PROMPT, 5, role="thought")]


def plain(tree: SpanTree) -> Any:
    """A tree as (role, tokens, weight, children)."""
    weight = tree.weight if isinstance(tree.weight, float) else tuple(tree.weights())
    return tree.role, list(tree.tokens), weight, [plain(child) for child in tree.children]


def test_a_thought_read_as_it_was_written_is_the_context_of_its_answers() -> None:
    read = THOUGHTS[0].as_read()
    answers = [wrote(read, 6), wrote(read, 7)]
    weighted = [(THOUGHTS[0], 0.5), (answers[0], 1.0), (answers[1], -1.0), (THOUGHTS[1], -0.5)]
    below = [("answer", [6], 1.0, []), ("answer", [7], -1.0, [])]
    wanted = ("prompt", [1, 2], 0.0, [("thought", [3, 4], 0.5, below), ("thought", [5], -0.5, [])])
    assert [plain(tree) for tree in training_trees(weighted)] == [wanted]
    (tree,) = training_trees(weighted[1:3])  # the face alone: the thought is read, and not learnt
    assert plain(tree) == ("prompt", [1, 2], 0.0, [("thought", [3, 4], 0.0, below)])
    assert tree.children[0].logps is None and tree.children[0].children[0].logps == [-3.0]


def test_what_comes_first_does_not_matter() -> None:
    """Answers that are told of before their thought stand behind it all the same, and it has its weight once."""
    answer = wrote(THOUGHTS[0].as_read(), 6)
    other = wrote(THOUGHTS[0].as_read(), 7)  # by another object of the same completion
    both = [(answer, 1.0), (THOUGHTS[0], 0.5), (other, 2.0)]
    wanted = ("thought", [3, 4], 0.5, [("answer", [6], 1.0, []), ("answer", [7], 2.0, [])])
    assert [plain(tree) for tree in training_trees(both)] == [("prompt", [1, 2], 0.0, [wanted])]


def test_a_thought_read_in_another_form_stands_beside_what_was_read() -> None:
    copied = Context([3, 4], "thought", PROMPT)
    alone = Context([3, 4], "thought")
    answers = [wrote(copied, 6), wrote(alone, 7)]
    told = [(THOUGHTS[0], 0.5), (answers[0], 1.0), (answers[1], 1.0)]
    beside = [("thought", [3, 4], 0.5, []), ("thought", [3, 4], 0.0, [("answer", [6], 1.0, [])])]
    second = ("thought", [3, 4], 0.0, [("answer", [7], 1.0, [])])
    assert [plain(tree) for tree in training_trees(told)] == [("prompt", [1, 2], 0.0, beside), second]


def test_a_closing_that_nobody_wrote_is_read_and_not_learnt() -> None:
    closed = Context([9], "prompt", before=THOUGHTS[0].as_read())
    (tree,) = training_trees([(THOUGHTS[0], 1.0), (wrote(closed, 6), 1.0)])
    (thought,) = tree.children
    assert plain(thought) == ("thought", [3, 4], 1.0, [("prompt", [9], 0.0, [("answer", [6], 1.0, [])])])
    batch = training_batch([(THOUGHTS[0], 1.0), (wrote(closed, 6), 1.0)], 0)
    assert batch is not None and batch.targets_S.tolist() == [3, 4, 6]


def test_branches_without_weight_are_left_out_and_nothing_makes_no_batch() -> None:
    answer = wrote(THOUGHTS[0].as_read(), 6)
    (tree,) = training_trees([(THOUGHTS[0], 0.0), (answer, 0.0), (THOUGHTS[1], 1.0)])
    assert plain(tree) == ("prompt", [1, 2], 0.0, [("thought", [5], 1.0, [])])
    assert training_trees([(THOUGHTS[0], 0.0), (answer, 0.0)]) == [] == training_trees([])
    assert training_batch([(answer, 0.0)], 0) is None and training_batch([], 0) is None


def test_a_batch_knows_what_sampling_said_and_whose_tokens_they_are() -> None:
    read = THOUGHTS[0].as_read()
    batch = training_batch([(THOUGHTS[0], 0.5), (wrote(read, 6, 7), -1.0), (THOUGHTS[1], 0.25)], 0)
    assert batch is not None and batch.sampled_nll_S is not None and batch.roles_S is not None
    assert batch.targets_S.tolist() == [3, 4, 6, 7, 5]
    assert batch.weights_S.tolist() == [0.5, 0.5, -1.0, -1.0, 0.25]
    assert batch.sampled_nll_S.tolist() == [1.5, 2.0, 3.0, 3.5, 2.5]
    assert [ROLES[role] for role in batch.roles_S.tolist()] == ["thought"] * 2 + ["answer"] * 2 + ["thought"]


def test_a_chain_of_any_length_takes_no_stack() -> None:
    context = PROMPT
    for _ in range(5000):
        context = wrote(context, 3, role="thought").as_read()
    batch = training_batch([(wrote(context, 6), 1.0)], 0)
    assert batch is not None and batch.tokens_BT.numel() == 5003


@pytest.mark.parametrize("seed", range(20))
def test_any_rollouts_make_rows_of_context_and_completion(seed: int) -> None:
    """Whatever is read of whom, and in whatever order it is told: rows, weights and log-probabilities."""
    dice = np.random.default_rng(seed)
    contexts, written = [Context([1, 2], "prompt"), Context([3], "prompt")], []
    for number in range(12):
        context = contexts[dice.integers(len(contexts))]
        tokens = dice.integers(1, 9, dice.integers(1, 4)).tolist()
        written.append((wrote(context, *tokens), float(dice.integers(-2, 3))))
        forms = [written[-1][0].as_read(), Context(tokens, "thought"), Context(tokens, "thought", context)]
        contexts.append(forms[dice.integers(3)] if number % 2 else Context([9], "prompt", forms[0]))
    dice.shuffle(written)
    trees = training_trees(written)
    found = sorted(_rows(TreeBatch.pack(trees, 0)))
    wanted = [
        ([*one.context.ids(), *one.tokens[: i + 1]], weight, -logp)
        for one, weight in written
        for i, logp in enumerate(one.logps)
        if weight
    ]
    assert found == sorted(wanted) and len(wanted) > 8


def _rows(batch: TreeBatch) -> list[tuple[list[int], float, float]]:
    from small import rows_of

    assert batch.sampled_nll_S is not None
    both = zip(rows_of(batch), batch.sampled_nll_S.tolist(), strict=True)
    return [(row, weight, nll) for (row, weight), nll in both]


def test_tree_tools() -> None:
    answers = [SpanTree([3], "answer", 0.0), SpanTree([4], "answer", -1.0)]
    thoughts = [
        SpanTree([2], "thought", 1.0, answers),
        SpanTree([5], "thought", 0.0, [SpanTree([6], "answer", 0.0)]),
    ]
    tree = SpanTree([1], "prompt", 0.0, thoughts)
    left = pruned(tree)
    assert left and len(left.children) == 1 and [child.tokens for child in left.children[0].children] == [[4]]
    kept = pruned(only(tree, "thought"))
    assert kept and kept.children[0].children == []
    assert pruned(only(tree, "prompt")) is None
    assert [span.tokens for span in spans_of(tree, "thought")] == [[2], [5]]
