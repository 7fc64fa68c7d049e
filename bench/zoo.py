"""Trains the models of the zoo, measures them, and puts them into the package; tables and pictures of all of them.

    clew bench zoo                        # every recipe of examples/zoo; each says how long it takes
    clew bench zoo 4x4 6x6                # these
    clew bench zoo 6x6 --from runs/mine   # the model of a run that is there already
    clew bench zoo --table                # what the cards of all say: bench/results/zoo.md, zoo.json, zoo.png, and
                                          # zoo_curves.png of those that were trained since cards keep their curve
    clew bench zoo --failures 6x6         # what one gets wrong: bench/results/zoo_failures.png
    clew bench zoo --thoughts 10x10-aloud # what one thinks before it answers: bench/results/zoo_thoughts.png

A recipe is trained into runs/zoo/NAME, goes on where it was begun and is left alone where it is finished. The run's
model and its copy of two bytes a weight are asked the same held-out questions, as many of each size; a copy that is
right 0.2 points more or less often is refused. What is in the package already from the same weights is left alone.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import torch

import measure
import plots
from clew import zoo
from clew.cli import terminal
from clew.config import MazeConfig, WorldConfig
from clew.errors import InputError
from clew.files import folder_written_whole
from clew.mazes import draw
from clew.mazes.world import MazeWorld
from clew.policy import Policy, model_folder
from clew.runs.cards import write_card
from clew.runs.evaluations import write_evaluation
from clew.runs.intervals import figures_in, merged, ranges_of
from clew.runs.metrics import read_metrics
from clew.runs.options import read_yaml
from clew.runs.provenance import provenance
from clew.train.config import SplitConfig, TrainConfig
from clew.train.evaluate import Reasoner, Sample, evaluate, held_out, world_grader
from clew.train.opening import opened
from clew.world import Question, World
from measure import figure, keep, options, other_options

RECIPES = Path("examples/zoo")
ALOUD = "thought and path"  # the loss of a model that thinks
STORED = torch.float16  # weights are far from its limits, and it rounds them eight times finer than bfloat16
MOST_BYTES, ALL_BYTES = 3_000_000, 25_000_000  # of one model's weights, and of all
MOST_APART = 0.002  # of exact answers, between a model and its copy
BY_GROUP = ("questions", "exact", "optimal", "valid", "fork_steps")
RANGES = 8  # of lookaheads, in the table
SHOWN, TRIED = 24, 4000  # failures on a sheet, and questions that are asked for them
THOUGHTS = 6  # on a sheet
SAMPLES = 40  # questions whose thoughts and answers are kept beside a card, for clew view
refuse = partial(measure.refuse, "zoo")


def recipes() -> dict[str, Path]:
    return {file.stem: file for file in sorted(RECIPES.glob("*.yaml"), key=lambda file: (len(file.stem), file.stem))}


def trained(name: str, runs: Path) -> Path:
    """The finished run of a recipe; begun, or gone on with, where it is not."""
    recipe, out = recipes()[name], runs / name
    if not (out / "eval.json").is_file():
        where = "--resume" if (out / "config.yaml").is_file() else "--out"
        command = f"-m clew {command_of(read_yaml(recipe))} --config".split()
        if done := subprocess.run([sys.executable, *command, str(recipe), where, str(out)]).returncode:
            sys.exit(done)
    return out


def thinks(values: dict[str, Any]) -> bool:
    """Whether a run, or a recipe, of these options makes a model that thinks before it answers."""
    return "policies" in values or "warm_start" in values


def command_of(values: dict[str, Any]) -> str:
    return "split" if thinks(values) else "train"


def maze_config(run: Path) -> WorldConfig:
    """The mazes that a run was trained on."""
    values = read_yaml(run / "config.yaml")
    refuse(values.get("world") not in (None, "mazes"), f"{run} was not trained on mazes")
    begun = values["model"]["folder"]
    refuse(begun and Path(begun).is_absolute(), f"{run} began at {begun}, which is nowhere else")
    return WorldConfig(mazes=MazeConfig(**values["mazes"]))


def asked(
    world: MazeWorld, reasoner: Reasoner, questions: Sequence[Question], keep: int = 0
) -> tuple[dict[str, Any], list[Sample]]:
    """The report of an evaluation, as a card keeps it: the figures that people are shown; and the first samples."""
    report, samples = evaluate(world, reasoner, iter(questions), world_grader(world), keep=keep)
    kept = {}
    for name, value in report.items():
        if name.startswith("by_"):
            kept[name] = {key: {one: group[one] for one in BY_GROUP if one in group} for key, group in value.items()}
        elif name.startswith("baseline_by_"):
            kept[name] = {key: {one: group[one] for one in BY_GROUP[:3]} for key, group in value.items()}
        elif name == "baseline":
            kept[name] = {one: part for one, part in value.items() if one == "questions" or world.label(one)}
        elif name not in figures_in(report) or world.label(name):
            kept[name] = value
    return kept, samples


def sizes_in_words(sizes: Sequence[Any]) -> str:
    """3x3 to 6x6, and rectangles if those between are there too; or a list."""
    sides = sorted(size for size in sizes if isinstance(size, int))
    if len(sides) > 2 and sides == list(range(sides[0], sides[0] + len(sides))):
        others = {tuple(size) for size in sizes if not isinstance(size, int)}
        words = f"{sides[0]}x{sides[0]} to {sides[-1]}x{sides[-1]}"
        if not others or others == set(permutations(sides, 2)):
            return words + (" and all rectangles between" if others else "")
    return ", ".join(f"{size}x{size}" if isinstance(size, int) else f"{size[0]}x{size[1]}" for size in sizes)


def once(sizes: Sequence[Any]) -> list[Any]:
    """Each of the sizes once, small ones first; a list may name some twice, so that they come more often."""
    each = [size for number, size in enumerate(sizes) if size not in sizes[:number]]
    return sorted(each, key=lambda size: size * size if isinstance(size, int) else size[0] * size[1])


def about(name: str, run: Path, policy: Policy) -> dict[str, Any]:
    """A card without its figures: what a model is, and how it was made."""
    values = read_yaml(run / "config.yaml")
    refuse(values.get("rounds"), f"{run} had rounds after its imitation, which a card has no place for")
    metrics = read_metrics((run / "imitation" / "shoggoth" if thinks(values) else run) / "metrics.jsonl")
    last = metrics[-1]
    made = json.loads((run / "eval.json").read_text())
    sizes = once(values["mazes"]["sizes"])
    generators, recipe = values["mazes"]["generators"], recipes().get(name)
    mazes = sizes_in_words(sizes) + (f" by {', '.join(generators)}" if generators != ["dfs"] else "")
    if values["mazes"].get("anywhere"):
        mazes += " anywhere in {0}x{0}".format(values["mazes"]["max_size"])
    config: Any = policy.model.config
    return {
        "name": name,
        "mazes": mazes,
        "sizes": sizes,
        "generators": generators,
        "model": type(policy.model).__name__,
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "heads": config.num_attention_heads,
        "parameters": sum(p.numel() for p in policy.model.parameters()),
        "loss": ALOUD if thinks(values) else values["loss"],
        "trained": {
            "command": f"clew {command_of(values)} --config {recipe if recipe else 'config.yaml'}",
            "seed": values["seed"],
            "steps": last["step"],
            "minutes": round(last["seconds"] / 60, 2),
            "versions": made["versions"],
            "machine": made["machine"],
            "weights": hashed(run),
            "begun_from": values["model"]["folder"],
            "curve": [
                [row["step"], round(row["seconds"] / 60, 2), row["held_out_optimal"]]
                for row in metrics
                if "held_out_optimal" in row
            ],
        },
    }


def hashed(run: Path) -> str:
    return hashlib.sha256((model_folder(run) / "model.safetensors").read_bytes()).hexdigest()


def in_words(card: dict[str, Any]) -> str:
    """What a model card says of a model before its figures."""
    made = card["trained"]
    does = "thinks in a search, and then writes" if card["loss"] == ALOUD else "writes"
    return (
        f"A {card['model']} of {card['layers']} layers, width {card['width']} and {card['parameters']:,} parameters "
        f"that {does} shortest paths through mazes of {card['mazes']}, trained on the loss called {card['loss']} with "
        f"`config.yaml`: {made['steps']:,} steps in {made['minutes']:.1f} minutes, seed {made['seed']}, on "
        f"{made['machine']}. Weights are rounded to {card['stored']} in the file and open as float32. The figures are "
        f"this file's, on {card['questions']:,} held-out questions, answered greedily."
    )


def put(name: str, run: Path, per_size: int) -> dict[str, Any]:
    """Measures a run's model and its copy of two bytes a weight, and puts the copy into the package with its card."""
    config = maze_config(run)
    world, whole = opened(run, config)
    assert isinstance(world, MazeWorld)
    questions = list(held_out(world, per_size * len(set(world.sizes))))
    before, _ = asked(world, whole, questions)
    with folder_written_whole(zoo.HERE / name) as part:
        policy = Policy.load(run, torch.float32)
        model = part / model_folder(run).name
        policy.save(model, STORED)
        shutil.copy(run / "config.yaml", part / "config.yaml")
        size = (model / "model.safetensors").stat().st_size
        refuse(size > MOST_BYTES, f"{name}: {size:,} bytes of weights are more than {MOST_BYTES:,}", code=1)
        copy = opened(part, config)[1]
        after, samples = asked(world, copy, questions, SAMPLES if copy.shoggoth else 0)
        apart = after["exact"]["value"] - before["exact"]["value"]
        print(f"{name}: exact {figure(before['exact'], 100)}, its copy {100 * apart:+.3f} points", flush=True)
        far = f"{name}: its copy is {100 * apart:+.3f} points apart; the limit is 0.2"
        refuse(abs(apart) > MOST_APART, far, code=1)
        card = about(name, run, policy) | {"stored": str(STORED).removeprefix("torch."), "bytes": size}
        card |= after | {"whole": {"exact": before["exact"]["value"]}, "per_size": per_size}
        card |= {"not_evaluated": world.not_evaluated()} if world.not_evaluated() else {}
        card |= {"held_out": world.held_out_rule, **provenance(["bench", "zoo", name])}
        write_evaluation(part, card, [sample.record for sample in samples])
        names = {"headline": "optimal", "opens": f"{zoo.PREFIX}{name}"}
        write_card(model, f"{zoo.PREFIX}{name}", in_words(card), card, card["trained"], card["baseline"], **names)
    return card


