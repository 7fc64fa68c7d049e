"""Which causal language models of transformers read trees exactly, which need plain rows, and which are refused.

    clew bench architectures                      # about ten minutes
    clew bench architectures --only llama,falcon

Every architecture that the installed transformers ships for causal language modelling is built small, with random
weights, and asked. What Clew says of it (`selfcheck`) is then checked by other means: in float64 where the architecture
bears it, on larger trees than the self-check's own, losses and all gradients over trees against plain rows that the
untouched model reads; a rollout against a fresh pass; for rows, a row against its own beginnings. A verdict of "exact"
that this contradicts would be printed as WRONG, and the bench would end with 1.
"""

import contextlib
import copy
import gc
import io
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from clew.errors import InputError
from clew.losses import token_nll
from clew.rollout.continuing import continue_prompts
from clew.selfcheck import reads_rows, reads_trees
from clew.tree import SpanTree, TreeBatch
from clew.world import Stop
from measure import keep, options

VOCABULARY = 97
LARGEST = 45_000_000  # parameters
PATIENCE = 100  # seconds an architecture
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 96, "max_position_embeddings": 256, "head_dim": 16,
    "d_model": 64, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_layers": 2, "n_heads": 4, "n_positions": 256,
    "ffn_dim": 96, "decoder_ffn_dim": 96, "encoder_ffn_dim": 96, "decoder_layers": 2, "encoder_layers": 2,
    "decoder_attention_heads": 4, "encoder_attention_heads": 4, "n_inner": 96, "n_ctx": 256, "dff": 96,
    "embedding_size": 64, "state_size": 8, "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4,
    "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32,
    "moe_topk": 2, "moe_num_experts": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8, "v_head_dim": 16, "qk_head_dim": 16, "n_group": 1, "topk_group": 1,
    "first_k_dense_replace": 1, "rotary_dim": 8, "word_embed_proj_dim": 64, "attention_window_size": 64,
    "lru_width": 64, "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 8, "mamba_n_groups": 1,
    "linear_num_heads": 4, "linear_head_dim": 16,
    "mamba_chunk_size": 16, "chunk_size": 16, "n_mamba_heads": 4, "mamba_headdim": 32, "mamba_ngroups": 1,
    "num_mem_blocks": 1, "adapter_rank": 8,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 16, "num_kv_shared_layers": 0,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "sep_token_id": 2,
    "unpadded_vocab_size": VOCABULARY, "is_decoder": True,
    "tie_word_embeddings": False, "initializer_range": 0.1, "initializer_factor": 1.0,
    "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "attention_dropout": 0.0, "hidden_dropout": 0.0,
    "dropout": 0.0, "attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0,
}  # fmt: skip
LESS: list[tuple[str, ...]] = [
    (),
    ("head_dim",),
    ("head_dim", "num_hidden_layers"),
    ("head_dim", "num_key_value_heads"),
]
LESS += [("hidden_size", "num_attention_heads", "head_dim"), ("intermediate_size", "head_dim")]
"""options that are left as they are, in turn, where an architecture does not bear the change of all"""
OWN: dict[str, dict[str, Any]] = {
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "window_size": 256},
    "falcon_h1": {"mamba_d_ssm": 128, "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_expand": 2},
    "dbrx": {"max_seq_len": 256, "attn_config": {"rope_theta": 1e4, "kv_n_heads": 2, "clip_qkv": 8.0}},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "zaya": {"num_experts_per_tok": 1},
    "xlm": {"causal": True},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"]},
    "mpt": {"attn_config": {"attn_pdrop": 0}},
    "mamba2": {"num_heads": 16, "head_dim": 8, "n_groups": 1},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_theta": 1e4, "rope_type": "default"}}},
}
"""what an architecture's configuration needs beside or in place of the above"""


def small_config(kind: str, less: tuple[str, ...]) -> Any:
    """The architecture's own defaults, as small as its options allow."""
    config = AutoConfig.for_model(kind)
    return AutoConfig.for_model(kind, **{**_shrunk(config, less), **OWN.get(kind, {})})


