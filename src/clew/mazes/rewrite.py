"""Search traces in other words that mean exactly the same, and the parser that proves it.

What a search leaves free: in which order the children of a cell come, as long as the algorithm could have taken them
so, and, in traces of records, which end of an edge is named first, since one of the two has been named before:

    (0,0) (0,0) ; (0,0) (0,1) ; (0,0) (1,0) ;      (0,0) (0,0) ; (1,0) (0,0) ; (0,0) (0,1) ;
    (0,0) <--> (0,0) (0,0) <--> (1,0)              (0,0) <--> (0,0) (1,0) <--> (0,0)
    (0,0) (0,1) (0,0) (1,0) (0,0) (1,0) …          a walk: dead ends of one cell in another order

A rewriting is an order of the trace's own words, so nothing is added and nothing is lost. What else stands in a record
(a mark, say) moves with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clew.errors import InputError
from clew.mazes import vocab
from clew.mazes.lattice import Cell, Question
from clew.mazes.traces import RULES, Step, _form, as_searched, parse_trace, path_from_trace
from clew.mazes.vocab import parse_cell, parse_question

START, END = "<THOUGHT_START>", "<THOUGHT_END>"
TRIES = 16  # orders that are tried before a trace keeps its own
GRAMMAR = frozenset(vocab.SPECIAL_TOKENS)


@dataclass(frozen=True)
class Record:
    """A step with the places of its words in the text."""

    step: Step
    words: tuple[int, ...]
    ends: tuple[int, ...]
    """the places of its two cells; none in a walk, whose steps share theirs"""


@dataclass(frozen=True)
class Meaning:
    """What a trace says, whatever the order of siblings and of an edge's ends: two that are equal tell one search."""

    steps: frozenset[tuple[Step, tuple[str, ...]]]
    """each step of the search, parent first, with what else is said of it"""
    last: Cell | None
    """where it ends"""
    rest: tuple[str, ...]
    """what is no step: the ends of the thought, and all from the first word on that fits none"""


def meaning(words: Sequence[str], before: Sequence[str] = ()) -> Meaning:
    """What a text says as a trace, or a line of one behind the words `before`. Total: raises on nothing."""
    records = _records(words, before)
    inside = {place for record in records for place in record.words}
    marks = [tuple(sorted(words[i] for i in one.words if _is_mark(words[i]))) for one in records]
    steps = frozenset(zip((one.step for one in records), marks, strict=True))
    last = records[-1].step.cell if records else None
    return Meaning(steps, last, tuple(word for i, word in enumerate(words) if i not in inside))


def _is_mark(word: str) -> bool:
    return word not in (";", "<-->") and parse_cell(word) is None


def other_order(
    prompt: Sequence[str], before: Sequence[str], words: Sequence[str], rng: np.random.Generator
) -> list[int] | None:
    """An order of a trace's words, or of those of one line behind `before`, in which they mean the same; drawn at
    random, and perhaps the one that they have. None for words that hold no step, or whose meaning cannot be proven.

    Ends are turned as far as the text can be read as steps. Siblings change places in a whole thought alone, and only
    where one of the algorithms could have written it about the prompt's maze: then it could have written this too.
    """
    records = _records(words, before)
    if not records:
        return list(range(len(words))) if set(words) <= {START, END} else None
    told = records if before else _reordered(prompt, words, records, rng)
    order = list(range(records[0].words[0]))
    for record in told:
        order += _turned(record, rng)
    order += range(records[-1].words[-1] + 1, len(words))
    said = [words[i] for i in order]
    proven = sorted(order) == list(range(len(words))) and meaning(said, before) == meaning(words, before)
    return order if proven else None


def _turned(record: Record, rng: np.random.Generator) -> tuple[int, ...]:
    """A record's words, its ends the other way round or not, by a coin."""
    if not record.ends or rng.random() < 0.5:
        return record.words
    a, b = record.ends
    return tuple({a: b, b: a}.get(place, place) for place in record.words)


