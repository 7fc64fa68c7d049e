"""Contexts as chains: what is read, and who wrote it."""

from clew.rollout.types import Completion, Context

PROMPT = Context([5, 6, 7], "prompt")


def test_a_context_is_all_that_is_read() -> None:
    thought = Context([8, 9], "thought", before=PROMPT)
    assert thought.ids() == [5, 6, 7, 8, 9] and thought.chain() == [PROMPT, thought]
    assert PROMPT.ids() == [5, 6, 7] and PROMPT.chain() == [PROMPT]


def test_contexts_are_one_only_where_they_are_the_same_object() -> None:
    assert Context([5, 6, 7], "prompt") != PROMPT and len({PROMPT, Context([5, 6, 7], "prompt"), PROMPT}) == 2


def test_a_completion_as_the_context_of_what_comes_after_it() -> None:
    wrote = Completion(PROMPT, "thought", [8, 9], [-0.2, -0.01], "stop")
    read = wrote.as_read()
    assert read.written is wrote and read.before is PROMPT and read.ids() == [5, 6, 7, 8, 9]
    assert wrote.ended and not Completion(PROMPT, "thought", [8], [-0.2], "length").ended
