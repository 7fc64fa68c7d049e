"""One policy's optimizer: update, checkpoint, resume. Accelerate runs underneath."""

import gc
import json
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from clew.errors import InputError
from clew.losses import weighted_nll
from clew.policy import Policy, described, model_folder
from clew.runs.checkpoints import read_state
from clew.sharding import full, is_spread, like, share_out, spreads
from clew.text import one_line, show
from clew.tree import SpanTree, TreeBatch

Loss = Callable[[nn.Module, TreeBatch], Tensor]
"""a scalar of a batch that adds up over the pieces it is cut into"""
NOTHING = TreeBatch.pack([SpanTree([0], "prompt")], 0)
SLOTS = (("step", "exp_avg", "exp_avg_sq"), ("momentum_buffer",))  # what AdamW and Muon keep for a parameter


class LossNotFinite(RuntimeError):
    """The loss or its gradient is NaN or infinite; nothing was updated."""


class Learner:
    """AdamW over one policy; with `muon`, Muon over its hidden matrices at `muon` times the learning rate.

    `update` takes the batch's weights as they stand: whoever writes them decides on their scale. Weight decay is on
    matrices alone. tokens_at_once: how many tokens one pass may read, where trees can be cut so; None reads each batch
    at once. Losses and gradients are the same but for rounding.
    """

    def __init__(
        self,
        policy: Policy,
        lr: float = 2e-3,
        weight_decay: float = 0.01,
        clip: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.95),
        muon: float = 0.0,
        accelerator: Accelerator | None = None,
        tokens_at_once: int | None = None,
    ):
        self.policy, self.clip, self.tokens_at_once = policy, clip, tokens_at_once
        self.accelerator = accelerator or Accelerator(cpu=policy.model.device.type == "cpu")
        policy.check()
        policy.activate()  # an adapter is the part of its model that learns
        policy.model.train()
        spread = spreads(self.accelerator)
        if spread:
            share_out(policy.model, self.accelerator, policy.attention == "trees")
        trained = list(policy.learnt().values())
        ends = (policy.model.get_input_embeddings(), policy.model.get_output_embeddings())
        outer = {id(p) for module in ends if module is not None for p in module.parameters()}
        hidden = [p for p in trained if muon > 0 and p.ndim == 2 and id(p) not in outer]
        taken = set(map(id, hidden))
        rest = [p for p in trained if id(p) not in taken]
        groups = [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, betas=betas, fused=True)
        ]
        if hidden:
            if not hasattr(torch.optim, "Muon"):
                raise InputError(f"optimizer: muon needs torch 2.9 or newer, and this is {torch.__version__}")
            from clew.muon import Muon

            optimizers.append(Muon(hidden, lr, weight_decay))
        self.scales = [1.0, muon]
        self.model, self.optimizers = policy.model, optimizers
        if not spread:
            self.model, *self.optimizers = self.accelerator.prepare(policy.model, *optimizers)
        self.parameters = list(self.model.parameters())  # asked for once: in a small model the asking is felt

    def update(
        self,
        batch: TreeBatch | Sequence[TreeBatch],
        objective: Loss = weighted_nll,
        lr: float | None = None,
        whole_trees: bool = False,
    ) -> dict[str, float]:
        """One step on `objective(model, batch)`, the gradient added up over all batches and all processes.

        batch: one, or several that are read one after the other; none at all where this process has nothing to learn
        from, and gives a gradient of 0 to those that have. Where none of them has, nothing is changed. A policy that
        reads plain rows is given those that a batch stands for. whole_trees: `tokens_at_once` cuts no tree in two
        (`losses.Objective` says for which losses that has to be).

        Returns the loss and the gradient's norm before clipping. Raises LossNotFinite, before anything is changed.
        """
        if lr is not None:
            self.set_rate(lr)
        pieces = self._pieces([batch] if isinstance(batch, TreeBatch) else batch, whole_trees)
        if not pieces:
            return {"loss": 0.0, "grad_norm": 0.0}
        self._zero_grad()
        last = len(pieces) - 1
        losses = [self._read(piece, objective, last=i == last) for i, piece in enumerate(pieces)]
        norm = float(self.accelerator.clip_grad_norm_(self.parameters, self.clip))  # type: ignore[arg-type]
        total = self.total(sum(loss.item() for loss in losses))
        if not (math.isfinite(norm) and math.isfinite(total)):
            self._zero_grad()
            raise LossNotFinite(f"the loss is {total} and its gradient's norm {norm}")
        for optimizer in self.optimizers:
            optimizer.step()
        self._zero_grad()  # or they would take as much as the weights while others sample and learn
        return {"loss": total, "grad_norm": norm}

    def _pieces(self, batches: Sequence[TreeBatch], whole_trees: bool) -> list[TreeBatch]:
        """What is read one after the other: as many pieces in every process, since each of them waits for the rest."""
        pieces = list(batches)
        if self.tokens_at_once is not None:
            rows = self.policy.attention == "rows"
            pieces = [part for one in pieces for part in one.microbatches(self.tokens_at_once, rows, whole_trees)]
        idle = self._most(len(pieces)) - len(pieces)
        return [NOTHING] * idle + pieces

    def _read(self, piece: TreeBatch, objective: Loss, last: bool) -> Tensor:
        """Adds a piece's gradient to what is there, and after the last one all processes'; returns its loss."""
        objective = weighted_nll if piece is NOTHING else objective  # 0, and every parameter is part of it
        with nullcontext() if last or is_spread(self.model) else self.accelerator.no_sync(self.model):
            with self.accelerator.autocast():
                loss = objective(self.model, self.policy.readable(piece).to(self.accelerator.device))
            # Data-parallel training averages gradients; the sum is wanted: weights are already shares of the whole.
            self.accelerator.backward(loss * self.accelerator.num_processes)
        return loss.detach()

    def set_rate(self, lr: float) -> None:
        """The learning rate from now on; Muon's is `muon` times as much."""
        for optimizer, scale in zip(self.optimizers, self.scales, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = lr * scale

    def _zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def total(self, value: float) -> float:
        """The sum of a number over all processes."""
        if self.accelerator.num_processes == 1:
            return value
        exact = torch.float32 if self.accelerator.device.type == "mps" else torch.float64
        tensor = torch.tensor(value, dtype=exact, device=self.accelerator.device)
        return self.accelerator.reduce(tensor, "sum").item()  # type: ignore[union-attr]

    def _most(self, count: int) -> int:
        """The largest of a count over all processes."""
        if self.accelerator.num_processes == 1:
            return count
        each = self.accelerator.gather(torch.tensor([count], device=self.accelerator.device))
        return int(each.max())  # type: ignore[union-attr]

    def save(self, folder: Path | None, state: dict) -> None:
        """Fills `folder` with all that an exact resume needs: weights, optimizer, random state and the caller's. All
        processes have to call this, and all but one give None."""
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        if self.policy.adapter:
            adapter = {name: full(value) for name, value in self._trained().items()}
            if folder:
                save_file(adapter, folder / "adapter.safetensors")
        else:
            self.policy.save_into(folder / "model" if folder else None)
        tensors, scalars = {}, {}
        for number, optimizer in enumerate(self.optimizers):
            names = self._names(optimizer)
            for i, values in optimizer.state_dict()["state"].items():
                for slot, value in values.items():
                    if isinstance(value, Tensor):
                        tensors[f"{number}.{names[i]}.{slot}"] = full(value).contiguous()
                    else:
                        scalars[f"{number}.{names[i]}.{slot}"] = value
        if not folder:
            return
        tensors["rng"] = torch.get_rng_state()
        save_file(tensors, folder / "optimizer.safetensors")
        (folder / "state.json").write_text(json.dumps({**state, "optimizer": scalars}))

    def _trained(self) -> dict[str, Tensor]:
        self.policy.activate()
        return {name: p.data for name, p in self.policy.learnt().items()}

    def _names(self, optimizer: torch.optim.Optimizer) -> list[str]:
        """The names of an optimizer's parameters, in its own order."""
        name_of = {id(p): name for name, p in self.policy.model.named_parameters()}
        return [name_of[id(p)] for group in optimizer.param_groups for p in group["params"]]

    def load(self, folder: Path) -> dict:
        """Takes up where `save` left off, and returns the caller's state.

        InputError, before anything is changed, for a folder that is torn or holds another model or optimizer.
        """
        saved = read_state(folder, step=False)
        scalars = saved.pop("optimizer", None)
        if not isinstance(scalars, dict):
            raise InputError("its state.json says nothing of the optimizer")
        weights = self._weights()
        kept = self._kept_weights(folder, weights)
        tensors = read_tensors(folder / "optimizer.safetensors")
        dice = tensors.pop("rng", torch.empty(0))
        try:
            torch.Generator().set_state(dice)
        except (RuntimeError, TypeError):
            raise InputError("its optimizer.safetensors holds no random state") from None
        states = self._states_of(tensors | scalars)
        with torch.no_grad():
            for name, value in weights.items():
                value.copy_(like(kept[name], value))
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        torch.set_rng_state(dice)
        return saved

    def _weights(self) -> dict[str, Tensor]:
        """What a checkpoint holds of the model, by name: tensors that are one stand under one name."""
        if self.policy.adapter:
            return self._trained()
        weights: dict[int, tuple[str, Tensor]] = {}
        for name, value in self.policy.model.state_dict(keep_vars=True).items():
            weights.setdefault(id(value), (name, value.data))
        return dict(weights.values())

    def _kept_weights(self, folder: Path, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """A checkpoint's weights, which are as this model's: read as they are, for no second model's sake."""
        if self.policy.adapter:
            kept = read_tensors(folder / "adapter.safetensors")
        else:
            described(model_folder(folder / "model"))
            files = sorted((folder / "model").glob("*.safetensors"))
            kept = {name: value for file in files for name, value in read_tensors(file).items()}
            if kept.keys() != weights.keys():  # transformers writes some architectures under other names
                kept, own = Policy.load(folder / "model").model.state_dict(), self.policy.model.state_dict()
                kept = {name: value for name, value in kept.items() if name in weights or name not in own}
        for name in {**weights, **kept}:
            if name not in weights or name not in kept or weights[name].shape != kept[name].shape:
                raise InputError(f"it holds another model: {name} {_differs(kept.get(name), weights.get(name))}")
        return kept

    def _states_of(self, saved: dict[str, Any]) -> list[dict[int, dict]]:
        """Each optimizer's state out of all that was saved: each parameter's by its name, and of its shape.

        Folders from before states were named have a parameter's place in its optimizer for its name.
        """
        places: dict[str, tuple[int, int, Tensor]] = {}
        for number, optimizer in enumerate(self.optimizers):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            for i, (name, p) in enumerate(zip(self._names(optimizer), parameters, strict=True)):
                places |= dict.fromkeys((f"{number}.{name}", f"{number}.{i}"), (number, i, p))
        states: list[dict[int, dict]] = [{} for _ in self.optimizers]
        for key, value in saved.items():
            owner, _, slot = key.rpartition(".")
            number, i, own = places.get(owner, (0, 0, None))
            if (
                own is None
                or slot not in SLOTS[number]
                or (isinstance(value, Tensor) and value.ndim and value.shape != own.shape)
            ):
                raise InputError(f"its optimizer.safetensors is of another optimizer or model ({show(key)})")
            states[number].setdefault(i, {})[slot] = like(value, own) if isinstance(value, Tensor) else value
        if any(set(slots) != set(SLOTS[n]) for n, state in enumerate(states) for slots in state.values()):
            raise InputError("its optimizer.safetensors lacks a part of the optimizer's state")
        return states


def _differs(kept: Tensor | None, own: Tensor | None) -> str:
    if kept is None or own is None:
        return "is missing" if kept is None else "is not part of this run's"
    return f"has the shape {tuple(kept.shape)} and not {tuple(own.shape)}"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file. InputError if it is not there, torn or none."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise InputError(f"it has no {path.name}") from None
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"its {path.name} cannot be read: {one_line(error)[:200]}") from None


def release(learner: Learner) -> None:
    """Takes a policy's model out of what was wrapped around it for training, so that another learner may have it."""
    accelerator = learner.accelerator
    learner.model = accelerator.unwrap_model(learner.model, keep_fp32_wrapper=False)
    accelerator.free_memory()


def end_training(accelerator: Accelerator, *learners: Learner) -> None:
    """Ends what the processes share. What wraps a model goes first: were it the last to hold the process group, taking
    that apart would wait, with the interpreter's lock, for a thread that waits for the lock."""
    for learner in learners:
        learner.model = learner.policy.model
    accelerator.free_memory()
    gc.collect()
    accelerator.end_training()


def learning_rate(peak: float, step: int, warmup: int, progress: float, schedule: str = "cosine") -> float:
    """The rate at `step`, the next to run, and `progress`, the share of the run that is over.

    After a linear warm-up: constant; a cosine down to 0 at progress 1; or wsd, constant for the first half and then
    straight down to 0 (warmup-stable-decay, Hu et al. 2024, "MiniCPM", arXiv 2404.06395), so that what a run has
    learned at its constant rate serves runs of any length.
    """
    rate, progress = peak * min(1.0, (step + 1) / max(1, warmup)), min(1.0, progress)
    if schedule == "cosine":
        return rate * (0.5 + 0.5 * math.cos(math.pi * progress))
    return rate * min(1.0, 2 - 2 * progress) if schedule == "wsd" else rate
