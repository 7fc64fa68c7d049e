"""A world of tables: a shoggoth that is a softmax over thoughts, a face that is a softmax over answers to each thought.

Its expected score is a sum and not an estimate, so all noise in a comparison is that of training itself. Thousands of
replicas, each with tables of its own, learn side by side by the very rules of `credit.py`.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clew.credit import RULES
from clew.errors import InputError
from clew.train.plan import Components

Array = NDArray[np.float64]
CHUNK = 200  # replicas at once: their tables stay in the processor's cache
POINTS = 21  # of a learning curve, the start included


@dataclass(frozen=True)
class World:
    """Tables of scores, and where both policies start. Spreads are standard deviations of logits."""

    questions: int = 4
    """that both policies learn, side by side"""
    thoughts: int = 32
    """that a question could get"""
    answers: int = 16
    """that a thought could get"""
    thought_spread: float = 1.0
    """between the thoughts of a question"""
    answer_spread: float = 2.0
    """between the answers of a thought; thoughts differ in it, by a factor of e^0.5 either way"""
    grader_noise: float = 0.1
    """standard deviation of what the grader adds to a score"""
    difficulty: float = 1.0
    """half the questions are easier by so much, half harder"""
    start: float = 1.0
    """spread of both policies' logits before training"""


@dataclass(frozen=True)
class Cell:
    """One rule in one world at one price: a job of its own, with a seed of its own."""

    world: World = field(default_factory=World)
    rule: str = "denoised"
    options: dict[str, Any] = field(default_factory=dict)
    answers: int = 4
    """k: answers to a thought"""
    thought_cost: float = 4.0
    """what a thought costs, in answers"""
    round_cost: float = 64.0
    """what a round may cost a question, in answers; n follows from it"""
    total_cost: float = 2560.0
    """what the whole training may cost a question, in answers"""
    lr: float = 1.0
    replicas: int = 2000
    seed: int = 0

    def thoughts(self) -> int:
        """n: the thoughts that a round's price buys, at least 2."""
        return max(2, round(self.round_cost / (self.thought_cost + self.answers)))

    def rounds(self) -> int:
        """As many as the whole price buys."""
        return max(1, int(self.total_cost // (self.thoughts() * (self.thought_cost + self.answers))))


def tables(world: World, replicas: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """scores_RQMA in [0, 1], and the starting logits of the shoggoth (R, Q, M) and of the face (R, Q, M, A)."""
    shape = (replicas, world.questions, world.thoughts, world.answers)
    shift_Q = world.difficulty * np.where(np.arange(world.questions) % 2, -1.0, 1.0)
    thought_RQM = world.thought_spread * rng.standard_normal(shape[:3])
    spread_RQM = world.answer_spread * np.exp(0.5 * rng.standard_normal(shape[:3]))
    logits = shift_Q[:, None, None] + thought_RQM[..., None] + spread_RQM[..., None] * rng.standard_normal(shape)
    shoggoth_RQM, face_RQMA = world.start * rng.standard_normal(shape[:3]), world.start * rng.standard_normal(shape)
    return 1 / (1 + np.exp(-logits)), shoggoth_RQM, face_RQMA


def expected_scores(scores_RQMA: Array, shoggoth_RQM: Array, face_RQMA: Array) -> Array:
    """The exact expected score of each question under both policies' logits: (R, Q)."""
    worth_RQM = (softmax(face_RQMA) * scores_RQMA).sum(-1)
    return (softmax(shoggoth_RQM) * worth_RQM).sum(-1)


def components(world: World, replicas: int = 200, seed: int = 0) -> Components:
    """Variance components of a graded score at the start: exact over each table, averaged over tables."""
    scores, shoggoth, face = tables(world, replicas, np.random.default_rng(seed))
    thought_RQM, answer_RQMA = softmax(shoggoth), softmax(face)
    worth_RQM = (answer_RQMA * scores).sum(-1)
    within_RQM = (answer_RQMA * scores**2).sum(-1) - worth_RQM**2
    mean_RQ = (thought_RQM * worth_RQM).sum(-1)
    between_RQ = (thought_RQM * worth_RQM**2).sum(-1) - mean_RQ**2
    answers = float((thought_RQM * within_RQM).sum(-1).mean() + world.grader_noise**2)
    return Components(float(mean_RQ.var(1, ddof=1).mean()), float(between_RQ.mean()), answers)


def softmax(logits: Array) -> Array:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def draw(probs: Array, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`count` indices from each distribution on the last axis, with replacement: (..., count)."""
    ends = probs.cumsum(-1)[..., None, :-1]
    return (rng.random((*probs.shape[:-1], count, 1)) > ends).sum(-1)


def learn_round(
    cell: Cell, scores_RQMA: Array, shoggoth_RQM: Array, face_RQMA: Array, rng: np.random.Generator
) -> None:
    """Sample, grade, credit, update: moves both policies' logits in place, up the gradient of sum(weight * log p)."""
    R, Q, M, A = scores_RQMA.shape
    n, k = cell.thoughts(), cell.answers
    flat = np.arange(R * Q)[:, None]
    thought_probs_GM, face_probs_GMA = softmax(shoggoth_RQM).reshape(R * Q, M), softmax(face_RQMA).reshape(R * Q, M, A)
    thought_GN = draw(thought_probs_GM, n, rng)
    answer_GNK = draw(face_probs_GMA[flat, thought_GN], k, rng)
    seen_GNK = scores_RQMA.reshape(R * Q, M, A)[flat[..., None], thought_GN[..., None], answer_GNK]
    seen_GNK = seen_GNK + cell.world.grader_noise * rng.standard_normal(seen_GNK.shape)
    thought_w_GN, answer_w_GNK = weights(cell, seen_GNK, Q)

    place_GN = flat * M + thought_GN
    place_GNK = place_GN[..., None] * A + answer_GNK
    pull_GM = np.bincount(place_GN.ravel(), thought_w_GN.ravel(), R * Q * M).reshape(R * Q, M)
    shoggoth_RQM += cell.lr * (pull_GM - thought_probs_GM * pull_GM.sum(-1, keepdims=True)).reshape(R, Q, M)
    pull_GMA = np.bincount(place_GNK.ravel(), answer_w_GNK.ravel(), R * Q * M * A).reshape(R * Q, M, A)
    face_RQMA += cell.lr * (pull_GMA - face_probs_GMA * pull_GMA.sum(-1, keepdims=True)).reshape(R, Q, M, A)


def weights(cell: Cell, seen_GNK: Array, questions: int) -> tuple[Array, Array]:
    """The rule's weights. Replicas never mix: a batch is the questions of one of them."""
    shape, options = seen_GNK.shape, dict(cell.options)
    whole = options.pop("scope", "question") == "batch"
    if whole:  # a batch is one question with all the batch's thoughts (see credit.py), of which each has its share
        seen_GNK = seen_GNK.reshape(shape[0] // questions, questions * shape[1], shape[2])
    given = RULES[cell.rule](seen_GNK, **options)
    share = questions if whole else 1
    return share * given.thought_QN.reshape(shape[:2]), share * given.answer_QNK.reshape(shape)


def run(cell: Cell) -> dict[str, Array]:
    """Trains all replicas; one array a figure, over replicas, and the learning curve (replicas, POINTS).

    gained: share of what could be gained over the start, at the end of training; early: at a quarter of its cost;
    area: its mean over training;
    cost_90: share of the training's cost after which 90% of it are gained, 1 where they never are; fall: by how much
    the end is below the best point of the curve; hard: as gained, for the harder half of the questions.
    Equal seeds give equal tables whatever the rule. InputError for a rule that is not known.
    """
    if cell.rule not in RULES:
        raise InputError(f"rule: {cell.rule!r} is not one of {', '.join(RULES)}")
    parts = [_run_chunk(cell, first, min(CHUNK, cell.replicas - first)) for first in range(0, cell.replicas, CHUNK)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _run_chunk(cell: Cell, first: int, replicas: int) -> dict[str, Array]:
    scores, shoggoth, face = tables(cell.world, replicas, np.random.default_rng([cell.seed, first, 0]))
    dice = np.random.default_rng([cell.seed, first, 1])
    rounds = cell.rounds()
    looks = np.unique(np.round(np.linspace(0, rounds, POINTS)).astype(int))
    curve_LRQ = [expected_scores(scores, shoggoth, face)]
    for done in range(1, rounds + 1):
        learn_round(cell, scores, shoggoth, face, dice)
        if done in looks:
            curve_LRQ.append(expected_scores(scores, shoggoth, face))
    curve_RLQ = np.stack(curve_LRQ).transpose(1, 0, 2)
    best_RQ = scores.max((2, 3))
    curve_RL = _gained(curve_RLQ.mean(-1), best_RQ.mean(-1))
    hard = slice(1, None, 2)
    even_RL = np.array([np.interp(np.linspace(0, rounds, POINTS), looks, row) for row in curve_RL])
    passed_RL = curve_RL >= 0.9
    cost_90 = np.where(passed_RL.any(1), looks[passed_RL.argmax(1)] / rounds, 1.0)
    hard_R, end_R = _gained(curve_RLQ[..., hard].mean(-1), best_RQ[:, hard].mean(-1))[:, -1], curve_RL[:, -1]
    figures = {"gained": end_R, "early": even_RL[:, POINTS // 4], "area": even_RL.mean(1), "cost_90": cost_90}
    return figures | {"fall": curve_RL.max(1) - end_R, "hard": hard_R, "curve": even_RL}


def _gained(curve_RL: Array, best_R: Array) -> Array:
    start_R = curve_RL[:, :1]
    return (curve_RL - start_R) / (best_R[:, None] - start_R)


def as_json(cell: Cell) -> dict[str, Any]:
    """The cell as plain values, the same for equal cells."""
    return asdict(cell)


def from_json(values: dict[str, Any]) -> Cell:
    return Cell(**{**values, "world": World(**values["world"])})
