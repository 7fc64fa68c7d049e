"""What monitors say of a round's rollouts, once its update is done: numbers for the log, and nothing else."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from clew.graders import as_given
from clew.monitors import Monitor
from clew.rollout.types import Rollout
from clew.text import show
from clew.train.crediting import every_answer, prompts_and_columns, shape_of


@contextmanager
def monitors_of(names: Sequence[str], time_limit: float) -> Iterator[list[Monitor]]:
    """Monitors in their processes, which end with the block. InputError for one that cannot be found."""
    monitors = [Monitor(name, time_limit) for name in names]
    try:
        for monitor in monitors:
            monitor.start()
        yield monitors
    finally:
        for monitor in monitors:
            monitor.close()


def watched(
    monitors: Sequence[Monitor], rollouts: Sequence[Rollout], report: Callable[[dict[str, Any]], None]
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """What each monitor says of every answer and the thought before it: values_QNK, NaN where it says nothing; and
    figures: the mean of what it says, and how often it failed. A monitor's first failure is told, none stops a run.

    Monitors read thoughts as the shoggoth wrote them, whatever a paraphraser made of them for others."""
    if not monitors:
        return {}, {}
    questions, _, texts = every_answer(rollouts)
    both = [pair for one in rollouts for pair in zip(one.thought_texts, one.answers, strict=True)]
    prompts, columns = prompts_and_columns(questions)
    thoughts = [text for text, several in both for _ in several]
    samples = columns | {"prompts": prompts, "completions": as_given(prompts, texts), "thoughts": thoughts}
    seen, figures = {}, {}
    for monitor in monitors:
        known = monitor.failed
        values_B, fault = monitor.watch(samples, len(texts))
        if fault and not known:
            report({"note": f"monitor: {show(monitor.name)} {fault}; its failures are counted from here on"})
        seen[monitor.name] = values_B.reshape(shape_of(rollouts))
        figures[f"monitor_errors_{monitor.name}"] = float(bool(fault))
        if not np.isnan(values_B).all():
            figures[f"monitor_{monitor.name}"] = float(np.nanmean(values_B))
    return seen, figures
