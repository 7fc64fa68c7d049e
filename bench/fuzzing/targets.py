"""What the fuzzing campaign starts with what it has drawn: targets, each a strategy and what is done with a draw.

Each `run(case, there)` is given an empty folder, and says whether the case was accepted (it was refused in one line
otherwise); whatever else happens is an `endings.Finding`.
"""

import io
import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st
from pyarrow import parquet
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from clew.cli.eval import EvalConfig
from clew.cli.plan import PlanConfig
from clew.cli.solve import SolveConfig
from clew.config import MazeConfig, ModelConfig
from clew.mazes import MazeStream, maze_questions, question_text
from clew.mazes.interop import ascii_maze, read_questions
from clew.policy import Policy
from clew.prompts.rows import read_rows
from clew.prompts.world import PromptWorld
from clew.study.grid import TabularConfig
from clew.study.mazes import MazeStudyConfig
from clew.train.config import SplitConfig, TrainConfig, WarmStartConfig
from fuzzing import strategies as draws
from fuzzing.endings import check_run, check_untouched, check_whole, command, snapshot, tried

TINY = shlex.split("--layers 1 --width 16 --heads 2 --mazes.sizes [3] --mazes.branches 2")
FEW = shlex.split("--validation-questions 2 --final-questions 4")
TRAIN = [*TINY, *FEW, *shlex.split("--steps 1 --per-step 2 --log-every 1")]
ROUND = "--warm-start.steps 1 --warm-start.per-step 2 --rounds 1 --questions 2 --thoughts 2 --answers 2"
SPLIT = [*TINY, *FEW, *shlex.split(ROUND)]
TABULAR = shlex.split(
    "--world.questions 2 --world.thoughts 4 --world.answers 4 --noise-ratios [1.0] --cost-ratios [4.0] --answers [1,2] "
    "--rounds 1 --lrs [1.0] --keeps [0.5] --replicas 2 --tune-replicas 2 --workers 1"
)
RESUMED = {"train": ["--steps", "4"], "split": ["--rounds", "3"]}
SAID = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "é"}]
ROWS: list[dict[str, Any]] = [{"prompt": SAID, "want": "", "meta": {}}]
for _i in range(4):
    ROWS.append({"prompt": f"what is {_i} plus two", "want": str(_i + 2), "meta": {"level": _i, "tags": ["sum", None]}})
TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}[assistant] "
TRAINED = ("config.yaml", "metrics.jsonl", "eval.json", "samples.jsonl", "model/config.json", "plots/mazes.png")
SPLITTED = ("config.yaml", "metrics.jsonl", "eval.json", "samples.jsonl", "shoggoth/config.json", "plots/tree.png")


@dataclass(frozen=True)
class Target:
    """One kind of input."""

    name: str
    cases: st.SearchStrategy
    run: Callable[[Any, Path], bool]


