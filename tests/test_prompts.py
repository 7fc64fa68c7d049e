"""A user's own prompts: another tokenizer, chat template, grader and delimiters, end to end on a tiny random model."""

import json
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from clew import split as loop
from clew.config import SplitConfig
from clew.errors import InputError
from clew.policy import Policy
from clew.prompts import PromptWorld, read_rows

TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}[assistant] "


def bpe_tokenizer(template: str | None = None) -> PreTrainedTokenizerFast:
    """A byte-level BPE learnt from a few sentences: `</think>` is several tokens to it."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    from tokenizers import decoders

    words.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<pad>", "<eos>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    words.train_from_iterator(["what is two plus two", "say it in <think> and </think>"] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")
    tokenizer.chat_template = template
    return tokenizer


def rows(n: int = 12) -> list[dict]:
    return [{"prompt": f"what is {i} plus two", "want": str(i + 2)} for i in range(n)]


@pytest.mark.parametrize("template", [None, TEMPLATE])
def test_end_to_end(tmp_path: Path, template: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    Policy.build(bpe_tokenizer(template), layers=1, width=16, heads=2).save(tmp_path / "model")
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    (tmp_path / "prompt_graders.py").write_text(
        "def vowels(completions, want, **_):\n    return [float(sum(c in 'aeiou' for c in t)) for t in completions]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "run"
    result = loop.split(SplitConfig(
        prompts=str(tmp_path / "prompts.jsonl"), model=str(tmp_path / "model"), grader=["prompt_graders:vowels"],
        rounds=2, questions=2, thoughts=2, answers=2, max_thought=6, max_answer=5, eval_questions=2, final_questions=2,
        out=str(out),
    ))  # fmt: skip
    assert result["after"]["mazes"] == 2
    tree = json.loads((out / "samples.jsonl").read_text().splitlines()[0])
    assert tree["prompt"].startswith("what is") and len(tree["thoughts"]) == 2
    sys.modules.pop("prompt_graders", None)


def test_delimiters_template_and_held_out() -> None:
    world = PromptWorld(rows(), bpe_tokenizer(TEMPLATE))
    asked = world.ask([0])[0]
    text = world.text(asked.tokens)
    assert text.startswith("[user] what is") and text.endswith("[assistant] <think>")
    assert asked.columns == {"want": asked.prompt.split()[2] and str(int(asked.prompt.split()[2]) + 2)}
    train = {one.prompt for one in world.ask(range(50))}
    held_out = {one.prompt for one in world.ask(range(50), held_out=True)}
    assert train and held_out and not train & held_out and len(train | held_out) == 12
    ids = world._ids("so it is</think>")
    assert world.thought_ends(ids) and not world.thought_ends(ids[:-1])
    assert world.thought_ends([world.tokenizer.eos_token_id]) and world.answer_ends([world.tokenizer.eos_token_id])


def test_a_template_that_opens_the_thought_itself() -> None:
    world = PromptWorld(rows(), bpe_tokenizer(TEMPLATE + "<think>\n"))
    assert world.text(world.ask([0])[0].tokens).count("<think>") == 1


def test_chat_messages_as_prompts() -> None:
    chat = [{"prompt": [{"role": "user", "content": f"hello {i}"}], "n": i} for i in range(5)]
    world = PromptWorld(chat, bpe_tokenizer(TEMPLATE))
    assert "[user] hello" in world.text(world.ask([0])[0].tokens)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no rows"), ("{nope}\n", "line 1 is not JSON"), ('{"question": "x"}\n', "row 1 has no prompt"),
        ('{"prompt": ""}\n', "row 1 has no prompt"), ("[1]\n", "row 1"),
        ('{"prompt": "a", "x": 1}\n{"prompt": "b"}\n', "row 2 has columns"),
    ],
)  # fmt: skip
def test_bad_files(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(text)
    with pytest.raises(InputError, match=says):
        read_rows(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_rows(tmp_path / "missing.jsonl")


def test_datasets_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(rows()).save_to_disk(str(tmp_path / "data"))
    assert read_rows(tmp_path / "data") == rows()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no datasets folder"):
        read_rows(tmp_path / "empty")


def test_too_few_rows_and_empty_delimiters() -> None:
    with pytest.raises(InputError, match="too few"):
        PromptWorld(rows(1), bpe_tokenizer())
    with pytest.raises(InputError, match="delimiters"):
        PromptWorld(rows(), bpe_tokenizer(), ("", "x"))
