"""Models whose answer is known: what a reading must find is in them by hand, and what it must not find is not.

walker()          GPT-2 by hand: walks on through any listed passage but the one it came by; never looks ahead
corridor()        trained where no question has a fork, and so just as short-sighted, but like a trained model
compass(shares)   a Llama in which given heads carry given shares of where the target is, and nothing else does
permuted(policy)  the same function with its heads in another order
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count as count_from
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from clew.mazes import MazeStream, maze_tokenizer, vocab
from clew.mazes.lattice import Cell, Lattice
from clew.mazes.pairs import PairBatch
from clew.policy import Policy
from clew.read.hooks import layers_of
from clew.read.patching import Head

TOKENIZER = maze_tokenizer(4)
CORRIDOR = Path(__file__).parent / "data" / "corridor" / "model"
LAYERS, HEADS, SIZE = 3, 3, 64
GAIN = 4.0
"""the logit of a cell behind the only passage that is listed; behind each of k it is GAIN / k"""
_SHARP, _LOUD, _STEADY = 25.0, 30.0, 1e6
_WORDS = len(TOKENIZER)
_CELLS = np.array([vocab.cell_id(row, col) for row, col in np.ndindex(4, 4)])
_WIDTHS = {"own": _WORDS, "partner": _WORDS, "previous": _WORDS, "at": SIZE, "out": _WORDS}
_WIDTHS |= {"steady": 2, "balance": 1}
_ENDS = np.cumsum([0, *_WIDTHS.values()]).tolist()
_AT = {name: slice(*_ENDS[number : number + 2]) for number, name in enumerate(_WIDTHS)}
_UNREAD = slice(_ENDS[-1], HEADS * SIZE)


def corridor() -> Policy:
    """Three layers that solve 4x4 mazes of corridors: see `corridors.py`, which trains it."""
    return Policy.load(CORRIDOR)


@dataclass(frozen=True)
class Walker:
    """A model by hand, and which of its heads does what."""

    policy: Policy
    heads: dict[str, Head]
    """partner: two tokens back, at an edge's second cell its first; previous: one token back, by which a walk does not
    turn back, and places know what they are; adjacency: from a cell to the edges that list it; origin, arrival: the
    path's first cell, and its end at the target"""

    @property
    def idle(self) -> list[Head]:
        """Heads that attend and speak, but into a part of the stream that nothing reads."""
        return [head for head in np.ndindex(LAYERS, HEADS) if head not in self.heads.values()]


def walker(adjacency: Head = (1, 0), seed: int = 0) -> Walker:
    """GPT-2 with weights by hand: three layers of three heads, no MLP.

    At a path's cell c the logit of each cell that k listed passages join to c is GAIN / k, but for the cell just left,
    which is far lower. So forks are ties, whatever the target: right and wrong step have the same logit, but for less
    than 0.002, by which the cell farther down or right is taken.
    adjacency: which head looks edges up; not of layer 0, which gathers their ends.
    seed: of the idle heads' weights.
    """
    heads: dict[str, Head] = {"partner": (0, 0), "previous": (0, 1), "adjacency": adjacency}
    free = [head for head in np.ndindex(LAYERS, HEADS) if head[0] and head not in heads.values()]
    heads |= {"origin": free[0], "arrival": free[1]}
    config = GPT2Config(
        vocab_size=_WORDS, n_embd=HEADS * SIZE, n_layer=LAYERS, n_head=HEADS, n_positions=2 * SIZE, n_inner=8,
        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, tie_word_embeddings=False, bos_token_id=None, eos_token_id=7,
        pad_token_id=10,
    )  # fmt: skip
    model: Any = GPT2LMHeadModel(config).double().eval()  # ties are ties to the sixth digit
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.zero_() if "attn" not in name or "bias" in name else parameter.normal_(0, 0.2, generator=rng)
        _embed(model)
        for layer in model.transformer.h:
            layer.attn.c_attn.weight[_AT["steady"].start : _UNREAD.start] = 0
            layer.attn.c_proj.weight[:, : _UNREAD.start] = 0
            layer.attn.c_proj.weight.mul_(0.1)  # too little for norms to notice
            _balance(layer.attn.c_proj.weight)
        for name, head in heads.items():
            _write(model, head, *_PLANTED[name]())
        for norm in [*(n for layer in model.transformer.h for n in (layer.ln_1, layer.ln_2)), model.transformer.ln_f]:
            norm.weight.fill_(_STEADY * (2 / config.n_embd) ** 0.5)  # one large number makes every norm the identity
        _unembed(model)
    return Walker(Policy(model, TOKENIZER), heads)


