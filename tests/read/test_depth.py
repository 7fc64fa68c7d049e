"""Layers removed: what is lost is what is lost where the model really lacks them."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clew.errors import InputError
from clew.mazes import MazeStream, maze_tokenizer
from clew.mazes.forks import step_shares
from clew.policy import Policy
from clew.read.activations import maze_sequences, questions_of
from clew.read.depth import Depth, Removal, removals_of, remove
from clew.read.hooks import Key, editing, keys_of, layers_of, recording
from clew.read.passes import asked, go_on, read_rows
from clew.read.places import find_places
from clew.read.steering import roll_out
from models import MAKERS, tiny

TOKENIZER = maze_tokenizer(4)


def policy(kind: str = "llama", seed: int = 0) -> Policy:
    return Policy(tiny(kind, len(TOKENIZER), seed), TOKENIZER)


def sequences(count: int = 12, tokenizer: Any = TOKENIZER) -> list[np.ndarray]:
    stream = MazeStream(((4, 4),), ("dfs",), held_out=True, seed=3)
    return list(maze_sequences(stream, range(count), tokenizer))


def written(reader: Policy, rows: list[np.ndarray], edits: Any) -> list[Any]:
    """The paths that the model writes token by token with edits."""
    start = int(reader.tokenizer.convert_tokens_to_ids("<PATH_START>"))  # type: ignore[arg-type]
    with editing(reader.model, edits):
        return roll_out(reader, [row[: row.tolist().index(start)] for row in rows])


def test_equal_to_paths_that_are_written_without_it() -> None:
    reader = Policy.load("zoo:4x4")
    rows = sequences(24, reader.tokenizer)
    chosen = [Removal(3, "mlp"), Removal(2, "attention"), Removal(1, "layer")]
    found = remove(reader, rows, chosen, batch_size=10)
    assert found.exact_Q.mean() > 0.9 and found.forks_Q.sum() > 24
    questions = questions_of(find_places(rows, reader.tokenizer), len(rows))
    for number, one in enumerate([None, *chosen]):
        edits = {key: torch.zeros_like for key in one.keys} if one else {}
        paths = written(reader, rows, edits)
        exact_Q = [rolled.ended and rolled.path == asked.path for asked, rolled in zip(questions, paths, strict=True)]
        kept_Q = found.exact_CQ[number - 1] if one else found.exact_Q
        assert kept_Q.tolist() == exact_Q
    forks = [step_shares(asked, asked.path or ()).get("fork_steps") for asked in questions]
    assert found.forks_Q.tolist() == [share.of if share else 0 for share in forks]
    assert 0 < found.exact_CQ.mean() < found.exact_Q.mean()


@torch.no_grad()
@pytest.mark.parametrize("kind", MAKERS)
def test_a_layer_that_is_skipped_is_as_if_it_were_not_there(kind: str) -> None:
    reader, tokens_BT = policy(kind), np.stack([row[:70] for row in sequences(2)])
    with asked(reader) as model:
        keys = Removal(1).keys
        found = go_on(read_rows(model, tokens_BT, keys), dict.fromkeys(keys, torch.zeros_like))
        layers: Any = layers_of(model)
        kept = nn.ModuleList([layers[0], layers[2]])
        layers[2].__dict__["layer_idx"] = 1
        base: Any = model.base_model
        setattr(base, "h" if kind == "gpt2" else "layers", kept)
        model.config.num_hidden_layers = 2  # type: ignore[union-attr]
        wanted = model(torch.from_numpy(tokens_BT), use_cache=False).logits[:, -1]
    torch.testing.assert_close(found.last_BV, wanted, atol=1e-9, rtol=1e-9)


@torch.no_grad()
def test_the_mean_is_that_of_other_mazes_at_the_same_place() -> None:
    reader = Policy.load("zoo:4x4")
    rows = sequences(12, reader.tokenizer)
    found = find_places(rows, reader.tokenizer)
    taken: list[dict[Key, Tensor]] = []
    keys = keys_of(reader.model, ["attn_out", "mlp_out"], [1])
    for row in rows:
        with recording(reader.model, keys) as values:
            reader.model(torch.from_numpy(row)[None])
            taken.append({key: value[0] for key, value in values.items()})

    def usual(key: Key, but: int) -> Tensor:
        out = torch.zeros_like(taken[but][key])
        of_but = found.take(found.sequence_R == but)
        for position, place in zip(of_but.position_R.tolist(), of_but.place_R.tolist(), strict=True):
            others = found.take((found.sequence_R != but) & (found.place_R == place))
            both = zip(others.sequence_R.tolist(), others.position_R.tolist(), strict=True)
            out[position] = torch.stack([taken[row][key][at] for row, at in both]).mean(0)
        return out

    chosen = [Removal(1, part, "mean") for part in ("layer", "attention", "mlp")]
    result = remove(reader, rows, chosen, batch_size=5)
    assert 0 < result.right_CQ.sum() < 3 * result.right_Q.sum()
    for number, one in enumerate(chosen):
        for row in (0, 7):
            edits = {key: lambda x, key=key, row=row: usual(key, row)[None] for key in one.keys}
            with editing(reader.model, edits):
                logits_TV = reader.model(torch.from_numpy(rows[row])[None]).logits[0]
            start = rows[row].tolist().index(reader.tokenizer.convert_tokens_to_ids("<PATH_START>"))
            right = logits_TV[start - 1 : -1].argmax(-1).numpy() == rows[row][start:]
            assert result.exact_CQ[number, row] == right.all()
            path = questions_of(found, len(rows))[row].path or ()
            lattice = questions_of(found, len(rows))[row].lattice
            forks = [len(list(lattice.neighbours(cell))) > 2 - (at == 0) for at, cell in enumerate(path[:-1])]
            assert result.forks_Q[row] == sum(forks)
            assert result.right_CQ[number, row] == (right[2:-1] & forks).sum()


def test_what_adds_nothing_costs_nothing() -> None:
    reader = Policy.load("zoo:4x4")
    model: Any = reader.model
    model.model.layers[0].mlp.down_proj.weight.data.zero_()
    found = remove(reader, sequences(12, reader.tokenizer), [Removal(0, "mlp", mode) for mode in ("skip", "mean")])
    assert (found.right_CQ == found.right_Q).all() and (found.random_right_CQ == found.right_Q).all()
    assert found.figures(0)["exact_lost"][0] == 0 and found.figures(1)["forks_lost_above_random"][0] == 0


def test_figures() -> None:
    forks_Q, right_Q, none_Q = np.array([2, 1] * 10), np.array([2, 1] * 10), np.zeros(20, np.int64)
    exact_Q, never_Q = np.ones(20, np.bool_), np.zeros(20, np.bool_)
    one = Removal(2, "mlp", "mean")
    found = Depth([one], forks_Q, right_Q, exact_Q, none_Q[None], never_Q[None], right_Q[None], exact_Q[None])
    figures = found.figures(0)
    assert figures["forks"][0] == 0 and figures["forks_lost"][0] == 1 == figures["exact_lost_above_random"][0]
    rows = found.table().to_pylist()
    assert [row["figure"] for row in rows[:3]] == ["forks", "exact", "forks"] and rows[0]["layer"] is None
    assert rows[2]["part"] == "mlp" and rows[2]["mode"] == "mean" and rows[2]["forks"] == 30


def test_what_cannot_be_asked() -> None:
    reader, rows = policy(), sequences()
    assert len(removals_of(reader.model)) == 3 * 3 * 2 and len(removals_of(reader.model, [1], ["mlp"], ["skip"])) == 1
    for chosen, said in (
        ([Removal(3)], "layers: 3 is not one of the 3 layers"),
        ([Removal(0, "norm")], "part: 'norm' is not one of layer, attention, mlp"),  # type: ignore[arg-type]
        ([Removal(0, "mlp", "noise")], "mode: 'noise' is not one of skip, mean"),  # type: ignore[arg-type]
        ([], "removals: there are none"),
    ):
        with pytest.raises(InputError, match=said):
            remove(reader, rows, chosen)
    with pytest.raises(InputError, match="sequences: 9 are too few for a 95% interval; expected at least 10"):
        remove(reader, rows[:9])
    with pytest.raises(InputError, match="sequences: number 11 lacks its whole path, up to <PATH_END>"):
        remove(reader, [*rows[:11], rows[11][:-1]])
    with pytest.raises(InputError, match="batch_size: 0 is not a whole number from 1"):
        remove(reader, rows, batch_size=0)
