"""Whether a question, its thought and its answer fit into the window of positions that a model has."""

from collections.abc import Iterable

from clew.errors import InputError
from clew.policy import Policy
from clew.rollout.stages import FaceSees
from clew.text import show
from clew.world import Question


def window_of(*policies: Policy) -> int | None:
    """The positions that all of some policies have; None where none says how many."""
    known = [
        getattr(policy.model.config.get_text_config(), "max_position_embeddings", None)  # GPT-2 calls it n_positions
        for policy in policies
    ]
    return min((most for most in known if isinstance(most, int) and most > 0), default=None)


def check_room(
    questions: Iterable[Question],
    window: int | None,
    thought_end: int | None = None,
    face_sees: FaceSees = "prompt+thought",
) -> None:
    """InputError for the first question that leaves no room for its thought and answer, with what would fit.

    thought_end: tokens put behind a thought that did not end by itself; None where answers come without a thought.
    """
    for question in questions if window is not None else ():
        assert window is not None
        prompt, answer, before = len(question.tokens), question.max_answer, 0
        if thought_end is not None:
            before = question.max_thought + thought_end
        read = prompt + before if face_sees == "prompt+thought" else max(prompt, before)
        if max(prompt + before, read + answer) <= window:
            continue
        where = question.place or f"the prompt {show(question.prompt)}"
        if prompt >= window:
            raise InputError(f"{where}: its prompt has {prompt:,} tokens, and the model's window {window:,}")
        thought = "" if thought_end is None else f"max_thought {question.max_thought:,} + {thought_end} to end it + "
        raise InputError(
            f"{where}: {prompt:,} tokens of prompt + {thought}max_answer {answer:,} are more than the model's window "
            f"of {window:,}; {_fitting(question, window, thought_end)}"
        )


def _fitting(question: Question, window: int, thought_end: int | None) -> str:
    """Limits that would fit, by the option that sets them."""
    left = window - len(question.tokens)
    if thought_end is None:
        return f"the longest prompt that fits has {max(0, window - question.max_answer):,} tokens"
    thought = left - thought_end - question.max_answer
    if thought > 0:
        return f"max_thought {thought:,} would fit"
    both = left - thought_end
    return f"max_thought + max_answer of {both:,} would fit" if both > 1 else "no thought and answer would fit"
