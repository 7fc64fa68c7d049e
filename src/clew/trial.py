"""What it takes to try something on a model and leave no trace: noisy copies, and putting all back as it was."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel
from transformers.utils import logging

from clew.attention import as_written, read_by

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@contextmanager
def on_trial(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """The model for evaluation, and afterwards as it was."""
    was_training, was_read_by = [(m, m.training) for m in model.modules()], model.config._attn_implementation
    mixed = vars(model).get("forward")
    original = vars(model).get("_original_forward")  # accelerate puts half precision into the forward pass itself
    try:
        if original is not None:
            vars(model)["forward"] = original
        yield model.eval()
    finally:
        if original is not None:
            vars(model)["forward"] = mixed
        set_reading(model, was_read_by)
        for module, training in was_training:
            module.training = training


@contextmanager
def apart(device: str) -> Iterator[None]:
    """What a check is asked amid has no part in it: no gradients or half precision, say, or compiled modules."""
    plain = torch.autocast("cpu", enabled=False), torch.autocast(device, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), as_written(), plain[0], plain[1]:
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """transformers warns of what the check is there to find out."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def set_reading(model: PreTrainedModel, implementation: str | None) -> None:
    if implementation is not None and read_by(model) != {implementation}:
        model.set_attn_implementation(implementation)


def noisy_copy(base: PreTrainedModel, noise: float) -> PreTrainedModel | None:
    """A copy in float32 on the CPU whose weights are noisy enough for every one of them to matter.

    Without hooks: those that a user has hung on the model are not there to see it checked. None without noise, and for
    a model that does not bear copying.
    """
    if not noise:
        return None
    aside = [(module, name, hooks) for module in base.modules() for name in HOOKS if (hooks := getattr(module, name))]
    try:
        for module, name, _ in aside:
            setattr(module, name, type(getattr(module, name))())
        noisy = copy.deepcopy(base).float().cpu()
    except Exception:  # it holds what cannot be copied: results of an earlier pass, say, or weights of 4 bits
        return None
    finally:
        for module, name, hooks in aside:
            setattr(module, name, hooks)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in noisy.parameters():
            spread = 0.1 if parameter.ndim < 2 else 0.5 / parameter[0].numel() ** 0.5
            parameter.add_(torch.randn_like(parameter), alpha=noise * spread)
            parameter.requires_grad_()
    return noisy
