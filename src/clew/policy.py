"""Policies: a causal language model with its tokenizer. Build, load, save."""

import copy
import json
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from clew import zoo
from clew.attention import Attention, inner
from clew.errors import InputError
from clew.files import folder_written_whole
from clew.losses import token_nll
from clew.selfcheck import reads_rows, reads_trees
from clew.sharding import full, is_spread
from clew.text import one_line
from clew.tree import TreeBatch


@dataclass
class Policy:
    """A causal language model with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    adapter: str | None = None
    """which of the model's LoRA adapters is this policy; None for a model of its own"""
    attention: Attention = "trees"
    """trees: prefixes that are shared are read once; rows: exact for models that cannot read so, and slower"""

    def check(self) -> None:
        """InputError if the model does not read trees (or plain rows) exactly; the line says by how much."""
        if self.attention == "trees":
            reads_trees(self.model)
        else:
            reads_rows(self.model)

    def readable(self, batch: TreeBatch) -> TreeBatch:
        """The batch as this policy reads it: trees, or the plain rows that they stand for."""
        if self.attention == "trees" or batch.layout is None:
            return batch
        reads_rows(self.model, batch.layout.reach)
        return batch.flatten()

    def activate(self) -> None:
        """Makes the model act, and learn, as this policy."""
        if self.adapter:
            self.model.set_adapter(self.adapter)  # type: ignore[operator]
            if is_spread(self.model):  # what needs a gradient is settled when a model is spread over processes
                for name, parameter in self.model.named_parameters():
                    parameter.requires_grad_(".lora_" in name)

    def learnt(self) -> dict[str, nn.Parameter]:
        """What learns of the model, by name: the adapter, or all that is not frozen."""
        own = f".{self.adapter}." if self.adapter else ""
        named = self.model.named_parameters()
        return {name: p for name, p in named if (".lora_" in name and own in name if own else p.requires_grad)}

    def checkpoint_layers(self) -> None:
        """From here on each layer's input alone is kept for the backward pass, and the rest computed anew: the same
        gradients. InputError for a model whose code does not provide for it."""
        model: Any = inner(self.model)
        try:
            if hasattr(model, "activation_checkpointing_enable"):
                model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
            else:
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        except ValueError:
            raise InputError(f"model.gradient_checkpointing: {type(model).__name__} does not provide for it") from None

    def teach(self, tokens: Sequence[str]) -> None:
        """Adds the tokens that the tokenizer does not know, and rows for them to the model's embeddings."""
        known = self.tokenizer.get_vocab()
        self.tokenizer.add_tokens([token for token in tokens if token not in known])
        self.make_room()

    def make_room(self) -> None:
        """Gives the model's embeddings a row for every token of the tokenizer, where they have fewer."""
        if len(self.tokenizer) > self.model.get_input_embeddings().weight.shape[0]:  # type: ignore[operator]
            self.model.resize_token_embeddings(len(self.tokenizer), mean_resizing=False)

    def second_adapter(self, name: str) -> "Policy":
        """Another adapter of the same model, with the weights that this policy's adapter has now."""
        model: Any = self.model
        with torch.random.fork_rng(devices=[]):
            model.add_adapter(name, model.peft_config[self.adapter])
        weights = dict(model.named_parameters())
        with torch.no_grad():
            for key in [key for key in weights if f".{self.adapter}." in key]:
                weights[key.replace(f".{self.adapter}.", f".{name}.")].copy_(weights[key])
        return replace(self, adapter=name)

    @property
    def pad_token_id(self) -> int:
        """The padding token; 0 where the tokenizer has none, since nothing ever reads it."""
        pad = self.tokenizer.pad_token_id
        return pad if isinstance(pad, int) else 0

    @classmethod
    def build(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        layers: int = 4,
        width: int = 128,
        heads: int = 4,
        seed: int = 0,
        rope_base: float = 10_000.0,
    ) -> "Policy":
        """A new Llama of about 16 * layers * width**2 parameters. InputError if width cannot be shared among heads.

        rope_base: theta of its rotary embeddings: of a head's d dimensions, pair i turns by rope_base**(-2 i / d)
        radians a token (Su et al. 2021, arXiv 2104.09864).
        """
        if min(layers, width, heads) < 1:
            raise InputError(f"layers, width, heads: {layers}, {width}, {heads} are not all at least 1")
        if width % (2 * heads):
            raise InputError(f"width: {width} is not a multiple of twice the {heads} heads (rotary embeddings pair up)")
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=65_536,  # mazes of 64x64, with thoughts
            rope_parameters={"rope_type": "default", "rope_theta": rope_base},
            bos_token_id=None,  # type: ignore[arg-type]
            eos_token_id=tokenizer.eos_token_id,  # type: ignore[arg-type]
            pad_token_id=tokenizer.pad_token_id,  # type: ignore[arg-type]
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = LlamaForCausalLM(config)
        return cls(model, tokenizer)

    @classmethod
    def load(cls, folder: str | Path, dtype: torch.dtype | None = None) -> "Policy":
        """A policy from a Hugging Face folder, from a run folder (of a split, the one policy that plays both roles),
        or by its name in the zoo, `zoo:NAME`. Weights must be safetensors.

        dtype: of the weights; None takes that of the folder's config, float32 for the zoo. InputError if the folder is
        not there, holds no config, weights or tokenizer, or cannot be read.
        """
        path = model_folder(folder)
        config, tokenizer = described(path)
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                path,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=dtype or "auto",
                output_loading_info=True,
            )
            model, told = loaded
        except Exception as error:  # transformers raises many kinds for a damaged folder
            raise InputError(f"model: {path} cannot be loaded: {one_line(error)[:300]}") from None
        if told["missing_keys"]:  # transformers would draw them at random
            lacking = ", ".join(sorted(told["missing_keys"])[:3])
            raise InputError(f"model: {path} lacks weights of the model that its config.json describes: {lacking}")
        if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:  # type: ignore[operator]
            raise InputError(f"model: {path} has a tokenizer of {len(tokenizer)} tokens, more than its embeddings")
        return cls(model, tokenizer)

    def copy(self) -> "Policy":
        """Another policy of the same weights, which learns by itself; the tokenizer is shared."""
        return replace(self, model=copy.deepcopy(self.model))

    def save(self, folder: str | Path, stored: torch.dtype | None = None) -> None:
        """Writes a Hugging Face folder: safetensors and tokenizer, whole or not at all.

        stored: what weights are rounded to in the file, torch.float16 for half the room; the folder opens in the
        model's own dtype all the same.
        """
        with folder_written_whole(Path(folder)) as part:
            self.save_into(part, stored)

    def save_into(self, folder: Path | None, stored: torch.dtype | None = None) -> None:
        """Fills a folder; an adapter is merged into its base, so that any tool can open the result, and stands beside
        it as peft writes it, in `adapter`. Where a model is spread over processes, all of them have to call this, and
        of all `save` methods; None for those that write nothing."""
        weights = self.plain_weights(merged=True)
        if stored:
            weights = {name: value.to(stored) for name, value in (weights or inner(self.model).state_dict()).items()}
        self._save_into(folder, weights)
        if self.adapter:
            self.save_adapter(folder / "adapter" if folder else None)

    def save_base_into(self, folder: Path | None) -> None:
        """Fills a folder with the model that an adapter was put on, or with that of a policy without one."""
        self._save_into(folder, self.plain_weights(merged=False))

    def save_adapter(self, folder: Path | None) -> None:
        """An adapter alone, for peft and vLLM: adapter_config.json and adapter_model.safetensors."""
        own = f".{self.adapter}."
        learnt = self.learnt().items()
        tensors = {name.replace(own, "."): full(value.detach()).contiguous() for name, value in learnt}
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
        config: Any = copy.copy(self.model.peft_config[self.adapter])  # type: ignore[index]
        config.inference_mode = True
        if not isinstance(config.target_modules, str):  # a set: its order is each process's own, and files are compared
            config.target_modules = sorted(config.target_modules)
        config.save_pretrained(folder)

    @torch.no_grad()
    def plain_weights(self, merged: bool) -> dict[str, Tensor] | None:
        """The weights of an adapter's base under the names that they had before it, the adapter added or left out; None
        for a policy without one that is whole in this process."""
        base = inner(self.model)
        if not self.adapter and not is_spread(base):
            return None
        own = {name: full(value) for name, value in base.state_dict().items() if ".lora_" not in name}
        weights = {name.replace(".base_layer.", "."): value for name, value in own.items()}
        for name, module in base.named_modules() if merged else ():
            if self.adapter in getattr(module, "lora_A", ()):
                weight, delta = weights[f"{name}.weight"], full(module.get_delta_weight(self.adapter))  # type: ignore[operator]
                weights[f"{name}.weight"] = (weight + delta.to(weight.device)).to(weight.dtype)
        return weights

    def _save_into(self, folder: Path | None, weights: dict[str, Tensor] | None) -> None:
        if folder is None:
            return
        inner(self.model).save_pretrained(folder, state_dict=weights)
        self.tokenizer.save_pretrained(folder)
        # The attention that reads trees is this process's business; others load the folder with their own.
        config = json.loads((folder / "config.json").read_text())
        if config.pop("attn_implementation", None) or config.pop("_attn_implementation", None):
            (folder / "config.json").write_text(json.dumps(config, indent=2))


