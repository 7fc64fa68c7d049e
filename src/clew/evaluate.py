"""Greedy rollouts on held-out mazes: what a model really does when asked, with intervals and a baseline."""

import math
import platform
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np
import torch

import clew
from clew.errors import InputError
from clew.mazes.grading import PathGrade, grade_path, path_metrics
from clew.mazes.lattice import Cell, Question
from clew.mazes.questions import MazeStream
from clew.mazes.vocab import answer_cells, parse_cell, prompt_text, token_map
from clew.policy import Policy
from clew.rollout import continue_prompts

RATES = ("exact", "optimal", "valid", "target_reached", "starts_at_once", "ended")
SPARE_TOKENS = 8  # beyond the longest possible path: room to be seen going wrong
Z95 = 1.959963984540054


class Item(NamedTuple):
    """One maze to solve."""

    question: Question
    prompt: list[int]
    generator: str


@dataclass(frozen=True)
class Attempt:
    """What a policy answered to one question, read and graded."""

    item: Item
    asked: str
    text: str
    cells: list[Cell | None]
    starts_at_once: bool
    ended: bool
    grade: PathGrade
    solution: tuple[Cell, ...]

    @property
    def exact(self) -> bool:
        return self.ended and self.cells == list(self.solution)

    def values(self) -> dict[str, float]:
        """All metrics of this one attempt."""
        metrics = path_metrics(self.item.question, self.cells, self.solution)
        return {
            "exact": self.exact, "optimal": self.grade.optimal, "valid": self.grade.valid,
            "target_reached": self.grade.reaches_target, "starts_at_once": self.starts_at_once, "ended": self.ended,
            "mean_score": self.grade.score, **metrics,
        }  # fmt: skip


def held_out_items(policy: Policy, stream: MazeStream) -> Iterator[Item]:
    """The stream's questions with their prompts, one a maze, without end. Its sizes and generators must be single."""
    ids = token_map(policy.tokenizer, stream.max_size)
    for start in count(0, 64):
        forest = stream.forest(range(start, start + 64))
        parts = (np.split(flat, forest.starts_M[1:]) for flat in (forest.tokens_T, forest.answers_T))
        for i, (tokens, answers) in enumerate(zip(*parts, strict=True)):
            prompt = ids[tokens[: int(answers.argmax())]].tolist()
            yield Item(stream.questions(start + i)[0], prompt, stream.generators[0])


def held_out_streams(
    sizes: Sequence[tuple[int, int]], generators: Sequence[str], p: float, seed: int, stream: int = 2
) -> tuple[list[MazeStream], str]:
    """One stream of held-out mazes for each size and generator that has any, and a line about those that have none.

    There are four mazes of 2x2, for one, and the hash put none aside.
    """
    kinds = [MazeStream((size,), (generator,), p, held_out=True, seed=seed, stream=stream)
             for size in sizes for generator in generators]  # fmt: skip
    without = dict.fromkeys(f"{kind.sizes[0][0]}x{kind.sizes[0][1]} by {kind.generators[0]}"
                            for kind in kinds if kind.missing())  # fmt: skip
    line = f"there is no held-out maze of {', '.join(without)} (too few differ to put some aside)" if without else ""
    return [kind for kind in kinds if not kind.missing()], line


