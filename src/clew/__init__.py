"""Clew trains transformers that search and then report, and gives each span exactly the gradient that it earned."""

from typing import TYPE_CHECKING

__version__ = "0.2.0"

if TYPE_CHECKING:
    from clew.learner import Learner
    from clew.policy import Policy
    from clew.tree import SpanTree, TreeBatch

__all__ = ["Learner", "Policy", "SpanTree", "TreeBatch", "__version__"]
_HOMES = {"SpanTree": "tree", "TreeBatch": "tree", "Policy": "policy", "Learner": "learner"}


def __getattr__(name: str):  # torch is imported when one of these is asked for, so that `clew --help` is quick
    if name not in _HOMES:
        raise AttributeError(f"module 'clew' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"clew.{_HOMES[name]}"), name)
