"""Direct logit attribution: which head, MLP or embedding pushes a token's logit, on tasks of a single token.

attribute(policy, maze_sequences(stream, range(300), policy.tokenizer)).table()
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from clew.attention import inner
from clew.errors import InputError
from clew.mazes.lattice import Lattice, Question
from clew.policy import Policy
from clew.read.activations import questions_of
from clew.read.effects import columns, mean, table_of
from clew.read.hooks import Key, final_norm_of, heads_of, keys_of, layers_of, names_of, recording
from clew.read.passes import asked, check_rows, padded
from clew.read.places import Places, Words, find_places

if TYPE_CHECKING:
    import pyarrow as pa

TASKS: tuple[str, ...] = ("path_start", "origin_after_path_start", "first_path_choice", "forks", "forced_steps")
TASKS += ("final_before_path_end", "path_end")
"""What is to be predicted, under maze-transformer's names where it has them (`single_token_tasks.py`):

    path_start               <PATH_START>, behind the prompt
    origin_after_path_start  the path's first cell
    first_path_choice        its second
    forks                    the step at each cell from which a passage, but the one come through, leads on along no
                             shortest path: as `forks.step_shares` has it
    forced_steps             every other step from cell to cell
    final_before_path_end    arrival: the target's cell
    path_end                 <PATH_END>

The first choice and the arrival are forks or forced steps too."""


@dataclass(frozen=True)
class Attribution:
    """Shares of logits of Q sequences, as means over the tokens of each task in each; NaN where there are none."""

    components: list[dict[str, Any]]
    """C rows: component, layer, head. `embedding` (with positions, where these are added), `head`, `mlp`, and `bias`:
    of a layer's attention output, or, without a layer, of the final norm and the output head"""
    shares_QKC: np.ndarray
    """by task K of TASKS: what each component adds to the logit of the right token, less what it adds to the mean
    logit of the vocabulary. Over C these add up to `logit_QK`."""
    logit_QK: np.ndarray
    """the right token's logit less the mean logit"""
    hit_QK: np.ndarray
    """the share of tokens that are predicted: the likeliest is right"""

    def table(self) -> "pa.Table":
        """A row a task and component: task, component, layer, head, sequences, logit, logit_low, logit_high; component
        `all` is their sum, and stands first."""
        rows = []
        for k, task in enumerate(TASKS):
            known_Q = ~np.isnan(self.logit_QK[:, k])
            if not known_Q.any():
                continue
            for label, values_Q in zip(
                [{"component": "all", "layer": None, "head": None}, *self.components],
                [self.logit_QK[:, k], *self.shares_QKC[:, k].T],
                strict=True,
            ):
                figure = columns("logit", mean(values_Q[known_Q]))
                rows.append({"task": task, **label, "sequences": int(known_Q.sum()), **figure})
        return table_of(rows)


def attribute(policy: Policy, sequences: Iterable[Sequence[int] | np.ndarray], batch_size: int = 32) -> Attribution:
    """What each head, each MLP and the embedding add to the logits of right tokens, directly.

    The last stream is a sum of what was added to it, and the output head is linear; between the two the final norm is
    taken as the linear map that it is at the stream that was there: each component is divided by that stream's scale
    (and centred, where the norm centres), as TransformerLens's `apply_ln_to_stack` does, and multiplied by the norm's
    weights, which TransformerLens folds into the output head. Logits are counted from the mean logit of the
    vocabulary (TransformerLens's `center_unembed`), which no softmax notices.

    sequences: as `activations.gather` takes them, each with its whole path and without a thought. InputError for other
    ones, for none, and for a model that cannot be read or is not for mazes.
    """
    words, parts, rest = Words.of(policy.tokenizer), [], iter(sequences)
    keys: list[Key] = [("resid_pre", 0)]
    keys += keys_of(policy.model, ["z", "mlp_out"])
    keys.append(("resid_post", len(layers_of(policy.model)) - 1))
    with asked(policy) as model:
        while rows := [np.asarray(row, np.int64) for row in islice(rest, batch_size)]:
            places = find_places(rows, words)
            task_M, row_M, at_M = _tokens_of_tasks(places, questions_of(places, len(rows)))
            tokens_BT = padded(rows, policy.pad_token_id)
            check_rows(model, tokens_BT)
            before = torch.from_numpy(row_M), torch.from_numpy(at_M - 1)
            with recording(model, keys, lambda x_BTD, at=before: x_BTD[at]) as taken:
                inner(model).base_model(input_ids=torch.from_numpy(tokens_BT).to(inner(model).device), use_cache=False)
            right_M = torch.from_numpy(tokens_BT[row_M, at_M])
            parts.append(_means(_shares(model, taken, right_M), task_M, row_M, len(rows)))
    if not parts:
        raise InputError("sequences: there are none; expected at least one")
    shares, logit, hit = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Attribution(_components(policy.model), shares, logit, hit)


def _components(model: nn.Module) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"component": "embedding", "layer": None, "head": None}]
    for layer in range(len(layers_of(model))):
        found += [{"component": "head", "layer": layer, "head": head} for head in range(heads_of(model))]
        found += [{"component": name, "layer": layer, "head": None} for name in ("bias", "mlp")]
    return [*found, {"component": "bias", "layer": None, "head": None}]


