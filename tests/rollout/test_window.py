"""What leaves a thought and an answer no room is refused in a line, before there is a run folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from clew.config import ModelConfig, PromptConfig
from clew.errors import InputError
from clew.policy import Policy
from clew.rollout.window import check_room, window_of
from clew.train.config import SplitConfig, TrainConfig
from clew.train.evaluate import Reasoner
from clew.train.opening import opened
from clew.train.rounds import split
from clew.train.supervised import train
from clew.world import Question
from small import changed
from texts import bpe_tokenizer


def policy(window: int, kind: str = "llama") -> Policy:
    tokenizer = bpe_tokenizer()
    torch.manual_seed(0)
    if kind == "gpt2":
        return Policy(
            GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_positions=window, n_embd=16, n_layer=1, n_head=2)),
            tokenizer,
        )
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    shape: dict[str, Any] = sizes | {"vocab_size": len(tokenizer), "max_position_embeddings": window}
    return Policy(LlamaForCausalLM(LlamaConfig(**shape)), tokenizer)


def question(prompt: int, thought: int = 10, answer: int = 5, **others: Any) -> Question:
    return Question("why?", [3] * prompt, thought, answer, **others)


def test_the_window_is_what_the_models_say() -> None:
    assert window_of(policy(64)) == 64 and window_of(policy(64), policy(48, "gpt2")) == 48
    nameless = policy(64)
    nameless.model.config.max_position_embeddings = -1  # as models say that have no such limit
    assert window_of(nameless) is None
    check_room([question(10**6)], None, 4)


@pytest.mark.parametrize(
    ("asked", "thought_end", "says"),
    [
        (
            question(46),
            4,
            "'why\\?': 46 .* max_thought 10 . 4 to end it . max_answer 5 .* max_thought 9 would",
        ),
        (question(58, place="row 3"), 4, "row 3: 58 tokens .*; max_thought . max_answer of 2 would fit"),
        (question(60), 4, "; no thought and answer would fit"),
        (question(64), 4, "its prompt has 64 tokens, and the model's window 64"),
        (question(60), None, "60 tokens of prompt . max_answer 5 .*; the longest prompt that fits has 59 tokens"),
    ],
)
def test_what_does_not_fit_says_what_would(asked: Question, thought_end: int | None, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        check_room([question(9), asked], 64, thought_end)
    assert "\n" not in str(caught.value)


def test_what_fits_is_let_through() -> None:
    check_room([question(45)], 64, 4)
    check_room([question(59)], 64)
    check_room([question(50)], 64, 4, "thought")  # the face does not read the prompt
    with pytest.raises(InputError):
        check_room([question(51)], 64, 4, "thought")


def config(kind: type, tmp_path: Path, window: int, model: str, **changes: Any) -> Any:
    policy(window, model).save(tmp_path / "model")
    rows = [{"prompt": f"what is {i}" + " plus two" * 9 * (i == 7)} for i in range(20)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = {"prompt": "so", "thought": "", "answer": "yes"}
    (tmp_path / "shown.jsonl").write_text(json.dumps(shown) + "\n")
    own = PromptConfig(str(tmp_path / "prompts.jsonl"), demonstrations=str(tmp_path / "shown.jsonl"))
    made = kind(prompts=own, model=ModelConfig(str(tmp_path / "model")), out=str(tmp_path / "run"))
    return changed(made, {"final_questions": 2, "validation_questions": 2, "optimizer__warmup": 1, **changes})


@pytest.mark.parametrize("model", ["llama", "gpt2"])
def test_before_work_every_row_is_looked_at(tmp_path: Path, model: str) -> None:
    """By both loops, and where a model is opened again."""
    limits = {"grader": ["small:commas"], "max_thought": 8, "max_answer": 8, "warm_start__steps": 0, "rounds": 0}
    line = r"prompts.jsonl line 8: \d+ tokens of prompt \+ max_thought 8 .* window of 40; max_thought \d would fit"
    with pytest.raises(InputError, match=line):
        split(config(SplitConfig, tmp_path, 40, model, **limits))
    with pytest.raises(InputError, match=r"prompts.jsonl line \d+: \d+ tokens of prompt \+ max_answer 128 are more"):
        train(config(TrainConfig, tmp_path, 128, model, steps=1))
    with pytest.raises(InputError, match=r"prompts.jsonl line \d+: .* max_answer 128 are more"):
        opened(tmp_path / "model", config(TrainConfig, tmp_path, 128, model))
    assert not (tmp_path / "run").exists()


def test_a_round_s_questions_are_looked_at_before_anything_is_sampled() -> None:
    class Sampler:
        def sync(self, policy: Any) -> None: ...

        def sample(self, *_: Any) -> Any:
            raise AssertionError("sampled")

    from toy import Sorting

    reasoner = Reasoner(Sampler(), Sampler(), max_thought=9, max_answer=9, window=16)
    with pytest.raises(InputError, match=r"max_thought 9 . 1 to end it . max_answer 9 are more than .* of 16"):
        reasoner.rollouts(Sorting(), Sorting().questions([0]), (2, 2))
