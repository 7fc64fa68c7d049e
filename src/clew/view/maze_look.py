"""What a model has at each step of the paths that it wrote: attention by passage and cell, logits by layer and without
each head, the stream.

A *step* is a token that the model wrote, and what is read there is what stood before it: at step s of S the current
token is the one at which the model chose token s. So step 0 is at `<TARGET_END>`, step 1 at `<PATH_START>`, and step 2
at the path's first cell.

**Attention is shared out**: every token that can be seen belongs to one slot, so that the slots of a step add up to 1.

    passages   an edge's four tokens, its `;` among them, by the order of the list
    path       each cell of the path as it is written
    MARKS      all others, one by one

Behind these stand the LISTED, which count the list's tokens once more, by what they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clew.attention import inner
from clew.mazes.lattice import Cell, Question
from clew.policy import Policy
from clew.read.heads import attending
from clew.read.hooks import Key, heads_of, layers_of
from clew.read.passes import Pass, asked, go_on, padded, read_rows, unembed
from clew.read.places import PLACES, Places, Words, find_places
from clew.read.steering import Replacement, Rolled

MARKS: tuple[str, ...] = ("list_start", "list_end", "origin_start", "origin", "origin_end", "target_start", "target")
MARKS += ("target_end", "path_start", "other")
LISTED: tuple[str, ...] = ("cells", "connectors", "ends")
EDGE = ("edge_first", "connector", "edge_second", "edge_end")


@dataclass(frozen=True, eq=False)
class Case:
    """A question as a model was asked it, and what it wrote."""

    question: Question
    prompt_T: np.ndarray
    """int64: token ids up to `<TARGET_END>`"""
    rolled: Rolled

    @property
    def row_T(self) -> np.ndarray:
        """All that the model read when it wrote its last token."""
        return np.concatenate([self.prompt_T, np.array(self.rolled.tokens[:-1], np.int64)])

    @property
    def steps(self) -> np.ndarray:
        """The columns of the row that are steps."""
        return np.arange(len(self.prompt_T) - 1, len(self.row_T))


@dataclass(frozen=True, eq=False)
class Look:
    """What was read of one case, in plain numbers: S steps, L layers, H heads, K slots, V tokens."""

    attention_SLHK: np.ndarray
    logits_SNV: np.ndarray
    """float32, of the stream after N = 0 .. L layers, given to the output head"""
    ablated_SNV: np.ndarray | None
    """float32: what the model says without each of its N = L * H heads, layer by layer"""
    streams_SLD: np.ndarray
    """float32: the stream behind each layer"""
    cells_S: list[Cell | None]
    """the cell of the path at which a step stands; None before the path, and for a token that is no cell"""


def slots_of(places: Places, length: int) -> np.ndarray:
    """float32 (T, K): which slots each token of one sequence belongs to; T = length, and K as the module says."""
    edges = int(places.named("edge_first").sum())
    walked = int(places.named("path").sum())
    slot_T = np.full(length, edges + walked + MARKS.index("other"))
    listed_T = np.full(length, -1)
    for place, order, at in zip(places.place_R, places.order_R, places.position_R, strict=True):
        name = PLACES[place]
        if name in EDGE:
            slot_T[at], listed_T[at] = order, (0, 1, 0, 2)[EDGE.index(name)]
        elif name == "path":
            slot_T[at] = edges + order
        elif name in MARKS:
            slot_T[at] = edges + walked + MARKS.index(name)
    slots_TK = np.zeros((length, edges + walked + len(MARKS) + len(LISTED)), np.float32)
    slots_TK[np.arange(length), slot_T] = 1
    inside = np.flatnonzero(listed_T >= 0)
    slots_TK[inside, edges + walked + len(MARKS) + listed_T[inside]] = 1
    return slots_TK


def look(
    policy: Policy, cases: Sequence[Case], usual_LHGD: np.ndarray | None = None, batch_size: int = 16
) -> list[Look]:
    """What a model has at each step of some cases. usual_LHGD: `heads.usual_z`; None leaves ablations out.

    InputError for a model that cannot be read or is not for mazes.
    """
    words, found = Words.of(policy.tokenizer), []
    for first in range(0, len(cases), batch_size):
        found += _look(policy, cases[first : first + batch_size], words, usual_LHGD)
    return found


def _look(policy: Policy, cases: Sequence[Case], words: Words, usual_LHGD: np.ndarray | None) -> list[Look]:
    rows = [case.row_T for case in cases]
    places = find_places(rows, words)
    layers = len(layers_of(policy.model))
    keys: list[Key] = [("resid_pre", 0), *(("resid_post", layer) for layer in range(layers))]
    heads = [(layer, head) for layer in range(layers) for head in range(heads_of(policy.model))]
    with asked(policy) as model, attending(model) as patterns:
        run = read_rows(model, padded(rows, policy.pad_token_id), keys)
        read = list(patterns)
        without = [] if usual_LHGD is None else [_without(run, places, usual_LHGD, *head) for head in heads]
        found = []
        for row, case in enumerate(cases):
            own = places.take(places.sequence_R == row)
            steps_S = torch.from_numpy(case.steps)
            slots_TK = torch.from_numpy(slots_of(own, len(rows[row]))).to(inner(model).device)
            seen = [one_BHTT[row][:, steps_S, : len(rows[row])].float() @ slots_TK for one_BHTT in read]
            streams = torch.stack([run.values[key][row, steps_S] for key in keys], 1)
            ablated = torch.stack([end_BTD[row, steps_S] for end_BTD in without], 1) if without else None
            walk = own.take(own.named("path"))
            cell_by_column = dict(zip(walk.position_R.tolist(), map(tuple, walk.cell_RC.tolist()), strict=True))
            found.append(
                Look(
                    _plain(torch.stack(seen).permute(2, 0, 1, 3)),
                    _plain(unembed(model, streams)),
                    None if ablated is None else _plain(unembed(model, ablated)),
                    _plain(streams[:, 1:]),
                    [cell_by_column.get(at) for at in case.steps.tolist()],
                )
            )
    return found


def _plain(values: Tensor) -> np.ndarray:
    return values.float().cpu().numpy()


def _without(run: Pass, places: Places, usual_LHGD: np.ndarray, layer: int, head: int) -> Tensor:
    """(B, T, D): the last stream where one head says, at every place, what it says there in the mean."""
    place_BT = np.full(run.end_BTD.shape[:2], -1)
    place_BT[places.sequence_R, places.position_R] = places.place_R
    return go_on(run, {("z", layer): Replacement(layer, head, usual_LHGD[layer, head]).edit(place_BT)}).end_BTD