class Whole:
    """What is valid, made once: two tiny runs, a study, a model for prompts, files of prompts and mazes.

    brief: without what takes more than a second or two, which is a study's processes.
    """

    def __init__(self, folder: Path, brief: bool = False):
        from clew.train.rounds import split
        from clew.train.supervised import train

        logging.disable_progress_bar()
        self.brief = brief
        self.train, self.split = folder / "train", folder / "split"
        small: dict[str, Any] = {"mazes": MazeConfig(sizes=[3], branches=2), "model": ModelConfig(None, 1, 16, 2)}
        small |= {"checkpoint_every": 1, "validation_questions": 2, "final_questions": 4}
        train(TrainConfig(steps=3, per_step=2, log_every=1, out=str(self.train), **small))
        warm, shape = WarmStartConfig(steps=2, per_step=2), {"questions": 2, "thoughts": 2, "answers": 2}
        split(SplitConfig(warm_start=warm, rounds=2, out=str(self.split), **shape, **small))
        self.tokenizer = byte_tokenizer()
        self.model = folder / "model"
        Policy.build(self.tokenizer, layers=1, width=16, heads=2).save(self.model)
        study = folder / "study"
        study.mkdir()
        shutil.copy(Path(__file__).parents[1] / "results" / "study" / "mazes.parquet", study)
        self.runs = {"train": self.train, "split": self.split, "study": study}
        found = {name: [path for path in run.rglob("*") if path.name != ".lock"] for name, run in self.runs.items()}
        self.files = {name: sorted(str(path.relative_to(self.runs[name])) for path in found[name]) for name in found}
        stream = MazeStream(((3, 3),), held_out=None)
        self.questions = [question for question, _ in zip(maze_questions(stream), range(3), strict=False)]
        self.token_lines = "\n".join(map(question_text, self.questions)) + "\n"
        self.drawn = "\n\n".join(map(ascii_maze, self.questions)) + "\n"
        drawn = []
        for lattice, *ends, path in self.questions:
            maze = dict(zip(("start_pos", "end_pos"), map(list, ends), strict=True))
            solution = [list(cell) for cell in path or ()]
            drawn.append({"connection_list": lattice.passages.tolist(), **maze, "solution": solution})
        dataset = {"__muutils_format__": "MazeDataset", "cfg": {}, "mazes": drawn}
        self.zanj = {"__zanj__.json": dataset, "__zanj_meta__.json": {}}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level pairs learnt from two sentences: it takes any text, and its tokens make texts that are no UTF-8."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<pad>", "<eos>"], show_progress=False)
    trainer.initial_alphabet = pre_tokenizers.ByteLevel.alphabet()
    words.train_from_iterator(["what is two plus two", "say it in <think> and </think>"] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")


def typed(args: list[str], file: bytes | None, there: Path) -> list[str]:
    """Arguments as they are given, the file that they name written beside."""
    if file is None:
        return args
    (there.parent / "given.yaml").write_bytes(file)
    return [str(there.parent / "given.yaml") if arg == "FILE" else arg for arg in args]


def configurations(whole: Whole) -> Target:
    """Command lines and YAML files for train, eval, solve, split, plan and study."""
    configs: dict[str, tuple[type, list[str]]] = {
        "train": (TrainConfig, TRAIN),
        "split": (SplitConfig, SPLIT),
        "plan": (PlanConfig, ["--run", str(whole.split)]),
        "eval": (EvalConfig, [str(whole.train), "--questions", "4"]),
        "solve": (SolveConfig, [str(whole.train), "--size", "3"]),
        "study tabular": (TabularConfig, TABULAR),
        "study mazes": (MazeStudyConfig, ["--start", "nowhere"]),
    }
    if whole.brief:
        configs.pop("study tabular")
    written = {"train": whole.train, "split": whole.split}
    known = {name: yaml.safe_load((run / "config.yaml").read_text()) for name, run in written.items()}
    needed = {"train": TRAINED, "split": SPLITTED}

    def cases(name: str) -> st.SearchStrategy:
        outs = st.sampled_from(["run"] * 9 + draws.ODD_TEXTS)
        return st.tuples(st.just(name), draws.command_lines(configs[name][0], known.get(name)), outs)

    def run(case: tuple[str, tuple[list[str], bytes | None], str], there: Path) -> bool:
        name, (args, file), out = case
        argv = [*name.split(), *configs[name][1], *typed(args, file, there)]
        ending = command([*argv, "--out", out] if name in needed else argv, there)
        if name in needed and out == "run":
            check_run(there / "run", ending, needed[name])
        return ending.code == 0

    return Target("configurations", st.sampled_from(sorted(configs)).flatmap(cases), run)


def prompts(whole: Whole) -> Target:
    """Prompts files, read by the library, and now and then by a whole split."""
    tokenizer = byte_tokenizer()

    def run(case: tuple[bytes, str | None, tuple[str, str], bool], there: Path) -> bool:
        data, template, delimiters, by_command = case
        (there / "prompts.jsonl").write_bytes(data)
        if by_command:
            given = shlex.split("--prompts prompts.jsonl --max-thought 4 --max-answer 4 --out run")
            grader = ["--grader", '["clew_fuzz:length"]']
            ending = command(["split", *SPLIT, "--model", str(whole.model), *grader, *given], there)
            check_run(there / "run", ending, SPLITTED)
            return ending.code == 0
        tokenizer.chat_template = template

        def read() -> None:
            world = PromptWorld(read_rows(there / "prompts.jsonl"), tokenizer, delimiters)
            for held_out in (False, True):
                for one in (world.held_out if held_out else world.questions)(range(3)):
                    json.dumps(one.columns)
                    assert one.tokens and world.text(one.tokens)

        return tried(read)[0]

    delimiters = st.one_of(st.just(("<think>", "</think>")), st.tuples(draws.texts, draws.texts))
    templates = st.sampled_from([TEMPLATE, None, "{{ messages[0]['content'].x.y }}", "{% if %}"])
    rarely = st.integers(0, 11).map(lambda number: number == 7)
    return Target("prompts files", st.tuples(draws.json_lines(ROWS), templates, delimiters, rarely), run)


def mazes(whole: Whole) -> Target:
    """Mazes files: token lines, ASCII and .zanj, read by the library, and now and then by eval or solve."""
    words = [word.encode() for word in sorted({*whole.token_lines.split(), "(9999,0)", "#", "S", "E", "X"})]
    files = st.one_of(
        st.tuples(st.just("mazes.txt"), draws.torn(whole.token_lines.encode(), words)),
        st.tuples(st.just("mazes.txt"), draws.torn(whole.drawn.encode(), words)),
        st.tuples(st.just("mazes.zanj"), draws.zips(whole.zanj)),
    )
    commands = st.sampled_from(["", "", "", "", "", "", "eval", "solve"])

    def run(case: tuple[tuple[str, bytes], str], there: Path) -> bool:
        (name, data), by_command = case
        (there / name).write_bytes(data)
        if not by_command:
            return tried(lambda: read_questions(there / name))[0]
        return command([by_command, str(whole.train), "--from", name], there).code == 0

    return Target("mazes files", st.tuples(files, commands), run)


@st.composite
def wounds(draw: st.DrawFn, whole: Whole) -> tuple[str, list[tuple[str, str, Any]]]:
    """Which run is damaged, and how: places with what is done to them."""
    kind = draw(st.sampled_from(["train", "train", "split", "split", "study"]))
    done = []
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(whole.files[kind]))
        path = whole.runs[kind] / place
        hows = ["drop", "folder", "link", "twin", "rename"]
        if not path.is_dir():
            hows = ["drop", "empty", "folder", "link", "twin", "torn", "torn", *["bent"] * 4 * (path.suffix in BENT)]
        how, what = draw(st.sampled_from(hows)), None
        if how == "torn":
            what = draw(draws.torn(path.read_bytes()))
        elif how == "bent":
            what = draw(draws.bent(BENT[path.suffix][0](path)))
        elif how == "twin":
            what = draw(st.sampled_from(whole.files[kind]))
        elif how == "rename":
            steps = ["step-000002", "step-x", "step-99999999999999999999", "step-1"]
            what = draw(st.sampled_from([*steps, ".x.part", f".{path.name}.old", "a\x1b[2J", "model", "warm"]))
        done.append((place, how, what))
    return kind, done


