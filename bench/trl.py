"""A round of reinforcement learning on a language model, against TRL's GRPOTrainer: seconds by part, score by seconds.

    make language                                        # once: SmolLM2-135M-Instruct
    .venv/bin/pip install -c constraints.txt -e ".[trl]"
    clew bench trl                                       # seven minutes of one thread: seconds of each part
    clew bench trl --rounds 20                           # and 25 more: score against seconds, from a warm start
    clew bench trl --rounds 2 --runs runs/quick --out runs/quick     # a look at both

What is finished is kept in --runs, and not run again.

Both have the same model, prompts, grader, LoRA (rank 16, alpha 32, all linear layers), AdamW (its rate, betas, clipping
and no decay), one thread, float32, and 64 scored answers a round to one question. For the seconds nothing ends sooner
than it may: a thought takes 48 tokens and an answer 16, and TRL's completion is both. Clew, `--policies adapter --rule
group`, samples 8 thoughts with 8 answers each, and 64 thoughts with one answer each, which is what TRL does. TRL has
`beta=0`, `num_iterations=1`, `loss_type="dr_grpo"`, `scale_rewards="none"`: a token's weight is its completion's score
less the question's mean, as in Clew, whose weights are then made to add to 1; AdamW does not mind. What differs: TRL's
completion has to close its thought itself, where Clew closes one that is cut; updates are read in pieces, TRL's in four
parts, Clew's in such of at most 2,048 tokens; and where all scores are equal, Clew has nothing to learn. Seconds are
those that the processor spent, so that what else the machine does counts for less.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from clew.files import write_json
from counting import right, some_score, write_rows
from measure import keep, options, timed
from plots import scores

MODEL = Path("models/smollm2-135m")
THOUGHT, ANSWER, RATE, BETAS, AT_ONCE = 48, 16, 1e-4, (0.9, 0.99), 2048
Round = dict[str, float]
CLOCK = time.process_time  # of one thread: what else the machine does counts for less


def clew_rounds(folder: Path, model: Path, shape: tuple[int, int, int], rounds: int, equal: bool) -> list[Round]:
    """Rounds of `clew split`; shape: questions, thoughts, answers. equal: nothing ends before its limit."""
    from clew.config import ModelConfig, OptimizerConfig, PromptConfig
    from clew.train import crediting
    from clew.train import rounds as loop
    from clew.train.config import SplitConfig, WarmStartConfig
    from clew.train.evaluate import Reasoner
    from clew.world import Stop

    spent: dict[str, float] = defaultdict(float)
    made: list[Round] = []
    inner = Reasoner.rollouts

    def sampled(self: Reasoner, world: Any, *args: Any, **kwargs: Any) -> Any:
        if equal:
            world.thought_stop = world.answer_stop = Stop()
        return inner(self, world, *args, **kwargs)

    Reasoner.rollouts = sampled  # type: ignore[method-assign]
    timed(Reasoner, "rollouts", "sampling", spent, CLOCK)
    timed(crediting, "grade_rollouts", "grading", spent, CLOCK)
    timed(loop, "play_round", "seconds", spent, CLOCK)

    def told(values: dict[str, Any]) -> None:
        if values.get("step"):
            tokens = sum(value for name, value in values.items() if name.endswith("_sampled"))
            read = sum(value for name, value in values.items() if name.endswith("_tokens_read"))
            made.append({**spent, "score": values["score"], "sampled": tokens, "read": read})
        spent.clear()

    n_questions, thoughts, answers = shape
    out = folder / f"clew-{thoughts}x{answers}"
    shutil.rmtree(out, ignore_errors=True)
    loop.split(
        SplitConfig(
            prompts=PromptConfig(file=str(folder / "prompts.jsonl")),
            model=ModelConfig(folder=str(model)),
            warm_start=WarmStartConfig(steps=0),
            optimizer=OptimizerConfig(lr=RATE, warmup=0, schedule="constant", weight_decay=0.0, tokens_at_once=AT_ONCE),
            policies="adapter",
            rule="group",
            grader=["counting:some_score" if equal else "counting:right"],
            questions=n_questions,
            thoughts=thoughts,
            answers=answers,
            max_thought=THOUGHT,
            max_answer=ANSWER,
            rounds=rounds,
            validate_every=0,
            final_questions=1,
            checkpoint_every=0,
            device="cpu",
            out=str(out),
        ),
        report=told,
    )
    shutil.rmtree(out)
    return made


def grpo_options(questions: int, completions: int, rounds: int, equal: bool) -> dict[str, Any]:
    """GRPOTrainer's options: Clew's rate and batch, and a gradient of the same scale."""
    length = THOUGHT + ANSWER
    return dict(
        learning_rate=RATE,
        lr_scheduler_type="constant",
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        max_grad_norm=1.0,
        per_device_train_batch_size=questions * completions // 4,
        gradient_accumulation_steps=4,
        num_generations=completions,
        max_completion_length=length,
        generation_kwargs={"min_new_tokens": length} if equal else None,
        beta=0.0,
        num_iterations=1,
        loss_type="dr_grpo",
        scale_rewards="none",
        max_steps=rounds,
        shuffle_dataset=False,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def trl_rounds(folder: Path, model: Path, shape: tuple[int, int, int], rounds: int, equal: bool) -> list[Round]:
    """Steps of GRPOTrainer, each of which samples, grades and learns as many completions as a round of Clew scores."""
    sys.path.remove(str(Path(__file__).parent))  # where `trl` would be this file
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    from clew.config import PromptConfig, WorldConfig
    from clew.prompts.world import PromptWorld
    from trl import GRPOConfig, GRPOTrainer

    questions, completions = shape[0], shape[1] * shape[2]
    tokenizer = AutoTokenizer.from_pretrained(model)
    wanted = WorldConfig(prompts=PromptConfig(file=str(folder / "prompts.jsonl")))
    asked = PromptWorld.from_config(wanted, 0, tokenizer, teach=False).questions(range(questions * rounds))
    rows = [{"prompt": tokenizer.decode(one.tokens), "answer": one.columns["answer"]} for one in asked]
    assert [tokenizer(row["prompt"]).input_ids for row in rows] == [one.tokens for one in asked]
    spent, made = defaultdict(float), []

    class Watch(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            spent.clear()
            spent["seconds"] = -CLOCK()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            made.append({**spent, "seconds": spent["seconds"] + CLOCK()})

    trainer = GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
        some_score if equal else right,
        GRPOConfig(output_dir=str(folder / "trl"), **grpo_options(questions, completions, rounds, equal)),
        Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[Watch()],
    )
    timed(trainer, "_generate", "sampling", spent, CLOCK)
    grade = trainer._calculate_rewards

    def graded(inputs: Any, prompts: Any, completions: Any, ids: list[list[int]]) -> Any:
        rewards = grade(inputs, prompts, completions, ids)
        width = max(map(len, ids)) + len(tokenizer(prompts[0]).input_ids)  # rows are padded to the longest
        spent.update(score=float(rewards.mean()), sampled=sum(map(len, ids)), read=width * len(ids))
        return rewards

    trainer._calculate_rewards = graded
    timed(trainer, "_calculate_rewards", "grading", spent, CLOCK)
    trainer.train()
    return made


SHAPES = {  # questions, thoughts, answers
    "TRL": (1, 64, 1),
    "Clew, n = 8, k = 8": (1, 8, 8),
    "Clew, n = 64, k = 1": (1, 64, 1),
}
LEARNING = {"TRL": (2, 16, 1), "Clew, n = 4, k = 4": (2, 4, 4)}


def one_side(folder: Path, name: str, model: Path, rounds: int, equal: bool) -> list[Round]:
    """The rounds of one side, now or earlier, in a process of its own with one thread."""
    kept = folder / f"{'seconds' if equal else 'scores'}, {name}, {rounds}.json"
    if not kept.is_file():
        here = [sys.executable, __file__, "--side", name, "--runs", str(folder), "--model", str(model)]
        given = ["--rounds", str(rounds), "--kept", str(kept), *(["--equal"] if equal else [])]
        quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        subprocess.run([*here, *given], check=True, env={**os.environ, **quiet, **threads})
    return json.loads(kept.read_text())


def warm_start(folder: Path, steps: int) -> Path:
    """SmolLM2 after a few steps of imitation: where both begin to learn."""
    from clew.config import ModelConfig, OptimizerConfig, PromptConfig
    from clew.train.config import SplitConfig, WarmStartConfig
    from clew.train.rounds import split

    warm = folder / "start" / "warm" / "shoggoth"
    if warm.is_dir():
        return warm
    files = [str(folder / name) for name in ("prompts.jsonl", "demonstrations.jsonl")]
    split(
        SplitConfig(
            prompts=PromptConfig(file=files[0], demonstrations=files[1]),
            model=ModelConfig(folder=str(MODEL)),
            warm_start=WarmStartConfig(
                steps=steps, optimizer=OptimizerConfig(lr=1e-4, warmup=4, tokens_at_once=AT_ONCE)
            ),
            policies="one",
            grader=["counting:right"],
            max_thought=THOUGHT,
            max_answer=ANSWER,
            rounds=0,
            final_questions=50,
            device="cpu",
            out=str(folder / "start"),
        )
    )
    return warm


def seconds_table(results: dict[str, list[Round]]) -> list[str]:
    """Median seconds of each part of a round, the first left out, in which both warm up and Clew checks the model."""
    heads = [
        "seconds a round of 64 scored answers",
        "sampling",
        "grading",
        "update",
        "all",
        "TRL's over it",
        "the first",
    ]
    heads += ["tokens sampled", "tokens read to learn"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    typical = {
        name: {part: median(one[part] for one in rounds[1:] or rounds) for part in rounds[0]}
        for name, rounds in results.items()
    }
    for name, found in typical.items():
        update = found["seconds"] - found["sampling"] - found["grading"]
        parts = [found["sampling"], found["grading"], update, found["seconds"]]
        told = [f"{part:.1f}" for part in parts] + [f"{typical['TRL']['seconds'] / found['seconds']:.2f}"]
        told += [f"{results[name][0]['seconds']:.1f}", f"{found['sampled']:,.0f}", f"{found['read']:,.0f}"]
        lines.append(f"| {name} | {' | '.join(told)} |")
    return lines


def score_table(results: dict[str, list[Round]]) -> list[str]:
    """Mean scores of the first and the last five rounds, and how long they took."""
    lines = ["| 32 scored answers a round | score, first 5 rounds | last 5 | minutes of all |", "|---|---|---|---|"]
    for name, rounds in results.items():
        first, last = (mean(one["score"] for one in part) for part in (rounds[:5], rounds[-5:]))
        minutes = sum(one["seconds"] for one in rounds) / 60
        lines.append(f"| {name}, {len(rounds)} rounds | {first:.2f} | {last:.2f} | {minutes:.1f} |")
    return lines


def main() -> None:
    parser = options(__doc__, repeats=2)
    parser.add_argument("--rounds", type=int, default=0, help="rounds of learning, from a warm start; 0 for none")
    parser.add_argument("--warm-steps", type=int, default=24, help="steps of imitation before them")
    parser.add_argument("--runs", type=Path, default=Path("runs/trl"), help="where finished sides are kept")
    for name, kind in (("--side", str), ("--model", Path), ("--kept", Path)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--equal", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if find_spec("trl") is None:
        parser.error("trl is not there: pip install 'clew-spans[trl]'")
    torch.set_num_threads(1)
    if args.side:
        play, shapes = trl_rounds if args.side == "TRL" else clew_rounds, SHAPES if args.equal else LEARNING
        made = play(args.runs, args.model, shapes[args.side], args.rounds, args.equal)
        write_json(args.kept, made)
        return
    write_rows(args.runs, 400, 400)
    timing = {name: one_side(args.runs, name, MODEL, args.repeats, equal=True) for name in SHAPES}
    for rounds in (timing["TRL"], timing["Clew, n = 64, k = 1"]):  # the same work, token for token
        assert all(one["sampled"] == 64 * (THOUGHT + ANSWER) for one in rounds)
    lines, results = seconds_table(timing), {"seconds": timing}
    if args.rounds:
        model = warm_start(args.runs, args.warm_steps)
        results["learning"] = {name: one_side(args.runs, name, model, args.rounds, equal=False) for name in LEARNING}
        lines += ["", *score_table(results["learning"])]
        scores(results["learning"], args.out / "trl.png")
    keep(
        "trl",
        args.out,
        results,
        lines,
        "SmolLM2-135M-Instruct, LoRA of rank 16, float32. Medians of rounds but the first.",
    )


if __name__ == "__main__":
    main()