def _shares(model: nn.Module, taken: dict[Key, Tensor], right_M: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of M tokens: what each component adds (M, C), the logit (M,), whether it is the likeliest (M,)."""
    layers, names, heads = layers_of(model), names_of(model), heads_of(model)
    stream_MD = taken["resid_post", len(layers) - 1]
    norm: Any = final_norm_of(model)
    out: Any = inner(model).get_output_embeddings()
    right_M = right_M.to(stream_MD.device)
    centred = getattr(norm, "bias", None) is not None  # LayerNorm; an RMSNorm neither centres nor has a bias
    scale_MD = _scale(norm, stream_MD, centred)
    towards_MD = (out.weight[right_M] - out.weight.mean(0)) * norm.weight

    def share(x_MD: Tensor) -> Tensor:
        x_MD = x_MD - x_MD.mean(-1, keepdim=True) if centred else x_MD
        return (x_MD / scale_MD * towards_MD).sum(-1)

    found = [share(taken["resid_pre", 0])]
    for number, layer in enumerate(layers):
        projection = layer.get_submodule(names.projection)
        z_MHD = taken["z", number].unflatten(1, (heads, -1))
        bias_D = projection(torch.zeros_like(taken["z", number][:1]))
        for head in range(heads):
            alone_MHD = torch.zeros_like(z_MHD)
            alone_MHD[:, head] = z_MHD[:, head]
            found.append(share(projection(alone_MHD.flatten(1)) - bias_D))
        found += [share(bias_D.expand(len(right_M), -1)), share(taken["mlp_out", number])]
    rest_M = torch.zeros_like(found[0])
    if centred:
        rest_M = rest_M + ((out.weight[right_M] - out.weight.mean(0)) * norm.bias).sum(-1)
    if getattr(out, "bias", None) is not None:
        rest_M = rest_M + out.bias[right_M] - out.bias.mean()
    found.append(rest_M)
    logits_MV = out(norm(stream_MD))
    logit_M = logits_MV.gather(1, right_M[:, None])[:, 0] - logits_MV.mean(-1)
    hit_M = logits_MV.argmax(-1) == right_M
    shares_MC = torch.stack(found, 1).double().cpu().numpy()
    return shares_MC, logit_M.double().cpu().numpy(), hit_M.double().cpu().numpy()


def _scale(norm: Any, stream_MD: Tensor, centred: bool) -> Tensor:
    """What the final norm divides by."""
    eps: float = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
    x_MD = stream_MD - stream_MD.mean(-1, keepdim=True) if centred else stream_MD
    return (x_MD.pow(2).mean(-1, keepdim=True) + eps).sqrt()


def _means(
    found: tuple[np.ndarray, np.ndarray, np.ndarray], task_M: np.ndarray, row_M: np.ndarray, rows: int
) -> tuple[np.ndarray, ...]:
    """Means over the tokens of each task in each row; NaN without any."""
    count = np.zeros((rows, len(TASKS)))
    np.add.at(count, (row_M, task_M), 1)
    means = []
    for values in found:
        total = np.zeros((rows, len(TASKS), *values.shape[1:]))
        np.add.at(total, (row_M, task_M), values)
        with np.errstate(invalid="ignore"):
            means.append(total / count.reshape(rows, len(TASKS), *[1] * (values.ndim - 1)))
    return tuple(means)


def _tokens_of_tasks(places: Places, questions: Sequence[Question]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """M tokens to be predicted: task, row and column of each. InputError for a row without a whole path."""
    at = {name: places.take(places.named(name)) for name in ("target_end", "path_start", "path", "path_end")}
    found: list[tuple[int, int, int]] = []
    for row, question in enumerate(questions):
        columns_of = {name: of.position_R[of.sequence_R == row].tolist() for name, of in at.items()}
        if not columns_of["path_end"] or not question.path:
            raise InputError(f"sequences: number {row} of a batch has no whole path, to its <PATH_END>")
        if columns_of["path_start"][0] != columns_of["target_end"][0] + 1:
            raise InputError(f"sequences: number {row} of a batch has a thought before its path")
        path = columns_of["path"]
        tokens = {"path_start": columns_of["path_start"], "origin_after_path_start": path[:1]}
        tokens |= {"first_path_choice": path[1:2], "final_before_path_end": path[1:][-1:]}
        tokens |= {"path_end": columns_of["path_end"]}
        forks = forks_of(question.lattice, question.path)
        tokens["forks"] = [column for column, fork in zip(path[1:], forks, strict=True) if fork]
        tokens["forced_steps"] = [column for column, fork in zip(path[1:], forks, strict=True) if not fork]
        found += [(TASKS.index(name), row, column) for name, columns in tokens.items() for column in columns]
    task_M, row_M, at_M = np.array(found).reshape(-1, 3).T
    return task_M, row_M, at_M


def forks_of(lattice: Lattice, path: Sequence[tuple[int, int]]) -> list[bool]:
    """Of each step of a path, whether it is taken at a fork: see `forks.step_shares`."""
    dist = lattice.distances(path[-1])
    forks = []
    for number, here in enumerate(path[:-1]):
        came = path[number - 1] if number else None
        forks.append(any(near != came and dist[near] != dist[here] - 1 for near in lattice.neighbours(here)))
    return forks
