"""A split on a page: every thought and answer of some rounds, or of its final evaluation where there is no round, with
what they were worth and what each policy read."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clew.runs.metrics import metrics_file
from clew.runs.rollouts import Record, read_rollouts, rounds_in
from clew.view.page import Section, as_json
from clew.view.pictures import good_cells, maze_of
from clew.view.runs import config_of, facts_of, is_mazes, json_of, metrics_of, rounded

MOST = 6 * 2**20
"""bytes of rollouts that a run puts on a page; of each round so many questions as fit"""
SHOWN = (
    "rule",
    "rule_options",
    "policies",
    "face_sees",
    "paraphraser",
    "paraphrase",
    "grader",
    "monitor",
    "length_cost",
)
SHOWN += ("rounds", "questions", "thoughts", "answers", "max_thought", "objective.name", "optimizer.lr", "seed")
IMITATED = ("mazes.sizes", "world", "policies", "face_sees", "model.folder", "model.layers", "model.width")
IMITATED += tuple(f"warm_start.{name}" for name in ("steps", "per_step", "optimizer.name", "optimizer.lr"))
"""what is shown of a split without rounds"""
Json = dict[str, Any]


def sections(folder: Path, name: str, rounds: int) -> list[Section]:
    """The section of a split's run folder. rounds: how many of its rounds the page holds. InputError for rollouts that
    cannot be read."""
    config, report = config_of(folder), json_of(folder / "eval.json")
    files = rounds_in(folder)
    chosen = spread(list(files), rounds)
    mazes = is_mazes(config)
    told = [_round(number, files[number], mazes, MOST // max(1, len(chosen))) for number in chosen]
    told = told or evaluated(folder, mazes)
    evaluation = {stage: report[stage] for stage in ("before", "after") if isinstance(report.get(stage), dict)}
    after = evaluation.get("after", {})
    if not files and not config.get("rounds"):  # before is after; and a card of the zoo is one report
        evaluation = {"alone": after or report} if after or "questions" in report else {}
    run = {
        "name": name,
        "facts": facts_of(config, after | report, SHOWN if config.get("rounds", 1) else IMITATED),
        "metrics": metrics_of(metrics_file(folder, config.get("rounds", 1)).parent),
        "rounds": told,
        "of": len(files),
        "evaluation": evaluation,
    }
    return [Section("split", "Rollouts", {"runs": [run]})]


def evaluated(folder: Path, mazes: bool) -> list[Json]:
    """What a final evaluation was answered, as a round of questions that nobody learned from; [] where it is not kept.
    InputError for a file that cannot be read."""
    file = folder / "samples.jsonl"
    return [_round(0, file, mazes, MOST) | {"held_out": True}] if file.is_file() else []


def spread(numbers: Sequence[int], most: int) -> list[int]:
    """So many of the numbers, evenly spread, with the first and the last among them."""
    if len(numbers) <= most:
        return list(numbers)
    last = len(numbers) - 1
    places = [last] if most == 1 else [round(i * last / (most - 1)) for i in range(most)]
    return [numbers[place] for place in dict.fromkeys(places)]


def _round(number: int, file: Path, mazes: bool, most: int) -> Json:
    """A round as the page has it. Texts stand once each, in `texts`; wherever one is said, its place is."""
    texts: dict[str, int] = {}
    questions, held, count = [], 0, 0
    for record in read_rollouts(file):
        count += 1
        if questions and held > most:
            continue
        before = len(texts)
        questions.append(_question(record, texts, mazes))
        held += len(as_json(questions[-1])) + len(as_json(list(texts)[before:]))
    return {"round": number, "questions": questions, "of": count, "texts": list(texts)}


def _question(record: Record, texts: dict[str, int], mazes: bool) -> Json:
    prompt = record["prompt"]
    found = maze_of(prompt) if mazes else None
    maze, drawn = found if found else (None, None)
    thoughts = [_thought(thought, prompt, texts, maze) for thought in record["thoughts"]]
    asked: Json = {"number": record.get("number"), "prompt": _place(prompt, texts), "thoughts": thoughts}
    asked["read"] = len(record.get("context") or ())
    if drawn:
        asked["maze"] = drawn
    elif columns := record.get("columns"):
        asked["columns"] = {
            name: value if isinstance(value, str) else as_json(value) for name, value in columns.items()
        }
    return asked


def _thought(thought: Record, prompt: str, texts: dict[str, int], maze: Any) -> Json:
    found = _written(thought, texts) | {"answers": [_answer(one, texts, maze) for one in thought["answers"]]}
    if isinstance(thought.get("read"), str):
        found["read"] = list(_parts(thought["read"], prompt, thought["text"], texts))
    if thought.get("lines"):
        found["lines"] = [
            {"text": _place(line["text"], texts), "read": _place(line["read"], texts), "kept": bool(line.get("kept"))}
            for line in thought["lines"]
        ]
    return found


def _answer(answer: Record, texts: dict[str, int], maze: Any) -> Json:
    found = _written(answer, texts) | {"score": rounded(answer["score"])}
    for name in ("scores", "monitors"):
        if answer.get(name):
            found[name] = [[_place(one, texts), rounded(value)] for one, value in answer[name].items()]
    if answer.get("extra"):
        found["extra"] = {
            one: value if isinstance(value, str) else as_json(value) for one, value in answer["extra"].items()
        }
    if maze is not None:
        found["good"] = good_cells(maze, answer["text"])
    return found


def _written(one: Record, texts: dict[str, int]) -> Json:
    """A completion: its text's place, its tokens, their log-probability, whether it ended by itself, its weight."""
    found = {"text": _place(one["text"], texts), "weight": rounded(one["weight"])}
    found |= {"tokens": len(one.get("tokens") or ()), "ended": one.get("ended")}
    logps = [value for value in one.get("logps") or () if value is not None]
    return found | ({"logp": rounded(float(sum(logps)), 4)} if logps else {})


def _parts(read: str, prompt: str, thought: str, texts: dict[str, int]) -> Iterator[int | str]:
    """What the face read, as places of texts, and "prompt" and "thought" where it holds these word for word."""
    for name, whole in (("prompt", prompt), ("thought", thought)):
        before, found, behind = read.partition(whole) if whole else (read, "", "")
        if found:
            if before.strip():
                yield _place(before, texts)
            yield name
            read = behind
    if read.strip():
        yield _place(read, texts)


def _place(text: str, texts: dict[str, int]) -> int:
    return texts.setdefault(text, len(texts))
