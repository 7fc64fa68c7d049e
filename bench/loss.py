"""One training step under each loss, on the same plain rows; and the memory of a loss over a large vocabulary.

    clew bench loss                       # about three minutes

Time: forward and backward without the optimizer, which costs all sides the same. Memory: the most that a process holds
beyond what it held before the step, each side in a process of its own.
"""

import subprocess
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from clew.config import MazeConfig
from clew.losses import graded_nll, token_nll, weighted_nll
from clew.mazes.world import MazeWorld
from clew.policy import Policy
from clew.tree import SpanTree, TreeBatch
from measure import interleaved, keep, options, room

VOCABULARY, TOKENS, SHARE = 150_000, 2048, 0.05


def steps(size: int, layers: int, repeats: int) -> dict[str, float]:
    """Seconds a step of each loss: one question a maze, 32 mazes."""
    world = MazeWorld(MazeConfig(sizes=[size], branches=1))
    policy = Policy.build(world.tokenizer, layers=layers)
    model = policy.model
    path, full = (world.batch(range(32), prompt_weight) for prompt_weight in (0.0, 1.0))
    graded = world.batch(range(32), choices=True)
    torch.testing.assert_close(token_nll(model, path), token_nll(model, path.flatten()), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(graded_nll(model, graded, 0.0, 0.0), token_nll(model, path), atol=1e-4, rtol=1e-4)

    def step(loss: torch.Tensor) -> None:
        loss.backward()
        model.zero_grad()

    sides = {"path": lambda: step(weighted_nll(model, path)), "full": lambda: step(weighted_nll(model, full))}
    sides["graded"] = lambda: step((graded_nll(model, graded) * graded.weights_S).sum())
    return interleaved(sides, repeats)


def memory(side: str) -> None:
    """Prints the bytes that one step adds to the most that this process has held."""
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **shape))
    tokens = torch.randint(VOCABULARY, (1, TOKENS))
    supervised = int(TOKENS * SHARE)
    for p in model.parameters():  # gradients are part of every training: they are here before the step
        p.grad = torch.zeros_like(p)
    labels = tokens.clone()
    labels[:, :-supervised] = -100
    answer = SpanTree(tokens[0, -supervised:].tolist(), "answer", 1 / supervised)
    tree = SpanTree(tokens[0, :-supervised].tolist(), "prompt", 0.0, [answer])
    losses = []

    def step() -> None:
        spans = side == "spans"
        loss = weighted_nll(model, TreeBatch.pack([tree], 0)) if spans else model(input_ids=tokens, labels=labels).loss
        loss.backward()
        losses.append(loss.item())

    print(room(step), losses[0])


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--memory", choices=["labels", "spans"], help="one side of the memory bench, alone")
    args = parser.parse_args()
    if args.memory:
        return memory(args.memory)
    table = ["| steps a second | against whole-sequence loss | graded against path |", "|---|---|---|"]
    results: dict[str, dict[str, float]] = {}
    for size, layers in ((4, 4), (6, 2), (6, 4), (6, 8)):
        found = results[f"{size}x{size}, {layers} layers"] = steps(size, layers, args.repeats)
        ratios = f"{found['full'] / found['path']:.2f} | {found['path'] / found['graded']:.2f}"
        table.append(f"| {size}x{size}, {layers} layers, path-only loss | {ratios} |")
    peaks = {}
    for side in ("labels", "spans"):
        command = [sys.executable, __file__, "--memory", side]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        peaks[side] = {"bytes": float(shown[0]), "loss": float(shown[1])}
    assert abs(peaks["labels"]["loss"] - peaks["spans"]["loss"]) < 1e-3, peaks
    results["memory"] = {side: value["bytes"] for side, value in peaks.items()}
    ratio = peaks["labels"]["bytes"] / peaks["spans"]["bytes"]
    table += ["", "| peak memory of a step, vocabulary 150,000, 5% of 2,048 tokens supervised | MiB |", "|---|---|"]
    for side, name in (("labels", "`labels=`, -100 elsewhere"), ("spans", "spans")):
        table.append(f"| {name} | {peaks[side]['bytes'] / 2**20:,.0f} |")
    table.append(f"| ratio | {ratio:.1f} |")
    keep("loss", args.out, results, table)


if __name__ == "__main__":
    main()