def _shrunk(config: Any, less: tuple[str, ...]) -> dict[str, Any]:
    """The options of SMALL that a configuration has; those of its parts within."""
    own = {name for name in (*vars(config), *getattr(config, "attribute_map", {})) if not name.startswith("_")}
    values = {name: value for name, value in SMALL.items() if name in own and name not in less}
    if "qk_rope_head_dim" in values and "head_dim" in values:  # latent attention: only these are turned
        values["head_dim"] = values["qk_rope_head_dim"]
    if "kv_lora_rank" in values and "num_key_value_heads" in values:  # … and keys are made anew for every head
        values["num_key_value_heads"] = values["num_attention_heads"]
    depth = values.get("num_hidden_layers", values.get("num_layers", 2))
    for name in ("layer_types", "mlp_layer_types"):  # each kind of layer once
        if isinstance(kinds := vars(config).get(name), list):
            distinct = list(dict.fromkeys(kinds))
            depth = max(depth, len(distinct))
            values[name] = distinct
    for name in ("layer_types", "mlp_layer_types"):
        if name in values:
            values["num_hidden_layers"] = depth
            values[name] = [values[name][i % len(values[name])] for i in range(depth)]
    for name, inner in vars(config).items():
        if isinstance(inner, PreTrainedConfig):
            values[name] = {"model_type": inner.model_type, **_shrunk(inner, less)}
    return values


def small_model(kind: str) -> PreTrainedModel:
    """A model of the architecture with noise on all its weights, so that none of them is without effect."""
    said = ""
    for less in LESS:
        try:
            model = _built(small_config(kind, less))
            break
        except Exception as error:  # whatever this configuration stumbles over
            said = said or " ".join(f"{type(error).__name__}: {error}".split())[:160]
    else:
        raise ValueError(said)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                spread = 0.1 if parameter.ndim < 2 else 0.4 / parameter[0].numel() ** 0.5
                parameter.add_(torch.randn_like(parameter), alpha=spread)
    return model


def _built(config: Any) -> PreTrainedModel:
    """The model, once it has read three tokens."""
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(copy.deepcopy(config)).parameters())
    if size > LARGEST:
        raise ValueError(f"{size / 1e6:.0f} million parameters are not small")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    model(input_ids=torch.tensor([[11, 12, 13]]), use_cache=False)
    return model


def trees() -> list[SpanTree]:
    """Two trees of four levels, some hundred tokens, weights of both signs."""
    draw = torch.Generator().manual_seed(5)

    def span(depth: int) -> SpanTree:
        length = int(torch.randint(1, 8, (), generator=draw))
        tokens = torch.randint(10, 90, (length,), generator=draw).tolist()
        children = [span(depth - 1) for _ in range(int(torch.randint(2, 4, (), generator=draw)))] if depth else []
        return SpanTree(tokens, "answer", torch.randn(length, generator=draw).tolist(), children)

    return [span(3), span(2)]


