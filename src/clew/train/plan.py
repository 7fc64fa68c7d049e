"""How many thoughts, how many answers: variance components of nested scores, and the best use of a budget."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from clew.errors import InputError
from clew.runs.metrics import read_metrics


@dataclass(frozen=True)
class Components:
    """Where scores_QNK vary: estimates of a nested random-effects model, none below 0."""

    question: float
    """variance between questions"""
    thought: float
    """variance between the thoughts of a question"""
    answer: float
    """variance between the answers of a thought"""

    def reliability(self, k: float) -> float:
        """The share of the variance of a thought's mean over k answers that is its own; 0 if there is none."""
        total = self.thought + self.answer / k
        return self.thought / total if total > 0 else 0.0


def variance_components(scores_QNK: ArrayLike) -> Components:
    """Estimates by the method of moments, from every question with its sampled (not NaN) scores.

    With one answer a thought, all that varies within a question is put down to thoughts; with one thought, nothing is.
    Source: Searle, Casella and McCulloch, "Variance Components" (1992), nested random model, unbalanced.
    """
    scores = np.asarray(scores_QNK, float)
    sampled = ~np.isnan(scores)
    k_QN = sampled.sum(-1)
    means_QN = np.where(k_QN > 0, np.nansum(scores, -1) / np.maximum(k_QN, 1), np.nan)
    answer = _ratio(np.nansum((scores - means_QN[..., None]) ** 2), np.maximum(k_QN - 1, 0).sum())
    thought = _between(means_QN, answer, k_QN)
    n_Q = (k_QN > 0).sum(-1)
    inverse_Q = _ratio_of(np.where(k_QN > 0, 1 / np.maximum(k_QN, 1), 0).sum(-1), n_Q)
    means_Q = np.where(n_Q > 0, np.nansum(means_QN, -1) / np.maximum(n_Q, 1), np.nan)
    noise_Q = (thought + answer * inverse_Q) / np.maximum(n_Q, 1)
    spread = float(np.nanvar(means_Q, ddof=1)) if (n_Q > 0).sum() > 1 else 0.0
    question = max(0.0, spread - float(noise_Q[n_Q > 0].mean()) if (n_Q > 0).any() else 0.0)
    return Components(question, thought, answer)


def measured_run(run: Path, last: int) -> tuple[Components, tuple[float, float, float]]:
    """What the last rounds of a split measured: its components, and the costs in tokens of a thought, of an answer and
    of all samples of a question. InputError if the folder holds no rounds."""
    lines = read_metrics(run / "metrics.jsonl")
    try:
        rounds = [line for line in lines if line["step"] > 0][-last:]
        if not rounds:
            raise LookupError("none has ended yet")
        parts = [np.mean([line[f"var_{part}"] for line in rounds]) for part in ("questions", "thoughts", "answers")]
        costs = np.mean([(line["thought_cost"], line["answer_tokens"]) for line in rounds], axis=0)
        budget = np.mean([line["n"] * (costs[0] + line["k"] * costs[1]) for line in rounds])
    except (ValueError, LookupError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise InputError(f"run: {run} holds no rounds of a split to measure ({why})") from None
    return Components(*map(float, parts)), (float(costs[0]), float(costs[1]), float(budget))


def _between(means_QN: np.ndarray, answer: float, k_QN: np.ndarray) -> float:
    """Variance of thoughts' means within questions, less what averaging over answers leaves of theirs."""
    n_Q = (k_QN > 0).sum(-1)
    centre_Q = np.where(n_Q > 0, np.nansum(means_QN, -1) / np.maximum(n_Q, 1), 0.0)
    freedom_Q = np.maximum(n_Q - 1, 0)
    spread = _ratio(np.nansum((means_QN - centre_Q[:, None]) ** 2), freedom_Q.sum())
    inverse_Q = _ratio_of(np.where(k_QN > 0, 1 / np.maximum(k_QN, 1), 0).sum(-1), n_Q)
    noise = answer * _ratio((inverse_Q * freedom_Q).sum(), freedom_Q.sum())
    return max(0.0, spread - noise)


def _ratio(a: float, b: float) -> float:
    return float(a) / float(b) if b > 0 else 0.0


def _ratio_of(a_Q: np.ndarray, b_Q: np.ndarray) -> np.ndarray:
    return np.where(b_Q > 0, a_Q / np.maximum(b_Q, 1), 0.0)


def best_allocation(
    components: Components, thought_cost: float, answer_cost: float, budget: float, most_answers: int = 64
) -> tuple[int, int]:
    """The (n, k) that estimate thoughts best for a budget of tokens a question.

    Two-stage sampling: k = sqrt(thought_cost / answer_cost * answer variance / thought variance), and as many thoughts
    as the budget then buys (Cochran, "Sampling Techniques", 1977, section 10.6). Where thoughts do not differ, k is as
    large as two thoughts allow; always n >= 2 if the budget buys them.
    """
    if min(thought_cost, answer_cost, budget) <= 0:
        raise ValueError(f"costs and budget: {thought_cost}, {answer_cost}, {budget} are not all more than 0")
    room = max(1, int(min(most_answers, (budget / 2 - thought_cost) // answer_cost)))
    if components.thought <= 0:
        best = math.inf if components.answer > 0 else 1.0
    else:
        best = math.sqrt(thought_cost / answer_cost * components.answer / components.thought)
    k = int(max(1, min(round(min(best, most_answers)), room, most_answers)))
    return max(1, int(budget // (thought_cost + k * answer_cost))), k