def build(args: Namespace) -> None:
    """Trains and puts what is asked for."""
    names = args.names or list(recipes())
    refuse(args.run and len(names) != 1, "--from is one run, for one name")
    for name in names:
        refuse(not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name), f"{name!r} is no name of a model")
        known = name in recipes()
        refuse(not (known or args.run), f"{name!r} has no recipe; there are {', '.join(recipes())}")
        run = args.run or trained(name, args.runs)
        recipe = read_yaml(recipes()[name]) if known else {}
        kind = SplitConfig if thinks(recipe) else TrainConfig
        if known and (others := other_options(recipe, run, kind)):
            made = ", ".join(f"{option} {value}" for option, value in others.items())
            refuse(True, f"{run} was made with {made}, and {recipes()[name]} says otherwise")
        if not args.again and name in zoo.names():
            card = zoo.card(name)
            if (card["trained"]["weights"], card["per_size"]) == (hashed(run), args.questions):
                print(f"{name}: is in the package already")
                continue
        put(name, run, args.questions)
    total = sum(file.stat().st_size for file in zoo.HERE.rglob("*") if file.is_file())
    refuse(total > ALL_BYTES, f"the zoo has {total:,} bytes, more than {ALL_BYTES:,}", code=1)


def overview(out: Path) -> None:
    """What all cards say, as tables and a picture of accuracy against lookahead."""
    cards = {name: zoo.card(name) for name in zoo.names()}
    table = [
        "| name | mazes | layers x width | parameters | loss | trained | a shortest path | random walk | MB |",
        "|---" * 9 + "|",
    ]
    for name, card in cards.items():
        model = f"{card['layers']} x {card['width']} | {card['parameters']:,} | {card['loss']}"
        made = f"{card['trained']['minutes']:.0f} minutes, {card['trained']['machine']}"
        rates = f"{figure(card['optimal'], 100)} | {100 * card['baseline']['optimal']['value']:.1f}"
        table.append(
            f"| `{zoo.PREFIX}{name}` | {card['mazes']} | {model} | {made} | {rates} | {card['bytes'] / 1e6:.1f} |"
        )
    for kind in ("size", "lookahead"):
        table += ["", *by(kind, cards)]
    plots.zoo(cards, out / "zoo.png")
    if curves := {name: card for name, card in cards.items() if card["trained"].get("curve")}:
        plots.zoo_curves(curves, out / "zoo_curves.png")
    each = sorted({card["per_size"] for card in cards.values()})
    about = f"{' or '.join(f'{n:,}' for n in each)} held-out questions a size; %, 95% intervals."
    keep("zoo", out, cards, table, about)


