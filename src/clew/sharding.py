"""Models whose weights are spread over processes (FSDP2): made so, read whole, and read from and into files.

Sampling takes another number of steps in each process, so it cannot wait for the others at each layer: for it, and for
all that only some processes read, the whole model is put together first, in `whole`. So a model has to fit on each
device by itself; what is shared out is what stands beside it: gradients, and the optimizer's state.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedModel

from clew.attention import inner, layers_of
from clew.errors import InputError
from clew.selfcheck import reads_rows, reads_trees, room_of, vouched_for

FAR = 8192  # tokens of the longest path, and of a batch, that a model is checked for before it is shared out


def spreads(accelerator: Accelerator) -> bool:
    """Whether accelerate's config asks for FSDP2, on CPUs too, where accelerate itself passes over it. InputError for
    the first FSDP, whose flat weights are no model's any more."""
    if accelerator.num_processes == 1 or os.environ.get("ACCELERATE_USE_FSDP", "").lower() != "true":
        return False
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise InputError(
            "accelerate: fsdp_version: 1 is not supported; expected 2, as in examples/accelerate/fsdp2.yaml"
        )
    return True


def share_out(model: nn.Module, accelerator: Accelerator, trees: bool) -> None:
    """Spreads a model's weights over the processes, in place; one that is spread already is left as it is.

    That it reads exactly is asked before, as far as FAR tokens, and no more after: it would take all processes.
    """
    base = inner(model)
    if not parts(model):
        far = min(FAR, room_of(base))
        if trees:
            reads_trees(model, far, FAR)
        else:
            reads_rows(model, far)
        model.to(accelerator.device)
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        for module in [*layers_of(base), model]:  # what is in no layer goes with the model itself, tied weights too
            fully_shard(module, mesh=mesh, reshard_after_forward=False)
    vouched_for(model)


def parts(model: nn.Module) -> list[Any]:
    """A model's modules that are spread over processes, each by itself; none where it is whole in each."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return []
    from torch.distributed.fsdp import FSDPModule

    return [module for module in model.modules() if isinstance(module, FSDPModule)]


@contextmanager
def whole(*models: nn.Module) -> Iterator[None]:
    """While entered, by all processes, each of them has all weights, and reading them waits for nobody."""
    spread = [part for model in models for part in parts(model)]
    for part in spread:
        part.unshard()
    try:
        yield
    finally:
        for part in spread:
            part.reshard()


def full(value: Tensor) -> Tensor:
    """A tensor that may be spread over processes, all of it, in each of them."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value  # type: ignore[operator]


def like(value: Tensor, own: Tensor) -> Tensor:
    """All of a tensor, which every process has, spread as `own` is."""
    if not hasattr(own, "full_tensor") or value.shape != own.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    mesh, places = own.device_mesh, own.placements  # type: ignore[attr-defined]
    return distribute_tensor(value.to(own.device), mesh, places, src_data_rank=None)


def is_spread(model: PreTrainedModel | nn.Module) -> bool:
    return bool(parts(model))
