"""`clew plan`: how many thoughts a question, how many answers a thought."""

from dataclasses import dataclass
from pathlib import Path

from clew.cli.options import instance, parser_of
from clew.config import check_positive
from clew.errors import InputError


@dataclass
class PlanConfig:
    """How many thoughts a question and answers a thought estimate thoughts best, for a budget of tokens a question."""

    run: str | None = None
    """a split's run folder, whose metrics give what is not given here"""
    last: int = 10
    """how many of its last rounds to measure by"""
    thought_variance: float | None = None
    """variance of scores between the thoughts of a question"""
    answer_variance: float | None = None
    """variance of scores between the answers of a thought"""
    thought_cost: float | None = None
    """tokens that a thought costs: its own, written by the shoggoth and read by the face"""
    answer_cost: float | None = None
    """tokens that an answer costs"""
    budget: float | None = None
    """tokens a question"""


def run(args: list[str]) -> None:
    """The command."""
    parser = parser_of("plan", PlanConfig, str(PlanConfig.__doc__))
    config: PlanConfig = instance(parser, PlanConfig, parser.parse_args(args))
    from clew.train.plan import Components, best_allocation, measured_run

    check_positive(config, "budget", "thought_cost", "answer_cost", "last")
    check_positive(config, "thought_variance", "answer_variance", zero=True)
    parts = Components(0.0, config.thought_variance or 0.0, config.answer_variance or 0.0)
    thought_cost, answer_cost, budget = config.thought_cost, config.answer_cost, config.budget
    if config.run:
        parts, costs = measured_run(Path(config.run), config.last)
        thought_cost, answer_cost, budget = thought_cost or costs[0], answer_cost or costs[1], budget or costs[2]
    elif config.thought_variance is None or config.answer_variance is None:
        raise InputError("run: give a split's run folder, or --thought-variance and --answer-variance")
    if not thought_cost or not answer_cost or not budget:
        raise InputError("thought_cost, answer_cost, budget: all three are needed where no run is given")
    try:
        n, k = best_allocation(parts, thought_cost, answer_cost, budget)
    except (OverflowError, ValueError):
        raise InputError(f"budget: {budget:g} buys more samples than can be counted") from None
    print(f"variance of scores: between thoughts {parts.thought:.4f}, between answers of a thought {parts.answer:.4f}")
    print(f"cost in tokens: a thought {thought_cost:.1f}, an answer {answer_cost:.1f}; budget {budget:.0f} a question")
    print(f"best: n = {n} thoughts, k = {k} answers; a thought's mean score is then {parts.reliability(k):.0%} its own")
