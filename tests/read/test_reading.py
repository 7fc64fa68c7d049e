"""What a whole reading refuses, before any of its work: one line that names what would be right."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from clew.errors import InputError
from clew.mazes import maze_tokenizer
from clew.policy import Policy
from clew.read import reading
from clew.read.heads import resample_heads
from clew.read.patching import patch_residual
from clew.read.reading import PARTS, ReadingOptions, Subject, check_reading, read_model
from models import tiny

TOKENIZER = maze_tokenizer(4)
SMALL = ReadingOptions((4, 4), pairs=40, mazes=200)


def policy(**changes: Any) -> Policy:
    return replace(Policy(tiny("llama", len(TOKENIZER)).float(), TOKENIZER), **changes)


def broken() -> Policy:
    found = policy()
    with torch.no_grad():
        list(found.model.parameters())[5].view(-1)[3] = float("nan")
    return found


def of_language() -> Policy:
    words = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "</s>": 2}, unk_token="<unk>"))  # type: ignore[arg-type]
    return policy(tokenizer=PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="</s>"))


@pytest.mark.parametrize(
    ("subject", "parts", "said"),
    [
        (lambda: Subject(policy(), SMALL), ["probe"], "parts: 'probe' is not one of patching, .*; nearest: probes"),
        (lambda: Subject(policy(), SMALL), [], r"parts: \[\] is no list of parts"),
        (lambda: Subject(policy(), SMALL), "probes", "parts: 'probes' is no list of parts"),
        (lambda: Subject(broken(), SMALL), ["patching"], r"model: its weights model\.layers\..* are not all finite"),
        (lambda: Subject(of_language(), SMALL), ["heads"], "tokenizer does not know <ADJLIST_START>; expected one"),
        (lambda: Subject(policy(), replace(SMALL, size=(9, 9))), ["layers"], r"know the maze token \(0,4\)"),
        (lambda: Subject(policy(), replace(SMALL, size=(3, 3))), ["search"], "size, questions: of 200 .* expected 20"),
        (lambda: Subject(policy(), replace(SMALL, mazes=30)), ["probes"], "size, questions: of 30 .* expected 20"),
        (lambda: Subject(policy(), replace(SMALL, mazes=20)), ["steering"], "questions: too few to push by: [0-9] of"),
        (lambda: Subject(policy(), replace(SMALL, mazes=9)), ["layers"], "questions: 9 is not a whole number from 10"),
        (lambda: Subject(policy(), replace(SMALL, pairs=12.5)), ["heads"], "pairs: 12.5 is not a whole number"),
        (lambda: Subject(policy(), replace(SMALL, size=4)), ["heads"], r"size: 4 is not \(rows, columns\)"),
        (lambda: Subject(policy(), replace(SMALL, pairs=9)), ["heads"], "pairs: 9 are too few .* at least 10"),
        (
            lambda: Subject(policy(), replace(SMALL, size=(4, 4), pairs=12, generators=("percolation",), p=0.5)),
            ["heads"],
            "pairs: of 12 there are [0-9] with another of as many tokens, .*; expected at least 10",
        ),
    ],
)
def test_it_is_refused_before_any_work(
    subject: Callable[[], Subject], parts: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PARTS:
        monkeypatch.setitem(reading.PARTS, name, lambda _: pytest.fail("the work has begun"))
    with pytest.raises(InputError, match=said) as error:
        read_model(subject(), parts)
    assert "\n" not in str(error.value)


def test_weights_that_are_no_numbers_and_pairs_that_there_are_none_of_are_refused_by_instruments() -> None:
    whole, half = Subject(policy(), SMALL), broken()
    check_reading(whole, ["heads"])
    for read in (patch_residual, resample_heads):
        with pytest.raises(InputError, match="are not all finite numbers"):
            read(half, whole.pairs)
    with pytest.raises(InputError, match="pairs: 0 are too few"):
        patch_residual(policy(), whole.pairs.take(np.arange(0)))
