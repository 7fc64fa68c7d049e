"""Path patching on minimal pairs: what do some heads say to others, and do these take it as queries, keys or values?

A patched head changes whatever reads it, and whatever reads that. Here only what the senders say to the receivers, and
to nobody else, is that of the other run (Wang et al. 2022, "Interpretability in the Wild", arXiv 2211.00593;
Goldowsky-Dill et al. 2023, "Localizing Model Behavior with Path Patching", arXiv 2304.05969).

    patch_to_logits(policy, pairs).table()                                 # which heads act on the step directly
    paths = [Path([(0, 1)], [(2, 0)], receiver_input=of) for of in ("q", "k", "v")]
    patch_paths(policy, pairs, paths).table()                              # how head 2.0 takes what head 0.1 says
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from clew.errors import InputError
from clew.mazes.pairs import PairBatch
from clew.policy import Policy
from clew.read.effects import DIRECTIONS, Direction, Effects
from clew.read.hooks import Edit, Key, heads_of, layers_of
from clew.read.passes import Pass, go_on, start_column
from clew.read.patching import Head, Where, check_head, each, named, part_of, put_in
from clew.text import show

ReceiverInput = Literal["q", "k", "v", "all"]
RECEIVER_INPUTS: tuple[ReceiverInput, ...] = get_args(ReceiverInput)


@dataclass(frozen=True, eq=False)
class Path:
    """What is put in: what some heads say to others in later layers, or to the logits where there are no receivers."""

    senders: Sequence[Head]
    receivers: Sequence[Head] = ()
    where: Where = "all"
    """at which places the senders are changed; the receivers are at all"""
    receiver_input: ReceiverInput = "all"
    """as what the receivers take it: their queries, their keys, their values, or all three. A receiver is named as one
    of the heads that write into the stream; where heads share keys and values, it alone reads the changed ones, and
    the heads that share them with it read those that there were"""

    @property
    def label(self) -> dict[str, Any]:
        ends = (self.senders, self.receivers)
        sent, received = (" ".join(f"{layer}.{head}" for layer, head in end) for end in ends)
        ends = {"senders": sent, "receivers": received or "logits", "receiver_input": self.receiver_input}
        return ends | {"place": named(self.where)}


def patch_paths(
    policy: Policy,
    pairs: PairBatch,
    paths: Sequence[Path],
    directions: Collection[Direction] = DIRECTIONS,
    batch_size: int = 64,
) -> Effects:
    """Puts each of C paths in on its own, in each direction, and gives the metric of every patched run.

    The run patched into is read again with the z of the senders from the other run and the z of all other heads as they
    were, while MLPs and norms answer to what they get: so no head passes on what the senders changed. The queries, keys
    or values that the receivers have then are put into one more pass, in which everything answers to what it gets, and
    from which the metric is taken. Without receivers the metric is the first pass's. What all three do together is not
    the sum of what each does by itself, since attention multiplies them; where only one of them has an effect, it is.
    Labels: senders, receivers, receiver_input, place. InputError as `patching.patch`, for receivers that are not behind
    a sender, and for an input that there is not.
    """
    for one in paths:
        _check(policy.model, one)
    keys: list[Key] = [("z", layer) for layer in range(len(layers_of(policy.model)))]
    return each(policy, pairs, paths, _patched, keys, directions, batch_size)


def patch_to_logits(policy: Policy, pairs: PairBatch, **how: Any) -> Effects:
    """Path patching from each head by itself to the logits: what it says that no later head has to pass on. Further
    arguments as those of `patch_paths`."""
    heads = range(heads_of(policy.model))
    chosen = [(layer, head) for layer in range(len(layers_of(policy.model))) for head in heads]
    return patch_paths(policy, pairs, [Path([head]) for head in chosen], **how)


def _patched(base: Pass, source: Pass, path: Path, where_BT: Tensor) -> Pass:
    first, where_BT = min(layer for layer, _ in path.senders), where_BT.to(base.end_BTD.device)
    sent = {key: z_BTD for key, z_BTD in base.values.items() if key[0] == "z" and key[1] >= first}
    differs_BT = torch.zeros_like(where_BT)
    for layer, head in path.senders:
        part = part_of(base.model, sent["z", layer], head)
        sent["z", layer] = put_in(source.values["z", layer], where_BT, part)(sent["z", layer])
        differs_BT |= (sent["z", layer] != base.values["z", layer]).any(-1)
    start = start_column(base, differs_BT)
    if start == where_BT.shape[1]:
        return base
    said: dict[Key, Edit] = {key: _instead(z_BTD[:, start:]) for key, z_BTD in sent.items()}
    layers = sorted({layer for layer, _ in path.receivers})
    site = "z" if path.receiver_input == "all" else path.receiver_input
    heard = go_on(base, said, [(site, layer) for layer in layers], start)
    if not path.receivers:
        return heard
    edits: dict[Key, Edit] = {}
    for layer in layers:  # one after the other: the later ones answer to what the earlier ones changed
        z_BTD = heard.values[site, layer]
        if site != "z":
            # All heads of this pass take it, also those that share a receiver's keys: the receivers' z alone are kept.
            taken = go_on(base, {**edits, (site, layer): _instead(z_BTD)}, [("z", layer)], start)
            z_BTD = taken.values["z", layer]
        edits["z", layer] = _put_heads(base.model, z_BTD, [head for at, head in path.receivers if at == layer])
    return go_on(base, edits, column=start)


def _instead(value_BTD: Tensor) -> Edit:
    return lambda _: value_BTD


def _put_heads(model: nn.Module, source_BTD: Tensor, heads: Sequence[int]) -> Edit:
    """The edit that puts in the z of some heads, and leaves the others to what they get."""
    everywhere_BT = torch.ones_like(source_BTD[..., 0], dtype=torch.bool)

    def edit(z_BTD: Tensor) -> Tensor:
        for head in heads:
            z_BTD = put_in(source_BTD, everywhere_BT, part_of(model, source_BTD, head))(z_BTD)
        return z_BTD

    return edit


def _check(model: nn.Module, path: Path) -> None:
    if path.receiver_input not in RECEIVER_INPUTS:
        raise InputError(f"receiver_input: {show(path.receiver_input)} is not one of {', '.join(RECEIVER_INPUTS)}")
    for head in (*path.senders, *path.receivers):
        check_head(model, head)
    if not path.senders:
        raise InputError("senders: there are none; expected at least one head")
    if not path.receivers and path.receiver_input != "all":
        raise InputError(f"receiver_input: {path.receiver_input} without receivers; the logits take all")
    first = min(layer for layer, _ in path.senders)
    for layer, head in path.receivers:
        if layer <= first:
            raise InputError(f"receivers: {(layer, head)} is not behind the first sender's layer, {first}")