def _options(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _lines(path: Path) -> Any:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _about(path: Path) -> Any:
    return json.loads(parquet.read_schema(path).metadata[b"clew"])


def _table(about: Any, path: Path) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(parquet.read_table(path).replace_schema_metadata({"clew": json.dumps(about)}), stream)
    return stream.getvalue()


def _text(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


BENT: dict[str, tuple[Callable[[Path], Any], Callable[[Any, Path], bytes]]] = {
    ".json": (lambda path: json.loads(path.read_bytes()), lambda value, _: _text(json.dumps(value))),
    ".jsonl": (
        _lines,
        lambda rows, _: _text("".join(json.dumps(row) + "\n" for row in (rows if isinstance(rows, list) else [rows]))),
    ),
    ".yaml": (_options, lambda options, _: _text(yaml.safe_dump(tamed(options), sort_keys=False))),
    ".parquet": (_about, _table),
}
"""what is in a file by the end of its name, and the file for something else"""


def tamed(value: Any) -> Any:
    """Options without numbers that are allowed and take their time."""
    if isinstance(value, dict):
        return {key: tamed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [tamed(item) for item in value]
    return min(value, 16) if isinstance(value, int) and value < 2**63 else value


def damage(run: Path, whole: Path, place: str, how: str, what: Any) -> None:
    """Does to a place of a copy of a run folder what was drawn, if an earlier wound has left it there."""
    path = run / place
    if not path.exists() or path.is_symlink():
        return
    if how in ("torn", "bent"):
        if path.is_file():
            path.write_bytes(what if how == "torn" else BENT[path.suffix][1](what, whole / place))
        return
    if how == "rename":
        if not path.with_name(what).exists():
            path.rename(path.with_name(what))
        return
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "folder":
        path.mkdir()
    elif how == "link":
        path.symlink_to("nowhere")
    elif how == "twin" and (run / what).is_dir() and not path.is_relative_to(run / what):
        shutil.copytree(run / what, path, symlinks=True)
    elif how == "twin" and (run / what).is_file():
        shutil.copy(run / what, path)


def run_folders(whole: Whole) -> Target:
    """Run folders that are torn, bent and mixed up; then resumed, evaluated, solved with and planned by."""
    after = {
        "resume": lambda kind: [kind, "--resume", "run", *RESUMED[kind]],
        "eval": lambda _: ["eval", "run", "--questions", "4", "--out", "looked"],
        "solve": lambda _: ["solve", "run", "--size", "3"],
        "plan": lambda _: ["plan", "--run", "run"],
        "start": lambda kind: [kind, *(TRAIN if kind == "train" else SPLIT), "--model", "run", "--out", "other"],
    }
    may = ("config.yaml", "metrics.jsonl")  # a run that goes on says so before it finds what is torn

    def run(case: tuple[tuple[str, list[tuple[str, str, Any]]], str], there: Path) -> bool:
        (kind, done), then = case
        shutil.copytree(whole.runs[kind], there / "run")
        for place, how, what in done:
            damage(there / "run", whole.runs[kind], place, how, what)
        before = snapshot(there / "run")
        ending = command(["study", "report", "run"] if kind == "study" else after[then](kind), there)
        check_whole(there / "run", before)
        check_untouched(there / "run", before, ending, may if then == "resume" else ())
        if then == "start" and kind != "study":
            check_run(there / "other", ending, TRAINED if kind == "train" else SPLITTED)
        return ending.code == 0

    chosen = st.sampled_from(["resume", "resume", "resume", "eval", "solve", "plan", "start"])
    return Target("run folders", st.tuples(wounds(whole), chosen), run)