def with_adapters(base: Policy, names: tuple[str, ...], rank: int, seed: int = 0) -> list[Policy]:
    """Policies that share one frozen base and differ in their LoRA adapters, on all its linear layers."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise InputError('policies: adapters need peft: pip install "clew-spans[adapters]"') from None
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)  # peft asks by the old name
        torch.manual_seed(seed)
        model = get_peft_model(base.model, config, adapter_name=names[0])
        for name in names[1:]:
            model.add_adapter(name, config)
    return [Policy(model, base.tokenizer, name, base.attention) for name in names]  # type: ignore[arg-type]


@torch.no_grad()
def reference_nll(policy: Policy, frozen: Policy | None, batch: TreeBatch, tokens_at_once: int | None = None) -> Tensor:
    """What a policy's reference says of a batch: `token_nll` without a gradient, nll_S in nats, on the batch's device.

    The reference is `frozen` where that is given, which may be another adapter of the same model, and otherwise the
    model that the policy's adapter was put on, read with the adapter off: no second copy. tokens_at_once: at most so
    many tokens are read at a time (see `TreeBatch.microbatches`). InputError for a policy without an adapter and
    without a frozen one.
    """
    reader = frozen or policy
    if frozen is None and not policy.adapter:
        raise InputError("reference: a policy without an adapter needs a frozen policy to be compared with")
    parts = [batch]
    if tokens_at_once is not None:
        parts = batch.microbatches(tokens_at_once, rows=reader.attention == "rows")
    learning, adapter_off = reader.model.training, nullcontext()
    if frozen is None:
        adapter_off = policy.model.disable_adapter()  # type: ignore[operator]
    reader.model.eval()
    reader.activate()
    try:
        with adapter_off:
            device = reader.model.device
            read = [token_nll(reader.model, reader.readable(part).to(device)) for part in parts]
    finally:
        reader.model.train(learning)
        policy.activate()
    return torch.cat(read).to(batch.tokens_BT.device)


def described(path: Path) -> tuple[Any, PreTrainedTokenizerBase]:
    """What a model folder says of itself: its config and its tokenizer, without any weights. InputError as `load`."""
    for needed, what in (("config.json", "no config.json"), ("tokenizer_config.json", "no tokenizer")):
        if not (path / needed).is_file():
            raise InputError(f"model: {path} holds {what} ({needed} was expected)")
    if not list(path.glob("*.safetensors")):
        raise InputError(f"model: {path} holds no *.safetensors weights")
    try:
        # no code of a model's folder is run; without a word on it, transformers may ask a person in the terminal
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds for a damaged folder
        raise InputError(f"model: {path} cannot be loaded: {one_line(error)[:300]}") from None
    for how in ("is_local", "local_files_only", "trust_remote_code"):  # what no folder should keep
        tokenizer.init_kwargs.pop(how, None)
    return config, tokenizer


def model_folder(folder: str | Path) -> Path:
    """The Hugging Face folder that a run folder, a model folder or zoo:NAME means: of a split's run the one policy that
    plays both roles. InputError if there is none, or two."""
    path = zoo.resolved(folder)
    if not path.is_dir():
        raise InputError(f"model: {path} is not a folder")
    if (path / "shoggoth").is_dir() and (path / "face").is_dir():
        raise InputError(f"model: {path} holds two, of a split; expected {path / 'shoggoth'} or {path / 'face'}")
    return next((path / name for name in ("model", "shoggoth") if (path / name).is_dir()), path)


def pick_device(name: str) -> torch.device:
    """The device called cpu, cuda or mps, or the best there is for auto. InputError if it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if (name == "cuda" and not torch.cuda.is_available()) or (name == "mps" and not torch.backends.mps.is_available()):
        raise InputError(f"device: {name} is not available here")
    return torch.device(name)