def by(kind: str, cards: dict[str, dict[str, Any]]) -> list[str]:
    """Shortest paths of every model by size or by ranges of lookahead."""
    every = dict.fromkeys(group for card in cards.values() for group in card.get(f"by_{kind}", {}))
    names = sorted(every, key=lambda group: [int(number) for number in group.split("x")])
    ranges = ranges_of(names, RANGES)
    rows = [f"| {kind} | {' | '.join(f'`{zoo.PREFIX}{name}`' for name in cards)} |", "|---" * (len(cards) + 1) + "|"]
    found = [merged(card.get(f"by_{kind}", {}), ranges) for card in cards.values()]
    for group in dict.fromkeys(ranges[name] for name in names):
        rates = (figure(one[group]["optimal"], 100) if group in one else "" for one in found)
        rows.append(f"| {group} | {' | '.join(rates)} |")
    return rows


def at_largest(name: str) -> tuple[World, Reasoner]:
    """A model, and the world of the largest mazes that it knows."""
    config = maze_config(zoo.folder(name))
    config.mazes.sizes = zoo.card(name)["sizes"][-1:]
    return opened(Path(f"{zoo.PREFIX}{name}"), config)


def failures(name: str, out: Path) -> None:
    """A sheet of held-out mazes of the largest size that a model answers wrongly."""
    world, reasoner = at_largest(name)
    wrong: list[draw.Attempt] = []
    count = 0
    for first in range(0, TRIED, 200):
        asked = list(held_out(world, first + 200))[first:]
        _, samples = evaluate(world, reasoner, iter(asked), [], keep=200)
        missed = [not sample.figures["optimal"] for sample in samples]
        count += len(samples)
        wrong += [
            draw.Attempt(sample.question.reference, sample.answer)
            for sample, miss in zip(samples, missed, strict=True)
            if miss
        ]
        if len(wrong) >= SHOWN:
            break
    refuse(not wrong, f"{name} answers all of {count:,} questions", code=1)
    draw.maze_sheet(wrong, out / "zoo_failures.png", most=SHOWN)
    print(f"{len(wrong)} of {count:,} are wrong; the first {min(len(wrong), SHOWN)} are in {out / 'zoo_failures.png'}")