def _records(words: Sequence[str], before: Sequence[str]) -> list[Record]:
    """The steps at the beginning of a text, up to the first word that fits none."""
    form = _form([word for word in (*before, *words) if word not in (START, END)])
    start = 1 if words[:1] and words[0] == START and not before else 0
    stop = next((i for i in range(start, len(words)) if words[i] in (START, END, "<PATH_START>")), len(words))
    been = {cell for word in before if (cell := parse_cell(word))}
    if form == "dfs":
        return _walk(words, start, stop) if not before else []
    records: list[Record] = []
    for places in _pieces(words, form, start, stop):
        step = _step(words, places, form, been)
        if step is None:
            break
        ends = tuple(i for i in places if parse_cell(words[i]))
        records.append(Record(step, places, ends))
        been.add(step.cell)
    return records


def _walk(words: Sequence[str], start: int, stop: int) -> list[Record]:
    """The steps of a walk: each cell with the marks before it, from the cell before."""
    records: list[Record] = []
    at, here = start, None
    for i in range(start, stop):
        cell = parse_cell(words[i])
        if words[i] in GRAMMAR:
            break
        if cell is None:
            continue
        records.append(Record(Step(cell if here is None else here, cell), tuple(range(at, i + 1)), ()))
        at, here = i + 1, cell
    return records


def _pieces(words: Sequence[str], form: str, start: int, stop: int) -> list[tuple[int, ...]]:
    """The places of each record's words, those of a piece at the end that is none included."""
    pieces: list[tuple[int, ...]] = []
    at = start
    for i in range(start, stop):
        if words[i] == ";" if form == "bfs" else i - at == 2:
            pieces.append(tuple(range(at, i + 1)))
            at = i + 1
    return pieces


def _step(words: Sequence[str], places: tuple[int, ...], form: str, been: set[Cell]) -> Step | None:
    """The step that a record tells: to the one of its cells that has not been named before, from the one that has; the
    first is from its cell to itself. None where that is not so."""
    told = [words[i] for i in places]
    cells = [cell for word in told if (cell := parse_cell(word))]
    odd = [word for word in told if word in GRAMMAR]
    if len(cells) != 2 or odd != {"bfs": [";"], "astar": ["<-->"]}[form]:
        return None
    if form == "astar" and told[1] != "<-->":
        return None
    a, b = cells
    if not been:
        return Step(a, b) if a == b else None
    if (a in been) == (b in been):
        return None
    return Step(a, b) if a in been else Step(b, a)


def _reordered(
    prompt: Sequence[str], words: Sequence[str], records: list[Record], rng: np.random.Generator
) -> list[Record]:
    """The records as the same algorithm could have come to them too, its siblings in another order; as they are where
    no algorithm could have written them."""
    question = _question(prompt)
    plain = _straight(words, records)
    algorithm = parse_trace(plain, question).algorithm if question else None
    if question is None or algorithm is None:
        return records
    question = as_searched(question, algorithm)
    on_path = set(path_from_trace(plain) or ())
    by_step = {record.step: record for record in records}
    for _ in range(TRIES if len(by_step) == len(records) else 0):
        order = _simulated(question, algorithm, by_step, on_path, rng)
        if len(order) == len(records):
            return [by_step[step] for step in order]
    return records


def _straight(words: Sequence[str], records: list[Record]) -> list[str]:
    """The text without marks, and with each parent before its child, as the algorithms write it."""
    out = list(words)
    for record in records:
        for place, cell in zip(record.ends, record.step, strict=False):
            out[place] = vocab.cell_text(cell)
    return [word for word in out if not _is_mark(word) or word in GRAMMAR]


def _question(prompt: Sequence[str]) -> Question | None:
    """The maze that was asked about, marks in its prompt left out; None if it cannot be read."""
    try:
        return parse_question(" ".join(word for word in prompt if word in GRAMMAR or parse_cell(word)))
    except InputError:
        return None


def _simulated(
    question: Question, algorithm: str, left: dict[Step, Record], on_path: set[Cell], rng: np.random.Generator
) -> list[Step]:
    """The algorithm once more, on a way of its own through these steps alone, to the target last; it may get stuck.
    A depth-first walk goes on to the target when it has been everywhere else."""
    rules, order, remaining = RULES[algorithm](*question[:3]), [], set(left)
    options = next(rules)
    while remaining:
        here = [step for step in options if step in remaining and (len(remaining) == 1 or step.cell != question.target)]
        aside = [step for step in here if step.cell not in on_path] if algorithm == "dfs" else []
        here = sorted(aside or here)
        if not here:
            break
        step = here[int(rng.integers(len(here)))]
        order.append(step)
        remaining.remove(step)
        options = rules.send(step) if remaining else []
    return order
