"""Attention knock-outs: equal to attention that is written out, with a softmax by hand; the right tokens are cut."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clew.errors import InputError
from clew.mazes import maze_tokenizer, parse_question
from clew.mazes.pairs import PairBatch, PairStream
from clew.mazes.vocab import parse_cell
from clew.policy import Policy
from clew.read.effects import difference
from clew.read.knockout import REGISTERS, WAYS, Cut, Knockouts, Unseen, _Tokens, knock_out, windows
from clew.read.passes import asked, go_on, read_rows
from models import MAKERS, tiny

TOKENIZER = maze_tokenizer(4)


def policy(kind: str = "llama", seed: int = 0) -> Policy:
    return Policy(tiny(kind, len(TOKENIZER), seed), TOKENIZER)


def pairs(count: int = 10, seed: int = 0) -> PairBatch:
    return PairStream("target", sizes=((3, 3), (4, 4)), seed=seed).batch(range(count), TOKENIZER)


@torch.no_grad()
def by_hand(model: Any, tokens_T: np.ndarray, hidden: dict[int, np.ndarray]) -> Tensor:
    """The logits behind the last token of one row, with attention that is written out, and by layer what is hidden."""
    layers: list[int] = []

    def attend(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None, **_: Any) -> Tensor:
        number, size = len(layers), len(tokens_T)
        layers.append(number)
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
        unseen_TT = torch.ones(size, size).triu(1).bool()
        if number in hidden:
            unseen_TT |= torch.from_numpy(hidden[number])
        scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
        weights = scores.exp().masked_fill(unseen_TT, 0)
        return weights / weights.sum(-1, keepdim=True) @ v

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)
        logits_V = model(torch.from_numpy(tokens_T)[None]).logits[0, -1]
    assert len(layers) == 3
    return logits_V


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("reads_by", ["sdpa", "eager"])
def test_equal_to_attention_written_out(kind: str, reads_by: str) -> None:
    reader, rng = policy(kind), np.random.default_rng(0)
    rows_BT = next(pairs().groups()).clean_tokens_PT[:2]
    size = rows_BT.shape[1]
    hidden_BTT = (rng.random((2, size, size)) < 0.3) & np.tri(size, k=-1, dtype=bool)
    late_BTT = hidden_BTT & (np.arange(size) >= 9)[:, None]
    for layers in ([0], [2], [0, 1]):
        for hidden, column in ((hidden_BTT, 0), (late_BTT, 0), (late_BTT, 9)):
            wanted = [by_hand(reader.model, rows_BT[b], {layer: hidden[b] for layer in layers}) for b in range(2)]
            reader.model.set_attn_implementation(reads_by)
            with asked(reader) as model:
                run = read_rows(model, rows_BT)
                found = go_on(run, {}, column=column, hidden=dict.fromkeys(layers, torch.from_numpy(hidden)))
            reader.model.set_attn_implementation("sdpa")
            torch.testing.assert_close(found.last_BV, torch.stack(wanted), atol=1e-6, rtol=1e-5)
            assert not torch.allclose(found.last_BV, run.last_BV, atol=1e-6)


def cut_by_hand(text: str, cut: Cut) -> np.ndarray:
    """bool (T, T): what a cut hides, read off the text."""
    words = text.split()
    question = parse_question(text[: text.index("<PATH_START>")])
    cells = [parse_cell(word) for word in words]
    start = question.target if cut.end == "target" else cells[-1]
    dist: Any = question.lattice.distances(start)  # type: ignore[arg-type]
    end, at = words.index("<ADJLIST_END>"), {}
    for first in range(1, end, 4):
        here, there = dist[cells[first]], dist[cells[first + 2]]
        at |= {first: here, first + 2: there, first + 1: min(here, there), first + 3: min(here, there)}
    found = np.zeros((len(words), len(words)), bool)
    for query in range(len(words)):
        for key in range(query):
            asks, told = at.get(query), at.get(key)
            apart = query >= end or (query - 1) // 4 != (key - 1) // 4
            found[query, key] = (
                told is not None
                and apart != (cut.way == "within")
                and {
                    "inward": asks == cut.distance + 1 and told == cut.distance,
                    "outward": asks == cut.distance and told == cut.distance + 1,
                    "within": min(at[key - (key - 1) % 4], at[key - (key - 1) % 4 + 2]) == cut.distance,
                    "behind": query >= end and told == cut.distance,
                    "beyond": query >= end and told >= cut.distance,
                    "fork": query == len(words) - 1 and told == cut.distance,
                }[cut.way]
            )
    return found


def test_the_cut_tokens_are_those_of_the_distance() -> None:
    reader, stream = policy(), PairStream("target", sizes=((3, 3), (4, 4)))
    batch = stream.batch(range(10), TOKENIZER)
    cuts = [Cut(way, end, d, (1,)) for way in WAYS for end in ("target", "current") for d in (0, 1, 3)]
    cuts += [Cut("behind", "current", 1, (0, 1, 2))]
    found = knock_out(reader, batch, cuts, batch_size=4)
    for index in (0, 3, 7):
        text = stream.pair(index).texts[0]
        row_T, right, wrong = (
            np.array(TOKENIZER.convert_tokens_to_ids(text.split())),
            *(getattr(batch, name)[index] for name in ("right_P", "wrong_P")),
        )
        plain = by_hand(reader.model, row_T, {})
        assert found.clean_P[index] == pytest.approx(float(plain[right] - plain[wrong]), abs=1e-6)
        for number, cut in enumerate(cuts):
            hidden_TT = cut_by_hand(text, cut)
            assert found.count_CP[number, index] == hidden_TT.sum()
            logits = by_hand(reader.model, row_T, dict.fromkeys(cut.layers, hidden_TT))
            metric = float(logits[right] - logits[wrong]) if hidden_TT.any() else np.nan
            assert found.cut_CP[number, index] == pytest.approx(metric, abs=1e-6, nan_ok=True)
    again = knock_out(reader, batch, cuts, batch_size=64)
    np.testing.assert_allclose(again.cut_CP, found.cut_CP, atol=1e-6)
    np.testing.assert_allclose(again.random_CP, found.random_CP, atol=1e-6)
    assert not np.allclose(found.random_CP, found.cut_CP, equal_nan=True)


def test_a_register_is_hidden_from_all_that_come_after_it() -> None:
    """By the words of the text, beside attention that is written out."""
    reader, stream = policy(), PairStream("target", sizes=((3, 3), (4, 4)))
    batch, cuts = stream.batch(range(10), TOKENIZER), [Unseen(place, (0, 2)) for place in REGISTERS]
    found = knock_out(reader, batch, cuts, batch_size=4)
    for index in (0, 5):
        words = stream.pair(index).texts[0].split()
        row_T = np.array(TOKENIZER.convert_tokens_to_ids(words))
        for number, cut in enumerate(cuts):
            at = words.index(f"<{cut.place.upper().replace('LIST_END', 'ADJLIST_END')}>")
            hidden_TT = np.zeros((len(words), len(words)), bool)
            hidden_TT[at + 1 :, at] = True
            assert found.count_CP[number, index] == hidden_TT.sum()
            logits = by_hand(reader.model, row_T, dict.fromkeys(cut.layers, hidden_TT))
            metric = float(logits[batch.right_P[index]] - logits[batch.wrong_P[index]])
            assert found.cut_CP[number, index] == pytest.approx(metric, abs=1e-6)
    assert (found.cut_CP != found.random_CP).all()
    assert {row["place"] for row in found.table().to_pylist()} == set(REGISTERS)


def test_random_cuts_cut_as_much_of_the_list() -> None:
    batch = pairs(20)
    tokens, size = _Tokens.of(policy(), batch), batch.clean_tokens_PT.shape[1]
    assert len(set(batch.length_P)) > 1
    for way in WAYS:
        hidden_BTT = tokens.hidden(Cut(way, "current", 1, (0,)))
        random_BTT = tokens.at_random(hidden_BTT, (np.random.default_rng(row) for row in range(20)))
        there_BT = np.minimum(hidden_BTT.sum(-1), tokens.there_PTT.sum(-1))  # the first edge has none before
        assert (random_BTT.sum(-1) == there_BT).all() and (random_BTT != hidden_BTT).any()
        assert way == "within" or (there_BT == hidden_BTT.sum(-1)).all()
        assert not (random_BTT & ~np.tri(size, k=-1, dtype=bool)).any()
        assert not (random_BTT & ~tokens.there_PTT).any()
        assert not random_BTT[:, 4, 1:5].any()


def test_where_attention_says_nothing_nothing_is_lost() -> None:
    reader = policy()
    reader.model.model.layers[1].self_attn.o_proj.weight.data.zero_()  # type: ignore[union-attr, operator]
    cuts = [Cut("behind", "current", 1, (layer,)) for layer in range(3)]
    found = knock_out(reader, pairs(), cuts)
    some_P = found.count_CP[0] > 0
    np.testing.assert_allclose(found.cut_CP[1][some_P], found.clean_P[some_P], atol=1e-9)
    assert (np.abs(found.cut_CP[0] - found.clean_P)[some_P] > 1e-6).all()


def test_figures() -> None:
    clean_P, corrupt_P = np.tile([2.0, 4.0], 10), np.tile([-2.0, -4.0], 10)
    count_CP = np.ones((1, 20), np.int64)
    count_CP[0, :4] = 0
    cut = Cut("inward", "target", 2, (0, 1))
    found = Knockouts([cut], clean_P, corrupt_P, count_CP, -clean_P[None] / 2, clean_P[None] / 2)
    figures = found.figures(0)
    assert figures["effect"][0] == pytest.approx(0.75) and figures["random_effect"][0] == pytest.approx(0.25)
    assert figures["effect_above_random"][0] == pytest.approx(0.5)
    assert figures["accuracy_lost"] == difference(np.ones(16), np.zeros(16))
    assert figures["accuracy"][0] == 0 < figures["accuracy"][2] and figures["random_accuracy"][0] == 1
    row = found.table().to_pylist()[0]
    assert row["layers"] == "0 1" and row["pairs"] == 16 and row["figure"] == "effect" and row["value"] == 0.75


@pytest.mark.parametrize(
    ("cut", "said"),
    [
        (Cut("sideways", "target", 0, (0,)), "way: 'sideways' is not one of inward, outward"),  # type: ignore[arg-type]
        (Cut("inward", "origin", 0, (0,)), "end: 'origin' is not one of target, current"),  # type: ignore[arg-type]
        (Cut("inward", "target", -1, (0,)), "distance: -1 is not a whole number from 0"),
        (Cut("inward", "target", 0, (3,)), "layers: 3 is not one of the 3 layers"),
        (Cut("inward", "target", 0, ()), "layers: the list is empty"),
        (Unseen("target", (0,)), "place: 'target' is not one of list_end, origin_start"),
        (Unseen("target_end", (3,)), "layers: 3 is not one of the 3 layers"),
    ],
)
def test_what_does_not_exist_is_named(cut: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        knock_out(policy(), pairs(), [cut])


def test_what_cannot_be_asked() -> None:
    cut = Cut("inward", "target", 0, (0,))
    with pytest.raises(InputError, match="pairs: 9 are too few"):
        knock_out(policy(), pairs(9), [cut])
    with pytest.raises(InputError, match="cuts: there are none"):
        knock_out(policy(), pairs(), [])
    with pytest.raises(InputError, match="draws: 0 is not a whole number from 1"):
        knock_out(policy(), pairs(), [cut], draws=0)
    assert windows(policy().model, 2) == [(0, 1), (1, 2)]
    with pytest.raises(InputError, match="width: 4 is not a number of layers, 1 to 3"):
        windows(policy().model, 4)