def thoughts(name: str, out: Path) -> None:
    """A sheet of held-out mazes of the largest size with what a model thinks and then answers."""
    world, reasoner = at_largest(name)
    refuse(reasoner.shoggoth is None, f"{zoo.PREFIX}{name} answers without a thought")
    _, samples = evaluate(world, reasoner, held_out(world, THOUGHTS), [], keep=THOUGHTS)
    sheet = [draw.Attempt(one.question.reference, one.answer, one.thought or "") for one in samples]
    draw.maze_sheet(sheet, out / "zoo_thoughts.png", columns=3, side=3.6)
    print(f"the first {len(sheet)} held-out questions are in {out / 'zoo_thoughts.png'}")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("names", nargs="*", help="models; by default all recipes")
    parser.add_argument("--from", dest="run", type=Path, help="a finished run to take the model of")
    parser.add_argument("--questions", type=int, default=2000, help="held-out questions a size")
    parser.add_argument("--again", action="store_true", help="measure and put what is in the package already, too")
    parser.add_argument("--runs", type=Path, default=Path("runs/zoo"), help="where recipes are trained")
    parser.add_argument("--table", action="store_true", help="only the overview of all cards")
    parser.add_argument("--failures", metavar="NAME", help="only a sheet of what a model gets wrong")
    parser.add_argument("--thoughts", metavar="NAME", help="only a sheet of what a model thinks before it answers")
    args = parser.parse_args()
    terminal.quiet()
    try:
        if args.table:
            overview(args.out)
        elif args.failures:
            failures(args.failures, args.out)
        elif args.thoughts:
            thoughts(args.thoughts, args.out)
        else:
            build(args)
    except InputError as error:  # a run of two policies, a name that is not there, ...
        refuse(True, str(error))


if __name__ == "__main__":
    main()