def _embed(model: Any) -> None:
    token_VD, place_TD = model.transformer.wte.weight, model.transformer.wpe.weight
    token_VD[:, _AT["own"]] = torch.eye(_WORDS)
    token_VD[:, _AT["steady"]] = torch.tensor([_STEADY, -_STEADY], dtype=torch.float64)
    wave_TF = np.arange(2 * SIZE)[:, None] * np.pi * (np.arange(SIZE // 2) + 0.5) / (SIZE // 2)
    place_TD[:, _AT["at"]] = torch.from_numpy(np.concatenate([np.cos(wave_TF), np.sin(wave_TF)], 1))
    for weight in (token_VD, place_TD):
        _balance(weight)


def _balance(written_XD: Tensor) -> None:
    """Whatever is written adds up to 0, so that centring changes nothing."""
    written_XD[:, _AT["balance"]] -= written_XD.sum(1, keepdim=True)


def _unembed(model: Any) -> None:
    weight = model.lm_head.weight
    weight[:, _AT["out"]] = torch.eye(_WORDS)
    for name in ("own", "previous"):  # neither stays nor turns back
        weight[_CELLS, _AT[name].start + _CELLS] = -_LOUD
    weight[vocab.PATH_START, _AT["own"].start + vocab.TARGET_END] = _LOUD
    weight[vocab.PATH_END, _AT["steady"].start] = 0.1 / _STEADY  # in dead ends, where all else has 0
    weight[_CELLS, _AT["steady"].start] = torch.arange(16, dtype=torch.float64) * 1e-4 / _STEADY  # of ties the last


def _write(model: Any, head: Head, query: Tensor, key: Tensor, value: Tensor, out: Tensor) -> None:
    """query, key, value: (D, SIZE); out: (SIZE, D). What is attended by is query times key, undivided."""
    attn, start = model.transformer.h[head[0]].attn, head[1] * SIZE
    for number, matrix in enumerate((query * SIZE**0.5, key, value)):
        attn.c_attn.weight[:, number * HEADS * SIZE + start :][:, :SIZE] = matrix
    _balance(out)
    attn.c_proj.weight[start : start + SIZE] = out


def _blank() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return *(torch.zeros(HEADS * SIZE, SIZE, dtype=torch.float64) for _ in range(3)), torch.zeros(
        SIZE, HEADS * SIZE, dtype=torch.float64
    )  # type: ignore[return-value]


def _back(steps: int, into: str) -> tuple[Tensor, ...]:
    """A head that copies the token so many steps back."""
    query, key, value, out = _blank()
    angle = torch.pi * (torch.arange(SIZE // 2, dtype=torch.float64) + 0.5) / (SIZE // 2) * steps
    at, cos, sin = _AT["at"].start, torch.diag(angle.cos()), torch.diag(angle.sin())
    query[at : at + SIZE] = _SHARP * torch.cat([torch.cat([cos, -sin], 1), torch.cat([sin, cos], 1)], 0)
    key[at : at + SIZE] = torch.eye(SIZE)
    value[_AT["own"], :_WORDS] = torch.eye(_WORDS)
    out[:_WORDS, _AT[into]] = torch.eye(_WORDS)
    return query, key, value, out


def _adjacency() -> tuple[Tensor, ...]:
    query, key, value, out = _blank()
    query[_AT["own"].start + _CELLS, np.arange(16)] = _SHARP
    query[_AT["own"].start + _CELLS, 16] = 2 * _SHARP
    for name in ("own", "partner"):
        key[_AT[name].start + _CELLS, np.arange(16)] = value[_AT[name].start + _CELLS, np.arange(16)] = 1
    key[_AT["previous"].start + vocab.CONNECTOR, 16] = 1
    out[np.arange(16), _AT["out"].start + _CELLS] = GAIN
    return query, key, value, out


def _origin() -> tuple[Tensor, ...]:
    query, key, value, out = _blank()
    query[_AT["steady"].start, 0] = _SHARP / _STEADY
    query[_AT["own"].start + vocab.PATH_START, 1] = 2 * _SHARP
    key[_AT["own"].start + vocab.ADJLIST_START, 0] = key[_AT["previous"].start + vocab.ORIGIN_START, 1] = 1
    value[_AT["own"].start + _CELLS, np.arange(16)] = 1
    out[np.arange(16), _AT["out"].start + _CELLS] = _LOUD
    return query, key, value, out


def _arrival() -> tuple[Tensor, ...]:
    query, key, value, out = _blank()
    query[_AT["own"].start + _CELLS, np.arange(16)] = _SHARP
    query[_AT["steady"].start, 16] = 2 * _SHARP / _STEADY
    query[_AT["steady"].start, 17] = 2.5 * _SHARP / _STEADY
    key[_AT["own"].start + _CELLS, np.arange(16)] = 1
    key[_AT["previous"].start + vocab.TARGET_START, 16] = key[_AT["own"].start + vocab.ADJLIST_START, 17] = 1
    value[_AT["previous"].start + vocab.TARGET_START, 0] = 1
    out[0, _AT["out"].start + vocab.PATH_END] = _LOUD
    return query, key, value, out


_PLANTED: dict[str, Any] = {
    "partner": lambda: _back(2, "partner"),
    "previous": lambda: _back(1, "previous"),
    "adjacency": _adjacency,
    "origin": _origin,
    "arrival": _arrival,
}


def compass(shares: Mapping[Head, tuple[float, float]], noise: float = 0.0) -> Policy:
    """A Llama of two layers and two heads in which some heads, each attending to all alike, carry where the target lies
    to the logits of the cells that lie so: its row and its column, each to a share. Rows and columns weigh the same in
    the mean, since a square's mazes are as likely as their mirror images: so a head's effect on target pairs is the
    mean of its two shares. All that others say is `noise` times what a new model says.
    """
    reader = Policy.build(TOKENIZER, layers=2, width=32, heads=2)
    model: Any = reader.model
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(noise)
            layer.mlp.down_proj.weight.mul_(noise)
        embedding, out = model.model.embed_tokens.weight, model.lm_head.weight
        embedding[:, :4] = out[:, :4] = 0
        for row, col in np.ndindex(4, 4):
            at = torch.tensor([row - 1.5, col - 1.5])
            embedding[vocab.cell_id(row, col), :2] = 0.02 * at
            out[vocab.cell_id(row, col), 2:4] = at
        for (layer, head), by_axis in shares.items():
            part, own = model.model.layers[layer].self_attn, slice(16 * head, 16 * head + 16)
            part.q_proj.weight[own] = part.v_proj.weight[own] = part.o_proj.weight[:, own] = 0
            for k, share in enumerate(by_axis):
                part.v_proj.weight[16 * head + k, k] = 1
                part.o_proj.weight[2 + k, 16 * head + k] = 0.01 * share  # too little for norms to notice
    return reader


def adjacent_pairs(count: int, seed: int = 0) -> PairBatch:
    """Pairs whose sides list another passage at the fork itself, which `PairStream` never gives: on the clean side it
    leads to the right step, on the corrupt side, at the same place of the list, to the wrong one, and either step's
    passage is listed on that side alone. What looks up a passage of the fork is all that is needed, and nothing else.

    Both mazes are held-out 4x4 ones by dfs, the corrupt one with the one passage moved. Lookaheads and corrupt
    distances are 0: the corrupt target may be cut off.
    """
    stream, rows, facts = MazeStream(((4, 4),), held_out=True, seed=seed, stream=7), [], []
    rng = np.random.default_rng([seed, 7])
    for index in count_from(0):
        (maze,) = stream.questions(index)
        assert maze.path
        at = int(rng.integers(len(maze.path) - 1))
        fork, right = maze.path[at : at + 2]
        walls = [cell for cell in _beside(fork) if cell not in (*maze.lattice.neighbours(fork), *maze.path[:at])]
        moved = [edge for edge in maze.lattice.edges() if set(edge) != {fork, right}]
        held_out = [cell for cell in walls if Lattice.from_edges(4, 4, [*moved, (fork, cell)]).held_out]
        if not held_out:
            continue
        wrong = held_out[rng.integers(len(held_out))]
        words = vocab.question_text(maze, vocab.shuffled_edges(maze.lattice, index)).split()
        words = words[: words.index("<PATH_START>") + 2 + at]
        ends = [vocab.cell_text(cell) for cell in (fork, right)]
        place = next(n for n in range(1, len(words), 4) if {words[n], words[n + 2]} == set(ends))
        other = words.copy()
        other[place if words[place] == ends[1] else place + 2] = vocab.cell_text(wrong)
        rows.append((words, other))
        facts.append((index, len(words), at, vocab.cell_id(*right), vocab.cell_id(*wrong), len(maze.path) - 1 - at))
        if len(rows) == count:
            break
    width, columns = max(len(words) for words, _ in rows), np.array(facts).T
    tokens = np.full((2, count, width), vocab.PADDING)
    for number, sides in enumerate(rows):
        for side, words in enumerate(sides):
            tokens[side, number, width - len(words) :] = TOKENIZER.convert_tokens_to_ids(words)
    none_P, names = np.zeros(count, np.int64), ("index_P", "length_P", "position_P", "right_P", "wrong_P", "distance_P")
    unknown: Any = {f"{name}_P": none_P for name in ("lookahead", "corrupt_lookahead", "corrupt_distance")}
    unknown |= {"rows_P": none_P + 4, "cols_P": none_P + 4}
    return PairBatch(tokens[0], tokens[1], **unknown, **dict(zip(names, columns, strict=True)))


def _beside(cell: Cell) -> list[Cell]:
    beside = [(cell[0] + down, cell[1] + right) for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1))]
    return [one for one in beside if min(one) >= 0 and max(one) < 4]


def permuted(policy: Policy, orders: Sequence[Sequence[int]]) -> Policy:
    """The same function, layer by layer with its heads in another order: the new head h is the old orders[layer][h].
    Of a Llama or Qwen3 in which each head has keys of its own, or a GPT-2."""
    model: Any = copy.deepcopy(policy.model)
    heads = model.config.num_attention_heads
    with torch.no_grad():
        layers: Any = layers_of(model)
        for layer, order in zip(layers, orders, strict=True):
            if hasattr(layer, "attn"):
                attn = layer.attn
                for weight in (attn.c_attn.weight, attn.c_attn.bias):
                    parts = weight.unflatten(-1, (3, heads, -1))
                    weight.copy_(parts[..., list(order), :].flatten(-3))
                attn.c_proj.weight.copy_(attn.c_proj.weight.unflatten(0, (heads, -1))[list(order)].flatten(0, 1))
                continue
            attn = layer.self_attn
            for part in (attn.q_proj, attn.k_proj, attn.v_proj):
                part.weight.copy_(part.weight.unflatten(0, (heads, -1))[list(order)].flatten(0, 1))
            attn.o_proj.weight.copy_(attn.o_proj.weight.unflatten(1, (heads, -1))[:, list(order)].flatten(1))
    return Policy(model, policy.tokenizer)