def balanced_items(
    policy: Policy,
    sizes: Sequence[tuple[int, int]],
    generators: Sequence[str],
    p: float,
    mazes: int,
    seed: int,
    stream: int = 2,
) -> Iterator[Item]:
    """Held-out mazes, as many of each size and generator, `mazes` in all (rounded up to a whole number of each).

    What has no held-out maze is left out (see `held_out_streams`); InputError, at once, if that leaves nothing.
    """
    parts, missing = held_out_streams(sizes, generators, p, seed, stream)
    if not parts:
        raise InputError(f"sizes: {missing}; choose a larger size, such as 3 by dfs, to evaluate on")
    streams = [islice(held_out_items(policy, one), -(-mazes // len(parts))) for one in parts]
    # In turn, so that the first few show every kind.
    return (item for in_turn in zip(*streams, strict=True) for item in in_turn)


def items_of(questions: Iterable[tuple[Question, str | None]], policy: Policy, source: str) -> Iterator[Item]:
    """Questions from elsewhere, asked in their own words where they have any. InputError for a cell the model lacks."""
    known = policy.tokenizer.get_vocab()
    for i, (question, text) in enumerate(questions):
        words = (text or prompt_text(question)).split()
        if not all(word in known for word in words):
            rows, cols = question.lattice.rows, question.lattice.cols
            raise InputError(f"{source}: maze {i + 1} is {rows}x{cols}, larger than this model's tokenizer knows")
        yield Item(question, [known[word] for word in words], "given")


def attempts(policy: Policy, items: Iterable[Item], batch: int = 256) -> Iterator[Attempt]:
    """Solves items greedily, `batch` at a time, in constant memory."""
    tokenizer = policy.tokenizer
    ends = tokenizer.convert_tokens_to_ids("<PATH_END>")
    if not isinstance(ends, int) or ends == tokenizer.unk_token_id:
        raise InputError("model: its tokenizer does not know <PATH_END>; it was not made for mazes")
    todo = iter(items)
    while chunk := list(islice(todo, batch)):
        cells = max(item.question.lattice.passages[0].size for item in chunk)
        written = continue_prompts(
            policy.model, [item.prompt for item in chunk], stop=lambda tokens: tokens[-1] == ends,
            max_new=cells + 2 + SPARE_TOKENS, pad_token_id=policy.pad_token_id, attention=policy.attention,
        )  # fmt: skip
        for item, continuation in zip(chunk, written, strict=True):
            asked = " ".join(tokenizer.convert_ids_to_tokens(item.prompt))
            yield read_attempt(item, tokenizer.convert_ids_to_tokens(continuation.tokens), asked)


def read_attempt(item: Item, tokens: Sequence[str], asked: str = "") -> Attempt:
    """Grades what a model wrote: any tokens whatever."""
    question = item.question
    starts, cells, ended = answer_cells(tokens)
    solution = question.path or tuple(question.lattice.shortest_path(question.origin, question.target))
    grade = grade_path(question, cells, ended)
    return Attempt(item, asked, " ".join(tokens), cells, starts, ended, grade, solution)


def random_walk(question: Question, rng: np.random.Generator) -> list[Cell]:
    """The baseline: a random non-backtracking walk. It stops at the target or in a dead end."""
    walk = [question.origin]
    longest = question.lattice.passages[0].size
    while walk[-1] != question.target and len(walk) <= longest:
        onward = [cell for cell in question.lattice.neighbours(walk[-1]) if len(walk) < 2 or cell != walk[-2]]
        if not onward:
            break
        walk.append(onward[rng.integers(len(onward))])
    return walk


def walk_attempt(item: Item, rng: np.random.Generator) -> Attempt:
    """The baseline's attempt at an item. Its path is said to end where the walk stops."""
    cells = random_walk(item.question, rng)
    return read_attempt(item, ["<PATH_START>", *(f"({r},{c})" for r, c in cells), "<PATH_END>"])


def wilson(successes: float, n: int) -> tuple[float, float]:
    """The 95% score interval of a rate (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    rate = successes / n
    middle = (rate + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(rate * (1 - rate) / n + Z95**2 / (4 * n * n))
    # Rounding must not put the rate outside its own interval.
    return min(rate, max(0.0, middle - half)), max(rate, min(1.0, middle + half))


class Tally:
    """Sums from which every figure of a report follows, so that a million attempts need no more room than one."""

    def __init__(self) -> None:
        self.n = 0
        self.sums: dict[str, float] = defaultdict(float)
        self.squares: dict[str, float] = defaultdict(float)

    def add(self, values: dict[str, float]) -> None:
        self.n += 1
        for name, value in values.items():
            self.sums[name] += value
            self.squares[name] += value * value

    def report(self) -> dict[str, Any]:
        """{mazes, metric: {value, low, high}, ...}: Wilson intervals for rates, normal ones for means."""
        out: dict[str, Any] = {"mazes": self.n}
        for name, total in self.sums.items():
            mean = total / self.n
            if name in RATES:
                low, high = wilson(total, self.n)
            else:
                variance = max(0.0, self.squares[name] / self.n - mean * mean)
                half = Z95 * math.sqrt(variance / max(1, self.n - 1))
                low, high = mean - half, mean + half
            out[name] = {"value": mean, "low": low, "high": high}
        return out


def evaluate(
    policy: Policy, items: Iterable[Item], batch: int = 256, seed: int = 0, keep: int = 100
) -> tuple[dict[str, Any], list[Attempt]]:
    """Solves every item and reports: all together, by size, generator, path length and held-out or not, and the
    baseline. Also returns the first `keep` attempts, for looking at. InputError if there is no item."""
    total, baseline = Tally(), Tally()
    groups: dict[str, dict[str, Tally]] = defaultdict(lambda: defaultdict(Tally))
    kept: list[Attempt] = []
    rng = np.random.default_rng([seed, 0xBA5E])
    for attempt in attempts(policy, items, batch):
        values = attempt.values()
        lattice = attempt.item.question.lattice
        total.add(values)
        groups["by_size"][f"{lattice.rows}x{lattice.cols}"].add(values)
        groups["by_generator"][attempt.item.generator].add(values)
        groups["by_path_length"][str(attempt.grade.shortest_steps)].add(values)
        groups["by_split"]["held_out" if lattice.held_out else "not_held_out"].add(values)
        walked = walk_attempt(attempt.item, rng).values()
        baseline.add(walked)
        groups["baseline_by_size"][f"{lattice.rows}x{lattice.cols}"].add(walked)
        groups["baseline_by_path_length"][str(attempt.grade.shortest_steps)].add(walked)
        if len(kept) < keep:
            kept.append(attempt)
    if total.n == 0:
        raise InputError("mazes: there is none to evaluate")
    report = total.report() | {"baseline": baseline.report()}
    for name, tallies in groups.items():
        ordered = sorted(tallies, key=lambda key: (len(key), key))
        report[name] = {key: tallies[key].report() for key in ordered}
    return report, kept


def provenance(command: Sequence[str] | None = None) -> dict[str, Any]:
    """What made a result: command, versions, machine."""
    import transformers

    return {
        "command": " ".join(["clew", *(sys.argv[1:] if command is None else command)]),
        "versions": {
            "clew": clew.__version__, "python": platform.python_version(),
            "torch": torch.__version__, "transformers": transformers.__version__,
        },
        "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
        + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""),
    }  # fmt: skip


def sample_record(attempt: Attempt) -> dict[str, Any]:
    """One line of samples.jsonl."""
    question = attempt.item.question
    return {
        "size": f"{question.lattice.rows}x{question.lattice.cols}", "generator": attempt.item.generator,
        "held_out": question.lattice.held_out, "origin": question.origin, "target": question.target,
        "passages": question.lattice.passages.astype(int).tolist(),
        "spans": [
            {"role": "prompt", "text": attempt.asked, "weight": 0.0},
            {"role": "answer", "text": attempt.text, "weight": 1.0},
        ],
        "solution": attempt.solution, "exact": attempt.exact, "score": attempt.grade.score,
        "optimal": attempt.grade.optimal, "valid": attempt.grade.valid,
    }  # fmt: skip


def cells_known(policy: Policy) -> int:
    """The largest square whose cells the policy's tokenizer knows, as the length of a side; 0 for none."""
    cells = {cell for token in policy.tokenizer.get_vocab() if (cell := parse_cell(token))}
    side = 0
    while all((side, other) in cells and (other, side) in cells for other in range(side + 1)):
        side += 1
    return side