def losses(model: PreTrainedModel, rows: TreeBatch) -> tuple[Tensor, list[Tensor]]:
    """Losses and gradients of plain rows, each read alone and cut off behind its last token: nothing of Clew's."""
    model.zero_grad()
    parents, nll = rows.parents_BT, []
    lengths = torch.zeros(len(parents), dtype=torch.int64)
    width = parents.shape[1]
    for at in rows.supervised_S.tolist():
        lengths[at // width] = max(int(lengths[at // width]), at % width + 1)
    ends = {b: length for b, length in enumerate(lengths.tolist()) if length}
    cut = {b: rows.tokens_BT[b : b + 1, :length] for b, length in ends.items()}
    logits = {b: model(input_ids=tokens, use_cache=False).logits[0] for b, tokens in cut.items()}
    for source, target in zip(rows.sources_S.tolist(), rows.targets_S.tolist(), strict=True):
        row = logits[source // width][source % width]
        nll.append(F.cross_entropy(row[None], torch.tensor([target]), reduction="sum"))
    nll_S = torch.stack(nll)
    (nll_S * rows.weights_S).sum().backward()
    return nll_S.detach(), gradients(model)


def gradients(model: PreTrainedModel) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


def gap(model: PreTrainedModel, reference: PreTrainedModel, batch: TreeBatch, attention: str) -> tuple[float, float]:
    """Largest difference of a loss, in nats, and of a gradient as a share of the largest in its parameter."""
    rows = batch.flatten()
    want_S, want = losses(reference, rows)
    model.zero_grad()
    got_S = token_nll(model, batch if attention == "trees" else rows)
    (got_S * batch.weights_S).sum().backward()
    most = max(float(b.abs().max()) for b in want)
    pairs = zip(gradients(model), want, strict=True)
    shares = [float((a - b).abs().max()) / max(float(b.abs().max()), 1e-2 * most) for a, b in pairs]
    return float((got_S - want_S).abs().max()), max(shares)


def rollout_gap(model: PreTrainedModel, reference: PreTrainedModel, attention: Any) -> float:
    """Log-probabilities of sampled tokens against a fresh pass of the untouched model, largest difference in nats."""
    prompts = [[11, 12, 13, 14, 15], [16, 17, 18]]
    tails = [[[20, 21], [22, 23, 24]], [[25], [26, 27]]]
    how: dict[str, Any] = {"max_new": 4, "pad_token_id": 0, "copies": 2, "temperature": 1.0, "seeds": range(4)}
    got = continue_prompts(model, prompts, tails=tails, stop=Stop(), attention=attention, **how)
    worst = 0.0
    for i, continuation in enumerate(got):
        before = prompts[i // 4] + tails[i // 4][i // 2 % 2]
        tokens = torch.tensor([before + continuation.tokens])
        with torch.no_grad():
            logp = reference(input_ids=tokens, use_cache=False).logits[0].float().log_softmax(-1)
        for j, (token, said) in enumerate(zip(continuation.tokens, continuation.logps, strict=True)):
            worst = max(worst, abs(float(logp[len(before) + j - 1, token]) - said))
    return worst


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """transformers warns of much that does not matter to models without a tokenizer."""
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def said(check: Any, model: PreTrainedModel) -> str | None:
    """What a self-check objects to; None for nothing."""
    try:
        check(model)
    except InputError as error:
        return str(error)
    return None


def verdict(kind: str) -> dict[str, Any]:
    """One line of the table."""
    try:
        with quiet():
            small_model(kind)
    except ValueError as error:
        return {"kind": kind, "verdict": "not built", "reason": str(error)}
    with quiet():
        precision, made = "float64", small_model(kind).double()
        try:
            token_nll(made, TreeBatch.pack(trees(), 0).flatten())
        except Exception:  # some parts of some models are float32 whatever their weights are
            precision = "float32"
        kept = getattr(torch, precision)
        model = small_model(kind).to(kept)
        tree_fault = said(reads_trees, small_model(kind).to(kept))
        row_fault = said(reads_rows, small_model(kind).to(kept)) if tree_fault else None
        found: dict[str, Any] = {"kind": kind, "class": type(model).__name__, "precision": precision}
        if row_fault:
            return found | {"verdict": "refused", "reason": row_fault}
        attention = "rows" if tree_fault else "trees"
        tried = small_model(kind).to(kept)
        loss, gradient = gap(tried, model, TreeBatch.pack(trees(), 0), attention)
        rollout = rollout_gap(tried, model, attention)
        found |= {"loss": loss, "gradient": gradient, "rollout": rollout, "reason": tree_fault or ""}
        wrong = not (loss < 1e-3 and gradient < 1e-2 and rollout < 1e-3)
        word = "WRONG" if wrong else {"trees": "exact", "rows": "exact on rows"}[attention]
        return found | {"verdict": word}


def summary(built: list[dict[str, Any]]) -> list[str]:
    """A line for each verdict, with the architectures that it is given to."""
    table = ["| | | `model_type` |", "|---|---|---|"]
    for word in sorted({one["verdict"] for one in built}):
        kinds = [one["kind"] for one in built if one["verdict"] == word]
        table.append(f"| {word} | {len(kinds)} | {', '.join(kinds)} |")
    return table


def details(built: list[dict[str, Any]]) -> list[str]:
    """A line for each architecture: how far its losses, gradients and rollouts are from the untouched model's."""
    table = [
        "| architecture | verdict | loss, nats | gradient | rollout, nats | why not over trees |",
        "|---|---|---|---|---|---|",
    ]
    for one in built:
        figures = [f"{one[name]:.0e}" if name in one else "" for name in ("loss", "gradient", "rollout")]
        why = one["reason"].partition(": ")[2].partition(": ")[2].partition("; --attention")[0].replace("|", "/")
        table.append(f"| {one['kind']} | {one['verdict']} | {' | '.join(figures)} | {why[:90]} |")
    return table


def _late(*_: object) -> None:
    raise TimeoutError


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--only", default="", help="model types, separated by commas")
    args = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, _late)
    kinds = args.only.split(",") if args.only else list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    found = []
    for kind in kinds:
        signal.alarm(PATIENCE)
        try:
            found.append(verdict(kind))
        except TimeoutError:
            found.append({"kind": kind, "verdict": "not built", "reason": f"took over {PATIENCE} seconds"})
        signal.alarm(0)
        print(f"{kind}: {found[-1]['verdict']} {found[-1].get('reason', '')[:120]}", file=sys.stderr, flush=True)
        gc.collect()
    built = [one for one in found if one["verdict"] != "not built"]
    about = (
        f"transformers {transformers.__version__}: {len(built)} of its {len(found)} architectures can be built small."
    )
    if rest := ", ".join(one["kind"] for one in found if one["verdict"] == "not built"):
        about += f" Not built here: {rest}."
    keep("architectures", args.out, found, [*summary(built), "", *details(built)], about)
    if any(one["verdict"] == "WRONG" for one in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
