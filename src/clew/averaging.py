"""A running average of a policy's weights: at a constant learning rate it is a finished model at every moment, so that
a run may end, be looked at or go on whenever one likes."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from clew.errors import InputError
from clew.policy import Policy

FOLDER = "average"  # of a checkpoint


class Average:
    """Averages the weights that a policy has after each update. `policy` has the average: sample, evaluate and save it.

    It holds the model a second time. Source: see `polynomial`.
    """

    def __init__(self, learnt: Policy):
        self._learnt = learnt
        self._mean = AveragedModel(learnt.model, avg_fn=polynomial)
        self.policy = replace(learnt, model=self._mean.module)

    def update(self) -> None:
        self._mean.update_parameters(self._learnt.model)

    def save(self, checkpoint: Path) -> None:
        self.policy.save_into(checkpoint / FOLDER)

    def load(self, checkpoint: Path, updates: int) -> None:
        """Takes up what `save` left after so many updates. InputError if it is torn, or of another model."""
        if not (checkpoint / FOLDER).is_dir():
            raise InputError(f"it has no {FOLDER}")
        kept = Policy.load(checkpoint / FOLDER).model.state_dict()
        try:
            self.policy.model.load_state_dict(kept)
        except RuntimeError:
            raise InputError(f"its {FOLDER} is of another model") from None
        self._mean.n_averaged.fill_(updates)


def polynomial(mean: Tensor, now: Tensor, updates: Tensor | int) -> Tensor:
    """A running average that forgets as it grows: nine tenths of it are the run's last quarter.

    mean: over so many `updates`; now: the weights after the next. Source: Shamir and Zhang, "Stochastic Gradient
    Descent for Non-smooth Optimization" (2013), section 4, with 7.
    """
    return torch.lerp(mean, now, 8 / (updates + 8))
