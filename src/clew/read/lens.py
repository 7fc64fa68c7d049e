"""The logit lens: what the model would say at a fork if it stopped after each layer.

    look(policy, PairStream(sizes=((4, 4),)).batch(range(1000), policy.tokenizer)).table()

The stream behind a layer is given to the final norm and the output head as if it were the last ("interpreting GPT: the
logit lens", nostalgebraist 2020). What it shows is there, in the directions of the output; what it does not show may
be there in others, which a probe would find.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clew.mazes.pairs import PairBatch
from clew.policy import Policy
from clew.read.cases import random_twin
from clew.read.effects import LEAST, Figure, check_pairs, columns, mean, rate, table_of
from clew.read.hooks import Key, layers_of
from clew.read.passes import asked, read_rows, unembed
from clew.read.patching import chunks, logit_difference
from clew.read.places import Words

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Lens:
    """What is read at the forks of P pairs' clean sides after 0 .. L layers; with none, of the embeddings."""

    metric_LP: np.ndarray
    """float64 (L + 1, P): logit(right) - logit(wrong)"""
    top_LP: np.ndarray
    """bool (L + 1, P): whether the likeliest token is the right step"""
    random_metric_LP: np.ndarray
    """both of the random twin: the same shape, with weights as before training"""
    random_top_LP: np.ndarray
    lookahead_P: np.ndarray

    def figures(self, depth: int, which_P: np.ndarray) -> dict[str, Figure]:
        """After so many layers, of some of the pairs: `branch`, the share of right > wrong, and `top`, the share whose
        likeliest token is the right step, with Wilson's intervals; `difference`, the mean metric, in logits, with the
        normal one. Each also as `random_...` for the twin; of two branches, half are right by chance."""
        found: dict[str, Figure] = {}
        both = (("", self.metric_LP, self.top_LP), ("random_", self.random_metric_LP, self.random_top_LP))
        for name, metric_LP, top_LP in both:
            metric_P = metric_LP[depth, which_P]
            found[f"{name}branch"], found[f"{name}top"] = rate(metric_P > 0), rate(top_LP[depth, which_P])
            found[f"{name}difference"] = mean(metric_P)
        return found

    def table(self) -> "pa.Table":
        """A row a depth (layers read, from 0), lookahead (None for all pairs; those of at least 10) and figure: depth,
        lookahead, pairs, figure, value, value_low, value_high."""
        rows: list[dict[str, Any]] = []
        values, counts = np.unique(self.lookahead_P, return_counts=True)
        groups = [(None, np.ones(len(self.lookahead_P), np.bool_))]
        groups += [(value, self.lookahead_P == value) for value in values[counts >= LEAST].tolist()]
        for depth in range(len(self.metric_LP)):
            for ahead, which_P in groups:
                about = {"depth": depth, "lookahead": ahead, "pairs": int(which_P.sum())}
                for name, figure in self.figures(depth, which_P).items():
                    rows.append({**about, "figure": name, **columns("value", figure)})
        return table_of(rows)


def look(policy: Policy, pairs: PairBatch, seed: int = 0, batch_size: int = 128) -> Lens:
    """The logit lens at the fork of each pair's clean side, of the model and of its random twin.

    seed: of the twin's weights. InputError for a model that cannot be read or is not for mazes, and too few pairs.
    """
    Words.of(policy.tokenizer)
    check_pairs(len(pairs))
    found = [_read(one, pairs, batch_size) for one in (policy, random_twin(policy, seed))]
    return Lens(*found[0], *found[1], pairs.lookahead_P)


def _read(policy: Policy, pairs: PairBatch, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    count = len(layers_of(policy.model))
    keys: list[Key] = [("resid_pre", 0), *(("resid_post", layer) for layer in range(count))]
    metric_LP, top_LP = np.zeros((len(keys), len(pairs))), np.zeros((len(keys), len(pairs)), np.bool_)
    with asked(policy) as model:
        for rows, (clean_BT, _) in chunks(pairs, batch_size):
            run = read_rows(model, clean_BT, keys)
            for depth, key in enumerate(keys):
                logits_BV = unembed(model, run.values[key][:, -1])
                metric_LP[depth, rows] = logit_difference(logits_BV, pairs, rows)
                top_LP[depth, rows] = logits_BV.argmax(-1).cpu().numpy() == pairs.right_P[rows]
    return metric_LP, top_LP
